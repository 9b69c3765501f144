"""Whose turn it is in the server's loop, and which connection is closed for another."""

import logging
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from mosis.server import Server
from mosis.server.connections import IDLE, LOOKED_AT, MOVING, SLOW, Connections, Turns
from tests.server import in_thread, wait_until
from tests.test_serving import Wire


@dataclass(eq=False)
class Open:
    """What the two collections know of a connection."""

    client: str
    served_at: float = 0.0
    kind: int = IDLE
    is_working: bool = False

    @property
    def is_idle(self) -> bool:
        return self.kind == IDLE

    def is_slow(self, now: float) -> bool:
        return self.kind == SLOW


def test_the_queue_of_one_client_delays_another_by_one_event() -> None:
    turns: Any = Turns()
    many, few = [Open("many") for _ in range(300)], [Open("few"), Open("few")]
    for channel in (*many, *few):
        turns.put(channel)
    taken = [turns.take() for _ in range(302)]
    assert [channel.client for channel in taken[:5]] == ["many", "few", "many", "few", "many"]
    for opened in (many, few):
        own = [each for each in taken if each.client == opened[0].client]
        assert all(one is other for one, other in zip(own, opened, strict=True))
    assert not turns
    with pytest.raises(KeyError):
        turns.take()


def best(opened: list[Open], most: int, now: float, grace: float, client: str | None) -> set[Open]:
    """Those that may be closed, found by comparing all."""
    numbers = Counter(each.client for each in opened)
    fit = [
        each
        for each in opened
        if not each.is_working
        and each.kind <= most
        and each.served_at <= now - grace
        and client in (None, each.client)
    ]
    order = {each: (-numbers[each.client], each.kind, each.served_at) for each in fit}
    return {each for each in fit if order[each] == min(order.values())}


def test_the_connection_that_is_closed_is_the_one_that_comparing_all_would_find() -> None:
    chance, found = random.Random(5), 0
    for _ in range(300):
        connections: Any = Connections()
        opened: list[Open] = []
        for _ in range(chance.randrange(1, LOOKED_AT)):
            each = Open(
                f"c{chance.randrange(1, 40)}",
                chance.randrange(90, 101),
                chance.choice((IDLE, SLOW, MOVING)),
                chance.random() < 0.3,
            )
            opened.append(each)
            connections.add(each)
            if chance.random() < 0.3:
                gone = opened.pop(chance.randrange(len(opened)))
                connections.remove(gone)
        client = chance.choice((None, "c1", "c2"))
        most, grace = chance.choice((IDLE, SLOW, MOVING)), chance.choice((0.0, 3.0))
        chosen = connections.to_close(most, 100.0, grace, client)
        expected = best(opened, most, 100.0, grace, client)
        assert (chosen in expected) if expected else chosen is None
        assert connections.number_of("c1") == sum(each.client == "c1" for each in opened)
        assert len(connections) == len(opened)
        found += chosen is not None
    assert found > 150


def test_of_thousands_of_clients_some_are_compared_and_others_the_next_time() -> None:
    connections: Any = Connections()
    looked_at: set[str] = set()

    @dataclass(eq=False)
    class Seen(Open):
        def is_slow(self, now: float) -> bool:
            looked_at.add(self.client)
            return super().is_slow(now)

    for number in range(3 * LOOKED_AT):
        connections.add(Seen(f"c{number}", kind=MOVING))
    for times in (1, 2, 3):
        assert connections.to_close(SLOW, 1.0, 0.0) is None
        assert len(looked_at) == times * LOOKED_AT


def test_time_limits_are_looked_at_in_rotation_whatever_is_closed_meanwhile() -> None:
    connections: Any = Connections()
    opened = [Open("a") for _ in range(10)]
    for each in opened:
        connections.add(each)
    assert list(connections.next_ones(4)) == opened[:4]
    assert list(connections.next_ones(4)) == opened[4:8]
    seen = []
    for each in connections.next_ones(10):
        seen.append(each)
        connections.remove(each)
    assert seen == opened[8:] + opened[:8]
    assert list(connections.next_ones(5)) == []


