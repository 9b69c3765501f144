"""Starts and crashes by device and day, of a version that a rollout plan watches and of the version
before it.

Rows are written together with the sums, in the same transaction, so each batch counts once, late or
not. Only events since the beginning of the round count, for both versions.
"""

import json
from collections.abc import Iterable

from mosis.clock import CORRECTED_SECONDS, DAY
from mosis.database import Connection
from mosis.publishing import halting
from mosis.publishing.halting import Counts
from mosis.records import dataclass
from mosis.telemetry import telemetry_apps
from mosis.telemetry.schemas import TYPES

MOST_ROWS = 200_000  # of each version in a watch, about 12 MB; devices beyond it are not counted
_START, _CRASH = TYPES["app_start"][0], TYPES["app_crash"][0]

Key = tuple[int, int, int, bytes]  # watch, is_new, day, device
Batch = tuple[int, bytes, list[list[object]]]  # source, device, events
# A device's sessions and crashes of a day. A session without a known start can still crash.
_CRASHED = "iif(?2, crashes, reports)"
_SESSIONS = f"max(starts, {_CRASHED})"


@dataclass(frozen=True)
class Watched:
    """One version in one watch."""

    watch: int
    is_new: int
    since: int


def begin(
    db: Connection, app_id: str, version: str, previous: str | None, round_number: int
) -> int:
    """The watch of a version in this round, without earlier rounds' counts; may be called again."""
    now = int(db.clock.time())
    found = _find(db, app_id, version)
    if found is not None and found[1] == round_number and found[2] <= now + CORRECTED_SECONDS:
        return found[0]
    with db.write():
        found = _find(db, app_id, version)
        if found is not None and found[1] == round_number:
            # its start was written while the clock was ahead
            if found[2] > now + CORRECTED_SECONDS:
                db.update("watches", "id = ?", found[0], since=now)
            return found[0]
        end(db, app_id, version)
        return db.insert(
            "watches",
            app=telemetry_apps.number(db, app_id),
            version=version,
            previous=previous,
            round=round_number,
            since=now,
        )


def end(db: Connection, app_id: str, version: str) -> None:
    """End the watch of a version, in the running transaction; its rows are deleted by retention."""
    sql = (
        "UPDATE watches SET ended = 1 WHERE version = ? AND ended = 0"
        " AND app = (SELECT id FROM apps WHERE app_id = ?)"
    )
    db.change(sql, version, app_id)


def end_others(db: Connection, watched: Iterable[tuple[str, str]]) -> None:
    """End every watch but those of these versions (app id, version): their plans are done or gone."""
    wanted = set(watched)
    sql = "SELECT a.app_id, w.version FROM watches w JOIN apps a ON a.id = w.app WHERE w.ended = 0"
    rows = db.all(sql)
    gone = [row for row in rows if row not in wanted]
    if gone:
        with db.write():
            for app_id, version in gone:
                end(db, app_id, version)


def counts(db: Connection, watch: int) -> tuple[Counts, Counts]:
    """The counts of the watched version and of the previous one.

    Crashes are those reported as events; crash reports are used if no crash was reported as an
    event, as in the analytics: reports come from all sessions, starts only from the sampled ones.
    """
    by_events = db.has("SELECT 1 FROM watched_days WHERE watch = ? AND crashes > 0 LIMIT 1", watch)
    version, before = db.one("SELECT version, previous FROM watches WHERE id = ?", watch)
    return _counts(db, watch, version, by_events, 1), _counts(db, watch, before, by_events, 0)


def _counts(
    db: Connection, watch: int, version: str | None, by_events: bool, is_new: int
) -> Counts:
    sql = (
        "SELECT coalesce(sum(sessions), 0), coalesce(sum(crashes), 0), count(*), coalesce(sum(crashes > 0), 0),"
        " coalesce(sum(s), 0), coalesce(sum(c), 0), coalesce(sum(c * c), 0), coalesce(sum(c * s), 0), coalesce(sum(s * s), 0)"
        f" FROM (SELECT sum({_SESSIONS}) AS sessions, sum({_CRASHED}) AS crashes, sum(min({_CRASHED}, ?4)) AS c,"
        # halting.bounded_sessions
        f" sum(iif({_CRASHED} > ?4, ?4 * ({_SESSIONS} + 1.0) / ({_CRASHED} + 1), {_SESSIONS})) AS s"
        " FROM watched_days WHERE watch = ?1 AND is_new = ?3 GROUP BY device)"
    )
    sessions, crashes, devices, crashed, *sums = db.one(
        sql, watch, int(by_events), is_new, halting.CRASHES_A_DAY
    )
    return Counts(
        version,
        sessions,
        crashes,
        devices,
        crashed,
        bounded_sessions=sums[0],
        bounded_crashes=sums[1],
        design_effect=halting.design_effect(*sums),
    )


