"""One connection: reads requests and sends answers without holding a thread, and says what the server answers by itself.

Two kinds of threads touch a channel: the loop's, which reads, sends the rest of long answers and is the only one to close;
and one worker at a time, which runs the application and tries to send its answer at once. `outbuf_lock` guards what is to
be sent and what the loop is asked to watch; `requests_lock` guards the requests.
"""

import io
import logging
import os
import re
import select
import socket
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from time import monotonic, time
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ErrorTask, Task, WSGITask
from waitress.utilities import build_http_date

from mosis import problems
from mosis.database import new_id
from mosis.errors import LimitReached, PortalError
from mosis.server.request import Request

log = logging.getLogger("mosis.server")

HEAD_BYTES = (
    16 * 1024
)  # read at once while a head is expected: it also bounds how many requests can be pipelined
BODY_BYTES = (
    256 * 1024
)  # read at once while a body is expected: nearly halves the time of a large upload
SEND_BYTES = 18_000  # an answer is sent when it is complete or this much of it is there: head and body go out as one
FLUSH_BYTES = (
    1024 * 1024
)  # sent to one client at once, so that a fast reader does not keep the others waiting
LINGER_SECONDS = 3.0  # how long what a refused client still sends is read and thrown away, so that it gets the answer

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_date = lru_cache(2)(build_http_date)  # the same text for a whole second


class Parked(BaseException):
    """The application has nothing to answer yet: run the request again when what `arm` subscribes to calls back, or after the
    time. No Exception, so that nothing on the way makes an answer of it."""

    def __init__(
        self, seconds: float, arm: Callable[[Callable[[], None]], Callable[[], None]]
    ) -> None:
        super().__init__()
        self.seconds = seconds
        self.arm = arm
        self.until = 0.0  # monotonic
        self.end: Callable[[], None] | None = None  # ends the subscription


class Head:
    """Writes the head of an answer, mixed into waitress's tasks."""

    def build_response_header(self: Any) -> bytes:
        """Unlike waitress's, 204 and 304 leave the connection open: they end with their head (RFC 9112, section 6.3). While
        the server stops, every answer ends its connection."""
        has_body, length, date = self.has_body, None, None
        lines = [f"HTTP/{self.version} {self.status}"]
        for name, value in self.response_headers:
            lowered = name.lower()
            if lowered == "content-length":
                length = value
                if not has_body:
                    continue
            elif lowered == "date":
                date = value
            lines.append(f"{name}: {value}")
        if length is None and has_body and self.content_length is not None:
            length = str(self.content_length)
            lines.append(f"Content-Length: {length}")
        if date is None:
            lines.append("Date: " + _date(int(self.start_time)))
        ident = self.channel.server.adj.ident
        if ident:
            lines.append(f"Server: {ident}")
        lines.append(self._connection(has_body and length is None))
        return "\r\n".join(filter(None, lines)).encode("latin-1") + b"\r\n\r\n"

    def _connection(self: Any, open_ended: bool) -> str:
        """How the answer ends, as header lines; empty where HTTP says it by itself."""
        asked = self.request.headers.get("CONNECTION", "").lower()
        framing = ""
        if open_ended and self.version == "1.1":
            self.chunked_response = True
            framing = "Transfer-Encoding: chunked\r\n"
        stays = asked == "keep-alive" if self.version == "1.0" else asked != "close"
        if open_ended or not stays or self.channel.server.stopping:
            self.close_on_finish = True
        if self.close_on_finish:
            return framing + "Connection: close"
        return "Connection: Keep-Alive" if self.version == "1.0" else ""

    def set_close_on_finish(self) -> None:
        """End the connection after this answer."""
        self.close_on_finish = True


