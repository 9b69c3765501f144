"""Set-up of the first administrator, by the link that the portal prints at start."""

from bottle import HTTPResponse

from mosis.context import Context
from mosis.database import Connection
from mosis.people import first_administrator
from mosis.ui.pages import Page, Section
from mosis.validation import Schema
from mosis.web.auth import REGISTER
from mosis.web.plugins import Portal
from mosis.web.request import spend

CREATE: Schema = {name: REGISTER[name] for name in ("email", "password", "name")} | {
    "token": {"type": "string", "required": True, "maxlength": 100}
}


def routes(app: Portal) -> None:
    pages = Section(app, "/setup", scope="visitor", again=show)
    pages.get("", show)
    pages.post("", create, lane="passwords")


def show(page: Page) -> bytes:
    """The form to create the first administrator. It does not disclose whether there is one."""
    return page.render("setup.tpl")


def create(env: Context, db: Connection, page: Page) -> HTTPResponse:
    """Create the first administrator and sign in."""
    form = page.form.checked(CREATE, trimmed=("token", "email", "name"))
    spend(env, "sign_in_network", page.caller.network)
    page.sign_in(db, first_administrator.create(env, db, page.caller, **form))
    return page.see_other("/console/", notice="administrator")
