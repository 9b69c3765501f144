"""Reports of abuse over HTTP: from anybody, and at the review desk."""

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.publishing import abuse_reports, apps
from mosis.publishing.abuse_reports import OUTCOMES, REASONS, ReportedApp
from mosis.validation import Json, Schema, choice, required_text
from mosis.web.auth import EMAIL
from mosis.web.request import listed, read_choice, read_page, spend
from mosis.web.schemas import each, list_of, one_of, only, operation, shape, shown

REPORT: Schema = {
    "reason": choice(REASONS, required=True),
    "text": required_text(2000),
    "email": {name: rule for name, rule in EMAIL.items() if name != "required"},
}
CLOSE: Schema = {
    "outcome": choice(OUTCOMES, required=True),
    "comment": required_text(500),
    "newest": {"type": "integer", "required": True, "min": 1, "max": (1 << 53) - 1},
}
STATES = ("open", "closed")
RECEIVED = shape("AbuseReportReceived", "package_id reason received_at", reason=one_of(*REASONS))
REPORTED_APP = shape(
    "ReportedApp",
    "app_id package_id name app_status reports:int verified:int sources:int reasons"
    " first_at last_at newest:int",
    app_status=one_of(*apps.STATUSES),
    reasons=each(int),
)
ABUSE_REPORT = shape(
    "AbuseReport",
    "id number:int reason text email? verified:bool created_at closed_at? outcome?",
    reason=one_of(*REASONS),
    outcome=one_of(*OUTCOMES),
)
CLOSED = shape("ClosedReports", "closed:int app_status", app_status=one_of(*apps.STATUSES))


def routes(app: bottle.Bottle) -> None:
    app.post("/store/apps/<package_id>/reports", callback=report, scope="public", idempotent="yes")
    app.get("/reports", callback=index, scope="reviewer")
    app.get("/reports/<app>", callback=of_app, scope="reviewer")
    app.post("/reports/<app>/close", callback=close, scope="reviewer", idempotent="yes")


@operation({202: RECEIVED}, body=REPORT, refuses="limit_reached")
def report(env: Context, db: Connection, caller: Caller, package_id: str, body: Json) -> Json:
    """Report an app to the reviewers."""
    count_report(env, caller)
    made = abuse_reports.add(env, db, caller, package_id, body)
    bottle.response.status = 202
    return {"package_id": package_id, "reason": made.reason, "received_at": made.created_at}


@operation(list_of("apps", REPORTED_APP))
def index(db: Connection, caller: Caller) -> Json:
    """The apps with open reports: first those that verified accounts have reported, then the longest
    wait."""
    page = abuse_reports.index(db, caller, read_page(int, int))
    return listed("apps", page, [public(db, group) for group in page.rows])


@operation(list_of("reports", ABUSE_REPORT), query=only("state", STATES))
def of_app(db: Connection, caller: Caller, app: str) -> Json:
    """The reports of an app, newest first."""
    found = abuse_reports.for_reviewer(db, caller, app)
    state = str(read_choice("state", *STATES, default="open"))
    page = abuse_reports.of_app(db, found, read_page(int), state)
    return listed("reports", page, [shown(ABUSE_REPORT, row) for row in page.rows])


@operation(CLOSED, body=CLOSE, refuses="already_decided")
def close(db: Connection, caller: Caller, app: str, body: Json) -> Json:
    """Close the reports of an app that were read: dismiss them, or suspend the app."""
    closed = abuse_reports.close(db, caller, app, body["outcome"], body["comment"], body["newest"])
    return {"closed": closed, "app_status": apps.get(db, app).status}


def count_report(env: Context, caller: Caller) -> None:
    """Count a report of an account, or of a network where nobody is signed in. Raises LimitReached."""
    spend(env, "abuse_reports", caller.developer_id or caller.client_network)


def public(db: Connection, group: ReportedApp) -> Json:
    app = apps.get(db, group.app_id)
    return shown(
        REPORTED_APP,
        group,
        package_id=app.package_id,
        name=app.name,
        app_status=app.status,
        reasons=abuse_reports.reasons_of(group),
    )
