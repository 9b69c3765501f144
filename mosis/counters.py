"""Counting without a write for each: counts are gathered in memory and taken out together. A kill loses what is gathered."""

import threading
from collections import Counter
from collections.abc import Mapping


class Counts:
    """How often each key was seen since the last `take`; shared by all threads."""

    def __init__(self) -> None:
        self._counter: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, key: str) -> None:
        """Once more."""
        with self._lock:
            self._counter[key] += 1

    def take(self) -> dict[str, int]:
        """What was gathered; the counting starts again."""
        with self._lock:
            taken, self._counter = self._counter, Counter()
        return dict(taken)

    def put_back(self, counts: Mapping[str, int]) -> None:
        """What was taken and could not be written."""
        with self._lock:
            self._counter.update(counts)
