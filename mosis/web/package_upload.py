"""Uploads: a package and its parameters, as a raw body with a query string or as a multipart form."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import bottle

from mosis.context import Context
from mosis.errors import Invalid, Malformed, MalformedRequest, PortalError
from mosis.packages.storage import Readable, Received
from mosis.publishing.versions import Upload
from mosis.validation.choices import one_of
from mosis.web import digest_fields
from mosis.web.multipart_form import Form
from mosis.web.request import refuse_coding

LONGEST_NOTES = 5000
_NOTES = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]*\Z"
# Parameters, with their maximum size in bytes in a form.
PARAMETERS = {"channel": 100, "release_notes": 4 * LONGEST_NOTES, "submit": 100, "publish": 100}
CHOICES = {"channel": ("stable", "beta"), "submit": ("true", "false"), "publish": ("true", "false")}


class SentPackage:
    """The request for an upload: a package and its options, which may follow it in a form."""

    def __init__(self, also: Mapping[str, int] | None = None) -> None:
        """`also` are further text fields of a form and their longest forms in bytes. Raises Malformed."""
        request = bottle.request
        refuse_coding()
        # The original header: Bottle returns it in lower case, and boundaries are case-sensitive.
        kind = request.environ.get("CONTENT_TYPE", "")
        self._query = {
            name: request.query.getunicode(name, "\ufffd")
            for name in PARAMETERS
            if name in request.query
        }
        self._digests = digest_fields.expected(request.get_header)
        body = _Counted(request.environ["wsgi.input"], self._digests)
        self._form: Form | None = None
        self.stream: Readable = body
        self.length: int | None = None
        media_type = kind.partition(";")[0].strip().lower()
        if media_type.startswith("multipart/") and media_type != "multipart/form-data":
            raise Malformed(
                "unsupported_media_type",
                "Of multipart bodies only multipart/form-data is read; or send the package alone.",
            )
        if media_type == "multipart/form-data":
            self.stream = self._form = Form(body, kind, "package", PARAMETERS | dict(also or {}))
            return
        length = request.content_length
        if length == 0 or (length < 0 and not request.environ.get("wsgi.input_terminated")):
            raise MalformedRequest("Send the package as the body: curl --data-binary @notes.mosis.")
        self.length = length if length > 0 else None

    @contextmanager
    def received(self, env: Context) -> Iterator[tuple[Received, Upload]]:
        """The package as a file, which is removed at the end unless it was moved to its final name,
        and the options.

        Raises as `Files.receive`, Invalid `digest_mismatch` if the body does not match its digest
        headers, and as `_options`.
        """
        received = env.files.receive(self.stream, env.config.package_limit_bytes, self.length)
        try:
            self._digests.check()
            yield received, self._options()
        except PortalError:
            env.measures.count("portal_uploads_total", result="refused")
            raise
        finally:
            received.discard()

    def field(self, name: str) -> str:
        """A text field of the form, when the package has been read; empty if there is none."""
        return self._form.fields.get(name, "") if self._form else ""

    def _options(self) -> Upload:
        """The options of query and form. Raises Invalid with every finding, Malformed for an option
        that is in both."""
        given = dict(self._query)
        for name, value in (self._form.fields if self._form else {}).items():
            if name not in PARAMETERS:
                continue
            if name in given:
                raise MalformedRequest(f"`{name}` is in the query and in the form; send it once.")
            if value:  # forms send an empty text for fields that were left out
                given[name] = value
        wrong = [
            _finding(name, "not_allowed", one_of(given[name], allowed))
            for name, allowed in CHOICES.items()
            if given.get(name, allowed[0]) not in allowed
        ]
        notes = given.get("release_notes", "")
        if len(notes) > LONGEST_NOTES:
            wrong.append(
                _finding("release_notes", "too_long", f"This may be at most {LONGEST_NOTES} long.")
            )
        if not re.match(_NOTES, notes):
            detail = (
                "This must be UTF-8 text without control characters other than tabs and line ends."
            )
            wrong.append(_finding("release_notes", "wrong_format", detail))
        if wrong:
            raise Invalid(sorted(wrong, key=lambda finding: finding["pointer"]))
        return Upload(
            given.get("channel"),
            notes,
            given.get("submit") == "true",
            given.get("publish") == "true",
        )


class _Counted:
    """A body whose blocks are added to its expected digests."""

    def __init__(self, body: Readable, digests: digest_fields.Expected) -> None:
        self._body = body
        self._digests = digests

    def read(self, size: int = -1) -> bytes:
        block = self._body.read(size)
        if block:
            self._digests.update(block)
        return block


def _finding(name: str, code: str, detail: str) -> dict[str, str]:
    return {"pointer": f"/{name}", "code": code, "detail": detail}
