"""The rollout plan of a version over HTTP, and the schemas of plans, also of those of apps."""

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.publishing import apps, rollout_plans, versions
from mosis.publishing.halting import SESSIONS_AT_LEAST
from mosis.publishing.rollout_plans import MOST_HOURS
from mosis.publishing.versions import Version
from mosis.telemetry import rollout_health
from mosis.validation import Json, Schema, choice
from mosis.web.request import require_match, spend
from mosis.web.schemas import COUNT, extended_with, many, one_of, operation, shape

MOST_STEPS = 20
ROLLOUT_PLAN: Schema = {
    "steps": {
        "type": "list",
        "required": True,
        "minlength": 1,
        "maxlength": MOST_STEPS,
        "schema": {
            "type": "dict",
            "schema": {
                "percent": {"type": "number", "required": True, "min": 0.1, "max": 100},
                "after_hours": {"type": "number", "required": True, "min": 0, "max": MOST_HOURS},
            },
        },
    },
    "halt_when": {
        "type": "dict",
        "nullable": True,
        "schema": {
            "crash_free_below": {"type": "number", "required": True, "min": 0, "max": 1},
            "sessions_at_least": {"type": "integer", "min": 20, "max": 1_000_000},
            "compared_with": choice(("previous",), nullable=True),
        },
    },
}
_STEPS = many(shape("", "percent:float after_hours:float"))
_HALT_WHEN = shape(
    "",
    "crash_free_below:float sessions_at_least compared_with?",
    sessions_at_least=COUNT | {"default": SESSIONS_AT_LEAST},
    compared_with=one_of("previous"),
) | {"required": ["crash_free_below"]}
DEFAULT_PLAN = shape(
    "DefaultRolloutPlan", "steps halt_when?", steps=_STEPS, halt_when=_HALT_WHEN
) | {"required": ["steps"]}
_COUNTS = "sessions:int crashes:int devices:int crashed_devices:int crash_free_share:float?"
_PREVIOUS = shape("PreviousVersion", f"version? {_COUNTS}")
HALTED = shape(
    "AutomaticHalt",
    f"automatic:bool {_COUNTS} crash_free_below:float previous? p_value:float p_value_bound:float"
    " rollout_percent:float at",
    previous=_PREVIOUS,
)
PLAN = shape(
    "RolloutPlan",
    "steps halt_when? state steps_taken:int next_step_at? watched_until? halted?",
    steps=_STEPS,
    halt_when=_HALT_WHEN,
    state=one_of("waiting", "running", "paused", "finished"),
    halted=HALTED,
)
FIGURES = shape("RolloutFigures", f"version? {_COUNTS} previous?", previous=_PREVIOUS)
WHOLE = extended_with("RolloutPlanDetail", PLAN, "figures?", figures=FIGURES)
_AT = "/apps/<app>/versions/<version>/rollout-plan"


def routes(app: bottle.Bottle) -> None:
    app.get(_AT, callback=show, scope="apps:read")
    app.route(_AT, method="PUT", callback=put, scope="versions:publish")
    app.delete(_AT, callback=remove, scope="versions:publish")


@operation(WHOLE)
def show(env: Context, db: Connection, caller: Caller, app: str, version: str) -> Json:
    """The rollout plan of a version, with the figures counted so far."""
    found = versions.get(db, apps.with_role(db, caller, app, "viewer"), version)
    return whole(env, db, found)


@operation(WHOLE, body=ROLLOUT_PLAN, matches=True, refuses="invalid_state")
def put(env: Context, db: Connection, caller: Caller, app: str, version: str, body: Json) -> Json:
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


def whole(env: Context, db: Connection, version: Version) -> Json:
    shown = rollout_plans.public(rollout_plans.get(db, version.id)) or {}
    return shown | {"figures": rollout_health.figures(env, version)}
