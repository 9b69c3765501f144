"""Group commit: many threads hand in what they want written, one of them writes it all in one transaction.

A commit waits for the disk, whatever it contains. The first thread leads: it takes what has
been handed in, commits once, and answers for all; meanwhile the next group gathers. Nobody is answered before its rows are
on disk.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from mosis.database import Connection, Database

Result = TypeVar("Result")
LARGEST_GROUP = 64


class _Entry:
    """One thread's work, and the gate behind which it waits."""

    __slots__ = ("error", "gate", "leads", "result", "work")

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.gate = threading.Lock()
        self.gate.acquire()
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None


class GroupCommit:
    """The writers of one database, gathered."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []
        self._led = False

    @property
    def waiting(self) -> int:
        """How many wait for the group that is being written."""
        return len(self._waiting)

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work(db)` inside a transaction that others may share; its result, once that is committed.

        `work` may run in another thread and, when another part of the group fails, a second time: it changes nothing
        but the database. Raises what it raises; then nothing of it was changed. Raises Unavailable like `db.write()`.
        """
        entry = _Entry(work)
        with self._lock:
            self._waiting.append(entry)
            entry.leads = not self._led
            self._led = True
        if not entry.leads:
            entry.gate.acquire()
        if entry.leads:
            self._lead()
        if entry.error is not None:
            raise entry.error
        return entry.result  # type: ignore[no-any-return]

    def _lead(self) -> None:
        """Write the group that waits (the leader's own entry is its first), then name the next leader."""
        with self._lock:
            group, self._waiting = self._waiting[:LARGEST_GROUP], self._waiting[LARGEST_GROUP:]
        try:
            self._commit(group)
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting[0].leads = True
                    self._waiting[0].gate.release()
                else:
                    self._led = False
            for entry in group[1:]:
                entry.gate.release()

    def _commit(self, group: list[_Entry]) -> None:
        try:
            self._write(group)
        except BaseException as error:
            if len(group) == 1:
                group[0].error = error
                return
            for entry in group:  # one of them is to blame: each for itself
                self._commit([entry])

    def _write(self, group: list[_Entry]) -> None:
        db = self.database.connection()
        with db.write():
            for entry in group:
                entry.result = entry.work(db)
