"""A multipart form (RFC 7578) with one large field, which is read as a stream while it arrives.

The library finds the parts; their headers are parsed here: names as browsers write them (quoted,
with %22), with backslashes (RFC 2047), and in the forms of RFC 5987 and 2231 (`name*`, `name*0`);
the character set of a text field (its own, or that of the field `_charset_`). File names are
ignored. Ambiguous forms are refused.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote_to_bytes

from mosis.errors import LimitReached, MalformedRequest
from mosis.packages.storage import Readable
from mosis.validation.choices import one_of

BLOCK = 64 * 1024
PARTS = 16
HEADER_BYTES = 2048  # of one header of a part
LONGEST_BOUNDARY = 200  # RFC 2046 allows 70 characters; longer ones are harmless
CHARSET_FIELD = "_charset_"
# Declared character set: codec. That of ISO 8859-1 is as browsers read it (https://encoding.spec.whatwg.org/#names-and-labels).
CHARSETS = {
    "utf-8": "utf-8-sig",
    "utf8": "utf-8-sig",
    "us-ascii": "utf-8-sig",
    "ascii": "utf-8-sig",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
}
PLAIN_ENCODINGS = ("7bit", "8bit", "binary")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*+;\s*+(?:({_TOKEN})\s*+=\s*+("(?:\\.|[^\\"])*+"|[^;"]*+))?')
PLAIN, WHOLE = (-1, False), (-1, True)  # forms of a parameter
_CONTINUED = re.compile(r"(?:\*([0-9]{1,2}))?(\*)?\Z")


class Form:
    """The field `file` as a stream; `fields` has all text fields once the stream has ended."""

    def __init__(
        self, body: Readable, content_type: str, file: str, texts: Mapping[str, int]
    ) -> None:
        """`texts` are the other fields and their longest forms in bytes. Raises Malformed."""
        self.fields: dict[str, str] = {}
        self._file, self._texts = file, texts
        self._blocks = self._parse(body, boundary_of(content_type))
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file. Raises Malformed, LimitReached `too_large`."""
        while size < 0 or len(self._rest) < size:
            block = next(self._blocks, None)
            if block is None:
                break
            self._rest += block
        end = len(self._rest) if size < 0 else size
        given, self._rest = self._rest[:end], self._rest[end:]
        return given

    def _parse(self, body: Readable, boundary: bytes) -> Iterator[bytes]:
        import multipart

        # Bounds on everything but the file: few parts, small headers. The file itself is bounded
        # where it is received.
        parser = multipart.PushMultipartParser(
            boundary,
            max_segment_count=PARTS,
            max_header_size=HEADER_BYTES,
            header_charset="latin-1",
        )
        found: dict[str, tuple[bytearray, str]] = {}  # of each field: content, character set
        name = ""
        try:
            while not parser.closed:
                for event in parser.parse(body.read(BLOCK)):
                    if isinstance(event, multipart.MultipartSegment):
                        name = self._begin(event.headerlist, found)
                    elif event is not None and name == self._file:
                        yield bytes(event)
                    elif event is not None:
                        text = found[name][0]
                        text += event
                        if len(text) > self._texts.get(name, 100):
                            raise LimitReached("too_large", f"The field {name} is too large.")
        except multipart.ParserLimitReached as error:
            raise MalformedRequest(
                f"The form has more than {PARTS} parts, or a part has more than 8 headers or one of more than"
                f" {HEADER_BYTES} bytes."
            ) from error
        except multipart.MultipartError as error:
            raise MalformedRequest(
                "The multipart body cannot be read: send it as RFC 7578 says, with the boundary of its"
                " Content-Type, CR LF line ends, a Content-Disposition of `form-data` in each part and a"
                " closing boundary; or send the package alone."
            ) from error
        if self._file not in found:
            raise MalformedRequest(f"The form has no field `{self._file}`.")
        self._decode(found)

    def _begin(
        self, headers: list[tuple[str, str]], found: dict[str, tuple[bytearray, str]]
    ) -> str:
        """The name of a part that begins. Raises Malformed if it cannot be used."""
        name = part_name(_only(headers, "Content-Disposition"))
        known = (self._file, *self._texts, CHARSET_FIELD)
        if name not in known:
            asked = one_of(name, (self._file, *self._texts), "A field of the form")
            raise MalformedRequest(
                f"The form has a field `{shown(name)}` that is not expected here. {asked}"
                if name
                else f"A part of the form has no name. {asked}"
            )
        if name in found:
            raise MalformedRequest(f"The form has the field `{name}` more than once.")
        encoding = _only(headers, "Content-Transfer-Encoding").strip().lower()
        if encoding and encoding not in PLAIN_ENCODINGS:
            raise MalformedRequest(
                f"The field `{name}` has the Content-Transfer-Encoding {shown(encoding)}, which forms do not"
                " have (RFC 7578, section 4.7): send its bytes as they are."
            )
        kind = parameters(_only(headers, "Content-Type"))
        found[name] = (bytearray(), kind.get("charset", "") if name != self._file else "")
        return name

    def _decode(self, found: dict[str, tuple[bytearray, str]]) -> None:
        usual = bytes(found.pop(CHARSET_FIELD, (b"utf-8", ""))[0]).decode("latin-1").strip()
        for name, (content, charset) in found.items():
            if name == self._file:
                continue
            label = (charset or usual).lower()
            if label not in CHARSETS:
                detail = f"The field `{name}` is in the character set {shown(label)}; send UTF-8."
                raise MalformedRequest(detail)
            try:
                self.fields[name] = content.decode(CHARSETS[label])
            except UnicodeDecodeError:
                asked = "UTF-8" if CHARSETS[label] == "utf-8-sig" else label
                raise MalformedRequest(f"The field `{name}` is not {asked}.") from None


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names (RFC 2046, section 5.1.1). Raises Malformed."""
    boundary = parameters(content_type).get("boundary", "")
    if not boundary:
        raise MalformedRequest(
            "The multipart body has no boundary: let the client make the header Content-Type, or name the"
            " boundary in it (`multipart/form-data; boundary=...`)."
        )
    if not re.fullmatch(rf"[ -~]{{0,{LONGEST_BOUNDARY - 1}}}[!-~]", boundary):
        detail = f"The boundary must be 1 to {LONGEST_BOUNDARY} printable ASCII characters."
        raise MalformedRequest(detail)
    return boundary.encode("ascii")


def part_name(disposition: str) -> str:
    """The name in a part's Content-Disposition, or empty. Raises Malformed for two names."""
    return parameters(disposition, _percent_decoded).get("name", "")


