"""Signed packages in every form that writers give them, some with what a reader might understand differently.

Most of them are accepted, unlike spoiled bytes: they are there to be compared with other readers (bench/readers).
"""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

from mosis.packages.build import signed
from mosis.packages.signature import CERTIFICATE
from tests.package_builder import SigningKey, files_of, manifest_of
from tests.packages.raw_zip import Entry, extra_field, raw_zip, two_packages

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
NAMES = [
    "assets/a.txt", "assets/b c.txt", "жизнь.md", "assets/日本語/é.txt", ".hidden/x.json", "a..b.txt", "A/B/C/D/E.txt", "x" * 252 + ".md",
    "assets/I.lua", "assets/\u0131.lua", "assets/CON.txt", "assets/a\u200b.txt", "assets/a:b.txt", "Assets/c.txt", "-a.txt", "a/./b.txt",
    "assets\\x.txt", "../a.txt", "/a.txt", "assets/main.lua/x.txt", "ﬁ.txt", "e\u0301.txt", "assets/\U00020000.txt", "a.txt/",
]  # fmt: skip
SAFE_NAMES = 8  # so many of them are allowed
KINDS = [
    0x0000, 0x0001, 0x0007, 0x0008, 0x000D, 0x0014, 0x0017, 0x2605, 0x334D, 0x4453, 0x5356, 0x6375, 0x6542, 0x7075, 0x7441, 0x756E,
    0x7855, 0x7875, 0x5455, 0x5855, 0x000A, 0x9901, 0xA11E, 0xA220, 0xCAFE, 0xD935, 0xFFFF,
]  # fmt: skip


def packed(content: bytes, draw: random.Random) -> bytes:
    """The content deflated in one of many ways: levels, strategies, windows, flushed blocks, empty blocks."""
    strategy = draw.choice((0, 1, 2, 3, 4))
    deflate = zlib.compressobj(
        draw.randrange(10), zlib.DEFLATED, -draw.randrange(9, 16), 8, strategy
    )
    result, at = b"", 0
    while at < len(content) and draw.random() < 0.5:
        size = draw.choice((1, 10, 1000))
        result += deflate.compress(content[at : at + size])
        result += deflate.flush(
            draw.choice((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_NO_FLUSH))
        )
        at += size
    return result + deflate.compress(content[at:]) + deflate.flush()


