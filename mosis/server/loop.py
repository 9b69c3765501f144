"""The event loop: accepts connections, keeps their number and their unsent bytes within bounds, checks time limits, stops."""

import ipaddress
import logging
import resource
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.server import TcpWSGIServer

from mosis.caller import client_address, is_in, network_of
from mosis.metrics import Family, MetricsRegistry
from mosis.rate_limits import TokenBuckets
from mosis.server.channel import Channel
from mosis.server.connections import IDLE, MOVING, SLOW, Connections, Turns
from mosis.server.lanes import GROUP_BODY_BYTES, Transaction, lanes
from mosis.server.request import SPOOL_PREFIX, Admission, Admit, Answer, Bounds, Ready, Request

log = logging.getLogger("mosis.server")

MIB = 1024 * 1024
ACCEPT_AT_ONCE = 64  # connections
EVENTS_AT_ONCE = 256  # the kernel reports what is left over first the next time, and those again
TURN_SECONDS = 0.001  # for the events of one turn; the others wait for the next one
GRACE_SECONDS = 1.0  # a connection is not closed for another so soon after it was opened or served
# What a thread waits for another that computes, each time it comes back from the disk or the
# database: a hundred times in an upload. CPython's default of 5 ms made uploads slow beside a busy loop.
SWITCH_SECONDS = 0.0002
TICK_SECONDS = 0.5  # how often the time limits of each connection are checked
CHECK_AT_ONCE = 64  # connections whose time limits are checked in one turn
UNSENT_LEFT = 0.875  # of the bound on unsent bytes, when connections had to be closed for it
CONNECTIONS = 1000
REPLACED = 20  # connections a second that one address may replace by new ones when it has its share
LOOPBACK_CONNECTIONS = 8  # beyond the others, for health checks and operators on this machine
SETTINGS = {
    "connection_limit": CONNECTIONS,
    "channel_timeout": 30,  # seconds without a byte in either direction
    "max_request_header_size": 32768,
    "ident": None,
    "listen": "",  # the socket is ours, see `Listening.open`
    "expose_tracebacks": False,
    # Of the headers of proxies only X-Forwarded-For reaches the application, unchanged: it trusts the header or not by
    # REMOTE_ADDR, which is always the peer's address here. The others are dropped in request.py.
    "clear_untrusted_proxy_headers": False,
}


def admit_all(method: str, path: str, headers: Any) -> Admission:
    """Every request, with a body of up to 1 MiB, among the quick ones."""
    return Admission(MIB)


def none_ready(request: Any) -> Answer | None:
    """Every request goes to the application."""
    return None


class Listening(TcpWSGIServer):
    """The listening socket of a server, and how the server is stopped; `run` of a subclass serves until then.

    `listen` is ":8080" (every address, IPv6 and IPv4), "127.0.0.1:8080" or "[::1]:8080"; port 0 takes a free one, see
    `port`. Raises OSError when the address is not available.
    """

    stopping = False
    _stop_seconds = 0.0
    _ended = False

    def __init__(
        self, app: Any, sock: socket.socket, adj: Adjustments, dispatcher: Any = None
    ) -> None:
        self._waking = threading.RLock()  # a signal handler may interrupt the thread that holds it
        super().__init__(
            app,
            _sock=sock,
            dispatcher=dispatcher,
            adj=adj,
            bind_socket=False,
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
        )
        allow_descriptors(4 * adj.connection_limit)

    @staticmethod
    def open(listen: str) -> socket.socket:
        """The listening socket for an address as the class describes it."""
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", int(port)), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=1024)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.effective_port)

    def fix_addr(self, addr: Any) -> Any:
        """Replaces TcpWSGIServer.fix_addr: an IPv4 peer of the IPv6 socket is written as an IPv4 address."""
        host: str = addr[0]
        return (host[7:], *addr[1:]) if host.startswith("::ffff:") and "." in host else addr

    def stop(self, timeout_seconds: float = 8.0) -> None:
        """Make `run` accept no new connection, finish running requests within the time, and return. Does not wait itself:
        any thread or signal handler may call it. The first call counts."""
        if self.stopping:
            return
        self._stop_seconds = timeout_seconds
        self.stopping = True
        self.wake()

    def wake(self) -> None:
        """Wake the loop, from any thread; nothing once it has ended: descriptors are reused."""
        with self._waking:
            if not self._ended:
                self.trigger.pull_trigger()

    def _end(self) -> None:
        """Close every socket that is left."""
        with self._waking:
            self._ended = True
        wasyncore.close_all(self._map, ignore_all=True)


