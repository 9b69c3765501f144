"""Signing in, registering and signing out with a browser."""

from tests.browser import Browser, text_of
from tests.client import Client


def test_somebody_registers_signs_out_and_signs_in(client: Client) -> None:
    browser = Browser(client)
    page = browser.register()
    assert browser.path == "/console/?notice=registered"
    assert "Hello, Alice" in text_of(page)
    page = browser.send(page, "/console/sign-out")
    assert "You are signed out." in text_of(page)
    assert (
        browser.open("/console/", follow=False)
        .headers["location"]
        .startswith("/console/sign-in?next=%2Fconsole%2F")
    )
    page = browser.sign_in("alice@example.net", next_path="/console/notifications")
    assert browser.path == "/console/notifications"
