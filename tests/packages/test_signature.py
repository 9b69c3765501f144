"""Keys, signatures and MANIFEST.MF in every form that developers' tools write them."""

import base64
import hashlib

import pytest

from mosis.demo.packages import digests_of
from mosis.errors import Invalid
from mosis.packages import fingerprint, parse_public_key, to_pem
from mosis.packages.signature import DIGESTS, SIGNATURE, read_digests
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
        (SIGNED + b"\n", {"signature_malformed"}), (SIGNED[:63], {"signature_malformed"}), (b"", {"signature_malformed"}),
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
