"""Events over WebSockets, from a real listener."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mosis import events
from mosis.context import Context
from mosis.errors import LimitReached
from mosis.notifications.websocket import OF_ONE, Listener
from mosis.rate_limits import POLICIES
from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.server import wait_until


@pytest.fixture
def live(env: Context) -> Iterator[Listener]:
    listener = Listener(env, "127.0.0.1:0", heartbeat_seconds=0.3)
    listener.start()
    yield listener
    listener.stop()


def join(live: Listener, credential: str, query: str = "", **more: Any) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{live.port}/v1/events{query}",
        additional_headers={"Authorization": f"Bearer {credential}"},
        compression=None,
        open_timeout=60,
        **more,
    )


def happen(
    client: Client, account: Account, package_id: str | None = "com.acme.notes", **data: Any
) -> str:
    db = client.env.db.connection()
    with db.write():
        return events.add(
            db, account.id, "version.published", package_id=package_id, version="1.0.0", **data
        )


def test_events_come_as_they_happen(client: Client, live: Listener) -> None:
    alice, bob = client.register(), client.register("bob")
    happen(client, alice)
    with join(live, alice.token) as connection:
        happen(client, bob)
        ids = [happen(client, alice) for _ in range(3)]
        got = [json.loads(connection.recv(60)) for _ in ids]
    assert [each["id"] for each in got] == ids
    assert got[0] == client.get("/v1/events", as_=alice)["events"][1]


def test_a_connection_resumes_behind_an_event(client: Client, live: Listener) -> None:
    alice = client.register()
    ids = [happen(client, alice) for _ in range(120)]
    with join(live, alice.token, f"?after={ids[0]}") as connection:
        assert [json.loads(connection.recv(60))["id"] for _ in ids[1:]] == ids[1:]


@pytest.mark.parametrize(("credential", "path", "status"), [
    ("", "/v1/events", 401), ("nonsense", "/v1/events", 401), (None, "/v1/nothing", 404), (None, "/v1/events?after=x", 400),
])  # fmt: skip
def test_a_handshake_is_refused_as_any_request(
    client: Client, live: Listener, credential: str | None, path: str, status: int
) -> None:
    token = client.register().token if credential is None else credential
    with pytest.raises(InvalidStatus) as refused:
        connect(
            f"ws://127.0.0.1:{live.port}{path}",
            additional_headers={"Authorization": f"Bearer {token}"},
        )
    answer = refused.value.response
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body or b"")["status"] == status


def test_a_key_needs_the_scope_and_sees_its_apps(client: Client, live: Listener) -> None:
    alice = client.register()
    todo = client.app_of(alice, "com.acme.todo")
    none = client.post("/v1/keys", {"name": "none", "scopes": ["keys:manage"]}, as_=alice)["key"]
    with pytest.raises(InvalidStatus), join(live, none):
        pass
    one = client.post(
        "/v1/keys", {"name": "one", "scopes": ["apps:read"], "apps": [todo]}, as_=alice
    )["key"]
    with join(live, one) as connection:
        for package_id in ("com.acme.notes", None, todo):
            happen(client, alice, package_id)
        assert json.loads(connection.recv(60))["app"] == {"package_id": todo}


def test_a_session_that_ends_ends_its_connection(client: Client, live: Listener) -> None:
    alice = client.register()
    with join(live, alice.token) as connection:
        client.post("/v1/auth/logout", as_=alice).expect(204)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(60)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "invalid_token")


def test_it_ends_also_while_events_go_on(client: Client, live: Listener) -> None:
    alice = client.register()
    with join(live, alice.token) as connection:
        client.post("/v1/auth/logout", as_=alice).expect(204)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                happen(client, alice)
                connection.recv(60)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "invalid_token")


def test_a_handshake_has_a_request_id(client: Client, live: Listener) -> None:
    alice, named = client.register(), {"X-Request-Id": "mine.1"}
    with connect(
        f"ws://127.0.0.1:{live.port}/v1/events",
        additional_headers=named | {"X-API-Key": alice.token},
    ) as connection:
        assert connection.response is not None
        assert connection.response.headers["X-Request-Id"] == "mine.1"
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{live.port}/v1/events", additional_headers=named)
    answer = refused.value.response
    assert (answer.headers["X-Request-Id"], json.loads(answer.body or b"")["request_id"]) == (
        "mine.1",
        "mine.1",
    )


def test_what_is_no_websocket_is_a_problem_too(client: Client, live: Listener) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    plain.request(
        "GET", "/v1/events", headers={"Authorization": "Bearer " + client.register().token}
    )
    answer = plain.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (400, "application/problem+json")
    assert json.loads(answer.read())["code"] == "malformed_request"
    wait_until(lambda: not live.connections, "the connection is gone")


def silent_sockets(live: Listener, opened: contextlib.ExitStack, count: int) -> list[socket.socket]:
    """Clients that connect and send nothing."""
    return [
        opened.enter_context(socket.create_connection(("127.0.0.1", live.port), timeout=60))
        for _ in range(count)
    ]


def test_a_full_listener_closes_the_oldest_handshakes(client: Client, env: Context) -> None:
    alice = client.register()
    live = Listener(env, "127.0.0.1:0", most_sockets=5)
    live.start()
    with contextlib.ExitStack() as opened:
        opened.callback(live.stop)
        silent = silent_sockets(live, opened, 8)
        assert [each.recv(1) for each in silent[:3]] == [b""] * 3
        connection = opened.enter_context(join(live, alice.token))
        assert silent[3].recv(1) == b""
        silent_sockets(live, opened, 8)
        happen(client, alice)
        assert connection.recv(60)  # an accepted connection is not closed for a handshake


class TestShare:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"CONNECTIONS_PER_ADDRESS": "3"}

    def test_an_address_has_a_share_of_the_sockets(self, client: Client, live: Listener) -> None:
        alice = client.register()
        with contextlib.ExitStack() as opened:
            first, *_ = silent_sockets(live, opened, 3)
            (late,) = silent_sockets(live, opened, 1)
            assert late.recv(1) == b""
            first.close()

            def joined() -> ClientConnection | None:
                with contextlib.suppress(OSError, EOFError, InvalidMessage, ConnectionClosed):
                    return opened.enter_context(join(live, alice.token))
                return None

            wait_until(joined, "there is room again")


class TestLimits:
    """With the limits on."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"RATE_LIMITS": "on", "TRUSTED_PROXY": "127.0.0.1"}

    def test_rubbish_counts_for_the_address_that_it_comes_from(
        self, client: Client, env: Context, live: Listener
    ) -> None:
        alice = client.register()
        for _ in range(POLICIES["address"].quota):
            env.limits.take("address", "203.0.113.9")
        for address, status in (("203.0.113.9", 429), ("203.0.113.8", 401)):
            with pytest.raises(InvalidStatus) as refused:
                connect(
                    f"ws://127.0.0.1:{live.port}/v1/events",
                    additional_headers={"X-API-Key": "rubbish", "X-Forwarded-For": address},
                )
            assert refused.value.response.status_code == status
        with join(live, alice.token):
            pass

    def test_a_replay_counts_by_event_for_its_account(
        self, client: Client, env: Context, live: Listener
    ) -> None:
        alice, bob = client.register(), client.register("bob")
        quota = POLICIES["replay"].quota
        ids = [happen(client, alice) for _ in range(120)]
        with join(live, alice.token, f"?after={ids[0]}") as connection:
            assert [json.loads(connection.recv(60))["id"] for _ in ids[1:]] == ids[1:]
        with pytest.raises(LimitReached):
            env.limits.take("replay", alice.id, quota - 100)
        env.limits.take("replay", bob.id, quota)

    def test_who_has_replayed_too_much_gets_the_rest_later(
        self, client: Client, env: Context, live: Listener, clock: FakeClock
    ) -> None:
        alice = client.register()
        ids = [happen(client, alice) for _ in range(60)]
        env.limits.take("replay", alice.id, POLICIES["replay"].quota - 20)
        with join(live, alice.token, f"?after={ids[0]}") as connection:
            with pytest.raises(TimeoutError):
                connection.recv(0.2)
            clock.advance(60)
            assert [json.loads(connection.recv(60))["id"] for _ in ids[1:]] == ids[1:]

    def test_new_events_are_no_replay(self, client: Client, env: Context, live: Listener) -> None:
        alice = client.register()
        with join(live, alice.token) as connection:
            happen(client, alice)
            assert connection.recv(60)
        env.limits.take("replay", alice.id, POLICIES["replay"].quota)  # all of it is left


