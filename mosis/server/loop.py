"""The loop, the lanes of threads, the clocks, and stopping."""

import logging
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from mosis.database import turns
from mosis.metrics import Family, Measures
from mosis.server.channel import Channel
from mosis.server.request import SPOOL_PREFIX, Admission, Admit, Answer, Bounds, Ready

log = logging.getLogger("mosis.server")

MIB = 1024 * 1024
SLOW_THREADS = 2
OUTSIDE_THREADS = 4  # for what waits for other servers, which may take seconds each
TELEMETRY_THREADS = 4
TURNS = {
    "telemetry": 1
}  # of the threads of a lane, how many compute at the same time; see mosis/database/turns.py
TICK_SECONDS = 0.5  # how often the clocks are looked at
SETTINGS = {
    "connection_limit": 1000,
    "channel_timeout": 30,  # seconds without a byte in either direction
    "max_request_header_size": 32768,
    "ident": None,
    "expose_tracebacks": False,
    # Of what proxies say only X-Forwarded-For reaches the application, untouched: it believes it or not by REMOTE_ADDR,
    # which is always the peer's address here. The others are dropped in request.py.
    "clear_untrusted_proxy_headers": False,
}


def admit_all(method: str, path: str, headers: Any) -> Admission:
    """Every request, with a body of up to 1 MiB, among the quick ones."""
    return Admission(MIB)


def none_ready(request: Any) -> Answer | None:
    """Every request goes to the application."""
    return None


