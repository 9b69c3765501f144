"""waitress with the bounds that its settings cannot express, and its own errors in the portal's shape.

What it adds to waitress 3.0.2, and why (each was seen to be needed):
  - a body is admitted when its head has been read, before `100 Continue` and before a byte is stored: by route and credential;
  - heads and bodies have a time, chunk lines and trailers a size;
  - a request that two servers could read differently is refused (RFC 9112, sections 3.2, 5.2, 6.3 and 11.2);
  - slow work (password hashes, package checks) runs in a lane of its own, so that it never holds up the rest;
  - 204 and 304 keep the connection; a refused sender is read on for a moment, so that it sees the answer and not a reset.
X-Forwarded-* headers are passed on untouched: the application believes them or not, by the address they come from.
"""

import copy
import logging
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import BadRequest, build_http_date

from mosis import problems
from mosis.db import new_id
from mosis.errors import LimitReached, Malformed, PortalError

log = logging.getLogger("mosis.requests")
logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is normal

HEAD_SECONDS = 15.0
BODY_SECONDS = 30.0  # and a second more for each 16 KiB
BODY_BYTES_A_SECOND = 16 * 1024
CHUNK_LINE_BYTES, TRAILER_BYTES = 1024, 8192
CHUNKED_SLICE_BYTES = 4096  # waitress copies what is left for every chunk: small slices keep that linear
LINGER_SECONDS = 2.0
STOP_SECONDS = 8.0
SLOW_THREADS = 2
SETTINGS: dict[str, Any] = {
    "connection_limit": 1000, "asyncore_use_poll": True, "channel_timeout": 30, "cleanup_interval": 5, "backlog": 1024,
    "max_request_header_size": 32768, "channel_request_lookahead": 0, "ident": None, "expose_tracebacks": False,
    "clear_untrusted_proxy_headers": False, "log_socket_errors": False, "send_bytes": 18000, "recv_bytes": 262144,
}  # fmt: skip


@dataclass(frozen=True)
class Admission:
    """What a request may send and where it runs: `lane` is "quick" or "slow"."""

    limit_bytes: int
    lane: str = "quick"


Admit = Callable[[str, str, Mapping[str, str]], Admission]
_QUICK = Admission(0)
_CODES = {400: "malformed_request", 413: "too_large", 431: "header_too_large", 501: "not_implemented"}
_ONCE = (b"content-length", b"transfer-encoding", b"host")


class Parser(HTTPRequestParser):
    """Reads one request; decides on it when its head is complete."""

    admission = _QUICK
    needs_host = True  # HTTP/1.1 does; waitress's own tests leave it out
    refusal: PortalError | None = None
    admit: Admit

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.begun = time.monotonic()

    def received(self, data: bytes) -> int:
        """Consume some bytes; how many."""
        consumed: int = self._received_chunked(data) if self.chunked else super().received(data)
        if self.completed:
            self.expect_continue = False  # waitress would ask a refused sender for its body
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Refuse what is ambiguous, then let the routes say how large the body may be. Raises ParsingError (a 400)."""
        try:
            _check_unambiguous(header_plus, self.needs_host)
            super().parse_header(header_plus)
            self.begun = time.monotonic()  # of the body
            if self.command not in ("GET", "HEAD", "OPTIONS") or self.body_rcv is not None:
                self.admission = self.admit(self.command, self.path, self.headers)
                self._limit_body(self.admission.limit_bytes)
        except PortalError as refusal:
            self.refusal = refusal
            self.body_rcv = None
            raise ParsingError(refusal.detail) from refusal

    def is_late(self, now: float) -> bool:
        """Whether the head, or the body so far, took longer than it may."""
        if not self.headers_finished:
            return now > self.begun + HEAD_SECONDS
        expected = self.body_bytes_received if self.chunked else self.content_length
        return now > self.begun + BODY_SECONDS + expected / BODY_BYTES_A_SECOND

    def _limit_body(self, limit_bytes: int) -> None:
        if self.content_length > limit_bytes:
            raise LimitReached("too_large", f"The body may have at most {limit_bytes} bytes.", limit_bytes=limit_bytes)
        self.adj = copy.copy(self.adj)
        self.adj.max_request_body_size = limit_bytes + 1  # waitress refuses from this size on

    def _received_chunked(self, data: bytes) -> int:
        consumed = 0
        while consumed < len(data) and not self.completed:
            consumed += super().received(data[consumed : consumed + CHUNKED_SLICE_BYTES])
            receiver = self.body_rcv
            if not self.completed and (len(receiver.control_line) > CHUNK_LINE_BYTES or len(receiver.trailer) > TRAILER_BYTES):
                self.refusal = Malformed("malformed_request", "A chunk's size line or the trailer is too long.")
                self.error, self.completed = BadRequest(self.refusal.detail), True
        return consumed


class Task(WSGITask):
    """Answers a request."""

    def build_response_header(self) -> bytes:
        """The head of the answer. Unlike waitress's, 204 and 304 leave the connection open (RFC 9112, section 6.3)."""
        asked = self.request.headers.get("CONNECTION", "").lower()
        lines = [f"HTTP/{self.version} {self.status}"]
        length, names = None, set()
        for name, value in self.response_headers:
            lowered = name.lower()
            if lowered == "content-length":
                length = value
                if not self.has_body:
                    continue
            names.add(lowered)
            lines.append(f"{name}: {value}")
        if length is None and self.content_length is not None and self.has_body:
            length = str(self.content_length)
            lines.append(f"Content-Length: {length}")
        bounded = length is not None or not self.has_body
        if not bounded and self.version == "1.1":
            lines.append("Transfer-Encoding: chunked")
            self.chunked_response = self.close_on_finish = True
        if self.version == "1.0" and asked == "keep-alive" and bounded and not self.close_on_finish:
            lines.append("Connection: Keep-Alive")
        elif self.version == "1.0" or asked == "close" or self.close_on_finish:
            self.close_on_finish = True
            lines.append("Connection: close")
        if self.channel.adj.ident and "server" not in names:
            lines.append(f"Server: {self.channel.adj.ident}")
        if "date" not in names:
            lines.append("Date: " + build_http_date(self.start_time))
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def set_close_on_finish(self) -> None:
        self.close_on_finish = True


