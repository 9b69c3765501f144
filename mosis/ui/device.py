"""Approving a device login (RFC 8628)."""

import json

from bottle import HTTPResponse, request

from mosis.context import Context
from mosis.database import Connection
from mosis.people import device_login, second_factor
from mosis.ui.pages import Page, Section
from mosis.validation import Schema, choice
from mosis.web.auth import spend_code
from mosis.web.device_login import APPROVE
from mosis.web.plugins import Portal
from mosis.web.request import spend

DECIDE: Schema = {
    "user_code": APPROVE["user_code"],
    "code": APPROVE["code"],
    "decision": choice(("approve", "deny"), required=True),
}


def routes(app: Portal) -> None:
    pages = Section(app, "/console/device", scope="developer", again=ask)
    pages.get("", show)
    pages.post("", decide)


def show(env: Context, db: Connection, page: Page) -> bytes:
    """The form for a code; with `?code=`, the details of the device login."""
    code = request.query.get("code", "")
    if not code:
        return ask(page)
    spend(env, "guess", page.caller.account)
    login = device_login.find(db, code)
    return page.render(
        "device.tpl",
        login=login,
        scopes=json.loads(login.scopes),
        code=login.user_code,
        second_factor=second_factor.active(db, page.caller.account) is not None,
    )


def ask(page: Page) -> bytes:
    """The form for the code that a device shows."""
    return page.render("device_code.tpl")


def decide(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Approve or deny a device login."""
    form = page.form.checked(DECIDE, trimmed=("user_code",))
    spend(env, "guess", page.caller.account)
    approved = form["decision"] == "approve"
    if "code" in form:
        spend_code(env, page.caller, page.caller.account, form["code"])
    device_login.decide(env, db, page.caller, form["user_code"], approved, form.get("code"))
    return page.see_other("/console/", notice="device_approved" if approved else "device_denied")
