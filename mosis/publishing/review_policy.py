"""What a version changes since the one that was published last: what a reviewer looks at first, and the policy decides by."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mosis.context import Context
from mosis.database import Connection
from mosis.publishing import versions
from mosis.publishing.versions import Version

# Findings that say the same as `permissions_added`, or hold for every first version.
_OF_CIRCUMSTANCE = ("permission_new", "first_app")


@dataclass(frozen=True)
class Changes:
    """The differences; `since` is None, and everything counts as added, when nothing of the app was published before."""

    since: Version | None
    permissions_added: list[str]
    permissions_removed: list[str]
    files_added: list[dict[str, Any]]
    files_removed: list[dict[str, Any]]
    files_changed: list[dict[str, Any]]
    findings_added: list[dict[str, Any]]
    findings_gone: list[dict[str, Any]]


def since_last_published(db: Connection, version: Version) -> Changes:
    """What this version changes."""
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
    """Why a person has to look at this version; empty when the policy `changes` lets it through.

    The random sample is drawn with a keyed hash of app and version string: it can be repeated, not foreseen, and sending the
    version again does not draw again. Nor does taking a drawn one back and sending it under another number.
    """
    if env.config.review_policy == "all":
        return ["policy"]
    changes = since_last_published(db, version)
    if changes.since is None:
        return ["first_version"]
    why = {
        "new_permissions": bool(changes.permissions_added),
        "new_findings": bool(changes.findings_added),
        "rejected_before": _reviewed_since(db, changes.since, "rejected"),
        "sample": drawn(env.secret, version) * 100 < env.config.review_sample_percent
        or _reviewed_since(db, changes.since, "withdrawn", "sample"),
    }
    return [reason for reason, holds in why.items() if holds]


def drawn(secret: str, version: Version) -> float:
    """A number from 0 to below 1 that belongs to this version for ever, and that nobody without the secret can tell."""
    message = f"review sample\n{version.app_id}\n{version.version}".encode()
    digest = hmac.digest(secret.encode(), message, hashlib.sha256)
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def _reviewed_since(
    db: Connection, published: Version, state: str, reason: str | None = None
) -> bool:
    """Whether a review of the app has ended like this since the verdict on what was published last. Not since it was
    published: an older verdict can be kept ready and used to have a newer one forgotten."""
    return bool(
        db.value(
            "SELECT 1 FROM reviews JOIN versions ON versions.id = reviews.version_id"
            " WHERE versions.app_id = ?1 AND reviews.state = ?2"
            " AND reviews.decided_at >= ?3 AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(because) WHERE value = ?4)) LIMIT 1",
            published.app_id,
            state,
            published.decided_at,
            reason,
        )
    )


def _files(db: Connection, version: Version) -> dict[str, dict[str, Any]]:
    """Without META-INF, which is another in every package."""
    return {
        name: each
        for name, each in versions.files_of(db, version).items()
        if not name.startswith("META-INF/")
    }


def _findings(version: Version) -> Mapping[tuple[str, str | None, str], dict[str, Any]]:
    """By code, file and sentence: what has only moved to another line is not new, a second thing in the same file is."""
    found = [each for each in json.loads(version.findings) if each["code"] not in _OF_CIRCUMSTANCE]
    return {
        (each["code"], each["path"], "" if each["code"] == "long_line" else each["detail"]): each
        for each in found
    }
