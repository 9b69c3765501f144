"""META-INF: the digests of the files, the signature over them, and the Ed25519 keys (RFC 8032) that sign."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping

from mosis.errors import Invalid
from mosis.packages.findings import Finding

DIGESTS, SIGNATURE = "META-INF/MANIFEST.MF", "META-INF/CERT.SIG"
DIGESTS_BYTES = 1 << 20
_P = 2**255 - 19
# y coordinates of the points of small order on edwards25519: with such a key one signature can fit every message
# (https://eprint.iacr.org/2020/1244, table 1, "Taming the many EdDSAs").
_SMALL_ORDER_Y = frozenset({
    0, 1, _P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
})  # fmt: skip
_PEM = re.compile(
    r"\s*-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*\Z"
)
_SPKI_ED25519 = bytes.fromhex(
    "302a300506032b6570032100"
)  # SubjectPublicKeyInfo of RFC 8410, without the key


def parse_public_key(text: str) -> bytes:
    """The 32 raw bytes of a public key given as PEM or base64. Raises Invalid for any other key, and for weak ones."""
    found = _PEM.match(text)
    encoded = "".join((found[1] if found else text).split()).replace("-", "+").replace("_", "/")
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:  # binascii.Error is one; letters beyond ASCII are another
        raw = b""
    if raw.startswith(_SPKI_ED25519):
        raw = raw[len(_SPKI_ED25519) :]
    elif found:
        raw = b""
    if len(raw) != 32:
        raise _bad_key(
            "This must be an Ed25519 public key, as PEM (`openssl pkey -pubout`) or as the base64 of its 32 bytes."
        )
    y = int.from_bytes(raw, "little") & (1 << 255) - 1
    if y >= _P or y in _SMALL_ORDER_Y:
        raise _bad_key(
            "This key is of small order or not in its canonical form; nobody could trust its signatures."
        )
    return raw


def fingerprint(raw: bytes) -> str:
    """`SHA256:` and the unpadded base64 of the SHA-256 of the 32 bytes, in the manner of OpenSSH."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def to_pem(raw: bytes) -> str:
    """The key as PEM (RFC 8410)."""
    return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(_SPKI_ED25519 + raw).decode()}\n-----END PUBLIC KEY-----\n"


def verify(raw_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this key made this signature over this message."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(raw_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_signature(content: bytes) -> bytes | None:
    """The 64 bytes of CERT.SIG, raw or as base64; None when it is neither."""
    if len(content) == 64:
        return content
    try:
        decoded = base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        return None
    return decoded if len(decoded) == 64 else None


def read_digests(content: bytes) -> tuple[dict[str, bytes], list[Finding]]:
    """{name: SHA-256} of MANIFEST.MF and what is wrong with it. Lines may be continued as in JAR files: a leading space."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return {}, [_finding("digests_malformed", "It is not UTF-8.")]
    lines = _unfolded(text)
    if lines[0][1] != "Manifest-Version: 1.0":
        return {}, [_finding("digests_malformed", "It must begin with `Manifest-Version: 1.0`.", 1)]
    digests: dict[str, bytes] = {}
    findings: list[Finding] = []
    for number, attributes in _sections(lines):
        try:
            if set(attributes) != {"Name", "SHA-256-Digest"}:
                raise ValueError
            digest = base64.b64decode(attributes["SHA-256-Digest"], validate=True)
            if len(digest) != 32:
                raise ValueError
        except ValueError:
            findings.append(
                _finding(
                    "digests_malformed",
                    "A section must have Name and SHA-256-Digest, and nothing else.",
                    number,
                )
            )
            continue
        if attributes["Name"] in digests:
            findings.append(
                _finding("digest_extra", f"{attributes['Name'][:256]!r} is listed twice.", number)
            )
        digests[attributes["Name"]] = digest
    return digests, findings


def check_digests(listed: Mapping[str, bytes], found: Mapping[str, bytes]) -> Iterator[Finding]:
    """Every file but those of META-INF is listed, nothing else is, and every digest holds."""
    for name, digest in found.items():
        if name not in listed:
            yield Finding("digest_unlisted", f"{name!r} is not listed in {DIGESTS}.", name)
        elif listed[name] != digest:
            yield Finding(
                "digest_wrong", f"{name!r} does not have the digest that {DIGESTS} says.", name
            )
    for name in listed.keys() - found.keys():
        yield Finding(
            "digest_extra", f"{DIGESTS} lists {name[:256]!r}, which is not there.", DIGESTS
        )


def _unfolded(text: str) -> list[tuple[int, str]]:
    """The lines with their numbers, each with its continuations put behind it."""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if line.startswith(" ") and lines:
            lines[-1] = (lines[-1][0], lines[-1][1] + line[1:])
        else:
            lines.append((number, line))
    return lines


def _sections(lines: list[tuple[int, str]]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, attributes) of each section after the first; a line without a colon makes the section empty."""
    attributes: dict[str, str] = {}
    start, in_head = 0, True
    for number, line in [*lines, (len(lines) + 1, "")]:
        if line:
            name, colon, value = line.partition(": ")
            start = start if attributes else number
            attributes[name if colon and name not in attributes else f"?{number}"] = value
        elif attributes:
            if not in_head:
                yield start, attributes
            in_head, attributes = False, {}


def _finding(code: str, detail: str, line: int | None = None) -> Finding:
    return Finding(code, detail, DIGESTS, line)


def _bad_key(detail: str) -> Invalid:
    return Invalid([{"pointer": "/public_key", "code": "wrong_format", "detail": detail}])