class Archives:
    """Makes them, the same for the same seed."""

    def __init__(self, draw: random.Random, key: SigningKey) -> None:
        self.draw, self.key = draw, key
        self.spoil: list[Callable[[list[Entry]], list[Entry]]] = [
            self._strange_extra, self._strange_field, self._strange_name, self._strange_data, self._strange_descriptor,
            self._signature_in_extra, self._signature_in_data, self._both_headers, self._twice,
        ]  # fmt: skip

    def make(self) -> bytes:
        """The next archive: half of them honest, the others with one or two strange things."""
        draw = self.draw
        if draw.random() < 0.05:
            other = b"return 'another'\n"
            return two_packages(self._files(), "assets/main.lua", other, draw.choice(KINDS))
        entries = self._entries()
        for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
            entries = draw.choice(self.spoil)(entries)
        if draw.random() < 0.02:
            return raw_zip(entries, comment=draw.randbytes(draw.choice((1, 22, 100))))
        return raw_zip(entries)

    def _files(self) -> dict[str, bytes]:
        draw = self.draw
        files = files_of(manifest_of())
        for name in draw.sample(NAMES[:SAFE_NAMES], draw.randrange(4)):
            size = draw.choice((0, 1, 100, 5000, 70_000))
            files[name] = (draw.randbytes(min(size, 300)) * (size // 300 + 1))[:size]
        result = signed(files, self.key.sign)
        if draw.random() < 0.3:
            result[CERTIFICATE] = self.key.public_pem.encode()
        return result

    def _entries(self) -> list[Entry]:
        draw = self.draw
        entries = [self._honest(name, content) for name, content in self._files().items()]
        draw.shuffle(entries)
        if draw.random() < 0.3:
            for folder in draw.sample(
                ["assets/", "icons/", "META-INF/", "empty/"], draw.randrange(1, 4)
            ):
                external = draw.choice((0, 0x10, 0o40755 << 16 | 0x10, 0o40700 << 16))
                entries.insert(draw.randrange(len(entries) + 1), self._folder(folder, external))
        return entries

    def _folder(self, name: str, external: int) -> Entry:
        if self.draw.random() < 0.3:  # as java.util.zip makes it
            return Entry(name, external=external, descriptor=b"PK\7\x08")
        return Entry(name, method=0, external=external)

    def _honest(self, name: str, content: bytes) -> Entry:
        draw = self.draw
        time = {"time": draw.randrange(1 << 16), "date": draw.choice((0, 0x21, 0x5C21, 0xFFFF))}
        here, there = self._extra()
        method = draw.choice((0, 8, 8))
        needed = {"needed": 20 if method else draw.choice((10, 20))}
        external = draw.choice(
            (
                0,
                0x20,
                0o100644 << 16,
                0o100664 << 16,
                0o600 << 16,
                0o100444 << 16 | 1,
                0o100644 << 16 | 0x8020,
            )
        )
        return Entry(
            name,
            content,
            method,
            flags=draw.choice((0x800, 0x800, 0x802, 0x804)) if method or not name.isascii() else 0,
            external=external,
            packed=packed(content, draw) if method else None,
            descriptor=b"PK\7\x08" if method and draw.random() < 0.3 else None,
            local={**time, **needed, "extra": here},
            central={
                **time,
                **needed,
                "extra": there,
                "internal": draw.choice((0, 1)),
                "made_by": draw.choice((0, 3, 3, 10, 11, 14, 19)) << 8
                | draw.choice((10, 20, 30, 63)),
            },
        )

    def _extra(self) -> tuple[bytes, bytes]:
        draw = self.draw
        times = struct.pack("<3L", *(draw.randrange(1 << 32) for _ in range(3)))
        fields = draw.sample(
            [
                (extra_field(0x5455, b"\3" + times[:8]), extra_field(0x5455, b"\3" + times[:4])),
                (extra_field(0x5455, b"\7" + times), extra_field(0x5455, b"\7" + times)),
                (extra_field(0x7875, b"\1\4" + times[:4] + b"\4" + times[4:8]),) * 2,
                (extra_field(0x5855, times), extra_field(0x5855, times[:8])),
                (extra_field(0x000A, bytes(4) + b"\1\0\x18\0" + times * 2),) * 2,
                (extra_field(0xCAFE, b""),) * 2,
            ],
            draw.choice((0, 0, 1, 2, 3)),
        )
        return b"".join(here for here, _ in fields), b"".join(there for _, there in fields)

    def _change(self, entries: list[Entry], make: Callable[[Entry], Entry]) -> list[Entry]:
        """One of the entries changed."""
        at = self.draw.randrange(len(entries))
        return [*entries[:at], make(entries[at]), *entries[at + 1 :]]

    def _strange_extra(self, entries: list[Entry]) -> list[Entry]:
        draw = self.draw
        data = draw.randbytes(draw.choice((0, 1, 2, 4, 5, 8, 9, 11, 12, 16, 28, 32, 300)))
        extra = extra_field(draw.choice(KINDS), data) + draw.randbytes(draw.choice((0, 0, 0, 1, 3)))
        return self._change(entries, lambda entry: self._with_extra(entry, extra))

    def _signature_in_extra(self, entries: list[Entry]) -> list[Entry]:
        data = bytearray(b"\7" + self.draw.randbytes(12))
        at = self.draw.randrange(1, 10)
        data[at : at + 4] = self.draw.choice(SIGNATURES)
        return self._change(
            entries, lambda entry: self._with_extra(entry, extra_field(0x5455, bytes(data)))
        )

    def _with_extra(self, entry: Entry, extra: bytes) -> Entry:
        place = self.draw.randrange(3)
        here = {"extra": extra} if place != 0 else {}
        there = {"extra": extra} if place != 1 else {}
        return replace(entry, local={**entry.local, **here}, central={**entry.central, **there})

    def _strange_field(self, entries: list[Entry]) -> list[Entry]:
        """A field of one header or of both that is unusual."""
        draw = self.draw
        name = draw.choice(
            (
                "needed",
                "flags",
                "method",
                "time",
                "crc",
                "packed",
                "size",
                "disk",
                "internal",
                "offset",
            )
        )
        value = draw.choice((0, 1, 2, 8, 10, 20, 45, 0x800, 0xFFFF, draw.randrange(1 << 16)))

        def change(entry: Entry) -> Entry:
            changes = {name: value}
            where = draw.randrange(3)
            local = {
                **entry.local,
                **(changes if where != 0 and name in ("needed", "flags", "method", "time") else {}),
            }
            return replace(
                entry, local=local, central={**entry.central, **(changes if where != 1 else {})}
            )

        if draw.random() < 0.5:
            return self._change(entries, change)
        external = draw.choice(
            (1 << draw.randrange(32), 0o120777 << 16, 0o100755 << 16, 0o104644 << 16, 0x10, 0x400)
        )
        made_by = {"made_by": draw.randrange(20) << 8 | 20}
        return self._change(
            entries,
            lambda entry: replace(entry, external=external, central={**entry.central, **made_by}),
        )

    def _strange_name(self, entries: list[Entry]) -> list[Entry]:
        """One more file, which MANIFEST.MF does not list: refused whatever its name."""
        name = self.draw.choice(NAMES)
        return [*entries, self._honest(name, b"content")]

    def _strange_data(self, entries: list[Entry]) -> list[Entry]:
        draw = self.draw

        def change(entry: Entry) -> Entry:
            data = bytearray(entry.packed or entry.content)
            match draw.randrange(4):
                case 0:
                    data += draw.randbytes(draw.choice((1, 2, 16)))
                case 1 if data:
                    data[-1] ^= 1 << draw.randrange(
                        8
                    )  # the last byte of a deflated file has unused bits
                case 2:
                    data = bytearray(b"\0\0\0\xff\xff") + data  # an empty block in front
                case 3 if data:
                    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            return replace(entry, packed=bytes(data))

        return self._change(entries, change)

    def _strange_descriptor(self, entries: list[Entry]) -> list[Entry]:
        descriptor = self.draw.choice((b"PK\7\x08", b"", b"PK\3\4", bytes(4)))
        return self._change(entries, lambda entry: replace(entry, descriptor=descriptor))

    def _signature_in_data(self, entries: list[Entry]) -> list[Entry]:
        """A file whose stored data has a whole archive, or the signature of a record, in it."""
        draw = self.draw
        inner = raw_zip([Entry("assets/main.lua", b"return 'another'\n")])
        piece = draw.choice((*SIGNATURES, inner, inner[:-22], inner[-22:]))
        content = draw.randbytes(10) + piece + draw.randbytes(draw.choice((0, 10, 66_000, 70_000)))
        files = {entry.name: entry.content for entry in entries if isinstance(entry.name, str)}
        plain = {
            name: each
            for name, each in files.items()
            if not name.startswith("META-INF/") and name[-1] != "/"
        }
        plain["assets/data.txt"] = content
        return [
            Entry(name, each, method=draw.choice((0, 8)))
            for name, each in signed(plain, self.key.sign).items()
        ]

    def _both_headers(self, entries: list[Entry]) -> list[Entry]:
        """Another name in one header only."""
        place = self.draw.choice(("local", "central"))
        name = self.draw.choice(NAMES).encode()

        def change(entry: Entry) -> Entry:
            changed = {**getattr(entry, place), "name": name}
            return (
                replace(entry, local=changed)
                if place == "local"
                else replace(entry, central=changed)
            )

        return self._change(entries, change)

    def _twice(self, entries: list[Entry]) -> list[Entry]:
        entry = self.draw.choice(entries)
        return [*entries, replace(entry, content=b"another", packed=None)]
