"""Reports of abuse: anybody can report a published app, and reviewers decide on the reports of an app
together.

Strangers write here without an account, so everything is bounded: reports of one source, of one app,
and in all. Reports of accounts with a verified address have bounds of their own: a flood from
elsewhere neither displaces nor refuses them, and apps that have some are listed first.
"""

import hashlib
import hmac
import json
from typing import Any

from mosis import audit, events
from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection, Record, new_id
from mosis.database.pagination import Page, PageRequest, newest_first, page
from mosis.errors import Conflict, NotFound
from mosis.publishing import apps, members
from mosis.publishing.apps import App
from mosis.records import dataclass

REASONS = (
    "malware", "privacy", "impersonation", "copyright", "illegal", "spam", "broken", "other",
)  # fmt: skip
OUTCOMES = ("dismissed", "suspended")
# Open reports: of one source about one app, of one source, about one app, and in all; the last two each
# for verified accounts and for everybody else.
MOST_OF_SOURCE_AND_APP, MOST_OF_SOURCE, MOST_OF_APP, MOST = 3, 20, 100, 10_000
CLOSED_SECONDS = 90 * 24 * 3600  # how long closed reports stay
OPEN_SECONDS = 365 * 24 * 3600  # and open ones
NOTICES_AN_HOUR = 3  # to one reviewer; the list of reported apps has the rest


@dataclass(frozen=True)
class Report(Record, table="abuse_reports"):
    """A row of `abuse_reports`."""

    number: int
    id: str
    app_id: str
    author_id: str | None
    verified: int
    reason: str
    text: str
    email: str | None
    created_at: str
    closed_at: str | None
    outcome: str | None


@dataclass(frozen=True)
class ReportedApp:
    """The open reports of one app. `sources` counts different networks and accounts; `newest` is the
    number of the newest report: a decision closes the reports up to one that was read."""

    app_id: str
    reports: int
    verified: int
    sources: int
    first_at: str
    last_at: str
    first: int
    newest: int
    reasons: str  # JSON: how many reports give each reason


def add(
    env: Context, db: Connection, caller: Caller, package_id: str, fields: dict[str, Any]
) -> Report:
    """Report a published app. Raises NotFound for any other app, Conflict `limit_reached`."""
    with db.write():
        sql = "SELECT id FROM apps WHERE package_id = ? AND published = 1 AND suspended = 0"
        app_id = db.value(sql, package_id)
        if app_id is None:
            raise NotFound("app")
        author, verified = _author(db, caller)
        source = _source(env, author or caller.client_network)
        is_first = _check_room(db, app_id, source, verified)
        number = db.insert(
            "abuse_reports",
            id=new_id(),
            app_id=app_id,
            author_id=author,
            verified=int(verified),
            source_hash=source,
            reason=fields["reason"],
            text=fields["text"],
            email=fields.get("email"),
            created_at=db.now,
        )
        if is_first:
            _announce(db, app_id, package_id, fields["reason"])
        return db.get(Report, "number = ?", number)


def index(db: Connection, caller: Caller, paging: PageRequest) -> Page[ReportedApp]:
    """The apps with open reports, except the caller's own: first those that verified accounts have
    reported, then by the oldest open report."""
    sql = f"{_GROUPS} HAVING (verified = 0, first) > (?2, ?3) ORDER BY verified = 0, first LIMIT ?4"
    rows = db.all(
        sql, caller.account, *(paging.after or (-1, 0)), paging.limit + 1, into=ReportedApp
    )
    return page(rows, paging, lambda row: (int(not row.verified), row.first))


def of_app(db: Connection, app: App, paging: PageRequest, state: str) -> Page[Report]:
    """The reports of an app that are `open` or `closed`, newest first."""
    condition = "closed_at IS NULL" if state == "open" else "closed_at IS NOT NULL"
    return newest_first(
        db, Report, f"app_id = ?1 AND {condition}", app.id, paging=paging, by="number"
    )


def for_reviewer(db: Connection, caller: Caller, app: str) -> App:
    """An app, for a reviewer. Raises NotFound, Denied `forbidden` for the caller's own app."""
    found = apps.get(db, app)
    if members.role_of(db, found.id, caller.account):
        raise members.own_app()
    return found


