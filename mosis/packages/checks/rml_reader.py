"""Reads RML the way RmlUi's BaseXMLParser does, so that the checks see the elements, scripts and
styles that a device sees.

Differences from XML that RmlUi accepts: names in any case, attributes without a value or without
quotes, a repeated attribute (the last one counts), spaces after `<`, `&` and `<` anywhere in values
and within `{{ }}`, `--` in comments, anything after the end of the outermost element. The content
of a script or style is literal text. The time is linear in the size of the document.
"""

import re
from collections.abc import Iterator

from mosis.records import dataclass

VERBATIM = frozenset(["script", "style"])  # RmlUi: Factory::RegisterPersistentCDATATag
SVG = frozenset(["svg"])  # also literal text if RmlUi is built with its SVG plugin
_BLANK = rb"[ \t\r\n]*+"
_TAG_NAME = re.compile(_BLANK + rb"([^ \t\r\n/>\0]++)(?=[\s\S])")
_ATTRIBUTE_NAME = re.compile(_BLANK + rb"([^ \t\r\n=/>\0]++)(?=[\s\S])")
_CLOSE, _SLASH, _EQUALS = (re.compile(_BLANK + mark) for mark in (rb">", rb"/", rb"="))
_QUOTE = re.compile(_BLANK + rb"([\"'])")
_COMMENT, _CDATA = re.compile(_BLANK + rb"!--"), re.compile(_BLANK + rb"!\[CDATA\[")
_HEADER = re.compile(_BLANK + rb"<\?[^>]*>")
_END_TAG = re.compile(rb"<" + _BLANK + rb"/")
_IN_TEXT = re.compile(rb"<|\{\{|\}\}")
_IN_BRACKETS = re.compile(rb"'[^']*'|'|\}\}|\{\{|\}[^}']|/>|</")


class Unreadable(Exception):
    """RmlUi stops here; `detail` gives the reason and what to do."""

    def __init__(self, detail: str, line: int, code: str = "rml_malformed") -> None:
        super().__init__(detail)
        self.detail, self.line, self.code = detail, line, code


@dataclass(frozen=True)
class Start:
    """A start tag; attributes as (name, raw value). `at` is the offset of its `<`."""

    name: str
    attributes: list[tuple[str, bytes]]
    line: int
    at: int


@dataclass(frozen=True)
class Verbatim:
    """The content of a script or style, and the line on which it begins."""

    name: str
    content: bytes
    line: int


@dataclass(frozen=True)
class Markup:
    """Text with a CDATA section that has `<` in it: RmlUi reads such text once more as RML."""

    content: bytes
    line: int


Event = Start | Verbatim | Markup


