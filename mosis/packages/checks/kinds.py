"""What the checks of all kinds of files share: how a finding is made, and the package as they see it."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mosis.packages.findings import Finding


@dataclass
class Contents:
    """The package a check looks into: names of its files, its manifest, and what the files were found to use."""

    names: frozenset[str]
    manifest: Mapping[str, Any]
    used: dict[str, tuple[str, int]] = field(
        default_factory=dict
    )  # permission: where it is used first


class Broken(Exception):
    """A file is not what its name says; the text says why."""


def error(code: str, detail: str, path: str, line: int | None = None) -> Finding:
    """A finding of tier 2: it blocks."""
    return Finding(code, detail, path, line, tier=2, severity="error")


def warning(code: str, detail: str, path: str | None = None, line: int | None = None) -> Finding:
    """A finding of tier 3 that a reviewer should look at."""
    return Finding(code, detail, path, line, tier=3, severity="warning")


def info(code: str, detail: str, path: str | None = None, line: int | None = None) -> Finding:
    """A finding of tier 3 that a reviewer should know."""
    return Finding(code, detail, path, line, tier=3, severity="info")


def shown(text: str, longest: int = 60) -> str:
    """A piece of somebody's file as it may stand in a sentence: short, quoted, without control characters."""
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")


def beside(path: str, reference: str) -> str:
    """The file of the archive that a reference in another file of it means; "/" begins at the archive's root."""
    return posixpath.normpath(
        reference.lstrip("/")
        if reference.startswith("/")
        else posixpath.join(posixpath.dirname(path), reference)
    )
