"""The threads that run requests, in lanes, each shared among accounts or addresses."""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

from mosis.fair_queue import FairQueue

log = logging.getLogger("mosis.server")

# Threads of each lane; `quick` has THREADS. `outside` waits for other servers, which may take seconds each.
THREADS = {"passwords": 2, "uploads": 3, "publishing": 2, "outside": 4, "telemetry": 2}
# Threads of a lane that one account may have at once, or one address where no account is known; in other lanes all.
OF_ONE = {"passwords": 1, "uploads": 2, "publishing": 1, "outside": 3}


# Of the requests that share a transaction: how many, and for how long further ones may join.
GROUP_REQUESTS, GROUP_SECONDS = 64, 0.005
GROUP_BODY_BYTES = 16 * 1024  # a longer body takes too long to be validated under the write lock

Transaction = Callable[[], AbstractContextManager[Any]]


def lanes(
    quick_threads: int, rests: Callable[[], None], transactions: Mapping[str, Transaction]
) -> "dict[str, Lane]":
    """Every lane, with its threads started; `transactions` are those whose requests share one."""
    sizes = {"quick": quick_threads} | THREADS
    found = {name: Lane(name, size, rests) for name, size in sizes.items()}
    return found | {name: GroupLane(name, rests, each) for name, each in transactions.items()}


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
            self._busy[number] = True
            try:
                self._run(*taken)
                self._rests()
            except Exception:
                log.exception("unhandled exception in a worker")
            # An idle thread must not hold references to its last request, in particular to a stored
            # body.
            taken = None

    def _run(self, key: str, channel: Any) -> None:
        try:
            channel.service()
        finally:
            self._waiting.done(key)


class GroupLane(Lane):
    """One thread, which runs the requests that wait in one transaction and sends their responses
    after its commit. A request that fails undoes its own changes alone; if the commit fails, all of
    the group get its error.

    Only for handlers that do nothing but read and write this database: others would hold the write
    lock while they wait (docs/decisions/0063-quick-writes-share-a-transaction.md).
    """

    def __init__(self, name: str, rests: Callable[[], None], transaction: Transaction) -> None:
        self._transaction = transaction
        super().__init__(name, 1, rests)

    def _run(self, key: str, channel: Any) -> None:
        group = [channel]
        self._waiting.done(key)
        failure: Exception | None = None
        try:
            with self._transaction():
                channel.run()  # may wait for the write lock
                until = monotonic() + GROUP_SECONDS
                while len(group) < GROUP_REQUESTS and monotonic() < until:
                    taken = self._waiting.take_waiting()
                    if taken is None:
                        break
                    self._waiting.done(taken[0])
                    group.append(taken[1])
                    taken[1].run()
        except Exception as error:
            failure = error
            reason = str(error.__cause__ or error)
            log.exception("commit failed", extra={"requests": len(group), "reason": reason})
        for each in group:
            try:
                each.respond(failure)
            except Exception:
                log.exception("unhandled exception in a worker")


class Shares:
    """Bounds each key's large bodies in the server: arriving, waiting or processed."""

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
