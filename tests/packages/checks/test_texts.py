"""The texts of findings: in the portal's own words, never those of a Python exception, and each is a sentence."""

import random
import re
from pathlib import Path

import pytest

from bench import fuzz
from mosis import packages
from mosis.errors import Invalid
from mosis.packages.checks import Checks
from mosis.packages.checks.inspection import KINDS
from mosis.packages.checks.kinds import Contents
from tests.package_builder import build_package, signing_key

INTERNALS = re.compile(
    r"codec|Traceback|object at 0x|NoneType|<class|Error\b|Exception|while decompressing|unpack requires|out of range|"
    r"invalid literal|ordinal not|\bstruct\b|byte 0x|Incorrect padding|base64\.|has no attribute|(?<![\w<\"'])b['\"]"
)
TEXTS = ("rml", "rcss", "lua", "json", "txt", "md")  # a finding about them names a line
WITHOUT_LINE = {"lua_bytecode", "json_malformed"}  # about the whole file
BROKEN = [
    b"",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    "<a>".encode("utf-16"),
    b"\xc3",
    b"{",
    b"<",
    b"[" * 40,
    b"\x1bLua",
    b"(" * 300,
]
KEY = signing_key()


def spoiled(kind: str) -> list[bytes]:
    draw = random.Random(kind)
    sample = fuzz.SAMPLES[kind]
    return (
        BROKEN
        + [fuzz.spoiled(sample, draw) for _ in range(150)]
        + [sample[:n] for n in range(0, 60, 3)]
    )


@pytest.mark.parametrize("kind", fuzz.SAMPLES)
def test_findings_about_broken_files_are_our_own_words(kind: str) -> None:
    for content in spoiled(kind):
        for each in KINDS[kind](f"assets/a.{kind}", content, Contents(frozenset(), {})):
            assert not INTERNALS.search(each.detail), (content, each)
            assert each.detail.endswith("."), each
            if kind in TEXTS and each.code not in WITHOUT_LINE:
                assert each.line, (content, each)


def test_findings_about_broken_packages_are_our_own_words(tmp_path: Path) -> None:
    draw, path = random.Random(4), tmp_path / "a.mosis"
    good = [build_package(key=KEY), build_package(key=KEY, files={"assets/a.txt": b"a" * 5000})]
    answer = 0
    for number in range(400):
        content = fuzz.spoiled(good[number % 2], draw)
        path.write_bytes(content)
        try:
            packages.inspect(path, package_id="com.acme.notes", keys={"k": KEY.raw})
        except Invalid as refused:
            for each in refused.errors:
                answer += 1
                assert not INTERNALS.search(each["detail"]), (content, each)
    assert answer > 400


def test_a_check_that_breaks_says_no_internals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is for the log of the portal; the developer hears what to do."""
    path = tmp_path / "a.mosis"
    path.write_bytes(build_package(key=KEY).replace(b"PK\x05\x06", b"PK\x05\x07"))
    with path.open("rb") as file:
        (found, *_) = Checks(512 << 20, 20).run(file)
    assert found["code"] == "check_crashed"
    assert not INTERNALS.search(found["detail"])
    assert "administrator" in found["detail"]
    assert "Unreadable" in caplog.records[-1].__dict__["reason"]
