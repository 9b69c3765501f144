"""The store for devices: the catalogue, the bytes of packages, the icons. Everything here is public."""

import json
from typing import Any
from urllib.parse import quote

import bottle

from mosis import store, versions
from mosis.db import Connection
from mosis.environment import Environment
from mosis.errors import Unavailable
from mosis.store import Listing, Picture, Query
from mosis.versions import Version
from mosis.web.request import listed, read_choice, read_page
from mosis.web.sending import send_file

IMMUTABLE = "public, max-age=31536000, immutable"


def routes(app: bottle.Bottle) -> None:
    app.get("/store/apps", callback=index, scope="public")
    app.get("/store/apps/<package_id>", callback=show, scope="public")
    app.get("/store/apps/<package_id>/versions", callback=history, scope="public")
    app.get("/store/apps/<package_id>/download", callback=download, scope="public")
    app.get("/store/categories", callback=categories, scope="public")
    app.get("/packages/<developer_id>/<app_id>/<version>/package.mosis", callback=package, scope="public")
    app.get("/assets/<app_id>/icon-<size:int>.png", callback=icon, scope="public")
    app.get("/assets/<app_id>/screenshot-<number:int>", callback=screenshot, scope="public")


def index(env: Environment, db: Connection) -> dict[str, Any]:
    said = bottle.request.query
    sort = read_choice("sort", *store.SORTS, default="") or ""
    query = Query(said.getunicode("q", ""), said.getunicode("category", ""), said.getunicode("tag", ""), sort)
    page = store.index(db, read_page(*store.position_types(query)), query)
    return listed("apps", page, [public(env, listing) for listing in page.rows])


def show(env: Environment, db: Connection, package_id: str) -> dict[str, Any]:
    return public(env, store.get(db, package_id))


def history(env: Environment, db: Connection, package_id: str) -> dict[str, Any]:
    page = store.history(db, package_id, read_page(str, str))
    return listed("versions", page, [public_version(version) for version in page.rows])


def categories(db: Connection) -> dict[str, Any]:
    return {"categories": [{"name": name, "apps": count} for name, count in store.categories(db)], "next_cursor": None}


def download(env: Environment, db: Connection, package_id: str) -> bottle.HTTPResponse:
    listing = store.get(db, package_id)
    env.downloads.add(listing.version_id)
    return bottle.HTTPResponse(b"", 302, {"Location": env.url(package_path(listing, listing.version)), "Cache-Control": "no-store"})


def package(env: Environment, db: Connection, developer_id: str, app_id: str, version: str) -> bottle.HTTPResponse:
    found = store.package(db, developer_id, app_id, version)
    file = env.files.open(versions.path(env.files, db, found), found.size_bytes)
    return send_file(file, found.size_bytes, sha256=found.sha256, content_type="application/vnd.mosis.package+zip",
                     cache_control=IMMUTABLE, changed_at=found.created_at)


def icon(env: Environment, db: Connection, app_id: str, size: int) -> bottle.HTTPResponse:
    return picture(store.icon(env, db, app_id, size))


def screenshot(env: Environment, db: Connection, app_id: str, number: int) -> bottle.HTTPResponse:
    return picture(store.screenshot(env, db, app_id, number))


def picture(found: Picture) -> bottle.HTTPResponse:
    """A picture; for ever when the address names its version, as those in our answers do, else for an hour."""
    named = bottle.request.query.get("v") == found.path.parent.name
    try:
        file = open(found.path, "rb")
    except FileNotFoundError:
        raise Unavailable("package_unavailable", "This picture was just cleared away; ask again.") from None
    return send_file(file, found.size_bytes, sha256=found.sha256, content_type=found.content_type,
                     cache_control=IMMUTABLE if named else "public, max-age=3600")


def package_path(listing: Listing, version: str) -> str:
    return f"/packages/{listing.developer_id}/{listing.app_id}/{quote(version)}/package.mosis"


def public(env: Environment, listing: Listing) -> dict[str, Any]:
    return {
        "package_id": listing.package_id, "name": listing.name, "summary": listing.summary, "description": listing.description,
        "category": listing.category, "tags": json.loads(listing.tags), "homepage": listing.homepage,
        "developer": {"id": listing.developer_id, "name": listing.developer_name},
        "icon_url": env.url(f"/assets/{listing.app_id}/icon-128.png?v={listing.version_id}"),
        "screenshots": [
            env.url(f"/assets/{listing.app_id}/screenshot-{number}?v={listing.version_id}")
            for number in range(len(json.loads(listing.screenshots)))
        ],
        "version": listing.version,
        "version_code": listing.version_code, "size_bytes": listing.size_bytes, "sha256": listing.sha256,
        "permissions": json.loads(listing.permissions), "min_mosis_version": listing.min_mosis_version,
        "release_notes": listing.release_notes, "download_url": env.url(package_path(listing, listing.version)),
        "downloads": listing.downloads, "published_at": listing.published_at, "updated_at": listing.updated_at,
    }


def public_version(version: Version) -> dict[str, Any]:
    return {
        "version": version.version, "version_code": version.version_code, "channel": version.channel,
        "size_bytes": version.size_bytes, "sha256": version.sha256, "permissions": json.loads(version.permissions),
        "min_mosis_version": version.min_mosis_version, "release_notes": version.release_notes,
        "published_at": version.published_at,
    }
