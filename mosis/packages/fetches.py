"""Fetches of objects onto this machine: each object once, in a few threads, in turn among clients.

A request that needs an object subscribes and is suspended, so a slow bucket holds no thread of the
server, and a client that asks for much delays another client by two fetches at most.
"""

import logging
import threading
import time
from collections.abc import Callable

from mosis.errors import PortalError, Unavailable
from mosis.fair_queue import FairQueue
from mosis.records import dataclass

log = logging.getLogger("mosis.packages.storage")

THREADS = 4
OF_ONE = 2  # threads for one client at a time
MOST_OF_ONE = 32  # fetches of one client that wait or run
MOST = 1000
JOB_SECONDS = 600  # how long a job waits for an object
REMEMBER_FAILURE_SECONDS = 10  # a missing or damaged object is not fetched again at once


def unavailable(detail: str, retry_after_seconds: int) -> Unavailable:
    """The error of a package that may be available later."""
    return Unavailable("package_unavailable", detail, retry_after_seconds=retry_after_seconds)


class Fetch:
    """One fetch that waits or runs. `failure` is set before it is done."""

    def __init__(self, name: str, key: str, work: Callable[[], None]) -> None:
        self.name, self.key = name, key
        self.failure: PortalError | None = None
        self._work = work
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []

    def run(self) -> None:
        """Do the work; a failure is recorded, not raised."""
        try:
            self._work()
        except PortalError as error:
            self.failure = error
        except Exception:
            log.exception("fetch failed", extra={"object": self.name})
            self.failure = unavailable("The package cannot be read at the moment.", 10)

    def finish(self) -> None:
        """Tell everybody who waits."""
        with self._lock:
            self._done.set()
            waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()

    def subscribe(self, resume: Callable[[], None]) -> Callable[[], None]:
        """Call `resume` once when it is done, maybe now; returns how to end the subscription."""

        def end() -> None:
            with self._lock:
                if resume in self._waiting:
                    self._waiting.remove(resume)

        with self._lock:
            if not self._done.is_set():
                self._waiting.append(resume)
                return end
        resume()
        return end

    def wait(self, seconds: float) -> None:
        """Wait until it is done. Raises its failure, or Unavailable if it takes longer."""
        if not self._done.wait(seconds):
            raise unavailable("The package is not here yet; send the request again.", 5)
        if self.failure is not None:
            raise self.failure


@dataclass(frozen=True)
class Turn:
    """Who needs an object, and how to wait for it: a request is suspended, a job blocks its thread.
    `wait` raises the failure of the fetch, or Unavailable if it takes too long."""

    client: str
    wait: Callable[[Fetch], None]


JOBS = Turn("jobs", lambda fetch: fetch.wait(JOB_SECONDS))


class Fetches:
    """All fetches of this process. Threads are started when they are first needed."""

    def __init__(self) -> None:
        self._queue = FairQueue(OF_ONE)
        self._lock = threading.Lock()
        self._by_name: dict[str, Fetch] = {}
        self._of_key: dict[str, int] = {}
        self._failures: dict[str, tuple[float, PortalError]] = {}
        self._threads: list[threading.Thread] = []

    def begin(self, name: str, key: str, work: Callable[[], None]) -> Fetch:
        """The fetch of this object, started unless it already waits or runs. `key` is the client.
        Raises Unavailable: too many of this client, or it has failed a moment ago."""
        with self._lock:
            if (running := self._by_name.get(name)) is not None:
                return running
            failed = self._failures.get(name)
            if failed is not None and time.monotonic() < failed[0]:
                raise failed[1]
            if self._of_key.get(key, 0) >= MOST_OF_ONE or len(self._by_name) >= MOST:
                raise unavailable("Too many packages are being fetched; try again later.", 5)
            fetch = self._by_name[name] = Fetch(name, key, work)
            self._of_key[key] = self._of_key.get(key, 0) + 1
            if not self._threads:
                self._start()
            self._queue.put(key, fetch)
            return fetch

    def _start(self) -> None:
        for number in range(THREADS):
            thread = threading.Thread(target=self._take, name=f"fetch-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _take(self) -> None:
        while (taken := self._queue.take()) is not None:
            key, fetch = taken
            fetch.run()
            self._ended(key, fetch)
            fetch.finish()

    def _ended(self, key: str, fetch: Fetch) -> None:
        with self._lock:
            self._by_name.pop(fetch.name, None)
            self._of_key[key] -= 1
            if not self._of_key[key]:
                del self._of_key[key]
            now = time.monotonic()
            self._failures = {name: each for name, each in self._failures.items() if now < each[0]}
            # not a bucket that is down: whether it is up again is asked sooner
            if fetch.failure is not None and "retry_after_seconds" not in fetch.failure.facts:
                self._failures[fetch.name] = (now + REMEMBER_FAILURE_SECONDS, fetch.failure)
        self._queue.done(key)

    def close(self) -> None:
        """End the threads after their present fetch. Does not wait."""
        with self._lock:
            for _ in self._threads:
                self._queue.end()
            self._threads = []
