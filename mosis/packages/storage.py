"""Package files on disk: received into incoming/, moved to their final name, opened, removed.
mosis/packages/bucket_storage.py has the same for packages in a bucket.

A file that `keep` has moved survives a power cut: it is renamed, then the file and the directories
are flushed (on btrfs a rename alone can be lost).
PACKAGES_DIR/{developer_id}/{app_id}/{version}/package.mosis is a layout that operators rely on.
"""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from mosis import disk
from mosis.cache import RevisionCache
from mosis.database import new_id
from mosis.errors import LimitReached, MalformedRequest, Unavailable
from mosis.packages.fetches import JOBS, Turn
from mosis.records import dataclass

log = logging.getLogger("mosis.packages.storage")

BLOCK = 256 * 1024
NAME = "package.mosis"
ORPHAN_AGE_SECONDS = 24 * 3600
HASHED_EVERY_SECONDS = 24 * 3600
MOST_FLUSHED = 2_000  # folders
# Larger files are flushed before the transaction that keeps them, so that the write lock is not held
# while their bytes are written.
FLUSHED_EARLY_BYTES = 4 << 20


class Readable(Protocol):
    """The interface of a request body."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Received:
    """A file that was received completely, in incoming/."""

    path: Path
    size_bytes: int
    sha256: str

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


class Files:
    """The packages directory. `reserve_bytes` of the disk are never used for uploads."""

    def __init__(self, packages_dir: Path, reserve_bytes: int = 0) -> None:
        self.root = packages_dir
        self.incoming = packages_dir / "incoming"
        self.reserve_bytes = reserve_bytes
        # hashes already compared with their file, of about ten thousand files
        self._good = RevisionCache(4 << 20)
        self._flushed: set[Path] = set()  # folders of accounts and apps whose names are on the disk
        self.incoming.mkdir(parents=True, exist_ok=True)

    def check_room(self, size_bytes: int, folder: Path | None = None) -> None:
        """Raises Unavailable `no_space` if so many bytes here would use the reserve."""
        free, wanted = disk.free_bytes(folder or self.root), self.reserve_bytes + size_bytes
        if free < wanted and folder is not None:  # for the operator's own commands and jobs
            detail = f"{folder} has {free >> 20} MiB free, and {(wanted >> 20) + 1} are needed: make room."
            raise Unavailable("no_space", detail)
        if free < wanted:
            raise Unavailable(
                "no_space",
                "The portal's disk is nearly full; uploads are refused until there is "
                "space again. Try again later.",
            )

    def receive(
        self, body: Readable, limit_bytes: int, expected_bytes: int | None = None
    ) -> Received:
        """Copy a body into incoming/, counting and hashing it; `keep` makes it durable. Raises
        LimitReached `too_large`, Malformed if less than `expected_bytes` arrived, Unavailable
        `no_space` or `package_unavailable` (a directory that cannot be written)."""
        # other servers store the body before they call the application
        self.check_upload(expected_bytes or 0)
        path = self.incoming / new_id()
        digest, size = hashlib.sha256(), 0
        try:
            with open(path, "xb", buffering=0) as file:
                while block := body.read(BLOCK):
                    size += len(block)
                    if size > limit_bytes:
                        detail = f"A package may have at most {limit_bytes} bytes."
                        raise LimitReached("too_large", detail, limit_bytes=limit_bytes)
                    digest.update(block)
                    _write_all(file, block)
                if expected_bytes is not None and size != expected_bytes:
                    raise MalformedRequest(
                        f"The body has {size} bytes, but {expected_bytes} "
                        "were announced; send it again."
                    )
                if size > FLUSHED_EARLY_BYTES:
                    os.fsync(file.fileno())
        except BaseException as error:
            with suppress(OSError):  # on a read-only file system nothing was created
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _not_stored(error) from error
            raise
        return Received(path, size, digest.hexdigest())

    def path(self, developer_id: str, app_id: str, version: str) -> Path:
        """The path of a version's package. Its parts come from rows, never from a request."""
        return self.root / developer_id / app_id / version / NAME

    def keep(self, received: Received, target: Path) -> None:
        """Move a received file to its final name, and flush it, before the COMMIT. Raises
        Unavailable."""
        try:
            unflushed = self._make_folder(target.parent)
            os.replace(received.path, target)
            disk.flush_together((target, target.parent, *unflushed))
        except OSError as error:
            raise _not_stored(error) from error
        if len(self._flushed) > MOST_FLUSHED:
            self._flushed.clear()
        self._flushed.update(target.parents[1:3])

    def _make_folder(self, folder: Path) -> list[Path]:
        """Create the folder of a version, and return the parents to flush: an existing folder of an
        account or app also needs it once, because the process that made it may have been stopped
        before."""
        unflushed = []
        for each in (*folder.parents[1::-1], folder):
            try:
                each.mkdir()
            except FileExistsError:
                if each in self._flushed:
                    continue
            unflushed.append(each.parent)
        return unflushed

    def find(
        self,
        path: Path,
        size_bytes: int,
        sha256: str,
        *,
        anew: bool = False,
        name: str = "",
        turn: Turn = JOBS,
    ) -> BinaryIO | None:
        """The file with this hash, open for reading; None if it is missing or differs. It is hashed
        at its first use in a day and whenever it was modified; with `anew` always. `name` is that
        of its object and `turn` says how to wait for it, where there is a bucket."""
        try:
            file = open(path, "rb")
        except OSError:
            return None
        state = os.fstat(file.fileno())
        seen = _seen(state)
        if state.st_size == size_bytes and not anew and self._good.get(sha256, seen):
            return file
        with suppress(OSError):  # a disk error
            if (
                state.st_size == size_bytes
                and hashlib.file_digest(file, "sha256").hexdigest() == sha256
            ):
                file.seek(0)
                self._note_good(state, sha256)
                return file
        file.close()
        return None

    def _note_good(self, state: os.stat_result, sha256: str) -> None:
        """This file has been hashed."""
        self._good.put(sha256, _seen(state), True, len(sha256))

    def open(
        self,
        path: Path,
        size_bytes: int,
        sha256: str,
        *,
        anew: bool = False,
        name: str = "",
        turn: Turn = JOBS,
    ) -> BinaryIO:
        """The package, as `find`. Raises `package_unavailable`; never returns wrong bytes."""
        file = self.find(path, size_bytes, sha256, anew=anew, name=name, turn=turn)
        if file is None:
            log.error(
                "package damaged" if path.exists() else "package missing",
                extra={"path": str(path), "sha256": sha256},
            )
            raise lost()
        return file

    def verify(self, path: Path, size_bytes: int, sha256: str, name: str = "") -> None:
        """Read the package where it is stored, whole. Raises as `open`."""
        self.open(path, size_bytes, sha256, anew=True, name=name).close()

    def check_upload(self, size_bytes: int) -> None:
        """Whether a package of this size can be stored now. Raises Unavailable."""
        self.check_room(size_bytes)

    def close(self) -> None:
        """End what runs in the background."""

    def remove(self, path: Path) -> None:
        """Remove a package and the directories that become empty."""
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder in (self.root, self.incoming):
                break
            try:
                folder.rmdir()
            except OSError:
                break

    def sweep_incoming(self) -> int:
        """Remove what a killed process left in incoming/, before uploads; the number of files."""
        left = list(self.incoming.iterdir())
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def find_orphans(
        self, is_named: Callable[[Path], bool], among: Iterable[Path] | None = None
    ) -> list[Path]:
        """Orphans: packages that no row names (a row is committed after its file) and unfinished
        uploads, if they are a day old; all, or those `among` some. Under the write lock, where
        packages get their names, no new one can appear."""
        now = time.time()
        found = []
        for path in among or [*self.root.glob(f"*/*/*/{NAME}"), *self.incoming.iterdir()]:
            with suppress(FileNotFoundError):  # an upload that has just finished
                # a date as far in the future is old too: the clock was ahead when it was written
                if abs(now - path.stat().st_mtime) > ORPHAN_AGE_SECONDS and (
                    path.parent == self.incoming or not is_named(path)
                ):
                    found.append(path)
        return found


def _seen(state: os.stat_result) -> tuple[float, ...]:
    """Changes when a file is changed, and once a day."""
    return (state.st_ino, state.st_mtime_ns, state.st_size, time.time() // HASHED_EVERY_SECONDS)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def lost() -> Unavailable:
    """The error of a package that is not what was stored; the caller logs the reason."""
    detail = "This package is missing or damaged; the operator finds it in the log."
    return Unavailable("package_unavailable", detail)


def _not_stored(error: OSError) -> Unavailable:
    if error.errno in _FULL:
        detail = "The portal's disk is full; nothing was stored. Try again later."
        return Unavailable("no_space", detail)
    log.error("packages folder not writable", extra={"reason": str(error)})
    return Unavailable(
        "package_unavailable",
        "The packages directory cannot be written at the moment; nothing was stored. "
        "Try again later.",
    )


def _write_all(file: BinaryIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]