def parameters(header: str, decoded: Callable[[str], str] = str) -> dict[str, str]:
    """The parameters of a header value by their names in lower case; `decoded` is applied to plain
    values.

    Extended values (RFC 5987) and continuations (RFC 2231, section 3) are joined; an extended value
    takes precedence over a plain one (RFC 6266, section 4.3). Raises Malformed for a parameter that
    is repeated or cannot be parsed, except file names, which many clients do not escape and which
    are ignored.
    """
    found: dict[str, dict[tuple[int, bool], str]] = {}
    name, position = "", header.find(";")
    while 0 <= position < len(header) and header[position:].strip():
        match = _PARAMETER.match(header, position)
        if match is None and name == "filename":
            position = header.find(";", position)
            continue
        if match is None:
            detail = f'The header `{shown(header)}` cannot be read: write its parameters as name="value".'
            raise MalformedRequest(detail)
        position = match.end()
        if match[1] is None:  # a semicolon without a parameter
            continue
        name, form = _split(match[1].lower())
        values = found.setdefault(name, {})
        if form in values and name != "filename":
            raise MalformedRequest(f"A header names its parameter `{name}` twice.")
        text = _unquoted(match[2])
        values[form] = decoded(text) if form == PLAIN else text
    return {name: _joined(values) for name, values in found.items()}


def _split(name: str) -> tuple[str, tuple[int, bool]]:
    """The name of a parameter without `*`, `*0` and `*0*`, and its form: the number of the piece (-1: it is whole), and whether
    it is percent-encoded."""
    base, star, rest = name.partition("*")
    match = _CONTINUED.match(star + rest)
    if not star or match is None:
        return name, PLAIN
    return base, (int(match[1]) if match[1] else -1, bool(match[2]))


def _joined(values: dict[tuple[int, bool], str]) -> str:
    """The value of a parameter from its forms. The first percent-encoded piece begins with CHARSET'LANGUAGE'."""
    if WHOLE in values:
        pieces = [WHOLE]
    elif PLAIN in values:
        return values[PLAIN]
    else:
        pieces = sorted(values)
    content, charset = b"", "utf-8"
    for each in pieces:
        text = values[each]
        if each[1] and each == pieces[0]:
            charset, _, text = text.partition("'")
            text = text.partition("'")[2]
        content += unquote_to_bytes(text) if each[1] else text.encode("latin-1", "replace")
    return content.decode(CHARSETS.get(charset.lower(), "utf-8"), "replace")


def _unquoted(text: str) -> str:
    """A value without its quotes. Only backslashes before a quote or a backslash are removed: old
    browsers send Windows paths with single ones."""
    if text.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    return text.strip()


def _percent_decoded(text: str) -> str:
    """Browsers write three characters of a name like this (https://html.spec.whatwg.org/#multipart-form-data)."""
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%22", '"')


def _only(headers: list[tuple[str, str]], name: str) -> str:
    """The value of a header of a part; empty if it is missing. Raises Malformed if it is repeated."""
    values = [value for each, value in headers if each == name]
    if len(values) > 1:
        raise MalformedRequest(f"A part of the form has the header {name} twice.")
    return values[0] if values else ""


def shown(text: str) -> str:
    """A text of the client for use in an error; UTF-8 that was read as Latin-1 is decoded."""
    text = text.encode("latin-1", "replace").decode("utf-8", "replace") if text else ""
    return "".join(filter(str.isprintable, text))[:50]