class Refusal(ErrorTask):
    """Answers what never becomes a request for the application: a problem (RFC 9457), a log line, the end of the connection."""

    def execute(self) -> None:
        request, request_id = self.request, new_id()
        if request.refusal is not None:
            code, detail, facts = request.refusal.code, request.refusal.detail, request.refusal.facts
        else:
            error = request.error
            code = _CODES.get(getattr(error, "code", 400), "internal")
            detail, facts = f"The request cannot be taken: {getattr(error, 'body', error)}.", {}
        body = problems.body(code, detail, request_id, **facts)
        status, title = problems.PROBLEMS[code]
        self.status = f"{status} {title}"
        self.response_headers += [
            ("Content-Type", problems.CONTENT_TYPE), ("X-Request-Id", request_id), ("Cache-Control", "no-store"),
        ]
        if status == 401:
            self.response_headers.append(("WWW-Authenticate", 'Bearer realm="mosis"'))
        self.content_length = len(body)
        self.set_close_on_finish()
        self.channel.linger = True
        log.info("refused", extra={
            "request_id": request_id, "method": getattr(request, "command", None), "route": None, "status": status, "code": code,
            "ms": 0, "bytes": len(body), "caller": None,
        })
        self.write(body)


class Channel(HTTPChannel):
    """One connection."""

    task_class = Task
    error_task_class = Refusal
    linger = False
    _lingering_until = 0.0

    def handle_write(self) -> None:
        """Send what waits. A refused sender gets the end of our side first, and is read on for a moment: closing with unread
        bytes would reset the connection and destroy the answer on its way (RFC 9112, section 9.6)."""
        if self.linger and self.close_when_flushed and not self.will_close:
            with self.outbuf_lock:
                self._flush_exception(self._flush_some)
                if not self.total_outbufs_len and not self.will_close:
                    self.close_when_flushed = False
                    self._lingering_until = time.monotonic() + LINGER_SECONDS
                    try:
                        self.socket.shutdown(socket.SHUT_WR)
                    except OSError:
                        self.will_close = True
            return
        super().handle_write()

    def handle_read(self) -> None:
        if not self._lingering_until:
            super().handle_read()
            return
        try:
            more = self.recv(65536)
        except OSError:
            more = b""
        if not more:
            self.will_close = True

    def refuse_late(self, now: float) -> None:
        """Close what lingers too long; answer 408 to a request that takes too long to arrive."""
        if self._lingering_until and now > self._lingering_until:
            self.will_close = True
        with self.requests_lock:
            request = self.request
            if request is None or self.requests or self.will_close or not request.is_late(now):
                return
            request.refusal = LimitReached("request_timeout", "The request took too long to arrive.")
            request.error, request.completed, request.version = BadRequest("late"), True, "1.1"
            self.request = None
            self.requests.append(request)
            self.server.add_task(self)


