"""The schema of a database file: created from the script, or updated by migrations."""

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mosis import disk
from mosis.database.files import faults
from mosis.database.raw import BUSY_SECONDS


class MigrationError(Exception):
    """The database cannot be brought to this schema, and is unchanged; says what to do."""


def statements(script: str) -> Iterator[str]:
    """The statements of a script, to share a transaction (executescript would commit first)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip() and not all(
        line.strip().startswith("--") or not line.strip() for line in statement.splitlines()
    ):
        raise MigrationError(f"a statement has no end: {statement.strip()[:80]}")


def migrate(
    path: Path, schema: Path, migrations: Path, *, shrinks: bool = False
) -> tuple[int, int]:
    """Bring the database at `path` to the newest schema; (number before, number now).

    A new database is created from the schema file. An older one is copied first (`NAME.before-N`);
    then each migration runs in a transaction of its own, with foreign keys checked before COMMIT.
    With `shrinks` a new database is created with incremental vacuum. Raises MigrationError,
    OSError.
    """
    steps = {
        int(each.name[:4]): each for each in sorted(migrations.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    }
    newest = max(steps, default=0)
    if sorted(steps) != list(range(1, newest + 1)):
        raise MigrationError(f"the migrations in {migrations.name}/ are not numbered without gaps")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder is in the place of the database", str(path))
    path.touch(mode=0o600)  # webhook secrets are in it; -wal and -shm get the same mode
    raw = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        if shrinks:
            # has an effect only before the first page is written
            raw.execute("PRAGMA auto_vacuum = INCREMENTAL")
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        # rebuilding a table would delete the rows that reference it
        raw.execute("PRAGMA foreign_keys = OFF")
        before = raw.execute("PRAGMA user_version").fetchone()[0]
        if before > newest:
            raise MigrationError(
                f"{path.name} has schema {before}, this program knows {newest}: start the newer program, "
                f"or put back the copy {path.name}.before-{newest + 1} that the upgrade made"
            )
        if before == 0:
            _apply(raw, schema, newest, expected=0)
        elif before < newest:
            if found := faults(path, quick=True):
                detail = f"{path.name} is damaged ({found[0]}) and stays as it was; see docs/OPERATIONS.md, Restore"
                raise MigrationError(detail)
            _copy_before(raw, path, before + 1)
            for number in range(before + 1, newest + 1):
                _apply(raw, steps[number], number, expected=number - 1)
        return before, newest
    except sqlite3.DatabaseError as error:
        raise MigrationError(
            f"{path.name} cannot be used: {error}. It is as it was; see docs/OPERATIONS.md, Upgrade"
        ) from error
    finally:
        raw.close()


def _copy_before(raw: sqlite3.Connection, path: Path, number: int) -> None:
    """The copy for a downgrade; refused if the disk has no room for it."""
    size = path.stat().st_size
    if disk.free_bytes(path.parent) < size * 2:
        detail = f"the upgrade needs {2 * size} free bytes beside {path.name}: one copy of it, and room to work"
        raise MigrationError(detail)
    copy = path.with_name(f"{path.name}.before-{number}")
    copy.touch(mode=0o600)
    target = sqlite3.connect(copy)
    try:
        raw.backup(target)
    finally:
        target.close()


def _apply(raw: sqlite3.Connection, script: Path, number: int, expected: int) -> None:
    raw.execute("BEGIN IMMEDIATE")
    try:
        # otherwise another process has applied it
        if raw.execute("PRAGMA user_version").fetchone()[0] == expected:
            for statement in statements(script.read_text(encoding="utf-8")):
                raw.execute(statement)
            broken = raw.execute("PRAGMA foreign_key_check").fetchall()
            if broken:
                detail = f"{script.name} leaves {len(broken)} row(s) that refer to nothing, as in {broken[0][0]}"
                raise MigrationError(detail)
            raw.execute(f"PRAGMA user_version = {number}")
        raw.execute("COMMIT")
    except BaseException:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        raise
