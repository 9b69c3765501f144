"""The file system that a folder is on."""

from pathlib import Path

# Network file systems: WAL mode needs all processes on one host (https://sqlite.org/wal.html, Overview).
NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "fuse.rclone",
    "fuse.s3fs",
    "afs",
    "ceph",
    "glusterfs",
}


def file_system(folder: Path) -> str:
    """The type of the file system of a directory, such as ext4; `unknown` if the kernel does not
    tell."""
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
