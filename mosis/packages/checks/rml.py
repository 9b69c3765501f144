"""RML: read as RmlUi reads it (rml_reader.py), including embedded Lua and RCSS and the files it
names.

What RmlUi cannot read is an error. What it reads although it is not well-formed XML is the warning
`rml_not_xml`, because XML tools cannot process it. Document types and entity declarations are
refused before an XML parser sees them.
"""

import contextlib
import re
from collections.abc import Iterator
from xml.parsers import expat

from mosis.packages.checks import lua, rcss
from mosis.packages.checks.kinds import Contents, beside, error, warning
from mosis.packages.checks.rml_reader import SVG, VERBATIM, Markup, Reader, Start, Unreadable
from mosis.packages.checks.rml_reader import Verbatim as VerbatimContent
from mosis.packages.checks.xml_hints import hint_for
from mosis.packages.findings import Finding

DEPTH = 200  # elements within elements: devices walk the tree by recursion
REREAD = 8  # CDATA in CDATA, and places where a template could begin
ROOTS = ("rml", "template")
_CHECKS = {"script": lua.check, "style": rcss.check}
_REFERENCES = {("link", "href"), ("script", "src"), ("img", "src"), ("input", "src")}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|\?|#|\{\{", re.IGNORECASE)
_CDATA = re.compile(rb"\s*<!\[CDATA\[(.*)\]\]>\s*", re.DOTALL)
_ENTITY = re.compile(r"&(?:(lt|gt|amp|quot|apos)|#([0-9]{1,8})|#[xX]([0-9A-Fa-f]{1,8}));")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
# RmlUi's Template::Load searches for these, ignoring comments and CDATA sections.
_TEMPLATE = re.compile(rb"<[ \t\r\n/]*template", re.IGNORECASE)
_TEMPLATE_PART = re.compile(rb"<[ \t\r\n]*(?:head|body)", re.IGNORECASE)
_TEMPLATE_WHOLE = re.compile(
    rb"<[ \t\r\n]*head(?s:.*?)<[ \t\r\n]*/[ \t\r\n/]*head(?s:.*?)>"
    rb"(?s:.*?)<[ \t\r\n]*body(?s:.*?)<[ \t\r\n]*/[ \t\r\n/]*body(?s:.*?)>",
    re.IGNORECASE,
)


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with a document, or worth a look. Nothing outside it is read."""
    if problem := _unreadable_bytes(content):
        yield error("rml_malformed", problem[0], path, problem[1])
        return
    source = content.removeprefix(b"\xef\xbb\xbf")
    document = _Document(path, contents)
    try:
        verbatim = VERBATIM | SVG if b"<svg" in source.lower() else VERBATIM
        if verbatim != VERBATIM:  # a device without the SVG plugin reads the content as elements
            document.look_only(source)
        document.read(source, verbatim)
        document.read_as_template(source)
        if found := _not_xml(path, source):
            document.findings.append(found)
    except Unreadable as stop:
        document.findings.insert(0, error(stop.code, stop.detail, path, stop.line))
    yield from dict.fromkeys(document.findings)


def _unreadable_bytes(content: bytes) -> tuple[str, int] | None:
    """Why these bytes are not text, and on which line."""
    try:
        content.decode()
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        return f"It is not UTF-8 at byte {problem.start}; save it as UTF-8.", line
    if (at := content.find(b"\0")) >= 0:
        return "It has a zero byte, at which RmlUi stops; remove it.", content.count(
            b"\n", 0, at
        ) + 1
    return None


class _Document:
    """The findings of one document."""

    def __init__(self, path: str, contents: Contents) -> None:
        self.path, self.contents = path, contents
        self.findings: list[Finding] = []
        self.starts: set[int] = set()  # offsets of the start tags of the document itself
        self.root = ""

    def read(
        self,
        source: bytes,
        verbatim: frozenset[str] = VERBATIM,
        first_line: int = 1,
        level: int = 0,
    ) -> None:
        """Raises Unreadable if RmlUi would stop."""
        for event in Reader(source, DEPTH, verbatim, first_line).events():
            match event:
                case Start():
                    if level == 0:
                        self._begin(event)
                    self._start(event)
                case VerbatimContent() if event.name in _CHECKS and event.content.strip():
                    self._verbatim(event)
                case Markup():
                    self._reread(event, verbatim, level + 1)

    def look_only(self, source: bytes, first_line: int = 1) -> None:
        """What another way of reading the same bytes finds; if it stops, this is not reported."""
        other = _Document(self.path, self.contents)
        with contextlib.suppress(Unreadable):
            other.read(source, first_line=first_line, level=1)
        self.findings += [each for each in other.findings if each.code.startswith("lua_")]

    def read_as_template(self, source: bytes) -> None:
        """Devices cut a template's head and body out of the bytes, even inside a comment."""
        if self.root == "template" and not _TEMPLATE_WHOLE.search(source):
            detail = "A template needs <head>...</head> and after it <body>...</body>; add them."
            self.findings.append(error("rml_malformed", detail, self.path, 1))
        if not _TEMPLATE.search(source):
            return
        hidden = [
            found.start()
            for found in _TEMPLATE_PART.finditer(source)
            if found.start() not in self.starts
        ]
        for at in hidden[:REREAD]:
            self.look_only(source[at:], source.count(b"\n", 0, at) + 1)
        if len(hidden) > REREAD:
            line = source.count(b"\n", 0, hidden[REREAD]) + 1
            detail = "Too many comments or texts of this template have <head or <body in them; remove them."
            raise Unreadable(detail, line)

    def _begin(self, start: Start) -> None:
        self.starts.add(start.at)
        if not self.root:
            self.root = start.name
            if start.name not in ROOTS:
                detail = f"The outermost element is {shown_name(start.name)}; make it <rml>."
                self.findings.append(error("rml_root", detail, self.path, start.line))

    def _start(self, start: Start) -> None:
        handlers: dict[str, None] = {}
        for attribute, raw in start.attributes:
            name, value = attribute.lower(), raw.decode("utf-8", "replace")
            if (start.name, name) in _REFERENCES:
                self._refer(decode_entities(value).strip(), start.line)
            if name.startswith("on"):  # decoded and not decoded: not every device decodes entities
                handlers |= dict.fromkeys([value, decode_entities(value)])
        for each in handlers:
            self.findings += lua.look(self.path, each, self.contents, start.line)

    def _refer(self, reference: str, line: int) -> None:
        if not reference or _ADDRESS.match(reference):
            return
        wanted = beside(self.path, reference.partition("?")[0])
        if wanted not in self.contents.names:
            detail = f"{wanted[:256]!r} is not in the package."
            self.findings.append(warning("reference_missing", detail, self.path, line))

    def _reread(self, markup: Markup, verbatim: frozenset[str], level: int) -> None:
        if level > REREAD:
            detail = "CDATA sections are nested too deep; write &lt; for <."
            raise Unreadable(detail, markup.line)
        try:
            self.read(b"<body>" + markup.content + b"</body>", verbatim, markup.line, level)
        except Unreadable as stop:
            detail = f"RmlUi reads text of a CDATA section again as RML, and cannot: {stop.detail}"
            raise Unreadable(detail, stop.line, stop.code) from stop

    def _verbatim(self, event: VerbatimContent) -> None:
        """A script or style: RmlUi takes everything up to its end tag literally."""
        content, line = event.content, event.line
        if section := _CDATA.fullmatch(content):
            detail = (
                f"RmlUi reads the content of <{event.name}> literally: leave out "
                "<![CDATA[ and ]]>; < and & are allowed there."
            )
            self.findings.append(error("rml_malformed", detail, self.path, line))
            line += content.count(b"\n", 0, section.start(1))
            content = section[1]
        self.findings += _CHECKS[event.name](self.path, content, self.contents, line)


