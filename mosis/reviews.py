"""The review queue: versions that wait for a person, and the verdicts."""

import json
from dataclasses import dataclass
from typing import Any

from mosis import audit, versions
from mosis.callers import PORTAL, Caller
from mosis.db import Connection, columns, new_id
from mosis.environment import Environment
from mosis.errors import Conflict, Denied, NotFound
from mosis.pages import Page, Wanted, page
from mosis.versions import Version

REASONS = ("malware", "privacy", "permissions", "metadata", "quality", "content", "copyright", "crashes", "spam", "other")


@dataclass(frozen=True)
class Review:
    """One round of review of one version."""

    id: str
    version_id: str
    state: str
    claimed_by: str | None
    claimed_until: str | None
    reasons: str
    comment: str
    submitted_at: str
    decided_at: str | None


@dataclass(frozen=True)
class Standing:
    """Where a version stands in the queue. `position` counts from 1, None when nobody is waited for."""

    review: Review
    position: int | None
    waiting: int
    median_wait_seconds: int | None


def submit(db: Connection, caller: Caller, version: Version) -> Version:
    """Put a version that is ready into the queue. Raises Conflict `invalid_state`."""
    with db.write():
        return _submit(db, caller, version)


def submit_when_ready(env: Environment, version_id: str) -> None:
    """The job behind `?submit=true`. Twice does no harm."""
    db = env.db.connection()
    with db.write():
        version = versions.by_id(db, version_id)
        if version and version.state == "ready":
            _submit(db, PORTAL, version)


def withdraw(db: Connection, caller: Caller, version: Version) -> Version:
    """Take a version back that was never published; its version string is free again. Raises Conflict `invalid_state`."""
    with db.write():
        db.change(
            "UPDATE reviews SET state = 'withdrawn', claimed_until = NULL, decided_at = ? WHERE version_id = ?"
            " AND state IN ('waiting', 'claimed')", db.now, version.id,
        )
        return versions.move(db, caller, version, "withdraw", publish_at=None)


def get(db: Connection, review_id: str) -> Review:
    """A review. Raises NotFound."""
    found: Review | None = db.one(f"SELECT {columns(Review)} FROM reviews WHERE id = ?", review_id, into=Review)
    if found is None:
        raise NotFound("review")
    return found


def index(db: Connection, wanted: Wanted, state: str) -> Page[Review]:
    """The queue: `waiting` and `claimed` with the longest wait first, `decided` with the newest verdict first."""
    states = ("approved", "rejected", "withdrawn") if state == "decided" else (state,)
    among, after = json.dumps(states), wanted.after or (None, None)
    column, order, beyond = ("decided_at", "DESC", "<") if state == "decided" else ("submitted_at", "ASC", ">")
    rows = db.all(
        f"SELECT {columns(Review)} FROM reviews WHERE state IN (SELECT value FROM json_each(?1))"
        f" AND (?2 IS NULL OR ({column}, id) {beyond} (?2, ?3)) ORDER BY {column} {order}, id {order} LIMIT ?4",
        among, *after, wanted.limit + 1, into=Review,
    )
    return page(rows, wanted, lambda review: (getattr(review, column), review.id))


def approve(db: Connection, caller: Caller, review: Review, comment: str) -> Review:
    """Let a version be published. Raises Conflict `already_decided`, Denied for one's own app."""
    return _decide(db, caller, review, "approve", [], comment)


def reject(db: Connection, caller: Caller, review: Review, reasons: list[str], comment: str) -> Review:
    """Refuse a version, with reasons and a comment for its developer. Raises as `approve`."""
    return _decide(db, caller, review, "reject", reasons, comment)


def standing(db: Connection, version_id: str) -> Standing | None:
    """The newest review of a version and its place in the queue; None when it was never submitted."""
    review: Review | None = db.one(
        f"SELECT {columns(Review)} FROM reviews WHERE version_id = ? ORDER BY id DESC LIMIT 1", version_id, into=Review
    )
    if review is None:
        return None
    if review.state not in ("waiting", "claimed"):
        return Standing(review, None, 0, None)
    before = db.value(
        "SELECT count(*) FROM reviews WHERE state IN ('waiting', 'claimed') AND (submitted_at, id) < (?, ?)",
        review.submitted_at, review.id,
    )
    waiting = db.value("SELECT count(*) FROM reviews WHERE state IN ('waiting', 'claimed')")
    return Standing(review, before + 1, waiting, median_wait_seconds(db))


