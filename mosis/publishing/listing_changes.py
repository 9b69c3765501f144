"""Changes of what the store shows of an app: name, summary, description, category, tags and homepage.

Of an app that reviewers have seen, they wait for a reviewer, and the store shows the old values until
then. One change of each app waits at a time: another edit joins it, and its revision grows. A
reviewer decides on the revision that was read.
"""

import json
from collections.abc import Iterable
from typing import Any

from mosis import audit
from mosis.caller import PORTAL, Caller
from mosis.context import Context
from mosis.database import Connection, Record, columns, new_id
from mosis.database.pagination import Page, PageRequest, newest_first, page
from mosis.errors import Conflict
from mosis.publishing import apps, look_alikes, members, review_notices, review_policy, versions
from mosis.publishing.apps import App
from mosis.records import dataclass

FIELDS = apps.LISTED
PERSONS = {"name": "new_name", "homepage": "new_homepage"}  # always need a person, and why
MOST_DECIDED = 20  # decided changes of one app that are stored
APPROVED_BY_POLICY = "Approved by the policy: nothing in it needs a person."


@dataclass(frozen=True)
class ListingChange(Record, table="listing_changes"):
    """A row of `listing_changes`; `fields` and `before` are JSON objects."""

    id: str
    app_id: str
    author_id: str
    state: str
    revision: int
    fields: str
    before: str | None
    because: str
    reasons: str
    comment: str
    submitted_at: str
    updated_at: str
    decided_at: str | None

    @property
    def values(self) -> dict[str, Any]:
        """The new values by field."""
        return dict(json.loads(self.fields))


def change_app(
    env: Context, db: Connection, caller: Caller, app: App, fields: dict[str, Any]
) -> App:
    """Change fields of an app, in the running transaction: those that the store shows become, or
    join, the waiting change if reviewers have seen the app; the others change at once. Raises as
    `apps.change`."""
    listing = {name: value for name, value in fields.items() if name in FIELDS}
    if not listing or not _is_reviewed(db, app):
        return apps.change(db, caller, app, fields)
    others = {name: value for name, value in fields.items() if name not in FIELDS}
    app = apps.change(db, caller, app, others)
    _propose(env, db, caller, app, listing)
    return apps.get(db, app.id)


def waiting(db: Connection, app_id: str) -> ListingChange | None:
    """The change of an app that waits for a reviewer; None if there is none."""
    return latest_and_waiting(db, app_id)[1]


def latest_and_waiting(db: Connection, app_id: str) -> tuple[str | None, ListingChange | None]:
    """The newest published version of an app, and the change that waits for a reviewer."""
    sql = (
        f"SELECT ({versions.LATEST}),"
        " (SELECT id FROM listing_changes WHERE app_id = ? AND state = 'waiting')"
    )
    latest, change_id = db.one(sql, app_id, app_id)
    return latest, get(db, change_id) if change_id else None


def waiting_of(db: Connection, app_ids: list[str]) -> dict[str, ListingChange]:
    """The changes that wait, by app."""
    where = "state = 'waiting' AND app_id IN (SELECT value FROM json_each(?))"
    rows = db.select(ListingChange, where, json.dumps(app_ids))
    return {row.app_id: row for row in rows}


def get(db: Connection, change_id: str, app: App | None = None) -> ListingChange:
    """A change, with `app` only of that app. Raises NotFound."""
    where = "id = ?1 AND (?2 IS NULL OR app_id = ?2)"
    return db.get(ListingChange, where, change_id, app and app.id)


def of_app(db: Connection, app: App, paging: PageRequest) -> Page[ListingChange]:
    """The waiting and the newest decided changes of an app, newest first."""
    return newest_first(db, ListingChange, "app_id = ?1", app.id, paging=paging)


def queue(db: Connection, caller: Caller, paging: PageRequest, state: str) -> Page[ListingChange]:
    """For reviewers, without own apps: `waiting`, longest first, or `decided`, newest first."""
    condition, column, order, beyond, start = (
        ("decided_at IS NOT NULL", "decided_at", "DESC", "<", ("9999", ""))
        if state == "decided"
        else ("state = 'waiting'", "submitted_at", "ASC", ">", ("", ""))
    )
    where = (
        f"{condition} AND author_id <> ?1 AND NOT EXISTS (SELECT 1 FROM app_members m WHERE m.app_id ="
        f" listing_changes.app_id AND m.developer_id = ?1) AND ({column}, id) {beyond} (?2, ?3)"
        f" ORDER BY {column} {order}, id {order} LIMIT ?4"
    )
    rows = db.select(
        ListingChange, where, caller.account, *(paging.after or start), paging.limit + 1
    )
    return page(rows, paging, lambda row: (getattr(row, column), row.id))


