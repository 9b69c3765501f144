"""What operators do over HTTP (role admin): people, apps, the trail."""

from typing import Any

import bottle

from mosis import accounts, apps, audit, recovery
from mosis.callers import ROLES, Caller
from mosis.db import Connection
from mosis.environment import Environment
from mosis.errors import Denied
from mosis.web import accounts as people
from mosis.web import apps as catalogue
from mosis.web.auth import EMAIL
from mosis.web.request import listed, read_json, read_page

DEVELOPER: dict[str, dict[str, Any]] = {"role": {"type": "string", "allowed": list(ROLES)}, "suspended": {"type": "boolean"}}
APP: dict[str, dict[str, Any]] = {"suspended": {"type": "boolean", "required": True},
                                 "reason": {"type": "string", "required": True, "minlength": 1, "maxlength": 500}}
INVITE: dict[str, dict[str, Any]] = {"email": EMAIL}


def routes(app: bottle.Bottle) -> None:
    app.get("/admin/developers", callback=developers, scope="admin")
    app.route("/admin/developers/<developer>", method="PATCH", callback=change_developer, scope="admin")
    app.post("/admin/invitations", callback=invite, scope="admin", idempotent="yes")
    app.get("/admin/apps", callback=all_apps, scope="admin")
    app.route("/admin/apps/<app>", method="PATCH", callback=change_app, scope="admin")
    app.get("/admin/audit", callback=trail, scope="admin")


def developers(db: Connection) -> dict[str, Any]:
    page = accounts.index(db, read_page(str), bottle.request.query.getunicode("q", "")[:200])
    return listed("developers", page, [people.public(db, each) for each in page.rows])


def change_developer(db: Connection, caller: Caller, developer: str) -> dict[str, Any]:
    changes = read_json(DEVELOPER)
    if developer == caller.account:
        raise Denied("forbidden", "Nobody changes their own role or suspension; ask another administrator.")
    with db.write():
        accounts.get(db, developer)
        if "role" in changes:
            accounts.set_role(db, caller, developer, changes["role"])
        if "suspended" in changes:
            accounts.set_suspended(db, caller, developer, changes["suspended"])
        return people.public(db, accounts.get(db, developer))


def invite(env: Environment, db: Connection, caller: Caller) -> dict[str, Any]:
    ticket, token = recovery.invite(env, db, caller, read_json(INVITE)["email"])
    bottle.response.status = 201
    return {"email": ticket.email, "invitation": token, "expires_at": ticket.expires_at}


def all_apps(env: Environment, db: Connection) -> dict[str, Any]:
    page = apps.all_apps(db, read_page(str), bottle.request.query.getunicode("q", "")[:200])
    return listed("apps", page, catalogue.public_list(env, db, page.rows))


def change_app(env: Environment, db: Connection, caller: Caller, app: str) -> dict[str, Any]:
    said = read_json(APP)
    with db.write():
        found = apps.get(db, app)
        return catalogue.public(env, db, apps.set_suspended(db, caller, found, said["suspended"], said["reason"]))


def trail(db: Connection) -> dict[str, Any]:
    query = bottle.request.query
    page = audit.index(db, read_page(int), owner_id=query.get("owner") or None, action=query.get("action") or None)
    return listed("entries", page, [people.entry(each) for each in page.rows])


