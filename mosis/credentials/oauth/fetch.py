"""One question to a provider, with bounds: 5 seconds for every wait, 10 for the whole answer, 1 MiB, no redirect followed."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from mosis.errors import Malformed
from mosis.validation.strict_json import load_json

WAIT_SECONDS = 5
WHOLE_SECONDS = 10
LIMIT_BYTES = 1 << 20


class Unreachable(Exception):
    """There was no answer, or none that can be used; the text says why, for the log."""


@dataclass(frozen=True)
class Reply:
    """An answer of any status; `document` is None when the body is not JSON (duplicate keys, NaN, depth over 32 are not)."""

    status: int
    document: Any


def ask(
    url: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """GET the address, or POST the form to it. Raises Unreachable: no connection, too slow, too large, or moved elsewhere."""
    import http.client
    import urllib.request

    body = None if form is None else urlencode(form).encode()
    sent = {"Accept": "application/json", "User-Agent": "mosis-portal", **(headers or {})}
    opener = urllib.request.OpenerDirector()
    # No HTTPRedirectHandler, no HTTPErrorProcessor, no file or ftp: every status comes back as it is, nothing is followed.
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
    ):
        opener.add_handler(handler())
    begun = time.monotonic()
    try:
        request = urllib.request.Request(url, body, sent)  # noqa: S310  (the opener knows http and https alone)
        answer = opener.open(request, timeout=WAIT_SECONDS)
        if answer is None:
            raise Unreachable("not an http or https address")
        with answer:
            content = _read(answer, begun + WHOLE_SECONDS)
            status = int(answer.status)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error
    if 300 <= status < 400:
        raise Unreachable(f"answers {status}, and redirects are not followed")
    if status >= 500 or status == 429:
        raise Unreachable(f"answers {status}")
    try:
        return Reply(status, load_json(content))
    except Malformed:
        return Reply(status, None)


def basic(name: str, secret: str) -> str:
    """The header for a client's name and secret, each form-encoded first (RFC 6749, section 2.3.1)."""
    pair = f"{quote(name, safe='')}:{quote(secret, safe='')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _read(answer: Any, deadline: float) -> bytes:
    content = b""
    while part := answer.read1(65_536):
        content += part
        if len(content) > LIMIT_BYTES:
            raise Unreachable(f"answers with more than {LIMIT_BYTES} bytes")
        if time.monotonic() > deadline:
            raise Unreachable(f"takes longer than {WHOLE_SECONDS} seconds to answer")
    if answer.length:  # what Content-Length still promises; read1 does not complain
        raise Unreachable("was cut off")
    return content
