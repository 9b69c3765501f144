"""Images, sounds and fonts as their decoders judge them: what decoders read is no error, what they refuse is one."""

import time

import pytest

from mosis.packages.checks.inspection import KINDS
from mosis.packages.checks.kinds import Contents
from mosis.packages.findings import Finding
from tests.packages.checks import cases_jpeg, cases_png, cases_sounds, cases_webp_tga, media
from tests.packages.checks.media import font, font_tables

DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
TABLES = font_tables()
# ending: its cases, and the names of those that are refused, have surplus bytes, are damaged
ALL = {
    "png": (cases_png.PNG_CASES, cases_png.BROKEN_PNG, cases_png.SPARE_PNG, ()),
    "jpg": (cases_jpeg.JPEG_CASES, cases_jpeg.BROKEN_JPG, cases_jpeg.SPARE_JPG, ()),
    "webp": (cases_webp_tga.WEBP_CASES, cases_webp_tga.BROKEN_WEBP, cases_webp_tga.SPARE_WEBP, ()),
    "tga": (cases_webp_tga.TGA_CASES, cases_webp_tga.BROKEN_TGA, cases_webp_tga.SPARE_TGA, ()),
    "mp3": (cases_sounds.MP3_CASES, cases_sounds.BROKEN_MP3, cases_sounds.SPARE_MP3, cases_sounds.DAMAGED_MP3),
    "ogg": (cases_sounds.OGG_CASES, cases_sounds.BROKEN_OGG, cases_sounds.SPARE_OGG, cases_sounds.DAMAGED_OGG),
    "wav": (cases_sounds.WAV_CASES, cases_sounds.BROKEN_WAV, cases_sounds.SPARE_WAV, ()),
}  # fmt: skip


def check(ending: str, content: bytes) -> list[Finding]:
    return list(KINDS[ending](f"assets/a.{ending}", content, Contents(frozenset(), {})))


@pytest.mark.parametrize(
    ("ending", "name"), [(ending, name) for ending in ALL for name in ALL[ending][0]]
)
def test_a_file_is_judged_as_its_decoders_judge_it(ending: str, name: str) -> None:
    cases, broken, spare, damaged = ALL[ending]
    found = check(ending, cases[name])
    if name in broken:
        assert [(each.severity, each.tier) for each in found] == [("error", 2)]
        assert found[0].code in ("image_invalid", "sound_invalid")
    else:
        expected = ["trailing_data"] * (name in spare) + ["sound_damaged"] * (name in damaged)
        assert [each.code for each in found] == expected


@pytest.mark.parametrize("colour", DEPTHS)
def test_every_png_of_the_specification_is_fine(colour: int) -> None:
    for depth in DEPTHS[colour]:
        for interlace in (0, 1):
            for width, height in ((1, 1), (5, 3), (9, 9), (1, 8)):
                assert check("png", media.png(depth, colour, interlace, width, height)) == []


def test_every_png_beside_the_specification_is_refused() -> None:
    for colour in range(8):
        for depth in set(range(18)) - set(DEPTHS.get(colour, ())):
            image = (
                media.PNG
                + media.ihdr(1, 1, depth, colour)
                + media.idat(bytes(99))
                + media.chunk(b"IEND")
            )
            assert [each.code for each in check("png", image)] == ["image_invalid"]


def test_a_png_that_unpacks_to_far_more_is_not_unpacked_to_its_end() -> None:
    image = (
        media.PNG
        + media.ihdr()
        + media.idat(media.pixels() + bytes(50 << 20))
        + media.chunk(b"IEND")
    )
    (found,) = check("png", image)
    assert found.code == "trailing_data"


@pytest.mark.parametrize("kind", range(13))
def test_tga_images_are_those_of_stb_image(kind: int) -> None:
    for bits in (1, 8, 15, 16, 24, 32):
        for map_bits in (0, 8, 15, 16, 24, 32):
            if map_bits:
                fine = kind in (1, 9) and bits in (8, 16)
            else:
                fine = kind in (2, 3, 10, 11) and bits != 1
            found = check("tga", media.tga(kind, bits, map_bits=map_bits))
            assert [each.code for each in found] == ([] if fine else ["image_invalid"])


def test_fonts_that_freetype_opens_are_fine() -> None:
    whole = font(TABLES)
    assert check("ttf", whole) == []
    assert check("ttf", font(dict(reversed(TABLES.items())), b"true")) == []
    assert (
        check(
            "otf",
            font(
                {
                    **{k: v for k, v in TABLES.items() if k not in (b"glyf", b"loca")},
                    b"CFF ": b"\1\0\4\1",
                },
                b"OTTO",
            ),
        )
        == []
    )
    assert (
        check("ttf", font(TABLES | {b"DSIG": bytes(99)})[:-90]) == []
    )  # FreeType leaves out what is cut off
    collection = b"ttcf\0\1\0\0\0\0\0\1\0\0\0\x10"
    assert check("ttf", collection + font(TABLES, at=16)) == []


@pytest.mark.parametrize("tag", TABLES)
def test_a_font_without_a_table_is_refused(tag: bytes) -> None:
    (found,) = check("ttf", font({name: each for name, each in TABLES.items() if name != tag}))
    assert (found.code, found.severity) == ("font_invalid", "error")


@pytest.mark.parametrize("content", [
    b"", b"\0\1\0\0", font(TABLES)[:100], font(TABLES, b"OTTO"), font(TABLES, b"wOFF"),
    b"ttcf\0\1\0\0\0\0\0\0", b"ttcf\0\1\0\0" + b"\xff" * 4,
    b"ttcf\0\1\0\0\0\0\0\1\0\0\xff\0" + font(TABLES, at=16), font(TABLES | {b"head": TABLES[b"head"][:18] + bytes(36)}),
    font(TABLES | {b"maxp": bytes(32)}), font(TABLES | {b"head": bytes(54)}),
])  # fmt: skip
def test_fonts_that_freetype_cannot_open_are_refused(content: bytes) -> None:
    assert [each.code for each in check("ttf", content)] == ["font_invalid"]


@pytest.mark.parametrize("content", [
    b"\xff\xfb\x90\0" * 500_000, (cases_sounds.FRAME * 2 + b"xx") * 3000, b"\xff\xfb\0\0" * 500_000, b"ID3\3" + bytes(6) * 300_000,
    cases_sounds.SONG + cases_sounds.APE * 50_000, cases_sounds.SONG + (b"APETAGEX" + bytes(24)) * 50_000,
])  # fmt: skip
def test_reading_an_mp3_takes_linear_time(content: bytes) -> None:
    begun = time.process_time()
    check("mp3", content)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("content", [
    media.SOI + b"\xff" * 2_000_000, media.jpeg()[:-2] + b"\xff" * 2_000_000, media.SOI + media.segment(0xFE, b"") * 200_000,
])  # fmt: skip
def test_reading_a_jpeg_takes_linear_time(content: bytes) -> None:
    begun = time.process_time()
    assert [each.code for each in check("jpg", content)] == ["image_invalid"]
    assert time.process_time() - begun < 5
