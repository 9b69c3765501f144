"""What is not yours does not exist: every address that names something is tried with another developer's ids."""

import re
from typing import Any

import pytest

from tests import described
from tests.client import PASSWORD, Client, Person

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
def alice(client: Client) -> Person:
    person = client.register("alice")
    app = client.app_of(person)
    client.upload(app, client.package(person), as_=person, query="?submit=true").expect(201)
    client.work()
    client.post("/v1/keys", {"name": "ci", "scopes": ["apps:read"]}, as_=person).expect(201)
    client.post("/v1/webhooks", {"url": "https://alice.example/"}, as_=person).expect(201)
    client.post(
        "/v1/auth/password", {"current_password": PASSWORD, "new_password": PASSWORD}, as_=person
    ).expect(204)
    return person


def addresses(client: Client, rule: str, alice: Person) -> list[str]:
    """The rule with Alice's things in it: by id and, where there are, by name."""
    db = client.env.db.connection()
    names = {"app": [db.value("SELECT id FROM apps"), "com.acme.notes"], "version": [db.value("SELECT id FROM versions"), "1.0.0"],
             "review": [db.value("SELECT id FROM reviews")], "session": [db.value("SELECT id FROM sessions")],
             "key": [db.value(f"SELECT id FROM {'signing_keys' if 'signing' in rule else 'api_keys'}")],
             "event": [db.value("SELECT id FROM events")], "webhook": [db.value("SELECT id FROM webhooks")],
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
    "rollout-plan": {"steps": [{"percent": 1, "after_hours": 0}]},
}  # fmt: skip


@pytest.mark.parametrize(("method", "rule"), PRIVATE)
def test_a_stranger_gets_404_everywhere(
    client: Client, alice: Person, method: str, rule: str
) -> None:
    mallory = client.register("mallory")
    before = list(client.env.db.connection()._raw.iterdump())
    for address in addresses(client, rule, alice):
        body = BODIES.get(
            rule.rpartition("/")[2],
            b"PK" if rule.endswith("/versions") and method == "POST" else {},
        )
        client.call(
            method, "/v1" + address, None if method in ("GET", "DELETE") else body, as_=mallory
        ).expect(404, "not_found")
    assert list(client.env.db.connection()._raw.iterdump()) == before, (
        "a refused call has changed something"
    )


@pytest.mark.parametrize(("method", "rule"), PRIVATE + DESK)
def test_nobody_gets_401_everywhere(client: Client, alice: Person, method: str, rule: str) -> None:
    for address in addresses(client, rule, alice):
        answer = client.call(method, address, None if method in ("GET", "DELETE") else {})
        answer.expect(401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "rule"), DESK)
def test_the_desk_is_closed_to_developers(
    client: Client, alice: Person, method: str, rule: str
) -> None:
    for address in addresses(client, rule, alice):
        client.call(method, address, None if method in ("GET", "DELETE") else {}, as_=alice).expect(
            403, "forbidden"
        )


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
