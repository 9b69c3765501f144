"""Crash reports, grouped: the same mistake is one group, however many devices meet it.

Two reports belong together when type and normalised top frames are equal. The algorithm has a number, stored with each group:
a better one makes new groups and leaves the old ones what they are.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from mosis import events, jobs
from mosis.clock import text
from mosis.context import Environment
from mosis.database import Connection, columns, new_id
from mosis.database.pagination import Page, Wanted, page
from mosis.errors import Invalid, LimitReached, NotFound
from mosis.telemetry import intake, rollups
from mosis.telemetry.hyperloglog import Sketch
from mosis.telemetry.intake import DAY, OTHER, Receipt, Sender
from mosis.telemetry.pseudonyms import keyed, pseudonym
from mosis.telemetry.schemas import CRASH, crash_fits
from mosis.validation import check

ALGORITHM = 1
TOP_FRAMES = 5
LINES_READ, LINE_CHARACTERS = 60, 300  # of a stack trace, for grouping: regexes never see more
KEPT_TRACE_CHARACTERS = 16_000
NEW_GROUPS_A_DAY, MOST_GROUPS = (
    100,
    1000,
)  # of an app; what is beyond belongs to one group "other": strangers cannot fill the disk
EVENTS_A_REPORT = 100  # of the quota: an app may send a hundredth as many reports as events, at least LEAST_REPORTS
LEAST_REPORTS = 100

_ADDRESS = re.compile(
    r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{8,}\b"
)
_PATH = re.compile(r"(?:[A-Za-z]:)?[\w.~+@-]*[/\\](?:[\w.~+@-]*[/\\])*")
_PLACE = re.compile(
    r"(?:\A|(?<=<))(?:[A-Za-z]:)?[^:<>]*[/\\](?=[^:<>/\\]+:[0-9])"
)  # folders before file:line, with spaces too
_NUMBER = re.compile(r"[0-9]+")
_NO_FRAME = re.compile(r"(stack )?traceback\b.*:?\Z|\[C\]: in \?\Z|\.\.\.\s*\(", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """A group of crashes as the database keeps it."""

    id: str
    algorithm: int
    type: str
    message: str
    frames: str
    state: str
    count: int
    devices: bytes
    first_seen: int
    last_seen: int
    resolved_at: int | None
    reopened_at: int | None


def take(env: Environment, document: dict[str, Any]) -> Receipt:
    """Store one report. The same report again (same device, moment and place) counts once.

    Raises like intake.take: Invalid, NotFound, LimitReached, Unavailable.
    """
    if not crash_fits(document):
        check(document, CRASH)
    at = intake.moment(document["timestamp"])
    if at is None:
        raise Invalid(
            [
                {
                    "pointer": "/timestamp",
                    "code": "wrong_format",
                    "detail": "There is no such moment.",
                }
            ]
        )
    sender = intake.find_sender(env, document["app_id"], document["app_version"])
    if not env.config.telemetry or not sender.enabled:
        return Receipt(0, 0, False, 0.0, [])
    now = int(env.clock.time())
    _check_quota(env, sender, now)
    stored = env.telemetry_commits.run(lambda db: _store(env, db, document, sender, at, now))
    return Receipt(int(stored), 0, not stored, sender.told_rate(env), [])


def normalised(line: str) -> str:
    """A line without what differs between devices and runs: addresses, folders, numbers."""
    return _NUMBER.sub(
        "#", _PATH.sub("", _PLACE.sub("", _ADDRESS.sub("ADDRESS", line[:LINE_CHARACTERS])))
    ).strip()


def top_frames(stack_trace: str) -> list[str]:
    """The first lines of a trace that name a place in the code, normalised. Lua puts the message before "stack traceback:"."""
    frames = stack_trace.partition("stack traceback:")[2].lstrip()
    lines = (line.strip() for line in (frames or stack_trace).split("\n", LINES_READ)[:LINES_READ])
    return [normalised(line) for line in lines if line and not _NO_FRAME.match(line)][:TOP_FRAMES]


def fingerprint(kind: str, frames: list[str], message: str) -> str:
    """What makes two reports one group; a report without frames goes by its message."""
    return hashlib.sha256(
        "\n".join([normalised(kind), *(frames or [normalised(message)])]).encode()
    ).hexdigest()[:32]


def index(db: Connection, app_id: str, wanted: Wanted, state: str | None) -> Page[Group]:
    """The groups of an app, the newest first."""
    rows = db.all(
        f"SELECT {columns(Group, 'g')} FROM crash_groups g JOIN apps a ON a.id = g.app WHERE a.app_id = ?1"
        " AND (?2 IS NULL OR g.state = ?2) AND (?3 IS NULL OR g.id < ?3) ORDER BY g.id DESC LIMIT ?4",
        app_id,
        state,
        wanted.after[0] if wanted.after else None,
        wanted.limit + 1,
        into=Group,
    )
    return page(rows, wanted, lambda group: (group.id,))


def get(db: Connection, app_id: str, group_id: str) -> Group:
    """A group of this app. Raises NotFound."""
    found: Group | None = db.one(
        f"SELECT {columns(Group, 'g')} FROM crash_groups g JOIN apps a ON a.id = g.app WHERE a.app_id = ? AND g.id = ?",
        app_id,
        group_id,
        into=Group,
    )
    if found is None:
        raise NotFound("group of crashes")
    return found


def change(db: Connection, app_id: str, group_id: str, state: str) -> Group:
    """Call a group resolved, or open again, in the running transaction. Raises NotFound."""
    found = get(db, app_id, group_id)
    if state != found.state:
        now = int(db.database.clock.time())
        column = "resolved_at" if state == "resolved" else "reopened_at"
        db.change(
            f"UPDATE crash_groups SET state = ?, {column} = ? WHERE id = ?", state, now, found.id
        )
    return get(db, app_id, group_id)


def versions(db: Connection, group_id: str) -> list[tuple[str, int]]:
    """How often each version met it, the most frequent first."""
    return db.all(
        "SELECT version, sum(count) FROM crash_counts WHERE crash_group = ? GROUP BY 1 ORDER BY 2 DESC, 1",
        group_id,
    )


def days(db: Connection, group_id: str) -> list[tuple[int, int]]:
    """How often it came on each day (since 1970) on which it came."""
    return db.all(
        "SELECT day, sum(count) FROM crash_counts WHERE crash_group = ? GROUP BY 1 ORDER BY 1",
        group_id,
    )


def samples(db: Connection, group_id: str) -> list[dict[str, Any]]:
    """The reports that are kept: the first, the last, and some between."""
    names = ("number", "at", "version", "mosis_version", "message", "stack_trace", "context")
    rows = db.all(
        f"SELECT {', '.join(names)} FROM crash_reports WHERE crash_group = ? ORDER BY number",
        group_id,
    )
    return [
        dict(zip(names, row, strict=True)) | {"at": text(row[1]), "context": json.loads(row[-1])}
        for row in rows
    ]


def announce(env: Environment) -> None:
    """Queue the telling of groups that are new or have come back. They lie in another database than the queue: a kill between
    the two leaves the group unannounced and queues the job again, never not at all."""
    telemetry, db = env.telemetry.connection(), env.db.connection()
    rows = telemetry.all("SELECT id, app FROM crash_groups WHERE announced = 0 LIMIT 100")
    if not rows:
        return
    with db.write():
        for group, app in rows:
            jobs.add(
                db,
                "crash_new_group",
                owner=f"app:{app}",
                unique_key=f"crash:{group}",
                group=group,
            )
    with telemetry.write():
        for group, _ in rows:
            telemetry.change("UPDATE crash_groups SET announced = 1 WHERE id = ?", group)


def tell_owner(env: Environment, group: str) -> None:
    """The job: a group of crashes is new, or was resolved and has come back; its owner is told, once for each time."""
    row = env.telemetry.connection().one(
        "SELECT a.app_id, g.type, g.message, g.reopened_at FROM crash_groups g JOIN apps a ON a.id = g.app WHERE g.id = ?",
        group,
    )
    if row is None:
        return
    app_id, kind, message, reopened_at = row
    facts = {
        "group": group,
        "type": kind,
        "message": message,
        "reopened_at": None if reopened_at is None else text(reopened_at),
    }
    db = env.db.connection()
    with db.write():
        app = db.one("SELECT package_id, developer_id FROM apps WHERE id = ?", app_id)
        if app and not db.value(
            "SELECT 1 FROM events WHERE developer_id = ? AND kind = 'crash.new_group' AND json_extract(data, '$.group') = ?"
            " AND json_extract(data, '$.reopened_at') IS ?",
            app[1],
            group,
            facts["reopened_at"],
        ):
            events.add(db, app[1], "crash.new_group", package_id=app[0], **facts)


def _check_quota(env: Environment, sender: Sender, now: int) -> None:
    used = env.telemetry.connection().value(
        "SELECT crash_reports FROM intake WHERE app = ? AND day = ?", sender.app, now // DAY
    )
    if (used or 0) >= max(LEAST_REPORTS, env.config.telemetry_events_per_app // EVENTS_A_REPORT):
        raise LimitReached(
            "rate_limited",
            "This app has sent as many crash reports as it may in a day.",
            retry_after_seconds=DAY - now % DAY,
        )
    env.files.check_room(0, env.telemetry.path.parent)


def _store(
    env: Environment, db: Connection, document: dict[str, Any], sender: Sender, at: int, now: int
) -> bool:
    """Write a report in the running transaction; False when it was seen before."""
    app, crash = sender.app or intake.app_number(db, sender.app_id), document["crash"]
    device = pseudonym(env.telemetry_secret, app, document["device_id"])
    frames = top_frames(crash["stack_trace"])
    mark = fingerprint(crash["type"], frames, crash["message"])
    place = device + f"{document['timestamp']} {mark} {crash['message']}".encode()
    if not intake.is_new(db, now // DAY, keyed(env.telemetry_secret, b"crash", place)):
        intake.count(db, app, now // DAY, duplicates=1)
        return False
    at = intake.clamped(at, now)
    intake.count(db, app, now // DAY, crash_reports=1)
    for key in rollups.keys(app, sender.version, at):
        db.change(
            "INSERT INTO rollups (app, span, version, start, crash_reports) VALUES (?, ?, ?, ?, 1)"
            " ON CONFLICT DO UPDATE SET crash_reports = crash_reports + 1",
            *key,
        )
    group = _group(db, app, mark, crash, frames, at, now)
    number = _count(db, group, device, at, now)
    db.change(
        "INSERT INTO crash_counts (crash_group, day, version, count) VALUES (?, ?, ?, 1)"
        " ON CONFLICT DO UPDATE SET count = count + 1",
        group,
        at // DAY,
        sender.version,
    )
    db.insert(
        "crash_reports",
        crash_group=group,
        number=number,
        device=device,
        at=at,
        received_at=now,
        version=sender.version,
        mosis_version=document["mosis_version"],
        message=crash["message"],
        stack_trace=crash["stack_trace"][:KEPT_TRACE_CHARACTERS],
        context=json.dumps(crash.get("context", {}), ensure_ascii=False),
    )
    if (number - 1) & (
        number - 2
    ):  # the one that was the last until now stays only as 1st, 2nd, 4th, 8th ...
        db.change(
            "DELETE FROM crash_reports WHERE crash_group = ? AND number = ?", group, number - 1
        )
    return True


def _group(
    db: Connection, app: int, mark: str, crash: dict[str, Any], frames: list[str], at: int, now: int
) -> str:
    """The group of a report, made when it is the first of its kind."""
    find = "SELECT id FROM crash_groups WHERE app = ? AND algorithm = ? AND fingerprint = ?"
    found = db.value(find, app, ALGORITHM, mark)
    if found is None and _is_full(db, app, now):
        mark, crash, frames = (
            OTHER,
            {"type": OTHER, "message": "What came when there were too many groups."},
            [],
        )
        found = db.value(find, app, ALGORITHM, mark)
    if found is None:
        found = new_id()
        db.insert(
            "crash_groups",
            id=found,
            app=app,
            algorithm=ALGORITHM,
            fingerprint=mark,
            type=crash["type"],
            message=normalised(crash["message"].partition("\n")[0]),
            frames=json.dumps(frames, ensure_ascii=False),
            first_seen=at,
            last_seen=at,
            created_at=now,
        )
    return str(found)


def _is_full(db: Connection, app: int, now: int) -> bool:
    """Whether an app has as many groups as it may have, in all or of today."""
    groups, today = db.one(
        "SELECT count(*), sum(created_at >= ?) FROM crash_groups WHERE app = ?",
        now - now % DAY,
        app,
    )
    return bool(groups >= MOST_GROUPS or (today or 0) >= NEW_GROUPS_A_DAY)


def _count(db: Connection, group: str, device: bytes, at: int, now: int) -> int:
    """Count a report in its group; its number. A resolved group opens again when this happened after it was resolved."""
    count, known, resolved_at, state = db.one(
        "SELECT count, devices, resolved_at, state FROM crash_groups WHERE id = ?", group
    )
    devices = Sketch(known)
    devices.add(device)
    db.change(
        "UPDATE crash_groups SET count = count + 1, devices = ?, first_seen = min(first_seen, ?), last_seen = max(last_seen, ?)"
        " WHERE id = ?",
        devices.stored(),
        at,
        at,
        group,
    )
    if state == "resolved" and at > resolved_at:
        db.change(
            "UPDATE crash_groups SET state = 'open', reopened_at = ?, announced = 0 WHERE id = ?",
            now,
            group,
        )
    return int(count) + 1
