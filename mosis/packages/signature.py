"""META-INF: the digests of the files, their signature, and the Ed25519 keys (RFC 8032) that sign."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping

from mosis.errors import Invalid
from mosis.packages.ed25519 import verify
from mosis.packages.findings import Finding

__all__ = [
    "CERTIFICATE", "CERTIFICATE_BYTES", "DIGESTS", "DIGESTS_BYTES", "SIGNATURE", "SIGNATURE_BYTES", "check_digests", "fingerprint",
    "is_certificate", "parse_public_key", "read_digests", "read_signature", "to_pem", "verify",
]  # fmt: skip

DIGESTS, SIGNATURE = "META-INF/MANIFEST.MF", "META-INF/CERT.SIG"
CERTIFICATE = "META-INF/CERT.PEM"  # optional, for readers of the package
DIGESTS_BYTES, SIGNATURE_BYTES, CERTIFICATE_BYTES = 1 << 20, 1024, 1024
# The JAR specification limits lines to 72 bytes; java.util.jar.Manifest reads up to 512 with the
# line end.
FOLDED_LINE_BYTES, LINE_BYTES = 72, 510
CREATED_BY_LETTERS = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_P = 2**255 - 19
# y coordinates of the points of small order on edwards25519: with such a key, one signature can be
# valid for every message (https://eprint.iacr.org/2020/1244, table 1, "Taming the many EdDSAs").
_SMALL_ORDER_Y = frozenset({
    0, 1, _P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
})  # fmt: skip
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")
# SubjectPublicKeyInfo of RFC 8410, without the key
_SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")


def parse_public_key(text: str) -> bytes:
    """The 32 raw bytes of a public key given as PEM or base64. Raises Invalid for any other key, and for weak ones."""
    found = _PEM.search(text)  # text around it is allowed (RFC 7468, section 2)
    if "PRIVATE KEY" in text:
        raise _bad_key(_other_key(text))
    if found and len(_PEM.findall(text)) > 1:
        raise _bad_key("There are several keys in this text; send them one by one.")
    encoded = "".join((found[1] if found else text).split()).replace("-", "+").replace("_", "/")
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:  # binascii.Error is one; non-ASCII letters raise another
        raw = b""
    if raw.startswith(_SPKI_ED25519):
        raw = raw[len(_SPKI_ED25519) :]
    elif found:
        raw = b""
    if len(raw) != 32:
        raise _bad_key(_other_key(text))
    y = int.from_bytes(raw, "little") & (1 << 255) - 1
    if y >= _P or y in _SMALL_ORDER_Y:
        raise _bad_key(
            "This key is of small order or not in canonical form, so its signatures "
            "prove nothing; make a new key."
        )
    return raw


def _other_key(text: str) -> str:
    """What to send in place of a text that is no Ed25519 public key. Nothing of the text is repeated: it may be a secret."""
    wanted = "This must be an Ed25519 public key, as PEM (`openssl pkey -pubout`) or as the base64 of its 32 bytes."
    if "PRIVATE KEY" in text:
        return (
            "This is a private key, which nobody else may see. Make another one, and send its public key. "
            + wanted
        )
    if re.match(r"\s*(?:ssh-|ecdsa-|sk-)", text) or "SSH2 PUBLIC KEY" in text:
        return "This is a key of OpenSSH. " + wanted
    if "BEGIN CERTIFICATE" in text:
        return "This is a certificate. " + wanted
    if "BEGIN PUBLIC KEY" in text:
        return (
            "This is a key of another kind, or damaged (`openssl genpkey -algorithm ed25519` makes one). "
            + wanted
        )
    if re.fullmatch(r"\s*[0-9A-Fa-f]{64}\s*", text):
        return "This is hexadecimal. " + wanted
    return wanted


def fingerprint(raw: bytes) -> str:
    """`SHA256:` and the unpadded base64 of the SHA-256 of the 32 bytes, as in OpenSSH."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def to_pem(raw: bytes) -> str:
    """The key as PEM (RFC 8410)."""
    return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(_SPKI_ED25519 + raw).decode()}\n-----END PUBLIC KEY-----\n"


def read_signature(content: bytes) -> bytes | None:
    """The 64 bytes of CERT.SIG, raw or as base64 in one or more lines; None if it is neither."""
    if len(content) == 64:
        return content
    encoded = b"".join(content.splitlines())
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    return decoded if len(decoded) == 64 and base64.b64encode(decoded) == encoded else None


def is_certificate(content: bytes, raw_key: bytes) -> bool:
    """Whether these bytes of CERT.PEM are this public key as `openssl pkey -pubout` writes it, with LF or CRLF."""
    lines = content.replace(b"\r\n", b"\n").removesuffix(b"\n") + b"\n"
    return lines == to_pem(raw_key).encode()


