"""Keys, signatures and MANIFEST.MF in every form that developers' tools write them."""

import base64
import hashlib
import random
from pathlib import Path

import pytest

from mosis.errors import Invalid
from mosis.packages import fingerprint, parse_public_key, to_pem
from mosis.packages.build import digests_of
from mosis.packages.checks.inspection import look_into
from mosis.packages.signature import CERTIFICATE, DIGESTS, SIGNATURE, read_digests
from tests.package_builder import signing_key
from tests.packages.raw_zip import KEY, codes, entries, files, look, raw_zip

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
SIGN_BIT = 1 << 255


def raw(number: int) -> bytes:
    return number.to_bytes(32, "little")


def order_8() -> list[bytes]:
    """The encodings of the points of order 8, as libsodium lists them."""
    return [
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ]


def test_the_points_of_order_8_are_what_the_curve_says() -> None:
    for point in order_8():
        y = int.from_bytes(point, "little")
        assert (
            D * y**4 + 2 * y**2 - 1
        ) % P == 0  # 2(x, y) has the y coordinate 0, so it is of order 4


@pytest.mark.parametrize(
    "text",
    [KEY.public_pem, KEY.public_pem.replace("\n", "\r\n"), "\n " + KEY.public_pem + "\n", KEY.public_base64,
     KEY.public_base64.rstrip("="), KEY.public_base64.replace("+", "-").replace("/", "_"), KEY.public_base64 + "\n",
     "".join(KEY.public_pem.splitlines()[1:-1])],
    ids=["pem", "pem-crlf", "pem-spaces", "base64", "unpadded", "urlsafe", "newline", "spki"],
)  # fmt: skip
def test_a_key_is_taken_in_its_usual_forms(text: str) -> None:
    assert parse_public_key(text) == KEY.raw
    assert parse_public_key(to_pem(KEY.raw)) == KEY.raw


WEAK = [
    0,
    1,
    P - 1,
    P,
    P + 1,
    2**255 - 1,
    *(int.from_bytes(point, "little") for point in order_8()),
]


@pytest.mark.parametrize("number", [*WEAK, *(number | SIGN_BIT for number in WEAK)], ids=hex)
def test_points_of_small_order_and_not_canonical_ones_are_refused(number: int) -> None:
    for text in (base64.b64encode(raw(number)).decode(), to_pem(raw(number))):
        with pytest.raises(Invalid):
            parse_public_key(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "ключ", "é" * 43, "A" * 42, "A" * 45, base64.b64encode(b"x" * 31).decode(), base64.b64encode(b"x" * 33).decode(),
     "!" + KEY.public_base64, KEY.public_pem.replace("PUBLIC", "PRIVATE"), KEY.public_pem * 2, KEY.public_pem[:-10],
     f"-----BEGIN PUBLIC KEY-----\n{KEY.public_base64}\n-----END PUBLIC KEY-----\n", "\x00", "\ud800"],
)  # fmt: skip
def test_what_is_not_an_ed25519_key_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_public_key(text)
    assert caught.value.errors[0]["pointer"] == "/public_key"


def test_a_fingerprint_is_written_as_openssh_does() -> None:
    assert (
        fingerprint(KEY.raw)
        == "SHA256:" + base64.b64encode(hashlib.sha256(KEY.raw).digest()).decode()[:-1]
    )


def package(digests: bytes | None = None, signature: bytes | None = None) -> bytes:
    """A package with this MANIFEST.MF, signed unless another CERT.SIG is given."""
    content = files()
    content[DIGESTS] = content[DIGESTS] if digests is None else digests
    content[SIGNATURE] = KEY.sign(content[DIGESTS]) if signature is None else signature
    return raw_zip(entries(content))


