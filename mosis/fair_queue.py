"""A queue that threads take from, shared fairly among keys such as accounts or addresses."""

import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import Any


class FairQueue:
    """Hands out items in turn between keys, with at most `of_one` items of a key handed out until
    `done` is called for one.

    That many items of each key are ready or taken, and the others wait: a long queue of one key
    delays another key by `of_one` items. (Round robin. Ready items are in one queue, so taking one
    costs the same as with a plain queue.)
    """

    def __init__(self, of_one: int) -> None:
        self._of_one = of_one
        self._ready: SimpleQueue[tuple[str, Any] | None] = SimpleQueue()
        self._held: dict[str, int] = {}  # ready or taken
        self._behind: dict[str, deque[Any]] = {}
        self._lock = threading.Lock()

    def put(self, key: str, item: Any) -> None:
        """Add an item; does not wait."""
        with self._lock:
            held = self._held.get(key, 0)
            if held < self._of_one:
                self._held[key] = held + 1
                self._ready.put((key, item))
            else:
                self._behind.setdefault(key, deque()).append(item)

    def take(self) -> tuple[str, Any] | None:
        """The next key and item, waiting for one; None tells the calling thread to end."""
        return self._ready.get()

    def take_waiting(self) -> tuple[str, Any] | None:
        """The next key and item that waits already; None if there is none."""
        try:
            taken = self._ready.get_nowait()
        except Empty:
            return None
        if taken is None:
            self.end()  # for the call that waits
        return taken

    def done(self, key: str) -> None:
        """An item of this key that was taken is finished."""
        with self._lock:
            if key in self._behind:
                self._ready.put((key, self._behind[key].popleft()))
                if not self._behind[key]:
                    del self._behind[key]
            elif self._held[key] > 1:
                self._held[key] -= 1
            else:
                del self._held[key]

    def end(self) -> None:
        """Let one of the threads that take end."""
        self._ready.put(None)

    def __len__(self) -> int:
        with self._lock:
            return self._ready.qsize() + sum(map(len, self._behind.values()))
