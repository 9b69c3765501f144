"""Daily shares of each network and device, so that none can use up the quota of an app alone.

A network is an IPv4 address or an IPv6 /64. Counts are held in memory by keyed hashes, whose key is
made at start, and are dropped at midnight UTC: no network address is stored.
"""

import hashlib
import secrets
import threading
from collections import OrderedDict

from mosis.clock import DAY
from mosis.errors import LimitReached

MOST_KEYS = 10_000  # entries, about 2 MiB; beyond it the least recently used are evicted


class Shares:
    """The amounts used by each key today; thread-safe."""

    def __init__(self) -> None:
        self._used: OrderedDict[bytes, float] = OrderedDict()
        self._day = 0
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()

    def take(self, now: int, *wanted: tuple[str, float, float]) -> bool:
        """Use (key, amount, daily maximum) of each; False, and nothing used, if one is exceeded."""
        hashed = [(self._key(key), amount, most) for key, amount, most in wanted]
        with self._lock:
            if now // DAY != self._day:
                self._used.clear()
                self._day = now // DAY
            if any(self._used.get(key, 0) + amount > most for key, amount, most in hashed):
                return False
            for key, amount, _ in hashed:
                self._used[key] = self._used.pop(key, 0) + amount
            while len(self._used) > MOST_KEYS:
                self._used.popitem(last=False)
        return True

    def _key(self, key: str) -> bytes:
        return hashlib.blake2b(
            key.encode("utf-8", "surrogatepass"), digest_size=8, key=self._secret
        ).digest()


def used_up(now: int, detail: str) -> LimitReached:
    """The error for the rest of the day (UTC)."""
    return LimitReached("rate_limited", detail, retry_after_seconds=DAY - now % DAY)
