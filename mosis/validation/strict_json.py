"""JSON as the contract wants it (RFC 8259, and stricter where the standard library is lax), and as we write it."""

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
_BLANKS = " \t\n\r"
_NUMBERS = bytes.maketrans(b"123456789.E", b"0000000000e")  # 12.5E-300 becomes 0000e000
_UNUSUAL = (b"0" * 30, b"0e000")  # in a number that is perhaps too long, or too large


def load_json(body: bytes, depth: int = DEPTH) -> Any:
    """The value in these bytes. Raises Malformed `malformed_json` for anything but UTF-8 JSON with unique keys, finite
    numbers of at most 64 characters, whole characters and at most `depth` levels."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"It is not UTF-8 at byte {error.start}.") from None
    if text.startswith("\ufeff"):
        raise _malformed("It starts with a byte order mark; send it without.")
    between = _between_texts(body)
    _check_depth(between, depth)
    try:
        # To ask about each object and number while it is read takes three times as long as to read it: that is done only where
        # an object has lost a key, or a number looks unusual.
        value = _quick.decode(text)
        numbers = between.translate(_NUMBERS, b"+-")
        if _pairs(value) != between.count(b":") or any(unusual in numbers for unusual in _UNUSUAL):
            value = _thorough.decode(text)
    except json.JSONDecodeError as error:
        place = f"at line {error.lineno}, column {error.colno}"
        raise _malformed(f"{_syntax_error(text, error.pos)} {place}.") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def dump_json(value: Any) -> bytes:
    """JSON without blanks, as it is sent and stored. A list of twenty apps takes orjson 3 microseconds and the standard library 44;
    what only the latter can write (a whole number of more than 64 bits, that somebody sent) goes there."""
    import orjson

    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _between_texts(body: bytes) -> bytes:
    """What stands outside the texts. Where the body is no JSON this can be wrong; the parser stops there."""
    unescaped = _ESCAPE.sub(b"", body) if b"\\" in body else body
    return b" ".join(unescaped.split(b'"')[::2])


def _check_depth(between: bytes, depth: int) -> None:
    """Before parsing, so that no depth can exhaust the stack. Whole pieces at a time: a step in Python for each token would
    cost more than the parsing."""
    brackets = between.translate(_OPENING, _NO_BRACKETS)
    if brackets.count(b"[") <= depth:
        return
    level = 0
    for bracket in brackets:
        level += 1 if bracket == _OPEN else -1
        if level > depth:
            raise _malformed(f"It is nested more than {depth} levels deep.")


def _pairs(value: Any) -> int:
    """How many keys there are in all the objects of a value."""
    found, waiting = 0, [value]
    for each in waiting:
        if type(each) is dict:
            found += len(each)
            waiting.extend(each.values())
        elif type(each) is list:
            waiting.extend(each)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _malformed(
            f"The key {next(name for name in names if names.count(name) > 1)[:100]!r} stands twice in one object."
        )
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


_quick = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_whole)
_thorough = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_refuse_constant,
    parse_int=_whole,
    parse_float=_finite,
)


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


def _syntax_error(text: str, position: int) -> str:
    """What is wrong with the syntax at this position, in the words of RFC 8259; those of the standard library change with it."""
    rest = text[position:]
    if not text.strip(_BLANKS):
        return "It is empty"
    if not rest.strip(_BLANKS):
        return "It ends too early"
    found = rest.lstrip(_BLANKS)[0]
    if found == "'":
        return "Texts stand in double quotes, not in single ones:"
    if found in ("/", "#"):
        return "There are no comments in JSON:"
    if found in "]}":
        return "There is a comma too many, or a value is missing"
    if found == '"':
        return "A text has no end, or a comma or colon is missing before it"
    if found < " " or found == "\\":
        return "A text has a control character or a wrong escape"
    shown = f"`{found}`" if found.isprintable() else f"U+{ord(found):04X}"
    return f"{shown} is not expected"


def _malformed(detail: str) -> Malformed:
    return Malformed("malformed_json", f"The body is not acceptable JSON: {detail}")
