"""Whose account a sign-in at a provider opens."""

from typing import Any

import pytest

from mosis import audit
from mosis.caller import Caller
from mosis.credentials import tokens
from mosis.people import accounts
from tests.client import PASSWORD, Account, Client
from tests.conftest import FakeClock
from tests.providers import (
    Browser,
    GitHubShape,
    Issuer,
)
from tests.web.oauth.conftest import ALICE, accounts_of, suspend, verify_address
from tests.web.test_second_factor import step, turned_on


def register(client: Client, *, verified: bool) -> Account:
    alice = client.register("alice")
    if verified:
        verify_address(client.env, alice.email)
    return alice


def test_an_account_is_linked_when_both_sides_have_verified_the_address(
    browser: Browser, issuer: Issuer
) -> None:
    alice = register(browser.client, verified=True)
    issuer.user["email"] = "Alice@Example.net"
    answer = browser.sign_in("company").expect(200)
    assert answer["developer"]["id"] == alice.id
    assert answer["developer"]["providers"] == ["password", "company"]
    issuer.user["email"] = "another@example.net"  # the subject counts, not the address
    assert browser.sign_in("company").expect(200)["developer"]["id"] == alice.id


def test_an_account_that_has_not_verified_its_address_is_not_given_away(browser: Browser) -> None:
    register(browser.client, verified=False)
    assert browser.sign_in("company").expect(409, "email_not_verified")["side"] == "account"
    assert accounts_of(browser.client.env) == 1


@pytest.mark.parametrize("claims", [
    {"email_verified": False}, {"email_verified": None}, {"email_verified": 1}, {"email_verified": "yes"}, {"email": None},
    {"email": "no address"}, {"email": "alice@example.net\n"}, {"email": ["alice@example.net"]}, {"email": "a@" + "b" * 300},
    {"email": "x,alice@example.net"},
])  # fmt: skip
def test_an_address_that_the_provider_has_not_verified_opens_nothing(
    browser: Browser, issuer: Issuer, claims: dict[str, Any]
) -> None:
    register(browser.client, verified=True)
    issuer.user |= claims
    assert browser.sign_in("company").expect(409, "email_not_verified")["side"] == "provider"
    issuer.user |= {"email": "new@example.net", "email_verified": False}
    browser.sign_in("company").expect(409, "email_not_verified")
    assert accounts_of(browser.client.env) == 1


@pytest.mark.parametrize(("emails", "expected"), [
    ([("a@example.net", True, False), ("b@example.net", True, True)], "b@example.net"),
    ([("a@example.net", True, False), ("b@example.net", False, True)], "a@example.net"),
    ([("a@example.net", False, True)], None),
    ([("a@example.net", "true", True)], None),
    ([], None),
])  # fmt: skip
def test_of_githubs_addresses_a_verified_one_counts(
    browser: Browser, hub: GitHubShape, emails: list[tuple[str, Any, bool]], expected: str | None
) -> None:
    hub.emails = [
        {"email": email, "verified": verified, "primary": primary}
        for email, verified, primary in emails
    ]
    answer = browser.sign_in("github")
    if expected is None:
        answer.expect(409, "email_not_verified")
    else:
        assert answer.expect(200)["developer"]["email"] == expected


def test_somebody_signed_in_links_a_provider(browser: Browser, issuer: Issuer) -> None:
    alice = register(browser.client, verified=False)
    issuer.user |= {"email": "work@example.org", "email_verified": False}
    assert browser.sign_in("company", as_=alice).expect(200)["developer"]["id"] == alice.id
    assert browser.sign_in("github", as_=alice).expect(200)["developer"]["providers"] == [
        "password",
        "company",
        "github",
    ]
    assert Browser(browser.client).sign_in("company").expect(200)["developer"]["id"] == alice.id
    bob = browser.client.register("bob")
    browser.sign_in("company", as_=bob).expect(409, "identity_taken")
    assert browser.client.get("/v1/auth/me", as_=bob)["providers"] == ["password"]


def test_what_has_only_some_scopes_links_nothing(client: Client) -> None:
    alice = register(client, verified=True)
    key = client.post("/v1/keys", {"name": "CI", "scopes": ["apps:read"]}, as_=alice).expect(201)[
        "key"
    ]
    db = client.env.db.connection()
    with db.write():
        limited = accounts.sign_in(
            client.env, db, Caller(), accounts.get(db, alice.id), '["apps:read"]'
        ).access_token
    for credential in (key, limited):
        client.post("/v1/auth/oauth/company", as_=credential).expect(403, "forbidden")
        client.delete("/v1/auth/oauth/company", as_=credential).expect(403, "forbidden")


