"""A thread-safe LRU cache bounded in bytes, whose entries are valid for one revision of their
source.

Each kind of entry has a room (a share of the memory), so that many entries of one kind do not evict
those of another. In a room, entries that were used again are protected from those that were used
once (a segmented LRU, Karedla et al. 1994): a client that requests thousands of different things
evicts only entries that nobody has used twice.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

LIMIT_BYTES = 8 << 20
EACH_BYTES = 300  # approximate size of an entry besides its value
PROVEN_SHARE = 0.75  # share of a room for entries that were used again

Entry = tuple[Hashable, int, Any]  # revision, size, value


class _Room:
    """The entries of one kind, least recently used first."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.new: OrderedDict[Hashable, Entry] = OrderedDict()
        self.proven: OrderedDict[Hashable, Entry] = OrderedDict()
        self.size_bytes = self.proven_bytes = 0

    def use(self, key: Hashable, revision: Hashable) -> Entry | None:
        """The entry, recorded as used."""
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
        """Store an entry and evict others until all fit; protected entries stay protected."""
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
    """Values by key, each valid for one revision of its source. `rooms` are the kinds of entries
    with their shares of the memory.

    `get` only returns a value of the requested revision, so a caller that reads the revision before
    making the value never gets a stale one.
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
        """The value, or None. `again`: the caller asks again after a miss; only that is counted."""
        with self._lock:
            entry = self._rooms[room].use(key, revision)
            if entry is None:
                self.misses += not again
                return None
            self.hits += 1
            return entry[2]

    def get_many(self, revisions: Mapping[str, Hashable], *, room: str = "") -> list[Any]:
        """The value for each key with its revision, in their order; None where there is none."""
        found: list[Any] = []
        with self._lock:
            place = self._rooms[room]
            known, touch, add = place.proven.get, place.proven.move_to_end, found.append
            hits = len(revisions)
            for key, revision in revisions.items():
                entry = known(key)
                # as in `use`, for a third of the time
                if entry is not None and entry[0] == revision:
                    touch(key)
                    add(entry[2])
                elif entry := place.use(key, revision):
                    add(entry[2])
                else:
                    add(None)
                    hits -= 1
            self.misses += len(found) - hits
            self.hits += hits
        return found

    def put(
        self, key: Hashable, revision: Hashable, value: Any, size_bytes: int, *, room: str = ""
    ) -> None:
        """Store a value of about this size; it is not stored if it takes more than an eighth of the
        cache or half of its room."""
        size = size_bytes + EACH_BYTES
        with self._lock:
            place = self._rooms[room]
            limit = self.limit_bytes * place.share
            if size <= min(self.limit_bytes / 8, limit / 2):
                place.put(key, (revision, size, value), limit)
