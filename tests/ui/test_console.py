"""The developer's console, the account and the operator's page with a browser, and what strangers try there."""

import json
import re

import pytest

import portal
from mosis import audit
from mosis.caller import Caller
from mosis.errors import Denied
from mosis.server import Admission
from mosis.telemetry import maintenance
from mosis.ui import charts
from mosis.web.admission import Admissions
from tests import described
from tests.browser import Browser, forms_of, text_of
from tests.client import PASSWORD, Account, Answer, Client
from tests.ui.test_security import SCRIPT
from tests.web import test_rollout_plans as rollouts

NOTES = "com.acme.notes"
APP = f"/console/apps/{NOTES}"


@pytest.fixture
def settings() -> dict[str, str]:
    return {"WEBHOOKS_PRIVATE": "allow"}


@pytest.fixture
def alice(client: Client) -> Account:
    return client.verified(client.register())


@pytest.fixture
def browser(client: Client, alice: Account) -> Browser:
    found = Browser(client)
    found.sign_in(alice.email)
    return found


def test_the_whole_job_without_a_terminal(client: Client, alice: Account, browser: Browser) -> None:
    page = browser.send(
        browser.open("/console/apps"), "/console/apps", name="Notes", package_id="nonsense"
    )
    assert page.status == 422
    assert "com.acme.notes" in text_of(page)  # what a package_id looks like
    page = browser.send(page, "/console/apps", name="Notes", package_id=NOTES)
    assert "The app is created." in text_of(page)
    keyed = {"name": "laptop", "public_key": alice.key.public_base64}
    browser.send(browser.open("/console/account"), "/console/account/signing-keys", **keyed)
    wrong = browser.upload(browser.open(APP), client.package(alice, version="1.0.0")[:-1])
    assert wrong.status == 422
    assert "not_a_zip" in text_of(wrong)
    notes = {"release_notes": "The first\none.", "submit": ""}
    page = browser.upload(browser.open(APP), client.package(alice), **notes)
    assert browser.path == APP + "/versions/1.0.0"
    assert "Being checked" in text_of(page)
    client.work()
    page = browser.open(browser.path)
    assert "The checks found nothing that blocks." in text_of(page)
    page = browser.send(page, APP + "/versions/1.0.0/submit")
    assert "Submitted." in text_of(page)
    page = browser.send(page, APP + "/versions/1.0.0/messages", text="Please look.")
    assert "The message was sent to the reviewers." in text_of(page)
    rita = client.reviewer()
    review = client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=alice)["review"]["id"]
    client.post(f"/v1/reviews/{review}/approve", {"comment": "Fine."}, as_=rita).expect(200)
    page = browser.open(browser.path.partition("?")[0])
    assert "Fine." in text_of(page)
    for wrong_share in ("0", "101", "many"):
        page = browser.send(page, APP + "/versions/1.0.0/publish", rollout_percent=wrong_share)
        assert page.status == 422, wrong_share
    page = browser.send(page, APP + "/versions/1.0.0/publish", rollout_percent="10", publish_at="")
    assert "10 %" in text_of(page)
    page = browser.send(page, APP + "/versions/1.0.0/rollout", percent="100")
    assert "The share is increased." in text_of(page)
    assert "Notes" in text_of(Browser(client).open("/"))
    page = browser.send(page, APP + "/versions/1.0.0/halt")
    assert "Halted" in text_of(page)
    page = browser.send(page, APP + "/versions/1.0.0/publish", rollout_percent="", publish_at="")
    page = browser.send(page, APP + "/versions/1.0.0/yank", reason="It loses notes.")
    assert "Yanked." in text_of(page)
    page = browser.send(page, APP + "/versions/1.0.0/unyank")
    assert client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=alice)["state"] == "published"
    listing = {"name": "Notes", "summary": "Short ones.", "description": "Many.", "tags": "small, offline",
               "category": "productivity", "homepage": "https://example.net/"}  # fmt: skip
    page = browser.send(browser.open(APP), APP + "/listing", **listing)
    assert "Saved. The store shows it once a reviewer has approved it." in text_of(page)
    pending = client.get(f"/v1/apps/{NOTES}", as_=alice)["pending"]
    assert pending["fields"]["tags"] == ["small", "offline"]
    assert "+ Short ones." in text_of(page).replace("+Short", "+ Short")
    client.approve_listing(pending)
    page = browser.open(APP)
    assert client.get(f"/v1/apps/{NOTES}", as_=alice)["tags"] == ["small", "offline"]
    page = browser.send(page, APP + "/listing", **listing | {"homepage": "javascript:alert(1)"})
    assert page.status == 422


