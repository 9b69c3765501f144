"""Response heads, and the three kinds of responses: from the application, from the cache, and
errors.

The classes are waitress tasks. Each override names the waitress method that it replaces.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from operator import itemgetter
from time import time
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.task import ErrorTask, Task, WSGITask, hop_by_hop
from waitress.utilities import build_http_date

from mosis import problems
from mosis.errors import Internal, PortalError
from mosis.ids import request_id_of
from mosis.records import dataclass
from mosis.server.suspension import Suspended

log = logging.getLogger("mosis.server")

_date = lru_cache(2)(build_http_date)  # formatted once a second


_NAME = itemgetter(0)


@lru_cache(256)
def _examined(names: tuple[str, ...]) -> tuple[int | None, bool]:
    """Of the names of an application's headers, which are the same again and again: where Content-Length
    is, and whether there is a Date."""
    lowered = [name.lower() for name in names]
    if wrong := sorted(hop_by_hop.intersection(lowered)):
        raise AssertionError(f"an application must not send {', '.join(wrong)} (PEP 3333)")
    length = "content-length"
    return lowered.index(length) if length in lowered else None, "date" in lowered


@lru_cache(256)
def _variable(name: str) -> str:
    """The name of a header in the WSGI environment (PEP 3333), of its name in `Request.headers`."""
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"


@dataclass(frozen=True)
class Response:
    """A response of the application that waits for a commit."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    after: list[Callable[[], None]]  # called when it is sent: the log line, the metrics


class Head:
    """Writes the response head; mixed into waitress's tasks."""

    has_length = has_date = False  # whether the application's headers have them

    @property
    def has_body(self: Any) -> bool:
        """Replaces Task.has_body."""
        return not self.status.startswith(("1", "204", "304"))

    def build_response_header(self: Any) -> bytes:
        """Replaces Task.build_response_header. Unlike waitress's, 204 and 304 leave the connection open: they end with
        their head (RFC 9112, section 6.3). 429, and every answer while the server stops, end the connection.
        Raises ValueError for a header with a line break."""
        has_body, headers = self.has_body, self.response_headers
        if not has_body or not self.content_length:
            # PEP 3333 requires Content-Type of an empty body, HTTP does not
            left_out = {"" if has_body else "content-length"}
            left_out |= {"content-type"} if self.content_length == 0 else set()
            headers = [each for each in headers if each[0].lower() not in left_out]
        lines = [
            f"HTTP/{self.version} {self.status}",
            *map(": ".join, headers),
        ]
        if has_body and self.content_length is not None and not self.has_length:
            lines.append(f"Content-Length: {self.content_length}")
        if not self.has_date:
            lines.append("Date: " + _date(int(self.start_time)))
        if ident := self.channel.server.adj.ident:
            lines.append(f"Server: {ident}")
        lines += self._connection(has_body and self.content_length is None)
        head = "\r\n".join(lines)
        if not head.count("\n") == head.count("\r") == len(lines) - 1:
            raise ValueError("a header contains a line break")
        return head.encode("latin-1") + b"\r\n\r\n"

    def _connection(self: Any, open_ended: bool) -> list[str]:
        """The header lines that say how the response ends; none where HTTP has a default."""
        asked, lines = self.request.headers.get("CONNECTION", "").lower(), []
        stays = asked == "keep-alive" if self.version == "1.0" else asked != "close"
        if open_ended and self.version == "1.1":
            self.chunked_response = True
            lines.append("Transfer-Encoding: chunked")
        # a client over a limit does not keep its connection either
        if self.status.startswith("429"):
            self.channel.refused, stays = True, False
        if open_ended or not stays or self.channel.server.stopping:
            self.close_on_finish = True
        if self.close_on_finish:
            lines.append("Connection: close")
        elif self.version == "1.0":
            lines.append("Connection: Keep-Alive")
        return lines

    def set_close_on_finish(self) -> None:
        """Replaces Task.set_close_on_finish. The header line is written by `_connection`."""
        self.close_on_finish = True


