"""API keys: what they may do, what they may not, and how they end."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mosis.credentials import tokens
from mosis.people import api_keys
from tests.client import Account, Answer, Client
from tests.conftest import FakeClock
from tests.package_builder import signing_key

NOTES = "com.acme.notes"


def new_key(client: Client, account: Account | str, **fields: Any) -> Answer:
    return client.post(
        "/v1/keys", {"name": "ci", "scopes": ["apps:read"]} | fields, as_=account
    ).expect(201)


def test_a_key_is_shown_once_and_only_its_hash_is_kept(client: Client, alice: Account) -> None:
    made = new_key(client, alice)
    assert set(made.json) == {
        "id",
        "name",
        "prefix",
        "scopes",
        "apps",
        "role",
        "expires_at",
        "last_used_at",
        "created_at",
        "made_by",
        "key",
    }
    assert made["key"].startswith(made["prefix"])
    assert len(made["key"]) >= len("mk_live_") + 40
    listed = client.get("/v1/keys", as_=alice).expect(200)["keys"]
    assert listed == [{name: value for name, value in made.json.items() if name != "key"}]
    dump = "\n".join(client.env.db.connection()._raw.iterdump())
    assert made["key"] not in dump
    assert made["key"][14:] not in dump


def test_a_key_is_taken_in_both_headers_and_does_what_its_scopes_say(
    client: Client, alice: Account
) -> None:
    key = new_key(client, alice)["key"]
    assert client.get("/v1/apps", as_=key).expect(200)["total"] == 1
    assert client.get("/v1/apps", headers={"X-API-Key": key}).expect(200)["total"] == 1
    refused = client.post(
        "/v1/apps", {"package_id": "com.acme.todo", "name": "Todo"}, as_=key
    ).expect(403, "insufficient_scope")
    assert refused["scope"] == "apps:write"
    assert 'scope="apps:write"' in refused.headers["www-authenticate"]
    client.get("/v1/auth/me/export", as_=key).expect(403, "forbidden")
    assert client.get("/v1/auth/me", as_=key).expect(200).json == {
        "id": alice.id,
        "name": "Alice",
        "email": alice.email,
        "role": "developer",
        "scopes": client.get("/v1/keys", as_=alice)["keys"][0]["scopes"],
        "apps": None,
    }
    client.get("/v1/reviews", as_=key).expect(403, "forbidden")
    client.post("/v1/auth/logout", as_=key).expect(403, "forbidden")


def test_a_key_uploads(client: Client, alice: Account) -> None:
    key = new_key(client, alice, scopes=["versions:upload"])["key"]
    package = client.package(alice)
    client.call("POST", f"/v1/apps/{NOTES}/versions", package, as_=key).expect(201)


def test_a_key_limited_to_an_app_sees_no_other(client: Client, alice: Account) -> None:
    client.app_of(alice, "com.acme.todo")
    key = new_key(client, alice, scopes=["apps:read", "apps:write"], apps=[NOTES])["key"]
    assert [app["package_id"] for app in client.get("/v1/apps", as_=key).expect(200)["apps"]] == [
        NOTES
    ]
    client.get("/v1/apps/com.acme.todo", as_=key).expect(404)
    client.post("/v1/apps", {"package_id": "com.acme.new", "name": "New"}, as_=key).expect(
        403, "limited_to_apps"
    )
    bob = client.register("bob")
    client.post(
        "/v1/keys", {"name": "x", "scopes": ["apps:read"], "apps": [NOTES]}, as_=bob
    ).expect(404)


def test_a_key_gives_no_more_than_it_has(client: Client, alice: Account) -> None:
    manager = new_key(client, alice, scopes=["keys:manage", "apps:read"], apps=[NOTES])["key"]
    client.post("/v1/keys", {"name": "x", "scopes": ["apps:write"]}, as_=manager).expect(
        403, "insufficient_scope"
    )
    made = new_key(client, manager)
    assert made["apps"] == [client.get(f"/v1/apps/{NOTES}", as_=alice)["id"]]
    client.post(
        "/v1/keys", {"name": "x", "scopes": ["apps:read"], "role": "admin"}, as_=manager
    ).expect(403, "forbidden")


def test_a_key_that_ends_makes_none_that_outlives_it(client: Client, alice: Account) -> None:
    ends, later = "2027-01-15T09:00:00Z", "2027-01-15T09:00:01Z"
    manager = new_key(client, alice, scopes=["keys:manage", "apps:read"], expires_at=ends)["key"]
    body = {"name": "x", "scopes": ["apps:read"], "expires_at": later}
    refused = client.post("/v1/keys", body, as_=manager).expect(422, "invalid")
    assert refused.finding("/expires_at") == "too_large"
    assert new_key(client, manager)["expires_at"] == ends
    assert (
        new_key(client, manager, expires_at="2027-01-15T08:30:00Z")["expires_at"]
        == "2027-01-15T08:30:00Z"
    )


@pytest.mark.parametrize(("path", "name", "body"), [
    ("/v1/keys", "keys", {"name": "ci", "scopes": ["apps:read"]}), ("/v1/signing-keys", "signing_keys", {"name": "laptop"}),
])  # fmt: skip
def test_keys_are_found_where_location_says_and_listed_in_pages(
    client: Client, alice: Account, path: str, name: str, body: dict[str, Any]
) -> None:
    def make() -> Answer:
        more = {"public_key": signing_key().public_base64} if name == "signing_keys" else {}
        return client.post(path, body | more, as_=alice).expect(201)

    made = [make() for _ in range(3)]
    at = made[0].headers["location"]
    shown = client.get(at, as_=alice).expect(200)
    assert {"id": shown["id"], "name": shown["name"]} == {
        "id": made[0]["id"],
        "name": made[0]["name"],
    }
    assert "key" not in shown.json
    first = client.get(f"{path}?limit=2", as_=alice).expect(200)
    rest = client.get(f"{path}?limit=100&cursor={first['next_cursor']}", as_=alice).expect(200)
    ids = [each["id"] for each in first[name] + rest[name]]
    assert ids[:3] == [each["id"] for each in reversed(made)]
    assert len(first[name]) == 2
    assert rest["next_cursor"] is None
    client.get(f"{path}?cursor=rubbish", as_=alice).expect(400, "bad_cursor")
    client.get(f"{path}?limit=0", as_=alice).expect(400, "malformed_request")
    client.delete(at, as_=alice, headers={"If-Match": '"another"'}).expect(
        412, "precondition_failed"
    )
    client.delete(at, as_=alice, headers={"If-Match": shown.headers["etag"]}).expect(204)


def test_a_role_is_for_administrators_to_give_and_dies_with_theirs(client: Client) -> None:
    root = client.admin()
    key = new_key(client, root, role="reviewer")["key"]
    client.get("/v1/reviews", as_=key).expect(200)
    client.get("/v1/admin/developers", as_=key).expect(403, "forbidden")
    assert (
        "role"
        not in client.post(
            "/v1/keys",
            {"name": "x", "scopes": ["apps:read"], "role": "reviewer"},
            as_=client.reviewer(),
        )
        .expect(403, "forbidden")
        .json
    )
    client.role_of(root, "developer")
    client.get("/v1/reviews", as_=key).expect(403, "forbidden")


def test_an_expired_or_revoked_key_is_refused_at_once(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    soon = new_key(client, alice, expires_at="2027-01-15T09:00:00Z")["key"]
    client.get("/v1/apps", as_=soon).expect(200)
    clock.advance(3600)
    client.get("/v1/apps", as_=soon).expect(401, "invalid_token")
    session = client.sign_in(alice)  # the first access token has expired too
    made = new_key(client, session)
    client.delete(f"/v1/keys/{made['id']}", as_=session).expect(204)
    client.get("/v1/apps", as_=made["key"]).expect(401, "invalid_token")
    client.delete(f"/v1/keys/{made['id']}", as_=session).expect(204)


@pytest.mark.parametrize(("body", "pointer"), [
    ({"scopes": []}, "/scopes"), ({"scopes": ["everything"]}, "/scopes/0"), ({"name": ""}, "/name"), ({"apps": []}, "/apps"),
    ({"expires_at": "2027-02-30T00:00:00Z"}, "/expires_at"), ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ({"role": "owner"}, "/role"), ({"hash": "x"}, "/hash"),
])  # fmt: skip
def test_errors_in_a_key_are_reported(
    client: Client, alice: Account, body: dict[str, Any], pointer: str
) -> None:
    refused = client.post(
        "/v1/keys", {"name": "ci", "scopes": ["apps:read"]} | body, as_=alice
    ).expect(422, "invalid")
    assert pointer in [each["pointer"] for each in refused["errors"]]


def test_a_scanner_can_tell_a_key_from_noise() -> None:
    made = [tokens.make_key() for _ in range(500)]
    assert all(tokens.is_key(key) for key in made)
    for key in made:
        swapped = key[:20] + key[21] + key[20] + key[22:]
        assert swapped == key or not tokens.is_key(swapped)
    assert not any(
        map(
            tokens.is_key,
            [
                "",
                "mk_live_",
                "mk_live_" + "0" * 42,
                "mk_live_" + "é" * 42,
                made[0] + "x",
                made[0][:-1],
            ],
        )
    )


def test_last_use_is_known_to_the_minute(client: Client, alice: Account, clock: FakeClock) -> None:
    made = new_key(client, alice)
    for _ in range(3):
        client.get("/v1/apps", as_=made["key"]).expect(200)
    api_keys.flush_uses(client.env)
    assert client.get("/v1/keys", as_=alice)["keys"][0]["last_used_at"] == "2027-01-15T08:00:00Z"
    clock.advance(90)
    client.get("/v1/apps", as_=made["key"]).expect(200)
    api_keys.flush_uses(client.env)
    assert client.get("/v1/keys", as_=alice)["keys"][0]["last_used_at"] == "2027-01-15T08:01:00Z"


def test_whoever_presents_a_leaked_key_revokes_it_and_its_owner_is_notified(
    client: Client, alice: Account
) -> None:
    made = new_key(client, alice)
    assert (
        client.post("/v1/keys/report", {"key": tokens.make_key()}).expect(200)["revoked"] is False
    )
    assert client.post("/v1/keys/report", {"key": "rubbish"}).expect(200)["revoked"] is False
    assert client.post("/v1/keys/report", {"key": made["key"]}).expect(200)["revoked"] is True
    client.get("/v1/apps", as_=made["key"]).expect(401, "invalid_token")
    assert client.notifications(alice)[0]["kind"] == "security.key_reported"
    assert made["prefix"] in client.notifications(alice)[0]["text"]


def match(token: str, **more: Any) -> dict[str, Any]:
    found = {
        "token": token,
        "type": "mosis_api_key",
        "url": "https://git.example/a",
        "source": "commit",
    }
    return found | more


def test_a_scanner_reports_several_keys_at_once(client: Client, alice: Account) -> None:
    first, second = (new_key(client, alice)["key"] for _ in range(2))
    client.post("/v1/keys/report", {"key": second}).expect(200)
    sent = [first, tokens.make_key(), second, "x" * 10_000]
    reported = client.post("/v1/keys/report", [match(each, later="field") for each in sent])
    assert [each["label"].partition("_")[0] for each in reported.expect(200).json] == [
        "true",
        "false",
        "true",
        "false",
    ]
    for token, answer in zip(sent, reported.json, strict=True):
        digest = hashlib.sha256(token.encode()).digest()
        assert answer["token_hash"] == base64.b64encode(digest).decode()
        assert answer["token_type"] == "mosis_api_key"
    client.get("/v1/apps", as_=first).expect(401, "invalid_token")
    assert [each["kind"] for each in client.notifications(alice)] == ["security.key_reported"] * 2


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ([], "", "too_short"),
        ([match("x")] * 501, "", "too_long"),
        ([match("x"), 1], "/1", "wrong_type"),
        ([match("x"), {"token": "x"}], "/1/type", "required"),
        ([match("x", url=1)], "/0/url", "wrong_type"),
        ([match("x" * 10_001)], "/0/token", "too_long"),
        ([{}] * 500, "/0/token", "required"),
    ],
)
def test_an_array_that_is_no_report_is_refused_by_object(
    client: Client, body: list[Any], pointer: str, code: str
) -> None:
    refused = client.post("/v1/keys/report", body).expect(422, "invalid")
    assert len(refused["errors"]) <= 100
    assert (refused["errors"][0]["pointer"], refused["errors"][0]["code"]) == (pointer, code)


def test_other_calls_take_no_array_and_the_report_no_other_value(client: Client) -> None:
    client.post("/v1/auth/login", []).expect(400, "malformed_json")
    for body in (b"1", b"null", b'"x"'):
        client.call(
            "POST", "/v1/keys/report", body, headers={"Content-Type": "application/json"}
        ).expect(400, "malformed_json")


@contextmanager
def scanner(*names: str) -> Iterator[tuple[str, dict[str, ec.EllipticCurvePrivateKey], list[str]]]:
    """A server with the public keys of a scanner: its address, the private keys, and the requests
    that came."""
    keys_of = {name: ec.generate_private_key(ec.SECP256R1()) for name in names}
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            document = {
                "public_keys": [
                    {"key_identifier": name, "key": pem(key), "is_current": True}
                    for name, key in keys_of.items()
                ]
            }
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/keys", keys_of, asked
        server.shutdown()
        thread.join(60)


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(*form).decode()


def test_a_report_must_be_signed_by_the_configured_scanner(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    key = new_key(client, alice)["key"]
    body = json.dumps([match(key)], indent=1).encode()

    def send(signed_by: ec.EllipticCurvePrivateKey | None, name: str, signed: bytes) -> Answer:
        headers = {"Content-Type": "application/json"}
        if signed_by is not None:
            signature = signed_by.sign(signed, ec.ECDSA(hashes.SHA256()))
            headers |= {
                "Github-Public-Key-Identifier": name,
                "Github-Public-Key-Signature": base64.b64encode(signature).decode(),
            }
        return client.call("POST", "/v1/keys/report", body, headers=headers)

    with scanner("first", "second") as (url, keys_of, asked):
        object.__setattr__(client.env.config, "secret_scanning_keys", url)
        send(None, "", body).expect(403, "signature_invalid")
        clock.advance(60)
        send(keys_of["first"], "second", body).expect(403, "signature_invalid")
        send(keys_of["first"], "first", body + b" ").expect(403, "signature_invalid")
        send(ec.generate_private_key(ec.SECP256R1()), "third", body).expect(403)
        client.call(
            "POST",
            "/v1/keys/report",
            body,
            headers={
                "Content-Type": "application/json",
                "Github-Public-Key-Identifier": "first",
                "Github-Public-Key-Signature": "not base64",
            },
        ).expect(403, "signature_invalid")
        client.get("/v1/apps", as_=key).expect(200)
        assert send(keys_of["first"], "first", body).expect(200).json[0]["label"] == "true_positive"
        client.get("/v1/apps", as_=key).expect(401)
        assert len(asked) == 2, "keys are cached, and unknown ones looked for twice a minute"
        client.post("/v1/keys/report", {"key": key}).expect(200)  # the plain form needs none
    clock.advance(3700)
    send(keys_of["first"], "first", body).expect(503, "provider_unavailable")


def test_an_owner_is_notified_once_before_a_key_expires(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    new_key(client, alice, expires_at="2027-01-25T08:00:00Z")
    api_keys.notify_of_expiring(client.env)
    assert client.notifications(alice) == []
    clock.advance(4 * 24 * 3600)
    alice = client.sign_in(alice)
    api_keys.notify_of_expiring(client.env)
    api_keys.notify_of_expiring(client.env)
    assert [each["kind"] for each in client.notifications(alice)] == ["key.expiring"]


def test_there_are_at_most_a_hundred_living_keys(
    client: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "MOST_ACTIVE", 2)
    first = new_key(client, alice)
    new_key(client, alice)
    client.post("/v1/keys", {"name": "x", "scopes": ["apps:read"]}, as_=alice).expect(
        409, "limit_reached"
    )
    client.delete(f"/v1/keys/{first['id']}", as_=alice).expect(204)
    new_key(client, alice)


def test_a_suspended_account_has_no_keys(client: Client, alice: Account) -> None:
    key = new_key(client, alice)["key"]
    client.patch(
        f"/v1/admin/developers/{alice.id}", {"suspended": True}, as_=client.admin()
    ).expect(200)
    client.get("/v1/apps", as_=key).expect(401, "invalid_token")
    client.get("/v1/apps", as_=alice).expect(401, "invalid_token")


def test_a_signing_key_proves_what_it_signed(client: Client, alice: Account) -> None:
    made = client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    other = client.register("other").key
    first = made["signing_key_id"]
    second = client.post(
        "/v1/signing-keys", {"name": "2", "public_key": other.public_pem}, as_=alice
    ).expect(201)["id"]
    for query in (f"version={made['id']}", f"app={NOTES}&version=1.0.0"):
        assert (
            client.get(f"/v1/signing-keys/{first}/verify?{query}", as_=alice).expect(200)[
                "verified"
            ]
            is True
        )
        assert (
            client.get(f"/v1/signing-keys/{second}/verify?{query}", as_=alice).expect(200)[
                "verified"
            ]
            is False
        )
    client.get(f"/v1/signing-keys/{first}/verify", as_=alice).expect(400)
    bob = client.register("bob")
    his = client.post(
        "/v1/signing-keys", {"name": "x", "public_key": bob.key.public_pem}, as_=bob
    ).expect(201)["id"]
    client.get(f"/v1/signing-keys/{his}/verify?version={made['id']}", as_=bob).expect(404)
