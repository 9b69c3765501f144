"""The operator's page: is all well, what failed, backups, accounts, apps, the audit trail."""

import json
from typing import Any

from bottle import HTTPResponse, request

from mosis import audit, jobs
from mosis.caller import ROLES, Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.operations import doctor, readiness
from mosis.operations.backup import copies, drills
from mosis.people import account_recovery, accounts
from mosis.publishing import apps
from mosis.ui.pages import Page, Section
from mosis.validation import Schema, choice
from mosis.web.admin import APP, INVITE
from mosis.web.plugins import Portal

FEW = PageRequest(10)
SUSPEND: Schema = {"suspended": choice(("yes", "no"), required=True)}
ROLE: Schema = {"role": choice(ROLES, required=True)}
SUSPEND_APP: Schema = SUSPEND | {"reason": APP["reason"]}


def routes(app: Portal) -> None:
    pages = Section(app, "/console/admin", scope="admin", again=show)
    pages.get("", show)
    pages.get("/accounts", show_accounts)
    pages.post("/invitations", invite, again=show_accounts)
    pages.post("/accounts/<developer>/role", set_role, again=show_accounts)
    pages.post("/accounts/<developer>/suspended", suspend, again=show_accounts)
    pages.get("/apps", show_apps)
    pages.post("/apps/<app>/suspended", suspend_app, again=show_apps)
    pages.get("/audit", trail)
    pages.get("/doctor", show_checks, lane="outside")
    pages.post("/jobs/<job>/retry", retry)
    pages.post("/backups", make_copy)
    pages.post("/drill", drill)


def show(env: Context, db: Connection, page: Page) -> bytes:
    """Whether the portal can do its work, what failed, and how old the backups are."""
    found = readiness.look(env)
    return page.render(
        "admin.tpl",
        readiness=found,
        dead=jobs.index(db, FEW, "dead").rows,
        copies=copies.index(env.config, FEW).rows,
        replica=found.replica,
        drill=drills.last_drill(db),
        has_mail=bool(env.config.smtp_url),
        has_proxy=env.config.base_url.startswith("https://"),
        entries=audit.index(db, FEW).rows,
    )


def show_accounts(db: Connection, page: Page, developer: str = "") -> bytes:
    """All accounts, the newest first."""
    query = request.query.getunicode("q", "")[:200]
    found = accounts.index(db, page.request(str), query)
    return page.render(
        "admin_accounts.tpl",
        accounts=found.rows,
        next_cursor=found.next_cursor,
        query=query,
        roles=ROLES,
    )


def invite(env: Context, db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Invite somebody to register."""
    form = page.form.checked(INVITE, trimmed=("email",))
    account_recovery.invite(env, db, caller, form["email"])
    return page.see_other("/console/admin/accounts", notice="invited")


def set_role(db: Connection, caller: Caller, page: Page, developer: str) -> Any:
    """Give an account a role."""
    accounts.check_another(caller, developer)
    form = page.form.checked(ROLE)
    with db.write():
        accounts.get(db, developer)
        accounts.set_role(db, caller, developer, form["role"])
    return page.see_other("/console/admin/accounts", notice="role_set")


def suspend(db: Connection, caller: Caller, page: Page, developer: str) -> Any:
    """Suspend an account, or let it in again."""
    accounts.check_another(caller, developer)
    suspended = page.form.checked(SUSPEND)["suspended"] == "yes"
    with db.write():
        accounts.get(db, developer)
        accounts.set_suspended(db, caller, developer, suspended)
    notice = "suspended" if suspended else "unsuspended"
    return page.see_other("/console/admin/accounts", notice=notice)


def show_apps(db: Connection, page: Page, app: str = "") -> bytes:
    """All apps, the newest first."""
    query = request.query.getunicode("q", "")[:200]
    found = apps.all_apps(db, page.request(str), query)
    return page.render(
        "admin_apps.tpl", apps=found.rows, next_cursor=found.next_cursor, query=query
    )


def suspend_app(db: Connection, caller: Caller, page: Page, app: str) -> HTTPResponse:
    """Suspend an app, or let it back into the store."""
    form = page.form.checked(SUSPEND_APP, trimmed=("reason",))
    suspended = form["suspended"] == "yes"
    with db.write():
        apps.set_suspended(db, caller, apps.get(db, app), suspended, form["reason"])
    notice = "app_suspended" if suspended else "app_unsuspended"
    return page.see_other("/console/admin/apps", notice=notice)


def trail(db: Connection, page: Page) -> bytes:
    """The audit trail, the newest line first."""
    query = request.query
    owner, action = query.get("owner", "")[:100], query.get("action", "")[:100]
    found = audit.index(db, page.request(int), owner_id=owner or None, action=action or None)
    return page.render(
        "admin_audit.tpl",
        entries=[(each, json.dumps(each.facts, ensure_ascii=False)) for each in found.rows],
        next_cursor=found.next_cursor,
        owner=owner,
        action=action,
    )


def show_checks(env: Context, db: Connection, page: Page) -> bytes:
    """The checks of `portal.py doctor`, done now."""
    version = int(db.value("PRAGMA user_version"))
    return page.render("doctor.tpl", lines=[*doctor.examine(env.config, version)])


def retry(db: Connection, caller: Caller, page: Page, job: str) -> HTTPResponse:
    """Run a job once more that was given up."""
    jobs.retry(db, caller, job)
    return page.see_other("/console/admin", notice="job_retried")


def make_copy(db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Have a copy of everything made."""
    copies.request_copy(db, caller.account)
    return page.see_other("/console/admin", notice="copy_asked")


def drill(db: Connection, page: Page) -> HTTPResponse:
    """Have the replica restored and checked."""
    drills.request_drill(db)
    return page.see_other("/console/admin", notice="drill_asked")
