"""Proven publishers: accounts with a record of releases that reviewers have approved. The review
policy `changes` requires fewer reviews of their versions.

The record belongs to the account that signed the packages, so it does not move with a transferred
app, and a stolen session or API key does not inherit it: the key of the new version must be known
too.
"""

from mosis.context import Context
from mosis.database import Connection
from mosis.publishing.versions import Version

DAY = 24 * 3600
RECORD_DAYS = 90  # the record must go back this far
CLEAN_DAYS = 180  # and there must be no offence since
KEY_DAYS = 30  # age of the approval of an earlier package signed with the key


def is_proven(env: Context, db: Connection, version: Version) -> bool:
    """Whether the account that signed this version is a proven publisher; docs/OPERATIONS.md lists
    the conditions. Always false with REVIEW_PROVEN_RELEASES=0."""
    least = env.config.review_proven_releases
    if not least:
        return False
    signer = db.value("SELECT developer_id FROM signing_keys WHERE id = ?", version.signing_key_id)
    releases, first = db.one(
        "SELECT count(DISTINCT v.id), min(r.decided_at) FROM versions v JOIN reviews r ON r.version_id = v.id"
        " JOIN signing_keys k ON k.id = v.signing_key_id WHERE k.developer_id = ? AND v.released = 1"
        " AND r.state = 'approved' AND r.decided_by IS NOT NULL",
        signer,
    )
    if releases < least or first > db.clock.now(-RECORD_DAYS * DAY):
        return False
    key_is_known = db.value(
        "SELECT 1 FROM versions v JOIN reviews r ON r.version_id = v.id WHERE v.signing_key_id = ?"
        " AND v.released = 1 AND r.state = 'approved' AND r.decided_by IS NOT NULL AND r.decided_at <= ?",
        version.signing_key_id,
        db.clock.now(-KEY_DAYS * DAY),
    )
    return bool(key_is_known) and not _has_offended(db, signer)


def _has_offended(db: Connection, account: str) -> bool:
    """Whether a version that the account signed was rejected lately, or an app of it is suspended."""
    return db.has(
        "SELECT 1 FROM versions v JOIN signing_keys k ON k.id = v.signing_key_id JOIN apps a ON a.id = v.app_id"
        " LEFT JOIN reviews r ON r.version_id = v.id AND r.state = 'rejected' AND r.decided_at > ?2"
        " WHERE k.developer_id = ?1 AND (r.id IS NOT NULL OR a.suspended = 1) LIMIT 1",
        account,
        db.clock.now(-CLEAN_DAYS * DAY),
    )
