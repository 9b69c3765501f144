"""Sign-in, sign-out and sessions."""

from collections.abc import Mapping
from typing import Any

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.credentials import tokens, totp
from mosis.database import Connection
from mosis.people import accounts, second_factor
from mosis.people.accounts import Session, SignedIn
from mosis.validation import Finding, Json, findings_of, names, required_text, text
from mosis.validation.names import EMAIL_ADDRESS
from mosis.web import accounts as faces
from mosis.web.accounts import DEVELOPER
from mosis.web.request import created, listed, read_page, spend
from mosis.web.schemas import extended_with, list_of, operation, shape, shown

EMAIL = text(254, required=True, minlength=3, regex=EMAIL_ADDRESS)
PASSWORD = text(1024, required=True, minlength=10)
NAME = required_text(100, names.NAME)
SECOND_FACTOR_CODE = text(40, required=True, minlength=6)
TICKET = text(100, required=True)

REGISTER = {"email": EMAIL, "password": PASSWORD, "name": NAME, "invitation": text(100)}
LOGIN = {"email": text(254, required=True), "password": text(1024, required=True)}
SECOND_STEP = {"ticket": TICKET, "code": SECOND_FACTOR_CODE}
REFRESH = {"refresh_token": text(200, required=True)}
LOGOUT = {"everywhere": {"type": "boolean"}}

TOKENS = shape(
    "Tokens",
    "access_token token_type expires_in:int refresh_token refresh_expires_in:int",
    token_type={"const": "Bearer"},
)
SIGNED_IN = extended_with("SignedIn", TOKENS, "developer", developer=DEVELOPER)
SESSION = shape("Session", "id client network current:bool created_at last_used_at expires_at")


def password_findings(env: Context, fields: Mapping[str, Any]) -> list[Finding]:
    """Findings about a weak new password, in a body that may contain the address too."""
    return [
        found
        for name in ("password", "new_password")
        for found in findings_of(
            accounts.check_password, fields.get(name), fields.get("email", ""), f"/{name}"
        )
    ]


def routes(app: bottle.Bottle) -> None:
    signs_in = {"scope": "public", "auth": "none"}
    app.post("/auth/register", callback=register, lane="passwords", idempotent="yes", **signs_in)
    app.post("/auth/login", callback=login, lane="passwords", **signs_in)
    app.post("/auth/login/second-factor", callback=second_factor_step, **signs_in)
    app.post("/auth/refresh", callback=refresh, **signs_in)
    app.post("/auth/logout", callback=logout, scope="session")
    app.get("/auth/sessions", callback=sessions, scope="account")
    app.delete("/auth/sessions/<session>", callback=revoke, scope="account")


@operation(
    {201: SIGNED_IN},
    body=REGISTER,
    further=password_findings,
    refuses="email_taken registration_closed",
)
def register(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Register an account. The response is signed in."""
    spend(env, "registration", caller.network)
    return created(public(db, accounts.register(env, db, caller, **body)), "/v1/auth/me")


@operation(SIGNED_IN, body=LOGIN, refuses="invalid_credentials second_factor_required")
def login(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Sign in with a password.

    401 is the same, after the same time, whether the account exists or not. An account with a
    second factor gets 401 `second_factor_required` with a `ticket` for the second step.
    """
    spend_sign_in(env, caller, body["email"])
    return public(db, accounts.login(env, db, caller, **body))


@operation(SIGNED_IN, body=SECOND_STEP, refuses="invalid_code")
def second_factor_step(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Sign in with the ticket of the first step and a code of the authenticator app, or a recovery code."""
    account = second_factor.account_of(env, db, body["ticket"])
    spend_code(env, caller, account, body["code"])
    return public(db, accounts.second_step(env, db, caller, **body))


@operation(SIGNED_IN, body=REFRESH)
def refresh(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Exchange a refresh token for a new pair of tokens; each refresh token is valid once.

    Using one again ends the session, because it may have been stolen.
    """
    return public(db, accounts.refresh(env, db, caller, body["refresh_token"]))


@operation(body=LOGOUT, optional=True)
def logout(db: Connection, caller: Caller, body: Json) -> None:
    """End the session, or all sessions of the account."""
    accounts.logout(db, caller, everywhere=body.get("everywhere", False))


@operation(list_of("sessions", SESSION))
def sessions(db: Connection, caller: Caller) -> Json:
    """The active sessions of the caller, newest first."""
    page = accounts.sessions(db, caller, read_page(str))
    return listed("sessions", page, [_session(each, caller) for each in page.rows])


@operation()
def revoke(db: Connection, caller: Caller, session: str) -> None:
    """End a session; its tokens are refused at once."""
    accounts.revoke_session(db, caller, session)


def spend_sign_in(env: Context, caller: Caller, email: str) -> None:
    """Count a sign-in. Raises LimitReached `rate_limited`."""
    # The account together with the network, so that attempts from elsewhere do not lock the owner
    # out.
    spend(env, "sign_in", f"{accounts.folded(email)} {caller.network}")
    spend(env, "sign_in_network", caller.network)
    spend(env, "sign_in_all", "")


def spend_code(env: Context, caller: Caller, developer_id: str, code: str) -> None:
    """Count a code that is tried for an account. Raises LimitReached `rate_limited`.

    Recovery codes cannot be guessed, so they are not counted over all networks: an attacker with
    the password cannot lock out the owner, who has them.
    """
    spend(env, "code", f"{developer_id} {caller.network}")
    if len(code.replace(" ", "")) <= totp.DIGITS:
        spend(env, "code_all", developer_id)


def public(db: Connection, signed_in: SignedIn) -> Json:
    return {
        "developer": faces.public(db, signed_in.developer),
        "access_token": signed_in.access_token,
        "token_type": "Bearer",
        "expires_in": tokens.ACCESS_SECONDS,
        "refresh_token": signed_in.refresh_token,
        "refresh_expires_in": tokens.REFRESH_SECONDS,
    }


def _session(session: Session, caller: Caller) -> Json:
    current = session.id == caller.session_id
    return shown(SESSION, session, network=session.address, current=current)
