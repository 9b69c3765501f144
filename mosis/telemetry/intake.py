"""Taking in batches of events: who may send how much, which events count and as of when, and nothing twice.

A batch is answered when its row is on disk (many batches share a commit): neither a kill -9 nor a power cut
loses what was answered with 202.
"""

from dataclasses import dataclass, field
from typing import Any

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import NotFound
from mosis.publishing import apps
from mosis.telemetry import pseudonyms, rollups, shares, space, timestamps
from mosis.telemetry.pseudonyms import keyed, pseudonym
from mosis.telemetry.schemas import BATCH, EVENT, TYPES, batch_fits, event_fits, moment_findings
from mosis.telemetry.shares import DAY, Shares
from mosis.validation import check, findings_of
from mosis.validation.strict_json import dump_json

OLDEST_SECONDS = (
    30 * DAY
)  # an event is at most this old when it arrives, else its clock is taken for wrong
SEEN_DAYS = 7  # how long a batch_id is remembered
EXPLAINED = 3  # of the rejected events, in the answer
OTHER = "other"
BATCH_BYTES = 100  # what a batch takes on the disk besides its events, and what is remembered of it
EVENT_BYTES = 200  # of the day's quota for each event: whoever sends large ones may send fewer
MOST_SYSTEMS = 64  # mosis_versions kept apart for each version of an app
# Of an app's day, for a household a tenth and for a device a hundredth, but at least so many events.
LEAST_OF_HOUSEHOLD, LEAST_OF_DEVICE = 5000, 1000
HOUSEHOLDS = 20  # a household may write this part of all the room for telemetry in a day
NOBODY = Caller()


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

    def used(self, env: Context, *, events: int = 0, stored_bytes: int = 0) -> float:
        """The share of today's quota that is used, when this is added to it."""
        most = env.config.telemetry_events_per_app
        return max(
            (self.events_today + events) / most,
            (self.bytes_today + stored_bytes) / (most * EVENT_BYTES),
        )

    def told_rate(self, env: Context) -> float:
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
    truncated: bool = False


def take(env: Context, document: dict[str, Any], caller: Caller = NOBODY) -> Receipt:
    """Store a batch of events; the receipt says what became of them.

    Raises Invalid when the batch itself does not fit, LimitReached `rate_limited` when the app, the household or the device has
    sent too much, Unavailable.
    """
    if not batch_fits(document):
        check(document, BATCH)
    sender = find_sender(env, document["app_id"], document["app_version"], caller)
    if sender is None:
        return nobodys(len(document["events"]))
    if not env.config.telemetry or not sender.enabled:
        return Receipt(0, len(document["events"]), False, 0.0, [])
    now = int(env.clock.time())
    counted = look_at(document["events"], sender.usage_events, now)
    content = dump_json(counted.rows)
    stored_bytes = BATCH_BYTES + len(content)  # unpacked: what compresses well is not cheaper
    if sender.used(env, events=len(counted.rows), stored_bytes=stored_bytes) > 1:
        raise shares.used_up(now, "This app has sent as much as it may in a day.")
    space.check(env, stored_bytes)
    _take_shares(env, sender, caller, document["device_id"], len(counted.rows), stored_bytes, now)
    stored = env.telemetry_commits.run(
        lambda db: _store(env, db, document, sender, counted, content, stored_bytes, now)
    )
    return Receipt(
        len(counted.rows) if stored else 0,
        counted.rejected,
        not stored,
        sender.told_rate(env),
        counted.errors,
    )


def nobodys(number: int) -> Receipt:
    """The answer for an app that takes nothing from this caller. It is the same whether there is no such app, or it was never
    published, or it is suspended: strangers do not learn which drafts there are."""
    detail = (
        "No published app has this id, so nothing was stored."
        " To try an unpublished app, send a credential of its developer (Authorization: Bearer)."
    )
    errors = [{"pointer": "/app_id", "code": "not_found", "detail": detail}]
    return Receipt(0, number, False, 0.0, errors)


def day_shares(env: Context) -> Shares:
    """What households and devices have used of today, in this process."""
    found: Shares = env.remembered.setdefault("telemetry_shares", Shares())
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
    """Raises LimitReached `rate_limited` when this household or device has used its share."""
    if not env.limits.on:
        return
    most = env.config.telemetry_events_per_app
    amount = max(events, stored_bytes / EVENT_BYTES)
    if not day_shares(env).take(
        now,
        (f"app:{sender.app_id}:{caller.household}", amount, max(LEAST_OF_HOUSEHOLD, most / 10)),
        (f"app:{sender.app_id}:{device}", amount, max(LEAST_OF_DEVICE, most / 100)),
        (f"all:{caller.household}", stored_bytes, space.limit_bytes(env) / HOUSEHOLDS),
    ):
        raise shares.used_up(now, "This device or its network has sent its share of a day.")


def find_sender(env: Context, package_id: str, version: str, caller: Caller) -> Sender | None:
    """The app by its package id; None for one that takes nothing from this caller. Drafts take from their developer alone, who
    tries them on devices before they are published.
    """
    key, revision = ("sender", package_id, version), env.db.data_version()
    row = env.cache.get(key, revision, again=True, room="senders")
    if row is None:
        row = env.db.connection().one(
            "SELECT a.id, a.published, (SELECT v.version FROM versions v WHERE v.app_id = a.id AND v.version = ?2 LIMIT 1)"
            " FROM apps a WHERE a.package_id = ?1 AND a.suspended = 0",
            package_id,
            version,
        )
        if row is None:
            return None
        if row[2] is not None:  # what strangers make up is not kept
            env.cache.put(key, revision, row, len(package_id) + len(version), room="senders")
    if not row[1] and not _may_try(env, row[0], caller):
        return None
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


def _may_try(env: Context, app_id: str, caller: Caller) -> bool:
    """Whether the caller is signed in as somebody who may touch this app."""
    if caller.developer_id is None:
        return False
    try:
        apps.with_role(env.db.connection(), caller, app_id, "viewer")
    except NotFound:
        return False
    return True


def look_at(events: list[Any], usage_events: bool, now: int) -> Counted:
    """Each event by itself: as [type, at, data] if it fits; otherwise it is rejected and the first few are explained."""
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
        elif at < now - OLDEST_SECONDS:
            counted.clock_behind += 1
        data = event.get("data")
        row = [kind, clamped(at, now)]
        counted.rows.append([*row, data] if data else row)
    return counted


def clamped(at: int, now: int) -> int:
    """A moment within the past thirty days: a device's clock can be wrong either way."""
    return min(max(at, now - OLDEST_SECONDS), now)


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


def list_device(
    env: Context, db: Connection, app: int, device_id: str, device: bytes, day: int
) -> None:
    """Note that there is something of this device in an app, so that it is found by the device's id. In the running
    transaction."""
    db.change(
        "INSERT OR IGNORE INTO devices (key, device, app, day) VALUES (?, ?, ?, ?)",
        pseudonyms.list_key(env.telemetry_secret, device_id, app % pseudonyms.SLOTS),
        device,
        app,
        day,
    )


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
    env: Context,
    db: Connection,
    document: dict[str, Any],
    sender: Sender,
    counted: Counted,
    content: bytes,
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
    """What is wrong with one event, pointing into the batch."""
    if not isinstance(event, dict):
        return [
            {
                "pointer": f"/events/{number}",
                "code": "wrong_type",
                "detail": "This must be of type object.",
            }
        ]
    return [
        found | {"pointer": f"/events/{number}{found['pointer']}"}
        for found in findings_of(check, event, EVENT, moment_findings)
    ][:EXPLAINED]
