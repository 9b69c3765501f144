"""Fuzzes the readers of packages, manifests and files; every result other than a clean answer is reported.

    python -m bench.fuzz --seconds 600 --seed 7

A clean answer is a Package or the findings, within five seconds. A package that is accepted must hold the same files for every
other ZIP reader on this machine (bench/readers says which, and how to install them). A find is written to a file named after the
seed, to reproduce it. With --plant text a reader is made to fail on a certain byte, with --plant archive the checks of extra
fields and stray records are switched off: the fuzzer must find either.
"""

import argparse
import json
import random
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.fuzz_archives import Archives
from bench.readers import Readers
from mosis import packages
from mosis.errors import Invalid
from mosis.packages import manifest as manifests
from mosis.packages import zip_records
from mosis.packages.archive import Unreadable
from mosis.packages.build import png, signed, zipped
from mosis.packages.checks.inspection import KINDS, look_into
from mosis.packages.checks.kinds import Contents
from mosis.packages.signature import read_digests, read_signature
from tests.package_builder import SigningKey, build_package, files_of, manifest_of
from tests.packages.checks import media
from tests.packages.checks.cases_sounds import MP3_CASES, OGG_CASES, WAV_CASES

LONGEST_SECONDS = 5.0  # one input, on a busy machine
KEY = SigningKey(
    Ed25519PrivateKey.from_private_bytes(b"fuzz" * 8)
)  # the same inputs for the same seed
WEIGHTS = [
    1,
    3,
    1,
    1,
    1,
    1,
]  # of the kinds of input below; packages in the forms of other writers count most
TOKENS = [
    b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"\x00" * 4, b"\xff" * 4, b"../", b"..\\", b"\x00", b"/",
    b"META-INF/", b"manifest.json", b"\xe2\x80\xae", b"\xc3\x28", b"<!DOCTYPE a [", b"<![CDATA[", b"]]>", b"&#x110000;", b"&a;",
    b"/*", b"*/", b"{", b"}", b"(", b")", b"@media", b"url(", b"\\", b"'", b'"', b"--[[", b"]]", b"goto", b"function", b"end",
    b"\x1bLua", b"1e999", b"\r", b"\\z\n", b"_G.", b"<style>", b"</style>", b"<script>", b"<?x ", b"@import ",
    b"\xff\xd9", b"TRUEVISION-XFILE.\x00", b"NaN", b"\\ud800", b"IHDR", b"IDAT", b"IEND", b"OggS", b"RIFF", b"ID3", b"\xff\xd8",
    b"\xff\xda",
]  # fmt: skip
STRANGE: list[Any] = [
    None, True, False, 0, -1, 2**31, 10**30, 1.5, "", " ", "a" * 70_000, "\x00", "\ud800", "../x", "com.acme.notes", "1.0.0",
    "é", "e\u0301", [], {}, [[]], [None], {"": {}}, ["storage", "storage"], {"32": 1}, ["\ud800"], {"a" * 300: 1}, [{}] * 50,
]  # fmt: skip
SAMPLES: dict[str, bytes] = {
    "rml": b'<rml><head><link type="text/rcss" href="a.rcss"/><script>local a = "b" .. 1</script></head>\n<body onload="f()">'
           b"<p>a &amp; b &#160;</p></body></rml>",
    "rcss": b"/* c */ @media (min-width: 3px) { a:hover > b, #c { decorator: image(\"x.png\"); color: #fff; } }\n"
            b"@keyframes k { from { top: 0; } }",
    "lua": b"local t = require('x.y') -- z\nfor i = 1, #t do mosis.storage.set(i, [[long]] .. t[i]) end\n"
           b"return function(...) return ... end",
    "json": b'{"a": [1, 2.5e3, "\\u00e9", null, true, {"b": "http://10.0.0.1/"}]}',
    "txt": b"AKIAABCDEFGHIJKLMNOP http://example.net/ QUJDQUJD\n" * 3, "png": png(16),
    "jpg": media.jpeg(3),
    "webp": b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x0f\xc0\x03\x00" + bytes(9),
    "tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 2, 2, 24, 0) + bytes(12),
    "ttf": media.font(media.font_tables()), "ogg": OGG_CASES["skeleton first"], "mp3": MP3_CASES["junk behind the tag"],
    "wav": WAV_CASES["list before"],
}  # fmt: skip


