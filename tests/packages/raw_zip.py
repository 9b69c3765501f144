"""Writes ZIP archives byte by byte, so that a test can let the two headers of an entry say whatever it wants.

Fields are called as in mosis/packages/zip_records.py; formats are those of APPNOTE.TXT 6.3.
"""

import struct
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from mosis.errors import Invalid
from mosis.packages import Package, inspect
from mosis.packages.build import signed
from tests.package_builder import files_of, manifest_of, signing_key

KEY = signing_key()
FILE_MODE = 0o100644 << 16


@dataclass(frozen=True)
class Entry:
    """An honest entry; `local` and `central` overwrite single fields of one header, `packed` what really lies there."""

    name: str | bytes
    content: bytes = b""
    method: int = 8
    flags: int = 0x800
    host: int = 3
    external: int = FILE_MODE
    packed: bytes | None = None
    size: int | None = None
    descriptor: bytes | None = None  # the signature before it: b"PK\7\x08", or b"" for none
    local: Mapping[str, Any] = field(default_factory=dict)
    central: Mapping[str, Any] = field(default_factory=dict)
    between: bytes = b""  # follows the entry


@cache
def _deflated(content: bytes) -> bytes:
    pack = zlib.compressobj(9, wbits=-15)
    return pack.compress(content) + pack.flush()


def raw_zip(
    entries: Iterable[Entry],
    *,
    before: bytes = b"",
    after: bytes = b"",
    comment: bytes = b"",
    **end: Any,
) -> bytes:
    """The archive; `end` overwrites fields of the end record. Offsets count from the first byte, `before` included."""
    body, directory, count = bytearray(before), bytearray(), 0
    for entry in entries:
        count += 1
        name = entry.name.encode() if isinstance(entry.name, str) else entry.name
        packed = entry.packed
        if packed is None:
            packed = _deflated(entry.content) if entry.method == 8 else entry.content
        flags = entry.flags | (8 if entry.descriptor is not None else 0)
        fields: dict[str, Any] = {
            "needed": 20,
            "flags": flags,
            "method": entry.method,
            "time": 0,
            "date": 0x5C21,
            "crc": zlib.crc32(entry.content),
            "packed": len(packed),
            "size": len(entry.content) if entry.size is None else entry.size,
            "name": name,
            "extra": b"",
        }
        unknown = {"crc": 0, "packed": 0, "size": 0} if entry.descriptor is not None else {}
        here: dict[str, Any] = fields | unknown | dict(entry.local)
        there: dict[str, Any] = {
            "comment": b"",
            "disk": 0,
            "internal": 0,
            "made_by": entry.host << 8 | 20,
            "offset": len(body),
            **fields,
            **entry.central,
        }
        body += (
            struct.pack(
                "<4s5H3L2H",
                b"PK\3\4",
                here["needed"],
                here["flags"],
                here["method"],
                here["time"],
                here["date"],
                here["crc"],
                here["packed"],
                here["size"],
                len(here["name"]),
                len(here["extra"]),
            )
            + here["name"]
            + here["extra"]
            + packed
        )
        if entry.descriptor is not None:
            body += entry.descriptor + struct.pack(
                "<3L", fields["crc"], fields["packed"], fields["size"]
            )
        body += entry.between
        directory += (
            struct.pack(
                "<4s6H3L5H2L",
                b"PK\1\2",
                there["made_by"],
                there["needed"],
                there["flags"],
                there["method"],
                there["time"],
                there["date"],
                there["crc"],
                there["packed"],
                there["size"],
                len(there["name"]),
                len(there["extra"]),
                len(there["comment"]),
                there["disk"],
                there["internal"],
                entry.external,
                there["offset"],
            )
            + there["name"]
            + there["extra"]
            + there["comment"]
        )
    last: dict[str, Any] = {
        "disk": 0,
        "first_disk": 0,
        "here": count,
        "count": count,
        "length": len(directory),
        "start": len(body),
        "comment_length": len(comment),
        **end,
    }
    return (
        bytes(body + directory)
        + struct.pack(
            "<4s4H2LH",
            b"PK\5\6",
            last["disk"],
            last["first_disk"],
            last["here"],
            last["count"],
            last["length"],
            last["start"],
            last["comment_length"],
        )
        + comment
        + after
    )