DIGESTS_LF = files()[DIGESTS]
SIGNED = KEY.sign(DIGESTS_LF)
BASE64 = base64.b64encode(SIGNED)


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (SIGNED, set()), (BASE64, set()), (BASE64 + b"\n", set()), (BASE64 + b"\r\n", set()),
        (BASE64[:64] + b"\n" + BASE64[64:] + b"\n", set()),
        (SIGNED + b"\n", {"signature_malformed"}), (BASE64 + b" \n", {"signature_malformed"}),
        (BASE64 + b"\x0c", {"signature_malformed"}), (SIGNED[:63], {"signature_malformed"}),
        (b"", {"signature_malformed"}),
        (BASE64[:-4], {"signature_malformed"}), (b"\xff" * 88, {"signature_malformed"}), (b"A" * 1025, {"signature_malformed"}),
        (bytes(64), {"signature_invalid"}), (SIGNED[:-1] + bytes([SIGNED[-1] ^ 1]), {"signature_invalid"}),
        (signing_key().sign(DIGESTS_LF), {"signature_invalid"}), (KEY.sign(DIGESTS_LF + b"\n"), {"signature_invalid"}),
        (SIGNED[:32] + raw(int.from_bytes(SIGNED[32:], "little") + 2**252 + 27742317777372353535851937790883648493),
         {"signature_invalid"}),  # s + L: the same signature in a second form
    ],
)  # fmt: skip
def test_a_signature_is_64_bytes_raw_or_base64(signature: bytes, expected: set[str]) -> None:
    assert codes(package(signature=signature)) == expected


def test_any_live_key_may_have_signed() -> None:
    assert (
        look(package(), keys={"other": signing_key().raw, "mine": KEY.raw}).signing_key_id == "mine"
    )
    assert codes(package(), keys={"other": signing_key().raw}) == {"signature_invalid"}
    assert codes(package(), keys={}) == {"no_signing_key"}


CONTINUED = DIGESTS_LF.replace(b"Name: assets/main.lua", b"Name: assets/\n main.lua")
FIRST = DIGESTS_LF.split(b"\n\n")[1]


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        (DIGESTS_LF, set()), (DIGESTS_LF.replace(b"\n", b"\r\n"), set()), (CONTINUED, set()),
        (CONTINUED.replace(b"\n", b"\r\n"), set()), (DIGESTS_LF.rstrip(b"\n"), set()), (DIGESTS_LF + b"\n\n\n", set()),
        (DIGESTS_LF.replace(b"1.0\n", b"1.0\nCreated-By: make\n", 1), set()),
        (b"", {"digests_malformed"}), (b"\xff" + DIGESTS_LF, {"digests_malformed"}),
        (b"\xef\xbb\xbf" + DIGESTS_LF, {"digests_malformed"}),
        (DIGESTS_LF.replace(b"Manifest-Version: 1.0\n\n", b""), {"digests_malformed"}),
        (DIGESTS_LF.replace(b"1.0", b"2.0", 1), {"digests_malformed"}),
        (DIGESTS_LF.replace(b"SHA-256-Digest", b"SHA-1-Digest"), {"digests_malformed"}),
        (DIGESTS_LF + b"\n" + FIRST + b"\n", {"digest_extra"}),
        (DIGESTS_LF.replace(FIRST, FIRST + b"\nMagic: yes"), {"digests_malformed", "digest_unlisted"}),
        (DIGESTS_LF.replace(FIRST, FIRST + b"\nName: twice"), {"digests_malformed", "digest_unlisted"}),
        (DIGESTS_LF.replace(FIRST, FIRST + b"\nno colon"), {"digests_malformed", "digest_unlisted"}),
        (DIGESTS_LF.replace(FIRST, FIRST[:-8]), {"digests_malformed", "digest_unlisted"}),
        (DIGESTS_LF.replace(FIRST + b"\n\n", b""), {"digest_unlisted"}),
        (DIGESTS_LF.replace(b"\n\nName: manifest", b"\nName: manifest", 1), {"digests_malformed"}),
        (DIGESTS_LF + digests_of({"gone.txt": b""}).partition(b"\n")[2], {"digest_extra"}),
    ],
)  # fmt: skip
def test_manifest_mf_in_its_forms(digests: bytes, expected: set[str]) -> None:
    assert codes(package(digests)) == expected


