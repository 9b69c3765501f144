"""The work of developers and operators in a browser: publish, a bad release, keys, webhooks, accounts, a drill."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mosis.clock import text
from tests.e2e.chromium import Chromium
from tests.e2e.steps import PASSWORD, call, mailed_link, set_up
from tests.package_builder import SigningKey, build_package, signing_key
from tests.server import Running, wait_until

pytestmark = pytest.mark.slow
NOTES = "com.acme.notes"
APP = f"/console/apps/{NOTES}"


@pytest.fixture
def portal_settings(tmp_path: Path) -> dict[str, str]:
    return {"BACKUPS_DIR": str(tmp_path / "backups"), "WEBHOOKS_PRIVATE": "allow"}


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes webhooks: its address, and what came."""
    came: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/hook", came
    found.shutdown()
    found.server_close()


def register(browser: Chromium, server: Running) -> None:
    browser.open("/console/register")
    browser.fill(name="Dora", email="dora@example.net", password=PASSWORD)
    browser.press("Create the account")
    browser.sees("Hello, Dora")
    browser.open(mailed_link(server, "dora@example.net"))
    browser.press("Verify")
    browser.sees("Your address is verified.")


def make_app(browser: Chromium, key: SigningKey) -> None:
    browser.press("Create an app")
    browser.fill(name="Notes", package_id=NOTES)
    browser.press("Create the app")
    browser.sees("The app is created.")
    browser.open("/console/account")
    browser.press("Register a signing key")
    browser.find("#signing-name").send_keys("laptop")
    browser.fill(public_key=key.public_base64)
    browser.click("#signing-keys form button")
    browser.sees("The signing key is registered.")


def upload(browser: Chromium, folder: Path, package: bytes) -> None:
    """Choose a package in the form; the script sends it, and shows what comes of it."""
    path = folder / "notes.mosis"
    path.write_bytes(package)
    browser.open(APP)
    browser.find("main form")
    browser.driver.find_element("name", "package").send_keys(str(path))
    browser.click("[data-upload] > button")


def upload_version(
    browser: Chromium, folder: Path, key: SigningKey, version: str, code: int
) -> None:
    browser.become("developer")
    upload(browser, folder, build_package(NOTES, version, code, key=key))
    browser.wait(lambda: browser.path.endswith(f"/versions/{version}"), "the version is shown")


def publish(browser: Chromium, version: str) -> None:
    """The main job, from the uploaded package to the store."""
    browser.sees("The checks found nothing that blocks.")  # without a reload: by the events
    browser.press("Submit for review")
    browser.sees("Waiting for a reviewer")
    browser.become("operator")
    browser.open("/console/reviews")
    browser.press(f"Notes {version}")
    browser.press("Approve")
    browser.sees("The version is approved.")
    browser.become("developer")
    browser.open(f"{APP}/versions/{version}")
    browser.press("Publish")
    browser.click(".moves details[open] button")
    browser.sees("devices are offered it")


def test_the_work_of_developers_and_operators(
    browser: Chromium, server: Running, tmp_path: Path, receiver: tuple[str, list[bytes]]
) -> None:
    key = signing_key()
    browser.become("operator")
    set_up(browser, server)
    browser.become("developer")
    register(browser, server)
    make_app(browser, key)
    api_key = make_api_key(browser)
    assert call(server, "GET", f"/v1/apps/{NOTES}", token=api_key)["name"] == "Notes"
    add_webhook(browser, receiver[0])
    upload(browser, tmp_path, b"no package")
    browser.sees("not_a_zip")
    upload_version(browser, tmp_path, key, "1.0.0", 1)
    publish(browser, "1.0.0")
    with browser.slow_streams():  # they open after the checks have ended
        upload_version(browser, tmp_path, key, "1.1.0", 2)
        at = f"/v1/apps/{NOTES}/versions/1.1.0"
        wait_until(
            lambda: call(server, "GET", at, token=api_key)["state"] == "ready", "it is ready"
        )
    publish(browser, "1.1.0")
    halt_a_bad_release(browser, server)
    read_the_log(browser, receiver[1])
    forget_the_password(browser, server)
    drill(browser)
    suspend(browser)
    assert browser.complaints() == []


