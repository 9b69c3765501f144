"""Uploads of versions and their state changes, over HTTP."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any
from urllib.parse import quote

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.people import signing_keys
from mosis.publishing import apps, releases, review_queue, reviews, rollout_plans, versions
from mosis.publishing.releases import Publication
from mosis.publishing.review_queue import Standing
from mosis.publishing.versions import Version
from mosis.validation import (
    LINES,
    Finding,
    Json,
    Schema,
    choice,
    finding,
    required_text,
    text,
    timestamps,
)
from mosis.validation.strict_json import dump_json as dump
from mosis.web.idempotency import Retry
from mosis.web.long_poll import WAIT, first_seen, wait, wait_seconds
from mosis.web.package_upload import LONGEST_NOTES, SentPackage
from mosis.web.request import created, etag, listed, names_tag, read_page, spend
from mosis.web.rollout_plans import PLAN
from mosis.web.schemas import EMPTY, list_of, one_of, operation, shape, shown

PUBLISH = {
    "rollout_percent": {"type": "number", "min": 0.1, "max": 100},
    "publish_at": timestamps.RULES,
}
SUBMIT = {"publish": {"type": "boolean"}}
ROLLOUT = {"percent": {"type": "number", "required": True, "min": 0.1, "max": 100}}
YANK = {"reason": required_text(500)}

CHANNELS = ("stable", "beta")
STATES = sorted({state for before, after in versions.MOVES.values() for state in (*before, after)})
STANDING = shape("Standing", "id state position:int? median_wait_seconds:float? reasons[] comment")
VERSION = shape(
    "Version",
    "id app_id package_id version version_code:int channel state next_step findings:dict[]"
    " review? permissions[] min_mosis_version? release_notes size_bytes:int sha256"
    " signing_key_id? rollout_percent:float publish_at? download_url? created_at submitted_at?"
    " decided_at? published_at? package_removed_at? rollout_plan? security:bool",
    channel=one_of(*CHANNELS),
    state=one_of(*STATES),
    review=STANDING,
    rollout_plan=PLAN,
)
_FLAG = {"type": "boolean"}
OPTIONS: Schema = {
    "channel": choice(
        CHANNELS, meta="Default: beta for a version with a pre-release suffix, otherwise stable."
    ),
    "release_notes": text(LONGEST_NOTES, regex=LINES, meta="What is new in this version."),
    "submit": _FLAG | {"meta": "`true`: submit it when the checks have passed."},
    "publish": _FLAG | {"meta": "`true`: publish it when it is approved."},
}
MOVE_REFUSED = "invalid_state version_code_not_higher"
UPLOAD_REFUSED = (
    "trusted_only version_exists version_code_not_higher package_rejected quota_exceeded invalid_state suspended"
    " package_unavailable"
)


def time_findings(env: Context, fields: Mapping[str, Any]) -> list[Finding]:
    if "publish_at" not in fields or timestamps.stored(fields["publish_at"]):
        return []
    return [finding("/publish_at", "wrong_format", timestamps.NO_MOMENT)]


def routes(app: bottle.Bottle) -> None:
    every, one = "/apps/<app>/versions", "/apps/<app>/versions/<version>"
    uploads = {"scope": "versions:upload", "idempotent": "yes"}
    publishes = {"scope": "versions:publish", "idempotent": "yes"}
    received = uploads | {"body": "package", "lane": "uploads", "idempotent": "deferred"}
    app.post(every, callback=upload, **received)
    app.get(every, callback=index, scope="apps:read")
    app.get(one, callback=show, scope="apps:read")
    app.post(f"{one}/submit", callback=submit, **uploads)
    app.post(f"{one}/withdraw", callback=withdraw, **uploads)
    app.post(f"{one}/publish", callback=publish, lane="publishing", **publishes)
    app.post(f"{one}/rollout", callback=rollout, **publishes)
    app.post(f"{one}/halt", callback=halt, **publishes)
    app.post(f"{one}/rollback", callback=rollback, lane="publishing", **publishes)
    app.post(f"{one}/yank", callback=yank, **publishes)
    app.post(f"{one}/unyank", callback=unyank, **publishes)


@operation({201: VERSION, 200: VERSION}, body=OPTIONS, query=OPTIONS, refuses=UPLOAD_REFUSED)
def upload(env: Context, db: Connection, caller: Caller, app: str, retry: Retry) -> Any:
    """Upload a package, as the raw body or as a form.

    Uploading the same bytes again returns 200 and the existing version.
    """
    found, sent = apps.with_role(db, caller, app, "publisher"), SentPackage()
    apps.check_uploader(caller, found)
    spend(env, "upload", caller.account)
    with sent.received(env) as (received, options):
        earlier = retry.earlier_response(dump([received.sha256, *astuple(options)]))
        if earlier is not None:
            env.measures.count("portal_uploads_total", result="known")
            return earlier
        trusted = signing_keys.that_sign(db, found.id)
        version = versions.upload(env, db, caller, found, received, options, trusted)
    uploaded = public(env, db, found, version.version)
    location = f"/v1/apps/{found.package_id}/versions/{quote(version.version.version)}"
    return created(uploaded, location) if version.new else uploaded


@operation(list_of("versions", VERSION))
def index(env: Context, db: Connection, caller: Caller, app: str) -> Json:
    """The versions of an app, newest upload first."""
    found = apps.with_role(db, caller, app, "viewer")
    page = versions.index(db, found, read_page(str))
    return listed("versions", page, [public(env, db, found, version) for version in page.rows])


@operation(VERSION, query=WAIT)
def show(env: Context, db: Connection, caller: Caller, app: str, version: str) -> Json:
    """One version, with its findings, its review and the next step."""
    seconds, found = wait_seconds(), apps.with_role(db, caller, app, "viewer")
    current = public(env, db, found, versions.get(db, found, version))
    if seconds:
        known = first_seen(etag(dump(current)))
        if names_tag(known, etag(dump(current))):
            wait(
                env,
                caller.account,
                seconds,
                lambda: public(env, db, found, versions.get(db, found, version)) != current,
            )
    return current


@operation(
    VERSION,
    body=SUBMIT,
    optional=True,
    refuses=MOVE_REFUSED + " signing_key_revoked email_not_verified",
)
def submit(
    env: Context, db: Connection, caller: Caller, app: str, version: str, body: Json
) -> Json:
    """Submit a version for review."""
    found = apps.with_role(db, caller, app, "publisher")
    moving = _counted(env, versions.get(db, found, version))
    return public(env, db, found, reviews.submit(env, db, caller, moving, body.get("publish")))


@operation(VERSION, body=EMPTY, refuses=MOVE_REFUSED)
def withdraw(env: Context, db: Connection, caller: Caller, app: str, version: str) -> Json:
    """Withdraw a version that was never published; its version string becomes available again."""
    found = apps.with_role(db, caller, app, "publisher")
    return public(env, db, found, reviews.withdraw(db, caller, versions.get(db, found, version)))


@operation(
    VERSION,
    body=PUBLISH,
    further=time_findings,
    optional=True,
    refuses=MOVE_REFUSED
    + " package_unavailable no_space suspended signing_key_revoked email_not_verified",
)
def publish(
    env: Context, db: Connection, caller: Caller, app: str, version: str, body: Json
) -> Json:
    """Publish an approved version: now, at a time, or for a share of the devices; or resume a
    halted one."""
    found = apps.with_role(db, caller, app, "publisher")
    publication = Publication(
        body.get("rollout_percent"), timestamps.stored(body.get("publish_at"))
    )
    moving = _counted(env, versions.get(db, found, version))
    return public(env, db, found, releases.publish(env, db, caller, moving, publication))


@operation(VERSION, body=ROLLOUT, refuses=MOVE_REFUSED)
def rollout(
    env: Context, db: Connection, caller: Caller, app: str, version: str, body: Json
) -> Json:
    """Offer a version to a larger share of the devices."""
    percent = body["percent"]
    found = apps.with_role(db, caller, app, "publisher")
    moving = _counted(env, versions.get(db, found, version))
    return public(env, db, found, releases.rollout(db, caller, moving, percent))


@operation(VERSION, body=EMPTY, refuses=MOVE_REFUSED)
def halt(env: Context, db: Connection, caller: Caller, app: str, version: str) -> Json:
    """Halt a version: no further device is offered it."""
    return _moved(env, db, caller, app, version, "halt")


@operation(VERSION, body=YANK, refuses=MOVE_REFUSED + " package_unavailable no_space")
def rollback(
    env: Context, db: Connection, caller: Caller, app: str, version: str, body: Json
) -> Json:
    """Offer this older version again and halt all newer ones of its channel, in one step."""
    reason = body["reason"]
    found = apps.with_role(db, caller, app, "publisher")
    moving = _counted(env, versions.get(db, found, version))
    return public(env, db, found, releases.rollback(env, db, caller, moving, reason))


@operation(VERSION, body=YANK, refuses=MOVE_REFUSED)
def yank(env: Context, db: Connection, caller: Caller, app: str, version: str, body: Json) -> Json:
    """Withdraw a published version from the store: it can no longer be downloaded."""
    return _moved(env, db, caller, app, version, "yank", yank_reason=body["reason"])


@operation(VERSION, body=EMPTY, refuses=MOVE_REFUSED)
def unyank(env: Context, db: Connection, caller: Caller, app: str, version: str) -> Json:
    """Undo yanking a version."""
    _counted(env, versions.get(db, apps.with_role(db, caller, app, "publisher"), version))
    return _moved(env, db, caller, app, version, "unyank", yank_reason=None)


def _counted(env: Context, version: Version) -> Version:
    """Count a change that brings a version forward. Halting and yanking are not counted: they must
    always be possible, and each requires another change before it can be repeated."""
    spend(env, "version_moves", version.id)
    return version


def _moved(
    env: Context, db: Connection, caller: Caller, app: str, version: str, name: str, **changes: Any
) -> Json:
    with apps.changing(db, caller, app, "publisher") as found:
        return public(
            env,
            db,
            found,
            versions.move(db, caller, versions.get(db, found, version), name, **changes),
        )


def public(env: Context, db: Connection, app: apps.App, version: Version) -> Json:
    standing = review_queue.standing(db, version.id)
    plan = rollout_plans.find(db, version.id)
    path = f"/packages/{app.developer_id}/{app.id}/{quote(version.version)}/package.mosis"
    return shown(
        VERSION,
        version,
        package_id=app.package_id,
        next_step=review_queue.next_step(
            version,
            standing,
            suspended=bool(app.suspended),
            key_revoked=versions.key_is_revoked(db, version),
            planned=rollout_plans.sentence(plan),
        ),
        review=standing and _standing(standing),
        download_url=env.url(path) if version.state in ("published", "halted") else None,
        rollout_plan=rollout_plans.public(plan),
    )


def _standing(standing: Standing) -> Json:
    waiting = {"position": standing.position, "median_wait_seconds": standing.median_wait_seconds}
    return shown(STANDING, standing.review, **waiting)
