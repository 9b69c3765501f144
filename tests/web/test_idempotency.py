"""Idempotency-Key: the same POST again is answered again and done once, whatever happens in between."""

import http.client
import json
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis import idempotency
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Conflict, Unavailable
from tests.campaign import short_and_full
from tests.client import PASSWORD, Answer, Client
from tests.conftest import FakeClock
from tests.server import Running, running

NOTES = {"package_id": "com.acme.notes", "name": "Notes"}


def with_key(key: str = "one") -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_the_same_post_again_is_answered_again_and_done_once(client: Client) -> None:
    alice = client.register()
    first = client.post("/v1/apps", NOTES, as_=alice, headers=with_key()).expect(201)
    again = client.post("/v1/apps", NOTES, as_=alice, headers=with_key()).expect(201)
    assert again.body == first.body
    for name in ("location", "content-type", "cache-control", "vary"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert client.get("/v1/apps", as_=alice)["total"] == 1


def test_the_address_without_prefix_is_the_same_address(client: Client) -> None:
    alice = client.register()
    client.post("/v1/apps", NOTES, as_=alice, headers=with_key()).expect(201)
    client.post("/apps", NOTES, as_=alice, headers=with_key()).expect(201)


def test_a_key_with_another_body_is_refused(client: Client) -> None:
    alice = client.register()
    client.post("/v1/apps", NOTES, as_=alice, headers=with_key()).expect(201)
    other = NOTES | {"package_id": "com.acme.todo"}
    client.post("/v1/apps", other, as_=alice, headers=with_key()).expect(
        422, "idempotency_key_reused"
    )
    assert client.get("/v1/apps", as_=alice)["total"] == 1


def test_a_key_counts_for_one_person_credential_and_path(client: Client) -> None:
    alice, bob = client.register(), client.register("bob")
    client.post("/v1/apps", NOTES, as_=alice, headers=with_key()).expect(201)
    client.post("/v1/apps", NOTES, as_=bob, headers=with_key()).expect(409, "package_id_taken")
    key = client.post(
        "/v1/keys", {"name": "ci", "scopes": ["apps:write"]}, as_=alice, headers=with_key()
    ).expect(201)["key"]
    client.post("/v1/apps", NOTES, as_=key, headers=with_key()).expect(409, "package_id_taken")


def test_a_refusal_is_not_cached(client: Client) -> None:
    alice = client.register()
    client.post("/v1/apps", NOTES | {"name": ""}, as_=alice, headers=with_key()).expect(
        422, "invalid"
    )
    client.post("/v1/apps", NOTES, as_=alice, headers=with_key()).expect(201)


def test_a_response_is_stored_for_a_day(client: Client, clock: FakeClock) -> None:
    alice = client.register()
    message = {"name": "ci", "scopes": ["apps:read"]}
    first = client.post("/v1/keys", message, as_=alice, headers=with_key()).expect(201)
    clock.advance(24 * 3600 - 1)
    fresh = client.post("/v1/auth/refresh", {"refresh_token": alice.refresh_token}).expect(200)
    alice = replace(alice, token=fresh["access_token"])
    assert (
        client.post("/v1/keys", message, as_=alice, headers=with_key()).expect(201).body
        == first.body
    )
    clock.advance(1)
    assert (
        client.post("/v1/keys", message, as_=alice, headers=with_key()).expect(201)["id"]
        != first["id"]
    )
    clock.advance(24 * 3600)
    idempotency.sweep(client.env)
    assert client.env.db.connection().value("SELECT count(*) FROM idempotency") == 0


def test_a_registration_can_be_retried_where_nobody_is_signed_in(client: Client) -> None:
    account = {"email": "alice@example.net", "password": PASSWORD, "name": "Alice"}
    first = client.post("/v1/auth/register", account, headers=with_key()).expect(201)
    again = client.post("/v1/auth/register", account, headers=with_key()).expect(201)
    assert again.body == first.body
    client.get("/v1/auth/me", as_=again["access_token"]).expect(200)
    client.post("/v1/auth/register", account, headers=with_key(), address="203.0.113.9").expect(
        409, "email_taken"
    )
    guess = account | {"password": "another password"}
    client.post("/v1/auth/register", guess, headers=with_key()).expect(
        422, "idempotency_key_reused"
    )


def test_nothing_readable_is_stored(client: Client, env: Context) -> None:
    alice = client.register()
    headers = with_key("my-own-retry-key")
    secret = client.post(
        "/v1/keys", {"name": "ci", "scopes": ["apps:read"]}, as_=alice, headers=headers
    ).expect(201)["key"]
    rows = env.db.connection().dicts("SELECT * FROM idempotency")
    assert len(rows) == 1
    stored = b"".join(
        value if isinstance(value, bytes) else str(value).encode()
        for row in rows
        for value in row.values()
    )
    for hidden in (secret, secret[:12], "my-own-retry-key", 'ci"', "apps:read"):
        assert hidden.encode() not in stored


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb", "ü"])
def test_a_key_is_printable_and_short(client: Client, key: str) -> None:
    client.post("/v1/apps", NOTES, as_=client.register(), headers={"Idempotency-Key": key}).expect(
        400, "malformed_request"
    )


def test_a_move_can_be_retried(client: Client) -> None:
    alice = client.register()
    app = client.app_of(alice)
    client.upload(app, client.package(alice), as_=alice).expect(201)
    client.work()
    at = f"/v1/apps/{app}/versions/1.0.0/submit"
    first = client.post(at, as_=alice, headers=with_key()).expect(200)
    assert client.post(at, as_=alice, headers=with_key()).expect(200).body == first.body
    client.post(at, as_=alice).expect(409, "invalid_state")


def test_the_same_package_again_needs_no_key(client: Client) -> None:
    alice = client.register()
    app, package = client.app_of(alice), client.package(alice)
    first = client.upload(app, package, as_=alice).expect(201)
    assert client.upload(app, package, as_=alice).expect(200)["id"] == first["id"]


def test_at_once_fifty_are_one(client: Client) -> None:
    alice = client.register()
    body = {"name": "ci", "scopes": ["apps:read"]}

    def post(_: int) -> Answer:
        return client.post("/v1/keys", body, as_=alice, headers=with_key())

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(post, range(50)))
    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.body for answer in answers if answer.status == 201}) == 1
    assert all(
        answer["code"] == "idempotency_in_progress" for answer in answers if answer.status == 409
    )
    assert len(client.get("/v1/keys", as_=alice)["keys"]) == 1


