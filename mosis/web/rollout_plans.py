"""The rollout plan of a version over HTTP."""

from typing import Any

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.publishing import apps, rollout_plans, versions
from mosis.publishing.versions import Version
from mosis.telemetry import rollout_health
from mosis.web.openapi_schemas import extended_with, nullable, operation
from mosis.web.request import require_match, spend
from mosis.web.rollout_schemas import FIGURES, PLAN, ROLLOUT_PLAN

WHOLE = extended_with("RolloutPlanDetail", PLAN, figures=nullable(FIGURES))
_AT = "/apps/<app>/versions/<version>/rollout-plan"


def routes(app: bottle.Bottle) -> None:
    app.get(_AT, callback=show, scope="apps:read")
    app.route(_AT, method="PUT", callback=put, scope="versions:publish")
    app.delete(_AT, callback=remove, scope="versions:publish")


@operation(WHOLE)
def show(env: Context, db: Connection, caller: Caller, app: str, version: str) -> dict[str, Any]:
    """The rollout plan of a version, with the figures counted so far."""
    found = versions.get(db, apps.with_role(db, caller, app, "viewer"), version)
    return whole(env, db, found)


@operation(WHOLE, body=ROLLOUT_PLAN, matches=True, refuses="invalid_state")
def put(
    env: Context, db: Connection, caller: Caller, app: str, version: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Set or replace the rollout plan of a version."""
    rollout_plans.check(body)
    with db.write():
        found = versions.get(db, apps.with_role(db, caller, app, "publisher"), version)
        require_match(lambda: whole(env, db, found))
        rollout_health.check_counted(env, found.app_id, body)
        spend(env, "version_moves", found.id)
        rollout_plans.put(db, caller, found, body)
        return whole(env, db, versions.by_id(db, found.id) or found)


@operation(matches=True)
def remove(env: Context, db: Connection, caller: Caller, app: str, version: str) -> None:
    """Remove the rollout plan of a version; its share of the devices does not change."""
    with db.write():
        found = versions.get(db, apps.with_role(db, caller, app, "publisher"), version)
        require_match(lambda: whole(env, db, found))
        rollout_plans.remove(db, caller, found)


def whole(env: Context, db: Connection, version: Version) -> dict[str, Any]:
    shown = rollout_plans.public(rollout_plans.get(db, version.id)) or {}
    return shown | {"figures": rollout_health.figures(env, version)}
