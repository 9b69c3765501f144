"""Uploading versions and moving them, over HTTP."""

import json
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any
from urllib.parse import quote

import bottle

from mosis import packages
from mosis.caller import Caller
from mosis.clock import is_time
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import PortalError
from mosis.people import keys
from mosis.publishing import apps, releases, reviews, rollout_plans, versions
from mosis.publishing.releases import Publication
from mosis.publishing.versions import Created, Version
from mosis.validation import LINES, SENTENCE, Finding, finding, pattern
from mosis.validation.strict_json import dump_json as dump
from mosis.web.long_poll import WAIT, first_seen, wait, wait_seconds
from mosis.web.openapi_schemas import (
    COUNT,
    FREE,
    ID,
    LINK,
    NUMBER,
    TEXT,
    TIME,
    list_of,
    many,
    nullable,
    one_of,
    operation,
    shape,
)
from mosis.web.package_upload import LONGEST_NOTES, ReceivedUpload
from mosis.web.request import (
    body_is,
    created,
    etag,
    listed,
    names_tag,
    read_json,
    read_page,
    spend,
)
from mosis.web.rollout_schemas import PLAN

PUBLISH = {
    "rollout_percent": {"type": "number", "min": 0.1, "max": 100},
    "publish_at": {
        "type": "string",
        "maxlength": 20,
        "regex": pattern(
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z",
            "This must be a time in UTC such as 2027-01-31T12:00:00Z.",
        ),
    },
}
SUBMIT = {"publish": {"type": "boolean"}}
ROLLOUT = {"percent": {"type": "number", "required": True, "min": 0.1, "max": 100}}
YANK = {
    "reason": {
        "type": "string",
        "required": True,
        "minlength": 1,
        "maxlength": 500,
        "regex": SENTENCE,
    }
}
ROLLBACK = YANK
NOTHING: dict[str, dict[str, Any]] = {}

CHANNELS = ("stable", "beta")
STATES = sorted({state for before, after in versions.MOVES.values() for state in (*before, after)})
VERSION = shape(
    "Version",
    id=ID,
    app_id=ID,
    package_id=TEXT,
    version=TEXT,
    version_code=COUNT,
    channel=one_of(*CHANNELS),
    state=one_of(*STATES),
    next_step=TEXT,
    findings=many(FREE),
    review=nullable(
        shape(
            "Standing",
            id=ID,
            state=TEXT,
            position=nullable(COUNT),
            median_wait_seconds=nullable(NUMBER),
            reasons=many(TEXT),
            comment=TEXT,
        )
    ),
    permissions=many(TEXT),
    min_mosis_version=nullable(TEXT),
    release_notes=TEXT,
    size_bytes=COUNT,
    sha256=TEXT,
    signing_key_id=nullable(ID),
    rollout_percent=NUMBER,
    publish_at=nullable(TIME),
    download_url=nullable(LINK),
    created_at=TIME,
    submitted_at=nullable(TIME),
    decided_at=nullable(TIME),
    published_at=nullable(TIME),
    package_removed_at=nullable(TIME),
    rollout_plan=nullable(PLAN),
)
_FLAG = {"type": "boolean"}
SAID: dict[str, dict[str, Any]] = {
    "channel": {
        "type": "string",
        "allowed": [*CHANNELS],
        "meta": "Unless said: beta for a version with a pre-release suffix.",
    },
    "release_notes": {
        "type": "string",
        "maxlength": LONGEST_NOTES,
        "regex": LINES,
        "meta": "What is new.",
    },
    "submit": _FLAG | {"meta": "`true`: submit it when the checks are through."},
    "publish": _FLAG | {"meta": "`true`: publish it once it is approved."},
}
MOVE_REFUSED = "invalid_state version_code_not_higher"
UPLOAD_REFUSED = (
    "version_exists version_code_not_higher package_rejected quota_exceeded invalid_state suspended"
    " package_unavailable"
)


def routes(app: bottle.Bottle) -> None:
    app.post(
        "/apps/<app>/versions",
        callback=upload,
        scope="versions:upload",
        body="package",
        lane="uploads",
        idempotent="deferred",
    )
    app.get("/apps/<app>/versions", callback=index, scope="apps:read")
    app.get("/apps/<app>/versions/<version>", callback=show, scope="apps:read")
    app.post(
        "/apps/<app>/versions/<version>/submit",
        callback=submit,
        scope="versions:upload",
        idempotent="yes",
    )
    app.post(
        "/apps/<app>/versions/<version>/withdraw",
        callback=withdraw,
        scope="versions:upload",
        idempotent="yes",
    )
    app.post(
        "/apps/<app>/versions/<version>/publish",
        callback=publish,
        scope="versions:publish",
        lane="publishing",
        idempotent="yes",
    )
    app.post(
        "/apps/<app>/versions/<version>/rollout",
        callback=rollout,
        scope="versions:publish",
        idempotent="yes",
    )
    app.post(
        "/apps/<app>/versions/<version>/halt",
        callback=halt,
        scope="versions:publish",
        idempotent="yes",
    )
    app.post(
        "/apps/<app>/versions/<version>/rollback",
        callback=rollback,
        scope="versions:publish",
        lane="publishing",
        idempotent="yes",
    )
    app.post(
        "/apps/<app>/versions/<version>/yank",
        callback=yank,
        scope="versions:publish",
        idempotent="yes",
    )
    app.post(
        "/apps/<app>/versions/<version>/unyank",
        callback=unyank,
        scope="versions:publish",
        idempotent="yes",
    )


