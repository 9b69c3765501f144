"""The records of a ZIP file: every byte must belong to one entry, to the central directory or to
the end record.

Formats and field names are those of APPNOTE.TXT 6.3 (sections 4.3.7, 4.3.9, 4.3.12, 4.3.16, 4.5)
and, for extra fields, of Info-ZIP's extrafld.txt. Readers differ in what they look at first, so an
ambiguous file can be two different packages. Ambiguous files are refused: the records may contain
only what common writers put there.
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from mosis.packages.findings import Finding
from mosis.packages.formats import HEAD_BYTES, format_of
from mosis.records import dataclass

FILES = 1000
ENTRIES = 2 * FILES  # directories are entries too
DIRECTORY_BYTES = 4 << 20
STORED, DEFLATED = 0, 8
# Where readers search for the end of the archive: 64 KiB of comment and the records before it (22 +
# 20 + 56 bytes); Info-ZIP reads back 66,000 bytes.
TAIL_BYTES = 66_000 + 98

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = struct.Struct("<3L")
_END_MARK, _CENTRAL_MARK = b"PK\x05\x06", b"PK\x01\x02"
_LOCAL_MARK, _DESCRIPTOR_MARK = b"PK\x03\x04", b"PK\x07\x08"
_ENCRYPTED, _DESCRIBED, _UTF8 = 1 << 0, 1 << 3, 1 << 11
_ALLOWED_FLAGS = 0b110 | _DESCRIBED | _UTF8  # bits 1 and 2 are the compression level of deflate
# 2.0 for deflate and directories; features of later versions are not allowed
_VERSIONS_NEEDED = (10, 20)
# MS-DOS, Unix, NTFS (10 by APPNOTE, 11 by Info-ZIP), VFAT, OS X. Other systems have rules of their
# own for names and attributes.
_SYSTEMS = frozenset({0, 3, 10, 11, 14, 19})
_ANY_RECORD = re.compile(rb"PK(?:\x01\x02|\x03\x04|\x05[\x05\x06]|\x06[\x06-\x08]|\x07\x08)")
_TAIL_RECORD = re.compile(rb"PK(?:\x01\x02|\x05\x06|\x06[\x06\x07])")
_ZIP64 = "The archive uses ZIP64, which no package within the limits needs."
# What other readers search for beyond the first byte: PDF in the first kilobyte, tar in its first
# header, the volume of a disk image.
_OTHER_FORMATS = ((b"%PDF-", 0, 1024), (b"ustar", 257, 262), (b"CD001", 32769, 32774))


class Unreadable(Exception):
    """The archive cannot be read any further; holds the finding."""

    def __init__(self, code: str, detail: str, path: str | None = None) -> None:
        super().__init__(detail)
        self.finding = Finding(code, detail, path)


@dataclass(frozen=True)
class Entry:
    """One entry, as both headers describe it; sizes in bytes, positions from the start."""

    name: str
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    header: int  # offset of the local header
    start: int  # offset of the data
    external: int  # external file attributes (4.4.15)


class _Central(NamedTuple):
    signature: bytes
    made_by: int
    needed: int
    flags: int
    method: int
    mtime: int
    mdate: int
    crc: int
    packed: int
    size: int
    name_length: int
    extra_length: int
    comment_length: int
    disk: int
    internal: int
    external: int
    offset: int


def read_entries(file: BinaryIO, findings: list[Finding]) -> list[Entry]:
    """All entries, in their order in the file.

    Ambiguities are added to `findings`. Raises Unreadable if the records cannot be followed.
    """
    size = file.seek(0, 2)
    count, directory_bytes, directory_start = _end_record(file, size)
    file.seek(directory_start)
    directory = file.read(directory_bytes)
    entries, places, position, start = [], [size - _END.size], 0, 0
    for _ in range(count):
        places.append(directory_start + position)
        entry, position, start = _entry(file, directory, position, start, directory_start, findings)
        entries.append(entry)
    if position != len(directory):
        raise Unreadable("not_a_zip", "The central directory has more bytes than entries.")
    if start != directory_start:
        detail = "There are bytes between the last entry and the central directory."
        raise Unreadable("not_a_zip", detail)
    findings += _stray_records(file, size, directory_start, frozenset(places), entries)
    for mark, begin, end in _OTHER_FORMATS:
        file.seek(begin)
        if mark in file.read(end - begin):
            raise Unreadable(
                "other_format",
                f"Other programs take the file for another format: it has {mark.decode()!r} in it.",
            )
    return entries


def _end_record(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """(number of entries, length, start) of the central directory."""
    if size < _END.size:
        file.seek(0)
        found = format_of(file.read(HEAD_BYTES)) or "too small for one"
        raise Unreadable("not_a_zip", f"The file is not a ZIP archive: it is {found}.")
    file.seek(size - _END.size)
    signature, disk, first_disk, here, count, length, start, comment = _END.unpack(
        file.read(_END.size)
    )
    if signature != _END_MARK:
        raise _no_end_record(file, size)
    if comment:
        raise _comment(comment)
    if 0xFFFF in (disk, first_disk, here, count) or 0xFFFFFFFF in (length, start):
        raise Unreadable("zip64", _ZIP64)
    if disk or first_disk or here != count:
        raise Unreadable("zip_multi_disk", "The archive is split over several disks.")
    if start + length != size - _END.size:
        raise Unreadable(
            "not_a_zip",
            "The central directory is not where the end record says: there are bytes before the archive, or bytes of it"
            " were changed or are missing. Transfer it as binary, and send nothing but the archive.",
        )
    if not count:
        raise Unreadable("not_a_zip", "The archive is empty.")
    if count > ENTRIES or length > DIRECTORY_BYTES:
        raise Unreadable("too_many_files", f"{count} entries; at most {FILES} files are allowed.")
    return count, length, start


def _no_end_record(file: BinaryIO, size: int) -> Unreadable:
    """Why there is no end record: a comment, other bytes that follow, or not a ZIP archive."""
    start = max(0, size - _END.size - 0xFFFF)
    file.seek(start)
    tail = file.read(size - start)
    for found in re.finditer(re.escape(_END_MARK), tail):
        behind = len(tail) - found.start() - _END.size
        if behind >= 0 and behind == int.from_bytes(tail[found.start() + 20 :][:2], "little"):
            return _comment(behind)
    if _END_MARK in tail:
        return Unreadable("not_a_zip", "Bytes follow the end record, or the file is cut off.")
    file.seek(0)
    what = format_of(file.read(HEAD_BYTES))
    if what == "a ZIP archive":
        return Unreadable("not_a_zip", "The archive has no end: it is cut off; transfer it again.")
    reason = f"it is {what}" if what else "it does not end as one ends"
    return Unreadable("not_a_zip", f"The file is not a ZIP archive: {reason}.")


def _comment(length: int) -> Unreadable:
    return Unreadable(
        "zip_comment",
        f"The archive has a comment of {length} bytes; remove it with `zip -z FILE < /dev/null`,"
        " or pack the archive again without one.",
    )


def _entry(
    file: BinaryIO, directory: bytes, position: int, start: int, limit: int, findings: list[Finding]
) -> tuple[Entry, int, int]:
    """The entry at `position`, with its local header at `start`; (entry, next two positions)."""
    if len(directory) - position < _CENTRAL.size:
        raise Unreadable("not_a_zip", "The central directory is cut off.")
    fields = _Central._make(_CENTRAL.unpack_from(directory, position))
    after_name = position + _CENTRAL.size + fields.name_length
    after_extra = after_name + fields.extra_length
    end = after_extra + fields.comment_length
    if fields.signature != _CENTRAL_MARK or end > len(directory):
        raise Unreadable("not_a_zip", "The central directory is damaged.")
    raw_name = directory[position + _CENTRAL.size : after_name]
    name = _name(raw_name, fields.flags, findings)
    _check_central(fields, name, start)
    findings += _unusual(fields, name)
    findings += _check_extra(directory[after_name:after_extra], name)
    data, after = _local(file, fields, raw_name, name, findings)
    if after > limit:
        raise Unreadable("zip_overlap", f"{name!r} reaches into what follows it.", name)
    entry = Entry(
        name,
        fields.method,
        fields.crc,
        fields.packed,
        fields.size,
        fields.offset,
        data,
        fields.external,
    )
    return entry, end, after


def _check_central(fields: _Central, name: str, start: int) -> None:
    """Raise Unreadable if the entry cannot be read."""
    if fields.comment_length:
        raise Unreadable("zip_comment", f"{name!r} has a comment; pack it again without.", name)
    if fields.flags & _ENCRYPTED:
        raise Unreadable("zip_encrypted", f"{name!r} is encrypted; pack it again without.", name)
    if fields.flags & ~_ALLOWED_FLAGS or fields.method not in (STORED, DEFLATED):
        detail = f"{name!r} uses a compression method that is not allowed; use deflate."
        raise Unreadable("zip_method", detail, name)
    if 0xFFFFFFFF in (fields.packed, fields.size, fields.offset) or fields.disk == 0xFFFF:
        raise Unreadable("zip64", _ZIP64, name)
    if fields.disk:
        raise Unreadable("zip_multi_disk", "The archive is split over several disks.", name)
    if fields.offset != start:
        detail = f"{name!r} does not start where the entry before it ends."
        raise Unreadable("zip_overlap" if fields.offset < start else "not_a_zip", detail, name)
    if fields.method == STORED and fields.packed != fields.size:
        raise Unreadable("zip_headers_disagree", f"{name!r} is stored but has two sizes.", name)


def _unusual(fields: _Central, name: str) -> Iterator[Finding]:
    """Report features that readers understand differently."""
    if fields.needed not in _VERSIONS_NEEDED:
        detail = f"{name!r} asks for version {fields.needed / 10} of ZIP; deflated files need 2.0."
        yield Finding("zip_ambiguous", detail, name)
    if fields.made_by >> 8 not in _SYSTEMS:
        detail = f"{name!r} was packed on system {fields.made_by >> 8}, whose names and attributes"
        yield Finding("zip_ambiguous", f"{detail} readers understand differently.", name)
    if fields.internal & ~1:  # bit 0: the file is probably text (4.4.14)
        detail = f"{name!r} has internal attributes {fields.internal:#x}; only 0 and 1 are allowed."
        yield Finding("zip_ambiguous", detail, name)
    if fields.method == STORED and fields.flags & _DESCRIBED:
        detail = (
            f"{name!r} is stored with a data descriptor, so that a reader of a stream "
            "cannot find its end; write the archive into a file instead of a pipe, or "
            "compress the file."
        )
        yield Finding("zip_ambiguous", detail, name)


def _local(
    file: BinaryIO, central: _Central, raw_name: bytes, name: str, findings: list[Finding]
) -> tuple[int, int]:
    """Compare the local header with the central one; (start of the data, start of the next entry)."""
    file.seek(central.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != _LOCAL_MARK:
        raise Unreadable(
            "zip_headers_disagree", f"{name!r} has no local header where the directory says.", name
        )
    _, *local, name_length, extra_length = _LOCAL.unpack(header)
    described = bool(central.flags & _DESCRIBED)
    # A writer into a pipe leaves out what it does not know yet: `zip` the checksum and the
    # compressed size, others all three.
    sizes = [
        0 if described and local_value == 0 else central_value
        for local_value, central_value in zip(
            local[5:], (central.crc, central.packed, central.size), strict=True
        )
    ]
    tail = file.read(name_length + extra_length)
    if _extra_problem(tail[name_length:]) == _ZIP64:  # some write it into this header alone
        raise Unreadable("zip64", f"{name!r}: {_ZIP64}", name)
    same = local == [*central[2:7], *sizes] and tail[:name_length] == raw_name
    if not same or len(tail) != name_length + extra_length:
        raise Unreadable(
            "zip_headers_disagree",
            f"{name!r}: the local header and the central directory differ.",
            name,
        )
    findings += _check_extra(tail[name_length:], name)
    data = central.offset + _LOCAL.size + name_length + extra_length
    after = data + central.packed
    if described:
        file.seek(after)
        expected = _DESCRIPTOR.pack(central.crc, central.packed, central.size)
        if file.read(4 + _DESCRIPTOR.size) != _DESCRIPTOR_MARK + expected:
            detail = (
                f"{name!r}: the data descriptor has no signature, or differs from the directory."
            )
            raise Unreadable("zip_headers_disagree", detail, name)
        after += 4 + _DESCRIPTOR.size
    return data, after


def _name(raw: bytes, flags: int, findings: list[Finding]) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        shown = raw.decode("latin-1")
        raise Unreadable("path_encoding", f"{shown!r} is not UTF-8.", shown) from None
    if not raw.isascii() and not flags & _UTF8:
        detail = (
            f"{name!r} is not marked as UTF-8 (general purpose bit 11), so that some readers take it for code page 437;"
            " pack with `python3 -m zipfile -c` or `jar cMf`, or use ASCII letters only."
        )
        findings.append(Finding("path_encoding", detail, name))
    return name


def _is_timestamp(data: bytes) -> bool:
    """0x5455: a byte of flags, four bytes per time; often only the first is in the directory."""
    if not data or data[0] & ~0b111:
        return False
    return len(data) in {1 + 4 * data[0].bit_count(), 1 + 4 * (data[0] & 1)}


_KNOWN_EXTRA: dict[int, Callable[[bytes], bool]] = {
    0x5455: _is_timestamp,
    0x5855: lambda data: len(data) in (8, 12),  # Unix, first form: two times; and in the local header user and group
    0x7855: lambda data: len(data) in (0, 4),  # Unix, second form: user and group, in the local header only
    # Unix, third form: version 1, user and group of four bytes each
    0x7875: lambda data: len(data) == 11 and data[:2] == b"\1\4" and data[6] == 4,
    0x000A: lambda data: len(data) == 32 and data[:8] == bytes(4) + b"\1\0\x18\0",  # NTFS: three times
    0xCAFE: lambda data: not data,  # "this is a JAR", in the first entry of java.util.jar's archives
}  # fmt: skip


def _check_extra(extra: bytes, name: str) -> Iterator[Finding]:
    """Extra fields may contain times and owners, each at most once and with exactly its length.

    A second name (0x7075) is refused even if it is the same: no writer needs one besides UTF-8, and
    Info-ZIP's unzip reports some archives with one as damaged.
    """
    problem = _extra_problem(extra)
    if problem:
        code = "zip64" if problem == _ZIP64 else "zip_extra"
        yield Finding(code, f"{name!r}: {problem} `zip -X` writes no extra fields.", name)


def _extra_problem(extra: bytes) -> str | None:
    if _ANY_RECORD.search(extra):
        return "an extra field has the signature of a ZIP record in it."
    seen: set[int] = set()
    while extra:
        kind, length = struct.unpack_from("<2H", extra) if len(extra) >= 4 else (0, 0)
        data, rest = extra[4 : 4 + length], extra[4 + length :]
        if len(extra) < 4 or len(data) != length:
            return "an extra field is cut off."
        if kind == 0x0001:
            return _ZIP64
        if kind in seen:
            return f"there are two extra fields of the kind {kind:#06x}."
        seen.add(kind)
        if kind not in _KNOWN_EXTRA or not _KNOWN_EXTRA[kind](data):
            return f"an extra field of the kind {kind:#06x} and {length} bytes is not allowed."
        extra = rest
    return None


def _stray_records(
    file: BinaryIO, size: int, directory_start: int, places: frozenset[int], entries: list[Entry]
) -> Iterator[Finding]:
    """Signatures of a directory or an end record, in the tail of the file, that are not at one of
    their `places`.

    Some readers take the first ZIP64 locator or end record that they find going backwards, even in
    the data of a file. By chance this happens to one upload in 16,000. At most one finding per
    entry.
    """
    begin = max(0, size - TAIL_BYTES)
    file.seek(begin)
    tail = file.read(size - begin)
    headers = [entry.header for entry in entries]
    seen: set[str | None] = set()
    for found in _TAIL_RECORD.finditer(tail):
        at = begin + found.start()
        name = entries[bisect_right(headers, at) - 1].name if at < directory_start else None
        if at in places or name in seen:
            continue
        seen.add(name)
        where = f"the data of {name!r}" if name else "the central directory"
        detail = (
            f"Some readers would take byte {at}, in {where}, for the end or the "
            "directory of the archive. Pack it again with another compression level "
            "(`zip -1` or `zip -9`), or put that file first, before larger ones."
        )
        yield Finding("zip_second_directory", detail, name)
