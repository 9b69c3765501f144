"""Fonts are TrueType or OpenType (ISO/IEC 14496-22): the directory of tables, and the tables that every font has."""

import struct
from collections.abc import Iterator

from mosis.packages.checks.kinds import Broken, Contents, error
from mosis.packages.findings import Finding

_KINDS = (b"\x00\x01\x00\x00", b"true", b"OTTO")
_NEEDED = {b"cmap", b"head", b"hhea", b"hmtx", b"maxp"}
_HEAD_MAGIC = 0x5F0F3CF5


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with a font."""
    try:
        _read(content)
    except (Broken, struct.error) as trouble:
        why = str(trouble) if isinstance(trouble, Broken) else "it is cut off"
        yield error("font_invalid", f"This is no font: {why}.", path)


def _read(content: bytes) -> None:
    kind, count = struct.unpack_from(">4sH", content)
    if kind not in _KINDS:
        raise Broken("it does not begin like one")
    tables = {}
    for number in range(count):
        tag, _, offset, length = struct.unpack_from(">4sLLL", content, 12 + 16 * number)
        if offset + length > len(content):
            raise Broken("a table lies beyond its end")
        tables[tag] = offset
    if missing := _NEEDED - tables.keys():
        raise Broken("it lacks the table " + min(missing).decode())
    if struct.unpack_from(">L", content, tables[b"head"] + 12)[0] != _HEAD_MAGIC:
        raise Broken("its head table is damaged")
