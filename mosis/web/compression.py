"""Compression of responses with gzip: a separate representation with its own entity tag (RFC 9110,
section 8.8.3.3).

`content_coding` names the compressed routes. The length of a compressed response shows how similar
its parts are, so a secret must not be compressed together with text that somebody else chose (the
BREACH attack, https://breachattack.com). Therefore nothing under /auth, /keys, /signing-keys and
/webhooks is compressed, nor data about a device or an account, pages of the console, or responses
to changes. Problems (RFC 9457) contain no secrets, and are compressed on every route.

Packages, pictures and parts of files (206) are not compressed. Files of the store and the
documentation are also stored in compressed form, see mosis/web/file_response.py.
"""

from collections.abc import Callable
from typing import Any

import bottle

from mosis import problems
from mosis.context import Context
from mosis.errors import Conflict
from mosis.web.answers import CachedResponse, fields_of
from mosis.web.content_coding import (
    LEAST_BYTES,
    compressed,
    form_key,
    least_bytes,
    merged_vary,
    takes_part,
)
from mosis.web.file_response import is_known
from mosis.web.plugins import problem
from mosis.web.request import gzip_tag

TYPES = frozenset(
    {
        "application/json",
        "application/schema+json",
        problems.CONTENT_TYPE,
        "application/atom+xml",
        "text/html",
        "text/css",
        "text/javascript",
        "text/markdown",
        "text/plain",
        "image/svg+xml",
    }
)
PRECONDITIONS = (
    "HTTP_IF_MATCH",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_UNMODIFIED_SINCE",
)


def is_file(route: bottle.Route) -> bool:
    """Whether the handler negotiates itself: for files with range requests."""
    if route.config.get("page"):
        return False
    return any(getattr(each, "ranges", False) for each in route.callback.operation.answers.values())


class Compression:
    """Bottle plugin that chooses the representation of a response, and evaluates preconditions with
    its tag.

    It is the outermost plugin. If the client accepts gzip, preconditions are hidden from the
    handler, which therefore makes the whole response; only then it is known which representation is
    sent.
    """

    api = 2

    def __init__(self, env: Context) -> None:
        self.env = env

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        if is_file(route):
            return callback
        eligible = takes_part(route)
        conditional = eligible and route.method == "GET"

        def answered(**arguments: Any) -> Any:
            environ, headers = bottle.request.environ, bottle.response
            least = least_bytes(environ.get("HTTP_ACCEPT_ENCODING", ""))
            if eligible:
                fields_of(headers)["Vary"] = ["Accept-Encoding"]
            asked: dict[str, str] = {}
            if conditional and least is not None:
                asked = {name: environ.pop(name) for name in PRECONDITIONS if name in environ}
            try:
                answer = body = callback(**arguments)
            finally:
                environ.update(asked)
            if isinstance(answer, bottle.HTTPResponse):
                headers, body = answer, answer.body
            fields = fields_of(headers)
            if eligible:
                fields["Vary"] = [merged_vary(fields.get("Vary", ("",))[-1])]
                if least is None:
                    return answer
            if not isinstance(body, bytes) or "Content-Encoding" in fields:
                return answer
            kind = headers.get_header("Content-Type", "").partition(";")[0]
            long_problem = kind == problems.CONTENT_TYPE and len(body) >= LEAST_BYTES
            if kind in TYPES and (eligible or long_problem):
                headers.set_header("Vary", merged_vary(headers.get_header("Vary", "")))
                if least is not None and len(body) >= max(1, least):
                    body = self._compress(route, headers, body)
            if asked and headers.status_code == 200:
                return self._unless_known(answer, headers, body)
            if answer is headers:
                answer.body = body
                return answer
            return body

        return answered

    def _compress(self, route: bottle.Route, headers: Any, body: bytes) -> bytes:
        """Change the headers to the compressed form's; its bytes, made once for shared caches."""
        tag: str = headers.get_header("ETag", "")
        cacheable = bool(tag) and (
            "public" in headers.get_header("Cache-Control", "")
            or route.config.get("cache") == "always"
        )
        key = form_key(route, list(headers.headers.items()))
        found = self.env.cache.get(key, None, again=True, room="gzip") if cacheable else None
        packed = found.body if found else compressed(body)
        headers.set_header("Content-Encoding", "gzip")
        if "Content-Length" in headers:
            headers.set_header("Content-Length", str(len(packed)))
        if tag:
            headers.set_header("ETag", gzip_tag(tag))
        if cacheable and found is None:
            listed = list(headers.headers.items())
            form = CachedResponse.of(packed, listed, gzip_tag(tag), route)
            self.env.cache.put(key, None, form, form.size_bytes, room="gzip")
        return packed

    def _unless_known(self, answer: Any, headers: Any, body: bytes) -> Any:
        """The response, 304 or 412, according to the request's preconditions."""
        tag, changed = headers.get_header("ETag", ""), headers.get_header("Last-Modified", "")
        try:
            known = bool(tag) and is_known(tag, changed)
        except Conflict as error:
            return problem(error, bottle.request.environ["mosis.request_id"])
        if known:
            headers.status, body = 304, b""
        if answer is headers:
            answer.body = body
            return answer
        return body
