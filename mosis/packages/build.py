"""Builds signed packages, for the command line, the demo and the tests. It is independent of the
portal: docs/COOKBOOK.md does the same with zip and openssl."""

import base64
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping

from mosis.packages.signature import DIGESTS, SIGNATURE

Sign = Callable[[bytes], bytes]


def digests_of(files: Mapping[str, bytes]) -> bytes:
    """META-INF/MANIFEST.MF for these files."""
    sections = ["Manifest-Version: 1.0\n"]
    for name, content in files.items():
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        sections.append(f"Name: {name}\nSHA-256-Digest: {digest}\n")
    return "\n".join(sections).encode()


def signed(files: Mapping[str, bytes], sign: Sign) -> dict[str, bytes]:
    """The files, preceded by META-INF; `sign` makes an Ed25519 signature."""
    digests = digests_of(files)
    return {DIGESTS: digests, SIGNATURE: sign(digests), **files}


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A plain archive of these files, in their order. It is reproducible with the same version of
    zlib: it contains no time, user or system."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, also on Windows
            archive.writestr(entry, content, compression)
    return buffer.getvalue()


def png(size: int, colour: tuple[int, int, int] = (128, 128, 128)) -> bytes:
    """A plain PNG of size x size pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (b"\x00" + bytes(colour) * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
