"""Changes of what the store shows of an app: the reviewer's pages, and what the owners see of them."""

import json
from typing import Any

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.database import Connection
from mosis.errors import Conflict
from mosis.people import accounts
from mosis.publishing import apps, line_diff, listing_changes
from mosis.publishing.apps import App
from mosis.publishing.line_diff import Line
from mosis.publishing.listing_changes import FIELDS, ListingChange
from mosis.publishing.reviews import REASONS
from mosis.records import dataclass
from mosis.ui.pages import Page, Section
from mosis.validation import Schema, pattern, text
from mosis.web.listing_changes import STATES
from mosis.web.plugins import Portal
from mosis.web.request import read_choice
from mosis.web.reviews import APPROVE, REJECT

REVISION: Schema = {
    "revision": text(10, required=True, regex=pattern(r"[1-9][0-9]*\Z", "This must be a number."))
}
APPROVE_HERE: Schema = REVISION | {"comment": APPROVE["comment"]}
REJECT_HERE: Schema = REVISION | REJECT


@dataclass(frozen=True)
class Row:
    """A listing change as the queue shows it."""

    change: ListingChange
    app: App
    developer: str
    fields: list[str]
    because: list[str]


def routes(app: Portal) -> None:
    pages = Section(app, "/console/reviews/listings", scope="reviewer", again=show)
    pages.get("", index)
    pages.get("/<change>", show, lane="publishing")
    pages.post("/<change>/approve", approve)
    pages.post("/<change>/reject", reject)


def index(db: Connection, caller: Caller, page: Page) -> bytes:
    """Listing changes that wait or are decided."""
    state = str(read_choice("state", *STATES, default="waiting"))
    found = listing_changes.queue(db, caller, page.request(str, str), state)
    return page.render(
        "listings.tpl",
        listings=[row_of(db, change) for change in found.rows],
        state=state,
        states=STATES,
        next_cursor=found.next_cursor,
    )


def show(db: Connection, caller: Caller, page: Page, change: str) -> bytes:
    """One listing change with everything needed for a decision."""
    found = listing_changes.for_reviewer(db, caller, change)
    row = row_of(db, found)
    return page.render(
        "listing.tpl",
        row=row,
        diffs=diffs_of(found, row.app),
        look_alike=listing_changes.name_look_alike(db, found, row.app),
        reasons=REASONS,
        decided_reasons=json.loads(found.reasons),
        is_open=found.state == "waiting",
    )


def approve(db: Connection, caller: Caller, page: Page, change: str) -> HTTPResponse:
    """Approve the change, as it was when the page was made."""
    form = page.form.checked(APPROVE_HERE, trimmed=("comment",))
    comment = form.get("comment", "")
    listing_changes.approve(db, caller, change, int(form["revision"]), comment)
    return page.see_other("/console/reviews", notice="listing_approved")


def reject(db: Connection, caller: Caller, page: Page, change: str) -> HTTPResponse:
    """Reject the change, with reasons and a comment."""
    form = page.form.checked(REJECT_HERE, trimmed=("comment",), lists=("reasons",))
    reasons = [*dict.fromkeys(form["reasons"])]
    listing_changes.reject(db, caller, change, int(form["revision"]), reasons, form["comment"])
    return page.see_other("/console/reviews", notice="listing_rejected")


def withdraw(db: Connection, caller: Caller, page: Page, app: str) -> HTTPResponse:
    """An owner withdraws the change that was shown."""
    apps.with_role(db, caller, app, "owner")
    form = page.form.checked(REVISION)
    with apps.changing(db, caller, app, "owner") as found:
        change = listing_changes.waiting(db, found.id)
        if change is None:
            raise Conflict("already_decided", "No change waits any more.")
        if change.revision != int(form["revision"]):
            raise Conflict("listing_edited", "It was edited meanwhile: see what waits now.")
        listing_changes.withdraw(db, caller, change)
    return page.see_other(f"/console/apps/{found.package_id}", notice="listing_withdrawn")


def row_of(db: Connection, change: ListingChange) -> Row:
    """A change with what the queue shows of its app."""
    app = apps.get(db, change.app_id)
    developer = accounts.get(db, app.developer_id).name
    fields = [name for name in FIELDS if name in change.values]
    return Row(change, app, developer, fields, json.loads(change.because))


def diffs_of(change: ListingChange, app: App) -> list[tuple[str, list[tuple[Line, str]]]]:
    """Each changed field with the lines of its diff, hidden characters made visible."""
    return [
        (each["field"], _diff(_text(each["before"]), _text(each["after"])))
        for each in listing_changes.differences(change, app)
    ]


def _diff(before: str, after: str) -> list[tuple[Line, str]]:
    found = line_diff.diff(before.encode(), after.encode())
    return [(line, line_diff.shown(line.text)[0]) for line in found.lines]


def _text(value: Any) -> str:
    """A value as lines of text; empty if there is none."""
    text = ", ".join(value) if isinstance(value, list) else value or ""
    return text and text + "\n"
