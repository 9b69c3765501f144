"""SQLite as Python's module has it: how a file is opened, and what its errors mean for the portal."""

import sqlite3
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mosis.errors import Unavailable

BUSY_SECONDS = 5.0
DAMAGED = (
    "The database is damaged: it is read-only until the operator restores a good copy."
    " Reading may still work."
)
# SQLITE_CORRUPT_VTAB is not listed: the full-text index can be rebuilt from the rows.
CORRUPT = ("SQLITE_CORRUPT", "SQLITE_CORRUPT_INDEX", "SQLITE_CORRUPT_SEQUENCE", "SQLITE_NOTADB")
# The portal's checkpoints run under the write lock alone: before SQLite 3.51.3 a checkpoint that
# races with a writer can, rarely, corrupt the database (https://sqlite.org/wal.html#walresetbug).
# WAL size that triggers a checkpoint, about 10 ms of work: writers wait for it.
CHECKPOINT_BYTES = 4 << 20
FIRST_LOCK_BYTE, LOCK_BYTES = (1 << 30) + 2, 510  # SHARED_FIRST and SHARED_SIZE


def translated(error: sqlite3.DatabaseError) -> Exception:
    """Unavailable for errors for which a retry may help; any other error unchanged."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        detail = "Another change holds the database; try again in a moment."
        return Unavailable("busy", detail, retry_after_seconds=1)
    if name == "SQLITE_FULL":
        return Unavailable(
            "no_space", "The disk is full; nothing was changed. Reading still works."
        )
    if (
        name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY"))
        and name != "SQLITE_READONLY"
    ):
        return Unavailable(
            "database_unavailable", "The database cannot be read or written at the moment."
        )
    return error


def undone() -> Unavailable:
    """The error for a transaction that SQLite has rolled back."""
    return Unavailable("database_unavailable", "The change was undone; try again in a moment.")


def opened(path: Path, **more: Any) -> sqlite3.Connection:
    """A read-write connection to an existing file; a deleted file is not recreated empty."""
    address = f"file:{quote(str(path))}?mode=rw"
    found: sqlite3.Connection = sqlite3.connect(
        address,
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        **more,
    )
    return found


def prepared(path: Path) -> sqlite3.Connection:
    """A connection with the pragmas of every connection of the portal."""
    raw = opened(path, cached_statements=256)
    for pragma in (
        "journal_mode = WAL",
        "foreign_keys = ON",
        "synchronous = NORMAL",
        "wal_autocheckpoint = 0",
        f"journal_size_limit = {CHECKPOINT_BYTES}",
    ):
        raw.execute(f"PRAGMA {pragma}")
    raw.create_function("sqlar_uncompress", 2, _uncompressed, deterministic=True)
    return raw


def _uncompressed(content: bytes, size_bytes: int) -> bytes:
    """What sqlar_uncompress of the sqlite3 command line gives (https://sqlite.org/sqlar.html)."""
    return content if size_bytes in (0, len(content)) else zlib.decompress(content)
