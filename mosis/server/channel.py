"""One client connection: reads requests one at a time and sends responses without holding a thread.

Two kinds of threads touch a channel. The loop's thread reads, parses, sends the rest of long responses and is the only one
to close; one worker at a time runs the application and tries to send its response at once. `outbuf_lock` guards what is to
be sent and what the loop watches; `requests_lock` guards the running request.

Input beyond the request that runs stays unparsed, and little of it is read. No worker waits for a client, except in a
response that comes from a generator, and then for WAIT_SECONDS at most.
"""

import fcntl
import io
import logging
import os
import select
import socket
import struct
import termios
import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import ClientDisconnected, HTTPChannel

from mosis.caller import network_of
from mosis.errors import Internal, LimitReached, PortalError
from mosis.server.request import BODY_BYTES, Request
from mosis.server.responses import ApplicationResponse, Cached, Refusal
from mosis.server.suspension import Suspended

log = logging.getLogger("mosis.server")

IN, OUT, GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP
# a response is sent when it is complete or this long: head and body leave together
SEND_BYTES = 18_000
# Sent to one client in one turn, so that a fast reader does not delay the others; nginx's
# sendfile_max_chunk.
FLUSH_BYTES = 2 * 1024 * 1024
# The next pipelined request starts when no more than this is unsent; nor does more wait in the
# kernel for a client that sends requests and does not read.
AHEAD_BYTES = 64 * 1024
CACHED_AT_ONCE = 2  # pipelined requests that are answered from a cache in one turn
# input of a refused client is read and discarded for so long, so that it gets the response
LINGER_SECONDS = 3.0
WAIT_SECONDS = 30.0  # what one response from a generator may wait for its client in all
SEND_RATE = 4 * 1024  # bytes a second that a client must take; even a GPRS phone does
# how far a client may fall behind SEND_RATE before its connection is closed
SEND_DEBT_SECONDS = 30.0


