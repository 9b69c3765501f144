"""Questions about a database file that is not open here: tables, schema, integrity, locks."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from mosis.database.raw import BUSY_SECONDS, FIRST_LOCK_BYTE, LOCK_BYTES, opened


def has_tables(path: Path) -> bool:
    """Whether the file is a database with tables, or unreadable: an operator must look."""
    if not path.exists() or not path.stat().st_size:
        return False
    query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '!_%' ESCAPE '!'"
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as raw:
            return bool(raw.execute(query).fetchone())
    except sqlite3.DatabaseError:
        return True


def in_use(path: Path) -> bool:
    """Whether another process has the database open: in WAL mode every connection holds a shared
    lock on these bytes (https://sqlite.org/fileformat.html#the_lock_byte_page). Call it only
    where this process has not opened the file: closing the descriptor would drop its own locks."""
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
    """The schema number (PRAGMA user_version) of a readable database file."""
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
    """Up to 20 findings of an integrity check and a foreign key check; empty if the file is sound.
    `quick` runs quick_check, which does not compare indexes with tables, and skips the foreign
    keys."""
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