def running(app: Any, **settings: Any) -> AbstractContextManager[Server]:
    return in_thread(Server(app, "127.0.0.1:0", **settings))


def test_exactly_half_of_the_connections_may_be_suspended_and_each_place_is_given_back() -> None:
    resumes: list[Callable[[], None]] = []
    refused = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        def arm(resume: Callable[[], None]) -> Callable[[], None]:
            resumes.append(resume)
            return lambda: None

        if environ["mosis.memory"].setdefault("runs", 0) == 0:
            environ["mosis.memory"]["runs"] = 1
            environ["mosis.park"](20, arm)
            refused.append(1)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with running(app, connection_limit=8, threads=8) as server:
        for _ in range(3):
            resumes.clear()
            refused.clear()
            wires = [Wire(server).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(7)]
            wait_until(lambda: len(resumes) + len(refused) == 7)
            assert (len(resumes), len(refused)) == (4, 3)
            for resume in resumes * 2:  # a second time does nothing
                resume()
            assert [wire.answer()[0] for wire in wires] == [200] * 7
            for wire in wires:
                wire.close()
        gone = Wire(server).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: len(resumes) == 5)
        gone.close()
        resumes[-1]()
        wait_until(lambda: server.take_suspension())
        server.end_suspension()


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + bytes(100_000)


@pytest.mark.parametrize("sends", [b"", GET[:9], GET, GET * 50, BODY])
def test_connections_that_are_reset_leave_nothing(
    caplog: pytest.LogCaptureFixture, sends: bytes
) -> None:
    """Hundreds at once, from many addresses, more than the server has places; then one after the other."""
    caplog.set_level(logging.WARNING)
    large = bytes(300_000)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(large)))])
        return [large]

    def reset(wire: Wire) -> None:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()

    with running(app, connection_limit=100) as server:
        patient = Wire(server)
        for _ in range(2):
            crowd = [Wire(server, source=f"127.0.1.{1 + number % 50}") for number in range(150)]
            for wire in crowd:
                wire.socket.settimeout(0.2)
                with suppress(OSError):  # closed for another meanwhile
                    wire.send(sends)
            for wire in crowd:
                reset(wire)
        for _ in range(100):
            wire = Wire(server, source="127.0.2.1")
            with suppress(OSError):
                wire.send(sends)
            reset(wire)
        wait_until(lambda: len(server.connections) <= 1 and not server._turns)
        wait_until(lambda: not any(lane.state[1] + lane.state[2] for lane in server.lanes.values()))
        connections = server.connections
        assert len(connections._of_client) == sum(map(len, connections._by_number.values())) <= 1
        assert server._unsent == 0
        patient.close()
        answer = Wire(server).send(GET).answer()
        assert (answer[0], answer[2]) == (200, large)
    assert caplog.records == []


@pytest.mark.parametrize("name", ["Connection", "transfer-encoding", "KEEP-ALIVE"])
def test_an_application_must_not_send_headers_of_the_connection(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2"), (name, "x")])
        return [b"ok"]

    with running(app) as server:
        for _ in range(2):  # what is known of the names of headers does not change the answer
            assert Wire(server).send(GET).answer()[0] == 500
    assert f"must not send {name.lower()} (PEP 3333)" in caplog.text


def test_the_names_of_headers_are_in_any_case(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        names = ("CONTENT-LENGTH", "date") if environ["PATH_INFO"] == "/" else ("x", "Date-X")
        start_response("200 OK", [(names[0], "2"), (names[1], "Thu, 01 Jan 1970 00:00:00 GMT")])
        return [b"ok"]

    with running(app) as server:
        for _ in range(2):
            status, headers, body = Wire(server).send(GET).answer()
            assert (status, headers["date"], body) == (200, "Thu, 01 Jan 1970 00:00:00 GMT", b"ok")
            status, headers, body = Wire(server).send(GET.replace(b"/ ", b"/x ", 1)).answer()
            assert (status, headers["content-length"], body) == (200, "2", b"ok")
            assert headers["date"] != "Thu, 01 Jan 1970 00:00:00 GMT"
