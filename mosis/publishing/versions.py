"""Versions: what an uploaded package is allowed to become, and how it gets there.

The state machine is MOVES and one guarded UPDATE; everything that follows from a move is a row of the same transaction.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from mosis import audit, events, jobs, packages
from mosis.caller import PORTAL, Caller
from mosis.clock import seconds
from mosis.config import Config
from mosis.context import Context
from mosis.database import Connection, columns, new_id
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import Conflict, Denied, NotFound
from mosis.jobs import Again
from mosis.packages import Finding, Package
from mosis.packages.manifest import DANGEROUS_PERMISSIONS
from mosis.packages.storage import Files, Received
from mosis.publishing import quotas
from mosis.publishing.apps import App

# move: (from these states, to this one). `checked` and `refused` are the checks' moves, `approve` and `reject` the reviewers',
# `end` is the portal's, when an account is suspended.
MOVES: dict[str, tuple[tuple[str, ...], str]] = {
    "checked": (("checking",), "ready"),
    "refused": (("checking",), "failed"),
    "submit": (("ready",), "in_review"),
    "approve": (("in_review",), "approved"),
    "reject": (("in_review",), "rejected"),
    "withdraw": (("ready", "failed", "in_review", "rejected", "approved"), "withdrawn"),
    "end": (("checking", "ready", "in_review", "approved"), "withdrawn"),
    "publish": (("approved", "halted"), "published"),
    "halt": (("published",), "halted"),
    "yank": (("published", "halted"), "yanked"),
    "unyank": (("yanked",), "published"),
}
DEVELOPERS_MOVES = ("submit", "withdraw", "publish", "halt", "yank", "unyank")
# move: the event that tells its developer of it
TOLD = {
    "checked": "version.checked",
    "refused": "version.checked",
    "submit": "version.submitted",
    "approve": "version.approved",
    "reject": "version.rejected",
    "publish": "version.published",
    "halt": "version.halted",
    "yank": "version.yanked",
    "unyank": "version.published",
}
DEAD = ("failed", "rejected", "withdrawn")


@dataclass(frozen=True)
class Version:
    """A version as the database keeps it."""

    id: str
    app_id: str
    version: str
    version_code: int
    channel: str
    state: str
    released: int
    submit_when_ready: int
    publish_when_approved: int
    findings: str
    permissions: str
    min_mosis_version: str
    release_notes: str
    size_bytes: int
    sha256: str
    signing_key_id: str
    rollout_percent: float
    publish_at: str | None
    yank_reason: str | None
    created_at: str
    submitted_at: str | None
    decided_at: str | None
    published_at: str | None
    package_removed_at: str | None

    @property
    def moves(self) -> list[str]:
        """What its developer can do with it now."""
        allowed = [name for name in DEVELOPERS_MOVES if self.state in MOVES[name][0]]
        return [*allowed, "rollout"] if self.state == "published" else allowed


@dataclass(frozen=True)
class Upload:
    """What is said with a package: the channel (None: as its version says), the notes, whether to submit it once it is checked
    and to publish it once it is approved."""

    channel: str | None = None
    release_notes: str = ""
    submit: bool = False
    publish: bool = False


@dataclass(frozen=True)
class Publication:
    """How to publish: to what share of the devices (None: all, or the share that a halted version had), and when (None: now)."""

    rollout_percent: float | None = None
    publish_at: str | None = None


@dataclass(frozen=True)
class Created:
    """The version an upload led to, and whether it is new or was there with the same bytes."""

    version: Version
    new: bool = field(default=True)


def create(
    db: Connection,
    config: Config,
    caller: Caller,
    app: App,
    package: Package,
    received: Received,
    upload: Upload,
) -> Created:
    """Record an inspected package, in the running transaction; the same bytes again give the version that is there.

    Raises Conflict `version_exists`, `version_code_not_higher` or `quota_exceeded`, Invalid
    `package_rejected` when the signing key has been revoked while the package was inspected.
    """
    if not db.value(
        "SELECT 1 FROM signing_keys WHERE id = ? AND developer_id = ? AND state = 'active'",
        package.signing_key_id,
        app.developer_id,
    ):
        raise packages.signature_refused()
    living = db.one(
        f"SELECT {columns(Version)} FROM versions WHERE app_id = ? AND version = ?"
        " AND (state NOT IN ('failed', 'rejected', 'withdrawn') OR released = 1)",
        app.id,
        package.version,
        into=Version,
    )
    if living and living.sha256 == received.sha256:
        return Created(living, new=False)
    if living:
        raise Conflict(
            "version_exists",
            f"Version {package.version} exists and is {living.state}; give the package a new version.",
            state=living.state,
        )
    channel = upload.channel or package.channel
    _check_code(db, app.id, channel, package.version_code)
    quotas.replaced(db, app.id, package.version)
    quotas.make_room(db, config, app.developer_id, received.size_bytes)
    version_id = new_id()
    db.insert(
        "versions",
        id=version_id,
        app_id=app.id,
        version=package.version,
        version_code=package.version_code,
        channel=channel,
        state="checking",
        submit_when_ready=int(upload.submit),
        publish_when_approved=int(upload.publish),
        permissions=json.dumps(list(package.permissions)),
        min_mosis_version=package.min_mosis_version,
        release_notes=upload.release_notes,
        manifest=json.dumps(package.manifest, ensure_ascii=False),
        files=json.dumps(package.files, ensure_ascii=False),
        size_bytes=received.size_bytes,
        sha256=received.sha256,
        signing_key_id=package.signing_key_id,
        created_at=db.now,
    )
    audit.add(
        db,
        caller,
        "version.uploaded",
        version_id,
        app=app.package_id,
        version=package.version,
        sha256=received.sha256,
    )
    jobs.add(
        db,
        "check_version",
        owner=app.developer_id,
        unique_key=f"check:{version_id}",
        version_id=version_id,
    )
    return Created(get(db, app, version_id))


def get(db: Connection, app: App, version: str) -> Version:
    """The version of an app by its id or version string: of several that had the string, the living or newest one.

    Raises NotFound.
    """
    return db.get(
        "version",
        f"SELECT {columns(Version)} FROM versions WHERE app_id = ?1 AND (id = ?2 OR version = ?2)"
        " ORDER BY (id = ?2) DESC, (state IN ('failed', 'rejected', 'withdrawn') AND released = 0), id DESC LIMIT 1",
        app.id,
        version,
        into=Version,
    )


def owned_by(db: Connection, caller: Caller, version: str, app: App | None = None) -> Version:
    """A version of the caller's: by its id, or by its version string when the app is given. Raises NotFound."""
    if app is not None:
        return get(db, app, version)
    found = by_id(db, version)
    if (
        found is None
        or developer_of(db, found) != caller.account
        or (caller.apps is not None and found.app_id not in caller.apps)
    ):
        raise NotFound("version")
    return found


