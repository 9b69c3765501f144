"""Events over WebSocket, as they happen: a separate listener (EVENTS_ADDR) with one thread and an
event loop, off by default.

A connection authenticates with `Authorization: Bearer` or `X-API-Key`; `?after=ID` resumes behind
an event, otherwise events are sent from now on. Each message is one event, in the form of GET
/events. A slow reader is disconnected and can resume. Credentials are checked again with every
heartbeat; when one ends, its connections are closed. Responses to handshakes have a request id and
a log line.

All connections share one event loop, so no step may take long: past events are read page by page, a
few pages in each turn of the loop, and count towards the account's rate limit.
"""

import asyncio
import contextlib
import http
import json
import logging
import socket
import threading
from collections import Counter
from time import monotonic
from typing import Any
from urllib.parse import parse_qs

from mosis import events, problems
from mosis.caller import Caller, client_address, is_in, network_of
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import Page, PageRequest
from mosis.errors import Denied, Internal, LimitReached, MalformedRequest, NotFound, PortalError
from mosis.events import Event
from mosis.ids import request_id_of
from mosis.notifications import feed
from mosis.people import authentication

log = logging.getLogger("mosis.notifications.websocket")
protocol_log = logging.getLogger("mosis.notifications.websocket.protocol")
CONNECTIONS = 1000
SOCKETS = 2000  # including pending handshakes, which have HANDSHAKE_SECONDS
HANDSHAKE_SECONDS = 10
REPLAYS_AT_ONCE = 2  # pages of past events read in one turn of the loop
PAGE = 50  # events in a page
OF_ONE = 20  # connections per account
HEARTBEAT_SECONDS = 20.0
SLOW_SECONDS = 10.0  # how long a message may wait for its reader
IGNORED_SECONDS = 0.05  # from one message of the client, which are ignored, to the next
WRITE_BYTES = 16 * 1024  # unsent bytes, beyond which sending waits
PATHS = ("/events", "/v1/events")


