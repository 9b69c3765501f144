"""The caller's second factor over HTTP: authenticator apps (RFC 6238) and recovery codes."""

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.credentials import totp
from mosis.database import Connection
from mosis.people import second_factor
from mosis.validation import Json, Schema, text
from mosis.web.auth import SECOND_FACTOR_CODE, spend_code
from mosis.web.request import spend
from mosis.web.schemas import operation, shape

BEGIN: Schema = {"password": text(1024, nullable=True)}
CODE: Schema = {"code": SECOND_FACTOR_CODE}
SECRET = shape("AuthenticatorSecret", "secret otpauth_uri")
CODES = shape("RecoveryCodes", "recovery_codes[]")


def routes(app: bottle.Bottle) -> None:
    app.post("/auth/totp", callback=begin, scope="account", lane="passwords")
    app.post("/auth/totp/confirm", callback=confirm, scope="account")
    app.post("/auth/totp/recovery-codes", callback=renew, scope="account")
    app.delete("/auth/totp", callback=turn_off, scope="account")


@operation(SECRET, body=BEGIN, optional=True, refuses="invalid_credentials invalid_state")
def begin(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Get a secret for an authenticator app; it takes effect when a code is confirmed."""
    spend(env, "sign_in", f"{caller.account} {caller.network}")
    secret = second_factor.begin(env, db, caller, body.get("password"))
    return {
        "secret": totp.base32(secret),
        "otpauth_uri": second_factor.uri(env, db, caller.account, secret),
    }


@operation(CODES, body=CODE, refuses="invalid_state invalid_code")
def confirm(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Turn on the second factor with the first code of the app. The recovery codes are shown only
    in this response."""
    spend_code(env, caller, caller.account, body["code"])
    return {"recovery_codes": second_factor.turn_on(env, db, caller, body["code"])}


@operation(CODES, body=CODE, refuses="invalid_state invalid_code")
def renew(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Get new recovery codes; the old ones become invalid."""
    spend_code(env, caller, caller.account, body["code"])
    return {"recovery_codes": second_factor.renew_recovery_codes(env, db, caller, body["code"])}


@operation(body=CODE, refuses="invalid_state invalid_code")
def turn_off(env: Context, db: Connection, caller: Caller, body: Json) -> None:
    """Turn the second factor off, with a code."""
    spend_code(env, caller, caller.account, body["code"])
    second_factor.turn_off(env, db, caller, body["code"])