def test_a_bad_release_is_rolled_back(client: Client, alice: Account, browser: Browser) -> None:
    client.app_of(alice)
    client.published(alice, NOTES)
    client.published(alice, NOTES, "1.1.0", 2)
    page = browser.open(APP + "/versions/1.0.0")
    page = browser.send(page, APP + "/versions/1.0.0/rollback", reason="1.1.0 loses notes.")
    assert "Rolled back" in text_of(page)
    assert client.get(f"/v1/apps/{NOTES}/versions/1.1.0", as_=alice)["state"] == "halted"


def test_a_plan_and_the_figures_that_halted_it_are_shown(
    client: Client, alice: Account, browser: Browser
) -> None:
    client.app_of(alice)
    rollouts.planned(client, alice, halt_when=rollouts.HALT)
    shown = text_of(browser.open(APP + "/versions/2.0.0"))
    assert "1 % after 0 h, 10 % after 24 h, 100 % after 72 h. It is running." in shown
    assert "fewer than 99 % of at least 100 starts" in shown
    assert "Halted by its plan" not in shown
    rollouts.advance(client)
    rollouts.sessions(client, "1.0.0", 300, 1)
    rollouts.sessions(client, "2.0.0", 300, 60)
    rollouts.advance(client)
    assert client.get(f"/v1/apps/{NOTES}/versions/2.0.0", as_=alice)["state"] == "halted"
    shown = text_of(browser.open(APP + "/versions/2.0.0"))
    assert "Halted by its plan" in shown
    assert "It is paused." in shown
    assert (
        "60 crashes in 300 starts on 300 devices, 80.00 % without a crash. 1.0.0: 99.67 %." in shown
    )
    assert "Halted by its plan" not in text_of(browser.open(APP + "/versions/1.0.0"))


def sent(client: Client, kind: str, number: int, version: str = "1.0.0", **data: object) -> None:
    """A device that sends one event."""
    at = client.env.clock.now(-60)
    events = [{"type": "app_start", "timestamp": at}, {"type": kind, "timestamp": at, "data": data}]
    batch = {"app_id": NOTES, "app_version": version, "mosis_version": "1.4.0", "device_id": f"{number:064x}",
             "session_id": f"session-{number}-{version}", "events": events}  # fmt: skip
    client.post("/v1/telemetry/events", batch).expect(202)


def test_charts_and_tables_have_the_numbers_of_the_api(
    client: Client, alice: Account, browser: Browser
) -> None:
    client.app_of(alice)
    client.published(alice, NOTES)
    client.published(alice, NOTES, "1.1.0", 2)
    for number in range(20):
        sent(client, "perf_startup", number, duration_ms=100 + number)
        if number % 4 == 0:
            sent(client, "app_crash", number, "1.1.0", message="no")
    crash = {"type": "LuaError", "message": SCRIPT, "stack_trace": "main.lua:1: " + SCRIPT}
    report = {"app_id": NOTES, "app_version": "1.1.0", "mosis_version": "1.4.0", "device_id": f"{1:064x}",
              "timestamp": client.env.clock.now(-60), "crash": crash}  # fmt: skip
    client.post("/v1/telemetry/crashes", report).expect(202)
    maintenance.turn(client.env)
    figures = client.get(f"/v1/apps/{NOTES}/analytics", as_=alice).expect(200)
    totals, today = figures["totals"], figures["series"][-1]
    page = browser.open(APP + "/quality")
    output, body = text_of(page), page.body.decode()
    assert totals["starts"] > 0
    assert f"Starts {totals['starts']}" in output
    assert f"{charts.written(totals['crash_free_share'] * 100)} %" in output
    row = re.search(rf'<th scope="row">{today["start"][:10]}</th>\s*<td>([^<]*)</td>', body)
    assert row
    assert row[1] == charts.written(today["unique_devices"])
    bars = re.findall(r'<rect class="bar"[^>]*height="([\d.]+)"', body)
    top = charts.nice_top(today["unique_devices"])
    span = charts.HEIGHT - charts.TOP - charts.BOTTOM
    assert abs(float(bars[0]) - span * today["unique_devices"] / top) < 0.11
    assert "<script>alert" not in body
    assert "LuaError" in output
    group = client.get(f"/v1/apps/{NOTES}/crashes", as_=alice)["crashes"][0]["id"]
    page = browser.send(page, f"{APP}/crashes/{group}", state="resolved")
    assert "Marked as resolved." in text_of(page)
    assert "LuaError" not in text_of(page)
    page = browser.send(browser.open(APP + "/quality"), APP + "/versions/1.1.0/halt")
    assert "Halted" in text_of(page)