def next_step(version: Version, standing: Standing | None) -> str:
    """What happens next and who has to do it, in words: nobody is left guessing why something is not visible."""
    steps = {
        "checking": "The package is being checked; this usually takes seconds.",
        "failed": "The checks found errors: see findings, mend them and upload the package again.",
        "ready": "The checks found nothing that blocks. Submit it for review.",
        "approved": "Approved. Publish it when you like.",
        "rejected": "A reviewer rejected it: see review.comment, mend it and upload the package again.",
        "withdrawn": "Withdrawn. Upload a package to go on.",
        "published": "Published: devices are offered it.",
        "halted": "Halted: devices that have it keep it, no other is offered it. Publish goes on, yank takes it back.",
        "yanked": "Yanked: it cannot be fetched any more. Unyank brings it back.",
    }
    if version.state == "approved" and version.publish_at:
        return f"Approved. It will be published at {version.publish_at}."
    if version.state == "published" and version.rollout_percent < 100:
        return f"Published to {version.rollout_percent:g} % of the devices; rollout raises the share."
    if version.state == "in_review" and standing and standing.position:
        usual = standing.median_wait_seconds
        wait = f", usually about {_duration(usual)}" if usual is not None else ""
        return f"Waiting for a reviewer: {_ordinal(standing.position)} of {standing.waiting}{wait}."
    return steps.get(version.state, "Waiting for a reviewer.")


def median_wait_seconds(db: Connection) -> int | None:
    """The median time from submission to verdict over the last 30 days; None when there was none."""
    found: int | None = db.value(
        "WITH waits AS (SELECT unixepoch(decided_at) - unixepoch(submitted_at) AS wait FROM reviews"
        " WHERE decided_at > ? AND state IN ('approved', 'rejected') AND decided_by IS NOT NULL)"
        " SELECT wait FROM waits ORDER BY wait LIMIT 1 OFFSET (SELECT (count(*) - 1) / 2 FROM waits)",
        db.database.clock.now(-30 * 24 * 3600),
    )
    return found


def _submit(db: Connection, caller: Caller, version: Version) -> Version:
    version = versions.move(db, caller, version, "submit", submitted_at=db.now)
    db.insert("reviews", id=new_id(), version_id=version.id, submitted_at=db.now)
    return version


def _decide(db: Connection, caller: Caller, review: Review, verdict: str, reasons: list[str], comment: str) -> Review:
    with db.write():
        version = versions.by_id(db, review.version_id)
        if version is None:
            raise NotFound("review")
        if versions.developer_of(db, version) == caller.account:
            raise Denied("forbidden", "Nobody decides on an app of their own.")
        values: dict[str, Any] = {
            "state": versions.MOVES[verdict][1], "claimed_until": None, "reasons": json.dumps(reasons), "comment": comment,
            "decided_by": caller.account, "decided_at": db.now,
        }
        decided = db.change(
            f"UPDATE reviews SET {', '.join(f'{column} = ?' for column in values)} WHERE id = ? AND (state = 'waiting' OR"
            " (state = 'claimed' AND (claimed_by = ? OR claimed_until <= ?)))", *values.values(), review.id, caller.account, db.now,
        )
        if not decided:
            state = get(db, review.id).state
            detail = "Another reviewer has claimed it." if state == "claimed" else f"This review has been decided: {state}."
            raise Conflict("already_decided", detail, state=state)
        versions.move(db, caller, version, verdict, decided_at=db.now)
        audit.add(db, caller, f"review.{verdict}", review.id, owner_id=versions.developer_of(db, version), reasons=reasons)
        return get(db, review.id)


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _duration(wait_seconds: int) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if wait_seconds >= size:
            count = round(wait_seconds / size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "a minute"
