"""Downloads of packages and pictures, and write-behind counting of downloads."""

import hashlib
import io
import json
import logging
import os
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from mosis import packages
from mosis.clock import DAY
from mosis.context import Context
from mosis.database import Connection, columns, new_id
from mosis.errors import Conflict, NotFound, Unavailable
from mosis.packages.bucket_storage import BucketFiles, picture_name
from mosis.packages.fetches import JOBS, Turn
from mosis.publishing import package_files, quotas
from mosis.publishing.package_files import PICTURE_TYPES
from mosis.publishing.versions import Version, by_id
from mosis.records import dataclass

log = logging.getLogger("mosis.store")

ICON_SIZES = (32, 64, 128)


@dataclass(frozen=True)
class Picture:
    """An icon or screenshot of a version: the open file, and its SHA-256 from the signed package."""

    file: BinaryIO
    version_id: str
    size_bytes: int
    sha256: str
    content_type: str
    created_at: str  # of the version


def package(db: Connection, developer_id: str, app_id: str, version: str) -> Version:
    """The version whose package may be downloaded. Raises NotFound, Conflict `gone` if yanked."""
    sql = (
        f"SELECT {columns(Version, 'v')} FROM versions v JOIN apps a ON a.id = v.app_id JOIN developers d ON d.id = a.developer_id"
        # who had the app first: addresses of before a transfer stay good
        " WHERE a.id = ? AND ? IN (a.developer_id, a.first_owner_id) AND v.version = ?"
        " AND v.released = 1 AND a.suspended = 0 AND d.suspended = 0"
    )
    found = db.one(sql, app_id, developer_id, version, into=Version)
    if found is None:
        raise NotFound("package")
    if found.state == "yanked":
        detail = f"Version {found.version} was withdrawn by its developer: {found.yank_reason}"
        raise Conflict("gone", detail)
    return found


def package_id(db: Connection, app_id: str) -> str:
    """The package id of an existing app."""
    return str(db.value("SELECT package_id FROM apps WHERE id = ?", app_id))


def icon(env: Context, db: Connection, app_id: str, size: int, turn: Turn = JOBS) -> Picture:
    """The icon of the newest version for everybody; `turn` is how to wait for the bucket. Raises
    NotFound, Unavailable `package_unavailable`."""
    if size not in ICON_SIZES:
        raise NotFound("icon")
    return _picture(env, db, app_id, f"$.icons.{size}", f"icon-{size}", turn)


def screenshot(
    env: Context, db: Connection, app_id: str, number: int, turn: Turn = JOBS
) -> Picture:
    """A screenshot of the newest version for everybody, counted from 0. Raises as `icon`."""
    if not 0 <= number <= 99:
        raise NotFound("screenshot")
    return _picture(env, db, app_id, f"$.screenshots[{number}]", f"screenshot-{number}", turn)


def count_download(
    env: Context, network: str, version: Version, sent_bytes: int, *, ended: bool
) -> None:
    """Count bytes sent to a network address; `Fetched.sent` decides what is a download."""
    fetched = env.state(Fetched)
    now, size = int(env.clock.time()), version.size_bytes
    if fetched.sent(now, network, version.app_id, version.id, sent_bytes, size, ended=ended):
        env.downloads.add(version.id)
        env.measures.count("portal_downloads_total")


def add_counts(db: Connection, day: str, counts: Mapping[str, int]) -> None:
    """Add {version id: count} to a day, in the running transaction; versions may be gone."""
    sql = (
        "INSERT INTO downloads (version_id, day, count)"
        " SELECT v.id, ?1, c.value FROM json_each(?2) c JOIN versions v ON v.id = c.key WHERE true"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count"
    )
    db.change(sql, day, json.dumps(counts))


def flush_downloads(env: Context) -> list[str]:
    """Write the downloads counted since the last call. Returns the ids of their versions."""
    counts = env.downloads.take()
    if not counts:
        return []
    db, changed = env.db.connection(), [*counts]
    try:
        with db.write():
            # The rows are committed even if the flush then fails, so the counts are not restored.
            db.after_commit(counts.clear)
            add_counts(db, db.now[:10], counts)
    except BaseException:
        env.downloads.put_back(counts)
        raise
    return changed


