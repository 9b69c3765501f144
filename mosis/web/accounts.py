"""The caller's own account."""

from typing import Any

import bottle

from mosis import accounts, identities
from mosis.accounts import Developer
from mosis.callers import Caller
from mosis.db import Connection
from mosis.web.request import read_json, require_match

CHANGE = {"name": {"type": "string", "minlength": 1, "maxlength": 100, "regex": r"[^\x00-\x1f\x7f]*\Z"}}


def routes(app: bottle.Bottle) -> None:
    app.get("/auth/me", callback=me, scope="account")
    app.route("/auth/me", method="PATCH", callback=change, scope="account")


def me(db: Connection, caller: Caller) -> dict[str, Any]:
    return public(db, accounts.get(db, caller.account))


def change(db: Connection, caller: Caller) -> dict[str, Any]:
    changes = read_json(CHANGE)
    with db.write():
        require_match(public(db, accounts.get(db, caller.account)))
        return public(db, accounts.change(db, caller, changes))


def public(db: Connection, developer: Developer) -> dict[str, Any]:
    return {
        "id": developer.id, "email": developer.email, "email_verified": bool(developer.email_verified), "name": developer.name,
        "role": developer.role, "suspended": bool(developer.suspended),
        "providers": ["password"] * bool(developer.password_hash) + identities.providers_of(db, developer.id),
        "created_at": developer.created_at,
    }
