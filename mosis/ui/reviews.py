"""The review desk: the queue, one review with its line diff, its conversation, and the decision."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from bottle import HTTPResponse, request

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.errors import NotFound
from mosis.people import accounts
from mosis.publishing import (
    apps,
    line_diff,
    listing_changes,
    review_files,
    review_messages,
    review_policy,
    reviews,
)
from mosis.publishing.apps import App
from mosis.publishing.review_files import ReviewFile
from mosis.publishing.reviews import REASONS, Review
from mosis.publishing.versions import Version
from mosis.records import dataclass
from mosis.ui import listing_changes as listings
from mosis.ui.apps import CHECKBOX
from mosis.ui.pages import Page, Section
from mosis.validation import Json, Schema, choice
from mosis.web.listing_changes import STATES as LISTING_STATES
from mosis.web.long_poll import in_turn
from mosis.web.plugins import Portal
from mosis.web.request import read_choice
from mosis.web.review_messages import SAY_AS_REVIEWER
from mosis.web.reviews import APPROVE, IMAGES, REJECT, STATES, send_review_file

LINES = 1500  # of a diff on one page
MESSAGES = 500
LISTINGS = 10
SEVERITIES = ("error", "warning", "info")
SAY_HERE: Schema = {"text": SAY_AS_REVIEWER["text"], "internal": choice(("yes",))}
APPROVE_HERE: Schema = APPROVE | {"security": CHECKBOX}


def routes(app: Portal) -> None:
    pages = Section(app, "/console/reviews", scope="reviewer", again=show)
    pages.get("", index)
    pages.get("/<review>", show, lane="publishing")
    pages.get("/<review>/files/<path:path>", file, lane="publishing")
    pages.post("/<review>/claim", claim)
    pages.post("/<review>/release", release)
    pages.post("/<review>/approve", approve)
    pages.post("/<review>/reject", reject)
    pages.post("/<review>/messages", say)


@dataclass(frozen=True)
class Row:
    """A review as the queue shows it."""

    review: Review
    version: Version
    app: App
    developer: str
    icon: str  # its address; empty if the package was removed
    because: list[str]
    severities: list[tuple[str, int]]
    claimed_by: str


def index(db: Connection, caller: Caller, page: Page) -> bytes:
    """Reviews that are waiting, claimed or decided, except those of apps that the caller works on."""
    state = str(read_choice("state", *STATES, default="waiting"))
    paging = page.request(str, str)
    found = reviews.index(db, caller, paging, state)
    # the first page shows the listing changes too
    changes = (
        listing_changes.queue(db, caller, PageRequest(LISTINGS), state)
        if state in LISTING_STATES and not paging.after
        else None
    )
    return page.render(
        "reviews.tpl",
        rows=[_row(db, page, review) for review in found.rows],
        state=state,
        states=STATES,
        next_cursor=found.next_cursor,
        listings=[listings.row_of(db, change) for change in changes.rows] if changes else [],
        more_listings=bool(changes and changes.next_cursor),
    )


def show(env: Context, db: Connection, caller: Caller, page: Page, review: str) -> bytes:
    """One review with everything needed for a decision."""
    found = reviews.for_reviewer(db, caller, review)
    version = reviews.version_of(db, found)
    changes = review_policy.since_last_published(db, version)
    tree = review_files.tree(db, version)
    findings = json.loads(version.findings)
    chosen = _chosen(tree, findings)
    return page.render(
        "review.tpl",
        row=_row(db, page, found),
        version=version,
        changes=changes,
        look_alike=listing_changes.first_name_look_alike(db, apps.get(db, version.app_id)),
        permissions=json.loads(version.permissions),
        findings=sorted(findings, key=lambda each: SEVERITIES.index(each["severity"])),
        tree=[each for each in tree if each.state != "same"],
        same=[each for each in tree if each.state == "same"],
        file=chosen and _file(env, db, caller, page, found, version, chosen, findings),
        messages=_messages(db, version),
        reasons=REASONS,
        decided_reasons=json.loads(found.reasons),
        is_open=found.state in ("waiting", "claimed"),
        is_mine=found.claimed_by == caller.account,
        may_release=found.claimed_by == caller.account or caller.has_role("admin"),
        address=lambda path, line=0: _address(page, found.id, path, line),
    )


def file(env: Context, db: Connection, caller: Caller, review: str, path: str) -> HTTPResponse:
    """The content of one file, as the API returns it."""
    side = str(read_choice("side", *review_files.SIDES, default="after"))
    version = reviews.version_of(db, reviews.for_reviewer(db, caller, review))
    return send_review_file(
        review_files.open_file(env, db, version, path, side, in_turn(caller)), path
    )


def claim(db: Connection, caller: Caller, page: Page, review: str) -> HTTPResponse:
    """Claim a review, or extend the claim."""
    reviews.claim(db, caller, reviews.for_reviewer(db, caller, review))
    return page.see_other(f"/console/reviews/{review}", notice="claimed")


def release(db: Connection, caller: Caller, page: Page, review: str) -> HTTPResponse:
    """Return a review to the queue."""
    reviews.release(db, caller, reviews.for_reviewer(db, caller, review))
    return page.see_other("/console/reviews", notice="released")


def approve(db: Connection, caller: Caller, page: Page, review: str) -> HTTPResponse:
    """Approve the version."""
    form = page.form.checked(APPROVE_HERE, trimmed=("comment",))
    reviews.approve(
        db, caller, reviews.get(db, review), form.get("comment", ""), security="security" in form
    )
    return page.see_other("/console/reviews", notice="approved")


def reject(db: Connection, caller: Caller, page: Page, review: str) -> HTTPResponse:
    """Reject the version, with reasons and a comment."""
    form = page.form.checked(REJECT, trimmed=("comment",), lists=("reasons",))
    reasons = [*dict.fromkeys(form["reasons"])]
    reviews.reject(db, caller, reviews.get(db, review), reasons, form["comment"])
    return page.see_other("/console/reviews", notice="rejected")


def say(db: Connection, caller: Caller, page: Page, review: str) -> HTTPResponse:
    """Send a message to the developer, or an internal one."""
    form = page.form.checked(SAY_HERE, trimmed=("text",))
    version = reviews.version_of(db, reviews.for_reviewer(db, caller, review))
    internal = "internal" in form
    review_messages.add(db, caller, version, "reviewer", form["text"], internal=internal)
    return page.see_other(f"/console/reviews/{review}", notice="noted" if internal else "written")


def _row(db: Connection, page: Page, review: Review) -> Row:
    version = reviews.version_of(db, review)
    app = apps.get(db, version.app_id)
    counted = Counter(finding["severity"] for finding in json.loads(version.findings))
    icon = "" if version.package_removed_at else review_files.icon_path(db, version)
    return Row(
        review,
        version,
        app,
        _name(db, app.developer_id),
        icon and _file_address(page, review.id, icon),
        json.loads(review.because),
        [(name, counted[name]) for name in SEVERITIES if counted[name]],
        _name(db, review.claimed_by) if review.claimed_by else "",
    )


def _name(db: Connection, account: str) -> str:
    """An account's name; empty if the account does not exist any more."""
    try:
        return accounts.get(db, account).name
    except NotFound:
        return ""


