"""What several tests do: calls of the API beside the browser, mails, and getting in."""

import json
import re
import urllib.request
from typing import Any

from tests.e2e.chromium import Chromium
from tests.server import Running, wait_until

PASSWORD = "correct horse battery"


def call(server: Running, method: str, path: str, body: Any = None, token: str = "") -> Any:
    """A call of the API, as a program makes it."""
    is_package = isinstance(body, bytes)
    headers = {"Content-Type": "application/octet-stream" if is_package else "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    sent = body if is_package or body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, sent, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def mailed_link(server: Running, address: str, page: str = "") -> str:
    """The link in the newest mail with this address, to a certain page."""
    folder = server.folder / "data/mail"

    def found() -> list[str]:
        texts = [
            path.read_text()
            for path in sorted(folder.glob("*.eml"), key=lambda path: path.stat().st_mtime)
        ]
        return [
            link
            for text in texts
            if address in text
            for link in re.findall(r"http://\S+#[\w-]+", text)
            if page in link
        ]

    wait_until(found, f"a mail to {address}")
    return found()[-1]


def set_up(browser: Chromium, server: Running) -> None:
    """The operator opens the link that `serve` has printed."""
    wait_until(lambda: "/setup#" in server.log.read_text(), "the set-up link is printed")
    link = re.search(r"http://[^\s\"]+/setup#[\w-]+", server.log.read_text())
    assert link
    browser.open(link[0])
    assert "#" not in browser.path  # the token does not stay in the address bar
    browser.fill(name="Olivia", email="olivia@example.net", password=PASSWORD)
    browser.press("Create the administrator")
    browser.sees("You are the administrator of this portal.")
