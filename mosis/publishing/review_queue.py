"""The place of a version in the review queue, and the next step for its developer."""

from mosis.database import Connection
from mosis.publishing.reviews import Review
from mosis.publishing.versions import Version
from mosis.records import dataclass


@dataclass(frozen=True)
class Standing:
    """The place of a version in the review queue. `position` counts from 1 and is None if the
    review is decided. `overtaken_by` is the version that prevents the publication of an approved
    one, because the latter's version_code is not higher, or that is offered to all devices
    instead of a published one."""

    review: Review
    position: int | None
    waiting: int
    median_wait_seconds: int | None
    overtaken_by: str | None = None


def standing(db: Connection, version_id: str) -> Standing | None:
    """The newest review of a version and its place in the queue; None if it was never submitted."""
    review = db.find(Review, "version_id = ? ORDER BY rowid DESC LIMIT 1", version_id)
    if review is None:
        return None
    if review.state not in ("waiting", "claimed"):
        return Standing(
            review,
            None,
            0,
            None,
            _overtaken_by(db, version_id) if review.state == "approved" else None,
        )
    sql = "SELECT count(*) FROM reviews WHERE state IN ('waiting', 'claimed') AND (submitted_at, id) < (?, ?)"
    before = db.value(sql, review.submitted_at, review.id)
    waiting = db.value("SELECT count(*) FROM reviews WHERE state IN ('waiting', 'claimed')")
    return Standing(review, before + 1, waiting, median_wait_seconds(db))


def next_step(
    version: Version,
    standing: Standing | None,
    *,
    suspended: bool = False,
    key_revoked: bool = False,
    planned: str | None = None,
) -> str:
    """A sentence for the developer: what happens next and who has to act. `suspended`: the app is
    suspended; `key_revoked`: the signing key of the version is revoked; `planned`: what the rollout
    plan does next."""
    steps = {
        "checking": "The package is being checked; this usually takes seconds.",
        "failed": "The checks found errors: see findings, fix them and upload the package again.",
        "ready": "The checks found nothing that blocks. Submit it for review.",
        "approved": "Approved. Publish it when you like.",
        "rejected": "A reviewer rejected it: see review.comment, make the changes and upload the package again.",
        "withdrawn": "Withdrawn. Upload a package to go on.",
        "published": f"Published: devices {'on the beta channel ' if version.channel == 'beta' else ''}are offered it.",
        "halted": "Halted: devices that have it keep it, no other is offered it. Publish goes on, yank takes it back.",
        "yanked": "Yanked: it cannot be fetched any more. Unyank brings it back.",
    }
    if key_revoked and version.state in ("ready", "in_review", "approved"):
        return (
            "Its signing key was revoked: withdraw it and upload the package again, signed with an"
            " active key."
        )
    if version.state == "approved" and standing and standing.overtaken_by:
        return (
            f"Approved, but {standing.overtaken_by}, whose version_code is not lower, was published before it: withdraw it and"
            " upload it with a higher version_code."
        )
    if (
        version.state == "approved"
        and version.publish_at
        and version.publish_at == version.decided_at
    ):  # set by releases.publish_soon
        return "Approved. It is being published; this usually takes seconds."
    if version.state == "approved" and version.publish_at:
        return f"Approved. It will be published at {version.publish_at}."
    if version.state == "published" and suspended:
        return "Published, but the operator has suspended the app: no device is offered it. GET /v1/auth/me/audit says why."
    if version.state == "published" and standing and standing.overtaken_by:
        return f"Published; {standing.overtaken_by} is offered instead of it, until that is halted or yanked."
    if version.state == "published" and version.rollout_percent < 100:
        share = f"Published to {version.rollout_percent:g} % of the devices"
        if planned:
            return f"{share}; {planned}."
        return f"{share}; rollout raises the share, and the store's lists show it once everybody is offered it."
    if version.state == "published" and version.channel == "beta":
        return "Published: devices on the beta channel are offered it. The store's lists show stable versions."
    if version.state == "in_review" and standing and standing.position:
        usual = standing.median_wait_seconds
        wait = f", usually about {_duration(usual)}" if usual is not None else ""
        then = (
            " It is published as soon as it is approved." if version.publish_when_approved else ""
        )
        now = (
            "A reviewer is looking at it"
            if standing.review.state == "claimed"
            else "Waiting for a reviewer"
        )
        return f"{now}: {_ordinal(standing.position)} of {standing.waiting}{wait}.{then}"
    return steps.get(version.state, "Waiting for a reviewer.")


def median_wait_seconds(db: Connection) -> int | None:
    """The median time from submission to decision in the last 30 days; None without one."""
    sql = (
        "WITH waits AS (SELECT unixepoch(decided_at) - unixepoch(submitted_at) AS wait FROM reviews"
        " WHERE decided_at > ? AND decided_at <= ? AND state IN ('approved', 'rejected') AND decided_by IS NOT NULL)"
        " SELECT wait FROM waits ORDER BY wait LIMIT 1 OFFSET (SELECT (count(*) - 1) / 2 FROM waits)"
    )
    found: int | None = db.value(sql, db.clock.now(-30 * 24 * 3600), db.clock.now())
    return found


def _overtaken_by(db: Connection, version_id: str) -> str | None:
    found: str | None = db.value(
        "SELECT other.version FROM versions v JOIN versions other ON other.app_id = v.app_id AND other.id <> v.id"
        " WHERE v.id = ?1 AND ((v.state = 'approved' AND other.released = 1 AND other.channel = v.channel"
        " AND other.version_code >= v.version_code) OR (v.state = 'published' AND other.state = 'published'"
        " AND other.channel IN (v.channel, 'stable') AND other.version_code > v.version_code AND other.rollout_percent >= 100))"
        " ORDER BY other.version_code DESC LIMIT 1",
        version_id,
    )
    return found


def _ordinal(number: int) -> str:
    ending = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{ending}"


def _duration(wait_seconds: int) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if wait_seconds >= size:
            count = round(wait_seconds / size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "a minute"
