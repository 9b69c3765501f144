"""The deep checks: one package for each finding, and children that hang, eat or die."""

import json
import struct
import tempfile
import zlib
from collections.abc import Mapping
from typing import Any

import pytest

from mosis.packages.build import png
from mosis.packages.checks import Checks
from mosis.packages.findings import FINDINGS
from tests import forked_checks
from tests.client import Account, Client
from tests.forked_checks import ForkedChecks
from tests.package_builder import build_package, signing_key
from tests.packages.checks import media
from tests.packages.checks.cases_sounds import ODD, OGG_CASES, WAV_CASES

KEY = signing_key()
ROOM = 512 << 20
NOTES = "com.acme.notes"
AT = f"/v1/apps/{NOTES}/versions/1.0.0"


def findings(
    files: Mapping[str, bytes],
    manifest: Mapping[str, Any] | None = None,
    checks: Checks | None = None,
) -> list[dict[str, Any]]:
    """What the checks say of a good package with these files added."""
    forked_checks.start()
    with tempfile.TemporaryFile() as file:
        file.write(build_package(key=KEY, files=files, manifest=manifest))
        file.seek(0)
        return (checks or ForkedChecks(ROOM, 20)).run(file)


def codes_of(
    ending: str, sources: list[bytes], more: Mapping[str, bytes] | None = None
) -> list[list[str]]:
    """The codes of each of these files, all looked at in one package."""
    names = [f"assets/{number}.{ending}" for number in range(len(sources))]
    found = findings(dict(zip(names, sources, strict=True)) | dict(more or {}))
    return [[each["code"] for each in found if each["path"] == name] for name in names]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def image(width: int, height: int, pixels: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


JPEG = media.jpeg()
TABLES = media.font_tables()
WEBP = b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x0f\xc0\x03\x00" + bytes(9)
TGA = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 2, 2, 24, 0) + bytes(12)
PACKED_TGA = (
    struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 20, 10, 24, 0)
    + b"\xff\1\2\3\xc6\1\2\3"
    + b"\0\1\2\3"
)
MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(413)
GOOD_FONT = media.font(TABLES)
GOOD: dict[str, bytes] = {
    "assets/a.jpg": JPEG, "assets/a.webp": WEBP, "assets/a.tga": TGA, "assets/a.ttf": GOOD_FONT,
    "assets/a.ogg": OGG_CASES["plain"], "assets/a.wav": ODD,
    "assets/a.mp3": b"ID3\x04\x00\x00\x00\x00\x00\x05hello" * 2 + MP3_FRAME * 3, "assets/b.mp3": MP3_FRAME,
    "assets/one-bit.png": image(9, 2, b"\x00\xff\x80" * 2), "readme.md": "Grüße\n".encode(), "locales/de.json": b'{"add": "Neu"}',
    "assets/template.rml":
        b'<template name="t" content="c"><head><script src="main.lua"/></head><body>&amp;&#160;</body></template>',
    "assets/more.rcss":
        b'/* a */ @media (min-width: 10px) { a:hover > b { decorator: image("a.tga"); } }\n'
        b"@keyframes k { from { opacity: 0; } 100% { opacity: 1; } }\n"
        b"@spritesheet s { src: a.tga; one: 0px 0px 2px 2px; }",
    "assets/more.lua":
        b"\xef\xbb\xbflocal json, t = require('lib.json'), { os = 1, io = 2 }\n-- os.exit()\n"
        b"local s <const> = [[ io.open ]] .. 'debug'\nfunction t.load(x) return x.io end\n"
        b"return t:load('https://example.net/') .. json.a",
    "assets/lib/json.lua": b"return { a = 'https://example.net/a' }\n",
}  # fmt: skip

