"""Every field of a ZIP that leaves readers a choice, as tables: extra fields, stray signatures, versions, flags, attributes."""

import io
import stat
import struct
import zlib
from collections.abc import Iterable

import pytest

from mosis.packages import Archive, Unreadable
from mosis.packages.zip_records import TAIL_BYTES
from tests.packages.raw_zip import Entry, raw_zip

NAME = "a.txt"
PATH_AGAIN = b"\1" + zlib.crc32(NAME.encode()).to_bytes(4, "little") + NAME.encode()
NTFS = bytes(4) + b"\1\0\x18\0" + bytes(24)
UNIX = b"\1\4" + bytes(4) + b"\4" + bytes(4)
# What may be in an extra field: {kind: data}. 0x5455 has one to three times, in the directory often the first one only.
TIMES = [
    bytes([flags]) + bytes(4 * count)
    for flags in range(8)
    for count in {flags.bit_count(), flags & 1}
]
ALLOWED: list[tuple[int, bytes]] = [
    *((0x5455, data) for data in TIMES),
    (0x5855, bytes(8)), (0x5855, bytes(12)), (0x7855, b""), (0x7855, bytes(4)), (0x7875, UNIX), (0x000A, NTFS), (0xCAFE, b""),
]  # fmt: skip
KINDS = [
    0x0000, 0x0001, 0x0007, 0x0008, 0x0009, 0x000C, 0x000D, 0x000E, 0x000F, 0x0014, 0x0017, 0x0065, 0x07C8, 0x2605, 0x334D, 0x4341,
    0x4453, 0x4704, 0x4F4C, 0x5356, 0x554E, 0x6375, 0x6542, 0x6854, 0x7441, 0x756E, 0x7865, 0x9901, 0xA11E, 0xA220, 0xD935, 0xFD4A,
    0x7075, 0xFFFF,
]  # fmt: skip
SIGNATURES = [
    b"PK\1\2",
    b"PK\3\4",
    b"PK\5\5",
    b"PK\5\6",
    b"PK\6\6",
    b"PK\6\7",
    b"PK\6\x08",
    b"PK\7\x08",
]


def field(kind: int, data: bytes) -> bytes:
    return struct.pack("<2H", kind, len(data)) + data


def problems(data: bytes) -> set[str]:
    """The codes of what is wrong with an archive; none when it may be read."""
    try:
        return {finding.code for finding in Archive(io.BytesIO(data)).findings}
    except Unreadable as error:
        return {error.finding.code}


def of(entry: Entry) -> set[str]:
    return problems(raw_zip([entry, Entry("b.txt", b"another")]))


def with_extra(extra: bytes, place: str, **changes: bytes) -> set[str]:
    here = {"extra": extra if place != "central" else b""}
    there = {"extra": extra if place != "local" else b""}
    return of(Entry(NAME, b"content", local=here, central=there, **changes))


PLACES = ["local", "central", "both"]


@pytest.mark.parametrize("place", PLACES)
def test_an_extra_field_has_a_known_kind_and_exactly_its_length(place: str) -> None:
    for kind, data in ALLOWED:
        assert not with_extra(field(kind, data), place)
        wrong: Iterable[bytes] = (
            (data + bytes(64))[:length] for length in range(64) if length != len(data)
        )
        for other in wrong:
            if (kind, other) not in ALLOWED:
                assert with_extra(field(kind, other), place) == {"zip_extra"}, (kind, other)
    for kind in KINDS:
        for length in range(64):
            code = "zip64" if kind == 1 else "zip_extra"
            assert with_extra(field(kind, bytes(length)), place) == {code}, (kind, length)


@pytest.mark.parametrize("place", PLACES)
def test_an_extra_field_is_there_once_and_nothing_is_between_two(place: str) -> None:
    several = b"".join({kind: field(kind, data) for kind, data in ALLOWED}.values())
    assert not with_extra(several, place)
    for kind, data in ALLOWED:
        assert with_extra(field(kind, data) * 2, place) == {"zip_extra"}
        assert with_extra(several + field(kind, data), place) == {"zip_extra"}
    for length in range(1, len(several)):
        ends = {len(several[:at]) for at in _ends(several)}
        assert bool(with_extra(several[:length], place)) == (length not in ends)
    for rubbish in range(1, 4):
        assert with_extra(several + bytes(rubbish), place) == {"zip_extra"}


def _ends(extra: bytes) -> list[int]:
    ends, at = [0], 0
    while at < len(extra):
        at += 4 + int.from_bytes(extra[at + 2 : at + 4], "little")
        ends.append(at)
    return ends


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("signature", SIGNATURES)
def test_no_signature_of_a_record_is_in_an_extra_field(signature: bytes, place: str) -> None:
    for kind, data in [
        (0x5455, b"\7" + bytes(12)),
        (0x000A, NTFS),
        (0x5855, bytes(12)),
        (0x7875, UNIX),
    ]:
        fixed = {0x5455: 1, 0x000A: 8}.get(kind, 0)
        for at in range(fixed, len(data) - 3):
            spoiled = data[:at] + signature + data[at + 4 :]
            assert "zip_extra" in with_extra(field(kind, spoiled), place), (kind, at)


def test_a_second_name_is_refused_even_where_it_is_the_same() -> None:
    assert with_extra(field(0x7075, PATH_AGAIN), "both") == {"zip_extra"}


