"""Export and erasure of a device's telemetry. A device is stored under a pseudonym that only this
server can compute, a different one for each app.

Anybody who knows a device_id may export and erase what is stored under it: it is 256 random bits that
only the device has.
"""

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from mosis.clock import DAY, text
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Unavailable
from mosis.records import dataclass
from mosis.telemetry import retention, rollups, watches
from mosis.telemetry.pseudonyms import BYTES, SLOTS, list_key, pseudonym
from mosis.telemetry.schemas import TYPES

ERASED_AT_ONCE = 100  # rows per transaction
AT_ONCE, WAIT_SECONDS = 2, 1.0  # requests that run or wait
_GIVEN = "(SELECT substr(?1, value, 8) FROM json_each(?2))"  # the values that `_bound` provides
_NAMES = {number: name for name, (number, _) in TYPES.items()}


@dataclass(frozen=True)
class Search:
    """Bounds who may search for a device's rows, or wait for it."""

    waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE))


@dataclass(frozen=True)
class Stored:
    """A part of a device's data: batches as they arrived, and a cursor (None at the end)."""

    batches: list[dict[str, Any]]
    crash_reports: list[dict[str, Any]]
    days: list[dict[str, Any]]
    last: int | None


def export(env: Context, device_id: str, after: int = 0, limit: int = 50) -> Stored:
    """A device's data, page by page; the first has its crash reports. Raises Unavailable."""
    with _exclusive_search(env):
        db = env.telemetry.connection()
        known = _pseudonyms(env, db, device_id)
        names = _package_ids(env, known.values())
        reports = [] if after else _reports(db, known, names)
        days = [] if after else _days(db, known, names)
        rows = _rows(db, known, after, limit + 1)
        found = [
            _batch(db, number) | {"app_id": names.get(known[device])}
            for number, _, device in rows[:limit]
        ]
    return Stored(found, reports, days, rows[limit - 1][0] if len(rows) > limit else None)


def erase(env: Context, device_id: str) -> None:
    """Delete a device's events and crash reports; sums stay, anonymous. Raises Unavailable."""
    with _exclusive_search(env):
        db = env.telemetry.connection()
        known = _pseudonyms(env, db, device_id)
        while rows := _rows(db, known, 0, ERASED_AT_ONCE):
            with db.write():
                retention.delete_batches(db, [(number, at) for number, at, _ in rows])
        while numbers := db.all(
            f"SELECT id FROM crash_reports WHERE device IN {_GIVEN} LIMIT ?3",
            *_bound(known),
            ERASED_AT_ONCE,
        ):
            with db.write():
                ids = json.dumps([number for (number,) in numbers])
                sql = "DELETE FROM crash_reports WHERE id IN (SELECT value FROM json_each(?))"
                db.change(sql, ids)
        if known:
            with db.write():
                db.change(f"DELETE FROM watched_days WHERE device IN {_GIVEN}", *_bound(known))
                db.change(f"DELETE FROM devices WHERE key IN {_GIVEN}", *_keys(env, device_id))


@contextmanager
def _exclusive_search(env: Context) -> Iterator[None]:
    """One search at a time, one waits, others are refused. Raises Unavailable `busy`."""
    search = env.state(Search)
    if not search.waiting.acquire(blocking=False):
        raise _busy()
    try:
        if not env.telemetry_search.acquire(timeout=WAIT_SECONDS):
            raise _busy()
        try:
            yield
        finally:
            env.telemetry_search.release()
    finally:
        search.waiting.release()


def _busy() -> Unavailable:
    detail = "Another device's telemetry is being read; try again in a few seconds."
    return Unavailable("busy", detail, retry_after_seconds=5)


def _pseudonyms(env: Context, db: Connection, device_id: str) -> dict[bytes, int]:
    """The pseudonyms under which the device occurs, each with the number of its app. The cost
    depends on the number found; only apps older than the table `devices` are searched one by one,
    while they may have older rows."""
    found = dict(
        db.all(f"SELECT device, app FROM devices WHERE key IN {_GIVEN}", *_keys(env, device_id))
    )
    for (app,) in db.all("SELECT id FROM apps WHERE unlisted > 0"):
        found[pseudonym(env.telemetry_secret, app, device_id)] = app
    return found


