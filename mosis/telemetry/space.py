"""The disk space for the telemetry of all apps together. Telemetry is written by anonymous devices,
and must never take the space that uploads need."""

import os
from time import monotonic

from mosis import disk
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Unavailable
from mosis.records import dataclass

SHARE_OF_DISK = 10  # share of the disk, without TELEMETRY_MAX_BYTES
UNCHECKED_BYTES = 128 << 10  # bytes accepted between two checks of the disk
# maintenance reduces the size every few seconds; beyond this excess nothing is accepted until it
# has
SLACK = 1.1


def limit_bytes(env: Context) -> int:
    """The maximum size of the database."""
    if env.config.telemetry_max_bytes:
        return int(env.config.telemetry_max_bytes)
    whole = os.statvfs(env.telemetry.path.parent)
    return whole.f_blocks * whole.f_frsize // SHARE_OF_DISK


def used_bytes(db: Connection) -> int:
    """The size of the database without the free pages of its file."""
    pages, free = db.value("PRAGMA page_count"), db.value("PRAGMA freelist_count")
    return int((pages - free) * db.value("PRAGMA page_size"))


@dataclass
class _LastCheck:
    """When the disk was checked (monotonic), and the bytes accepted since."""

    at: float = float("-inf")
    unchecked_bytes: int = 0


def check(env: Context, size_bytes: int) -> None:
    """Raises Unavailable `no_space` if telemetry has no room for this many bytes: the limit is
    reached, or the disk has less than twice its reserve. Checks the disk once a second or every
    UNCHECKED_BYTES, whichever comes first."""
    last, now = env.state(_LastCheck), monotonic()
    if now - last.at < 1 and last.unchecked_bytes + size_bytes < UNCHECKED_BYTES:
        last.unchecked_bytes += size_bytes
        return
    if _missing_bytes(env) > 0 or used_bytes(env.telemetry.connection()) > limit_bytes(env) * SLACK:
        last.at = float("-inf")
        detail = (
            "There is no room for telemetry at the moment; store it and send it again in an hour."
        )
        raise Unavailable("no_space", detail, retry_after_seconds=3600)
    last.at, last.unchecked_bytes = now, 0


def excess_bytes(env: Context, db: Connection) -> int:
    """The bytes to delete: those beyond the limit, or for twice the disk's reserve."""
    free_pages = int(db.value("PRAGMA freelist_count") * db.value("PRAGMA page_size"))
    return max(used_bytes(db) - limit_bytes(env), _missing_bytes(env) - free_pages)


def is_tight(env: Context) -> bool:
    """Whether the disk has less than twice its reserve: return free pages at once."""
    return _missing_bytes(env) > 0


def _missing_bytes(env: Context) -> int:
    return 2 * int(env.config.disk_reserve_bytes) - disk.free_bytes(env.telemetry.path.parent)