class ApplicationResponse(Head, WSGITask):
    """Runs the application. A long-poll handler suspends its request with `mosis.park(seconds, arm)` of the environment;
    `mosis.memory` is what it remembers of the request when it is dispatched again."""

    complete = False
    content_length: int | None = None

    def execute(self) -> None:
        """Replaces WSGITask.execute: a response that is a list is complete, and is sent as one piece. One
        that `run` has made is sent as it is."""
        made: Response | None = self.request.response
        if made is not None:
            found: Any = [made.body]
            self.start_response(made.status, made.headers)
        else:
            found = self.channel.server.application(self.get_environment(), self.start_response)
        if not isinstance(found, list):
            self._send_further(found)
            return
        body = found[0] if len(found) == 1 else b"".join(found)
        if found and self.content_length is None:
            self.content_length = len(body)
        if body and self.has_body and self.content_length == len(body):
            whole = self.build_response_header() + body
            self.wrote_header = True
            self.channel.write_soon(whole)
        else:
            self.write(body)
            self._check_length()

    def _send_further(self, found: Any) -> None:
        """Send a file, or the pieces of an iterator as they are made."""
        try:
            if isinstance(found, ReadOnlyFileBasedBuffer) and (
                size := found.prepare(self.content_length)
            ):
                if size != self.content_length:
                    self.remove_content_length_header()
                    self.content_length, self.has_length = size, False
                self.write(b"")
                self.channel.write_soon(found)
                found = None  # the channel closes it when it is sent
                return
            for piece in found:
                if piece:
                    self.write(piece)
            self._check_length()
        finally:
            if hasattr(found, "close"):
                found.close()

    def _check_length(self) -> None:
        """After too few bytes the connection is closed, so that the client does not wait for more."""
        length, written = self.content_length, self.content_bytes_written
        if length is not None and length != written and self.request.command != "HEAD":
            self.close_on_finish = True
            self.logger.warning("application returned %s of %s bytes", written, length)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Any:
        """Replaces the function of this name in WSGITask.execute (PEP 3333)."""
        if exc_info is not None:
            if self.wrote_header:
                raise exc_info[1]
        elif self.complete:
            raise AssertionError("start_response called a second time without exc_info")
        self.complete, self.status, self.response_headers = True, status, headers
        length_at, self.has_date = _examined(tuple(map(_NAME, headers)))
        if length_at is not None:
            self.content_length, self.has_length = int(headers[length_at][1]), True
        return self.write

    def get_environment(self) -> dict[str, Any]:
        """Replaces WSGITask.get_environment."""
        request, channel = self.request, self.channel
        environ: dict[str, Any] = channel.server.environment | {
            "REMOTE_ADDR": channel.addr[0],
            "REMOTE_HOST": channel.addr[0],
            "REMOTE_PORT": str(channel.addr[1]),
            "REQUEST_METHOD": request.command,
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "PATH_INFO": request.path,
            "REQUEST_URI": request.request_uri,
            "QUERY_STRING": request.query,
            "wsgi.input": request.get_body_stream(),
            "mosis.match": request.match,
            "mosis.memory": request.memory,
            "mosis.park": self._suspend,
        }
        for name, value in request.headers.items():
            environ[_variable(name)] = value
        return environ

    def _suspend(self, seconds: float, arm: Any) -> None:
        """Raises Suspended; returns when no further request can be suspended."""
        if self.channel.server.take_suspension():
            raise Suspended(seconds, arm)

    def run(self) -> "Response":
        """The response of the application, complete and not sent."""
        environ = self.get_environment()
        head = list[Any]()
        after = list[Any]()
        environ["mosis.after"] = after.append

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            head[:] = status, headers

        found = self.channel.server.application(environ, start)
        try:
            return Response(head[0], head[1], b"".join(found), after)
        finally:
            if hasattr(found, "close"):
                found.close()


class Cached(Head, Task):
    """Sends a response that was complete before the request arrived."""

    def message(self) -> bytes:
        """Head and body in one."""
        self.status, lines, body = self.request.answer
        first = [
            f"HTTP/{self.version} {self.status}",
            f"Date: {_date(int(time()))}",
            *self._connection(False),
            "",
        ]
        return b"".join(("\r\n".join(first).encode("latin-1"), lines, b"\r\n", body))


class Refusal(Head, ErrorTask):
    """Answers a request that does not reach the application, with a problem, and closes."""

    @property
    def has_body(self) -> bool:
        """Replaces Task.has_body."""
        return self.request.command != "HEAD"

    def execute(self) -> None:
        """Replaces ErrorTask.execute."""
        request, error = self.request, self.request.error
        if not isinstance(error, PortalError):
            error = Internal()
        request_id = request_id_of(request.headers.get("X_REQUEST_ID", ""))
        number = problems.status(error.code)
        body = problems.body(
            error.code, error.detail, request_id, errors=error.errors or None, **error.facts
        )
        self.status = f"{number} {HTTPStatus(number).phrase}"
        self.response_headers += [
            ("Content-Type", problems.CONTENT_TYPE),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
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
