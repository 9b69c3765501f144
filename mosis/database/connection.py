"""SQLite connections and transactions.

A thread reads on a connection of its own and writes inside `with db.write():`, one transaction in which `db.now` does not
change. When the block ends without an error, the change survives a power cut: SQLite commits to the WAL without a sync
(synchronous=NORMAL, https://sqlite.org/pragma.html#pragma_synchronous), then one fdatasync of the WAL covers every transaction
committed so far.
"""

import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, overload

from mosis.clock import Clock
from mosis.database.raw import BUSY_SECONDS, CHECKPOINT_BYTES, DAMAGED, opened, prepared, translated
from mosis.database.records import Stored, select
from mosis.errors import NotFound, Unavailable

log = logging.getLogger("mosis.database")

Row = TypeVar("Row")
# SQLite's page caches. Its default of 2 MiB for each of thirty threads and two databases was most
# of the memory after load, and made nothing faster (bench/RESULTS.md).
READING_CACHE_KIB, WRITING_CACHE_KIB = 128, 512
MOST_IDLE = 8  # connections that no thread uses; each takes 0.4 MB, and opening one 2 ms
STEPS_PER_LOOK = 100  # of SQLite's virtual machine, between two looks at a deadline
SQLITE_VERSION = sqlite3.sqlite_version
# The size of the WAL is looked at so often; a long reader can keep it from being reset.
COMMITS_PER_CHECKPOINT = 8


