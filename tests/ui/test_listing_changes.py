"""Changes of what the store shows, with browsers: of an owner and of a reviewer."""

import pytest

from tests.browser import Browser, forms_of, text_of
from tests.client import Account, Client
from tests.ui.test_security import SCRIPT

NOTES = "com.acme.notes"
APP = f"/console/apps/{NOTES}"


@pytest.fixture
def alice(client: Client) -> Account:
    account = client.register("alice")
    client.app_of(account)
    client.published(account, NOTES)
    return account


@pytest.fixture
def owner(client: Client, alice: Account) -> Browser:
    found = Browser(client)
    found.sign_in(alice.email)
    return found


@pytest.fixture
def reviewer(client: Client, rita: Account) -> Browser:
    found = Browser(client)
    found.sign_in(rita.email)
    return found


def waiting(client: Client, alice: Account) -> str:
    """The path of the reviewer's page of the change that waits."""
    pending = client.get(f"/v1/apps/{NOTES}", as_=alice)["pending"]
    return f"/console/reviews/listings/{pending['id']}"


def test_a_change_waits_is_edited_and_decided(
    client: Client, alice: Account, owner: Browser, reviewer: Browser
) -> None:
    page = owner.send(owner.open(APP), APP + "/listing", name="Pads", description="One\nTwo\n")
    assert "A change waits for a reviewer." in text_of(page)
    path = waiting(client, alice)
    queue = reviewer.open("/console/reviews")
    assert path in queue.body.decode()
    assert "Name, Description" in text_of(queue)
    seen = reviewer.open(path)
    body = seen.body.decode()
    assert '<span class="sign">\u2212</span>Notes' in body
    assert '<span class="sign">+</span>Pads' in body
    owner.send(owner.open(APP), APP + "/listing", name="Bank")  # the form has what waits
    page = reviewer.send(seen, path + "/approve", comment="Fine.")
    assert (page.status, "It was edited meanwhile" in text_of(page)) == (409, True)
    assert (
        '<span class="sign">+</span>Bank' in page.body.decode()
    )  # it is shown again, as it is now
    page = reviewer.send(page, path + "/reject", comment="Not your bank.", reasons="metadata")
    assert "The change is rejected" in text_of(page)
    page = owner.open(APP)
    assert "Not your bank." in text_of(page)
    owner.send(page, APP + "/listing", name="Pads")
    path = waiting(client, alice)
    page = reviewer.send(reviewer.open(path), path + "/approve", comment="")
    assert "The store shows the change now." in text_of(page)
    assert "Pads" in text_of(Browser(client).open("/"))
    decided = reviewer.open("/console/reviews/listings?state=decided")
    assert path in decided.body.decode()
    assert [
        form.action for form in forms_of(reviewer.open(path)) if "listings" in form.action
    ] == []


def test_an_owner_withdraws_what_was_shown_and_nothing_newer(
    client: Client, alice: Account, owner: Browser
) -> None:
    old = owner.send(owner.open(APP), APP + "/listing", name="Pads")
    client.patch(f"/v1/apps/{NOTES}", {"name": "Pads 2"}, as_=alice).expect(200)
    page = owner.send(old, APP + "/listing/withdraw")
    assert page.status == 409
    page = owner.send(page, APP + "/listing/withdraw")
    assert "The change is withdrawn." in text_of(page)
    assert client.get(f"/v1/apps/{NOTES}", as_=alice)["pending"] is None


def test_a_viewer_sees_what_waits_and_can_do_nothing(
    client: Client, alice: Account, owner: Browser
) -> None:
    page = owner.send(owner.open(APP), APP + "/listing", name="Pads")
    bob = client.register("bob")
    client.joins(bob, NOTES, "viewer")
    viewer = Browser(client)
    viewer.sign_in(bob.email)
    page = viewer.open(APP)
    assert "A change waits for a reviewer." in text_of(page)
    assert [each.action for each in forms_of(page) if "/listing" in each.action] == []
    token = dict(forms_of(page)[0].fields)["form_token"]
    for action, fields in (("/listing", {"name": "X"}), ("/listing/withdraw", {"revision": "1"})):
        assert viewer.post(APP + action, fields | {"form_token": token}).status == 403


def test_what_hides_in_a_change_is_shown(client: Client, alice: Account, reviewer: Browser) -> None:
    client.out(client.register("bank"), "com.mybank.wallet")
    fields = {"name": "W\u0430llet", "description": SCRIPT + "\u202ea", "tags": ["<b>"]}
    client.patch(f"/v1/apps/{NOTES}", {"description": "x" * 100}, as_=alice).expect(200)
    db = client.env.db.connection()
    client.patch(f"/v1/apps/{NOTES}", {"name": fields["name"], "tags": ["<b>"]}, as_=alice).expect(
        200
    )
    with db.write():  # also what the rules of today refuse
        db.change(
            "UPDATE listing_changes SET fields = json_set(fields, '$.description', ?)",
            fields["description"],
        )
    page = reviewer.open(waiting(client, alice))
    body = page.body.decode()
    assert "easily taken for" in body
    assert "com.mybank.wallet" in body
    assert "&lt;U+202E&gt;" in body
    for forbidden in ("<img src=x", "<b>", "<script>"):
        assert forbidden not in body
