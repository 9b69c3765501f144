"""Write-behind counters: increments are collected in memory and taken in one batch. A kill loses
what has not been taken."""

import threading
from collections import Counter
from collections.abc import Mapping


class WriteBehindCounters:
    """Increments per key since the last `take`; shared by all threads."""

    def __init__(self) -> None:
        self._counter: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, key: str) -> None:
        """Increment by one."""
        with self._lock:
            self._counter[key] += 1

    def take(self) -> dict[str, int]:
        """The collected increments; counting starts again at zero."""
        with self._lock:
            taken, self._counter = self._counter, Counter()
        return dict(taken)

    def put_back(self, counts: Mapping[str, int]) -> None:
        """Return a batch that could not be written."""
        with self._lock:
            self._counter.update(counts)
