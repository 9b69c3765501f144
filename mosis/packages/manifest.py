"""manifest.json: its fields, and a check that reports everything that is wrong at once."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mosis.packages.findings import Finding
from mosis.validation import names
from mosis.validation.choices import closest, one_of
from mosis.validation.names import EMAIL_ADDRESS, WEB_ADDRESS, WHAT_IS_WRONG

# Permission: what it allows. Normal permissions are granted without asking the user.
NORMAL_PERMISSIONS = {
    "storage": "Keep data of its own on the device.",
    "network": "Connect to other machines.",
    "clipboard": "Read and write the clipboard.",
    "notifications": "Show notifications.",
}
# Dangerous permissions give access to personal data: a reviewer examines each, and the user of the
# device is asked.
DANGEROUS_PERMISSIONS = {
    "camera": "Take pictures and videos.",
    "microphone": "Record sound.",
    "location": "Know where the device is.",
    "contacts": "Read the address book.",
    "storage.shared": "Read and write files that other apps see too.",
}
PERMISSIONS = (*NORMAL_PERMISSIONS, *DANGEROUS_PERMISSIONS)
RESERVED_PERMISSIONS = {
    "system_settings": "Change the device's settings.",
    "install_packages": "Install and remove apps.",
}
ICON_SIZES = ("32", "64", "128")
LARGEST_CODE = 2_147_483_647
LONGEST_VERSION = 64
NAME_CHARACTERS, AUTHOR_CHARACTERS, URL_CHARACTERS = 50, 100, 500
DESCRIPTION_CHARACTERS, SCHEMA_CHARACTERS = 10_000, 200
SCREENSHOTS, LOCALES = 10, 100
ENTRY_ENDINGS, ICON_ENDINGS = (".rml",), (".png",)
SCREENSHOT_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")

PACKAGE_ID = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)+\Z")
# The regular expression of semver.org for Semantic Versioning 2.0.0.
VERSION = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?\Z"
)
# One line, and several lines separated by LF, without other control characters.
ONE_LINE = r"[^\x00-\x1f\x7f-\x9f]*\Z"
LINES = r"[^\x00-\x09\x0b-\x1f\x7f-\x9f]*\Z"
LOCALE = re.compile(r"[a-z]{2,3}(?:-[A-Z][a-z]{3})?(?:-(?:[A-Z]{2}|[0-9]{3}))?\Z")
LOCALE_FORM = (
    "This must be a language tag: a language in two or three lower-case letters, then a script and a region where they matter,"
    " such as en, pt-BR, zh-Hans or es-419."
)
CATEGORY = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")
# Every field with its meaning.
_REQUIRED_FIELDS = {
    "id": "The app's package_id: lower-case letters and digits in two or more segments.",
    "name": "What the device shows under the icon.",
    "version": "A semantic version 2.0.0; a pre-release suffix means the beta channel.",
    "version_code": "A whole number, higher than that of every version offered before.",
    "entry": "The document that is opened first.",
    "min_mosis_version": "The oldest Mosis that can run the app, as a semantic version.",
    "author": "Who made the app: `name`, `email`, and optionally `url`.",
    "icons": "PNG files of 32, 64 and 128 pixels, square.",
}
_OPTIONAL_FIELDS = {
    "permissions": "What the app may use; see Permissions.",
    "description": "What the app does; LF divides lines.",
    "category": "One lower-case word of letters, digits and hyphens, up to 40 characters.",
    "screenshots": "Up to 10 images.",
    "locales": "`default`, and the list `supported` of language tags.",
    "$schema": "The address of the JSON Schema, for editors.",
}
FIELDS, REQUIRED = _REQUIRED_FIELDS | _OPTIONAL_FIELDS, tuple(_REQUIRED_FIELDS)


def is_package_id(text: str) -> bool:
    """Two or more segments of lower-case ASCII letters and digits joined by dots, up to 255 characters."""
    return len(text) <= 255 and PACKAGE_ID.match(text) is not None


def is_version(text: str) -> bool:
    """Whether this is a semantic version 2.0.0 of at most 64 characters."""
    return len(text) <= LONGEST_VERSION and VERSION.match(text) is not None


def version_key(text: str) -> tuple[Any, ...]:
    """A sort key by precedence (semver.org, 11), without build metadata. Raises ValueError."""
    found = VERSION.match(text) if len(text) <= LONGEST_VERSION else None
    if found is None:
        raise ValueError(f"not a semantic version: {text[:80]!r}")
    before = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in (found[4] or "").split(".")
        if part
    )
    return (int(found[1]), int(found[2]), int(found[3]), 0 if found[4] else 1, before)


def is_prerelease(text: str) -> bool:
    """Whether a version has a pre-release suffix."""
    return bool(version_key(text)[3] == 0)


def check(manifest: Any, package_id: str, sizes: Mapping[str, int]) -> list[Finding]:
    """Everything that is wrong with a manifest, sorted by pointer; `sizes` are the files of the archive."""
    if not isinstance(manifest, dict):
        return [_finding("", "wrong_type", "manifest.json must hold an object.")]
    found = [*_unknown("", manifest, FIELDS), *_missing("", manifest, REQUIRED)]
    for name in manifest.keys() & _CHECKS.keys():
        found += _CHECKS[name](f"/{name}", manifest[name], sizes)
    if (
        isinstance(manifest.get("id"), str)
        and is_package_id(manifest["id"])
        and manifest["id"] != package_id
    ):
        detail = f"The package says {manifest['id']!r}, the app is {package_id!r}."
        found.append(_finding("/id", "id_mismatch", detail))
    return sorted(found, key=lambda finding: (finding.pointer or "", finding.code, finding.detail))


def _id(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    if not isinstance(value, str):
        yield _type(at, "a string")
    elif not is_package_id(value):
        yield _finding(
            at,
            "wrong_format",
            "Two or more segments of lower-case letters and digits joined by dots: com.acme.notes.",
        )


def _line(longest: int, pattern: str) -> Any:
    def check_line(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
        if not isinstance(value, str):
            yield _type(at, "a string")
        elif len(value) > longest:
            yield _finding(at, "too_long", f"At most {longest} characters are allowed.")
        elif not re.match(pattern, value):
            detail = names.WHAT_IS_WRONG.get(pattern, "Control characters are not allowed.")
            yield _finding(at, "wrong_format", detail)

    return check_line


def _semantic_version(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    if not isinstance(value, str):
        yield _type(at, "a string")
    elif not is_version(value):
        detail = f"This must be a semantic version of at most {LONGEST_VERSION} characters, such as 1.4.0 or 2.0.0-beta.1."
        yield _finding(at, "wrong_format", detail)


def _code(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    if not isinstance(value, int) or isinstance(value, bool):
        yield _type(at, "a whole number")
    elif not 1 <= value <= LARGEST_CODE:
        yield _finding(at, "wrong_format", f"This must be from 1 to {LARGEST_CODE}.")


def _file(
    at: str, value: Any, sizes: Mapping[str, int], endings: tuple[str, ...]
) -> Iterator[Finding]:
    if not isinstance(value, str):
        yield _type(at, "the path of a file")
    elif not value.lower().endswith(endings):
        yield _finding(at, "wrong_format", f"This must be a file ending in {' or '.join(endings)}.")
    elif value not in sizes:
        close = closest(value, list(sizes))
        hint = f" Did you mean {close[0]!r}?" if close else ""
        yield _finding(at, "file_missing", f"{value[:256]!r} is not in the package.{hint}")


def _entry(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    return _file(at, value, sizes, ENTRY_ENDINGS)


def _author(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield _type(at, "an object")
        return
    yield from _unknown(at, value, ("name", "email", "url"))
    yield from _missing(at, value, ("name", "email"))
    if "name" in value:
        yield from _line(AUTHOR_CHARACTERS, names.NAME)(f"{at}/name", value["name"], sizes)
    if "email" in value and not (
        isinstance(value["email"], str) and re.match(EMAIL_ADDRESS, value["email"])
    ):
        yield _finding(f"{at}/email", "wrong_format", WHAT_IS_WRONG[EMAIL_ADDRESS])
    if "url" in value and not (
        isinstance(value["url"], str)
        and len(value["url"]) <= URL_CHARACTERS
        and re.match(WEB_ADDRESS, value["url"])
    ):
        detail = f"{WHAT_IS_WRONG[WEB_ADDRESS]} It may have at most {URL_CHARACTERS} characters."
        yield _finding(f"{at}/url", "wrong_format", detail)


def _permissions(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    for index, name in _items(value):
        if name in PERMISSIONS:
            continue
        allowed = one_of(name, PERMISSIONS, "A permission")
        if name in tuple(RESERVED_PERMISSIONS):
            detail = f"{name!r} is for the system's own apps. {allowed}"
            yield _finding(f"{at}/{index}", "permission_reserved", detail)
        else:
            detail = f"There is no permission {str(name)[:80]!r}. {allowed}"
            yield _finding(f"{at}/{index}", "permission_unknown", detail)
    yield from _list(at, value, longest=len(PERMISSIONS))


def _icons(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield _type(at, "an object")
        return
    yield from _unknown(at, value, ICON_SIZES)
    for size in ICON_SIZES:
        if size in value:
            yield from _file(f"{at}/{size}", value[size], sizes, ICON_ENDINGS)
        else:
            yield _finding(
                f"{at}/{size}", "required", f"An icon of {size} x {size} pixels is required."
            )


def _screenshots(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    for index, path in _items(value):
        yield from _file(f"{at}/{index}", path, sizes, SCREENSHOT_ENDINGS)
    yield from _list(at, value, longest=SCREENSHOTS)


def _locales(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield _type(at, "an object")
        return
    yield from _unknown(at, value, ("default", "supported"))
    supported = value.get("supported", [])
    yield from _list(f"{at}/supported", supported, longest=LOCALES)
    for index, tag in [*_items(supported), ("", value.get("default", "en"))]:
        if not isinstance(tag, str) or not LOCALE.match(tag):
            where = f"{at}/supported/{index}" if index != "" else f"{at}/default"
            yield _finding(where, "wrong_format", LOCALE_FORM)


def _category(at: str, value: Any, sizes: Mapping[str, int]) -> Iterator[Finding]:
    if not isinstance(value, str) or not CATEGORY.match(value):
        yield _finding(at, "wrong_format", f"This must be: {_OPTIONAL_FIELDS['category']}")


_CHECKS: dict[str, Any] = {
    "id": _id,
    "name": _line(NAME_CHARACTERS, names.NAME),
    "version": _semantic_version,
    "version_code": _code,
    "entry": _entry,
    "min_mosis_version": _semantic_version,
    "author": _author,
    "permissions": _permissions,
    "icons": _icons,
    "description": _line(DESCRIPTION_CHARACTERS, LINES),
    "category": _category,
    "screenshots": _screenshots,
    "locales": _locales,
    "$schema": _line(SCHEMA_CHARACTERS, ONE_LINE),
}


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(enumerate(value[:1000])) if isinstance(value, list) else []


def _list(at: str, value: Any, longest: int) -> Iterator[Finding]:
    if not isinstance(value, list):
        yield _type(at, "a list")
    elif len(value) > longest:
        yield _finding(at, "too_long", f"At most {longest} are allowed.")
    else:
        for index, each in enumerate(value):
            if each in value[:index]:
                yield _finding(
                    f"{at}/{index}", "duplicate_value", f"{str(each)[:80]!r} occurs twice."
                )


def _unknown(at: str, value: Mapping[str, Any], known: Iterable[str]) -> Iterator[Finding]:
    """A finding for each field that there is not."""
    for name in sorted(value.keys() - set(known)):
        detail = f"There is no field {name[:80]!r} here. " + one_of(name, known, "A field")
        yield _finding(at + _pointer(name), "unknown_field", detail)


def _missing(at: str, value: Mapping[str, Any], required: Iterable[str]) -> Iterator[Finding]:
    """A finding for each required field that is left out."""
    for name in required:
        if name not in value:
            yield _finding(f"{at}/{name}", "required", f"The field {name!r} is required.")


def _type(at: str, wanted: str) -> Finding:
    return _finding(at, "wrong_type", f"This must be {wanted}.")


def _finding(pointer: str, code: str, detail: str) -> Finding:
    return Finding(code, detail, "manifest.json", pointer=pointer)


def _pointer(name: str) -> str:
    return "/" + name[:200].replace("~", "~0").replace("/", "~1")
