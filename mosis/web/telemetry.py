"""Telemetry over HTTP: intake from devices, and analytics for developers."""

import re

import bottle

from mosis import clock
from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import Page, cursor
from mosis.errors import MalformedRequest
from mosis.publishing import apps
from mosis.telemetry import analytics, crashes, devices, downloads, intake, telemetry_apps
from mosis.telemetry.crashes import Group
from mosis.telemetry.hyperloglog import HyperLogLog
from mosis.telemetry.intake import Receipt
from mosis.telemetry.schemas import (
    BATCH,
    BODY_LIMIT_BYTES,
    CRASH_BODY_LIMIT_BYTES,
    CRASH_SENT,
    EVENT,
)
from mosis.telemetry.telemetry_apps import Settings
from mosis.validation import Json, Schema, choice, text
from mosis.web.request import listed, read_choice, read_page, require_match
from mosis.web.schemas import extended_with, list_of, one_of, only, operation, shape, shown

CHOICES: Schema = {
    "enabled": {"type": "boolean"},
    "usage_events": {"type": "boolean"},
    "sample_rate": {"type": "number", "min": 0, "max": 1},
}
DECISION: Schema = {"state": choice(("open", "resolved"), required=True)}

RECEIPT = shape(
    "Receipt", "accepted:int rejected:int duplicate:bool sample_rate:float errors:dict[]"
)
_REQUIRED = {"required": RECEIPT["required"]}
CRASH_RECEIPT = extended_with("CrashReceipt", RECEIPT, "truncated:bool") | _REQUIRED
EVENTS = BATCH | {"events": BATCH["events"] | {"schema": {"type": "dict", "schema": EVENT}}}
STATES = ("open", "resolved")
SPANS = ("day", "hour")
GROUP = shape(
    "CrashGroup",
    "id type message frames[] state count:int devices:int versions[] first_seen:time"
    " last_seen:time resolved_at? reopened_at? algorithm:int",
    state=one_of(*STATES),
    versions=shape("", "version count:int"),
)
WHOLE_GROUP = extended_with(
    "CrashGroupDetail",
    GROUP,
    "days[] samples[]",
    days=shape("", "day:date count:int"),
    samples=shape(
        "CrashSample",
        "number:int at version mosis_version message stack_trace truncated:bool context:dict",
    ),
)
SETTINGS = shape("TelemetrySettings", "enabled:bool usage_events:bool sample_rate:float")
SUMS = shape(
    "Sums",
    "events:int starts:int stops:int crashes:int lua_errors:int unique_devices:int"
    " session_seconds_mean:float? crash_free_share:float? frame_ms_p50:float?"
    " frame_ms_p95:float? startup_ms_p50:float? startup_ms_p95:float? memory_mb_p50:float?"
    " memory_mb_p95:float? memory_limit_mb_p50:float?",
)
ANALYTICS = shape(
    "Analytics",
    "package_id from:time to:time granularity version? totals versions[] intake series[]",
    granularity=one_of(*SPANS),
    totals=SUMS,
    versions=shape("", "version events:int starts:int"),
    intake=shape("", " ".join(f"{name}:int" for name in analytics.INTAKE)),
    series=extended_with("Bucket", SUMS, "start:time"),
)
RANGE: Schema = {
    "granularity": choice(SPANS, meta="The width of a bucket."),
    "from": text(64, meta="The first day (`2026-01-31`) or time."),
    "to": text(64, meta="The last day or time."),
    "version": text(255, meta="Only of this version of the app."),
}
DOWNLOADS = shape(
    "Downloads",
    "package_id from:date to:date by[] total:int downloads[]",
    by=one_of(*downloads.BY),
    downloads=shape("", "day:date version channel count:int", channel=one_of("stable", "beta"))
    | {"required": ["count"]},
)
DAYS: Schema = {name: RANGE[name] for name in ("from", "to")} | {
    "by": text(40, meta="What to group by: `day`, `version`, `channel`, or several: `day,channel`.")
}


def routes(app: bottle.Bottle) -> None:
    device = {"scope": "public", "lane": "telemetry"}
    app.post(
        "/telemetry/events",
        callback=events,
        body="telemetry",
        limit="telemetry",
        **device | {"lane": "intake"},
    )
    app.post("/telemetry/crashes", callback=crash, limit="telemetry", **device)
    app.get("/telemetry/devices/<device_id>", callback=export, limit="device_data", **device)
    app.delete("/telemetry/devices/<device_id>", callback=erase, limit="device_data", **device)
    app.get("/apps/<app>/crashes", callback=groups, scope="telemetry:read")
    app.get("/apps/<app>/crashes/<group>", callback=group, scope="telemetry:read")
    app.route("/apps/<app>/crashes/<group>", method="PATCH", callback=decide, scope="apps:write")
    app.get("/apps/<app>/analytics", callback=show, scope="telemetry:read")
    app.get("/apps/<app>/downloads", callback=downloaded, scope="telemetry:read")
    app.get("/apps/<app>/telemetry", callback=choices, scope="telemetry:read")
    app.route("/apps/<app>/telemetry", method="PATCH", callback=choose, scope="apps:write")


@operation({202: RECEIPT}, body=EVENTS, gzip_limit_bytes=BODY_LIMIT_BYTES)
def events(env: Context, caller: Caller, body: Json) -> Json:
    """Send a batch of events; the response is sent when it is stored on disk."""
    receipt = intake.take(env, body, caller)
    bottle.response.status = 202
    return public_receipt(receipt)


