"""Crash reports, grouped by cause, however many devices report it.

Two reports belong to one group if type and normalised top frames are equal. The number of the
grouping algorithm is stored with each group: a later algorithm creates new groups and leaves the
existing ones unchanged.
"""

import hashlib
import json
import re
from typing import Any

from mosis.caller import Caller
from mosis.clock import DAY, text
from mosis.context import Context
from mosis.database import Connection, Record
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.records import dataclass
from mosis.telemetry import crash_groups, intake, rollups, shares, space, telemetry_apps, watches
from mosis.telemetry.crash_groups import Arrived, Authors, normalised
from mosis.telemetry.intake import NOBODY, Receipt, Sender
from mosis.telemetry.pseudonyms import keyed, pseudonym
from mosis.telemetry.schemas import (
    CRASH,
    MESSAGE_CHARACTERS,
    MOST_VALUES,
    NAME_CHARACTERS,
    TRACE_CHARACTERS,
    TYPE_CHARACTERS,
    VALUE_CHARACTERS,
    moment_findings,
)
from mosis.validation import check, timestamps

TOP_FRAMES = 5
LINES_READ = 60  # of a stack trace, for grouping
STORED_TRACE_CHARACTERS = 16_000
# of the quota: an app may send one report for a hundred events, and at least LEAST_REPORTS
EVENTS_A_REPORT = 100
LEAST_REPORTS = 100
# reports per day; otherwise a tenth (network) and a hundredth (device) of the app's
LEAST_OF_NETWORK, LEAST_OF_DEVICE = (50, 20)
CUT = {"type": TYPE_CHARACTERS, "message": MESSAGE_CHARACTERS, "stack_trace": TRACE_CHARACTERS}

_NO_FRAME = r"(?i)(stack )?traceback\b.*:?\Z|\[C\]: in \?\Z|\.\.\.\s*\("


@dataclass(frozen=True)
class Group(Record, table="crash_groups"):
    """A row of `crash_groups`."""

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


@dataclass(frozen=True)
class Report:
    """A report that is about to be stored."""

    document: dict[str, Any]
    sender: Sender
    network: str
    at: int
    truncated: bool


def take(env: Context, document: dict[str, Any], caller: Caller = NOBODY) -> Receipt:
    """Store one report. A repetition (same device, time and place) counts once; a report that is
    too long is shortened. Raises as intake.take: Invalid, LimitReached, Unavailable."""
    cut = shortened(document)
    document = check(document, CRASH, moment_findings)
    at = timestamps.seconds(document["timestamp"]) or 0
    sender = intake.find_sender(env, document["app_id"], document["app_version"], caller)
    if sender is None:
        return intake.nothing_accepted(1)
    if not env.config.telemetry or not sender.enabled:
        return Receipt(0, 0, False, 0.0, [])
    now = int(env.clock.time())
    _check_quota(env, sender, caller, document["device_id"], now)
    cut = cut or len(document["crash"]["stack_trace"]) > STORED_TRACE_CHARACTERS
    report = Report(document, sender, caller.client_network, at, cut)
    with env.telemetry.write() as db:
        stored = _store(env, db, report, now)
    return Receipt(int(stored), 0, not stored, sender.effective_sample_rate(env), [], cut)


def top_frames(stack_trace: str) -> list[str]:
    """The first normalised lines of a trace that name a place, after Lua's "stack traceback:"."""
    frames = stack_trace.partition("stack traceback:")[2].lstrip()
    lines = (line.strip() for line in (frames or stack_trace).split("\n", LINES_READ)[:LINES_READ])
    stack = (line for line in lines if line and not re.match(_NO_FRAME, line))
    return [normalised(line) for line in stack][:TOP_FRAMES]


def fingerprint(kind: str, frames: list[str], message: str) -> str:
    """The key of a report's group; without frames it is derived from the message."""
    return hashlib.sha256(
        "\n".join([normalised(kind), *(frames or [normalised(message)])]).encode()
    ).hexdigest()[:32]


def index(db: Connection, app_id: str, paging: PageRequest, state: str | None) -> Page[Group]:
    """The groups of an app, newest first."""
    where = "app = (SELECT id FROM apps WHERE app_id = ?1) AND (?2 IS NULL OR state = ?2)"
    return newest_first(db, Group, where, app_id, state, paging=paging)


def get(db: Connection, app_id: str, group_id: str) -> Group:
    """A group of this app. Raises NotFound."""
    where = "app = (SELECT id FROM apps WHERE app_id = ?) AND id = ?"
    return db.get(Group, where, app_id, group_id, what="group of crashes")


def change(db: Connection, app_id: str, group_id: str, state: str) -> Group:
    """Mark a group as resolved or open, in the running transaction. Raises NotFound."""
    found = get(db, app_id, group_id)
    if state != found.state:
        crash_groups.set_state(db, found.id, state)
    return get(db, app_id, group_id)


