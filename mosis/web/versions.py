"""Uploading versions and moving them, over HTTP."""

import json
from typing import Any
from urllib.parse import quote

import bottle

from mosis import apps, keys, packages, reviews, versions
from mosis.callers import Caller
from mosis.clock import is_time
from mosis.db import Connection
from mosis.environment import Environment
from mosis.errors import Invalid
from mosis.versions import Publication, Version
from mosis.web.request import created, dump, etag, listed, names_tag, read_json, read_page
from mosis.web.upload import check_content_digest, read_upload
from mosis.web.waiting import first_seen, wait, wait_seconds

PUBLISH = {
    "rollout_percent": {"type": "number", "min": 0.1, "max": 100},
    "publish_at": {"type": "string", "maxlength": 20, "regex": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z"},
}
SUBMIT = {"publish": {"type": "boolean"}}
ROLLOUT = {"percent": {"type": "number", "required": True, "min": 0.1, "max": 100}}
YANK = {"reason": {"type": "string", "required": True, "minlength": 1, "maxlength": 500}}
ROLLBACK = YANK
NOTHING: dict[str, dict[str, Any]] = {}


def routes(app: bottle.Bottle) -> None:
    app.post("/apps/<app>/versions", callback=upload, scope="versions:upload", body="package", lane="slow")
    app.get("/apps/<app>/versions", callback=index, scope="apps:read")
    app.get("/apps/<app>/versions/<version>", callback=show, scope="apps:read")
    app.post("/apps/<app>/versions/<version>/submit", callback=submit, scope="versions:upload", idempotent="yes")
    app.post("/apps/<app>/versions/<version>/withdraw", callback=withdraw, scope="versions:upload", idempotent="yes")
    app.post("/apps/<app>/versions/<version>/publish", callback=publish, scope="versions:publish", lane="slow", idempotent="yes")
    app.post("/apps/<app>/versions/<version>/rollout", callback=rollout, scope="versions:publish", idempotent="yes")
    app.post("/apps/<app>/versions/<version>/halt", callback=halt, scope="versions:publish", idempotent="yes")
    app.post("/apps/<app>/versions/<version>/rollback", callback=rollback, scope="versions:publish", lane="slow", idempotent="yes")
    app.post("/apps/<app>/versions/<version>/yank", callback=yank, scope="versions:publish", idempotent="yes")
    app.post("/apps/<app>/versions/<version>/unyank", callback=unyank, scope="versions:publish", idempotent="yes")


def upload(env: Environment, db: Connection, caller: Caller, app: str) -> dict[str, Any]:
    found, sent = apps.owned_by(db, caller, app), read_upload()
    received = env.files.receive(sent.stream, env.config.package_limit_bytes, sent.length)
    result = "refused"
    try:
        check_content_digest(received.sha256)
        said = sent.upload()
        package = packages.inspect(
            received.path, package_id=found.package_id, keys=keys.live_signing_keys(db, found.developer_id),
        )
        with db.write():
            version = versions.create(db, caller, apps.owned_by(db, caller, app), package, received, said)
            if version.new:
                env.files.keep(received, versions.path(env.files, db, version.version))
        result = "taken" if version.new else "known"
        env.measures.count("portal_upload_bytes_total", received.size_bytes)
    finally:
        env.measures.count("portal_uploads_total", result=result)
        received.discard()
    shown = public(env, db, found, version.version)
    return created(shown, location(found, version.version)) if version.new else shown


def index(env: Environment, db: Connection, caller: Caller, app: str) -> dict[str, Any]:
    found = apps.owned_by(db, caller, app)
    page = versions.index(db, found, read_page(str))
    return listed("versions", page, [public(env, db, found, version) for version in page.rows])


def show(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    seconds, found = wait_seconds(), apps.owned_by(db, caller, app)
    shown = public(env, db, found, versions.get(db, found, version))
    if seconds:
        known = first_seen(etag(dump(shown)))
        if names_tag(known, etag(dump(shown))):
            wait(env, caller.account, seconds, lambda: public(env, db, found, versions.get(db, found, version)) != shown)
    return shown


def submit(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    said = read_json(SUBMIT, optional=True)
    found = apps.owned_by(db, caller, app)
    return public(env, db, found, reviews.submit(env, db, caller, versions.get(db, found, version), said.get("publish")))


def withdraw(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    read_json(NOTHING, optional=True)
    found = apps.owned_by(db, caller, app)
    return public(env, db, found, reviews.withdraw(db, caller, versions.get(db, found, version)))


def publish(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    said = read_json(PUBLISH, optional=True)
    found = apps.owned_by(db, caller, app)
    publication = Publication(said.get("rollout_percent", 100), _time(said.get("publish_at")))
    return public(env, db, found, versions.publish(env, db, caller, versions.get(db, found, version), publication))


def rollout(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    percent = read_json(ROLLOUT)["percent"]
    found = apps.owned_by(db, caller, app)
    return public(env, db, found, versions.rollout(db, caller, versions.get(db, found, version), percent))


def halt(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    read_json(NOTHING, optional=True)
    return _moved(env, db, caller, app, version, "halt")


def rollback(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    reason = read_json(ROLLBACK)["reason"]
    found = apps.owned_by(db, caller, app)
    return public(env, db, found, versions.rollback(env, db, caller, versions.get(db, found, version), reason))


def yank(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    return _moved(env, db, caller, app, version, "yank", yank_reason=read_json(YANK)["reason"])


def unyank(env: Environment, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    read_json(NOTHING, optional=True)
    return _moved(env, db, caller, app, version, "unyank", yank_reason=None)


def _moved(
    env: Environment, db: Connection, caller: Caller, app: str, version: str, name: str, **changes: Any
) -> dict[str, Any]:
    with db.write():
        found = apps.owned_by(db, caller, app)
        return public(env, db, found, versions.move(db, caller, versions.get(db, found, version), name, **changes))


def location(app: apps.App, version: Version) -> str:
    return f"/v1/apps/{app.package_id}/versions/{quote(version.version)}"


def public(env: Environment, db: Connection, app: apps.App, version: Version) -> dict[str, Any]:
    standing = reviews.standing(db, version.id)
    review = standing and {
        "id": standing.review.id, "state": standing.review.state, "position": standing.position,
        "median_wait_seconds": standing.median_wait_seconds, "reasons": json.loads(standing.review.reasons),
        "comment": standing.review.comment,
    }
    path = f"/packages/{app.developer_id}/{app.id}/{quote(version.version)}/package.mosis"
    return {
        "id": version.id, "app_id": version.app_id, "package_id": app.package_id, "version": version.version,
        "version_code": version.version_code, "channel": version.channel, "state": version.state,
        "next_step": reviews.next_step(version, standing), "findings": json.loads(version.findings), "review": review,
        "permissions": json.loads(version.permissions), "min_mosis_version": version.min_mosis_version,
        "release_notes": version.release_notes, "size_bytes": version.size_bytes, "sha256": version.sha256,
        "signing_key_id": version.signing_key_id, "rollout_percent": version.rollout_percent, "publish_at": version.publish_at,
        "download_url": env.url(path) if version.state in ("published", "halted") else None,
        "created_at": version.created_at, "submitted_at": version.submitted_at, "decided_at": version.decided_at,
        "published_at": version.published_at,
    }


def _time(text: str | None) -> str | None:
    if text is not None and not is_time(text):
        raise Invalid([{"pointer": "/publish_at", "code": "wrong_format", "detail": "There is no such time."}])
    return text
