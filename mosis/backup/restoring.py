"""Putting a database back: from the command line, or at a start that finds none."""

import os
import shutil
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mosis.backup.copies import give_back_secrets, looked_at
from mosis.config import Config
from mosis.db import Connection, faults
from mosis.litestream import BackupError, Litestream
from mosis.litestream.program import beside, discard


def give_back_lost(config: Config, litestream: Litestream) -> bool:
    """At start: restore a database that is lost, with its secrets and the telemetry of the last copy. Raises BackupError."""
    if not litestream.restore_if_lost():
        return False
    give_back_secrets(config)
    kept = config.backups_dir / "telemetry.db" if config.backups_dir else None
    if kept and kept.exists() and not config.telemetry_path.exists():
        shutil.copyfile(kept, config.telemetry_path)
    return True


@dataclass(frozen=True)
class Restored:
    """What was put back."""

    path: Path
    schema: int
    accounts: int
    versions: int
    newest_change: str | None
    put_aside: list[Path] = field(default_factory=list)

    @property
    def text(self) -> str:
        """For a terminal."""
        aside = "".join(f"\nPut aside: {path}" for path in self.put_aside)
        return (
            f"{self.path}: whole, schema {self.schema}, {self.accounts} accounts, {self.versions} versions,"
            f" newest change {self.newest_change or 'none'}{aside}"
        )


def moment(text: str) -> str:
    """A moment as Litestream takes it. Raises BackupError when it is not one, or has no time zone."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise BackupError(f"{text!r} is not a moment such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00.5+01:00")
    return parsed.isoformat(timespec="milliseconds")


def restore(config: Config, at: str | None = None, to: Path | None = None) -> Restored:
    """Restore the newest state or that of a moment, into a folder or in the place of the database, which is put aside then.

    The portal must not run for the latter. Raises BackupError, and then nothing has changed.
    """
    litestream, at = Litestream(config), moment(at) if at else None
    if not litestream.wanted:
        raise BackupError("there is no replica: set BACKUPS_DIR or BACKUP_URL as they were when it was made")
    if to is not None:
        target = to / "portal.db"
        if target.exists():
            raise BackupError(f"{target} exists already: name another folder")
        litestream.restore(target, at)
        return _whole(target, [])
    lock = litestream.hold()
    try:
        fresh = config.database_path.with_name("portal.db.restored")
        discard(fresh)
        litestream.restore(fresh, at)
        _whole(fresh, [])
        stamp, aside = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), []
        for path in beside(config.database_path):
            aside.append(path.rename(path.with_name(f"{path.name}.before-restore-{stamp}")))
        litestream.reset()
        fresh.rename(config.database_path)
        for left in beside(fresh):
            left.unlink()
        give_back_secrets(config)
        return _whole(config.database_path, aside)
    finally:
        os.close(lock)


def _whole(path: Path, aside: list[Path]) -> Restored:
    """Raises BackupError when the restored database is damaged."""
    if found := faults(path):
        raise BackupError(f"{path} was restored, and is damaged: {found[0]}. Try --at with an earlier moment")
    with looked_at(path, check=False) as db:
        return Restored(
            path, int(db.value("PRAGMA user_version")), int(db.value("SELECT count(*) FROM developers")),
            int(db.value("SELECT count(*) FROM versions")), newest_change(db), aside,
        )


def newest_change(db: Connection) -> str | None:
    """When somebody last did something that the trail tells of."""
    newest: str | None = db.value("SELECT max(at) FROM audit")
    return newest
