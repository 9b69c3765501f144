"""The deep checks of one package: each file by its kind, then the permissions used against those in
the manifest.

This runs in a child process (child.py), because parsers are large, slow and sometimes faulty. It
opens no files: the package is passed as an open file.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from mosis.packages.archive import Archive
from mosis.packages.checks import fonts, images, lua, rcss, rml, sounds, texts
from mosis.packages.checks.kinds import Contents, info, warning
from mosis.packages.findings import Finding
from mosis.packages.manifest import DANGEROUS_PERMISSIONS

Check = Callable[[str, bytes, Contents], Iterator[Finding]]

KINDS: dict[str, Check] = {
    "rml": rml.check,
    "rcss": rcss.check,
    "lua": lua.check,
    "json": texts.check_json,
    "txt": texts.check_plain,
    "md": texts.check_plain,
    "png": images.check,
    "jpg": images.check,
    "jpeg": images.check,
    "webp": images.check,
    "tga": images.check,
    "ttf": fonts.check,
    "otf": fonts.check,
    "ogg": sounds.check,
    "wav": sounds.check,
    "mp3": sounds.check,
    # META-INF was checked completely before (signature.py); remarks about any text apply to its
    # files too.
    "mf": lambda path, content, contents: iter(()),
    "pem": lambda path, content, contents: iter(()),
    "sig": lambda path, content, contents: iter(()),
}
_TEXTS = frozenset(["rml", "rcss", "lua", "json", "txt", "md", "mf", "pem"])


def look_into(
    file: BinaryIO, begun: Callable[[str], None] = lambda name: None
) -> Iterator[Finding]:
    """Every finding of tiers 2 and 3 that the package itself allows. `begun` is called with the
    name of each file.

    The package has passed tier 1. Raises Unreadable if its bytes have changed since.
    """
    archive = Archive(file)
    manifest = json.loads(archive.read("manifest.json"))
    contents = Contents(frozenset(archive.members), manifest)
    for name in sorted(archive.members):
        begun(name)
        ending = name.rpartition(".")[2].lower()
        content = archive.read(name)
        yield from KINDS[ending](name, content, contents)
        if ending in _TEXTS:
            yield from texts.look(name, content)
    yield from _permissions(manifest, contents)


def _permissions(manifest: Mapping[str, Any], contents: Contents) -> Iterator[Finding]:
    asked = set(manifest.get("permissions", ()))
    for name in sorted(asked - contents.used.keys()):
        make = warning if name in DANGEROUS_PERMISSIONS else info
        yield make(
            "permission_unused",
            f"The permission {name} is requested, but nothing seems to use it.",
            "manifest.json",
        )
    for name, (path, line) in sorted(contents.used.items()):
        if name not in asked:
            detail = (
                f"It uses something that needs the permission {name}, which the "
                "manifest does not request."
            )
            yield warning("permission_undeclared", detail, path, line)


def warm_up() -> None:
    """Load everything that is loaded at first use, so that no file is opened afterwards."""
    contents = Contents(frozenset(), {})
    for name, sample in (
        ("a.rml", b"<rml/>"),
        ("a.rcss", b"a { b: url(c); }"),
        ("a.lua", b"x = 'e'"),
        ("a.json", b"{}"),
    ):
        list(KINDS[name[2:]](name, sample, contents))
        list(texts.look(name, sample))
    list(rml.check("a.rml", b"<rml>", contents))
