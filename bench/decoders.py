"""Compares the checks of images, sounds and fonts with the decoders that are installed, over files with one fault each.

    python -m bench.decoders

Decoders: pngtopam (libpng), djpeg (libjpeg), dwebp, mpg123, lame, oggdec (libvorbis; its files are made by oggenc), sox and
libfreetype; in Debian: netpbm libjpeg-turbo-progs webp mpg123 lame vorbis-tools sox libfreetype6. Those that are missing are left
out. Where the checks are stricter or more lenient on purpose, KNOWN says why; any other difference ends with 1.
"""

import ctypes
import ctypes.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mosis.packages.checks.inspection import KINDS
from mosis.packages.checks.kinds import Contents
from tests.packages.checks import cases_jpeg, cases_png, cases_sounds, cases_webp_tga, media

# (ending, name): why the checks differ from a decoder
CUT = "a decoder makes up what is cut off; the checks refuse it"
OTHER = "another decoder of the same kind refuses it (stb_image, mpg123 or LAME, libsndfile)"
KNOWN = {
    ("jpg", "no-eoi"): CUT, ("jpg", "garbage-after-sof"): OTHER, ("jpg", "no-dht"): OTHER, ("jpg", "no-ac"): OTHER,
    ("jpg", "no-dc"): OTHER, ("jpg", "arith"): OTHER, ("jpg", "dac"): OTHER, ("jpg", "sos-ss1"): OTHER, ("jpg", "sos-ah"): OTHER,
    ("jpg", "tem"): OTHER, ("jpg", "rst-before"): OTHER, ("jpg", "com-1"): OTHER,
    ("png", "trns-gray-bad"): OTHER, ("png", "trns-late"): OTHER, ("png", "trns-alpha"): OTHER, ("png", "trns-pal-long"): OTHER,
    ("png", "trns-pal-first"): OTHER, ("png", "plte-gray-bad"): OTHER, ("png", "plte-rgb-bad"): OTHER,
    ("webp", "anim"): "dwebp decodes no animations; libwebpdemux does", ("webp", "anim2"): "as anim",
    ("mp3", "one frame and text"): "after one frame there is only text", ("mp3", "tag with a wrong size"): "LAME refuses, mpg123 plays it",
    ("mp3", "many zeros"): "mpg123 gives up after 64 KiB, LAME plays it",
    ("ogg", "cut"): CUT, ("ogg", "Opus"): "libvorbis knows no Opus; libsndfile and FFmpeg read it in Ogg",
    ("wav", "data longer than the file"): CUT, ("wav", "no block"): OTHER,
    ("ttf", "without cmap"): "FreeType opens it, but no text can be shown", ("ttf", "without maxp"): "FreeType opens it, but has no glyphs",
    ("ttf", "without glyf"): "FreeType opens it, but has no glyphs",
}  # fmt: skip


def _runs(*command: str, fine: tuple[int, ...] = (0,)) -> Callable[[Path], bool]:
    """A decoder that is a program: whether it reads a file. `{}` stands for the file."""

    def reads(path: Path) -> bool:
        line = [str(path) if each == "{}" else each for each in command]
        return subprocess.run(line, capture_output=True, timeout=60).returncode in fine

    return reads


def _freetype(path: Path) -> bool:
    library = ctypes.CDLL(ctypes.util.find_library("freetype") or "")
    content = path.read_bytes()
    handle, face = ctypes.c_void_p(), ctypes.c_void_p()
    library.FT_Init_FreeType(ctypes.byref(handle))
    size = ctypes.c_long(len(content))
    failed = library.FT_New_Memory_Face(handle, content, size, ctypes.c_long(0), ctypes.byref(face))
    library.FT_Done_FreeType(handle)
    return not failed


DECODERS: dict[str, list[tuple[str, Callable[[Path], bool]]]] = {
    "png": [("pngtopam", _runs("pngtopam", "{}"))],
    "jpg": [("djpeg", _runs("djpeg", "{}", fine=(0, 2)))],  # 2: with warnings
    "webp": [("dwebp", _runs("dwebp", "-quiet", "{}", "-o", "/dev/null"))],
    "mp3": [
        ("mpg123", _runs("mpg123", "-q", "-t", "{}")),
        ("lame", _runs("lame", "--quiet", "--decode", "{}", "/dev/null")),
    ],
    "ogg": [("oggdec", _runs("oggdec", "-Q", "-o", "/dev/null", "{}"))],
    "wav": [("sox", _runs("sox", "-V1", "{}", "-n", "stat"))],
    "ttf": [("freetype", _freetype)],
}


