"""Images must be PNG, JPEG, WebP or TGA, as named, for libpng, libjpeg, libwebp, stb_image."""

import struct
import zlib
from collections.abc import Iterator

from mosis.packages.checks import jpeg, png
from mosis.packages.checks.kinds import Broken, Contents, error, warning, why_broken
from mosis.packages.findings import Finding

HUGE_PIXELS = 4096 * 4096
_TGA_FOOTER = b"TRUEVISION-XFILE.\x00"  # other developer areas may precede it


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with an image."""
    ending = path.rpartition(".")[2].lower()
    reader = {"png": png.read, "jpg": jpeg.read, "jpeg": jpeg.read, "webp": _webp, "tga": _tga}[
        ending
    ]
    try:
        width, height, spare = reader(content)
    except (Broken, struct.error, IndexError, zlib.error) as trouble:
        own = {"png": "PNG image", "webp": "WebP image", "tga": "an ICO image"}.get(
            ending, "JPEG image"
        )
        why = why_broken(trouble, content, (own,))
        yield error(
            "image_invalid", f"This is no {ending.upper()} image: {why}. Save it again.", path
        )
        return
    if width * height > HUGE_PIXELS:
        yield warning(
            "image_huge",
            f"{width} x {height} pixels take {width * height * 4 >> 20} MiB on a device.",
            path,
        )
    if spare:
        detail = f"{spare} bytes of this file are no part of its image; save it without them."
        yield warning("trailing_data", detail, path)


def _webp(content: bytes) -> tuple[int, int, int]:
    """The WebP container (RFC 9649) as libwebp reads it: RIFF, WEBP, then one image, or VP8X and chunks with images."""
    riff, size, kind, first = struct.unpack_from("<4sI4s4s", content)
    if riff != b"RIFF" or kind != b"WEBP":
        raise Broken("it does not have the header of one")
    if size + 8 > len(content) or size < 12:
        raise Broken("it is cut off")
    chunks = _webp_chunks(content, 12, size + 8)
    sizes = [_webp_size(name, body) for name, body in chunks if name in (b"VP8 ", b"VP8L")]
    names = [name for name, _ in chunks]
    if first in (b"VP8 ", b"VP8L"):
        width, height = sizes[0]
    elif first == b"VP8X" and len(chunks[0][1]) == 10:
        canvas = chunks[0][1]
        width = int.from_bytes(canvas[4:7], "little") + 1
        height = int.from_bytes(canvas[7:10], "little") + 1
        if canvas[0] & 2:  # an animation
            if b"ANIM" not in names or b"ANMF" not in names:
                raise Broken("it is an animation without pictures")
            for name, body in chunks:
                if name == b"ANMF":
                    _webp_frame(body, width, height)
        elif not sizes:
            raise Broken("it holds no image")
        elif sizes[0] != (width, height):
            raise Broken("its image has another size than its header says")
    else:
        raise Broken("its first chunk is not one of an image")
    return width, height, max(0, len(content) - (size + 8 + size % 2))


def _webp_chunks(content: bytes, at: int, end: int) -> list[tuple[bytes, bytes]]:
    found = []
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", content, at)
        if at + 8 + length > end:
            raise Broken("a chunk is longer than the file")
        found.append((name, content[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def _webp_size(name: bytes, body: bytes) -> tuple[int, int]:
    """Width and height of one picture (RFC 6386, section 9.1; RFC 9649, section 3.4)."""
    if name == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        if len(body) < 6 or body[0] != 0x2F or bits >> 29:
            raise Broken("its lossless image has a damaged header")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    head = int.from_bytes(body[:3], "little")
    if len(body) < 10 or body[3:6] != b"\x9d\x01\x2a" or head & 1 or head >> 1 & 7 > 3:
        raise Broken("its image has a damaged header")
    if not head >> 4 & 1 or head >> 5 >= len(body):
        raise Broken("its image is not shown, or cut off")
    width, height = (each & 0x3FFF for each in struct.unpack_from("<HH", body, 6))
    if not width or not height:
        raise Broken("it has no size")
    return width, height


def _webp_frame(body: bytes, width: int, height: int) -> None:
    """Check that a picture of an animation is inside the canvas."""
    left, top, across, down = (int.from_bytes(body[at : at + 3], "little") for at in (0, 3, 6, 9))
    inner = _webp_chunks(body, 16, len(body))
    sizes = [_webp_size(name, each) for name, each in inner if name in (b"VP8 ", b"VP8L")]
    if sizes[:1] != [(across + 1, down + 1)]:
        raise Broken("a picture of its animation is missing or has another size than it says")
    if left * 2 + across + 1 > width or top * 2 + down + 1 > height:
        raise Broken("a picture of its animation lies outside of it")


def _tga(content: bytes) -> tuple[int, int, int]:
    """Truevision TGA 2.0 as stb_image reads it, without magic number: all must fit."""
    (id_length, has_map, kind, _, map_length, map_bits, _, _, width, height, bits, _) = (
        struct.unpack_from("<BBBHHBHHHHBB", content)
    )
    depths = (8, 15, 16, 24, 32)
    if has_map == 1:
        possible = kind in (1, 9) and bits in (8, 16) and map_bits in depths and map_length > 0
    else:
        possible = has_map == 0 and kind in (2, 3, 10, 11) and bits in depths
    if not possible or not width or not height:
        raise Broken("its header is not valid for TGA")
    start = 18 + id_length + (map_length * ((map_bits + 7) // 8) if has_map else 0)
    end = _tga_end(content, start, width * height, (bits + 7) // 8, packed=kind >= 9)
    if end > len(content):
        raise Broken("its pixels are cut off")
    return width, height, 0 if content.endswith(_TGA_FOOTER) else len(content) - end


def _tga_end(content: bytes, at: int, pixels: int, size_bytes: int, *, packed: bool) -> int:
    """The end of the pixels. Compressed ones are packets of up to 128 pixels, repeated or literal."""
    if not packed:
        return at + pixels * size_bytes
    while pixels > 0:
        count = (content[at] & 0x7F) + 1
        at += 1 + size_bytes * (1 if content[at] & 0x80 else count)
        pixels -= count
    return at
