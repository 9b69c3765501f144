"""MPEG audio (ISO/IEC 11172-3, 13818-3) as LAME and mpg123 read it: frames, with tags and padding
around them.

Like them, it skips data before the first frame, accepts layers I to III and free format, and
continues after damage.
"""

import re
import struct

from mosis.packages.checks.kinds import Broken

SEARCH_BYTES = 1 << 16  # before the first frame, without tags
# kbit/s by version (1, or 2 and 2.5) and layer
_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
# bits of a header that all frames of a stream share: version, layer, sample rate
_SAME = 0xFFFE0C00
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_FREE_FRAME = 4608  # bytes of the longest free-format frame that is searched for


def read(content: bytes) -> tuple[int, int]:
    """The number of bytes that are not part of the sound. Raises Broken, struct.error."""
    end = _without_tags_at_end(content)
    solid = len(content[:end].rstrip(b"\0"))
    at = _first_frame(content, end, solid)
    skipped = at - _after_tags(content)
    zeros = not any(content[_after_tags(content) : at])
    skipped = 0 if zeros else skipped
    first = _header(content, at)
    free = _free_length(content, at, end) if not _length(first) else 0
    while at + 4 <= end:
        if content.startswith(b"ID3", at):  # a tag of another recording
            at = max(at + 10, _after_tags(content, at))
            continue
        head = _header(content, at)
        length = (_length(head) or free + (head >> 9 & 1)) if _is_like(head, first) else 0
        if length:
            at += length
            continue
        if not (later := _next_frame(content, at, end, solid, first)):
            rest = content[at:end].strip(b"\0")
            return len(rest), skipped
        skipped += len(content[at:later].strip(b"\0"))
        at = later
    return 0, skipped


def _header(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4])


def _is_head(head: int) -> bool:
    version, layer, rate, sample = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    return (
        head >> 21 == 0x7FF and version != 1 and layer != 0 and rate != 15 and sample != 3
        and head & 3 != 2
    )  # fmt: skip


def _is_like(head: int, first: int) -> bool:
    return (
        _is_head(head)
        and head & _SAME == first & _SAME
        and bool(head >> 12 & 15) == bool(first >> 12 & 15)
    )


def _length(head: int) -> int:
    """The number of bytes of the frame with this header; 0 for free format."""
    version, layer, rate = head >> 19 & 3, 4 - (head >> 17 & 3), head >> 12 & 15
    bits = _RATES[1 if version == 3 else 2, layer][rate] * 1000
    hertz, padding = _SAMPLES[version][head >> 10 & 3], head >> 9 & 1
    if not bits:
        return 0
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


def _free_length(content: bytes, at: int, end: int) -> int:
    """The bytes of a free-format frame without padding, up to the next header; 0 without one."""
    first = _header(content, at)
    for found in _SYNC.finditer(content, at + 4, min(at + _FREE_FRAME, end)):
        if _is_like(_header(content, found.start()), first):
            return found.start() - at - (first >> 9 & 1)
    return 0


def _is_frame(content: bytes, at: int, end: int, solid: int) -> bool:
    """Whether a frame begins here, followed by one of its kind or by zeros from `solid` on."""
    head = _header(content, at)
    if not _is_head(head):
        return False
    length = _length(head) or _free_length(content, at, end) + (head >> 9 & 1)
    after = at + length
    if length < 4 or after > end:
        return False
    return after >= solid or _is_like(_header(content, after), head)


def _first_frame(content: bytes, end: int, solid: int) -> int:
    start = _after_tags(content)
    while start < end and content[start] == 0:
        start += 1
    for found in _SYNC.finditer(content, start, min(start + SEARCH_BYTES, end)):
        if _is_frame(content, found.start(), end, solid):
            return found.start()
    raise Broken("there is no MPEG audio frame where one is expected")


def _next_frame(content: bytes, at: int, end: int, solid: int, first: int) -> int:
    """The next offset at which two frames of this stream follow each other; 0 if there is none."""
    for found in _SYNC.finditer(content, at, end):
        if _is_like(_header(content, found.start()), first) and _is_frame(
            content, found.start(), end, solid
        ):
            return found.start()
    return 0


def _after_tags(content: bytes, at: int = 0) -> int:
    """The end of the ID3v2 and APE tags at this offset, with their padding."""
    while True:
        if content.startswith(b"ID3", at):
            sizes = content[at + 6 : at + 10]
            if len(sizes) < 4 or any(each & 0x80 for each in sizes):
                return at
            footer = 10 if content[at + 5] & 0x10 else 0
            at += 10 + (sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3]) + footer
        elif content.startswith(b"APETAGEX", at) and len(content) >= at + 32:
            at += 32 + struct.unpack_from("<I", content, at + 12)[0]
        else:
            return at
        while (
            at < len(content) and content[at] == 0 and content.startswith((b"ID3", b"\0"), at + 1)
        ):
            at += 1  # padding


def _without_tags_at_end(content: bytes) -> int:
    """The start of the ID3v1, Lyrics3 and APE tags at the end of the file."""
    end = len(content)
    while True:
        if content[max(0, end - 128) : end].startswith(b"TAG") and end >= 128:
            end -= 128
        elif content.endswith(b"LYRICS200", 0, end) and content[end - 15 : end - 9].isdigit():
            end -= 15 + int(content[end - 15 : end - 9])
        elif end >= 32 and content[end - 32 : end - 24] == b"APETAGEX":
            size, _, flags = struct.unpack_from("<III", content, end - 20)
            end -= max(size, 32) + (32 if flags >> 31 else 0)  # the size includes the footer
        else:
            return max(0, end)
        if end <= 0:
            return 0
