"""Finished things kept in memory for as long as they are right: bounded in bytes, shared by all threads."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

LIMIT_BYTES = 8 << 20
EACH_BYTES = 300  # what an entry costs beside its content, about


class RevisionCache:
    """Values by key, each good for one revision of what it was made from; what was not asked for longest goes first.

    `get` never gives a value of another revision than asked for, so whoever reads the revision before making a value can never
    be given a stale one.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self.hits = self.misses = 0
        self._entries: OrderedDict[Hashable, tuple[Hashable, int, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, revision: Hashable, *, again: bool = False) -> Any:
        """The value, or None. `again`: who gets None here asks a second time, and only that is counted as a miss."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry[0] != revision:
                self.misses += not again
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry[2]

    def put(self, key: Hashable, revision: Hashable, value: Any, size_bytes: int) -> None:
        """Keep a value of about this size; one that would take more than an eighth of the room is not kept."""
        size = size_bytes + EACH_BYTES
        if size > self.limit_bytes // 8:
            return
        with self._lock:
            if key in self._entries:
                self.size_bytes -= self._entries.pop(key)[1]
            self._entries[key] = (revision, size, value)
            self.size_bytes += size
            while self.size_bytes > self.limit_bytes:
                self.size_bytes -= self._entries.popitem(last=False)[1][1]
