"""What can be read from a path and from a line of the URL table."""

from collections.abc import Mapping
from typing import Any

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
METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
)  # a client may send any word


def own_path(prefix: str, path: str) -> str:
    """The path of a request without the path of BASE_URL, which some proxies pass on and others remove."""
    return path[len(prefix) :] or "/" if prefix and f"{path}/".startswith(f"{prefix}/") else path


def split_version(path: str) -> tuple[str, str]:
    """A path as the version of the API that it names ("/v1" or "") and the rest, which the URL table has."""
    rest = path.removeprefix(API_PREFIX)
    if path.startswith(f"{API_PREFIX}/") and rest != "/" and not rest.startswith(UNVERSIONED):
        return API_PREFIX, rest
    return "", path


def environ_path(environ: Mapping[str, Any]) -> str:
    """The path as the client sent it, with /v1, without the path of BASE_URL."""
    script: str = environ.get("SCRIPT_NAME", "")
    return f"{script.removeprefix(environ.get('mosis.prefix', ''))}{environ['PATH_INFO']}"


def limit_of(route: bottle.Route) -> str:
    """The rate limit that counts requests without an account: the store is read by whole networks, telemetry counts
    by itself."""
    rule: str = route.rule
    if "limit" in route.config:
        return str(route.config["limit"])
    if rule.startswith(("/store/", "/packages/", "/assets/")):
        return "store"
    return "none" if rule.startswith("/telemetry/") else "address"