class Listener:
    """The WebSocket server. Raises OSError for its address, ImportError without `websockets`."""

    def __init__(
        self,
        env: Context,
        listen: str,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
        most_sockets: int = SOCKETS,
    ) -> None:
        import websockets.asyncio.server  # noqa: F401  (fail at start if it is missing)

        self.env = env
        self.heartbeat_seconds = heartbeat_seconds
        self.slow_seconds = slow_seconds
        self.most_sockets = most_sockets
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        dual = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
        self._socket = socket.create_server(
            (host, int(port)), family=family, backlog=1024, dualstack_ipv6=dual
        )
        self.port = int(self._socket.getsockname()[1])
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._open: Counter[str] = Counter()  # connections per account
        self._sockets = 0
        self._of_network: Counter[str] = Counter()  # sockets per address, without trusted proxies
        self._pending: dict[Any, str] = {}  # pending handshakes with their network, oldest first
        self._replays: asyncio.Semaphore | None = None
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(10)

    def stop(self, timeout_seconds: float = 5) -> None:
        """End every connection with 1001 (going away)."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(timeout_seconds)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._open.total()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from websockets.asyncio.server import ServerConnection, serve

        listener = self

        class Counted(ServerConnection):
            """Counts a connection while it is open."""

            account: str | None = None
            network = ""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                listener._opened(self)

            def connection_lost(self, exc: Exception | None) -> None:
                listener._closed(self)
                super().connection_lost(exc)

        self._replays = asyncio.Semaphore(REPLAYS_AT_ONCE)
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # The library reports bad handshakes as errors; each response is logged by this module, and
        # debug output would contain tokens.
        protocol_log.setLevel(logging.CRITICAL)
        # no compression: it needs more memory per connection than everything else together
        async with serve(
            self._talk,
            sock=self._socket,
            process_request=self._admit,
            process_response=self._answered,
            compression=None,
            max_size=1024,
            max_queue=2,
            write_limit=WRITE_BYTES,
            ping_interval=self.heartbeat_seconds,
            ping_timeout=HEARTBEAT_SECONDS,
            open_timeout=HANDSHAKE_SECONDS,
            close_timeout=2,
            server_header=None,
            logger=protocol_log,
            create_connection=Counted,
        ):
            self._ready.set()
            await self._stop.wait()

    def _opened(self, connection: Any) -> None:
        """Count a new socket; it or an older pending one may be closed if the places are taken."""
        peer = connection.remote_address
        address = str(peer[0]).removeprefix("::ffff:") if peer else ""
        if not is_in(address, self.env.config.trusted_proxy):
            connection.network = network_of(address)
        self._sockets += 1
        self._of_network[connection.network] += 1
        self._pending[connection] = connection.network
        share = self.env.config.connections_per_address
        if connection.network and self._of_network[connection.network] > share:
            connection.transport.abort()
        elif self._sockets > self.most_sockets:
            # Close the oldest handshake of the address with the most sockets; sockets from trusted
            # proxies count as one address each.
            count = {
                network: self._of_network[network] if network else 1
                for network in self._pending.values()
            }
            chosen = max(self._pending, key=lambda each: count[self._pending[each]])
            # `_closed` runs later, and other handshakes may arrive before
            del self._pending[chosen]
            chosen.transport.abort()

    def _closed(self, connection: Any) -> None:
        self._sockets -= 1
        self._of_network[connection.network] -= 1
        if not self._of_network[connection.network]:
            del self._of_network[connection.network]
        self._pending.pop(connection, None)
        if connection.account is not None:
            self._open -= Counter([connection.account])

    def _admit(self, connection: Any, request: Any) -> Any:
        """Accept a handshake, or answer with a problem (RFC 9457)."""
        connection.request_id = request_id_of(_field(request.headers, "X-Request-Id"))
        try:
            db = self.env.db.connection()
            path, _, query = request.path.partition("?")
            if path not in PATHS:
                raise NotFound("address here (events are at /v1/events)")
            credential = _credential(request.headers)
            try:
                caller = self._caller(db, connection, credential)
            except Denied:
                self.env.limits.take(
                    "address", Caller(address=self._address(connection)).client_network
                )
                raise
            self.env.limits.take("account", caller.account)
            if self._open.total() >= CONNECTIONS or self._open[caller.account] >= OF_ONE:
                detail = "Too many connections; close one, or try again later."
                raise LimitReached("rate_limited", detail, retry_after_seconds=30)
            after = parse_qs(query).get("after", [])
            if len(after) > 1:
                raise MalformedRequest("The query has `after` more than once.")
            connection.state_of_ours = (
                caller,
                credential,
                events.number_of(db, caller, after[0]) if after else events.newest(db, caller),
                bool(after),
            )
            connection.account = caller.account
            self._pending.pop(connection, None)
            self._open[caller.account] += 1
            return None
        except PortalError as error:
            return _refusal(connection, error)
        except Exception:
            log.exception("unhandled exception in a handshake")
            return _refusal(connection, Internal())

    def _answered(self, connection: Any, request: Any, response: Any) -> Any:
        """Turn refusals of the library itself (not a WebSocket request, other version) into
        problems too; add the request id and the log line."""
        if (
            response.status_code >= 400
            and response.headers.get("Content-Type") != problems.CONTENT_TYPE
        ):
            headers = {
                name: response.headers[name]
                for name in ("Upgrade", "Sec-WebSocket-Version")
                if name in response.headers
            }
            error = PortalError(
                "malformed_request",
                "This address accepts WebSocket connections only: send `Upgrade: "
                "websocket`, version 13.",
            )
            response = _refusal(connection, error)
            response.headers.update(headers)
        response.headers["X-Request-Id"] = connection.request_id
        log.info(
            "handshake",
            extra={
                "request_id": connection.request_id,
                "status": response.status_code,
                "caller": connection.account,
            },
        )
        return response

    def _address(self, connection: Any) -> str:
        remote = str(connection.remote_address[0]) if connection.remote_address else ""
        forwarded_for = _field(connection.request.headers, "X-Forwarded-For")
        return client_address(self.env.config.trusted_proxy, remote, forwarded_for)

    def _caller(self, db: Connection, connection: Any, credential: str) -> Caller:
        caller = authentication.caller_of(
            self.env, db, credential, self._address(connection), "websocket"
        )
        if caller.scopes is not None and "apps:read" not in caller.scopes:
            detail = "This API key lacks the scope apps:read."
            raise Denied("insufficient_scope", detail, scope="apps:read")
        return caller

    async def _talk(self, connection: Any) -> None:
        caller, credential, number, replays = connection.state_of_ours
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        end = self.env.news.subscribe(caller.account, lambda: _call(loop, woken))
        sending = asyncio.create_task(
            self._send_all(connection, caller, credential, number, replays, woken)
        )
        closed = asyncio.create_task(connection.wait_closed())
        ignoring = asyncio.create_task(_ignore(connection))
        try:
            await asyncio.wait({sending, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            end()
            for task in (sending, closed, ignoring):
                task.cancel()
            await asyncio.gather(sending, closed, ignoring, return_exceptions=True)

    async def _page(
        self, db: Connection, caller: Caller, number: int, replays: bool
    ) -> Page[Event]:
        """The events behind a number; reads wait their turn and count towards the rate limit."""
        if not replays:
            return events.after(db, caller, PageRequest(PAGE, (number,)))
        assert self._replays is not None
        async with self._replays:
            found = events.after(db, caller, PageRequest(PAGE, (number,)))
            await asyncio.sleep(0)  # one page per connection and turn of the loop
        while found.rows:
            try:
                self.env.limits.take("replay", caller.account, len(found.rows))
                break
            except LimitReached as error:
                await asyncio.sleep(error.facts["retry_after_seconds"])
        return found

    async def _send_all(
        self,
        connection: Any,
        caller: Caller,
        credential: str,
        number: int,
        replays: bool,
        woken: asyncio.Event,
    ) -> None:
        db, look_again = self.env.db.connection(), monotonic() + self.heartbeat_seconds
        try:
            while True:
                if monotonic() >= look_again:
                    caller = self._caller(db, connection, credential)
                    look_again = monotonic() + self.heartbeat_seconds
                woken.clear()
                page = await self._page(db, caller, number, replays)
                for event in page.rows:
                    async with asyncio.timeout(self.slow_seconds):
                        await connection.send(json.dumps(feed.shown(event), ensure_ascii=False))
                    number = event.number
                replays = bool(page.next_cursor)
                if replays:
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(look_again - monotonic()):
                        await woken.wait()
        except TimeoutError:
            log.info("slow reader disconnected", extra={"caller": caller.developer_id})
            connection.transport.abort()
        except Denied as error:
            await connection.close(1008, error.code)
        except Exception as error:
            if type(error).__module__.startswith("websockets"):
                return  # the connection is closed
            log.exception("unhandled exception in a connection")
            await connection.close(1011)


async def _ignore(connection: Any) -> None:
    """Read what the client sends, a few messages a second: else its pongs would be held back."""
    async for _ in connection:
        await asyncio.sleep(IGNORED_SECONDS)


def _call(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(woken.set)


def _field(headers: Any, name: str) -> str:
    """The value of a header, repeated ones as one list (RFC 9110, 5.3), where `get` raises."""
    return ", ".join(headers.get_all(name))


def _credential(headers: Any) -> str:
    if key := _field(headers, "X-API-Key"):
        return key.strip()
    kind, _, credential = _field(headers, "Authorization").partition(" ")
    if kind.lower() != "bearer" or not credential.strip():
        detail = "Send `Authorization: Bearer` with an access token or an API key."
        raise Denied("unauthenticated", detail)
    return credential.strip()


def _refusal(connection: Any, error: PortalError) -> Any:
    status = problems.status(error.code)
    answer = connection.respond(http.HTTPStatus(status), "")
    answer.body = problems.body(
        error.code, error.detail, connection.request_id, errors=error.errors or None, **error.facts
    )
    for name in ("Content-Type", "Content-Length"):
        del answer.headers[name]
    answer.headers["Content-Type"] = problems.CONTENT_TYPE
    answer.headers["Content-Length"] = str(len(answer.body))
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="mosis"'
    if "retry_after_seconds" in error.facts:
        answer.headers["Retry-After"] = str(error.facts["retry_after_seconds"])
    return answer