def test_an_account_has_a_bounded_number(client: Client, live: Listener) -> None:
    alice = client.register()
    with contextlib.ExitStack() as opened:
        for _ in range(OF_ONE):
            opened.enter_context(join(live, alice.token))
        with pytest.raises(InvalidStatus) as refused:
            opened.enter_context(join(live, alice.token))
        assert refused.value.response.status_code == 429
    wait_until(lambda: not live.connections, "all are closed")
    with join(live, alice.token) as connection:
        happen(client, alice)
        assert connection.recv(60)


def test_a_reader_that_does_not_read_is_cut_off_and_others_are_not(
    client: Client, live: Listener
) -> None:
    alice = client.register()
    live.slow_seconds = 2
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", live.port))
        slow.sendall(
            (
                f"GET /v1/events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {alice.token}\r\n\r\n"
            ).encode()
        )
        wait_until(lambda: live.connections, "the slow one is accepted")
        with join(live, alice.token) as good:
            for number in range(100):
                happen(client, alice, filling="x" * 60_000, number=number)
                assert json.loads(good.recv(60))["data"]["number"] == number
        wait_until(lambda: not live.connections, "the slow one is cut off")


def test_a_stop_says_going_away(client: Client, env: Context, live: Listener) -> None:
    with join(live, client.register().token) as connection:
        live.stop()
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


