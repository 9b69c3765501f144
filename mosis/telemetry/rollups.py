"""Sums by hour and day. Each batch is added exactly once: the sums and the position in the batches
change in the same transaction, so that a kill neither loses nor doubles anything. A late event is
added to the hour in which it happened."""

import json
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any, TypeGuard

from mosis.clock import DAY, HOUR
from mosis.database import Connection
from mosis.records import dataclass
from mosis.telemetry import histogram, watches
from mosis.telemetry.hyperloglog import HyperLogLog
from mosis.telemetry.schemas import TYPES

ALL = "*"  # all versions together
# batches per transaction; fewer if they belong to many hours: each hour is two to four rows to
# write under the lock
SLICE = 1000
HOURS_A_SLICE = 250  # of all versions and apps together; the last batch may add a hundred more
LONGEST_SESSION_SECONDS = 7 * DAY
COUNTS = (
    "events", "starts", "stops", "crashes", "lua_errors", "crash_reports", "sessions",
    "session_seconds",
)  # fmt: skip
HISTOGRAMS = ("frames", "startups", "memory", "memory_limits")
TYPICAL_WEIGHT = 9  # median frame time, of events that report slow frames too; those have 1
_START, _STOP, _CRASH, _LUA_ERROR, _FRAME, _STARTUP, _MEMORY = (
    TYPES[name][0]
    for name in (
        "app_start",
        "app_stop",
        "app_crash",
        "lua_error",
        "perf_frame",
        "perf_startup",
        "perf_memory",
    )
)

Key = tuple[int, str, str, int]  # app, span, version, start


@dataclass
class Sums:
    """The sums of an app's hour or day; they can be added."""

    events: int = 0
    starts: int = 0
    stops: int = 0
    crashes: int = 0
    lua_errors: int = 0
    crash_reports: int = 0
    sessions: int = 0
    session_seconds: int = 0
    frames: Counter[int] = field(default_factory=Counter)
    startups: Counter[int] = field(default_factory=Counter)
    memory: Counter[int] = field(default_factory=Counter)
    memory_limits: Counter[int] = field(default_factory=Counter)
    devices: HyperLogLog = field(default_factory=HyperLogLog)

    def add(self, other: "Sums") -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in HISTOGRAMS:
            getattr(self, name).update(getattr(other, name))
        self.devices.unite(other.devices)

    def row(self) -> tuple[Any, ...]:
        """The stored form."""
        counts = (getattr(self, name) for name in COUNTS)
        sizes = (histogram.dump(getattr(self, name)) for name in HISTOGRAMS)
        return (*counts, *sizes, self.devices.stored())


COLUMNS = (*COUNTS, *HISTOGRAMS, "devices")
SELECT = ", ".join(COLUMNS)
_PUT = f"INSERT OR REPLACE INTO rollups (app, span, version, start, {SELECT}) VALUES (?, ?, ?, ?{', ?' * len(COLUMNS)})"
# All columns except crash reports: these are counted at intake, possibly after the row was read.
_ADD = (
    _PUT.replace(" OR REPLACE", "")
    + " ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "crash_reports")
)


def sums(row: tuple[Any, ...]) -> Sums:
    """The reverse of `Sums.row`, from the columns SELECT."""
    found, sizes = Sums(devices=HyperLogLog(row[-1])), row[len(COUNTS) : -1]
    for name, value in zip(COUNTS, row[: len(COUNTS)], strict=True):
        setattr(found, name, value)
    for name, value in zip(HISTOGRAMS, sizes, strict=True):
        setattr(found, name, histogram.load(value))
    return found


def packed(events: bytes) -> bytes:
    """Events in the form of the column `packed` of `batches`."""
    return zlib.compress(events, 1)


def unpacked(stored: bytes | str) -> list[list[Any]]:
    """The events of a batch, from either column: coalesce(packed, events)."""
    found: list[list[Any]] = json.loads(
        zlib.decompress(stored) if isinstance(stored, bytes) else stored
    )
    return found


