"""Style sheets and scripts of the pages, all from this host."""

from functools import cache

from bottle import HTTPResponse, request

from mosis.errors import NotFound
from mosis.ui.pages import Page, Section
from mosis.ui.rendering import ASSETS, BASE_STYLES, asset, asset_version
from mosis.web.plugins import Portal

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}


def routes(app: Portal) -> None:
    Section(app, scope="public", limit="store").get("/ui/<file>", show)


def show(page: Page, file: str) -> HTTPResponse:
    """A file; cached without limit if the address names its version."""
    if file not in names():
        raise NotFound("file")
    version = asset_version(file)
    tag = f'"{version}"'
    named = request.query.get("v") == version
    headers = {
        "Content-Type": f"{TYPES[(ASSETS / file).suffix]}; charset=utf-8",
        "Cache-Control": f"public, max-age={31_536_000 if named else 300}{', immutable' if named else ''}",
        "ETag": tag,
    }
    return page.unless_known(asset(file), headers, tag)


@cache
def names() -> frozenset[str]:
    """The files that are served."""
    return frozenset(path.name for path in ASSETS.iterdir() if path.suffix in TYPES) - {BASE_STYLES}
