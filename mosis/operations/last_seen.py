"""What requests have shown last that an operator should know, in a file of the data directory: for the start screen and
`portal.py doctor`, which are other processes."""

import contextlib
import json
import os
import threading
import time
from pathlib import Path

SECONDS_BETWEEN = 3600  # clients can show anything: so often is one stored
COUNTS_SECONDS = 7 * 86400


class LastSeen:
    """One value under a name in a file, and when it was seen. Any thread may call it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._lock = threading.Lock()
        self._next = 0.0  # monotonic

    @property
    def is_due(self) -> bool:
        """Whether `store` would store: cheap, for every request."""
        return time.monotonic() >= self._next

    def store(self, value: str) -> bool:
        """Replace the value, if none was stored for an hour; whether this was the time. On a full disk it is lost."""
        with self._lock:
            if not self.is_due:
                return False
            self._next = time.monotonic() + SECONDS_BETWEEN
        unfinished = self._path.with_suffix(f".{os.getpid()}.part")
        with contextlib.suppress(OSError):
            unfinished.write_text(json.dumps({self._name: value, "at": time.time()}))
            os.replace(unfinished, self._path)
        return True

    def value(self) -> str | None:
        """The value of the last seven days. None without one, or if the file cannot be read."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self._path.read_bytes())
            value, at = str(found[self._name]), float(found["at"])
            if abs(time.time() - at) < COUNTS_SECONDS:
                return value
        return None