@operation({202: CRASH_RECEIPT}, body=CRASH_SENT, gzip_limit_bytes=CRASH_BODY_LIMIT_BYTES)
def crash(env: Context, caller: Caller, body: Json) -> Json:
    """Send a crash report with its stack trace; fields that are too long are shortened."""
    receipt = crashes.take(env, body, caller)
    bottle.response.status = 202
    return public_receipt(receipt) | ({"truncated": True} if receipt.truncated else {})


def public_receipt(receipt: Receipt) -> Json:
    return shown(RECEIPT, receipt)


@operation(list_of("batches", dict, "crash_reports:dict[] days:dict[]"))
def export(env: Context, device_id: str) -> Json:
    """Everything stored about a device, for anybody who knows its id."""
    paging = read_page(int)
    stored = devices.export(env, _device(device_id), paging.position or 0, paging.limit)
    page = Page(stored.batches, None if stored.last is None else cursor((stored.last,)))
    return listed(
        "batches", page, stored.batches, crash_reports=stored.crash_reports, days=stored.days
    )


@operation()
def erase(env: Context, device_id: str) -> None:
    """Erase everything that is stored about a device."""
    devices.erase(env, _device(device_id))


def _device(device_id: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", device_id):
        raise MalformedRequest("A device_id is 64 hex characters.")
    return device_id


@operation(list_of("crashes", GROUP), query=only("state", STATES))
def groups(env: Context, db: Connection, caller: Caller, app: str) -> Json:
    """The crashes of an app, grouped by type and top frames, newest group first."""
    owned, telemetry = apps.with_role(db, caller, app, "viewer"), env.telemetry.connection()
    page = crashes.index(
        telemetry, owned.id, read_page(str), read_choice("state", "open", "resolved")
    )
    return listed("crashes", page, [public_group(telemetry, each) for each in page.rows])


@operation(WHOLE_GROUP)
def group(env: Context, db: Connection, caller: Caller, app: str, group: str) -> Json:
    """One group of crashes, with its days and samples."""
    owned, telemetry = apps.with_role(db, caller, app, "viewer"), env.telemetry.connection()
    return whole_group(telemetry, crashes.get(telemetry, owned.id, group))


@operation(WHOLE_GROUP, body=DECISION, matches=True)
def decide(env: Context, db: Connection, caller: Caller, app: str, group: str, body: Json) -> Json:
    """Mark a group of crashes as resolved or open."""
    owned, telemetry = apps.with_role(db, caller, app, "publisher"), env.telemetry.connection()
    crashes.get(telemetry, owned.id, group)
    with telemetry.write():
        apps.with_role(db, caller, app, "publisher")  # again: another write may have taken a while
        require_match(lambda: whole_group(telemetry, crashes.get(telemetry, owned.id, group)))
        return whole_group(telemetry, crashes.change(telemetry, owned.id, group, body["state"]))


def public_group(telemetry: Connection, found: Group) -> Json:
    versions = [
        {"version": version, "count": count}
        for version, count in crashes.versions(telemetry, found.id)
    ]
    devices = HyperLogLog(found.devices).estimate()
    return shown(GROUP, found, devices=devices, versions=versions)


def whole_group(telemetry: Connection, found: Group) -> Json:
    days = [
        {"day": clock.text(day * clock.DAY)[:10], "count": count}
        for day, count in crashes.days(telemetry, found.id)
    ]
    return public_group(telemetry, found) | {
        "days": days,
        "samples": crashes.samples(telemetry, found.id),
    }


@operation(ANALYTICS, query=RANGE)
def show(env: Context, db: Connection, caller: Caller, app: str) -> Json:
    """The sums of an app over some days or hours."""
    owned, query = apps.with_role(db, caller, app, "viewer"), bottle.request.query
    span = read_choice("granularity", "day", "hour", default="day") or "day"
    wanted = analytics.read_range(span, query.get("from"), query.get("to"), int(env.clock.time()))
    found = analytics.analytics(
        env.telemetry.connection(), owned.id, wanted, query.getunicode("version") or None
    )
    return {"package_id": owned.package_id} | found


@operation(DOWNLOADS, query=DAYS)
def downloaded(env: Context, db: Connection, caller: Caller, app: str) -> Json:
    """The downloads of an app, betas included, by day, version or channel."""
    owned, query = apps.with_role(db, caller, app, "viewer"), bottle.request.query
    by = downloads.read_by(query.get("by"))
    wanted = analytics.read_range("day", query.get("from"), query.get("to"), int(env.clock.time()))
    total, rows = downloads.counts(env.telemetry.connection(), owned.id, wanted, by)
    for row in rows:
        if "day" in row:
            row["day"] = clock.text(row["day"] * clock.DAY)[:10]
    return {
        "package_id": owned.package_id,
        "from": clock.text(wanted.first)[:10],
        "to": clock.text(wanted.last)[:10],
        "by": list(by),
        "total": total,
        "downloads": rows,
    }


@operation(SETTINGS)
def choices(env: Context, db: Connection, caller: Caller, app: str) -> Json:
    """The telemetry settings of an app."""
    return public_settings(
        telemetry_apps.settings(
            env.telemetry.connection(), apps.with_role(db, caller, app, "viewer").id
        )
    )


@operation(SETTINGS, body=CHOICES, matches=True)
def choose(env: Context, db: Connection, caller: Caller, app: str, body: Json) -> Json:
    """Change the telemetry settings of an app."""
    owned, telemetry = apps.with_role(db, caller, app, "owner"), env.telemetry.connection()
    with telemetry.write():
        apps.with_role(db, caller, app, "owner")  # again: another write may have taken a while
        require_match(lambda: public_settings(telemetry_apps.settings(telemetry, owned.id)))
        return public_settings(telemetry_apps.change(telemetry, owned.id, body))


def public_settings(chosen: Settings) -> Json:
    return shown(SETTINGS, chosen)
