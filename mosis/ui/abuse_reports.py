"""Reports of abuse: the form that everybody can use, and the reviewer's pages."""

from typing import Any

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.publishing import abuse_reports, apps
from mosis.publishing.abuse_reports import REASONS
from mosis.store import listings
from mosis.ui.pages import Page, Section
from mosis.validation import Schema, pattern, text
from mosis.web.abuse_reports import CLOSE, REPORT, STATES, count_report
from mosis.web.plugins import Portal
from mosis.web.request import read_choice

CLOSE_HERE: Schema = CLOSE | {
    "newest": text(15, required=True, regex=pattern(r"[1-9][0-9]*\Z", "This must be a number."))
}


def routes(app: Portal) -> None:
    form = Section(app, "/app/<package_id>/report", scope="visitor", again=show_form)
    form.get("", show_form)
    form.post("", report)
    pages = Section(app, "/console/reports", scope="reviewer", again=show)
    pages.get("", index)
    pages.get("/<app>", show)
    pages.post("/<app>/close", close)


def show_form(db: Connection, page: Page, package_id: str) -> bytes:
    """The form to report an app."""
    return page.render("report_form.tpl", app=listings.get(db, package_id), reasons=REASONS)


def report(env: Context, db: Connection, page: Page, package_id: str) -> HTTPResponse:
    """Report an app to the reviewers."""
    form = page.form.checked(REPORT, trimmed=("text", "email"))
    count_report(env, page.caller)
    abuse_reports.add(env, db, page.caller, package_id, form)
    return page.see_other(f"/app/{package_id}/report", notice="reported")


def index(db: Connection, caller: Caller, page: Page) -> bytes:
    """The apps with open reports."""
    found = abuse_reports.index(db, caller, page.request(int, int))
    return page.render(
        "reports.tpl",
        groups=[
            (group, apps.get(db, group.app_id), abuse_reports.reasons_of(group))
            for group in found.rows
        ],
        next_cursor=found.next_cursor,
    )


def show(db: Connection, caller: Caller, page: Page, app: str) -> bytes:
    """The reports of one app, and the form to decide on those that are shown."""
    found = abuse_reports.for_reviewer(db, caller, app)
    state = str(read_choice("state", *STATES, default="open"))
    reports = abuse_reports.of_app(db, found, page.request(int), state)
    return page.render(
        "report.tpl",
        app=found,
        reports=reports.rows,
        # of the first page: what came later was not read
        newest=max((row.number for row in reports.rows), default=0),
        next_cursor=reports.next_cursor,
        state=state,
        states=STATES,
    )


def close(db: Connection, caller: Caller, page: Page, app: str) -> Any:
    """Dismiss the reports that were read, or suspend the app."""
    form = page.form.checked(CLOSE_HERE, trimmed=("comment",))
    outcome = form["outcome"]
    abuse_reports.close(db, caller, app, outcome, form["comment"], int(form["newest"]))
    return page.see_other("/console/reports", notice=f"reports_{outcome}")
