"""Copies, while the portal runs, of the database, and of telemetry and secrets."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mosis import audit, jobs
from mosis.caller import PORTAL
from mosis.config import Config
from mosis.context import Context
from mosis.database import Connection, Database, faults
from mosis.database.pagination import Page, PageRequest, page
from mosis.disk import flush, replace
from mosis.litestream import BackupError
from mosis.litestream.program import beside, discard
from mosis.operations.backup import bucket_copies
from mosis.operations.backup.recovery import SECRETS, missing_secrets, open_recovery
from mosis.packages.bucket_storage import BucketFiles, package_name
from mosis.packages.storage import NAME
from mosis.publishing.package_files import HOME
from mosis.records import dataclass

log = logging.getLogger("mosis.operations.backup")

COPIES_KEPT = 7
LIVING = "(v.state NOT IN ('failed', 'rejected', 'withdrawn') OR v.released = 1)"  # states with a package


@dataclass(frozen=True)
class Copy:
    """A copy."""

    name: str
    path: Path
    size_bytes: int
    packages: int


def copies_dir(config: Config) -> Path:
    """The folder of the copies."""
    return (config.backups_dir or config.data_dir) / "copies"


def index(config: Config, paging: PageRequest) -> Page[Copy]:
    """The copies, newest first."""
    after = paging.position or "~"
    folders = [path for path in _folders(config) if path.name < after]
    return page(
        [_described(folder) for folder in folders[: paging.limit + 1]],
        paging,
        lambda copy: (copy.name,),
    )


def make(env: Context) -> Copy:
    """Copy the database as of one moment while others write; the newest seven copies are kept.
    Raises BackupError if the copy is not sound, Unavailable `no_space`."""
    root = copies_dir(env.config)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    env.files.check_room(2 * env.config.database_path.stat().st_size, root)
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(env.clock.time()))
    part = root / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    try:
        copy(env.db, part / "portal.db")
        with open_checked(part / "portal.db") as copied:
            in_bucket = isinstance(env.files, BucketFiles) and env.files.writes
            lines = [
                f"{each.sha256}  {each.name if in_bucket else each.place}\n"
                for each in packages_of(copied)
            ]
        (part / "packages.sha256").write_text("".join(lines), encoding="utf-8")
        _keep_secrets(env.config.data_dir, part)
        for path in part.iterdir():
            flush(path)
        shutil.rmtree(root / name, ignore_errors=True)
        part.rename(root / name)
        flush(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    # one that is dated in the future was made by a clock that was ahead: it goes first
    folders = sorted(_folders(env.config), key=lambda each: each.name > name)
    for old in folders[COPIES_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return _described(root / name)


def request_copy(db: Connection, actor: str) -> str:
    """Queue the job that makes a copy; the id of the job, which may already be waiting."""
    with db.write():
        job = jobs.add(db, "copy_database", unique_key="copy_database", actor=actor)
        sql = "SELECT id FROM jobs WHERE unique_key = 'copy_database' AND state IN ('waiting', 'running')"
        return job or str(db.value(sql))


def make_by_job(env: Context, actor: str | None = None) -> None:
    """The job that makes a copy on an administrator's request."""
    made, db = make(env), env.db.connection()
    with db.write():
        facts: dict[str, Any] = {
            "size_bytes": made.size_bytes,
            "packages": made.packages,
            "asked_by": actor,
        }
        audit.add(db, PORTAL, "backup.made", made.name, **facts)


def daily(env: Context) -> None:
    """The daily job: copies what Litestream does not, into BACKUPS_DIR and BACKUP_URL."""
    folder, recovery = env.config.backups_dir, open_recovery(env.config)
    if folder is None and recovery is None:
        return
    copy_secrets(env)
    place = folder or env.config.data_dir
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    env.files.check_room(2 * env.config.telemetry_path.stat().st_size, place)
    part = place / "telemetry.db.part"
    discard(part)
    try:
        copy(env.telemetry, part)
        flush(part)
        if recovery is not None:
            bucket_copies.upload_secrets(env)
            recovery.add_telemetry(part)
        if folder is not None:
            part.rename(folder / "telemetry.db")
            flush(folder)
    finally:
        discard(part)


