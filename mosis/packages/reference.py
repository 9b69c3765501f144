"""The tables of docs/PACKAGES.md, generated from the constants that the checks use.

`python -m mosis.packages.reference` updates the page: under each heading of `TABLES` the first
table is replaced. The text between them is written by hand. A test compares the page with the
result.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mosis import packages
from mosis.packages import archive, file_names, manifest, signature, zip_records
from mosis.packages.findings import CURES, FINDINGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "PACKAGES.md"
_EXAMPLES = {
    "id": "com.acme.notes",
    "name": "Notes",
    "version": "1.4.0",
    "version_code": 14,
    "entry": "assets/main.rml",
    "min_mosis_version": "1.0.0",
    "author": {"name": "Alice", "email": "alice@example.net"},
    "icons": {size: f"icons/icon-{size}.png" for size in manifest.ICON_SIZES},
    "permissions": ["storage"],
    "description": "Short notes.",
    "category": "productivity",
    "screenshots": ["shots/list.png"],
    "locales": {"default": "en", "supported": ["en", "pt-BR"]},
    "$schema": "https://portal.example.org/docs/manifest.schema.json",
}
_RULES = {
    "name": f"1-{manifest.NAME_CHARACTERS} characters",
    "version": f"at most {manifest.LONGEST_VERSION} characters",
    "version_code": f"1-{manifest.LARGEST_CODE}",
    "entry": f"ends in {', '.join(manifest.ENTRY_ENDINGS)}",
    "author": f"name 1-{manifest.AUTHOR_CHARACTERS} characters; `email`; `url` (http or https) at most {manifest.URL_CHARACTERS}",
    "icons": f"end in {', '.join(manifest.ICON_ENDINGS)}",
    "permissions": f"at most {len(manifest.PERMISSIONS)}, each once",
    "description": f"at most {manifest.DESCRIPTION_CHARACTERS} characters",
    "screenshots": f"at most {manifest.SCREENSHOTS}, each once; end in {', '.join(manifest.SCREENSHOT_ENDINGS)}",
    "locales": f"at most {manifest.LOCALES}, each once",
    "$schema": f"at most {manifest.SCHEMA_CHARACTERS} characters",
}


def _fields() -> str:
    return _table(
        ("field", "", "meaning", "rule", "example"),
        (
            (
                f"`{name}`",
                "required" if name in manifest.REQUIRED else "",
                meaning,
                _RULES.get(name, ""),
                f"`{json.dumps(_EXAMPLES[name])}`",
            )
            for name, meaning in manifest.FIELDS.items()
        ),
    )


def _permissions() -> str:
    kinds = {
        "normal": manifest.NORMAL_PERMISSIONS,
        "dangerous": manifest.DANGEROUS_PERMISSIONS,
        "system": manifest.RESERVED_PERMISSIONS,
    }
    return _table(
        ("permission", "kind", "what it allows"),
        ((f"`{name}`", kind, text) for kind, each in kinds.items() for name, text in each.items()),
    )


def _file_types() -> str:
    return _table(
        ("kind", "endings"),
        (
            ("text", _codes(f".{each}" for each in archive.TEXTS)),
            ("images, fonts, sounds", _codes(f".{each}" for each in archive.MEDIA)),
            ("in `META-INF`", _codes(each.rpartition("/")[2] for each in archive.META)),
        ),
    )


def _limits() -> str:
    rows = (
        ("package", "50 MiB, unless the operator sets `PACKAGE_LIMIT_BYTES`"),
        ("files", str(zip_records.FILES)),
        ("one file, unpacked", _mebibytes(archive.FILE_BYTES)),
        ("all files, unpacked", _mebibytes(archive.ALL_BYTES)),
        (
            "compression",
            f"{archive.RATIO}:1 for a file of more than {_mebibytes(archive.RATIO_FROM_BYTES)}",
        ),
        (
            "path",
            f"{file_names.PATH_BYTES} bytes, {file_names.PATH_LEVELS} levels, {file_names.SEGMENT_BYTES} bytes for one name",
        ),
        ("`manifest.json`", f"{packages.MANIFEST_BYTES // 1024} KiB"),
        ("`META-INF/MANIFEST.MF`", _mebibytes(signature.DIGESTS_BYTES)),
        (
            "one line of `MANIFEST.MF`",
            f"{signature.LINE_BYTES} bytes, {signature.FOLDED_LINE_BYTES} where it is continued",
        ),
    )
    return _table(("what", "limit"), rows)


def _findings() -> str:
    return _table(
        ("code", "cause", "remedy"),
        ((f"`{code}`", cause, CURES[code]) for code, cause in FINDINGS.items()),
    )


TABLES: dict[str, Callable[[], str]] = {
    "manifest.json": _fields,
    "Permissions": _permissions,
    "File types": _file_types,
    "Limits": _limits,
    "Findings": _findings,
}


def updated(text: str) -> str:
    """The page with new tables. Raises ValueError if a heading or its table is missing."""
    for heading, make in TABLES.items():
        pattern = re.compile(
            rf"(?ms)^(## {re.escape(heading)}\n(?:(?!^## ).)*?)^\|.*?(?=\n[^|]|\n?\Z)"
        )
        table = make()
        text, count = pattern.subn(lambda found, table=table: found[1] + table, text, count=1)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"docs/PACKAGES.md has no table under the heading {heading!r}")
    return text


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _codes(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in sorted(words))


def _mebibytes(count: int) -> str:
    return f"{count >> 20} MiB"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
