"""Descriptions of the properties in the OpenAPI document, from properties.json."""

import json
from functools import cache
from pathlib import Path
from typing import Any

PAGE = "The rows of this page."


@cache
def properties() -> dict[str, str]:
    """The descriptions by name of the property, `Schema.name` or `operation.name`."""
    path = Path(__file__).with_name("properties.json")
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def described(what: Any, within: str) -> Any:
    """A copy of a schema, or of what contains schemas, with a description of each property. `within`
    is the name of the schema or of the operation. Raises KeyError for a property without
    one."""
    if isinstance(what, list):
        return [described(each, within) for each in what]
    if not isinstance(what, dict):
        return what
    found = {
        key: part if key == "example" else described(part, within) for key, part in what.items()
    }
    fields = found.get("properties", {})
    for name, field in fields.items():
        rows = "next_cursor" in fields and field.get("type") == "array"
        text = properties().get(f"{within}.{name}") or (PAGE if rows else properties()[name])
        field.setdefault("description", text)
    return found
