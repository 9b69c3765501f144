"""Images are what their names say, by their own structure: PNG, JPEG, WebP, TGA."""

import re
import struct
import zlib
from collections.abc import Iterator

from mosis.packages.checks.kinds import Broken, Contents, error, warning
from mosis.packages.findings import Finding

HUGE_PIXELS = 4096 * 4096
_MARKER = re.compile(
    rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL
)  # of a JPEG; stuffed zeros and restarts are data
_TGA_FOOTER = b"TRUEVISION-XFILE.\x00"  # whoever has it may have areas of his own before it
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Adam7 (PNG, section 8.2): first column and row, step of columns and rows of each pass
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with an image."""
    ending = path.rpartition(".")[2].lower()
    reader = {"png": _png, "jpg": _jpeg, "jpeg": _jpeg, "webp": _webp, "tga": _tga}[ending]
    try:
        width, height, end = reader(content)
    except (Broken, struct.error, IndexError, zlib.error) as trouble:
        why = str(trouble) if isinstance(trouble, Broken) else "it is cut off or damaged"
        yield error("image_invalid", f"This is no {ending.upper()} image: {why}.", path)
        return
    if width * height > HUGE_PIXELS:
        yield warning(
            "image_huge",
            f"{width} x {height} pixels take {width * height * 4 >> 20} MiB on a device.",
            path,
        )
    if end < len(content):
        yield warning(
            "trailing_data", f"{len(content) - end} bytes follow the end of the image.", path
        )


def _png(content: bytes) -> tuple[int, int, int]:
    """PNG, sections 5 and 11: chunks with their checksums, and pixels that unpack to just what the header says."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise Broken("it does not begin like one")
    at, head, data = 8, b"", []
    while True:
        length, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", content, at + 8 + length)
        if zlib.crc32(kind + body) != crc:
            raise Broken("a chunk has another checksum than it says")
        if (kind == b"IHDR") == bool(head) or (not head and length != 13):
            raise Broken("its header is missing or stands twice")
        at += 12 + length
        if kind == b"IHDR":
            head = body
        elif kind == b"IDAT":
            data.append(body)
        elif kind == b"IEND":
            break
    width, height, depth, colour, method, filtering, interlace = struct.unpack(">IIBBBBB", head)
    if (
        not width
        or not height
        or depth not in _DEPTHS.get(colour, ())
        or method
        or filtering
        or interlace > 1
    ):
        raise Broken("its header says what no PNG can be")
    _unpack(data, _png_bytes(width, height, depth * _CHANNELS[colour], bool(interlace)))
    return width, height, at


def _png_bytes(width: int, height: int, bits: int, interlaced: bool) -> int:
    """How many bytes the pixels have, each row with the byte that names its filter."""
    total = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _unpack(data: list[bytes], expected: int) -> None:
    """Count what the pixels unpack to, in small steps: nothing large is ever held."""
    inflate, size = zlib.decompressobj(), 0
    for pending in data:
        while pending and not inflate.eof:
            size += len(inflate.decompress(pending, 1 << 16))
            pending = inflate.unconsumed_tail
            if size > expected:
                raise Broken("its pixels unpack to more than its header says")
    if not inflate.eof or size != expected:
        raise Broken("its pixels unpack to less than its header says")


def _jpeg(content: bytes) -> tuple[int, int, int]:
    """ITU T.81, annex B: segments right after one another, data after the head of a scan, up to the end-of-image marker."""
    if not content.startswith(b"\xff\xd8\xff"):
        raise Broken("it does not begin like one")
    at, size, marker = 2, (0, 0), 0
    while found := (_MARKER.search if marker == 0xDA else _MARKER.match)(content, at):
        marker, at, scanned = found[1][0], found.end(), marker == 0xDA
        if marker == 0xD9:
            if not size[0] or not scanned:
                raise Broken("it has no size or no pixels")
            return size[0], size[1], at
        (length,) = struct.unpack_from(">H", content, at)
        if length < 2 or at + length > len(content):
            raise Broken("a segment is longer than the file")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 3)
            size = (width, height)
        at += length
    raise Broken("it is cut off" if marker == 0xDA else "a segment begins without its marker")


def _webp(content: bytes) -> tuple[int, int, int]:
    """The WebP container (RFC 9649): RIFF, WEBP, a first chunk that says the size, and chunks up to the end, one of an image."""
    riff, size, kind, chunk = struct.unpack_from("<4sI4s4s", content)
    if riff != b"RIFF" or kind != b"WEBP":
        raise Broken("it does not begin like one")
    if size + 8 > len(content) or size < 12:
        raise Broken("it is cut off")
    if chunk == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        height = int.from_bytes(content[27:30], "little") + 1
    elif chunk == b"VP8L" and content[20] == 0x2F:
        bits = int.from_bytes(content[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = (each & 0x3FFF for each in struct.unpack_from("<HH", content, 26))
    else:
        raise Broken("its first chunk is not one of an image")
    if not width or not height:
        raise Broken("it has no size")
    at, kinds = 12, set()
    while at + 8 <= size + 8:
        chunk, length = struct.unpack_from("<4sI", content, at)
        at += 8 + length
        if at > size + 8:
            raise Broken("a chunk is longer than the file")
        kinds.add(chunk)
        at += length % 2
    if not kinds & {b"VP8 ", b"VP8L", b"ANMF"}:
        raise Broken("it holds no image")
    return width, height, size + 8 + size % 2


def _tga(content: bytes) -> tuple[int, int, int]:
    """Truevision TGA 2.0: it has no magic number, so the header must make sense and the pixels must be there."""
    (id_length, has_map, kind, _, map_length, map_bits, _, _, width, height, bits, _) = (
        struct.unpack_from("<BBBHHBHHHHBB", content)
    )
    known = {
        1: (8, 16),
        2: (15, 16, 24, 32),
        3: (8, 16),
        9: (8, 16),
        10: (15, 16, 24, 32),
        11: (8, 16),
    }
    if (
        has_map > 1
        or bits not in known.get(kind, ())
        or not width
        or not height
        or (kind in (1, 9)) > has_map
    ):
        raise Broken("its header says what no TGA can be")
    start = 18 + id_length + (map_length * ((map_bits + 7) // 8) if has_map else 0)
    end = _tga_end(content, start, width * height, (bits + 7) // 8, packed=kind >= 9)
    if end > len(content):
        raise Broken("its pixels are cut off")
    return width, height, len(content) if content.endswith(_TGA_FOOTER) else end


def _tga_end(content: bytes, at: int, pixels: int, size_bytes: int, *, packed: bool) -> int:
    """Where the pixels end; packed ones come as packets of up to 128, the same one again or each by itself."""
    if not packed:
        return at + pixels * size_bytes
    while pixels > 0:
        count = (content[at] & 0x7F) + 1
        at += 1 + size_bytes * (1 if content[at] & 0x80 else count)
        pixels -= count
    return at
