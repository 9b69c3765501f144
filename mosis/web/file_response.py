"""Sending files: entity tags, conditional and range requests (RFC 9110, sections 13 and 14).

The open file itself is returned, at the right position: the server sends it without holding a
thread, however slowly the client reads.
"""

import base64
import io
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import BinaryIO

import bottle

from mosis.clock import seconds
from mosis.errors import Conflict, LimitReached, PortalError
from mosis.web.content_coding import least_bytes
from mosis.web.request import etag, gzip_tag, names_tag

# more digits than any file needs
_RANGE = r"(?i)bytes=[ \t]*([0-9]{0,40})-([0-9]{0,40})[ \t]*\Z"
# the form without a zone (RFC 9110, section 5.6.7)
_ASCTIME = r"[A-Z][a-z]{2} [A-Z][a-z]{2} "


def send_file(
    file: BinaryIO | Callable[[], BinaryIO],
    size_bytes: int,
    *,
    content_type: str,
    cache_control: str,
    sha256: str | None = None,
    changed_at: str | float | None = None,
    name: str | None = None,
    surrogate_key: str | None = None,
    sent: Callable[[int, bool], None] | None = None,
    gzipped: Callable[[], tuple[BinaryIO, int, str] | None] | None = None,
) -> bottle.HTTPResponse:
    """The whole file, a part of it (206), or 304. A function that opens it is called if content is sent.

    `sha256` becomes its tag and Repr-Digest. `surrogate_key` names it for caches that can drop everything with this name. `sent` is
    called when the server is done with the file, with the number of bytes sent and whether the last byte was among them.
    `gzipped` opens the compressed form and returns it with its size and SHA-256, or None; parts are of the plain form.

    Raises Conflict `precondition_failed` (412), LimitReached `range_not_satisfiable` (416). Several ranges get the whole file, as
    RFC 9110, section 14.2 allows.
    """
    request = bottle.request
    headers = {
        "Content-Type": content_type,
        "Cache-Control": cache_control,
        "Accept-Ranges": "bytes",
    }
    tag = f'"{sha256}"' if sha256 else ""
    if gzipped:
        headers["Vary"] = "Accept-Encoding"
    if gzipped and _takes_gzip(size_bytes) and (packed := gzipped()):
        _close(file)
        file, size_bytes, sha256 = packed
        tag = gzip_tag(tag)
        headers["Content-Encoding"] = "gzip"
    headers |= _validators(tag, sha256, changed_at)
    headers |= {"Content-Disposition": f'attachment; filename="{name}"'} if name else {}
    headers |= dict.fromkeys(("Surrogate-Key", "Cache-Tag"), surrogate_key) if surrogate_key else {}
    changed = headers.get("Last-Modified", "")
    try:
        if is_known(tag, changed):
            _close(file)
            headers.pop("Content-Encoding", None)
            return bottle.HTTPResponse(b"", 304, headers)
        # only for GET (section 14.2)
        wanted = request.get_header("Range") if request.method == "GET" else None
        part = _part(wanted, request.get_header("If-Range"), tag, changed, size_bytes)
    except PortalError:
        _close(file)
        raise
    status, first, last = (206, *part) if part else (200, 0, size_bytes - 1)
    headers["Content-Length"] = str(last - first + 1)
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    if request.method == "HEAD":
        _close(file)
        return bottle.HTTPResponse(b"", status, headers)
    content = file() if callable(file) else file
    content.seek(first)
    if sent:
        content = _Watched(content, first, size_bytes, sent)
    bounded = "wsgi.file_wrapper" in request.environ  # the server stops at Content-Length
    body = content if bounded else _Bounded(content, last - first + 1)
    return bottle.HTTPResponse(body, status, headers)


def _close(file: BinaryIO | Callable[[], BinaryIO]) -> None:
    if not callable(file):
        file.close()


def _takes_gzip(size_bytes: int) -> bool:
    """Whether the client takes the whole file compressed."""
    least = least_bytes(bottle.request.get_header("Accept-Encoding", ""))
    return least is not None and size_bytes >= least and bottle.request.get_header("Range") is None


def _validators(tag: str, sha256: str | None, changed_at: str | float | None) -> dict[str, str]:
    """ETag, Repr-Digest and Last-Modified, as far as they are known."""
    found = {}
    if sha256:
        found["ETag"] = tag
        found["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
    if changed_at:
        at = seconds(changed_at) if isinstance(changed_at, str) else int(changed_at)
        found["Last-Modified"] = format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
    return found


class _Watched(io.FileIO):
    """A file that records how far it was read; a real one, so that the kernel sends from it."""

    def __init__(
        self, file: BinaryIO, first: int, size_bytes: int, sent: Callable[[int, bool], None]
    ) -> None:
        super().__init__(os.dup(file.fileno()), "rb")  # the same file at the same position
        file.close()
        self.seek(first)
        self._first, self._size_bytes, self._sent = first, size_bytes, sent

    def close(self) -> None:
        if not self.closed:
            place = self.tell()
            super().close()
            self._sent(place - self._first, place >= self._size_bytes)


class _Bounded:
    """A part of a file of the given length, for servers without a file wrapper."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self.file = file
        self.left = size_bytes
        self.close = file.close

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(block)
        return block


def send_bytes(body: bytes, headers: dict[str, str], tag: str = "") -> bottle.HTTPResponse:
    """Content that changes with the program, with its tag, or 304. Raises `precondition_failed`."""
    headers = {"ETag": tag or etag(body), "Cache-Control": "public, max-age=300"} | headers
    if is_known(headers["ETag"], headers.get("Last-Modified", "")):
        return bottle.HTTPResponse(b"", 304, headers)
    return bottle.HTTPResponse(body, 200, headers)


def is_known(tag: str, changed: str) -> bool:
    """Whether the client has the current representation: preconditions in the order of RFC 9110,
    section 13.2.2. Raises Conflict if a required one fails."""
    given = bottle.request.get_header
    if_match, if_none_match = given("If-Match"), given("If-None-Match")
    if if_match is not None:
        holds = names_tag(if_match, tag, strong=True)
    else:
        unmodified_since = _moment(given("If-Unmodified-Since"))
        holds = (
            unmodified_since is None
            or not changed
            or parsedate_to_datetime(changed) <= unmodified_since
        )
    if not holds:
        detail = "The resource has changed since the tag or date in the request."
        raise Conflict("precondition_failed", detail)
    if if_none_match is not None:
        return bool(tag) and names_tag(if_none_match, tag)
    modified_since = _moment(given("If-Modified-Since"))
    return (
        modified_since is not None
        and bool(changed)
        and parsedate_to_datetime(changed) <= modified_since
    )


def _moment(text: str | None) -> datetime | None:
    """The time in a header; None if missing or no HTTP date, which is ignored (13.1.3)."""
    try:
        found = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):  # of a year or an offset that is too large
        return None
    if found is not None and found.tzinfo is None:
        return found.replace(tzinfo=UTC) if re.match(_ASCTIME, str(text)) else None
    return found


def _part(
    wanted: str | None, if_range: str | None, tag: str, changed: str, size: int
) -> tuple[int, int] | None:
    """The first and last byte of the single requested range, None for the whole file."""
    found = re.match(_RANGE, wanted) if wanted else None
    if found is None or (
        if_range is not None and (not if_range.strip() or if_range.strip() not in (tag, changed))
    ):
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size - 1
        empty = int(last) == 0
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < int(first):
            return None  # not a valid range at all: the header is ignored
        empty = start >= size
    if empty or size == 0:
        raise LimitReached("range_not_satisfiable", f"The file has {size} bytes.", size_bytes=size)
    return start, end
