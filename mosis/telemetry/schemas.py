"""Schemas of what devices may send, for Cerberus (messages) and compiled (decision)."""

from collections.abc import Iterator, Mapping
from typing import Any

from mosis.validation import Finding, finding, pattern, timestamps
from mosis.validation.fast_path import compiled

# name: (number in the database, whether it is off until the developer enables it). The table
# event_types has the same.
TYPES: dict[str, tuple[int, bool]] = {
    "app_start": (1, False),
    "app_stop": (2, False),
    "app_crash": (3, False),
    "lua_error": (4, False),
    "perf_frame": (5, False),
    "perf_memory": (6, False),
    "perf_startup": (7, False),
    "screen_view": (8, True),
    "button_click": (9, True),
    "feature_used": (10, True),
}
EVENTS_PER_BATCH = 100
BODY_LIMIT_BYTES = 64 * 1024  # uncompressed
CRASH_BODY_LIMIT_BYTES = 1 << 20  # uncompressed; fields longer than the schema allows are shortened
TYPE_CHARACTERS, MESSAGE_CHARACTERS, TRACE_CHARACTERS = 200, 4000, 60_000
MOST_VALUES, NAME_CHARACTERS, VALUE_CHARACTERS = 32, 64, 500  # of `data` and `context`

_LINE = pattern(r"[^\x00-\x1f\x7f]*\Z", "This must be one line without control characters.")
_DEVICE_ID = pattern(
    r"[0-9a-fA-F]{64}\Z",
    "This must be 64 hexadecimal digits, such as the SHA-256 of a random number.",
)
_STAMP: dict[str, Any] = timestamps.RULES | {"required": True}
# A flat object: names and plain values, no nested documents.
_FLAT: dict[str, Any] = {
    "type": "dict",
    "maxlength": MOST_VALUES,
    "keysrules": {"type": "string", "minlength": 1, "maxlength": NAME_CHARACTERS},
    "valuesrules": {
        "type": ["string", "number", "boolean"],
        "nullable": True,
        "maxlength": VALUE_CHARACTERS,
        "min": -1e15,
        "max": 1e15,
    },
}
_SENDER: dict[str, Any] = {
    "app_id": {"type": "string", "required": True, "minlength": 1, "maxlength": 255},
    "app_version": {
        "type": "string",
        "required": True,
        "minlength": 1,
        "maxlength": 64,
        "regex": _LINE,
    },
    "mosis_version": {
        "type": "string",
        "required": True,
        "minlength": 1,
        "maxlength": 64,
        "regex": _LINE,
    },
    "device_id": {"type": "string", "required": True, "regex": _DEVICE_ID},
}
# The batch around the events. Each event is validated separately, so that a bad one does not
# invalidate the others.
BATCH: dict[str, Any] = _SENDER | {
    "session_id": {"type": "string", "required": True, "minlength": 1, "maxlength": 128},
    "batch_id": {"type": "string", "minlength": 1, "maxlength": 128},
    "events": {"type": "list", "required": True, "minlength": 1, "maxlength": EVENTS_PER_BATCH},
}
EVENT: dict[str, Any] = {
    "type": {"type": "string", "required": True, "allowed": sorted(TYPES)},
    "timestamp": _STAMP,
    "data": _FLAT,
}
CRASH: dict[str, Any] = _SENDER | {
    "session_id": {"type": "string", "minlength": 1, "maxlength": 128},
    "timestamp": _STAMP,
    "crash": {"type": "dict", "required": True, "schema": {
        "type": {"type": "string", "required": True, "minlength": 1, "maxlength": TYPE_CHARACTERS, "regex": _LINE},
        "message": {"type": "string", "required": True, "maxlength": MESSAGE_CHARACTERS},
        "stack_trace": {"type": "string", "required": True, "maxlength": TRACE_CHARACTERS},
        "context": _FLAT,
    }},
}  # fmt: skip
# The outer limits of a crash report: fields longer than CRASH allows are shortened, see
# crashes.shortened.
CRASH_SENT: dict[str, Any] = CRASH | {
    "crash": CRASH["crash"] | {"schema": CRASH["crash"]["schema"] | {
        **{
            name: CRASH["crash"]["schema"][name] | {"maxlength": CRASH_BODY_LIMIT_BYTES}
            for name in ("type", "message", "stack_trace")
        },
        "context": {"type": "dict", "keysrules": {"type": "string", "minlength": 1}, "valuesrules": {
            "type": ["string", "number", "boolean"], "nullable": True, "min": -1e15, "max": 1e15,
        }},
    }},
}  # fmt: skip


def moment_findings(fields: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the timestamp is a moment that there was: the form alone allows a February 30th."""
    if "timestamp" in fields and timestamps.seconds(fields["timestamp"]) is None:
        yield finding("/timestamp", "wrong_format", "There is no such moment.")


event_fits = compiled(EVENT)
