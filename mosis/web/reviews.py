"""The review desk over HTTP (role reviewer)."""

import json
from typing import Any

import bottle

from mosis import apps, reviews, versions
from mosis.callers import Caller
from mosis.db import Connection
from mosis.reviews import REASONS, Review
from mosis.web.request import listed, read_choice, read_json, read_page

_TEXT = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*"
_COMMENT = {"type": "string", "maxlength": 5000, "regex": rf"{_TEXT}\Z"}
APPROVE = {"comment": _COMMENT}
REJECT = {
    "reasons": {"type": "list", "required": True, "minlength": 1, "maxlength": len(REASONS),
                "schema": {"type": "string", "allowed": list(REASONS)}},
    "comment": _COMMENT | {"required": True, "minlength": 1, "regex": rf"\s*\S{_TEXT}\Z"},
}


def routes(app: bottle.Bottle) -> None:
    app.get("/reviews", callback=index, scope="reviewer")
    app.get("/reviews/<review>", callback=show, scope="reviewer")
    app.post("/reviews/<review>/approve", callback=approve, scope="reviewer")
    app.post("/reviews/<review>/reject", callback=reject, scope="reviewer")


def index(db: Connection) -> dict[str, Any]:
    state = read_choice("state", "waiting", "claimed", "decided", default="waiting")
    page = reviews.index(db, read_page(str, str), str(state))
    return listed("reviews", page, [public(db, review) for review in page.rows])


def show(db: Connection, review: str) -> dict[str, Any]:
    return public(db, reviews.get(db, review))


def approve(db: Connection, caller: Caller, review: str) -> dict[str, Any]:
    said = read_json(APPROVE, optional=True)
    return public(db, reviews.approve(db, caller, reviews.get(db, review), said.get("comment", "")))


def reject(db: Connection, caller: Caller, review: str) -> dict[str, Any]:
    said = read_json(REJECT)
    return public(db, reviews.reject(db, caller, reviews.get(db, review), said["reasons"], said["comment"]))


def public(db: Connection, review: Review) -> dict[str, Any]:
    version = versions.by_id(db, review.version_id)
    assert version is not None  # reviews go with their version
    app = apps.get(db, version.app_id)
    return {
        "id": review.id, "app_id": app.id, "package_id": app.package_id, "version": version.version, "state": review.state,
        "claimed_by": review.claimed_by, "claimed_until": review.claimed_until, "reasons": json.loads(review.reasons),
        "comment": review.comment, "submitted_at": review.submitted_at, "decided_at": review.decided_at,
    }
