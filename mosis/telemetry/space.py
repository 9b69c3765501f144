"""How much of the disk telemetry may take, all apps together: it is written by strangers, and must never take the room that
uploads of developers need."""

import os
from time import monotonic

from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Unavailable

SHARE_OF_DISK = 10  # without TELEMETRY_MAX_BYTES: a tenth of the disk
UNCHECKED_BYTES = 128 << 10  # taken in between two looks at the disk
SLACK = 1.1  # maintenance brings the size back every few seconds; beyond this much nothing is taken in until it has


def limit_bytes(env: Context) -> int:
    """How large the database may become."""
    if env.config.telemetry_max_bytes:
        return int(env.config.telemetry_max_bytes)
    disk = os.statvfs(env.telemetry.path.parent)
    return disk.f_blocks * disk.f_frsize // SHARE_OF_DISK


def used_bytes(db: Connection) -> int:
    """What the database holds, without the pages that are free in its file."""
    pages, free = db.value("PRAGMA page_count"), db.value("PRAGMA freelist_count")
    return int((pages - free) * db.value("PRAGMA page_size"))


def check(env: Context, size_bytes: int) -> None:
    """Raises Unavailable `no_space` when telemetry has no room for so many bytes: it is full, or the disk has less than twice its
    reserve. Looks at the disk once a second or every UNCHECKED_BYTES, whichever comes first."""
    at, unchecked = env.remembered.get("telemetry_room", (float("-inf"), 0))
    now = monotonic()
    if now - at < 1 and unchecked + size_bytes < UNCHECKED_BYTES:
        env.remembered["telemetry_room"] = (at, unchecked + size_bytes)
        return
    if _missing_bytes(env) > 0 or used_bytes(env.telemetry.connection()) > limit_bytes(env) * SLACK:
        env.remembered.pop("telemetry_room", None)
        raise Unavailable(
            "no_space",
            "There is no room for telemetry at the moment; keep it and send it in an hour.",
            retry_after_seconds=3600,
        )
    env.remembered["telemetry_room"] = (now, 0)


def excess_bytes(env: Context, db: Connection) -> int:
    """How much has to go: beyond the limit, or so that the disk has twice its reserve again."""
    free_pages = int(db.value("PRAGMA freelist_count") * db.value("PRAGMA page_size"))
    return max(used_bytes(db) - limit_bytes(env), _missing_bytes(env) - free_pages)


def is_tight(env: Context) -> bool:
    """Whether the disk has less than twice its reserve, so that free pages should go back to it at once."""
    return _missing_bytes(env) > 0


def _missing_bytes(env: Context) -> int:
    disk = os.statvfs(env.telemetry.path.parent)
    return 2 * int(env.config.disk_reserve_bytes) - disk.f_bavail * disk.f_frsize