class Lanes:
    """Two sets of threads: the quick ones for everything, the slow ones for what takes long by nature."""

    def __init__(self, threads: int) -> None:
        self._lanes = {"quick": ThreadedTaskDispatcher(), "slow": ThreadedTaskDispatcher()}
        self._lanes["quick"].set_thread_count(threads)
        self._lanes["slow"].set_thread_count(SLOW_THREADS)

    def add_task(self, channel: Channel) -> None:
        """Queue a channel whose next request is ready, in the lane of that request."""
        self._lanes[channel.requests[0].admission.lane].add_task(channel)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> None:
        for lane in self._lanes.values():
            lane.shutdown(cancel_pending, timeout)


class Listener(TcpWSGIServer):
    """One listening socket."""

    channel_class = Channel

    def maintenance(self, now: float) -> None:
        """Close idle connections, sooner when there are too many; refuse late requests."""
        monotonic = time.monotonic()
        for channel in list(self.active_channels.values()):
            channel.refuse_late(monotonic)
        super().maintenance(now + (self.adj.channel_timeout - 2 if self.in_connection_overflow else 0))


class Server:
    """The portal's server: `run` serves until `stop` is called, from a signal handler's thread or any other."""

    def __init__(
        self, app: Any, *, listen: str, threads: int, admit: Admit, temporary_dir: Path, **settings: Any
    ) -> None:
        """Bodies above half a megabyte are stored in `temporary_dir`, which belongs to this server alone and is emptied."""
        prepare_temporary_dir(temporary_dir)
        host, _, port = listen.rpartition(":")
        self._adj = Adjustments(listen=f"{host or '*'}:{port}", threads=threads, **(SETTINGS | settings))
        self._map: dict[int, Any] = {}
        self._lanes = Lanes(threads)
        self._stopping = threading.Event()
        parser = type("BoundParser", (Parser,), {"admit": staticmethod(admit)})
        channel = type("BoundChannel", (Channel,), {"parser_class": parser})
        listener = type("BoundListener", (Listener,), {"channel_class": channel})
        self._listeners = [
            listener(app, self._map, dispatcher=self._lanes, adj=self._adj, sockinfo=sockinfo) for sockinfo in self._adj.listen
        ]
        self.port = int(self._listeners[0].effective_port)

    def run(self) -> None:
        """Serve. Returns once stopped: no new connections, running requests finished and sent (up to eight seconds)."""
        while not self._stopping.is_set():
            wasyncore.poll2(1.0, self._map)
        for listener in self._listeners:
            listener.accepting = False
            listener.del_channel()
            listener.socket.close()
        until = time.monotonic() + STOP_SECONDS
        while self._busy() and time.monotonic() < until:
            wasyncore.poll2(0.1, self._map)
        self._lanes.shutdown(timeout=1)
        wasyncore.close_all(self._map)

    def stop(self) -> None:
        """Ask `run` to end; returns at once."""
        self._stopping.set()
        self._listeners[0].pull_trigger()

    def _busy(self) -> bool:
        """Whether a request is running or an answer is on its way; idle connections are told to close."""
        busy = False
        for listener in self._listeners:
            for channel in list(listener.active_channels.values()):
                if channel.requests or channel.total_outbufs_len:
                    busy = True
                elif channel.request is None:
                    channel.will_close = True
        return busy


def prepare_temporary_dir(folder: Path) -> None:
    """Make the folder for bodies on their way, empty it of what a killed process left, and have `tempfile` use it."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        left.unlink(missing_ok=True)
    tempfile.tempdir = str(folder)


_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\Z")


def _check_unambiguous(head: bytes, needs_host: bool) -> None:
    """Raises Malformed for a head that another server on the way could read differently than we do."""
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    seen: set[bytes] = set()
    for line in lines:
        field = _FIELD.match(line)
        if field is None:
            raise _ambiguous("a header line is not of the form `Name: value`")
        name = field[1].lower()
        if name in seen and name in _ONCE:
            raise _ambiguous(f"{name.decode()} stands twice")
        seen.add(name)
    if b"transfer-encoding" in seen and (b"content-length" in seen or not first.endswith(b"HTTP/1.1")):
        raise _ambiguous("the length of the body is given in two ways")
    if needs_host and b"host" not in seen and first.endswith(b"HTTP/1.1"):
        raise _ambiguous("HTTP/1.1 wants a Host header")


def _ambiguous(why: str) -> Malformed:
    return Malformed("ambiguous_request", f"This request could be read in more than one way: {why}.")
