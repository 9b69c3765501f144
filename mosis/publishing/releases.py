"""Offering a version to devices: publication, now or later, growing rollout, and rollback."""

from dataclasses import replace

from mosis import audit, jobs
from mosis.caller import PORTAL, Caller
from mosis.clock import seconds
from mosis.config import Config
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Conflict, Denied, InvalidState
from mosis.jobs import Again
from mosis.publishing import apps, members, package_files, rollout_plans, versions
from mosis.publishing.versions import Version
from mosis.records import dataclass


@dataclass(frozen=True)
class Publication:
    """How to publish: the share of devices (None: the first step of the rollout plan, all without a
    plan, or the previous share of a halted version), and the time (None: now)."""

    rollout_percent: float | None = None
    publish_at: str | None = None


def publish(
    env: Context, db: Connection, caller: Caller, version: Version, publication: Publication
) -> Version:
    """Publish a version, now or at `publish_at`. A halted version is published at once, to the
    previous share of devices or a larger one. Raises Conflict `invalid_state`,
    `version_code_not_higher` or `signing_key_revoked`, Denied `suspended`, Unavailable
    `package_unavailable`."""
    package_files.verify_file(env, db, version)
    percent = publication.rollout_percent
    with db.write():
        version = versions.by_id(db, version.id) or version
        if version.state == "halted":
            if publication.publish_at and publication.publish_at > db.now:
                detail = (
                    "A halted version is published at once; publish_at is for approved versions."
                )
                raise InvalidState(detail, version.state, version.moves)
            version = versions.move(db, caller, version, "publish")
            apps.touch(db, version.app_id)
            return version if percent is None else _grow(db, caller, version, percent)
        if version.state != "approved":
            raise versions.not_allowed(version, "publish")
        check_release(db, env.config, version)
        if percent is None:
            percent = rollout_plans.first_percent(db, version)
        if publication.publish_at and publication.publish_at > db.now:
            versions.check_code(db, version.app_id, version.channel, version.version_code)
            values = {"publish_at": publication.publish_at, "rollout_percent": percent}
            versions.set_columns(db, version.id, **values)
            _queue_publishing(db, version, publication.publish_at)
            members.note(
                db,
                caller,
                version.app_id,
                "version.scheduled",
                version.id,
                publish_at=publication.publish_at,
            )
            return versions.by_id(db, version.id) or version
        return _publish_now(env, db, caller, version, percent)


def check_release(db: Connection, config: Config, version: Version) -> None:
    """Check whether a version may be offered to devices for the first time. Raises Denied
    `suspended` if its account is suspended or erased, Conflict `signing_key_revoked`. Versions
    that were released before are not checked: revoking a key takes nothing from devices; halt
    and yank do."""
    if version.released:
        return
    suspended, erased_at, verified = db.one(
        "SELECT d.suspended, d.erased_at, d.email_verified FROM apps a JOIN developers d ON d.id = a.developer_id"
        " WHERE a.id = ?",
        version.app_id,
    )
    if suspended or erased_at is not None:
        raise Denied("suspended", "The account of this version is suspended or erased.")
    if config.verified_email_required and not verified:
        detail = (
            "The account that the app belongs to has to verify its e-mail address first; POST"
            " /v1/auth/email/resend sends the link again."
        )
        raise Conflict("email_not_verified", detail, side="account")
    if not members.may_sign(db, version.app_id, version.signing_key_id):
        raise Conflict(
            "signing_key_revoked",
            "Its signing key has been revoked, or its holder is not a publisher of the app any more:"
            " withdraw this version and upload the package again, signed with a key that counts.",
        )


