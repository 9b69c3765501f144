"""A package and what is said with it: as the raw body with a query string, or as a multipart form (RFC 7578)."""

import base64
import re
from collections.abc import Iterator
from typing import Any

import bottle

from mosis.errors import Invalid, LimitReached, Malformed
from mosis.packages.storage import Readable
from mosis.publishing.versions import Upload
from mosis.web.request import refuse_coding

BLOCK = 64 * 1024
LONGEST_NOTES = 5000
_NOTES = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]*\Z")
_SAID = ("channel", "release_notes", "submit", "publish")


class Sent:
    """The package as a `stream`, and afterwards what was said with it (`upload`)."""

    def __init__(self, stream: Readable, said: dict[str, str], length: int | None) -> None:
        self.stream = stream
        self.length = length
        self._said = said

    def upload(self) -> Upload:
        """What was said. Only complete once the package has been read: fields of a form may come after it. Raises Invalid."""
        wrong = []
        if self._said.get("channel") not in (None, "stable", "beta"):
            wrong.append(
                {
                    "pointer": "/channel",
                    "code": "not_allowed",
                    "detail": "This must be one of: stable, beta.",
                }
            )
        for name in ("submit", "publish"):
            if self._said.get(name) not in (None, "true", "false"):
                wrong.append(
                    {
                        "pointer": f"/{name}",
                        "code": "not_allowed",
                        "detail": "This must be one of: true, false.",
                    }
                )
        notes = self._said.get("release_notes", "")
        if len(notes) > LONGEST_NOTES:
            wrong.append(
                {
                    "pointer": "/release_notes",
                    "code": "too_long",
                    "detail": f"This may be at most {LONGEST_NOTES} long.",
                }
            )
        elif not _NOTES.match(notes):
            detail = (
                "This must be UTF-8 text without control characters other than tabs and line ends."
            )
            wrong.append({"pointer": "/release_notes", "code": "wrong_format", "detail": detail})
        if wrong:
            raise Invalid(wrong)
        return Upload(
            self._said.get("channel"),
            notes,
            self._said.get("submit") == "true",
            self._said.get("publish") == "true",
        )


def read_upload() -> Sent:
    """What the request sends. Raises Malformed."""
    request = bottle.request
    said = {
        name: request.query.getunicode(name, "\ufffd") for name in _SAID if name in request.query
    }
    refuse_coding()
    kind = request.environ.get(
        "CONTENT_TYPE", ""
    )  # as it came: Bottle gives it in lower case, and a boundary is not
    if kind.partition(";")[0].strip().lower() == "multipart/form-data":
        return Sent(_Form(request.environ["wsgi.input"], kind, said), said, None)
    length = request.content_length
    if length == 0 or (length < 0 and not request.environ.get("wsgi.input_terminated")):
        raise Malformed(
            "malformed_request", "Send the package as the body: curl --data-binary @notes.mosis."
        )
    return Sent(request.environ["wsgi.input"], said, length if length > 0 else None)


def check_content_digest(sha256: str) -> None:
    """Compare with the Content-Digest header (RFC 9530), where there is one with sha-256. Raises Invalid `digest_mismatch`."""
    header = bottle.request.get_header("Content-Digest", "")
    for member in header.split(","):
        algorithm, _, value = member.strip().partition("=")
        if algorithm.lower() != "sha-256":
            continue
        if value != ":" + base64.b64encode(bytes.fromhex(sha256)).decode() + ":":
            finding = {
                "pointer": "",
                "code": "digest_mismatch",
                "detail": f"The body that arrived has the SHA-256 {sha256}.",
            }
            raise Invalid(
                [finding],
                "digest_mismatch",
                "The body is not the one that Content-Digest speaks of; send it again.",
            )


class _Form:
    """The field `package` of a form as a stream; the other fields, wherever they stand, are put into `said`."""

    def __init__(self, body: Readable, content_type: str, said: dict[str, str]) -> None:
        import multipart

        _, options = multipart.parse_options_header(content_type)
        if not options.get("boundary"):
            raise Malformed("malformed_request", "The multipart body has no boundary.")
        # Bounds on what is not the package: eight parts, small heads; the package itself is bounded where it is received.
        parser = multipart.PushMultipartParser(
            options["boundary"], max_segment_count=8, max_header_size=2048, header_charset="latin-1"
        )
        self._blocks = self._parse(body, parser, multipart, said)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            block = next(self._blocks, None)
            if block is None:
                break
            self._rest += block
        end = len(self._rest) if size < 0 else size
        given, self._rest = self._rest[:end], self._rest[end:]
        return given

    def _parse(
        self, body: Readable, parser: Any, multipart: Any, said: dict[str, str]
    ) -> Iterator[bytes]:
        name, found, text = "", False, bytearray()
        try:
            while not parser.closed:
                for event in parser.parse(body.read(BLOCK)):
                    if isinstance(event, multipart.MultipartSegment):
                        name, text = event.name, bytearray()
                        if (name != "package" and name not in _SAID) or (
                            name == "package" and found
                        ):
                            raise Malformed(
                                "malformed_request",
                                f"The form has a field {name!r} that is not expected here.",
                            )
                        found = found or name == "package"
                    elif event is None:
                        if name != "package":
                            said[name] = text.decode()
                    elif name == "package":
                        yield bytes(event)
                    else:
                        text += event
                        if len(text) > 4 * LONGEST_NOTES:
                            raise LimitReached("too_large", f"The field {name!r} is too large.")
        except UnicodeDecodeError:
            raise Malformed("malformed_request", f"The field `{name}` is not UTF-8.") from None
        except multipart.MultipartError as error:
            raise Malformed(
                "malformed_request",
                "The multipart body cannot be read: send it as RFC 7578 says, with the boundary of its"
                " Content-Type, CR LF line ends and a closing boundary; or send the package alone.",
            ) from error
        if not found:
            raise Malformed("malformed_request", "The form has no field `package`.")