def by_id(db: Connection, version_id: str) -> Version | None:
    """The version with this id, whoever's app it is; for jobs and the review desk."""
    return db.one(f"SELECT {columns(Version)} FROM versions WHERE id = ?", version_id, into=Version)


def index(db: Connection, app: App, wanted: PageRequest) -> Page[Version]:
    """The versions of an app, the newest upload first."""
    rows = db.all(
        f"SELECT {columns(Version)} FROM versions WHERE app_id = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
        app.id,
        wanted.position,
        wanted.limit + 1,
        into=Version,
    )
    return page(rows, wanted, lambda version: (version.id,))


def latest(db: Connection, app_id: str) -> str | None:
    """The version string of the newest published version of an app, stable before beta; None when there is none."""
    found: str | None = db.value(
        "SELECT version FROM versions WHERE app_id = ? AND state = 'published' ORDER BY channel DESC, version_code DESC LIMIT 1",
        app_id,
    )
    return found


def latest_of(db: Connection, app_ids: list[str]) -> dict[str, str]:
    """As `latest` for several apps at once; those without a published version are left out."""
    rows = db.all(
        "SELECT app_id, version, max(channel || printf('%010d', version_code)) FROM versions WHERE state = 'published'"
        " AND app_id IN (SELECT value FROM json_each(?)) GROUP BY app_id",
        json.dumps(app_ids),
    )
    return {app_id: version for app_id, version, _ in rows}