# Written the way that RmlUi's documentation does.
DOCUMENTED: dict[str, bytes] = {
    "assets/theme.tga": TGA,
    "assets/font.ttf": GOOD_FONT,
    "assets/window.rml": b'<template name="window" content="content">\n<head><link type="text/rcss" href="theme.rcss"/></head>\n'
    b'<body class="window"><handle move_target="#document"/><div id="content"/></body></template>',
    "assets/page.rml": b'<rml><head><link type="text/template" href="window.rml"/><title>Page</title>\n<style>\n'
    b"@spritesheet page { src: /assets/theme.tga; one: 0px 0px 2px 2px; }\n"
    b".box { box-shadow:\n #f00f 40px 30px 25px 0px,\n #333a 0px 0px 30px 15px inset\n ; }\n</style>\n"
    b"<script>\nPage = Page or {}\nfunction Page.go(event) return event.parameters['a'] >= 2 end\n</script></head>\n"
    b'<body template="window" data-model="page" onload="Page.go(event) Page.go(event)">\n'
    b'<p data-if="rating &gt; 50 &amp;&amp; rating &lt; 80" data-class-big="n >= 3">{{ rating | format(1) }} of {{ max }}</p>\n'
    b'<span data-for="pos, i : positions">{{ i }}: {{ pos.x }}<br/></span><img sprite="one"/><img src="{{ picture }}"/>\n'
    b'<progress data-attr-value="rating" max="100"/><button data-event-click="rating = 3; show(\'a\')">x</button></body></rml>',
    "assets/theme.rcss": b"@spritesheet theme\n{\n\tsrc: theme.tga;\n\tresolution: 2x;\n"
    b"\ticon-r: 10px 139px -10px 1px; /* mirrored */\n}\n"
    b'@decorator stars : image { src: theme.tga; }\n@font-face { font-family: "F"; src: font.ttf; font-weight: bold; }\n'
    b"@media (orientation: landscape) and (min-width: 640px), not (theme: dark) { body { color: #FFFFFFA0; } }\n"
    b"@keyframes spin { from, 50% { transform: rotate3d(1, -1, 0.3, 0deg); } to { transform: translate(1px, 2px); } }\n"
    b'div#title > h1.big:hover ~ p + a:nth-child(2n+1):not(.x)[href^="a"], * { --gap: 4dp; margin: var(--gap) auto -2px; }\n'
    b"a { decorator: tiled-box( a-tl, a-t, auto, b, c, d, e, f, g ),\n linear-gradient(110deg, #fff3, #fff 10%, #000); }\n"
    b"b { decorator: image( icon-r scale-none 70% 30% ); font-effect: glow( 2dp 4dp #ed5 ), shadow(1px 1px #000);\n"
    b"    animation: 3s spin infinite back-in-out; transition: top left 0.6s back-out, opacity 0.4s;; mask-image: none }\n",
}

# code: (severity, files, line). The package that earns it.
EARNED: dict[str, tuple[str, dict[str, bytes], int | None]] = {
    "rml_malformed": ("error", {"assets/a.rml": b"<rml>\n<p></rml>"}, 2),
    "rml_doctype": (
        "error",
        {"assets/a.rml": b'<!DOCTYPE rml [<!ENTITY a "b">]><rml>&a;</rml>'},
        1,
    ),
    "rml_entity": ("error", {"assets/a.rml": b"<rml>\n\n<!ENTITY a 'b'></rml>"}, 3),
    "rml_not_xml": ("warning", {"assets/a.rml": b"<rml>\n\n&nbsp;</rml>"}, 3),
    "rml_root": ("error", {"assets/a.rml": b"<html/>"}, 1),
    "rml_too_deep": (
        "error",
        {"assets/a.rml": b"<rml>" + b"<a>" * 250 + b"</a>" * 250 + b"</rml>"},
        1,
    ),
    "rcss_malformed": ("error", {"assets/a.rcss": b"a { color: red; }\nb { color red; }"}, 2),
    "lua_syntax": ("error", {"assets/a.lua": b"local a = 1\nlocal b = = 2"}, 2),
    "lua_bytecode": ("error", {"assets/a.lua": b"\x1bLuaT\x00\x19\x93\r\n\x1a\n"}, None),
    "json_malformed": ("error", {"locales/a.json": b'{"a": 1,\n "a": }'}, 2),
    "text_invalid": ("error", {"a.txt": b"\x7fELF\x02\x01\x01\x00"}, 1),
    "image_invalid": ("error", {"assets/a.jpg": b"MZ\x90\x00"}, None),
    "font_invalid": ("error", {"assets/a.ttf": media.font({b"cmap": TABLES[b"cmap"]})}, None),
    "sound_invalid": ("error", {"assets/a.ogg": OGG_CASES["only a picture"]}, None),
    "lua_dangerous": ("warning", {"assets/a.lua": b"local a\na = os.execute('ls')"}, 2),
    "lua_indirect": ("info", {"assets/a.lua": b"local e = _G['o' .. 's']"}, 1),
    "require_missing": ("warning", {"assets/a.lua": b"local s = require('socket')"}, 1),
    "reference_missing": ("warning", {"assets/a.rml": b'<rml>\n<img src="gone.png"/></rml>'}, 2),
    "long_line": ("info", {"a.txt": b"\n" + b"ab " * 1000}, 2),
    "base64_blob": ("info", {"a.txt": b"\n" + b"QUJD" * 101}, 2),
    "url_insecure": ("warning", {"assets/a.lua": b"local u = 'http://example.net/a'"}, 1),
    "url_private": ("warning", {"assets/a.lua": b"local u = 'https://192.168.1.1/a'"}, 1),
    "secret_found": ("warning", {"assets/a.lua": b"local k = 'AKIAABCDEFGHIJKLMNOP'"}, 1),
    "trailing_data": ("warning", {"assets/a.png": png(8) + b"PK\x03\x04"}, None),
    "sound_damaged": ("warning", {"assets/a.mp3": b"JUNK" * 9 + MP3_FRAME * 3}, None),
    "image_huge": (
        "warning",
        {"assets/a.png": image(8000, 8000, (b"\x00" + bytes(1000)) * 8000)},
        None,
    ),
    "permission_undeclared": ("warning", {"assets/a.lua": b"\nmosis.camera.open()"}, 2),
}


