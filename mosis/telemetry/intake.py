"""Intake of event batches: quotas, validation of events, and storing each batch once.

A batch is acknowledged when its row is on disk (many batches share a commit): neither kill -9 nor a
power cut loses a batch that was answered with 202.
"""

from dataclasses import field
from typing import Any

from mosis.caller import Caller
from mosis.clock import DAY
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import NotFound
from mosis.publishing import apps
from mosis.records import dataclass
from mosis.telemetry import pseudonyms, rollups, shares, space, telemetry_apps
from mosis.telemetry.pseudonyms import keyed, pseudonym
from mosis.telemetry.schemas import BATCH, EVENT, TYPES, event_fits, moment_findings
from mosis.telemetry.shares import Shares
from mosis.validation import check, findings, timestamps
from mosis.validation.strict_json import dump_json

# an older event is dated with the time of its arrival, because the clock was probably wrong
OLDEST_SECONDS = 30 * DAY
SEEN_DAYS = 7  # how long a batch_id is stored
EXPLAINED = 3  # rejected events that the response explains
OTHER = "other"
BATCH_BYTES = 100  # disk space of a batch besides its events, including its batch_id
EVENT_BYTES = 200  # of the day's quota per event: a sender of larger events may send fewer
MOST_SYSTEMS = 64  # mosis_versions counted separately for each version of an app
# Of an app's daily quota, a network may use a tenth and a device a hundredth, but at least so many
# events.
LEAST_OF_NETWORK, LEAST_OF_DEVICE = 5000, 1000
NETWORKS = 20  # share of the disk space for telemetry that one network may use in a day
NOBODY = Caller()


@dataclass(frozen=True)
class Sender:
    """The app that a request names, in both databases; `app` is 0 until something is stored."""

    app_id: str
    app: int
    version: str
    enabled: bool
    usage_events: bool
    sample_rate: float
    events_today: int
    bytes_today: int

    def used(self, env: Context, *, events: int = 0, stored_bytes: int = 0) -> float:
        """The share of today's quota that is used after adding this."""
        most = env.config.telemetry_events_per_app
        return max(
            (self.events_today + events) / most,
            (self.bytes_today + stored_bytes) / (most * EVENT_BYTES),
        )

    def effective_sample_rate(self, env: Context) -> float:
        """The share of sessions that should send: as the developer chose, less near the quota."""
        used = self.used(env)
        return self.sample_rate * (1.0 if used < 0.5 else 0.5 if used < 0.75 else 0.1)


@dataclass
class Counted:
    """What became of the events of a batch."""

    rows: list[list[Any]] = field(default_factory=list)
    rejected: int = 0
    clock_behind: int = 0
    clock_ahead: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Receipt:
    """The content of the response to a device."""

    accepted: int
    rejected: int
    duplicate: bool
    sample_rate: float
    errors: list[dict[str, Any]]
    truncated: bool = False


def take(env: Context, document: dict[str, Any], caller: Caller = NOBODY) -> Receipt:
    """Store a batch of events. The receipt states what became of them. Raises Invalid if the batch
    itself does not fit, LimitReached `rate_limited` if the app, the network or the device has sent
    too much, Unavailable."""
    document = check(document, BATCH)
    sender = find_sender(env, document["app_id"], document["app_version"], caller)
    if sender is None:
        return nothing_accepted(len(document["events"]))
    if not env.config.telemetry or not sender.enabled:
        return Receipt(0, len(document["events"]), False, 0.0, [])
    now = int(env.clock.time())
    counted = validate_events(document["events"], sender.usage_events, now)
    content = dump_json(counted.rows)
    # uncompressed: events that compress well do not cost less
    stored_bytes = BATCH_BYTES + len(content)
    if sender.used(env, events=len(counted.rows), stored_bytes=stored_bytes) > 1:
        raise shares.used_up(now, "This app has sent the maximum amount of telemetry for today.")
    space.check(env, stored_bytes)
    _take_shares(env, sender, caller, document["device_id"], len(counted.rows), stored_bytes, now)
    with env.telemetry.write() as db:
        stored = _store(env, db, document, sender, counted, content, stored_bytes, now)
    return Receipt(
        len(counted.rows) if stored else 0,
        counted.rejected,
        not stored,
        sender.effective_sample_rate(env),
        counted.errors,
    )


def nothing_accepted(number: int) -> Receipt:
    """The response for an app that accepts nothing from this caller. It is the same for an unknown,
    an unpublished and a suspended app, so that it does not disclose which drafts exist."""
    detail = (
        "No published app has this id, so nothing was stored."
        " To try an unpublished app, send a credential of its developer (Authorization: Bearer)."
    )
    errors = [{"pointer": "/app_id", "code": "not_found", "detail": detail}]
    return Receipt(0, number, False, 0.0, errors)


def day_shares(env: Context) -> Shares:
    """What networks and devices have used today, in this process."""
    found = env.state(Shares)
    return found


