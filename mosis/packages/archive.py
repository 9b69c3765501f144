"""Reading a ZIP that somebody else made: the local headers and the central directory must tell one story.

Formats and field names are those of APPNOTE.TXT 6.3 (sections 4.3.7, 4.3.9, 4.3.12, 4.3.16). The standard zipfile opens archives
that other readers understand differently and trusts the sizes it reads; here nothing is believed before it has been counted.
"""

import re
import stat
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mosis.packages.findings import Finding

FILES = 1000
ENTRIES = 2 * FILES  # folders are entries too
FILE_BYTES = 10 << 20
ALL_BYTES = 200 << 20
RATIO, RATIO_FROM_BYTES = 100, 1 << 20
PATH_BYTES, PATH_LEVELS = 256, 16
DIRECTORY_BYTES = 4 << 20
BLOCK = 64 * 1024

EXTENSIONS = frozenset(
    [
        "rml",
        "rcss",
        "lua",
        "png",
        "jpg",
        "jpeg",
        "tga",
        "webp",
        "ttf",
        "otf",
        "json",
        "ogg",
        "wav",
        "mp3",
        "txt",
        "md",
    ]
)
META = ("META-INF/MANIFEST.MF", "META-INF/CERT.SIG", "META-INF/CERT.PEM")

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = struct.Struct("<3L")
_ENCRYPTED, _DESCRIBED, _UTF8 = 1 << 0, 1 << 3, 1 << 11
_ALLOWED_FLAGS = 0b110 | _DESCRIBED | _UTF8  # bits 1 and 2 are deflate's hint of how hard it tried
_STORED, _DEFLATED = 0, 8
_ZIP64_EXTRA, _UNICODE_PATH, _UNICODE_COMMENT = 0x0001, 0x7075, 0x6375
# What other readers look for, not at the first byte: PDF in the first kilobyte, tar in its first header, a disk image's volume.
_OTHER_FORMATS = ((b"%PDF-", 0, 1024), (b"ustar", 257, 262), (b"CD001", 32769, 32774))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Unreadable(Exception):
    """The archive cannot be read further; carries the finding."""

    def __init__(self, code: str, detail: str, path: str | None = None) -> None:
        super().__init__(detail)
        self.finding = Finding(code, detail, path)


@dataclass(frozen=True)
class Member:
    """One file of the archive, as both of its headers describe it."""

    name: str
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    start: int  # of its data


