"""RML: well-formed XML without DTD and entities, by expat; the Lua and RCSS in it and the files it names are looked at too.

Devices read RML by a lenient parser of their own. Whatever the two could read differently is refused or read the device's way,
so that nothing hides between them: names are taken without capitals, scripts and styles byte by byte.
"""

import re
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from mosis.packages.checks import lua, rcss
from mosis.packages.checks.kinds import Contents, beside, error, warning
from mosis.packages.findings import Finding

DEPTH = 200  # elements within elements: devices walk the tree by recursion
ROOTS = ("rml", "template")
VERBATIM = {"script": lua.check, "style": rcss.check}
_REFERENCES = {("link", "href"), ("script", "src"), ("img", "src"), ("input", "src")}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|\?|#|\{\{", re.IGNORECASE)
_TAG = re.compile(rb"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_HANDLER = re.compile(rb"\son[^\s=]*\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_CDATA = re.compile(rb"\s*<!\[CDATA\[(.*)\]\]>\s*", re.DOTALL)
_INVALID_TOKEN = expat.errors.codes[expat.errors.XML_ERROR_INVALID_TOKEN]
_UNDEFINED_ENTITY = expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]
_NO_MEMORY = expat.errors.codes[expat.errors.XML_ERROR_NO_MEMORY]


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with a document. Nothing outside it is ever read: a document type is refused where it begins."""
    reader = _Reader(path, content, contents)
    try:
        reader.parse()
    except _Refused as refused:
        yield refused.finding
    except expat.ExpatError as trouble:
        if trouble.code == _NO_MEMORY:
            raise MemoryError from trouble
        if trouble.code == _UNDEFINED_ENTITY:
            detail = "An entity such as &nbsp; is used; only &amp; &lt; &gt; &quot; &apos; and numbers such as &#160; are known."
            yield error("rml_entity", detail, path, trouble.lineno)
        else:
            said = expat.errors.messages[trouble.code]
            hint = ""
            if reader.open[-1:] == ["script"]:
                hint = " Lua with < or & in it belongs into a file of its own."
            elif trouble.code == _INVALID_TOKEN:
                hint = " Write &lt; for < and &amp; for &, also in attributes, and give each attribute a value in quotes."
            yield error(
                "rml_malformed",
                f"Not well-formed XML: {said} (column {trouble.offset + 1}).{hint}",
                path,
                trouble.lineno,
            )
    yield from reader.findings


class _Refused(Exception):
    def __init__(self, finding: Finding) -> None:
        self.finding = finding


class _Reader:
    """One walk over a document."""

    def __init__(self, path: str, content: bytes, contents: Contents) -> None:
        self.path, self.content, self.contents = path, content, contents
        self.findings: list[Finding] = []
        self.open: list[str] = []
        self.begun = (0, 0)  # the last script or style: its place and line
        self.parser = parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.ExternalEntityRefHandler = lambda *_: 0
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.ProcessingInstructionHandler = self._instruction

    def parse(self) -> None:
        try:
            self.content.decode()
        except UnicodeDecodeError as trouble:
            raise _Refused(
                error("rml_malformed", f"It is not UTF-8 at byte {trouble.start}.", self.path)
            ) from trouble
        self.parser.Parse(self.content, True)

    def _doctype(self, *_: Any) -> None:
        line = self.parser.CurrentLineNumber
        raise _Refused(
            error(
                "rml_doctype",
                "A document type (<!DOCTYPE ...>) is not allowed; leave it out.",
                self.path,
                line,
            )
        )

    def _entity(self, *_: Any) -> None:
        raise _Refused(
            error(
                "rml_entity",
                "Entities must not be declared.",
                self.path,
                self.parser.CurrentLineNumber,
            )
        )

    def _instruction(self, *_: Any) -> None:
        detail = "A processing instruction (<? ... ?>) is not allowed; leave it out."
        raise _Refused(error("rml_malformed", detail, self.path, self.parser.CurrentLineNumber))

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        line = self.parser.CurrentLineNumber
        if not self.open and name not in ROOTS:
            self.findings.append(
                error(
                    "rml_root",
                    f"The outermost element is {shown_name(name)}, not <rml>.",
                    self.path,
                    line,
                )
            )
        if len(self.open) >= DEPTH:
            raise _Refused(
                error("rml_too_deep", f"More than {DEPTH} elements are nested.", self.path, line)
            )
        tag = name.lower()
        self.open.append(tag)
        if tag in VERBATIM:
            self.begun = (self.parser.CurrentByteIndex, line)
        for attribute, value in attributes.items():
            if (
                (tag, attribute.lower()) in _REFERENCES
                and value.strip()
                and not _ADDRESS.match(value.strip())
            ):
                self._refer(value.strip(), line)
        handlers = [
            value for attribute, value in attributes.items() if attribute.lower().startswith("on")
        ]
        if handlers:
            self._look_at(handlers, line)

    def _look_at(self, handlers: list[str], line: int) -> None:
        """Lua in attributes, with its entities resolved and as it stands: not every device resolves them."""
        begin = _TAG.match(self.content, self.parser.CurrentByteIndex)
        if begin and b"&" in begin[0]:
            handlers += [
                (double or single).decode() for double, single in _HANDLER.findall(begin[0])
            ]
        found = [
            finding
            for each in handlers
            for finding in lua.look(self.path, each, self.contents, line)
        ]
        self.findings += dict.fromkeys(found)

    def _refer(self, reference: str, line: int) -> None:
        wanted = beside(self.path, reference.partition("?")[0])
        if wanted not in self.contents.names:
            self.findings.append(
                warning(
                    "reference_missing", f"{wanted[:256]!r} is not in the package.", self.path, line
                )
            )

    def _end(self, _: str) -> None:
        tag = self.open.pop()
        if tag in VERBATIM:
            self._verbatim(tag)

    def _verbatim(self, tag: str) -> None:
        """A script or style as a device reads it: everything up to its end tag, or what stands in one CDATA section."""
        place, line = self.begun
        begin = _TAG.match(self.content, place)
        assert begin is not None  # it is well-formed so far
        inside = self.content[begin.end() : self.parser.CurrentByteIndex]
        line += begin[0].count(b"\n")
        if section := _CDATA.fullmatch(inside):
            line += inside.count(b"\n", 0, section.start(1))
            plain = b"]]>" not in section[1]
            inside = section[1]
        else:
            plain = b"<" not in inside and b"&" not in inside
        if not plain:
            detail = f"Devices read a <{tag}> as it stands, without elements, comments and entities; give it a file of its own."
            self.findings.append(error("rml_malformed", detail, self.path, line))
        elif inside.strip():
            self.findings += VERBATIM[tag](self.path, inside, self.contents, line)


def shown_name(name: str) -> str:
    return f"<{name[:40]}>"