@pytest.mark.parametrize(
    ("values", "top"), [([0.4], 0.4), ([7], 8), ([100], 100), ([101], 200), ([0], 4), ([1e9], 1e9)]
)
def test_a_scale_ends_at_a_round_number_above_every_value(values: list[float], top: float) -> None:
    assert charts.nice_top(max(values)) == pytest.approx(top)
    chart = charts.bars("", "", ["a"], charts.Series("", values))
    assert all(charts.TOP <= bar.y <= charts.HEIGHT for bar in chart.bars)
    line = charts.lines("", "", ["a", "b", "c"], [charts.Series("", [1, None, 3])])
    assert (line.lines, len(line.dots[0])) == ([[]], 2)  # a gap is not bridged


def test_keys_sessions_mails_and_password(client: Client, alice: Account, browser: Browser) -> None:
    client.app_of(alice)
    page = browser.send(
        browser.open("/console/account"),
        "/console/account/keys",
        name="ci",
        scopes="versions:upload",
        apps=NOTES,
    )
    key = re.search(r'<code class="secret">(mk_live_\w+)</code>', page.body.decode())
    assert key
    assert page.headers["cache-control"] == "no-store"
    client.get("/v1/auth/me", as_=key[1]).expect(200)
    page = browser.open("/console/account")
    assert key[1] not in page.body.decode()
    identity = client.get("/v1/keys", as_=alice)["keys"][0]["id"]
    page = browser.send(page, f"/console/account/keys/{identity}/revoke")
    client.get("/v1/auth/me", as_=key[1]).expect(401)
    other = client.sign_in(alice)
    sessions = client.get("/v1/auth/sessions", as_=other)["sessions"]
    current = next(each["id"] for each in sessions if each["current"])
    page = browser.send(
        browser.open("/console/account"), f"/console/account/sessions/{current}/end"
    )
    assert "The session was ended." in text_of(page)
    client.get("/v1/auth/me", as_=other).expect(401)
    page = browser.post(
        "/console/account/mail", [*token_of(page).items(), ("kinds", "version.approved")]
    )
    mails = client.get("/v1/auth/me", as_=alice)["mail"]
    assert [kind for kind, on in mails.items() if on] == ["version.approved"]
    page = browser.send(browser.open("/console/account"), "/console/account", name="Alicia")
    assert 'value="Alicia"' in page.body.decode()
    words = {"current_password": "wrong wrong wrong", "new_password": "three random words"}
    page = browser.send(page, "/console/account/password", **words)
    assert page.status == 401
    page = browser.send(page, "/console/account/password", **words | {"current_password": PASSWORD})
    assert "Your password is changed" in text_of(page)
    export = json.loads(browser.open("/console/account/export").body)
    assert export["account"][0]["name"] == "Alicia"
    page = browser.send(
        browser.open("/console/account"), "/console/account/erase", password="three random words"
    )
    assert page.status == 422  # without being sure
    page = browser.send(page, "/console/account/erase", password="three random words", sure="yes")
    assert "Your account is erased." in text_of(page)
    assert browser.open("/console/", follow=False).status == 303


def token_of(page: Answer) -> dict[str, str]:
    """The form token of a page."""
    return {"form_token": dict(forms_of(page)[0].fields)["form_token"]}


def test_a_webhook_with_its_log(client: Client, alice: Account, browser: Browser) -> None:
    page = browser.send(
        browser.open("/console/account"), "/console/account/webhooks", url="http://127.0.0.1:9/x"
    )
    assert "whsec_" in page.body.decode()
    client.app_of(alice)
    client.published(alice, NOTES)
    client.work()
    hook = client.get("/v1/webhooks", as_=alice)["webhooks"][0]["id"]
    at = f"/console/account/webhooks/{hook}"
    page = browser.open(at)
    assert "version.published" in text_of(page)
    page = browser.send(page, at + "/switch")
    assert "Switch on" in text_of(page)
    page = browser.send(page, at + "/rotate")
    assert "whsec_" in page.body.decode()
    page = browser.send(browser.open(at), at + "/delete")
    assert "The webhook is deleted." in text_of(page)
    assert browser.open(at).status == 404


