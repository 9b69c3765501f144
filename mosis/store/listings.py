"""Listings: what devices see of an app, from a table that triggers fill (schema.sql)."""

import json
from dataclasses import replace

from mosis.database import Connection, Record, columns
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import Malformed, NotFound
from mosis.publishing.versions import Version
from mosis.records import dataclass


@dataclass(frozen=True)
class Listing(Record, table="listings"):
    """An app as devices see it: its newest version for everybody, and its developer's name."""

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


# A version n that everybody on the stable channel is offered with a cooldown: ? is the latest time of its publication.
OLD_ENOUGH = (
    "n.channel = 'stable' AND n.state = 'published' AND n.rollout_percent >= 100"
    " AND (n.published_at <= ? OR n.security = 1)"
)
# The listing has such a version.
HAS_OLD_ENOUGH = (
    f"EXISTS (SELECT 1 FROM versions n WHERE n.app_id = listings.app_id AND {OLD_ENOUGH})"
)


def get(db: Connection, package_id: str, before: str = "") -> Listing:
    """One published app; with `before` as of its newest version that is not younger. Raises NotFound."""
    listing = db.get(Listing, "package_id = ?", package_id, what="app in the store")
    aged = old_enough(db, [listing], before)
    if not aged:
        raise NotFound("version of this app that is old enough")
    return aged[0]


def old_enough(db: Connection, rows: list[Listing], before: str) -> list[Listing]:
    """These listings, each with its newest version that was published before this time or is a security release; those
    without one are left out. Pictures stay those of the newest version. Without `before` as they are."""
    if not before:
        return rows
    found = {
        app_id: values
        for app_id, *values, _ in db.all(
            "SELECT n.app_id, n.version, n.version_code, n.size_bytes, n.sha256, n.permissions, n.min_mosis_version,"
            f" n.release_notes, n.published_at, max(n.version_code) FROM versions n WHERE {OLD_ENOUGH}"
            " AND n.app_id IN (SELECT value FROM json_each(?)) GROUP BY n.app_id",
            before,
            json.dumps([row.app_id for row in rows]),
        )
    }
    names = (
        "version",
        "version_code",
        "size_bytes",
        "sha256",
        "permissions",
        "min_mosis_version",
        "release_notes",
        "published_at",
    )
    return [
        replace(row, **dict(zip(names, found[row.app_id], strict=True)))
        for row in rows
        if row.app_id in found
    ]


def history(db: Connection, package_id: str, paging: PageRequest) -> Page[Version]:
    """The published versions of an app, newest first. Raises NotFound."""
    app_id = db.value(
        "SELECT a.id FROM apps a JOIN developers d ON d.id = a.developer_id"
        " WHERE a.package_id = ? AND a.published = 1 AND a.suspended = 0 AND d.suspended = 0",
        package_id,
    )
    if app_id is None:
        raise NotFound("app in the store")
    where = (
        "app_id = ?1 AND state IN ('published', 'halted') AND (?2 IS NULL OR (published_at, id) <"
        " (?2, ?3)) ORDER BY published_at DESC, id DESC LIMIT ?4"
    )
    rows = db.select(Version, where, app_id, *(paging.after or (None, None)), paging.limit + 1)
    return page(rows, paging, lambda version: (version.published_at, version.id))


def latest_releases(db: Connection, most: int) -> list[tuple[Listing, Version]]:
    """The versions that everybody is offered, the latest offer first, each with its app."""
    sql = (
        f"SELECT {columns(Version)} FROM versions INDEXED BY versions_offered WHERE state = 'published'"
        " AND channel = 'stable' AND rollout_percent >= 100"
        " AND app_id IN (SELECT app_id FROM listings) ORDER BY coalesce(offered_at, published_at) DESC, id DESC LIMIT ?"
    )
    rows = db.all(sql, most, into=Version)
    where = "app_id IN (SELECT value FROM json_each(?))"
    listings = {
        listing.app_id: listing
        for listing in db.select(
            Listing, where, json.dumps(sorted({version.app_id for version in rows}))
        )
    }
    return [(listings[version.app_id], version) for version in rows if version.app_id in listings]


def signing_key(db: Connection, version_id: str) -> str:
    """The fingerprint of the key that signed a version."""
    sql = (
        "SELECT fingerprint FROM signing_keys WHERE id ="
        " (SELECT signing_key_id FROM versions WHERE id = ?)"
    )
    return str(db.value(sql, version_id))


def categories(db: Connection, paging: PageRequest) -> Page[tuple[str, int]]:
    """The categories by name, each with its number of published apps."""
    sql = "SELECT category, count(*) FROM listings WHERE (?1 IS NULL OR category > ?1) GROUP BY category ORDER BY category LIMIT ?2"
    rows = db.all(sql, paging.position, paging.limit + 1)
    return page(rows, paging, lambda category: (category[0],))


@dataclass(frozen=True)
class Change:
    """The last change of an app, for mirrors; triggers write its number in the transaction of the
    change. The version is None once it was removed."""

    number: int
    package_id: str
    added: int
    removed: int
    version: str | None
    version_code: int | None
    sha256: str | None
    updated_at: str | None

    def kind(self, after: int) -> str:
        """The kind of the change for a client that knows the store up to a number."""
        return "removed" if self.removed else "added" if self.added > after else "updated"


def changes(db: Connection, after: int, paging: PageRequest) -> Page[Change]:
    """The last change of each app that has changed after a number, in order. Raises Malformed
    `bad_cursor` for a number that the store has not reached: its database is an older one."""
    newest = db.value("SELECT coalesce(max(number), 0) FROM store_changes")
    if after > newest:
        detail = f"The last change is number {newest}: the database was restored. Start again with after=0."
        raise Malformed("bad_cursor", detail)
    sql = (
        "SELECT c.number, c.package_id, c.added, c.removed, l.version, l.version_code, l.sha256, l.updated_at"
        " FROM store_changes c LEFT JOIN listings l ON l.package_id = c.package_id"
        " WHERE c.number > ? ORDER BY c.number LIMIT ?"
    )
    rows = db.all(sql, max(after, paging.position or 0), paging.limit + 1, into=Change)
    return page(rows, paging, lambda change: (change.number,))
