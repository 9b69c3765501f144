"""The job that checks the package of an upload, and decides the next state of its version."""

import json
from collections.abc import Iterator
from typing import Any

from mosis import jobs
from mosis.caller import PORTAL
from mosis.context import Context
from mosis.database import Connection
from mosis.packages import Finding
from mosis.packages.manifest import DANGEROUS_PERMISSIONS
from mosis.publishing import look_alikes, package_files, quotas, versions
from mosis.publishing.versions import Version

ERRORS_IN_EVENT = 5


def check(env: Context, version_id: str) -> None:
    """Job of an upload: run the checks of the package; the version becomes ready or failed. Safe to
    run twice. Raises Unavailable `package_unavailable`, ChecksUnavailable: the job is retried."""
    db = env.db.connection()
    version = versions.by_id(db, version_id)
    if version is None or version.state != "checking":
        return
    with package_files.open_file(env, db, version, anew=True) as package:
        findings = [*env.checks.run(package)]
    with db.snapshot():
        if versions.by_id(db, version_id) is None:
            return  # deleted while the checks ran
        findings += (finding.as_dict() for finding in _circumstances(db, version))
    refused = any(finding["severity"] == "error" for finding in findings)
    with db.write():
        version = versions.by_id(db, version_id)
        if version is None or version.state != "checking":
            return
        versions.move(
            db,
            PORTAL,
            version,
            "refused" if refused else "checked",
            facts={"errors": _errors(findings)} if refused else None,
            findings=json.dumps(findings, ensure_ascii=False),
        )
        if quotas.timed_out(findings):
            quotas.rest_after_timeout(db, versions.developer_of(db, version))
        if version.submit_when_ready and not refused:
            jobs.add(
                db,
                "submit_version",
                owner=versions.developer_of(db, version),
                unique_key=f"submit:{version.id}",
                version_id=version.id,
            )


def end_stuck_checks(env: Context) -> None:
    """Job: end versions whose check job is dead. They fail with the finding `check_crashed`, so
    that their developers are notified and can upload again. Safe to run twice."""
    with env.db.write() as db:
        stuck = db.all(
            "SELECT v.id FROM versions v WHERE v.state = 'checking' AND NOT EXISTS (SELECT 1 FROM jobs j"
            " WHERE j.unique_key = 'check:' || v.id AND j.state IN ('waiting', 'running'))"
        )
        detail = "The checks could not be run; upload the package again, or ask the operator."
        finding = Finding("check_crashed", detail, tier=2)
        for (version_id,) in stuck:
            version = versions.by_id(db, version_id)
            if version is not None:
                found = [finding.as_dict()]
                facts = {"errors": _errors(found)}
                versions.move(
                    db, PORTAL, version, "refused", facts=facts, findings=json.dumps(found)
                )


def _errors(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first findings that block, short, for the event that tells the developer."""
    errors = [each for each in findings if each["severity"] == "error"][:ERRORS_IN_EVENT]
    return [
        {"code": each["code"], "path": each["path"], "line": each["line"]}
        | {"detail": each["detail"][:300]}
        for each in errors
    ]


def _circumstances(db: Connection, version: Version) -> Iterator[Finding]:
    """Findings that follow from the app's history, not from the package."""
    before = versions.last_published(db, version)
    if before is None:
        sql = "SELECT package_id, developer_id FROM apps WHERE id = ?"
        package_id, developer_id = db.one(sql, version.app_id)
        other = look_alikes.find(db, package_id, developer_id)
        if other is not None:
            detail = f"{package_id} is easily taken for {other}, which another developer publishes."
            yield Finding("look_alike", detail, "manifest.json", tier=3, severity="warning")
    if before is not None:
        for name in sorted(
            set(json.loads(version.permissions)) - set(json.loads(before.permissions))
        ):
            severity = "warning" if name in DANGEROUS_PERMISSIONS else "info"
            detail = f"The permission {name} is new; {before.version} did not ask for it."
            yield Finding("permission_new", detail, "manifest.json", tier=3, severity=severity)
    elif not db.value(
        "SELECT 1 FROM apps JOIN apps AS own USING (developer_id) WHERE own.id = ? AND apps.published = 1",
        version.app_id,
    ):
        yield Finding(
            "first_app", "Its developer has published nothing yet.", tier=3, severity="info"
        )
