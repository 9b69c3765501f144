"""Questions about a database file that is not open here: tables, schema number, integrity, locks."""

import os
import sqlite3
from pathlib import Path

from mosis.database.connection import BUSY_SECONDS, FIRST_LOCK_BYTE, LOCK_BYTES, opened


def has_tables(path: Path) -> bool:
    """Whether there is a database here that something was ever made in; one that cannot be read counts, somebody must look."""
    if not path.exists() or not path.stat().st_size:
        return False
    raw = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        return bool(
            raw.execute(
                "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '!_%' ESCAPE '!'"
            ).fetchone()
        )
    except sqlite3.DatabaseError:
        return True
    finally:
        raw.close()


def in_use(path: Path) -> bool:
    """Whether another process has the database open. In WAL mode each of them holds a lock on these bytes as long as it does
    (https://sqlite.org/fileformat.html#the_lock_byte_page). To be asked only where this process has not opened it: closing the
    file would let go of its own locks."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, LOCK_BYTES, FIRST_LOCK_BYTE)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def schema_number(path: Path) -> int:
    """The number of the schema of a database file that can be read."""
    raw = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        return int(raw.execute("PRAGMA user_version").fetchone()[0])
    finally:
        raw.close()


def has_full_text_search() -> bool:
    """Whether this SQLite has FTS5."""
    raw = sqlite3.connect(":memory:")
    try:
        raw.execute("CREATE VIRTUAL TABLE words USING fts5 (word)")
    except sqlite3.OperationalError:
        return False
    finally:
        raw.close()
    return True


def faults(path: Path, *, quick: bool = False) -> list[str]:
    """What is wrong inside a database file, looked at as a whole: integrity, and rows that refer to nothing. Up to 20 sentences.
    `quick` leaves out what takes longest, indexes against tables and the rows that refer to nothing."""
    check = "quick_check" if quick else "integrity_check"
    try:
        raw = opened(path)
    except sqlite3.OperationalError as error:
        return [f"it cannot be opened: {error}"]
    try:
        found = [
            f"{check}: {line}" for (line,) in raw.execute(f"PRAGMA {check}(10)") if line != "ok"
        ]
        if not found and not quick:
            rows = raw.execute("PRAGMA foreign_key_check").fetchmany(10)
            found = [
                f"a row of {table} refers to nothing in {parent}" for table, _, parent, _ in rows
            ]
    except sqlite3.DatabaseError as error:
        found = [f"it cannot be read: {error}"]
    finally:
        raw.close()
    return found
