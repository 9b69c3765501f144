"""The review desk over HTTP (role reviewer)."""

import json

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.packages.archive import TEXTS
from mosis.publishing import (
    apps,
    listing_changes,
    package_files,
    review_files,
    review_policy,
    reviews,
    versions,
)
from mosis.publishing.review_policy import Changes
from mosis.publishing.reviews import REASONS, Review
from mosis.publishing.versions import Version
from mosis.validation import LINES, Json, Schema, choice, required_text, some_of, text
from mosis.web.file_response import send_file
from mosis.web.long_poll import in_turn
from mosis.web.request import listed, read_choice, read_page, require_match
from mosis.web.schemas import (
    EMPTY,
    File,
    extended_with,
    list_of,
    one_of,
    only,
    operation,
    shape,
    shown,
)

APPROVE: Schema = {"comment": text(5000, regex=LINES), "security": {"type": "boolean"}}
MARK: Schema = {"security": {"type": "boolean", "required": True}}
REJECT = {"reasons": some_of(REASONS, required=True), "comment": required_text(5000)}

STATES = ("waiting", "claimed", "decided")
REVIEW = shape(
    "Review",
    "id app_id package_id version state claimed_by:id? claimed_until? reasons[] comment"
    " submitted_at decided_at? security:bool",
    state=one_of("waiting", "claimed", "approved", "rejected", "withdrawn"),
    reasons=one_of(*REASONS),
)
CHANGES = shape(
    "Changes",
    "since? permissions files findings size_bytes",
    permissions=shape("", "added[] removed[]"),
    files=shape("", "added:dict[] removed:dict[] changed:dict[]"),
    findings=shape("", "added:dict[] gone:dict[]"),
    size_bytes=shape("", "before:int? now:int"),
)
REVIEW_FILE = shape(
    "ReviewFile",
    "path state size_bytes:int? sha256? size_bytes_before:int? sha256_before?",
    state=one_of(*review_files.STATES),
)
SIDE: Schema = {
    "side": choice(
        review_files.SIDES,
        meta="`after` (default): the version under review; `before`: the last published one.",
    )
}
# Never a type that browsers execute: no HTML, no SVG, no script.
TEXT_FILE, OTHER_FILE = "text/plain; charset=utf-8", "application/octet-stream"
IMAGES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
SANDBOX = "default-src 'none'; frame-ancestors 'none'; sandbox"
WHOLE = extended_with(
    "ReviewDetail",
    REVIEW,
    "because[] findings:dict[] permissions[] release_notes size_bytes:int sha256 developer_id"
    " changes name_look_alike?",
    changes=CHANGES,
)


def routes(app: bottle.Bottle) -> None:
    app.get("/reviews", callback=index, scope="reviewer")
    app.get("/reviews/<review>", callback=show, scope="reviewer")
    app.get("/reviews/<review>/package", callback=package, scope="reviewer")
    app.get("/reviews/<review>/files", callback=files, scope="reviewer")
    app.get(
        "/reviews/<review>/files/<path:path>", callback=file, scope="reviewer", lane="publishing"
    )
    app.post("/reviews/<review>/claim", callback=claim, scope="reviewer", idempotent="yes")
    app.post("/reviews/<review>/release", callback=release, scope="reviewer", idempotent="yes")
    app.post("/reviews/<review>/approve", callback=approve, scope="reviewer", idempotent="yes")
    app.route("/reviews/<review>", method="PATCH", callback=mark, scope="reviewer")
    app.post("/reviews/<review>/reject", callback=reject, scope="reviewer", idempotent="yes")


@operation(list_of("reviews", REVIEW), query=only("state", STATES))
def index(db: Connection, caller: Caller) -> Json:
    """Reviews that are waiting, claimed or decided; longest wait first."""
    state = read_choice("state", *STATES, default="waiting")
    page = reviews.index(db, caller, read_page(str, str), str(state))
    return listed("reviews", page, [public(db, review) for review in page.rows])


@operation(WHOLE)
def show(db: Connection, caller: Caller, review: str) -> Json:
    """One review with everything that a reviewer needs to decide."""
    return whole(db, reviews.for_reviewer(db, caller, review))


def whole(db: Connection, found: Review) -> Json:
    version = reviews.version_of(db, found)
    return public(db, found) | {
        "because": json.loads(found.because),
        "findings": json.loads(version.findings),
        "permissions": json.loads(version.permissions),
        "release_notes": version.release_notes,
        "size_bytes": version.size_bytes,
        "sha256": version.sha256,
        "developer_id": versions.developer_of(db, version),
        "changes": changed(review_policy.since_last_published(db, version), version),
        "name_look_alike": listing_changes.first_name_look_alike(db, apps.get(db, version.app_id)),
    }