def test_the_owner_is_notified_of_a_new_credential(browser: Browser) -> None:
    browser.sign_in("company").expect(200)
    bob = browser.client.register("bob")
    browser.sign_in("github", as_=bob).expect(200)
    found = browser.client.get("/v1/notifications", as_=bob).expect(200)["notifications"]
    assert [each["kind"] for each in found] == ["security.provider_linked"]
    assert "Sign-in with github was added" in found[0]["text"]
    alice = browser.sign_in("company").expect(200)["access_token"]
    assert browser.client.get("/v1/notifications", as_=alice)["notifications"] == []


def test_whoever_made_an_account_with_somebody_elses_address_is_out_when_its_owner_comes(
    browser: Browser, issuer: Issuer
) -> None:
    client = browser.client
    mallory = register(client, verified=False)  # as alice@example.net
    issuer.user["email"] = "mallory@example.net"
    browser.sign_in("company", as_=mallory).expect(200)
    key = client.post(
        "/v1/keys", {"name": "way back", "scopes": ["apps:read"]}, as_=mallory
    ).expect(201)["key"]
    client.post("/v1/webhooks", {"url": "https://mallory.example/"}, as_=mallory).expect(201)
    reset_password(client, ALICE)
    client.get("/v1/auth/me", as_=mallory).expect(401)
    client.get("/v1/apps", as_=key).expect(401)
    assert client.env.db.connection().value("SELECT count(*) FROM webhooks") == 0
    assert browser.sign_in("company").expect(200)["developer"]["id"] != mallory.id


def reset_password(client: Client, email: str) -> None:
    """As the owner of the mailbox does it, with the link in the mail."""
    assert client.post("/v1/auth/password/forgot", {"email": email}).status < 300
    client.work()
    db = client.env.db.connection()
    ticket = db.value("SELECT id FROM tickets WHERE purpose = 'reset' ORDER BY id DESC LIMIT 1")
    token = tokens.make_ticket(client.env.secret, ticket)
    client.post(
        "/v1/auth/password/reset", {"token": token, "new_password": "another long password"}
    ).expect(204)


def test_who_takes_an_account_over_by_a_link_is_not_joined_by_its_maker_at_a_provider(
    browser: Browser, issuer: Issuer
) -> None:
    """Neither by an identity that was linked before, nor by a link that was begun before."""
    client = browser.client
    mallory = register(client, verified=False)  # as alice@example.net
    issuer.user |= {"sub": "mallory", "email": "mallory@example.net"}
    browser.sign_in("company", as_=mallory).expect(200)
    client.work()
    way_back = browser.walk(browser.begin("github", as_=mallory))
    db = client.env.db.connection()
    ticket = db.value("SELECT id FROM tickets WHERE purpose = 'verify'")
    token = tokens.make_ticket(client.env.secret, ticket)
    body = {"token": token, "password": "another long password"}
    client.post("/v1/auth/email/verify", body).expect(204)
    browser.call("GET", way_back).expect(400, "oauth_state_invalid")
    assert browser.sign_in("company").expect(200)["developer"]["id"] != mallory.id
    issuer.user |= {"sub": "alice", "email": ALICE}
    owner = browser.sign_in("company").expect(200)
    assert owner["developer"]["id"] == mallory.id
    assert owner["developer"]["providers"] == ["password", "company"]
    client.get("/v1/auth/me", as_=mallory).expect(401)


def test_a_session_that_has_ended_links_nothing(browser: Browser) -> None:
    alice = register(browser.client, verified=False)
    way_back = browser.walk(browser.begin("company", as_=alice))
    browser.client.post("/v1/auth/logout", as_=alice).expect(204)
    browser.call("GET", way_back).expect(400, "oauth_state_invalid")
    assert accounts_of(browser.client.env) == 1


def test_the_same_subject_at_another_issuer_is_somebody_else(
    browser: Browser, hub: GitHubShape, issuer: Issuer
) -> None:
    issuer.user |= {"sub": str(hub.user["id"]), "email": "carol@example.net"}
    ids = {browser.sign_in(name).expect(200)["developer"]["id"] for name in ("company", "github")}
    assert len(ids) == 2


def test_a_suspended_account_stays_out(browser: Browser) -> None:
    browser.sign_in("company").expect(200)
    browser.sign_in("company", "/console").expect(303)
    suspend(browser.client.env, ALICE)
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(403, "suspended")
    browser.sign_in("company").expect(403, "suspended")


def test_a_suspended_account_is_not_linked(browser: Browser) -> None:
    alice = register(browser.client, verified=True)
    suspend(browser.client.env, alice.email)
    browser.sign_in("company").expect(403, "suspended")
    assert (
        browser.sign_in("company", "/console")
        .headers["location"]
        .endswith("/console#sign_in_error=suspended")
    )
    assert browser.client.env.db.connection().value("SELECT count(*) FROM identities") == 0


