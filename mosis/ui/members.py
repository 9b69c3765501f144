"""The members of an app: invitations, roles, leaving, and the transfer to another account."""

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.publishing import apps, invitations, members
from mosis.publishing.members import ROLES
from mosis.ui.pages import Page, Section
from mosis.validation import Schema
from mosis.web.members import CHANGE, INVITE, OFFER, check_mail
from mosis.web.plugins import Portal

ALL = PageRequest(100)  # an app has at most 20 members and 20 open invitations
# a name of its own: the page has two forms with an address
OFFER_HERE: Schema = {"to": OFFER["email"]}


def routes(app: Portal) -> None:
    pages = Section(app, "/console/apps/<app>", scope="developer", again=show)
    pages.get("/members", show)
    pages.post("/members", invite)
    pages.post("/members/<member>/role", change)
    pages.post("/members/<member>/remove", remove)
    pages.post("/invitations/<invitation>/cancel", cancel)
    pages.post("/transfer", offer)


def show(db: Connection, caller: Caller, page: Page, app: str) -> bytes:
    """Who works on an app, and, for its owners, who is invited."""
    found = apps.with_role(db, caller, app, "viewer")
    role = members.role_of(db, found.id, caller.account)
    is_owner = role == "owner"
    return page.render(
        "members.tpl",
        app=found,
        role=role,
        roles=ROLES,
        members=members.index(db, found.id, ALL).rows,
        invitations=invitations.index(db, found, ALL).rows if is_owner else [],
    )


def invite(env: Context, db: Connection, caller: Caller, page: Page, app: str) -> HTTPResponse:
    """Invite the owner of a mailbox."""
    apps.with_role(db, caller, app, "owner")
    form = page.form.checked(INVITE, trimmed=("email",))
    check_mail(env, db, caller, form["email"])
    with apps.changing(db, caller, app, "owner") as found:
        invitations.send(db, caller, found, form["email"], form["role"])
    return _back(page, found.package_id, "member_invited")


def change(db: Connection, caller: Caller, page: Page, app: str, member: str) -> HTTPResponse:
    """Give a member another role."""
    apps.with_role(db, caller, app, "owner")
    role = page.form.checked(CHANGE)["role"]
    with apps.changing(db, caller, app, "owner") as found:
        members.change(db, caller, members.get(db, found.id, member), role)
    return _back(page, found.package_id, "member_changed")


def remove(db: Connection, caller: Caller, page: Page, app: str, member: str) -> HTTPResponse:
    """Remove a member, or leave the app."""
    leaves = member == caller.account
    with apps.changing(db, caller, app, "viewer" if leaves else "owner") as found:
        members.remove(db, caller, members.get(db, found.id, member))
    if leaves:
        return page.see_other("/console/", notice="app_left")
    return _back(page, found.package_id, "member_removed")


def cancel(db: Connection, caller: Caller, page: Page, app: str, invitation: str) -> HTTPResponse:
    """Cancel an open invitation or offer."""
    with apps.changing(db, caller, app, "owner") as found:
        invitations.cancel(db, caller, invitations.get(db, found, invitation))
    return _back(page, found.package_id, "invitation_cancelled")


def offer(env: Context, db: Connection, caller: Caller, page: Page, app: str) -> HTTPResponse:
    """Offer the app to the owner of a mailbox."""
    apps.with_role(db, caller, app, "owner")
    form = page.form.checked(OFFER_HERE, trimmed=("to",))
    check_mail(env, db, caller, form["to"])
    with apps.changing(db, caller, app, "owner") as found:
        invitations.offer(db, caller, found, form["to"])
    return _back(page, found.package_id, "app_offered")


def _back(page: Page, package_id: str, notice: str) -> HTTPResponse:
    return page.see_other(f"/console/apps/{package_id}/members", notice=notice)
