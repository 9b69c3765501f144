"""Content-Digest and Repr-Digest of a request (RFC 9530), and the older Digest (RFC 3230).

The first two are dictionaries of structured fields (RFC 8941): several algorithms, on several
lines, with parameters. `sha-256` and `sha-512` are verified; others are ignored, as RFC 9530
allows. A compressed body is verified as sent, so both fields mean the same bytes. A field that
cannot be parsed is refused, because the client wants it to be verified.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from mosis.errors import Invalid, Malformed, MalformedRequest

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
FIELDS = ("Content-Digest", "Repr-Digest")
# Bare items of structured fields (RFC 8941, section 3.3, and the two that RFC 9651 adds).
_BYTES = r":[A-Za-z0-9+/=]*:"
_ITEM = (
    rf'(?:{_BYTES}|@?-?[0-9]{{1,15}}(?:\.[0-9]{{1,3}})?|\?[01]|%?"(?:[ !#-\[\]-~]|\\["\\])*"'
    r"|[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]*)"
)
_KEY = r"[a-z*][a-z0-9_.*-]*"
_PARAMETERS = rf"(?:; *+{_KEY}(?:={_ITEM})?+)*+"
_INNER_LIST = rf"\( *+(?:{_ITEM}{_PARAMETERS}(?: ++{_ITEM}{_PARAMETERS})*+)?+ *+\)"
# Compiled when it is first used, which takes 1 ms.
_MEMBER = rf"({_KEY})(?:=({_ITEM}|{_INNER_LIST}))?{_PARAMETERS}(?:[ \t]*(,)[ \t]*|\Z)"
_OLD = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(.+)"


class Expected:
    """The digests that a request declares. The body is passed to `update`; `check` compares."""

    def __init__(self, announced: Mapping[tuple[str, str], bytes]) -> None:
        self._announced = announced
        self._hashes = {name: hashlib.new(ALGORITHMS[name]) for _, name in announced}

    def __bool__(self) -> bool:
        return bool(self._announced)

    def update(self, block: bytes) -> None:
        """Add a part of the body."""
        for each in self._hashes.values():
            each.update(block)

    def check(self) -> None:
        """Raises Invalid `digest_mismatch` if the body differs from the declared digests."""
        wrong = [
            {
                "pointer": "",
                "code": "digest_mismatch",
                "detail": f"{field} announces {_shown(name, value)}; the body that arrived has"
                f" {_shown(name, self._hashes[name].digest())}.",
            }
            for (field, name), value in self._announced.items()
            if value != self._hashes[name].digest()
        ]
        if wrong:
            fields = " and ".join(dict.fromkeys(each["detail"].split(" ", 1)[0] for each in wrong))
            raise Invalid(
                wrong,
                "digest_mismatch",
                f"The body is not the one that {fields} announces. The digest is that of the whole"
                " body as it is sent, in base64 (not hexadecimal). Send it again.",
            )


def expected(header: Callable[[str], str | None]) -> Expected:
    """The digests declared in the headers. Raises Malformed for a field that cannot be parsed."""
    found: dict[tuple[str, str], bytes] = {}
    for field in FIELDS:
        value = header(field)
        if value is not None:
            for name, digest in _dictionary(field, value).items():
                found[field, name] = digest
    value = header("Digest")
    if value is not None:
        for name, digest in _old_list(value).items():
            found["Digest", name] = digest
    return Expected(found)


def check_digests(header: Callable[[str], str | None], body: bytes) -> None:
    """Compare a body with its digest headers. Raises Malformed, Invalid `digest_mismatch`."""
    announced = expected(header)
    if announced:
        announced.update(body)
        announced.check()


def _dictionary(field: str, text: str) -> dict[str, bytes]:
    """The digests of known algorithms in a dictionary (RFC 8941, 4.2.2); the last counts."""
    found: dict[str, Any] = {}
    text, position = text.strip(" "), 0
    while position < len(text):
        member = re.compile(_MEMBER).match(text, position)
        if member is None or (member[3] and member.end() == len(text)):
            raise _unreadable(field, "it is not a dictionary of RFC 8941")
        found[member[1]] = member[2] or ""
        position = member.end()
    digests = {}
    for name in found.keys() & ALGORITHMS.keys():
        if not re.fullmatch(_BYTES, found[name]):
            raise _unreadable(field, f"the value of {name} is not a byte sequence between colons")
        digests[name] = _decoded(field, name, found[name][1:-1])
    return digests


def _old_list(text: str) -> dict[str, bytes]:
    """The digests of known algorithms in a list of RFC 3230, section 4.3.2, where names are in any case."""
    found = {}
    for each in filter(None, (each.strip(" \t") for each in text.split(","))):
        member = re.fullmatch(_OLD, each)
        if member is None:
            raise _unreadable("Digest", "it is not a list of ALGORITHM=VALUE (RFC 3230)")
        if member[1].lower() in ALGORITHMS:
            found[member[1].lower()] = _decoded("Digest", member[1].lower(), member[2])
    return found


def _decoded(field: str, name: str, text: str) -> bytes:
    """Base64 with or without padding, ignoring unused bits at the end (RFC 8941, section 4.2.7)."""
    content = text.rstrip("=")
    if not re.fullmatch(r"[A-Za-z0-9+/]*", content) or len(content) % 4 == 1:
        raise _unreadable(field, f"the value of {name} is not base64")
    digest = base64.b64decode(content + "=" * (-len(content) % 4))
    size = hashlib.new(ALGORITHMS[name]).digest_size
    if len(digest) != size:
        raise _unreadable(field, f"the value of {name} has {len(digest)} bytes instead of {size}")
    return digest


def _shown(name: str, digest: bytes) -> str:
    return f"{name}=:{base64.b64encode(digest).decode()}:"


def _unreadable(field: str, reason: str) -> Malformed:
    example = "SHA-256=BASE64" if field == "Digest" else "sha-256=:BASE64:"
    detail = f"The header {field} cannot be read: {reason}. Write `{field}: {example}`."
    return MalformedRequest(detail)
