"""Strict JSON for requests (RFC 8259, stricter than the standard library), and output."""

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
_DIGITS = bytes(ord("0") if each in b"0123456789.eE+-" else ord(" ") for each in range(256))
_MANY_DIGITS = b"0" * 16  # more than a number of 64 bits may need
_UNDECIDED = object()


def load_json(body: bytes) -> Any:
    """Parse bytes as JSON. Raises Malformed `malformed_json` for anything but UTF-8 JSON with
    unique keys, finite numbers of up to 64 characters, no lone surrogates and up to DEPTH levels."""
    between = _outside_strings(body)
    value = _read_quickly(body, between)
    if value is not _UNDECIDED:
        return value
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"It is not UTF-8 at byte {error.start}.") from None
    if text.startswith("\ufeff"):
        raise _malformed("It starts with a byte order mark; send it without.")
    _check_depth(between)
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        place = f"at line {error.lineno}, column {error.colno}"
        raise _malformed(f"{_syntax_error(text, error.pos, error.msg)} {place}.") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _read_quickly(body: bytes, between: bytes) -> Any:
    """The value, if it is certain that the parser below would return the same. orjson is as strict,
    but for long numbers, and for repeated keys, of which it takes the last: then what it writes has
    fewer colons than what it read. The command line may be without it."""
    try:
        import orjson
    except ImportError:
        return _UNDECIDED
    if b"\\" in body or _MANY_DIGITS in between.translate(_DIGITS):
        return _UNDECIDED
    try:
        value = orjson.loads(body)
    except ValueError:
        return _UNDECIDED
    _check_depth(between)  # first, because orjson writes fewer levels than it reads
    if orjson.dumps(value).count(b":") != body.count(b":"):
        return _UNDECIDED
    return value


def dump_json(value: Any) -> bytes:
    """JSON without whitespace, as it is sent and stored. orjson takes 3 microseconds for a list of
    twenty apps, the standard library 44; integers of more than 64 bits, which only the latter
    supports, are left to it."""
    import orjson

    try:
        # A copy: what orjson returns keeps its buffer of 4 KiB and more, also in a cache.
        return bytes(memoryview(orjson.dumps(value)))
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def load_stored(text: str) -> Any:
    """JSON that the portal stored itself. What orjson does not read (integers of more than 64 bits,
    half characters in old rows) the standard library does."""
    import orjson

    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


def _outside_strings(body: bytes) -> bytes:
    """The text outside of strings; may be wrong for what is not JSON and is refused anyway."""
    unescaped = _ESCAPE.sub(b"", body) if b"\\" in body else body
    return b" ".join(unescaped.split(b'"')[::2])


def _check_depth(between: bytes) -> None:
    """Checked before parsing, so that no depth can exhaust the stack. Works on pieces between
    brackets: a Python loop over tokens would take longer than the parsing."""
    brackets = between.translate(_OPENING, _NO_BRACKETS)
    if brackets.count(b"[") <= DEPTH:
        return
    level = 0
    for bracket in brackets:
        level += 1 if bracket == _OPEN else -1
        if level > DEPTH:
            raise _malformed(f"It is nested more than {DEPTH} levels deep.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _malformed(
            f"The key {next(name for name in names if names.count(name) > 1)[:100]!r} "
            "occurs twice in one object."
        )
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is not JSON.")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise _malformed("A number is too long.")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if len(digits) > _LONGEST_NUMBER or value in (float("inf"), float("-inf")):
        raise _malformed("A number is too large.")
    return value


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_refuse_constant,
    parse_int=_integer,
    parse_float=_finite,
)


def _check_surrogates(value: Any) -> None:
    """A lone surrogate is not a character: it could neither be stored nor be sent back."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise _malformed("A text contains a lone surrogate, which is half a character.")
    elif isinstance(value, dict):
        for name, each in value.items():
            _check_surrogates(name)
            _check_surrogates(each)
    elif isinstance(value, list):
        for each in value:
            _check_surrogates(each)


def _syntax_error(text: str, position: int, kind: str) -> str:
    """What is wrong with the syntax at this position, in the words of RFC 8259; those of the standard library change with it."""
    if "control character" in kind or "escape" in kind:
        return "A text has a control character or a wrong escape"
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
    shown = f"`{found}`" if found.isprintable() else f"U+{ord(found):04X}"
    return f"{shown} is not expected"


def _malformed(detail: str) -> Malformed:
    return Malformed("malformed_json", f"The body is not acceptable JSON: {detail}")
