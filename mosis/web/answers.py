"""Responses: body, headers, and the cache.

Routes with the option `cache` are answered from memory while their source has the same revision.
There are two exits. `Answers` wraps the handler in a worker thread. `CachedResponses` is called by
the server's event loop and sends a cached response without a thread, because waking one and passing
through Bottle costs several times as much as the rest. tests/client.py compares both exits at every
GET of every test.
"""

import re
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import bottle

from mosis import rate_limits
from mosis.caller import client_address, network_of
from mosis.clock import seconds
from mosis.context import Context
from mosis.errors import LimitReached, Unavailable
from mosis.ids import request_id_of
from mosis.rate_limits import Taken
from mosis.records import dataclass
from mosis.server.request import Answer, Request
from mosis.store import revisions
from mosis.validation.strict_json import dump_json as dump
from mosis.web.content_coding import form_key, least_bytes, takes_part
from mosis.web.request import OTHER_PAGING, accepts_html, etag, names_tag, require_tag
from mosis.web.routing import METHODS, environ_path, limit_of, own_path, split_version

if TYPE_CHECKING:
    from mosis.web.plugins import Portal

# Paths that pages of other origins may read (https://fetch.spec.whatwg.org/#http-cors-protocol): public, without credentials.
CROSS_ORIGIN = (
    "/store/", "/packages/", "/assets/", "/.well-known/", "/feed", "/docs/manifest.schema.json",
)  # fmt: skip
CORS = [
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Expose-Headers",
        "ETag, Last-Modified, Link, Content-Range, Repr-Digest, Retry-After",
    ),
]
PREFLIGHT = [
    ("Access-Control-Allow-Methods", "GET, HEAD"),
    ("Access-Control-Allow-Headers", "If-None-Match, If-Modified-Since, If-Range, Range"),
    ("Access-Control-Max-Age", "86400"),
]
OF_BODY = frozenset({"content-type", "content-encoding"})
OF_ONE_RESPONSE = frozenset({"etag", "link", "last-modified"})
MOST_HEADS = 16  # of a route
CACHED = (["apps"], ["categories"])  # what may follow /store where responses are cached

