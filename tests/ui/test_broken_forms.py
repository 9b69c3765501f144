"""Every form that a browser can reach, sent with values that no browser would send.

The forms are found by following the links of the pages, so a new page is tried without being named here.
"""

import re
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

import pytest

from tests import described
from tests.browser import Browser
from tests.client import Client
from tests.ui.test_security import SCRIPT

NOTES = "com.acme.notes"
# One value of each kind; missing and repeated ones, each is sent in each field.
BROKEN = [
    "",
    " ",
    "\x00",
    "\x1b[31m\r\nSet-Cookie: a=b",
    "\ud800",
    "\u202e\u200b\ufeff\ufffd",
    SCRIPT,
    "{{config}} ${7*7} %s %n",
    "../../etc/passwd",
    "-1",
    "1e999",
    "999999999999999999999999",
    "0x7f",
    "9999-99-99T99:99",
    "0001-01-01T00:00",
    "null",
    "[]",
    "https://[::1]:99999/\\@x",
    "a" * 70_000,
]
# Bodies that are no form.
BODIES = [
    b"",
    b"%",
    b"%ff=%fe",
    b"a=%00",
    b"&&&=&=;",
    b"form_token",
    b"\xff" * 100,
    b"a=1&" * 30_000,
]
# What a page may answer; 404 and 409 where an earlier form has ended what a later one names.
EXPECTED = {200, 303, 400, 403, 404, 409, 413, 415, 422, 429}


class Forms(HTMLParser):
    """The links and the forms of a page; a form is its address and its fields with a value each."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.forms: list[tuple[str, str, dict[str, str]]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag == "form":
            action = given.get("action", "")
            self.forms.append((given.get("method", "get").upper(), action, {}))
        elif tag in ("input", "textarea", "select", "button") and given.get("name") and self.forms:
            self.forms[-1][2].setdefault(given["name"], given.get("value", ""))


@pytest.fixture
def settings() -> dict[str, str]:
    return {"WEBHOOKS_PRIVATE": "allow"}


@pytest.fixture(params=["administrator", "reviewer"])
def browser(client: Client, request: pytest.FixtureRequest) -> Browser:
    """A browser on a portal with something on every page: of an administrator with an app, and of a
    reviewer."""
    alice = client.verified(client.register())
    client.app_of(alice)
    client.published(alice, NOTES)
    client.upload(NOTES, client.package(alice, version="1.1.0", code=2), as_=alice).expect(201)
    client.work()
    client.post(f"/v1/apps/{NOTES}/versions/1.1.0/submit", as_=alice).expect(200)
    hook = {"url": "https://198.51.100.1/hook", "kinds": ["version.published"]}
    client.post("/v1/webhooks", hook, as_=alice).expect(201)
    key = {"name": "build", "scopes": ["apps:read"]}
    client.post("/v1/keys", key, as_=alice).expect(201)
    client.register("bob")
    crash = {
        "app_id": NOTES,
        "app_version": "1.0.0",
        "mosis_version": "2.1.0",
        "device_id": "a" * 64,
        "timestamp": "2027-01-15T07:59:00Z",
        "crash": {"type": "Error", "message": "m", "stack_trace": "main.lua:1: in f"},
    }
    client.post("/v1/telemetry/crashes", crash).expect(202)
    client.role_of(alice, "admin")
    found = Browser(client)
    found.sign_in((alice if request.param == "administrator" else client.reviewer()).email)
    return found


def pattern(path: str) -> str:
    """The line of the URL table that an address belongs to, or the address."""
    for route in described.pages():
        rule = re.sub(r"<\w+(?::\w+)?>", "[^/]+", route.rule)
        if re.fullmatch(rule, path):
            move = path.rpartition("/")[2] if route.rule.endswith("<move>") else ""
            return str(route.rule) + move
    return path


def reached(browser: Browser) -> dict[tuple[str, str], tuple[str, dict[str, str]]]:
    """One form for each line of the URL table, by method and line."""
    waiting = ["/", "/console/", "/console/device?code=", "/setup"]
    seen: set[str] = set()
    of_a_kind: Counter[str] = Counter()
    found: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}
    while waiting:
        path = waiting.pop()
        answer = browser.open(path)
        assert answer.status == 200, f"a page has a link to {path}, which answers {answer.status}"
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        page = Forms(answer.body)
        for method, action, fields in page.forms:
            known = found.setdefault((method, pattern(urlsplit(action).path)), (action, {}))
            known[1].update(fields)
        for link in sorted(page.links):
            link = urljoin(path, link).partition("#")[0]
            parts = urlsplit(link)
            place = pattern(parts.path)
            if parts.netloc or link in seen or of_a_kind[place] == 3:
                continue
            if parts.path.startswith(("/docs", "/v1", "/packages")):
                continue
            seen.add(link)
            of_a_kind[place] += 1
            waiting.append(link)
    return found


def test_no_value_of_a_field_breaks_a_page(client: Client, browser: Browser) -> None:
    forms = reached(browser)
    places = {place for _, place in forms}
    if "/console/reviews/<review>/approve" in places:  # a reviewer: the rest is tried by the other
        forms = {each: form for each, form in forms.items() if "/reviews/" in each[1]}
        assert len(forms) >= 4
    else:
        assert {"/console/account/erase", "/console/apps/<app>/listing"} <= places
        assert len(forms) > 30, sorted(forms)
    # What ends the session or the account comes last.
    last = ("sign-out", "erase", "password", "second-factor")
    for (method, place), (action, fields) in sorted(
        forms.items(), key=lambda each: any(word in each[0][1] for word in last)
    ):
        names = sorted(fields.keys() - {"form_token"})
        tried: list[list[tuple[str, str]]] = [[]]
        for name in names:
            others = [(each, value) for each, value in fields.items() if each != name]
            tried += [[*others, (name, value)] for value in BROKEN]
            tried += [others, [*others, (name, "x"), (name, "y")]]
        token = fields.get("form_token", "")
        for pairs in tried:
            sent = [pair for pair in pairs if pair[0] != "form_token"] + [("form_token", token)]
            body = urlencode(sent, errors="surrogatepass").encode()
            if method == "GET":
                answer = browser.call("GET", f"{action}?{body.decode()}"[:7000])
            else:
                answer = browser.call("POST", action, body, SAME_ORIGIN)
            assert answer.status in EXPECTED, (place, pairs, answer.status, answer.body[-2000:])
            assert b"<img src=x" not in answer.body, (place, pairs)
            assert "set-cookie: a=b" not in str(answer.headers).lower(), (place, pairs)
        if method == "POST":
            for body in BODIES:
                answer = browser.call("POST", action, body, SAME_ORIGIN)
                assert answer.status in EXPECTED - {200, 303}, (place, body[:40], answer.status)


SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def test_the_forms_of_visitors_bear_it_too(client: Client) -> None:
    visitor = Browser(client)
    for path in ("/console/sign-in", "/console/register", "/console/reset", "/console/verify",
                 "/console/invitation", "/setup", "/"):  # fmt: skip
        for method, action, fields in Forms(visitor.open(path).body).forms:
            for name in fields.keys() - {"form_token"}:
                for value in BROKEN:
                    body = urlencode(fields | {name: value}, errors="surrogatepass")
                    if method == "GET":
                        answer = visitor.call("GET", f"{action}?{body}"[:7000])
                    else:
                        answer = visitor.call("POST", action, body.encode(), SAME_ORIGIN)
                    assert answer.status in EXPECTED | {401}, (
                        path,
                        name,
                        value,
                        answer.body[-900:],
                    )
                    assert b"<img src=x" not in answer.body
