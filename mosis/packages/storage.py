"""Package files on disk: received into incoming/, kept under their final name, opened, swept.

Whatever `keep` has answered for survives a power cut: the file is flushed, renamed, and the folders are flushed too (on btrfs
a rename alone can be lost). PACKAGES_DIR/{developer_id}/{app_id}/{version}/package.mosis is the operators' layout.
"""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from mosis.cache import RevisionCache
from mosis.database import new_id
from mosis.errors import LimitReached, Malformed, Unavailable

log = logging.getLogger("mosis.packages.storage")

BLOCK = 256 * 1024
NAME = "package.mosis"
ORPHAN_AGE_SECONDS = 24 * 3600
HASHED_EVERY_SECONDS = 24 * 3600


class Readable(Protocol):
    """What a body needs to be."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Received:
    """A file that has arrived whole and lies flushed in incoming/."""

    path: Path
    size_bytes: int
    sha256: str

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


class Files:
    """The packages folder. `reserve_bytes` of the disk are never used for uploads."""

    def __init__(self, packages_dir: Path, reserve_bytes: int = 0) -> None:
        self.root = packages_dir
        self.incoming = packages_dir / "incoming"
        self.reserve_bytes = reserve_bytes
        self._good = RevisionCache(
            4 << 20
        )  # hashes that were compared with their file, of some ten thousand files
        self.incoming.mkdir(parents=True, exist_ok=True)

    def check_room(self, size_bytes: int, folder: Path | None = None) -> None:
        """Raises Unavailable `no_space` when this many bytes in the packages folder (or another) would eat into the reserve."""
        disk = os.statvfs(folder or self.root)
        free, wanted = disk.f_bavail * disk.f_frsize, self.reserve_bytes + size_bytes
        if free < wanted and folder is not None:  # asked by the operator's own commands and jobs
            raise Unavailable(
                "no_space",
                f"{folder} has {free >> 20} MiB free, and {(wanted >> 20) + 1} are needed: make room.",
            )
        if free < wanted:
            raise Unavailable(
                "no_space",
                "The portal's disk is nearly full; nothing is taken in until there is room again.",
            )

    def receive(
        self, body: Readable, limit_bytes: int, expected_bytes: int | None = None
    ) -> Received:
        """Copy a body into incoming/, counting and hashing as it goes, and flush it.

        Raises LimitReached `too_large`, Malformed when less than `expected_bytes` came, Unavailable `no_space` or
        `package_unavailable` (a folder that cannot be written).
        """
        self.check_room(
            expected_bytes or 0
        )  # other servers have not asked before they stored the body
        path = self.incoming / new_id()
        digest, size = hashlib.sha256(), 0
        try:
            with open(path, "xb", buffering=0) as file:
                while block := body.read(BLOCK):
                    size += len(block)
                    if size > limit_bytes:
                        raise LimitReached(
                            "too_large",
                            f"A package may have at most {limit_bytes} bytes.",
                            limit_bytes=limit_bytes,
                        )
                    digest.update(block)
                    _write_all(file, block)
                if expected_bytes is not None and size != expected_bytes:
                    raise Malformed(
                        "malformed_request", f"{expected_bytes} bytes were announced, {size} came."
                    )
                os.fsync(file.fileno())
        except BaseException as error:
            with suppress(OSError):  # on a read-only file system nothing was made
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _not_kept(error) from error
            raise
        return Received(path, size, digest.hexdigest())

    def path(self, developer_id: str, app_id: str, version: str) -> Path:
        """Where the package of a version lies. The parts come from rows, never from a request."""
        return self.root / developer_id / app_id / version / NAME

    def keep(self, received: Received, target: Path) -> None:
        """Give a received file its final name, for good; called in the transaction, before its COMMIT."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(received.path, target)
            for folder in (
                target.parents
            ):  # also those that were there: whoever made them may have been stopped before this
                _flush_folder(folder)
                if folder == self.root:
                    break
        except OSError as error:
            raise _not_kept(error) from error

    def find(
        self, path: Path, size_bytes: int, sha256: str, *, anew: bool = False
    ) -> BinaryIO | None:
        """The file with this hash, open for reading; None when it is missing or another. It is hashed when it is first asked for
        in a day and whenever it has been touched; with `anew` in any case."""
        try:
            file = open(path, "rb")
        except OSError:
            return None
        state = os.fstat(file.fileno())
        seen = (state.st_ino, state.st_mtime_ns, state.st_size, time.time() // HASHED_EVERY_SECONDS)
        if state.st_size == size_bytes and not anew and self._good.get(sha256, seen):
            return file
        with suppress(OSError):  # a disk that cannot read it
            if (
                state.st_size == size_bytes
                and hashlib.file_digest(file, "sha256").hexdigest() == sha256
            ):
                file.seek(0)
                self._good.put(sha256, seen, True, len(sha256))
                return file
        file.close()
        return None

    def open(self, path: Path, size_bytes: int, sha256: str, *, anew: bool = False) -> BinaryIO:
        """The package, as `find` finds it. Raises Unavailable `package_unavailable`, and says so loudly: never wrong bytes."""
        file = self.find(path, size_bytes, sha256, anew=anew)
        if file is None:
            log.error(
                "package damaged" if path.exists() else "package missing",
                extra={"path": str(path), "sha256": sha256},
            )
            raise Unavailable(
                "package_unavailable",
                "This package is missing or damaged; the operator finds it in the log.",
            )
        return file

    def remove(self, path: Path) -> None:
        """Remove a package and the folders that it leaves empty."""
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder in (self.root, self.incoming):
                break
            try:
                folder.rmdir()
            except OSError:
                break

    def sweep_incoming(self) -> int:
        """Remove what a killed process left in incoming/: called at start, before the first upload; how many."""
        left = list(self.incoming.iterdir())
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def find_orphans(
        self,
        is_named: Callable[[Path], bool],
        among: Iterable[Path] | None = None,
        older_than_seconds: float = ORPHAN_AGE_SECONDS,
    ) -> list[Path]:
        """Packages that no row names (a row is committed after its file) and uploads that were never ended, once they are a day
        old: all of them, or those `among` some. Under the writers' lock, where packages get their names, none is new."""
        now = time.time()
        found = []
        for path in among or [*self.root.glob(f"*/*/*/{NAME}"), *self.incoming.iterdir()]:
            with suppress(FileNotFoundError):  # an upload that has just ended
                # a date as far in the future is as old: the clock was ahead when it was written
                if abs(now - path.stat().st_mtime) > older_than_seconds and (
                    path.parent == self.incoming or not is_named(path)
                ):
                    found.append(path)
        return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _not_kept(error: OSError) -> Unavailable:
    if error.errno in _FULL:
        return Unavailable("no_space", "The portal's disk is full; nothing was kept.")
    log.error("packages folder not writable", extra={"reason": str(error)})
    return Unavailable(
        "package_unavailable",
        "The packages folder cannot be written at the moment; nothing was kept.",
    )


def _write_all(file: BinaryIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