def catch_up(
    db: Connection, seconds: float = float("inf"), pause: Callable[[], object] = lambda: None
) -> bool:
    """Add what was received since the last run, in slices with a pause after each, for about this
    many seconds. Returns whether everything is added."""
    until = time.monotonic() + seconds
    while True:
        if not advance(db):
            return True
        if time.monotonic() > until:
            return False
        pause()


def advance(db: Connection) -> bool:
    """Add the next slice. Returns whether there may be more. Only the writing needs the lock."""
    summed_to = summed(db)
    sql = (
        "SELECT id, source, device, coalesce(packed, events) FROM batches WHERE id > ?"
        " ORDER BY id LIMIT ?"
    )
    rows = db.all(sql, summed_to, SLICE)
    if not rows:
        return False
    known = sources(db)
    hours, last = count_batches(rows, known, HOURS_A_SLICE)
    devices = _count_watched(db, rows, known, last)
    found = [(key, stored_plus(db, key, each).row()) for key, each in spread(hours).items()]
    with db.write():
        if summed(db) == summed_to:  # otherwise another process has added them meanwhile
            for key, row in found:
                db.change(_ADD, *key, *row)
            watches.add(db, devices)
            db.update("progress", "name = 'summed'", value=last)
    return last < rows[-1][0] or len(rows) == SLICE


def _count_watched(
    db: Connection,
    rows: list[tuple[int, int, bytes, bytes | str]],
    known: dict[int, tuple[int, str]],
    last: int,
) -> dict[watches.Key, list[int]]:
    """What the batches up to `last` say of versions that a rollout plan watches."""
    among = watches.watched(db)
    if not among:
        return {}
    batches = (
        (source, device, unpacked(events))
        for number, source, device, events in rows
        if number <= last and known.get(source) in among
    )
    return watches.count_batches(batches, known, among)


def summed(db: Connection) -> int:
    """The last batch that is included in the sums."""
    return int(db.value("SELECT value FROM progress WHERE name = 'summed'"))


def sources(db: Connection) -> dict[int, tuple[int, str]]:
    """The app and version behind each source."""
    return {
        number: (app, version)
        for number, app, version in db.all("SELECT id, app, version FROM sources")
    }


def count_batches(
    rows: Iterable[tuple[int, int, bytes, bytes | str]],
    known: dict[int, tuple[int, str]],
    most_hours: float = float("inf"),
) -> tuple[dict[Key, Sums], int]:
    """The batches' sums by hour and version, and the last batch that fits the most hours."""
    found: dict[Key, Sums] = {}
    last = 0
    for number, source, device, events in rows:
        if len(found) >= most_hours:
            break
        last = number
        if source not in known:
            continue  # its app was deleted
        app, version = known[source]
        started, hour, each = None, -1, Sums()
        for kind, at, *rest in unpacked(events):
            if at - at % HOUR != hour:
                hour = at - at % HOUR
                each = found.setdefault((app, "hour", version, hour), Sums())
                each.devices.add(device)
            each.events += 1
            if kind == _START:
                started = at
            _count(each, kind, at, rest[0] if rest else {}, started)
    return found, last


def _count(each: Sums, kind: int, at: int, data: dict[str, Any], started: int | None) -> None:
    """Add one event. Impossible numbers are ignored; the event still counts."""
    if kind == _FRAME:
        weight = 1
        if "p95_ms" in data:
            weight = TYPICAL_WEIGHT
            _measure(each.frames, data["p95_ms"])
        for name in ("frame_ms", "avg_ms"):
            _measure(each.frames, data.get(name), weight)
    elif kind == _START:
        each.starts += 1
    elif kind == _STOP:
        each.stops += 1
        length = data.get(
            "duration_seconds", at - started if started is not None and at > started else None
        )
        if _is_number(length) and 0 <= length <= LONGEST_SESSION_SECONDS:
            each.sessions += 1
            each.session_seconds += round(length)
    elif kind == _CRASH:
        each.crashes += 1
    elif kind == _LUA_ERROR:
        each.lua_errors += 1
    elif kind == _STARTUP:
        _measure(each.startups, data.get("startup_ms", data.get("duration_ms")))
    elif kind == _MEMORY:
        _measure(each.memory, data.get("used_mb"))
        _measure(each.memory_limits, data.get("limit_mb"))