class Lane:
    """Some threads and the channels that wait for them; `at_once` of the threads compute at the same time (None: all)."""

    def __init__(self, name: str, threads: int, at_once: int | None = None) -> None:
        self._turns = threading.Semaphore(at_once) if at_once else None
        self._waiting: SimpleQueue[Any] = SimpleQueue()
        self._busy = [False] * threads  # each thread writes its own
        self._threads = [
            threading.Thread(
                target=self._work, args=(number,), name=f"{name}-{number + 1}", daemon=True
            )
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()
        self.add = self._waiting.put

    def stop(self, deadline: float) -> None:
        """Let the threads end, and wait for them until the deadline (monotonic)."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))

    @property
    def state(self) -> tuple[int, int, int]:
        """How many threads there are, how many of them are busy, and how many requests wait for one."""
        return len(self._threads), sum(self._busy), self._waiting.qsize()

    def _work(self, number: int) -> None:
        while True:
            self._busy[number] = False
            channel = self._waiting.get()
            if channel is None:
                return
            self._busy[number] = True
            try:
                if self._turns is None:
                    channel.service()
                else:
                    with turns.taken(self._turns):
                        channel.service()
            except Exception:
                log.exception("crash in a worker")
            channel = (
                None  # an idle thread keeps nothing of its last request, least of all a stored body
            )


class Listening(TcpWSGIServer):
    """Where a server listens and how it is told to stop; `run` of a subclass serves until then.

    `listen` is ":8080" (every address, IPv6 and IPv4), "127.0.0.1:8080" or "[::1]:8080"; port 0 takes a free one, see
    `port`. Raises OSError when the address cannot be had.
    """

    stopping = False
    _stop_seconds = 0.0

    def __init__(
        self, app: Any, sock: socket.socket, adj: Adjustments, dispatcher: Any = None
    ) -> None:
        super().__init__(
            app,
            _sock=sock,
            dispatcher=dispatcher,
            adj=adj,
            bind_socket=False,
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
        )
        allow_descriptors(4 * adj.connection_limit)
        self._woken = threading.Event()  # `stop` has written to the pipe that wakes the loop

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
        """The peer; an IPv4 address that came through the IPv6 socket is written as what it is."""
        host: str = addr[0]
        return (host[7:], *addr[1:]) if host.startswith("::ffff:") and "." in host else addr

    def stop(self, timeout_seconds: float = 8.0) -> None:
        """Make `run` take no new connection, finish running requests within the time, and return. Does not wait itself: any
        thread or signal handler may call it. The first call counts."""
        if self.stopping:
            return  # the pipe that wakes the loop may be closed already, and its number be another file's
        self._stop_seconds = timeout_seconds
        self.stopping = True
        self.trigger.pull_trigger()
        self._woken.set()


class Server(Listening):
    """A WSGI application on a port, with bounds on what clients can cost.

    `admit(method, path, headers)` decides on each request as soon as its head is there: it returns an Admission or
    raises PortalError, which is then the answer. It runs in the loop's thread and must be quick; `headers` has WSGI names
    without HTTP_, such as CONTENT_LENGTH or X_API_KEY. Before that `ready(request)` may answer a request without body at once, in
    the same thread; it gives None where the application is to be asked.
    Bodies over 64 KiB wait in `temporary_dir`, which is swept now. A head must be there within `head_timeout_seconds`; a
    body may take `body_timeout_seconds` and a second more for each 16 KiB that arrived.
    `measures` is told of refusals, and asks for connections and threads.
    Further settings are waitress's own. Needs Linux, for epoll.
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
        measures: Measures | None = None,
        head_timeout_seconds: float = 15.0,
        body_timeout_seconds: float = 30.0,
        **settings: Any,
    ) -> None:
        if temporary_dir is not None:
            sweep(temporary_dir)
        sock = self.open(listen)
        self.bounds = Bounds(
            admit, ready, temporary_dir, head_timeout_seconds, body_timeout_seconds
        )
        sizes = {
            "quick": threads,
            "slow": SLOW_THREADS,
            "outside": OUTSIDE_THREADS,
            "telemetry": TELEMETRY_THREADS,
        }
        self.lanes = {name: Lane(name, size, TURNS.get(name)) for name, size in sizes.items()}
        self.measures = measures or Measures()
        self.measures.readings.append(self.readings)
        self._epoll = select.epoll()
        self._listening = True
        self._next_tick = 0.0
        self._accept_after = 0.0  # monotonic
        # the loop and the lanes are ours: waitress's dispatcher has no part in it
        super().__init__(app, sock, Adjustments(**SETTINGS | settings), dispatcher=self)
        self._epoll.register(self.trigger._fileno, select.EPOLLIN)
        self._epoll.register(self._fileno, select.EPOLLIN)

    def readings(self) -> Iterator[Family]:
        """Connections, and the threads of each lane."""
        connections = Family("portal_connections", "gauge", "Connections of clients.")
        yield connections.add(len(self.active_channels))
        threads = Family("portal_threads", "gauge", "Threads of each lane.")
        busy = Family("portal_threads_busy", "gauge", "Those that are at work.")
        waiting = Family(
            "portal_requests_waiting", "gauge", "Requests that wait for a thread of the lane."
        )
        for name, lane in self.lanes.items():
            for family, number in zip((threads, busy, waiting), lane.state, strict=True):
                family.add(number, lane=name)
        yield from (threads, busy, waiting)

    def run(self) -> None:
        """Serve until `stop` is called, then let what runs come to its end."""
        while not self.stopping:
            self._turn(TICK_SECONDS)
        deadline = monotonic() + self._stop_seconds
        self._listen(False)
        self._epoll.unregister(self._fileno)
        self.socket.close()
        while self.active_channels and monotonic() < deadline:
            for channel in list(self.active_channels.values()):
                if channel.parked:
                    channel.resume(channel.parked)
                if not channel.requests and not channel.total_outbufs_len:
                    channel.handle_close()
            self._turn(0.05)
        for lane in self.lanes.values():
            lane.stop(deadline)
        self._woken.wait(1)  # before the pipe is closed: the loop may have seen `stopping` first
        wasyncore.close_all(self._map, ignore_all=True)
        self._epoll.close()

    def add_task(self, channel: Channel) -> None:
        """Have a channel's first request run in its lane."""
        self.lanes[channel.requests[0].lane].add(channel)

    def may_park(self) -> bool:
        """Whether another request may be put aside: not while the server stops, and at most half of the connections."""
        if self.stopping:
            return False
        return (
            sum(1 for each in list(self.active_channels.values()) if each.parked)
            < self.adj.connection_limit // 2
        )

    def watch(self, fd: int, events: int, new: bool = False) -> None:
        """Wait for the next of these events on a channel; any thread may ask."""
        if new:
            self._epoll.register(fd, events | select.EPOLLONESHOT)
        elif events:
            self._epoll.modify(fd, events | select.EPOLLONESHOT)

    def unwatch(self, fd: int) -> None:
        """Forget a channel that is about to be closed."""
        self._epoll.unregister(fd)

    def pull_trigger(self) -> None:
        """Nothing: waitress wakes its loop by this, and here channels are armed instead."""

    def handle_accept(self) -> None:
        """Take what waits, as far as the connection limit goes."""
        while len(self.active_channels) < self.adj.connection_limit:
            try:
                sock, addr = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("accept failed", extra={"reason": str(error)})
                self._accept_after = (
                    monotonic() + TICK_SECONDS
                )  # without descriptors this would be a busy loop
                return
            with suppress(OSError):  # the client may be gone already
                self.set_socket_options(sock)
                self.channel_class(self, sock, self.fix_addr(addr), self.adj, self._map)

    def _turn(self, timeout_seconds: float) -> None:
        """Wait for events and see to them; look at the clocks when it is time."""
        accept = False
        for fd, flags in self._epoll.poll(timeout_seconds):
            if fd == self._fileno:
                accept = True  # last, so that an event of a connection closed in this turn does not meet a new one
            elif dispatcher := self._map.get(fd):
                wasyncore.readwrite(dispatcher, flags)
                if isinstance(dispatcher, Channel):
                    dispatcher.arm()
        if accept:
            self.handle_accept()
        now = monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            for channel in list(self.active_channels.values()):
                channel.check_time(now)
        has_room = len(self.active_channels) < self.adj.connection_limit
        self._listen(has_room and not self.stopping and now >= self._accept_after)

    def _listen(self, wanted: bool) -> None:
        if wanted != self._listening:
            self._listening = wanted
            self._epoll.modify(self._fileno, select.EPOLLIN if wanted else 0)


def sweep(folder: Path) -> None:
    """Make the folder, and remove the bodies that a killed process left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(SPOOL_PREFIX + "*"):
        with suppress(FileNotFoundError):
            left.unlink()


def allow_descriptors(wanted: int) -> None:
    """Have the process open this many files and sockets, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
