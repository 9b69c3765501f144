"""An app's folder: the files that belong to the package, and the package built from them. Builds
are reproducible: the same files and key give the same bytes, whatever the clock, locale, user or
order of directory entries."""

import fnmatch
import json
import os
import re
import stat
import unicodedata
from dataclasses import field
from pathlib import Path
from typing import Any

from mosis.client.output import REFUSED, USAGE, Stop, unreadable
from mosis.client.signing import Key
from mosis.errors import Malformed
from mosis.packages.archive import ALL_BYTES, FILE_BYTES
from mosis.packages.build import signed, zipped
from mosis.packages.findings import Finding
from mosis.packages.manifest import LARGEST_CODE, is_version
from mosis.packages.signature import CERTIFICATE, DIGESTS, SIGNATURE, to_pem
from mosis.packages.zip_records import FILES
from mosis.records import dataclass
from mosis.validation.strict_json import load_json

IGNORE = ".mosisignore"
MANIFEST = "manifest.json"
# Files that never belong to a package; .mosisignore adds to them.
ALWAYS_IGNORED = (".*", "/META-INF/", "*.mosis", "Thumbs.db", "desktop.ini", "*~", "__pycache__/")
PARTS = ("major", "minor", "patch")


@dataclass
class Tree:
    """The files of a folder by their names in the package, and the errors found while reading it."""

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Built:
    """A package in memory. The manifest is empty if it cannot be read."""

    content: bytes
    manifest: dict[str, Any]

    @property
    def file_name(self) -> str:
        return f"{_plain(self.manifest.get('id'), 'app')}-{_plain(self.manifest.get('version'), '0')}.mosis"


def read_tree(folder: Path) -> Tree:
    """Read the files of the package, in the order of their names. Raises Stop."""
    tree = Tree(folder)
    rules = [_rule(each) for each in ALWAYS_IGNORED] + _read_rules(folder / IGNORE)
    try:
        names = sorted(_walk(folder, "", rules, tree))
        total = 0
        if len(names) > FILES:
            detail = f"{len(names)} files; at most {FILES} are allowed."
            tree.findings.append(Finding("too_many_files", detail))
            return tree
        for name in names:
            content = folder.joinpath(name).read_bytes()
            total += len(content)
            if total > ALL_BYTES:
                detail = f"More than {ALL_BYTES} bytes; {IGNORE} says what to leave out."
                tree.findings.append(Finding("archive_too_large", detail))
                return tree
            tree.files[name] = content
    except OSError as error:
        raise Stop(f"{error.filename or folder} cannot be read: {error.strerror}", USAGE) from None
    return tree


def build(tree: Tree, key: Key) -> Built:
    """The signed package of a tree: META-INF first, then the files by name."""
    files = signed(tree.files, key.sign)
    ordered = {
        DIGESTS: files.pop(DIGESTS),
        SIGNATURE: files.pop(SIGNATURE),
        CERTIFICATE: to_pem(key.public).encode(),
        **files,
    }
    return Built(zipped(ordered), manifest_of(tree))


def manifest_of(tree: Tree) -> dict[str, Any]:
    """The manifest, or empty if it cannot be read; the checks report why."""
    try:
        found = load_json(tree.files.get(MANIFEST, b""))
    except Malformed:
        return {}
    return found if isinstance(found, dict) else {}


def require_project(folder: Path) -> None:
    """Raises Stop if this is not the folder of an app."""
    if not folder.is_dir():
        detail = f"{folder} is neither a folder nor a file. `mosis init {folder}` makes a new app."
        raise Stop(detail, USAGE)
    if not folder.joinpath(MANIFEST).is_file():
        raise Stop(
            f"There is no {MANIFEST} in the folder `{folder}`; `mosis init {folder}` makes a new app.",
            USAGE,
        )


def next_version(version: str, part: str) -> str:
    """The version after this one. The patch of a pre-release is its release: 1.2.0-beta.1 becomes 1.2.0."""
    if not is_version(version):
        raise Stop(
            f"The manifest's version {version!r} is not a semantic version; correct it "
            "in manifest.json first."
        )
    core, suffix = re.match(r"(\d+\.\d+\.\d+)(-)?", version).groups()  # type: ignore[union-attr]
    major, minor, patch = (int(each) for each in core.split("."))
    if part == "major":
        return f"{major + 1}.0.0"
    if part == "minor":
        return f"{major}.{minor + 1}.0"
    return core if suffix else f"{major}.{minor}.{patch + 1}"


