"""What is not yours does not exist: every address that names something is tried with another developer's ids."""

import re
from typing import Any

import pytest

from mosis.credentials import tokens
from mosis.publishing.members import ROLES
from tests import described
from tests.client import PASSWORD, Account, Client

# Addresses that are public or of a role by design; everything else that names something must be 404 for a stranger.
PUBLIC_SCOPES = ("public", "reviewer", "admin")


def named_routes() -> list[tuple[str, str, str]]:
    return sorted(
        (route.method, route.rule, route.config["scope"])
        for route in described.calls()
        if "<" in route.rule
    )


PRIVATE = [(method, rule) for method, rule, scope in named_routes() if scope not in PUBLIC_SCOPES]
DESK = [(method, rule) for method, rule, scope in named_routes() if scope in ("reviewer", "admin")]


@pytest.fixture
def alice(client: Client) -> Account:
    account = client.register("alice")
    app = client.app_of(account)
    client.upload(app, client.package(account), as_=account, query="?submit=true").expect(201)
    client.work()
    client.post("/v1/keys", {"name": "ci", "scopes": ["apps:read"]}, as_=account).expect(201)
    client.post("/v1/webhooks", {"url": "https://alice.example/"}, as_=account).expect(201)
    client.post(
        "/v1/auth/password", {"current_password": PASSWORD, "new_password": PASSWORD}, as_=account
    ).expect(204)
    trusted = {
        "issuer": "https://ci.example.org",
        "claims": {"repository_id": "1"},
        "scopes": ["apps:read"],
    }
    client.post(f"/v1/apps/{app}/publishers", trusted, as_=account).expect(201)
    client.patch(f"/v1/apps/{app}", {"name": "Pads"}, as_=account).expect(200)
    body = {"email": "carol@example.net", "role": "viewer"}
    client.post(f"/v1/apps/{app}/members", body, as_=account).expect(201)
    return account


def addresses(client: Client, rule: str, alice: Account) -> list[str]:
    """The rule with Alice's things in it: by id and, where there are, by name."""
    db = client.env.db.connection()
    names = {"app": [db.value("SELECT id FROM apps"), "com.acme.notes"], "version": [db.value("SELECT id FROM versions"), "1.0.0"],
             "review": [db.value("SELECT id FROM reviews")], "session": [db.value("SELECT id FROM sessions")],
             "key": [db.value(f"SELECT id FROM {'signing_keys' if 'signing' in rule else 'api_keys'}")],
             "event": [db.value("SELECT id FROM events")], "webhook": [db.value("SELECT id FROM webhooks")],
             "publisher": [db.value("SELECT id FROM trusted_publishers")], "member": [alice.id],
             "invitation": [db.value("SELECT id FROM app_invitations")],
             "change": [db.value("SELECT id FROM listing_changes")],
             "token": [tokens.make_ticket(client.env.secret, db.value("SELECT id FROM app_invitations"))],
             "delivery": [db.value("SELECT id FROM webhook_deliveries")]}  # fmt: skip
    assert all(None not in values for values in names.values())
    filled = [rule]
    for parameter in re.findall(r"<(\w+)", rule):
        values = names.get(parameter, [alice.id])
        filled = [
            re.sub(rf"<{parameter}(:\w+)?>", value, address)
            for address in filled
            for value in values
        ]
    return filled


BODIES: dict[str, Any] = {
    "messages": {"text": "hello"}, "rollout": {"percent": 50}, "yank": {"reason": "x"}, "rollback": {"reason": "x"},
    "reject": {"reasons": ["spam"], "comment": "x"}, "<group>": {"state": "resolved"},
    "members": {"email": "x@example.net", "role": "owner"},
    "<member>": {"role": "owner"}, "transfer": {"email": "x@example.net"},
    "publishers": {"issuer": "https://ci.example.org", "claims": {"repository_id": "2"}, "scopes": ["apps:read"]},
    "rollout-plan": {"steps": [{"percent": 1, "after_hours": 0}]},
}  # fmt: skip
# What each role may do with an app, beside reading: the least role of every route that changes something.
LEAST = {
    "PATCH /apps/<app>": "owner", "DELETE /apps/<app>": "owner", "POST /apps/<app>/members": "owner",
    "PATCH /apps/<app>/members/<member>": "owner", "DELETE /apps/<app>/members/<member>": "owner",
    "GET /apps/<app>/invitations": "owner", "GET /apps/<app>/invitations/<invitation>": "owner",
    "DELETE /apps/<app>/listing-changes/<change>": "owner",
    "DELETE /apps/<app>/invitations/<invitation>": "owner", "POST /apps/<app>/transfer": "owner",
    "POST /apps/<app>/publishers": "owner", "DELETE /apps/<app>/publishers/<publisher>": "owner",
    "PATCH /apps/<app>/telemetry": "owner", "PATCH /apps/<app>/crashes/<group>": "publisher",
    "PUT /apps/<app>/versions/<version>/rollout-plan": "publisher",
    "DELETE /apps/<app>/versions/<version>/rollout-plan": "publisher",
    "POST /apps/<app>/versions": "publisher", "POST /apps/<app>/versions/<version>/messages": "publisher",
} | {f"POST /apps/<app>/versions/<version>/{move}": "publisher"
     for move in ("submit", "withdraw", "publish", "rollout", "halt", "rollback", "yank", "unyank")}  # fmt: skip
