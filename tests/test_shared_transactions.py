"""Quick writes share a transaction: each request has the result that it would have had alone, and
none is answered before the commit."""

import contextlib
import errno
import http.client
import itertools
import json
import os
import random
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis.commands.process import make_server
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Conflict, Denied, PortalError, Unavailable
from mosis.server.lanes import GROUP_BODY_BYTES
from tests.campaign import short_and_full
from tests.client import PASSWORD, Account, Client
from tests.server import in_thread, running, wait_until

Request = tuple[str, str, Any, dict[str, str]]
Answer = tuple[int, dict[str, Any], http.client.HTTPMessage]
Block = tuple[str, Any, bool]  # a kind, its number or the blocks inside, whether it succeeds


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LISTEN_ADDR": "127.0.0.1:0", "ACCOUNT_APPS": "1000"}


# The transaction


@pytest.fixture
def db(env: Context) -> Connection:
    db = env.db.connection()
    with db.write():
        db.change("CREATE TABLE t (n INTEGER NOT NULL) STRICT")
    return db


def blocks(chance: random.Random, depth: int = 0) -> list[Block]:
    """What a request does: transactions, some of them joined, each of which may fail."""
    found: list[Block] = []
    for _ in range(chance.randint(0, 3)):
        inner = blocks(chance, 1) if not depth and chance.random() < 0.4 else chance.randrange(1000)
        kind = "held" if isinstance(inner, list) else "write"
        found.append((kind, inner, chance.random() < 0.7))
    return found


def do(db: Connection, parts: list[Block], followed: list[int]) -> None:
    """Do this on the database; the first failure ends it."""
    for kind, inner, succeeds in parts:
        with db.held() if kind == "held" else db.write():
            if kind == "held":
                do(db, inner, followed)
            else:
                db.insert("t", n=inner)
                db.after_commit(lambda number=inner: followed.append(number))
                assert db.has("SELECT 1 FROM t WHERE n = ?", inner)
            if not succeeds:
                raise Conflict("invalid_state", "no")


def tried(db: Connection, parts: list[Block], followed: list[int]) -> str:
    try:
        do(db, parts, followed)
    except PortalError as error:
        return error.code
    return "done"


@pytest.mark.parametrize("seed", range(60))
def test_each_request_of_a_group_ends_as_it_would_alone(db: Connection, seed: int) -> None:
    chance = random.Random(seed)
    requests = [blocks(chance) for _ in range(chance.randint(1, 6))]
    alone, together = [], []
    followed: tuple[list[int], list[int]] = ([], [])
    for parts in requests:
        alone.append(tried(db, parts, followed[0]))
    rows = db.all("SELECT n FROM t ORDER BY rowid")
    with db.write():
        db.change("DELETE FROM t")
    with db.held():
        for parts in requests:
            together.append(tried(db, parts, followed[1]))
        assert followed[1] == []
    assert (together, followed[1]) == (alone, followed[0])
    assert db.all("SELECT n FROM t ORDER BY rowid") == rows
    assert not db.writing
    assert db.database.writers.acquire(blocking=False)
    db.database.writers.release()


def test_the_credential_is_checked_again_where_the_lock_was_not_held_before(db: Connection) -> None:
    checked: list[str] = []

    def refuse(db: Connection) -> None:
        checked.append("refused")
        raise Denied("invalid_token", "It has ended.")

    with db.held():
        with pytest.raises(Denied), db.guarded(refuse), db.write():
            db.insert("t", n=1)
        with db.guarded(lambda db: checked.append("first")), db.write():
            db.insert("t", n=2)
        with db.guarded(lambda db: checked.append("never")), db.write():
            db.insert("t", n=3)  # the lock is held since before its credential was read
    assert checked == ["refused", "first"]
    assert db.all("SELECT n FROM t") == [(2,), (3,)]


def test_a_disk_that_is_full_fails_the_whole_group(env: Context, db: Connection) -> None:
    env.db.writer().execute(f"PRAGMA max_page_count = {db.value('PRAGMA page_count')}")
    codes: list[str] = []

    def write(count: int) -> None:
        with db.write():
            for number in range(count):
                db.insert("t", n=number)

    with pytest.raises(Unavailable) as failure, db.held():
        for count in (1, 100_000, 1):
            try:
                write(count)
            except Unavailable as error:
                codes.append(error.code)
    assert (codes, failure.value.code) == (["no_space", "no_space"], "no_space")
    assert db.value("SELECT count(*) FROM t") == 0
    env.db.writer().execute("PRAGMA max_page_count = 1000000")
    write(1)
    assert db.value("SELECT count(*) FROM t") == 1