def download_days(db: Connection, version_ids: list[str]) -> list[tuple[str, str, str, str, int]]:
    """The days of these versions that are not yet added up: (app id, version, channel, day, count)."""
    return db.all(
        "SELECT v.app_id, v.version, v.channel, w.day, w.count FROM downloads w JOIN versions v"
        " ON v.id = w.version_id WHERE w.day <> '' AND v.id IN (SELECT value FROM json_each(?))",
        json.dumps(version_ids),
    )


def versions_with_days(db: Connection, before: str, limit: int) -> list[str]:
    """Versions with days before this one, or dated after tomorrow by a clock that was ahead."""
    sql = (
        "SELECT DISTINCT version_id FROM downloads WHERE day <> '' AND (day < ? OR day > ?) LIMIT ?"
    )
    rows = db.all(sql, before, db.clock.now(2 * 86_400)[:10], limit)
    return [version_id for (version_id,) in rows]


def add_up_days(db: Connection, version_id: str, before: str) -> None:
    """Add the days of a version before this one, and those from the future, to its total."""
    with db.write():
        future = db.clock.now(2 * 86_400)[:10]
        where = "version_id = ?1 AND day <> '' AND (day < ?2 OR day > ?3)"
        values = (version_id, before, future)
        count = db.value(f"SELECT sum(count) FROM downloads WHERE {where}", *values)
        if count is None:
            return
        db.change(f"DELETE FROM downloads WHERE {where}", *values)
        sql = (
            "INSERT INTO downloads (version_id, day, count) VALUES (?, '', ?)"
            " ON CONFLICT DO UPDATE SET count = count + excluded.count"
        )
        db.change(sql, version_id, count)


def sweep_packages(env: Context) -> None:
    """Remove package files and objects that no row names, unfinished uploads, and extracted pictures
    of versions that are no longer shown."""
    db = env.db.connection()

    def is_named(path: Path) -> bool:
        _, app_id, version = path.parts[-4:-1]
        return quotas.is_named(db, app_id, version)

    if found := env.files.find_orphans(is_named):
        with db.write():  # an upload may be moving one of them to its final name right now
            for path in env.files.find_orphans(is_named, found):
                env.files.remove(path)
    package_files.sweep(env)
    sweep_pictures(env)


def sweep_pictures(env: Context) -> int:
    """Remove the extracted pictures of versions that are not shown, and return the number of
    folders. They can be extracted again at any time."""
    db, removed = env.db.connection(), 0
    for folder in env.config.assets_dir.glob("*/*"):
        sql = "SELECT 1 FROM listings WHERE app_id = ? AND version_id = ?"
        if not db.value(sql, folder.parent.name, folder.name):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _picture(
    env: Context, db: Connection, app_id: str, where: str, name: str, turn: Turn
) -> Picture:
    """Open a picture: of the bucket, or extracted at first use. The package signs its hash."""
    sql = (
        "SELECT v.id, v.manifest ->> ?1, v.files, v.created_at FROM listings l"
        " JOIN versions v ON v.id = l.version_id WHERE l.app_id = ?2"
    )
    row = db.one(sql, where, app_id)
    if row is None or row[1] is None:
        raise NotFound("picture")
    version_id, inside, files, created_at = row
    suffix = Path(inside).suffix.lower()
    known = json.loads(files).get(inside)
    if known is None or suffix not in PICTURE_TYPES:
        raise NotFound("picture")
    size_bytes, sha256 = known["size_bytes"], known["sha256"]
    target = env.config.assets_dir / app_id / version_id / (name + suffix)
    if isinstance(env.files, BucketFiles):  # looks on this machine first, too
        file = _from_bucket(env.files, target, known, (app_id, version_id, suffix), turn)
    else:
        file = env.files.find(target, size_bytes, sha256)
    if file is None:
        with _package(env, db, version_id, turn) as package:
            file = _extract(package, inside, sha256, target)
    return Picture(file, version_id, size_bytes, sha256, PICTURE_TYPES[suffix], created_at)


