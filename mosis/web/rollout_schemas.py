"""Rollout plans as they are sent and shown: of an app, and of a version."""

from typing import Any

from mosis.publishing.halting import SESSIONS_AT_LEAST
from mosis.publishing.rollout_plans import MOST_HOURS
from mosis.web.openapi_schemas import COUNT, NUMBER, TEXT, TIME, YES, many, nullable, one_of, shape

MOST_STEPS = 20
ROLLOUT_PLAN: dict[str, dict[str, Any]] = {
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
            "compared_with": {"type": "string", "nullable": True, "allowed": ["previous"]},
        },
    },
}
_STEPS = many(shape("", percent=NUMBER, after_hours=NUMBER))
_HALT_WHEN = {
    "type": "object",
    "properties": {
        "crash_free_below": NUMBER,
        "sessions_at_least": COUNT | {"default": SESSIONS_AT_LEAST},
        "compared_with": nullable(one_of("previous")),
    },
    "required": ["crash_free_below"],
}
DEFAULT_PLAN = {
    "title": "DefaultRolloutPlan",
    "type": "object",
    "properties": {"steps": _STEPS, "halt_when": nullable(_HALT_WHEN)},
    "required": ["steps"],
}
COUNTS = {
    "version": nullable(TEXT),
    "sessions": COUNT,
    "crashes": COUNT,
    "devices": COUNT,
    "crashed_devices": COUNT,
    "crash_free_share": nullable(NUMBER),
}
HALTED = shape(
    "AutomaticHalt",
    automatic=YES,
    **{name: what for name, what in COUNTS.items() if name != "version"},
    crash_free_below=NUMBER,
    previous=nullable(shape("PreviousVersion", **COUNTS)),
    p_value=NUMBER,
    p_value_bound=NUMBER,
    rollout_percent=NUMBER,
    at=TIME,
)
PLAN = shape(
    "RolloutPlan",
    steps=_STEPS,
    halt_when=nullable(_HALT_WHEN),
    state=one_of("waiting", "running", "paused", "finished"),
    steps_taken=COUNT,
    next_step_at=nullable(TIME),
    watched_until=nullable(TIME),
    halted=nullable(HALTED),
)
FIGURES = shape("RolloutFigures", **COUNTS, previous=nullable(shape("PreviousVersion", **COUNTS)))
