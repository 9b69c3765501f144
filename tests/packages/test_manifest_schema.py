"""The JSON Schema of the manifest and the check of the manifest agree."""

import copy
import json
import random
import shutil
import subprocess
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mosis.packages.manifest import FIELDS, PERMISSIONS, RESERVED_PERMISSIONS, check
from mosis.packages.manifest_schema import schema
from tests.campaign import short_and_full
from tests.package_builder import manifest_of

SCHEMA = schema("https://portal.example.org/docs/manifest.schema.json")
VALIDATOR = Draft202012Validator(SCHEMA)
# What a schema cannot know: the app that a package is sent to, and the files of the package.
OF_THE_PACKAGE = {"id_mismatch", "file_missing"}
FULL = manifest_of(
    description="Two\nlines",
    category="tools",
    screenshots=["a.png", "b.WEBP"],
    locales={"default": "en", "supported": ["pt-BR", "zh-Hans"]},
    author={"name": "Alice", "email": "alice@example.net", "url": "https://example.net/"},
    permissions=list(PERMISSIONS),
    **{"$schema": "https://example.net/schema.json"},
)
TEXTS = [
    "", " ", "x", "N" * 50, "N" * 51, "N" * 256, "a\nb", "b\n", "a\x07", "a\u202eb", "Ноты 🎵", "👩\u200d🚀", "a\u200db",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f", "x" * 10_001, "1.0.0", "1.0", "01.0.0", "1.0.0-beta.1+5", "1.0.0-01", "1.0.0\n",
    "1." + "0" * 70 + ".0", "com.acme.notes", "Com.acme", "com", "com.acme.notes\n", "a." * 130 + "a", "main.rml", "MAIN.RML",
    "rml", "a.rml\n", "i.png", "i.jpeg", "i.gif", "alice@example.net", "a@b@c", "a..b@example.net", "https://example.net/a?b#c",
    "ftp://example.net", "https://u@example.net/", "http://[::1]:80/", "https://example.net/\"", "https://e.net/ä", "tools",
    "Tools", "en", "pt-BR", "en_US", "zh-Hans-CN", "de-1996", "storage", "storage.shared", "gps", *RESERVED_PERMISSIONS,
]  # fmt: skip
VALUES = [
    *TEXTS, None, True, False, 0, 1, -1, 2**31 - 1, 2**31, 1.5, [], {}, ["x"], ["x", "x"], ["storage", "storage"], ["camera"],
    ["a.png"] * 2, [f"{n}.png" for n in range(10)], [f"{n}.png" for n in range(11)], [1], {"default": "en"}, {"x": 1},
]  # fmt: skip


def agree(manifest: Any) -> bool:
    """Whether the manifest is accepted; both decisions must be the same."""
    found = {each.code for each in check(manifest, "com.acme.notes", {})} - OF_THE_PACKAGE
    errors = list(VALIDATOR.iter_errors(manifest))
    assert bool(found) == bool(errors), (manifest, found, [each.message for each in errors])
    return not found


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a JSON value."""
    found = [at]
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in pairs:
            found += places(each, (*at, key))
    return found


def changed(manifest: dict[str, Any], place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at one place; ... removes it."""
    if not place:
        return value
    made = copy.deepcopy(manifest)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return made


def test_a_full_manifest_is_accepted_by_both() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == set(FIELDS) == set(FULL)
    assert agree(FULL)


@pytest.mark.parametrize("step", short_and_full(3, 1))
def test_every_value_at_every_place_has_one_verdict(step: int) -> None:
    """Each value at every third place or at every one."""
    verdicts = [
        agree(changed(FULL, place, value))
        for number, place in enumerate(places(FULL))
        for value in ([..., *VALUES][number % step :: step] if place else [{}, [], None, "x"])
    ]
    assert 20 < verdicts.count(True) < len(verdicts) / 2


def test_additional_fields_are_refused_by_both() -> None:
    for place in ((), ("author",), ("icons",), ("locales",)):
        for name in ("x", "", "a/b", "256"):
            assert not agree(changed(FULL, (*place, name), "x"))


def test_several_changes_at_once_have_one_verdict() -> None:
    rng = random.Random(1)
    for _ in range(300):
        made = FULL
        for _ in range(3):
            place = rng.choice([each for each in places(made) if each])
            made = changed(made, place, rng.choice([..., *VALUES]))
        agree(made)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_its_patterns_mean_the_same_to_ecmascript() -> None:
    """JSON Schema's regular expressions are ECMA-262's, with the flag u; Python's are not."""
    patterns = sorted({each["pattern"] for each in _with_patterns(SCHEMA)})
    script = (
        "const [patterns, texts] = JSON.parse(require('fs').readFileSync(0));"
        "console.log(JSON.stringify(patterns.map(p => texts.map(t => new RegExp(p, 'u').test(t)))))"
    )
    done = subprocess.run(
        ["node", "-e", script],
        input=json.dumps([patterns, TEXTS]),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = []
    for pattern in patterns:
        validator = Draft202012Validator({"pattern": pattern})
        expected.append([validator.is_valid(text) for text in TEXTS])
    assert json.loads(done.stdout) == expected


def _with_patterns(value: Any) -> list[dict[str, Any]]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    own = [value] if isinstance(value, dict) and isinstance(value.get("pattern"), str) else []
    return own + [each for part in inner for each in _with_patterns(part)]
