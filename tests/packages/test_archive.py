"""Archives that two readers would understand differently, archives at the limits, and those of the real zip command."""

import io
import json
import random
import struct
import subprocess
import sys
import unicodedata
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mosis.packages import Archive, Unreadable
from tests.package_builder import manifest_of
from tests.packages.raw_zip import (
    Entry,
    _deflated,
    codes,
    entries,
    files,
    look,
    raw_zip,
    with_entry,
    with_last,
)

MIB = 1 << 20
GOOD = raw_zip(entries())
LUA = files()["assets/main.lua"]
SIGNATURE = b"PK\x07\x08"


def extra(kind: int, data: bytes) -> bytes:
    return struct.pack("<2H", kind, len(data)) + data


def unicode_path(name: bytes, of: bytes = b"assets/main.lua") -> bytes:
    return extra(0x7075, struct.pack("<BL", 1, zlib.crc32(of)) + name)


def two_directories() -> bytes:
    """The good package, then a second central directory and end record that hide its last entry."""
    return GOOD + GOOD[GOOD.index(b"PK\x01\x02") :]


def noise(size: int) -> bytes:
    """Bytes that deflate to about a tenth, so that they are no bomb and quickly made."""
    block = random.Random(1).randbytes(4096) + bytes(
        36 * 1024
    )  # repeats farther apart than deflate looks back
    return (block * (size // len(block) + 1))[:size]


FINE = {
    "plain": GOOD,
    "stored": raw_zip(Entry(name, each, method=0) for name, each in files().items()),
    "descriptor": raw_zip(with_last(descriptor=SIGNATURE)),
    "descriptor and sizes": raw_zip(
        with_last(descriptor=SIGNATURE, local={"crc": zlib.crc32(LUA), "packed": len(_deflated(LUA)), "size": len(LUA)})
    ),
    "times in extra fields": raw_zip(with_last(local={"extra": extra(0x5455, b"\3" + bytes(8))},
                                               central={"extra": extra(0x5455, b"\3" + bytes(4))})),
    "folders": raw_zip([Entry("assets/", method=0, external=0o40755 << 16 | 0x10), *entries()]),
    "a deflated folder, as java.util.zip makes it": raw_zip([Entry("assets/", descriptor=SIGNATURE, external=0), *entries()]),
    "the mark of a JAR": raw_zip([replace(entry, local={"extra": extra(0xCAFE, b"")}, central={"extra": extra(0xCAFE, b"")})
                                  if number == 0 else entry for number, entry in enumerate(entries())]),
    "made on Windows": raw_zip(with_last(host=0, external=0x20)),
    "no mode": raw_zip(with_last(external=0)),
    **{f"mode {mode:o}": raw_zip(with_last(external=mode << 16)) for mode in (0o100644, 0o100664, 0o100600, 0o100444, 0o600)},
    "read-only": raw_zip(with_last(external=0o100444 << 16 | 1)),
    "seems to be text": raw_zip(with_last(central={"internal": 1})),
    "a stored file of version 1.0": raw_zip(with_last(method=0, local={"needed": 10}, central={"needed": 10})),
    "UTF-8 name": raw_zip(with_entry("assets/жизнь.txt", b"x")),
    "level hint": raw_zip(with_last(flags=0x806)),
}  # fmt: skip


@pytest.mark.parametrize("shape", FINE)
def test_what_honest_writers_make_is_taken(shape: str) -> None:
    package = look(FINE[shape])
    assert package.files["assets/main.lua"]["size_bytes"] == len(LUA)


LAST = GOOD.index(b"PK\x01\x02")
CONFUSING: dict[str, tuple[str, bytes]] = {
    "nothing": ("not_a_zip", b""),
    "an empty archive": ("not_a_zip", raw_zip([])),
    "a byte in front": ("not_a_zip", b"x" + GOOD),
    "a byte in front, offsets right": ("not_a_zip", raw_zip(entries(), before=b"x")),
    "a byte behind": ("not_a_zip", GOOD + b"x"),
    "bytes between entries": ("not_a_zip", raw_zip([Entry("a.txt", between=b"x"), *entries()])),
    "bytes before the directory": ("not_a_zip", raw_zip(with_last(between=b"x"))),
    "an entry that is not listed": ("not_a_zip", raw_zip(with_last(between=GOOD[:LAST]))),
    **{f"{kind} in front": ("not_a_zip", raw_zip(entries(), before=head)) for kind, head in {
        "PDF": b"%PDF-1.7\n", "PNG": b"\x89PNG\r\n\x1a\n", "ELF": b"\x7fELF\x02\x01\x01", "GIF": b"GIF89a",
            "MZ": b"MZ\x90\0"}.items()},
    **{f"also {kind}": ("other_format", raw_zip([Entry("a.txt", bytes(at - 35) + mark + bytes(600), method=0), *entries()]))
       for kind, at, mark in (("PDF", 900, b"%PDF-1.7\n"), ("tar", 257, b"ustar\x0000"), ("ISO 9660", 32769, b"CD001\1"))},
    "two directories": ("not_a_zip", two_directories()),
    "a second archive behind": ("not_a_zip", GOOD + GOOD),
    "an end record in the comment": ("not_a_zip", raw_zip(entries(), comment=GOOD[-22:])),
    "a comment": ("zip_comment", raw_zip(entries(), comment=b"hello")),
    "the longest comment": ("zip_comment", raw_zip(entries(), comment=bytes(0xFFFF))),
    "a comment with an end record": ("zip_comment", raw_zip(entries(), comment=GOOD[-22:] + b"x")),
    "a comment shorter than it says": ("not_a_zip", raw_zip(entries(), comment=b"hello")[:-1]),
    "a comment that is not there": ("zip_comment", raw_zip(entries(), comment_length=1)),
    "a comment of an entry": ("zip_comment", raw_zip(with_last(central={"comment": b"x"}))),
    "fewer entries than listed": ("not_a_zip", raw_zip(entries(), here=8, count=8)),
    "more entries than listed": ("not_a_zip", raw_zip(entries(), here=10, count=10)),
    "two counts": ("zip_multi_disk", raw_zip(entries(), here=1)),
    "a second disk": ("zip_multi_disk", raw_zip(entries(), disk=1, first_disk=1)),
    "an entry on a second disk": ("zip_multi_disk", raw_zip(with_last(central={"disk": 1}))),
    "zip64 count": ("zip64", raw_zip(entries(), here=0xFFFF, count=0xFFFF)),
    "zip64 start": ("zip64", raw_zip(entries(), start=0xFFFFFFFF)),
    "zip64 size": ("zip64", raw_zip(with_last(central={"size": 0xFFFFFFFF}))),
    "zip64 extra field": ("zip64", raw_zip(with_last(central={"extra": extra(1, bytes(8))}))),
    "zip64 extra field, local": ("zip64", raw_zip(with_last(local={"extra": extra(1, bytes(16))}))),
    **{f"another {field}": ("zip_headers_disagree", raw_zip(with_last(local={field: value}))) for field, value in {
        "name": b"assets/main.txt", "size": 1, "packed": 1, "crc": 1, "method": 0, "flags": 0, "time": 1, "date": 1}.items()},
    "encrypted in the local header only": ("zip_headers_disagree", raw_zip(with_last(local={"flags": 0x801}))),
    "another needed": ("zip_headers_disagree", raw_zip(with_last(local={"needed": 10}))),
    "a descriptor without signature": ("zip_headers_disagree", raw_zip(with_last(descriptor=b""))),
    "another descriptor": ("zip_headers_disagree", raw_zip(with_last(descriptor=b"PK\x07\x09"))),
    "no descriptor": ("zip_headers_disagree", raw_zip(with_last(flags=0x808))),
    "stored with two sizes": ("zip_headers_disagree", raw_zip(with_last(method=0, packed=LUA + b"x"))),
    "no local header there": ("zip_headers_disagree", GOOD[:LAST].replace(b"PK\3\4", b"PK\3\5") + GOOD[LAST:]),
    "two entries on one": ("zip_overlap", raw_zip([*entries(), Entry("b.txt", LUA, central={"offset": 0})])),
    "a gap in the offsets": ("not_a_zip", raw_zip(with_last(central={"offset": 0x7FFFFFFF}))),
    "data reaching into the directory": ("zip_overlap", raw_zip(with_last(local={"packed": 9999}, central={"packed": 9999}))),
    "encrypted": ("zip_encrypted", raw_zip(with_last(flags=0x801))),
    "strongly encrypted": ("zip_encrypted", raw_zip(with_last(flags=0x841))),
    "hidden headers": ("zip_method", raw_zip(with_last(flags=0x2800))),
    "patched data": ("zip_method", raw_zip(with_last(flags=0x820))),
    **{f"method {method}": ("zip_method", raw_zip(with_last(method=method))) for method in (1, 6, 9, 12, 14, 93, 95, 99)},
    "the same name in 0x7075": ("zip_extra", raw_zip(with_last(central={"extra": unicode_path(b"assets/main.lua")}))),
    "a second name in 0x7075": ("zip_extra", raw_zip(with_last(central={"extra": unicode_path(b"assets/evil.lua")}))),
    "a second name in 0x7075, local": ("zip_extra", raw_zip(with_last(local={"extra": unicode_path(b"assets/evil.lua")}))),
    "an extra field cut off": ("zip_extra", raw_zip(with_last(central={"extra": b"UT\x09\0\1"}))),
    "half an extra field": ("zip_extra", raw_zip(with_last(local={"extra": b"UT"}))),
    "a wrong checksum": ("zip_damaged", raw_zip(with_last(local={"crc": 1}, central={"crc": 1}))),
    "a size too small": ("zip_damaged", raw_zip(with_last(size=len(LUA) - 1))),
    "a size too large": ("zip_damaged", raw_zip(with_last(size=len(LUA) + 1))),
    "data that is not deflated": ("zip_damaged", raw_zip(with_last(packed=b"\xff" * 9))),
    "deflated data cut off": ("zip_damaged", raw_zip(with_last(packed=_deflated(LUA)[:-1]))),
    "bytes behind the deflated data": ("zip_damaged", raw_zip(with_last(packed=_deflated(LUA) + b"x"))),
    "a bomb that says it is small": ("zip_damaged", raw_zip(with_entry("a.txt", bytes(11 * MIB), size=9))),
    "a folder twice": ("path_duplicate", raw_zip([Entry("sub/", method=0, external=0)] * 2 + entries())),
    "a folder with a checksum": ("zip_damaged", raw_zip([Entry("sub/", method=0, external=0, local={"crc": 1}, central={"crc": 1}),
                                                         *entries()])),
    "a folder with two bytes that are no end": ("zip_damaged", raw_zip([Entry("sub/", packed=b"PK", external=0), *entries()])),
    "a folder with content": ("zip_damaged", raw_zip(with_entry("sub/", b"abc", external=0))),
    **{f"mode {mode:o}": ("zip_link", raw_zip(with_last(external=mode << 16))) for mode in (
        0o120777, 0o20666, 0o60666, 0o10666, 0o140777, 0o40755)},
    "a link under the name of another system": ("zip_link", raw_zip(with_last(host=0, external=0o120777 << 16))),
    "a link made on OS X": ("zip_link", raw_zip(with_last(host=19, external=0o120777 << 16))),
    "a folder that is a link": ("zip_link", raw_zip(with_entry("sub/", external=0o120777 << 16))),
    "a bomb": ("ratio_too_high", raw_zip(with_entry("a.txt", bytes(2 * MIB)))),
}  # fmt: skip


@pytest.mark.parametrize("shape", CONFUSING)
def test_what_readers_understand_differently_is_refused(shape: str) -> None:
    code, data = CONFUSING[shape]
    assert code in codes(data)


NAMES: list[tuple[str | bytes, str]] = [
    *((name, "path_invalid") for name in [
        "/etc/a.txt", "../a.txt", "a/../b.txt", "a/..", "./a.txt", "a//b.txt", "a\\b.txt", "..\\a.txt", "C:/a.txt",
            "c:a.txt", "a\x00.txt",
        "a\n.txt", "a\x7f.txt", "a\x85.txt", " a.txt", "a.txt ", "a./b.txt", "a.txt.", "/", "//", "", "../"]),
    (b"caf\xe9.txt", "path_encoding"), (b"\xff\xfe.txt", "path_encoding"), (b"\xed\xa0\x80.txt", "path_encoding"),
    (b"\xc0\xae.txt", "path_encoding"),
    (unicodedata.normalize("NFD", "café.txt"), "path_encoding"), ("a" * 253 + ".txt", "path_too_long"), ("é" * 127 + ".txt",
    "path_too_long"),
    ("a/" * 16 + "b.txt", "path_too_long"), ("a/" * 17, "path_too_long"), ("a/" * 200 + "b.txt", "path_too_long"),
    ("assets/main.lua", "path_duplicate"), ("Assets/MAIN.lua", "path_duplicate"), ("assets/main.lua/b.txt", "path_duplicate"),
    ("assets/main.lua/", "path_duplicate"), ("Manifest.json", "path_duplicate"), ("assets/ﬁ.txt", ""), ("assets/ﬀ.lua", ""),
    ("meta-inf/CERT.SIG", "path_duplicate"), ("META-INF/x.txt", "file_type"), ("META-INF/services/a.json", "file_type"),
    *((name, "file_type") for name in ["a.exe", "a.DLL", "a.so", "a.dylib", "a.sh", "a.bat", "a.ps1", "a.py", "a.js",
        "a.zip", "a.mosis", "Makefile",
                                       "a.txt.exe", ".bashrc", "a.so.1"]),
    ("a/" * 15 + "b.txt", ""), ("a/" + "a" * 250 + ".txt", ""), ("a" * 251 + ".txt", ""), ("a" * 252 + ".txt", "path_too_long"),
    ("é" * 126 + ".txt", "path_too_long"), ("é" * 125 + ".txt", ""), ("A.TXT", ""), ("sub/", ""),
    ("sub/sub 2/a-b_c.2.txt", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code"), NAMES, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("flags", [0, 0x800])
def test_names(name: str | bytes, code: str, flags: int) -> None:
    """What is refused is refused by its name; names beyond ASCII must be marked as UTF-8."""
    if isinstance(name, str) and not name.isascii() and not flags:
        code = "path_encoding"
    is_folder = name[-1:] in ("/", b"/")
    listed = isinstance(name, str) and name in files()
    made = (
        [*entries(), Entry(name, flags=flags, external=0)]
        if listed or is_folder
        else with_entry(name, flags=flags)
    )
    found = codes(raw_zip(made))
    assert code in found if code else not found


def test_names_that_differ_in_compatibility_letters_only_are_one() -> None:
    content = files({"assets/ﬁ.txt": b"", "assets/fi.txt": b""})
    assert codes(raw_zip(entries(content))) == {"path_duplicate"}


def test_a_package_cut_off_anywhere_is_refused() -> None:
    small = raw_zip([Entry("a.txt", b"hello"), Entry("b.txt", b"world", descriptor=SIGNATURE)])
    for end in range(len(small)):
        with pytest.raises(Unreadable):
            Archive(io.BytesIO(small[:end]))
    assert set(Archive(io.BytesIO(small)).members) == {"a.txt", "b.txt"}


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_sizes_around_the_blocks_are_unpacked(level: int) -> None:
    """zlib may hold output back when the room for it ends with the input."""
    for size in [*range(65_530, 66_100, 7), 65_536, 65_537, 131_072, 131_073, MIB, MIB + 1]:
        pack = zlib.compressobj(level, wbits=-15)
        packed = pack.compress(bytes(size)) + pack.flush()
        assert Archive(io.BytesIO(raw_zip([Entry("a.txt", bytes(size), packed=packed)]))).read(
            "a.txt"
        ) == bytes(size)


def many(count: int, size: int = 0) -> bytes:
    """A good package of so many files; those that are added have this size and say one content."""
    content, own = noise(size), files()
    added = {f"many/{number}.txt": content for number in range(count - len(own))}
    return raw_zip(entries(files(added)))


def total(size: int) -> bytes:
    """A good package whose files have so many bytes in all, MANIFEST.MF included."""
    names = [f"big/{number:02}.txt" for number in range(21)]
    big = dict.fromkeys(names[:19], noise(10 * MIB))
    used = sum(len(each) for each in files(dict.fromkeys(names, b"")).values()) + 19 * 10 * MIB
    left = size - used
    return raw_zip(
        entries(
            files({**big, "big/19.txt": noise(left // 2), "big/20.txt": noise(left - left // 2)})
        )
    )


def manifest_bytes(size: int) -> bytes:
    plain = json.dumps(manifest_of()).encode()
    return raw_zip(entries(files(manifest=plain + b" " * (size - len(plain)))))


LIMITS: dict[str, tuple[Any, set[str]]] = {
    "1000 files": (lambda: many(1000), set()),
    "1001 files": (lambda: many(1001), {"too_many_files"}),
    "2001 entries": (lambda: raw_zip(Entry(f"{number}/", method=0, external=0) for number in range(2001)), {"too_many_files"}),
    "1000 files and 1000 folders": (lambda: raw_zip([
        *(Entry(f"sub/{number}/", method=0, external=0) for number in range(1000)),
        *entries(files({f"many/{number}.txt": b"" for number in range(1000 - len(files()))}))]), set()),
    "10 MiB": (lambda: raw_zip(with_entry("a.txt", noise(10 * MIB))), set()),
    "10 MiB + 1": (lambda: raw_zip(with_entry("a.txt", noise(10 * MIB + 1))), {"file_too_large"}),
    "200 MiB": (lambda: total(200 * MIB), set()),
    "200 MiB + 1": (lambda: total(200 * MIB + 1), {"archive_too_large"}),
    "64 KiB of manifest": (lambda: manifest_bytes(64 * 1024), set()),
    "64 KiB + 1 of manifest": (lambda: manifest_bytes(64 * 1024 + 1), {"manifest_too_large"}),
    "1 MiB of zeros": (lambda: raw_zip(with_entry("a.txt", bytes(MIB))), set()),
    "1 MiB + 1 of zeros": (lambda: raw_zip(with_entry("a.txt", bytes(MIB + 1))), {"ratio_too_high"}),
}  # fmt: skip


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_is_exact_to_the_byte(limit: str) -> None:
    make, expected = LIMITS[limit]
    assert codes(make()) - {"digest_unlisted", "digest_extra"} == expected


FOLDER = [["-X", "-r"], ["-X", "-r", "-0"], ["-X", "-r", "-9"], ["-X", "-r", "-D"], ["-r"]]


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    for name, content in files().items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "package"


@pytest.mark.parametrize("options", FOLDER, ids=" ".join)
@pytest.mark.parametrize("streamed", [False, True])
def test_packages_of_the_zip_command(unpacked: Path, options: list[str], streamed: bool) -> None:
    """With folders and without, stored and deflated, and into a pipe, where data descriptors follow the data."""
    target = "-" if streamed else "../made.zip"
    command = ["zip", "-q", *options, target, "."]
    run = subprocess.run(command, cwd=unpacked, check=True, capture_output=True, timeout=60)
    data = run.stdout if streamed else (unpacked.parent / "made.zip").read_bytes()
    if streamed and "-0" in options:
        assert codes(data) == {"zip_ambiguous"}  # stored, with the sizes behind the data
    else:
        assert look(data).files.keys() == files().keys()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_packages_of_the_zip_command_under_every_umask(unpacked: Path, umask: int) -> None:
    for path in unpacked.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
    command = ["zip", "-q", "-r", "../made.zip", "."]
    subprocess.run(command, cwd=unpacked, check=True, timeout=60)
    assert look((unpacked.parent / "made.zip").read_bytes()).files.keys() == files().keys()


def test_an_executable_file_is_refused_with_the_cure(unpacked: Path) -> None:
    (unpacked / "assets/main.lua").chmod(0o755)
    made = unpacked.parent / "made.zip"
    subprocess.run(["zip", "-q", "-r", made, "."], cwd=unpacked, check=True, timeout=60)
    assert codes(made.read_bytes()) == {"zip_attributes"}
    made.unlink()
    cure = ["find", ".", "-type", "f", "-exec", "chmod", "644", "{}", "+"]
    subprocess.run(cure, cwd=unpacked, check=True, timeout=60)
    subprocess.run(["zip", "-q", "-r", made, "."], cwd=unpacked, check=True, timeout=60)
    assert not codes(made.read_bytes())


def test_a_comment_is_removed_as_its_finding_says(unpacked: Path) -> None:
    made = unpacked.parent / "made.zip"
    subprocess.run(["zip", "-q", "-r", made, "."], cwd=unpacked, check=True, timeout=60)
    subprocess.run(["zip", "-q", "-z", made], input=b"a comment\n.\n", check=True, timeout=60)
    assert codes(made.read_bytes()) == {"zip_comment"}
    subprocess.run(["zip", "-q", "-z", made], stdin=subprocess.DEVNULL, check=True, timeout=60)
    assert not codes(made.read_bytes())


def test_python_packs_names_beyond_ascii_as_the_finding_says(unpacked: Path) -> None:
    names = sorted(path.name for path in unpacked.iterdir())
    command = [sys.executable, "-m", "zipfile", "-c", "../made.zip", *names]
    for name, content in files({"assets/жизнь.txt": b"x"}).items():
        (unpacked / name).write_bytes(content)
    subprocess.run(command, cwd=unpacked, check=True, timeout=60)
    assert "assets/жизнь.txt" in look((unpacked.parent / "made.zip").read_bytes()).files


@pytest.mark.parametrize(
    ("options", "before", "code"),
    [
        (["-e", "-P", "secret"], [], "zip_encrypted"), (["-y"], ["ln", "-s", "/etc/passwd", "link.txt"], "zip_link"),
        (["-Z", "bzip2"], [], "zip_method"), (["-fz"], [], "zip64"), (["-z"], [], "zip_comment"),
    ],
    ids=["encrypted", "link", "bzip2", "zip64", "comment"],
)  # fmt: skip
def test_what_the_zip_command_can_do_and_a_package_may_not(
    unpacked: Path, options: list[str], before: list[str], code: str
) -> None:
    if before:
        subprocess.run(before, cwd=unpacked, check=True, timeout=60)
    command = ["zip", "-q", "-r", *options, "../made.zip", "."]
    subprocess.run(
        command, cwd=unpacked, check=True, input=b"a comment\n.\n", capture_output=True, timeout=60
    )
    assert code in codes((unpacked.parent / "made.zip").read_bytes())
