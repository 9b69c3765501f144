"""Fonts: TrueType or OpenType (ISO/IEC 14496-22) that FreeType opens, with the required tables,
valid headers and at least one glyph.

A table beyond the end of the file counts as missing, as in FreeType; order and padding of tables do
not matter.
"""

import struct
from collections.abc import Iterator

from mosis.packages.checks.kinds import Broken, Contents, error, why_broken
from mosis.packages.findings import Finding

FACES = 64  # of a collection
_KINDS = (b"\x00\x01\x00\x00", b"\x00\x02\x00\x00", b"true", b"OTTO")
_NEEDED = (b"cmap", b"head", b"hhea", b"hmtx", b"maxp")
_COMPACT = {b"CFF ", b"CFF2"}
_DRAWN = (
    {b"glyf", b"loca"},
    {b"CFF "},
    {b"CFF2"},
    {b"CBDT", b"CBLC"},
    {b"EBDT", b"EBLC"},
    {b"sbix"},
)
_HEAD_MAGIC = 0x5F0F3CF5


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with a font."""
    try:
        for start in _faces(content):
            _read(content, start)
    except (Broken, struct.error) as trouble:
        why = why_broken(trouble, content, ("OpenType font",))
        yield error("font_invalid", f"This is no font: {why}. Export it again.", path)


def _faces(content: bytes) -> tuple[int, ...]:
    """The offset of each font in the file."""
    if not content.startswith(b"ttcf"):
        return (0,)
    (count,) = struct.unpack_from(">L", content, 8)
    if not 0 < count <= FACES:
        raise Broken(f"a collection may have 1 to {FACES} fonts")
    return struct.unpack_from(f">{count}L", content, 12)


def _read(content: bytes, start: int) -> None:
    kind, count = struct.unpack_from(">4sH", content, start)
    if kind not in _KINDS:
        raise Broken("it does not have the header of a font")
    tables = {}
    for number in range(count):
        tag, _, offset, length = struct.unpack_from(">4sLLL", content, start + 12 + 16 * number)
        if offset + length <= len(content) and (length or tag == b"glyf"):
            tables[tag] = offset
    for tag in _NEEDED:
        if tag not in tables:
            raise Broken(f"its table {tag.decode()} is missing or cut off")
    if kind == b"OTTO" and not _COMPACT & tables.keys():
        raise Broken("its outlines (CFF) are missing or cut off")
    if not any(drawn <= tables.keys() for drawn in _DRAWN):
        raise Broken("its glyphs (glyf and loca, or CFF) are missing or cut off")
    if struct.unpack_from(">L", content, tables[b"head"] + 12)[0] != _HEAD_MAGIC:
        raise Broken("its head table is damaged")
    if not any(content[tables[b"head"] + 18 : tables[b"head"] + 20]):
        raise Broken("its units per em are 0")
    if not any(content[tables[b"maxp"] + 4 : tables[b"maxp"] + 6]):
        raise Broken("it has no glyphs")
