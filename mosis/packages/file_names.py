"""Names of files in packages: which are allowed, and which are equal on some file system.

A name must mean the same to every reader, file system and reviewer. Characters come from an
allow-list: ASCII letters and digits, `._-`, the space, and the Unicode categories L, M and N.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from mosis.packages.findings import Finding

PATH_BYTES, PATH_LEVELS = 256, 16
SEGMENT_BYTES = 255  # NAME_MAX of Linux, macOS and most file systems
_ASCII = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._- ")
# Letters and marks without a visible glyph: Default_Ignorable_Code_Point of Unicode's
# DerivedCoreProperties.txt, those of the categories L and M.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: with any extension; the digits also as superscripts, which
# NFKC makes plain ones.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin|conout|clock|(?:com|lpt)[0-9])\Z")


def check_path(path: str, name: str) -> Iterator[Finding]:
    """What is wrong with the path of an entry; `name` ends with a slash for a directory."""
    segments = path.split("/")
    if len(path.encode()) > PATH_BYTES or len(segments) > PATH_LEVELS:
        detail = f"{name[:80]!r}: at most {PATH_BYTES} bytes and {PATH_LEVELS} levels are allowed."
        yield Finding("path_too_long", detail, name)
        return  # checked before its characters, of which there may be 65,535
    if any(len(segment.encode()) > SEGMENT_BYTES for segment in segments):
        detail = f"{name[:80]!r}: a file or folder name may have at most {SEGMENT_BYTES} bytes."
        yield Finding("path_too_long", detail, name)
    problem = _problem(path) or next(filter(None, map(_segment_problem, segments)), None)
    if problem:
        yield Finding("path_invalid", f"{name!r}: {problem}", name)
    if unicodedata.normalize("NFC", path) != path:
        detail = f"{name!r} is not in Unicode's normal form C (NFC); rename the file."
        yield Finding("path_encoding", detail, name)


def _problem(path: str) -> str | None:
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "the path is absolute; paths are relative to the root of the package."
    for character in path.replace("/", ""):
        if not _is_allowed(character):
            if character == "\\":
                return "it is divided by backslashes, which .NET and PowerShell before 7 write; pack with slashes."
            what = unicodedata.name(character, "no printable character")
            return (
                f"the character U+{ord(character):04X} ({what}) is not allowed in names; "
                "use letters, digits, '.', '_', '-' and spaces."
            )
    return None


def _is_allowed(character: str) -> bool:
    if character.isascii():
        return character in _ASCII
    return unicodedata.category(character)[0] in "LMN" and not _INVISIBLE.match(character)


def _segment_problem(segment: str) -> str | None:
    """The rules apply to the form NFKC too, which some file systems do not distinguish."""
    plain = unicodedata.normalize("NFKC", segment)
    if segment in ("", ".", ".."):
        return "empty segments, '.' and '..' are not allowed."
    if not all(map(_is_allowed, plain)):
        return f"it is equivalent to {plain!r} (Unicode compatibility form); use that name."
    if plain != plain.strip() or plain.endswith("."):
        return "no part of a path may begin or end with a space, or end with a dot."
    if plain.startswith("-") or unicodedata.category(segment[0])[0] == "M":
        return "no part of a path may begin with '-' or with a combining mark."
    if _DEVICE.match(plain.partition(".")[0].strip().casefold()):
        return f"{segment!r} is the name of a device on Windows; rename the file."
    return None


def check_twins(files: Iterable[str], folders: Iterable[str]) -> Iterator[Finding]:
    """Find names that some file systems treat as equal, and files that would have to be directories
    too.

    `folders` are the directory entries, with their slash. Directories that occur only in the paths
    of files count as well.
    """
    seen: dict[str, str] = {}
    reported: set[str] = set()
    for name in files:
        key = folded(name)
        if seen.setdefault(key, name) != name and name not in reported:
            reported.add(name)
            detail = f"{name!r} and {seen[key]!r} are one name where case does not count."
            yield Finding("path_duplicate", detail, name)
    spelled: dict[str, str] = {}
    for path in [*(name.rpartition("/")[0] for name in files), *(name[:-1] for name in folders)]:
        for parent in _parents(path):
            key = folded(parent)
            if spelled.setdefault(key, parent) != parent and parent not in reported:
                reported.add(parent)
                detail = (
                    f"{parent!r} and {spelled[key]!r} are one folder where case does not count."
                )
                yield Finding("path_duplicate", detail, parent)
    for key in spelled.keys() & seen.keys():
        yield Finding("path_duplicate", f"{seen[key]!r} is a file and a folder.", seen[key])


def _parents(path: str) -> Iterator[str]:
    """`a/b/c` gives `a`, `a/b` and `a/b/c`, not deeper than paths may be."""
    parts = path.split("/", PATH_LEVELS)[:PATH_LEVELS] if path else []
    for depth in range(1, len(parts) + 1):
        yield "/".join(parts[:depth])


def folded(name: str) -> str:
    """A key that is equal for names that are equal on some file system.

    Compatibility forms and case are ignored, and so is the dot of Turkish and Azerbaijani i: I, İ,
    i and ı are equal.
    """
    text = name
    for fold in (str.casefold, str.upper, str.casefold):
        # Decomposed before and after case folding: "Canonical Caseless Matching", D145 in section
        # 3.13 of Unicode.
        text = unicodedata.normalize("NFKD", fold(unicodedata.normalize("NFKD", text)))
    return text.replace("i\u0307", "i")
