"""A developer's apps: making one, uploading, one version with its checks and moves, what the store shows of it."""

import json
from typing import Any

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.errors import Invalid, NotFound
from mosis.people import signing_keys
from mosis.publishing import (
    apps,
    listing_changes,
    members,
    releases,
    review_messages,
    review_queue,
    reviews,
    rollout_plans,
    versions,
)
from mosis.publishing.apps import App
from mosis.publishing.releases import Publication
from mosis.publishing.versions import Version
from mosis.ui import forms
from mosis.ui import listing_changes as listings
from mosis.ui import rollout_plans as plan_forms
from mosis.ui.pages import Page, Section
from mosis.validation import Json, Schema, check, choice, pattern, text
from mosis.web import apps as api
from mosis.web import versions as api_versions
from mosis.web.events import stream
from mosis.web.package_upload import SentPackage
from mosis.web.plugins import Portal
from mosis.web.request import spend
from mosis.web.review_messages import SAY
from mosis.web.versions import YANK

MESSAGES = 500
COUNTED = ("submit", "publish", "rollout", "rollback", "unyank")
_NUMBER = text(
    5, regex=pattern(r"[0-9]{1,3}(?:\.[0-9])?\Z", "This must be a share from 0.1 to 100 percent.")
)
CHECKBOX: Json = choice(("yes",))
CREATE_HERE: Schema = {name: api.CREATE[name] for name in ("package_id", "name")}
LISTING: Schema = {
    name: api.CHANGE[name] for name in ("name", "summary", "description", "category", "homepage")
} | {"tags": text(500)}
MOVES: dict[str, Schema] = {
    "submit": {"publish": CHECKBOX},
    "withdraw": {},
    "publish": {
        "rollout_percent": _NUMBER,
        "publish_at": text(
            16,
            regex=pattern(
                r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}\Z",
                "This must be a day and a time in UTC such as 2027-01-31T12:00.",
            ),
        ),
    },
    "rollout": {"percent": _NUMBER | {"required": True}},
    "halt": {},
    "rollback": YANK,
    "yank": YANK,
    "unyank": {},
}
TAGS: Schema = {"tags": api.CHANGE["tags"]}


def routes(app: Portal) -> None:
    pages = Section(app, "/console", scope="developer")
    pages.post("/apps", create, again=show_create)
    pages.get("/apps", show_create)
    pages.get("/events", events)
    one = Section(app, "/console/apps/<app>", scope="developer", again=show)
    one.get("", show)
    one.post("/listing", change)
    one.post("/rollout-plan", plan_forms.change_default)
    one.post("/listing/withdraw", listings.withdraw)
    one.post("/versions", upload, body="package", lane="uploads")
    here = "/console/apps/<app>/versions/<version>"
    version = Section(app, here, scope="developer", again=show_version)
    version.get("", show_version)
    version.post("/rollout-plan", plan_forms.change)
    version.post("/messages", say)
    version.post("/<move>", move, lane="publishing")


def events(env: Context, db: Connection, caller: Caller) -> HTTPResponse:
    """The caller's events as they happen, for the scripts of pages."""
    return stream(env, db, caller)


def show_create(page: Page) -> bytes:
    """The form to make an app."""
    return page.render("app_create.tpl")


def create(env: Context, db: Connection, caller: Caller, page: Page) -> HTTPResponse:
    """Make an app."""
    form = page.form.checked(CREATE_HERE, trimmed=("package_id", "name"))
    made = apps.create(db, env.config, caller, form)
    return page.see_other(f"/console/apps/{made.package_id}", notice="app_created")


def show(db: Connection, caller: Caller, page: Page, app: str) -> bytes:
    """One app: upload, versions, and what the store shows of it."""
    found = apps.with_role(db, caller, app, "viewer")
    listed = versions.index(db, found, page.request(str))
    recent = listing_changes.of_app(db, found, PageRequest(1)).rows
    pending = recent[0] if recent and recent[0].state == "waiting" else None
    values = listing_changes.values_of(found) | (pending.values if pending else {})
    return page.render(
        "console_app.tpl",
        app=found,
        plan=plan_forms.shown(rollout_plans.default_of(found)),
        role=members.role_of(db, found.id, caller.account),
        listing=values | {"tags": ", ".join(values["tags"])},
        pending=pending,
        diffs=listings.diffs_of(pending, found) if pending else [],
        rejected=recent[0] if recent and recent[0].state == "rejected" else None,
        versions=[(version, next_step(db, found, version)) for version in listed.rows],
        next_cursor=listed.next_cursor,
    )


def change(env: Context, db: Connection, caller: Caller, page: Page, app: str) -> Any:
    """Change what the store shows of an app."""
    form = page.form.checked(LISTING, trimmed=tuple(LISTING))
    tags = [tag for tag in (each.strip() for each in form.pop("tags", "").split(",")) if tag]
    fields = {"summary": "", "description": "", "category": "", "homepage": None} | form
    if not fields["category"]:
        del fields["category"]  # the API has no way to take it away
    fields |= check({"tags": tags}, TAGS)
    if wrong := api.further_findings(env, fields):
        raise Invalid(wrong)
    with apps.changing(db, caller, app, "owner") as found:
        api.change_fields(env, db, caller, found, fields)
        waits = listing_changes.waiting(db, found.id) is not None
    notice = "listing_waits" if waits else "listing_changed"
    return page.see_other(f"/console/apps/{app}", notice=notice)


