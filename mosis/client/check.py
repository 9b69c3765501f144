"""`mosis check`: the portal's own checks on this machine, before anything is uploaded."""

import io
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from mosis import packages
from mosis.client.output import DONE, REFUSED, USAGE, Output, Stop, printable
from mosis.client.project import Built, Tree
from mosis.errors import Invalid, PortalError
from mosis.packages.archive import Archive
from mosis.packages.checks import Checks, ChecksUnavailable
from mosis.packages.checks.inspection import look_into
from mosis.packages.checks.parsers import missing_parsers
from mosis.packages.ed25519 import NoEd25519
from mosis.records import dataclass
from mosis.validation.strict_json import load_json

# The defaults of a portal (mosis/config.py).
PACKAGE_BYTES = 50 << 20
MEMORY_BYTES, CPU_SECONDS = 512 << 20, 20
ALSO = "the checks that depend on earlier versions and on the account (permission_new, first_app, look_alike)"


@dataclass
class Report:
    """The findings. `skipped` is {missing package: checks that were skipped}."""

    findings: list[dict[str, Any]]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def blocking(self) -> int:
        return sum(each["severity"] == "error" for each in self.findings)


def check_package(path: Path, package_id: str | None, keys: Mapping[str, bytes]) -> Report:
    """Every finding that the portal would report for this file. `package_id` is that of the app
    (None: as in the manifest), `keys` the active signing keys of its owner. Raises Stop if the file
    cannot be read."""
    try:
        size = path.stat().st_size
        if size > PACKAGE_BYTES:
            detail = (
                f"The package has {size} bytes; the default limit of a portal is {PACKAGE_BYTES}."
            )
            return Report([packages.Finding("too_large", detail).as_dict()])
        package_id = package_id or str(manifest_in(path).get("id", ""))
        packages.inspect(path, package_id=package_id, keys=keys)
        with open(path, "rb") as file:
            return Report(_deep(file), missing_parsers())
    except Invalid as refusal:
        return Report(refusal.errors)
    except NoEd25519 as error:
        raise Stop(str(error)) from None
    except (OSError, PortalError) as error:
        raise Stop(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", USAGE
        ) from None


def check_tree(tree: Tree, built: Built, path: Path, key: bytes) -> Report:
    """Every finding for a folder; its package lies at `path`."""
    report = check_package(path, None, {"": key}) if not tree.findings else Report([])
    found = [each.as_dict() for each in tree.findings]
    return Report(found + report.findings, report.skipped)


def _deep(file: io.BufferedReader) -> list[dict[str, Any]]:
    """Tiers 2 and 3, in a child process with the portal's limits where there are some (Linux)."""
    try:
        return Checks(MEMORY_BYTES, CPU_SECONDS, partial=True).run(file)
    except (ChecksUnavailable, OSError, AttributeError):
        file.seek(0)
        found = list(look_into(file))
        rank = {"error": 0, "warning": 1, "info": 2}
        return [
            each.as_dict()
            for each in sorted(found, key=lambda each: rank[each.severity])[
                : packages.MOST_FINDINGS
            ]
        ]


def manifest_in(path: Path) -> dict[str, Any]:
    """The manifest of a package; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            manifest = load_json(Archive(file).read("manifest.json", packages.MANIFEST_BYTES))
    except (packages.Unreadable, PortalError, KeyError, OSError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def is_signed_by(path: Path, key: bytes) -> bool:
    """Whether a package is signed with this key. Raises Stop if signatures cannot be verified."""
    try:
        return packages.is_signed_by(path, key)
    except PortalError:
        return False
    except NoEd25519 as error:
        raise Stop(str(error)) from None


def show(output: Output, report: Report, where: str, place: Path | None, **facts: Any) -> int:
    """Print a report and return the exit code. `place` is the folder that paths are relative to."""
    manifest = _manifest_lines(place)
    lines = [finding_line(output, each, where, place, manifest) for each in report.findings]
    for name, what in report.skipped.items():
        lines.append(output.colour(f"skipped: {what}: needs the Python package {name}", "yellow"))
    if not report.blocking:
        lines.append(
            output.colour(f"{where}: the checks pass", "green") + f"; the portal adds {ALSO}"
        )
    else:
        lines.append(f"{where}: {report.blocking} error(s)")
    document = {
        "file": where,
        "findings": report.findings,
        "skipped": report.skipped,
        "passed": not report.blocking,
    }
    output.result(document | facts, *lines)
    return REFUSED if report.blocking else DONE


def finding_line(
    output: Output,
    finding: Mapping[str, Any],
    where: str,
    place: Path | None = None,
    manifest: str = "",
) -> str:
    """`file:line: code: text`, the format that editors recognize."""
    path, line, pointer = finding.get("path"), finding.get("line"), finding.get("pointer")
    shown = str(place / path) if place and path else f"{where}: {path}" if path else where
    if line is None and pointer and manifest:
        line = _line_of(manifest, str(pointer))
    at = f"{shown}:{line}" if line else shown
    about = f" ({pointer})" if pointer else ""
    level = finding.get("severity") or "error"
    colour = {"error": "red", "warning": "yellow"}.get(level, "dim")
    mark = "" if level == "error" else f"{level}: "
    return f"{printable(at)}: {mark}{output.colour(str(finding['code']), colour)}: {printable(finding['detail'])}{about}"


def _manifest_lines(place: Path | None) -> str:
    try:
        return place.joinpath("manifest.json").read_text(encoding="utf-8") if place else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _line_of(text: str, pointer: str) -> int:
    """The line of a manifest to which a JSON pointer refers, found by its names in order."""
    at = 0
    for name in pointer.split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        found = re.compile(rf'"{re.escape(name)}"\s*:').search(text, at)
        if found is None:
            break
        at = found.start() + 1
    return text.count("\n", 0, at) + 1