def move(db: Connection, caller: Caller, version: Version, name: str, **changes: Any) -> Version:
    """Make a move, in the running transaction, with what changes beside the state. Raises Conflict `invalid_state`."""
    before, after = MOVES[name]
    values = {"state": after, **changes}
    moved = db.change(
        f"UPDATE versions SET {', '.join(f'{column} = ?' for column in values)}"
        f" WHERE id = ? AND state IN ({', '.join('?' * len(before))})",
        *values.values(),
        version.id,
        *before,
    )
    now: Version = by_id(db, version.id) or version
    if not moved:
        raise not_allowed(now, name)
    owner, package_id = db.one(
        "SELECT developer_id, package_id FROM apps WHERE id = ?", version.app_id
    )
    db.notify(owner)
    if name in TOLD:
        events.add(
            db, owner, TOLD[name], package_id=package_id, version=version.version, state=after
        )
    audit.add(
        db,
        caller,
        f"version.{name}",
        version.id,
        owner_id=owner,
        version=version.version,
        state=after,
    )
    return now


def not_allowed(version: Version, name: str) -> Conflict:
    """The refusal of a move: names the state and the moves that are allowed."""
    allowed = ", ".join(version.moves) or "none for now"
    return Conflict(
        "invalid_state",
        f"A version that is {version.state} has no move {name!r}; allowed: {allowed}.",
        state=version.state,
        allowed=version.moves,
    )


def check(env: Context, version_id: str) -> None:
    """The job behind an upload: look deep into the package and let the version go on or fail. Twice does no harm.

    Raises Unavailable `package_unavailable`, ChecksUnavailable: the job is tried again.
    """
    db = env.db.connection()
    version = by_id(db, version_id)
    if version is None or version.state != "checking":
        return
    with open_file(env, db, version, anew=True) as package:
        findings = [
            *env.checks.run(package),
            *(finding.as_dict() for finding in _circumstances(db, version)),
        ]
    refused = any(finding["severity"] == "error" for finding in findings)
    with db.write():
        version = by_id(db, version_id)
        if version is None or version.state != "checking":
            return
        move(
            db,
            PORTAL,
            version,
            "refused" if refused else "checked",
            findings=json.dumps(findings, ensure_ascii=False),
        )
        if quotas.timed_out(findings):
            quotas.rest_after_timeout(db, developer_of(db, version))
        if version.submit_when_ready and not refused:
            jobs.add(
                db,
                "submit_version",
                owner=developer_of(db, version),
                unique_key=f"submit:{version.id}",
                version_id=version.id,
            )


def end_stuck_checks(env: Context) -> None:
    """The job that ends what nobody checks any more: a version whose check was given up fails with the finding
    `check_crashed`, so that its developer learns of it and can upload again. Twice does no harm."""
    db = env.db.connection()
    with db.write():
        stuck = db.all(
            "SELECT v.id FROM versions v WHERE v.state = 'checking' AND NOT EXISTS (SELECT 1 FROM jobs j"
            " WHERE j.unique_key = 'check:' || v.id AND j.state IN ('waiting', 'running'))"
        )
        finding = Finding(
            "check_crashed",
            "The checks could not be run; upload the package again, or ask the operator.",
            tier=2,
        )
        for (version_id,) in stuck:
            version = by_id(db, version_id)
            if version is not None:
                move(db, PORTAL, version, "refused", findings=json.dumps([finding.as_dict()]))


def last_published(db: Connection, version: Version) -> Version | None:
    """The version of the same app that was published last, this one apart, before a verdict was given; what a review compares
    with."""
    return db.one(
        f"SELECT {columns(Version)} FROM versions WHERE app_id = ? AND id <> ? AND released = 1 AND published_at <= ?"
        " ORDER BY published_at DESC, version_code DESC LIMIT 1",
        version.app_id,
        version.id,
        version.decided_at or db.clock.now(),
        into=Version,
    )


def files_of(db: Connection, version: Version) -> dict[str, dict[str, Any]]:
    """The files of a version's package: {name: {size_bytes, sha256}}."""
    return dict(json.loads(db.value("SELECT files FROM versions WHERE id = ?", version.id)))