def test_a_finding_in_manifest_mf_names_its_line() -> None:
    _, findings = read_digests(b"Manifest-Version: 1.0\n\nName: a\nSHA-256-Digest: no\n")
    assert [(finding.code, finding.line) for finding in findings] == [("digests_malformed", 3)]
    _, findings = read_digests(
        b"Manifest-Version: 1.0\n\nName: a\n b\nSHA-256-Digest: " + b"A" * 43 + b"=\n\nName: c\n"
    )
    assert [(finding.code, finding.line) for finding in findings] == [("digests_malformed", 7)]


HEAD = b"Manifest-Version: 1.0\n"
REST = DIGESTS_LF.removeprefix(HEAD)
HEADS: dict[str, bytes] = {
    "another digest": b"Name: assets/main.rml\nSHA-256-Digest: " + b"A" * 43 + b"=\n",
    "another version": b"Manifest-Version: 2.0\n",
    "the version twice": HEAD,
    "Created-By twice": b"Created-By: a\nCreated-By: b\n",
    "in lower case": b"created-by: a\n",
    "an unknown name": b"Main-Class: a.B\n",
    "a line without a colon": b"hello\n",
    "a name without a value": b"Created-By\n",
    "no space after the colon": b"Created-By:a\n",
    "an invisible letter": "Created-By: a\u202eb\n".encode(),
    "too long": b"Created-By: " + b"a" * 201 + b"\n",
    "an indented name": b"Created-By: a\n\n Name: b\n",
}


@pytest.mark.parametrize("more", HEADS)
def test_the_head_of_manifest_mf_says_nothing_else(more: str) -> None:
    for ends in (b"\n", b"\r\n"):
        spoiled = (HEAD + HEADS[more] + REST).replace(b"\n", ends)
        assert codes(package(spoiled)) == {"digests_malformed"}
        assert codes(package((HEADS[more] + HEAD + REST).replace(b"\n", ends))) == {
            "digests_malformed"
        }


@pytest.mark.parametrize(
    "head",
    [b"", b"Created-By: 17.0.1 (M\xc3\xbcller)\n", b"Created-By: a\n b\n", b"Created-By: \n"],
)
def test_the_head_may_say_who_made_it(head: bytes) -> None:
    for ends in (b"\n", b"\r\n"):
        assert not codes(package((HEAD + head + REST).replace(b"\n", ends)))


CONTROLS = [bytes([number]) for number in range(32) if number != 10] + [b"\x7f"]
CONTROLS += [chr(number).encode() for number in (*range(0x80, 0xA0), 0x2028, 0x2029)]


@pytest.mark.parametrize("control", CONTROLS, ids=repr)
def test_no_control_character_anywhere(control: bytes) -> None:
    """Also a CR that no LF follows, which JAR's grammar takes for the end of a line."""
    text = HEAD + b"Created-By: ab\n" + REST
    places = [
        0,
        3,
        text.index(b"ab") + 1,
        text.index(b"Name"),
        text.index(b"Name") + 8,
        len(text) - 4,
    ]
    for at in places:
        spoiled = text[:at] + control + text[at:]
        assert "digests_malformed" in codes(package(spoiled)), at
    crlf = text.replace(b"\n", b"\r\n")
    for at in (crlf.index(b"\r"), crlf.index(b"ab\r") + 2):
        assert "digests_malformed" in codes(package(crlf[:at] + control + crlf[at:])), at


def folded_at(text: bytes, longest: int, ends: bytes) -> bytes:
    """As java.util.jar.Manifest writes: lines of at most so many bytes, whatever character is cut."""
    lines = []
    for line in text.split(b"\n"):
        lines.append(line[:longest])
        rest = line[longest:]
        while rest:
            lines.append(b" " + rest[: longest - 1])
            rest = rest[longest - 1 :]
    return ends.join(lines)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("letter", ["a", "ü", "日", "\U00010400"])
def test_lines_are_folded_at_72_bytes_and_may_cut_a_letter(letter: str, ends: bytes) -> None:
    width = len(letter.encode())
    for first in range(width):
        content = files({f"assets/{'a' * first}{letter * (200 // width)}.txt": b"x"})
        listed = content[DIGESTS]
        for longest in (72, 71, 70, 20):
            content[DIGESTS] = folded_at(listed, longest, ends)
            content[SIGNATURE] = KEY.sign(content[DIGESTS])
            assert not codes(raw_zip(entries(content))), (first, longest)
        content[DIGESTS] = folded_at(listed, 73, ends)
        assert "digests_malformed" in codes(raw_zip(entries(content)))


