"""What a file is, by its first bytes: for findings about files that are not what their names say."""

import re

# The beginning of a file, and what such a file is (signatures of the formats' own specifications).
_FORMATS: tuple[tuple[bytes, str], ...] = (
    (rb"\Z", "an empty file"),
    (rb"version https://git-lfs", "a pointer of Git LFS; run `git lfs pull`"),
    (rb"\x89PNG\n", "a PNG image whose line ends were changed; transfer it as binary"),
    (rb"\x89PNG\r\n\x1a\n", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8[79]a", "a GIF image"),
    (rb"RIFF[\s\S]{4}WEBP", "a WebP image"),
    (rb"BM[\s\S]{12}[\x0c\x28\x34\x38\x6c\x7c]\0\0\0", "a BMP image"),
    (rb"\x00\x00\x01\x00[\x01-\xff]\0", "an ICO image"),
    (rb"II\x2a\0|MM\0\x2a", "a TIFF image"),
    (rb"DDS ", "a DDS texture"),
    (rb"8BPS", "a Photoshop file"),
    (rb"[\s\S]{4}ftyp(?:heic|heix|mif1|msf1|avif)", "a HEIF or AVIF image"),
    (rb"[\s\S]{4}ftyp", "an MP4 or M4A file"),
    (rb"RIFF[\s\S]{4}WAVE", "a WAV sound"),
    (rb"OggS\0", "an Ogg file"),
    (rb"fLaC", "a FLAC sound"),
    (rb"ID3[\x02-\x04]|\xff[\xfa\xfb\xf2\xf3\xe2\xe3]", "an MP3 sound"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "an AAC sound"),
    (rb"FORM[\s\S]{4}AIF", "an AIFF sound"),
    (rb"MThd", "a MIDI file"),
    (rb"wOFF", "a WOFF font"),
    (rb"wOF2", "a WOFF2 font"),
    (rb"\x00\x01\x00\x00\x00[\x04-\x40]|true\0|OTTO\0", "a TrueType or OpenType font"),
    (rb"%!PS-AdobeFont|\x80\x01", "a Type 1 font"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (rb"Rar!\x1a\x07", "a RAR archive"),
    (rb"\xfd7zXZ\0", "an xz file"),
    (rb"\x28\xb5\x2f\xfd", "a zstd file"),
    (rb"BZh[1-9]", "a bzip2 file"),
    (rb"[\s\S]{257}ustar", "a tar archive"),
    (rb"%PDF-", "a PDF document"),
    (rb"\x7fELF|MZ[\s\S]{58}", "a program"),
    (rb"UEsDB", "the base64 of a ZIP archive; send the archive itself"),
    (rb"(?i)\s*(?:<!doctype html|<html)", "an HTML page, perhaps an error page in place of a download"),
    (rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--[\s\S]*?-->\s*)?<svg", "an SVG image"),
    (rb"\s*[{\[]", "JSON"),
    (rb"\xff\xfe|\xfe\xff", "a text in UTF-16"),
)  # fmt: skip
HEAD_BYTES = 512  # that are looked at


def format_of(content: bytes) -> str | None:
    """What a file is, with its article; None for anything that is not known."""
    head = content[:HEAD_BYTES]
    return next((name for mark, name in _FORMATS if re.match(mark, head)), None)
