"""Response heads, and the three kinds of responses: from the application, from the cache, and
errors.

The classes are waitress tasks. Each override names the waitress method that it replaces.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any

from waitress.task import ErrorTask, Task, WSGITask
from waitress.utilities import build_http_date

from mosis import problems
from mosis.errors import PortalError
from mosis.ids import request_id_of
from mosis.server.suspension import Suspended

log = logging.getLogger("mosis.server")

_date = lru_cache(2)(build_http_date)  # formatted once a second


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the application that waits for a commit."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    after: list[Callable[[], None]]  # called when it is sent: the log line, the metrics


def internal() -> PortalError:
    """The error for what nobody has thought of."""
    return PortalError(
        "internal",
        "An unexpected error occurred; the operator finds it in the log under this request id.",
    )


class Head:
    """Writes the response head; mixed into waitress's tasks."""

    def build_response_header(self: Any) -> bytes:
        """Replaces Task.build_response_header. Unlike waitress's, 204 and 304 leave the connection open: they end with
        their head (RFC 9112, section 6.3). 429, and every answer while the server stops, end the connection."""
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
        if length == "0":  # PEP 3333 requires Content-Type of an empty body, HTTP does not
            lines = [line for line in lines if not line.lower().startswith("content-type:")]
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
        """The header lines that say how the response ends; empty where HTTP has a default."""
        asked = self.request.headers.get("CONNECTION", "").lower()
        framing = ""
        if open_ended and self.version == "1.1":
            self.chunked_response = True
            framing = "Transfer-Encoding: chunked\r\n"
        stays = asked == "keep-alive" if self.version == "1.0" else asked != "close"
        # a client over a limit does not keep its connection either
        if self.status.startswith("429"):
            self.close_on_finish = self.channel.refused = True
        if open_ended or not stays or self.channel.server.stopping:
            self.close_on_finish = True
        if self.close_on_finish:
            return framing + "Connection: close"
        return "Connection: Keep-Alive" if self.version == "1.0" else ""

    def set_close_on_finish(self) -> None:
        """Replaces Task.set_close_on_finish. The header line is written by `_connection`."""
        self.close_on_finish = True


class ApplicationResponse(Head, WSGITask):
    """Runs the application. A long-poll handler suspends its request with `mosis.park(seconds, arm)` of the environment;
    `mosis.memory` is what it remembers of the request when it is dispatched again."""

    def get_environment(self) -> dict[str, Any]:
        """Extends WSGITask.get_environment."""
        environ: dict[str, Any] = super().get_environment()
        environ["mosis.memory"] = self.request.memory
        environ["mosis.park"] = self._suspend
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

    def execute(self) -> None:
        """Extends WSGITask.execute: sends the response that `run` has made, if it was called."""
        made: Response | None = self.request.response
        if made is None:
            super().execute()
            return
        self.status, self.response_headers, self.complete = made.status, made.headers, True
        self.content_length = len(made.body)
        self.write(made.body)


class Cached(Head, Task):
    """Sends a response that was complete before the request arrived."""

    def message(self) -> bytes:
        """Head and body in one."""
        self.status, lines, body = self.request.answer
        first = [
            f"HTTP/{self.version} {self.status}",
            f"Date: {_date(int(time()))}",
            self._connection(False),
            "",
        ]
        return b"".join(
            ("\r\n".join(filter(None, first)).encode("latin-1"), b"\r\n", lines, b"\r\n", body)
        )


class Refusal(Head, ErrorTask):
    """Answers a request that does not reach the application: a problem (RFC 9457) and a log line;
    the connection is closed."""

    @property
    def has_body(self) -> bool:
        """Replaces Task.has_body."""
        return self.request.command != "HEAD"

    def execute(self) -> None:
        """Replaces ErrorTask.execute."""
        request, error = self.request, self.request.error
        if not isinstance(error, PortalError):
            error = internal()
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
