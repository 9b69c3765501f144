"""Pages that links in mails lead to. The token is in the fragment, which browsers do not send: a
script puts it into the form; without scripts the user copies it."""

from typing import Any

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.people import account_recovery, accounts
from mosis.publishing import invitations
from mosis.ui.pages import Page, Section
from mosis.validation import Schema, choice
from mosis.web.account_recovery import FORGOT, RESET, VERIFY
from mosis.web.auth import REGISTER, TICKET
from mosis.web.plugins import Portal
from mosis.web.request import spend

INVITED: Schema = {name: REGISTER[name] for name in ("email", "password", "name")} | {
    "invitation": TICKET
}
JOIN: Schema = {"token": TICKET}
ACCEPT: Schema = JOIN | {"accept": choice(("yes",))}
VERIFY_HERE: Schema = VERIFY | {"claim": choice(("yes",))}


def routes(app: Portal) -> None:
    pages = Section(app, "/console", scope="visitor")
    pages.get("/verify", show_verify)
    pages.post("/verify", verify, again=show_verify, lane="passwords")
    pages.post("/verify/resend", resend, scope="developer")
    pages.get("/reset", show_reset)
    pages.post("/reset/ask", ask, again=show_reset)
    pages.post("/reset", reset, again=show_reset, lane="passwords")
    pages.get("/invitation", show_invitation)
    pages.post("/invitation", accept, again=show_invitation, lane="passwords")
    pages.get("/undo", show_undo)
    pages.post("/undo", undo, again=show_undo)
    pages.get("/join", show_join)
    pages.post("/join", join, again=show_join)
    pages.get("/link", link)


def show_verify(page: Page) -> bytes:
    """The form to verify an e-mail address."""
    return page.render("verify.tpl")


def verify(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Verify an e-mail address, with the session or the password of its account. A new password is
    set only if the user asked for that."""
    form = page.form.checked(VERIFY_HERE, trimmed=("token",))
    spend(env, "sign_in_network", page.caller.network)
    account_recovery.verify(
        env, db, page.caller, form["token"], form.get("password"), claims="claim" in form
    )
    if page.signed_in:
        return page.see_other("/console/", notice="verified")
    return page.see_other("/console/sign-in", notice="verified")


def resend(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Mail the link that verifies the address once more."""
    spend(env, "mail", accounts.folded(accounts.get(db, page.caller.account).email))
    account_recovery.request_verification(db, page.caller)
    return page.see_other("/console/", notice="mailed")


def show_reset(page: Page) -> bytes:
    """The forms to ask for a link that sets a new password, and to set it."""
    return page.render("reset.tpl")


def ask(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Mail a link for a new password; the response discloses nothing about the account."""
    email = page.form.checked(FORGOT, trimmed=("email",))["email"]
    spend(env, "mail_network", page.caller.network)
    spend(env, "mail", accounts.folded(email))
    account_recovery.forgot(db, page.caller, email)
    return page.see_other("/console/sign-in", notice="reset_mailed")


def reset(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Set a new password; every session of the account ends."""
    form = page.form.checked(RESET, trimmed=("token",))
    spend(env, "sign_in_network", page.caller.network)
    account_recovery.reset(env, db, page.caller, form["token"], form["new_password"])
    return page.see_other("/console/sign-in", notice="password_set")


def show_invitation(page: Page) -> bytes:
    """The form to register by invitation."""
    return page.render("invitation.tpl")


def accept(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Register by invitation and sign in."""
    form = page.form.checked(INVITED, trimmed=("email", "name", "invitation"))
    spend(env, "registration", page.caller.network)
    page.sign_in(db, accounts.register(env, db, page.caller, **form))
    return page.see_other("/console/", notice="registered")


def show_undo(page: Page) -> bytes:
    """The form to undo a change of the e-mail address."""
    return page.render("undo.tpl")


def undo(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Give the account its old address back; every session of it ends."""
    token = page.form.checked(JOIN, trimmed=("token",))["token"]
    spend(env, "sign_in_network", page.caller.network)
    account_recovery.undo_email_change(
        env, db, Caller(address=page.caller.address, client=page.caller.client), token
    )
    return page.see_other("/console/sign-in", notice="reset_mailed")


def show_join(page: Page) -> bytes:
    """The form to accept an invitation to work on an app, or an app that is offered."""
    return page.render("join.tpl")


def join(env: Context, db: Connection, page: Page) -> Any:
    """Show what the token is for, or accept it, as the account that has the mail's address."""
    form = page.form.checked(ACCEPT, trimmed=("token",))
    spend(env, "guess", page.caller.account)
    if "accept" in form:
        app = invitations.accept(env, db, page.caller, form["token"])
        return page.see_other(f"/console/apps/{app.package_id}", notice="joined")
    invitation, app = invitations.read(env, db, page.caller, form["token"])
    return page.render(
        "join_offer.tpl",
        app=app,
        invitation=invitation,
        inviter=accounts.get(db, invitation.developer_id).name,
        token=form["token"],
    )


def link(page: Page) -> bytes:
    """The target of links in older mails; a script leads on to the page for the token."""
    return page.render("link.tpl")
