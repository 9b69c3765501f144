"""Events in order, and waiting for them without holding a thread."""

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mosis import events
from mosis.context import Context
from mosis.web import long_poll
from mosis.web.long_poll import MOST_OF_ONE
from tests.client import PASSWORD, Account, Client
from tests.package_builder import build_package, signing_key
from tests.server import serving, wait_until


def happen(
    client: Client, account: Account, number: int, package_id: str | None = "com.acme.notes"
) -> str:
    db = client.env.db.connection()
    with db.write():
        return events.add(
            db, account.id, "version.published", package_id=package_id, version=f"1.0.{number}"
        )


def test_events_come_in_order_after_an_id(client: Client) -> None:
    alice, bob = client.register(), client.register("bob")
    ids = [happen(client, alice, number) for number in range(5)]
    happen(client, bob, 9)
    answer = client.get("/v1/events", as_=alice).expect(200)
    assert [each["id"] for each in answer["events"]] == ids
    assert answer["events"][0]["text"] == "com.acme.notes 1.0.0 is published."
    assert [
        each["id"] for each in client.get(f"/v1/events?after={ids[2]}", as_=alice)["events"]
    ] == ids[3:]
    assert client.get(f"/v1/events?after={ids[-1]}", as_=alice)["events"] == []
    client.get("/v1/events?after=nonsense", as_=alice).expect(400, "bad_cursor")
    client.get(f"/v1/events?after={ids[0]}", as_=bob).expect(400, "bad_cursor")


def test_events_come_in_pages(client: Client) -> None:
    alice = client.register()
    ids = [happen(client, alice, number) for number in range(5)]
    page = client.get(f"/v1/events?limit=2&after={ids[0]}", as_=alice).expect(200)
    assert [each["id"] for each in page["events"]] == ids[1:3]
    rest = client.get(f"/v1/events?limit=2&after={ids[0]}&cursor={page['next_cursor']}", as_=alice)
    assert [each["id"] for each in rest["events"]] == ids[3:]
    assert rest["next_cursor"] is None


def test_an_api_key_sees_the_events_of_its_apps(client: Client) -> None:
    alice = client.register()
    notes, todo = client.app_of(alice), client.app_of(alice, "com.acme.todo")
    for each in (notes, todo, None):
        happen(client, alice, 1, each)
    scopes = ["apps:read"]
    every = client.post("/v1/keys", {"name": "every", "scopes": scopes}, as_=alice).expect(201)[
        "key"
    ]
    one = client.post(
        "/v1/keys", {"name": "one", "scopes": scopes, "apps": [todo]}, as_=alice
    ).expect(201)["key"]
    assert [
        each["app"]["package_id"] for each in client.get("/v1/events", as_=every)["events"]
    ] == [notes, todo]
    assert [each["app"]["package_id"] for each in client.get("/v1/events", as_=one)["events"]] == [
        todo
    ]
    none = client.post("/v1/keys", {"name": "none", "scopes": ["keys:manage"]}, as_=alice).expect(
        201
    )["key"]
    client.get("/v1/events", as_=none).expect(403, "insufficient_scope")


@pytest.mark.parametrize("wait", ["-1", "21", "x", "1.5"])
def test_waiting_has_a_bound(client: Client, wait: str) -> None:
    client.get(f"/v1/events?wait={wait}", as_=client.register()).expect(400, "malformed_request")


def test_where_the_server_cannot_wait_the_answer_comes_at_once(client: Client) -> None:
    assert client.get("/v1/events?wait=20", as_=client.register()).expect(200)["events"] == []


class Speaker:
    """Somebody signed in at a portal that serves."""

    def __init__(self, env: Context, port: int, name: str = "alice") -> None:
        self.env, self.port = env, port
        answer = self.post(
            "/v1/auth/register",
            {"email": f"{name}@example.net", "password": PASSWORD, "name": name},
        )
        self.token, self.id = answer["access_token"], answer["developer"]["id"]

    def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        raw = isinstance(body, bytes)
        headers["Content-Type"] = "application/octet-stream" if raw else "application/json"
        if hasattr(self, "token"):
            headers["Authorization"] = "Bearer " + self.token
        try:
            content = body if raw or body is None else json.dumps(body)
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            content = answer.read()
            return (
                answer.status,
                {k.lower(): v for k, v in answer.getheaders()},
                json.loads(content) if content else None,
            )
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        return self.call("GET", path)[2]

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body)[2]

    def crash(self) -> None:
        """Something that another process has done: an event written past the running portal."""
        with sqlite3.connect(self.env.config.database_path, timeout=60) as db:
            db.execute(
                "INSERT INTO events (id, developer_id, kind, package_id, version, created_at) VALUES"
                " (hex(randomblob(16)), ?, 'version.published', 'com.acme.notes', '1.0.0', ?)",
                (self.id, self.env.clock.now()),  # an old one would be swept
            )

    @property
    def waiting(self) -> int:
        """How many requests of this account wait."""
        return self.env.news.waiting(self.id)

    def until_waiting(self, count: int = 1) -> None:
        wait_until(lambda: self.waiting == count, f"{count} requests wait")


