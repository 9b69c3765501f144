"""Requests of a store front end to its primary, at PRIMARY_URL: an address that the operator chose.

No redirects: one leads to where the secret must not go.
"""

from collections.abc import Iterator
from time import monotonic
from typing import Any

from mosis.outbound.http import Unreachable
from mosis.validation.strict_json import dump_json

BLOCK = 64 * 1024
SEND_SECONDS = 10.0


def fetch(url: str, size_bytes: int, seconds: float) -> Iterator[bytes]:
    """The content at an address, in parts; at most `size_bytes`. Raises Unreachable, also in the
    middle, if it is not there within these seconds."""
    deadline = monotonic() + seconds
    try:
        with _opened(_request(url), seconds) as answer:
            left = size_bytes
            while part := answer.read(min(BLOCK, left)):
                left -= len(part)
                yield part
                if monotonic() > deadline:
                    raise Unreachable(f"took longer than {seconds:g} seconds")
    except (OSError, ValueError) as error:
        raise Unreachable(str(error)) from error


def send(url: str, document: dict[str, Any], secret: str) -> int:
    """POST a JSON document with the shared secret; the status of the response. Raises Unreachable."""
    import urllib.error

    request = _request(url)
    request.data = dump_json(document)
    request.add_header("Content-Type", "application/json")
    request.add_unredirected_header("Authorization", f"Bearer {secret}")
    try:
        with _opened(request, SEND_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code
    except (OSError, ValueError) as error:
        raise Unreachable(str(error)) from error


def _request(url: str) -> Any:
    import urllib.request

    return urllib.request.Request(url, headers={"User-Agent": "mosis-portal"})  # noqa: S310


def _opened(request: Any, seconds: float) -> Any:
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    return urllib.request.build_opener(NoRedirect).open(request, timeout=seconds)
