"""The package of a version: where its file is, and opening it. In a bucket a version also has its
icons and screenshots as objects, which a store front reads without fetching the package."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mosis import packages
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Conflict, Unavailable
from mosis.outbound.objects import BucketUnavailable
from mosis.packages import Package, bucket_storage
from mosis.packages.bucket_storage import BucketFiles
from mosis.packages.fetches import JOBS, Turn
from mosis.packages.storage import Received

log = logging.getLogger("mosis.publishing")

HOME = "coalesce(a.first_owner_id, a.developer_id)"  # the account id in the path of packages
PICTURE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}


class HasPackage(Protocol):
    """A row of `versions`, as far as it names an object."""

    @property
    def id(self) -> str: ...
    @property
    def app_id(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


def name(version: HasPackage) -> str:
    """The name of the object with a version's package."""
    return bucket_storage.package_name(version.app_id, version.sha256, version.id)


def pictures(
    app_id: str, version_id: str, manifest: dict[str, Any], files: dict[str, Any]
) -> dict[str, tuple[str, str]]:
    """The icons and screenshots of a package: {name of the object: (path in the package, SHA-256)}."""
    paths = [*dict(manifest.get("icons") or {}).values(), *(manifest.get("screenshots") or ())]
    found = {}
    for path in paths:
        suffix, known = Path(path).suffix.lower(), files.get(path)
        if known is not None and suffix in PICTURE_TYPES:
            sha256 = str(known["sha256"])
            name = bucket_storage.picture_name(app_id, sha256, version_id, suffix)
            found[name] = (path, sha256)
    return found


def path(env: Context, db: Connection, version: HasPackage) -> Path:
    """The path of the package file, if it is on the disk."""
    home = db.value(f"SELECT {HOME} FROM apps a WHERE id = ?", version.app_id)
    return env.files.path(str(home), version.app_id, version.version)


def open_file(
    env: Context, db: Connection, version: HasPackage, *, anew: bool = False, turn: Turn = JOBS
) -> BinaryIO:
    """Open the package file for reading; waits for the bucket, in this turn, if it is not on this
    machine. With `anew`, its hash is verified even if the file is unchanged since the last time.
    Raises Conflict `gone` if it was removed, Unavailable `package_unavailable`."""
    with _unless_removed(db, version):
        place, size = path(env, db, version), version.size_bytes
        return env.files.open(place, size, version.sha256, anew=anew, name=name(version), turn=turn)


def open_or_later(
    env: Context, db: Connection, version: HasPackage, turn: Turn
) -> BinaryIO | Callable[[], BinaryIO]:
    """The package file, open; or a function that fetches it from the bucket, for a request that may
    need no content. Raises as `open_file`."""
    if isinstance(env.files, BucketFiles):
        place = path(env, db, version)
        file = env.files.find_here(place, version.size_bytes, version.sha256)
        return file or (lambda: open_file(env, db, version, turn=turn))
    return open_file(env, db, version, turn=turn)


def address(env: Context, db: Connection, version: HasPackage) -> str | None:
    """Where clients find the package; None if the portal sends it. Raises `package_unavailable`."""
    if not isinstance(env.files, BucketFiles) or not env.files.gives_addresses:
        return None
    return env.files.address(path(env, db, version), name(version))


def verify_file(env: Context, db: Connection, version: HasPackage) -> None:
    """Verify the hash of the package where it is stored. Raises as `open_file`."""
    with _unless_removed(db, version):
        place = path(env, db, version)
        env.files.verify(place, version.size_bytes, version.sha256, name(version))


@contextmanager
def _unless_removed(db: Connection, version: HasPackage) -> Iterator[None]:
    """Use a version's package; if it was removed or replaced meanwhile, failing is `gone` too."""
    _check_not_removed(db, version)
    try:
        yield
    except Unavailable:
        _check_not_removed(db, version)
        raise


def _check_not_removed(db: Connection, version: HasPackage) -> None:
    sql = "SELECT state, package_removed_at FROM versions WHERE id = ?"
    state, removed_at = db.one(sql, version.id) or (None, None)
    if removed_at is not None:
        detail = f"The package of this version was removed at {removed_at}: it is {state}, and was replaced or became old."
        raise Conflict("gone", detail)


@contextmanager
def stored(
    env: Context, db: Connection, app_id: str, version_id: str, package: Package, received: Received
) -> Iterator[None]:
    """Store the objects of an upload, before the transaction that is inside; they are removed again
    if it does not commit the row. Raises Unavailable."""
    files = env.files
    if not isinstance(files, BucketFiles) or not files.writes:
        yield
        return
    package_name = bucket_storage.package_name(app_id, received.sha256, version_id)
    inside = pictures(app_id, version_id, package.manifest, package.files)
    try:
        files.create(package_name, received.path, received.sha256)
        store_pictures(files, received.path, inside)
        yield
    finally:
        committed = True  # if it cannot be known, the objects stay, and the sweep decides
        with suppress(Exception):
            committed = db.has("SELECT 1 FROM versions WHERE id = ?", version_id)
        if not committed:
            files.withdraw([package_name, *inside])


def store_pictures(files: BucketFiles, package: Path, inside: dict[str, tuple[str, str]]) -> None:
    """Store these pictures of a package (`pictures`). Raises Unavailable."""
    for name, (path, sha256) in inside.items():
        try:
            content = packages.read_file(package, path)
        except (OSError, KeyError, packages.Unreadable) as error:
            log.error("package damaged", extra={"path": str(package), "reason": str(error)})
            detail = "The package cannot be read; upload it again later."
            raise Unavailable("package_unavailable", detail) from error
        files.create(name, content, sha256)


def sweep(env: Context, app_id: str | None = None) -> int:
    """Remove the objects that no row names, of one app or of all; their number. A bucket that does
    not answer is left for the next sweep."""
    files, db = env.files, env.db.connection()
    if not isinstance(files, BucketFiles):
        return 0

    def named(app: str) -> set[tuple[str, str]]:
        sql = "SELECT id, sha256 FROM versions WHERE app_id = ? AND package_removed_at IS NULL"
        return set(db.all(sql, app))

    try:
        return files.sweep_objects(named, app_id)
    except BucketUnavailable as error:
        log.warning("bucket not swept", extra={"reason": str(error)})
        return 0


def of_version(db: Connection, version_id: str) -> dict[str, tuple[str, str]]:
    """The pictures of a version that exists (`pictures`)."""
    sql = "SELECT app_id, manifest, files FROM versions WHERE id = ?"
    app_id, manifest, files = db.one(sql, version_id)
    return pictures(app_id, version_id, json.loads(manifest), json.loads(files))