# Query parameters that are part of a cache key. Unknown ones are left out: otherwise each random one would be another entry.
# Those of other APIs are in, because they are refused.
_REFUSED = frozenset(OTHER_PAGING)
_LIST = _REFUSED | {"limit", "cursor"}
_SEARCH = _LIST | {"q", "category", "tag", "sort"}
_AGED = {"min_age_days"}
_PLAIN = re.compile(r"[A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True)
class Place:
    """Where a response is cached: the room and the key in the cache, and the revision of its source."""

    room: str
    key: Hashable
    revision: Hashable


def place_of(env: Context, path: str, query: str) -> Place:
    """The place of the response to a GET of this path, as sent by the client, without the path of
    BASE_URL. Nothing is there for paths that are not cached.

    A response about an app is valid until that app changes, a list until the store changes, all
    others without limit.
    """
    words = split_version(path)[1].split("/")[1:]
    if words[0] == "app":
        return Place("apps", path, revisions.app_revision(env, "/".join(words[1:])))
    if path in ("/", "/feed.atom"):
        known = _SEARCH if path == "/" else frozenset()
        return Place("lists", _key(path, query, known), revisions.list_revision(env))
    if words[0] != "store":
        return Place("always", _key(path, query, _REFUSED), None)
    if words[1:2] not in CACHED:
        return Place("always", path, None)
    if words[1] == "apps" and len(words) > 2:
        known = _LIST if len(words) > 3 else _REFUSED | _AGED
        revision = _aged(env, query, revisions.app_revision(env, words[2]))
        return Place("apps", _key(path, query, known), revision)
    known = _SEARCH | _AGED if words[1:] == ["apps"] else _LIST
    return Place("lists", _key(path, query, known), _aged(env, query, revisions.list_revision(env)))


def _aged(env: Context, query: str, revision: Hashable) -> Hashable:
    """The revision of a response that also depends on time: with a cooldown it is valid for a
    minute. Parameter names may be percent-encoded."""
    if "min_age_days" in query or "%" in query:
        return revision, int(env.clock.time() // 60)
    return revision


def _key(path: str, query: str, known: frozenset[str]) -> str:
    """The path and the known parameters, sorted. A query with a repeated parameter or an unusual
    encoding is used as it is: it may be refused, or be another spelling of a known name."""
    if not query:
        return path
    parts = [(part.partition("=")[0], part) for part in query.split("&") if part]
    names = {name for name, _ in parts}
    if len(names) < len(parts) or not all(map(_PLAIN.match, names)):
        return f"{path}?{query}"
    used = sorted(part for name, part in parts if name in known)
    return f"{path}?{'&'.join(used)}" if used else path


@dataclass(frozen=True)
class CommonHead:
    """What the heads of many cached responses of a route have in common, so that it is in memory once."""

    route: bottle.Route
    headers: tuple[tuple[str, str], ...]
    public: bool  # whether shared caches may store them
    limit: str  # the rate limit for requests of the route
    lines: bytes  # of a 200
    lines_unchanged: bytes  # of a 304

    @classmethod
    def of(cls, headers: tuple[tuple[str, str], ...], route: bottle.Route) -> "CommonHead":
        """The one of these headers, which each route remembers."""
        found: CommonHead | None = route.heads.get(headers)
        if found is None:
            final = final_headers("GET", route.rule, [*headers], route, [])
            unchanged = header_lines(each for each in final if each[0].lower() not in OF_BODY)
            lines, limit = header_lines(final), limit_of(route)
            found = cls(route, headers, is_public(headers), limit, lines, unchanged)
            if len(route.heads) >= MOST_HEADS:
                route.heads.clear()
            route.heads[headers] = found
        return found


@dataclass(frozen=True)
class CachedResponse:
    """A response in the cache, for both exits."""

    head: CommonHead
    own: tuple[tuple[str, str], ...]  # headers
    lines: bytes  # of these headers
    body: bytes
    tag: str

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory (tracemalloc)."""
        return len(self.body) + 2 * len(self.lines) + 110 * len(self.own) + 250

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers of a 200, without those that are the same everywhere."""
        return [*self.head.headers, *self.own]

    @classmethod
    def of(
        cls, body: bytes, headers: list[tuple[str, str]], tag: str, route: bottle.Route
    ) -> "CachedResponse":
        """From the body and Bottle's headers, of a GET."""
        own = tuple(each for each in headers if each[0].lower() in OF_ONE_RESPONSE)
        common = tuple(each for each in headers if each not in own)
        return cls(CommonHead.of(common, route), own, header_lines(own), body, tag)


def gzip_form(env: Context, plain: CachedResponse) -> CachedResponse | None:
    """The compressed form of a cached response, if it is in the cache."""
    key = form_key(plain.head.route, plain.headers)
    found: CachedResponse | None = env.cache.get(key, None, again=True, room="gzip")
    return found


def default_cache_control(rule: str) -> str:
    """Cache-Control of a GET whose route has none. While the portal does not respond, a shared cache
    may use a response of the store for five minutes more (RFC 5861): longer would offer halted
    versions for longer."""
    if rule.startswith("/store/"):
        return "public, max-age=60, stale-while-revalidate=30, stale-if-error=300"
    return "public, max-age=60" if rule.startswith("/.well-known/") else "no-store"


class Answers:
    """The plugin that makes the response: JSON, Cache-Control, a strong ETag and 304 on every GET. It fills the cache and
    answers from it."""

    api = 2

    def __init__(self, env: Context) -> None:
        self.env = env

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        cache_control = route.config.get("cache_control") or (default_cache_control(route.rule))
        is_public, cache = route.config["scope"] == "public", route.config.get("cache")
        if cache:
            words = route.rule.split("/")[1:]
            assert (cache == "store") == (words[0] == "store" and words[1:2] in CACHED), route.rule

        def answered(**arguments: Any) -> Any:
            environ, response, place = bottle.request.environ, bottle.response, None
            if cache:
                query = environ.get("QUERY_STRING", "")
                place = place_of(self.env, environ_path(environ), query)
                cached = self.env.cache.get(place.key, place.revision, room=place.room)
                if cached:
                    fields_of(response).update((name, [value]) for name, value in cached.headers)
                    return _unless_known(environ, cached.body, cached.tag)
            document = callback(**arguments)
            if isinstance(document, bottle.HTTPResponse):
                return document
            fields = fields_of(response)  # under the names as Bottle writes them
            fields["Cache-Control"] = [cache_control]
            if not is_public:  # Accept-Encoding is there where the route is compressed
                fields["Vary"] = [", ".join(["Authorization, X-API-Key", *fields.get("Vary", ())])]
            if document is None:
                response.status = 204 if response.status_code == 200 else response.status_code
                return b""
            body = document if isinstance(document, bytes) else dump(document)
            fields["Content-Type"] = ["application/json"]
            if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
                return body
            tag = etag(body)
            fields["Etag"] = [tag]
            if place:
                entry = CachedResponse.of(body, list(response.headers.items()), tag, route)
                size = len(query) + entry.size_bytes
                self.env.cache.put(place.key, place.revision, entry, size, room=place.room)
            return _unless_known(environ, body, tag)

        return answered


class CachedResponses:
    """Answers from the cache, called by the event loop for each request without a body. None passes
    the request to the application, which also sends all errors."""

    def __init__(self, app: "Portal", env: Context) -> None:
        self.app = app
        self.env = env

    def __call__(self, request: Request) -> Answer | None:
        """The response to a GET without credentials, if it is in the cache."""
        started = time.perf_counter()
        if request.command == "OPTIONS" and request.path == "*":  # about the server itself
            return "204 No Content", f"Allow: {', '.join(sorted(METHODS))}\r\n".encode(), b""
        sent = request.headers
        if request.command != "GET" or sent.keys() & {"IF_MATCH", "AUTHORIZATION", "X_API_KEY"}:
            return None
        path = own_path(self.app.prefix, request.path)
        if path == "/" and not accepts_html(sent.get("ACCEPT", "")):
            return None  # the application responds with the address of the API
        try:
            place = place_of(self.env, path, request.query)
            cached: CachedResponse | None = self.env.cache.get(
                place.key, place.revision, again=True, room=place.room
            )
            least = least_bytes(sent.get("ACCEPT_ENCODING", ""))
            if cached and least is not None and self._is_compressed(cached, least):
                cached = gzip_form(self.env, cached)  # made by the application, not in the loop
            if cached is None:
                return None
            head = cached.head
            taken = self._count(request, head.limit)
        except (LimitReached, Unavailable):
            return None
        request_id = sent.get("X_REQUEST_ID", "")
        if "IF_NONE_MATCH" in sent and names_tag(sent["IF_NONE_MATCH"], cached.tag):
            status, lines, body = "304 Not Modified", head.lines_unchanged + cached.lines, b""
        else:
            status, body = "200 OK", cached.body
            lines = b"%b%bContent-Length: %d\r\n" % (head.lines, cached.lines, len(body))
        if not head.public:
            request_id = request_id_of(request_id)
            lines += header_lines(headers_of_caller(request_id, (taken,) if taken else ()))
        took = time.perf_counter() - started
        self.app.record(request_id, "GET", head.route, int(status[:3]), len(body), took)
        return status, lines, body

    def _is_compressed(self, cached: CachedResponse, least: int) -> bool:
        on = self.env.config.compression
        return on and len(cached.body) >= least and takes_part(cached.head.route)

    def _count(self, request: Request, limit: str) -> Taken | None:
        """Count the request for its network. Raises LimitReached."""
        if limit == "none":
            return None
        address = client_address(
            self.env.config.trusted_proxy, request.peer, request.headers.get("X_FORWARDED_FOR", "")
        )
        return self.env.limits.take(limit, network_of(address))


def fields_of(response: bottle.BaseResponse) -> dict[str, list[str]]:
    """The headers of a response of Bottle: values by name, as `Content-Type` and `Etag`. `headers` is
    a view of them that takes ten times as long."""
    return response._headers  # type: ignore[no-any-return]


def is_public(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether shared caches may store a response."""
    return "public" in dict(headers).get("Cache-Control", "")


def final_headers(
    method: str,
    path: str,
    headers: list[tuple[str, str]],
    route: bottle.Route | None,
    of_caller: list[tuple[str, str]],
) -> list[tuple[str, str]]:
    """The final headers of a response. What shared caches may store has no header about one caller
    (RFC 9111, section 3), and the response to a POST is never public."""
    public = is_public(headers)
    if public and method not in ("GET", "HEAD"):
        headers = [
            each if each[0] != "Cache-Control" else (each[0], "no-store") for each in headers
        ]
        public = False
    found = [*headers, ("X-Content-Type-Options", "nosniff")]
    if route is not None and "deprecated" in route.config:
        found += lifecycle_headers(route)
    if path.startswith(CROSS_ORIGIN) and method in ("GET", "HEAD", "OPTIONS"):
        found += CORS + (PREFLIGHT if method == "OPTIONS" else [])
    return found if public else found + of_caller


def headers_of_caller(request_id: str, taken: Sequence[Taken]) -> list[tuple[str, str]]:
    """The headers about one caller: request id and rate limits."""
    return [("X-Request-Id", request_id), *rate_limits.headers(taken)]


def lifecycle_headers(route: bottle.Route) -> list[tuple[str, str]]:
    """The headers of a deprecated address: Deprecation (RFC 9745), Sunset (RFC 8594) and the address that replaces it."""
    found = [("Deprecation", f"@{_midnight(route.config['deprecated'])}")]
    if "sunset" in route.config:
        found.append(("Sunset", formatdate(_midnight(route.config["sunset"]), usegmt=True)))
    if "successor" in route.config:
        found.append(("Link", f'<{route.config["successor"]}>; rel="successor-version"'))
    return found


def _midnight(day: str) -> int:
    return seconds(f"{day}T00:00:00Z")


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Headers as bytes, one a line."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


def _unless_known(environ: Mapping[str, Any], body: bytes, tag: str) -> bytes:
    """The body, or 304 if the client has it."""
    require_tag(tag)
    if "HTTP_IF_NONE_MATCH" in environ and names_tag(environ["HTTP_IF_NONE_MATCH"], tag):
        bottle.response.status = 304
        return b""
    return body