class Connection:
    """A thread's view of the database: its own read-only connection and, inside `write()`, the writing connection that all
    threads share. Writing outside `write()` fails; values are always bound."""

    def __init__(self, database: "Database") -> None:
        self.database = database
        self.now = ""
        self.thread: threading.Thread | None = None  # that uses it
        self._reading = database.open_reader()
        self._raw = self._reading  # the connection that statements run on
        self._after_commit: list[Callable[[], None]] = []
        self._number = 0  # of this thread's last commit
        self._changing = False  # inside `write()`
        self._held = False  # inside `held()`
        self._begun = False  # this thread has an open transaction
        self._guard: Callable[[Connection], None] | None = None  # see `guarded()`
        self._checks: dict[object, Callable[[Connection], None]] = {}  # see `check_again()`

    @property
    def clock(self) -> Clock:
        """The clock that `now` is read from."""
        return self.database.clock

    def notify(self, developer_id: str) -> None:
        """Call the subscribers of this account after the running transaction is committed."""
        self.after_commit(lambda: self.database.on_event(developer_id))

    def notify_workers(self) -> None:
        """Have the workers look for due jobs after the running transaction is committed."""
        self.after_commit(lambda: self.database.on_job())

    @overload
    def all(self, sql: str, *values: Any, into: type[Row]) -> list[Row]: ...

    @overload
    def all(self, sql: str, *values: Any, into: None = None) -> list[Any]: ...

    def all(self, sql: str, *values: Any, into: type[Row] | None = None) -> list[Any]:
        """Every row, as tuples or as the dataclass `into`. Rows are fetched at once: an open cursor would keep the WAL from
        being checkpointed."""
        rows = self._fetched(self._run(sql, values).fetchall)
        return rows if into is None else [into(*row) for row in rows]

    def all_until(self, deadline: float, sql: str, *values: Any) -> list[Any]:
        """As `all`, but ends at the deadline (time.monotonic) with the rows that were found by then."""
        rows: list[Any] = []
        self._raw.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_PER_LOOK)
        try:
            rows.extend(self._run(sql, values))
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
                raise self._translated(error) from error
        finally:
            self._raw.set_progress_handler(None, 0)
        return rows

    @overload
    def one(self, sql: str, *values: Any, into: type[Row]) -> Row | None: ...

    @overload
    def one(self, sql: str, *values: Any, into: None = None) -> Any: ...

    def one(self, sql: str, *values: Any, into: type[Row] | None = None) -> Any:
        """The first row, as a tuple or as the dataclass `into`; None if there is none."""
        row = self._fetched(self._run(sql, values).fetchone)
        return row if row is None or into is None else into(*row)

    def select(self, record: type[Stored], where: str, *values: Any) -> list[Stored]:
        """Every row of the record's table that meets a condition; an order and a limit may follow it."""
        return self.all(select(record, where), *values, into=record)

    def find(self, record: type[Stored], where: str, *values: Any) -> Stored | None:
        """The first row of `select`; None if there is none."""
        return self.one(select(record, where), *values, into=record)

    def get(self, record: type[Stored], where: str, *values: Any, what: str = "") -> Stored:
        """As `find`, but raises NotFound, which names `what` (default: the words of the class), if
        there is no row."""
        found = self.find(record, where, *values)
        if found is None:
            words = re.sub("(?<!^)(?=[A-Z])", " ", record.__name__).lower()
            raise NotFound(what or words)
        return found

    def dicts(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Every row as {column: value}."""
        cursor = self._run(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in self._fetched(cursor.fetchall)]

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row or None."""
        row = self._fetched(self._run(sql, values).fetchone)
        return None if row is None else row[0]

    def has(self, sql: str, *values: Any) -> bool:
        """Whether the first column of the first row is true; False without a row."""
        return bool(self.value(sql, *values))

    def change(self, sql: str, *values: Any) -> int:
        """Run a statement that changes rows; the number of changed rows."""
        self._refuse_between_parts()
        return self._run(sql, values).rowcount

    def insert(self, table: str, **row: Any) -> int:
        """Insert one row given by its columns; its rowid. Table and columns are names from our own code."""
        self._refuse_between_parts()
        sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
        return self._run(sql, tuple(row.values())).lastrowid or 0

    def update(self, table: str, condition: str, /, *values: Any, **row: Any) -> int:
        """Set columns, which `row` names, of the rows that meet a condition with its `values`; the
        number of changed rows. Table and columns are names from our own code."""
        assignments = ", ".join(f"{name} = ?" for name in row)
        sql = f"UPDATE {table} SET {assignments} WHERE {condition}"
        return self.change(sql, *row.values(), *values)

    @property
    def writing(self) -> bool:
        """Whether a transaction is open."""
        return self._raw.in_transaction

    @contextmanager
    def write(self) -> Iterator["Connection"]:
        """One transaction from BEGIN IMMEDIATE to COMMIT, with `now` fixed. On any error nothing has changed.

        Raises Unavailable: `busy` if the write lock is not acquired within five seconds, `no_space` if the disk is full,
        `database_unavailable` if the database is known to be corrupt, `lease_lost` if another portal may write."""
        if self._changing:
            raise RuntimeError(
                "a transaction is open already: only the use case begins one, and once"
            )
        if not self._begun:
            self._begin()
        self._changing = True
        try:
            if self._held:
                self._execute("SAVEPOINT part")
            yield self
        except BaseException:
            if self._held and self.writing:
                self._raw.execute("ROLLBACK TO part")
            else:
                self._end("ROLLBACK")
            raise
        else:
            if self._held:
                self._execute("RELEASE part")  # nested savepoints make each statement slower
            else:
                self._end("COMMIT")
        finally:
            self._changing = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Joins all `write()` blocks inside into one transaction, committed at the end; any error rolls all of it back. The
        write lock is held from the first `write()` on: do nothing slow after that."""
        self._held = True
        try:
            yield
        except BaseException:
            if self._begun:
                self._end("ROLLBACK")
            raise
        else:
            if self._begun:
                self._end("COMMIT")
        finally:
            self._held = False

    @contextmanager
    def guarded(self, check: Callable[["Connection"], None]) -> Iterator[None]:
        """Call `check` at the beginning of every transaction inside, under the writers' lock. What it
        raises undoes the transaction: a request that was authenticated before it waited or computed
        is authenticated again at the moment of its change."""
        self._guard = check
        try:
            yield
        finally:
            self._guard = None
            self._checks = {}

    def check_again(self, name: object, check: Callable[["Connection"], None]) -> None:
        """Inside `guarded()`, also call `check` at the beginning of every further transaction; once
        for each name. Elsewhere nothing follows from it."""
        if self._guard is not None:
            self._checks[name] = check

    def _begin(self) -> None:
        if self.database.damage is not None:
            raise Unavailable("database_unavailable", DAMAGED)
        self.database.fence()
        if not self.database.writers.acquire(timeout=BUSY_SECONDS):
            raise Unavailable(
                "busy",
                "Another change holds the database; try again in a moment.",
                retry_after_seconds=1,
            )
        try:
            self._after_commit = []
            self._raw = self.database.writer()
            self._execute("BEGIN IMMEDIATE")
            self.now = self.database.clock.now()
            self._begun = True
        except BaseException:
            self._raw = self._reading
            self.database.writers.release()
            raise
        if self._guard is not None:
            try:
                self._guard(self)
                for check in self._checks.values():
                    check(self)
            except BaseException:
                self._end("ROLLBACK")
                raise

    def _end(self, how: str) -> None:
        """COMMIT or ROLLBACK, release the write lock, then run the callbacks of `after_commit`."""
        self._changing = self._begun = False
        try:
            try:
                if self.writing:
                    if how == "COMMIT":
                        self.database.fence()
                    self._execute(how)
            except BaseException:
                if self.writing:
                    self._raw.execute("ROLLBACK")
                raise
            if how == "COMMIT":
                self._number = self.database.committed(self)
        finally:
            self._raw = self._reading
            self.database.writers.release()
        if how == "COMMIT":
            try:
                self.database.flush(self._number)
                self.database.fence()  # a process that was stopped after COMMIT acknowledges nothing
            finally:  # the change is committed, and its jobs exist, whether or not the flush succeeded
                for follow_up in self._after_commit:
                    follow_up()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Statements of this thread read one state of the database. Keep it short, for the WAL."""
        self._execute("BEGIN")
        try:
            # BEGIN alone reads nothing
            self._execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
            yield
        finally:
            if self.writing:
                self._raw.execute("ROLLBACK")

    def after_commit(self, follow_up: Callable[[], None]) -> None:
        """Call `follow_up` after the running transaction is committed, outside the lock; not if it is rolled back."""
        self._after_commit.append(follow_up)

    def checkpoint(self, mode: str = "PASSIVE") -> None:
        """Checkpoint the WAL. The caller holds the write lock."""
        self._raw.execute(f"PRAGMA wal_checkpoint({mode})")

    def copy_to(self, path: Path) -> None:
        """A consistent copy of the whole database, made while others write."""
        target = sqlite3.connect(path)
        try:
            self._raw.backup(target)
        finally:
            target.close()

    @property
    def in_use_elsewhere(self) -> bool:
        """Whether another thread that runs may use it."""
        used = self.thread is not None and self.thread.is_alive()
        return used and self.thread is not threading.current_thread()

    def close(self) -> None:
        self._reading.close()

    def _refuse_between_parts(self) -> None:
        """Rejects writes between two savepoints of an outer transaction, which SQLite would allow."""
        if self._begun and not self._changing:
            raise sqlite3.OperationalError(
                "attempt to write a readonly database: there is no write() around this"
            )

    def _run(self, sql: str, values: Sequence[Any]) -> sqlite3.Cursor:
        if "?1" in sql:  # numbered parameters: Python takes them by name only, from 3.14 on
            return self._execute(
                sql, {str(number): value for number, value in enumerate(values, 1)}
            )
        return self._execute(sql, values)

    def _execute(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        try:
            return self._raw.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _fetched(self, fetch: Callable[[], Any]) -> Any:
        try:
            return fetch()
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.DatabaseError) -> Exception:
        name = getattr(error, "sqlite_errorname", "")
        # SQLITE_CORRUPT_VTAB is not listed: the full-text index can be rebuilt from the rows
        if name in (
            "SQLITE_CORRUPT",
            "SQLITE_CORRUPT_INDEX",
            "SQLITE_CORRUPT_SEQUENCE",
            "SQLITE_NOTADB",
        ):
            self.database.found_damage(str(error))
            return Unavailable("database_unavailable", DAMAGED)
        return translated(error)


class Database:
    """A database file: one reading connection per thread, one writing connection and its lock, checkpoints."""

    epoch = 0  # another number where revisions may have started again, see snapshots.py

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.path = path
        self._wal = f"{path}-wal"
        self.clock = clock or Clock()
        self.writers = threading.Lock()
        # Called after a commit; set by the worker, the subscriptions and the context.
        self.on_job: Callable[[], None] = lambda: None
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
