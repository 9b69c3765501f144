"""Finished things kept in memory for as long as they are right: bounded in bytes, shared by all threads.

Each kind of thing has a room of its own, so that many of one kind do not displace those of another. In a room, what was asked
for twice stays before what was asked for once (a segmented LRU, Karedla et al. 1994): a client that asks for thousands of
different things displaces only what nobody else has asked for again.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

LIMIT_BYTES = 8 << 20
EACH_BYTES = 300  # what an entry costs beside its content, about
PROVEN_SHARE = 0.75  # of a room, for what was asked for twice

Entry = tuple[Hashable, int, Any]  # revision, size, value


class _Room:
    """The entries of one kind, the longest unused first."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.new: OrderedDict[Hashable, Entry] = OrderedDict()
        self.proven: OrderedDict[Hashable, Entry] = OrderedDict()
        self.size_bytes = self.proven_bytes = 0

    def use(self, key: Hashable, revision: Hashable) -> Entry | None:
        """The entry, noted as used once more."""
        entry = self.proven.get(key)
        if entry is not None and entry[0] == revision:
            self.proven.move_to_end(key)
            return entry
        entry = self.new.get(key)
        if entry is None or entry[0] != revision:
            return None
        self.proven[key] = self.new.pop(key)
        self.proven_bytes += entry[1]
        return entry

    def put(self, key: Hashable, entry: Entry, limit_bytes: float) -> None:
        """Keep an entry, and let others go until all fit; a new revision of what was proven is proven too."""
        if key in self.proven:
            old = self.proven.pop(key)
            self.proven_bytes += entry[1] - old[1]
            self.proven[key] = entry
        else:
            old = self.new.pop(key, (None, 0, None))
            self.new[key] = entry
        self.size_bytes += entry[1] - old[1]
        while self.proven_bytes > limit_bytes * PROVEN_SHARE:
            name, least = self.proven.popitem(last=False)
            self.proven_bytes -= least[1]
            self.new[name] = least
        while self.size_bytes > limit_bytes:
            if self.new:
                _, gone = self.new.popitem(last=False)
            else:
                _, gone = self.proven.popitem(last=False)
                self.proven_bytes -= gone[1]
            self.size_bytes -= gone[1]


class RevisionCache:
    """Values by key, each good for one revision of what it was made from. `rooms` are the kinds, each with its share of the whole.

    `get` never gives a value of another revision than asked for, so whoever reads the revision before making a value can never
    be given a stale one.
    """

    def __init__(
        self, limit_bytes: int = LIMIT_BYTES, rooms: Mapping[str, float] | None = None
    ) -> None:
        self.limit_bytes = limit_bytes
        self.hits = self.misses = 0
        self._rooms = {name: _Room(share) for name, share in (rooms or {"": 1.0}).items()}
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return sum(room.size_bytes for room in self._rooms.values())

    def get(self, key: Hashable, revision: Hashable, *, again: bool = False, room: str = "") -> Any:
        """The value, or None. `again`: who gets None here asks a second time, and only that is counted as a miss."""
        with self._lock:
            entry = self._rooms[room].use(key, revision)
            if entry is None:
                self.misses += not again
                return None
            self.hits += 1
            return entry[2]

    def put(
        self, key: Hashable, revision: Hashable, value: Any, size_bytes: int, *, room: str = ""
    ) -> None:
        """Keep a value of about this size; one that would take more than an eighth of all or half of its room is not kept."""
        size = size_bytes + EACH_BYTES
        with self._lock:
            place = self._rooms[room]
            limit = self.limit_bytes * place.share
            if size <= min(self.limit_bytes / 8, limit / 2):
                place.put(key, (revision, size, value), limit)