def for_reviewer(db: Connection, caller: Caller, change_id: str) -> ListingChange:
    """A change, for a reviewer. Raises NotFound, Denied `forbidden` for the caller's own app."""
    found = get(db, change_id)
    if found.author_id == caller.account or members.role_of(db, found.app_id, caller.account):
        raise members.own_app()
    return found


def differences(change: ListingChange, app: App) -> list[dict[str, Any]]:
    """What changes: `field`, and its value `before` and `after`; tags as lists."""
    old = json.loads(change.before) if change.before else values_of(app)
    return [
        {"field": name, "before": old.get(name), "after": value}
        for name, value in sorted(change.values.items(), key=lambda item: FIELDS.index(item[0]))
    ]


def name_look_alike(db: Connection, change: ListingChange, app: App) -> str | None:
    """The package id of another account's published app whose name the new one is easily taken for."""
    name = change.values.get("name")
    return name and look_alikes.find_name(db, name, app.developer_id)


def first_name_look_alike(db: Connection, app: App) -> str | None:
    """As `name_look_alike`, for a name that is to be published first; None if it was published."""
    return None if app.published else look_alikes.find_name(db, app.name, app.developer_id)


def approve(
    db: Connection, caller: Caller, change_id: str, revision: int, comment: str = ""
) -> ListingChange:
    """Approve a change: the store shows it. Raises Conflict `already_decided` or `listing_edited`,
    Denied `forbidden` for the caller's own app, NotFound."""
    with db.write():
        change = _to_decide(db, caller, change_id, revision)
        return _approve(db, caller, change, caller.account, comment)


def reject(
    db: Connection, caller: Caller, change_id: str, revision: int, reasons: list[str], comment: str
) -> ListingChange:
    """Reject a change, with reasons and a comment for its owners. Raises as `approve`."""
    with db.write():
        change = _to_decide(db, caller, change_id, revision)
        app = apps.get(db, change.app_id)
        _decide(db, change, app, "rejected", caller.account, reasons, comment)
        facts: dict[str, Any] = {"fields": sorted(change.values), "reasons": reasons}
        audit.add(db, caller, "listing.rejected", change.id, owner_id=app.developer_id, **facts)
        members.add_events(db, app.id, "owner", "listing.rejected", comment=comment[:2000], **facts)
        return get(db, change.id)


def withdraw(db: Connection, caller: Caller, change: ListingChange) -> None:
    """Withdraw a waiting change, in the running transaction. Raises Conflict `already_decided`."""
    if not db.change("DELETE FROM listing_changes WHERE id = ? AND state = 'waiting'", change.id):
        raise _decided(get(db, change.id))
    members.note(db, caller, change.app_id, "listing.withdrawn", change.id)
    members.notify(db, change.app_id)


def end_waiting(db: Connection, caller: Caller, developer_id: str) -> None:
    """Withdraw the waiting changes of the apps that belong to an account, in the running transaction."""
    sql = (
        f"SELECT {columns(ListingChange, 'c')} FROM listing_changes c JOIN apps a ON a.id = c.app_id"
        " WHERE c.state = 'waiting' AND a.developer_id = ?"
    )
    rows = db.all(sql, developer_id, into=ListingChange)
    for change in rows:
        withdraw(db, caller, change)


def values_of(app: App) -> dict[str, Any]:
    """What the store shows of an app, by field."""
    return {name: json.loads(app.tags) if name == "tags" else getattr(app, name) for name in FIELDS}


def _is_reviewed(db: Connection, app: App) -> bool:
    """Whether a reviewer has seen the app, or may be looking at it: something of it was published,
    is approved or in review, or a change of it waits. Otherwise an approved app could be renamed
    before it is published."""
    sql = (
        "SELECT 1 FROM versions WHERE app_id = ?1 AND state IN ('in_review', 'approved')"
        " UNION ALL SELECT 1 FROM listing_changes WHERE app_id = ?1 AND state = 'waiting' LIMIT 1"
    )
    return bool(app.published or db.value(sql, app.id))


