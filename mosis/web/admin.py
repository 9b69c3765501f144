"""Administration over HTTP (role admin): accounts, apps, audit trail."""

import bottle

from mosis import audit
from mosis.caller import ROLES, Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.people import account_recovery, accounts
from mosis.publishing import apps
from mosis.validation import Json, Schema, choice, text
from mosis.web import accounts as people
from mosis.web import apps as catalogue
from mosis.web.auth import EMAIL
from mosis.web.request import listed, read_page
from mosis.web.schemas import list_of, operation, shape

DEVELOPER: Schema = {"role": choice(ROLES), "suspended": {"type": "boolean"}}
APP: Schema = {
    "suspended": {"type": "boolean", "required": True},
    "reason": text(500, required=True, minlength=1),
}
INVITE: Schema = {"email": EMAIL}

SEARCH: Schema = {"q": text(200, meta="A part of the names.")}
OF_TRAIL: Schema = {
    "owner": text(100, meta="The id of an account: lines that concern it."),
    "action": text(100, meta="An action, such as `version.uploaded`."),
}
INVITATION = shape("Invitation", "email invitation expires_at")


def routes(app: bottle.Bottle) -> None:
    app.get("/admin/developers", callback=developers, scope="admin")
    app.route(
        "/admin/developers/<developer>", method="PATCH", callback=change_developer, scope="admin"
    )
    app.post("/admin/invitations", callback=invite, scope="admin", idempotent="yes")
    app.get("/admin/apps", callback=all_apps, scope="admin")
    app.route("/admin/apps/<app>", method="PATCH", callback=change_app, scope="admin")
    app.get("/admin/audit", callback=trail, scope="admin")


@operation(list_of("developers", people.DEVELOPER), query=SEARCH)
def developers(db: Connection) -> Json:
    """All accounts, newest first; q is a part of the name or address."""
    page = accounts.index(db, read_page(str), bottle.request.query.getunicode("q", ""))
    return listed("developers", page, [people.public(db, each) for each in page.rows])


@operation(people.DEVELOPER, body=DEVELOPER)
def change_developer(db: Connection, caller: Caller, developer: str, body: Json) -> Json:
    """Change an account's role, suspend it, or lift its suspension."""
    accounts.check_another(caller, developer)
    with db.write():
        accounts.get(db, developer)
        if "role" in body:
            accounts.set_role(db, caller, developer, body["role"])
        if "suspended" in body:
            accounts.set_suspended(db, caller, developer, body["suspended"])
        return people.public(db, accounts.get(db, developer))


@operation({201: INVITATION}, body=INVITE, refuses="email_taken")
def invite(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Invite somebody to register. The invitation is mailed, and shown once in the response."""
    ticket, token = account_recovery.invite(env, db, caller, body["email"])
    bottle.response.status = 201
    return {"email": ticket.email, "invitation": token, "expires_at": ticket.expires_at}


@operation(list_of("apps", catalogue.APP), query=SEARCH)
def all_apps(env: Context, db: Connection) -> Json:
    """All apps, newest first; q is a part of the name or package_id."""
    page = apps.all_apps(db, read_page(str), bottle.request.query.getunicode("q", ""))
    return listed("apps", page, catalogue.public_list(env, db, page.rows))


@operation(catalogue.APP, body=APP)
def change_app(env: Context, db: Connection, caller: Caller, app: str, body: Json) -> Json:
    """Suspend an app, or lift its suspension."""
    with db.write():
        found = apps.get(db, app)
        return catalogue.public(
            env, db, apps.set_suspended(db, caller, found, body["suspended"], body["reason"])
        )


@operation(list_of("entries", people.ENTRY), query=OF_TRAIL)
def trail(db: Connection) -> Json:
    """The audit trail, newest line first."""
    query = bottle.request.query
    page = audit.index(
        db, read_page(int), owner_id=query.get("owner") or None, action=query.get("action") or None
    )
    return listed("entries", page, [people.entry(each) for each in page.rows])
