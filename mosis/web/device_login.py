"""Device login over HTTP (RFC 8628); devices send forms, as the RFC requires, or JSON."""

from collections.abc import Iterator, Mapping
from typing import Any

import bottle

from mosis.caller import SCOPES, Caller
from mosis.context import Context
from mosis.credentials import tokens
from mosis.credentials.oauth.trusted import LONGEST
from mosis.database import Connection
from mosis.errors import Malformed
from mosis.people import device_login, trusted_publishers
from mosis.validation import Finding, Json, Schema, choice, finding, required_text, some_of, text
from mosis.validation.choices import one_of
from mosis.validation.names import NAME
from mosis.web.auth import SECOND_FACTOR_CODE, TOKENS, spend_code
from mosis.web.request import spend
from mosis.web.schemas import operation, shape, shown

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
BEGIN = {
    "client_name": required_text(100, NAME),
    "client_id": text(100),
    "scopes": some_of(SCOPES),
    "scope": text(500),
}
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
TOKEN: Schema = {
    "grant_type": text(100, required=True),
    "device_code": text(100),
    "client_id": text(100),
    "subject_token": text(LONGEST),
    "subject_token_type": choice((ID_TOKEN,)),
    "audience": text(255),
}
APPROVE = {
    "user_code": text(20, required=True, minlength=8),
    "approve": {"type": "boolean", "required": True},
    "code": SECOND_FACTOR_CODE | {"required": False},
}

BEGUN = shape(
    "DeviceLogin",
    "device_code user_code verification_uri:link verification_uri_complete:link expires_in:int"
    " interval:int",
)
ASKED = shape("DeviceRequest", "user_code client_name scopes[] expires_at")
EXCHANGED = shape(
    "ExchangedToken",
    "access_token issued_token_type token_type expires_in:int scope",
    token_type={"const": "Bearer"},
)
DECIDED = shape("DeviceDecision", "user_code client_name approved:bool")


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


def _token_findings(env: Context, fields: Mapping[str, Any]) -> Iterator[Finding]:
    """Each grant has parameters of its own; an unknown one is refused in the words of OAuth."""
    if "grant_type" not in fields:
        return
    if fields["grant_type"] not in (GRANT, EXCHANGE_GRANT):
        detail = f"grant_type must be {GRANT} or {EXCHANGE_GRANT}."
        raise Malformed("unsupported_grant_type", detail, error="unsupported_grant_type")
    exchanged = ("subject_token", "subject_token_type", "audience")
    for name in exchanged if fields["grant_type"] == EXCHANGE_GRANT else ("device_code",):
        if name not in fields:
            yield finding(f"/{name}", "required", "This grant needs this field.")


def routes(app: bottle.Bottle) -> None:
    app.post("/auth/device", callback=begin, scope="public", auth="none")
    app.post("/auth/token", callback=token, scope="public", auth="none", lane="outside")
    app.get("/auth/device/<user_code>", callback=show, scope="account")
    app.post("/auth/device/approve", callback=approve, scope="account", idempotent="yes")


@operation(BEGUN, body=BEGIN, further=_scope_findings, form=True)
def begin(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
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
    {200: {"oneOf": [TOKENS, EXCHANGED]}},
    body=TOKEN,
    further=_token_findings,
    form=True,
    refuses="unsupported_grant_type authorization_pending slow_down access_denied expired_token"
    " invalid_grant provider_unavailable",
)
def token(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Poll whether a device login has been approved; or exchange an ID token of a build server.

    A device login gets its tokens in the end (RFC 8628), a trusted publisher one of 15 minutes for one
    app (RFC 8693).
    """
    if body["grant_type"] == EXCHANGE_GRANT:
        spend(env, "exchange", caller.network)
        made = trusted_publishers.exchange(env, db, caller, body["audience"], body["subject_token"])
        return {
            "access_token": made.token,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": trusted_publishers.LIFE_SECONDS,
            "scope": " ".join(made.scopes),
        }
    signed_in = device_login.poll(env, db, caller, body["device_code"])
    return {
        "access_token": signed_in.access_token,
        "token_type": "Bearer",
        "expires_in": tokens.ACCESS_SECONDS,
        "refresh_token": signed_in.refresh_token,
        "refresh_expires_in": tokens.REFRESH_SECONDS,
    }


@operation(ASKED)
def show(env: Context, db: Connection, caller: Caller, user_code: str) -> Json:
    """The details of the device login with this user code."""
    spend(env, "guess", caller.account)
    login = device_login.find(db, user_code)
    return shown(ASKED, login)


@operation(DECIDED, body=APPROVE, refuses="not_found second_factor_required invalid_code")
def approve(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Approve or deny a device login."""
    spend(env, "guess", caller.account)
    if "code" in body:
        spend_code(env, caller, caller.account, body["code"])
    login = device_login.decide(
        env, db, caller, body["user_code"], body["approve"], body.get("code")
    )
    return shown(DECIDED, login, approved=body["approve"])
