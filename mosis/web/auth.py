"""Signing in and out."""

from typing import Any

import bottle

from mosis import accounts, tokens
from mosis.accounts import SignedIn
from mosis.callers import Caller
from mosis.db import Connection
from mosis.environment import Environment
from mosis.web import accounts as faces
from mosis.web.request import created, read_json

_ADDRESS = r"[^@\s\x00-\x1f\x7f<>]+@[^@\s\x00-\x1f\x7f<>]+\Z"
EMAIL = {"type": "string", "required": True, "minlength": 3, "maxlength": 254, "regex": _ADDRESS}
PASSWORD = {"type": "string", "required": True, "minlength": 10, "maxlength": 1024}
NAME = {"type": "string", "required": True, "minlength": 1, "maxlength": 100, "regex": r"[^\x00-\x1f\x7f]*\Z"}

REGISTER = {"email": EMAIL, "password": PASSWORD, "name": NAME}
LOGIN = {"email": {"type": "string", "required": True, "maxlength": 254},
         "password": {"type": "string", "required": True, "maxlength": 1024}}
REFRESH = {"refresh_token": {"type": "string", "required": True, "maxlength": 200}}
LOGOUT = {"everywhere": {"type": "boolean"}}


def routes(app: bottle.Bottle) -> None:
    app.post("/auth/register", callback=register, scope="public", lane="slow")
    app.post("/auth/login", callback=login, scope="public", lane="slow")
    app.post("/auth/refresh", callback=refresh, scope="public")
    app.post("/auth/logout", callback=logout, scope="account")


def register(env: Environment, db: Connection, caller: Caller) -> dict[str, Any]:
    said = read_json(REGISTER)
    return created(public(db, accounts.register(env, db, caller, **said)), "/v1/auth/me")


def login(env: Environment, db: Connection, caller: Caller) -> dict[str, Any]:
    return public(db, accounts.login(env, db, caller, **read_json(LOGIN)))


def refresh(env: Environment, db: Connection, caller: Caller) -> dict[str, Any]:
    return public(db, accounts.refresh(env, db, caller, read_json(REFRESH)["refresh_token"]))


def logout(db: Connection, caller: Caller) -> None:
    accounts.logout(db, caller, everywhere=read_json(LOGOUT, optional=True).get("everywhere", False))


def public(db: Connection, signed_in: SignedIn) -> dict[str, Any]:
    return {
        "developer": faces.public(db, signed_in.developer),
        "access_token": signed_in.access_token, "token_type": "Bearer", "expires_in": tokens.ACCESS_SECONDS,
        "refresh_token": signed_in.refresh_token, "refresh_expires_in": tokens.REFRESH_SECONDS,
    }
