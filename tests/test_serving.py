"""The server's bounds, each over a real socket on 127.0.0.1."""

import json
import logging
import os
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPConnection
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mosis.errors import Denied, Unavailable
from mosis.server import Admission, Server, channel, loop
from mosis.server.loop import LOOPBACK_CONNECTIONS
from mosis.server.request import Request

MIB = 1024 * 1024
UPLOAD_LIMIT = 8 * MIB
LARGE = bytes(8 * MIB)  # more than the kernel's buffers take
Start = Callable[..., Server]


def admit(method: str, path: str, headers: Mapping[str, str]) -> Admission:
    if path == "/full":
        raise Unavailable("no_space", "The disk is full.")
    if path == "/broken":
        raise RuntimeError("a mistake of ours")
    if path != "/upload":
        return Admission(MIB, "passwords" if path == "/slow" else "quick")
    if not headers.get("AUTHORIZATION"):
        raise Denied("unauthenticated", "Sign in first.")
    return Admission(UPLOAD_LIMIT, "passwords")


class App:
    """A WSGI application that says what it got; `gate` holds /slow and /wait until it is set."""

    def __init__(self, big: Path) -> None:
        self.big = big
        self.gate = threading.Event()
        self.calls: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        self.calls.append(path)
        if path == "/big":
            start_response("200 OK", [("Content-Length", str(self.big.stat().st_size))])
            return environ["wsgi.file_wrapper"](self.big.open("rb"))
        if path == "/rest":
            file = self.big.open("rb")
            file.read(10)  # what it reads ahead is behind the position
            file.seek(5)
            start_response("200 OK", [("Content-Length", str(self.big.stat().st_size - 10))])
            return environ["wsgi.file_wrapper"](file)
        if path in ("/slow", "/wait"):
            self.gate.wait(60)
        if path == "/limited":
            start_response("429 Too Many Requests", [("Content-Length", "0")])
            return []
        if path in ("/large", "/pieces"):
            start_response("200 OK", [("Content-Length", str(len(LARGE)))])
            return [LARGE] if path == "/large" else [LARGE[:MIB]] * 8
        if path == "/endless":
            start_response("200 OK", [])
            return iter(lambda: bytes(65_536), b"")
        if path == "/crash":
            raise RuntimeError("secret of the application")
        if path == "/split":
            start_response("200 OK", [("X-Name", "a\r\nSet-Cookie: b=c")])
            return [b"x"]
        if path == "/unchanged":
            start_response("304 Not Modified", [("ETag", '"x"')])
            return []
        size = sum(len(block) for block in iter(lambda: environ["wsgi.input"].read(65536), b""))
        seen = {name: value for name, value in environ.items() if isinstance(value, str)}
        body = json.dumps(seen | {"body_bytes": size}).encode()
        start_response(
            "200 OK", [("Content-Length", str(len(body))), ("Content-Type", "application/json")]
        )
        return [body]


