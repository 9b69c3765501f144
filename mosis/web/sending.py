"""Sending a file: entity tags, conditional and range requests (RFC 9110, sections 13 and 14), never through a generator.

The file object itself is what is returned, already at the right place: the server then sends it without holding a thread,
however slowly the client reads.
"""

import base64
import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import BinaryIO

import bottle

from mosis.clock import seconds
from mosis.errors import LimitReached
from mosis.web.request import names_tag

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


def send_file(
    file: BinaryIO, size_bytes: int, *, content_type: str, cache_control: str,
    sha256: str | None = None, changed_at: str | None = None,
) -> bottle.HTTPResponse:
    """The file as a whole, a part of it (206), or that it is unchanged (304). `sha256` becomes its tag and Repr-Digest.

    Raises LimitReached `range_not_satisfiable` (416). Of several ranges none is honoured: the whole is sent, as RFC 9110,
    section 14.2 allows.
    """
    request = bottle.request
    headers = {"Content-Type": content_type, "Cache-Control": cache_control, "Accept-Ranges": "bytes"}
    tag = ""
    if sha256:
        tag = headers["ETag"] = f'"{sha256}"'
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
    if changed_at:
        headers["Last-Modified"] = format_datetime(datetime.fromtimestamp(seconds(changed_at), UTC), usegmt=True)
    if tag and names_tag(request.get_header("If-None-Match", ""), tag):
        file.close()
        return bottle.HTTPResponse(b"", 304, headers)
    try:
        part = _part(request.get_header("Range"), request.get_header("If-Range"), tag, headers.get("Last-Modified"), size_bytes)
    except LimitReached:
        file.close()
        raise
    status, first, last = (206, *part) if part else (200, 0, size_bytes - 1)
    headers["Content-Length"] = str(last - first + 1)
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    if request.method == "HEAD":
        file.close()
        return bottle.HTTPResponse(b"", status, headers)
    file.seek(first)
    return bottle.HTTPResponse(file, status, headers)


def _part(wanted: str | None, if_range: str | None, tag: str, changed: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of the one range that is asked for, None for the whole."""
    found = _RANGE.match(wanted.replace(" ", "")) if wanted else None
    if found is None or (if_range is not None and if_range.strip() not in (tag or None, changed)):
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
