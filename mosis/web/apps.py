"""A developer's apps over HTTP."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.packages.manifest import PACKAGE_ID
from mosis.publishing import apps, listing_changes, rollout_plans, versions
from mosis.publishing.apps import STATUSES, App
from mosis.publishing.listing_changes import ListingChange
from mosis.telemetry import rollout_health
from mosis.validation import (
    LINES,
    Finding,
    Json,
    Schema,
    choice,
    finding,
    findings_of,
    pattern,
    text,
)
from mosis.validation.names import LINE, NAME, TAG, WEB_ADDRESS, normal_web_address
from mosis.web.request import created, listed, read_choice, read_page, require_match, spend
from mosis.web.rollout_plans import DEFAULT_PLAN, ROLLOUT_PLAN
from mosis.web.schemas import list_of, one_of, only, operation, shape, shown

_FIELDS: Schema = {
    "name": text(50, minlength=1, regex=NAME),
    "summary": text(200, regex=LINE),
    "description": text(10_000, regex=LINES),
    "category": text(
        40,
        regex=pattern(
            r"[a-z][a-z0-9-]*\Z",
            "This must be one word of lower-case letters, digits and hyphens that begins with a letter, such as productivity.",
        ),
    ),
    "tags": {"type": "list", "maxlength": 10, "schema": text(40, regex=TAG)},
    "homepage": text(500, nullable=True, regex=WEB_ADDRESS),
}
_DEFAULT_PLAN: Json = {"rollout_plan": {"type": "dict", "nullable": True, "schema": ROLLOUT_PLAN}}
CREATE = (
    _FIELDS
    | _DEFAULT_PLAN
    | {
        "package_id": text(
            255, required=True, regex=pattern(PACKAGE_ID.pattern, apps.PACKAGE_ID_FORM)
        ),
        "name": _FIELDS["name"] | {"required": True},
    }
)
PUBLISH_BY = ("anyone", "trusted")
CHANGE = _FIELDS | _DEFAULT_PLAN | {"publish_by": choice(PUBLISH_BY)}

PENDING = shape("PendingListing", "id revision:int fields:dict because[] submitted_at updated_at")
APP = shape(
    "App",
    "id package_id name summary description category tags[] homepage? status developer_id"
    " icon_url? latest_version? rollout_plan? publish_by pending? created_at updated_at",
    status=one_of(*STATUSES),
    rollout_plan=DEFAULT_PLAN,
    publish_by=one_of(*PUBLISH_BY),
    pending=PENDING,
)


def further_findings(env: Context, fields: Mapping[str, Any]) -> list[Finding]:
    """Rules that the schema cannot express."""
    found = []
    if fields.get("rollout_plan"):
        found += findings_of(rollout_plans.check, fields["rollout_plan"], "/rollout_plan")
    try:
        if fields.get("homepage"):
            normal_web_address(fields["homepage"])
    except ValueError:
        detail = "The host in brackets is not an IPv6 address."
        found.append(finding("/homepage", "wrong_format", detail))
    return found


def routes(app: bottle.Bottle) -> None:
    app.get("/apps", callback=index, scope="apps:read", limited="filtered")
    app.post(
        "/apps",
        callback=create,
        scope="apps:write",
        limited="refused",
        idempotent="yes",
        lane="writes",
    )
    app.get("/apps/<app>", callback=show, scope="apps:read")
    app.route("/apps/<app>", method="PATCH", callback=change, scope="apps:write", lane="writes")
    app.delete("/apps/<app>", callback=delete, scope="apps:write", lane="writes")


@operation(list_of("apps", APP, "total:int"), query=only("status", STATUSES))
def index(env: Context, db: Connection, caller: Caller) -> Json:
    """The caller's apps, newest first."""
    status = read_choice("status", *STATUSES)
    page, total = apps.index(db, caller, read_page(str), status)
    return listed("apps", page, public_list(env, db, page.rows), total=total)


@operation(
    {201: APP},
    body=CREATE,
    further=further_findings,
    refuses="package_id_taken quota_exceeded prefix_reserved",
)
def create(env: Context, db: Connection, caller: Caller, body: Json) -> Json:
    """Create an app. Its package_id is unique in the portal."""
    rollout_health.check_counted(env, None, body.get("rollout_plan"), "/rollout_plan")
    app = apps.create(db, env.config, caller, _normal(body))
    return created(_public(env, app, None, None), f"/v1/apps/{app.package_id}")


@operation(APP)
def show(env: Context, db: Connection, caller: Caller, app: str) -> Json:
    """One app of the caller."""
    return public(env, db, apps.with_role(db, caller, app, "viewer"))


@operation(APP, body=CHANGE, further=further_findings, matches=True)
def change(env: Context, db: Connection, caller: Caller, app: str, body: Json) -> Json:
    """Change an app. What the store shows of it changes once a reviewer has approved it."""
    with apps.changing(db, caller, app, "owner") as found:
        require_match(lambda: public(env, db, found))
        return public(env, db, change_fields(env, db, caller, found, body))


def change_fields(env: Context, db: Connection, caller: Caller, found: App, fields: Json) -> App:
    """Change fields checked by CHANGE, in the running transaction. Raises LimitReached, Invalid."""
    rollout_health.check_counted(env, found.id, fields.get("rollout_plan"), "/rollout_plan")
    if found.published and fields:
        spend(env, "listing", caller.account)
    return listing_changes.change_app(env, db, caller, found, _normal(fields))


@operation(matches=True, refuses="invalid_state")
def delete(env: Context, db: Connection, caller: Caller, app: str) -> None:
    """Delete an app that was never published."""
    with apps.changing(db, caller, app, "owner") as found:
        require_match(lambda: public(env, db, found))
        apps.delete(db, caller, found)


def _normal(fields: Json) -> Json:
    """The fields as stored: each tag once, in any case, and the homepage's host in lower case."""
    if "tags" in fields:
        once: dict[str, str] = {}
        for tag in fields["tags"]:
            once.setdefault(unicodedata.normalize("NFKC", tag).casefold(), tag)
        fields["tags"] = [*once.values()]
    if fields.get("homepage"):
        fields["homepage"] = normal_web_address(fields["homepage"])
    return fields


def public(env: Context, db: Connection, app: App) -> Json:
    return _public(env, app, *listing_changes.latest_and_waiting(db, app.id))


def public_list(env: Context, db: Connection, found: list[App]) -> list[Json]:
    """As `public` for each, with two queries for all."""
    ids = [app.id for app in found]
    latest, pending = versions.latest_of(db, ids), listing_changes.waiting_of(db, ids)
    return [_public(env, app, latest.get(app.id), pending.get(app.id)) for app in found]


def _public(env: Context, app: App, latest: str | None, pending: ListingChange | None) -> Json:
    icon = env.url(f"/assets/{app.id}/icon-128.png") if latest else None
    plan = rollout_plans.default_of(app)
    return shown(
        APP,
        app,
        icon_url=icon,
        latest_version=latest,
        rollout_plan=plan,
        pending=pending and shown(PENDING, pending),
    )