@pytest.fixture
def app(tmp_path: Path) -> App:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(20 * MIB)
    return App(big)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def start(app: App, spool: Path) -> Iterator[Start]:
    """Starts servers and stops them when the test is over."""
    started: list[tuple[Server, threading.Thread]] = []

    def begin(**settings: Any) -> Server:
        server = Server(
            app,
            **{"listen": "127.0.0.1:0", "threads": 4, "admit": admit, "temporary_dir": spool}
            | settings,
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        started.append((server, thread))
        return server

    yield begin
    app.gate.set()
    for server, thread in started:
        if thread.is_alive():
            server.stop()
            thread.join(60)
        assert not thread.is_alive()


class Wire:
    """A client that sends exactly the given bytes."""

    def __init__(self, server: Server, receive_buffer: int = 0, source: str = "127.0.0.1") -> None:
        self.socket = socket.socket()
        self.socket.bind((source, 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", server.port))
        self.file = self.socket.makefile("rb")

    def send(self, data: str | bytes) -> "Wire":
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def answer(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next answer; its status is 0 when the connection is closed instead."""
        line = self.file.readline()
        if not line:
            return 0, {}, b""
        headers: dict[str, str] = {}
        while field := self.file.readline().rstrip(b"\r\n"):
            name, _, value = field.decode("latin-1").partition(": ")
            headers[name.lower()] = value
        return (
            int(line.split()[1]),
            headers,
            b"" if head_only else self.file.read(int(headers.get("content-length", "0"))),
        )

    def refused(self, status: int, code: str) -> dict[str, Any]:
        """The problem that is answered next, after which the connection is closed."""
        found, headers, body = self.answer()
        assert found == status, (found, body)
        problem: dict[str, Any] = json.loads(body)
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["request_id"] == headers["x-request-id"]
        assert self.answer()[0] == 0, "the connection stays open"
        return problem


def alive(server: Server, within_seconds: float = 30) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=within_seconds)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def stored(spool: Path) -> list[str]:
    """The bodies that are stored: what the process has open in the folder, named or not."""
    open_files = [os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")]
    return [each for each in open_files if each.startswith(str(spool))]


# Ordinary traffic


def test_keeps_the_connection_and_answers_in_order(start: Start) -> None:
    wire = Wire(start())
    wire.send("".join(f"GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n" for n in range(50)))
    assert [json.loads(wire.answer()[2])["PATH_INFO"] for _ in range(50)] == [
        f"/{n}" for n in range(50)
    ]


def test_not_modified_leaves_the_connection_open(start: Start) -> None:
    wire = Wire(start()).send(
        "GET /unchanged HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    status, headers, _ = wire.answer()
    assert status == 304
    assert "connection" not in headers
    assert wire.answer()[0] == 200


@pytest.mark.parametrize(("line", "stays"), [("", False), ("Connection: keep-alive\r\n", True)])
def test_http_1_0_closes_unless_asked_to_stay(start: Start, line: str, stays: bool) -> None:
    wire = Wire(start()).send(f"GET / HTTP/1.0\r\n{line}\r\n")
    assert wire.answer()[0] == 200
    if stays:
        assert wire.send("GET / HTTP/1.0\r\n\r\n").answer()[0] == 200
    assert wire.answer()[0] == 0


def test_a_client_that_closes_its_side_still_gets_the_answer(start: Start) -> None:
    wire = Wire(start()).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.answer()[0] == 200


def test_the_application_sees_the_peer_and_x_forwarded_for_and_no_other_word_of_proxies(
    start: Start,
) -> None:
    wire = Wire(start()).send("GET /%7Ea?q=1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: evil\r\n"
                              "X-Forwarded-Proto: ftp\r\nForwarded: host=evil\r\n\r\n")  # fmt: skip
    seen = json.loads(wire.answer()[2])
    assert (seen["REMOTE_ADDR"], seen["HTTP_X_FORWARDED_FOR"]) == ("127.0.0.1", "192.0.2.1")
    assert (seen["PATH_INFO"], seen["QUERY_STRING"]) == ("/~a", "q=1")
    assert not {"HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED"} & set(seen)


def test_listens_on_both_families_and_writes_ipv4_addresses_as_such(start: Start) -> None:
    server = start(listen=":0")
    seen = json.loads(Wire(server).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer()[2])
    assert seen["REMOTE_ADDR"] == "127.0.0.1"


def test_an_absolute_target_brings_its_own_host(start: Start) -> None:
    wire = Wire(start()).send("GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    seen = json.loads(wire.answer()[2])
    assert (seen["HTTP_HOST"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("b:81", "/x", "y")


def test_a_large_file_arrives_whole(start: Start, app: App) -> None:
    status, _, body = Wire(start()).send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").answer()
    assert (status, body) == (200, bytes(20 * MIB))


def test_a_part_of_a_file_arrives_from_its_position_on(start: Start, app: App) -> None:
    content = b"".join(number.to_bytes(4) for number in range(MIB))
    app.big.write_bytes(content)
    wire = Wire(start())
    for _ in range(2):  # the connection stays in step
        answer = wire.send("GET /rest HTTP/1.1\r\nHost: a\r\n\r\n").answer()
        assert (answer[0], answer[2] == content[5:-5]) == (200, True)


# Bodies


def test_a_body_over_the_limit_of_its_route_is_refused_by_its_head(
    start: Start, app: App, spool: Path
) -> None:
    wire = Wire(start()).send(f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB + 1}\r\n\r\n")
    assert wire.refused(413, "too_large")["limit_bytes"] == MIB
    assert app.calls == []


def test_a_body_at_the_limit_is_taken(start: Start) -> None:
    wire = (
        Wire(start())
        .send(f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n")
        .send(bytes(MIB))
    )
    assert json.loads(wire.answer()[2])["body_bytes"] == MIB


def test_a_refused_sender_gets_the_answer_although_it_sends_on(start: Start) -> None:
    wire = Wire(start()).send(f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {4 * MIB}\r\n\r\n")
    wire.send(bytes(4 * MIB))
    wire.refused(413, "too_large")


def test_chunked_bodies_are_counted_while_they_arrive(start: Start, app: App, spool: Path) -> None:
    wire = Wire(start()).send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(17):
        wire.send(b"10000\r\n" + bytes(65536) + b"\r\n")
    wire.refused(413, "too_large")
    assert (app.calls, stored(spool)) == ([], [])


def test_a_chunked_upload_is_let_in(start: Start) -> None:
    wire = Wire(start()).send(
        "POST /upload HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for _ in range(20):
        wire.send(b"10000;name=value\r\n" + bytes(65536) + b"\r\n")
    seen = json.loads(wire.send("0\r\nTrailer: x\r\n\r\n").answer()[2])
    assert (seen["body_bytes"], seen["CONTENT_LENGTH"]) == (20 * 65536, str(20 * 65536))


@pytest.mark.parametrize("framing", [
    b"1" * 100_000, b"0\r\nX: " + b"y" * 100_000, b"1\r\nx\r\n" * 20_000, b"1;" + b"x" * 9000,
])  # fmt: skip
def test_chunks_may_not_cost_more_than_they_carry(start: Start, framing: bytes) -> None:
    server = start()
    wire = (
        Wire(server)
        .send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .send(framing)
    )
    wire.refused(400, "malformed_request")
    alive(server)


@pytest.mark.parametrize("chunks", ["zz\r\n", "-1\r\n", "1\r\nxy\r\n", "2;bad=\r\nxy\r\n"])
def test_broken_chunks_are_malformed(start: Start, chunks: str) -> None:
    wire = Wire(start()).send(
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    )
    wire.refused(400, "malformed_request")


def test_an_upload_without_a_credential_is_not_stored_and_not_asked_for(
    start: Start, app: App, spool: Path
) -> None:
    wire = Wire(start()).send(
        f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\nExpect: 100-continue\r\n\r\n"
    )
    wire.refused(401, "unauthenticated")  # and no 100 Continue before it
    assert (app.calls, stored(spool)) == ([], [])


def test_an_upload_that_is_let_in_is_asked_to_continue(start: Start) -> None:
    head = f"POST /upload HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nContent-Length: {MIB}\r\nExpect: 100-continue\r\n\r\n"
    wire = Wire(start()).send(head)
    assert wire.answer()[0] == 100
    assert json.loads(wire.send(bytes(MIB)).answer()[2])["body_bytes"] == MIB


def test_expect_without_a_body_is_simply_answered(start: Start) -> None:
    wire = Wire(start()).send("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n")
    assert wire.answer()[0] == 200


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/full", 507, "no_space"), ("/broken", 500, "internal")]
)
def test_what_admit_raises_is_the_answer(start: Start, path: str, status: int, code: str) -> None:
    problem = (
        Wire(start())
        .send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        .refused(status, code)
    )
    assert "mistake" not in json.dumps(problem)


def test_what_a_refused_body_holds_is_not_read_as_a_request(start: Start, app: App) -> None:
    smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    wire = Wire(start()).send(
        f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {len(smuggled)}\r\n\r\n{smuggled}"
    )
    wire.refused(401, "unauthenticated")
    assert app.calls == []


def test_no_thread_keeps_a_body_after_its_request(start: Start, spool: Path) -> None:
    server = start()
    wire = Wire(server).send(
        "POST /upload HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nContent-Length: 3000000\r\n\r\n"
    )
    wire.send(bytes(1_500_000))
    assert eventually(lambda: bool(stored(spool))), "it is in the folder for uploads"
    assert json.loads(wire.send(bytes(1_500_000)).answer()[2])["body_bytes"] == 3_000_000
    assert eventually(lambda: not stored(spool))


def test_a_body_whose_sender_leaves_is_gone(start: Start, spool: Path) -> None:
    wire = Wire(start()).send(
        "POST /upload HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nContent-Length: 3000000\r\n\r\n"
    )
    wire.send(bytes(1_500_000))
    assert eventually(lambda: bool(stored(spool)))
    wire.file.close()
    wire.socket.close()
    assert eventually(lambda: not stored(spool))


def test_left_over_bodies_are_swept_at_start(start: Start, spool: Path) -> None:
    spool.mkdir()
    (spool / "body-left").write_bytes(b"x")
    start()
    assert list(spool.iterdir()) == []


def test_a_large_upload_takes_little_memory(start: Start) -> None:
    server = start(admit=lambda *_: Admission(64 * MIB))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wire = Wire(server).send(
        f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {50 * MIB}\r\n\r\n"
    )
    block = bytes(256 * 1024)
    for _ in range(200):
        wire.send(block)
    assert json.loads(wire.answer()[2])["body_bytes"] == 50 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024  # KiB


# Ambiguous and malformed heads

POST = "POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize("head", [
    POST + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    POST + "Content-Length: 1\r\nContent-Length: 1\r\n",
    POST + "Content-Length: 1\r\nContent-Length: 2\r\n",
    POST + "Content-Length: 1, 1\r\n",
    POST + "Content-Length: +1\r\n",
    POST + "Content-Length: 1_0\r\n",
    POST + "Content-Length: -1\r\n",
    POST + "Content-Length:\r\n",
    POST + "Content-Length: \xb2\r\n",
    POST + "Content_Length: 1\r\n",
    POST + "Content-Length : 1\r\n",
    POST + "X: a\r\n b\r\n",
    POST + "X: a\rb\r\n",
    POST + "X: a\nY: b\r\n",
    POST + "X: a\0b\r\n",
    POST + "X\xe4: a\r\n",
    POST + ": a\r\n",
    POST + "no colon\r\n",
    POST + "Host: b\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
    "GET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n",
    "GET / HTTP/1.1\r\nHost: a, b\r\n",
    "GET / HTTP/1.1\r\nHost: a/b\r\n",
    "GET / HTTP/1.1\r\nHost: user@a\r\n",
])  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(start: Start, app: App, head: str) -> None:
    Wire(start()).send(head + "\r\n").refused(400, "ambiguous_request")
    assert app.calls == []


@pytest.mark.parametrize("line", [
    "GET /", "GET / HTTP/2.0", "GET  / HTTP/1.1", "get / HTTP/1.1", "GET x HTTP/1.1", "GET /a b HTTP/1.1", "GET * HTTP/1.1",
    "GET /#x HTTP/1.1", "GET ftp://a/ HTTP/1.1", "GET http://u@a/ HTTP/1.1", "CONNECT a:80 HTTP/1.1", "GET /\t HTTP/1.1",
    "\x16\x03\x01",
])  # fmt: skip
def test_request_lines_of_another_form_are_malformed(start: Start, line: str) -> None:
    Wire(start()).send(line + "\r\nHost: a\r\n\r\n").refused(400, "malformed_request")


def test_other_transfer_codings_are_not_implemented(start: Start) -> None:
    Wire(start()).send(POST + "Transfer-Encoding: gzip, chunked\r\n\r\n").refused(
        501, "not_implemented"
    )


@pytest.mark.parametrize(
    "head",
    [
        POST + "X: " + "y" * 40_000,
        POST + "X: y\r\n" * 8000,
        "GET /" + "x" * 9000 + " HTTP/1.1\r\nX: " + "y" * 40_000,
    ],
)
def test_a_head_over_its_limit_is_refused(start: Start, head: str) -> None:
    Wire(start()).send(head).refused(431, "header_too_large")


@pytest.mark.parametrize(
    "target",
    [
        "/" + "x" * 40_000,
        "/?" + "x" * 40_000,
        "http://a/" + "x" * 31_000 + " HTTP/1.1\r\nX: " + "y" * 5000,
    ],
)
def test_a_request_target_over_the_limit_is_refused(start: Start, target: str) -> None:
    Wire(start()).send("GET " + target).refused(414, "uri_too_long")


def test_an_error_before_the_version_is_known_is_answered_as_http_1_1(start: Start) -> None:
    for sent in ("GET /" + "x" * 40_000, "nonsense\r\n\r\n", "GET / HTTP/2.0\r\n\r\n"):
        assert Wire(start()).send(sent).file.readline().startswith(b"HTTP/1.1 4")


def test_a_higher_minor_version_is_answered_as_http_1_1(start: Start) -> None:
    wire = Wire(start()).send("GET / HTTP/1.2\r\nHost: a\r\n\r\nGET / HTTP/1.9\r\nHost: a\r\n\r\n")
    assert [json.loads(wire.answer()[2])["SERVER_PROTOCOL"] for _ in range(2)] == ["HTTP/1.1"] * 2


@pytest.mark.parametrize("expect", ["something-else", "100-continue, other", ""])
def test_other_expectations_fail(start: Start, app: App, expect: str) -> None:
    wire = Wire(start()).send(POST + f"Expect: {expect}\r\nContent-Length: 1\r\n\r\n")
    wire.refused(417, "expectation_failed")
    assert app.calls == []


def test_errors_of_the_server_forbid_content_sniffing(start: Start) -> None:
    assert Wire(start()).send("x\r\n\r\n").answer()[1]["x-content-type-options"] == "nosniff"


def test_a_refused_head_request_gets_a_head_alone(start: Start) -> None:
    wire = Wire(start()).send("HEAD / HTTP/1.1\r\n\r\n")
    assert wire.answer(head_only=True)[0] == 400
    assert wire.file.read() == b""


def test_a_crash_of_the_application_says_nothing_of_its_inside(start: Start) -> None:
    problem = Wire(start()).send("GET /crash HTTP/1.1\r\nHost: a\r\n\r\n").refused(500, "internal")
    assert "secret" not in json.dumps(problem)


def test_a_header_with_a_line_break_is_not_sent(start: Start) -> None:
    wire = Wire(start()).send("GET /split HTTP/1.1\r\nHost: a\r\n\r\n")
    wire.refused(500, "internal")


def test_who_leaves_keeps_the_place_until_the_request_is_done(start: Start, app: App) -> None:
    server = start()
    wire = Wire(server).send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert eventually(lambda: app.calls == ["/wait"])
    (channel,) = server.active_channels.values()
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()  # resets the connection: the kernel reports that until it is closed here
    assert eventually(lambda: not channel._watched)
    assert len(server.connections) == 1
    app.gate.set()
    assert eventually(lambda: not server.active_channels)


def test_a_refusal_is_one_log_line_with_the_id_of_the_answer(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "mosis.server"):
        wire = Wire(start()).send(
            "POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: given-1\r\nContent-Length: 9999999\r\n\r\n"
        )
        assert wire.refused(413, "too_large")["request_id"] == "given-1"
    (record,) = [vars(each) for each in caplog.records if each.message == "refused"]
    expected = {
        "request_id": "given-1",
        "method": "POST",
        "path": "/x",
        "status": 413,
        "code": "too_large",
    }
    assert {name: record[name] for name in expected} == expected


# Time


@pytest.mark.parametrize("sent", ["GET / HT", "GET / HTTP/1.1\r\nHost: a\r\nX"])
def test_a_head_that_takes_too_long_is_given_up(start: Start, sent: str) -> None:
    wire = Wire(start(head_timeout_seconds=0.3)).send(sent)
    wire.refused(408, "request_timeout")


def test_a_byte_now_and_then_does_not_keep_a_head_alive(start: Start) -> None:
    wire = Wire(start(head_timeout_seconds=0.6))
    with pytest.raises(OSError):  # before the head is complete
        for byte in "GET / HTTP/1.1\r\nX: " + "y" * 300:
            wire.send(byte)
            time.sleep(0.05)


def test_a_body_that_stands_still_is_given_up(start: Start, spool: Path) -> None:
    wire = Wire(start(body_timeout_seconds=0.3)).send(POST + "Content-Length: 100\r\n\r\nabc")
    wire.refused(408, "request_timeout")
    assert stored(spool) == []


def test_an_idle_connection_is_closed_without_a_word(start: Start) -> None:
    assert Wire(start(channel_timeout=1)).answer()[0] == 0


def test_the_time_of_a_running_request_is_not_that_of_the_next(start: Start, app: App) -> None:
    def answered() -> bool:  # on a busy machine the rest of the next one can come too late
        app.gate.clear()
        wire = Wire(start(head_timeout_seconds=0.4)).send(
            "GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET /ne"
        )
        time.sleep(1.2)
        app.gate.set()
        assert wire.answer()[0] == 200
        return wire.send("xt HTTP/1.1\r\nHost: a\r\n\r\n").answer()[0] == 200

    assert any(answered() for _ in range(5))


# Crowds


def test_slow_work_does_not_hold_up_the_rest(start: Start, app: App) -> None:
    server, slow = start(threads=2), "POST /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    # an address may have one of the two threads of its lane
    crowd = [Wire(server, source=f"127.0.0.{8 + number % 2}").send(slow) for number in range(50)]
    assert eventually(lambda: app.calls.count("/slow") == 2)
    alive(server)
    assert app.calls.count("/slow") == 2
    app.gate.set()
    assert [wire.answer()[0] for wire in crowd] == [200] * 50


def test_crowds_of_slow_clients_hold_no_thread(start: Start, spool: Path) -> None:
    server = start(connections_per_address=300)
    half_open = [Wire(server).send("GET / HTTP/1.1\r\nHost: a\r\nX-") for _ in range(200)]
    readers = [Wire(server, 4096).send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(40)]
    uploads = [
        Wire(server).send(f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n")
        for _ in range(6)
    ]
    for _ in range(10):
        alive(server)
    for upload in uploads:
        upload.refused(401, "unauthenticated")
    assert stored(spool) == []
    assert list(spool.iterdir()) == []
    for wire in half_open + readers + uploads:
        wire.close()
    assert eventually(lambda: len(server.active_channels) == 0)


def closed(wire: Wire) -> bool:
    """Whether the server has closed the connection, which has nothing more to read."""
    try:
        return wire.socket.recv(1) == b""
    except ConnectionError:
        return True


def reasons(server: Server) -> dict[str, float]:
    """How many connections were closed to keep a bound, by reason."""
    found = server.measures.counted("portal_connections_closed_total")
    return {labels["reason"]: value for labels, value in found}


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections may be closed for others at once."""
    monkeypatch.setattr(loop, "GRACE_SECONDS", 0.0)


def asked(server: Server, path: str = "/") -> Wire:
    """A connection with one answered request."""
    wire = Wire(server).send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wire.answer()[0] == 200
    return wire


@pytest.mark.usefixtures("no_grace")
def test_an_address_over_its_share_loses_its_longest_idle_connection(start: Start) -> None:
    server = start(connections_per_address=2)
    wires = [asked(server) for _ in range(2 + LOOPBACK_CONNECTIONS)]
    assert reasons(server) == {}
    newest = asked(server)
    assert len(server.active_channels) == len(wires)  # one of them is closed
    assert newest.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer()[0] == 200
    assert reasons(server) == {"share": 1}


def test_an_address_over_its_share_that_has_no_idle_connection_is_refused(
    start: Start, app: App
) -> None:
    server = start(connections_per_address=2, threads=30)
    many = 2 + LOOPBACK_CONNECTIONS
    wires = [Wire(server).send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(many)]
    assert eventually(lambda: app.calls.count("/wait") == many)
    assert closed(Wire(server))
    app.gate.set()
    assert [wire.answer()[0] for wire in wires] == [200] * many
    assert reasons(server) == {"refused": 1}


def test_a_trusted_proxy_has_no_share(start: Start) -> None:
    server = start(connections_per_address=2, proxies=(ip_network("127.0.0.0/8"),))
    wires = [asked(server) for _ in range(30)]
    for wire in wires:
        assert wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer()[0] == 200


def from_address(server: Server, address: str) -> Wire:
    """A connection from another loopback address, which counts as another client, with one answered
    request of which the server has noted the end: a client can have the response before that."""
    wire = Wire(server, source=address)
    assert wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer()[0] == 200
    channels, port = server.active_channels, wire.socket.getsockname()[1]
    assert eventually(
        lambda: any(
            each.addr[1] == port and each.is_idle and each.served_at == each.active_at
            for each in list(channels.values())
        )
    )
    return wire


@pytest.mark.usefixtures("no_grace")
def test_near_its_limit_the_server_closes_connections_of_the_address_with_most(
    start: Start,
) -> None:
    server = start(connection_limit=20)
    lonely = from_address(server, "127.0.0.9")
    crowd = [from_address(server, "127.0.0.8") for _ in range(17)]
    others = [from_address(server, f"127.0.1.{n}") for n in range(1, 11)]
    for wire in [lonely, *others, *crowd[10:]]:
        assert wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer()[0] == 200
    assert [closed(wire) for wire in crowd[:10]] == [True] * 10
    assert reasons(server) == {"full": 10}


@pytest.mark.parametrize(
    "keeps", ["GET / HT", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab"]
)
@pytest.mark.usefixtures("no_grace")
def test_bytes_now_and_then_keep_no_place_in_a_full_server(start: Start, keeps: str) -> None:
    server = start(connection_limit=20)
    crowd = [Wire(server, source="127.0.0.8").send(keeps) for _ in range(20)]
    assert eventually(lambda: len(server.active_channels) >= 18)
    for n in range(1, 31):
        for wire in crowd:
            with suppress(OSError):
                wire.send("x")
        from_address(server, f"127.0.1.{n}").close()


def test_loopback_has_places_of_its_own_in_a_full_server(start: Start, app: App) -> None:
    server = start(connection_limit=20, threads=40)
    busy = [Wire(server).send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(20)]
    assert eventually(lambda: app.calls.count("/wait") == 20)
    own = [asked(server) for _ in range(LOOPBACK_CONNECTIONS)]
    app.gate.set()
    assert [wire.answer()[0] for wire in busy] == [200] * 20
    for wire in busy + own:
        wire.close()


def test_who_is_over_a_limit_loses_the_connection(start: Start, app: App) -> None:
    wire = Wire(start()).send("GET /limited HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (429, "close")
    assert closed(wire)
    assert app.calls == ["/limited"]


# Readers that do not read


def unread(server: Server) -> int:
    """Bytes of responses in memory."""
    return sum(each.unsent_bytes for each in list(server.active_channels.values()))


@pytest.mark.parametrize("path", ["/large", "/pieces", "/big"])
def test_who_does_not_read_gets_one_response_at_a_time_and_holds_no_thread(
    start: Start, app: App, path: str
) -> None:
    server = start(threads=2)
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"
    crowd = [Wire(server, 4096).send(request * 200) for _ in range(6)]
    assert eventually(lambda: app.calls.count(path) >= 6)
    for _ in range(5):
        alive(server)
    assert all(len(each.requests) <= 1 for each in list(server.active_channels.values()))
    assert unread(server) <= 6 * (len(LARGE) + 65_536)
    assert app.calls.count(path) <= 6 * 4  # what the kernel's buffers take
    assert eventually(lambda: sum(lane.state[1] for lane in server.lanes.values()) == 0)
    for wire in crowd:
        assert wire.answer(head_only=True)[0] == 200
        wire.close()


@pytest.mark.parametrize("at_once", [1, 500])
def test_small_responses_to_who_does_not_read_wait_in_the_kernel_only_up_to_a_bound(
    start: Start, app: App, at_once: int
) -> None:
    server, request = start(), b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    wire = Wire(server, 4096).send(request)
    size = len(wire.answer()[2])
    (found,) = server.active_channels.values()
    for _ in range(0, 4000, at_once):
        before = len(app.calls)
        wire.send(request * at_once)
        assert eventually(lambda done=before + at_once: len(app.calls) == done or full(found))
        if full(found):
            break
    assert full(found)
    assert len(app.calls) * size < 6 * channel.AHEAD_BYTES
    wire.close()


def full(found: Any) -> bool:
    """Whether the next request of a connection waits because the kernel takes no more of its responses."""
    waits = found.total_outbufs_len or found.pending
    return bool(waits) and not select.select([], [found.socket], [], 0)[1]


def test_a_generator_waits_for_its_reader_for_a_bounded_time(
    start: Start, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "WAIT_SECONDS", 0.3)
    server = start(threads=1)
    wire = Wire(server, 4096).send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    assert eventually(lambda: app.calls == ["/endless"])
    alive(server)  # there is one thread
    assert eventually(lambda: len(server.active_channels) <= 1)
    assert wire.file.read(20).startswith(b"HTTP/1.1 200")


def test_a_reader_below_the_least_rate_is_disconnected(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SEND_DEBT_SECONDS", 0.6)
    server = start()
    wire = Wire(server, 4096).send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    begun = time.monotonic()
    while server.active_channels or time.monotonic() < begun + 0.3:
        with suppress(OSError):
            wire.socket.recv(10)  # a trickle does not help
            time.sleep(0.02)
        assert time.monotonic() < begun + 60
    assert reasons(server) == {"slow_reader": 1}


def test_a_reader_above_the_least_rate_keeps_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SEND_DEBT_SECONDS", 0.2)

    def stays() -> bool:  # on a busy machine the reader can stand still for longer than its debt
        server = start()
        wire = Wire(server, 65_536).send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5:
            try:
                if not wire.socket.recv(20_000):
                    return False
            except OSError:
                return False
            time.sleep(0.02)
        return reasons(server) == {}

    assert any(stays() for _ in range(5))


def test_unsent_bytes_of_all_clients_are_bounded_and_the_slowest_reader_is_closed_first(
    start: Start, app: App
) -> None:
    server = start(unsent_limit_bytes=20 * MIB)
    slow = [Wire(server, 4096).send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(12)]
    assert eventually(lambda: app.calls.count("/large") == 12)
    assert eventually(lambda: unread(server) <= 20 * MIB)

    def read() -> bool:  # on a busy machine this reader can be the slowest for a moment
        reader = Wire(server).send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        return len(reader.answer()[2]) == len(LARGE)

    assert any(read() for _ in range(5))
    assert reasons(server)["unsent_bytes"] >= 8
    for wire in slow:
        wire.close()


@pytest.mark.parametrize("before", ["", POST + "Content-Length: 3\r\n\r\nabc"])
def test_pipelined_requests_wait_as_bytes_and_few_of_them(
    start: Start, app: App, before: str
) -> None:
    server = start()
    wire = Wire(server).send(f"{before}GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert eventually(lambda: "/wait" in app.calls)
    wire.socket.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while sent < 8 * MIB:
            sent += wire.socket.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
    (found,) = server.active_channels.values()
    assert len(found.requests) == 1
    assert len(found.pending) <= Request.HEAD_BYTES
    wire.close()


# Stopping


def test_stop_lets_running_requests_finish_and_closes_idle_connections(
    start: Start, app: App
) -> None:
    server = start()
    idle, running = Wire(server), Wire(server).send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert eventually(lambda: app.calls == ["/wait"])
    server.stop()
    assert idle.answer()[0] == 0
    with pytest.raises(OSError):
        Wire(server).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    app.gate.set()
    status, headers, _ = running.answer()
    assert (status, headers["connection"]) == (200, "close")


def test_stop_does_not_wait_for_ever(start: Start, app: App) -> None:
    server = start()
    running = Wire(server).send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert eventually(lambda: app.calls == ["/wait"])
    server.stop(timeout_seconds=0.3)
    assert running.answer()[0] == 0, "the handler still waits"


def quickly(request: Any) -> Any:
    """What is ready: /now, and a mebibyte under /large."""
    sizes = {"/now": 3, "/large": MIB}
    if request.path == "/odd":
        raise RuntimeError("a mistake of ours")
    if request.path not in sizes or "AUTHORIZATION" in request.headers:
        return None
    size = sizes[request.path]
    return (
        "200 OK",
        f"X-From: {request.peer}\r\nX-Query: {request.query}\r\nContent-Length: {size}\r\n".encode(),
        b"n" * size,
    )


def test_what_is_ready_is_answered_without_the_application(start: Start, app: App) -> None:
    wire = Wire(start(ready=quickly))
    wire.send("GET /now?a=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    status, headers, body = wire.answer()
    assert (status, headers["x-from"], headers["x-query"], body) == (
        200,
        "127.0.0.1",
        "a=1",
        b"nnn",
    )
    assert {"date", "content-length"} <= set(headers)
    assert app.calls == []
    assert (
        wire.send("GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").answer()[1][
            "connection"
        ]
        == "close"
    )
    assert wire.answer()[0] == 0
    old = Wire(start(ready=quickly)).send("GET /now HTTP/1.0\r\n\r\n")
    assert (old.answer()[2], old.answer()[0]) == (b"nnn", 0)
    assert (
        Wire(start(ready=quickly))
        .send("GET /odd HTTP/1.1\r\nHost: a\r\n\r\n")
        .refused(500, "internal")
    )


def test_ready_answers_keep_their_place_among_the_others(start: Start, app: App) -> None:
    wire = Wire(start(ready=quickly))
    wire.send(
        "".join(
            f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"
            for path in ("/now", "/wait", "/now", "/x", "/now")
        )
    )
    assert wire.answer()[2] == b"nnn"
    app.gate.set()
    assert json.loads(wire.answer()[2])["PATH_INFO"] == "/wait"
    assert wire.answer()[2] == b"nnn"
    assert json.loads(wire.answer()[2])["PATH_INFO"] == "/x"
    assert wire.answer()[2] == b"nnn"
    assert app.calls == ["/wait", "/x"]


def test_who_asks_for_much_and_reads_nothing_is_given_one_ready_answer(
    start: Start, app: App
) -> None:
    server = start(ready=quickly, outbuf_high_watermark=MIB)
    wire = Wire(server, receive_buffer=4096)
    wire.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 300)
    time.sleep(0.5)
    assert sum(each.total_outbufs_len for each in server.active_channels.values()) < 2 * MIB
    assert wire.answer()[2] == b"n" * MIB
    alive(server)