def _ogg_files() -> dict[str, bytes]:
    """Real Vorbis and Opus, with faults around their pages."""
    if not shutil.which("oggenc"):
        return {}
    sound = media.riff(b"WAVE", cases_sounds.form(), (b"data", bytes(8000)))
    found = {
        name: subprocess.run(
            ["oggenc", "-Q", *more, "-"], input=sound, capture_output=True, check=True
        ).stdout
        for name, more in {
            "plain": (),
            "skeleton": ("-k",),
            "comment": ("-c", "A=" + "b" * 99_000),
        }.items()
    }
    plain = found["plain"]
    found |= {
        "chained": plain * 2, "junk before": b"J" * 500 + plain, "tag before": cases_sounds.ID3 + plain, "zip": plain + b"PK\3\4" * 99,
        "cut": plain[:-3], "nothing": b"", "version": plain[:4] + b"\1" + plain[5:], "WAV": sound,
    }  # fmt: skip
    if shutil.which("opusenc"):
        command = ["opusenc", "--quiet", "-", "-"]
        found["Opus"] = subprocess.run(command, input=sound, capture_output=True, check=True).stdout
    return found


def _fonts() -> dict[str, bytes]:
    tables = media.font_tables()
    found = {
        f"without {tag.decode()}": {k: v for k, v in tables.items() if k != tag} for tag in tables
    }
    return {name: media.font(each) for name, each in found.items()} | {
        "plain": media.font(tables), "OTTO": media.font(tables, b"OTTO"), "no units": media.font(tables | {b"head": bytes(54)}),
        "collection": b"ttcf\0\1\0\0\0\0\0\1\0\0\0\x10" + media.font(tables, at=16), "cut": media.font(tables)[:100],
    }  # fmt: skip


def files() -> Iterator[tuple[str, Mapping[str, bytes]]]:
    """Endings and their files."""
    shapes = {
        f"{colour} {depth} {interlace}": media.png(depth, colour, interlace)
        for colour in range(8) if colour in media.CHANNELS
        for depth in (1, 2, 4, 8, 16)
        for interlace in (0, 1)
    }  # fmt: skip
    yield "png", cases_png.PNG_CASES | shapes
    yield "jpg", cases_jpeg.JPEG_CASES
    yield "webp", cases_webp_tga.WEBP_CASES
    yield "mp3", cases_sounds.MP3_CASES
    yield "ogg", _ogg_files()
    yield "wav", cases_sounds.WAV_CASES
    yield "ttf", _fonts()


def _is_installed(name: str) -> bool:
    return bool(ctypes.util.find_library(name) if name == "freetype" else shutil.which(name))


def campaign(folder: Path) -> dict[str, Any]:
    """Figures for each ending: files, those on which all agree, and each difference."""
    figures: dict[str, Any] = {}
    for ending, cases in files():
        decoders = [(name, reads) for name, reads in DECODERS[ending] if _is_installed(name)]
        if not decoders:
            continue
        row: dict[str, Any] = {
            "decoders": [name for name, _ in decoders],
            "files": 0,
            "agree": 0,
            "known": {},
            "unknown": {},
        }
        for name, content in cases.items():
            path = folder / f"a.{ending}"
            path.write_bytes(content)
            found = KINDS[ending](path.name, content, Contents(frozenset(), {}))
            ours = not any(each.severity == "error" for each in found)
            theirs = {decoder: reads(path) for decoder, reads in decoders}
            row["files"] += 1
            if ours == all(theirs.values()):
                row["agree"] += 1
            elif (ending, name) in KNOWN:
                row["known"][name] = KNOWN[ending, name]
            else:
                row["unknown"][name] = {"checks": ours} | theirs
        figures[ending] = row
    return figures


def main() -> int:
    """Print the figures; 1 when there is a difference that KNOWN does not explain."""
    with tempfile.TemporaryDirectory(prefix="decoders-") as folder:
        figures = campaign(Path(folder))
    json.dump(figures, sys.stdout, indent=1)
    print()
    return 1 if any(row["unknown"] for row in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
