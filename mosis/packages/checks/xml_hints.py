"""What to write instead, at the first place where an XML parser stops."""

import re
from xml.parsers import expat

_CODES = expat.errors.codes
_BY_CODE = {
    _CODES[
        expat.errors.XML_ERROR_TAG_MISMATCH
    ]: "write the end tag with the same capitals as its start tag.",
    _CODES[
        expat.errors.XML_ERROR_DUPLICATE_ATTRIBUTE
    ]: "an attribute occurs twice in one tag, and the last one counts; remove the other.",
    _CODES[
        expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT
    ]: "remove what follows the end of the outermost element.",
    _CODES[
        expat.errors.XML_ERROR_UNBOUND_PREFIX
    ]: "declare the prefix of this name with xmlns, or write a name without colon.",
    _CODES[
        expat.errors.XML_ERROR_MISPLACED_XML_PI
    ]: "<?xml ... ?> must stand at the very beginning; leave it out.",
    _CODES[
        expat.errors.XML_ERROR_BAD_CHAR_REF
    ]: "this number is not a character of XML; remove it.",
    _CODES[expat.errors.XML_ERROR_UNKNOWN_ENCODING]: "leave out the encoding; RML is UTF-8.",
    _CODES[expat.errors.XML_ERROR_INCORRECT_ENCODING]: "leave out the encoding; RML is UTF-8.",
}
_UNDEFINED_ENTITY = _CODES[expat.errors.XML_ERROR_UNDEFINED_ENTITY]
_NUMBERS = {
    "nbsp": "&#160;",
    "copy": "&#169;",
    "mdash": "&#8212;",
    "hellip": "&#8230;",
    "euro": "&#8364;",
}
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]{0,30});")
_WITHOUT_VALUE = re.compile(rb"([^\s=\"'<>/]+)\s*$")
_WINDOW = 4096  # bytes before the place that are examined
_GENERAL = (
    "write &lt; for < and &amp; for &, and give each attribute a value in quotes, "
    "preceded by a space."
)


def hint_for(source: bytes, code: int, at: int) -> str:
    """One sentence for the parser's error `code` at the byte `at`."""
    for tag in (b"script", b"style"):
        begin = source[:at].lower().rfind(b"<" + tag)
        if begin >= 0 and not re.search(rb"</\s*" + tag, source[begin:at], re.IGNORECASE):
            return f"put what is in the <{tag.decode()}> into a file of its own."
    if code == _UNDEFINED_ENTITY:
        return _entity(source, at)
    if code in _BY_CODE:
        return _BY_CODE[code]
    before, mark = source[max(0, at - _WINDOW) : at], source[at : at + 1]
    if before.rfind(b"<!--") > max(before.rfind(b"-->"), -1):
        return "do not write -- within a comment."
    inside_tag = before.rfind(b"<") > before.rfind(b">")
    if re.search(rb"&[^\s;<>&]{0,40}$", before):
        return "write &amp; for &."
    if mark == b"<" or before.endswith(b"<"):
        return "write &lt; for <."
    if mark == b"&":
        return "write &amp; for &."
    if inside_tag and before.rstrip().endswith(b"="):
        return 'put the value of the attribute into quotes, as in name="value".'
    if inside_tag and (name := _WITHOUT_VALUE.search(before)):
        shown = name[1].decode("utf-8", "replace")[:40]
        return f'give the attribute {shown!r} a value, as in name="value".'
    return _GENERAL


def _entity(source: bytes, at: int) -> str:
    found = _ENTITY.match(source, at)
    name = found[1].decode() if found else ""
    if name in _NUMBERS:
        return f"write {_NUMBERS[name]} for &{name};."
    return f"XML has no entity &{name};, write the character itself, or &amp; for &."