def watched(db: Connection) -> dict[tuple[int, str], list[Watched]]:
    """What is watched now, by app number and version."""
    found: dict[tuple[int, str], list[Watched]] = {}
    sql = "SELECT id, app, version, previous, since FROM watches WHERE ended = 0"
    for watch, app, version, previous, since in db.all(sql):
        found.setdefault((app, version), []).append(Watched(watch, 1, since))
        if previous is not None:
            found.setdefault((app, previous), []).append(Watched(watch, 0, since))
    return found


def count_batches(
    batches: Iterable[Batch],
    sources: dict[int, tuple[int, str]],
    among: dict[tuple[int, str], list[Watched]],
) -> dict[Key, list[int]]:
    """Starts and crashes in these batches, by watch, version, day and device."""
    found: dict[Key, list[int]] = {}
    for source, device, events in batches:
        for kind, at, *_ in events:
            if kind not in (_START, _CRASH) or not isinstance(at, int):
                continue
            for each in among[sources[source]]:
                if at >= each.since:
                    row = found.setdefault((each.watch, each.is_new, at // DAY, device), [0, 0])
                    row[kind == _CRASH] += 1
    return found


def add(db: Connection, counted: dict[Key, list[int]]) -> None:
    """Add what `count_batches` has counted, in the running transaction."""
    for watch, is_new in {key[:2] for key in counted}:
        full = is_full(db, watch, is_new)
        for key, (starts, crashes) in counted.items():
            if key[:2] == (watch, is_new):
                _add(db, key, full, starts=starts, crashes=crashes)


def add_report(db: Connection, app: int, version: str, device: bytes, at: int) -> None:
    """Count a crash report, in the running transaction."""
    for each in watched(db).get((app, version), ()):
        if at >= each.since:
            key = (each.watch, each.is_new, at // DAY, device)
            _add(db, key, is_full(db, each.watch, each.is_new), reports=1)


def is_full(db: Connection, watch: int, is_new: int) -> bool:
    """Whether no further device is counted."""
    sql = "SELECT count(*) FROM watched_days WHERE watch = ? AND is_new = ?"
    rows = db.value(sql, watch, is_new)
    return int(rows) >= MOST_ROWS


def _add(
    db: Connection, key: Key, full: bool, starts: int = 0, crashes: int = 0, reports: int = 0
) -> None:
    sql = (
        "UPDATE watched_days SET starts = starts + ?, crashes = crashes + ?, reports = reports + ?"
        " WHERE watch = ? AND is_new = ? AND day = ? AND device = ?"
    )
    changed = db.change(sql, starts, crashes, reports, *key)
    if not changed and not full:
        sql = (
            "INSERT INTO watched_days (watch, is_new, day, device, starts, crashes, reports)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        db.change(sql, *key, starts, crashes, reports)


def _find(db: Connection, app_id: str, version: str) -> tuple[int, int, int] | None:
    """The active watch of a version: (id, round, since)."""
    sql = (
        "SELECT w.id, w.round, w.since FROM watches w JOIN apps a ON a.id = w.app"
        " WHERE a.app_id = ? AND w.version = ? AND w.ended = 0"
    )
    found: tuple[int, int, int] | None = db.one(sql, app_id, version)
    return found


def find(db: Connection, app_id: str, version: str) -> tuple[Counts, Counts] | None:
    """What was counted so far in the active watch of a version; None without one."""
    found = _find(db, app_id, version)
    return None if found is None else counts(db, found[0])


def of_devices(
    db: Connection, given: str, *bound: object
) -> list[tuple[bytes, str, int, int, int, int]]:
    """The rows of devices, for their export: (device, version, day, starts, crashes, reports)."""
    return db.all(
        "SELECT d.device, iif(d.is_new, w.version, w.previous), d.day, d.starts, d.crashes, d.reports"
        f" FROM watched_days d JOIN watches w ON w.id = d.watch WHERE d.device IN {given}"
        " ORDER BY d.day",
        *bound,
    )


def ended_rows(db: Connection, limit: int) -> list[tuple[int, int, int, bytes]]:
    """Rows of watches that have ended."""
    rows: list[tuple[int, int, int, bytes]] = db.all(
        "SELECT d.watch, d.is_new, d.day, d.device FROM watches w JOIN watched_days d ON d.watch = w.id"
        " WHERE w.ended = 1 LIMIT ?",
        limit,
    )
    return rows


def delete_rows(db: Connection, rows: list[tuple[int, int, int, bytes]]) -> None:
    """Delete these rows, in the running transaction."""
    for row in rows:
        sql = "DELETE FROM watched_days WHERE watch = ? AND is_new = ? AND day = ? AND device = ?"
        db.change(sql, *row)


def delete_ended(db: Connection, rows: list[tuple[int]]) -> None:
    """Delete watches without rows, in the running transaction."""
    sql = "DELETE FROM watches WHERE id IN (SELECT value FROM json_each(?))"
    db.change(sql, json.dumps([watch for (watch,) in rows]))
