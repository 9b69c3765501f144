"""Forgetting: raw events after 7 days, crashes after 90, in slices so small that nobody who writes waits long for the lock.

What is to go is looked for without the lock; then a slice is deleted by its row numbers. A slice that took long is followed
by a smaller one. The space goes back to the file system when more is free than will be needed again soon.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from mosis.context import Environment
from mosis.database import Connection
from mosis.telemetry.intake import SEEN_DAYS
from mosis.telemetry.rollups import DAY, summed

RAW_SECONDS = 7 * DAY
CRASH_SECONDS = 90 * DAY  # a report since it came; a group since its last report
HOUR_SECONDS = 90 * DAY  # sums by hour; those by day stay
SHORT_SECONDS, LONG_SECONDS = (
    0.004,
    0.01,
)  # a slice that holds the lock for less grows, for more shrinks
FIRST_SLICE, LARGEST_SLICE = 50, 1000  # rows
FREE_SHARE = 20  # free pages up to a twentieth of the file are kept for what comes next
LEAST_FREE_PAGES = 256

Find = Callable[[int], list[Any]]
Delete = Callable[[Connection, list[Any]], None]


class Slices:
    """How much is deleted at a time, by how long the last slice took."""

    def __init__(self) -> None:
        self.size = FIRST_SLICE
        self.longest_seconds = 0.0

    def took(self, seconds: float) -> None:
        self.longest_seconds = max(self.longest_seconds, seconds)
        if seconds > LONG_SECONDS:
            self.size = max(1, self.size // 2)
        elif seconds < SHORT_SECONDS:
            self.size = min(LARGEST_SLICE, self.size * 2)


def prune(
    env: Environment, seconds: float = float("inf"), pause: Callable[[], object] = lambda: None
) -> float:
    """Forget what is too old, for at most about so many seconds; for how long the lock was held at most."""
    db, until, longest = env.telemetry.connection(), time.monotonic() + seconds, 0.0
    for find, delete in _work(env, db, int(env.clock.time())):
        slices = Slices()
        while rows := find(slices.size):
            begun = time.monotonic()
            with db.write():
                begun = time.monotonic()  # waiting for the lock is not holding it
                delete(db, rows)
            slices.took(time.monotonic() - begun)
            longest = max(longest, slices.longest_seconds)
            if time.monotonic() > until:
                return longest
            pause()
    return longest


def _work(env: Environment, db: Connection, now: int) -> Iterator[tuple[Find, Delete]]:
    """What to look for (so many rows at most) and how to delete it. Clocks jump: what came from the future goes too."""

    def rows(sql: str, *values: Any) -> Find:
        return lambda limit: db.all(sql, *values, limit)

    yield lambda limit: _old_batches(db, now, limit), forget_batches
    yield (
        rows(
            "SELECT day, key FROM seen WHERE day < ? ORDER BY day, key LIMIT ?",
            now // DAY - SEEN_DAYS,
        ),
        _delete_seen,
    )
    yield (
        rows("SELECT id FROM crash_reports WHERE received_at < ? LIMIT ?", now - CRASH_SECONDS),
        _by("crash_reports"),
    )
    yield (
        rows("SELECT rowid FROM crash_groups WHERE last_seen < ? LIMIT ?", now - CRASH_SECONDS),
        _by("crash_groups"),
    )
    yield (
        rows(
            "SELECT rowid FROM rollups WHERE span = 'hour' AND start < ? LIMIT ?",
            now - HOUR_SECONDS,
        ),
        _by("rollups"),
    )
    gone = json.dumps(_apps_gone(env, db))
    yield (
        rows(
            "SELECT id FROM batches WHERE source IN (SELECT s.id FROM sources s JOIN json_each(?) gone ON gone.value = s.app)"
            " LIMIT ?",
            gone,
        ),
        _by("batches"),
    )  # before their app: without it nobody can tell whose they are
    for table, column in (("crash_groups", "app"), ("rollups", "app"), ("apps", "id")):
        yield (
            rows(
                f"SELECT rowid FROM {table} WHERE {column} IN (SELECT value FROM json_each(?)) LIMIT ?",
                gone,
            ),
            _by(table),
        )
    yield lambda limit: [[limit]] if _has_space_to_give(db) else [], _give_space_back


def _old_batches(db: Connection, now: int, limit: int) -> list[tuple[int, int]]:
    """The oldest batches, if they are in the sums and old enough."""
    return db.all(
        "SELECT id, received_at FROM (SELECT id, received_at FROM batches WHERE id <= ? ORDER BY id LIMIT ?)"
        " WHERE received_at < ? OR received_at > ?",
        summed(db),
        limit,
        now - RAW_SECONDS,
        now + DAY,
    )


def forget_batches(db: Connection, rows: list[tuple[int, int]]) -> None:
    """Delete these batches (id, received_at) in the running transaction, and note until when they are no longer complete."""
    db.change(
        "DELETE FROM batches WHERE id IN (SELECT value FROM json_each(?))",
        json.dumps([row[0] for row in rows]),
    )
    latest = min(max(received_at for _, received_at in rows), int(db.database.clock.time()))
    db.change("UPDATE progress SET value = max(value, ?) WHERE name = 'forgotten'", latest)


def _delete_seen(db: Connection, rows: list[tuple[int, int]]) -> None:
    db.change(
        "DELETE FROM seen WHERE (day, key) <= (?, ?)", *rows[-1]
    )  # they stand in this order, and are the first


def _by(table: str) -> Delete:
    def delete(db: Connection, rows: list[Any]) -> None:
        db.change(
            f"DELETE FROM {table} WHERE rowid IN (SELECT value FROM json_each(?))",
            json.dumps([row[0] for row in rows]),
        )

    return delete


def _apps_gone(env: Environment, db: Connection) -> list[int]:
    """Apps that the portal no longer has: drafts that were deleted."""
    known = {row[0] for row in env.db.connection().all("SELECT id FROM apps")}
    return [
        number for number, app_id in db.all("SELECT id, app_id FROM apps") if app_id not in known
    ]


def _has_space_to_give(db: Connection) -> bool:
    free, pages = db.value("PRAGMA freelist_count"), db.value("PRAGMA page_count")
    return (
        bool(free > max(LEAST_FREE_PAGES, pages // FREE_SHARE))
        and db.value("PRAGMA auto_vacuum") == 2
    )


def _give_space_back(db: Connection, rows: list[list[int]]) -> None:
    for _ in range(
        rows[0][0]
    ):  # one by one: a larger number answers a row without columns for each page, and sqlite3 stops
        db.all("PRAGMA incremental_vacuum(1)")
