"""SQLite connections and transactions.

A thread reads on a connection of its own and writes inside `with db.write():`, one transaction in which `db.now` does not
change. When the block ends without an error, the change survives a power cut: SQLite commits to the WAL without a sync
(synchronous=NORMAL, https://sqlite.org/pragma.html#pragma_synchronous), then one fdatasync of the WAL covers every transaction
committed so far.
"""

import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mosis.clock import Clock
from mosis.database.raw import BUSY_SECONDS, CORRUPT, DAMAGED, translated, undone
from mosis.database.tables import Stored, select
from mosis.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from mosis.database.database import Database

log = logging.getLogger("mosis.database")

Row = TypeVar("Row")
STEPS_PER_LOOK = 100  # of SQLite's virtual machine, between two looks at a deadline


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
        self._lost: Exception | None = None  # why nothing more can be written inside `held()`
        self._guard: Callable[[Connection], None] | None = None  # see `guarded()`
        self._checks: dict[object, Callable[[Connection], None]] = {}  # see `check_again()`

    @property
    def clock(self) -> Clock:
        """The clock that `now` is read from."""
        return self.database.clock

    def notify(self, developer_id: str) -> None:
        """Call the subscribers of this account after the running transaction is committed."""
        self.after_commit(lambda: self.database.on_event(developer_id))

    def notify_workers(self, lane: str) -> None:
        """Have the workers of a lane look for due jobs after the running transaction is committed."""
        self.after_commit(lambda: self.database.on_job(lane))

    @overload
    def all(self, sql: str, *values: Any, into: type[Row]) -> list[Row]: ...

    @overload
    def all(self, sql: str, *values: Any, into: None = None) -> list[Any]: ...

    def all(self, sql: str, *values: Any, into: type[Row] | None = None) -> list[Any]:
        """Every row, as tuples or as `into`; fetched at once: open cursors stop checkpoints."""
        rows = self._rest(self._run(sql, values))
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
        row = self._first(sql, values)
        return row if row is None or into is None else into(*row)

    def select(self, record: type[Stored], where: str, *values: Any) -> list[Stored]:
        """Every row of the record's table that meets a condition; an order and a limit may follow it."""
        return self.all(select(record, where), *values, into=record)

    def find(self, record: type[Stored], where: str, *values: Any) -> Stored | None:
        """The first row of `select`; None if there is none."""
        return self.one(select(record, where), *values, into=record)

    def get(self, record: type[Stored], where: str, *values: Any, what: str = "") -> Stored:
        """As `find`, but raises NotFound of `what` (default: the class) without a row."""
        found = self.find(record, where, *values)
        if found is None:
            words = re.sub("(?<!^)(?=[A-Z])", " ", record.__name__).lower()
            raise NotFound(what or words)
        return found

    def dicts(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Every row as {column: value}."""
        cursor = self._run(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in self._rest(cursor)]

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row or None."""
        row = self._first(sql, values)
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
            detail = "a transaction is open already: only the use case begins one, and once"
            raise RuntimeError(detail)
        with self._part("one"):
            if self._begun:
                self.now = self.database.clock.now()
            else:
                self._begin()
            self._changing = True
            try:
                yield self
            finally:
                self._changing = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Joins all `write()` and `held()` blocks inside into one transaction, committed at the end. An
        error undoes the changes of the blocks that it leaves. The write lock is held from the first
        `write()` on: do nothing slow after that. Raises Unavailable at its end if SQLite has rolled
        the transaction back, because the disk is full."""
        outer, self._held = self._held, True
        try:
            with self._part("several", joins=outer):
                yield
        finally:
            self._held = outer
            if not outer:
                self._lost = None

    @contextmanager
    def _part(self, name: str, *, joins: bool | None = None) -> Iterator[None]:
        """Undoes the changes inside on an error. They are a savepoint where the transaction has begun
        before, else all of it, which is committed at the end unless it `joins` an outer `held()`."""
        if self._lost is not None:
            raise self._lost
        mark, nested = len(self._after_commit), self._begun
        joins = self._held if joins is None else joins
        try:
            if nested:
                self._execute(f"SAVEPOINT {name}")
            yield
            if nested:
                self._execute(f"RELEASE {name}")  # nested savepoints make each statement slower
            elif self._begun and not joins:
                self._end("COMMIT")
        except BaseException as error:
            if nested:
                self._undo(name, mark, error)
            elif self._begun:
                self._end("ROLLBACK")
            raise

    def _undo(self, savepoint: str, mark: int, error: BaseException) -> None:
        """Undo what was changed since the savepoint. Some errors make SQLite roll back the whole
        transaction (https://sqlite.org/lang_transaction.html, section 3): then all of it is lost."""
        del self._after_commit[mark:]
        self._lost = error if isinstance(error, Unavailable) else undone()
        if self.writing:
            self._raw.execute(f"ROLLBACK TO {savepoint}")
            self._raw.execute(f"RELEASE {savepoint}")
            self._lost = None

    @contextmanager
    def guarded(self, check: Callable[["Connection"], None]) -> Iterator[None]:
        """Call `check` at the beginning of every transaction inside, under the writers' lock. What it
        raises undoes the transaction: a request that was authenticated before it waited or computed
        is authenticated again at the moment of its change. Not needed, and not done, where the lock
        is held already, see `held()`."""
        self._guard = None if self._begun else check
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
        try:
            self._lock()
        except Exception as error:
            if self._held:
                self._lost = error  # the others of a group do not wait for the lock as well
            raise
        if self._guard is not None:
            self._guard(self)
            for check in self._checks.values():
                check(self)

    def _lock(self) -> None:
        if self.database.damage is not None:
            raise Unavailable("database_unavailable", DAMAGED)
        self.database.fence()
        if not self.database.writers.acquire(timeout=BUSY_SECONDS):
            detail = "Another change holds the database; try again in a moment."
            raise Unavailable("busy", detail, retry_after_seconds=1)
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

    def _end(self, how: str) -> None:
        """COMMIT or ROLLBACK, release the write lock, then run the callbacks of `after_commit`."""
        self._begun = False
        try:
            try:
                if how == "COMMIT":
                    if self._lost is not None or not self.writing:
                        raise self._lost or undone()
                    self.database.fence()
                if self.writing:
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
        if self._begun:
            yield
            return
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

    def _first(self, sql: str, values: Sequence[Any]) -> Any:
        try:
            if "?1" in sql:
                return self._run(sql, values).fetchone()
            return self._raw.execute(sql, values).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _rest(self, cursor: sqlite3.Cursor) -> list[Any]:
        try:
            return cursor.fetchall()
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.DatabaseError) -> Exception:
        name = getattr(error, "sqlite_errorname", "")
        if name in CORRUPT:
            self.database.found_damage(str(error))
            return Unavailable("database_unavailable", DAMAGED)
        return translated(error)