def copy_secrets(env: Context) -> None:
    """Copy the secrets to BACKUPS_DIR/secrets, and have them uploaded to BACKUP_URL if they have
    changed: without them everybody is signed out, and devices do not trust the index."""
    bucket_copies.request_upload(env)
    if env.config.backups_dir is None:
        return
    folder = env.config.backups_dir / "secrets"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _rename_changed(env.config.data_dir, folder)
        _keep_secrets(env.config.data_dir, folder)
    except OSError as error:
        # such as a full or missing disk, which /readyz reports; other jobs go on
        log.warning("secrets not copied", extra={"reason": str(error)})


def restore_missing_secrets(config: Config, folder: Path | None = None) -> list[str]:
    """Restore secrets that the data folder lacks, from here or BACKUPS_DIR/secrets; their names."""
    folder = folder or (config.backups_dir / "secrets" if config.backups_dir else None)
    if folder is None or not folder.is_dir():
        return []
    missing = missing_secrets(config)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    return _keep_secrets(folder, config.data_dir, missing)


@dataclass(frozen=True)
class Packed:
    """A package that must exist: its path under PACKAGES_DIR, or the name of its object."""

    place: str
    name: str
    sha256: str
    size_bytes: int


def packages_of(db: Connection) -> Iterator[Packed]:
    """Every package that must exist."""
    rows = db.all(
        f"SELECT {HOME}, a.id, v.version, v.sha256, v.size_bytes, v.id FROM versions v JOIN apps a ON a.id = v.app_id"
        f" WHERE {LIVING} ORDER BY 1, 2, 3"
    )
    for home, app_id, version, sha256, size_bytes, version_id in rows:
        name = package_name(app_id, sha256, version_id)
        yield Packed(f"{home}/{app_id}/{version}/{NAME}", name, sha256, size_bytes)


@contextmanager
def open_checked(path: Path, *, check: bool = True) -> Iterator[Connection]:
    """A connection to a database file that nobody else uses. Raises BackupError if it is damaged."""
    if check and (found := faults(path)):
        raise BackupError(f"the database is damaged: {found[0]}")
    database = Database(path)
    try:
        yield database.connection()
    finally:
        database.close()
        for sidecar in beside(path)[1:]:
            sidecar.unlink(missing_ok=True)


def copy(database: Database, target: Path) -> None:
    """Copy a database as of one moment into a new file with mode 0600."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600))
    database.connection().copy_to(target)


def _keep_secrets(
    source: Path, target: Path, names: list[str] | tuple[str, ...] = SECRETS
) -> list[str]:
    """Copy the secrets that exist and differ; their names."""
    copied = []
    for name in names:
        path = source / name
        if not path.exists() or (
            (target / name).exists() and (target / name).read_bytes() == path.read_bytes()
        ):
            continue
        replace(target / name, [path.read_bytes()])
        copied.append(name)
    return copied


def _rename_changed(source: Path, target: Path) -> None:
    """Rename the stored copy of a secret that is about to be replaced by a different one to
    NAME.until-TIME: the new one may have been created by mistake in a lost data folder, and
    devices trust the old one."""
    for name in SECRETS:
        path, existing = source / name, target / name
        if path.exists() and existing.exists() and path.read_bytes() != existing.read_bytes():
            existing.rename(
                target / f"{name}.until-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            )


def _folders(config: Config) -> list[Path]:
    return sorted((path for path in copies_dir(config).glob("*T*Z") if path.is_dir()), reverse=True)


def _described(folder: Path) -> Copy:
    lines = folder / "packages.sha256"
    packages = lines.read_text(encoding="utf-8").count("\n") if lines.exists() else 0
    database = folder / "portal.db"
    return Copy(folder.name, folder, database.stat().st_size if database.exists() else 0, packages)
