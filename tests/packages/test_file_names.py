"""Names by what they are made of: a sample of every Unicode category, devices, twins under every folding."""

import sys
import unicodedata
from collections.abc import Iterable
from functools import cache

import pytest

from mosis.packages.file_names import check_path, check_twins, folded

# The general categories of Unicode (UAX 44, table 12).
CATEGORIES = [
    *("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe"),
    *("Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn"),
]
ASCII = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._- "
INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\ufe00\ufe0f\uffa0\U000e0100\U000e01ef"


@cache
def samples() -> dict[str, list[str]]:
    """Up to 200 characters of each category."""
    found: dict[str, list[str]] = {each: [] for each in CATEGORIES}
    for number in range(sys.maxunicode + 1):
        known = found[unicodedata.category(chr(number))]
        if len(known) < 40 or (number % 97 == 0 and len(known) < 200):
            known.append(chr(number))
    return found


def codes(name: str) -> set[str]:
    return {finding.code for finding in check_path(name, name)}


def twins(*names: str, folders: Iterable[str] = ()) -> set[str]:
    return {finding.code for finding in check_twins(names, folders)}


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_sample_of_every_category(category: str) -> None:
    """Letters, marks and numbers are allowed, with what they stand for in NFKC; of ASCII only the list."""
    taken = 0
    for character in samples()[category]:
        if category == "Cs":
            continue  # half a surrogate pair cannot be in UTF-8
        name = f"assets/a{character}b.lua"
        found = codes(name) - {"path_encoding"}
        taken += not found
        if character.isascii() or category[0] not in "LMN":
            assert bool(found) == (character not in ASCII + "/"), hex(ord(character))
    assert bool(taken) == (category[0] in "LMN" or category in ("Pc", "Pd", "Po", "Zs")), category


def test_every_ascii_character() -> None:
    for number in range(128):
        assert bool(codes(f"a{chr(number)}b.lua")) == (chr(number) not in ASCII + "/"), number


@pytest.mark.parametrize("character", INVISIBLE, ids=ascii)
def test_letters_and_marks_that_nobody_sees_are_refused(character: str) -> None:
    assert "path_invalid" in codes(f"main{character}.rml")


NAMES = [
    "assets/\u202eaul.x.lua", "a\u2028b.lua", "main\u200b.rml", "a\u00a0b.lua", "a\uff0fb.lua", "main.rml:x.lua", "a*?.lua",
    '<b>|".lua', "-rf.lua", "assets/-rf.lua", "~/x.lua", "~x.lua", "a/~x.lua", "a\uff5e.lua", "a@2x.png", "a+b.png", "$HOME.lua",
    "`id`.lua", "%2e%2e.lua", "a;1.lua", "a'b.lua", "a&b.lua", "\ufeffa.lua", "a\u00adb.lua", "a\ue000.lua", "\u0338a.lua",
    "a/\u0301b.lua", "a./b.lua", "a /b.lua", "a/ b.lua", "½.lua", "a/⒈", "\uff0d.lua", "a\u2024lua", "\U0001f600.lua",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_mislead_or_mean_something_elsewhere(name: str) -> None:
    assert "path_invalid" in codes(name)


STEMS = [
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³１"),
]


@pytest.mark.parametrize("stem", [*STEMS, "ＣＯＮ", "CONIN", "CONOUT", "CLOCK"])
def test_devices_of_windows(stem: str) -> None:
    for spelled in (stem, stem.lower(), stem.title()):
        for form in (
            "{}",
            "{}.lua",
            "{}.tar.lua",
            "{} .lua",
            "{}.",
            "assets/{}.lua",
            "{}/main.lua",
            "a/{}.d/main.lua",
        ):
            assert "path_invalid" in codes(form.format(spelled)), form
        for form in ("a{}.lua", "{}a.lua", "{}-1.lua", "a.{}.lua", "_{}/main.lua"):
            assert not codes(unicodedata.normalize("NFC", form.format(spelled))), form


FINE = [
    "main.rml",
    "a b.lua",
    "assets/жизнь.txt",
    "assets/日本語.json",
    "é.txt",
    "हिन्दी.md",
    "ไทย.md",
    "a..b.lua",
    ".hidden/a.lua",
    "_x.lua",
]


@pytest.mark.parametrize("name", FINE)
def test_names_of_people_are_allowed(name: str) -> None:
    assert not codes(name)


TWINS = [
    ("I.lua", "\u0131.lua"), ("i.lua", "\u0130.lua"), ("I.lua", "i.lua"), ("\u0131.lua", "\u0130.lua"), ("ſ.lua", "s.lua"),
    ("K.lua", "\u212a.lua"), ("ß.lua", "SS.lua"), ("ẞ.lua", "ss.lua"), ("ﬁ.lua", "FI.lua"), ("Σ.lua", "ς.lua"), ("µ.lua", "Μ.lua"),
    ("Å.lua", "\u212b.lua"),
    ("ａ.lua", "A.lua"), ("²a.lua", "2a.lua"), ("É.lua", "é.lua"), ("Ǆ.lua", "dž.lua"), ("ŉ.lua", "ʼn.lua"),
    ("Sub/a.lua", "sub/A.lua"), ("\u0131/a.lua", "I/a.lua"),
]  # fmt: skip


@pytest.mark.parametrize("pair", TWINS, ids=ascii)
def test_twins_under_every_folding(pair: tuple[str, str]) -> None:
    assert folded(pair[0]) == folded(pair[1])
    assert twins(*pair) == twins(*reversed(pair)) == {"path_duplicate"}


def test_every_letter_is_a_twin_of_its_cases() -> None:
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        cases = {letter.upper(), letter.lower(), letter.title(), letter.casefold()} - {letter}
        for other in cases:
            assert folded(letter) == folded(other), hex(number)


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("Icons/a.png", "icons/b.png"), ()), (("a/Icons/a.png", "a/icons/c/b.png"), ()), (("icons/a.png",), ("Icons/",)),
        ((), ("Icons/", "icons/")), (("a/b.lua", "a"), ()), (("A/b.lua", "a"), ()), (("a",), ("a/",)), (("a",), ("A/",)),
        (("a.lua/b.lua",), ("A.LUA/B.lua/",)),
    ],
)  # fmt: skip
def test_folders_have_one_spelling_and_are_no_files(
    names: tuple[str, ...], folders: tuple[str, ...]
) -> None:
    assert twins(*names, folders=folders) == {"path_duplicate"}


def test_the_same_folder_of_many_files_is_no_twin() -> None:
    names = [f"assets/sub/{number}.lua" for number in range(50)]
    assert not twins(*names, "assets/a.lua", "manifest.json", folders=["assets/", "assets/sub/"])
