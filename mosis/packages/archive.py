"""Reads untrusted ZIP archives: names, attributes, limits, and contents in small blocks.

The standard zipfile opens archives that other readers understand differently, and trusts the sizes
in headers. Here the records are checked first (zip_records.py), then the names (file_names.py), and
sizes are counted while reading.
"""

import re
import stat
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from mosis.packages.file_names import check_path, check_twins
from mosis.packages.findings import Finding
from mosis.packages.zip_records import FILES, STORED, Entry, Unreadable, read_entries

__all__ = ["Archive", "Unreadable"]

FILE_BYTES = 10 << 20
ALL_BYTES = 200 << 20
RATIO, RATIO_FROM_BYTES = 100, 1 << 20
BLOCK = 64 * 1024

TEXTS = {"rml", "rcss", "lua", "json", "txt", "md"}
MEDIA = {"png", "jpg", "jpeg", "tga", "webp", "ttf", "otf", "ogg", "wav", "mp3"}
# Files that macOS and Windows add on their own.
_LITTER = re.compile(
    r"(?:^|/)(?:\.DS_Store|__MACOSX/.*|\._[^/]*|Thumbs\.db|ehthumbs\.db|desktop\.ini)$",
    re.IGNORECASE,
)
EXTENSIONS = frozenset(TEXTS | MEDIA)
META = ("META-INF/MANIFEST.MF", "META-INF/CERT.SIG", "META-INF/CERT.PEM")
# MS-DOS attributes (the low 16 bits): read-only, archive, normal, not indexed, and 7-Zip's "the upper half is a Unix mode". Not
# hidden (2), system (4), volume label (8), folder (16) or reparse point (0x400).
_DOS_OF_FILES = 0x01 | 0x20 | 0x80 | 0x2000 | 0x8000
_DOS_FOLDER = 0x10