def decode_entities(text: str) -> str:
    """As RmlUi's StringUtilities::DecodeRml: unknown entities stay, invalid characters go."""

    def character(found: re.Match[str]) -> str:
        if found[1]:
            return _NAMED[found[1]]
        number = int(found[2]) if found[2] else int(found[3], 16)
        if number == 0:
            return found[0]
        return chr(number) if number < 0xD800 or 0xDFFF < number < 0x110000 else ""

    return _ENTITY.sub(character, text) if "&" in text else text


class _Declaration(Exception):
    """The XML parser found a document type declaration."""


def _not_xml(path: str, source: bytes) -> Finding | None:
    """The first place where a document is not well-formed XML."""

    def refuse(*_: object) -> None:
        raise _Declaration

    parser = expat.ParserCreate("UTF-8")
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(source, True)
    except _Declaration:
        detail = "A document type (<!DOCTYPE ...>) is not allowed; leave it out."
        return error("rml_doctype", detail, path, parser.CurrentLineNumber)
    except expat.ExpatError as problem:
        if problem.code == expat.errors.codes[expat.errors.XML_ERROR_NO_MEMORY]:
            raise MemoryError from problem
        hint = hint_for(source, problem.code, parser.ErrorByteIndex)
        detail = (
            f"RmlUi reads this, but it is not well-formed XML (column {problem.offset + 1}): {hint}"
        )
        return warning("rml_not_xml", detail, path, problem.lineno)
    return None


def shown_name(name: str) -> str:
    return f"<{name[:40]}>"
