"""Style sheets and scripts of the pages. Nothing is loaded from another host."""

import gzip
from functools import cache

import bottle

from mosis.errors import NotFound
from mosis.ui.pages import Page, add
from mosis.ui.rendering import ASSETS, asset_version

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
SMALLEST_PACKED_BYTES = 1000


def routes(app: bottle.Bottle) -> None:
    add(app, "GET", "/ui/<file>", show, scope="public", limit="store")


def show(page: Page, file: str) -> bottle.HTTPResponse:
    """A file; for ever when the address names its version."""
    if file not in names():
        raise NotFound("file")
    version = asset_version(file)
    packed = "gzip" in bottle.request.get_header("Accept-Encoding", "")
    body, coding = content(file, packed)
    tag = f'"{version}{"-gzip" if coding else ""}"'
    named = bottle.request.query.get("v") == version
    headers = {
        "Content-Type": f"{TYPES[(ASSETS / file).suffix]}; charset=utf-8",
        "Cache-Control": f"public, max-age={31_536_000 if named else 300}{', immutable' if named else ''}",
        "ETag": tag,
        "Vary": "Accept-Encoding",
    }
    if coding:
        headers["Content-Encoding"] = coding
    return page.unless_known(body, headers, tag)


@cache
def names() -> frozenset[str]:
    """The files that are served."""
    return frozenset(path.name for path in ASSETS.iterdir() if path.suffix in TYPES)


@cache
def content(name: str, packed: bool) -> tuple[bytes, str]:
    """A file and its content coding; packed once, when first asked for."""
    body = (ASSETS / name).read_bytes()
    if packed and len(body) >= SMALLEST_PACKED_BYTES:
        return gzip.compress(body, 9, mtime=0), "gzip"
    return body, ""
