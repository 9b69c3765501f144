"""Taking in batches of events: who may send how much, which events count and as of when, and nothing twice.

A batch is answered when its row is on disk (many batches share a commit): neither a kill -9 nor a power cut
loses what was answered with 202.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mosis.clock import seconds
from mosis.context import Environment
from mosis.database import Connection
from mosis.errors import Invalid, LimitReached, NotFound
from mosis.telemetry.pseudonyms import keyed, pseudonym
from mosis.telemetry.schemas import BATCH, EVENT, TYPES, batch_fits, event_fits
from mosis.validation import check
from mosis.validation.strict_json import dump_json

DAY = 86_400
OLDEST_SECONDS = (
    30 * DAY
)  # an event is at most this old when it arrives, else its clock is taken for wrong
SEEN_DAYS = 7  # how long a batch_id is remembered
EXPLAINED = 3  # of the rejected events, in the answer
OTHER = "other"
BATCH_BYTES = 100  # what a batch takes on the disk besides its events, and what is remembered of it
EVENT_BYTES = 200  # of the day's quota for each event: whoever sends large ones may send fewer
MOST_SYSTEMS = 64  # mosis_versions kept apart for each version of an app


@dataclass(frozen=True)
class Sender:
    """The app that a request names, as both databases know it. `app` is 0 before anything of it is stored."""

    app_id: str
    app: int
    version: str
    enabled: bool
    usage_events: bool
    sample_rate: float
    events_today: int
    bytes_today: int

    def used(self, env: Environment, *, events: int = 0, stored_bytes: int = 0) -> float:
        """The share of today's quota that is used, when this is added to it."""
        most = env.config.telemetry_events_per_app
        return max(
            (self.events_today + events) / most,
            (self.bytes_today + stored_bytes) / (most * EVENT_BYTES),
        )

    def told_rate(self, env: Environment) -> float:
        """The share of the sessions that should send events: what the developer chose, less when the day's quota runs out."""
        used = self.used(env)
        return self.sample_rate * (1.0 if used < 0.5 else 0.5 if used < 0.75 else 0.1)


@dataclass
class Counted:
    """What became of a batch's events."""

    rows: list[list[Any]] = field(default_factory=list)
    rejected: int = 0
    clock_behind: int = 0
    clock_ahead: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Receipt:
    """The answer to a device."""

    accepted: int
    rejected: int
    duplicate: bool
    sample_rate: float
    errors: list[dict[str, Any]]


def take(env: Environment, document: dict[str, Any]) -> Receipt:
    """Store a batch of events; the receipt says what became of them.

    Raises Invalid when the batch itself does not fit, NotFound for an app that does not exist or is suspended, LimitReached
    `rate_limited` when the app has sent too much, Unavailable.
    """
    if not batch_fits(document):
        check(document, BATCH)
    sender = find_sender(env, document["app_id"], document["app_version"])
    if not env.config.telemetry or not sender.enabled:
        return Receipt(0, len(document["events"]), False, 0.0, [])
    now = int(env.clock.time())
    counted = look_at(document["events"], sender.usage_events, now)
    packed = dump_json(counted.rows)
    stored_bytes = BATCH_BYTES + len(packed)
    if sender.used(env, events=len(counted.rows), stored_bytes=stored_bytes) > 1:
        raise LimitReached(
            "rate_limited",
            "This app has sent as much as it may in a day.",
            retry_after_seconds=DAY - now % DAY,
        )
    env.files.check_room(0, env.telemetry.path.parent)
    stored = env.telemetry_commits.run(
        lambda db: _store(env, db, document, sender, counted, packed.decode(), stored_bytes, now)
    )
    return Receipt(
        len(counted.rows) if stored else 0,
        counted.rejected,
        not stored,
        sender.told_rate(env),
        counted.errors,
    )


def find_sender(env: Environment, package_id: str, version: str) -> Sender:
    """The app by its package id. Drafts are taken too: their developers try them on devices before they publish.

    Raises NotFound.
    """
    key, revision = ("sender", package_id, version), env.db.data_version()
    row = env.kept.get(key, revision, again=True)
    if row is None:
        row = env.db.connection().one(
            "SELECT a.id, a.suspended, (SELECT v.version FROM versions v WHERE v.app_id = a.id AND v.version = ?2 LIMIT 1)"
            " FROM apps a WHERE a.package_id = ?1",
            package_id,
            version,
        )
        if row is None or row[1]:
            raise NotFound("app")
        if row[2] is not None:  # what strangers make up is not kept
            env.kept.put(key, revision, row, len(package_id) + len(version))
    kept = env.telemetry.connection().one(
        "SELECT a.id, a.enabled, a.usage_events, a.sample_rate, coalesce(i.events, 0), coalesce(i.stored_bytes, 0) FROM apps a"
        " LEFT JOIN intake i ON i.app = a.id AND i.day = ? WHERE a.app_id = ?",
        int(env.clock.time()) // DAY,
        row[0],
    )
    app, enabled, usage_events, sample_rate, *today = kept or (0, 1, 0, 1.0, 0, 0)
    return Sender(
        row[0], app, row[2] or OTHER, bool(enabled), bool(usage_events), sample_rate, *today
    )