class Channel(HTTPChannel):
    """A connection with bounds. The loop watches it for what it can handle, so that an idle one costs nothing."""

    task_class = ApplicationResponse
    error_task_class = Refusal
    parser_class = Request

    request: Request | None = None  # the one that is arriving
    refused = False  # the last request was refused; whatever follows is read and discarded
    suspended: Suspended | None = None
    events = 0  # that wait for their turn
    lingers_until = 0.0  # monotonic; not 0 while the rest of a refused client's input is discarded
    unsent_bytes = 0  # in memory; files that wait to be sent take none
    debt_seconds = 0.0  # how far the client is behind SEND_RATE; a larger one is closed earlier

    def __init__(
        self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: dict[int, Any]
    ) -> None:
        """Extends HTTPChannel.__init__."""
        self.active_at = self.served_at = monotonic()  # last byte; last response, or the start
        self.network = network_of(addr[0])
        self.addr = addr
        self.client = server.client_of(self)
        self.pending = b""  # input that is not parsed yet
        self._sent = self._acknowledged = 0
        self._debt_at = self.active_at
        self._unread_at = AHEAD_BYTES  # of _sent, when it is looked how much of it is unread
        self._reported = 0  # of unsent_bytes, to the server
        self._waited = 0.0
        super().__init__(server, sock, addr, adj, map)
        self._lock = threading.RLock()
        self.outbuf_lock = threading.Condition(self._lock)
        self.outbufs: deque[Any] = deque()  # bytes, memoryview, or files in waitress's wrapper

    # The loop's thread

    def add_channel(self, map: dict[int, Any] | None = None) -> None:
        """Extends HTTPChannel.add_channel."""
        super().add_channel(map)
        self.server.watch(self._fileno, 0, IN)
        self._watched = IN
        self.server.connections.add(self)

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        """Extends HTTPChannel.del_channel."""
        self._watch(0)
        self.server.connections.remove(self)
        super().del_channel(map)

    def handle(self, flags: int) -> None:
        """Handle events. What the client does while its request runs is left to the kernel until
        then, also that it is gone: its connection counts as long as its request does."""
        wanted = self._wanted()
        if not wanted:
            with self._lock:
                if not self._wanted():
                    self._watch(0)
            return
        try:
            if flags & wanted & IN:  # the end of the input is read when nothing runs
                self.handle_read()
            if flags & OUT:
                self.handle_write()
            if flags & GONE:
                self.handle_close()
        except Exception:
            log.exception("unhandled exception on a connection")
            self.handle_close()
        self.arm()

    def handle_read(self) -> None:
        """Replaces HTTPChannel.handle_read."""
        size = BODY_BYTES if self.lingers_until else Request.HEAD_BYTES
        if self.request is not None and not self.lingers_until:
            size = self.request.read_bytes
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.handle_close()
        elif not self.lingers_until:
            self.active_at = monotonic()
            self.pending += data
            self._parse()

    def handle_write(self) -> None:
        """Replaces HTTPChannel.handle_write."""
        if self._lock.acquire(False):  # else a worker is sending, and calls `arm` afterwards
            try:
                self._flush_some()
            finally:
                self._lock.release()
        if self.close_when_flushed and not self.total_outbufs_len and not self.lingers_until:
            self._end()
        if self.will_close:
            self.handle_close()
        else:
            self._parse()

    def handle_close(self) -> None:
        """Replaces HTTPChannel.handle_close."""
        with self._lock:
            for waiting in self.outbufs:
                if isinstance(waiting, ReadOnlyFileBasedBuffer):
                    waiting.close()
            self.outbufs.clear()
            self.total_outbufs_len = self.unsent_bytes = 0
            self._report_unsent()
            self.pending = b""
            if self.request is not None:
                self.request.close()
            if self.socket is not None:
                self.close()
            self.outbuf_lock.notify_all()  # a worker may be waiting for buffer space
        if self.suspended:
            self.resume(self.suspended)

    def check_time(self, now: float) -> None:
        """Close what is idle or reads too slowly, and refuse requests that take too long to arrive. `now` is monotonic."""
        self.update_debt(now)
        if self.will_close or self.debt_seconds > SEND_DEBT_SECONDS:
            self.server.close_early(self, "slow_reader")
        elif self.lingers_until:
            if now > self.lingers_until:
                self.handle_close()
        elif self.suspended and now > self.suspended.until:
            self.resume(self.suspended)
        elif self.requests:
            pass  # it runs; the application bounds its own time
        elif self.total_outbufs_len:
            if self.request is not None:
                self.request.since = now  # nothing is read until the client has read
        elif self.request is not None and self.request.overdue(now):
            self.request.refuse(
                LimitReached(
                    "request_timeout", "The request took too long to arrive; send it again."
                )
            )
            self._start()
        elif now - self.active_at > self.adj.channel_timeout:
            self.handle_close()

    def update_debt(self, now: float) -> None:
        """Update `debt_seconds`; acknowledged bytes count as read (tcp(7), SIOCOUTQ)."""
        if self._fileno is None:
            return
        if self.total_outbufs_len:
            taken = self._sent - self._in_kernel() - self._acknowledged
            self.debt_seconds = max(
                0.0, self.debt_seconds + now - self._debt_at - taken / SEND_RATE
            )
            self._acknowledged += taken
        else:
            self.debt_seconds = 0.0
            self._acknowledged = self._sent
        self._debt_at = now

    def _in_kernel(self) -> int:
        """The sent bytes that the client's kernel has not acknowledged."""
        queued: int = struct.unpack("i", fcntl.ioctl(self._fileno, termios.TIOCOUTQ, bytes(4)))[0]
        return queued

    def _bound_unread(self) -> None:
        """Called before a request is parsed. The kernel's buffer grows to megabytes, hundreds of
        small responses that nobody reads: if the client has not read the earlier ones, no more than
        AHEAD_BYTES may wait there (tcp(7), TCP_NOTSENT_LOWAT). Large files are sent in larger steps
        without it."""
        if self._in_kernel() > AHEAD_BYTES:
            with suppress(OSError):  # not every sandbox that stands in for the kernel has it
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, AHEAD_BYTES)
        self._unread_at = self._sent + AHEAD_BYTES

    @property
    def is_idle(self) -> bool:
        """Whether no complete request head is here and nothing is to be sent."""
        arriving = self.request is not None and self.request.headers_finished
        return not (self.requests or self.pending or self.total_outbufs_len or arriving)

    @property
    def is_working(self) -> bool:
        """Whether a request runs or is queued for a worker, and it is the only one that the client has sent."""
        return bool(self.requests) and not self.pending

    def is_slow(self, now: float) -> bool:
        """Whether the client pipelines, or reads or sends more slowly than the minimum rate."""
        if self.pending:
            return True
        if self.total_outbufs_len:
            self.update_debt(now)
            return self.debt_seconds > 1.0
        return self.request is not None and self.request.debt_seconds(now) > 1.0

    def _parse(self) -> None:
        """Feed the pending input to the parser until a request starts or enough is unsent."""
        cached = 0
        with self.requests_lock:
            while (
                self.pending
                and not self.requests
                and not (self.will_close or self.close_when_flushed or self.lingers_until)
                and self.total_outbufs_len <= AHEAD_BYTES
                and cached < CACHED_AT_ONCE
            ):
                if self.request is None:
                    if self._sent > self._unread_at:
                        self._bound_unread()
                    self.request = Request(self.adj, self.server.bounds)
                    self.request.peer = self.addr[0]
                self.pending = self.pending[self.request.received(self.pending) :]
                if self.request.completed:
                    cached += self.request.answer is not None
                    self._start()
                elif self.request.expect_continue and not self.sent_continue:
                    self.send_continue()  # only now: the head has been admitted
        if self.refused or self.close_when_flushed:
            self.pending = b""

    def _start(self) -> None:
        """Answer the request that was arriving from the cache, or hand it to a worker."""
        assert self.request is not None
        request, self.request = self.request, None
        self.sent_continue = False
        if request.answer is not None:
            task = Cached(self, request)
            with self._lock:
                self._queue(task.message())
                self._flush_some()
            self.close_when_flushed = task.close_on_finish
            self.served_at = self.active_at
            return
        self.refused = request.error is not None
        self.requests.append(request)
        self.server.add_task(self)

    def _end(self) -> None:
        """Everything is sent. A refused client may still be sending: closing now would reset the connection before the client
        has read the response (RFC 9112, section 9.6)."""
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
        """Have the loop report the events that this channel can handle now. While it can handle none,
        which is short, it goes on as before: most responses cost no system call."""
        if self._wanted() not in (0, self._watched):
            with self._lock:
                if wanted := self._wanted():
                    self._watch(wanted)

    def _wanted(self) -> int:
        """The events that this channel can handle. Nothing is read while a request runs or is unanswered.
        Pending input counts as something to send, so that `handle_write` is called and parses it."""
        if self.lingers_until:
            return IN | (OUT if self.total_outbufs_len or self.will_close else 0)
        if self.total_outbufs_len or self.will_close or self.close_when_flushed:
            return OUT
        if self.requests:
            return 0
        return OUT if self.pending else IN

    def _watch(self, events: int) -> None:
        if events != self._watched and self._fileno is not None:
            self.server.watch(self._fileno, self._watched, events)
            self._watched = events

    def send_continue(self) -> None:
        """Replaces HTTPChannel.send_continue (RFC 9110, section 10.1.1)."""
        assert self.request is not None
        self.request.expect_continue = False
        self.sent_continue = True
        with self._lock:
            self._queue(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._flush_some()

    def _queue(self, data: Any) -> None:
        """`outbuf_lock` is held, here and in the methods that follow."""
        self.outbufs.append(data)
        self.total_outbufs_len += len(data)
        if not isinstance(data, ReadOnlyFileBasedBuffer):
            self.unsent_bytes += len(data)
        elif _is_real(data.file):  # its buffer may have read ahead
            os.lseek(data.file.fileno(), data.file.tell(), os.SEEK_SET)

    def _flush_some(self, do_close: bool = True) -> bool:
        """Replaces HTTPChannel._flush_some: sends what the client takes, at most FLUSH_BYTES; whether anything was sent.
        Errors only set `will_close`."""
        sent, before = 0, self.total_outbufs_len
        try:
            while self.outbufs and sent < FLUSH_BYTES:
                first = self.outbufs[0]
                if isinstance(first, ReadOnlyFileBasedBuffer):
                    sent += self._send_file(first)
                else:
                    sent += self._send_bytes()
        except BlockingIOError:
            pass
        except (OSError, ValueError):  # ValueError: a file that was closed under us
            self.will_close = True
        self._sent += sent
        if self.unsent_bytes != self._reported:
            self._report_unsent()
        if sent:
            self.active_at = monotonic()
            most = self.adj.outbuf_high_watermark
            if before > most >= self.total_outbufs_len:
                self.outbuf_lock.notify()  # a worker may be waiting for room
        return sent > 0

    def _report_unsent(self) -> None:
        change, self._reported = self.unsent_bytes - self._reported, self.unsent_bytes
        self.server.count_unsent(change)

    def _send_bytes(self) -> int:
        """Send the bytes at the front, small pieces together; how many were sent."""
        if len(self.outbufs) == 1:
            piece = self.outbufs[0]
            sent = self.socket.send(piece)
            self.total_outbufs_len -= sent
            self.unsent_bytes -= sent
            self.outbufs.clear()
            if sent < len(piece):
                self.outbufs.append(memoryview(piece)[sent:])
            return sent
        pieces: list[Any] = []
        size = 0
        for piece in self.outbufs:
            if isinstance(piece, ReadOnlyFileBasedBuffer) or size > SEND_BYTES:
                break
            pieces.append(piece)
            size += len(piece)
        more = socket.MSG_MORE if len(pieces) < len(self.outbufs) else 0  # a file follows the head
        sent = left = self.socket.send(pieces[0] if len(pieces) == 1 else b"".join(pieces), more)
        self.total_outbufs_len -= sent
        self.unsent_bytes -= sent
        while pieces and left >= len(self.outbufs[0]):
            left -= len(self.outbufs.popleft())
            pieces.pop()
        if left:
            self.outbufs[0] = memoryview(self.outbufs[0])[left:]
        return sent

    def _send_file(self, body: ReadOnlyFileBasedBuffer) -> int:
        """Send from the file at the front, by sendfile(2) where it is a real one; how many bytes were sent."""
        if not body.remain:
            self.outbufs.popleft().close()
            return 0
        if _is_real(body.file):
            # Without an offset it moves the file's position, which the count of downloads reads.
            sent = os.sendfile(
                self._fileno, body.file.fileno(), None, min(body.remain, FLUSH_BYTES)
            )
            body.remain -= sent
        else:
            sent = self.socket.send(body.get(BODY_BYTES))
            body.skip(sent)
        if not sent:
            raise OSError("the file became shorter while it was sent")
        self.total_outbufs_len -= sent
        return sent

    # The worker's thread

    def run(self) -> None:
        """Run the application for the request, and keep the response back until `respond`."""
        request = self.requests[0]
        try:
            if self.connected:
                request.response = self.task_class(self, request).run()
        except Exception as error:
            self._fail(error)

    def respond(self, failure: Exception | None) -> None:
        """Send the response that `run` has kept back, or an error in its place."""
        if failure is not None:
            self._fail(failure)
        elif self.requests[0].response is not None:
            for each in self.requests[0].response.after:
                each()
        self.service()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, PortalError):
            log.error("unhandled exception in the application", exc_info=error)
            error = Internal()
        self.refused = True
        self.requests[0].refuse(error)

    def service(self) -> None:
        """Extends HTTPChannel.service: runs one request and sends as much of its response as the client takes, or suspends
        the request. The loop goes on with the next one."""
        self._waited = 0.0
        try:
            super().service()
        except Suspended as suspended:
            self._suspend(suspended)
            return
        with self._lock:
            if self.connected:
                self._flush_some()
            self.active_at = self.served_at = monotonic()
            self.arm()

    def _suspend(self, suspended: Suspended) -> None:
        suspended.until = monotonic() + suspended.seconds
        self.suspended = suspended
        try:
            end = suspended.arm(lambda: self.resume(suspended))
        except Exception:
            log.exception("unhandled exception while a request was suspended")
            self.resume(suspended)
            return
        with self.requests_lock:
            still = self.suspended is suspended
            suspended.end = end
        if not still:
            end()
        elif self.server.stopping or not self.connected:
            self.resume(suspended)

    def resume(self, suspended: Suspended) -> None:
        """Dispatch the suspended request again; any thread, any number of times."""
        with self.requests_lock:
            if self.suspended is not suspended:
                return
            self.suspended = None
        self.server.end_suspension()
        if suspended.end is not None:
            suspended.end()
        self.server.add_task(self)

    def write_soon(self, data: Any) -> int:
        """Replaces HTTPChannel.write_soon: queues a piece of the response. Raises ClientDisconnected."""
        size = len(data)
        if not size:
            return 0
        with self._lock:
            if self.total_outbufs_len > self.adj.outbuf_high_watermark:
                self._flush_outbufs_below_high_watermark()
            if not self.connected:  # under the lock, or the loop could close it meanwhile
                raise ClientDisconnected
            self._queue(data)
            if self.total_outbufs_len >= SEND_BYTES:
                self._flush_some()
        return size

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Replaces HTTPChannel._flush_outbufs_below_high_watermark: waits for room, WAIT_SECONDS for a whole response. Only
        further pieces of a response meet it, those of a generator: the first finds at most AHEAD_BYTES unsent."""
        with self._lock:
            while self.connected and self.total_outbufs_len > self.adj.outbuf_high_watermark:
                left = WAIT_SECONDS - self._waited
                if left <= 0 or self.will_close:
                    self.will_close = True
                    raise ClientDisconnected
                self.arm()
                begun = monotonic()
                self.outbuf_lock.wait(left)
                self._waited += monotonic() - begun


def _is_real(file: Any) -> bool:
    """Whether the kernel can read this file object itself."""
    return isinstance(getattr(file, "raw", file), io.FileIO)
