"""Notifications for reviewers: one for each waiting version, and a digest of those that still wait
after an hour, by mail and webhook."""

from typing import Any

from mosis import events, jobs
from mosis.clock import seconds
from mosis.context import Context
from mosis.database import Connection
from mosis.publishing import members
from mosis.publishing.versions import Version

DIGEST_AFTER_SECONDS = 3600
MOST_IN_DIGEST = 20


def announce(db: Connection, version: Version, review_id: str, because: list[str]) -> None:
    """Notify all reviewers but the app's members of a waiting version; a digest follows."""
    package_id = db.value("SELECT package_id FROM apps WHERE id = ?", version.app_id)
    for reviewer in members.reviewers_of(db, version.app_id):
        events.add(
            db,
            reviewer,
            "review.waiting",
            package_id=package_id,
            version=version.version,
            review=review_id,
            because=because,
        )
    _queue_digest(db)


def announce_listing(db: Connection, app_id: str, change_id: str, because: list[str]) -> None:
    """As `announce`, for a listing change. One that follows another of the same app within an hour,
    which was withdrawn or decided, is only named in the digest."""
    package_id = db.value("SELECT package_id FROM apps WHERE id = ?", app_id)
    for reviewer in members.reviewers_of(db, app_id):
        sql = (
            "SELECT 1 FROM events WHERE developer_id = ? AND kind = 'listing.waiting' AND package_id = ?"
            " AND created_at > ? LIMIT 1"
        )
        if not db.value(sql, reviewer, package_id, db.clock.now(-DIGEST_AFTER_SECONDS)):
            facts: dict[str, Any] = {"listing_change": change_id, "because": because}
            events.add(db, reviewer, "listing.waiting", package_id=package_id, **facts)
    _queue_digest(db)


def _queue_digest(db: Connection) -> None:
    jobs.add(
        db,
        "review_digest",
        after_seconds=DIGEST_AFTER_SECONDS,
        unique_key="review_digest",
        again=True,
    )


def send_digests(env: Context) -> None:
    """Job: notify each reviewer which of the versions and listing changes since the last digest still
    wait. Safe to run twice: the digest itself marks where the next one begins."""
    db = env.db.connection()
    for reviewer in members.reviewers(db):
        with db.write():
            waiting = _waiting(db, reviewer)
            if not waiting:
                continue
            oldest = min(each["submitted_at"] for each in waiting)
            events.add(
                db,
                reviewer,
                "review.digest",
                waiting=len(waiting),
                hours=max(1, round((seconds(db.now) - seconds(oldest)) / 3600)),
                reviews=waiting[:MOST_IN_DIGEST],
            )


def _waiting(db: Connection, reviewer: str) -> list[dict[str, Any]]:
    """What waits for a review and this reviewer was notified of since the last digest."""
    since = "(SELECT coalesce(max(number), 0) FROM events WHERE developer_id = ?1 AND kind = 'review.digest')"
    reviews = db.all(
        "SELECT r.id, e.package_id, e.version, r.submitted_at FROM events e"
        " JOIN reviews r ON r.id = json_extract(e.data, '$.review') AND r.state = 'waiting'"
        f" WHERE e.developer_id = ?1 AND e.kind = 'review.waiting' AND e.number > {since}"
        " ORDER BY e.number",
        reviewer,
    )
    listings = db.all(
        "SELECT c.id, e.package_id, c.submitted_at FROM events e JOIN apps a ON a.package_id = e.package_id"
        " JOIN listing_changes c ON c.app_id = a.id AND c.state = 'waiting'"
        f" WHERE e.developer_id = ?1 AND e.kind = 'listing.waiting' AND e.number > {since}"
        " ORDER BY e.number",
        reviewer,
    )
    of_review = ("review", "package_id", "version", "submitted_at")
    of_listing = ("listing_change", "package_id", "submitted_at")
    return [dict(zip(of_review, row, strict=True)) for row in reviews] + [
        dict(zip(of_listing, row, strict=True)) for row in listings
    ]
