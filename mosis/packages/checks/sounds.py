"""Sounds must have the format of their name: Ogg (RFC 3533) as libogg and libvorbis read it, WAV as
libsndfile and SoX do, MP3 (mp3.py)."""

import struct
import zlib
from collections.abc import Iterator

from mosis.packages.checks import mp3
from mosis.packages.checks.kinds import Broken, Contents, error, warning, why_broken
from mosis.packages.findings import Finding

_CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
_REVERSED = bytes(int(f"{each:08b}"[::-1], 2) for each in range(256))
_UNKNOWN_SIZE = 0x7FFFF000  # written by SoX into a pipe; others write 0xFFFFFFFF
_EXTENSIBLE, _PCM, _FLOAT = 0xFFFE, 1, 3
# Format tags of the WAVE registry (RFC 2361) that SoX or libsndfile read: PCM, ADPCM, float, A-law, mu-law, IMA, G.721, GSM, MP3
_WAVE_FORMATS = {_PCM, 2, _FLOAT, 6, 7, 0x11, 0x31, 0x40, 0x45, 0x55, _EXTENSIBLE}
# of WAVE_FORMAT_EXTENSIBLE, after its format tag
_SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with a sound."""
    ending = path.rpartition(".")[2].lower()
    try:
        after, damaged = {"ogg": _ogg, "wav": _wav, "mp3": mp3.read}[ending](content)
    except (Broken, struct.error, IndexError) as trouble:
        own = {"ogg": "an Ogg file", "wav": "WAV sound", "mp3": "MP3 sound"}[ending]
        why = why_broken(trouble, content, (own,))
        yield error(
            "sound_invalid", f"This is no {ending.upper()} sound: {why}. Save it again.", path
        )
        return
    if after:
        detail = f"{after} bytes of this file are no part of its sound; save it without them."
        yield warning("trailing_data", detail, path)
    if damaged:
        detail = (
            f"Players skip {damaged} bytes of this sound, which are damaged or none; save it again."
        )
        yield warning("sound_damaged", detail, path)


def _ogg(content: bytes) -> tuple[int, int]:
    """Pages of streams, one of audio at least; data between pages is skipped, as by libogg."""
    at = damaged = 0
    sound = False
    while at < len(content):
        if content[at : at + 5] != b"OggS\x00":
            later = content.find(b"OggS\x00", at + 1)
            if later < 0:
                if not sound:
                    break
                return len(content) - at, damaged
            at, damaged = later, damaged + later - at
            continue
        count = content[at + 26]
        start = at + 27 + count
        end = start + sum(content[at + 27 : start])
        if start > len(content) or end > len(content):
            raise Broken("its last page is cut off")
        if content[at + 5] & 2 and content.startswith(_CODECS, start):
            sound = True
        if not _has_checksum(content[at:end]):
            damaged += end - at
        at = end
    if not sound:
        raise Broken("it holds no stream of Vorbis, Opus, FLAC or Speex")
    return 0, damaged


def _has_checksum(page: bytes) -> bool:
    """Whether a page's checksum is correct: a CRC-32 of reversed bits without complements."""
    plain = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    crc = zlib.crc32(plain, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2) == int.from_bytes(page[22:26], "little")


def _wav(content: bytes) -> tuple[int, int]:
    """RIFF with a format chunk followed by data. A data size of 0 or nearly all bits set, as
    written into a pipe, means up to the end."""
    riff, size, kind = struct.unpack_from("<4sI4s", content)
    if riff in (b"RF64", b"BW64", b"RIFX"):
        detail = f"it is {riff.decode()}, which players for phones do not read; save it as RIFF"
        raise Broken(detail)
    if riff != b"RIFF" or kind != b"WAVE":
        raise Broken("it does not have the header of one")
    at, found = 12, False
    end = size + 8 if 12 < size + 8 <= len(content) else len(content)
    while at + 8 <= end:
        chunk, length = struct.unpack_from("<4sI", content, at)
        at += 8
        if chunk == b"data":
            if not found:
                raise Broken("its data comes before its format (fmt)")
            if length >= _UNKNOWN_SIZE or (length == 0 and size in (0, 36, 0xFFFFFFFF)):
                return 0, 0
            if at + length > len(content):
                raise Broken("its data is longer than the file")
            return _after_data(content, at + length + length % 2, end), 0
        if at + length > len(content):
            raise Broken("a chunk is longer than the file")
        if chunk == b"fmt ":
            _wave_format(content[at : at + length])
            found = True
        at += length + length % 2
    raise Broken("its format (fmt) or its data is missing")


def _after_data(content: bytes, at: int, end: int) -> int:
    """The number of bytes after the data that belong to no chunk."""
    while at + 8 <= end:
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        if at + 8 + length > len(content) or not content[at : at + 4].isascii():
            break
        at += 8 + length + length % 2
    return max(0, len(content) - at)


def _wave_format(body: bytes) -> None:
    tag, channels, hertz, _, block, bits = struct.unpack_from("<HHIIHH", body)
    if tag not in _WAVE_FORMATS:
        raise Broken(f"its format (0x{tag:04X}) is one that players do not know; save it as PCM")
    if not channels or not hertz or not block:
        raise Broken("its number of channels, rate or size of a sample is 0")
    if tag == _EXTENSIBLE:
        if len(body) < 40 or body[26:40] != _SUBFORMAT:
            raise Broken("its extensible format is damaged")
        (tag,) = struct.unpack_from("<H", body, 24)
    if tag in (_PCM, _FLOAT) and bits not in ((8, 12, 16, 20, 24, 32) if tag == _PCM else (32, 64)):
        raise Broken(f"it has {bits} bits per sample; save it with 16")