@operation(File("application/vnd.mosis.package+zip", ranges=True), refuses="gone")
def package(env: Context, db: Connection, caller: Caller, review: str) -> bottle.HTTPResponse:
    """The package under review."""
    version = reviews.version_of(db, reviews.for_reviewer(db, caller, review))
    file = package_files.open_file(env, db, version, turn=in_turn(caller))
    return send_file(
        file,
        version.size_bytes,
        sha256=version.sha256,
        content_type="application/vnd.mosis.package+zip",
        cache_control="no-store",
        changed_at=version.created_at,
    )


@operation(list_of("files", REVIEW_FILE, "since?"))
def files(db: Connection, caller: Caller, review: str) -> Json:
    """The files of the version and of the last published one, by path, and which differ."""
    version = reviews.version_of(db, reviews.for_reviewer(db, caller, review))
    before = versions.last_published(db, version)
    page = review_files.index(db, version, read_page(str))
    files = [shown(REVIEW_FILE, each) for each in page.rows]
    return listed("files", page, files, since=before and before.version)


@operation(File("*/*", ranges=True), query=SIDE, refuses="gone no_space")
def file(
    env: Context, db: Connection, caller: Caller, review: str, path: str
) -> bottle.HTTPResponse:
    """The content of one file. Text is always `text/plain`."""
    side = read_choice("side", *review_files.SIDES, default="after")
    version = reviews.version_of(db, reviews.for_reviewer(db, caller, review))
    content = review_files.open_file(env, db, version, path, str(side), in_turn(caller))
    return send_review_file(content, path)


@operation(REVIEW, body=EMPTY, refuses="already_decided")
def claim(db: Connection, caller: Caller, review: str) -> Json:
    """Claim a review for two hours; repeating extends the claim by two hours."""
    return public(db, reviews.claim(db, caller, reviews.for_reviewer(db, caller, review)))


@operation(REVIEW, body=EMPTY, refuses="already_decided")
def release(db: Connection, caller: Caller, review: str) -> Json:
    """Return a review to the queue, at its old place."""
    return public(db, reviews.release(db, caller, reviews.for_reviewer(db, caller, review)))


@operation(REVIEW, body=APPROVE, optional=True, refuses="already_decided")
def approve(db: Connection, caller: Caller, review: str, body: Json) -> Json:
    """Approve a version."""
    return public(
        db,
        reviews.approve(
            db,
            caller,
            reviews.get(db, review),
            body.get("comment", ""),
            security=body.get("security", False),
        ),
    )


@operation(REVIEW, body=MARK, matches=True, refuses="invalid_state")
def mark(db: Connection, caller: Caller, review: str, body: Json) -> Json:
    """Mark an approved version as a security release, or remove the mark."""
    with db.write():
        found = reviews.for_reviewer(db, caller, review)
        require_match(lambda: whole(db, found))
        return public(db, reviews.mark_security(db, caller, found, body["security"]))


@operation(REVIEW, body=REJECT, refuses="already_decided")
def reject(db: Connection, caller: Caller, review: str, body: Json) -> Json:
    """Reject a version, with reasons and a comment."""
    return public(
        db,
        reviews.reject(
            db, caller, reviews.get(db, review), [*dict.fromkeys(body["reasons"])], body["comment"]
        ),
    )


def send_review_file(content: review_files.Content, path: str) -> bottle.HTTPResponse:
    """A file of a package as a response that browsers display but never execute."""
    extension = path.rpartition(".")[2].lower()
    kind = TEXT_FILE if extension in TEXTS else IMAGES.get(extension, OTHER_FILE)
    response = send_file(
        content.file,
        content.size_bytes,
        sha256=content.sha256,
        content_type=kind,
        cache_control="no-store",
    )
    response.set_header("Content-Security-Policy", SANDBOX)
    response.set_header("Cross-Origin-Resource-Policy", "same-origin")
    if kind == OTHER_FILE:
        response.set_header("Content-Disposition", "attachment")
    return response


def changed(found: Changes, version: Version) -> Json:
    """The changes of a version, in the form of responses."""
    return {
        "since": found.since and found.since.version,
        "permissions": {"added": found.permissions_added, "removed": found.permissions_removed},
        "files": {
            "added": found.files_added,
            "removed": found.files_removed,
            "changed": found.files_changed,
        },
        "findings": {"added": found.findings_added, "gone": found.findings_gone},
        "size_bytes": {"before": found.since and found.since.size_bytes, "now": version.size_bytes},
    }


def public(db: Connection, review: Review) -> Json:
    version = reviews.version_of(db, review)
    package_id = apps.get(db, version.app_id).package_id
    return shown(
        REVIEW,
        review,
        app_id=version.app_id,
        package_id=package_id,
        version=version.version,
        security=bool(version.security),
    )
