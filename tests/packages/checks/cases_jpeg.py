"""JPEG files, each with one thing that is unusual or wrong; libjpeg and stb_image judged them."""

import struct

from tests.packages.checks.media import (
    AC,
    DC,
    DQT,
    EOI,
    SOI,
    TABLES,
    frame,
    jpeg,
    png,
    progressive,
    scan,
    segment,
)

J = jpeg()
app = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def wrap(head: bytes, start: bytes, data: bytes = b"\x3f", tables: bytes = TABLES) -> bytes:
    """A JPEG with this frame and scan."""
    return SOI + tables + head + start + data + EOI


JPEG_CASES = {
    "gray": J,
    "rgb": jpeg(3),
    "cmyk": jpeg(4),
    "cmyk-adobe": jpeg(4, before=segment(0xEE, b"Adobe\0\x64\0\0\0\0\2")),
    "two": jpeg(2),
    "five": jpeg(5),
    "large": jpeg(1, 50, 30),
    "progressive": progressive(),
    "jfif": jpeg(before=app),
    "exif": jpeg(before=segment(0xE1, b"Exif\0\0II*\0" + b"\xff\xd8\xff\xd9" * 4)),
    "fill": SOI
    + b"\xff\xff"
    + TABLES
    + b"\xff\xff\xff"
    + frame()
    + b"\xff"
    + scan()
    + b"\x3f"
    + b"\xff\xff"
    + EOI,
    "garbage-before": SOI + DQT + b"abc" + DC + AC + frame() + scan() + b"\x3f" + EOI,
    "garbage-after-sof": SOI + TABLES + frame() + b"abc" + scan() + b"\x3f" + EOI,
    "after": J + b"PK" * 99,
    "mpf": J + J,
    "no-eoi": J[:-2],
    "cut": J[:-8],
    "no-dqt": wrap(frame(), scan(), tables=DC + AC),
    "no-dht": wrap(frame(), scan(), tables=DQT),
    "no-ac": wrap(frame(), scan(), tables=DQT + DC),
    "no-dc": wrap(frame(), scan(), tables=DQT + AC),
    "arith": wrap(frame(0xC9), scan()),
    "lossless": wrap(frame(0xC3), scan()),
    "ext": wrap(frame(0xC1), scan()),
    "12bit": wrap(frame(0xC1, depth=12), scan()),
    "dnl": SOI + TABLES + frame(height=0) + scan() + b"\x3f" + segment(0xDC, b"\0\x08") + EOI,
    "dnl-same": SOI + TABLES + frame() + scan() + b"\x3f" + segment(0xDC, b"\0\x08") + EOI,
    "width0": wrap(frame(width=0), scan()),
    "sof2": SOI + TABLES + frame() + frame() + scan() + b"\x3f" + EOI,
    "sos-first": SOI + TABLES + scan() + b"\x3f" + frame() + EOI,
    "no-scan": SOI + TABLES + frame() + EOI,
    "sampling0": wrap(frame(sampling=0), scan()),
    "sampling5": wrap(frame(sampling=0x51), scan()),
    "sampling22": wrap(frame(sampling=0x22, parts=3), scan(components=(1, 2, 3)), b"\0\x0f"),
    "sampling33": wrap(frame(sampling=0x33, parts=3), scan(components=(1, 2, 3)), b"\0\0\0"),
    "tq4": SOI
    + TABLES
    + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\4")
    + scan()
    + b"\x3f"
    + EOI,
    "dqt5": wrap(frame(), scan(), tables=segment(0xDB, b"\5" + b"\1" * 64) + TABLES),
    "dqt16": wrap(frame(), scan(), tables=segment(0xDB, b"\x10" + b"\0\1" * 64) + DC + AC),
    "dqt2": wrap(
        frame(), scan(), tables=segment(0xDB, b"\0" + b"\1" * 64 + b"\1" + b"\1" * 64) + DC + AC
    ),
    "dqt-short": wrap(frame(), scan(), tables=segment(0xDB, b"\0" + b"\1" * 60) + DC + AC),
    "dht-two": wrap(frame(), scan(), tables=DQT + segment(0xC4, DC[4:] + AC[4:])),
    "dht-over": wrap(
        frame(), scan(), tables=DQT + segment(0xC4, b"\0" + b"\3" + bytes(15) + b"\0\1\2") + AC
    ),
    "dht-dc16": wrap(
        frame(), scan(), tables=DQT + segment(0xC4, b"\0" + b"\1" + bytes(15) + b"\x10") + AC
    ),
    "dht-full": wrap(
        frame(), scan(), tables=DQT + segment(0xC4, b"\0" + b"\2" + bytes(15) + b"\0\1") + AC
    ),
    "dht-short": wrap(frame(), scan(), tables=DQT + DC + segment(0xC4, b"\x10\1" + bytes(15))),
    "dri": SOI
    + TABLES
    + segment(0xDD, b"\0\1")
    + frame(width=16)
    + scan()
    + b"\x3f\xff\xd0\x3f"
    + EOI,
    "dri-bad": wrap(frame(), scan(), tables=TABLES + segment(0xDD, b"\0\1\2")),
    "com": jpeg(before=segment(0xFE, b"hi")),
    "com-empty": jpeg(before=b"\xff\xfe\0\2"),
    "com-1": jpeg(before=b"\xff\xfe\0\1"),
    "app15": jpeg(before=segment(0xEF, b"x")),
    "unknown-f0": jpeg(before=segment(0xF0, b"x")),
    "unknown-02": jpeg(before=segment(0x02, b"x")),
    "tem": jpeg(before=b"\xff\x01"),
    "rst-before": jpeg(before=b"\xff\xd0"),
    "soi-two": SOI + J,
    "dac": jpeg(before=segment(0xCC, b"\0\0")),
    "exp": jpeg(before=segment(0xDF, b"x")),
    "sos-count0": wrap(frame(), segment(0xDA, b"\0\0\x3f\0")),
    "sos-comp9": wrap(frame(), scan(components=(9,))),
    "sos-len": wrap(frame(), segment(0xDA, b"\1\1\0\0\x3f\0\0")),
    "sos-ss1": wrap(frame(), scan(1)),
    "sos-se0": wrap(frame(), scan(0, 0)),
    "sos-ah": wrap(frame(), scan(approximation=0x10)),
    "sos-many": wrap(frame(parts=3), scan(components=(1,)), b"\x3f"),
    "noninterleaved": SOI
    + TABLES
    + frame(parts=3)
    + b"".join(scan(components=(k,)) + b"\x3f" for k in (1, 2, 3))
    + EOI,
    "sos-table2": wrap(frame(), segment(0xDA, b"\1\1\x22\0\x3f\0")),
    "sof-len": SOI
    + TABLES
    + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\0\0")
    + scan()
    + b"\x3f"
    + EOI,
    "big": jpeg(1, 65500, 8),
    "toobig": jpeg(1, 65501, 8),
    "empty-scan": wrap(frame(), scan(), b""),
    "prog-bad": SOI + TABLES + frame(0xC2) + scan(5, 2) + b"\x3f" + EOI,
    "prog-dconly": SOI + TABLES + frame(0xC2) + scan(0, 0) + b"\x7f" + EOI,
    "prog-0-63": SOI + TABLES + frame(0xC2) + scan(0, 63) + b"\x3f" + EOI,
    "same-id": SOI
    + TABLES
    + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 3) + b"\1\x11\0" * 3)
    + scan(components=(1,))
    + b"\x3f"
    + EOI,
    "dqt-late": SOI + DC + AC + frame() + DQT + scan() + b"\x3f" + EOI,
    "dqt-after": SOI + DC + AC + frame() + scan() + b"\x3f" + DQT + EOI,
    "png": png(),
}


BROKEN_JPG = [
    "two",
    "five",
    "garbage-after-sof",
    "no-eoi",
    "cut",
    "no-dqt",
    "no-dht",
    "no-ac",
    "no-dc",
    "arith",
    "lossless",
    "12bit",
    "dnl",
    "width0",
    "sof2",
    "sos-first",
    "no-scan",
    "sampling0",
    "sampling5",
    "sampling33",
    "tq4",
    "dqt5",
    "dqt-short",
    "dht-over",
    "dht-dc16",
    "dht-full",
    "dht-short",
    "dri-bad",
    "com-1",
    "unknown-f0",
    "unknown-02",
    "tem",
    "rst-before",
    "soi-two",
    "dac",
    "exp",
    "sos-count0",
    "sos-comp9",
    "sos-len",
    "sos-ss1",
    "sos-ah",
    "sos-table2",
    "sof-len",
    "toobig",
    "prog-bad",
    "prog-0-63",
    "dqt-after",
    "png",
]
SPARE_JPG = ["after", "mpf"]