class TestServer:
    """With a server, and two threads for quick requests."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"LISTEN_ADDR": "127.0.0.1:0", "THREADS": "2", "CONNECTIONS_PER_ADDRESS": "300"}

    @pytest.fixture(autouse=True)
    def _patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request may wait for longer than all that a test does on a busy machine."""
        monkeypatch.setattr(long_poll, "LONGEST_SECONDS", 120)

    @pytest.fixture
    def server(self, env: Context) -> Iterator[Any]:
        with serving(env) as server:
            yield server

    @pytest.fixture
    def alice(self, env: Context, server: Any) -> Speaker:
        return Speaker(env, server.port)

    def test_whoever_waits_is_answered_when_it_happens(self, alice: Speaker) -> None:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(alice.call, "GET", "/v1/events?wait=120")
            alice.until_waiting()
            key = alice.post("/v1/keys", {"name": "k", "scopes": ["apps:read"]})["key"]
            assert alice.post("/v1/keys/report", {"key": key})["revoked"]
            status, _, answer = waiting.result(60)
        assert status == 200
        assert [each["kind"] for each in answer["events"]] == ["security.key_reported"]

    def test_what_another_process_does_is_seen_too(self, alice: Speaker) -> None:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(alice.get, "/v1/events?wait=120")
            alice.until_waiting()
            alice.crash()
            assert len(waiting.result(60)["events"]) == 1

    def test_when_nothing_happens_the_wait_ends_with_nothing(self, alice: Speaker) -> None:
        begun = time.monotonic()
        assert alice.get("/v1/events?wait=1")["events"] == []
        assert time.monotonic() - begun >= 1

    def test_two_hundred_who_wait_hold_no_thread(self, env: Context, server: Any) -> None:
        people = [Speaker(env, server.port, f"crowd{number}") for number in range(14)]
        with ThreadPoolExecutor(14 * 15) as pool:
            waiting = [
                pool.submit(account.get, "/v1/events?wait=120")
                for account in people
                for _ in range(15)
            ]
            for account in people:
                account.until_waiting(15)
            for _ in range(20):
                assert people[0].call("GET", "/v1/apps")[0] == 200
            assert not any(each.done() for each in waiting)
            for account in people:
                account.crash()
            assert all(len(each.result(60)["events"]) == 1 for each in waiting)

    def test_too_many_of_one_account_are_answered_at_once(self, alice: Speaker) -> None:
        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(alice.get, "/v1/events?wait=120") for _ in range(20)]
            alice.until_waiting(MOST_OF_ONE)
            wait_until(lambda: sum(each.done() for each in waiting) == 4, "four are answered")
            assert alice.waiting == MOST_OF_ONE
            alice.crash()
            answers = [each.result(60)["events"] for each in waiting]
        assert sorted(map(len, answers)) == [0] * 4 + [1] * MOST_OF_ONE

    def test_waiting_for_a_version(self, alice: Speaker) -> None:
        """From `checking` to `ready`, and from `ready` to `in_review` with the entity tag."""
        key = signing_key()
        alice.post("/v1/signing-keys", {"name": "laptop", "public_key": key.public_base64})
        alice.post("/v1/apps", {"package_id": "com.acme.wait", "name": "Wait"})
        package = build_package("com.acme.wait", "1.0.0", 1, key=key)
        assert alice.call("POST", "/v1/apps/com.acme.wait/versions", package)[0] == 201
        at, state = "/v1/apps/com.acme.wait/versions/1.0.0", "checking"
        for _ in range(5):
            state = alice.get(at + "?wait=120" if state == "checking" else at)["state"]
            if state != "checking":
                break
        assert state == "ready"
        tag = alice.call("GET", at)[1]["etag"]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(alice.call, "GET", at + "?wait=120", **{"If-None-Match": tag})
            alice.until_waiting()
            alice.post(at + "/submit")
            status, _, answer = waiting.result(60)
        assert (status, answer["state"]) == (200, "in_review")
        status, headers, _ = alice.call(
            "GET", at + "?wait=1", **{"If-None-Match": alice.call("GET", at)[1]["etag"]}
        )
        assert status == 304
        assert headers["etag"]

    def test_a_stop_answers_those_who_wait(self, alice: Speaker, server: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(alice.call, "GET", "/v1/events?wait=120")
            alice.until_waiting()
            server.stop(5)
            status, _, answer = waiting.result(60)
        assert (status, answer["events"]) == (200, [])