@operation({201: VERSION, 200: VERSION}, body=SAID, query=SAID, refuses=UPLOAD_REFUSED)
def upload(env: Context, db: Connection, caller: Caller, app: str) -> dict[str, Any]:
    """Upload a package, as the raw body or as a form.

    The same bytes sent again give 200 and the version that is there.
    """
    made = receive(env, db, caller, app, ReceivedUpload())
    found = apps.get(db, made.version.app_id)
    shown = public(env, db, found, made.version)
    return created(shown, location(found, made.version)) if made.new else shown


def receive(
    env: Context,
    db: Connection,
    caller: Caller,
    app: str,
    sent: ReceivedUpload,
    check: Callable[[], None] = lambda: None,
) -> Created:
    """Receive a package, inspect it and record its version. `check` is called when the body has been read, before anything is
    done with it."""
    found = apps.with_role(db, caller, app, "publisher")
    spend(env, "upload", caller.account)
    received = env.files.receive(sent.stream, env.config.package_limit_bytes, sent.length)
    result = "known"
    try:
        sent.check_digests()
        check()
        said = sent.upload()
        body_is(dump([received.sha256, *astuple(said)]))
        package = packages.inspect(
            received.path,
            package_id=found.package_id,
            keys=keys.that_sign(db, found.id),
        )
        with db.write():
            version = versions.create(
                db,
                env.config,
                caller,
                apps.with_role(db, caller, app, "publisher"),
                package,
                received,
                said,
            )
            if version.new:
                env.files.keep(received, versions.path(env.files, db, version.version))
                result = "taken"
        env.measures.count("portal_upload_bytes_total", received.size_bytes)
    except PortalError:
        result = "refused"
        raise
    finally:
        env.measures.count("portal_uploads_total", result=result)
        received.discard()
    return version


@operation(list_of("versions", VERSION))
def index(env: Context, db: Connection, caller: Caller, app: str) -> dict[str, Any]:
    """The versions of an app, the newest upload first."""
    found = apps.with_role(db, caller, app, "viewer")
    page = versions.index(db, found, read_page(str))
    return listed("versions", page, [public(env, db, found, version) for version in page.rows])


