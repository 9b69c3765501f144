"""Retention: deletes raw events after 7 days and crash reports after 90, in slices that are small
enough to hold the write lock only briefly.

Rows are found without the lock, then deleted by row number. After a slow slice the next one is
smaller. Free pages are returned to the file system when there are more than will be needed soon.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from mosis.clock import DAY
from mosis.context import Context
from mosis.database import Connection
from mosis.telemetry import downloads, space, telemetry_apps, watches
from mosis.telemetry.intake import SEEN_DAYS
from mosis.telemetry.rollups import summed

RAW_SECONDS = 7 * DAY
CRASH_SECONDS = 90 * DAY  # a report after its arrival, a group after its last report
HOUR_SECONDS = 90 * DAY  # sums by hour; those by day stay
# a slice that holds the lock for less time grows, for more shrinks
SHORT_SECONDS, LONG_SECONDS = (0.004, 0.01)
FIRST_SLICE, LARGEST_SLICE = 50, 1000  # rows
LISTED_DAYS = 8  # interval of checking whether a device still has rows
FREE_SHARE = 20  # free pages up to this part of the file are left for new rows
LEAST_FREE_PAGES = 256

Find = Callable[[int], list[Any]]
Delete = Callable[[Connection, list[Any]], None]


class Slices:
    """The size of the next slice, adjusted by the duration of the last one."""

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
    env: Context, seconds: float = float("inf"), pause: Callable[[], object] = lambda: None
) -> float:
    """Delete what is too old, for about so many seconds; the longest time that it held the lock."""
    db = env.telemetry.connection()
    return _delete_slices(db, _steps(env, db, int(env.clock.time())), seconds, pause)


def make_room(
    env: Context, seconds: float = float("inf"), pause: Callable[[], object] = lambda: None
) -> None:
    """While telemetry exceeds its limit, delete the oldest summed events, then crash reports."""
    db = env.telemetry.connection()

    def oldest(sql: str, *values: Any) -> Find:
        """As many of the oldest rows (their last column is their size) as have to be deleted."""

        def find(limit: int) -> list[Any]:
            excess, found = space.excess_bytes(env, db), []
            for *row, size in db.all(sql, *values, limit) if excess > 0 else ():
                found.append(tuple(row))
                excess -= size
                if excess <= 0:
                    break
            return found

        return find

    work: list[tuple[Find, Delete]] = [
        (
            oldest(
                "SELECT id, received_at, 100 + length(coalesce(packed, events)) FROM batches"
                " WHERE id <= ? ORDER BY id LIMIT ?",
                summed(db),
            ),
            delete_batches,
        ),
        (
            oldest(
                "SELECT id, 100 + length(stack_trace) + length(message) FROM crash_reports"
                " ORDER BY received_at LIMIT ?"
            ),
            _by("crash_reports"),
        ),
    ]
    if space.is_tight(env):
        work.append((lambda limit: [[limit]] if _free_pages(db) else [], _give_space_back))
    _delete_slices(db, iter(work), seconds, pause)


def _delete_slices(
    db: Connection, work: Iterator[tuple[Find, Delete]], seconds: float, pause: Callable[[], object]
) -> float:
    """Find and delete rows by slices, for so many seconds; the longest time it held the lock."""
    until, longest = time.monotonic() + seconds, 0.0
    for find, delete in work:
        slices = Slices()
        while rows := find(slices.size):
            begun = time.monotonic()
            with db.write():
                begun = time.monotonic()  # the time of waiting for the lock is not counted
                delete(db, rows)
            slices.took(time.monotonic() - begun)
            longest = max(longest, slices.longest_seconds)
            if time.monotonic() > until:
                return longest
            pause()
    return longest


def _steps(env: Context, db: Connection, now: int) -> Iterator[tuple[Find, Delete]]:
    """What to find, so many rows at most, and how to delete it; rows dated in the future too."""
    rows = partial(_rows, db)
    yield lambda limit: _old_batches(db, now, limit), delete_batches
    sql = "SELECT day, key FROM seen WHERE day < ? ORDER BY day, key LIMIT ?"
    yield (rows(sql, now // DAY - SEEN_DAYS), _delete_seen)
    yield (
        rows("SELECT id FROM crash_reports WHERE received_at < ? LIMIT ?", now - CRASH_SECONDS),
        _by("crash_reports"),
    )
    yield (
        rows("SELECT rowid FROM crash_groups WHERE last_seen < ? LIMIT ?", now - CRASH_SECONDS),
        _by("crash_groups"),
    )
    sql = "SELECT rowid FROM rollups WHERE span = 'hour' AND start < ? LIMIT ?"
    yield (rows(sql, now - HOUR_SECONDS), _by("rollups"))
    yield (
        rows(
            "SELECT key, device, app FROM devices WHERE day < ? LIMIT ?", now // DAY - LISTED_DAYS
        ),
        _unlist,
    )
    sql = "SELECT id FROM apps WHERE unlisted > 0 AND unlisted < ? LIMIT ?"
    yield (rows(sql, now - CRASH_SECONDS - DAY), telemetry_apps.all_listed)
    yield lambda limit: downloads.old_days(db, limit), downloads.delete
    yield lambda limit: watches.ended_rows(db, limit), watches.delete_rows
    sql = (
        "SELECT id FROM watches w WHERE ended = 1"
        " AND NOT EXISTS (SELECT 1 FROM watched_days d WHERE d.watch = w.id) LIMIT ?"
    )
    yield (rows(sql), watches.delete_ended)
    yield from _steps_of_deleted_apps(env, db)
    yield lambda limit: [[limit]] if _has_space_to_give(db) else [], _give_space_back


def _rows(db: Connection, sql: str, *values: Any) -> Find:
    return lambda limit: db.all(sql, *values, limit)


def _steps_of_deleted_apps(env: Context, db: Connection) -> Iterator[tuple[Find, Delete]]:
    """The same for everything of apps that are deleted."""
    gone = json.dumps(_deleted_apps(env, db))
    yield (
        _rows(
            db,
            "SELECT id FROM batches WHERE source IN (SELECT s.id FROM sources s JOIN json_each(?) gone ON gone.value = s.app)"
            " LIMIT ?",
            gone,
        ),
        _by("batches"),
    )  # before their app, because they are found through it
    for table, column in (("crash_groups", "app"), ("rollups", "app"), ("apps", "id")):
        sql = (
            f"SELECT rowid FROM {table} WHERE {column} IN (SELECT value FROM json_each(?)) LIMIT ?"
        )
        yield (_rows(db, sql, gone), _by(table))


def _old_batches(db: Connection, now: int, limit: int) -> list[tuple[int, int]]:
    """The oldest batches, if they are included in the sums and old enough."""
    sql = (
        "SELECT id, received_at FROM (SELECT id, received_at FROM batches WHERE id <= ? ORDER BY id LIMIT ?)"
        " WHERE received_at < ? OR received_at > ?"
    )
    return db.all(sql, summed(db), limit, now - RAW_SECONDS, now + DAY)


def delete_batches(db: Connection, rows: list[tuple[int, int]]) -> None:
    """Delete these batches (id, received_at), in the running transaction, and store the time up to
    which raw events are no longer complete."""
    sql = "DELETE FROM batches WHERE id IN (SELECT value FROM json_each(?))"
    db.change(sql, json.dumps([row[0] for row in rows]))
    latest = min(max(received_at for _, received_at in rows), int(db.clock.time()))
    db.change("UPDATE progress SET value = max(value, ?) WHERE name = 'forgotten'", latest)


def _delete_seen(db: Connection, rows: list[tuple[int, int]]) -> None:
    # they are sorted, and start at the oldest
    db.change("DELETE FROM seen WHERE (day, key) <= (?, ?)", *rows[-1])


def _by(table: str) -> Delete:
    def delete(db: Connection, rows: list[Any]) -> None:
        sql = f"DELETE FROM {table} WHERE rowid IN (SELECT value FROM json_each(?))"
        db.change(sql, json.dumps([row[0] for row in rows]))

    return delete


def _deleted_apps(env: Context, db: Connection) -> list[int]:
    """Apps that the portal no longer has: drafts that were deleted."""
    known = {row[0] for row in env.db.connection().all("SELECT id FROM apps")}
    return [
        number for number, app_id in db.all("SELECT id, app_id FROM apps") if app_id not in known
    ]


def _unlist(db: Connection, rows: list[tuple[bytes, bytes, int]]) -> None:
    """Remove devices without stored rows from the list; check the others again in some days."""
    today = int(db.clock.time()) // DAY
    for key, device, _ in rows:
        if db.value(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM batches WHERE device = ?1)"
            " OR EXISTS (SELECT 1 FROM crash_reports WHERE device = ?1)"
            " OR EXISTS (SELECT 1 FROM watched_days WHERE device = ?1)",
            device,
        ):
            db.update("devices", "key = ? AND device = ?", key, device, day=today)
        else:
            db.change("DELETE FROM devices WHERE key = ? AND device = ?", key, device)


def _has_space_to_give(db: Connection) -> bool:
    pages = int(db.value("PRAGMA page_count"))
    return _free_pages(db) > max(LEAST_FREE_PAGES, pages // FREE_SHARE)


def _free_pages(db: Connection) -> int:
    """The free pages that can be returned to the file system; none without auto_vacuum."""
    return int(db.value("PRAGMA freelist_count")) if db.value("PRAGMA auto_vacuum") == 2 else 0


def _give_space_back(db: Connection, rows: list[list[int]]) -> None:
    for _ in range(
        rows[0][0]
        # one by one: with a larger number SQLite returns a row without columns for each page, and
        # sqlite3 stops
    ):
        db.all("PRAGMA incremental_vacuum(1)")