def test_the_operator_suspends_invites_and_reads_the_trail(
    client: Client, alice: Account, browser: Browser
) -> None:
    client.app_of(alice)
    client.published(alice, NOTES)
    root = client.admin()
    operator = Browser(client)
    operator.sign_in(root.email)
    page = operator.open("/console/admin")
    assert "Health" in text_of(page)
    page = operator.send(page, "/console/admin/backups")
    client.work()
    assert list(client.env.config.data_dir.glob("copies/*/portal.db"))
    page = operator.open("/console/admin/accounts?q=alice")
    at = f"/console/admin/accounts/{alice.id}"
    page = operator.send(page, at + "/role", role="reviewer")
    assert "The role is set." in text_of(page)
    page = operator.send(
        operator.open("/console/admin/accounts"), at + "/suspended", suspended="yes"
    )
    assert "The account is suspended." in text_of(page)
    assert browser.open("/console/", follow=False).status in (303, 403)
    page = operator.send(
        operator.open("/console/admin/accounts"), at + "/suspended", suspended="no"
    )
    page = operator.send(page, "/console/admin/invitations", email="bob@example.net")
    assert "The invitation is sent." in text_of(page)
    page = operator.send(
        operator.open("/console/admin/apps"),
        f"/console/admin/apps/{NOTES}/suspended",
        reason="malware",
        suspended="yes",
    )
    assert client.get(f"/v1/store/apps/{NOTES}").status == 404
    trail = text_of(operator.open("/console/admin/audit?action=app.suspended"))
    assert "malware" in trail
    assert audit.verify(client.env.db.connection()) > 0
    own = operator.post(
        f"/console/admin/accounts/{root.id}/suspended",
        token_of(page) | {"suspended": "yes"},
        follow=False,
    )
    assert own.status == 403


def test_pages_of_one_account_are_closed_to_every_other(
    client: Client, alice: Account, browser: Browser
) -> None:
    """Every page and form of the console with the ids of somebody else's things."""
    client.app_of(alice)
    client.published(alice, NOTES)
    client.upload(NOTES, client.package(alice, version="2.0.0", code=2), as_=alice).expect(201)
    client.work()
    hook = client.post("/v1/webhooks", {"url": "http://127.0.0.1:9/"}, as_=alice).expect(201)["id"]
    key = client.post("/v1/keys", {"name": "x", "scopes": ["apps:read"]}, as_=alice).expect(201)[
        "id"
    ]
    signing = client.get("/v1/signing-keys", as_=alice)["signing_keys"][0]["id"]
    session = client.get("/v1/auth/sessions", as_=alice)["sessions"][0]["id"]
    other = Browser(client)
    token = token_of(other.register("bob"))
    names = {"app": NOTES, "version": "2.0.0", "move": "submit", "webhook": hook, "key": key, "session": session,
             "developer": alice.id, "group": "x", "job": "x", "delivery": "x", "review": "x", "path": "x", "provider": "x",
             "package_id": NOTES, "file": "keys.js", "change": "x",
             "member": alice.id, "invitation": "x", "publisher": "x"}  # fmt: skip
    before = list(client.env.db.connection()._raw.iterdump())
    tried = 0
    for route in described.pages():
        if "<" not in route.rule or not route.rule.startswith("/console/"):
            continue
        known = names | ({"key": signing} if "signing" in route.rule else {})
        path = re.sub(r"<(\w+)(?::\w+)?>", lambda found, known=known: known[found[1]], route.rule)
        if route.method == "GET":
            answer = other.open(path, follow=False)
            wanted = (403, 404, 303) if "signed-in" in path else (403, 404)
        else:
            fields = token | {
                "text": "x",
                "state": "resolved",
                "name": "X",
                "suspended": "yes",
                "role": "admin",
                "reason": "x",
            }
            answer = other.post(path, fields, follow=False)
            wanted = (403, 404)
        if "sign-in" in path or "signed-in" in path:
            continue
        assert answer.status in wanted, (route, answer.status)
        assert "Notes" not in text_of(answer), route
        tried += 1
    assert tried > 20
    after = [line for line in client.env.db.connection()._raw.iterdump() if line not in before]
    assert not [line for line in after if not line.startswith('INSERT INTO "sessions"')], after


