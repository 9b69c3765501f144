"""The threads that run requests, in lanes; within a lane they are shared among accounts or
addresses."""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from mosis.fair_queue import FairQueue

log = logging.getLogger("mosis.server")

# Threads of each lane; `quick` has THREADS. `outside` waits for other servers, which may take seconds each.
THREADS = {"passwords": 2, "uploads": 3, "publishing": 2, "outside": 4, "telemetry": 4}
# Threads of a lane that one account may have at once, or one address where no account is known; in other lanes all.
OF_ONE = {"uploads": 2, "publishing": 1, "outside": 3}


def lanes(quick_threads: int, rests: Callable[[], None]) -> "dict[str, Lane]":
    """Every lane, with its threads started; each calls `rests` after a request."""
    sizes = {"quick": quick_threads} | THREADS
    return {name: Lane(name, size, rests) for name, size in sizes.items()}


class Lane:
    """Some threads and the channels that wait for them."""

    def __init__(self, name: str, threads: int, rests: Callable[[], None]) -> None:
        self._rests = rests
        self._waiting = FairQueue(OF_ONE.get(name, threads))
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
            self._waiting.end()
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))

    @property
    def state(self) -> tuple[int, int, int]:
        """How many threads there are, how many of them are busy, and how many requests wait for one."""
        return len(self._threads), sum(self._busy), len(self._waiting)

    def _work(self, number: int) -> None:
        while True:
            self._busy[number] = False
            taken = self._waiting.take()
            if taken is None:
                return
            key, channel = taken
            self._busy[number] = True
            try:
                channel.service()
                self._rests()
            except Exception:
                log.exception("unhandled exception in a worker")
            finally:
                self._waiting.done(key)
            # An idle thread must not hold references to its last request, in particular to a stored
            # body.
            taken = channel = None


class Shares:
    """Bounds the large bodies of each key that are in the server at once: arriving, waiting for a
    thread, or processed."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, key: str, most: int) -> "Share | None":
        """A place, until it is released or dropped; None when all are taken."""
        with self._lock:
            taken = self._taken.get(key, 0)
            if taken >= most:
                return None
            self._taken[key] = taken + 1
        return Share(self, key)

    def give_back(self, key: str) -> None:
        with self._lock:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


class Share:
    """A place in Shares. It is also released when the request is dropped at any point."""

    __slots__ = ("_key", "_shares")

    def __init__(self, shares: Shares, key: str) -> None:
        self._shares: Shares | None = shares
        self._key = key

    def release(self) -> None:
        """Release the place; safe to repeat."""
        shares, self._shares = self._shares, None
        if shares is not None:
            shares.give_back(self._key)

    __del__ = release
