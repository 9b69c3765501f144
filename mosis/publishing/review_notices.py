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
MOST_REVIEWERS = 100  # number of reviewers that are notified
MOST_IN_DIGEST = 20


def announce(db: Connection, version: Version, review_id: str, because: list[str]) -> None:
    """Notify every reviewer but the members of the app that a version waits, in the running
    transaction, and have a digest sent later."""
    package_id = db.value("SELECT package_id FROM apps WHERE id = ?", version.app_id)
    for reviewer in _reviewers(db):
        if members.role_of(db, version.app_id, reviewer) is None:
            events.add(
                db,
                reviewer,
                "review.waiting",
                package_id=package_id,
                version=version.version,
                review=review_id,
                because=because,
            )
    jobs.add(
        db,
        "review_digest",
        after_seconds=DIGEST_AFTER_SECONDS,
        unique_key="review_digest",
        again=True,
    )


def send_digests(env: Context) -> None:
    """Job: notify each reviewer which of the versions since the last digest still wait. Safe to run
    twice: the digest itself marks where the next one begins."""
    db = env.db.connection()
    for reviewer in _reviewers(db):
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


def _reviewers(db: Connection) -> list[str]:
    rows = db.all(
        "SELECT id FROM developers WHERE role IN ('reviewer', 'admin') AND suspended = 0"
        " AND erased_at IS NULL ORDER BY id LIMIT ?",
        MOST_REVIEWERS,
    )
    return [reviewer for (reviewer,) in rows]


def _waiting(db: Connection, reviewer: str) -> list[dict[str, Any]]:
    """The reviews that wait and that this reviewer was notified of since the last digest."""
    rows = db.all(
        "SELECT r.id, e.package_id, e.version, r.submitted_at FROM events e"
        " JOIN reviews r ON r.id = json_extract(e.data, '$.review') AND r.state = 'waiting'"
        " WHERE e.developer_id = ?1 AND e.kind = 'review.waiting' AND e.number >"
        " (SELECT coalesce(max(number), 0) FROM events WHERE developer_id = ?1 AND kind = 'review.digest')"
        " ORDER BY e.number",
        reviewer,
    )
    names = ("review", "package_id", "version", "submitted_at")
    return [dict(zip(names, row, strict=True)) for row in rows]