def close(db: Connection, caller: Caller, app: str, outcome: str, comment: str, newest: int) -> int:
    """Close the open reports of an app up to the number `newest`, the last one that was read:
    `dismissed`, or `suspended`, which suspends the app; its owners see the comment. Returns how many
    were closed. Raises Conflict `already_decided` if none is open, Denied `forbidden` for the
    caller's own app, NotFound."""
    with db.write():
        found = for_reviewer(db, caller, app)
        sql = (
            "UPDATE abuse_reports SET closed_at = ?, closed_by = ?, outcome = ?"
            " WHERE app_id = ? AND closed_at IS NULL AND number <= ?"
        )
        closed = db.change(sql, db.now, caller.account, outcome, found.id, newest)
        if not closed:
            raise Conflict("already_decided", "These reports have been decided on.", state="closed")
        audit.add(
            db, caller, "reports.closed", found.id, outcome=outcome, reports=closed, comment=comment
        )
        if outcome == "suspended" and not found.suspended:
            apps.set_suspended(db, caller, found, True, comment)
        return closed


def forget(db: Connection, account: str) -> None:
    """Remove what is personal from an erased account's reports, in the running transaction."""
    db.change(
        "UPDATE abuse_reports SET author_id = NULL, email = NULL, text = '(erased)' WHERE author_id = ?1"
        " OR email = (SELECT email FROM developers WHERE id = ?1 AND email_verified = 1) COLLATE NOCASE",
        account,
    )


def sweep(env: Context) -> None:
    """Job, hourly: delete closed reports after 90 days, and open ones after a year."""
    with env.db.write() as db:
        sql = "DELETE FROM abuse_reports WHERE created_at < ?1 OR (created_at < ?2 AND closed_at < ?2)"
        db.change(sql, db.clock.now(-OPEN_SECONDS), db.clock.now(-CLOSED_SECONDS))


_GROUPS = (
    "SELECT r.app_id, count(*) AS reports, sum(r.verified) AS verified,"
    " count(DISTINCT r.source_hash) AS sources, min(r.created_at) AS first_at,"
    " max(r.created_at) AS last_at, min(r.number) AS first, max(r.number) AS newest,"
    " json_group_array(r.reason) AS reasons"
    " FROM abuse_reports r WHERE r.closed_at IS NULL AND NOT EXISTS (SELECT 1 FROM app_members m"
    " WHERE m.app_id = r.app_id AND m.developer_id = ?1) GROUP BY r.app_id"
)


def reasons_of(group: ReportedApp) -> dict[str, int]:
    """How many reports give each reason."""
    given = json.loads(group.reasons)
    return {reason: given.count(reason) for reason in REASONS if reason in given}


def _author(db: Connection, caller: Caller) -> tuple[str | None, bool]:
    """The account signed in with a session of all rights, and whether its address is verified."""
    if caller.developer_id is None or caller.session_id is None or caller.scopes is not None:
        return None, False
    verified = db.value("SELECT email_verified FROM developers WHERE id = ?", caller.account)
    return caller.account, bool(verified)


def _source(env: Context, name: str) -> str:
    return hmac.digest(env.secret.encode(), f"report\n{name}".encode(), hashlib.sha256).hex()[:32]


def _check_room(db: Connection, app_id: str, source: str, verified: bool) -> bool:
    """Whether this is the first open report of the app. Raises Conflict `limit_reached`."""
    sql = (
        "SELECT count(*), coalesce(sum(app_id = ?), 0) FROM abuse_reports"
        " WHERE source_hash = ? AND closed_at IS NULL"
    )
    of_source, of_both = db.one(sql, app_id, source)
    sql = (
        "SELECT count(*), coalesce(sum(verified = ?), 0) FROM abuse_reports"
        " WHERE app_id = ? AND closed_at IS NULL"
    )
    of_app, of_class = db.one(sql, int(verified), app_id)
    if of_both >= MOST_OF_SOURCE_AND_APP or of_source >= MOST_OF_SOURCE:
        detail = "There are open reports from here already; a reviewer will read them."
        raise Conflict("limit_reached", detail)
    in_all = "SELECT count(*) FROM abuse_reports WHERE closed_at IS NULL AND verified = ?"
    if of_class >= MOST_OF_APP or db.value(in_all, int(verified)) >= MOST:
        raise Conflict(
            "limit_reached",
            "There are many open reports already, and reviewers see them. Sign in with an account"
            " whose address is verified to add one.",
        )
    return not of_app


def _announce(db: Connection, app_id: str, package_id: str, reason: str) -> None:
    """Notify every reviewer but the members of the app, a few times an hour."""
    for reviewer in members.reviewers_of(db, app_id):
        sql = (
            "SELECT count(*) FROM events WHERE developer_id = ? AND kind = 'report.waiting'"
            " AND created_at > ?"
        )
        lately = db.value(sql, reviewer, db.clock.now(-3600))
        if lately < NOTICES_AN_HOUR:
            events.add(db, reviewer, "report.waiting", package_id=package_id, reason=reason)