def test_what_runs_already_is_distinguished_from_what_is_done(client: Client, env: Context) -> None:
    alice = client.register()
    with ThreadPoolExecutor(2) as pool:
        with env.db.writers:  # nobody can write: one of the two waits, and the other is refused
            both = [
                pool.submit(client.post, "/v1/apps", NOTES, as_=alice, headers=with_key())
                for _ in range(2)
            ]
            done, waits = wait(both, 60, FIRST_COMPLETED)
            assert len(waits) == 1
            assert (
                done.pop().result().expect(409, "idempotency_in_progress").headers["retry-after"]
                == "1"
            )
        assert waits.pop().result(60).status == 201


def test_of_two_processes_the_slower_one_changes_nothing(client: Client, env: Context) -> None:
    """Both have looked before either has written: as two applications with the same database would."""
    alice = client.register()
    other = Client(portal.build(env), env)
    barrier = threading.Barrier(2)
    body = {"name": "ci", "scopes": ["apps:read"]}

    def post(which: Client) -> Answer:
        db = env.db.connection()
        real = Connection.held.__get__(db)

        def held() -> Any:
            barrier.wait(60)
            return real()

        db.held = held  # type: ignore[method-assign]
        return which.post("/v1/keys", body, as_=alice, headers=with_key())

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(post, (client, other)))
    assert sorted(answer.status for answer in answers) == [201, 409]
    assert len(client.get("/v1/keys", as_=alice)["keys"]) == 1


def test_held_writes_are_one_transaction(env: Context) -> None:
    db, calls = env.db.connection(), []
    with db.held():
        with db.write():
            db.after_commit(lambda: calls.append("first"))
            db.change("UPDATE store_state SET sequence = 1")
        assert db.writing
        assert calls == []
        with pytest.raises(Conflict), db.write():
            db.change("UPDATE store_state SET sequence = 2")
            raise Conflict("invalid_state", "no")
        with pytest.raises(Exception, match="readonly"):
            db.change("UPDATE store_state SET sequence = 3")
        with db.write():
            db.change("UPDATE store_state SET counts = 7")
    assert not db.writing
    assert calls == ["first"]
    assert db.one("SELECT sequence, counts FROM store_state") == (1, 7)
    with pytest.raises(Unavailable), db.held():
        with db.write():
            db.change("UPDATE store_state SET sequence = 9")
        raise Unavailable("busy", "no")
    assert db.value("SELECT sequence FROM store_state") == 1
    assert env.db.writers.acquire(blocking=False)
    env.db.writers.release()


