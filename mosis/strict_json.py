"""JSON as the contract wants it (RFC 8259, and stricter where the standard library is lax)."""

import json
import re
from typing import Any, NoReturn

from mosis.errors import Malformed

DEPTH = 32
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_OPENING = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OPEN = ord("[")
_LONGEST_NUMBER = 64


def load_json(body: bytes, depth: int = DEPTH) -> Any:
    """The value in these bytes. Raises Malformed `malformed_json` for anything but UTF-8 JSON with unique keys, finite
    numbers of at most 64 characters, whole characters and at most `depth` levels."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"It is not UTF-8 at byte {error.start}.") from None
    if text.startswith("\ufeff"):
        raise _malformed("It starts with a byte order mark; send it without.")
    _check_depth(body, depth)
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_whole, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _check_depth(body: bytes, depth: int) -> None:
    """Before parsing, so that no depth can exhaust the stack. Whole pieces at a time: a step in Python for each token would
    cost more than the parsing. Where the text is no JSON this can be wrong; the parser stops there."""
    unescaped = _ESCAPE.sub(b"", body) if b"\\" in body else body
    brackets = b"".join(unescaped.split(b'"')[::2]).translate(_OPENING, _NO_BRACKETS)
    if brackets.count(b"[") <= depth:
        return
    level = 0
    for bracket in brackets:
        level += 1 if bracket == _OPEN else -1
        if level > depth:
            raise _malformed(f"It is nested more than {depth} levels deep.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _malformed(f"The key {next(name for name in names if names.count(name) > 1)[:100]!r} stands twice in one object.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is not JSON.")


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise _malformed("A number is too long.")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if len(digits) > _LONGEST_NUMBER or value in (float("inf"), float("-inf")):
        raise _malformed("A number is too large.")
    return value


def _check_surrogates(value: Any) -> None:
    """A lone surrogate is no character: it could be neither stored nor sent again."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise _malformed("A text contains half a character (a lone surrogate).")
    elif isinstance(value, dict):
        for name, each in value.items():
            _check_surrogates(name)
            _check_surrogates(each)
    elif isinstance(value, list):
        for each in value:
            _check_surrogates(each)


def _malformed(detail: str) -> Malformed:
    return Malformed("malformed_json", f"The body is not acceptable JSON: {detail}")
