"""Every page in both themes: axe-core finds nothing serious, nothing is blocked or missing, and none is wider than a phone.

`make screenshots` also writes build/screenshots/PAGE-SIZE-THEME.png, for people to look at.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import portal
from mosis.clock import text
from mosis.context import Context
from mosis.credentials.passwords import Cost
from mosis.packages.build import png
from mosis.people import accounts, device_login, first_administrator
from mosis.telemetry import maintenance
from tests.client import PASSWORD, Account, Client
from tests.conftest import CHEAP
from tests.e2e.chromium import SIZES, Chromium
from tests.server import free_port, serving

pytestmark = pytest.mark.slow
NOTES = "com.acme.notes"
SCREENSHOTS = portal.HERE / "build/screenshots"
TEXT = "Notes keeps what comes to your mind, finds it again, and never sends it anywhere.\n\nA note is a text of up to 64 KiB."


@pytest.fixture
def settings() -> dict[str, str]:
    port = free_port()
    return {
        "LISTEN_ADDR": f"127.0.0.1:{port}",
        "BASE_URL": f"http://127.0.0.1:{port}",
        "GITHUB_CLIENT_ID": "x",
        "WEBHOOKS_PRIVATE": "allow",
        "GITHUB_CLIENT_SECRET": "x",
    }


@pytest.fixture
def password_cost() -> Cost:
    return CHEAP


@dataclass
class World:
    """A portal with something on every page."""

    env: Context
    client: Client
    alice: Account
    rita: Account
    review: str


@pytest.fixture
def world(env: Context, client: Client) -> Iterator[World]:
    first_administrator.make_link(env)
    alice, rita = client.verified(client.register("alice")), client.reviewer("rita")
    pictures = {f"screens/{number}.png": png(320, (40 * number, 90, 160)) for number in (1, 2, 3)}
    for package_id, name, category in (
        (NOTES, "Notes", "productivity"),
        ("com.acme.chess", "Chess for one", "games"),
        ("com.acme.weather", "Weather", "tools"),
    ):
        client.app_of(alice, package_id)
        body = {"name": name, "category": category, "summary": f"{name}, small and quick.",
                "description": TEXT, "tags": ["small", "offline"], "homepage": "https://example.net/"}  # fmt: skip
        client.patch(f"/v1/apps/{package_id}", body, as_=alice).expect(200)
        client.published(
            alice, package_id, manifest={"screenshots": [*pictures]}, files=pictures | ICONS[name]
        )
    lua = OLD.replace("save(note)", "mosis.network.get(url .. note)").encode()
    files = pictures | {"assets/main.lua": lua, "assets/long.txt": b"word " * 200 + b"\n",
                        "icons/icon-64.png": png(64, (200, 60, 40))}  # fmt: skip
    package = client.package(
        alice, NOTES, "1.1.0", 2, files=files,
        manifest={"permissions": ["storage", "network", "microphone"], "screenshots": [*pictures]},
    )  # fmt: skip
    query = "?submit=true&release_notes=Notes%20can%20be%20searched%20now."
    client.upload(NOTES, package, as_=alice, query=query).expect(201)
    client.work()
    shown = client.get(f"/v1/apps/{NOTES}/versions/1.1.0", as_=alice).expect(200)
    review = shown["review"]["id"]
    client.post(f"/v1/reviews/{review}/messages", {"text": "What is the network for?"}, as_=rita)
    note = {"text": "Looks like the app of last month.", "internal": True}
    client.post(f"/v1/reviews/{review}/messages", note, as_=rita).expect(201)
    figures(client)
    client.post("/v1/webhooks", {"url": "http://127.0.0.1:9/hook"}, as_=alice).expect(201)
    client.post(
        "/v1/keys", {"name": "build server", "scopes": ["versions:upload"]}, as_=alice
    ).expect(201)
    shared_work(client, alice)
    accounts.promote(env.db.connection(), alice.email, "admin")
    with serving(env):
        yield World(env, client, alice, rita, review)


def shared_work(client: Client, alice: Account) -> None:
    """Members, an invitation, a trusted publisher, a changed listing, and reports."""
    at = f"/v1/apps/{NOTES}"
    client.joins(client.register("bob"), NOTES, "publisher")
    body = {"email": "somebody.with.a.long.address@a-long-company-name.example", "role": "viewer"}
    client.post(f"{at}/members", body, as_=alice).expect(201)
    trusted = {"issuer": "https://token.actions.githubusercontent.com", "scopes": ["versions:upload"],
               "claims": {"repository_id": "74", "ref": "refs/heads/main"}}  # fmt: skip
    client.post(f"{at}/publishers", trusted, as_=alice).expect(201)
    plan = {"steps": [{"percent": 5, "after_hours": 0}, {"percent": 100, "after_hours": 24}]}
    change = {"name": "Weather", "description": TEXT.replace("mind", "head"), "rollout_plan": plan}
    client.patch(at, change, as_=alice).expect(200)
    client.out(client.register("carol"), "com.carol.weather")
    for number, reason in enumerate(("malware", "spam", "spam")):
        report = {"reason": reason, "text": "It sends my notes to x.example."}
        client.post(
            f"/v1/store/apps/{NOTES}/reports", report, address=f"203.0.113.{number}"
        ).expect(202)


def figures(client: Client) -> None:
    """What devices have sent in the last weeks."""
    now = client.env.clock.time()
    for day in range(14):
        at = text(now - day * 86_400 - 60)
        for number in range(4 + day % 5):
            kinds = [{"type": "app_start", "timestamp": at},
                     {"type": "perf_startup", "timestamp": at, "data": {"startup_ms": 300 + 20 * number + 9 * day}},
                     {"type": "perf_frame", "timestamp": at, "data": {"frame_ms": 15 + number % 3}},
                     {"type": "perf_memory", "timestamp": at, "data": {"used_mb": 40 + number + day}}]  # fmt: skip
            if number == 3 and day % 4 == 0:
                kinds.append({"type": "app_crash", "timestamp": at})
            batch = {"app_id": NOTES, "app_version": "1.0.0", "mosis_version": "1.4.0", "events": kinds,
                     "device_id": f"{number:064x}", "session_id": f"{day}-{number}"}  # fmt: skip
            client.post("/v1/telemetry/events", batch).expect(202)
    crash = {"type": "LuaError", "message": "attempt to index a nil value (field 'note')",
             "stack_trace": "assets/main.lua:12: in function 'save'\nassets/main.lua:40: in main chunk"}  # fmt: skip
    report = {"app_id": NOTES, "app_version": "1.0.0", "mosis_version": "1.4.0", "device_id": f"{1:064x}",
              "timestamp": text(now - 60), "crash": crash}  # fmt: skip
    client.post("/v1/telemetry/crashes", report).expect(202)
    maintenance.turn(client.env)


OLD = "".join(
    f"local function step_{n}(note)\n  save(note)\n  return {n}\nend\n\n" for n in range(9)
)
ICONS = {
    name: {f"icons/icon-{size}.png": png(size, colour) for size in (32, 64, 128)}
    for name, colour in (
        ("Notes", (240, 180, 40)), ("Chess for one", (60, 60, 70)), ("Weather", (70, 140, 220)),
    )
}  # fmt: skip


def pages(world: World) -> dict[str, dict[str, str]]:
    """Who sees which pages: a name for the screenshot, and the path. The developer is an administrator."""
    db = world.env.db.connection()
    code = device_login.begin(db, "build machine", ["apps:read", "versions:upload"])[1].user_code
    review, own = f"/console/reviews/{world.review}", f"/console/apps/{NOTES}"
    (hook,) = db.one("SELECT id FROM webhooks")
    (change,) = db.one("SELECT id FROM listing_changes")
    return {
        "visitor": {
            "store": "/", "store-search": "/?q=chess", "store-nothing": "/?q=zzzz", "app": f"/app/{NOTES}",
            "not-found": "/app/com.acme.nothing", "setup": "/setup", "sign-in": "/console/sign-in",
            "register": "/console/register", "reset": "/console/reset", "verify": "/console/verify",
            "invitation": "/console/invitation", "link": "/console/link", "docs": "/docs/API",
            "report-form": f"/app/{NOTES}/report", "reference": "/docs",  # last: to resize it takes seconds
        },
        "developer": {
            "overview": "/console/", "notifications": "/console/notifications", "device-code": "/console/device",
            "device": f"/console/device?code={code}", "app-create": "/console/apps", "own-app": own,
            "version": f"{own}/versions/1.1.0", "version-published": f"{own}/versions/1.0.0", "quality": f"{own}/quality",
            "account": "/console/account", "webhook": f"/console/account/webhooks/{hook}",
            "second-factor": "/console/second-factor", "admin": "/console/admin", "admin-accounts": "/console/admin/accounts",
            "admin-apps": "/console/admin/apps", "admin-audit": "/console/admin/audit",
            "admin-doctor": "/console/admin/doctor", "members": f"{own}/members", "publishers": f"{own}/trusted-publishers",
            "join": "/console/join",
        },
        "reviewer": {
            "reviews": "/console/reviews", "review": f"{review}?file=assets/main.lua", "review-picture":
            f"{review}?file=icons/icon-64.png", "reviews-decided": "/console/reviews?state=decided",
            "listings": "/console/reviews/listings", "listing": f"/console/reviews/listings/{change}",
            "reports": "/console/reports", "report": f"/console/reports/{NOTES}",
        },
    }  # fmt: skip


@pytest.mark.parametrize("who", ["visitor", "developer", "reviewer"])
def test_every_page_is_accessible_complete_and_fits_a_phone(
    browser: Chromium, world: World, who: str
) -> None:
    browser.base_url = world.env.config.base_url
    if who != "visitor":
        browser.open("/console/sign-in")
        account = world.alice if who == "developer" else world.rita
        browser.fill(email=account.email, password=PASSWORD)
        browser.press("Sign in")
        browser.sees("Hello, ")
    with browser.with_axe():
        wrong = [each for page in pages(world)[who].items() for each in faults(browser, *page)]
    assert wrong == [], "\n".join(wrong)


def faults(browser: Chromium, name: str, path: str) -> list[str]:
    """What is wrong with a page."""
    photograph, wrong = os.environ.get("SCREENSHOTS") == "yes", []
    for theme in ("light", "dark"):
        if name == "reference" and theme == "dark" and not photograph:
            continue  # rendered anew for a theme, which takes seconds
        browser.look("desktop", theme)
        if theme == "light" or name == "reference":
            browser.open(path)
        if name == "reference":
            browser.find("//h2[contains(., 'Sign in with a password')]")
        else:  # Redoc's page has 20,000 elements: axe takes minutes for it
            wrong += [f"{name} {theme}: {each}" for each in browser.violations(theme)]
        for size in SIZES if photograph or theme == "light" else ():
            browser.look(size, theme)
            if browser.is_wider_than_the_window():
                wrong.append(f"{name} is wider than {SIZES[size]} pixels")
            if photograph:
                browser.screenshot(SCREENSHOTS / f"{name}-{size}-{theme}.png")
    # Redoc's own link has a picture from its maker's host, which our policy does not load
    complaints = [each for each in browser.complaints() if "cdn.redoc.ly" not in each]
    return wrong + [f"{name}: {each}" for each in complaints]