def publish(
    env: Context, db: Connection, caller: Caller, version: Version, publication: Publication
) -> Version:
    """Offer a version to devices, now or at a time; a halted one goes on at once, with the share it had or a larger one.

    Raises Conflict `invalid_state`, `version_code_not_higher` or `signing_key_revoked`, Unavailable
    `package_unavailable`.
    """
    verify_file(env, db, version)
    percent = publication.rollout_percent
    with db.write():
        version = by_id(db, version.id) or version
        if version.state == "halted":
            if publication.publish_at and publication.publish_at > db.now:
                raise Conflict(
                    "invalid_state",
                    "A halted version goes on at once; publish_at is for one that is approved.",
                    state=version.state,
                    allowed=version.moves,
                )
            version = move(db, caller, version, "publish")
            db.change("UPDATE apps SET updated_at = ? WHERE id = ?", db.now, version.app_id)
            return version if percent is None else _grow(db, caller, version, percent)
        if version.state != "approved":
            raise not_allowed(version, "publish")
        percent = 100 if percent is None else percent
        check_release(db, version)
        if publication.publish_at and publication.publish_at > db.now:
            _check_code(db, version.app_id, version.channel, version.version_code)
            db.change(
                "UPDATE versions SET publish_at = ?, rollout_percent = ? WHERE id = ?",
                publication.publish_at,
                percent,
                version.id,
            )
            _queue_publishing(db, version, publication.publish_at)
            audit.add(
                db, caller, "version.scheduled", version.id, publish_at=publication.publish_at
            )
            return by_id(db, version.id) or version
        return _publish_now(db, caller, version, percent)


def check_release(db: Connection, version: Version) -> None:
    """Nothing stands against the first release of a version. Raises Denied `suspended` when its account
    is suspended or erased, Conflict `signing_key_revoked`. What devices were offered before goes by
    halt, yank and publish: a key that is revoked later takes nothing back."""
    if version.released:
        return
    suspended, erased_at, state = db.one(
        "SELECT d.suspended, d.erased_at, k.state FROM apps a JOIN developers d ON d.id = a.developer_id,"
        " signing_keys k WHERE a.id = ? AND k.id = ?",
        version.app_id,
        version.signing_key_id,
    )
    if suspended or erased_at is not None:
        raise Denied("suspended", "The account that this version belongs to is suspended or gone.")
    if state != "active":
        raise Conflict(
            "signing_key_revoked",
            "Its signing key has been revoked: withdraw this version and upload the package again,"
            " signed with an active key.",
        )


def key_is_revoked(db: Connection, version: Version) -> bool:
    """Whether the key that has signed a version is revoked."""
    return bool(
        db.value("SELECT state = 'revoked' FROM signing_keys WHERE id = ?", version.signing_key_id)
    )


def publish_scheduled(env: Context, version_id: str, publish_at: str | None = None) -> Again | None:
    """The job behind `publish_at`: publishes, unless the version was moved; waits on when it was given a later time. (Jobs of
    before 0.2 name the time that they were queued for; the row's counts.)"""
    db = env.db.connection()
    version = by_id(db, version_id)
    if version is None or version.state != "approved" or version.publish_at is None:
        return None
    wait = seconds(version.publish_at) - seconds(env.clock.now())
    if wait > 0:
        return Again(wait)
    verify_file(env, db, version)
    with db.write():
        version = by_id(db, version_id)
        if version is None or version.state != "approved" or version.publish_at is None:
            return None
        if version.publish_at > db.now:
            return Again(0)
        try:
            _publish_now(db, PORTAL, version, version.rollout_percent)
        except (
            Conflict,
            Denied,
        ) as refusal:  # nothing was written, and trying again would not help
            db.change(
                "UPDATE versions SET publish_at = NULL, publish_when_approved = 0 WHERE id = ?",
                version.id,
            )
            audit.add(
                db,
                PORTAL,
                "version.publish_refused",
                version.id,
                owner_id=developer_of(db, version),
                why=refusal.code,
            )
    return None


def publish_soon(db: Connection, version: Version) -> None:
    """Have an approved version published by a job, in the running transaction: the file is verified outside of it."""
    db.change("UPDATE versions SET publish_at = ? WHERE id = ?", db.now, version.id)
    _queue_publishing(db, version, db.now)


def _queue_publishing(db: Connection, version: Version, publish_at: str) -> None:
    """One job for each version, however often it is given another time."""
    jobs.add(
        db,
        "publish_version",
        owner=developer_of(db, version),
        after_seconds=seconds(publish_at) - seconds(db.now),
        unique_key=f"publish:{version.id}",
        again=True,
        version_id=version.id,
    )


def rollout(db: Connection, caller: Caller, version: Version, percent: float) -> Version:
    """Offer a published version to a larger share of the devices. Raises Conflict `invalid_state`: a share never shrinks."""
    with db.write():
        return _grow(db, caller, by_id(db, version.id) or version, percent)


