"""Several people and one app in a browser: members, transfer, trusted publishers, plans, a changed listing, a report."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mosis.context import Context
from tests.client import Client
from tests.e2e.chromium import Chromium
from tests.e2e.steps import PASSWORD, call, mailed_link
from tests.e2e.test_console import APP, NOTES
from tests.server import Running, serving

pytestmark = pytest.mark.slow
PEOPLE = {"bob": "bob@example.net", "carol": "carol@example.net"}


@pytest.fixture
def settings(port: int) -> dict[str, str]:
    return {"LISTEN_ADDR": f"127.0.0.1:{port}", "BASE_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def server(
    tmp_path: Path, port: int, env: Context, client: Client, browser: Chromium
) -> Iterator[Running]:
    """A portal in this process, with an administrator and a developer's published app."""
    client.admin("olivia")
    dora = client.verified(client.register("dora"))
    client.published(dora, client.app_of(dora, NOTES))
    found = Running(tmp_path, port=port)
    browser.base_url = found.url
    with serving(env):
        yield found


def sign_in(browser: Chromium, who: str, name: str) -> None:
    """Sign in with an account that exists, in a session of its own."""
    browser.become(who)
    browser.open("/console/sign-in")
    browser.fill(email=f"{name}@example.net", password=PASSWORD)
    browser.press("Sign in")
    browser.sees(f"Hello, {name.title()}")


def sign_up(browser: Chromium, name: str) -> None:
    """Make an account in a session of its own."""
    browser.become(name)
    browser.open("/console/register")
    browser.fill(name=name.title(), email=PEOPLE[name], password=PASSWORD)
    browser.press("Create the account")
    browser.sees(f"Hello, {name.title()}")


def accept(browser: Chromium, server: Running, name: str, what: str) -> None:
    """Open the link of the mail, read what it is for, and accept."""

    browser.open(mailed_link(server, f"To: {PEOPLE[name]}", "/console/join"))
    browser.press("Go on")
    browser.sees(what)
    browser.press("Accept")
    browser.sees("You are a member of this app now.")


def test_people_who_share_an_app(browser: Chromium, server: Running) -> None:
    sign_in(browser, "operator", "olivia")
    sign_in(browser, "developer", "dora")
    invite(browser, server)
    trust(browser)
    plan(browser)
    change_the_listing(browser, server)
    report(browser)
    transfer(browser, server)
    assert browser.complaints() == []


def invite(browser: Chromium, server: Running) -> None:
    """A member is invited, accepts in a second session, and gets another role."""
    sign_up(browser, "bob")
    browser.become("developer")
    browser.open(APP)
    browser.press("Members")
    browser.fill(email=PEOPLE["bob"])
    browser.press("Send the invitation")
    browser.sees("The invitation is sent.")
    browser.become("bob")
    accept(browser, server, "bob", "Dora invites you to work on Notes as: Publisher.")
    browser.become("developer")
    browser.open(APP + "/members")
    row = browser.row(".rows li", "Bob")
    row.find_element("css selector", "select").send_keys("Viewer")
    row.find_element("css selector", ".inline-form button").click()
    browser.sees("The role is changed.")
    browser.become("bob")
    browser.open(APP)
    browser.sees("Versions")
    assert "Upload a version" not in browser.text


def trust(browser: Chromium) -> None:
    browser.become("developer")
    browser.open(APP + "/trusted-publishers")
    browser.press("Examples")
    browser.sees("project_id=1234")
    browser.fill(
        issuer="https://token.actions.githubusercontent.com",
        claims="repository_id=74\nref=refs/heads/main",
    )
    browser.click("#add form button")
    browser.sees("The trusted publisher is added.")


def plan(browser: Chromium) -> None:
    browser.open(APP)
    browser.press("Set a rollout plan")
    browser.fill(steps="5 0\n100 24", crash_free_below="99")
    browser.press("Save the plan")
    browser.sees("100 % after 24 h")


def change_the_listing(browser: Chromium, server: Running) -> None:
    """The store shows the new name once a reviewer has approved it."""
    browser.open(APP)
    browser.fill(name="Pads")
    browser.press("Save")
    browser.sees("A change waits for a reviewer.")
    assert call(server, "GET", f"/v1/store/apps/{NOTES}")["name"] == "Notes"
    browser.become("operator")
    browser.open("/console/reviews")
    browser.click("a[href*='/reviews/listings/']")
    browser.sees("What the store shows of Notes")
    browser.press("Approve")
    browser.sees("The store shows the change now.")
    assert call(server, "GET", f"/v1/store/apps/{NOTES}")["name"] == "Pads"


def report(browser: Chromium) -> None:
    """A visitor reports the app; a reviewer dismisses it."""
    browser.become("visitor")
    browser.open(f"/app/{NOTES}")
    browser.press("Report this app")
    browser.fill(text="It shows <b>adverts</b>.")
    browser.press("Send the report")
    browser.sees("The reviewers have your report.")
    browser.become("operator")
    browser.open("/console/reports")
    browser.press("Pads")
    browser.sees("It shows <b>adverts</b>.")
    browser.fill(comment="None seen.")
    browser.press("Dismiss the reports")
    browser.sees("The reports are closed.")


def transfer(browser: Chromium, server: Running) -> None:
    sign_up(browser, "carol")
    browser.become("developer")
    browser.open(APP + "/members")
    browser.fill(to=PEOPLE["carol"])
    browser.press("Offer the app")
    browser.sees("Nothing changes until it is accepted.")
    browser.become("carol")
    accept(browser, server, "carol", "Dora offers you the app Pads.")
    browser.become("developer")
    browser.open("/console/")
    browser.sees("You have no apps yet.")