def test_a_package_is_taken_only_from_a_page_of_ours_and_a_session(
    client: Client, alice: Account, browser: Browser
) -> None:
    client.app_of(alice)
    package, page = client.package(alice), browser.open(APP)
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ):
        assert browser.upload(page, package, headers=headers).status == 403
    assert browser.upload(page, package, form_token="0" * 64).status == 403
    assert browser.upload(page, package, form_token="").status == 403
    assert client.get(f"/v1/apps/{NOTES}/versions", as_=alice)["versions"] == []
    admissions = Admissions(portal.build(client.env), client.env)
    path = f"{APP}/versions"
    admitted = admissions(
        "POST", path, {"COOKIE": f"session={browser.cookies['session']}", "CONTENT_LENGTH": "1000"}
    )
    assert isinstance(admitted, Admission)
    for headers in (
        {},
        {"COOKIE": "session=" + "a" * 43},
        {"COOKIE": "\x00=;;"},
        {"AUTHORIZATION": f"Bearer {alice.token}"},
    ):
        with pytest.raises(Denied):
            admissions("POST", path, headers)


def test_script_in_what_others_write_is_text_in_the_console(
    client: Client, alice: Account, browser: Browser
) -> None:
    client.app_of(alice)
    client.published(alice, NOTES)
    root = client.admin()
    operator = Browser(client)
    operator.sign_in(root.email)
    with client.env.db.connection().write() as db:
        db.change("UPDATE developers SET name = ? WHERE id = ?", SCRIPT, alice.id)
        db.change(
            "UPDATE apps SET name = ?, summary = ?, homepage = ?, category = ?, tags = ?",
            SCRIPT[:50],
            SCRIPT,
            "javascript:alert(1)",
            '"><b>',
            '["<b>"]',
        )
        db.change(
            "UPDATE versions SET release_notes = ?, findings = ?",
            SCRIPT,
            '[{"code": "<b>", "path": "<b>", "line": 1, "severity": "error", "detail": "<script>"}]',
        )
        db.change("UPDATE reviews SET comment = ?", SCRIPT)
        db.change("UPDATE sessions SET client = ?", SCRIPT)
        audit.add(db, Caller(root.id, role="admin"), SCRIPT, SCRIPT, why=SCRIPT)
    for who, paths in (
        (browser, ("/console/", "/console/apps", APP, APP + "/versions/1.0.0", APP + "/quality", "/console/account")),
        (operator, ("/console/admin", "/console/admin/accounts?q=%3Cscript%3E", "/console/admin/accounts", "/console/admin/apps",
                    "/console/admin/audit", "/console/admin/audit?action=%22%3E%3Cscript%3E")),
    ):  # fmt: skip
        for path in paths:
            answer = who.open(path)
            assert answer.status == 200, path
            body = answer.body.decode()
            scripts = re.findall(r"<script[^>]*>", body)
            assert all(
                re.fullmatch(r'<script type="module" src="/ui/[\w.?=]+">', each) for each in scripts
            ), path
            assert "<img src=x" not in body, path
            assert "<b>" not in body, path
            assert 'href="javascript' not in body, path


def test_events_are_streamed_and_resumed(client: Client, alice: Account, browser: Browser) -> None:
    first = client.get("/v1/events", as_=alice, headers={"Accept": "text/event-stream"})
    assert first.headers["content-type"] == "text/event-stream"
    last = re.search(r"^id: (\S+)$", first.body.decode(), re.M)
    assert last
    client.app_of(alice)
    client.published(alice, NOTES)
    for ask in (
        lambda last: client.get("/v1/events", as_=alice, headers={"Accept": "text/event-stream", "Last-Event-ID": last}),
        lambda last: browser.call("GET", "/console/events", headers={"Last-Event-ID": last}),
    ):  # fmt: skip
        body = ask(last[1]).body.decode()
        kinds = [json.loads(line)["kind"] for line in re.findall(r"^data: (.*)$", body, re.M)]
        assert "version.published" in kinds
        ids = re.findall(r"^id: (\S+)$", body, re.M)
        assert len(ids) == len(kinds)
        rest = ask(ids[-2]).body.decode()
        assert re.findall(r"^id: (\S+)$", rest, re.M) == ids[-1:]
        assert ask(ids[-1]).body.endswith(b": nothing new\n\n")
        unknown = ask("01a21c04-0000-7000-8000-000000000000").body.decode()
        assert re.findall(r"^id: (\S+)$", unknown, re.M) == ids[-1:]  # from now on
    assert Browser(client).open("/console/events", follow=False).status == 303