def _keys(env: Context, device_id: str) -> tuple[bytes, str]:
    """The keys under which the device may be listed, for _GIVEN."""
    return _bound(list_key(env.telemetry_secret, device_id, slot) for slot in range(SLOTS))


def _bound(hashes: Iterable[bytes]) -> tuple[bytes, str]:
    """Hashes of 8 bytes as the two values of _GIVEN: any number of them in one statement."""
    joined = b"".join(hashes)
    return joined, json.dumps(list(range(1, len(joined), BYTES)))


def _rows(
    db: Connection, known: dict[bytes, int], after: int, limit: int
) -> list[tuple[int, int, bytes]]:
    """The device's next batches: (id, received_at, pseudonym), in order of arrival."""
    sql = (
        f"SELECT id, received_at, device FROM batches WHERE device IN {_GIVEN} AND id > ?3"
        " ORDER BY id LIMIT ?4"
    )
    rows: list[tuple[int, int, bytes]] = db.all(sql, *_bound(known), after, limit)
    return rows


def _batch(db: Connection, number: int) -> dict[str, Any]:
    sql = "SELECT s.version, s.mosis_version, b.received_at FROM batches b JOIN sources s ON s.id = b.source WHERE b.id = ?"
    version, mosis_version, received_at = db.one(sql, number)
    events = rollups.unpacked(
        db.value("SELECT coalesce(packed, events) FROM batches WHERE id = ?", number)
    )
    return {
        "app_version": version,
        "mosis_version": mosis_version,
        "received_at": text(received_at),
        "events": [
            {"type": _NAMES[kind], "timestamp": text(at), "data": rest[0] if rest else {}}
            for kind, at, *rest in events
        ],
    }


def _reports(
    db: Connection, known: dict[bytes, int], names: dict[int, str]
) -> list[dict[str, Any]]:
    columns = (
        "device",
        "version",
        "mosis_version",
        "at",
        "received_at",
        "type",
        "r.message",
        "stack_trace",
        "context",
    )
    found = []
    for row in db.all(
        f"SELECT {', '.join(columns)} FROM crash_reports r JOIN crash_groups g ON g.id = r.crash_group"
        f" WHERE device IN {_GIVEN} ORDER BY g.app, r.id",
        *_bound(known),
    ):
        device, version, mosis_version, at, received_at, kind, message, stack_trace, context = row
        found.append(
            {
                "app_id": names.get(known[device]),
                "app_version": version,
                "mosis_version": mosis_version,
                "timestamp": text(at),
                "received_at": text(received_at),
                "type": kind,
                "message": message,
                "stack_trace": stack_trace,
                "context": json.loads(context),
            }
        )
    return found


def _days(db: Connection, known: dict[bytes, int], names: dict[int, str]) -> list[dict[str, Any]]:
    """What was counted of the device for rollout plans."""
    return [
        {
            "app_id": names.get(known[device]),
            "app_version": version,
            "day": text(day * DAY)[:10],
            "starts": starts,
            "crashes": crashes,
            "crash_reports": reports,
        }
        for device, version, day, starts, crashes, reports in watches.of_devices(
            db, _GIVEN, *_bound(known)
        )
    ]


def _package_ids(env: Context, numbers: Iterable[int]) -> dict[int, str]:
    """The package ids of these apps, by their numbers in the telemetry database."""
    sql = "SELECT id, app_id FROM apps WHERE id IN (SELECT value FROM json_each(?))"
    ids = dict(env.telemetry.connection().all(sql, json.dumps(list(numbers))))
    sql = "SELECT id, package_id FROM apps WHERE id IN (SELECT value FROM json_each(?))"
    names = dict(env.db.connection().all(sql, json.dumps(list(ids.values()))))
    return {number: names[app_id] for number, app_id in ids.items() if app_id in names}
