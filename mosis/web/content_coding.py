"""Which responses are compressed, negotiation, and gzip itself (RFC 9110, sections 8.4 and 12.5.3)."""

import re
import zlib
from collections.abc import Hashable
from functools import lru_cache

import bottle

# Measured with zlib 1.3 on lists, the index, the API's description and scripts: level 6 takes 20 to 40 % longer than level 5
# for 1 to 5 % fewer bytes; level 1 is twice as fast and gives 10 to 40 % more bytes.
LEVEL = 5
LEAST_BYTES = 1024  # smaller responses fit into one packet anyway
MOST_HEADER = 256  # characters of Accept-Encoding that are read; browsers send about 30
READS = (
    "/store/", "/docs", "/openapi.json", "/.well-known/", "/robots.txt", "/metrics", "/apps",
    "/reviews", "/admin/apps",
)  # fmt: skip
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


@lru_cache(256)
def _least_bytes(accept_encoding: str) -> int | None:
    quality: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip(" \t") for part in item.split(";"))
        found = _QUALITY.fullmatch(parameters[0]) if len(parameters) == 1 else None
        if coding and (found or not parameters):
            quality["gzip" if coding == "x-gzip" else coding] = float(found[1]) if found else 1.0
    others = quality.get("*")
    gzip = quality.get("gzip", others or 0.0)
    identity = quality.get("identity", 0.0 if others == 0 else None)
    if not gzip or gzip < (identity or 0.0):
        return None
    return 0 if identity == 0 else LEAST_BYTES


def least_bytes(accept_encoding: str) -> int | None:
    """The minimum size of a response for compression with this Accept-Encoding (RFC 9110, section
    12.5.3): None for never, 0 for always, if the client refuses uncompressed responses."""
    return _least_bytes(accept_encoding) if len(accept_encoding) <= MOST_HEADER else None


def compressed(body: bytes) -> bytes:
    """The body in gzip's format (RFC 1952); the same bytes for the same body."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


@lru_cache(maxsize=64)
def merged_vary(vary: str) -> str:
    """Vary with Accept-Encoding in it."""
    names = [name.strip() for name in vary.split(",") if name.strip()]
    if "*" in names or any(name.lower() == "accept-encoding" for name in names):
        return vary
    return ", ".join([*names, "Accept-Encoding"])


def takes_part(route: bottle.Route) -> bool:
    """Whether responses of this route may be compressed. Not for long polls, which compare tags
    while waiting. Of the pages, only public ones: others contain a form token together with
    submitted text."""
    if route.config.get("page"):
        return bool(route.config["scope"] == "public")
    if route.rule == "/store/updates":  # a query so long that it is sent as a body
        return True
    operation = route.callback.operation
    return route.method == "GET" and route.rule.startswith(READS) and "wait" not in operation.query


def form_key(route: bottle.Route, headers: list[tuple[str, str]]) -> Hashable:
    """The identity of the compressed form of a response: its route and all headers, including the
    tag. Two lists may have the same body and different next pages."""
    return route.rule, tuple(sorted((name.lower(), value) for name, value in headers))