def read_digests(content: bytes) -> tuple[dict[str, bytes], list[Finding]]:
    """{name: SHA-256} of MANIFEST.MF, and what is wrong with it.

    The format is that of a JAR manifest (https://docs.oracle.com/javase/17/docs/specs/jar/jar.html,
    "Name-Value pairs and Sections"), restricted so that every reader finds the same sections: LF or
    CRLF, no other control characters, `Manifest-Version: 1.0` and at most one `Created-By` in the
    head, then Name and SHA-256-Digest in each section. A continuation line may split a UTF-8
    character, as java.util.jar.Manifest does at 72 bytes.
    """
    digests: dict[str, bytes] = {}
    findings: list[Finding] = []
    try:
        sections = _sections(_unfolded(content))
        _check_head(next(sections, (1, [])))
        for number, attributes in sections:
            try:
                name, digest = _listed(attributes)
            except ValueError as error:
                findings.append(_finding("digests_malformed", str(error), number))
                continue
            if name in digests:
                findings.append(
                    _finding("digest_extra", f"{name[:256]!r} is listed twice.", number)
                )
            digests[name] = digest
    except _Malformed as error:
        return {}, [_finding("digests_malformed", str(error), error.line)]
    return digests, findings


def check_digests(listed: Mapping[str, bytes], found: Mapping[str, bytes]) -> Iterator[Finding]:
    """Check that every file outside META-INF is listed, no other is, and every digest matches."""
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


class _Malformed(ValueError):
    """MANIFEST.MF cannot be read as lines; its content is ignored."""

    def __init__(self, detail: str, line: int) -> None:
        super().__init__(detail)
        self.line = line


def _unfolded(content: bytes) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, joined with their continuations; plus an empty line at the end."""
    pending: list[bytes] = []
    start = number = 1
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _Malformed("It begins with a byte order mark; save it as UTF-8 without one.", 1)
    if b"\r" in content and b"\n" not in content:
        raise _Malformed("Its lines end with CR alone; end them with LF or CRLF.", 1)
    for number, line in enumerate(content.replace(b"\r\n", b"\n").split(b"\n"), 1):
        if not line.startswith(b" "):
            if pending:
                yield start, _joined(pending, start)
            pending, start = [line], number
        elif pending and pending[0]:
            pending.append(line)
        else:
            raise _Malformed("A line that begins with a space must continue another line.", number)
    yield start, _joined(pending, start)
    yield number + 1, ""


def _joined(lines: list[bytes], number: int) -> str:
    """A line and its continuations as text; joined as bytes, because one may split a character."""
    longest = FOLDED_LINE_BYTES if len(lines) > 1 else LINE_BYTES
    if max(map(len, lines)) > longest:
        detail = (
            f"A line may have {LINE_BYTES} bytes, and {FOLDED_LINE_BYTES} where it is continued."
        )
        raise _Malformed(detail, number)
    return _text(lines[0] + b"".join(line[1:] for line in lines[1:]), number)


def _text(line: bytes, number: int) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise _Malformed("It is not UTF-8.", number) from None
    if _CONTROL.search(text):
        raise _Malformed("It has a control character; lines end with LF or CRLF.", number)
    return text


def _sections(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """(line number, [(name, value)]) of each section, the head first."""
    attributes: list[tuple[str, str]] = []
    start = 1
    for number, line in lines:
        if line:
            name, colon, value = line.partition(": ")
            start = start if attributes else number
            attributes.append((name if colon else "", value))
        elif attributes or number == 1:  # the head must begin on the first line
            yield start, attributes
            attributes = []


def _check_head(head: tuple[int, list[tuple[str, str]]]) -> None:
    line, attributes = head
    if attributes[:1] != [("Manifest-Version", "1.0")]:
        raise _Malformed("It must begin with `Manifest-Version: 1.0`.", 1)
    for name, value in attributes[1:]:
        if name != "Created-By" or len(attributes) > 2:
            detail = "The head may have Manifest-Version and Created-By once each, and nothing else"
            raise _Malformed(f"{detail}; an empty line must follow it.", line)
        if not value.isprintable() or len(value) > CREATED_BY_LETTERS:
            detail = f"Created-By must be printable, with at most {CREATED_BY_LETTERS} characters."
            raise _Malformed(detail, line)


def _listed(attributes: list[tuple[str, str]]) -> tuple[str, bytes]:
    """(name, SHA-256) of a section. Raises ValueError for anything else."""
    if [name for name, _ in attributes] != ["Name", "SHA-256-Digest"]:
        raise ValueError("A section must have Name, then SHA-256-Digest, and nothing else.")
    (_, name), (_, encoded) = attributes
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != 32 or base64.b64encode(digest).decode() != encoded:
        is_hex = re.fullmatch("[0-9A-Fa-f]{64}", encoded)
        hint = ", not their hexadecimal digits" if is_hex else ""
        raise ValueError(f"SHA-256-Digest must be the base64 of 32 bytes{hint}.")
    return name, digest


def _finding(code: str, detail: str, line: int | None = None) -> Finding:
    return Finding(code, detail, DIGESTS, line)


def _bad_key(detail: str) -> Invalid:
    return Invalid([{"pointer": "/public_key", "code": "wrong_format", "detail": detail}])
