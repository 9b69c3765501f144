"""The review queue and the decisions of reviewers."""

import json
from typing import Any

from mosis import audit, jobs
from mosis.caller import PORTAL, Caller
from mosis.clock import seconds
from mosis.context import Context
from mosis.database import Connection, Record, columns, new_id
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import Conflict, Denied, InvalidState, NotFound
from mosis.jobs import Again
from mosis.publishing import members, releases, review_notices, review_policy, versions
from mosis.publishing.versions import Version
from mosis.records import dataclass

CLAIM_SECONDS = 2 * 3600
REASONS = (
    "malware", "privacy", "permissions", "metadata", "quality", "content", "copyright", "crashes",
    "spam", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Review(Record, table="reviews"):
    """A row of `reviews`: one round of review of one version."""

    id: str
    version_id: str
    state: str
    claimed_by: str | None
    claimed_until: str | None
    reasons: str
    comment: str
    because: str
    submitted_at: str
    decided_at: str | None


def submit(
    env: Context, db: Connection, caller: Caller, version: Version, publish: bool | None = None
) -> Version:
    """Submit a version that is ready for review, or approve it at once if the policy requires no
    review. `publish` says whether it is published once approved; None leaves the choice made at
    the upload. Raises Conflict `invalid_state` or `signing_key_revoked`, Denied `suspended`."""
    with db.write():
        return _submit(env, db, caller, version, publish)


def submit_when_ready(env: Context, version_id: str) -> None:
    """Job of an upload with `?submit=true`. Safe to run twice."""
    with env.db.write() as db:
        version = versions.by_id(db, version_id)
        if version is None or version.state != "ready":
            return
        try:
            _submit(env, db, PORTAL, version)
        except (Conflict, Denied) as refusal:  # permanent: a retry would be refused too
            audit.add(
                db,
                PORTAL,
                "version.submit_refused",
                version.id,
                owner_id=versions.developer_of(db, version),
                why=refusal.code,
            )


def withdraw(db: Connection, caller: Caller, version: Version) -> Version:
    """Withdraw a version before publication; its version string is free. Raises `invalid_state`."""
    with db.write():
        return take_back(db, caller, version)


def take_back(db: Connection, caller: Caller, version: Version, move: str = "withdraw") -> Version:
    """As `withdraw`, in the running transaction."""
    sql = (
        "UPDATE reviews SET state = 'withdrawn', claimed_until = NULL, decided_at = ? WHERE version_id = ?"
        " AND state IN ('waiting', 'claimed')"
    )
    db.change(sql, db.now, version.id)
    nothing_more: dict[str, Any] = {
        "publish_at": None,
        "submit_when_ready": 0,
        "publish_when_approved": 0,
    }
    return versions.move(db, caller, version, move, **nothing_more)


def end_unreleased(db: Connection, caller: Caller, developer_id: str) -> None:
    """Withdraw every version of an account that was never offered to devices, whatever its state
    (also while it is checked or scheduled); in the running transaction."""
    sql = (
        "SELECT v.id FROM versions v JOIN apps a ON a.id = v.app_id WHERE a.developer_id = ?1"
        " AND v.released = 0 AND v.state IN (SELECT value FROM json_each(?2))"
    )
    for (version_id,) in db.all(sql, developer_id, json.dumps(versions.MOVES["end"][0])):
        version = versions.by_id(db, version_id)
        if version is not None:
            take_back(db, caller, version, "end")


def get(db: Connection, review_id: str) -> Review:
    """A review. Raises NotFound."""
    return db.get(Review, "id = ?", review_id)


def for_reviewer(db: Connection, caller: Caller, review_id: str) -> Review:
    """A review, for a reviewer. Raises NotFound, Denied `forbidden` for the caller's own app."""
    review = get(db, review_id)
    _check_impartial(db, caller, version_of(db, review))
    return review


def _check_impartial(db: Connection, caller: Caller, version: Version) -> None:
    """Raises Denied `forbidden` for a reviewer who is a member of the app, or holds the key that
    signed the version: leaving the app before deciding does not help."""
    if members.role_of(db, version.app_id, caller.account) or caller.account == db.value(
        "SELECT developer_id FROM signing_keys WHERE id = ?", version.signing_key_id
    ):
        raise members.own_app()


def version_of(db: Connection, review: Review) -> Version:
    """The version under review. Raises NotFound."""
    version = versions.by_id(db, review.version_id)
    if version is None:
        raise NotFound("review")
    return version


def index(db: Connection, caller: Caller, paging: PageRequest, state: str) -> Page[Review]:
    """The queue, without the caller's own apps: `waiting` and `claimed` by waiting time, longest
    first; `decided` by decision, newest first."""
    states = ("approved", "rejected", "withdrawn") if state == "decided" else (state,)
    column, order, beyond = (
        ("decided_at", "DESC", "<") if state == "decided" else ("submitted_at", "ASC", ">")
    )
    after = paging.after or (("9999", "") if state == "decided" else ("", ""))
    sql = (
        f"SELECT {columns(Review, 'reviews')} FROM reviews JOIN versions ON versions.id = reviews.version_id"
        f" JOIN apps ON apps.id = versions.app_id WHERE reviews.state IN ({', '.join('?' * len(states))})"
        " AND NOT EXISTS (SELECT 1 FROM app_members m WHERE m.app_id = apps.id AND m.developer_id = ?)"
        " AND NOT EXISTS (SELECT 1 FROM signing_keys k WHERE k.id = versions.signing_key_id"
        " AND k.developer_id = ?)"
        f" AND (reviews.{column}, reviews.id) {beyond} (?, ?)"
        f" ORDER BY reviews.{column} {order}, reviews.id {order} LIMIT ?"
    )
    rows = db.all(
        sql, *states, caller.account, caller.account, *after, paging.limit + 1, into=Review
    )
    return page(rows, paging, lambda review: (getattr(review, column), review.id))


def claim(db: Connection, caller: Caller, review: Review) -> Review:
    """Claim a review for two hours, or extend the caller's claim by two hours from now. Raises
    Conflict `already_decided` if it is decided or claimed by another reviewer."""
    with db.write():
        until = db.clock.now(CLAIM_SECONDS)
        claimed = db.change(
            "UPDATE reviews SET state = 'claimed', claimed_by = ?, claimed_until = ? WHERE id = ? AND (state = 'waiting'"
            " OR (state = 'claimed' AND (claimed_by = ? OR claimed_until <= ? OR claimed_until > ?)))",
            caller.account,
            until,
            review.id,
            caller.account,
            db.now,
            db.clock.latest(CLAIM_SECONDS),
        )
        if not claimed:
            raise _taken(db, review)
        jobs.add(
            db,
            "lapse_claim",
            owner=caller.account,
            after_seconds=CLAIM_SECONDS,
            unique_key=f"lapse:{review.id}",
            again=True,
            review_id=review.id,
        )
        audit.add(db, caller, "review.claim", review.id, until=until)
        return get(db, review.id)


def release(db: Connection, caller: Caller, review: Review) -> Review:
    """Return a claimed review to the queue; it keeps its place. Administrators may release the
    claims of others. Raises Conflict `already_decided` if it is decided or claimed by another
    reviewer. A waiting review stays as it is."""
    with db.write():
        sql = (
            "UPDATE reviews SET state = 'waiting', claimed_by = NULL, claimed_until = NULL WHERE id = ? AND state = 'claimed'"
            " AND (claimed_by = ? OR ?)"
        )
        released = db.change(sql, review.id, caller.account, caller.has_role("admin"))
        now = get(db, review.id)
        if not released and now.state != "waiting":
            raise _taken(db, review)
        if released:
            audit.add(db, caller, "review.release", review.id)
        return now


def lapse(env: Context, review_id: str) -> Again | None:
    """Job of a claim: return the review when the claim expires, else wait on. Safe to run twice."""
    with env.db.write() as db:
        sql = (
            "UPDATE reviews SET state = 'waiting', claimed_by = NULL, claimed_until = NULL"
            " WHERE id = ? AND state = 'claimed' AND (claimed_until <= ? OR claimed_until > ?)"
        )
        lapsed = db.change(sql, review_id, db.now, db.clock.latest(CLAIM_SECONDS))
        if lapsed:
            audit.add(db, PORTAL, "review.lapse", review_id)
        until = db.value(
            "SELECT claimed_until FROM reviews WHERE id = ? AND state = 'claimed'", review_id
        )
        return Again(seconds(until) - seconds(db.now)) if until else None


def approve(
    db: Connection, caller: Caller, review: Review, comment: str, *, security: bool = False
) -> Review:
    """Approve a version; `security` marks it as a security release. Raises Conflict
    `already_decided`, Denied for the caller's own app."""
    return _decide(db, caller, review, "approve", [], comment, security=security)


def mark_security(db: Connection, caller: Caller, review: Review, security: bool) -> Review:
    """Mark an approved version as a security release, which no cooldown holds back, or remove the
    mark; in the running transaction. Raises Conflict `invalid_state`, Denied for the caller's own app."""
    version = version_of(db, for_reviewer(db, caller, review.id))
    if bool(version.security) == security:
        return review
    if review.state != "approved":
        detail = f"Only approved versions are marked as security releases; this review is {review.state}."
        raise InvalidState(detail, review.state)
    _mark_security(db, caller, version, security)
    return review


def _mark_security(db: Connection, caller: Caller, version: Version, security: bool) -> None:
    versions.set_columns(db, version.id, security=int(security))
    owner = versions.developer_of(db, version)
    db.notify(owner)
    facts = {"version": version.version, "security": security}
    audit.add(db, caller, "version.security", version.id, owner_id=owner, **facts)


def reject(
    db: Connection, caller: Caller, review: Review, reasons: list[str], comment: str
) -> Review:
    """Reject a version, with reasons and a comment for its developer. Raises as `approve`."""
    return _decide(db, caller, review, "reject", reasons, comment)


def _submit(
    env: Context, db: Connection, caller: Caller, version: Version, publish: bool | None = None
) -> Version:
    wanted = bool(version.publish_when_approved) if publish is None else publish
    releases.check_release(db, env.config, version)
    version = versions.move(
        db, caller, version, "submit", submitted_at=db.now, publish_when_approved=int(wanted)
    )
    because, review_id = review_policy.reasons_for_review(env, db, version), new_id()
    db.insert(
        "reviews",
        id=review_id,
        version_id=version.id,
        submitted_at=db.now,
        because=json.dumps(because),
    )
    if because:
        review_notices.announce(db, version, review_id, because)
        return version
    comment = "Approved by the policy: nothing that needs a person has changed since the last published version."
    db.update("reviews", "id = ?", review_id, state="approved", comment=comment, decided_at=db.now)
    return _approved(db, PORTAL, version, review_id)


def _decide(
    db: Connection,
    caller: Caller,
    review: Review,
    verdict: str,
    reasons: list[str],
    comment: str,
    *,
    security: bool = False,
) -> Review:
    with db.write():
        version = version_of(db, review)
        _check_impartial(db, caller, version)
        decided = db.update(
            "reviews",
            "id = ? AND (state = 'waiting' OR (state = 'claimed' AND (claimed_by = ? OR claimed_until <= ?)))",
            review.id,
            caller.account,
            db.now,
            state=versions.MOVES[verdict][1],
            claimed_until=None,
            reasons=json.dumps(reasons),
            comment=comment,
            decided_by=caller.account,
            decided_at=db.now,
        )
        if not decided:
            raise _taken(db, review)
        if verdict == "approve":
            if security:
                _mark_security(db, caller, version, security)
            _approved(db, caller, version, review.id, comment)
        else:
            facts = {"reasons": reasons, "comment": comment[:2000]}
            versions.move(db, caller, version, verdict, facts=facts, decided_at=db.now)
            audit.add(
                db,
                caller,
                "review.reject",
                review.id,
                owner_id=versions.developer_of(db, version),
                reasons=reasons,
            )
        return get(db, review.id)


def _approved(
    db: Connection, caller: Caller, version: Version, review_id: str, comment: str = ""
) -> Version:
    facts = {"comment": comment[:2000]} if comment else None
    version = versions.move(db, caller, version, "approve", facts=facts, decided_at=db.now)
    audit.add(db, caller, "review.approve", review_id, owner_id=versions.developer_of(db, version))
    if version.publish_when_approved:
        releases.publish_soon(db, version)
    return version


def _taken(db: Connection, review: Review) -> Conflict:
    now = get(db, review.id)
    if now.state == "claimed":
        detail = f"Another reviewer has claimed it until {now.claimed_until}."
        return Conflict("already_decided", detail, state=now.state, claimed_until=now.claimed_until)
    return Conflict(
        "already_decided", f"This review has been decided: {now.state}.", state=now.state
    )