def _measure(counts: Counter[int], value: Any, weight: int = 1) -> None:
    if _is_number(value) and value >= 0:
        counts[histogram.bucket(value)] += weight


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) is int or type(value) is float


def spread(hours: dict[Key, Sums]) -> dict[Key, Sums]:
    """The same sums for hours and days, for each version and for all."""
    found: dict[Key, Sums] = {}
    for (app, _, version, hour), each in hours.items():
        for key in keys(app, version, hour):
            found.setdefault(key, Sums()).add(each)
    return found


def keys(app: int, version: str, at: int) -> list[Key]:
    """The keys of the sums that a moment belongs to."""
    starts = (("hour", at - at % HOUR), ("day", at - at % DAY))
    return [(app, span, each, start) for span, start in starts for each in (version, ALL)]


def stored_plus(db: Connection, key: Key, more: Sums) -> Sums:
    """The stored sums of an hour or day, plus these."""
    sql = f"SELECT {SELECT} FROM rollups WHERE app = ? AND span = ? AND version = ? AND start = ?"
    row = db.one(sql, *key)
    if row is not None:
        more.add(sums(row))
    return more


def put(db: Connection, key: Key, each: Sums) -> None:
    """Store the sums of an hour or day, in the running transaction."""
    db.change(_PUT, *key, *each.row())


def add_report(db: Connection, app: int, version: str, at: int) -> None:
    """Count a crash report, in the running transaction."""
    for key in keys(app, version, at):
        db.change(
            "INSERT INTO rollups (app, span, version, start, crash_reports) VALUES (?, ?, ?, ?, 1)"
            " ON CONFLICT DO UPDATE SET crash_reports = crash_reports + 1",
            *key,
        )


def recount(db: Connection) -> int:
    """Count all complete raw events again and correct sums that differ. Returns the number of
    corrected hours and days.

    For tests and for operators; run it while nothing else adds sums. Crash reports are not events
    and stay as they are.
    """
    last, forgotten = (
        summed(db),
        int(db.value("SELECT value FROM progress WHERE name = 'forgotten'")),
    )
    since = (
        {"hour": forgotten // HOUR * HOUR + HOUR, "day": forgotten // DAY * DAY + DAY}
        if forgotten
        else {"hour": 0, "day": 0}
    )
    hours: dict[Key, Sums] = {}
    known, summed_to = sources(db), 0
    select = (
        "SELECT id, source, device, coalesce(packed, events) FROM batches"
        " WHERE id > ? AND id <= ? ORDER BY id LIMIT 1000"
    )
    while rows := db.all(select, summed_to, last):
        summed_to = rows[-1][0]
        for key, each in count_batches(rows, known)[0].items():
            hours.setdefault(key, Sums()).add(each)
    found = {key: each for key, each in spread(hours).items() if key[3] >= since[key[1]]}
    wrong = 0
    with db.write():
        sql = f"SELECT app, span, version, start, {SELECT} FROM rollups WHERE start >= min(?, ?)"
        held = db.all(sql, *since.values())
        for app, span, version, start, *row in held:
            if start >= since[span]:
                found.setdefault((app, span, version, start), Sums()).crash_reports = row[
                    COUNTS.index("crash_reports")
                ]
        rows_held = {tuple(row[:4]): tuple(row[4:]) for row in held}
        for key, each in found.items():
            if rows_held.get(key) != each.row():
                put(db, key, each)
                wrong += 1
    return wrong
