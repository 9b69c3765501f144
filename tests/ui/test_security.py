"""What a hostile site, page or developer tries against people with a browser."""

import json
import re
from pathlib import Path

import pytest

from mosis.context import Context
from mosis.events import KINDS
from mosis.people import first_administrator
from mosis.ui import rendering
from mosis.ui.pages import origin_of
from tests import described
from tests.browser import Browser, forms_of, text_of
from tests.client import Client
from tests.conftest import FakeClock

# Every form of every page: the URL table says which there are.
POSTS = sorted(
    re.sub(r"<\w+(:\w+)?>", "x", route.rule)
    for route in described.pages()
    if route.method == "POST"
)
SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def test_a_form_of_another_site_does_nothing(client: Client) -> None:
    browser = Browser(client)
    page = browser.register()
    token = dict(forms_of(page)[0].fields)["form_token"]
    fields = {
        "form_token": token,
        "email": "alice@example.net",
        "password": "correct horse battery",
    }
    for path in POSTS:
        for headers in (
            {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8081"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {},
        ):
            answer = browser.post(path, fields, headers=headers)
            assert (answer.status, "cross_site" in text_of(answer)) == (403, True), (path, headers)
        if path.endswith("/versions"):
            continue  # a package: see test_console.py
        for wrong in ("", "0" * 64):  # right origin, wrong token
            answer = browser.post(path, fields | {"form_token": wrong}, follow=False)
            assert (answer.status, "form_expired" in text_of(answer)) == (403, True), path
        assert "Hello, Alice" in text_of(browser.open("/console/")), path


def test_a_token_from_before_the_sign_in_opens_nothing(client: Client) -> None:
    client.register()
    browser = Browser(client)
    browser.open("/console/sign-in")
    planted = dict(browser.cookies)
    browser.sign_in("alice@example.net")
    assert browser.cookies["session"] != planted["session"]
    thief = Browser(client)
    thief.cookies = planted
    assert thief.open("/console/", follow=False).status == 303


@pytest.mark.parametrize("mode", ["cors", "same-origin", "no-cors"])
def test_what_a_page_asks_for_in_the_background_sets_no_cookie(client: Client, mode: str) -> None:
    """It could arrive after a sign-in in another tab, and replace the cookie of that session."""
    browser, asked = Browser(client), {"Sec-Fetch-Mode": mode}
    for path in ("/console/", "/console/events", "/console/sign-in", "/console/register"):
        assert browser.call("GET", path, headers=asked).cookies == [], path
    assert browser.call("GET", "/console/sign-in", headers={"Sec-Fetch-Mode": "navigate"}).cookies


def test_the_cookie_cannot_be_read_or_stolen_over_http(tmp_path: Path, env: Context) -> None:
    from dataclasses import replace

    import portal

    secure = replace(env, config=replace(env.config, base_url="https://apps.example.org"))
    browser = Browser(Client(portal.build(secure), secure), "https://apps.example.org")
    browser.register()
    assert set(browser.cookies) == {"__Host-session"}
    answer = browser.open("/console/sign-in", follow=False)
    fresh = Browser(browser.client, "https://apps.example.org").open("/console/sign-in")
    (line,) = fresh.cookies
    assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= set(line.split("; ")), line
    assert answer.status == 303
    plain = replace(env, config=replace(env.config, base_url="http://apps.example.org"))
    refused = Browser(Client(portal.build(plain), plain), "http://apps.example.org")
    for path in ("/console/sign-in", "/setup", "/console/"):
        page = refused.open(path)
        assert (page.status, page.cookies) == (403, [])
        assert "https_required" in text_of(page)


@pytest.mark.parametrize("target", [
    "https://evil.example", "//evil.example", "/\\evil.example", "/console//evil.example", "/console/\r\nX: y",
    "javascript:alert(1)", "/v1/auth/logout", "/console", " /console/", "/console/x#y", "/console/\\x", "/console/" + "a" * 2000,
])  # fmt: skip
def test_a_sign_in_leads_to_no_other_place_than_the_console(client: Client, target: str) -> None:
    client.register()
    browser = Browser(client)
    page = browser.open("/console/sign-in")
    typed = {"email": "alice@example.net", "password": "correct horse battery", "next": target}
    answer = browser.send(page, "/console/sign-in", follow=False, **typed)
    assert (answer.status, answer.headers["location"]) == (303, "/console/")


def test_script_in_what_strangers_write_is_shown_as_text(client: Client) -> None:
    alice = client.register("alice")
    client.app_of(alice)
    db = client.env.db.connection()
    fields = {"summary": SCRIPT, "description": SCRIPT + "\n\n" + SCRIPT, "tags": ["<b>"]}
    client.patch("/v1/apps/com.acme.notes", fields, as_=alice).expect(200)
    client.published(alice, "com.acme.notes")
    with db.write():  # also what the rules of today refuse
        db.change("UPDATE developers SET name = ? WHERE id = ?", SCRIPT, alice.id)
        db.change("UPDATE versions SET release_notes = ?", SCRIPT)
        db.change(
            "UPDATE apps SET name = ?, homepage = ?, category = ?",
            SCRIPT[:50],
            "javascript:alert(1)",
            '"><b>',
        )
    browser = Browser(client)
    browser.sign_in(alice.email)
    begun = {"client_name": SCRIPT, "scopes": ["apps:read"]}
    code = client.post("/v1/auth/device", begun).json.get("user_code", "")
    paths = ["/", f"/?q={'%3Cscript%3E%22'}", "/?category=%22%3E%3Cscript%3E", "/?tag=%3Cscript%3E", "/app/com.acme.notes",
             "/feed.atom", "/console/", "/console/notifications", "/console/sign-in?next=%22%3E%3Cscript%3E",
             "/console/?notice=%3Cscript%3E", f"/console/device?code={code}", "/console/device?code=%3Cscript%3E",
             "/app/%3Cscript%3E", "/%3Cscript%3E"]  # fmt: skip
    for path in paths:
        body = browser.open(path).body.decode()
        scripts = re.findall(r"<script[^>]*>", body)
        assert all(
            re.fullmatch(r'<script type="module" src="/ui/[\w.?=]+">', each) for each in scripts
        ), path
        assert "<img src=x" not in body, path
        assert "<b>" not in body, path
        assert 'href="javascript' not in body, path


def test_templates_escape_everything_but_the_page_inside_the_layout() -> None:
    for path in rendering.TEMPLATES.glob("*.tpl"):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\{\{!\s*(\w+)", text)) <= {"base"}, path.name
        assert not re.search(r"[\w-]=\s*\{\{", text.replace("0; url={{", "{{")), (
            f"{path.name}: an attribute without quotes"
        )


def test_every_message_is_there_and_is_used() -> None:
    known, used = set(rendering.messages()), set()
    sources = [*rendering.TEMPLATES.glob("*.tpl"), *rendering.HERE.glob("*.py")]
    whole = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    whole = whole.replace(rendering.HERE.joinpath("__init__.py").read_text(encoding="utf-8"), "")
    used |= set(re.findall(r'\bt\("([\w.:-]+)"', whole))
    assert used <= known | {"key"} | {key for key in used if key.endswith((".", "_"))}
    prefixes = ("notice.", "problem.", "finding.", "provider.", "permission.", "scope.", "state.", "month.", "register.",
                "store.sort_", "navigation.", "because.", "reason.", "severity.", "review_state.", "file.", "review.by_",
                "review.picture_", "review.raw_", "reviews.none_", "reviews.state_", "version_state.", "mail_kind.",
                "move.", "version.from_", "quality.show_", "secret.", "delivery.", "role.", "admin.", "plan.state.",
                "listing_field.", "member_role.", "doctor.", "publishers.now_",
                "report_reason.", "report_outcome.", "reports.state_")  # fmt: skip
    assert {
        key for key in known - used if not key.startswith(prefixes) and f'"{key}"' not in whole
    } == set()
    json.dumps(rendering.messages())


def test_every_kind_of_event_has_words_for_the_choice_of_mails() -> None:
    words = {key for key in rendering.messages() if key.startswith("mail_kind.")}
    assert words == {f"mail_kind.{kind}" for kind in KINDS}, "mosis/ui/messages/en.json"


def test_no_message_has_two_texts() -> None:
    for path in rendering.MESSAGES.glob("*.json"):
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
        keys = [key for key, _ in pairs]
        assert [key for key in keys if keys.count(key) > 1] == [], path.name


def test_the_set_up_link_is_good_once_and_for_an_hour(
    env: Context, client: Client, clock: FakeClock
) -> None:
    def fill(link: str, name: str) -> tuple[int, str]:
        browser = Browser(client)
        token = link.partition("#")[2]
        who = {"name": name, "email": f"{name}@example.net", "password": "correct horse battery"}
        page = browser.send(browser.open("/setup"), "/setup", token=token, **who)
        return page.status, text_of(page)

    old = first_administrator.make_link(env)
    link = first_administrator.make_link(env)
    assert old
    assert link
    assert fill(old, "mallory")[0] == 401  # a newer one was printed
    clock.advance(3600)
    assert fill(link, "mallory")[0] == 401  # too late
    link = first_administrator.make_link(env)
    assert link
    assert fill("http://x/#" + "a" * 43, "mallory")[0] == 401
    assert "You are the administrator" in fill(link, "root")[1]
    assert fill(link, "mallory")[0] == 401
    assert first_administrator.make_link(env) is None


def test_the_session_is_listed_and_ends_when_it_is_revoked(client: Client) -> None:
    alice = client.register()
    browser = Browser(client)
    browser.sign_in(alice.email)
    sessions = client.get("/v1/auth/sessions", as_=alice).expect(200)["sessions"]
    assert len(sessions) == 2
    for session in sessions:
        if not session["current"]:
            client.delete(f"/v1/auth/sessions/{session['id']}", as_=alice).expect(204)
    assert browser.open("/console/", follow=False).status == 303


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://apps.example:443", "https://apps.example"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:80/sub", "http://[::1]"),
        ("https://apps.example:80", "https://apps.example:80"),
        ("http://localhost:443", "http://localhost:443"),
        ("https://apps.example:8443/x", "https://apps.example:8443"),
        ("https://[::443]", "https://[::443]"),
    ],
)
def test_an_origin_is_compared_as_browsers_write_it(base_url: str, origin: str) -> None:
    assert origin_of(base_url) == origin


def test_a_page_has_one_style_sheet_and_its_icons_are_files(client: Client) -> None:
    """With two, a browser that has only the first would load icons that the policy blocks."""
    for page in ("/", "/console/sign-in", "/docs/CLI", "/docs/search?q=package"):
        assert (
            len(re.findall(r'rel="stylesheet"', Browser(client).open(page).body.decode())) == 1
        ), page
    sheet = client.get("/ui/portal.css").expect(200).body.decode()
    base = rendering.ASSETS / rendering.BASE_STYLES
    assert sheet.startswith(base.read_text(encoding="utf-8"))
    images = set(re.findall(r"(--pico-icon-[a-z-]+):\s*url\([\"']?data:", sheet))
    own = sheet.rpartition(":root:not(#_)")[2].partition("}")[0]
    assert images
    assert images <= set(re.findall(r"(--pico-icon-[a-z-]+):", own))
    assert client.get(f"/ui/{rendering.BASE_STYLES}").status == 404
