"""Passwords and addresses over HTTP: change, reset, verification."""

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.people import account_recovery, accounts
from mosis.validation import Json, text
from mosis.validation.names import KNOWN_EMAIL_ADDRESS
from mosis.web.auth import EMAIL, PASSWORD, TICKET, password_findings
from mosis.web.request import spend
from mosis.web.schemas import operation

CHANGE = {"current_password": text(1024, required=True), "new_password": PASSWORD}
FORGOT = {"email": EMAIL | {"regex": KNOWN_EMAIL_ADDRESS}}
RESET = {"token": TICKET, "new_password": PASSWORD}
CHANGE_EMAIL = {"email": EMAIL, "password": text(1024, nullable=True)}
UNDO = {"token": TICKET}
VERIFY = {"token": TICKET, "password": PASSWORD | {"required": False}}


def routes(app: bottle.Bottle) -> None:
    app.post("/auth/password", callback=change, scope="account", lane="passwords")
    app.post("/auth/password/forgot", callback=forgot, scope="public", auth="none")
    app.post("/auth/password/reset", callback=reset, scope="public", auth="none", lane="passwords")
    app.post("/auth/email/verify", callback=verify, scope="public", lane="passwords")
    app.post("/auth/email/change", callback=change_email, scope="account", lane="passwords")
    app.post("/auth/email/undo", callback=undo_email, scope="public", auth="none")
    app.post("/auth/email/resend", callback=resend, scope="account", idempotent="yes")


@operation(body=CHANGE, further=password_findings, refuses="invalid_credentials")
def change(env: Context, db: Connection, caller: Caller, body: Json) -> None:
    """Change the password; the account's other sessions end."""
    spend(env, "sign_in", f"{caller.account} {caller.network}")
    accounts.change_password(env, db, caller, body["current_password"], body["new_password"])


@operation({202: None}, body=FORGOT)
def forgot(env: Context, db: Connection, caller: Caller, body: Json) -> None:
    """Request a link that sets a new password. The response does not disclose whether the account
    exists."""
    email = body["email"]
    spend(env, "mail_network", caller.network)
    spend(env, "mail", accounts.folded(email))
    account_recovery.forgot(db, caller, email)
    bottle.response.status = 202


@operation(body=RESET, further=password_findings)
def reset(env: Context, db: Connection, caller: Caller, body: Json) -> None:
    """Set a new password with the token of that link; all sessions end."""
    spend(env, "sign_in_network", caller.network)
    account_recovery.reset(env, db, caller, body["token"], body["new_password"])


@operation(body=VERIFY, refuses="unauthenticated forbidden invalid_credentials email_taken")
def verify(env: Context, db: Connection, caller: Caller, body: Json) -> None:
    """Verify an e-mail address with the token of the verification mail, and with a session or the
    password of the account.

    Any other password becomes the account's password, and all earlier credentials are revoked: the
    owner of the mailbox takes over an account that somebody else registered with its address. The
    token of POST /auth/email/change confirms the new address.
    """
    spend(env, "sign_in_network", caller.network)
    account_recovery.verify(env, db, caller, body["token"], body.get("password"))


@operation({202: None}, body=CHANGE_EMAIL, refuses="invalid_credentials email_taken")
def change_email(env: Context, db: Connection, caller: Caller, body: Json) -> None:
    """Request a change of the e-mail address.

    The new address gets a link that confirms it, the old one a link that undoes the change for 72
    hours.
    """
    spend(env, "sign_in", f"{caller.account} {caller.network}")
    spend(env, "mail", caller.account)
    spend(env, "mail", accounts.folded(body["email"]))
    account_recovery.request_email_change(env, db, caller, body["email"], body.get("password"))
    bottle.response.status = 202


@operation(body=UNDO, refuses="email_taken")
def undo_email(env: Context, db: Connection, caller: Caller, body: Json) -> None:
    """Undo a change of the address from the old mailbox. All sessions and keys of the account are
    revoked."""
    token = body["token"]
    spend(env, "sign_in_network", caller.network)
    account_recovery.undo_email_change(env, db, caller, token)


@operation({202: None})
def resend(env: Context, db: Connection, caller: Caller) -> None:
    """Send the verification mail again."""
    spend(env, "mail", accounts.folded(accounts.get(db, caller.account).email))
    account_recovery.request_verification(db, caller)
    bottle.response.status = 202