def extra_field(kind: int, data: bytes) -> bytes:
    """An extra field (4.5.1)."""
    return struct.pack("<2H", kind, len(data)) + data


def two_packages(
    content: Mapping[str, bytes], name: str, other: bytes, kind: int = 0xCAFE
) -> bytes:
    """One file that is two packages: `name` has its content for some readers and `other` for those that look for ZIP64 first.

    A second central directory, a ZIP64 end record and its locator lie in an extra field of the last central header, right before
    the plain end record. Their entry of that file lies in an extra field of the first local header.
    """
    hidden = raw_zip([Entry(name, other)])
    hidden = hidden[: hidden.index(b"PK\1\2")]
    first, *rest = entries(content)
    whole = raw_zip([replace(first, local={"extra": extra_field(kind, hidden)}), *rest])
    start = struct.unpack_from("<L", whole, len(whole) - 6)[0]
    directory = whole[start:-22]
    hidden_at = 30 + len(first.name) + 4
    second, at = bytearray(directory), 0
    while directory[at + 46 : at + 46 + len(name)] != name.encode():
        at += 46 + sum(struct.unpack_from("<3H", directory, at + 28))
    packed = len(hidden) - 30 - len(name)
    struct.pack_into("<3L", second, at + 16, zlib.crc32(other), packed, len(other))
    struct.pack_into("<L", second, at + 42, hidden_at)
    second_at, count = start + len(directory) + 4, len(content)
    end = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(second), second_at
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, second_at + len(second), 1)
    more = extra_field(kind, bytes(second) + end + locator)
    last = max(at for at in range(len(directory)) if directory.startswith(b"PK\1\2", at))
    extended = bytearray(directory + more)
    struct.pack_into("<H", extended, last + 30, len(more))
    last_record = bytearray(whole[-22:])
    struct.pack_into("<L", last_record, 12, len(extended))
    return whole[:start] + bytes(extended) + bytes(last_record)


def files(
    extra: Mapping[str, bytes | None] | None = None,
    manifest: Mapping[str, Any] | bytes | None = None,
) -> dict[str, bytes]:
    """The files of a good, signed package, with some added, or left out where None is given."""
    answer = manifest if isinstance(manifest, bytes) else manifest_of(**(manifest or {}))
    content = {**files_of(answer), **(extra or {})}
    return signed({name: each for name, each in content.items() if each is not None}, KEY.sign)


def entries(content: Mapping[str, bytes] | None = None) -> list[Entry]:
    """Honest entries of these files, of a good package by default."""
    return [Entry(name, each) for name, each in (files() if content is None else content).items()]


def with_last(**changes: Any) -> list[Entry]:
    """A good package with these changes to its last entry (assets/main.lua)."""
    *first, last = entries()
    return [*first, replace(last, **changes)]


def with_entry(name: str | bytes, content: bytes = b"", **changes: Any) -> list[Entry]:
    """A good package with one more entry, which MANIFEST.MF lists when its name can be written there."""
    if isinstance(name, bytes) or "\n" in name:
        return [*entries(), Entry(name, content, **changes)]
    content_of = files({name: content})
    return [
        Entry(each, data, **(changes if each == name else {})) for each, data in content_of.items()
    ]


def look(
    data: bytes, *, package_id: str = "com.acme.notes", keys: Mapping[str, bytes] | None = None
) -> Package:
    """inspect() of these bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return inspect(
            Path(file.name), package_id=package_id, keys={"key": KEY.raw} if keys is None else keys
        )


def codes(data: bytes, **how: Any) -> set[str]:
    """The codes of the findings; none when the package is good."""
    try:
        look(data, **how)
    except Invalid as refusal:
        return {each["code"] for each in refusal.errors} or {"refused without a finding"}
    return set()