def publish_scheduled(env: Context, version_id: str, publish_at: str | None = None) -> Again | None:
    """Job of `publish_at`: publish the version, unless its state has changed; wait longer if it was
    rescheduled. Jobs queued before 0.2 carry their time as an argument; the column counts."""
    db = env.db.connection()
    version = versions.by_id(db, version_id)
    if version is None or version.state != "approved" or version.publish_at is None:
        return None
    wait = seconds(version.publish_at) - seconds(env.clock.now())
    if wait > 0:
        return Again(wait)
    package_files.verify_file(env, db, version)
    with db.write():
        version = versions.by_id(db, version_id)
        if version is None or version.state != "approved" or version.publish_at is None:
            return None
        if version.publish_at > db.now:
            return Again(0)
        try:
            _publish_now(env, db, PORTAL, version, version.rollout_percent)
        except (Conflict, Denied) as refusal:  # permanent: a retry would be refused too
            versions.set_columns(db, version.id, publish_at=None, publish_when_approved=0)
            audit.add(
                db,
                PORTAL,
                "version.publish_refused",
                version.id,
                owner_id=versions.developer_of(db, version),
                why=refusal.code,
            )
    return None


def publish_soon(db: Connection, version: Version) -> None:
    """Queue the publication of an approved version, in the running transaction."""
    percent = rollout_plans.first_percent(db, version)
    versions.set_columns(db, version.id, publish_at=db.now, rollout_percent=percent)
    _queue_publishing(db, version, db.now)


def _queue_publishing(db: Connection, version: Version, publish_at: str) -> None:
    """One job for each version, however often it is rescheduled."""
    jobs.add(
        db,
        "publish_version",
        owner=versions.developer_of(db, version),
        after_seconds=seconds(publish_at) - seconds(db.now),
        unique_key=f"publish:{version.id}",
        again=True,
        version_id=version.id,
    )


def rollout(db: Connection, caller: Caller, version: Version, percent: float) -> Version:
    """Raise a published version's share of devices. Raises `invalid_state`, also to lower it."""
    with db.write():
        return _grow(db, caller, versions.by_id(db, version.id) or version, percent)


def rollback(
    env: Context, db: Connection, caller: Caller, version: Version, reason: str
) -> Version:
    """Halt the newer versions of the same channel so that this one is offered again, in one
    transaction; devices that have a newer one keep it. The audit trail gets a line for each
    transition and one that names all halted versions.

    Raises Conflict `invalid_state` if the version is not published or halted, or if no newer one is
    offered; Unavailable `package_unavailable`.
    """
    package_files.verify_file(env, db, version)
    with db.write():
        version = versions.by_id(db, version.id) or version
        if version.state not in ("published", "halted"):
            raise versions.not_allowed(version, "rollback")
        where = (
            "app_id = ? AND channel = ? AND state = 'published' AND version_code > ? ORDER BY"
            " version_code DESC"
        )
        newer = db.select(Version, where, version.app_id, version.channel, version.version_code)
        if not newer:
            detail = (
                "No newer version of this channel is offered: there is nothing to roll back from."
            )
            raise InvalidState(detail, version.state, version.moves)
        for each in newer:
            versions.move(db, caller, each, "halt")
        if version.state == "halted":
            version = versions.move(db, caller, version, "publish")
        apps.touch(db, version.app_id)
        halted = [each.version for each in newer]
        versions.note(db, caller, version, "version.rollback", halted=halted, reason=reason)
        return version


def _publish_now(
    env: Context, db: Connection, caller: Caller, version: Version, percent: float
) -> Version:
    check_release(db, env.config, version)
    versions.check_code(db, version.app_id, version.channel, version.version_code)
    version = versions.move(
        db,
        caller,
        version,
        "publish",
        released=1,
        published_at=db.now,
        publish_at=None,
        rollout_percent=percent,
    )
    apps.touch(db, version.app_id, published=1)
    rollout_plans.begin(db, version)
    return version


def _grow(db: Connection, caller: Caller, version: Version, percent: float) -> Version:
    """Raise the share of devices, in the running transaction. Raises Conflict `invalid_state`."""
    if version.state != "published":
        raise versions.not_allowed(version, "rollout")
    if percent < version.rollout_percent:
        detail = "The share of devices cannot be reduced; halt the version instead."
        raise InvalidState(detail, version.state, version.moves)
    versions.set_rollout(db, version, percent)
    members.notify(db, version.app_id)
    versions.note(db, caller, version, "version.rollout", percent=percent)
    return replace(version, rollout_percent=percent)