def test_a_package_of_every_kind_of_file_is_fine() -> None:
    assert findings(GOOD, checks=Checks(ROOM, 20)) == []


@pytest.mark.parametrize("code", EARNED)
def test_each_code_is_earned(code: str) -> None:
    severity, files, line = EARNED[code]
    found = {each["code"]: each for each in findings(files)}
    assert list(found) == [code]
    tier = 2 if severity == "error" else 3
    assert (found[code]["severity"], found[code]["tier"], found[code]["line"]) == (
        severity,
        tier,
        line,
    )
    assert found[code]["path"] == next(iter(files))


@pytest.mark.parametrize(("name", "content"), [
    ("a.png", png(8)[:-20]), ("a.png", image(8, 8, bytes(15))), ("a.png", image(0, 8, b"")),
    ("a.png", png(8).replace(b"IDAT", b"IDAX")), ("a.jpg", JPEG[:-2]), ("a.jpg", JPEG[:20]),
    ("a.jpg", media.SOI + media.TABLES + media.frame() + media.EOI),
    ("a.webp", WEBP[:12] + b"VP8X" + bytes(18)), ("b.tga", PACKED_TGA[:-1]),
    ("a.webp", WEBP[:20]), ("a.webp", JPEG),
    ("a.tga", TGA[:-1]), ("a.tga", bytes(40)), ("a.otf", GOOD_FONT[:-1]), ("a.ttf", b"wOFF" + GOOD_FONT[4:]),
    ("a.ttf", media.font(TABLES | {b"head": bytes(54)})), ("a.ogg", OGG_CASES["cut"]),
    ("a.wav", WAV_CASES["data longer than the file"]),
    ("a.mp3", b"ID3\x04\x00\x00\x00\x00\x00\x05hello"), ("a.mp3", MP3_FRAME + b"<?php no frame"), ("a.rcss", b"a { b: c; "),
    ("a.rcss", b"a { b: 'c; }"), ("a.rcss", b"a { b: c; } }"), ("a.rcss", b"{ b: c; }"), ("a.rcss", b"\xff"), ("a.rcss", b"/* a"),
    ("a.rcss", b"a { b: " + b"(" * 2000 + b")" * 2000), ("a.rcss", b"a { b: image(url(x y)); }"),
    ("a.rml", b""), ("a.rml", b"<rml><script>local = 1</script></rml>"),
    ("a.rml", b'<?xml version="1.0" encoding="utf-16"?><rml/>\xff'),
    ("a.lua", b"x = " + b"(" * 100_000), ("a.lua", b"goto nowhere"), ("a.json", b"[" * 100), ("a.json", b"NaN"),
])  # fmt: skip
def test_broken_files_block(name: str, content: bytes) -> None:
    found = findings({name: content})
    assert [each["severity"] for each in found[:1]] == ["error"]
    assert {each["path"] for each in found} == {name}