def versions(db: Connection, group_id: str) -> list[tuple[str, int]]:
    """The number of reports from each version, most frequent first."""
    sql = "SELECT version, sum(count) FROM crash_counts WHERE crash_group = ? GROUP BY 1 ORDER BY 2 DESC, 1"
    return db.all(sql, group_id)


def days(db: Connection, group_id: str) -> list[tuple[int, int]]:
    """The number of reports on each day (since 1970) that has any."""
    sql = "SELECT day, sum(count) FROM crash_counts WHERE crash_group = ? GROUP BY 1 ORDER BY 1"
    return db.all(sql, group_id)


def samples(db: Connection, group_id: str) -> list[dict[str, Any]]:
    """The stored reports of a group: the first, the last, and some in between."""
    names = (
        "number",
        "at",
        "version",
        "mosis_version",
        "message",
        "stack_trace",
        "truncated",
        "context",
    )
    sql = f"SELECT {', '.join(names)} FROM crash_reports WHERE crash_group = ? ORDER BY number"
    rows = db.all(sql, group_id)
    return [
        dict(zip(names, row, strict=True))
        | {"at": text(row[1]), "truncated": bool(row[-2]), "context": json.loads(row[-1])}
        for row in rows
    ]


def shortened(document: dict[str, Any]) -> bool:
    """Cut fields that are too long, in place; whether any was. A short report is of use, too."""
    crash, cut = document.get("crash"), False
    if not isinstance(crash, dict):
        return False
    for name, most in CUT.items():
        if isinstance(crash.get(name), str) and len(crash[name]) > most:
            crash[name], cut = crash[name][:most], True
    context = crash.get("context")
    if isinstance(context, dict):
        short = {
            name[:NAME_CHARACTERS]: value[:VALUE_CHARACTERS] if isinstance(value, str) else value
            for name, value in list(context.items())[:MOST_VALUES]
        }
        cut = cut or short != context
        crash["context"] = short
    return cut


def _check_quota(env: Context, sender: Sender, caller: Caller, device: str, now: int) -> None:
    sql = "SELECT crash_reports FROM intake WHERE app = ? AND day = ?"
    used = env.telemetry.connection().value(sql, sender.app, now // DAY)
    most = max(LEAST_REPORTS, env.config.telemetry_events_per_app // EVENTS_A_REPORT)
    if (used or 0) >= most:
        raise shares.used_up(
            now, "This app has sent the maximum number of crash reports for today."
        )
    space.check(env, STORED_TRACE_CHARACTERS)
    if env.limits.on and not intake.day_shares(env).take(
        now,
        (f"crash:{sender.app_id}:{caller.client_network}", 1, max(LEAST_OF_NETWORK, most // 10)),
        (f"crash:{sender.app_id}:{device}", 1, max(LEAST_OF_DEVICE, most // 100)),
    ):
        raise shares.used_up(
            now, "This device or its network has sent its share of crash reports for today."
        )


def _store(env: Context, db: Connection, report: Report, now: int) -> bool:
    """Store a report, in the running transaction. Returns False for a repetition."""
    document, sender = report.document, report.sender
    app, crash = sender.app or telemetry_apps.number(db, sender.app_id), document["crash"]
    device = pseudonym(env.telemetry_secret, app, document["device_id"])
    frames = top_frames(crash["stack_trace"])
    mark = fingerprint(crash["type"], frames, crash["message"])
    place = device + f"{document['timestamp']} {mark} {crash['message']}".encode()
    if not intake.is_new(db, now // DAY, keyed(env.telemetry_secret, b"crash", place)):
        intake.count(db, app, now // DAY, duplicates=1)
        return False
    at = intake.clamped(report.at, now)
    intake.count(db, app, now // DAY, crash_reports=1)
    intake.list_device(env, db, app, document["device_id"], device, now // DAY)
    rollups.add_report(db, app, sender.version, at)
    watches.add_report(db, app, sender.version, device, at)
    keys = (f"{app}:{document['device_id']}", f"{app}:{report.network}")
    group = crash_groups.of_report(
        db,
        Arrived(app, mark, crash, frames, at, now),
        _authors(env) if env.limits.on else None,
        keys,
    )
    number = crash_groups.count(db, group, device, at, now)
    sql = (
        "INSERT INTO crash_counts (crash_group, day, version, count) VALUES (?, ?, ?, 1)"
        " ON CONFLICT DO UPDATE SET count = count + 1"
    )
    db.change(sql, group, at // DAY, sender.version)
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
        stack_trace=crash["stack_trace"][:STORED_TRACE_CHARACTERS],
        context=json.dumps(crash.get("context", {}), ensure_ascii=False),
        truncated=int(report.truncated),
    )
    # the previous last report stays only if it is the 1st, 2nd, 4th, 8th ...
    if (number - 1) & (number - 2):
        db.change(
            "DELETE FROM crash_reports WHERE crash_group = ? AND number = ?", group, number - 1
        )
    return True


def _authors(env: Context) -> Authors:
    found = env.state(Authors)
    return found