OF_APPS = [(method, rule) for method, rule in PRIVATE if rule.startswith("/apps/")]


def body_of(method: str, rule: str) -> Any:
    """A body that this address accepts, where it takes one."""
    if method in ("GET", "DELETE"):
        return None
    default: Any = b"PK" if rule.endswith("/versions") and method == "POST" else {}
    return BODIES.get(rule.rpartition("/")[2], default)


def rows(client: Client) -> list[str]:
    return list(client.env.db.connection()._raw.iterdump())


def test_a_stranger_gets_404_everywhere(client: Client, alice: Account) -> None:
    mallory = client.register("mallory")
    before = rows(client)
    for method, rule in PRIVATE:
        for address in addresses(client, rule, alice):
            answer = client.call(method, "/v1" + address, body_of(method, rule), as_=mallory)
            assert (answer.status, answer["code"]) == (404, "not_found"), (method, address)
        assert rows(client) == before, f"refused, but something changed: {method} {rule}"


def last(call: tuple[str, str]) -> tuple[bool, bool, str, str]:
    """An order in which nothing is deleted that a later call names."""
    method, rule = call
    return method == "DELETE", rule == "/apps/<app>", rule, method


@pytest.mark.parametrize("role", ROLES)
def test_a_member_may_do_what_the_role_allows_and_nothing_more(
    client: Client, alice: Account, role: str
) -> None:
    bob = client.register("bob")
    client.joins(bob, "com.acme.notes", role)
    paths = {rule: addresses(client, rule, alice)[0] for _, rule in OF_APPS}
    for method, rule in sorted(OF_APPS, key=last):
        call = f"{method} {rule}"
        assert method == "GET" or call in LEAST, f"{call} has no least role: add it to LEAST"
        allowed = ROLES.index(role) >= ROLES.index(LEAST.get(call, "viewer"))
        before = [] if allowed else rows(client)
        answer = client.call(method, "/v1" + paths[rule], body_of(method, rule), as_=bob)
        if allowed:
            assert answer.status != 403, (call, answer.body)
            assert answer.status != 404 or "app" not in answer["detail"], call
        else:
            assert (answer.status, answer["code"]) == (403, "forbidden"), call
            assert rows(client) == before, f"refused, but something changed: {call}"


def test_without_a_credential_every_address_is_401(client: Client, alice: Account) -> None:
    before = rows(client)
    for method, rule in PRIVATE + DESK:
        for address in addresses(client, rule, alice):
            answer = client.call(method, address, None if method in ("GET", "DELETE") else {})
            assert (answer.status, answer["code"]) == (401, "unauthenticated"), (method, address)
            assert answer.headers["www-authenticate"].startswith("Bearer"), (method, address)
    assert rows(client) == before, "a refused call has changed something"


def test_the_desk_is_closed_to_developers(client: Client, alice: Account) -> None:
    before = rows(client)
    for method, rule in DESK:
        for address in addresses(client, rule, alice):
            body = None if method in ("GET", "DELETE") else {}
            answer = client.call(method, address, body, as_=alice)
            assert (answer.status, answer["code"]) == (403, "forbidden"), (method, address)
    assert rows(client) == before, "a refused call has changed something"


def test_the_walk_is_not_empty() -> None:
    assert len(PRIVATE) > 10
    assert DESK


def test_a_version_of_somebody_else_is_as_unknown_as_one_that_does_not_exist(
    client: Client,
) -> None:
    alice, bob = client.register(), client.register("bob")
    app = client.app_of(alice)
    theirs = client.upload(app, client.package(alice), as_=alice).expect(201)["id"]
    client.app_of(bob, "com.bob.x")
    (key,) = client.get("/v1/signing-keys", as_=bob)["signing_keys"]
    problems = [
        client.get(f"/v1/signing-keys/{key['id']}/verify?version={version}", as_=bob)
        .expect(404)
        .json
        for version in (theirs, "0" * 8 + theirs[8:])
    ]
    for problem in problems:
        del problem["request_id"]
    assert problems[0] == problems[1]