def _from_bucket(
    files: BucketFiles, target: Path, known: dict[str, Any], of: tuple[str, str, str], turn: Turn
) -> BinaryIO | None:
    """The picture as an object; None if it has none, as versions from before a move. Raises
    Unavailable while the bucket does not answer."""
    app_id, version_id, suffix = of
    name = picture_name(app_id, known["sha256"], version_id, suffix)
    try:
        return files.find(target, known["size_bytes"], known["sha256"], name=name, turn=turn)
    except Unavailable as error:
        if "retry_after_seconds" in error.facts:
            raise
        return None


def _package(env: Context, db: Connection, version_id: str, turn: Turn) -> BinaryIO:
    """The package of a version, open. On the disk it is not hashed: the picture is."""
    version = by_id(db, version_id)
    if version is None:
        raise NotFound("picture")
    path = package_files.path(env, db, version)
    with suppress(OSError):
        return open(path, "rb")
    return package_files.open_file(env, db, version, turn=turn)


def _extract(package: BinaryIO, inside: str, sha256: str, target: Path) -> BinaryIO:
    """Extract a picture from the package into ASSETS_DIR; it is served even if it cannot be stored
    there. Raises Unavailable `package_unavailable`."""
    try:
        content = packages.read_file(package, inside)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"{inside} differs from the uploaded file")
    except (OSError, KeyError, ValueError, packages.Unreadable) as error:
        log.error("package damaged", extra={"path": str(package.name), "reason": str(error)})
        detail = "The package with this picture is missing or damaged."
        raise Unavailable("package_unavailable", detail) from error
    unfinished = target.with_name(f"{new_id()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        os.replace(unfinished, target)
    except OSError as error:
        log.warning("picture not cached", extra={"path": str(target), "reason": str(error)})
        with suppress(OSError):
            unfinished.unlink()
    return io.BytesIO(content)


MOST_KEYS = 10_000  # of each kind; about 2 MiB


class Fetched:
    """Which downloads count: one per network, app and day, once every byte of the package has been
    sent. Thread-safe.

    A network is an IPv4 address or an IPv6 /64. It is held in memory as a keyed hash whose key is made
    at start; no network address is stored. The least recently used entries are evicted; all are
    dropped at midnight UTC and at exit."""

    def __init__(self) -> None:
        # (bytes sent, whether the last byte was among them)
        self._parts: OrderedDict[bytes, tuple[int, bool]] = OrderedDict()
        self._counted: OrderedDict[bytes, None] = OrderedDict()
        self._day = 0
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()

    def sent(
        self,
        now: int,
        network: str,
        app_id: str,
        version_id: str,
        sent_bytes: int,
        size_bytes: int,
        *,
        ended: bool,
    ) -> bool:
        """Record bytes of a package sent to a network. Returns whether this completes a download
        that counts: all bytes were sent, in one response or several, and no other version of the
        app was counted for this network today."""
        app, version = self._key(network, app_id), self._key(network, version_id)
        with self._lock:
            if now // DAY != self._day:
                self._parts.clear()
                self._counted.clear()
                self._day = now // DAY
            if app in self._counted:
                self._counted.move_to_end(app)
                return False
            before, had_end = self._parts.pop(version, (0, False))
            if before + sent_bytes < size_bytes or not (ended or had_end):
                self._parts[version] = (before + sent_bytes, ended or had_end)
                while len(self._parts) > MOST_KEYS:
                    self._parts.popitem(last=False)
                return False
            self._counted[app] = None
            while len(self._counted) > MOST_KEYS:
                self._counted.popitem(last=False)
        return True

    def _key(self, network: str, what: str) -> bytes:
        return hashlib.blake2b(
            f"{network} {what}".encode(), digest_size=8, key=self._secret
        ).digest()
