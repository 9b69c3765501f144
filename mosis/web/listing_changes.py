"""Listing changes over HTTP, for the owners of an app and for reviewers."""

import json

import bottle

from mosis.caller import Caller
from mosis.database import Connection
from mosis.publishing import apps, listing_changes
from mosis.publishing.apps import App
from mosis.publishing.listing_changes import FIELDS, ListingChange
from mosis.publishing.reviews import REASONS
from mosis.validation import Json, Schema
from mosis.web.request import listed, read_choice, read_page, require_match
from mosis.web.reviews import APPROVE, REJECT
from mosis.web.schemas import (
    TEXT,
    extended_with,
    list_of,
    many,
    one_of,
    only,
    operation,
    shape,
    shown,
)

STATES = ("waiting", "decided")
REVISION: Schema = {"revision": {"type": "integer", "required": True, "min": 1, "max": 1 << 53}}
APPROVE_LISTING: Schema = REVISION | {"comment": APPROVE["comment"]}
REJECT_LISTING: Schema = REVISION | REJECT
_VALUE = {"oneOf": [TEXT, many(str), {"type": "null"}]}
LISTING_CHANGE = shape(
    "ListingChange",
    "id app_id package_id state revision:int changes[] reasons[] comment submitted_at"
    " updated_at decided_at?",
    state=one_of("waiting", "approved", "rejected"),
    changes=shape("", "field before after", field=one_of(*FIELDS), before=_VALUE, after=_VALUE),
    reasons=one_of(*REASONS),
)
FOR_REVIEWERS = extended_with(
    "ListingChangeForReviewers",
    LISTING_CHANGE,
    "because[] author_id developer_id app_status name_look_alike?",
    app_status=one_of(*apps.STATUSES),
)


def routes(app: bottle.Bottle) -> None:
    own, at_desk = "/apps/<app>/listing-changes", "/listing-changes/<change>"
    app.get(own, callback=of_app, scope="apps:read")
    app.get(f"{own}/<change>", callback=show_own, scope="apps:read")
    app.delete(f"{own}/<change>", callback=withdraw, scope="apps:write")
    app.get("/listing-changes", callback=index, scope="reviewer")
    app.get(at_desk, callback=show, scope="reviewer", lane="publishing")
    app.post(f"{at_desk}/approve", callback=approve, scope="reviewer", idempotent="yes")
    app.post(f"{at_desk}/reject", callback=reject, scope="reviewer", idempotent="yes")


@operation(list_of("listing_changes", LISTING_CHANGE))
def of_app(db: Connection, caller: Caller, app: str) -> Json:
    """The waiting and the newest decided changes of an app's listing, newest first."""
    found = apps.with_role(db, caller, app, "viewer")
    page = listing_changes.of_app(db, found, read_page(str))
    return listed("listing_changes", page, [public(each, found) for each in page.rows])


@operation(LISTING_CHANGE)
def show_own(db: Connection, caller: Caller, app: str, change: str) -> Json:
    """One change of an app's listing."""
    found = apps.with_role(db, caller, app, "viewer")
    return public(listing_changes.get(db, change, found), found)


@operation(matches=True, refuses="already_decided")
def withdraw(db: Connection, caller: Caller, app: str, change: str) -> None:
    """Withdraw a change that waits for a reviewer."""
    with apps.changing(db, caller, app, "owner") as found:
        one = listing_changes.get(db, change, found)
        require_match(lambda: public(one, found))
        listing_changes.withdraw(db, caller, one)


@operation(list_of("listing_changes", LISTING_CHANGE), query=only("state", STATES))
def index(db: Connection, caller: Caller) -> Json:
    """Listing changes that wait, longest first, or that are decided, newest first."""
    state = str(read_choice("state", *STATES, default="waiting"))
    page = listing_changes.queue(db, caller, read_page(str, str), state)
    rows = [public(each, apps.get(db, each.app_id)) for each in page.rows]
    return listed("listing_changes", page, rows)


@operation(FOR_REVIEWERS)
def show(db: Connection, caller: Caller, change: str) -> Json:
    """One listing change with everything that a reviewer needs to decide."""
    return for_reviewers(db, listing_changes.for_reviewer(db, caller, change))


@operation(LISTING_CHANGE, body=APPROVE_LISTING, refuses="already_decided listing_edited")
def approve(db: Connection, caller: Caller, change: str, body: Json) -> Json:
    """Approve a revision of a listing change; the store shows it."""
    comment = body.get("comment", "")
    approved = listing_changes.approve(db, caller, change, body["revision"], comment)
    return public(approved, apps.get(db, approved.app_id))


@operation(LISTING_CHANGE, body=REJECT_LISTING, refuses="already_decided listing_edited")
def reject(db: Connection, caller: Caller, change: str, body: Json) -> Json:
    """Reject a revision of a listing change, with reasons and a comment."""
    reasons = [*dict.fromkeys(body["reasons"])]
    rejected = listing_changes.reject(
        db, caller, change, body["revision"], reasons, body["comment"]
    )
    return public(rejected, apps.get(db, rejected.app_id))


def public(change: ListingChange, app: App) -> Json:
    changes = listing_changes.differences(change, app)
    return shown(LISTING_CHANGE, change, package_id=app.package_id, changes=changes)


def for_reviewers(db: Connection, change: ListingChange) -> Json:
    app = apps.get(db, change.app_id)
    return public(change, app) | {
        "because": json.loads(change.because),
        "author_id": change.author_id,
        "developer_id": app.developer_id,
        "app_status": app.status,
        "name_look_alike": listing_changes.name_look_alike(db, change, app),
    }