class Archive:
    """An open archive: `members` by name; `findings` says what is wrong with names and kinds.

    Raises Unreadable from the constructor where the structure itself cannot be trusted.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.members: dict[str, Member] = {}
        entries = _entries(file)
        self._folders: set[str] = set()
        for entry in entries:
            self._take(entry)
        self._check_names()
        if len(self.members) > FILES:
            self.findings.append(
                Finding(
                    "too_many_files", f"{len(self.members)} files; at most {FILES} are allowed."
                )
            )
        total = sum(member.size_bytes for member in self.members.values())
        if total > ALL_BYTES:
            self.findings.append(
                Finding(
                    "archive_too_large", f"{total} bytes unpacked; at most {ALL_BYTES} are allowed."
                )
            )

    def blocks(self, member: Member) -> Iterator[bytes]:
        """The content of a file, unpacked in small blocks, never more than its header says and the limits allow.

        Raises Unreadable (`zip_damaged`) when it is not what the headers say, after the last block at the latest.
        """
        if member.size_bytes > FILE_BYTES:
            raise Unreadable(
                "file_too_large",
                f"{member.size_bytes} bytes unpacked, {FILE_BYTES} are allowed.",
                member.name,
            )
        crc, size = 0, 0
        for block in self._stored(member) if member.method == _STORED else self._inflated(member):
            size += len(block)
            if size > member.size_bytes:
                break
            crc = zlib.crc32(block, crc)
            yield block
        if size != member.size_bytes or crc != member.crc:
            raise Unreadable(
                "zip_damaged",
                "The unpacked data has another size or checksum than the headers say.",
                member.name,
            )

    def read(self, name: str, limit_bytes: int = FILE_BYTES) -> bytes:
        """A whole file. Raises KeyError when it is not there, Unreadable when it is damaged or larger than the limit."""
        member = self.members[name]
        if member.size_bytes > limit_bytes:
            raise Unreadable(
                "file_too_large",
                f"{member.size_bytes} bytes; at most {limit_bytes} are allowed here.",
                name,
            )
        return b"".join(self.blocks(member))

    def _stored(self, member: Member) -> Iterator[bytes]:
        self.file.seek(member.start)
        left = member.packed_bytes
        while left and (block := self.file.read(min(BLOCK, left))):
            left -= len(block)
            yield block

    def _inflated(self, member: Member) -> Iterator[bytes]:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        position, end = member.start, member.start + member.packed_bytes
        pending = b""
        try:
            while not inflate.eof:
                if not pending:
                    self.file.seek(position)
                    pending = self.file.read(min(BLOCK, end - position))
                    position += len(pending)
                block = inflate.decompress(pending, BLOCK)
                if block:
                    yield block
                elif not pending:
                    break  # asked once more after the last byte: zlib may still have held output back for want of room
                pending = inflate.unconsumed_tail
        except zlib.error as error:
            raise Unreadable(
                "zip_damaged", f"The compressed data is damaged: {error}.", member.name
            ) from error
        if not inflate.eof or inflate.unused_data or position != end:
            raise Unreadable(
                "zip_damaged",
                "The compressed data ends elsewhere than the headers say.",
                member.name,
            )

    def _take(self, entry: "_Entry") -> None:
        member, name = entry.member, entry.member.name
        kind = stat.S_IFMT(
            entry.external >> 16
        )  # of every host: some programs write Unix modes under another one's name
        is_folder = name.endswith("/")
        wanted = stat.S_IFDIR if is_folder else stat.S_IFREG
        if kind not in (0, wanted):
            self._find(
                "zip_link", f"{name!r} is not a plain {'folder' if is_folder else 'file'}.", name
            )
        if is_folder:
            if member.size_bytes or member.packed_bytes > 2:
                self._find("zip_damaged", f"{name!r} is a folder with content.", name)
            self._check_path(name[:-1], name)
            self._folders.add(name)
            return
        self._check_path(name, name)
        if name in self.members:
            self._find("path_duplicate", f"{name!r} stands twice in the archive.", name)
        self.members[name] = member
        if member.size_bytes > FILE_BYTES:
            self._find(
                "file_too_large",
                f"{name!r} has {member.size_bytes} bytes unpacked, {FILE_BYTES} are allowed.",
                name,
            )
        if member.size_bytes > RATIO_FROM_BYTES and member.size_bytes > RATIO * max(
            1, member.packed_bytes
        ):
            self._find(
                "ratio_too_high", f"{name!r} unpacks to more than {RATIO} times its size.", name
            )
        self._check_type(name)

    def _check_path(self, path: str, name: str) -> None:
        segments = path.split("/")
        if (
            not path
            or path.startswith("/")
            or "\\" in path
            or re.match(r"[A-Za-z]:", path)
            or _CONTROL.search(path)
            or any(
                segment in ("", ".", "..") or segment != segment.strip() or segment.endswith(".")
                for segment in segments
            )
        ):
            self._find("path_invalid", f"{name!r} is not a plain relative path.", name)
        if unicodedata.normalize("NFC", path) != path:
            self._find("path_encoding", f"{name!r} is not in Unicode's normal form C.", name)
        if len(path.encode()) > PATH_BYTES or len(segments) > PATH_LEVELS:
            self._find(
                "path_too_long",
                f"{name[:80]!r}: at most {PATH_BYTES} bytes and {PATH_LEVELS} levels are allowed.",
                name,
            )

    def _check_type(self, name: str) -> None:
        if name.upper().startswith("META-INF/"):
            if name not in META:
                self._find("file_type", f"{name!r} does not belong into META-INF.", name)
            return
        _, dot, extension = name.rpartition("/")[2].rpartition(".")
        if not dot or extension.lower() not in EXTENSIONS:
            self._find("file_type", f"{name!r}: files of this kind are not allowed.", name)

    def _check_names(self) -> None:
        """Names that some file systems hold for one, and files that would have to be folders too."""
        seen: dict[str, str] = {}
        for name in self.members:
            folded = _folded(name)
            if folded in seen and seen[folded] != name:
                self._find(
                    "path_duplicate",
                    f"{name!r} and {seen[folded]!r} are one name where case does not count.",
                    name,
                )
            seen[folded] = name
        folders = {_folded(folder[:-1]) for folder in self._folders}
        for name in self.members:
            parts = _folded(name).split("/")
            folders |= {
                "/".join(parts[:depth]) for depth in range(1, min(len(parts), PATH_LEVELS + 1))
            }
        for folded in folders & set(seen):
            self._find("path_duplicate", f"{seen[folded]!r} is a file and a folder.", seen[folded])

    def _find(self, code: str, detail: str, path: str) -> None:
        self.findings.append(Finding(code, detail, path))


@dataclass(frozen=True)
class _Entry:
    member: Member
    external: int


def _entries(file: BinaryIO) -> list[_Entry]:
    """All entries, in the order in which they lie in the file, without a byte that belongs to none of them."""
    size = file.seek(0, 2)
    count, directory_bytes, directory_start = _end_record(file, size)
    file.seek(directory_start)
    directory = file.read(directory_bytes)
    entries, position, expected_start = [], 0, 0
    for _ in range(count):
        entry, position, expected_start = _entry(
            file, directory, position, expected_start, directory_start
        )
        entries.append(entry)
    if position != len(directory):
        raise Unreadable("not_a_zip", "The central directory has more bytes than entries.")
    if expected_start != directory_start:
        raise Unreadable(
            "not_a_zip", "There are bytes between the last entry and the central directory."
        )
    for mark, begin, end in _OTHER_FORMATS:
        file.seek(begin)
        if mark in file.read(end - begin):
            raise Unreadable(
                "other_format",
                f"Other programs take the file for another format: it has {mark.decode()!r} in it.",
            )
    return entries


def _end_record(file: BinaryIO, size: int) -> tuple[int, int, int]:
    if size < _END.size:
        raise Unreadable("not_a_zip", "The file is too small to be a ZIP archive.")
    file.seek(size - _END.size)
    signature, disk, first_disk, here, count, length, start, comment = _END.unpack(
        file.read(_END.size)
    )
    if signature != b"PK\x05\x06":
        raise Unreadable(
            "not_a_zip", "The file does not end as a ZIP archive without a comment ends."
        )
    if comment:
        raise Unreadable(
            "zip_comment", "The archive says that it has a comment; package it without."
        )
    if 0xFFFF in (disk, first_disk, here, count) or 0xFFFFFFFF in (length, start):
        raise Unreadable(
            "zip64", "The archive uses ZIP64, which no package within the limits needs."
        )
    if disk or first_disk or here != count:
        raise Unreadable("zip_multi_disk", "The archive is split over several disks.")
    if start + length != size - _END.size:
        raise Unreadable(
            "not_a_zip", "The central directory does not lie where the end record says."
        )
    if not count:
        raise Unreadable("not_a_zip", "The archive is empty.")
    if count > ENTRIES or length > DIRECTORY_BYTES:
        raise Unreadable("too_many_files", f"{count} entries; at most {FILES} files are allowed.")
    return count, length, start


def _entry(
    file: BinaryIO, directory: bytes, position: int, start: int, limit: int
) -> tuple[_Entry, int, int]:
    """The entry at `position` of the directory, whose local header must lie at `start`; (entry, next position, next start)."""
    if len(directory) - position < _CENTRAL.size:
        raise Unreadable("not_a_zip", "The central directory is cut off.")
    (
        signature,
        _made_by,
        needed,
        flags,
        method,
        mtime,
        mdate,
        crc,
        packed,
        size,
        name_length,
        extra_length,
        comment_length,
        disk,
        _,
        external,
        offset,
    ) = _CENTRAL.unpack_from(directory, position)
    end = position + _CENTRAL.size + name_length + extra_length + comment_length
    if signature != b"PK\x01\x02" or end > len(directory):
        raise Unreadable("not_a_zip", "The central directory is damaged.")
    raw_name = directory[position + _CENTRAL.size :][:name_length]
    name = _name(raw_name, flags)
    _check_extra(directory[position + _CENTRAL.size + name_length :][:extra_length], name)
    if comment_length:
        raise Unreadable("zip_comment", f"{name!r} carries a comment; package it without.", name)
    if flags & _ENCRYPTED:
        raise Unreadable("zip_encrypted", f"{name!r} is encrypted.", name)
    if flags & ~_ALLOWED_FLAGS or method not in (_STORED, _DEFLATED) or (needed & 0xFF) > 45:
        raise Unreadable(
            "zip_method", f"{name!r} needs a way of packing that is not allowed; deflate it.", name
        )
    if 0xFFFFFFFF in (packed, size, offset) or disk == 0xFFFF:
        raise Unreadable(
            "zip64", "The archive uses ZIP64, which no package within the limits needs.", name
        )
    if disk:
        raise Unreadable("zip_multi_disk", "The archive is split over several disks.", name)
    if offset != start:
        raise Unreadable(
            "zip_overlap" if offset < start else "not_a_zip",
            f"{name!r} does not start where the entry before it ends.",
            name,
        )
    if method == _STORED and packed != size:
        raise Unreadable("zip_headers_disagree", f"{name!r} is stored but has two sizes.", name)
    data, after = _local(
        file, offset, limit, raw_name, name, (flags, method, mtime, mdate, crc, packed, size)
    )
    return _Entry(Member(name, method, crc, packed, size, data), external), end, after


def _local(
    file: BinaryIO, offset: int, limit: int, raw_name: bytes, name: str, central: tuple[int, ...]
) -> tuple[int, int]:
    """Compare the local header with the central one; (start of the data, start of the next entry)."""
    flags, method, mtime, mdate, crc, packed, size = central
    file.seek(offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise Unreadable(
            "zip_headers_disagree", f"{name!r} has no local header where the directory says.", name
        )
    _, _, *local, name_length, extra_length = _LOCAL.unpack(header)
    described = bool(flags & _DESCRIBED)
    # A writer into a pipe leaves out what it does not know yet: zip the checksum and the packed size, others all three.
    sizes = [
        0 if described and said == 0 else meant
        for said, meant in zip(local[4:], (crc, packed, size), strict=True)
    ]
    tail = file.read(name_length + extra_length)
    same = tuple(local) == (flags, method, mtime, mdate, *sizes) and tail[:name_length] == raw_name
    if not same or len(tail) != name_length + extra_length:
        raise Unreadable(
            "zip_headers_disagree",
            f"{name!r}: the local header and the central directory differ.",
            name,
        )
    _check_extra(tail[name_length:], name)
    data = offset + _LOCAL.size + name_length + extra_length
    after = data + packed
    if described:
        after += _descriptor(file, after, name, (crc, packed, size))
    if after > limit:
        raise Unreadable("zip_overlap", f"{name!r} reaches into what follows it.", name)
    return data, after


def _descriptor(file: BinaryIO, position: int, name: str, expected: tuple[int, int, int]) -> int:
    """The length of the data descriptor behind an entry, which must repeat the directory (4.3.9)."""
    file.seek(position)
    found = file.read(4 + _DESCRIPTOR.size)
    plain = _DESCRIPTOR.pack(*expected)
    if found == b"PK\x07\x08" + plain:
        return 16
    if found.startswith(plain):
        return 12
    raise Unreadable(
        "zip_headers_disagree",
        f"{name!r}: the data descriptor and the central directory differ.",
        name,
    )


def _name(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & _UTF8 or not raw.isascii() else "ascii")
    except UnicodeDecodeError:
        shown = raw.decode("latin-1")
        raise Unreadable("path_encoding", f"{shown!r} is not UTF-8.", shown) from None


def _check_extra(extra: bytes, name: str) -> None:
    """Extra fields may carry times and owners, but no second name and no ZIP64 sizes."""
    while extra:
        if len(extra) < 4:
            raise Unreadable("zip_extra", f"{name!r}: an extra field is cut off.", name)
        kind, length = struct.unpack_from("<2H", extra)
        if len(extra) < 4 + length:
            raise Unreadable("zip_extra", f"{name!r}: an extra field is cut off.", name)
        if kind == _ZIP64_EXTRA:
            raise Unreadable(
                "zip64", f"{name!r} uses ZIP64, which no package within the limits needs.", name
            )
        same_name = (
            kind == _UNICODE_PATH and extra[9 : 4 + length] == name.encode()
        )  # Info-ZIP repeats it so (4.6.9)
        if kind in (_UNICODE_PATH, _UNICODE_COMMENT) and not same_name:
            raise Unreadable(
                "zip_extra", f"{name!r} carries a second name or comment in an extra field.", name
            )
        extra = extra[4 + length :]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())