def test_scripts_in_documents_are_looked_at_too() -> None:
    source = (
        b'<rml><body onload="os.exit()">\n<script>\nmosis.microphone.on()\n</script></body></rml>'
    )
    found = {each["code"]: each["line"] for each in findings({"assets/a.rml": source})}
    assert found == {"lua_dangerous": 1, "permission_undeclared": 3}


def test_nothing_dangerous_hides_in_lua() -> None:
    sources = [
        b"_G.os.exit()", b"_G._G.os.exit()", b"x = 1. os.exit()", b'x = f"." os.exit()', b'x = f"function" os.exit()',
        b'x = "a\\z\n b" os.exit()', b'x = "a\\\r\nb" os.exit() y = "c"', b"-- a comment\ros.exit()",
        b"x = [==[ ]] ]==] .. os.time()",
        b"--[==[ ]] ]==] os.exit()", b"x = { a = os.exit }", b"require 'os'.exit()", b"local o = require('os')",
    ]  # fmt: skip
    assert codes_of("lua", sources, {"assets/os.lua": b"return 1"}) == [["lua_dangerous"]] * len(
        sources
    )


def test_indirect_access_is_reported() -> None:
    sources = [
        b"local g = _G", b"rawget(_G, 'o' .. 's')", b"local e = _ENV", b"local g = require('_G')",
        b"local m = mosis m.camera.open()",
        b"local m = require('mosis')", b"mosis['cam' .. 'era'].open()", b"f(mosis)",
    ]  # fmt: skip
    assert codes_of("lua", sources) == [["lua_indirect"]] * len(sources)


@pytest.mark.parametrize("source", [
    b"mosis.camera.open()", b"mosis['camera'].open()", b"_G.mosis.camera.open()", b"local c = require('mosis.camera')",
])  # fmt: skip
def test_a_permission_is_used_whichever_way_it_is_written(source: bytes) -> None:
    assert [each["code"] for each in findings({"assets/a.lua": source})] == [
        "permission_undeclared"
    ]


def test_lua_as_people_write_it_is_fine() -> None:
    sources = [
        b"local mosis = require('mosis')\nif mosis and mosis.storage then return 1 end",
        b"goto on\n::on::\nreturn 7 // 2 & ~1 << 3 >> 1",
        b"local t <const>, u <close> = { os = 1, load = 2 }, nil\nfunction t.load(x) return x.io, t.os end",
        b"return require 'lib.debug'",
        b"return '\\u{1F600}\\x41\\065\\z   \n  b', 0x1p-4, 1e+5, .5, 3.e2, 0xA.8p0", b"return (...), ...",
        b"local s = [=[ os ]=] -- io",
    ]  # fmt: skip
    assert codes_of("lua", sources, {"assets/lib/debug.lua": b"return 1"}) == [[]] * len(sources)


def test_what_devices_cannot_read_is_refused() -> None:
    """Devices take what is in a script as it stands, and processing instructions for elements."""
    sources = [
        b"<rml><?x > <script>os.exit()</script> ?></rml>", "<rml><p/></rml>".encode("utf-16"),
        b"<rml><script><![CDATA[x = 1]]></script></rml>",
    ]  # fmt: skip
    assert codes_of("rml", sources) == [["rml_malformed"]] * len(sources)


