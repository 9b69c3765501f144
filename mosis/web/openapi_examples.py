"""Example values for the fields of requests and responses in the OpenAPI document."""

import json
from pathlib import Path
from typing import Any

# By the name of a field or parameter; or by the name of its schema or call and its own name.
EXAMPLES: dict[str, Any] = json.loads(
    Path(__file__).with_name("examples.json").read_text(encoding="utf-8")
)
ID, NOON = EXAMPLES["id"], EXAMPLES["timestamp"]


def example_of(name: str, what: dict[str, Any], where: str = "") -> Any:
    """An example for a field by its name and declaration, in the schema or call `where`."""
    kinds = what.get("type", "")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    words = what.get("enum") or what.get("allowed")
    for known in (f"{where}.{name}", name):
        if known in EXAMPLES and _fits(EXAMPLES[known], kind, words, what.get("format", "")):
            return EXAMPLES[known]
    if words or "const" in what:
        return words[0] if words else what["const"]
    inside = what.get("properties") or (what.get("schema") if kind == "dict" else None)
    if inside:
        where = what.get("title", where)
        return {
            each: example_of(each, rules, where)
            for each, rules in inside.items()
            if "properties" in what or rules.get("required")
        }
    if kind in ("array", "list"):
        items = what.get("items") or what.get("schema")
        return [example_of(name, items, where)] if items and items.get("type") else []
    for choice in what.get("oneOf", ()):
        return example_of(name, choice, where)
    if kind == "null" or ("null" in kinds and isinstance(kinds, list)):
        return None
    formats = {
        "uuid": ID,
        "date-time": NOON,
        "date": NOON[:10],
        "uri-reference": "https://portal.example/",
    }
    plain = {
        "string": formats.get(what.get("format", ""), "text"),
        "integer": 1,
        "number": 1.5,
        "boolean": True,
    }
    return plain.get(kind, {})


def body_of(call: str, schema: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An example body of a call: its required fields, and those with an example."""
    return {
        name: example_of(name, rules, call)
        for name, rules in schema.items()
        if rules.get("required") or name in EXAMPLES or f"{call}.{name}" in EXAMPLES
    }


def _fits(value: Any, kind: str, words: list[str] | None, format: str) -> bool:
    wanted: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "array": list,
        "list": list,
        "object": dict,
        "dict": dict,
        "boolean": bool,
    }
    if not isinstance(value, wanted.get(kind, ())) or (
        isinstance(value, bool) and kind != "boolean"
    ):
        return False
    return (not words or value in words) and (format != "uuid" or value == ID)