class Answer(Head, WSGITask):
    """Runs the application. It may put a request aside by calling `mosis.park(seconds, arm)` of its environment; `mosis.memory` is
    then what it remembers of the request when it is run again."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ["mosis.memory"] = self.request.memory
        environ["mosis.park"] = self._park
        return environ

    def _park(self, seconds: float, arm: Any) -> None:
        """Returns when nothing more can be put aside."""
        if self.channel.server.may_park():
            raise Parked(seconds, arm)


class Finished(Head, Task):
    """Answers with what was ready before the request came."""

    def message(self) -> bytes:
        """Head and body in one."""
        status, lines, body = self.request.answer
        first = [
            f"HTTP/{self.version} {status}",
            f"Date: {_date(int(time()))}",
            self._connection(False),
            "",
        ]
        return b"".join(
            ("\r\n".join(filter(None, first)).encode("latin-1"), b"\r\n", lines, b"\r\n", body)
        )


class Refusal(Head, ErrorTask):
    """Answers what never became a request of the application: a problem (RFC 9457), a log line, and the connection ends."""

    @property
    def has_body(self) -> bool:
        return self.request.command != "HEAD"

    def execute(self) -> None:
        request, error = self.request, self.request.error
        if not isinstance(error, PortalError):
            error = PortalError(
                "internal", "Something went wrong here. The operator finds it in the log."
            )
        given = request.headers.get("X_REQUEST_ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
        number = problems.status(error.code)
        body = problems.body(
            error.code, error.detail, request_id, errors=error.errors or None, **error.facts
        )
        self.status = f"{number} {HTTPStatus(number).phrase}"
        self.response_headers += [
            ("Content-Type", problems.CONTENT_TYPE),
            ("Cache-Control", "no-store"),
            ("X-Request-Id", request_id),
        ]
        if number == 401:
            self.response_headers.append(("WWW-Authenticate", 'Bearer realm="mosis"'))
        if "retry_after_seconds" in error.facts:
            self.response_headers.append(("Retry-After", str(error.facts["retry_after_seconds"])))
        self.channel.server.measures.count("portal_refused_total", code=error.code)
        log.log(
            logging.ERROR if number == 500 else logging.INFO,
            "refused",
            extra={
                "request_id": request_id,
                "method": request.command or None,
                "path": request.path[:200] or None,
                "status": number,
                "code": error.code,
                "client": self.channel.addr[0],
            },
        )
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):
    """A connection under bounds. The loop watches a channel once for each `arm`, so that an idle one costs nothing."""

    task_class = Answer
    error_task_class = Refusal
    parser_class = Request

    request: Request | None = None  # the one that is arriving
    refused = False  # the last request that this connection will have is among `requests`, and it is refused
    parked: Parked | None = None  # while the first request is put aside
    lingers_until = (
        0.0  # monotonic; not 0 once everything is sent and the rest of the input is thrown away
    )

    def __init__(
        self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: dict[int, Any]
    ) -> None:
        self.active_at = monotonic()
        super().__init__(server, sock, addr, adj, map)
        self.outbufs: deque[Any] = deque()  # bytes, memoryview, or files in waitress's wrapper

    # The loop's thread

    def add_channel(self, map: dict[int, Any] | None = None) -> None:
        super().add_channel(map)
        self.server.watch(self._fileno, select.EPOLLIN, new=True)

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        self.server.unwatch(self._fileno)
        super().del_channel(map)

    def readable(self) -> bool:
        if self.lingers_until:
            return True
        # as many as the setting channel_request_lookahead says are read ahead: none
        return not (
            self.will_close or self.close_when_flushed or self.requests or self.total_outbufs_len
        )

    def writable(self) -> bool:
        return bool(
            self.total_outbufs_len
            or self.will_close
            or (self.close_when_flushed and not self.lingers_until)
        )

    def handle_read(self) -> None:
        in_body = self.lingers_until or (self.request is not None and self.request.headers_finished)
        try:
            data = self.recv(
                BODY_BYTES if in_body else HEAD_BYTES
            )  # closes the channel at the end of the input
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        if data and not self.lingers_until:
            self.active_at = monotonic()
            self.received(data)

    def received(self, data: bytes) -> bool:
        """Make requests of the bytes; the first complete one starts a task, the others wait for their turn."""
        with self.requests_lock:
            while data and not (self.will_close or self.close_when_flushed or self.refused):
                if self.request is None:
                    self.request = Request(self.adj, self.server.bounds)
                    self.request.peer = self.addr[0]
                    self.request.alone = not self.requests and not self.total_outbufs_len
                request = self.request
                data = data[request.received(data) :]
                if request.completed:
                    self._enqueue()
                elif request.expect_continue and not self.requests and not self.sent_continue:
                    self.send_continue()  # only now: the head has been admitted
        return True

    def handle_write(self) -> None:
        if self.outbuf_lock.acquire(
            False
        ):  # else a worker is sending, and arms the channel afterwards
            try:
                self._flush_some()
            finally:
                self.outbuf_lock.release()
        if self.close_when_flushed and not self.total_outbufs_len and not self.lingers_until:
            self._end()
        if self.will_close:
            self.handle_close()

    def handle_close(self) -> None:
        with self.outbuf_lock:
            for waiting in self.outbufs:
                if isinstance(waiting, ReadOnlyFileBasedBuffer):
                    waiting.close()
            self.outbufs.clear()
            self.total_outbufs_len = 0
            if self.request is not None:
                self.request.close()
            self.outbuf_lock.notify_all()  # a worker may wait for room
            if self.socket is not None:
                self.close()
        if self.parked:
            self.resume(self.parked)

    def check_time(self, now: float) -> None:
        """Close what is idle, and give up requests that take too long to arrive. `now` is monotonic."""
        if self.lingers_until:
            if now > self.lingers_until:
                self.handle_close()
            return
        if self.parked and now > self.parked.until:
            self.resume(self.parked)
        if self.requests:
            return  # running; that it has an end is the application's matter
        if self.request is not None and not self.total_outbufs_len and self.request.overdue(now):
            with self.requests_lock:
                self.request.refuse(
                    LimitReached(
                        "request_timeout", "The request took too long to arrive; send it again."
                    )
                )
                self._enqueue()
        elif now - self.active_at > self.adj.channel_timeout:
            self.handle_close()

    def _enqueue(self) -> None:
        """The request that was arriving is complete, or refused. `requests_lock` is held."""
        assert self.request is not None
        self.sent_continue = False
        if self.request.answer is not None:
            self._answer(self.request)
            self.request = None
            return
        self.refused = self.request.error is not None
        self.requests.append(self.request)
        self.request = None
        if len(self.requests) == 1:
            self.server.add_task(self)

    def _answer(self, request: Request) -> None:
        """Send what is ready, from the loop's thread: it takes less time than to wake another one."""
        task = Finished(self, request)
        with self.outbuf_lock:
            self._queue(task.message())
            self._flush_some()
        self.close_when_flushed = task.close_on_finish

    def _end(self) -> None:
        """Everything is sent. A client that was refused may still be sending: closing now would reset the connection, and
        with it the answer that it has not read yet (RFC 9112, section 9.6)."""
        if self.refused and self.lingers_until == 0.0:
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.will_close = True
            self.lingers_until = monotonic() + LINGER_SECONDS
        else:
            self.will_close = True

    # Any thread

    def arm(self) -> None:
        """Ask the loop to watch for what this channel can go on with now."""
        with self.outbuf_lock:
            if self._fileno is not None:
                self.server.watch(
                    self._fileno,
                    (select.EPOLLIN if self.readable() else 0)
                    | (select.EPOLLOUT if self.writable() else 0),
                )

    def send_continue(self) -> None:
        """Send 100 Continue (RFC 9110, section 10.1.1). `requests_lock` is held."""
        assert self.request is not None
        self.request.expect_continue = False
        self.sent_continue = True
        with self.outbuf_lock:
            self._queue(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._flush_some()

    def _queue(self, data: Any) -> None:
        self.outbufs.append(data)
        self.total_outbufs_len += len(data)

    def _flush_some(self, do_close: bool = True) -> bool:
        """Send what the client takes, at most FLUSH_BYTES; whether anything went. `outbuf_lock` is held. An error is only
        noted in `will_close`."""
        sent = 0
        try:
            while self.outbufs and sent < FLUSH_BYTES:
                first = self.outbufs[0]
                sent += (
                    self._send_file(first)
                    if isinstance(first, ReadOnlyFileBasedBuffer)
                    else self._send_bytes()
                )
        except BlockingIOError:
            pass
        except (OSError, ValueError):  # ValueError: a file that was closed under us
            self.will_close = True
        if sent:
            self.active_at = monotonic()
            if self.total_outbufs_len <= self.adj.outbuf_high_watermark:
                self.outbuf_lock.notify()
        return sent > 0

    def _send_bytes(self) -> int:
        """Send the bytes at the front, small pieces together; how many went."""
        pieces: list[Any] = []
        size = 0
        for piece in self.outbufs:
            if isinstance(piece, ReadOnlyFileBasedBuffer) or size > SEND_BYTES:
                break
            pieces.append(piece)
            size += len(piece)
        sent = left = self.socket.send(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self.total_outbufs_len -= sent
        while pieces and left >= len(self.outbufs[0]):
            left -= len(self.outbufs.popleft())
            pieces.pop()
        if left:
            self.outbufs[0] = memoryview(self.outbufs[0])[left:]
        return sent

    def _send_file(self, body: ReadOnlyFileBasedBuffer) -> int:
        """Send from the file at the front, by the kernel where it is a real one; how many bytes went."""
        if not body.remain:
            self.outbufs.popleft().close()
            return 0
        if isinstance(getattr(body.file, "raw", body.file), io.FileIO):
            sent = os.sendfile(
                self._fileno, body.file.fileno(), body.file.tell(), min(body.remain, FLUSH_BYTES)
            )
        else:
            sent = self.socket.send(body.get(BODY_BYTES))
        if not sent:
            raise OSError("the file became shorter while it was sent")
        body.skip(sent)
        self.total_outbufs_len -= sent
        return sent

    # The worker's thread

    def service(self) -> None:
        """Run one request and send as much of its answer as the client takes, or put it aside."""
        try:
            super().service()
        except Parked as parked:
            self._park(parked)
            return
        with self.outbuf_lock:
            if self.connected:
                self._flush_some()
        self.active_at = monotonic()
        with self.requests_lock:
            if self.request is not None:
                self.request.since = (
                    self.active_at
                )  # it could not arrive while we were busy with the one before it
        self.arm()

    def _park(self, parked: Parked) -> None:
        parked.until = monotonic() + parked.seconds
        self.parked = parked
        try:
            end = parked.arm(lambda: self.resume(parked))
        except Exception:
            log.exception("crash while a request was put aside")
            self.resume(parked)
            return
        with self.requests_lock:
            still = self.parked is parked
            parked.end = end
        if not still:
            end()
        elif self.server.stopping or not self.connected:
            self.resume(parked)

    def resume(self, parked: Parked) -> None:
        """Run the request again that was put aside; any thread, any number of times."""
        with self.requests_lock:
            if self.parked is not parked:
                return
            self.parked = None
        if parked.end is not None:
            parked.end()
        self.server.add_task(self)

    def write_soon(self, data: Any) -> int:
        """Queue a piece of the answer. Waits while the client leaves more than the high watermark unread; a file does not
        count, it takes no memory. Raises ClientDisconnected."""
        if not self.connected:
            raise ClientDisconnected
        size = len(data)
        if not size:
            return 0
        with self.outbuf_lock:
            self._flush_outbufs_below_high_watermark()
            if not self.connected:
                raise ClientDisconnected
            self._queue(data)
            if self.total_outbufs_len >= SEND_BYTES:
                self._flush_some()
        return size

    def _flush_outbufs_below_high_watermark(self) -> None:
        with self.outbuf_lock:
            while self.connected and self.total_outbufs_len > self.adj.outbuf_high_watermark:
                self.arm()
                self.outbuf_lock.wait()