def spoiled(content: bytes, draw: random.Random) -> bytes:
    """These bytes with one to six things done to them."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << draw.randrange(8)
            case 1 if data:
                data[at % len(data)] = draw.randrange(256)
            case 2:
                data[at:at] = draw.choice(TOKENS) * draw.choice((1, 1, 1, 2, 50))
            case 3:
                del data[at : at + draw.choice((1, 2, 4, 16, 1000))]
            case 4:
                width = draw.choice((1, 2, 4))
                number = draw.choice((0, 1, 255, 1 << 15, 1 << 31, draw.randrange(1 << 32)))
                data[at : at + width] = number.to_bytes(8, "little")[:width]
            case 5:
                other = draw.randrange(len(data) + 1)
                data[at:at] = data[other : other + draw.choice((4, 30, 46, 200))]
            case 6:
                data[at:] = b""
            case 7:
                other = draw.randrange(len(data) + 1)
                piece = draw.choice((2, 4, 30))
                data[at : at + piece], data[other : other + piece] = (
                    data[other : other + piece],
                    data[at : at + piece],
                )
    return bytes(data)


def strange(value: Any, draw: random.Random) -> Any:
    """A document with something in it exchanged."""
    if draw.random() < 0.3 or not isinstance(value, (dict, list)) or not value:
        return draw.choice(STRANGE)
    if isinstance(value, list):
        at = draw.randrange(len(value))
        return [*value[:at], strange(value[at], draw), *value[at + 1 :]]
    name = draw.choice(list(value))
    if draw.random() < 0.1:
        rest = {each: part for each, part in value.items() if each != name}
        return rest | {draw.choice(["", "~/", "x", "é"]): draw.choice(STRANGE)}
    return value | {name: strange(value[name], draw)}


class Fuzzer:
    """The readers, each with its own kind of spoiled input."""

    def __init__(self, folder: Path, seed: int, readers: Readers) -> None:
        self.draw = random.Random(seed)
        self.readers = readers
        self.compared = 0
        self.archives = Archives(self.draw, KEY)
        self.file = folder / "package.mosis"
        self.good = [
            build_package(key=KEY),
            build_package(key=KEY, files={"assets/a.txt": b"a" * 5000}),
            zipped(signed(files_of(manifest_of()), KEY.sign), compression=0),
        ]
        self.kinds: list[tuple[str, Callable[[], tuple[bytes, Callable[[], Any]]]]] = [
            ("archive", self._archive),
            ("variant", self._variant),
            ("package", self._package),
            ("manifest", self._manifest),
            ("digests", self._digests),
            ("file", self._file),
        ]
        self.counts = {name: 0 for name, _ in self.kinds}

    def turn(self) -> tuple[str, bytes, Callable[[], Any]]:
        """The next input: its kind, its bytes, and what reads it."""
        name, make = self.draw.choices(self.kinds, WEIGHTS)[0]
        self.counts[name] += 1
        return name, *make()

    def _archive(self) -> tuple[bytes, Callable[[], Any]]:
        content = spoiled(self.draw.choice(self.good), self.draw)
        return content, lambda: self._inspect(content)

    def _variant(self) -> tuple[bytes, Callable[[], Any]]:
        """A package as some writer makes it, or nearly so; one in ten with spoiled bytes besides."""
        content = self.archives.make()
        if self.draw.random() < 0.1:
            content = spoiled(content, self.draw)
        return content, lambda: self._inspect(content)

    def _package(self) -> tuple[bytes, Callable[[], Any]]:
        """Whole and signed, but with strange content: it gets past the outer doors."""
        files = files_of(manifest_of())
        for _ in range(self.draw.randrange(1, 4)):
            kind = self.draw.choice(list(SAMPLES))
            files[f"assets/{self.draw.choice(['a', 'B', 'é', '..', 'con'])}.{kind}"] = spoiled(
                SAMPLES[kind], self.draw
            )
        if self.draw.random() < 0.3:
            files["manifest.json"] = spoiled(files["manifest.json"], self.draw)
        content = zipped(signed(files, KEY.sign))
        return content, lambda: self._inspect(content, deep=True)

    def _manifest(self) -> tuple[bytes, Callable[[], Any]]:
        document = strange(
            manifest_of(locales={"default": "en", "supported": ["de"]}, screenshots=["a.png"]),
            self.draw,
        )
        sizes = {"assets/main.rml": 1, "icons/icon-32.png": 1, "a.png": 1}

        def read() -> None:
            json.dumps(
                [each.as_dict() for each in manifests.check(document, "com.acme.notes", sizes)]
            )

        return json.dumps(document).encode(), read

    def _digests(self) -> tuple[bytes, Callable[[], Any]]:
        content = spoiled(
            b"Manifest-Version: 1.0\r\n\r\nName: a.lua\r\nSHA-256-Digest: " + b"A" * 43 + b"=\r\n",
            self.draw,
        )

        def read() -> None:
            read_digests(content)
            read_signature(content)

        return content, read

    def _file(self) -> tuple[bytes, Callable[[], Any]]:
        kind = self.draw.choice(list(SAMPLES))
        content = spoiled(SAMPLES[kind], self.draw)
        contents = Contents(frozenset(["a.png"]), {})
        return content, lambda: [
            each.as_dict() for each in KINDS[kind](f"assets/a.{kind}", content, contents)
        ]

    def _inspect(self, content: bytes, deep: bool = False) -> None:
        self.file.write_bytes(content)
        try:
            package = packages.inspect(self.file, package_id="com.acme.notes", keys={"k": KEY.raw})
        except Invalid as refused:
            if not refused.errors:
                raise AssertionError("refused without a finding") from refused
            json.dumps(refused.errors)
            return
        self._compare(package.files)
        if deep:
            with open(self.file, "rb") as file:
                try:
                    list(look_into(file))
                except Unreadable as trouble:
                    raise AssertionError("tier 1 let through what cannot be read") from trouble

    def _compare(self, files: Mapping[str, Any]) -> None:
        """Every other reader must find the same names with the same digests."""
        self.compared += 1
        expected = sorted((name.encode(), each["sha256"]) for name, each in files.items())
        differences = self.readers.differences(self.file, expected)
        if differences:
            raise AssertionError(f"readers differ: {differences}")


@contextmanager
def planted(what: str) -> Iterator[None]:
    """A fault that the campaign must find, for as long as it runs."""
    if what == "text":
        whole = KINDS["txt"]
        faulty = patch.dict(
            KINDS,
            txt=lambda path, content, contents: whole(
                path, content[: 1 // (b"\xff" not in content)], contents
            ),
        )
    elif what == "archive":
        nothing = {name: lambda *arguments: iter(()) for name in ("_check_extra", "_stray_records")}
        faulty = patch.multiple(zip_records, **nothing)
    else:
        faulty = nullcontext()
    with faulty:
        yield


def campaign(
    seconds: float, seed: int, plant: str = "", only: frozenset[str] | None = None
) -> dict[str, Any]:
    """Run it; the figures, with every find. `only` names the readers in bench/readers to compare with."""
    finds: list[dict[str, Any]] = []
    slowest = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        Readers(only) as readers,
        planted(plant),
    ):
        fuzzer = Fuzzer(Path(folder), seed, readers)
        until = time.monotonic() + seconds
        while time.monotonic() < until and len(finds) < (1 if plant else 20):
            kind, content, read = fuzzer.turn()
            begun = time.process_time()
            try:
                read()
            except Exception:  # that is what is looked for
                finds.append(
                    {
                        "kind": kind,
                        "content": content.hex(),
                        "trace": traceback.format_exc()[-1500:],
                    }
                )
            took = time.process_time() - begun
            slowest = max(slowest, took)
            if took > LONGEST_SECONDS:
                finds.append(
                    {"kind": kind, "content": content.hex(), "trace": f"it took {took:.1f} s"}
                )
    inputs = sum(fuzzer.counts.values())
    return {
        "seed": seed,
        "seconds": seconds,
        "inputs": inputs,
        "of": fuzzer.counts,
        "compared": fuzzer.compared,
        "readers": readers.names,
        "readers_absent": readers.absent,
        "slowest_seconds": round(slowest, 3),
        "finds": finds,
    }


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument(
        "--plant",
        choices=["", "text", "archive"],
        default="",
        help="a fault that must be found: in the reader of texts, or in that of archives",
    )
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    result = campaign(given.seconds, given.seed, given.plant)
    finds = result.pop("finds")
    json.dump(result, sys.stdout, indent=1)
    for name, reason in result["readers_absent"].items():
        print(f"\nNot compared with {name}: {reason}", end="")
    print(f"\n{len(finds)} find(s)")
    for number, find in enumerate(finds):
        path = Path(tempfile.gettempdir()) / f"fuzz-{given.seed}-{number}-{find['kind']}"
        path.write_bytes(bytes.fromhex(find["content"]))
        print(f"{path}\n{find['trace']}")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
