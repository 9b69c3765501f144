"""A database file: its connections, the write lock, the flush of the WAL, and checkpoints."""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path

from mosis.clock import Clock
from mosis.database.connection import Connection
from mosis.database.raw import BUSY_SECONDS, CHECKPOINT_BYTES, opened, prepared, translated
from mosis.errors import Unavailable

log = logging.getLogger("mosis.database")

# SQLite's page caches. Its default of 2 MiB for each of thirty threads and two databases was most
# of the memory after load, and made nothing faster (bench/RESULTS.md).
READING_CACHE_KIB, WRITING_CACHE_KIB = 128, 512
MOST_IDLE = 8  # connections that no thread uses; each takes 0.4 MB, and opening one 2 ms
SQLITE_VERSION = sqlite3.sqlite_version
# The size of the WAL is looked at so often; a long reader can keep it from being reset.
COMMITS_PER_CHECKPOINT = 8


class Database:
    """A database file: one reading connection per thread, one writing connection and its lock, checkpoints."""

    epoch = 0  # another number where revisions may have started again, see snapshots.py

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.path = path
        self._wal = f"{path}-wal"
        self.clock = clock or Clock()
        self.writers = threading.Lock()
        # Called after a commit; set by the worker, the subscriptions and the context.
        self.on_job: Callable[[str], None] = lambda lane: None
        self.on_event: Callable[[str], None] = lambda developer_id: None
        # Raises Unavailable while this process may not write, because another portal may.
        self.fence: Callable[[], None] = lambda: None
        self.on_count: Callable[..., None] = lambda name, **labels: None
        self.damage: str | None = None  # the first corruption found; nothing is written after it
        self.checkpoints = True  # off where Litestream checkpoints
        self._commits = 0
        self._flushed = 0  # the last commit that is on disk
        self._flushing = threading.Lock()
        self._local = threading.local()
        self._open: list[Connection] = []
        self._idle: list[Connection] = []
        self._opening = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._watcher: sqlite3.Connection | None = None
        self._watching = threading.Lock()

    @property
    def commits(self) -> int:
        """How many transactions this process has committed."""
        return self._commits

    def data_version(self) -> int:
        """A number that changes with every commit of any process (https://sqlite.org/pragma.html#pragma_data_version). Read on
        a connection that never writes, because the pragma does not count a connection's own commits. Raises Unavailable."""
        with self._watching:
            try:
                if self._watcher is None:
                    self._watcher = opened(self.path)
                return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.OperationalError as error:
                raise translated(error) from error

    def writer(self) -> sqlite3.Connection:
        """The writing connection, for the holder of the write lock. It is never switched to reading: changing PRAGMA query_only
        expires every prepared statement, which costs half the time of a small write."""
        if self._writer is None:
            try:
                self._writer = prepared(self.path)
                self._writer.execute(f"PRAGMA cache_size = -{WRITING_CACHE_KIB}")
            except sqlite3.OperationalError as error:
                raise translated(error) from error
        return self._writer

    def open_reader(self) -> sqlite3.Connection:
        """A connection that only reads, for one thread."""
        raw = prepared(self.path)
        raw.execute("PRAGMA query_only = ON")
        raw.execute(f"PRAGMA cache_size = -{READING_CACHE_KIB}")
        return raw

    def connection(self) -> Connection:
        """This thread's connection, an idle or a new one on first use."""
        found: Connection | None = getattr(self._local, "connection", None)
        if found is None:
            try:
                found = self._idle.pop()
            except IndexError:
                found = self._opened()
            found.thread = threading.current_thread()
            self._local.connection = found
        return found

    def write(self) -> AbstractContextManager[Connection]:
        """As `Connection.write`, of this thread's connection."""
        return self.connection().write()

    def release(self) -> None:
        """Let other threads have this thread's connection: what `connection` returned here must not
        be used any more. Threads that wait would hold 0.4 MB each, most of it the parsed schema."""
        found: Connection | None = getattr(self._local, "connection", None)
        if found is None or found._begun:
            return
        self._local.connection = found.thread = None
        if len(self._idle) < MOST_IDLE:
            return self._idle.append(found)
        with self._opening:
            self._open.remove(found)
        found.close()

    def _opened(self) -> Connection:
        try:
            found = self._connect()
        except sqlite3.OperationalError as error:
            raise translated(error) from error
        with self._opening:
            self._open.append(found)
        return found

    @property
    def writable(self) -> bool:
        """Whether this process may write: the database is not damaged, and the fence lets it."""
        try:
            self.fence()
        except Unavailable:
            return False
        return self.damage is None

    def _connect(self) -> Connection:
        return Connection(self)

    def found_damage(self, what: str) -> None:
        """Marks the database as corrupt; all further writes are refused."""
        if self.damage is None:
            log.critical(
                "database is damaged; read-only from now on",
                extra={"database": self.path.name, "reason": what},
            )
            self.damage = what

    def flush(self, number: int) -> None:
        """Wait until the commit with this number, and every earlier one, is on disk. The first waiting thread syncs the WAL for
        all commits so far; the others return. Raises Unavailable `database_unavailable`."""
        with self._flushing:
            if self._flushed >= number:
                return
            covered = self._commits
            try:
                handle = os.open(self._wal, os.O_RDONLY)
                try:
                    os.fdatasync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                detail = "The disk could not store the change durably; a power cut may lose it. The error is logged."
                raise Unavailable("database_unavailable", detail) from error
            self._flushed = covered

    def committed(self, connection: Connection) -> int:
        """Called under the write lock after each commit; returns its number. Runs a checkpoint when the WAL has grown beyond
        CHECKPOINT_BYTES: journal_size_limit truncates it to that size on reset, so a longer one has uncheckpointed pages."""
        number = self._commits = self._commits + 1
        if not self.checkpoints or number % COMMITS_PER_CHECKPOINT:
            return number
        if os.stat(self._wal).st_size > CHECKPOINT_BYTES:
            connection.checkpoint()
        return number

    def truncate_wal(self) -> bool:
        """Move the whole WAL into the database file and truncate it. Returns whether that was
        possible: a long write, a long read or a full disk prevents it."""
        if not self.writers.acquire(timeout=BUSY_SECONDS):
            return False
        try:
            with closing(opened(self.path)) as raw:
                raw.execute("PRAGMA busy_timeout = 1000")  # for readers; writers wait meanwhile
                return bool(raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        except sqlite3.Error:
            return False
        finally:
            self.writers.release()

    def close(self) -> None:
        """Checkpoint and close the connections. A connection whose thread still runs (a job that outlasts the stop timeout) stays
        open until the process ends: closing it while in use would crash SQLite."""
        if self._open and self.writers.acquire(timeout=BUSY_SECONDS):
            try:
                # a full disk: what is in the WAL is safe there
                with suppress(sqlite3.Error, Unavailable):
                    if self.checkpoints and self.damage is None:
                        self.connection().checkpoint("TRUNCATE")
                if self._writer is not None:
                    # or the last connection that is closed would move the WAL
                    if self.damage is not None:
                        self._writer.execute("PRAGMA query_only = ON")
                    self._writer.close()
                    self._writer = None
            finally:
                self.writers.release()
        with self._opening:
            opened, self._open, self._idle = self._open, [], []
        for connection in opened:
            if not connection.in_use_elsewhere:
                connection.close()
        with self._watching:
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
        self._local = threading.local()
