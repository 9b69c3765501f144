"""Shared by the checks of all file types: findings, and the package as the checks see it."""

import posixpath
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mosis.packages.findings import Finding
from mosis.packages.formats import format_of
from mosis.records import dataclass


@dataclass
class Contents:
    """The package under check: file names, manifest, and the permissions found to be used."""

    names: frozenset[str]
    manifest: Mapping[str, Any]
    # permission: where it is used first
    used: dict[str, tuple[str, int]] = field(default_factory=dict)


class Broken(Exception):
    """A file does not have the format of its name; the text gives the reason."""


def why_broken(trouble: Exception, content: bytes, own: tuple[str, ...]) -> str:
    """Why a file does not have the format of its name: it is cut off or damaged, or a file of another format, unless that is one
    of its `own` (names in formats.py)."""
    found = format_of(content)
    if found and not found.endswith(own):
        return f"it is {found}"
    return str(trouble) if isinstance(trouble, Broken) else "it is cut off or damaged"


def error(code: str, detail: str, path: str, line: int | None = None) -> Finding:
    """A finding of tier 2, which blocks."""
    return Finding(code, detail, path, line, tier=2, severity="error")


def warning(code: str, detail: str, path: str | None = None, line: int | None = None) -> Finding:
    """A finding of tier 3 that a reviewer should examine."""
    return Finding(code, detail, path, line, tier=3, severity="warning")


def info(code: str, detail: str, path: str | None = None, line: int | None = None) -> Finding:
    """A finding of tier 3 for the reviewer's information."""
    return Finding(code, detail, path, line, tier=3, severity="info")


def shown(text: str, longest: int = 60) -> str:
    """A part of a file for use in a sentence: short, quoted, without control characters."""
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")


def beside(path: str, reference: str) -> str:
    """The file of the archive that a reference in another one names; "/" is the archive's root."""
    return posixpath.normpath(
        reference.lstrip("/")
        if reference.startswith("/")
        else posixpath.join(posixpath.dirname(path), reference)
    )
