"""A database of copies: a file that never changes, replaced by a newer one while requests read.

Each copy is opened with `immutable=1` (https://sqlite.org/uri.html#uriimmutable): no locks, no WAL, and
nothing can be written. A statement runs on the newest copy; two statements of a request may run on
different ones, as two statements beside a writer read different states.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mosis.clock import Clock
from mosis.database.connection import Connection
from mosis.database.database import READING_CACHE_KIB, Database
from mosis.errors import Unavailable

NONE_YET = "This store front end has no copy of the store yet; try again in a moment."


class SnapshotConnection(Connection):
    """A thread's connection to the newest copy."""

    database: "SnapshotDatabase"

    def __init__(self, database: "SnapshotDatabase") -> None:
        self._using = threading.RLock()
        self._generation = 0
        super().__init__(database)

    def all(self, sql: str, *values: Any, into: Any = None) -> Any:
        with self._newest():
            return super().all(sql, *values, into=into)

    def all_until(self, deadline: float, sql: str, *values: Any) -> list[Any]:
        with self._newest():
            return super().all_until(deadline, sql, *values)

    def one(self, sql: str, *values: Any, into: Any = None) -> Any:
        with self._newest():
            return super().one(sql, *values, into=into)

    def dicts(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with self._newest():
            return super().dicts(sql, *values)

    def value(self, sql: str, *values: Any) -> Any:
        with self._newest():
            return super().value(sql, *values)

    def release(self) -> None:
        """Close an older copy, unless a statement runs on it. Called by the thread that replaces it."""
        if self._using.acquire(blocking=False):
            try:
                if self._generation not in (0, self.database.generation):
                    self._reading.close()
                    self._generation = 0
            finally:
                self._using.release()

    @contextmanager
    def _newest(self) -> Iterator[None]:
        """Have the statements inside run on the newest copy. Raises Unavailable if there is none."""
        with self._using:
            if self._generation == 0 or self._generation != self.database.generation:
                self._reading.close()
                self._generation = 0
                self._reading, self._generation = self.database.open_newest()
                self._raw = self._reading
            yield


class SnapshotDatabase(Database):
    """The copies. `generation` is the number of the newest one, 0 while there is none; `epoch`
    changes when the numbers of revisions may have started again."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(Path("none"), clock)
        self.generation = 0
        self._replacing = threading.Lock()

    def replace(self, path: Path, *, anew: bool = False) -> None:
        """Read this copy from now on. `anew`: its revisions may not be those of the copy before."""
        with self._replacing:
            self.path = path
            self.epoch += int(anew)
            self.generation += 1
            self.damage = None
        self.release_older()

    def release_older(self) -> None:
        """Close older copies that no statement uses, so that their disk space becomes free."""
        with self._opening:
            self._open = [
                each for each in self._open if each.thread is None or each.thread.is_alive()
            ]
            found = list(self._open)
        for connection in found:
            if isinstance(connection, SnapshotConnection):
                connection.release()

    def data_version(self) -> int:
        """The number of the copy, which changes with each."""
        return self.generation

    def writer(self) -> sqlite3.Connection:
        """Raises Unavailable: nothing is written here."""
        detail = "A store front end only reads: send changes to the portal."
        raise Unavailable("database_unavailable", detail)

    def open_reader(self) -> sqlite3.Connection:
        """A placeholder until the first statement."""
        return sqlite3.connect(":memory:", check_same_thread=False)

    def open_newest(self) -> tuple[sqlite3.Connection, int]:
        """A connection to the newest copy, and its number. Raises Unavailable if there is none."""
        with self._replacing:
            if self.generation == 0:
                raise Unavailable("database_unavailable", NONE_YET, retry_after_seconds=2)
            return open_immutable(self.path), self.generation

    def close(self) -> None:
        """Close the connections that no statement uses."""
        with self._replacing:
            self.generation += 1
        self.release_older()

    def _connect(self) -> Connection:
        return SnapshotConnection(self)


def open_immutable(path: Path) -> sqlite3.Connection:
    """A connection to a file that nobody changes while it is open."""
    raw = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro&immutable=1",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    raw.execute(f"PRAGMA cache_size = -{READING_CACHE_KIB}")
    return raw