class TestClosed:
    @pytest.fixture(params=["closed", "invite"])
    def settings(self, settings: dict[str, str], request: pytest.FixtureRequest) -> dict[str, str]:
        return settings | {"REGISTRATION": request.param}

    def test_strangers_stay_out_and_others_come_in(self, client: Client, browser: Browser) -> None:
        browser.sign_in("company").expect(403, "registration_closed")
        db = client.env.db.connection()
        with db.write():
            accounts.create(db, Caller(), ALICE, "Alice", None, verified=True)
        assert browser.sign_in("company").expect(200)["developer"]["providers"] == ["company"]


def test_the_trail_says_what_happened(browser: Browser) -> None:
    answer = browser.sign_in("company").expect(200)
    db = browser.client.env.db.connection()
    rows = db.all("SELECT action, owner_id, address FROM audit ORDER BY number")
    assert [row[0] for row in rows] == ["account.created", "identity.linked", "session.started"]
    assert {row[1:] for row in rows} == {(answer["developer"]["id"], "198.51.100.0/24")}
    assert audit.verify(db) == 3


def test_an_account_without_password_has_none_to_guess(browser: Browser) -> None:
    browser.sign_in("company").expect(200)
    browser.client.post("/v1/auth/login", {"email": ALICE, "password": PASSWORD}).expect(
        401, "invalid_credentials"
    )


def test_a_provider_is_unlinked_but_not_the_last_way_in(browser: Browser) -> None:
    alice = register(browser.client, verified=True)
    browser.sign_in("company").expect(200)
    browser.client.delete("/v1/auth/oauth/github", as_=alice).expect(404)
    browser.client.delete("/v1/auth/oauth/company").expect(401)
    browser.client.delete("/v1/auth/oauth/company", as_=alice).expect(204)
    assert browser.client.get("/v1/auth/me", as_=alice)["providers"] == ["password"]
    octocat = browser.sign_in("github").expect(200)["access_token"]
    browser.client.delete("/v1/auth/oauth/github", as_=octocat).expect(409, "last_way_in")
    browser.client.delete("/v1/auth/oauth/elsewhere", as_=octocat).expect(404)


class TestAdministrator:
    @pytest.fixture
    def settings(self, settings: dict[str, str]) -> dict[str, str]:
        return settings | {"ADMIN_EMAIL": "Alice@example.net"}

    def test_the_verified_address_of_the_administrator_is_admin(self, browser: Browser) -> None:
        assert browser.sign_in("company").expect(200)["developer"]["role"] == "admin"
        assert browser.sign_in("github").expect(200)["developer"]["role"] == "developer"


def test_an_unsaid_verification_makes_an_unverified_account_and_links_nothing(
    browser: Browser, issuer: Issuer
) -> None:
    del issuer.user["email_verified"]
    made = browser.sign_in("company").expect(200)["developer"]
    assert (made["email"], made["email_verified"]) == (issuer.user["email"], False)
    issuer.user["sub"] = "another"
    browser.sign_in("company").expect(409, "email_not_verified")
    assert accounts_of(browser.client.env) == 1


def test_userinfo_says_what_the_id_token_leaves_out(browser: Browser, issuer: Issuer) -> None:
    del issuer.user["email_verified"]
    sub, email = issuer.user["sub"], issuer.user["email"]
    issuer.userinfo = {"sub": sub, "email": email, "email_verified": True}
    assert browser.sign_in("company").expect(200)["developer"]["email_verified"]


def test_userinfo_does_not_verify_the_address_of_the_id_token_by_another(
    browser: Browser, issuer: Issuer
) -> None:
    del issuer.user["email_verified"]
    other = {"sub": issuer.user["sub"], "email": "x@example.net", "email_verified": True}
    issuer.userinfo = other
    made = browser.sign_in("company").expect(200)["developer"]
    assert (made["email"], made["email_verified"]) == (issuer.user["email"], False)


def test_a_provider_does_not_replace_the_second_factor(
    browser: Browser, issuer: Issuer, clock: FakeClock
) -> None:
    """Neither by an address that both have verified, nor once it is linked, nor for a page that collects."""
    client = browser.client
    alice = register(client, verified=True)
    phone = turned_on(client, clock, alice)
    issuer.user["email"] = ALICE
    ticket = browser.sign_in("company").expect(401, "second_factor_required")["ticket"]
    assert client.get("/v1/auth/me", as_=alice)["providers"] == ["password"]
    step(client, ticket, phone.next()).expect(200)

    linked = browser.sign_in("company", as_=alice).expect(200)
    assert linked["developer"]["providers"] == ["password", "company"]
    browser.sign_in("company").expect(401, "second_factor_required")

    browser.sign_in("company", return_to="/console/").expect(303)
    at = "/v1/auth/oauth/company/collect"
    ticket = browser.call("POST", at).expect(401, "second_factor_required")["ticket"]
    browser.call("POST", at).expect(400, "oauth_state_invalid")
    step(client, ticket, phone.next()).expect(200)
