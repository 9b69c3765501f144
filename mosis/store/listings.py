"""Listings: what devices see of an app, from the table `listings`, which triggers fill
(schema.sql)."""

import json
from dataclasses import dataclass

from mosis.database import Connection, columns
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import NotFound
from mosis.publishing.versions import Version


@dataclass(frozen=True)
class Listing:
    """An app as devices see it: the fields of its newest version for everybody, and its developer's
    name."""

    number: int
    app_id: str
    version_id: str
    package_id: str
    name: str
    summary: str
    description: str
    category: str
    tags: str
    homepage: str | None
    developer_id: str
    developer_name: str
    version: str
    version_code: int
    size_bytes: int
    sha256: str
    permissions: str
    min_mosis_version: str
    release_notes: str
    screenshots: str
    downloads: int
    published_at: str
    updated_at: str


def get(db: Connection, package_id: str) -> Listing:
    """One published app. Raises NotFound."""
    return db.get(
        "app in the store",
        f"SELECT {columns(Listing)} FROM listings WHERE package_id = ?",
        package_id,
        into=Listing,
    )


def history(db: Connection, package_id: str, wanted: PageRequest) -> Page[Version]:
    """The published versions of an app, newest first. Raises NotFound."""
    app_id = db.value(
        "SELECT a.id FROM apps a JOIN developers d ON d.id = a.developer_id"
        " WHERE a.package_id = ? AND a.published = 1 AND a.suspended = 0 AND d.suspended = 0",
        package_id,
    )
    if app_id is None:
        raise NotFound("app in the store")
    rows = db.all(
        f"SELECT {columns(Version)} FROM versions WHERE app_id = ?1 AND state IN ('published', 'halted')"
        " AND (?2 IS NULL OR (published_at, id) < (?2, ?3)) ORDER BY published_at DESC, id DESC LIMIT ?4",
        app_id,
        *(wanted.after or (None, None)),
        wanted.limit + 1,
        into=Version,
    )
    return page(rows, wanted, lambda version: (version.published_at, version.id))


def latest_releases(db: Connection, most: int) -> list[tuple[Listing, Version]]:
    """The most recently published versions that everybody is offered, each with its app."""
    rows = db.all(
        f"SELECT {columns(Version)} FROM versions INDEXED BY versions_offered WHERE state = 'published'"
        " AND channel = 'stable' AND rollout_percent >= 100"
        " AND app_id IN (SELECT app_id FROM listings) ORDER BY published_at DESC, id DESC LIMIT ?",
        most,
        into=Version,
    )
    listings = {
        listing.app_id: listing
        for listing in db.all(
            f"SELECT {columns(Listing)} FROM listings WHERE app_id IN (SELECT value FROM json_each(?))",
            json.dumps(sorted({version.app_id for version in rows})),
            into=Listing,
        )
    }
    return [(listings[version.app_id], version) for version in rows if version.app_id in listings]


def signing_key(db: Connection, version_id: str) -> str:
    """The fingerprint of the key that signed a version."""
    return str(
        db.value(
            "SELECT fingerprint FROM signing_keys WHERE id ="
            " (SELECT signing_key_id FROM versions WHERE id = ?)",
            version_id,
        )
    )


def categories(db: Connection, wanted: PageRequest) -> Page[tuple[str, int]]:
    """The categories by name, each with its number of published apps."""
    rows = db.all(
        "SELECT category, count(*) FROM listings WHERE (?1 IS NULL OR category > ?1) GROUP BY category ORDER BY category LIMIT ?2",
        wanted.position,
        wanted.limit + 1,
    )
    return page(rows, wanted, lambda category: (category[0],))