def _post(
    server: Running, path: str, body: dict[str, Any], token: str = "", key: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Idempotency-Key": key} if key else {}
    try:
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("least", short_and_full(3, 100))
def test_killed_in_between_it_is_still_done_once(tmp_path: Path, least: int) -> None:
    """50 at once against the real process, which is killed while they run; then they are sent again."""
    with running(tmp_path) as server:
        account = {"email": "alice@example.net", "password": PASSWORD, "name": "Alice"}
        token = json.loads(_post(server, "/v1/auth/register", account)[1])["access_token"]
        outcomes: Counter[str] = Counter()
        cycles = 0
        while cycles < least or (
            not (outcomes["answered"] and outcomes["cut off"]) and cycles < 20
        ):  # on a busy machine nothing may be answered for a while, or everything
            cycle, cycles = cycles, cycles + 1
            body = {"name": f"cycle {cycle}", "scopes": ["apps:read"]}
            answers: list[tuple[int, bytes]] = []

            def post(
                body: dict[str, Any] = body,
                cycle: int = cycle,
                answers: list[tuple[int, bytes]] = answers,
            ) -> None:
                try:
                    answers.append(_post(server, "/v1/keys", body, token, f"key {cycle}"))
                except (OSError, http.client.HTTPException):
                    outcomes["cut off"] += 1

            threads = [threading.Thread(target=post) for _ in range(50)]
            for thread in threads:
                thread.start()
            time.sleep(0.02 * cycle if cycle < 6 else 0.1 * (cycle % 20))
            server.kill()
            for thread in threads:
                thread.join(60)
            server.start()
            status, again = _post(server, "/v1/keys", body, token, f"key {cycle}")
            assert status == 201
            assert {status for status, _ in answers} <= {201, 409}
            assert {answer for status, answer in answers if status == 201} <= {again}
            outcomes["answered"] += len(answers)
        assert outcomes["cut off"]
        assert outcomes["answered"]
        with sqlite3.connect(f"file:{server.environment['DATABASE_PATH']}?mode=ro", uri=True) as db:
            assert db.execute(
                "SELECT name, count(*) FROM api_keys GROUP BY name ORDER BY name"
            ).fetchall() == [(f"cycle {cycle}", 1) for cycle in sorted(range(cycles), key=str)]


def test_an_upload_is_replayed_if_package_and_parameters_are_the_same(
    client: Client, clock: FakeClock
) -> None:
    alice = client.register()
    app, package = client.app_of(alice), client.package(alice)
    at = f"/v1/apps/{app}/versions"
    first = client.post(at, package, as_=alice, headers=with_key()).expect(201)
    client.work()
    again = client.post(at, package, as_=alice, headers=with_key()).expect(201)
    assert (again.body, again.headers["location"]) == (first.body, first.headers["location"])
    assert again.headers["idempotency-replayed"] == "true"
    form = (
        b'--x\r\nContent-Disposition: form-data; name="package"; filename="p"\r\n\r\n%b\r\n--x\r\n'
        b'Content-Disposition: form-data; name="release_notes"\r\n\r\n%b\r\n--x--\r\n'
    )
    headers = with_key() | {"Content-Type": "multipart/form-data; boundary=x"}
    assert (
        client.post(at, form % (package, b""), as_=alice, headers=headers).expect(201).body
        == first.body
    )
    client.post(at, form % (package, b"other notes"), as_=alice, headers=headers).expect(
        422, "idempotency_key_reused"
    )
    other = client.package(alice, version="2.0.0", code=2)
    client.post(at, other, as_=alice, headers=with_key()).expect(422, "idempotency_key_reused")
    assert len(client.get(at, as_=alice)["versions"]) == 1
    assert client.post(at, package, as_=alice).expect(200)["state"] == "ready"
    client.post(at, b"PK", as_=alice, headers=with_key("two")).expect(422, "package_rejected")
    client.post(at, other, as_=alice, headers=with_key("two")).expect(201)
    clock.advance(24 * 3600)
    client.post(at, package, as_=client.sign_in(alice), headers=with_key()).expect(200)
    assert list(client.env.config.packages_dir.glob("incoming/*")) == []


def test_at_once_fifty_uploads_are_one(client: Client) -> None:
    alice = client.register()
    at, package = f"/v1/apps/{client.app_of(alice)}/versions", client.package(alice)
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda _: client.post(at, package, as_=alice, headers=with_key()), range(50))
        )
    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.body for answer in answers if answer.status == 201}) == 1
    assert all(
        answer["code"] == "idempotency_in_progress" for answer in answers if answer.status == 409
    )
    assert len(client.get(at, as_=alice)["versions"]) == 1
    assert len(list(client.env.config.packages_dir.rglob("package.mosis"))) == 1