class Reader:
    """One pass over a document."""

    def __init__(
        self, source: bytes, depth: int, verbatim: frozenset[str] = VERBATIM, first_line: int = 1
    ) -> None:
        self.source, self.depth, self.verbatim = source, depth, verbatim
        self.at = 0
        self.open: list[tuple[str, int]] = []  # names of the open elements, and their lines
        self._counted, self._line = 0, first_line
        self._text: list[bytes] = []  # since the last tag
        self._text_at, self._has_cdata = 0, False

    def events(self) -> Iterator[Event]:
        """Everything that RmlUi reads. Raises Unreadable if it stops."""
        if header := _HEADER.match(self.source):
            self.at = header.end()
        begun = False
        while self._skip_text():
            begin = self.at - 1
            if found := _COMMENT.match(self.source, self.at):
                self._skip_past(b"-->", found.end(), "A comment is not closed; end it with -->.")
            elif found := _CDATA.match(self.source, self.at):
                self._read_cdata(found.end())
            elif found := _SLASH.match(self.source, self.at):
                yield from self._pending_markup()
                self._read_end_tag(found.end())
                if not self.open:
                    return  # RmlUi ignores what follows
            else:
                yield from self._pending_markup()
                begun = True
                yield from self._read_start_tag(begin)
        if self.open:
            name, line = self.open[-1]
            raise Unreadable(f"<{name[:40]}> is not closed; write </{name[:40]}>.", line)
        if not begun:
            raise Unreadable("There is no element; begin the document with <rml>.", 1)

    def line(self, at: int) -> int:
        """The line of an offset. Offsets should increase from call to call; going back far is slow."""
        if at >= self._counted:
            self._line += self.source.count(b"\n", self._counted, at)
        else:
            self._line -= self.source.count(b"\n", at, self._counted)
        self._counted = at
        return self._line

    def _fail(self, detail: str, at: int, code: str = "rml_malformed") -> Unreadable:
        return Unreadable(detail, self.line(min(at, len(self.source))), code)

    def _skip_text(self) -> bool:
        """Move behind the next `<` outside of `{{ }}`; False at the end of the document."""
        start = position = self.at
        while found := _IN_TEXT.search(self.source, position):
            if found[0] == b"<":
                if not self._text:
                    self._text_at = start
                self._text.append(self.source[start : found.start()])
                self.at = found.end()
                return True
            if found[0] == b"}}":
                raise self._fail("There is a }} without {{ before it; remove it.", found.start())
            position = self._skip_brackets(found.end() - 1)
        return False

    def _skip_brackets(self, position: int) -> int:
        """The offset of the last `}` of a data expression; `position` is that of the second `{`."""
        begin = position
        while found := _IN_BRACKETS.search(self.source, position):
            if found[0] == b"}}":
                return found.end() - 1
            if found[0] == b"'":
                break
            if not found[0].startswith(b"'"):
                detail = "A data expression {{ }} must not have {{, a single } or the end of a tag in it; close it with }}."
                raise self._fail(detail, found.start())
            position = found.end()
        raise self._fail("{{ is not closed; write }}.", begin)

    def _skip_past(self, mark: bytes, start: int, detail: str) -> int:
        """Move behind the next `mark` at or after `start`; its offset."""
        found = self.source.find(mark, start)
        if found < 0:
            raise self._fail(detail, self.at)
        self.at = found + len(mark)
        return found

    def _read_cdata(self, start: int) -> None:
        end = self._skip_past(b"]]>", start, "A CDATA section is not closed; end it with ]]>.")
        self._text.append(self.source[start:end])
        self._has_cdata = True

    def _pending_markup(self) -> Iterator[Event]:
        text = b"".join(self._text) if self._has_cdata else b""
        self._text, self._has_cdata = [], False
        if b"<" in text:
            yield Markup(text, self.line(self._text_at))

    def _read_end_tag(self, start: int) -> None:
        begin = self.at - 1
        end = self._skip_past(b">", start, "An end tag is not closed; write > after its name.")
        name = _lower(self.source[start:end].strip(b" \t\r\n"))
        if not self.open:
            raise self._fail(f"</{name[:40]}> closes no element; remove it.", begin)
        opened, line = self.open.pop()
        if name != opened:
            detail = (
                f"</{name[:40]}> is not expected here, because <{opened[:40]}> of "
                f"line {line} is open; write </{opened[:40]}> first, or <{opened[:40]}/> for an empty element."
            )
            raise self._fail(detail, begin)

    def _read_start_tag(self, begin: int) -> Iterator[Event]:
        line = self.line(begin)
        found = _TAG_NAME.match(self.source, self.at)
        if not found:
            raise self._fail("This < does not begin a tag; write &lt; for it.", begin)
        name = _lower(found[1])
        self._refuse_declaration(name, begin)
        if len(self.open) >= self.depth:
            detail = f"More than {self.depth} elements are nested; use fewer levels."
            raise self._fail(detail, begin, "rml_too_deep")
        self.at = found.end()
        attributes: list[tuple[str, bytes]] = []
        closed = self._read_tag_end()
        if closed is None:
            self._read_attributes(attributes, name)
            closed = self._read_tag_end()
        if closed is None:
            detail = f"<{name[:40]}> is not closed by > or />; a value with / in it needs quotes."
            raise self._fail(detail, begin)
        yield Start(name, attributes, line, begin)
        if closed:
            return
        if name in self.verbatim:
            yield self._read_verbatim(name, begin)
        else:
            self.open.append((name, line))

    def _refuse_declaration(self, name: str, begin: int) -> None:
        """Declarations, which RmlUi reads as the start of an element that never ends."""
        if name.startswith("!doctype"):
            detail = "A document type (<!DOCTYPE ...>) is not allowed; leave it out."
            raise self._fail(detail, begin, "rml_doctype")
        if name.startswith("!entity"):
            detail = "Entities must not be declared; write the character itself."
            raise self._fail(detail, begin, "rml_entity")
        if name.startswith("?"):
            detail = "A processing instruction (<? ... ?>) is not allowed; leave it out."
            raise self._fail(detail, begin)
        if "<" in name:
            detail = (
                "A tag is not closed by >, or a < does not begin a tag; write "
                "&lt; for a < in a text."
            )
            raise self._fail(detail, begin)
        if name.startswith("!"):
            raise self._fail("RML supports no <! except in comments; write &lt;!.", begin)

    def _read_tag_end(self) -> bool | None:
        """Whether the tag ends here as that of an empty element; None if it does not end here."""
        if found := _CLOSE.match(self.source, self.at):
            self.at = found.end()
            return False
        if found := _SLASH.match(self.source, self.at):
            self.at = found.end()  # as RmlUi does, also when no > follows
            if found := _CLOSE.match(self.source, self.at):
                self.at = found.end()
                return True
        return None

    def _read_attributes(self, attributes: list[tuple[str, bytes]], tag: str) -> None:
        while True:
            begin = self.at
            found = _ATTRIBUTE_NAME.match(self.source, self.at)
            if not found:
                detail = f"The tag <{tag[:40]}> cannot be read here: an attribute or > is expected."
                raise self._fail(detail, begin)
            self.at = found.end()
            name, value = found[1].decode("utf-8", "replace"), b""
            if found := _EQUALS.match(self.source, self.at):
                self.at = found.end()
                value = self._read_value(name)
            attributes.append((name, value))
            if _SLASH.match(self.source, self.at) or _CLOSE.match(self.source, self.at):
                return

    def _read_value(self, name: str) -> bytes:
        if quote := _QUOTE.match(self.source, self.at):
            detail = f"The value of {name[:40]!r} is not closed; end it with {quote[1].decode()}."
            end = self._skip_past(quote[1], quote.end(), detail)
            return self.source[quote.end() : end]
        found = _TAG_NAME.match(self.source, self.at)
        if not found:
            raise self._fail(f"{name[:40]!r} has no value after =; write one in quotes.", self.at)
        self.at = found.end()
        return found[1]

    def _read_verbatim(self, name: str, begin: int) -> Event:
        start = position = self.at
        line = self.line(start)
        while found := _END_TAG.search(self.source, position):
            end = self.source.find(b">", found.end())
            if end < 0:
                break
            if _lower(self.source[found.end() : end].strip(b" \t\r\n")) == name:
                self.at = end + 1
                return Verbatim(name, self.source[start : found.start()], line)
            position = end + 1
        raise self._fail(f"<{name}> is not closed; write </{name}>.", begin)


def _lower(name: bytes) -> str:
    return name.decode("utf-8", "replace").lower()