@pytest.mark.parametrize(("source", "line"), [
    (b"<rml><SCRIPT>os.exit()</SCRIPT></rml>", 1), (b"<rml><body ONLOAD='os.exit()'/></rml>", 1),
    (b"<rml><body onload='x = a&quot; os.exit() --&quot;'/></rml>", 1),
    (b'<rml><p onclick="f(&quot;a&quot;, os.time())"/></rml>', 1),
    (b"\xef\xbb\xbf<rml>\n<script a='>'\nb='1'>\nos.exit()</script></rml>", 4),
    (b"<rml><script>--<!--\nos.exit()\n--></script></rml>", 2), (b"<rml><script>--<b a='\nos.exit()--'/></script></rml>", 2),
    (b"<rml><script>x = a&quot;\nos.exit() --&quot;\n</script></rml>", 2),
    (b'<rml><body onload="o&#x73;.exit()"/></rml>', 1), (b'<rml><body onload="o&#x110000;s.exit()"/></rml>', 1),
    (b"<rml>\n<![CDATA[<p onclick='os.exit()'/>]]></rml>", 2),
    (b"<rml><![CDATA[<p on]]><!-- a --><![CDATA[click='os.exit()'/>]]></rml>", 1),
    (b"<rml><p t='{{'/><SCRIPT>os.exit()</ script ></rml>", 1), (b"<rml/>\n<script>os.exit()</script>", 2),
    (b"<?xml > \n<rml><script>os.exit()</script></rml>", 2), (b"<rml><p>{{ '<' < '>' }}</p>\n<p onclick=os.exit() /></rml>", 2),
    (b"<rml>\n<script>if 1 < 2 then os.exit() end</script></rml>", 2), (b"<rml><p onclick='x()' onclick='os.exit()'/></rml>", 1),
    (b"<rml>< !-- a -->\n< script>os.exit()< /script></rml>", 2), (b"<rml>\n<svg><script>os.exit()</script></svg></rml>", 2),
    (b"<rml><svg>\n<!-- </svg>\n<script>os.exit()</script> --><p></svg></p></rml>", 3),
    (b"<template><!-- \n<head><script>os.exit()</script></head> --><head></head><body></body></template>", 2),
    (b"<rml><!-- <template> <body onload='os.exit()'> --></rml>", 1),
])  # fmt: skip
def test_scripts_are_found_as_devices_find_them(source: bytes, line: int) -> None:
    found = findings({"assets/a.rml": source})
    assert ("lua_dangerous", line) in [(each["code"], each["line"]) for each in found]


def test_styles_in_documents_are_style_sheets() -> None:
    source = b"<rml><head>\n<style>\na > b { c: d; }\nb { c d; }\n</style></head></rml>"
    assert [(each["code"], each["line"]) for each in findings({"assets/a.rml": source})] == [
        ("rcss_malformed", 4)
    ]


@pytest.mark.parametrize("source", [
    b'<rml><p data-if="a < 3"/></rml>', b'<rml><p data-if="a && b"/></rml>', b"<rml><input autofocus/></rml>",
])  # fmt: skip
def test_what_is_not_xml_is_a_warning(source: bytes) -> None:
    (found,) = findings({"assets/a.rml": source})
    assert (found["code"], found["severity"], found["tier"]) == ("rml_not_xml", "warning", 3)


def test_rml_and_rcss_as_their_documentation_writes_them_are_fine() -> None:
    assert findings(DOCUMENTED) == []


def test_files_that_a_style_sheet_names_must_be_there() -> None:
    sources = [
        b"@spritesheet s { src: gone.tga; resolution: 2x; a: 0px 0px 1px 1px; }",
        b"a { decorator: image( gone.tga scale-none 70% 30% ); }",
        b'a { decorator: image("gone.tga"); }', b"a { b: url(gone.tga); }", b"@decorator d : image { src: gone.tga; }",
        b"a { decorator: tiled-horizontal( a-l, gone.tga, auto ); }",
    ]  # fmt: skip
    assert codes_of("rcss", sources) == [["reference_missing"]] * len(sources)


@pytest.mark.parametrize(("name", "content"), [
    ("a.png", png(8)), ("a.jpg", JPEG), ("a.webp", WEBP), ("a.tga", TGA), ("b.tga", PACKED_TGA),
])  # fmt: skip
def test_what_follows_an_image_is_seen(name: str, content: bytes) -> None:
    for more in (
        b"PK\x03\x04",
        b"PK\x03\x04" + content[-2:],
    ):  # what looks like an end does not hide it
        assert [each["code"] for each in findings({name: content + more})] == ["trailing_data"]


def test_a_code_is_shown_five_times_a_file_and_hides_no_other() -> None:
    text = (
        b"".join(b"http://%d.example.net\n" % number for number in range(9)) + b"https://10.0.0.1"
    )
    assert [each["code"] for each in findings({"a.txt": text})] == ["url_insecure"] * 5 + [
        "url_private"
    ]