def _propose(
    env: Context, db: Connection, caller: Caller, app: App, fields: dict[str, Any]
) -> None:
    """Begin the waiting change of an app, or edit it; the policy may approve it at once. An edit
    back to what the store shows withdraws it."""
    found, shown = waiting(db, app.id), values_of(app)
    wanted = (found.values if found else {}) | fields
    wanted = {name: value for name, value in wanted.items() if value != shown[name]}
    if found and not wanted:
        return withdraw(db, caller, found)
    if not wanted or (found and wanted == found.values):
        return None
    because = _reasons_for_review(env, db, app, wanted)
    row = {
        "author_id": caller.account,
        "fields": json.dumps(wanted, ensure_ascii=False),
        "because": json.dumps(because),
        "updated_at": db.now,
    }
    change_id = found.id if found else new_id()
    if found:
        db.update("listing_changes", "id = ?", found.id, revision=found.revision + 1, **row)
    else:
        db.insert("listing_changes", id=change_id, app_id=app.id, submitted_at=db.now, **row)
    action = "listing.edited" if found else "listing.submitted"
    members.note(db, caller, app.id, action, change_id, fields=sorted(wanted))
    members.notify(db, app.id)
    change = get(db, change_id)
    if not because:
        _approve(db, PORTAL, change, None, APPROVED_BY_POLICY)
    elif not found:
        review_notices.announce_listing(db, change.app_id, change_id, because)
    return None


def _reasons_for_review(env: Context, db: Connection, app: App, fields: Iterable[str]) -> list[str]:
    """The reasons why a reviewer must decide; empty if the policy `changes` approves it. The random
    sample depends on the number of the decided change before: editing or withdrawing a change does
    not draw again."""
    if env.config.review_policy == "all":
        return ["policy"]
    last_id, last_state = db.one(
        "SELECT id, state FROM listing_changes WHERE app_id = ? AND decided_at IS NOT NULL"
        # by rowid: ids contain the time, and the clock can be set back
        " ORDER BY rowid DESC LIMIT 1",
        app.id,
    ) or ("", "")
    drawn = review_policy.draw(env.secret, f"listing sample\n{app.id}\n{last_id}")
    why = {
        **{reason: name in fields for name, reason in PERSONS.items()},
        "new_owner": (app.transferred_at or "") > _last_decision(db, app.id),
        "rejected_before": last_state == "rejected",
        "app_suspended": bool(app.suspended),
        "sample": drawn * 100 < env.config.review_sample_percent,
    }
    return [reason for reason, holds in why.items() if holds]


def _last_decision(db: Connection, app_id: str) -> str:
    """When a reviewer has last approved something of an app; empty if none has."""
    sql = (
        "SELECT max(at) FROM (SELECT coalesce(max(r.decided_at), '') AS at FROM reviews r"
        " JOIN versions v ON v.id = r.version_id WHERE v.app_id = ?1 AND r.state = 'approved'"
        " AND r.decided_by IS NOT NULL UNION ALL SELECT coalesce(max(decided_at), '')"
        " FROM listing_changes WHERE app_id = ?1 AND state = 'approved' AND decided_by IS NOT NULL)"
    )
    return str(db.value(sql, app_id))


def _to_decide(db: Connection, caller: Caller, change_id: str, revision: int) -> ListingChange:
    change = for_reviewer(db, caller, change_id)
    if change.state != "waiting":
        raise _decided(change)
    if change.revision != revision:
        detail = (
            f"It was edited since: its revision is {change.revision}. Read it again, then decide."
        )
        raise Conflict("listing_edited", detail, revision=change.revision)
    return change


def _approve(
    db: Connection, caller: Caller, change: ListingChange, reviewer: str | None, comment: str
) -> ListingChange:
    app = apps.get(db, change.app_id)
    _decide(db, change, app, "approved", reviewer, [], comment)
    apps.set_fields(db, app, change.values)
    facts: dict[str, Any] = {"fields": sorted(change.values)}
    audit.add(db, caller, "listing.approved", change.id, owner_id=app.developer_id, **facts)
    if reviewer is not None:
        members.add_events(db, app.id, "owner", "listing.approved", comment=comment[:2000], **facts)
    return get(db, change.id)


def _decide(
    db: Connection,
    change: ListingChange,
    app: App,
    state: str,
    reviewer: str | None,
    reasons: list[str],
    comment: str,
) -> None:
    """Write a decision, and delete all but the newest decided changes of the app."""
    shown = values_of(app)
    db.update(
        "listing_changes",
        "id = ?",
        change.id,
        state=state,
        before=json.dumps({name: shown[name] for name in change.values}, ensure_ascii=False),
        reasons=json.dumps(reasons),
        comment=comment,
        decided_by=reviewer,
        decided_at=db.now,
    )
    sql = (
        "DELETE FROM listing_changes WHERE rowid IN (SELECT rowid FROM listing_changes"
        " WHERE app_id = ? AND decided_at IS NOT NULL ORDER BY rowid DESC LIMIT -1 OFFSET ?)"
    )
    db.change(sql, app.id, MOST_DECIDED)


def _decided(change: ListingChange) -> Conflict:
    detail = f"This change has been decided: {change.state}."
    return Conflict("already_decided", detail, state=change.state)
