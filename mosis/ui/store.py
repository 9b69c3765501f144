"""The store front: published apps, one app, the Atom feed of versions; public and cached."""

import json
import re
from dataclasses import replace
from urllib.parse import urlencode

from bottle import HTTPResponse, request

from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.store import listings, search
from mosis.store.search import Query
from mosis.ui.pages import Page, Section
from mosis.validation.strict_json import dump_json
from mosis.web.plugins import Portal
from mosis.web.request import accepts_html, check_lengths, check_query, read_choice, read_page
from mosis.web.store import SEARCH, package_path

CARDS = 24
VERSIONS = 20
ENTRIES = 50  # of the feed
LONGEST = {name: rules["maxlength"] for name, rules in SEARCH.items() if "maxlength" in rules}
# Compiled when it is first used, which takes 3 ms.
_NOT_IN_XML = r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
SORTS = tuple(sort for sort in search.SORTS if sort != "relevance")


def routes(app: Portal) -> None:
    pages = Section(app, scope="public", limit="store", cache="store")
    pages.get("/", index, varies="Accept")
    pages.get("/app/<package_id>", show)
    as_feed = {"content_type": "application/atom+xml; charset=utf-8"}
    pages.get("/feed.atom", feed, cache_control="public, max-age=300", **as_feed)


def index(env: Context, db: Connection, page: Page) -> bytes | HTTPResponse:
    """The store: search, categories, apps."""
    if not accepts_html(request.get_header("Accept", "")):
        return _for_programs(env)
    check_query(SEARCH)
    check_lengths(LONGEST)
    asked = request.query
    sort = read_choice("sort", *search.SORTS, default="") or ""
    query = Query(
        asked.getunicode("q", ""),
        asked.getunicode("category", ""),
        asked.getunicode("tag", ""),
        sort,
    )
    paging = replace(read_page(*search.position_types(query)), limit=CARDS)
    found = search.index(db, paging, query)
    categories = listings.categories(db, PageRequest(100))
    return page.render(
        "store.tpl",
        query=query,
        listings=found.rows,
        more=_address(query, cursor=found.next_cursor) if found.next_cursor else "",
        address=lambda **changes: _address(replace(query, **changes)),
        categories=categories.rows,
        sorts=SORTS,
        searched=bool(query.text.strip() or query.category or query.tag),
        first=paging.after is None,
        canonical=env.url("/"),
    )


def show(env: Context, db: Connection, page: Page, package_id: str) -> bytes:
    """One app: description, permissions, versions, and how to install it."""
    listing = listings.get(db, package_id)
    history = listings.history(db, package_id, PageRequest(VERSIONS))
    return page.render(
        "app.tpl",
        app=listing,
        tags=json.loads(listing.tags),
        permissions=json.loads(listing.permissions),
        screenshots=[
            f"/assets/{listing.app_id}/screenshot-{number}"
            for number in range(len(json.loads(listing.screenshots)))
        ],
        versions=history.rows,
        package=package_path(listing),
        fingerprint=listings.signing_key(db, listing.version_id),
        canonical=env.url(f"/app/{listing.package_id}"),
        icon=env.url(f"/assets/{listing.app_id}/icon-128.png?v={listing.version_id}"),
    )


def feed(env: Context, db: Connection, page: Page) -> bytes:
    """Newly published apps and versions as an Atom feed (RFC 4287)."""
    releases = listings.latest_releases(db, ENTRIES)
    return page.render(
        "feed.tpl",
        releases=releases,
        absolute=env.url,
        text=_xml_text,
        updated=releases[0][1].listed_at if releases else "1970-01-01T00:00:00Z",
    )


def _xml_text(text: str) -> str:
    """A text without the characters that XML 1.0 cannot contain (section 2.2)."""
    return re.sub(_NOT_IN_XML, "", text)


def _for_programs(env: Context) -> HTTPResponse:
    """The response for clients that accept JSON only: the address of the API."""
    document = {
        "api": env.url("/v1"),
        "openapi": env.url("/openapi.json"),
        "docs": env.url("/docs"),
    }
    headers = {
        "Content-Type": "application/json",
        "Cache-Control": "public, max-age=60",
        "Vary": "Accept",
    }
    return HTTPResponse(dump_json(document), 200, headers)


def _address(query: Query, cursor: str | None = None) -> str:
    """The query string of a list; empty parts are left out."""
    parts = {
        "q": query.text,
        "category": query.category,
        "tag": query.tag,
        "sort": query.sort,
        "cursor": cursor,
    }
    return urlencode({name: value for name, value in parts.items() if value})
