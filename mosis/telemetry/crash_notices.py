"""Notifications about crashes: an event for each new group, and at most one mail per day and app
with what is new.

Groups and queue are in different databases: after a kill between the two writes a job is queued
again, so none is lost; a job that ran already finds its event and does nothing.
"""

import json
from typing import Any

from mosis import events, jobs
from mosis.clock import DAY, text
from mosis.context import Context
from mosis.database import Connection
from mosis.publishing import members
from mosis.telemetry import crash_groups, telemetry_apps

EVENTS_A_DAY = 20  # per app and day; further groups appear in the digest only
# new groups are mailed after this time, with those that have been added since
DIGEST_AFTER_SECONDS = 3600
MOST_IN_DIGEST = 20
TEXT_CHARACTERS = 120


def announce(env: Context) -> None:
    """Queue the events of groups that are new or have returned, up to EVENTS_A_DAY per app."""
    telemetry, db = env.telemetry.connection(), env.db.connection()
    rows = telemetry.all(
        "SELECT g.id, g.app, a.announced_day, a.announced FROM crash_groups g"
        " JOIN apps a ON a.id = g.app WHERE g.announced = 0 LIMIT 100"
    )
    if not rows:
        return
    today = int(env.clock.time()) // DAY
    sent = {app: count if day == today else 0 for _, app, day, count in rows}
    chosen = []
    for group, app, _, _ in rows:
        if sent[app] < EVENTS_A_DAY:
            sent[app] += 1
            chosen.append((group, app))
    if chosen:
        with db.write():
            for group, app in chosen:
                key = f"crash:{group}"
                jobs.add(db, "crash_new_group", owner=f"app:{app}", unique_key=key, group=group)
    with telemetry.write():
        crash_groups.mark(telemetry, "announced", [group for group, *_ in rows])
        for app, count in sent.items():
            telemetry_apps.set_columns(telemetry, app, announced_day=today, announced=count)


def notify_owner(env: Context, group: str) -> None:
    """Job: create the event of a crash group that is new or has returned, once for each time."""
    row = env.telemetry.connection().one(
        "SELECT a.app_id, g.type, g.message, g.reopened_at, g.frames"
        " FROM crash_groups g JOIN apps a ON a.id = g.app WHERE g.id = ?",
        group,
    )
    if row is None:
        return
    app_id, kind, message, reopened_at, frames = row
    facts = {
        "group": group,
        "type": kind,
        "message": message,
        "frame": next(iter(json.loads(frames)), None),
        "reopened_at": None if reopened_at is None else text(reopened_at),
    }
    with env.db.write() as db:
        package_id = db.value("SELECT package_id FROM apps WHERE id = ?", app_id)
        for account in members.accounts_of(db, app_id, "publisher"):
            sql = (
                "SELECT 1 FROM events WHERE developer_id = ? AND kind = 'crash.new_group'"
                " AND json_extract(data, '$.group') = ? AND json_extract(data, '$.reopened_at') IS ?"
            )
            if not db.value(sql, account, group, facts["reopened_at"]):
                events.add(db, account, "crash.new_group", package_id=package_id, **facts)


def queue_digests(env: Context) -> None:
    """Queue a digest for each app that has had something new for an hour and no digest for a day."""
    telemetry, db, now = env.telemetry.connection(), env.db.connection(), int(env.clock.time())
    sql = (
        "SELECT a.id, a.app_id FROM crash_groups g JOIN apps a ON a.id = g.app"
        " WHERE g.digested = 0 AND (a.digest_at <= ? OR a.digest_at > ?)"
        " GROUP BY a.id HAVING min(coalesce(g.reopened_at, g.created_at)) <= ? LIMIT 100"
    )
    due = telemetry.all(sql, now - DAY, now, now - DIGEST_AFTER_SECONDS)
    for number, app_id in due:
        sql = "SELECT id FROM crash_groups WHERE app = ? AND digested = 0 ORDER BY count DESC, id LIMIT 1000"
        groups = telemetry.all(sql, number)
        ids = [group for (group,) in groups]
        with db.write():
            jobs.add(
                db,
                "crash_digest",
                owner=f"app:{number}",
                unique_key=f"crash_digest:{app_id}",
                app_id=app_id,
                groups=ids,
            )
        with telemetry.write():
            telemetry_apps.set_columns(telemetry, number, digest_at=now)
            crash_groups.mark(telemetry, "digested", ids)


def send_digest(env: Context, app_id: str, groups: list[str]) -> None:
    """Job: notify the owner of an app of new groups. Nothing is sent for an app or versions that
    were never published, nor a second digest within a day."""
    db, telemetry = env.db.connection(), env.telemetry.connection()
    sql = (
        "SELECT v.version FROM versions v JOIN apps a ON a.id = v.app_id"
        " WHERE a.id = ? AND a.published = 1 AND v.released = 1"
    )
    released = {version for (version,) in db.all(sql, app_id)}
    found = [
        group
        for each in groups
        if (group := _summary(telemetry, each)) and released & set(group["versions"])
    ]
    if not found:
        return
    with db.write():
        package_id = db.value("SELECT package_id FROM apps WHERE id = ?", app_id)
        shown = found[:MOST_IN_DIGEST]
        summary = "; ".join(f"{each['type']}: {each['message']}" for each in shown[:3])
        more = f"; and {len(found) - 3} more." if len(found) > 3 else "."
        details: dict[str, Any] = {"new": len(found), "groups": shown, "summary": summary + more}
        for account in members.accounts_of(db, app_id, "publisher"):
            sql = (
                "SELECT 1 FROM events WHERE developer_id = ? AND kind = 'crash.digest'"
                " AND package_id = ? AND created_at > ?"
            )
            if not db.value(sql, account, package_id, env.clock.now(DIGEST_AFTER_SECONDS - DAY)):
                events.add(db, account, "crash.digest", package_id=package_id, **details)


def _summary(telemetry: Connection, group: str) -> dict[str, Any] | None:
    """A group in the form of the digest; None if it was deleted."""
    sql = "SELECT type, message, count, reopened_at, frames FROM crash_groups WHERE id = ?"
    row = telemetry.one(sql, group)
    if row is None:
        return None
    versions = telemetry.all(
        "SELECT version FROM crash_counts WHERE crash_group = ? GROUP BY 1 ORDER BY sum(count) DESC"
        " LIMIT 50",
        group,
    )
    kind, message, count, reopened_at, frames = row
    return {
        "group": group,
        "type": kind,
        "message": "".join(each for each in message if each.isprintable())[:TEXT_CHARACTERS],
        "frame": next(iter(json.loads(frames)), None),
        "count": count,
        "versions": [version for (version,) in versions],
        "reopened_at": None if reopened_at is None else text(reopened_at),
    }
