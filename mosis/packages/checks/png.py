"""PNG as libpng and stb_image read it: anything that one of them refuses is an error, what both
ignore is not.

Section numbers are those of the PNG specification, third edition. Both decoders ignore wrong
checksums of ancillary chunks, and bytes after the pixels; stb_image refuses a `tRNS` chunk that
does not fit the image.
"""

import struct
import zlib
from collections.abc import Iterator

from mosis.packages.checks.kinds import Broken

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST_SIDE = 1_000_000  # libpng: PNG_USER_WIDTH_MAX and PNG_USER_HEIGHT_MAX
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_BLOCK = 1 << 16
# Adam7 (section 8.1): first column and row, step of columns and rows of each pass
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def read(content: bytes) -> tuple[int, int, int]:
    """Width, height, and the number of surplus bytes. Raises Broken, struct.error, zlib.error."""
    if not content.startswith(SIGNATURE):
        raise Broken("it does not have the header of one")
    image = _Image()
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        kind, body, at = _chunk(content, at)
        image.take(kind, body)
    return image.width, image.height, len(content) - at + image.surplus()


def _chunk(content: bytes, at: int) -> tuple[bytes, bytes, int]:
    """Name and content of the chunk at an offset, and the offset of the next one."""
    length, kind = struct.unpack_from(">I4s", content, at)
    if not _LETTERS.issuperset(kind):
        raise Broken("a chunk has no name of four letters")
    body = content[at + 8 : at + 8 + length]
    (crc,) = struct.unpack_from(">I", content, at + 8 + length)
    critical = not kind[0] & 0x20
    if critical and kind not in _CRITICAL:
        raise Broken(f"it has the critical chunk {kind.decode()}, which no decoder knows")
    if critical and zlib.crc32(kind + body) != crc:
        raise Broken(f"its chunk {kind.decode()} has another checksum than it says")
    return kind, body, at + 12 + length


class _Image:
    """The content of the chunks, in their order."""

    def __init__(self) -> None:
        self.width = self.height = self.colour = self.bits = 0
        self.interlaced = False
        self.palette = 0  # entries
        self.data: list[bytes] = []
        self.data_ended = False
        self.late = 0  # bytes of pixel data after another chunk

    def take(self, kind: bytes, body: bytes) -> None:
        if (kind == b"IHDR") == bool(self.width):
            raise Broken("its header is missing or occurs twice")
        if self.data and kind != b"IDAT":
            self.data_ended = True
        if kind == b"IHDR":
            self._header(body)
        elif kind == b"PLTE":
            self._palette(body)
        elif kind == b"tRNS":
            self._transparency(body)
        elif kind == b"IDAT":
            if self.colour == 3 and not self.palette:
                raise Broken("it has a palette image without a palette (PLTE) before it")
            if self.data_ended:
                self.late += len(body)
            else:
                self.data.append(body)
        elif kind == b"IEND" and not self.data:
            raise Broken("it has no pixels (IDAT)")

    def _header(self, body: bytes) -> None:
        if len(body) != 13:
            raise Broken("its header has not 13 bytes")
        self.width, self.height, depth, self.colour, method, filtering, interlace = struct.unpack(
            ">IIBBBBB", body
        )
        if not self.width or not self.height or max(self.width, self.height) > _LARGEST_SIDE:
            raise Broken("its width or height is 0 or more than a million")
        if depth not in _DEPTHS.get(self.colour, ()) or method or filtering or interlace > 1:
            raise Broken("its header is not valid for PNG")
        self.bits, self.interlaced = depth * _CHANNELS[self.colour], bool(interlace)

    def _palette(self, body: bytes) -> None:
        if self.palette:
            raise Broken("its palette (PLTE) occurs twice")
        if not body or len(body) % 3 or len(body) > 768 or (self.data and self.colour == 3):
            raise Broken("its palette (PLTE) has a wrong size or place")
        self.palette = len(body) // 3

    def _transparency(self, body: bytes) -> None:
        if self.data or self.colour in (4, 6):
            detail = "its transparency (tRNS) stands after the pixels or beside an alpha channel"
            raise Broken(detail)
        fits = (
            len(body) <= self.palette
            if self.colour == 3
            else len(body) == 2 * _CHANNELS[self.colour]
        )
        if not fits:
            raise Broken("its transparency (tRNS) does not fit the palette or colours before it")

    def surplus(self) -> int:
        """Decompress the pixels in small steps, for little memory; the number of surplus bytes."""
        rows = list(self._rows())
        expected = sum(count * size for count, size in rows)
        inflate, size, spare, ended = zlib.decompressobj(), 0, self.late, False
        filters = _Filters(rows)
        for pending in self.data:
            while pending and not ended:
                block = inflate.decompress(pending, _BLOCK)
                filters.look(block)
                size += len(block)
                pending = inflate.unconsumed_tail
                ended = inflate.eof or size > expected + _BLOCK
                spare += len(inflate.unused_data)
            spare += len(pending)
        if not ended and self.late:
            raise Broken("another chunk stands between its pixels (IDAT)")
        if not ended or size < expected:
            raise Broken("its pixels unpack to less than its header says")
        return spare + size - expected

    def _rows(self) -> Iterator[tuple[int, int]]:
        """The number of rows of each pass, and the bytes of a row including its filter type."""
        for left, top, across, down in _PASSES if self.interlaced else ((0, 0, 1, 1),):
            columns, rows = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                yield rows, 1 + (columns * self.bits + 7) // 8


class _Filters:
    """Checks the first byte of each row, its filter type (section 9.2: 0 to 4)."""

    def __init__(self, rows: list[tuple[int, int]]) -> None:
        self._passes = iter(rows)
        self._left, self._size = next(self._passes, (0, 0))
        self._next = 0  # the offset of the next filter byte in the next block

    def look(self, block: bytes) -> None:
        while self._left and self._next < len(block):
            found = block[self._next :: self._size][: self._left]
            if max(found) > 4:
                raise Broken("a row of its pixels has a filter type that does not exist")
            self._next += len(found) * self._size
            self._left -= len(found)
            if not self._left:
                self._left, self._size = next(self._passes, (0, 0))
        self._next -= len(block)
