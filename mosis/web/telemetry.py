"""Telemetry over HTTP: what devices send, and what developers see of it."""

from typing import Any

import bottle

from mosis import apps
from mosis.callers import Caller
from mosis.db import Connection
from mosis.environment import Environment
from mosis.telemetry import analytics, intake, settings
from mosis.telemetry.intake import Receipt
from mosis.telemetry.schemas import BODY_LIMIT_BYTES
from mosis.telemetry.settings import Settings
from mosis.web.request import client_address, read_choice, read_json, read_packed_json, require_match

CHOICES: dict[str, dict[str, Any]] = {
    "enabled": {"type": "boolean"}, "usage_events": {"type": "boolean"}, "sample_rate": {"type": "number", "min": 0, "max": 1},
}


def routes(app: bottle.Bottle) -> None:
    app.post("/telemetry/events", callback=events, scope="public", body="telemetry", lane="telemetry")
    app.get("/apps/<app>/analytics", callback=show, scope="telemetry:read")
    app.get("/apps/<app>/telemetry", callback=choices, scope="telemetry:read")
    app.route("/apps/<app>/telemetry", method="PATCH", callback=choose, scope="apps:write")


def events(env: Environment) -> dict[str, Any]:
    address = client_address(env.config.trusted_proxy)
    receipt = intake.take(env, address, read_packed_json(BODY_LIMIT_BYTES))
    bottle.response.status = 202
    return public_receipt(receipt)


def public_receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "accepted": receipt.accepted, "rejected": receipt.rejected, "duplicate": receipt.duplicate,
        "sample_rate": receipt.sample_rate, "errors": receipt.errors,
    }


def show(env: Environment, db: Connection, caller: Caller, app: str) -> dict[str, Any]:
    owned, query = apps.owned_by(db, caller, app), bottle.request.query
    span = read_choice("granularity", "day", "hour", default="day") or "day"
    wanted = analytics.read_range(span, query.get("from"), query.get("to"), int(env.clock.time()))
    found = analytics.analytics(env.telemetry.connection(), owned.id, wanted, query.getunicode("version") or None)
    return {"package_id": owned.package_id} | found


def choices(env: Environment, db: Connection, caller: Caller, app: str) -> dict[str, Any]:
    return public_settings(settings.get(env.telemetry.connection(), apps.owned_by(db, caller, app).id))


def choose(env: Environment, db: Connection, caller: Caller, app: str) -> dict[str, Any]:
    fields, owned, telemetry = read_json(CHOICES), apps.owned_by(db, caller, app), env.telemetry.connection()
    with telemetry.write():
        require_match(public_settings(settings.get(telemetry, owned.id)))
        return public_settings(settings.change(telemetry, owned.id, fields))


def public_settings(chosen: Settings) -> dict[str, Any]:
    return {"enabled": chosen.enabled, "usage_events": chosen.usage_events, "sample_rate": chosen.sample_rate}
