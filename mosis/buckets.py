"""Token buckets: how often somebody may do something, kept in memory only."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

MOST_KEYS = 20_000


class Buckets:
    """A bucket for each key: it holds `burst` tokens and gets `per_second` new ones. The longest unused are forgotten."""

    def __init__(
        self, per_second: float, burst: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self.per_second = per_second
        self.burst = burst
        self.clock = clock
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key: (tokens, when)
        self._lock = threading.Lock()

    def take(self, key: str, tokens: float = 1) -> float:
        """Take tokens; 0 when they were there, else nothing is taken: the seconds after which it is worth trying again."""
        now = self.clock()
        with self._lock:
            left, since = self._kept.pop(key, (self.burst, now))
            left = min(self.burst, left + (now - since) * self.per_second)
            fits = left >= tokens
            self._kept[key] = (left - tokens if fits else left, now)
            if len(self._kept) > MOST_KEYS:
                self._kept.popitem(last=False)
        return 0.0 if fits else (tokens - left) / self.per_second

    def left(self, key: str) -> float:
        """How many tokens the bucket held when it was last taken from."""
        with self._lock:
            return self._kept.get(key, (self.burst, 0.0))[0]