def _take_shares(
    env: Context,
    sender: Sender,
    caller: Caller,
    device: str,
    events: int,
    stored_bytes: int,
    now: int,
) -> None:
    """Raises LimitReached `rate_limited` if this network or device has used its share."""
    if not env.limits.on:
        return
    most = env.config.telemetry_events_per_app
    amount = max(events, stored_bytes / EVENT_BYTES)
    if not day_shares(env).take(
        now,
        (f"app:{sender.app_id}:{caller.client_network}", amount, max(LEAST_OF_NETWORK, most / 10)),
        (f"app:{sender.app_id}:{device}", amount, max(LEAST_OF_DEVICE, most / 100)),
        (f"all:{caller.client_network}", stored_bytes, space.limit_bytes(env) / NETWORKS),
    ):
        raise shares.used_up(
            now, "This device or its network has sent its share of telemetry for today."
        )


def find_sender(env: Context, package_id: str, version: str, caller: Caller) -> Sender | None:
    """The app by its package id; None if it accepts nothing from this caller. Drafts accept
    telemetry only from their developer, who tests them on devices."""
    key, revision = ("sender", package_id, version), env.db.data_version()
    row = env.cache.get(key, revision, again=True, room="senders")
    if row is None:
        sql = (
            "SELECT a.id, a.published, (SELECT v.version FROM versions v WHERE v.app_id = a.id AND v.version = ?2 LIMIT 1)"
            " FROM apps a WHERE a.package_id = ?1 AND a.suspended = 0"
        )
        row = env.db.connection().one(sql, package_id, version)
        if row is None:
            return None
        if row[2] is not None:  # unknown package ids are not cached
            env.cache.put(key, revision, row, len(package_id) + len(version), room="senders")
    if not row[1] and not _may_try(env, row[0], caller):
        return None
    sql = (
        "SELECT a.id, a.enabled, a.usage_events, a.sample_rate, coalesce(i.events, 0), coalesce(i.stored_bytes, 0) FROM apps a"
        " LEFT JOIN intake i ON i.app = a.id AND i.day = ? WHERE a.app_id = ?"
    )
    stored = env.telemetry.connection().one(sql, int(env.clock.time()) // DAY, row[0])
    app, enabled, usage_events, sample_rate, *today = stored or (0, 1, 0, 1.0, 0, 0)
    return Sender(
        row[0], app, row[2] or OTHER, bool(enabled), bool(usage_events), sample_rate, *today
    )


def _may_try(env: Context, app_id: str, caller: Caller) -> bool:
    """Whether the caller is signed in with access to this app."""
    if caller.developer_id is None:
        return False
    try:
        apps.with_role(env.db.connection(), caller, app_id, "viewer")
    except NotFound:
        return False
    return True


def validate_events(events: list[Any], usage_events: bool, now: int) -> Counted:
    """Validates events one by one: [type, at, data] of good ones, the first bad ones explained."""
    counted = Counted()
    for number, event in enumerate(events):
        at = timestamps.seconds(event["timestamp"]) if event_fits(event) else None
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
            at = now
        elif at < now - OLDEST_SECONDS:
            counted.clock_behind += 1
            at = now - OLDEST_SECONDS
        data = event.get("data")
        counted.rows.append([kind, at, data] if data else [kind, at])
    return counted


def clamped(at: int, now: int) -> int:
    """The time, limited to the past thirty days: a device's clock can be wrong."""
    return min(max(at, now - OLDEST_SECONDS), now)


def source(db: Connection, app: int, version: str, mosis_version: str) -> int:
    """The number of a build and system, in the running transaction."""
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


def list_device(
    env: Context, db: Connection, app: int, device_id: str, device: bytes, day: int
) -> None:
    """List a device for an app, for searches by its id; in the running transaction."""
    db.change(
        "INSERT OR IGNORE INTO devices (key, device, app, day) VALUES (?, ?, ?, ?)",
        pseudonyms.list_key(env.telemetry_secret, device_id, app % pseudonyms.SLOTS),
        device,
        app,
        day,
    )


def is_new(db: Connection, day: int, key: bytes) -> bool:
    """Store this key. Returns False if it was stored in the past days. In the running transaction."""
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
    """Add to what was received for an app today, in the running transaction."""
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
    env: Context,
    db: Connection,
    document: dict[str, Any],
    sender: Sender,
    counted: Counted,
    content: bytes,
    stored_bytes: int,
    now: int,
) -> bool:
    """Store a batch as one row, in the running transaction. Returns False for a repetition."""
    app, day = sender.app or telemetry_apps.number(db, sender.app_id), now // DAY
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
        list_device(env, db, app, document["device_id"], device, day)
        session = keyed(env.telemetry_secret, b"session", device + document["session_id"].encode())
        db.insert(
            "batches",
            source=source(db, app, sender.version, document["mosis_version"]),
            device=device,
            session=session,
            received_at=now,
            events="",
            packed=rollups.packed(content),
            size_bytes=len(content),
        )
    return True


def _findings(number: int, event: Any) -> list[dict[str, Any]]:
    """What is wrong with one event, with pointers into the batch."""
    if not isinstance(event, dict):
        return [
            {
                "pointer": f"/events/{number}",
                "code": "wrong_type",
                "detail": "This must be an object.",
            }
        ]
    return [
        found | {"pointer": f"/events/{number}{found['pointer']}"}
        for found in findings(event, EVENT, moment_findings)
    ][:EXPLAINED]
