"""The files of a version under review, compared with those of the last published version, and their content.

META-INF is left out: it differs in every package, and the portal has verified it.
"""

import hashlib
import io
import logging
import tempfile
from typing import BinaryIO

from mosis import packages
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import NotFound, Unavailable
from mosis.packages.fetches import JOBS, Turn
from mosis.publishing import package_files, versions
from mosis.publishing.versions import Version
from mosis.records import dataclass

log = logging.getLogger("mosis.publishing.review_files")

STATES = ("added", "removed", "changed", "same")
SIDES = ("before", "after")


@dataclass(frozen=True)
class ReviewFile:
    """A file of either version. Size and digest are None on the side that does not have it."""

    path: str
    state: str
    size_bytes: int | None
    sha256: str | None
    size_bytes_before: int | None
    sha256_before: str | None


@dataclass(frozen=True)
class Content:
    """The content of a file, open at its start. The caller closes it."""

    file: BinaryIO
    size_bytes: int
    sha256: str


def tree(db: Connection, version: Version) -> list[ReviewFile]:
    """Every file of this version and of the last published one, by path."""
    before = versions.last_published(db, version)
    now = versions.files_of(db, version)
    then = versions.files_of(db, before) if before else {}
    return [
        _compared(path, now.get(path), then.get(path))
        for path in sorted(now.keys() | then.keys())
        if not path.startswith("META-INF/")
    ]


def index(db: Connection, version: Version, paging: PageRequest) -> Page[ReviewFile]:
    """A part of `tree`, by path."""
    after = paging.position or ""
    rows = [file for file in tree(db, version) if file.path > after]
    return page(rows[: paging.limit + 1], paging, lambda file: (file.path,))


def icon_path(db: Connection, version: Version) -> str:
    """The path of the icon of 64 pixels in the package; empty if there is none."""
    found = db.value("SELECT manifest ->> '$.icons.64' FROM versions WHERE id = ?", version.id)
    return str(found or "")


def open_file(
    env: Context,
    db: Connection,
    version: Version,
    path: str,
    side: str = "after",
    turn: Turn = JOBS,
) -> Content:
    """The content of a file on one side. It is copied to a temporary file without a name, so that a
    slow reader holds no memory. Raises NotFound, Conflict `gone` if the package was removed,
    Unavailable `package_unavailable` or `no_space`."""
    source, size_bytes, sha256 = _find(db, version, path, side)
    env.files.check_room(size_bytes)
    copy = tempfile.TemporaryFile(dir=env.files.incoming)
    try:
        _unpack(env, db, source, path, sha256, copy, turn)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return Content(copy, size_bytes, sha256)


def read_file(
    env: Context,
    db: Connection,
    version: Version,
    path: str,
    side: str,
    limit_bytes: int,
    turn: Turn = JOBS,
) -> bytes | None:
    """A file's content on one side; None without, or beyond the limit. Raises as `open_file`."""
    try:
        source, size_bytes, sha256 = _find(db, version, path, side)
    except NotFound:
        return None
    if size_bytes > limit_bytes:
        return None
    copy = io.BytesIO()
    _unpack(env, db, source, path, sha256, copy, turn)
    return copy.getvalue()


def _find(db: Connection, version: Version, path: str, side: str) -> tuple[Version, int, str]:
    """The version that has a file, with the file's size and digest. Raises NotFound."""
    source = version if side == "after" else versions.last_published(db, version)
    known = versions.files_of(db, source).get(path) if source else None
    if source is None or known is None or path.startswith("META-INF/"):
        raise NotFound("file")
    return source, int(known["size_bytes"]), str(known["sha256"])


def _unpack(
    env: Context,
    db: Connection,
    source: Version,
    path: str,
    sha256: str,
    target: BinaryIO,
    turn: Turn,
) -> None:
    """Copy a file out of its package. Raises `package_unavailable` if it is not as uploaded."""
    digest = hashlib.sha256()
    with package_files.open_file(env, db, source, turn=turn) as package:
        try:
            archive = packages.Archive(package)
            for block in archive.blocks(archive.members[path]):
                digest.update(block)
                target.write(block)
            if digest.hexdigest() != sha256:
                raise ValueError(f"{path} is not what was uploaded")
        except (OSError, KeyError, ValueError, packages.Unreadable) as error:
            log.error("package damaged", extra={"version": source.id, "reason": str(error)})
            detail = "The package with this file is missing or damaged."
            raise Unavailable("package_unavailable", detail) from error


def _compared(
    path: str, now: dict[str, object] | None, before: dict[str, object] | None
) -> ReviewFile:
    if now is None or before is None:
        state = "removed" if now is None else "added"
    else:
        state = "same" if now["sha256"] == before["sha256"] else "changed"
    sizes = [each and each["size_bytes"] for each in (now, before)]
    digests = [each and each["sha256"] for each in (now, before)]
    return ReviewFile(path, state, sizes[0], digests[0], sizes[1], digests[1])  # type: ignore[arg-type]
