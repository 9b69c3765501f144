"""The caller's own account."""

from typing import Any

import bottle

from mosis import accounts, audit, erasure, identities, notifications
from mosis.accounts import Developer
from mosis.audit import Entry
from mosis.callers import Caller
from mosis.db import Connection
from mosis.environment import Environment
from mosis.web.request import listed, read_json, read_page, require_match

CHANGE: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "minlength": 1, "maxlength": 100, "regex": r"[^\x00-\x1f\x7f]*\Z"},
    "mail": {"type": "dict", "keysrules": {"type": "string", "allowed": sorted(notifications.MAILED)},
             "valuesrules": {"type": "boolean"}},
}
ERASE: dict[str, dict[str, Any]] = {"password": {"type": "string", "nullable": True, "maxlength": 1024},
         "apps": {"type": "string", "allowed": ["keep", "withdraw"]}}


def routes(app: bottle.Bottle) -> None:
    app.get("/auth/me", callback=me, scope="account")
    app.route("/auth/me", method="PATCH", callback=change, scope="account")
    app.delete("/auth/me", callback=erase, scope="account", lane="slow")
    app.get("/auth/me/export", callback=export, scope="account")
    app.get("/auth/me/audit", callback=trail, scope="account")


def me(db: Connection, caller: Caller) -> dict[str, Any]:
    return _own(db, accounts.get(db, caller.account))


def change(db: Connection, caller: Caller) -> dict[str, Any]:
    changes = read_json(CHANGE)
    with db.write():
        require_match(_own(db, accounts.get(db, caller.account)))
        mail = changes.pop("mail", None)
        if mail is not None:
            notifications.change_mail_settings(db, caller.account, mail)
        return _own(db, accounts.change(db, caller, changes))


def erase(env: Environment, db: Connection, caller: Caller) -> None:
    said = read_json(ERASE, optional=True)
    env.limits.take("sign_in", f"{caller.account} {caller.network}")
    erasure.erase(db, caller, said.get("password"), withdraw_apps=said.get("apps") == "withdraw")


def export(db: Connection, caller: Caller) -> dict[str, Any]:
    return erasure.export(db, caller)


def trail(db: Connection, caller: Caller) -> dict[str, Any]:
    page = audit.index(db, read_page(int), owner_id=caller.account)
    return listed("entries", page, [entry(each) for each in page.rows])


def public(db: Connection, developer: Developer) -> dict[str, Any]:
    return {
        "id": developer.id, "email": developer.email, "email_verified": bool(developer.email_verified), "name": developer.name,
        "role": developer.role, "suspended": bool(developer.suspended),
        "providers": ["password"] * bool(developer.password_hash) + identities.providers_of(db, developer.id),
        "created_at": developer.created_at,
    }


def entry(each: Entry) -> dict[str, Any]:
    return {
        "number": each.number, "at": each.at, "actor_id": each.actor_id, "action": each.action, "subject_id": each.subject_id,
        "owner_id": each.owner_id, "network": each.address, "details": each.facts, "hash": each.hash,
    }


def _own(db: Connection, developer: Developer) -> dict[str, Any]:
    """The developer, with what only the owner sees."""
    return public(db, developer) | {"mail": notifications.mail_settings(db, developer.id)}
