"""What devices may send, declared once: Cerberus explains with it, the compiled form decides with it."""

from typing import Any

from mosis.validation.fast_path import compiled

# name: (number in the database, whether the developer has to switch it on). The table event_types says the same.
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
BODY_LIMIT_BYTES = 64 * 1024  # unpacked

_LINE = r"[^\x00-\x1f\x7f]*\Z"
_STAMP: dict[str, Any] = {
    "type": "string",
    "required": True,
    "maxlength": 40,
    "regex": r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,9})?Z\Z",
}
# A flat object: names and plain values, nothing that could be a document.
_FLAT: dict[str, Any] = {
    "type": "dict",
    "maxlength": 32,
    "keysrules": {"type": "string", "minlength": 1, "maxlength": 64},
    "valuesrules": {
        "type": ["string", "number", "boolean"],
        "nullable": True,
        "maxlength": 500,
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
    "device_id": {"type": "string", "required": True, "regex": r"[0-9a-fA-F]{64}\Z"},
}
# The batch around the events; each event is looked at by itself, so that a bad one does not refuse the others.
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
        "type": {"type": "string", "required": True, "minlength": 1, "maxlength": 200, "regex": _LINE},
        "message": {"type": "string", "required": True, "maxlength": 4000},
        "stack_trace": {"type": "string", "required": True, "maxlength": 60_000},
        "context": _FLAT,
    }},
}  # fmt: skip

batch_fits = compiled(BATCH)
event_fits = compiled(EVENT)
crash_fits = compiled(CRASH)
