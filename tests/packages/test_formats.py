"""Files that are not what their names say, and archives as other tools write them: each finding says what to do."""

import base64
import gzip
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mosis import packages
from mosis.errors import Invalid
from mosis.packages.build import png, signed
from mosis.packages.checks.inspection import KINDS
from mosis.packages.checks.kinds import Contents
from mosis.packages.formats import format_of
from mosis.packages.signature import parse_public_key
from tests.package_builder import files_of, manifest_of, signing_key

KEY = signing_key()
FILES = signed(files_of(manifest_of()), KEY.sign)
DIGESTS = FILES["META-INF/MANIFEST.MF"]

FOREIGN: dict[str, tuple[bytes, str]] = {
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "JPEG"),
    "png": (png(32), "PNG"),
    "gif": (b"GIF89a", "GIF"),
    "webp": (b"RIFF\x1a\0\0\0WEBPVP8L", "WebP"),
    "svg": (b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="a"/>', "SVG"),
    "ico": (b"\0\0\1\0\1\0", "ICO"),
    "heic": (b"\0\0\0\x18ftypheic", "HEIF"),
    "tiff": (b"II*\0", "TIFF"),
    "m4a": (b"\0\0\0\x20ftypM4A ", "M4A"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt ", "WAV"),
    "flac": (b"fLaC\0", "FLAC"),
    "aac": (b"\xff\xf1\x50\x80", "AAC"),
    "aiff": (b"FORM\0\0\0\0AIFF", "AIFF"),
    "midi": (b"MThd\0\0", "MIDI"),
    "woff": (b"wOFF\0\1\0\0", "WOFF"),
    "woff2": (b"wOF2\0\1\0\0", "WOFF2"),
    "type1": (b"%!PS-AdobeFont-1.0", "Type 1"),
    "pdf": (b"%PDF-1.7", "PDF"),
    "zip": (b"PK\3\4", "ZIP"),
    "gzip": (gzip.compress(b"x"), "gzip"),
    "html": (b"\n<!DOCTYPE html><title>404", "HTML"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "empty": (b"", "empty"),
    "spoiled": (png(32).replace(b"\r\n", b"\n"), "line ends"),
    "utf-16": ("x".encode("utf-16"), "UTF-16"),
}
OWN = {
    "png": ("png",),
    "jpg": ("jpeg",),
    "webp": ("webp",),
    "tga": ("ico",),
    "ogg": (),
    "wav": ("wav",),
    "mp3": (),
    "ttf": (),
}


@pytest.mark.parametrize("ending", OWN)
@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_format_is_named(ending: str, name: str) -> None:
    if name in OWN[ending]:
        return
    content, detail = FOREIGN[name]
    (found, *_) = KINDS[ending](f"assets/a.{ending}", content, Contents(frozenset(), {}))
    assert found.code in ("image_invalid", "sound_invalid", "font_invalid")
    assert detail in found.detail


def test_a_damaged_file_of_its_own_format_is_called_damaged() -> None:
    (found,) = KINDS["png"]("assets/a.png", png(32)[:-20], Contents(frozenset(), {}))
    assert "it is a PNG" not in found.detail
    assert format_of(b"no format at all") is None


def archive(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **more: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in files.items():
            with made.open(name, "w", **more) as file:
                file.write(content)
    return out.getvalue()


class Pipe(io.BytesIO):
    """A file that cannot go back, as a pipe."""

    def seek(self, *_: Any) -> int:
        raise OSError


def piped() -> bytes:
    out = Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in FILES.items():
            made.writestr(name, content)
    return out.getvalue()


def findings(tmp_path: Path, content: bytes) -> list[tuple[str, str]]:
    path = tmp_path / "a.mosis"
    path.write_bytes(content)
    try:
        packages.inspect(path, package_id="com.acme.notes", keys={"k": KEY.raw})
    except Invalid as error:
        return [(each["code"], each["detail"]) for each in error.errors]
    return []


def listed(digests: bytes) -> bytes:
    return archive(
        FILES | {"META-INF/MANIFEST.MF": digests, "META-INF/CERT.SIG": KEY.sign(digests)}
    )


def signed_with(signature: bytes) -> bytes:
    return archive(FILES | {"META-INF/CERT.SIG": signature})


WHOLE = archive(FILES)
SIGNATURE = base64.b64encode(KEY.sign(DIGESTS))
HEXADECIMAL = b"Manifest-Version: 1.0\n\n" + b"".join(
    f"Name: {name}\nSHA-256-Digest: {hashlib.sha256(content).hexdigest()}\n\n".encode()
    for name, content in FILES.items()
    if not name.startswith("META-INF")
)
GOOD: dict[str, bytes] = {
    "into a file": WHOLE,
    "into a pipe": piped(),
    "base64": signed_with(SIGNATURE),
    "base64 with a line end": signed_with(SIGNATURE + b"\r\n"),
    "base64 in lines of 76": signed_with(SIGNATURE[:76] + b"\n" + SIGNATURE[76:] + b"\n"),
    "base64 in lines of 64": signed_with(SIGNATURE[:64] + b"\r\n" + SIGNATURE[64:] + b"\r\n"),
    "digests with CRLF": listed(DIGESTS.replace(b"\n", b"\r\n")),
    "digests without an end": listed(DIGESTS.rstrip(b"\n")),
    "digests with empty lines": listed(DIGESTS.replace(b"\n\n", b"\n\n\n")),
}


@pytest.mark.parametrize("name", GOOD)
def test_archives_of_other_tools_are_taken(tmp_path: Path, name: str) -> None:
    assert findings(tmp_path, GOOD[name]) == []


def test_a_byte_order_mark_in_a_manifest_is_reported(tmp_path: Path) -> None:
    content = files_of(manifest_of())
    content["manifest.json"] = b"\xef\xbb\xbf" + content["manifest.json"]
    (found,) = findings(tmp_path, archive(signed(content, KEY.sign)))
    assert found[0] == "manifest_json"
    assert "byte order mark" in found[1]


BAD: dict[str, tuple[bytes, str, str]] = {
    "a folder": (
        archive({f"notes/{name}": each for name, each in FILES.items()}),
        "manifest_missing",
        "pack what is in the folder",
    ),
    "no manifest": (archive({"assets/a.txt": b"x"}), "manifest_missing", "root of the archive"),
    "macOS": (
        archive(FILES | {"__MACOSX/._manifest.json": b"x"}),
        "file_type",
        "written by an operating system",
    ),
    "macOS in a folder": (archive(FILES | {"assets/.DS_Store": b"x"}), "file_type", "leave it out"),
    "Windows": (archive(FILES | {"icons/Thumbs.db": b"x"}), "file_type", "leave it out"),
    "backslashes": (
        archive({name.replace("/", "\\"): each for name, each in FILES.items()}),
        "path_invalid",
        "pack with slashes",
    ),
    "ZIP64": (archive(FILES, force_zip64=True), "zip64", "ZIP64"),
    "LZMA": (archive(FILES, zipfile.ZIP_LZMA), "zip_method", "deflate"),
    "gzip": (gzip.compress(WHOLE), "not_a_zip", "it is a gzip file"),
    "HTML": (b"<html>404", "not_a_zip", "it is an HTML page"),
    "nothing": (b"", "not_a_zip", "an empty file"),
    "JSON": (b'{"id": 1}', "not_a_zip", "it is JSON"),
    "base64 of it": (base64.b64encode(WHOLE), "not_a_zip", "send the archive itself"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(60), "not_a_zip", "7z"),
    "cut off": (WHOLE[:-30], "not_a_zip", "cut off"),
    "twice": (WHOLE * 2, "not_a_zip", "send nothing but the archive"),
    "changed line ends": (WHOLE.replace(b"\n", b"\r\n"), "not_a_zip", "as binary"),
    "a hexadecimal signature": (
        signed_with(KEY.sign(DIGESTS).hex().encode()),
        "signature_malformed",
        "not hexadecimal",
    ),
    "a signature in UTF-16": (
        signed_with(SIGNATURE.decode().encode("utf-16")),
        "signature_malformed",
        "UTF-16",
    ),
    "hexadecimal digests": (listed(HEXADECIMAL), "digests_malformed", "not their hexadecimal"),
    "digests with a mark": (
        listed(b"\xef\xbb\xbf" + DIGESTS),
        "digests_malformed",
        "byte order mark",
    ),
    "digests with CR": (listed(DIGESTS.replace(b"\n", b"\r")), "digests_malformed", "LF or CRLF"),
    "digests in UTF-16": (
        listed(DIGESTS.decode().encode("utf-16")),
        "digests_malformed",
        "byte order mark",
    ),
    "an icon of another size": (
        archive(signed(files_of(manifest_of()) | {"icons/icon-32.png": png(33)}, KEY.sign)),
        "icon_invalid",
        "it has 33 x 33",
    ),
    "an icon that is none": (
        archive(signed(files_of(manifest_of()) | {"icons/icon-32.png": b"GIF89a"}, KEY.sign)),
        "icon_invalid",
        "it is a GIF image",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_in_an_archive_say_what_to_do(tmp_path: Path, name: str) -> None:
    content, code, advice = BAD[name]
    found = findings(tmp_path, content)
    assert any(each == code and advice in detail for each, detail in found), found


PEM = KEY.public_pem
PUBLIC = KEY.private.public_key()
RSA = (
    rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
EC = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        PEM.replace("\n", "\r\n"),
        PEM.replace("\n", " "),
        f"  {PEM}  \n",
        f"key of alice:\n{PEM}\nED25519 Public-Key:\npub:\n    01:02\n",
        f"\ufeff{PEM}",
        KEY.public_base64,
        KEY.public_base64 + "\n",
        KEY.public_base64.rstrip("="),
        base64.urlsafe_b64encode(KEY.raw).decode(),
        base64.b64encode(
            PUBLIC.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
        ).decode(),
    ],
)
def test_a_key_in_every_form(text: str) -> None:
    assert parse_public_key(text) == KEY.raw


PRIVATE = KEY.private.private_bytes(
    ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()
).decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PRIVATE, "private key"),
        (PRIVATE + PEM, "private key"),
        (RSA, "another kind"),
        (EC, "another kind"),
        (PEM + PEM, "several keys"),
        (KEY.raw.hex(), "hexadecimal"),
        (
            PUBLIC.public_bytes(ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH).decode()
            + " alice@laptop",
            "OpenSSH",
        ),
        ("ssh-rsa AAAA", "OpenSSH"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "certificate"),
        ("", "Ed25519"),
        ("\u0430" * 44, "Ed25519"),
        (base64.b64encode(bytes(31)).decode(), "Ed25519"),
        (base64.b64encode(bytes(32)).decode(), "small order"),
        ("RWQ" + "A" * 53, "Ed25519"),
        (PEM[:-30], "another kind, or damaged"),
    ],
)
def test_another_key_says_what_it_is_and_repeats_nothing(text: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_public_key(text)
    (found,) = refused.value.errors
    assert message in found["detail"]
    assert PRIVATE.split("\n")[1] not in found["detail"]


SOURCES: list[tuple[str, bytes, str]] = [
    ("rml", b"<rml><body>a<br>b</body></rml>", "or <br/>"),
    ("rml", b"<rml><body><p>R&D</p></body></rml>", "write &amp; for &"),
    ("rml", "<rml/>".encode("utf-16"), "save it as UTF-8"),
    ("rcss", b"a { b { c: d; } }", "rules cannot stand in rules"),
    ("rcss", b"a { b: c; } }", "without a { } block"),
    ("rcss", b"a { b: 'c\n; }", "text in quotes has no end"),
    ("rcss", b"a { b: url(a b); }", "put it into quotes"),
    ("rcss", b"a { *b: c; }", "the name of a property"),
    ("rcss", b"a { b: c) }", "a closing ) has no opening one"),
    ("rcss", b"a { b: c] }", "a closing ] has no opening one"),
    ("rcss", b"a { b c d; }", "here is no colon"),
    ("lua", "print(“x”)".encode(), "typographic quote"),
    ("lua", "x\u00a0= 1".encode(), "non-breaking space"),
    ("lua", "x = 1".encode("utf-16"), "save it as UTF-8"),
    ("lua", b"x = 1\x1a", "near '<\\26>'."),
    ("json", b'{"a":"b\tc"}', "control character"),
    ("json", b'{"a":"\\x"}', "wrong escape"),
    ("json", b"{'a': 1}", "double quotes"),
    ("json", b'{"a": 1,}', "a comma too many"),
    ("json", b"// a\n{}", "no comments"),
    ("json", b'{"a": 1', "ends too early"),
    ("json", b"", "It is empty"),
    ("json", b'{"a" 1}', "`1` is not expected"),
    ("json", b'{"a": "b', "no end"),
    ("json", "\u00a0{}".encode(), "U+00A0"),
]


@pytest.mark.parametrize(("ending", "content", "message"), SOURCES)
def test_errors_in_a_source_say_what_to_do(ending: str, content: bytes, message: str) -> None:
    found = [*KINDS[ending](f"assets/a.{ending}", content, Contents(frozenset(), {}))]
    assert any(message in each.detail for each in found), found