def in_stored_data(signature: bytes, from_end: int) -> bytes:
    """An archive with this signature so many bytes before its end, in the data of a stored file."""
    size = 2 * TAIL_BYTES
    whole = raw_zip([Entry(NAME, bytes(size), method=0)])
    at = len(whole) - from_end - (len(whole) - 22 - 46 - len(NAME) - size)
    content = bytes(at) + signature + bytes(size - at - len(signature))
    return raw_zip([Entry(NAME, content, method=0)])


NEAREST = 22 + 46 + len(NAME) + 4  # right before the central directory


@pytest.mark.parametrize("signature", [b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"])
def test_a_signature_anywhere_in_the_tail_is_refused(signature: bytes) -> None:
    edge = TAIL_BYTES
    for from_end in [
        *range(NEAREST, NEAREST + 100),
        *range(NEAREST + 100, edge, 997),
        edge - 1,
        edge,
    ]:
        assert problems(in_stored_data(signature, from_end)) == {"zip_second_directory"}, from_end
    assert not problems(in_stored_data(signature, edge + 1))
    assert edge >= 65536 + 98


@pytest.mark.parametrize("signature", [b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"])
def test_a_signature_in_fields_of_the_directory_is_refused(signature: bytes) -> None:
    time, date = struct.unpack("<2H", signature)
    entry = Entry(NAME, local={"time": time, "date": date}, central={"time": time, "date": date})
    assert of(entry) == {"zip_second_directory"}
    first = Entry(NAME, external=0x4B500000 | 0o100644 << 16)
    assert "zip_link" in of(first)  # half a signature in the attributes


def test_the_finding_names_the_file_and_the_cure_works() -> None:
    content = b"x" * 100 + b"PK\6\7" + b"y" * 100
    archive = Archive(
        io.BytesIO(raw_zip([Entry("b.txt"), Entry(NAME, content, method=0), Entry("c.txt")]))
    )
    (finding,) = archive.findings
    assert (finding.code, finding.path) == ("zip_second_directory", NAME)
    assert not problems(raw_zip([Entry("b.txt"), Entry(NAME, content), Entry("c.txt")]))
    noise = bytes(TAIL_BYTES)
    assert not problems(raw_zip([Entry(NAME, content, method=0), Entry("c.txt", noise, method=0)]))


def both(**fields: int) -> Entry:
    return Entry(NAME, b"content", local=fields, central=fields)


def test_only_version_1_and_2_are_needed() -> None:
    for needed in [*range(100), *(2**bit for bit in range(16)), 0x0114, 0x0314, 0x0A14, 0xFFFF]:
        assert bool(of(both(needed=needed))) == (needed not in (10, 20)), needed


def test_an_archive_is_of_a_system_with_plain_names() -> None:
    taken = {host for host in range(256) if not of(Entry(NAME, host=host, external=0))}
    assert taken == {0, 3, 10, 11, 14, 19}


def test_flags_are_utf8_a_hint_or_a_descriptor() -> None:
    for one in range(16):
        for other in range(one, 16):
            flags = 1 << one | 1 << other
            entry = Entry(
                NAME, b"content", flags=flags, descriptor=b"PK\7\x08" if flags & 8 else None
            )
            assert bool(of(entry)) == bool(flags & ~0x80E), hex(flags)


@pytest.mark.parametrize("content", [b"", b"content"])
def test_what_is_stored_has_no_descriptor(content: bytes) -> None:
    descriptor = b"PK\7\x08"
    assert of(Entry(NAME, content, method=0, descriptor=descriptor)) == {"zip_ambiguous"}
    known = {"crc": zlib.crc32(content), "packed": len(content), "size": len(content)}
    assert of(Entry(NAME, content, method=0, descriptor=descriptor, local=known)) == {
        "zip_ambiguous"
    }
    assert not of(Entry(NAME, content, descriptor=descriptor))


def test_internal_attributes_say_text_or_nothing() -> None:
    for internal in [0, *(1 << bit for bit in range(16)), 3, 0xFFFF]:
        assert bool(of(Entry(NAME, central={"internal": internal}))) == (internal > 1), internal


def test_modes_of_files() -> None:
    """Every type, every special bit, every permission."""
    for kind in range(16):
        for bits in [*range(0o1000), 0o1644, 0o2644, 0o4644, 0o6755]:
            mode = kind << 12 | bits
            fine = stat.S_IFMT(mode) in (0, stat.S_IFREG) and not bits & ~0o666
            assert bool(of(Entry(NAME, external=mode << 16))) != fine, oct(mode)


def test_modes_of_folders() -> None:
    for kind in range(16):
        for bits in (0, 0o700, 0o755, 0o777, 0o1777, 0o2775, 0o4755):
            mode = kind << 12 | bits
            fine = stat.S_IFMT(mode) in (0, stat.S_IFDIR) and not bits & 0o7000
            assert bool(of(Entry("sub/", method=0, external=mode << 16 | 0x10))) != fine, oct(mode)


@pytest.mark.parametrize("host", [0, 3, 10, 19])
def test_attributes_of_ms_dos(host: int) -> None:
    for bit in range(16):
        fine = 1 << bit in (0x01, 0x20, 0x80, 0x2000, 0x8000)
        assert bool(of(Entry(NAME, host=host, external=1 << bit))) != fine, bit
        fine = fine or bit == 4
        assert bool(of(Entry("sub/", method=0, host=host, external=1 << bit))) != fine, bit