class Archive:
    """An open archive: `members` are its files by name; `findings` lists what is wrong with it,
    except contents.

    The constructor raises Unreadable if the records cannot be followed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.members: dict[str, Entry] = {}
        self._folders: dict[str, None] = {}
        for entry in read_entries(file, self.findings):
            if entry.name.endswith("/"):
                self._add_folder(entry)
            else:
                self._add_file(entry)
        self.findings += check_twins(self.members, self._folders)
        self._check_totals()

    def blocks(self, member: Entry) -> Iterator[bytes]:
        """The content of a file, decompressed in small blocks, never more than its header states
        and the limits allow. Raises Unreadable (`zip_damaged`), after the last block at the latest,
        if it differs from the headers."""
        if member.size_bytes > FILE_BYTES:
            detail = f"{member.size_bytes} bytes unpacked, {FILE_BYTES} are allowed."
            raise Unreadable("file_too_large", detail, member.name)
        crc, size = 0, 0
        for block in self._stored(member) if member.method == STORED else self._inflated(member):
            size += len(block)
            if size > member.size_bytes:
                break
            crc = zlib.crc32(block, crc)
            yield block
        if size != member.size_bytes or crc != member.crc:
            raise Unreadable(
                "zip_damaged",
                "The decompressed data differs from the headers in size or checksum; "
                "pack the archive again.",
                member.name,
            )

    def read(self, name: str, limit_bytes: int = FILE_BYTES) -> bytes:
        """A whole file. Raises KeyError, or Unreadable if it is damaged or beyond the limit."""
        member = self.members[name]
        if member.size_bytes > limit_bytes:
            detail = f"{member.size_bytes} bytes; at most {limit_bytes} are allowed here."
            raise Unreadable("file_too_large", detail, name)
        return b"".join(self.blocks(member))

    def _stored(self, member: Entry) -> Iterator[bytes]:
        self.file.seek(member.start)
        left = member.packed_bytes
        while left and (block := self.file.read(min(BLOCK, left))):
            left -= len(block)
            yield block

    def _inflated(self, member: Entry) -> Iterator[bytes]:
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
                    break  # once more after the last byte, because zlib may have held back output
                pending = inflate.unconsumed_tail
        except zlib.error as error:
            detail = "The compressed data is damaged; pack the file again."
            raise Unreadable("zip_damaged", detail, member.name) from error
        if not inflate.eof or inflate.unused_data or position != end:
            detail = (
                "The compressed data ends at another place than the headers state; "
                "pack the archive again."
            )
            raise Unreadable("zip_damaged", detail, member.name)

    def _add_folder(self, entry: Entry) -> None:
        """Validate the entry of a directory; it adds no path, has no content and is not listed."""
        name, mode = entry.name, entry.external >> 16
        self.findings += check_path(name[:-1], name)
        if stat.S_IFMT(mode) not in (0, stat.S_IFDIR):
            self._find("zip_link", f"{name!r} is not a plain folder.", name)
        elif mode & 0o7000 or entry.external & 0xFFFF & ~(_DOS_OF_FILES | _DOS_FOLDER):
            detail = f"{name!r} is a folder with special permissions or attributes; leave folders out with `zip -D`."
            self._find("zip_attributes", detail, name)
        # java.util.zip compresses even empty content, which takes two bytes.
        if entry.size_bytes or entry.crc or entry.packed_bytes not in (0, 2):
            self._find("zip_damaged", f"{name!r} is a folder with content.", name)
        else:
            try:
                list(self.blocks(entry))
            except Unreadable as error:
                self.findings.append(error.finding)
        if name in self._folders:
            self._find("path_duplicate", f"{name!r} is in the archive twice.", name)
        self._folders[name] = None

    def _add_file(self, entry: Entry) -> None:
        name = entry.name
        self.findings += check_path(name, name)
        self._check_attributes(entry)
        if name in self.members:
            self._find("path_duplicate", f"{name!r} is in the archive twice.", name)
        self.members[name] = entry
        if entry.size_bytes > FILE_BYTES:
            detail = f"{name!r} has {entry.size_bytes} bytes unpacked, {FILE_BYTES} are allowed."
            self._find("file_too_large", detail, name)
        if entry.size_bytes > RATIO_FROM_BYTES and entry.size_bytes > RATIO * max(
            1, entry.packed_bytes
        ):
            self._find(
                "ratio_too_high", f"{name!r} unpacks to more than {RATIO} times its size.", name
            )
        self._check_type(name)

    def _check_attributes(self, entry: Entry) -> None:
        """Only regular files without execute permission are allowed. Both halves of the field are
        checked, whatever system the entry names.

        Unix modes are 0, or any combination of read and write permissions with or without the type
        of a regular file: `zip` writes these under every umask, and Python's zipfile 0600 without a
        type.
        """
        mode, dos = entry.external >> 16, entry.external & 0xFFFF
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            self._find("zip_link", f"{entry.name!r} is not a plain file.", entry.name)
        elif stat.S_IMODE(mode) & ~0o666:
            detail = (
                f"{entry.name!r} has the mode {stat.S_IMODE(mode):04o}; packages hold no executable or set-uid files."
                " Run `find . -type f -exec chmod 644 {} +` and pack again, or use `jar cMf`, which writes no modes."
            )
            self._find("zip_attributes", detail, entry.name)
        elif dos & ~_DOS_OF_FILES:
            detail = f"{entry.name!r} has the MS-DOS attributes {dos:#x}: hidden, system, label, folder or link."
            self._find("zip_attributes", detail + " Pack it again without.", entry.name)

    def _check_type(self, name: str) -> None:
        if name.upper().startswith("META-INF/"):
            if name not in META:
                detail = (
                    f"{name!r} does not belong into META-INF, which has {', '.join(sorted(META))}."
                )
                self._find("file_type", detail, name)
            return
        _, dot, extension = name.rpartition("/")[2].rpartition(".")
        if _LITTER.search(name):
            detail = (
                f"{name!r} was written by an operating system; leave it out, as in"
                " `zip -r app.mosis . -x '*.DS_Store' '__MACOSX/*'`."
            )
            self._find("file_type", detail, name)
        elif not dot or extension.lower() not in EXTENSIONS:
            detail = f"{name!r}: files of this kind are not allowed. The name must end in one of: "
            self._find("file_type", detail + ", ".join(sorted(EXTENSIONS)) + ".", name)

    def _check_totals(self) -> None:
        if len(self.members) > FILES:
            detail = f"{len(self.members)} files; at most {FILES} are allowed."
            self.findings.append(Finding("too_many_files", detail))
        total = sum(member.size_bytes for member in self.members.values())
        if total > ALL_BYTES:
            detail = f"{total} bytes unpacked; at most {ALL_BYTES} are allowed."
            self.findings.append(Finding("archive_too_large", detail))

    def _find(self, code: str, detail: str, path: str) -> None:
        self.findings.append(Finding(code, detail, path))
