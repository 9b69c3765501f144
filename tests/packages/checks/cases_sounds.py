"""Sounds, each with one thing that is unusual or wrong; LAME, mpg123, libvorbis and SoX judged such files."""

import struct

from tests.packages.checks.media import mp3_frame, ogg_page, riff

ID3 = b"ID3\3\0\0\0\0\0\x0a" + bytes(10)
FRAME = mp3_frame()
SONG = FRAME * 4
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)
MP3_CASES = {
    "plain": SONG,
    "one": FRAME,
    "tag": ID3 + SONG,
    "two tags": ID3 + ID3 + SONG,
    "tag and padding": ID3 + bytes(500) + SONG,
    "zeros": bytes(417) + SONG,
    "many zeros": bytes(100_000) + SONG,
    "ID3v1": SONG + b"TAG" + bytes(125),
    "APE": SONG + APE,
    "APE of size 0": SONG + b"APETAGEX" + bytes(24),
    "APE at the beginning": APE + SONG,
    "APE and ID3v1": SONG + APE + b"TAG" + bytes(125),
    "Lyrics3": SONG + b"LYRICSBEGIN" + b"abc" + b"000014LYRICS200",
    "zeros at the end": SONG + bytes(999),
    "cut": SONG[:-100],
    "tag within": SONG + ID3 + SONG,
    "layer I": mp3_frame(b"\xff\xff\x40\0", 12 * 128000 // 44100 * 4) * 4,
    "layer II": mp3_frame(b"\xff\xfd\x80\0", 144 * 128000 // 44100) * 4,
    "MPEG 2": mp3_frame(b"\xff\xf3\x40\0", 72 * 32000 // 22050) * 4,
    "MPEG 2.5": mp3_frame(b"\xff\xe3\x40\0", 72 * 32000 // 11025) * 4,
    "free format": mp3_frame(b"\xff\xfb\0\0", 1000) * 4,
    "variable rate": (FRAME + mp3_frame(b"\xff\xfb\xb0\0", 144 * 192000 // 44100)) * 3,
    "padding bit": mp3_frame(b"\xff\xfb\x92\0", 418) * 4,
    "checksum": mp3_frame(b"\xff\xfa\x90\0", 417) * 4,
    "Xing": (FRAME[:36] + b"Xing" + FRAME[40:]) + SONG,
    "junk behind the tag": ID3 + b"JUNK" * 46 + SONG,
    "junk": b"J" * 5000 + SONG,
    "junk within": SONG + b"x" * 100 + SONG,
    "tag with a wrong size": b"ID3\3\0\0\xff\xff\xff\xff" + SONG,
    "zip": SONG + b"PK\3\4" * 50,
    "zip and ID3v1": SONG + b"PK\3\4" * 50 + b"TAG" + bytes(125),
    "much junk": b"J" * 100_000 + SONG,
    "nothing": b"",
    "only a tag": ID3,
    "text": b"hello world" * 20,
    "one frame and text": FRAME + b"<?php no frame" * 40,
    "no layer": mp3_frame(b"\xff\xf9\x90\0", 417) * 4,
    "no rate": mp3_frame(b"\xff\xfb\xf0\0", 417) * 4,
    "no sample rate": mp3_frame(b"\xff\xfb\x9c\0", 417) * 4,
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(3000),
}
BROKEN_MP3 = list(MP3_CASES)[list(MP3_CASES).index("much junk") :]
SPARE_MP3 = ["zip", "zip and ID3v1"]
DAMAGED_MP3 = ["junk behind the tag", "junk", "junk within", "tag with a wrong size"]

VORBIS = ogg_page(b"\x01vorbis" + bytes(23), 2)
MORE = ogg_page(b"x" * 50, 0, number=1)
SKELETON = ogg_page(b"fishead\0" + bytes(56), 2, 9)
OGG_CASES = {
    "plain": VORBIS + MORE,
    "without end": VORBIS,
    "end": VORBIS + ogg_page(b"x" * 50, 4, number=1),
    "skeleton first": SKELETON + VORBIS + ogg_page(b"fisbone\0" + bytes(44), 0, 9, 1) + MORE,
    "skeleton second": VORBIS + SKELETON + ogg_page(b"", 4, 9, 1) + MORE,
    "chained": (VORBIS + MORE) * 2,
    "long packet": VORBIS
    + ogg_page(b"c" * 60_000, 0, number=1)
    + ogg_page(b"c" * 60_000, 1, number=2),
    "no granule": VORBIS + ogg_page(b"x", 1, number=1, granule=-1),
    "Opus": ogg_page(b"OpusHead" + bytes(11), 2),
    "FLAC": ogg_page(b"\x7fFLAC" + bytes(46), 2),
    "Speex": ogg_page(b"Speex   " + bytes(72), 2),
    "beside a picture": ogg_page(b"\x80theora" + bytes(35), 2, 5) + VORBIS + MORE,
    "junk before": b"J" * 500 + VORBIS + MORE,
    "junk within": VORBIS + b"x" * 100 + MORE,
    "checksum": VORBIS + MORE[:-1] + b"y",
    "zip": VORBIS + MORE + b"PK\3\4" * 50,
    "nothing": b"",
    "cut": VORBIS + MORE[:-1],
    "cut head": VORBIS + MORE[:20],
    "only a picture": ogg_page(b"\x80theora" + bytes(35), 2),
    "only a skeleton": SKELETON,
    "does not begin": ogg_page(b"\x01vorbis" + bytes(23), 0) + MORE,
    "version": VORBIS[:4] + b"\1" + VORBIS[5:],
    "WAV": riff(b"WAVE"),
}
BROKEN_OGG = list(OGG_CASES)[list(OGG_CASES).index("nothing") :]
SPARE_OGG = ["zip"]
DAMAGED_OGG = ["junk before", "junk within", "checksum"]

SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")


def form(
    tag: int = 1,
    channels: int = 1,
    hertz: int = 8000,
    block: int = 2,
    bits: int = 16,
    more: bytes = b"",
) -> tuple[bytes, bytes]:
    """The format chunk of a WAV."""
    return b"fmt ", struct.pack("<HHIIHH", tag, channels, hertz, hertz * block, block, bits) + more


def extensible(tag: int, bits: int) -> tuple[bytes, bytes]:
    more = struct.pack("<HHIH", 22, bits, 4, tag) + SUBFORMAT
    return form(0xFFFE, block=bits // 8, bits=bits, more=more)


def sized(riff_size: int, data_size: int, data: bytes = bytes(400)) -> bytes:
    """A WAV whose two sizes say what they want."""
    whole = riff(b"WAVE", form())
    return (
        whole[:4]
        + struct.pack("<I", riff_size)
        + whole[8:]
        + b"data"
        + struct.pack("<I", data_size)
        + data
    )


DATA = (b"data", bytes(400))
PLAIN = riff(b"WAVE", form(), DATA)
ODD = riff(b"WAVE", form(bits=8, block=1), (b"data", bytes(401)))
WAV_CASES = {
    "plain": PLAIN,
    "8 bits": ODD,
    "odd without padding": ODD[:-1],
    "24 bits": riff(b"WAVE", form(block=3, bits=24), DATA),
    "12 bits": riff(b"WAVE", form(bits=12), DATA),
    "float": riff(b"WAVE", form(3, block=4, bits=32), DATA),
    "double": riff(b"WAVE", form(3, block=8, bits=64), DATA),
    "A-law": riff(b"WAVE", form(6, block=1, bits=8), DATA),
    "extensible": riff(b"WAVE", extensible(1, 16), DATA),
    "extensible float": riff(b"WAVE", extensible(3, 32), DATA),
    "list before": riff(b"WAVE", form(), (b"LIST", b"INFOabc"), DATA),
    "list after": riff(b"WAVE", form(), DATA, (b"LIST", b"INFOabc")),
    "junk chunk first": riff(b"WAVE", (b"JUNK", bytes(28)), (b"bext", bytes(602)), form(), DATA),
    "format with its own size": riff(b"WAVE", form(more=b"\0\0"), (b"fact", bytes(4)), DATA),
    "no sound": riff(b"WAVE", form(), (b"data", b"")),
    "pipe of ffmpeg": sized(0xFFFFFFFF, 0xFFFFFFFF),
    "pipe of SoX": sized(0x7FFFF024, 0x7FFFF000),
    "sizes never written": sized(0, 0),
    "size of the data never written": sized(36, 0),
    "size of the whole never written": sized(0, 400),
    "size of the whole too large": sized(9999, 400),
    "zip": PLAIN + b"PK\3\4" * 50,
    "zip within": sized(36 + 400 + 50, 400, bytes(400) + b"PK\3\4\xff\xff\xff\xff" + bytes(42)),
    "nothing": b"",
    "data longer than the file": sized(9999, 9999),
    "chunk longer than the file": riff(b"WAVE", form())[:-1],
    "format 0": riff(b"WAVE", form(0), DATA),
    "no channels": riff(b"WAVE", form(channels=0), DATA),
    "no rate": riff(b"WAVE", form(hertz=0), DATA),
    "no block": riff(b"WAVE", form(block=0), DATA),
    "7 bits": riff(b"WAVE", form(block=1, bits=7), DATA),
    "float of 16 bits": riff(b"WAVE", form(3), DATA),
    "extensible and cut": riff(b"WAVE", form(0xFFFE, more=b"\0\0"), DATA),
    "data first": riff(b"WAVE", DATA, form()),
    "no format": riff(b"WAVE", DATA),
    "no data": riff(b"WAVE", form()),
    "short format": riff(b"WAVE", (b"fmt ", b"\1\0\1\0"), DATA),
    "RF64": b"RF64" + PLAIN[4:],
    "big endian": b"RIFX" + PLAIN[4:],
    "AVI": riff(b"AVI ", form(), DATA),
    "Ogg": VORBIS,
}
BROKEN_WAV = list(WAV_CASES)[list(WAV_CASES).index("nothing") :]
SPARE_WAV = ["zip", "zip within"]
