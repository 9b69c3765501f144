"""Events in order, and waiting for them without holding a thread."""

import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mosis import events
from tests.client import PASSWORD, Client, Person
from tests.server import Running, running


def happen(
    client: Client, person: Person, number: int, package_id: str | None = "com.acme.notes"
) -> str:
    db = client.env.db.connection()
    with db.write():
        return events.add(
            db, person.id, "version.published", package_id=package_id, version=f"1.0.{number}"
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
    """Somebody signed in at a running portal."""

    def __init__(self, server: Running, name: str = "alice") -> None:
        self.server = server
        answer = self.post(
            "/v1/auth/register",
            {"email": f"{name}@example.net", "password": PASSWORD, "name": name},
        )
        self.token, self.id = answer["access_token"], answer["developer"]["id"]

    def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=40)
        headers["Content-Type"] = "application/json"
        if hasattr(self, "token"):
            headers["Authorization"] = "Bearer " + self.token
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
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
        """Something happens that another process has seen: an event written past the running portal."""
        with sqlite3.connect(self.server.environment["DATABASE_PATH"], timeout=20) as db:
            db.execute(
                "INSERT INTO events (id, developer_id, kind, package_id, version, created_at) VALUES"
                " (hex(randomblob(16)), ?, 'version.published', 'com.acme.notes', '1.0.0', '2026-01-31T12:00:00Z')",
                (self.id,),
            )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("events"), {"THREADS": "2"}) as started:
        yield started


def test_whoever_waits_is_answered_when_it_happens(server: Running) -> None:
    alice = Speaker(server, "waits")
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        waiting = pool.submit(alice.call, "GET", "/v1/events?wait=20")
        time.sleep(0.5)
        assert not waiting.done()
        key = alice.post("/v1/keys", {"name": "k", "scopes": ["apps:read"]})["key"]
        assert alice.post("/v1/keys/report", {"key": key})["revoked"]
        status, _, answer = waiting.result(10)
    assert status == 200
    assert [each["kind"] for each in answer["events"]] == ["security.key_reported"]
    assert time.monotonic() - begun < 8


def test_what_another_process_does_is_seen_too(server: Running) -> None:
    alice = Speaker(server, "elsewhere")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(alice.get, "/v1/events?wait=20")
        time.sleep(0.5)
        begun = time.monotonic()
        alice.crash()
        assert len(waiting.result(15)["events"]) == 1
    assert time.monotonic() - begun < 8


def test_when_nothing_happens_the_wait_ends_with_nothing(server: Running) -> None:
    alice, begun = Speaker(server, "nothing"), time.monotonic()
    assert alice.get("/v1/events?wait=1")["events"] == []
    assert time.monotonic() - begun >= 1


def test_two_hundred_who_wait_hold_no_thread(server: Running) -> None:
    """The portal has two threads for quick requests; 200 wait, and 16 of one account at most."""
    people = [Speaker(server, f"crowd{number}") for number in range(14)]
    answered: list[float] = []

    def wait(person: Speaker) -> None:
        person.get("/v1/events?wait=20")
        answered.append(time.monotonic())

    threads = [
        threading.Thread(target=wait, args=(person,), daemon=True)
        for person in people
        for _ in range(15)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(answered) == 0 and time.monotonic() < deadline - 8:
        time.sleep(0.1)
    assert not answered
    begun = time.monotonic()
    for _ in range(20):
        assert people[0].call("GET", "/v1/apps")[0] == 200
    assert time.monotonic() - begun < 5
    for person in people:
        person.crash()
    for thread in threads:
        thread.join(15)
    assert len(answered) == len(threads)


def test_too_many_of_one_account_are_answered_at_once(server: Running) -> None:
    alice = Speaker(server, "many")
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(alice.get, "/v1/events?wait=12") for _ in range(20)]
        deadline = time.monotonic() + 5
        while sum(each.done() for each in waiting) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        assert sum(each.done() for each in waiting) == 4


def test_waiting_for_a_version(client: Client, server: Running) -> None:
    """From `checking` to `ready`, and from `ready` to `in_review` with the entity tag."""
    alice, key = Speaker(server, "version"), client.register().key
    alice.post("/v1/signing-keys", {"name": "laptop", "public_key": key.public_base64})
    alice.post("/v1/apps", {"package_id": "com.acme.wait", "name": "Wait"})
    from tests.package_builder import build_package

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(
        "POST",
        "/v1/apps/com.acme.wait/versions",
        build_package("com.acme.wait", "1.0.0", 1, key=key),
        {"Authorization": "Bearer " + alice.token},
    )
    assert connection.getresponse().status == 201
    connection.close()
    at, state = "/v1/apps/com.acme.wait/versions/1.0.0", "checking"
    for _ in range(5):
        _, headers, answer = alice.call("GET", at + "?wait=20" if state == "checking" else at)
        state = answer["state"]
        if state != "checking":
            break
    assert state == "ready"
    tag = alice.call("GET", at)[1]["etag"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(alice.call, "GET", at + "?wait=20", **{"If-None-Match": tag})
        time.sleep(0.5)
        assert not waiting.done()
        alice.post(at + "/submit")
        status, _, answer = waiting.result(10)
    assert (status, answer["state"]) == (200, "in_review")
    status, headers, _ = alice.call(
        "GET", at + "?wait=1", **{"If-None-Match": alice.call("GET", at)[1]["etag"]}
    )
    assert status == 304
    assert headers["etag"]


def test_a_stop_answers_those_who_wait(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        alice = Speaker(server)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(alice.call, "GET", "/v1/events?wait=20")
            time.sleep(0.5)
            begun = time.monotonic()
            assert server.stop() == 0
            assert waiting.result(10)[0] == 200
            assert time.monotonic() - begun < 6