@pytest.mark.parametrize("text", [b"'http://' .. host", b"file:///etc/passwd"])
def test_an_address_without_a_host_is_one(text: bytes) -> None:
    assert [each["code"] for each in findings({"a.txt": text})] == ["url_insecure"]


@pytest.mark.parametrize("host", [
    "localhost", "127.0.0.1", "127.1", "10.0.1", "0177.0.0.1", "2130706433", "0x7f000001", "[::1]:80", "10.0.0.1", "nas.local",
    "u@10.1.1.1:8",
])  # fmt: skip
def test_private_addresses_are_seen_through(host: str) -> None:
    found = findings({"a.txt": f"https://{host}/x".encode()})
    assert [each["code"] for each in found] == ["url_private"]


def test_a_permission_that_nothing_uses() -> None:
    found = findings({}, {"permissions": ["storage", "network", "contacts"]})
    assert [(each["code"], each["severity"]) for each in found] == [
        ("permission_unused", "warning"),
        ("permission_unused", "info"),
    ]


def test_what_blocks_comes_first_and_the_number_is_bounded() -> None:
    many = {
        f"assets/{number}.lua": b"os.exit() io.open() debug.x() load() dofile()"
        for number in range(100)
    }
    found = findings(many | {"z.txt": b"\xff"})
    assert (len(found), found[0]["code"]) == (200, "text_invalid")


def test_secrets_are_not_repeated() -> None:
    found = findings({"a.txt": b"ghp_" + b"abcdefghij" * 4})
    assert "abcdefghij" not in json.dumps(found)


def test_a_child_that_computes_for_ever_is_a_finding() -> None:
    slow = {"assets/slow.rcss": b"a { b: c; }\n" * 200_000}
    # Forked, because on a busy machine a Python that starts takes its second for the imports.
    found = findings(slow, checks=ForkedChecks(4 << 30, 1))
    assert (found[0]["code"], found[0]["severity"], found[0]["path"]) == (
        "check_timeout",
        "error",
        "assets/slow.rcss",
    )


def test_a_child_that_eats_memory_is_a_finding() -> None:
    hungry = {"assets/hungry.rcss": b"a { b: c; }\n" * 100_000}
    found = findings(hungry, checks=Checks(128 << 20, 60))
    assert (found[0]["code"], found[0]["path"]) == ("check_memory", "assets/hungry.rcss")


def test_every_code_of_the_deep_checks_has_its_test() -> None:
    elsewhere = {
        "permission_unused",
        "permission_new",
        "first_app",
        "look_alike",
        "check_timeout",
        "check_memory",
        "check_crashed",
    }
    codes = list(FINDINGS)
    assert set(EARNED) | elsewhere == set(codes[codes.index("rml_malformed") :])


def test_what_blocks_makes_a_version_fail(client: Client, alice: Account) -> None:
    broken = client.package(
        alice,
        files={"assets/main.lua": b"local = 1", "assets/b.lua": b"mosis.storage.get(os.time())"},
    )
    client.upload(NOTES, broken, as_=alice, query="?submit=true").expect(201)
    client.work()
    shown = client.get(AT, as_=alice)
    assert (shown["state"], shown["review"]) == ("failed", None)
    assert [each["code"] for each in shown["findings"]] == [
        "lua_syntax",
        "lua_dangerous",
        "first_app",
    ]
    assert set(shown["findings"][0]) == {
        "tier",
        "severity",
        "code",
        "path",
        "line",
        "pointer",
        "detail",
    }
    client.upload(NOTES, client.package(alice), as_=alice).expect(
        201
    )  # the version string is free again


def test_new_permissions_since_the_last_published_version_are_reported(
    client: Client, alice: Account
) -> None:
    client.published(alice, NOTES)
    more = {"permissions": ["storage", "camera", "network"]}
    use = {"assets/more.lua": b"mosis.camera.open() mosis.http.get()"}
    client.upload(
        NOTES, client.package(alice, version="1.1.0", code=2, manifest=more, files=use), as_=alice
    ).expect(201)
    client.work()
    found = client.get(f"/v1/apps/{NOTES}/versions/1.1.0", as_=alice)["findings"]
    assert [(each["code"], each["severity"]) for each in found] == [
        ("permission_new", "warning"),
        ("permission_new", "info"),
    ]
    assert "camera" in found[0]["detail"]