def bump(folder: Path, part: str) -> tuple[str, str]:
    """Raise version and version_code in the manifest without changing the rest of its text. Returns
    the versions before and after. Raises Stop if the manifest cannot be read or changed."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes().decode("utf-8")
        manifest = load_json(text.encode())
        version, code = manifest["version"], manifest["version_code"]
    except (OSError, UnicodeDecodeError, Malformed, KeyError, TypeError) as error:
        raise Stop(f"The version in {path} cannot be raised: {error}", REFUSED) from None
    if not isinstance(version, str) or not isinstance(code, int) or not 0 < code < LARGEST_CODE:
        raise Stop(f"version or version_code in {path} is not valid; correct it first.", REFUSED)
    after = next_version(version, part)
    wanted = manifest | {"version": after, "version_code": code + 1}
    changed = re.sub(
        r'("version"\s*:\s*)"[^"]*"', lambda found: f'{found[1]}"{after}"', text, count=1
    )
    changed = re.sub(
        r'("version_code"\s*:\s*)\d+', lambda found: f"{found[1]}{code + 1}", changed, count=1
    )
    if load_json(changed.encode()) != wanted:  # the words occur elsewhere in it too
        changed = json.dumps(wanted, ensure_ascii=False, indent=2) + "\n"
    replace_file(path, changed.encode())
    return version, after


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically, with default permissions. Raises Stop, also where there is something
    that is no file, such as a device: renaming would replace it."""
    if path.exists() and not path.is_file():
        raise Stop(f"{path} is there and is not a file; choose another name.", USAGE)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Stop(f"{path} cannot be written: {error.strerror}", REFUSED) from None


def _walk(folder: Path, above: str, rules: list["_Rule"], tree: Tree) -> list[str]:
    """The names of the files under a folder that are not ignored."""
    found = []
    for entry in os.scandir(folder / above):
        name = f"{above}{entry.name}"
        mode = entry.stat(follow_symlinks=False).st_mode
        if _is_ignored(name, stat.S_ISDIR(mode), rules):
            continue
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "backslashreplace").decode()
            tree.findings.append(
                Finding("path_encoding", f"{shown!r} is not UTF-8; rename it.", shown)
            )
            continue
        if stat.S_ISDIR(mode):
            found += _walk(folder, name + "/", rules, tree)
        elif not stat.S_ISREG(mode):
            detail = f"{name!r} is not a plain file; a package holds no links or devices."
            tree.findings.append(Finding("zip_link", detail, name))
        elif entry.stat().st_size > FILE_BYTES:
            detail = f"{name!r} has {entry.stat().st_size} bytes, {FILE_BYTES} are allowed."
            tree.findings.append(Finding("file_too_large", detail, name))
        else:
            found.append(name)
    return found


@dataclass(frozen=True)
class _Rule:
    """A line of .mosisignore, with the syntax of .gitignore."""

    pattern: re.Pattern[str]
    keep: bool
    folders_only: bool


def _rule(line: str) -> _Rule:
    keep, text = line.startswith("!"), line.removeprefix("!")
    folders_only, text = text.endswith("/"), text.rstrip("/")
    anchored = "/" in text
    body = fnmatch.translate(unicodedata.normalize("NFC", text.lstrip("/")))
    return _Rule(re.compile(body if anchored else rf"(?:.*/)?{body}"), keep, folders_only)


def _read_rules(path: Path) -> list[_Rule]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    return [_rule(line.strip()) for line in lines if line.strip() and not line.startswith("#")]


def _is_ignored(name: str, is_folder: bool, rules: list[_Rule]) -> bool:
    """The last matching rule decides."""
    ignored = False
    for rule in rules:
        if (is_folder or not rule.folders_only) and rule.pattern.match(
            unicodedata.normalize("NFC", name)
        ):
            ignored = not rule.keep
    return ignored


def _plain(value: Any, otherwise: str) -> str:
    """A value of the manifest as a part of a file name."""
    text = value if isinstance(value, str) else otherwise
    return re.sub(r"[^A-Za-z0-9.+_-]", "_", text)[:100].lstrip(".") or otherwise