def _messages(db: Connection, version: Version) -> list[tuple[Any, str]]:
    """The conversation, with the names of the authors."""
    found = review_messages.index(db, version, PageRequest(MESSAGES), internal=True).rows
    return [(message, _name(db, message.author_id)) for message in found]


def _chosen(tree: list[ReviewFile], findings: Iterable[Json]) -> ReviewFile | None:
    """The file named in the query, otherwise the first to look at: changed, and with a finding."""
    wanted = request.query.getunicode("file")
    if wanted is not None:
        found = next((each for each in tree if each.path == wanted), None)
        if found is None:
            raise NotFound("file")
        return found
    noted = {finding["path"] for finding in findings}

    def rank(each: ReviewFile) -> tuple[bool, bool, bool]:
        is_code = each.path.endswith((".lua", ".rml", ".json"))
        return each.state == "same", each.path not in noted, not is_code

    return min(tree, key=rank, default=None)


def _file(
    env: Context,
    db: Connection,
    caller: Caller,
    page: Page,
    review: Review,
    version: Version,
    chosen: ReviewFile,
    findings: Iterable[Json],
) -> Json:
    """The view of the chosen file: both pictures, or a part of the diff."""
    path = chosen.path
    by_line: dict[int, list[Json]] = {}
    for finding in findings:
        if finding["path"] == path and finding["line"]:
            by_line.setdefault(finding["line"], []).append(finding)
    sides = [side for side, size in (("before", chosen.size_bytes_before), ("after", chosen.size_bytes))
             if size is not None]  # fmt: skip
    raw = [(side, _file_address(page, review.id, path) + f"?side={side}") for side in sides]
    found = {"path": path, "state": chosen.state, "raw": raw, "kind": "picture", "by_line": by_line}
    if path.rpartition(".")[2].lower() in IMAGES:
        return found
    contents = [
        review_files.read_file(env, db, version, path, side, line_diff.MOST_BYTES, in_turn(caller))
        if side in sides
        else b""
        for side in review_files.SIDES
    ]
    before, after = contents
    if before is None or after is None:
        return found | {"kind": "other"}
    if not (line_diff.is_comparable(before) and line_diff.is_comparable(after)):
        return found | {"kind": "other"}
    diff = line_diff.diff(before, after, by_line)
    first = _first()
    return found | {
        "kind": "text",
        "exact": diff.exact,
        # each with its visible text, and the number of characters left out
        "lines": [
            (each, *line_diff.shown(each.text)) for each in diff.lines[first : first + LINES]
        ],
        "first": first,
        "next": first + LINES if first + LINES < len(diff.lines) else 0,
        "total": len(diff.lines),
    }


def _first() -> int:
    """The start of the shown part of a long diff."""
    asked = request.query.get("from", "0")
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 0


def _address(page: Page, review: str, path: str, line: int = 0) -> str:
    """The address of the page with this file selected, at this line."""
    place = f"line-{line}" if line else "file"
    return page.url(f"/console/reviews/{review}", file=path) + "#" + place


def _file_address(page: Page, review: str, path: str) -> str:
    """The address of a file's content."""
    return page.url(f"/console/reviews/{review}/files/") + quote(path, safe="/")
