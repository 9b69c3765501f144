"""The JSON Schema (draft 2020-12) of manifest.json, made from the constants that `manifest.check` uses.

Editors use it through `$schema`. It accepts and refuses the same manifests as the check, apart from
what needs the package or the app: whether files exist, and whether `id` is the app's package_id. One
more difference comes from JSON Schema itself: it calls 1.0 an integer, the check does not.
"""

import re
from typing import Any

from mosis.packages import manifest
from mosis.validation import names
from mosis.validation.names import EMAIL_ADDRESS, WEB_ADDRESS

PATH = "/docs/manifest.schema.json"
_END = "$(?!\n)"  # end of text: `$` means that in ECMA-262, but not in Python


def schema(url: str) -> dict[str, Any]:
    """The schema; `url` is the address where it is served."""
    fields = {
        "$schema": _text(manifest.SCHEMA_CHARACTERS, manifest.ONE_LINE),
        "id": {"type": "string", "maxLength": 255} | _pattern(manifest.PACKAGE_ID.pattern),
        "name": _text(manifest.NAME_CHARACTERS, names.NAME),
        "version": _version(),
        "version_code": {"type": "integer", "minimum": 1, "maximum": manifest.LARGEST_CODE},
        "entry": _file(manifest.ENTRY_ENDINGS),
        "min_mosis_version": _version(),
        "author": _object(
            {
                "name": _text(manifest.AUTHOR_CHARACTERS, names.NAME),
                "email": {"type": "string"} | _pattern(EMAIL_ADDRESS),
                "url": _text(manifest.URL_CHARACTERS, WEB_ADDRESS),
            },
            required=["name", "email"],
        ),
        "permissions": _list({"enum": list(manifest.PERMISSIONS)}, len(manifest.PERMISSIONS)),
        "icons": _object(
            {size: _file(manifest.ICON_ENDINGS) for size in manifest.ICON_SIZES},
            required=list(manifest.ICON_SIZES),
        ),
        "description": _text(manifest.DESCRIPTION_CHARACTERS, manifest.LINES),
        "category": {"type": "string"} | _pattern(manifest.CATEGORY.pattern),
        "screenshots": _list(_file(manifest.SCREENSHOT_ENDINGS), manifest.SCREENSHOTS),
        "locales": _object({"default": _locale(), "supported": _list(_locale(), manifest.LOCALES)}),
    }
    described = {name: {"description": manifest.FIELDS[name]} | fields[name] for name in fields}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": url}
    title = {"title": "manifest.json of a Mosis package"}
    return head | title | _object(described, required=list(manifest.REQUIRED))


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return made | ({"required": required} if required else {})


def _list(items: dict[str, Any], longest: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": longest, "uniqueItems": True}


def _text(longest: int, pattern: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest} | _pattern(pattern)


def _version() -> dict[str, Any]:
    return _text(manifest.LONGEST_VERSION, manifest.VERSION.pattern)


def _locale() -> dict[str, Any]:
    return {"type": "string"} | _pattern(manifest.LOCALE.pattern)


def _file(endings: tuple[str, ...]) -> dict[str, Any]:
    """The path of a file with one of these extensions, in any case."""
    either = (
        "".join(f"[{each}{each.upper()}]" if each.isalpha() else f"\\{each}" for each in ending)
        for ending in endings
    )
    return {"type": "string", "pattern": f"(?:{'|'.join(either)}){_END}"}


def _pattern(pattern: str) -> dict[str, str]:
    """A regular expression of Python, matched from the start, in ECMA-262 with the flag u."""
    literal = re.sub(
        r"\\U([0-9a-f]{8})", lambda found: chr(int(found[1], 16)), pattern.removesuffix("\\Z")
    )
    return {"pattern": "^(?:" + literal.replace('\\"', '"') + ")" + _END}
