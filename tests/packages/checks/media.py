"""Makes tiny images and sounds that real decoders read, part by part, so that a test can exchange a part."""

import struct
import zlib
from collections.abc import Sequence

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG = b"\x89PNG\r\n\x1a\n"
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # fmt: skip
PALETTE = bytes(range(6))
# 2 x 3 pixels each, written by libwebp: lossy, lossless, an alpha channel, one picture of an animation
VP8 = bytes.fromhex(
    "f001009d012a0200030002c04c25a00274ba01f80000620000ecf32bf9bffc2adc310cd57ff3b06c4bb5e0000000"
)
VP8L = bytes.fromhex("2f018000000750e42ad4a3ff8188e87f0000")
VP8X = bytes.fromhex("00000000010000020000")
ALPH = bytes.fromhex("00282828282828")
ANMF = bytes.fromhex("000000000000010000020000000000025650384c0e0000002f01800000071011fd0f4444ff03")
SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def chunk(kind: bytes, data: bytes = b"", crc: int | None = None) -> bytes:
    """A chunk of a PNG."""
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def ihdr(
    width: int = 5, height: int = 3, depth: int = 8, colour: int = 0, interlace: int = 0
) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def pixels(
    width: int = 5, height: int = 3, depth: int = 8, colour: int = 0, interlace: int = 0
) -> bytes:
    """All rows, black, each with filter 0."""
    rows = b""
    for left, top, across, down in PASSES if interlace else ((0, 0, 1, 1),):
        columns, lines = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and lines > 0:
            rows += bytes(1 + (columns * depth * CHANNELS[colour] + 7) // 8) * lines
    return rows


def idat(data: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(data))


def png(
    depth: int = 8, colour: int = 0, interlace: int = 0, width: int = 5, height: int = 3
) -> bytes:
    shape = (width, height, depth, colour, interlace)
    palette = chunk(b"PLTE", PALETTE) if colour == 3 else b""
    return PNG + ihdr(*shape) + palette + idat(pixels(*shape)) + chunk(b"IEND")


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame(
    marker: int = 0xC0,
    width: int = 8,
    height: int = 8,
    parts: int = 1,
    depth: int = 8,
    sampling: int = 0x11,
) -> bytes:
    components = b"".join(bytes([1 + n, sampling if n == 0 else 0x11, 0]) for n in range(parts))
    return segment(marker, struct.pack(">BHHB", depth, height, width, parts) + components)


def scan(
    first: int = 0, last: int = 63, approximation: int = 0, components: Sequence[int] = (1,)
) -> bytes:
    named = b"".join(bytes([each, 0]) for each in components)
    return segment(0xDA, bytes([len(components)]) + named + bytes([first, last, approximation]))


DQT = segment(0xDB, b"\0" + b"\1" * 64)
DC, AC = (
    segment(0xC4, bytes([kind, 1]) + bytes(15) + b"\0") for kind in (0x00, 0x10)
)  # one code each, of one bit: zero
TABLES = DQT + DC + AC


def jpeg(
    parts: int = 1, width: int = 8, height: int = 8, before: bytes = b"", after: bytes = b""
) -> bytes:
    """Baseline, all zero: two bits for each block."""
    blocks = -(-width // 8) * -(-height // 8) * parts
    data = b"\0" * (blocks * 2 // 8) + (bytes([0xFF >> blocks * 2 % 8]) if blocks * 2 % 8 else b"")
    head = scan(components=range(1, parts + 1))
    return (
        SOI
        + before
        + TABLES
        + frame(width=width, height=height, parts=parts)
        + head
        + data
        + EOI
        + after
    )


def progressive() -> bytes:
    """One block in two scans."""
    return SOI + TABLES + frame(0xC2) + scan(0, 0) + b"\x7f" + scan(1, 63) + b"\x7f" + EOI


def riff(kind: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + kind + body


def tga(
    kind: int = 2,
    bits: int = 24,
    *,
    map_bits: int = 0,
    width: int = 3,
    height: int = 2,
    packed: bytes = b"",
) -> bytes:
    has_map = 1 if map_bits else 0
    head = struct.pack(
        "<BBBHHBHHHHBB", 0, has_map, kind, 0, 2 * has_map, map_bits, 0, 0, width, height, bits, 0
    )
    size = (bits + 7) // 8
    data = packed or (
        bytes([0x80 | width * height - 1]) + bytes(size)
        if kind > 8
        else bytes(width * height * size)
    )
    return head + bytes(2 * ((map_bits + 7) // 8)) + data


def mp3_frame(head: bytes = b"\xff\xfb\x90\0", length: int = 417) -> bytes:
    """A frame of silence: MPEG 1, layer III, 128 kbit/s, unless its header says otherwise."""
    return head + bytes(length - len(head))


def ogg_checksum(page: bytes) -> int:
    """RFC 3533, section 6: polynomial 0x04c11db7, nothing reflected, from 0."""
    crc = 0
    for each in page:
        crc ^= each << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def ogg_page(
    payload: bytes, flags: int, serial: int = 1, number: int = 0, granule: int = 0
) -> bytes:
    """A page of an Ogg stream; flags: 1 goes on, 2 first, 4 last."""
    sizes = bytes(
        [255] * (len(payload) // 255)
        + ([len(payload) % 255] if len(payload) % 255 or not payload else [])
    )
    head = b"OggS\0" + bytes([flags]) + struct.pack("<qII", granule, serial, number)
    tail = bytes([len(sizes)]) + sizes + payload
    return head + struct.pack("<I", ogg_checksum(head + bytes(4) + tail)) + tail


def font_tables() -> dict[bytes, bytes]:
    """The tables of a font with one empty glyph, as FreeType opens it."""
    head = struct.pack(
        ">LLLLHH16x4hHHhhh", 0x10000, 0, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 1, 1, 0, 8, 2, 0, 0
    )
    hhea = struct.pack(">Lhhh22xhH", 0x10000, 800, -200, 0, 0, 1)
    cmap = struct.pack(">HHHHL", 0, 1, 3, 1, 12) + struct.pack(
        ">12H", 4, 24, 0, 2, 2, 0, 0, 0xFFFF, 0, 0xFFFF, 1, 0
    )
    maxp = struct.pack(">LH26x", 0x10000, 1)
    return {
        b"cmap": cmap, b"glyf": bytes(4), b"head": head, b"hhea": hhea, b"hmtx": struct.pack(">Hh", 500, 0),
        b"loca": bytes(4), b"maxp": maxp,
    }  # fmt: skip


def font(tables: dict[bytes, bytes], kind: bytes = b"\0\1\0\0", at: int = 0) -> bytes:
    """A font of these tables, in this order; `at` is where it begins in a collection."""
    start = at + 12 + 16 * len(tables)
    directory, body = b"", b""
    for tag, data in tables.items():
        directory += struct.pack(">4sLLL", tag, 0, start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    return kind + struct.pack(">HHHH", len(tables), 0, 0, 0) + directory + body
