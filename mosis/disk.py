"""Disks: their file system, free space, and flushing."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

# Network file systems: WAL mode needs all processes on one host (https://sqlite.org/wal.html, Overview).
NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "afs",
    "ceph", "glusterfs",
}  # fmt: skip


def free_bytes(folder: Path) -> int:
    """The free space for processes without privileges on the file system of a directory. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def flush(path: Path) -> None:
    """Flush a file, or a directory so that new names in it survive a power cut. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_together(paths: Sequence[Path]) -> None:
    """Flush files and directories at the same time: a disk that is flushed once for all of them takes
    half as long. Raises OSError."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(flush, paths))


def write_new(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file with mode 0600, in place of one of this name, and flush it. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, pieces: Iterable[bytes]) -> None:
    """As `write_new`, but atomic: written to a file beside it, which is renamed. Raises OSError."""
    part = path.with_name(path.name + ".part")
    write_new(part, pieces)
    part.rename(path)


def file_system(folder: Path) -> str:
    """The type of the file system of a directory, such as ext4; `unknown` if not told."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    place = str(folder.resolve())
    for line in mounts:
        _, raw, found, *_ = line.split(" ")
        point = raw.replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind
