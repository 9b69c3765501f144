"""Sounds are what their names say: Ogg (RFC 3533), WAV, MP3."""

import struct
from collections.abc import Iterator

from mosis.packages.checks.kinds import Broken, Contents, error
from mosis.packages.findings import Finding

# kbit/s of MPEG audio layer III, version 1 and versions 2 and 2.5 (ISO/IEC 11172-3, 13818-3)
_RATES = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with a sound."""
    ending = path.rpartition(".")[2].lower()
    try:
        {"ogg": _ogg, "wav": _wav, "mp3": _mp3}[ending](content)
    except (Broken, struct.error, IndexError) as trouble:
        why = str(trouble) if isinstance(trouble, Broken) else "it is cut off"
        yield error("sound_invalid", f"This is no {ending.upper()} sound: {why}.", path)


def _ogg(content: bytes) -> None:
    """Pages follow one another to the end; the first one begins a stream of sound."""
    at, first = 0, b""
    while at < len(content):
        if content[at : at + 5] != b"OggS\x00":
            raise Broken("a page does not begin like one")
        count = content[at + 26]
        if len(content) < at + 27 + count:
            raise Broken("a page is cut off")
        start = at + 27 + count
        at = start + sum(content[at + 27 : start])
        first = first or content[start : start + 8]
    if at != len(content) or not first.startswith(
        (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
    ):
        raise Broken("it is cut off or holds no sound")


def _wav(content: bytes) -> None:
    riff, size, kind = struct.unpack_from("<4sI4s", content)
    if riff != b"RIFF" or kind != b"WAVE":
        raise Broken("it does not begin like one")
    if size + 8 > len(content):
        raise Broken(
            "its head says that it is longer than the file, as when it was written into a pipe"
        )
    at, found = 12, set()
    while at + 8 <= size + 8:
        chunk, length = struct.unpack_from("<4sI", content, at)
        if at + 8 + length > len(content):
            raise Broken("a chunk is longer than the file")
        found.add(chunk)
        at += 8 + length + length % 2
    if not {b"fmt ", b"data"} <= found:
        raise Broken("its format or its data is missing")


def _mp3(content: bytes) -> None:
    """ID3 tags, if any, then two frames of layer III, one right after the other."""
    at = 0
    while content.startswith(b"ID3", at):
        sizes = content[at + 6 : at + 10]
        if len(sizes) < 4 or any(each & 0x80 for each in sizes):
            raise Broken("its tag is damaged")
        footer = 10 if content[at + 5] & 0x10 else 0
        at += 10 + (sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3]) + footer
        while at < len(content) and content[at] == 0:
            at += 1  # padding
    second = at + _frame(content, at)
    if second + 4 <= len(content) and content[second : second + 3] != b"TAG":
        _frame(content, second)


def _frame(content: bytes, at: int) -> int:
    """The length of the frame that begins here."""
    (head,) = struct.unpack_from(">I", content, at)
    version, layer, rate, sample = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or layer != 1 or version == 1 or rate in (0, 15) or sample == 3:
        raise Broken("there is no frame of layer III where one should be")
    bits, hertz = _RATES[3 if version == 3 else 2][rate] * 1000, _SAMPLES[version][sample]
    return int((144 if version == 3 else 72) * bits // hertz + (head >> 9 & 1))