def test_the_lock_is_waited_for_once_in_a_group(
    env: Context, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosis.database.connection.BUSY_SECONDS", 0.05)
    begun: list[str] = []
    env.db.fence = lambda: begun.append("once")
    assert env.db.writers.acquire()
    with db.held():
        for _ in range(5):
            with pytest.raises(Unavailable, match="busy"), db.write():
                pass
    env.db.writers.release()
    assert begun == ["once"]
    with db.write():
        db.insert("t", n=1)


# The server


def sent(port: int, request: Request) -> Answer:
    """The answer to a request on a connection of its own."""
    method, path, body, headers = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        content = body if isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else {}, answer.headers
    finally:
        connection.close()


class Group:
    """Sends requests to a portal; those that are sent while `together` is entered wait for each other."""

    def __init__(self, env: Context, server: Any) -> None:
        self.env, self.server = env, server
        self.pool = ThreadPoolExecutor(40)

    def send(self, request: Request) -> Answer:
        return sent(self.server.port, request)

    def arrived(self, number: int, lane: str = "writes") -> None:
        """Wait until so many requests are in the lane."""
        state = self.server.lanes[lane]
        wait_until(lambda: sum(state.state[1:]) == number, f"{number} are in the lane")

    def started(self, requests: list[Request], lane: str = "writes") -> "list[Future[Answer]]":
        """Send them, in this order; the first one waits for the write lock, the others for it."""
        self.arrived(0, lane)  # a request leaves the lane after its response was sent
        sent = []
        for number, request in enumerate(requests, 1):
            sent.append(self.pool.submit(self.send, request))
            self.arrived(number, lane)
        return sent

    def together(self, requests: list[Request], meanwhile: Callable[[], Any] = int) -> list[Answer]:
        """The answers to requests of one group. `meanwhile` is called when all of them wait."""
        with self.env.db.connection().write():
            sent = self.started(requests)
            meanwhile()
        return [each.result(60) for each in sent]


@pytest.fixture
def group(env: Context, monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    monkeypatch.setattr("mosis.server.lanes.GROUP_SECONDS", 60)
    with in_thread(make_server(env, portal.build(env))) as server:  # no job commits beside it
        yield Group(env, server)


def create(alice: Account, name: str, **headers: str) -> Request:
    body = {"package_id": f"com.acme.{name}", "name": name}
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return "POST", "/v1/apps", body, {"Authorization": f"Bearer {alice.token}"} | named


def mix(chance: random.Random, alice: Account, bob: Account, prefix: str) -> list[Request]:
    """Requests of every kind, some of which fail. The first one writes: it waits for the lock."""
    found = [create(alice, f"{prefix}first")]
    for _ in range(12):
        who, name = chance.choice([alice, alice, bob]), f"{prefix}{chance.randrange(4)}"
        method, path, body, headers = create(who, name)
        kind = chance.randrange(8)
        if kind == 0:
            headers = {"Authorization": "Bearer nonsense"}
        elif kind == 1:
            body = chance.choice([{}, b"{", {"package_id": 7, "name": ""}])
        elif kind == 2:
            key = f"{prefix}{chance.randrange(2)}"
            headers |= {"Idempotency-Key": key}
        elif kind in (3, 4):
            path, method = f"/v1/apps/com.acme.{name}", chance.choice(["DELETE", "PATCH"])
            body = {"summary": "x" * chance.choice([3, 300])} if method == "PATCH" else b""
            if chance.random() < 0.3:
                headers |= {"If-Match": '"another"'}
        found.append((method, path, body, headers))
    return found


def essence(answers: list[Answer], prefix: str) -> list[Any]:
    """What two runs have in common."""
    fields = ("code", "package_id", "summary", "status")
    return [
        (
            status,
            {name: str(body[name]).replace(prefix, "") for name in fields if name in body},
            headers.get("Idempotency-Replayed"),
        )
        for status, body, headers in answers
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_mix_has_the_answers_that_it_would_have_one_by_one(
    client: Client, group: Group, seed: int
) -> None:
    alice, bob = client.register(), client.register("bob")
    one_by_one = [group.send(each) for each in mix(random.Random(seed), alice, bob, "one")]
    commits = group.env.db.commits
    together = group.together(mix(random.Random(seed), alice, bob, "all"))
    assert essence(together, "all") == essence(one_by_one, "one")
    assert group.env.db.commits - commits <= 2  # of the test, which held the lock, and of the group
    apps = client.get("/v1/apps?limit=100", as_=alice)["apps"]
    names = sorted(app["package_id"] for app in apps)
    assert [each.replace("one", "all") for each in names if "one" in each] == [
        each for each in names if "all" in each
    ]


def test_a_name_and_a_key_that_two_of_a_group_have(client: Client, group: Group) -> None:
    alice = client.register()
    asked = [
        create(alice, "a"),
        create(alice, "a"),
        create(alice, "b", Idempotency_Key="k"),
        create(alice, "b", Idempotency_Key="k"),
        create(alice, "c", Idempotency_Key="k"),
    ]
    answers = group.together(asked)
    assert [each[0] for each in answers] == [201, 409, 201, 201, 422]
    assert answers[1][1]["code"] == "package_id_taken"
    assert answers[3][1] == answers[2][1]
    assert answers[3][2]["Idempotency-Replayed"] == "true"
    assert client.get("/v1/apps", as_=alice)["total"] == 2


@pytest.mark.parametrize(("call", "stored"), [(2, 0), (3, 2)])
def test_a_commit_that_fails_is_the_answer_to_all(
    client: Client, group: Group, call: int, stored: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The second time that the fence is asked is before COMMIT, the third after the flush."""
    alice, calls = client.register(), []

    def fence() -> None:
        calls.append(1)
        if len(calls) == call:
            raise Unavailable("lease_lost", "Another portal writes.")

    env, held = group.env, group.env.db.writers
    caplog.set_level("INFO", "mosis")
    caplog.clear()
    answers = group.together([create(alice, name) for name in ("a", "a", "b")])
    assert [each[0] for each in answers] == [201, 409, 201]
    assert [each.message for each in caplog.records].count("request") == 3
    caplog.clear()
    assert held.acquire()
    sent = group.started([create(alice, name) for name in ("c", "c", "d")])
    env.db.fence = fence
    calls.append(1)  # by the first, which waits for the lock
    held.release()
    answers = [each.result(60) for each in sent]
    assert [(each[0], each[1]["code"]) for each in answers] == [(503, "lease_lost")] * 3
    messages = [each.message for each in caplog.records]
    assert (messages.count("request"), messages.count("refused")) == (0, 3)
    assert messages.count("commit failed") == 1
    env.db.fence = int  # type: ignore[assignment]
    assert client.get("/v1/apps", as_=alice)["total"] == 2 + stored
    assert group.send(create(alice, "e"))[0] == 201


def test_a_flush_that_fails_is_the_answer_to_all(
    client: Client, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = client.register()

    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    held = group.env.db.writers
    assert held.acquire()
    sent = group.started([create(alice, name) for name in ("a", "b", "b")])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        held.release()
        answers = [each.result(60) for each in sent]
    assert [(each[0], each[1]["code"]) for each in answers] == [(503, "database_unavailable")] * 3
    assert group.send(create(alice, "c"))[0] == 201


def test_a_full_disk_is_507_for_all_and_heals(client: Client, group: Group) -> None:
    alice, writer = client.register(), group.env.db.writer()
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    asked = [create(alice, f"n{number}") for number in range(30)]
    for each in asked:
        each[2]["description"] = "long " * 1500
    limit = lambda: writer.execute(f"PRAGMA max_page_count = {pages}")  # noqa: E731
    answers = group.together(asked, limit)
    refused = [each for each in answers if each[0] != 201]
    assert {(each[0], each[1]["code"]) for each in refused} == {(507, "no_space")}
    writer.execute("PRAGMA max_page_count = 1000000")
    assert client.get("/v1/apps", as_=alice)["total"] == len(answers) - len(refused)
    assert group.send(create(alice, "later"))[0] == 201


def test_a_client_that_goes_away_harms_nobody(client: Client, group: Group) -> None:
    alice = client.register()
    first, *others = (create(alice, name) for name in ("a", "b", "c"))
    gone = http.client.HTTPConnection("127.0.0.1", group.server.port, timeout=60)

    def leave() -> None:
        gone.request(
            "POST", "/v1/apps", json.dumps(create(alice, "gone")[2]),
            {"Content-Type": "application/json"} | first[3],
        )  # fmt: skip
        group.arrived(4)
        gone.close()

    assert [each[0] for each in group.together([first, *others], leave)] == [201] * 3
    assert group.send(create(alice, "d"))[0] == 201


def test_a_session_that_ends_while_the_group_waits(client: Client, group: Group) -> None:
    alice, bob = client.register(), client.register("bob")
    db = group.env.db.connection()
    asked = [create(alice, "a"), create(alice, "b"), create(bob, "c")]

    def end() -> None:
        db.change("UPDATE sessions SET ended_at = ? WHERE developer_id = ?", db.now, alice.id)

    answers = group.together(asked, end)
    assert [each[0] for each in answers] == [401, 401, 201]


def test_a_server_that_stops_answers_all_that_wait(client: Client, env: Context) -> None:
    alice = client.register()
    with in_thread(make_server(env, portal.build(env))) as server:
        group = Group(env, server)
        answers = group.together(
            [create(alice, f"n{number}") for number in range(30)], lambda: server.stop(30)
        )
    assert [each[0] for each in answers] == [201] * 30
    assert client.get("/v1/apps?limit=1", as_=alice)["total"] == 30


def test_a_long_body_does_not_run_under_the_lock_of_others(client: Client, group: Group) -> None:
    alice = client.register()
    long = create(alice, "a")
    long[2]["description"] = "é" * 9000
    assert len(json.dumps(long[2])) > GROUP_BODY_BYTES
    with group.env.db.connection().write():
        sent = group.pool.submit(group.send, long)
        group.arrived(1, "quick")
        assert group.server.lanes["writes"].state == (1, 0, 0)
    assert sent.result(60)[0] == 201


def batch(number: int, count: int = 1) -> dict[str, Any]:
    event = {"type": "app_start", "timestamp": "2027-01-15T08:00:00Z"}
    return {
        "device_id": "a" * 64, "session_id": "s", "batch_id": str(number), "app_id": "com.acme.a",
        "app_version": "1.0.0", "mosis_version": "1.0.0", "events": [event] * count,
    }  # fmt: skip


def test_batches_of_telemetry_that_share_a_transaction(client: Client, group: Group) -> None:
    """One is sent twice, one does not fit, one is for no app; then a commit fails."""
    alice, telemetry = client.register(), group.env.telemetry
    group.send(create(alice, "a"))

    def batches(
        documents: list[dict[str, Any]], meanwhile: Callable[[], Any] = int
    ) -> list[Answer]:
        headers = {"Authorization": f"Bearer {alice.token}"}
        requests = [("POST", "/v1/telemetry/events", each, headers) for each in documents]
        with telemetry.writers:
            futures = group.started(requests, "intake")
            meanwhile()
        return [each.result(60) for each in futures]

    unknown = batch(4) | {"app_id": "com.acme.unknown"}
    wrong = batch(5) | {"device_id": "x"}
    commits = telemetry.commits
    answers = batches([batch(1, 2), batch(2, 3), batch(1, 2), unknown, wrong, batch(3)])
    assert telemetry.commits - commits == 1
    assert [each[0] for each in answers] == [202, 202, 202, 202, 422, 202]
    assert [each[1].get("accepted") for each in answers] == [2, 3, 0, 0, None, 1]
    assert answers[2][1]["duplicate"]
    received = "SELECT sum(events), sum(duplicates) FROM intake"
    assert telemetry.connection().one(received) == (6, 1)

    def fail() -> None:
        raise Unavailable("lease_lost", "Another portal writes.")

    answers = batches([batch(6), batch(7)], lambda: setattr(telemetry, "fence", fail))
    telemetry.fence = int  # type: ignore[assignment]
    assert [(each[0], each[1]["code"]) for each in answers] == [(503, "lease_lost")] * 2
    assert telemetry.connection().one(received) == (6, 1)
    assert [each[1]["accepted"] for each in batches([batch(6), batch(7)])] == [1, 1]


# What may be in these lanes

watched: list[str] | None = None  # what happens in the test that is running
watched_thread = 0


def _audited(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (https://docs.python.org/3/library/audit_events.html): it cannot be removed."""
    if watched is None or threading.get_ident() != watched_thread:
        return
    harmless = event in ("builtins.id", "compile", "exec", "import", "sys._getframe")
    if not harmless and not event.startswith("object."):
        watched.append(f"{event} {arguments[:1]}")


def _called(frame: Any, event: str, argument: Any) -> None:
    if event == "c_call" and watched is not None and argument.__name__ in _SLOW:
        watched.append(argument.__name__)


_SLOW = (
    "sleep",
    "derive",
    "derive_phc_encoded",
    "verify_phc_encoded",
    "scrypt",
    "pbkdf2_hmac",
    "wait",
)


def test_what_shares_a_transaction_uses_nothing_but_the_database(
    client: Client, env: Context
) -> None:
    """No file, no socket, no child process, no password hash, nothing that waits."""
    global watched, watched_thread
    alice = client.register()
    calls = {
        "POST /apps": create(alice, "a")[2],
        "PATCH /apps/<app>": {"summary": "New"},
        "POST /telemetry/events": batch(1),
        "DELETE /apps/<app>": None,
    }
    lanes = ("writes", "intake")
    declared = {
        f"{each.method} {each.rule}"
        for each in portal.build(None).routes  # type: ignore[arg-type]
        if each.config.get("lane") in lanes
    }
    assert declared == set(calls)

    def run() -> None:
        for call, body in calls.items():
            method, path = call.replace("<app>", "com.acme.a").split(" ")
            answer = client.call(method, "/v1" + path, body, as_=alice)
            assert 200 <= answer.status < 300, (call, answer.body)

    run()  # what is imported and opened once in a process
    sys.addaudithook(_audited)
    sys.setprofile(_called)
    watched, watched_thread = [], threading.get_ident()
    try:
        run()
    finally:
        seen, watched = watched, None
        sys.setprofile(None)
    wal = [
        f"open ('{each}-wal',)" for each in (env.config.database_path, env.config.telemetry_path)
    ]
    assert [each for each in seen if each not in wal] == []
    assert set(wal) <= set(seen)  # the flushes: the hook works


@pytest.mark.slow
@pytest.mark.parametrize("cycles", short_and_full(2, 50))
def test_killed_while_groups_are_committed_nothing_acknowledged_is_lost(
    tmp_path: Path, cycles: int
) -> None:
    """Twelve clients create apps and send telemetry until the process is killed."""
    apps: set[str] = set()
    events = 0
    with running(tmp_path, {"ACCOUNT_APPS": "100000"}) as server:
        registered = {"email": "a@example.net", "password": PASSWORD, "name": "A"}
        token = posted(server.port, "/v1/auth/register", registered)[1]["access_token"]
        posted(server.port, "/v1/apps", {"package_id": "com.acme.a", "name": "A"}, token)
        for cycle in range(cycles):
            answered: list[tuple[str, int]] = []
            clients = [
                threading.Thread(target=until_killed, args=(server.port, token, name, answered))
                for name in (f"c{cycle}n{number}" for number in range(12))
            ]
            for client in clients:
                client.start()
            wait_until(lambda found=answered: len(found) >= 60, "sixty have been answered")
            server.kill()
            for client in clients:
                client.join(60)
            apps |= {name for name, count in answered if not count}
            events += sum(count for _, count in answered)
            server.start()
    with sqlite3.connect(tmp_path / "data/portal.db") as db:
        assert apps <= {name for (name,) in db.execute("SELECT name FROM apps")}
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with sqlite3.connect(tmp_path / "data/telemetry.db") as db:
        assert db.execute("SELECT sum(events) FROM intake").fetchone()[0] >= events
    assert apps
    assert events


def posted(port: int, path: str, body: Any, token: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = sent(port, ("POST", path, body, headers))
    return answer[0], answer[1]


def until_killed(port: int, token: str, name: str, answered: list[tuple[str, int]]) -> None:
    """Create apps and send batches in turn, and list those that were acknowledged: a name, and the
    number of events."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        for number in itertools.count():
            app = {"package_id": f"com.acme.{name}x{number}", "name": f"{name}x{number}"}
            assert posted(port, "/v1/apps", app, token)[0] == 201
            answered.append((app["name"], 0))
            events = batch(number, 3) | {"batch_id": app["name"]}
            assert posted(port, "/v1/telemetry/events", events, token)[1]["accepted"] == 3
            answered.append((app["name"], 3))
