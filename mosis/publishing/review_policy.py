"""Differences between a version and the last published one, and the policy that decides by them
whether a review is needed.

Of proven publishers, accounts with a record of releases that reviewers have approved, the policy
`changes` requires fewer reviews. The record belongs to the account that signed the packages, so it
does not move with a transferred app, and a stolen session or API key does not inherit it: the key of
the new version must be known too.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from mosis.clock import DAY
from mosis.context import Context
from mosis.database import Connection
from mosis.packages.manifest import DANGEROUS_PERMISSIONS
from mosis.publishing import versions
from mosis.publishing.versions import Version
from mosis.records import dataclass

# Findings that repeat `permissions_added`, or that every first version has.
_OF_CIRCUMSTANCE = ("permission_new", "first_app", "look_alike")


@dataclass(frozen=True)
class Changes:
    """The differences; without an earlier published version `since` is None, and all is added."""

    since: Version | None
    permissions_added: list[str]
    permissions_removed: list[str]
    files_added: list[dict[str, Any]]
    files_removed: list[dict[str, Any]]
    files_changed: list[dict[str, Any]]
    findings_added: list[dict[str, Any]]
    findings_gone: list[dict[str, Any]]


def since_last_published(db: Connection, version: Version) -> Changes:
    """The differences between this version and the last published one."""
    before = versions.last_published(db, version)
    asked, asked_before = (
        set(json.loads(version.permissions)),
        set(json.loads(before.permissions) if before else ()),
    )
    files, files_before = _files(db, version), _files(db, before) if before else {}
    found, found_before = _findings(version), _findings(before) if before else {}
    return Changes(
        before,
        sorted(asked - asked_before),
        sorted(asked_before - asked),
        [
            {"path": name, "size_bytes": files[name]["size_bytes"]}
            for name in sorted(files.keys() - files_before.keys())
        ],
        [
            {"path": name, "size_bytes": files_before[name]["size_bytes"]}
            for name in sorted(files_before.keys() - files.keys())
        ],
        [
            {
                "path": name,
                "size_bytes": files[name]["size_bytes"],
                "size_bytes_before": files_before[name]["size_bytes"],
            }
            for name in sorted(files.keys() & files_before.keys())
            if files[name]["sha256"] != files_before[name]["sha256"]
        ],
        [found[key] for key in found if key not in found_before],
        [found_before[key] for key in found_before if key not in found],
    )


def reasons_for_review(env: Context, db: Connection, version: Version) -> list[str]:
    """The reasons why a reviewer must decide on this version; empty if the policy `changes`
    approves it.

    The random sample is chosen by a keyed hash of app and version string: reproducible, but not
    predictable without the secret. Submitting the version again, or withdrawing a sampled version
    and submitting it under another version string, does not avoid the review.
    """
    if env.config.review_policy == "all":
        return ["policy"]
    changes = since_last_published(db, version)
    proven = is_proven(env, db, version)
    sampled = drawn(env.secret, version) * 100 < env.config.review_sample_percent
    if changes.since is None:
        if proven and _is_harmless(db, version, changes):
            return ["sample"] if sampled else []
        return ["first_version"]
    transferred_at = db.value("SELECT transferred_at FROM apps WHERE id = ?", version.app_id)
    why = {
        "new_owner": (transferred_at or "") >= (changes.since.decided_at or "9999"),
        "new_permissions": bool(changes.permissions_added)
        if not proven
        else _wants_dangerous(changes),
        "new_findings": bool(changes.findings_added),
        "rejected_before": _reviewed_since(db, changes.since, "rejected"),
        "sample": sampled or _reviewed_since(db, changes.since, "withdrawn", "sample"),
    }
    return [reason for reason, holds in why.items() if holds]


def _wants_dangerous(changes: Changes) -> bool:
    return bool(set(changes.permissions_added) & set(DANGEROUS_PERMISSIONS))


def _is_harmless(db: Connection, version: Version, changes: Changes) -> bool:
    """Whether the first version of an app asks for no dangerous permission, its checks found nothing
    worth a warning, and no earlier one was rejected or withdrawn from a review."""
    warnings = [each for each in json.loads(version.findings) if each["severity"] != "info"]
    reviewed = db.value(
        "SELECT 1 FROM reviews r JOIN versions v ON v.id = r.version_id WHERE v.app_id = ?"
        " AND r.state IN ('rejected', 'withdrawn') LIMIT 1",
        version.app_id,
    )
    return not warnings and not reviewed and not _wants_dangerous(changes)


def drawn(secret: str, version: Version) -> float:
    """A pseudorandom number from 0 (included) to 1 (excluded) that is fixed for each version and
    cannot be computed without the secret."""
    return draw(secret, f"review sample\n{version.app_id}\n{version.version}")


def draw(secret: str, message: str) -> float:
    """A pseudorandom number in [0, 1) for this text, unknown to all without the secret."""
    digest = hmac.digest(secret.encode(), message.encode(), hashlib.sha256)
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def _reviewed_since(
    db: Connection, published: Version, state: str, reason: str | None = None
) -> bool:
    """Whether a review of the app ended in this state after the decision on the last published
    version. The decision counts, not the publication: otherwise a developer could hold back an
    approved version and publish it to hide a later rejection."""
    sql = (
        "SELECT 1 FROM reviews JOIN versions ON versions.id = reviews.version_id"
        " WHERE versions.app_id = ?1 AND reviews.state = ?2"
        " AND reviews.decided_at >= ?3 AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(because) WHERE value = ?4)) LIMIT 1"
    )
    return db.has(sql, published.app_id, state, published.decided_at, reason)


def _files(db: Connection, version: Version) -> dict[str, dict[str, Any]]:
    """The files of a package without META-INF, which differs in every package."""
    return {
        name: each
        for name, each in versions.files_of(db, version).items()
        if not name.startswith("META-INF/")
    }


def _findings(version: Version) -> Mapping[tuple[str, str | None, str], dict[str, Any]]:
    """Findings by code, path and detail. A finding that only moved to another line is the same one;
    a second of its kind in the same file is not."""
    found = [each for each in json.loads(version.findings) if each["code"] not in _OF_CIRCUMSTANCE]
    return {
        (each["code"], each["path"], "" if each["code"] == "long_line" else each["detail"]): each
        for each in found
    }


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
    sql = (
        "SELECT 1 FROM versions v JOIN reviews r ON r.version_id = v.id WHERE v.signing_key_id = ?"
        " AND v.released = 1 AND r.state = 'approved' AND r.decided_by IS NOT NULL AND r.decided_at <= ?"
    )
    key_is_known = db.value(sql, version.signing_key_id, db.clock.now(-KEY_DAYS * DAY))
    return bool(key_is_known) and not _has_offended(db, signer)


def _has_offended(db: Connection, account: str) -> bool:
    """Whether a version that the account signed was rejected lately, or an app of it is suspended."""
    sql = (
        "SELECT 1 FROM versions v JOIN signing_keys k ON k.id = v.signing_key_id JOIN apps a ON a.id = v.app_id"
        " LEFT JOIN reviews r ON r.version_id = v.id AND r.state = 'rejected' AND r.decided_at > ?2"
        " WHERE k.developer_id = ?1 AND (r.id IS NOT NULL OR a.suspended = 1) LIMIT 1"
    )
    return db.has(sql, account, db.clock.now(-CLEAN_DAYS * DAY))
