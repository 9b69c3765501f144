"""The URL table, and what follows from a path and from a line of the table."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import bottle

API_PREFIX = "/v1"
# Paths that are the same with every version of the API.
UNVERSIONED = (
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/cli",
    "/packages/",
    "/assets/",
    "/.well-known/",
    "/favicon.ico",
    "/robots.txt",
    # pages, see mosis/ui/
    "/app/",
    "/feed.atom",
    "/setup",
    "/console",
    "/ui/",
)
_WILDCARD: Final = re.compile(r"([^<>:]*)<([a-z_]+)(:int|:path)?>([^<>:]*)")
# clients may send any word as the method
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# registered at IANA and taken nowhere: 405, others 501
KNOWN_METHODS = METHODS | {"TRACE", "CONNECT", "QUERY"}


def own_path(prefix: str, path: str) -> str:
    """A request's path without that of BASE_URL, which some proxies pass on and others remove."""
    return path[len(prefix) :] or "/" if prefix and f"{path}/".startswith(f"{prefix}/") else path


def split_version(path: str) -> tuple[str, str]:
    """A path as the version of the API ("/v1" or "") and the rest, which the URL table has."""
    rest = path.removeprefix(API_PREFIX)
    if path.startswith(f"{API_PREFIX}/") and rest != "/" and not rest.startswith(UNVERSIONED):
        return API_PREFIX, rest
    return "", path


def environ_path(environ: Mapping[str, Any]) -> str:
    """The path as the client sent it, with /v1, without the path of BASE_URL."""
    script: str = environ.get("SCRIPT_NAME", "")
    return f"{script.removeprefix(environ.get('mosis.prefix', ''))}{environ['PATH_INFO']}"


def elsewhere(primary_url: str, environ: Mapping[str, Any]) -> str:
    """The address of a request at the primary."""
    path = quote(environ_path(environ), safe="/!$&'()*+,;=:@~-._")
    query = environ.get("QUERY_STRING", "")
    return f"{primary_url}{path}" + (f"?{query}" if query else "")


def limit_of(route: bottle.Route) -> str:
    """The rate limit of requests without an account: whole networks read the store."""
    rule: str = route.rule
    if "limit" in route.config:
        return str(route.config["limit"])
    if rule.startswith(("/store/", "/packages/", "/assets/")):
        return "store"
    return "none" if rule.startswith("/telemetry/") else "address"


class Route(bottle.Route):  # type: ignore[misc]
    """A line of the URL table, with its options in a dictionary. Bottle's has an overlay of the
    application's configuration, which the portal does not use: half of the time to build it."""

    def __init__(
        self,
        app: bottle.Bottle,
        rule: str,
        method: str,
        callback: Callable[..., Any],
        skipped: Sequence[type],
        options: dict[str, Any],
    ) -> None:
        self.app = app
        self.rule = rule
        self.method = method
        self.callback = callback
        self.name = None
        self.plugins: list[Any] = []
        self.skiplist = skipped
        self.heads: dict[Any, Any] = {}  # of cached responses, see mosis/web/answers.py
        self.config = options


class SegmentRouter(bottle.Router):  # type: ignore[misc]
    """The URL table as a tree of path segments. It replaces Bottle's router, which compiles all
    rules again with each added rule: a fifth of the portal's start time.

    A segment has at most one wildcard, `<name>` or `<name:int>`, with optional text around it;
    `<name:path>` matches the rest of the path. Fixed text takes precedence over a wildcard.
    """

    def __init__(self) -> None:
        super().__init__()
        self._root = _Node()

    def add(self, rule: str, method: str, target: Any, name: str | None = None) -> None:
        """Add a rule, or replace a target. Raises RouteSyntaxError for other wildcards."""
        node, names = self._root, []
        for segment in rule.split("/")[1:]:
            if segment in node.fixed:
                node = node.fixed[segment]
            elif wildcard := _WILDCARD.fullmatch(segment):
                before, field, kind, after = wildcard.groups()
                if kind == ":path" and not rule.endswith(f"/<{field}:path>"):
                    raise bottle.RouteSyntaxError(f"A path is the end of a rule: {rule}")
                names.append(field)
                form = (before, kind, after)
                if form not in node.open:
                    node.open[form] = _Node(*form)
                node = node.open[form]
            elif {"<", ">", ":"} & set(segment):
                raise bottle.RouteSyntaxError(f"Not a rule of this router: {rule}")
            else:
                node.fixed[segment] = _Node()
                node = node.fixed[segment]
        node.targets[method] = (target, names)

    def match(self, environ: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The target and the values of its wildcards. Raise HTTPError: 404 where no rule has the
        path, 405 with `Allow` where rules have it for other methods only."""
        verb, path = environ["REQUEST_METHOD"].upper(), environ["PATH_INFO"] or "/"
        segments = path.split("/")
        for method in ("HEAD", "GET", "ANY") if verb == "HEAD" else (verb, "ANY"):
            values: list[Any] = []
            if found := self._root.target(method, segments, 1, values):
                target, names = found
                return target, dict(zip(names, values, strict=True))
        if allowed := self._root.methods(segments, 1):
            raise bottle.HTTPError(405, "Method not allowed.", Allow=",".join(sorted(allowed)))
        raise bottle.HTTPError(404, "Not found: " + repr(path))


class _Node:
    """The continuations of a path prefix, and the targets by method of the rules that end here."""

    __slots__ = ("affixes", "fixed", "open", "plain", "takes_rest", "targets", "to_value")

    def __init__(self, before: str = "", kind: str | None = None, after: str = "") -> None:
        self.fixed: dict[str, _Node] = {}
        self.open: dict[tuple[str, str | None, str], _Node] = {}
        self.targets: dict[str, tuple[Any, list[str]]] = {}
        self.affixes = (before, after)
        self.to_value: Callable[[str], Any] = _integer if kind == ":int" else str
        self.takes_rest = kind == ":path"
        self.plain = not (before or kind or after)

    def target(
        self, method: str, segments: list[str], at: int, values: list[Any]
    ) -> tuple[Any, list[str]] | None:
        """The first target that matches the segments from `at` on; wildcards go into `values`."""
        if at == len(segments):
            return self.targets.get(method)
        segment = segments[at]
        child = self.fixed.get(segment)
        if child and (found := child.target(method, segments, at + 1, values)):
            return found
        for child in self.open.values():
            if (value := child.value(segments, at)) is None:
                continue
            values.append(value)
            after = len(segments) if child.takes_rest else at + 1
            if found := child.target(method, segments, after, values):
                return found
            values.pop()
        return None

    def methods(self, segments: list[str], at: int) -> set[str]:
        """The methods of all targets that match the segments from `at` on."""
        if at == len(segments):
            return {*self.targets}
        child, found = self.fixed.get(segments[at]), set()
        if child:
            found |= child.methods(segments, at + 1)
        for child in self.open.values():
            if child.value(segments, at) is not None:
                found |= child.methods(segments, len(segments) if child.takes_rest else at + 1)
        return found

    def value(self, segments: list[str], at: int) -> Any:
        """The value of this wildcard at a segment; None if it does not match."""
        value = segments[at]
        if self.takes_rest:
            return "/".join(segments[at:]) or None
        if self.plain:
            return value or None
        before, after = self.affixes
        found = value.removeprefix(before).removesuffix(after)
        if not found or value != before + found + after:
            return None
        with contextlib.suppress(ValueError):
            return self.to_value(found)
        return None


def _integer(text: str) -> int:
    """The number matched by `<name:int>`: ASCII digits, optionally after a minus."""
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise ValueError(text)
    return int(text)
