"""Restoring a database: from the command line, or at a start that finds none."""

import logging
import os
import shutil
import time
from dataclasses import field, replace
from datetime import UTC, datetime
from pathlib import Path

from mosis import disk
from mosis.config import Config
from mosis.database import Connection, faults, has_tables, in_use
from mosis.litestream import BackupError, Litestream
from mosis.litestream.program import NotSoFarBack, beside, discard
from mosis.operations.backup import bucket_copies
from mosis.operations.backup.copies import open_checked, restore_missing_secrets
from mosis.records import dataclass

log = logging.getLogger("mosis.operations.backup")


def restore_lost(config: Config, litestream: Litestream) -> bool:
    """At start: restore missing secrets, and a lost database with the telemetry of the last copy;
    whether the database was restored. The database comes last, so that an interrupted restore
    starts again at the next start. Raises BackupError."""
    source = litestream.source_if_lost()
    restore_secrets(config)
    if source is None:
        return False
    restore_telemetry(config)
    litestream.restore_lost(source)
    return True


def restore_secrets(config: Config) -> None:
    """Restore the secrets that the data folder lacks, from BACKUPS_DIR or the bucket. Raises
    BackupError."""
    restore_missing_secrets(config)
    bucket_copies.restore_secrets(config)


def restore_telemetry(config: Config) -> None:
    """Restore the newest copy of telemetry.db, if there is no such file. Raises BackupError."""
    copy, path = config.backups_dir and config.backups_dir / "telemetry.db", config.telemetry_path
    if copy and copy.exists() and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(copy, "rb") as file:
            disk.replace(path, iter(lambda: file.read(1 << 20), b""))
    bucket_copies.restore_telemetry(config)


@dataclass(frozen=True)
class Restored:
    """What was restored."""

    path: Path
    schema: int
    accounts: int
    versions: int
    newest_change: str | None
    put_aside: list[Path] = field(default_factory=list)

    @property
    def text(self) -> str:
        """For a terminal."""
        aside = "".join(f"\nRenamed: {path}" for path in self.put_aside)
        return (
            f"{self.path}: whole, schema {self.schema}, {self.accounts} accounts, {self.versions} versions,"
            f" newest change {self.newest_change or 'none'}{aside}"
        )


def moment(text: str) -> str:
    """A moment in Litestream's format. Raises BackupError if it is malformed, has no time zone, or
    is in the future."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise BackupError(
            f"{text!r} is not a moment such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00.5+01:00"
        )
    now = datetime.now(UTC)
    if parsed > now:
        raise BackupError(
            f"{text!r} is still to come, it is {now:%Y-%m-%dT%H:%M:%SZ}: is the time zone right?"
        )
    return parsed.astimezone(UTC).isoformat(timespec="milliseconds")


def restore(
    config: Config, at: str | None = None, to: Path | None = None, source: Path | None = None
) -> Restored:
    """Restore the newest state, that of a moment, or a copy (`source`, its folder or a database
    file), into a folder or in the place of the database, which is renamed then and which no
    process may have open. Raises BackupError, and then nothing has changed."""
    litestream, at = Litestream(config), None if at is None else moment(at)
    if source is None and not litestream.wanted:
        detail = "there is no replica: set BACKUPS_DIR or BACKUP_URL as they were when it was made, or --from a copy"
        raise BackupError(detail)
    if to is not None:
        target = to / "portal.db"
        if target.exists():
            raise BackupError(f"{target} exists already: name another folder")
        return _fetched(litestream, target, at, source)
    lock = litestream.hold()
    try:
        if in_use(config.database_path):
            detail = f"somebody has {config.database_path} open: stop the portal, and `portal.py worker` where it runs"
            raise BackupError(detail)
        fresh = config.database_path.with_name(f"{config.database_path.name}.restored")
        found = _fetched(litestream, fresh, at, source)
        try:
            restore_secrets(config)
        except BackupError as error:
            if source is None or not source.is_dir():
                raise
            log.error("secrets taken from the copy", extra={"reason": str(error)})
        aside = _put_aside(config.database_path)
        litestream.reset()
        fresh.rename(config.database_path)
        disk.flush(config.data_dir)
        if source is not None and source.is_dir():
            restore_missing_secrets(config, source)
        return replace(found, path=config.database_path, put_aside=aside)
    finally:
        os.close(lock)


def _fetched(litestream: Litestream, target: Path, at: str | None, source: Path | None) -> Restored:
    """A database in a new file, checked completely. Raises BackupError; then there is no file."""
    discard(target)
    try:
        if source is None:
            _replicated(litestream, target, at)
        else:
            _copied(source, target)
        return _whole(target)
    except BaseException:
        discard(target)
        raise


def _replicated(litestream: Litestream, target: Path, at: str | None) -> None:
    """A moment may belong to an earlier generation of the lease than the newest state."""
    try:
        litestream.restore(target, at)
    except BackupError as error:
        if at is None or not litestream.generation or not isinstance(error, NotSoFarBack):
            raise
        _replicated(Litestream(litestream.config, litestream.generation - 1), target, at)


def _copied(source: Path, target: Path) -> None:
    """An earlier copy, or a database that an earlier restore renamed, including the content of its WAL."""
    database = source / "portal.db" if source.is_dir() else source
    if not has_tables(database):
        detail = f"{database} is no database: name the folder of a copy, or a file such as portal.db.before-restore-TIME"
        raise BackupError(detail)
    if in_use(database):
        raise BackupError(f"somebody has {database} open: a copy of it would be damaged")
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal"):
        if not (path := Path(f"{database}{suffix}")).exists():
            continue
        handle = os.open(f"{target}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file, open(path, "rb") as read:
            shutil.copyfileobj(read, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())


def _put_aside(database: Path) -> list[Path]:
    """Rename a database so that it can still be opened: its WAL, with the newest commits, is
    renamed with it."""
    stamp, number = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), 1
    while (name := database.with_name(f"{database.name}.before-restore-{stamp}-{number}")).exists():
        number += 1
    moved = []
    for path in beside(database):
        moved.append(path.rename(f"{name}{path.name.removeprefix(database.name)}"))
    return moved


def _whole(path: Path) -> Restored:
    """Raises BackupError if the restored database is damaged."""
    if found := faults(path):
        detail = f"what was restored is damaged: {found[0]}. Try --at with an earlier moment, or --from with a copy"
        raise BackupError(detail)
    with open_checked(path, check=False) as db:
        return Restored(
            path,
            int(db.value("PRAGMA user_version")),
            int(db.value("SELECT count(*) FROM developers")),
            int(db.value("SELECT count(*) FROM versions")),
            newest_change(db),
        )


def newest_change(db: Connection) -> str | None:
    """The time of the last line of the audit trail."""
    newest: str | None = db.value("SELECT max(at) FROM audit")
    return newest
