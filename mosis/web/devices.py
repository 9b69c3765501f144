"""Device login over HTTP (RFC 8628). What machines call takes forms, as the RFC has it, and JSON."""

import json
from typing import Any

import bottle

from mosis import devices, tokens
from mosis.callers import SCOPES, Caller
from mosis.db import Connection
from mosis.environment import Environment
from mosis.errors import Invalid, Malformed
from mosis.web.request import read_form_or_json, read_json

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_LINE = r"[^\x00-\x1f\x7f]*\Z"
BEGIN = {
    "client_name": {"type": "string", "required": True, "minlength": 1, "maxlength": 100, "regex": _LINE},
    "client_id": {"type": "string", "maxlength": 100},
    "scopes": {"type": "list", "minlength": 1, "maxlength": len(SCOPES), "schema": {"type": "string", "allowed": list(SCOPES)}},
    "scope": {"type": "string", "maxlength": 500},
}
TOKEN = {
    "grant_type": {"type": "string", "required": True, "maxlength": 100},
    "device_code": {"type": "string", "required": True, "maxlength": 100},
    "client_id": {"type": "string", "maxlength": 100},
}
APPROVE = {"user_code": {"type": "string", "required": True, "minlength": 8, "maxlength": 20},
           "approve": {"type": "boolean", "required": True}}


def routes(app: bottle.Bottle) -> None:
    app.post("/auth/device", callback=begin, scope="public", idempotent="yes")
    app.post("/auth/token", callback=token, scope="public")
    app.get("/auth/device/<user_code>", callback=show, scope="account")
    app.post("/auth/device/approve", callback=approve, scope="account")


def begin(env: Environment, db: Connection, caller: Caller) -> dict[str, Any]:
    said = read_form_or_json(BEGIN)
    env.limits.take("device", caller.network)
    scopes = said.get("scopes") or said.get("scope", "").split()
    if not scopes or not set(scopes) <= set(SCOPES):
        raise Invalid([{"pointer": "/scopes", "code": "not_allowed", "detail": f"Name one or more of: {', '.join(SCOPES)}."}])
    device_code, login = devices.begin(db, said["client_name"], scopes)
    page = env.url("/docs/account#device")
    return {
        "device_code": device_code, "user_code": login.user_code, "verification_uri": page,
        "verification_uri_complete": f"{page}={login.user_code}", "expires_in": devices.LIFE_SECONDS,
        "interval": devices.INTERVAL_SECONDS,
    }


def token(env: Environment, db: Connection, caller: Caller) -> dict[str, Any]:
    said = read_form_or_json(TOKEN)
    if said["grant_type"] != GRANT:
        raise Malformed("unsupported_grant_type", f"grant_type must be {GRANT}.", error="unsupported_grant_type")
    signed_in = devices.poll(env, db, caller, said["device_code"])
    return {
        "access_token": signed_in.access_token, "token_type": "Bearer", "expires_in": tokens.ACCESS_SECONDS,
        "refresh_token": signed_in.refresh_token, "refresh_expires_in": tokens.REFRESH_SECONDS,
    }


def show(env: Environment, db: Connection, caller: Caller, user_code: str) -> dict[str, Any]:
    env.limits.take("guess", caller.account)
    login = devices.find(db, user_code)
    return {"user_code": login.user_code, "client_name": login.client_name, "scopes": json.loads(login.scopes),
            "expires_at": login.expires_at}


def approve(env: Environment, db: Connection, caller: Caller) -> dict[str, Any]:
    said = read_json(APPROVE)
    env.limits.take("guess", caller.account)
    login = devices.decide(db, caller, said["user_code"], said["approve"])
    return {"user_code": login.user_code, "client_name": login.client_name, "approved": said["approve"]}
