"""RML: well-formed XML without DTD and entities, by expat; the Lua in it and the files it names are looked at too."""

import re
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from mosis.checks import lua
from mosis.checks.kinds import Contents, beside, error, warning
from mosis.packages.findings import Finding

DEPTH = 200  # elements within elements: devices walk the tree by recursion
ROOTS = ("rml", "template")
_REFERENCES = {("link", "href"), ("script", "src"), ("img", "src"), ("body", "template")}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|\?|#|\{\{", re.IGNORECASE)
_UNDEFINED_ENTITY = expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]
_NO_MEMORY = expat.errors.codes[expat.errors.XML_ERROR_NO_MEMORY]


def check(path: str, content: bytes, contents: Contents) -> Iterator[Finding]:
    """What is wrong with a document. Nothing outside it is ever read: a document type is refused where it begins."""
    reader = _Reader(path, contents)
    try:
        reader.parse(content)
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
            hint = " Lua with < or & in it belongs into a file of its own or into CDATA." if reader.in_script else ""
            yield error("rml_malformed", f"Not well-formed XML: {said} (column {trouble.offset + 1}).{hint}", path, trouble.lineno)
    yield from reader.findings


class _Refused(Exception):
    def __init__(self, finding: Finding) -> None:
        self.finding = finding


class _Reader:
    """One walk over a document."""

    def __init__(self, path: str, contents: Contents) -> None:
        self.path, self.contents = path, contents
        self.findings: list[Finding] = []
        self.open: list[str] = []
        self.script: list[str] = []
        self.script_line = 0
        self.parser = parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.ExternalEntityRefHandler = lambda *_: 0
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    @property
    def in_script(self) -> bool:
        return self.open[-1:] == ["script"]

    def parse(self, content: bytes) -> None:
        self.parser.Parse(content, True)

    def _doctype(self, *_: Any) -> None:
        line = self.parser.CurrentLineNumber
        raise _Refused(error("rml_doctype", "A document type (<!DOCTYPE ...>) is not allowed; leave it out.", self.path, line))

    def _entity(self, *_: Any) -> None:
        raise _Refused(error("rml_entity", "Entities must not be declared.", self.path, self.parser.CurrentLineNumber))

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        line = self.parser.CurrentLineNumber
        if not self.open and name not in ROOTS:
            self.findings.append(error("rml_root", f"The outermost element is {shown_name(name)}, not <rml>.", self.path, line))
        if len(self.open) >= DEPTH:
            raise _Refused(error("rml_too_deep", f"More than {DEPTH} elements are nested.", self.path, line))
        self.open.append(name)
        if name == "script":
            self.script, self.script_line = [], line
        for attribute, value in attributes.items():
            if (name, attribute) in _REFERENCES and value.strip() and not _ADDRESS.match(value.strip()):
                self._refer(value.strip(), line)
            if attribute.startswith("on"):
                self.findings += lua.look(self.path, value, self.contents, line)

    def _refer(self, reference: str, line: int) -> None:
        wanted = beside(self.path, reference.partition("?")[0])
        if wanted not in self.contents.names:
            self.findings.append(warning("reference_missing", f"{wanted[:256]!r} is not in the package.", self.path, line))

    def _end(self, name: str) -> None:
        self.open.pop()
        source = "".join(self.script)
        if name == "script" and source.strip():
            self.findings += lua.check(self.path, source.encode(), self.contents, self.script_line)

    def _text(self, text: str) -> None:
        if self.in_script:
            self.script.append(text)


def shown_name(name: str) -> str:
    return f"<{name[:40]}>"
