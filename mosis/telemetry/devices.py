"""Devices as telemetry knows them: by a pseudonym that only this server can make, another one for each app.

Who knows a device_id may have what is stored under it shown and erased: it is 256 bits that only the device has.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mosis.clock import text
from mosis.context import Environment
from mosis.database import Connection
from mosis.errors import Unavailable
from mosis.telemetry import retention
from mosis.telemetry.pseudonyms import pseudonym
from mosis.telemetry.schemas import TYPES

SCANNED_AT_ONCE = 5000
ERASED_AT_ONCE = 100  # rows a transaction
_NAMES = {number: name for name, (number, _) in TYPES.items()}


@dataclass(frozen=True)
class Stored:
    """What is stored about a device: some batches in the order in which they came, and how to go on (None: that was all)."""

    batches: list[dict[str, Any]]
    crash_reports: list[dict[str, Any]]
    last: int | None


def export(env: Environment, device_id: str, after: int = 0, limit: int = 50) -> Stored:
    """Everything that is stored about a device, a page at a time; crash reports come with the first. Raises Unavailable."""
    db, names = env.telemetry.connection(), _package_ids(env)
    known = _pseudonyms(env, db, device_id)
    reports = [] if after else _reports(db, known, names)
    found: list[dict[str, Any]] = []
    last = after
    with _alone(env):
        for number, _, device in _scan(db, known, after):
            if len(found) == limit:
                return Stored(found, reports, last)
            found.append(_batch(db, number) | {"app_id": names.get(known[device])})
            last = number
    return Stored(found, reports, None)


def erase(env: Environment, device_id: str) -> None:
    """Delete all raw events and crash reports of a device. Sums stay: they do not know whom they count. Raises Unavailable."""
    db = env.telemetry.connection()
    known = _pseudonyms(env, db, device_id)
    with _alone(env):
        rows = [(number, received_at) for number, received_at, _ in _scan(db, known, 0)]
    for place in range(0, len(rows), ERASED_AT_ONCE):
        with db.write():
            retention.forget_batches(db, rows[place : place + ERASED_AT_ONCE])
    numbers = [
        row[0]
        for device in known
        for row in db.all("SELECT id FROM crash_reports WHERE device = ?", device)
    ]
    for place in range(0, len(numbers), ERASED_AT_ONCE):
        with db.write():
            ids = json.dumps(numbers[place : place + ERASED_AT_ONCE])
            db.change("DELETE FROM crash_reports WHERE id IN (SELECT value FROM json_each(?))", ids)


@contextmanager
def _alone(env: Environment) -> Iterator[None]:
    """One search at a time: it is the dearest thing that a stranger can ask for. Raises Unavailable `busy`."""
    if not env.telemetry_search.acquire(timeout=2):
        raise Unavailable(
            "busy",
            "Another device's telemetry is being looked for; try again in a moment.",
            retry_after_seconds=5,
        )
    try:
        yield
    finally:
        env.telemetry_search.release()


def _pseudonyms(env: Environment, db: Connection, device_id: str) -> dict[bytes, str]:
    """The device's pseudonym in each app, with the app's id."""
    return {
        pseudonym(env.telemetry_secret, app, device_id): app_id
        for app, app_id in db.all("SELECT id, app_id FROM apps")
    }


def _scan(db: Connection, known: dict[bytes, str], after: int) -> Iterator[tuple[int, int, bytes]]:
    """The device's batches (id, received_at, pseudonym). There is no index by device: one more for every batch, for a question
    that is asked once in a while. Looking through ten million events takes about a second."""
    while rows := db.all(
        "SELECT id, received_at, device FROM batches WHERE id > ? ORDER BY id LIMIT ?",
        after,
        SCANNED_AT_ONCE,
    ):
        yield from (row for row in rows if row[2] in known)
        after = rows[-1][0]


def _batch(db: Connection, number: int) -> dict[str, Any]:
    version, mosis_version, received_at = db.one(
        "SELECT s.version, s.mosis_version, b.received_at FROM batches b JOIN sources s ON s.id = b.source WHERE b.id = ?",
        number,
    )
    events = json.loads(db.value("SELECT events FROM batches WHERE id = ?", number))
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
    db: Connection, known: dict[bytes, str], names: dict[str, str]
) -> list[dict[str, Any]]:
    columns = (
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
    for device, app_id in known.items():
        for row in db.all(
            f"SELECT {', '.join(columns)} FROM crash_reports r JOIN crash_groups g ON g.id = r.crash_group WHERE device = ?"
            " ORDER BY r.id",
            device,
        ):
            version, mosis_version, at, received_at, kind, message, stack_trace, context = row
            found.append(
                {
                    "app_id": names.get(app_id),
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


def _package_ids(env: Environment) -> dict[str, str]:
    return dict(env.db.connection().all("SELECT id, package_id FROM apps"))