class Server(Listening):
    """Serves a WSGI application, with bounds on what clients can cost. Needs Linux, for epoll.

    `admit(method, path, headers)` decides on each request as soon as its head is complete: it returns an Admission or raises
    PortalError, which is then the response. It runs in the loop's thread and must be quick; `headers` has WSGI names without
    HTTP_, such as CONTENT_LENGTH or X_API_KEY. Before that `ready(request)` may answer a request without body from a cache,
    in the same thread; None passes it to the application. A thread calls `rests` when it has served a request.
    Bodies over 64 KiB are stored in `temporary_dir`, which is emptied now. A head must be complete within
    `head_timeout_seconds`; a body may take `body_timeout_seconds` and a second more for each 16 KiB that arrived.
    One IPv4 address or IPv6 /64 may have `connections_per_address`, the networks in `proxies` any number. Responses that
    clients have not read may take `unsent_limit_bytes` of memory in all; beyond that the slowest readers are closed.
    `transactions` has the lanes of one thread whose requests share a transaction, see lanes.py.
    `measures` counts refusals, and reads connections and threads. Further settings are waitress's own.
    """

    channel_class = Channel

    def __init__(
        self,
        app: Any,
        listen: str = ":8080",
        threads: int = 8,
        admit: Admit = admit_all,
        temporary_dir: Path | None = None,
        *,
        ready: Ready = none_ready,
        transactions: Mapping[str, Transaction] | None = None,
        rests: Callable[[], None] = lambda: None,
        measures: MetricsRegistry | None = None,
        head_timeout_seconds: float = 15.0,
        body_timeout_seconds: float = 30.0,
        connections_per_address: int = 100,
        proxies: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
        unsent_limit_bytes: int = 16 * MIB,
        **settings: Any,
    ) -> None:
        if temporary_dir is not None:
            sweep(temporary_dir)
        sock = self.open(listen)
        self.bounds = Bounds(
            admit, ready, temporary_dir, head_timeout_seconds, body_timeout_seconds
        )
        self.lanes = lanes(threads, rests, transactions or {})
        self.measures = measures or MetricsRegistry()
        self.measures.readings.append(self.readings)
        self.share = connections_per_address
        self.proxies = tuple(proxies)
        self.connections = Connections()
        self._turns = Turns()
        self._replaced = TokenBuckets(REPLACED, REPLACED)
        self._suspended = 0  # requests
        self._suspended_lock = threading.Lock()
        self._unsent = 0
        self._unsent_limit = unsent_limit_bytes
        self._unsent_lock = threading.Lock()
        self._epoll = select.epoll()
        self._listening = True
        self._next_check = 0.0  # monotonic
        self._accept_after = 0.0  # monotonic
        # The loop and the lanes take the place of waitress's dispatcher.
        settings = SETTINGS | {"outbuf_high_watermark": MIB} | settings
        super().__init__(app, sock, Adjustments(**settings), dispatcher=self)
        # Of the WSGI environment of each request.
        self.environment: dict[str, Any] = {
            "SERVER_PORT": str(self.effective_port),
            "SERVER_NAME": self.server_name,
            "SERVER_SOFTWARE": self.adj.ident,
            "SCRIPT_NAME": "",
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": ReadOnlyFileBasedBuffer,
            "wsgi.input_terminated": True,
        }
        self._epoll.register(self.trigger._fileno, select.EPOLLIN)
        self._epoll.register(self._fileno, select.EPOLLIN)

    def readings(self) -> Iterator[Family]:
        """Connections, unsent bytes, and the threads of each lane."""
        connections = Family("portal_connections", "Connections of clients.")
        yield connections.add(len(self.active_channels))
        unsent = Family("portal_unsent_bytes", "Responses in memory that wait for readers.")
        yield unsent.add(self._unsent)
        threads = Family("portal_threads", "Threads of each lane.")
        busy = Family("portal_threads_busy", "Those that are at work.")
        waiting = Family("portal_requests_waiting", "Requests that wait for a thread of the lane.")
        for name, lane in self.lanes.items():
            for family, number in zip((threads, busy, waiting), lane.state, strict=True):
                family.add(number, lane=name)
        yield from (threads, busy, waiting)

    def run(self) -> None:
        """Replaces BaseWSGIServer.run: serves until `stop` is called, then lets running requests finish."""
        sys.setswitchinterval(SWITCH_SECONDS)
        while not self.stopping:
            self._turn(TICK_SECONDS)
        deadline = monotonic() + self._stop_seconds
        self._listen(False)
        self._epoll.unregister(self._fileno)
        self.socket.close()
        while self.active_channels and monotonic() < deadline:
            for channel in list(self.active_channels.values()):
                if channel.suspended:
                    channel.resume(channel.suspended)
                if not channel.requests and not channel.total_outbufs_len:
                    channel.handle_close()
            self._turn(0.05)
        for lane in self.lanes.values():
            lane.stop(deadline)
        self._end()
        self._epoll.close()

    def add_task(self, channel: Channel) -> None:
        """Replaces ThreadedTaskDispatcher.add_task: runs a channel's request in its lane."""
        request = channel.requests[0]
        lane = request.lane
        if lane == "writes" and request.body_bytes > GROUP_BODY_BYTES:
            lane = "quick"
        self.lanes[lane].add(request.account or self._client(channel, request), channel)

    def _client(self, channel: Channel, request: Request) -> str:
        """The key of a request without a known account: the client's address."""
        if not self.proxies:
            return channel.network
        forwarded_for = request.headers.get("X_FORWARDED_FOR", "")
        return network_of(client_address(self.proxies, channel.addr[0], forwarded_for))

    def take_suspension(self) -> bool:
        """Count another request as suspended, until `end_suspension`: whether it may be. Not while the server stops, and at most
        half of the connections. Any thread."""
        with self._suspended_lock:
            if self.stopping or self._suspended >= self.adj.connection_limit // 2:
                return False
            self._suspended += 1
            return True

    def end_suspension(self) -> None:
        """A suspended request goes on; any thread."""
        with self._suspended_lock:
            self._suspended -= 1

    def client_of(self, channel: Channel) -> str:
        """Whose connection it is, see mosis/server/connections.py."""
        proxied = is_in(channel.addr[0], self.proxies)
        return f"{channel.network} {id(channel)}" if proxied else channel.network

    def watch(self, fd: int, before: int, events: int) -> None:
        """Report these events of a channel from now on, instead of those `before`, and none if there
        are none. Any thread that holds the channel's lock may call it."""
        if not events:
            self._epoll.unregister(fd)
        elif before:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def pull_trigger(self) -> None:
        """Replaces BaseWSGIServer.pull_trigger, by which waitress wakes its loop: here channels call `arm`."""

    def count_unsent(self, change_bytes: int) -> None:
        """The unsent bytes in memory changed; any thread. Wakes the loop when they pass their limit."""
        with self._unsent_lock:
            before, self._unsent = self._unsent, self._unsent + change_bytes
        if before <= self._unsent_limit < before + change_bytes:
            self.wake()

    def close_early(self, channel: Channel, reason: str) -> None:
        """Close a connection to keep a bound, and count it."""
        self.measures.count("portal_connections_closed_total", reason=reason)
        log.info("connection closed early", extra={"client": channel.addr[0], "reason": reason})
        channel.handle_close()

    def handle_accept(self) -> None:
        """Replaces BaseWSGIServer.handle_accept: accepts waiting connections, at most
        ACCEPT_AT_ONCE in a turn, for at most TURN_SECONDS."""
        until = monotonic() + TURN_SECONDS
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, addr = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("accept failed", extra={"reason": str(error)})
                # Without free descriptors this would be a busy loop.
                self._accept_after = monotonic() + TICK_SECONDS
                return
            peer = self.fix_addr(addr)
            if self._make_room(peer[0]):
                with suppress(OSError):  # the client may be gone already
                    self.set_socket_options(sock)
                    channel = self.channel_class(self, sock, peer, self.adj, self._map)
                    self._turns.put(channel)  # most have sent their request already
                    channel.events = select.EPOLLIN
            else:
                self.measures.count("portal_connections_closed_total", reason="refused")
                sock.close()
            if monotonic() > until:
                return

    def _turn(self, timeout_seconds: float) -> None:
        """Wait for events, take new connections, and handle the events in turn between clients for TURN_SECONDS; check time limits
        when it is time."""
        accept, every = (
            False,
            TICK_SECONDS * min(1.0, CHECK_AT_ONCE / max(1, len(self.connections))),
        )
        timeout = 0 if self._turns else min(timeout_seconds, every)
        for fd, flags in self._epoll.poll(timeout, EVENTS_AT_ONCE):
            channel = self.active_channels.get(fd)
            if channel is not None:
                if not channel.events:  # else it waits for its turn already
                    self._turns.put(channel)
                channel.events |= flags
            elif fd == self._fileno:
                accept = True
            elif dispatcher := self._map.get(fd):
                wasyncore.readwrite(dispatcher, flags)
        if accept:
            self.handle_accept()
        until = monotonic() + TURN_SECONDS
        while self._turns and monotonic() < until:
            channel = self._turns.take()
            flags, channel.events = channel.events, 0
            if channel.connected:
                channel.handle(flags)
        if self._unsent > self._unsent_limit:
            self._close_slowest_readers()
        now = monotonic()
        if now >= self._next_check:
            self._next_check = now + every
            for channel in self.connections.next_ones(CHECK_AT_ONCE):
                channel.check_time(now)
        self._listen(not self.stopping and now >= self._accept_after)

    def _close_slowest_readers(self) -> None:
        """Close connections until UNSENT_LEFT of the bound is unsent, the slowest reader first: so much, because finding them looks
        at all connections. The only one with unsent bytes stays: a single response may be longer than the bound."""
        now = monotonic()
        readers = [each for each in list(self.active_channels.values()) if each.unsent_bytes]
        for channel in readers:
            channel.update_debt(now)
        readers.sort(key=lambda each: (each.debt_seconds, each.unsent_bytes))
        while self._unsent > UNSENT_LEFT * self._unsent_limit and len(readers) > 1:
            self.close_early(readers.pop(), "unsent_bytes")

    def _listen(self, wanted: bool) -> None:
        if wanted != self._listening:
            self._listening = wanted
            self._epoll.modify(self._fileno, select.EPOLLIN if wanted else 0)

    def _make_room(self, address: str) -> bool:
        """Whether a connection from this address may be accepted, perhaps because another one is closed for it.

        An address at its share loses the idle connection that was served the longest ago, or else a slow one, or the new one
        is refused, which is cheap: so are those beyond REPLACED a second.

        When nine tenths of all places are taken, an idle connection of the address with the most is closed, when
        all are taken also one that sends or reads. Connections whose request runs are not closed for others, except those
        that pipeline. Loopback has LOOPBACK_CONNECTIONS places more.
        """
        network, extra = network_of(address), LOOPBACK_CONNECTIONS if _is_loopback(address) else 0
        limit = self.adj.connection_limit
        if (
            self.connections.number_of(network) >= self.share + extra
            and not is_in(address, self.proxies)
            and (self._replaced.take(network) or not self._close_one(SLOW, network))
        ):
            return False
        if len(self.connections) >= limit - limit // 10:
            self._close_one(IDLE, grace_seconds=GRACE_SECONDS)
        if len(self.connections) >= limit:
            self._close_one(MOVING)
        return len(self.connections) < limit + extra

    def _close_one(
        self, most: int, network: str | None = None, *, grace_seconds: float = 0.0
    ) -> bool:
        """Close the best candidate of kinds up to `most`, maybe of one network; whether one was."""
        channel = self.connections.to_close(most, monotonic(), grace_seconds, network)
        if channel is None:
            return False
        self.close_early(channel, "share" if network else "full")
        return True


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def sweep(folder: Path) -> None:
    """Create the folder, and remove the bodies that a killed process left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if left.name.startswith(SPOOL_PREFIX):
            left.unlink(missing_ok=True)


def allow_descriptors(wanted: int) -> None:
    """Raise the limit of open files and sockets to this many, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
