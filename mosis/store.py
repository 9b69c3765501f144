"""The public catalogue: what devices see, and the counting of what they fetch."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path

from mosis import apps, packages, versions
from mosis.db import Connection, columns
from mosis.environment import Environment
from mosis.errors import Conflict, NotFound
from mosis.pages import Page, Wanted, page
from mosis.versions import Version

ICON_SIZES = (32, 64, 128)


@dataclass(frozen=True)
class Listing:
    """An app as devices see it: what its newest version for everybody says, with the name of its developer."""

    app_id: str
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
    manifest: str
    downloads: int
    published_at: str
    updated_at: str


# The newest version of each app that all devices of the stable channel get; suspended people and apps are not shown.
_LISTED = """
    FROM apps a JOIN developers d ON d.id = a.developer_id
    JOIN versions v ON v.id = (SELECT n.id FROM versions n WHERE n.app_id = a.id AND n.channel = 'stable' AND n.state = 'published'
                               AND n.rollout_percent >= 100 ORDER BY n.version_code DESC LIMIT 1)
    WHERE a.published = 1 AND a.suspended = 0 AND d.suspended = 0"""
_LISTING = f"""SELECT a.id, a.package_id, a.name, a.summary, a.description, a.category, a.tags, a.homepage, d.id, d.name,
    v.version, v.version_code, v.size_bytes, v.sha256, v.permissions, v.min_mosis_version, v.release_notes, v.manifest,
    (SELECT coalesce(sum(w.count), 0) FROM downloads w JOIN versions x ON x.id = w.version_id WHERE x.app_id = a.id),
    v.published_at, a.updated_at {_LISTED}"""


def index(db: Connection, wanted: Wanted, *, query: str = "", category: str | None = None) -> Page[Listing]:
    """Published apps by name; `query` is looked for in name, summary and package_id."""
    like = "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%" if query else None
    after = wanted.after or (None, None)
    rows = db.all(
        f"{_LISTING} AND (?1 IS NULL OR a.category = ?1)"
        " AND (?2 IS NULL OR a.name LIKE ?2 ESCAPE '\\' OR a.summary LIKE ?2 ESCAPE '\\' OR a.package_id LIKE ?2 ESCAPE '\\')"
        " AND (?3 IS NULL OR (a.name, a.id) > (?3, ?4)) ORDER BY a.name, a.id LIMIT ?5",
        category, like, *after, wanted.limit + 1, into=Listing,
    )
    return page(rows, wanted, lambda listing: (listing.name, listing.app_id))


def get(db: Connection, package_id: str) -> Listing:
    """One published app. Raises NotFound."""
    found: Listing | None = db.one(f"{_LISTING} AND a.package_id = ?", package_id, into=Listing)
    if found is None:
        raise NotFound("app in the store")
    return found


def history(db: Connection, package_id: str, wanted: Wanted) -> Page[Version]:
    """The published versions of an app, the newest first. Raises NotFound."""
    app_id = db.value(
        "SELECT a.id FROM apps a JOIN developers d ON d.id = a.developer_id"
        " WHERE a.package_id = ? AND a.published = 1 AND a.suspended = 0 AND d.suspended = 0", package_id,
    )
    if app_id is None:
        raise NotFound("app in the store")
    rows = db.all(
        f"SELECT {columns(Version)} FROM versions WHERE app_id = ?1 AND state IN ('published', 'halted')"
        " AND (?2 IS NULL OR (published_at, id) < (?2, ?3)) ORDER BY published_at DESC, id DESC LIMIT ?4",
        app_id, *(wanted.after or (None, None)), wanted.limit + 1, into=Version,
    )
    return page(rows, wanted, lambda version: (version.published_at, version.id))


def categories(db: Connection) -> list[tuple[str, int]]:
    """Each category with the number of its published apps."""
    return db.all(f"SELECT a.category, count(*) {_LISTED} GROUP BY a.category ORDER BY a.category")


def offered(db: Connection, package_id: str) -> tuple[Listing, Version]:
    """The version that a device gets now. Raises NotFound."""
    listing = get(db, package_id)
    return listing, versions.get(db, apps.get(db, listing.app_id), listing.version)


def package(db: Connection, developer_id: str, app_id: str, version: str) -> Version:
    """The version whose bytes may be fetched under this address. Raises NotFound, Conflict `gone` for a yanked one."""
    found: Version | None = db.one(
        f"SELECT {columns(Version, 'v')} FROM versions v JOIN apps a ON a.id = v.app_id JOIN developers d ON d.id = a.developer_id"
        " WHERE a.id = ? AND a.developer_id = ? AND v.version = ? AND v.released = 1 AND a.suspended = 0 AND d.suspended = 0",
        app_id, developer_id, version, into=Version,
    )
    if found is None:
        raise NotFound("package")
    if found.state == "yanked":
        raise Conflict("gone", f"Version {found.version} was taken back by its developer: {found.yank_reason}")
    return found


def icon(env: Environment, db: Connection, app_id: str, size: int) -> Path:
    """The icon of an app's published version as a file, taken out of the package when first asked for. Raises NotFound."""
    row = db.one(f"SELECT v.id, v.manifest, a.developer_id, v.version {_LISTED} AND a.id = ?", app_id)
    if row is None or size not in ICON_SIZES:
        raise NotFound("icon")
    version_id, manifest, developer_id, version = row
    target = env.config.assets_dir / app_id / version_id / f"icon-{size}.png"
    if not target.exists():
        source = env.files.path(developer_id, app_id, version)
        content = packages.read_file(source, json.loads(manifest)["icons"][str(size)])
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{threading.get_ident()}")
        fresh.write_bytes(content)
        fresh.replace(target)
    return target


def flush_downloads(env: Environment) -> None:
    """Write the downloads that were counted since the last time."""
    counts = env.downloads.take()
    if not counts:
        return
    db = env.db.connection()
    try:
        with db.write():
            for version_id, count in counts.items():
                db.change(
                    "INSERT INTO downloads (version_id, day, count) SELECT id, ?, ? FROM versions WHERE id = ?"
                    " ON CONFLICT DO UPDATE SET count = count + excluded.count", db.now[:10], count, version_id,
                )
    except BaseException:
        env.downloads.put_back(counts)
        raise


def sweep_packages(env: Environment) -> None:
    """Remove package files that no row names."""
    db = env.db.connection()

    def is_named(path: Path) -> bool:
        _, app_id, version = path.parts[-4:-1]
        return bool(db.value("SELECT 1 FROM versions WHERE app_id = ? AND version = ? LIMIT 1", app_id, version))

    env.files.sweep(is_named)

