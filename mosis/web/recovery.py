"""Passwords and addresses over HTTP: change, forget, reset, verify."""

import bottle

from mosis import accounts, recovery
from mosis.callers import Caller
from mosis.db import Connection
from mosis.environment import Environment
from mosis.web.auth import EMAIL, PASSWORD, TICKET
from mosis.web.request import read_json

CHANGE = {"current_password": {"type": "string", "required": True, "maxlength": 1024}, "new_password": PASSWORD}
FORGOT = {"email": EMAIL}
RESET = {"token": TICKET, "new_password": PASSWORD}
VERIFY = {"token": TICKET}


def routes(app: bottle.Bottle) -> None:
    app.post("/auth/password", callback=change, scope="account", lane="slow")
    app.post("/auth/password/forgot", callback=forgot, scope="public")
    app.post("/auth/password/reset", callback=reset, scope="public", lane="slow")
    app.post("/auth/email/verify", callback=verify, scope="public")
    app.post("/auth/email/resend", callback=resend, scope="account")


def change(env: Environment, db: Connection, caller: Caller) -> None:
    said = read_json(CHANGE)
    env.limits.take("sign_in", f"{caller.account} {caller.network}")
    accounts.change_password(db, caller, said["current_password"], said["new_password"])


def forgot(env: Environment, db: Connection, caller: Caller) -> None:
    email = read_json(FORGOT)["email"]
    env.limits.take("mail_network", caller.network)
    env.limits.take("mail", email.casefold())
    recovery.forgot(db, email)
    bottle.response.status = 202


def reset(env: Environment, db: Connection, caller: Caller) -> None:
    said = read_json(RESET)
    env.limits.take("sign_in_network", caller.network)
    recovery.reset(env, db, caller, said["token"], said["new_password"])


def verify(env: Environment, db: Connection, caller: Caller) -> None:
    recovery.verify(env, db, caller, read_json(VERIFY)["token"])


def resend(env: Environment, db: Connection, caller: Caller) -> None:
    env.limits.take("mail", caller.account)
    recovery.ask_to_verify(db, caller)
    bottle.response.status = 202