def look_at(events: list[Any], usage_events: bool, now: int) -> Counted:
    """Each event by itself: as [type, at, data] if it fits; otherwise it is rejected and the first few are explained."""
    counted = Counted()
    for number, event in enumerate(events):
        at = moment(event["timestamp"]) if event_fits(event) else None
        if at is None:
            counted.rejected += 1
            if len(counted.errors) < EXPLAINED:
                counted.errors += _findings(number, event)
            continue
        kind, optional = TYPES[event["type"]]
        if optional and not usage_events:
            counted.rejected += 1
            continue
        if at > now:
            counted.clock_ahead += 1
        elif at < now - OLDEST_SECONDS:
            counted.clock_behind += 1
        data = event.get("data")
        row = [kind, clamped(at, now)]
        counted.rows.append([*row, data] if data else row)
    return counted


def clamped(at: int, now: int) -> int:
    """A moment within the past thirty days: a device's clock can be wrong either way."""
    return min(max(at, now - OLDEST_SECONDS), now)


def moment(stamp: str) -> int | None:
    """Seconds since 1970 of a timestamp whose form was checked; None when there is no such day or hour."""
    minute = _minute(stamp[:16])
    return None if minute is None else minute + int(stamp[17:19])


def source(db: Connection, app: int, version: str, mosis_version: str) -> int:
    """The number of a build on a system, in the running transaction."""
    find = "SELECT id FROM sources WHERE app = ? AND version = ? AND mosis_version = ?"
    found = db.value(find, app, version, mosis_version)
    if (
        found is None
        and db.value("SELECT count(*) FROM sources WHERE app = ? AND version = ?", app, version)
        >= MOST_SYSTEMS
    ):
        mosis_version = OTHER
        found = db.value(find, app, version, mosis_version)
    return (
        int(found)
        if found is not None
        else db.insert("sources", app=app, version=version, mosis_version=mosis_version)
    )


def app_number(db: Connection, app_id: str) -> int:
    """The number of an app in this database, in the running transaction; made when it is new."""
    found = db.value("SELECT id FROM apps WHERE app_id = ?", app_id)
    return int(found) if found is not None else db.insert("apps", app_id=app_id)


def is_new(db: Connection, day: int, key: bytes) -> bool:
    """Remember this key; False when it was seen in the past days. In the running transaction."""
    number = int.from_bytes(key, "big", signed=True)
    days = ", ".join(str(day - ago) for ago in range(SEEN_DAYS + 1))
    if db.value(f"SELECT 1 FROM seen WHERE day IN ({days}) AND key = ?", number):
        return False
    db.insert("seen", day=day, key=number)
    return True


def count(
    db: Connection,
    app: int,
    day: int,
    *,
    events: int = 0,
    stored_bytes: int = 0,
    rejected: int = 0,
    duplicates: int = 0,
    clock_behind: int = 0,
    clock_ahead: int = 0,
    crash_reports: int = 0,
) -> None:
    """Add to what came in for an app today, in the running transaction."""
    db.change(
        "INSERT INTO intake (app, day, events, stored_bytes, rejected, duplicates, clock_behind, clock_ahead, crash_reports)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events,"
        " stored_bytes = stored_bytes + excluded.stored_bytes,"
        " rejected = rejected + excluded.rejected, duplicates = duplicates + excluded.duplicates,"
        " clock_behind = clock_behind + excluded.clock_behind, clock_ahead = clock_ahead + excluded.clock_ahead,"
        " crash_reports = crash_reports + excluded.crash_reports",
        app,
        day,
        events,
        stored_bytes,
        rejected,
        duplicates,
        clock_behind,
        clock_ahead,
        crash_reports,
    )


def _store(
    env: Environment,
    db: Connection,
    document: dict[str, Any],
    sender: Sender,
    counted: Counted,
    packed: str,
    stored_bytes: int,
    now: int,
) -> bool:
    """Write a batch in the running transaction; False when it was seen before. The batch is one row."""
    app, day = sender.app or app_number(db, sender.app_id), now // DAY
    device = pseudonym(env.telemetry_secret, app, document["device_id"])
    batch_id = document.get("batch_id")
    if batch_id is not None and not is_new(
        db, day, keyed(env.telemetry_secret, b"batch", device + batch_id.encode())
    ):
        count(db, app, day, duplicates=1)
        return False
    count(
        db,
        app,
        day,
        events=len(counted.rows),
        stored_bytes=stored_bytes,
        rejected=counted.rejected,
        clock_behind=counted.clock_behind,
        clock_ahead=counted.clock_ahead,
    )
    if counted.rows:
        session = keyed(env.telemetry_secret, b"session", device + document["session_id"].encode())
        db.insert(
            "batches",
            source=source(db, app, sender.version, document["mosis_version"]),
            device=device,
            session=session,
            received_at=now,
            events=packed,
        )
    return True


def _findings(number: int, event: Any) -> list[dict[str, Any]]:
    """What is wrong with one event, pointing into the batch."""
    if not isinstance(event, dict):
        return [
            {
                "pointer": f"/events/{number}",
                "code": "wrong_type",
                "detail": "This must be of type object.",
            }
        ]
    try:
        check(event, EVENT)
    except Invalid as error:
        return [
            found | {"pointer": f"/events/{number}{found['pointer']}"} for found in error.errors
        ][:EXPLAINED]
    return [
        {
            "pointer": f"/events/{number}/timestamp",
            "code": "wrong_format",
            "detail": "There is no such moment.",
        }
    ]


@lru_cache(4096)
def _minute(start: str) -> int | None:
    """Remembered, because the events of a batch lie close together and parsing a time is slow."""
    try:
        return seconds(start + ":00Z")
    except ValueError:
        return None
