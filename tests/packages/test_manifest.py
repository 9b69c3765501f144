"""manifest.json and the order of versions."""

import itertools
from typing import Any

import pytest

from mosis.packages import is_package_id, is_version, version_key
from mosis.packages.manifest import DANGEROUS_PERMISSIONS, NORMAL_PERMISSIONS, check
from tests.package_builder import files_of, manifest_of

SIZES = {name: len(content) for name, content in files_of(manifest_of()).items()} | {
    "shot.webp": 1,
    "shot.png": 1,
}
AUTHOR = {"name": "Alice", "email": "alice@example.net"}


def found(**changes: Any) -> set[tuple[str, str]]:
    """(pointer, code) of the findings in a good manifest with these changes."""
    return {
        (each.pointer, each.code) for each in check(manifest_of(**changes), "com.acme.notes", SIZES)
    }


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"name": "N" * 50}, {"name": "Ноты 🎵"}, {"version_code": 2**31 - 1}, {"version": "1.0.0-beta.1+5"},
        {"permissions": []},
        {"permissions": [*NORMAL_PERMISSIONS, *DANGEROUS_PERMISSIONS]}, {"permissions": None}, {"description": "two\nlines" * 1000},
        {"category": "tools"}, {"screenshots": ["shot.webp", "shot.png"]},
        {"locales": {"default": "en", "supported": ["pt-BR", "zh-Hans"]}},
        {"author": {**AUTHOR, "url": "https://example.net/"}}, {"$schema": "https://example.net/schema.json"},
    ],
)  # fmt: skip
def test_a_good_manifest(changes: dict[str, Any]) -> None:
    assert found(**changes) == set()


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"id": "com.acme.other"}, "/id", "id_mismatch"),
        ({"id": "Notes"}, "/id", "wrong_format"),
        ({"id": 7}, "/id", "wrong_type"),
        ({"id": "com.acme.notes\n"}, "/id", "wrong_format"),
        ({"name": "N" * 51}, "/name", "too_long"),
        ({"name": "  "}, "/name", "wrong_format"),
        ({"name": "a\x07b"}, "/name", "wrong_format"),
        ({"name": ["x"]}, "/name", "wrong_type"),
        ({"name": "a\nb"}, "/name", "wrong_format"),
        ({"version": "1.0"}, "/version", "wrong_format"),
        ({"version": 1.0}, "/version", "wrong_type"),
        ({"version_code": 0}, "/version_code", "wrong_format"),
        ({"version_code": 2**31}, "/version_code", "wrong_format"),
        ({"version_code": True}, "/version_code", "wrong_type"),
        ({"version_code": 1.0}, "/version_code", "wrong_type"),
        ({"version_code": "1"}, "/version_code", "wrong_type"),
        ({"entry": "assets/none.rml"}, "/entry", "file_missing"),
        ({"entry": "assets/main.lua"}, "/entry", "wrong_format"),
        ({"entry": {}}, "/entry", "wrong_type"),
        ({"min_mosis_version": "new"}, "/min_mosis_version", "wrong_format"),
        ({"author": "Alice"}, "/author", "wrong_type"),
        ({"author": {"name": "Alice"}}, "/author/email", "required"),
        ({"author": {**AUTHOR, "x/y~": 1}}, "/author/x~1y~0", "unknown_field"),
        ({"author": {**AUTHOR, "email": "alice"}}, "/author/email", "wrong_format"),
        ({"author": {**AUTHOR, "url": "javascript:alert(1)"}}, "/author/url", "wrong_format"),
        ({"permissions": "storage"}, "/permissions", "wrong_type"),
        ({"permissions": ["fly"]}, "/permissions/0", "permission_unknown"),
        ({"permissions": ["storage", []]}, "/permissions/1", "permission_unknown"),
        ({"permissions": ["install_packages"]}, "/permissions/0", "permission_reserved"),
        ({"permissions": ["storage", "storage"]}, "/permissions/1", "duplicate_value"),
        ({"icons": []}, "/icons", "wrong_type"),
        ({"icons": {}}, "/icons/64", "required"),
        ({"icons": {"256": "icons/icon-32.png"}}, "/icons/256", "unknown_field"),
        ({"icons": {"32": 1}}, "/icons/32", "wrong_type"),
        ({"icons": {"32": "icons/none.png"}}, "/icons/32", "file_missing"),
        ({"icons": {"32": "manifest.json"}}, "/icons/32", "wrong_format"),
        ({"description": "x" * 10_001}, "/description", "too_long"),
        ({"category": "All Tools"}, "/category", "wrong_format"),
        ({"screenshots": ["shot.png"] * 11}, "/screenshots", "too_long"),
        ({"screenshots": ["none.png"]}, "/screenshots/0", "file_missing"),
        ({"locales": []}, "/locales", "wrong_type"),
        ({"locales": {"supported": ["english"]}}, "/locales/supported/0", "wrong_format"),
        ({"locales": {"default": None}}, "/locales/default", "wrong_format"),
        ({"locales": {"other": 1}}, "/locales/other", "unknown_field"),
        ({"locales": {"supported": "en"}}, "/locales/supported", "wrong_type"),
        ({"debug": True}, "/debug", "unknown_field"),
        *[({name: None}, f"/{name}", "required") for name in manifest_of() if name != "permissions"],
    ],
)  # fmt: skip
def test_errors_are_reported_with_their_place(
    changes: dict[str, Any], pointer: str, code: str
) -> None:
    assert (pointer, code) in found(**changes)


@pytest.mark.parametrize("value", [None, [], "text", 1, True])
def test_a_manifest_is_an_object(value: Any) -> None:
    assert [each.code for each in check(value, "com.acme.notes", SIZES)] == ["wrong_type"]


@pytest.mark.parametrize(
    "field", [*manifest_of(), "description", "category", "screenshots", "locales", "$schema"]
)
@pytest.mark.parametrize(
    "value",
    [False, 0, 1e300, -1, "", "\u0000", [], [[]], [{}], [None] * 2000, {}, {"": {}}, {"name": []}],
)
def test_no_value_of_a_field_is_more_than_a_finding(field: str, value: Any) -> None:
    assert all(
        each.pointer.startswith(f"/{field}")
        for each in check({**manifest_of(), field: value}, "com.acme.notes", SIZES)
    )


ORDERED = [
    "0.0.0-0", "0.0.0", "0.0.1", "0.1.0", "1.0.0--", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
    "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.9.0", "1.10.0", "1.11.0", "2.0.0-1.2", "2.0.0-1.10", "2.0.0-1.a",
    "2.0.0-A",
    "2.0.0-a", "2.0.0", "2.1.0", "2.1.1", "99999999999999999999.0.0",
]  # fmt: skip


def test_versions_are_ordered_as_semver_org_says() -> None:
    """Section 11 of Semantic Versioning 2.0.0, with all of its examples."""
    for lower, higher in itertools.combinations(ORDERED, 2):
        assert version_key(lower) < version_key(higher), (lower, higher)
    assert (
        version_key("1.0.0+20130313144700")
        == version_key("1.0.0+exp.sha.5114f85")
        == version_key("1.0.0")
    )


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0+", "v1.0.0", "1.0.0 ", "1.0.0\n", "-1.0.0",
     "1.0.0-ä", "١.0.0", "1.0.0-" + "a" * 59],
)  # fmt: skip
def test_what_is_no_version(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(ValueError):
        version_key(text)


def test_lengths_at_the_boundary() -> None:
    assert is_version("1.0.0-" + "a" * 58)
    assert is_package_id("a." + "b" * 253)
    assert not is_package_id("a." + "b" * 254)
