"""From an empty portal to a downloaded app, in a browser: operator, developer, reviewer, visitor."""

import hashlib
from collections.abc import Iterator

import pytest

from tests.e2e.chromium import Chromium
from tests.e2e.steps import PASSWORD, call, mailed_link, set_up
from tests.package_builder import build_package, signing_key
from tests.providers import real_provider
from tests.server import Running, wait_until

pytestmark = pytest.mark.slow
NOTES = "com.acme.notes"
LUA = b'local notes = mosis.storage.get("notes")\nreturn notes\n'


@pytest.fixture
def provider(port: int) -> Iterator[str]:
    yield from real_provider(f"http://127.0.0.1:{port}/v1/auth/oauth/company/callback")


@pytest.fixture
def portal_settings(provider: str) -> dict[str, str]:
    return {
        "OIDC_ISSUER": provider,
        "OIDC_CLIENT_ID": "portal-RS256",
        "OIDC_CLIENT_SECRET": "a secret: with / signs & spaces",
        "OIDC_NAME": "company",
    }


def register(browser: Chromium, server: Running) -> None:
    """A developer registers, and opens the link in the mail."""
    browser.open("/console/sign-in")
    browser.press("Create an account")
    browser.fill(name="Dora", email="dora@example.net", password="short")
    browser.press("Create the account")
    browser.sees("Some fields need to be corrected.")
    browser.fill(password=PASSWORD)
    browser.press("Create the account")
    browser.sees("Hello, Dora")
    browser.sees("is not verified yet")
    browser.open(mailed_link(server, "dora@example.net"))
    browser.press("Verify")
    browser.sees("Your address is verified.")
    assert "is not verified yet" not in browser.text
    browser.press("Sign out")
    browser.sees("You are signed out.")


def sign_in(browser: Chromium, email: str) -> None:
    browser.fill(email=email, password="wrong wrong wrong")
    browser.press("Sign in")
    browser.sees("The e-mail address or the password is wrong.")
    browser.fill(password=PASSWORD)
    browser.press("Sign in")
    browser.sees("Hello, ")


def approve_device(browser: Chromium, server: Running) -> str:
    """The developer approves a program; its access token."""
    scopes = ["apps:read", "apps:write", "versions:upload", "versions:publish", "keys:manage"]
    asked = call(
        server, "POST", "/v1/auth/device", {"client_name": "build machine", "scopes": scopes}
    )
    browser.open("/console/device")
    browser.fill(code=asked["user_code"])
    browser.press("Go on")
    browser.sees("“build machine” asks to act for your account")
    browser.sees("upload versions and submit them for review")
    browser.press("Approve")
    browser.sees("The device is signed in.")
    grant = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": asked["device_code"],
    }
    return str(call(server, "POST", "/v1/auth/token", grant)["access_token"])


def upload(server: Running, token: str) -> bytes:
    """What the program does then; the package."""
    key = signing_key()
    call(
        server,
        "POST",
        "/v1/signing-keys",
        {"name": "laptop", "public_key": key.public_base64},
        token,
    )
    call(server, "POST", "/v1/apps", {"package_id": NOTES, "name": "Notes"}, token)
    package = build_package(NOTES, key=key, files={"assets/main.lua": LUA})
    call(server, "POST", f"/v1/apps/{NOTES}/versions?submit=true", package, token)
    at = f"/v1/apps/{NOTES}/versions/1.0.0"
    wait_until(lambda: call(server, "GET", at, token=token)["state"] == "in_review")
    return package


def review(browser: Chromium) -> None:
    """A reviewer, by keyboard."""
    browser.open("/console/")
    browser.press("Reviews")
    browser.sees("Notes 1.0.0")
    browser.keys("j\n")
    browser.sees("everything is reviewed here")
    browser.keys("jj")
    browser.wait(lambda: "file=" in browser.path, "another file is shown")
    browser.press("assets/main.lua")
    browser.sees('local notes = mosis.storage.get("notes")')
    browser.press("Claim")
    browser.sees("The review is yours for two hours.")
    browser.keys("r")
    focused = "return document.activeElement.name"
    assert browser.driver.execute_script(focused) == "reasons"
    browser.keys("a\n")  # from a checkbox too
    browser.sees("The version is approved.")
    browser.sees("Nothing waits for a reviewer.")


def test_from_an_empty_portal_to_a_downloaded_app(browser: Chromium, server: Running) -> None:
    browser.open("/")
    browser.sees("This store is empty")
    browser.become("operator")
    set_up(browser, server)
    browser.become("developer")
    register(browser, server)
    sign_in(browser, "dora@example.net")
    token = approve_device(browser, server)
    package = upload(server, token)
    browser.become("operator")
    review(browser)
    call(server, "POST", f"/v1/apps/{NOTES}/versions/1.0.0/publish", {}, token)
    browser.become("visitor")
    browser.open("/?q=note")
    browser.press("Notes")
    browser.sees("keep files of its own")
    browser.sees(hashlib.sha256(package).hexdigest())
    browser.press("Download")
    assert browser.downloaded(f"{NOTES}-1.0.0.mosis") == package
    browser.become("colleague")
    browser.open("/console/reviews")  # leads to the sign-in, and back afterwards
    browser.press("Sign in with Company")
    browser.find("input[name=login]").send_keys("carol")
    browser.find("input[name=password]").send_keys("any")
    browser.click("button[type=submit]")
    browser.press("Continue")
    browser.sees("This page needs the role reviewer.")
    browser.open("/console/")
    browser.sees("Hello, carol at the provider")
    assert browser.complaints() == []
