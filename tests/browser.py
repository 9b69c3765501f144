"""A browser as pages see one: it keeps cookies, follows redirects, and sends forms with the headers that browsers send."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

if TYPE_CHECKING:
    from tests.client import Answer, Client

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Form:
    """A form of a page: where it goes, and its fields as they are before anything is typed."""

    def __init__(self, method: str, action: str) -> None:
        self.method = method
        self.action = action
        self.fields: list[tuple[str, str]] = []
        self.buttons: list[tuple[str, str]] = []


class _Reader(HTMLParser):
    """Collects the forms of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("method", "get").upper(), given["action"]))
        elif tag in ("input", "textarea") and "name" in given and self.forms:
            if given.get("type") not in ("checkbox", "radio") or "checked" in given:
                self.forms[-1].fields.append((given["name"], given.get("value", "")))
        elif tag == "button" and "name" in given:
            self.forms[-1].buttons.append((given["name"], given.get("value", "")))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def forms_of(page: Answer) -> list[Form]:
    """The forms of a page."""
    reader = _Reader()
    reader.feed(page.body.decode())
    return reader.forms


def text_of(page: Answer) -> str:
    """The text of a page, with single spaces."""
    reader = _Reader()
    reader.feed(page.body.decode())
    return " ".join(" ".join(reader.text).split())


class Browser:
    """A browser of one account."""

    def __init__(self, client: Client, base_url: str = "http://localhost:8080") -> None:
        self.client = client
        self.base_url = base_url
        self.cookies: dict[str, str] = {}
        self.path = "/"  # of the page that is shown

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        address: str = "198.51.100.7",
    ) -> Answer:
        """One request with the cookies, and stores those that it sets."""
        given = {"Accept": HTML, **(headers or {})}
        if self.cookies:
            given["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            given.setdefault("Content-Type", "application/x-www-form-urlencoded")
        answer = self.client.call(method, path, body, headers=given, address=address)
        for line in answer.cookies:
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return answer

    def open(self, path: str, *, follow: bool = True) -> Answer:
        """Go to a page; redirects within the portal are followed."""
        self.path = path
        answer = self.call("GET", path, headers={"Sec-Fetch-Site": "none"})
        return self._followed(answer) if follow else answer

    def send(self, page: Answer, action: str, *, follow: bool = True, **typed: str) -> Answer:
        """Fill in the form of a page that goes to `action`, and send it."""
        form = next(each for each in forms_of(page) if urlsplit(each.action).path == action)
        fields = [(name, typed.pop(name, value)) for name, value in form.fields]
        fields += [*typed.items()]  # the button that is pressed, and boxes that are ticked
        if form.method == "GET":
            return self.open(f"{form.action}?{urlencode(fields)}", follow=follow)
        return self.post(form.action, fields, follow=follow)

    def post(
        self,
        path: str,
        fields: list[tuple[str, str]] | dict[str, str],
        *,
        follow: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a form as a page of the portal does; `headers` replace those that a browser sends."""
        sent = {"Sec-Fetch-Site": "same-origin", "Origin": self.base_url}
        answer = self.call(
            "POST", path, urlencode(fields).encode(), sent if headers is None else headers
        )
        return self._followed(answer) if follow else answer

    def upload(
        self,
        page: Answer,
        package: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        **typed: str,
    ) -> Answer:
        """Choose a package in the form of a page that takes one, and send it."""
        form = next(each for each in forms_of(page) if each.action.endswith("/versions"))
        fields = dict(form.fields) | typed
        fields.pop("package")
        boundary = "----browser"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="package"; filename="a.mosis"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode()
            + package
            + f"\r\n--{boundary}--\r\n".encode()
        )
        sent = {"Sec-Fetch-Site": "same-origin"} if headers is None else dict(headers)
        sent["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        return self._followed(self.call("POST", form.action, b"".join(parts), sent))

    def _followed(self, answer: Answer) -> Answer:
        for _ in range(5):
            if answer.status not in (302, 303):
                return answer
            self.path = urljoin(self.path, answer.headers["location"])
            answer = self.call("GET", self.path)
        raise AssertionError("the portal redirects in a circle")

    # what people do

    def register(self, name: str = "alice", password: str = "correct horse battery") -> Answer:
        """Create an account; the page after it."""
        fields = {"name": name.title(), "email": f"{name}@example.net", "password": password}
        page = self.open("/console/register")
        return self.send(page, "/console/register", **fields)

    def sign_in(
        self, email: str, password: str = "correct horse battery", next_path: str = ""
    ) -> Answer:
        """Sign in with a password; the page after it."""
        query = f"?{urlencode({'next': next_path})}" if next_path else ""
        page = self.open("/console/sign-in" + query)
        return self.send(page, "/console/sign-in", email=email, password=password)


def check_page(route: Any, status: int, headers: dict[str, str], body: bytes) -> None:
    """Fail unless an answer of a page has what every page has."""
    policy = headers["content-security-policy"]
    assert "'unsafe" not in policy, policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    if route is not None and route.config["scope"] != "public":
        assert headers["cache-control"] == "no-store"
    if "set-cookie" in headers:
        assert headers["cache-control"] == "no-store"
    if headers.get("content-type", "").startswith("text/html"):
        text = body.decode()
        assert status < 400 or route is None or headers["x-request-id"] in text
        for forbidden in (" style=", "<style", 'href="javascript:', " onclick="):
            assert forbidden not in text.lower(), forbidden
