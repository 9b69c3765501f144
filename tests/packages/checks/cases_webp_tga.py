"""WebP and TGA files, each with one thing that is unusual or wrong; libwebp and stb_image judged them."""

import struct

from tests.packages.checks.media import ALPH, ANMF, VP8, VP8L, png, riff, tga


def W(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP with these chunks."""
    return riff(b"WEBP", *chunks)


def X(flags: int, width: int = 2, height: int = 3) -> bytes:
    """The VP8X chunk."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes([flags, 0, 0, 0]) + sides


ok = W((b"VP8 ", VP8))
odd = W((b"VP8L", VP8L[:-1]))
WEBP_CASES = {
    "vp8": ok,
    "vp8l": W((b"VP8L", VP8L)),
    "x": W((b"VP8X", X(0)), (b"VP8 ", VP8)),
    "xa": W((b"VP8X", X(16)), (b"ALPH", ALPH), (b"VP8 ", VP8)),
    "xl": W((b"VP8X", X(16)), (b"VP8L", VP8L)),
    "icc": W((b"VP8X", X(32)), (b"ICCP", b"abc"), (b"VP8 ", VP8)),
    "exif": W((b"VP8X", X(8)), (b"VP8 ", VP8), (b"EXIF", b"abc")),
    "xmp": W((b"VP8X", X(4)), (b"VP8 ", VP8), (b"XMP ", b"abc")),
    "anim": W((b"VP8X", X(2)), (b"ANIM", bytes(6)), (b"ANMF", ANMF)),
    "anim2": W((b"VP8X", X(2)), (b"ANIM", bytes(6)), (b"ANMF", ANMF), (b"ANMF", ANMF)),
    "anim-no": W((b"VP8X", X(2)), (b"ANIM", bytes(6))),
    "anim-out": W((b"VP8X", X(2, 1, 1)), (b"ANIM", bytes(6)), (b"ANMF", ANMF)),
    "size": W((b"VP8X", X(0, 3, 3)), (b"VP8 ", VP8)),
    "noimage": W((b"VP8X", X(0))),
    "unknown": W((b"VP8X", X(0)), (b"abcd", b"x"), (b"VP8 ", VP8)),
    "unknown-plain": W((b"VP8 ", VP8), (b"abcd", b"x")),
    "unknown-first": W((b"abcd", b"x"), (b"VP8 ", VP8)),
    "exif-plain": W((b"VP8 ", VP8), (b"EXIF", b"x")),
    "after": ok + b"PK" * 40,
    "cut": ok[:-1],
    "cut5": ok[:-5],
    "riff-short": ok[:4] + struct.pack("<I", 20) + ok[8:],
    "riff-long": ok[:4] + struct.pack("<I", len(ok)) + ok[8:],
    "riff-0": ok[:4] + struct.pack("<I", 0) + ok[8:],
    "key": W((b"VP8 ", b"\xf1" + VP8[1:])),
    "hidden": W((b"VP8 ", b"\xe0" + VP8[1:])),
    "profile": W((b"VP8 ", b"\xf8" + VP8[1:])),
    "part": W((b"VP8 ", b"\xf0\xff\xff" + VP8[3:])),
    "sig": W((b"VP8 ", VP8[:3] + b"abc" + VP8[6:])),
    "w0": W((b"VP8 ", VP8[:6] + b"\0\0" + VP8[8:])),
    "lsig": W((b"VP8L", b"\0" + VP8L[1:])),
    "lver": W((b"VP8L", VP8L[:4] + b"\x20" + VP8L[5:])),
    "odd": W((b"VP8L", VP8L[:-1])),
    "odd-nopad": odd[:4] + struct.pack("<I", len(odd) - 9) + odd[8:-1],
    "odd-mid-ok": W((b"VP8X", X(8)), (b"EXIF", b"abc"), (b"VP8 ", VP8)),
    "two": W((b"VP8 ", VP8), (b"VP8 ", VP8)),
    "alpha-after": W((b"VP8X", X(16)), (b"VP8 ", VP8), (b"ALPH", ALPH)),
    "alpha-none": W((b"VP8X", X(16)), (b"VP8 ", VP8)),
    "alph-plain": W((b"ALPH", ALPH), (b"VP8 ", VP8)),
    "x-short": W((b"VP8X", X(0)[:8]), (b"VP8 ", VP8)),
    "x-long": W((b"VP8X", X(0) + b"\0\0"), (b"VP8 ", VP8)),
    "png": png(),
}


t = tga()
TGA_CASES = {
    "cut": t[:-1],
    "after": t + b"PK" * 30,
    "footer": t + bytes(8) + b"TRUEVISION-XFILE.\0",
    "w0": tga(width=0),
    "id": bytes([5]) + t[1:18] + b"hello" + t[18:],
    "raw": tga(10, 24, packed=b"\5" + bytes(18)),
    "mixed": tga(10, 24, packed=b"\x81abc\3" + bytes(12)),
    "over": tga(10, 24, packed=b"\xffabc"),
    "rlecut": tga(10, 24, packed=b"\5" + bytes(10)),
    "top": t[:17] + b"\x20" + t[18:],
    "pal0": tga(1, 8, map_bits=24)[:5] + b"\0\0" + tga(1, 8, map_bits=24)[7:],
}


BROKEN_WEBP = [
    "anim-no",
    "anim-out",
    "size",
    "noimage",
    "unknown-first",
    "cut",
    "cut5",
    "riff-short",
    "riff-long",
    "riff-0",
    "key",
    "hidden",
    "profile",
    "part",
    "sig",
    "w0",
    "lsig",
    "lver",
    "alph-plain",
    "x-short",
    "x-long",
    "png",
]
SPARE_WEBP = ["after"]
BROKEN_TGA = ["cut", "w0", "rlecut", "pal0"]
SPARE_TGA = ["after"]
