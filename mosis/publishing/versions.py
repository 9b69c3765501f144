"""Versions: from an uploaded package through its checks to the states that follow.

MOVES and one guarded UPDATE are the state machine; follow-ups (events, jobs, audit lines) are
rows of the same transaction.
"""

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mosis import jobs, packages
from mosis.caller import Caller
from mosis.config import Config
from mosis.context import Context
from mosis.database import Connection, Record, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import Conflict, InvalidState, NotFound
from mosis.packages import Package
from mosis.packages.storage import Received
from mosis.publishing import apps, members, package_files, quotas
from mosis.publishing.apps import App
from mosis.records import dataclass

# transition: (from these states, to this one). `checked` and `refused` belong to the checks, `approve` and `reject` to
# reviewers, `end` to the portal, when an account is suspended.
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
# transition: the event that its developer receives
EVENTS = {
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


@dataclass(frozen=True)
class Version(Record, table="versions"):
    """A row of `versions`."""

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
    security: int
    offered_at: str | None

    @property
    def listed_at(self) -> str | None:
        """When everybody was first offered it, if everybody is."""
        return self.offered_at or self.published_at

    @property
    def moves(self) -> list[str]:
        """The transitions that its developer can request in this state."""
        allowed = [name for name in DEVELOPERS_MOVES if self.state in MOVES[name][0]]
        return [*allowed, "rollout"] if self.state == "published" else allowed


@dataclass(frozen=True)
class Upload:
    """Options of an upload: the channel (None: derived from the version string), release notes,
    whether to submit the version once it is checked, and whether to publish it once it is
    approved."""

    channel: str | None = None
    release_notes: str = ""
    submit: bool = False
    publish: bool = False


@dataclass(frozen=True)
class Created:
    """The version of an upload; `new` is false if the same package had been uploaded before."""

    version: Version
    new: bool = field(default=True)


def upload(
    env: Context,
    db: Connection,
    caller: Caller,
    app: App,
    received: Received,
    options: Upload,
    signing_keys: Mapping[str, bytes],
) -> Created:
    """Make a version of a package that has been received. `signing_keys` are those that may sign it
    (`signing_keys.that_sign`). After COMMIT the file lies under its final name; its checks are a
    job. Raises Invalid `package_rejected` with every finding, Unavailable, and as `create`."""
    package = packages.inspect(received.path, package_id=app.package_id, keys=signing_keys)
    version_id = new_id()
    with package_files.stored(env, db, app.id, version_id, package, received), db.write():
        app = apps.with_role(db, caller, app.id, "publisher")  # as it is now, after the inspection
        created = create(db, env.config, caller, app, package, received, options, version_id)
        if created.new:
            env.files.keep(received, package_files.path(env, db, created.version))
    env.measures.count("portal_upload_bytes_total", received.size_bytes)
    env.measures.count("portal_uploads_total", result="taken" if created.new else "known")
    return created


def create(
    db: Connection,
    config: Config,
    caller: Caller,
    app: App,
    package: Package,
    received: Received,
    upload: Upload,
    version_id: str,
) -> Created:
    """Record an inspected package with this id, in the running transaction. Uploading the same
    bytes again returns the existing version. Raises Conflict `version_exists`,
    `version_code_not_higher` or `quota_exceeded`, Invalid `package_rejected` if the signing key was
    revoked during the inspection, Denied `trusted_only`."""
    apps.check_uploader(caller, app)
    if not members.may_sign(db, app.id, package.signing_key_id):
        raise packages.signature_refused()
    where = (
        "app_id = ? AND version = ? AND (state NOT IN ('failed', 'rejected', 'withdrawn') OR released"
        " = 1)"
    )
    existing = db.find(Version, where, app.id, package.version)
    if existing and existing.sha256 == received.sha256:
        return Created(existing, new=False)
    if existing:
        detail = f"Version {package.version} exists and is {existing.state}; give the package a new version."
        raise Conflict("version_exists", detail, state=existing.state)
    channel = upload.channel or package.channel
    check_code(db, app.id, channel, package.version_code)
    quotas.replaced(db, app.id, package.version)
    quotas.make_room(db, config, app.developer_id, received.size_bytes)
    _insert(db, version_id, app, channel, package, received, upload)
    facts = {"app": app.package_id, "version": package.version, "sha256": received.sha256}
    members.note(db, caller, app.id, "version.uploaded", version_id, **facts)
    jobs.add(
        db,
        "check_version",
        owner=app.developer_id,
        unique_key=f"check:{version_id}",
        version_id=version_id,
    )
    return Created(get(db, app, version_id))


def _insert(
    db: Connection,
    version_id: str,
    app: App,
    channel: str,
    package: Package,
    received: Received,
    upload: Upload,
) -> None:
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


def get(db: Connection, app: App, version: str) -> Version:
    """A version of an app by its id or version string. If several have had this version string, the
    current one, else the newest. Raises NotFound."""
    where = (
        "app_id = ?1 AND (id = ?2 OR version = ?2) ORDER BY (id = ?2) DESC, (state IN ('failed',"
        " 'rejected', 'withdrawn') AND released = 0), id DESC LIMIT 1"
    )
    return db.get(Version, where, app.id, version)


def with_role(db: Connection, caller: Caller, version_id: str, role: str) -> Version:
    """The version with this id, for members with this role. Raises NotFound, `forbidden`."""
    found = db.get(Version, "id = ?", version_id)
    try:
        apps.with_role(db, caller, found.app_id, role)
    except NotFound:  # the same answer as for an id that does not exist
        raise NotFound("version") from None
    return found


def by_id(db: Connection, version_id: str) -> Version | None:
    """The version with this id, in any account; None if there is none. For jobs and reviewers."""
    return db.find(Version, "id = ?", version_id)


def index(db: Connection, app: App, paging: PageRequest) -> Page[Version]:
    """The versions of an app, newest upload first."""
    return newest_first(db, Version, "app_id = ?1", app.id, paging=paging)


# The version string of the newest published version of an app, stable before beta.
LATEST = (
    "SELECT version FROM versions WHERE app_id = ? AND state = 'published'"
    " ORDER BY channel DESC, version_code DESC LIMIT 1"
)


def latest_of(db: Connection, app_ids: list[str]) -> dict[str, str]:
    """LATEST for several apps; apps without a published version are left out."""
    rows = db.all(
        "SELECT app_id, version, max(channel || printf('%010d', version_code)) FROM versions WHERE state = 'published'"
        " AND app_id IN (SELECT value FROM json_each(?)) GROUP BY app_id",
        json.dumps(app_ids),
    )
    return {app_id: version for app_id, version, _ in rows}


def move(
    db: Connection,
    caller: Caller,
    version: Version,
    name: str,
    *,
    facts: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Version:
    """Make a transition and set further columns, in the running transaction; `facts` become data of
    the event. Raises Conflict `invalid_state`."""
    before, after = MOVES[name]
    condition = f"id = ? AND state IN ({', '.join('?' * len(before))})"
    moved = db.update("versions", condition, version.id, *before, state=after, **changes)
    now: Version = by_id(db, version.id) or version
    if not moved:
        raise not_allowed(now, name)
    members.notify(db, version.app_id)
    db.after_commit(lambda: db.database.on_count("portal_version_moves_total", move=name))
    if name in EVENTS:
        details = {"version": version.version, "state": after, **(facts or {})}
        members.add_events(db, version.app_id, "publisher", EVENTS[name], **details)
    if after == "published":
        _notify_of_release(db, caller, version)
    note(db, caller, version, f"version.{name}", state=after)
    return now


def note(db: Connection, caller: Caller, version: Version, action: str, **details: Any) -> None:
    """Add a line about a version to the audit trail; see `members.note`."""
    details = {"version": version.version, **details}
    members.note(db, caller, version.app_id, action, version.id, **details)


def _notify_of_release(db: Connection, caller: Caller, version: Version) -> None:
    """Tell every owner of a release and of who has made it, so that one by a stolen credential shows."""
    name = db.value("SELECT name FROM developers WHERE id = ?", caller.developer_id)
    members.add_events(
        db,
        version.app_id,
        "owner",
        "app.released",
        version=version.version,
        sha256=version.sha256,
        by=name or "the portal, as it was asked to before",
        by_id=caller.developer_id,
        with_api_key=caller.key_id is not None,
    )


def not_allowed(version: Version, name: str) -> Conflict:
    """The error for a transition that the state does not allow; it names those it does."""
    allowed = ", ".join(version.moves) or "none for now"
    detail = f"A version that is {version.state} has no transition {name!r}; allowed: {allowed}."
    return InvalidState(detail, version.state, version.moves)


def set_columns(db: Connection, version_id: str, **values: Any) -> None:
    """Set columns that are no transition, in the running transaction."""
    db.update("versions", "id = ?", version_id, **values)


def set_rollout(db: Connection, version: Version, percent: float) -> None:
    """Set the share of the devices that are offered a published version, in the running transaction."""
    sql = (
        "UPDATE versions SET rollout_percent = ?1, offered_at = iif(rollout_percent < 100 AND ?1 >= 100, ?2, offered_at)"
        " WHERE id = ?3"
    )
    db.change(sql, percent, db.now, version.id)


def last_published(db: Connection, version: Version) -> Version | None:
    """The version published last before this one was decided (or now), to compare with."""
    where = (
        "app_id = ? AND id <> ? AND released = 1 AND published_at <= ? ORDER BY published_at DESC,"
        " version_code DESC LIMIT 1"
    )
    return db.find(Version, where, version.app_id, version.id, version.decided_at or db.clock.now())


def files_of(db: Connection, version: Version) -> dict[str, dict[str, Any]]:
    """The files of a version's package: {name: {size_bytes, sha256}}."""
    return dict(json.loads(db.value("SELECT files FROM versions WHERE id = ?", version.id)))


def key_is_revoked(db: Connection, version: Version) -> bool:
    """Whether a version's signing key is revoked, or its holder may publish the app no more."""
    return not members.may_sign(db, version.app_id, version.signing_key_id)


def developer_of(db: Connection, version: Version) -> str:
    """The account that the version's app belongs to."""
    return str(db.value("SELECT developer_id FROM apps WHERE id = ?", version.app_id))


def check_code(db: Connection, app_id: str, channel: str, version_code: int) -> None:
    """Raises `version_code_not_higher` unless it is above the channel's published ones."""
    sql = "SELECT max(version_code) FROM versions WHERE app_id = ? AND channel = ? AND released = 1"
    highest = db.value(sql, app_id, channel)
    if highest is not None and version_code <= highest:
        detail = f"version_code must be above {highest}, the highest published in {channel}."
        raise Conflict("version_code_not_higher", detail, highest=highest)