def upload(env: Context, db: Connection, caller: Caller, page: Page, app: str) -> Any:
    """Receive a package."""
    found = apps.with_role(db, caller, app, "publisher")
    sent = SentPackage({forms.TOKEN_FIELD: 100})
    spend(env, "upload", caller.account)
    with sent.received(env) as (received, options):
        page.check_form_token(sent.field(forms.TOKEN_FIELD))
        trusted = signing_keys.that_sign(db, found.id)
        made = versions.upload(env, db, caller, found, received, options, trusted)
    return page.see_other(f"/console/apps/{found.package_id}/versions/{made.version.version}")


def show_version(db: Connection, caller: Caller, page: Page, app: str, version: str) -> bytes:
    """One version: its checks, its review, what can be done with it, and the conversation."""
    found = apps.with_role(db, caller, app, "viewer")
    shown = versions.get(db, found, version)
    standing = review_queue.standing(db, shown.id)
    plan = rollout_plans.public(rollout_plans.find(db, shown.id))
    messages = review_messages.index(db, shown, PageRequest(MESSAGES), internal=False)
    return page.render(
        "console_version.tpl",
        app=found,
        version=shown,
        next_step=next_step(db, found, shown),
        findings=json.loads(shown.findings),
        permissions=json.loads(shown.permissions),
        review=standing and standing.review,
        reasons=json.loads(standing.review.reasons) if standing else [],
        messages=messages.rows,
        moves=_moves_of(db, found, shown),
        plan=plan,
        plan_values=plan_forms.shown(plan),
        may_plan=shown.state not in ("failed", "rejected", "withdrawn")
        and members.role_of(db, found.id, caller.account) != "viewer",
        submits=shown.state in ("ready", "in_review", "approved", "rejected"),
    )


def move(
    env: Context, db: Connection, caller: Caller, page: Page, app: str, version: str, move: str
) -> HTTPResponse:
    """Submit, withdraw, publish, halt, roll back, yank or unyank a version, or raise its share."""
    if move not in MOVES:
        raise NotFound("page")
    form = page.form.checked(MOVES[move], trimmed=("reason",))
    found = apps.with_role(db, caller, app, "publisher")
    moving = versions.get(db, found, version)
    if move in COUNTED:
        spend(env, "version_moves", moving.id)
    _move(env, db, caller, moving, move, form)
    return page.see_other(
        f"/console/apps/{found.package_id}/versions/{moving.version}", notice=f"move_{move}"
    )


def say(db: Connection, caller: Caller, page: Page, app: str, version: str) -> HTTPResponse:
    """Write to the reviewers."""
    form = page.form.checked(SAY, trimmed=("text",))
    found = apps.with_role(db, caller, app, "publisher")
    about = versions.get(db, found, version)
    review_messages.add(db, caller, about, "developer", form["text"])
    return page.see_other(
        f"/console/apps/{found.package_id}/versions/{about.version}", notice="written_to_reviewers"
    )


def _move(
    env: Context, db: Connection, caller: Caller, version: Version, name: str, form: Json
) -> None:
    if name == "submit":
        reviews.submit(env, db, caller, version, "publish" in form)
    elif name == "withdraw":
        reviews.withdraw(db, caller, version)
    elif name == "publish":
        percent = _percent(form.get("rollout_percent"), "rollout_percent")
        at = f"{form['publish_at']}:00Z" if "publish_at" in form else None
        if at is not None and (wrong := api_versions.time_findings(env, {"publish_at": at})):
            raise Invalid(wrong)
        publication = Publication(percent, at)
        releases.publish(env, db, caller, version, publication)
    elif name == "rollout":
        releases.rollout(db, caller, version, _percent(form["percent"], "percent") or 0)
    elif name == "rollback":
        releases.rollback(env, db, caller, version, form["reason"])
    else:
        reason = {"yank": {"yank_reason": form.get("reason")}, "unyank": {"yank_reason": None}}
        with db.write():
            versions.move(db, caller, version, name, **reason.get(name, {}))


def _moves_of(db: Connection, app: App, version: Version) -> list[str]:
    """What can be done with a version now, in the order of the buttons."""
    found = list(version.moves)
    if version.rollout_percent >= 100 and "rollout" in found:
        found.remove("rollout")
    newer = [
        each
        for each in versions.index(db, app, PageRequest(100)).rows
        if each.state == "published"
        and each.channel == version.channel
        and each.version_code > version.version_code
    ]
    if newer and version.state in ("published", "halted"):
        found.append("rollback")
    return found


def _percent(given: str | None, field: str) -> float | None:
    """A share of the devices. Raises Invalid."""
    if given is None:
        return None
    if not 0.1 <= float(given) <= 100:
        detail = "This must be a share from 0.1 to 100 percent."
        raise Invalid([{"pointer": f"/{field}", "code": "wrong_format", "detail": detail}])
    return float(given)


def next_step(db: Connection, app: App, version: Version) -> str:
    """What happens next with a version, in words."""
    return review_queue.next_step(
        version,
        review_queue.standing(db, version.id),
        suspended=bool(app.suspended),
        key_revoked=versions.key_is_revoked(db, version),
        planned=rollout_plans.sentence(rollout_plans.find(db, version.id)),
    )