def rollback(
    env: Context, db: Connection, caller: Caller, version: Version, reason: str
) -> Version:
    """Offer this version again instead of the newer ones of its channel, which are halted: devices that have one of those keep
    it. One transaction, one line in the trail that names them all beside the lines of the moves.

    Raises Conflict `invalid_state` when it is not published or halted, or when nothing newer is offered; Unavailable
    `package_unavailable`.
    """
    verify_file(env, db, version)
    with db.write():
        version = by_id(db, version.id) or version
        if version.state not in ("published", "halted"):
            raise not_allowed(version, "rollback")
        newer = db.all(
            f"SELECT {columns(Version)} FROM versions WHERE app_id = ? AND channel = ? AND state = 'published' AND version_code > ?"
            " ORDER BY version_code DESC",
            version.app_id,
            version.channel,
            version.version_code,
            into=Version,
        )
        if not newer:
            raise Conflict(
                "invalid_state",
                "No newer version of this channel is offered: there is nothing to roll back from.",
                state=version.state,
                allowed=version.moves,
            )
        for each in newer:
            move(db, caller, each, "halt")
        if version.state == "halted":
            version = move(db, caller, version, "publish")
        db.change("UPDATE apps SET updated_at = ? WHERE id = ?", db.now, version.app_id)
        audit.add(
            db,
            caller,
            "version.rollback",
            version.id,
            owner_id=developer_of(db, version),
            version=version.version,
            halted=[each.version for each in newer],
            reason=reason,
        )
        return version


def developer_of(db: Connection, version: Version) -> str:
    """Whose version it is."""
    return str(db.value("SELECT developer_id FROM apps WHERE id = ?", version.app_id))


def path(files: Files, db: Connection, version: Version) -> Path:
    """Where the package lies."""
    return files.path(developer_of(db, version), version.app_id, version.version)


def open_file(env: Context, db: Connection, version: Version, *, anew: bool = False) -> BinaryIO:
    """The package, open for reading; with `anew` it is hashed in any case.

    Raises Conflict `gone` when it was removed, Unavailable `package_unavailable`.
    """
    removed_at = db.value("SELECT package_removed_at FROM versions WHERE id = ?", version.id)
    if removed_at is not None:
        raise Conflict(
            "gone",
            f"The package of this version was removed at {removed_at}: it is {version.state}, and was replaced or became old.",
        )
    return env.files.open(
        path(env.files, db, version), version.size_bytes, version.sha256, anew=anew
    )


def verify_file(env: Context, db: Connection, version: Version) -> None:
    """Compare the package on disk with the hash in the row. Raises as `open_file`."""
    open_file(env, db, version, anew=True).close()


def _publish_now(db: Connection, caller: Caller, version: Version, percent: float) -> Version:
    check_release(db, version)
    _check_code(db, version.app_id, version.channel, version.version_code)
    version = move(
        db,
        caller,
        version,
        "publish",
        released=1,
        published_at=db.now,
        publish_at=None,
        rollout_percent=percent,
    )
    db.change("UPDATE apps SET published = 1, updated_at = ? WHERE id = ?", db.now, version.app_id)
    return version


def _grow(db: Connection, caller: Caller, version: Version, percent: float) -> Version:
    """Raise the share of the devices, in the running transaction. Raises Conflict `invalid_state`."""
    if version.state != "published":
        raise not_allowed(version, "rollout")
    if percent < version.rollout_percent:
        raise Conflict(
            "invalid_state",
            "A share only grows, so that no device goes back; halt the version instead.",
            state=version.state,
            allowed=version.moves,
        )
    db.change("UPDATE versions SET rollout_percent = ? WHERE id = ?", percent, version.id)
    owner = developer_of(db, version)
    db.notify(owner)
    audit.add(db, caller, "version.rollout", version.id, version=version.version, percent=percent)
    return replace(version, rollout_percent=percent)


def _circumstances(db: Connection, version: Version) -> Iterator[Finding]:
    """What a reviewer should know that does not stand in the package."""
    before = last_published(db, version)
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


def _check_code(db: Connection, app_id: str, channel: str, version_code: int) -> None:
    highest = db.value(
        "SELECT max(version_code) FROM versions WHERE app_id = ? AND channel = ? AND released = 1",
        app_id,
        channel,
    )
    if highest is not None and version_code <= highest:
        raise Conflict(
            "version_code_not_higher",
            f"version_code must be above {highest}, the highest published in {channel}.",
            highest=highest,
        )
