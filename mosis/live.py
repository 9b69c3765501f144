"""Events as they happen, over WebSockets: a listener of its own (EVENTS_ADDR), one thread with an event loop, off unless set.

A connection says who it is with `Authorization: Bearer` or `X-API-Key`, as everywhere; `?after=ID` resumes behind an event,
without it events come from now on. Each message is one event, as GET /events shows it. Whoever reads too slowly is cut off and
can resume; a credential is looked at again with every heartbeat, so that it ends the connection when it ends.
"""

import asyncio
import contextlib
import http
import json
import logging
import socket
import threading
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mosis import accounts, events, keys, notifications, problems, tokens
from mosis.callers import Caller
from mosis.db import Connection, new_id
from mosis.environment import Environment
from mosis.errors import Denied, LimitReached, NotFound, PortalError
from mosis.pages import Wanted

log = logging.getLogger("mosis.live")
CONNECTIONS = 1000
OF_ONE = 20  # connections of one account
HEARTBEAT_SECONDS = 20.0
SLOW_SECONDS = 10.0  # how long a message may wait for its reader
WRITE_BYTES = 16 * 1024  # unsent; more makes the sender wait
PATHS = ("/events", "/v1/events")


class Listener:
    """The WebSocket server. Raises OSError when the address cannot be had, ImportError without the library `websockets`."""

    def __init__(self, env: Environment, listen: str, heartbeat_seconds: float = HEARTBEAT_SECONDS,
                 slow_seconds: float = SLOW_SECONDS) -> None:
        import websockets.asyncio.server  # noqa: F401  (missing: say so at start)

        self.env = env
        self.heartbeat_seconds = heartbeat_seconds
        self.slow_seconds = slow_seconds
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        dual = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, int(port)), family=family, backlog=1024, dualstack_ipv6=dual)
        self.port = int(self._socket.getsockname()[1])
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._open: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(10)

    def stop(self, timeout_seconds: float = 5) -> None:
        """End every connection with 1001 (going away)."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # no compression: it costs more memory for each connection than everything else
        async with serve(
            self._talk, sock=self._socket, process_request=self._admit, compression=None, max_size=1024, max_queue=2,
            write_limit=WRITE_BYTES, ping_interval=self.heartbeat_seconds, ping_timeout=self.heartbeat_seconds, open_timeout=10,
            close_timeout=2, server_header=None, logger=logging.getLogger("mosis.live.protocol"),
        ):
            self._ready.set()
            await self._stop.wait()

    def _admit(self, connection: Any, request: Any) -> Any:
        """Let a handshake pass, or answer it with a problem (RFC 9457)."""
        try:
            db = self.env.db.connection()
            parts = urlsplit(request.path)
            if parts.path not in PATHS:
                raise NotFound("address here; events are at /v1/events")
            credential = _credential(request.headers)
            caller = self._caller(db, connection, credential)
            self.env.limits.take("account", caller.account)
            if sum(self._open.values()) >= CONNECTIONS or self._open[caller.account] >= OF_ONE:
                raise LimitReached("rate_limited", "Too many connections; close one, or come back.", retry_after_seconds=30)
            after = parse_qs(parts.query).get("after")
            connection.state_of_ours = (
                caller, credential, events.number_of(db, caller, after[-1]) if after else events.newest(db, caller),
            )
            return None
        except PortalError as error:
            return _refusal(connection, error)
        except Exception:
            log.exception("crash in a handshake")
            return _refusal(connection, PortalError("internal", "Something went wrong here. The operator finds it in the log."))

    def _caller(self, db: Connection, connection: Any, credential: str) -> Caller:
        address = str(connection.remote_address[0]) if connection.remote_address else ""
        of_credential = keys.caller_of_key if credential.startswith(tokens.KEY_PREFIX) else accounts.caller_of_access_token
        caller = of_credential(self.env, db, credential, address, "websocket")
        if caller.scopes is not None and "apps:read" not in caller.scopes:
            raise Denied("insufficient_scope", "This API key lacks the scope apps:read.", scope="apps:read")
        return caller

    async def _talk(self, connection: Any) -> None:
        caller, credential, number = connection.state_of_ours
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        self._open[caller.account] += 1
        end = self.env.news.subscribe(caller.account, lambda: _call(loop, woken))
        sending = asyncio.create_task(self._send_all(connection, caller, credential, number, woken))
        closed = asyncio.create_task(connection.wait_closed())
        try:
            await asyncio.wait({sending, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            end()
            self._open[caller.account] -= 1
            if not self._open[caller.account]:
                del self._open[caller.account]
            for task in (sending, closed):
                task.cancel()
            await asyncio.gather(sending, closed, return_exceptions=True)

    async def _send_all(self, connection: Any, caller: Caller, credential: str, number: int, woken: asyncio.Event) -> None:
        db = self.env.db.connection()
        try:
            while True:
                woken.clear()
                page = events.after(db, caller, Wanted(50, (number,)))
                for event in page.rows:
                    async with asyncio.timeout(self.slow_seconds):
                        await connection.send(json.dumps(notifications.shown(event), ensure_ascii=False))
                    number = event.number
                if page.next_cursor:
                    continue
                try:
                    async with asyncio.timeout(self.heartbeat_seconds):
                        await woken.wait()
                except TimeoutError:
                    caller = self._caller(db, connection, credential)
        except TimeoutError:
            log.info("slow reader cut off", extra={"caller": caller.developer_id})
            connection.transport.abort()
        except Denied as error:
            await connection.close(1008, error.code)
        except Exception as error:
            if type(error).__module__.startswith("websockets"):
                return  # it is closed
            log.exception("crash in a connection")
            await connection.close(1011)


def _call(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(woken.set)


def _credential(headers: Any) -> str:
    if key := headers.get("X-API-Key"):
        return str(key).strip()
    kind, _, credential = headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not credential.strip():
        raise Denied("unauthenticated", "Send `Authorization: Bearer` with an access token or an API key.")
    return str(credential).strip()


def _refusal(connection: Any, error: PortalError) -> Any:
    status = problems.status(error.code)
    answer = connection.respond(http.HTTPStatus(status), "")
    answer.body = problems.body(error.code, error.detail, new_id(), errors=error.errors or None, **error.facts)
    for name in ("Content-Type", "Content-Length"):
        del answer.headers[name]
    answer.headers["Content-Type"] = problems.CONTENT_TYPE
    answer.headers["Content-Length"] = str(len(answer.body))
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="mosis"'
    return answer
