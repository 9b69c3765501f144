"""Device login over HTTP (RFC 8628). The addresses for devices accept forms, as the RFC requires,
and JSON."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import bottle

from mosis.caller import SCOPES, Caller
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection
from mosis.errors import Malformed
from mosis.people import device_login
from mosis.validation import Finding, finding
from mosis.validation.choices import one_of
from mosis.validation.names import NAME
from mosis.web.auth import SECOND_FACTOR_CODE, TOKENS, spend_code
from mosis.web.openapi_schemas import COUNT, LINK, TEXT, TIME, YES, many, operation, shape
from mosis.web.request import spend

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
BEGIN = {
    "client_name": {
        "type": "string",
        "required": True,
        "minlength": 1,
        "maxlength": 100,
        "regex": NAME,
    },
    "client_id": {"type": "string", "maxlength": 100},
    "scopes": {
        "type": "list",
        "minlength": 1,
        "maxlength": len(SCOPES),
        "schema": {"type": "string", "allowed": list(SCOPES)},
    },
    "scope": {"type": "string", "maxlength": 500},
}
TOKEN = {
    "grant_type": {"type": "string", "required": True, "maxlength": 100},
    "device_code": {"type": "string", "required": True, "maxlength": 100},
    "client_id": {"type": "string", "maxlength": 100},
}
APPROVE = {
    "user_code": {"type": "string", "required": True, "minlength": 8, "maxlength": 20},
    "approve": {"type": "boolean", "required": True},
    "code": SECOND_FACTOR_CODE | {"required": False},
}

BEGUN = shape(
    "DeviceLogin",
    device_code=TEXT,
    user_code=TEXT,
    verification_uri=LINK,
    verification_uri_complete=LINK,
    expires_in=COUNT,
    interval=COUNT,
)
ASKED = shape("DeviceRequest", user_code=TEXT, client_name=TEXT, scopes=many(TEXT), expires_at=TIME)
DECIDED = shape("DeviceDecision", user_code=TEXT, client_name=TEXT, approved=YES)


def _scope_findings(env: Context, fields: Mapping[str, Any]) -> Iterator[Finding]:
    """A device login names its scopes in a list, or, as OAuth clients do, in one text."""
    if "scopes" in fields:
        return
    scopes = fields.get("scope", "").split()
    if not scopes:
        yield finding("/scopes", "required", f"Name one or more of: {', '.join(SCOPES)}.")
    for name in dict.fromkeys(scopes):
        if name not in SCOPES:
            yield finding("/scope", "not_allowed", one_of(name, SCOPES, f"The scope {name[:50]}"))


def routes(app: bottle.Bottle) -> None:
    app.post("/auth/device", callback=begin, scope="public", auth="none")
    app.post("/auth/token", callback=token, scope="public", auth="none")
    app.get("/auth/device/<user_code>", callback=show, scope="account")
    app.post("/auth/device/approve", callback=approve, scope="account", idempotent="yes")


@operation(BEGUN, body=BEGIN, further=_scope_findings, form=True)
def begin(env: Context, db: Connection, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """Start a device login (RFC 8628). Show user_code to the user, and poll POST /auth/token every
    interval seconds."""
    spend(env, "device", caller.network)
    scopes = body.get("scopes") or body["scope"].split()
    device_code, login = device_login.begin(db, body["client_name"], scopes)
    page = env.url("/console/device")
    return {
        "device_code": device_code,
        "user_code": login.user_code,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?code={login.user_code}",
        "expires_in": device_login.LIFE_SECONDS,
        "interval": device_login.INTERVAL_SECONDS,
    }


@operation(
    TOKENS,
    body=TOKEN,
    form=True,
    refuses="unsupported_grant_type authorization_pending slow_down access_denied expired_token",
)
def token(env: Context, db: Connection, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """Poll whether a device login has been approved; finally returns its tokens."""
    if body["grant_type"] != GRANT:
        raise Malformed(
            "unsupported_grant_type", f"grant_type must be {GRANT}.", error="unsupported_grant_type"
        )
    signed_in = device_login.poll(env, db, caller, body["device_code"])
    return {
        "access_token": signed_in.access_token,
        "token_type": "Bearer",
        "expires_in": tokens.ACCESS_SECONDS,
        "refresh_token": signed_in.refresh_token,
        "refresh_expires_in": tokens.REFRESH_SECONDS,
    }


@operation(ASKED)
def show(env: Context, db: Connection, caller: Caller, user_code: str) -> dict[str, Any]:
    """The details of the device login with this user code."""
    spend(env, "guess", caller.account)
    login = device_login.find(db, user_code)
    return {
        "user_code": login.user_code,
        "client_name": login.client_name,
        "scopes": json.loads(login.scopes),
        "expires_at": login.expires_at,
    }


@operation(DECIDED, body=APPROVE, refuses="not_found second_factor_required invalid_code")
def approve(env: Context, db: Connection, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    """Approve or deny a device login."""
    spend(env, "guess", caller.account)
    if "code" in body:
        spend_code(env, caller, caller.account, body["code"])
    login = device_login.decide(
        env, db, caller, body["user_code"], body["approve"], body.get("code")
    )
    return {
        "user_code": login.user_code,
        "client_name": login.client_name,
        "approved": body["approve"],
    }
