"""Another e-mail address for an account: confirmed by the new mailbox, undone by the old one."""

import pytest

from mosis.people import email_tokens
from tests.browser import Browser, text_of
from tests.client import PASSWORD, Account, Client
from tests.conftest import FakeClock
from tests.web.test_recovery import mailed, mails

NEW, OLD = "alice@new.example", "alice@example.net"
CONFIRM, UNDO = "Confirm your new address", "Your address is being changed"


@pytest.fixture
def alice(client: Client) -> Account:
    return client.verified(client.register("alice"))


def ask(client: Client, account: Account, email: str = NEW) -> None:
    body = {"email": email, "password": PASSWORD}
    client.post("/v1/auth/email/change", body, as_=account).expect(202)


def address_of(client: Client, account: Account) -> tuple[str, bool]:
    row = client.env.db.connection().one(
        "SELECT email, email_verified FROM developers WHERE id = ?", account.id
    )
    return row[0], bool(row[1])


@pytest.mark.parametrize("proof", ["session", "password"])
def test_the_new_mailbox_confirms(client: Client, alice: Account, proof: str) -> None:
    client.post("/v1/auth/email/change", {"email": NEW, "password": "wrong"}, as_=alice).expect(
        401, "invalid_credentials"
    )
    ask(client, alice)
    token = mailed(client, CONFIRM)
    assert address_of(client, alice) == (OLD, True)
    client.post("/v1/auth/email/verify", {"token": token}).expect(401, "unauthenticated")
    wrong = {"token": token, "password": "not this one"}
    client.post("/v1/auth/email/verify", wrong).expect(401, "invalid_credentials")
    mallory = client.register("mallory")
    client.post("/v1/auth/email/verify", {"token": token}, as_=mallory).expect(403, "forbidden")
    key = client.post("/v1/keys", {"name": "ci", "scopes": ["keys:manage"]}, as_=alice)["key"]
    client.post("/v1/auth/email/verify", {"token": token}, as_=key).expect(403, "forbidden")
    if proof == "session":
        client.post("/v1/auth/email/verify", {"token": token}, as_=alice).expect(204)
    else:
        client.post("/v1/auth/email/verify", {"token": token, "password": PASSWORD}).expect(204)
    client.post("/v1/auth/email/verify", {"token": token}, as_=alice).expect(401, "invalid_token")
    assert address_of(client, alice) == (NEW, True)
    assert client.notifications(alice)[0]["kind"] == "security.email_changed"
    client.post("/v1/auth/login", {"email": NEW, "password": PASSWORD}).expect(200)
    client.post("/v1/auth/login", {"email": OLD, "password": PASSWORD}).expect(401)


@pytest.mark.parametrize("confirmed", [True, False])
def test_the_old_mailbox_gets_the_account_back(
    client: Client, alice: Account, clock: FakeClock, confirmed: bool
) -> None:
    """A thief with session and password has settled in; one link ends all of it."""
    client.app_of(alice)
    key = client.post("/v1/keys", {"name": "ci", "scopes": ["apps:read"]}, as_=alice)["key"]
    ask(client, alice)
    undo = mailed(client, UNDO)
    assert OLD in str([each["To"] for each in mails(client.env) if UNDO in each["Subject"]])
    if confirmed:
        body = {"token": mailed(client, CONFIRM)}
        client.post("/v1/auth/email/verify", body, as_=alice).expect(204)
        ask(client, alice, "alice@third.example")
        body = {"token": mailed(client, CONFIRM)}
        client.post("/v1/auth/email/verify", body, as_=alice).expect(204)
    clock.advance(71 * 3600)
    body = {"email": OLD, "password": PASSWORD, "name": "Squatter"}
    client.post("/v1/auth/register", body).expect(409, "email_taken")
    client.post("/v1/auth/email/undo", {"token": undo}).expect(204)
    assert address_of(client, alice) == (OLD, True)
    for credential in (alice, key):
        client.get("/v1/auth/me", as_=credential).expect(401)
    for address in (OLD, NEW, "alice@third.example"):
        client.post("/v1/auth/login", {"email": address, "password": PASSWORD}).expect(401)
    client.post("/v1/auth/email/undo", {"token": undo}).expect(401, "invalid_token")
    body = {"token": mailed(client, "Set a new password"), "new_password": PASSWORD + " 2"}
    client.post("/v1/auth/password/reset", body).expect(204)
    owner = client.sign_in(alice, PASSWORD + " 2")
    assert client.get("/v1/apps", as_=owner)["total"] == 1


def test_a_link_to_undo_is_good_for_three_days(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    ask(client, alice)
    undo, confirm = mailed(client, UNDO), mailed(client, CONFIRM)
    clock.advance(email_tokens.LIFE_SECONDS["change"])
    body = {"token": confirm, "password": PASSWORD}
    client.post("/v1/auth/email/verify", body).expect(401, "invalid_token")
    clock.advance(email_tokens.LIFE_SECONDS["undo"])
    client.post("/v1/auth/email/undo", {"token": undo}).expect(401, "invalid_token")
    client.post("/v1/auth/register", {"email": NEW, "password": PASSWORD, "name": "B"}).expect(201)


def test_an_address_that_nobody_verified_undoes_nothing(client: Client) -> None:
    """It may be a stranger's: a slip of the keyboard must not give the account away."""
    bob = client.register("bob")
    ask(client, bob)
    client.work()
    assert not [each for each in mails(client.env) if UNDO in each["Subject"]]
    body = {"token": mailed(client, CONFIRM)}
    client.post("/v1/auth/email/verify", body, as_=bob).expect(204)
    assert address_of(client, bob) == (NEW, True)


def test_an_address_of_somebody_else_is_not_taken(client: Client, alice: Account) -> None:
    bob = client.register("bob")
    body = {"email": "ALICE@example.net", "password": PASSWORD}
    client.post("/v1/auth/email/change", body, as_=bob).expect(409, "email_taken")
    ask(client, bob, "later@example.net")
    token = mailed(client, CONFIRM)
    client.register("later")
    client.post("/v1/auth/email/verify", {"token": token}, as_=bob).expect(409, "email_taken")
    ask(client, alice)
    body = {"token": mailed(client, CONFIRM)}
    client.post("/v1/auth/email/verify", body, as_=alice).expect(204)
    body = {"email": OLD, "password": PASSWORD}
    client.post("/v1/auth/email/change", body, as_=bob).expect(409, "email_taken")


def test_asking_again_ends_the_link_before(client: Client, alice: Account) -> None:
    ask(client, alice)
    first = mailed(client, CONFIRM)
    ask(client, alice, "alice@third.example")
    client.post("/v1/auth/email/verify", {"token": first}, as_=alice).expect(401, "invalid_token")


def test_tokens_are_for_one_purpose(client: Client, alice: Account) -> None:
    ask(client, alice)
    undo, confirm = mailed(client, UNDO), mailed(client, CONFIRM)
    client.post("/v1/auth/email/undo", {"token": confirm}).expect(401, "invalid_token")
    client.post("/v1/auth/email/verify", {"token": undo}, as_=alice).expect(401, "invalid_token")
    body = {"token": undo, "new_password": PASSWORD}
    client.post("/v1/auth/password/reset", body).expect(401, "invalid_token")


def test_it_is_undone_with_a_browser(client: Client, alice: Account) -> None:
    ask(client, alice)
    browser = Browser(client)
    token = mailed(client, UNDO)
    page = browser.send(browser.open("/console/undo"), "/console/undo", token=token)
    assert browser.path.startswith("/console/sign-in")
    assert "mail" in text_of(page)
    client.get("/v1/auth/me", as_=alice).expect(401)