def make_api_key(browser: Chromium) -> str:
    """A key for a build server; it is shown once."""
    browser.open("/console/account")
    browser.press("Create an API key")
    browser.find("#key-name").send_keys("build server")
    browser.press("see your apps and their versions")
    browser.press("upload versions and submit them for review")
    browser.click("#keys form[action$='/keys'] button")
    browser.sees("It is shown this once.")
    return str(browser.find(".secret").text)


def add_webhook(browser: Chromium, address: str) -> None:
    browser.open("/console/account")
    browser.press("Add a webhook")
    browser.fill(url=address)
    browser.click("#webhooks form button")
    browser.sees("It is shown this once.")


def halt_a_bad_release(browser: Chromium, server: Running) -> None:
    """Devices of 1.1.0 crash; the charts show it, and it is halted beside them."""
    now = text(time.time() - 30)
    for number in range(12):
        for version in ("1.0.0", "1.1.0"):
            kinds = ["app_start", *(["app_crash"] if version == "1.1.0" and number % 2 else [])]
            events = [{"type": kind, "timestamp": now} for kind in kinds]
            batch = {"app_id": NOTES, "app_version": version, "mosis_version": "1.4.0", "events": events,
                     "device_id": f"{number:064x}", "session_id": f"{version}-{number}"}  # fmt: skip
            call(server, "POST", "/v1/telemetry/events", batch)

    def has_figures() -> bool:
        browser.open(APP + "/quality")
        return "Starts 24" in browser.text and "50 %" in browser.text

    browser.wait(has_figures, "the figures are added up")
    assert "Devices: 12, starts: 12, crashes: 6" in browser.text
    assert browser.find(".chart svg .bar").is_displayed()
    browser.row(".queue li", "1.1.0").find_element("css selector", "button").click()
    browser.sees("Halted: no other device is offered it.")


def read_the_log(browser: Chromium, came: list[bytes]) -> None:
    browser.wait(lambda: any(b"version.halted" in each for each in came), "the webhook is called")
    browser.open("/console/account")
    browser.press("http://127.0.0.1")
    browser.sees("version.halted")
    browser.sees("HTTP 204")
    before = len(came)
    browser.press("Send again")
    browser.sees("It is sent again.")
    browser.wait(lambda: len(came) > before, "it is sent again")


def forget_the_password(browser: Chromium, server: Running) -> None:
    browser.press("Sign out")
    browser.press("Forgot the password?")
    browser.wait(lambda: browser.path == "/console/reset", "the page for it is there")
    browser.fill(email="dora@example.net")
    browser.press("Send the link")
    browser.sees("If there is an account with this address")

    def link() -> str:
        return mailed_link(server, "dora@example.net")

    browser.wait(lambda: "/console/reset" in link(), "the mail is there")
    browser.open(link())
    browser.fill(new_password="three random words")
    browser.press("Set the password")
    browser.sees("Your password is set")
    browser.fill(email="dora@example.net", password="three random words")
    browser.press("Sign in")
    browser.sees("Hello, Dora")


def drill(browser: Chromium) -> None:
    """The operator has the replica restored, and reads that it can be."""
    browser.become("operator")
    browser.open("/console/admin")
    browser.sees("s behind")
    browser.press("Run a restore drill")
    browser.sees("The drill has begun")

    def has_passed() -> bool:
        browser.open("/console/admin")
        return ": passed" in browser.text

    browser.wait(has_passed, "the drill has passed")


def suspend(browser: Chromium) -> None:
    """A suspended account is out at once, and cannot come back in."""
    browser.open("/console/admin/accounts?q=dora")
    browser.press("Suspend")
    browser.sees("The account is suspended.")
    browser.become("developer")
    browser.open("/console/")
    browser.sees("Sign in")
    browser.fill(email="dora@example.net", password="three random words")
    browser.press("Sign in")
    browser.wait(lambda: "suspended" in browser.text.lower(), "the reason is shown")
    browser.become("operator")
    browser.open("/console/admin/audit?action=developer.suspended")
    browser.sees("Audit trail")