@operation(VERSION, query=WAIT)
def show(env: Context, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    """One version, with its findings, its review and what happens next."""
    seconds, found = wait_seconds(), apps.with_role(db, caller, app, "viewer")
    shown = public(env, db, found, versions.get(db, found, version))
    if seconds:
        known = first_seen(etag(dump(shown)))
        if names_tag(known, etag(dump(shown))):
            wait(
                env,
                caller.account,
                seconds,
                lambda: public(env, db, found, versions.get(db, found, version)) != shown,
            )
    return shown


@operation(VERSION, body=SUBMIT, optional=True, refuses=MOVE_REFUSED + " signing_key_revoked")
def submit(env: Context, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    """Hand a version to the reviewers."""
    said = read_json(SUBMIT, optional=True)
    found = apps.with_role(db, caller, app, "publisher")
    moving = _counted(env, versions.get(db, found, version))
    return public(env, db, found, reviews.submit(env, db, caller, moving, said.get("publish")))


@operation(VERSION, body=NOTHING, optional=True, refuses=MOVE_REFUSED)
def withdraw(
    env: Context, db: Connection, caller: Caller, app: str, version: str
) -> dict[str, Any]:
    """Take back what was never published; the version string is free again."""
    read_json(NOTHING, optional=True)
    found = apps.with_role(db, caller, app, "publisher")
    return public(env, db, found, reviews.withdraw(db, caller, versions.get(db, found, version)))


@operation(
    VERSION,
    body=PUBLISH,
    optional=True,
    refuses=MOVE_REFUSED + " package_unavailable no_space suspended signing_key_revoked",
)
def publish(env: Context, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    """Publish an approved version: now, at a time, or to a share of the devices; or resume a halted one."""
    said = read_json(PUBLISH, optional=True, further=time_findings)
    found = apps.with_role(db, caller, app, "publisher")
    publication = Publication(said.get("rollout_percent"), said.get("publish_at"))
    moving = _counted(env, versions.get(db, found, version))
    return public(env, db, found, releases.publish(env, db, caller, moving, publication))


@operation(VERSION, body=ROLLOUT, refuses=MOVE_REFUSED)
def rollout(env: Context, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    """Offer a version to a larger share of the devices."""
    percent = read_json(ROLLOUT)["percent"]
    found = apps.with_role(db, caller, app, "publisher")
    moving = _counted(env, versions.get(db, found, version))
    return public(env, db, found, releases.rollout(db, caller, moving, percent))


@operation(VERSION, body=NOTHING, optional=True, refuses=MOVE_REFUSED)
def halt(env: Context, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    """Offer a version to no further device."""
    read_json(NOTHING, optional=True)
    return _moved(env, db, caller, app, version, "halt")


@operation(VERSION, body=ROLLBACK, refuses=MOVE_REFUSED + " package_unavailable no_space")
def rollback(
    env: Context, db: Connection, caller: Caller, app: str, version: str
) -> dict[str, Any]:
    """Offer this older version again and halt all newer ones of its channel, in one step."""
    reason = read_json(ROLLBACK)["reason"]
    found = apps.with_role(db, caller, app, "publisher")
    moving = _counted(env, versions.get(db, found, version))
    return public(env, db, found, releases.rollback(env, db, caller, moving, reason))


@operation(VERSION, body=YANK, refuses=MOVE_REFUSED)
def yank(env: Context, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    """Take a version out of the store: it cannot be fetched any more."""
    return _moved(env, db, caller, app, version, "yank", yank_reason=read_json(YANK)["reason"])


@operation(VERSION, body=NOTHING, optional=True, refuses=MOVE_REFUSED)
def unyank(env: Context, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    """Bring a yanked version back."""
    read_json(NOTHING, optional=True)
    _counted(env, versions.get(db, apps.with_role(db, caller, app, "publisher"), version))
    return _moved(env, db, caller, app, version, "unyank", yank_reason=None)


def _counted(env: Context, version: Version) -> Version:
    """Count a move that brings a version forward. Halting and yanking are not counted: they must always be possible, and each
    needs another move before it can be made again."""
    spend(env, "version_moves", version.id)
    return version


def _moved(
    env: Context,
    db: Connection,
    caller: Caller,
    app: str,
    version: str,
    name: str,
    **changes: Any,
) -> dict[str, Any]:
    with db.write():
        found = apps.with_role(db, caller, app, "publisher")
        return public(
            env,
            db,
            found,
            versions.move(db, caller, versions.get(db, found, version), name, **changes),
        )


def location(app: apps.App, version: Version) -> str:
    return f"/v1/apps/{app.package_id}/versions/{quote(version.version)}"


def public(env: Context, db: Connection, app: apps.App, version: Version) -> dict[str, Any]:
    standing = reviews.standing(db, version.id)
    review = standing and {
        "id": standing.review.id,
        "state": standing.review.state,
        "position": standing.position,
        "median_wait_seconds": standing.median_wait_seconds,
        "reasons": json.loads(standing.review.reasons),
        "comment": standing.review.comment,
    }
    plan = rollout_plans.find(db, version.id)
    path = f"/packages/{app.developer_id}/{app.id}/{quote(version.version)}/package.mosis"
    return {
        "id": version.id,
        "app_id": version.app_id,
        "package_id": app.package_id,
        "version": version.version,
        "version_code": version.version_code,
        "channel": version.channel,
        "state": version.state,
        "next_step": reviews.next_step(
            version,
            standing,
            suspended=bool(app.suspended),
            key_revoked=versions.key_is_revoked(db, version),
            planned=rollout_plans.sentence(plan),
        ),
        "findings": json.loads(version.findings),
        "review": review,
        "permissions": json.loads(version.permissions),
        "min_mosis_version": version.min_mosis_version,
        "release_notes": version.release_notes,
        "size_bytes": version.size_bytes,
        "sha256": version.sha256,
        "signing_key_id": version.signing_key_id,
        "rollout_percent": version.rollout_percent,
        "publish_at": version.publish_at,
        "download_url": env.url(path) if version.state in ("published", "halted") else None,
        "created_at": version.created_at,
        "submitted_at": version.submitted_at,
        "decided_at": version.decided_at,
        "published_at": version.published_at,
        "package_removed_at": version.package_removed_at,
        "rollout_plan": rollout_plans.public(plan),
    }


def time_findings(fields: Mapping[str, Any]) -> list[Finding]:
    if "publish_at" not in fields or is_time(fields["publish_at"]):
        return []
    return [finding("/publish_at", "wrong_format", "There is no such time.")]