@pytest.mark.parametrize(
    ("target", "fields", "status"),
    [
        ("//[", "", 404),
        ("/v1/events[", "", 404),
        ("/v1/events?after=a&after=b", "", 400),
        ("/v1/events?after=%FF", "", 400),
        ("/v1/events?%00=&;&=", "", 101),
        ("/v1/events", "X-Request-Id: a\r\nX-Request-Id: b\r\n", 101),
        ("/v1/events", "Authorization: Bearer x\r\n", 401),
        ("/v1/events", "X-API-Key: a\r\nX-API-Key: b\r\n", 401),
        ("/v1/events", "X-Forwarded-For: \xff\r\nX-Forwarded-For: ,\r\n", 101),
        ("/v1/events", "X-Request-Id: \xff\r\n", 101),
        ("/v1/events", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", 400),
    ],
)
def test_a_handshake_of_any_form_has_an_answer(
    client: Client,
    live: Listener,
    target: str,
    fields: str,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Repeated headers, and targets that are no address."""
    head = (
        f"GET {target} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Authorization: Bearer {client.register().token}\r\n{fields}\r\n"
    )
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as connection:
        connection.sendall(head.encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, bool(answer.getheader("X-Request-Id"))) == (status, True)
        if status >= 400:
            assert json.loads(answer.read())["status"] == status
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_what_a_client_sends_is_ignored_and_holds_nothing_back(
    client: Client, live: Listener
) -> None:
    alice = client.register()
    with join(live, alice.token) as connection:
        for number in range(8):
            connection.send(f"hello {number}")
            connection.send(bytes([number]))
            assert connection.ping().wait(60), "a pong comes after messages that nobody wants"
        known = happen(client, alice)
        assert json.loads(connection.recv(60))["id"] == known
    wait_until(lambda: not live.connections, "the connection is gone")