@pytest.mark.parametrize(
    "text",
    [
        HEAD + b"\n x\n" + REST, b" " + HEAD + REST, HEAD + b"\n" + b"Name: " + b"a" * 510 + b"\n",
        HEAD.replace(b"1.0", b"1.\n 0") + REST + b"\n x", HEAD.rstrip(b"\n") + b" \n" + REST, b"\n" + HEAD + REST,
    ],
)  # fmt: skip
def test_lines_that_readers_join_differently_are_refused(text: bytes) -> None:
    assert "digests_malformed" in codes(package(text))


def test_a_digest_has_one_spelling() -> None:
    spoiled = FIRST[:-2] + bytes([FIRST[-2] + 1]) + FIRST[-1:]
    assert base64.b64decode(spoiled.rpartition(b" ")[2]) == base64.b64decode(
        FIRST.rpartition(b" ")[2]
    )
    assert "digests_malformed" in codes(package(DIGESTS_LF.replace(FIRST, spoiled)))
    name, digest = FIRST.split(b"\n")
    swapped = DIGESTS_LF.replace(FIRST, digest + b"\n" + name)
    assert "digests_malformed" in codes(package(swapped))


def with_certificate(content: bytes) -> bytes:
    """A good package with this CERT.PEM, which nothing lists."""
    return raw_zip(entries({**files(), CERTIFICATE: content}))


PEM = KEY.public_pem.encode()
GOOD_PACKAGE = package()


@pytest.mark.parametrize("content", [PEM, PEM.rstrip(b"\n"), PEM.replace(b"\n", b"\r\n")])
def test_cert_pem_is_the_key_that_signed(content: bytes) -> None:
    assert CERTIFICATE in look(with_certificate(content)).files


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n", PEM * 2, PEM + b"\n", b" " + PEM, PEM + b"x", b"x" + PEM, PEM[:-10], PEM.replace(b"PUBLIC", b"PRIVATE"),
        KEY.raw, KEY.public_base64.encode(), signing_key().public_pem.encode(), bytes(1024), bytes(1025), PEM + b"\n" * 9000,
        b"\x7fELF" + bytes(100), PEM.replace(b"\n", b"\r"), PEM.lower(), GOOD_PACKAGE, random.Random(1).randbytes(9 << 20),
    ],
)  # fmt: skip
def test_any_other_cert_pem_is_refused(content: bytes) -> None:
    assert codes(with_certificate(content)) == {"certificate_mismatch"}


def test_cert_pem_of_another_live_key_is_refused() -> None:
    other = signing_key()
    keys = {"mine": KEY.raw, "other": other.raw}
    assert not codes(with_certificate(PEM), keys=keys)
    assert codes(with_certificate(other.public_pem.encode()), keys=keys) == {"certificate_mismatch"}


def test_no_file_is_passed_over_by_the_deep_checks(tmp_path: Path) -> None:
    path = tmp_path / "package.mosis"
    path.write_bytes(with_certificate(PEM))
    seen: list[str] = []
    with open(path, "rb") as file:
        assert not [each for each in look_into(file, seen.append) if each.severity == "error"]
    assert set(seen) == {*files(), CERTIFICATE}
    content = files({f"assets/{'ü' * 60}.txt": b"x"})
    content[DIGESTS] = folded_at(content[DIGESTS], 72, b"\r\n")  # no UTF-8 before it is unfolded
    path.write_bytes(raw_zip(entries(content)))
    with open(path, "rb") as file:
        assert not [each for each in look_into(file) if each.severity == "error"]
    secret = b"Created-By: AKIAABCDEFGHIJKLMNOP\n"
    path.write_bytes(package(HEAD + secret + REST))
    with open(path, "rb") as file:
        assert ("secret_found", DIGESTS) in {(each.code, each.path) for each in look_into(file)}
