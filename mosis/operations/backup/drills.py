"""The drill: restores the replica for real and checks the result."""

import json
import logging
import random
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mosis import audit, events, jobs
from mosis.caller import PORTAL
from mosis.context import Context
from mosis.database import Connection, faults
from mosis.errors import Unavailable
from mosis.litestream import BackupError, Litestream
from mosis.operations.backup import bucket_copies
from mosis.operations.backup.copies import Packed, copy, open_checked, packages_of
from mosis.operations.backup.restoring import newest_change
from mosis.packages.bucket_storage import BucketFiles
from mosis.packages.storage import Files, sha256_of
from mosis.records import dataclass

log = logging.getLogger("mosis.operations.backup")

SAMPLE = 100  # packages that a drill hashes, unless all are requested
WAIT_SECONDS = 20  # how long a portal that has just started may take to create its replica


@dataclass(frozen=True)
class Drill:
    """The result of a drill; `lost`: rows per table that the replica lacks."""

    seconds: float
    size_bytes: int
    schema: int
    newest_change: str | None
    newest_change_here: str | None
    lost: dict[str, int]
    packages_checked: int
    packages: int
    findings: list[str]
    recovered: str = ""  # what else was restored from the bucket, for a terminal

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def facts(self) -> dict[str, Any]:
        """For the audit trail and for administrators."""
        return {
            "passed": self.passed,
            "seconds": self.seconds,
            "size_bytes": self.size_bytes,
            "newest_change": self.newest_change,
            "lost_rows": sum(self.lost.values()),
            "packages_checked": self.packages_checked,
            "packages": self.packages,
            "findings": self.findings[:10],
        }

    @property
    def text(self) -> str:
        """For a terminal."""
        lost = ", ".join(f"{count} of {table}" for table, count in self.lost.items()) or "nothing"
        lines = [
            f"restored {self.size_bytes} bytes in {self.seconds:.1f} s, schema {self.schema}",
            f"newest change in the replica {self.newest_change or 'none'}, here {self.newest_change_here or 'none'}",
            f"lost, had the disk gone when the drill began: {lost}",
            f"packages: {self.packages_checked} of {self.packages} hashed",
            *([self.recovered] if self.recovered else []),
            *(f"BAD  {finding}" for finding in self.findings),
            "passed" if self.passed else f"FAILED with {len(self.findings)} finding(s)",
        ]
        return "\n".join(lines)


def drill(env: Context, whole: bool = False) -> Drill:
    """Restore the newest replica into a temporary folder and check it, beside a running portal. A
    replica that cannot be restored is a finding, and so are secrets or telemetry in the bucket that
    cannot be read or are not those of this portal. Raises BackupError if there is no replica,
    Unavailable `no_space`."""
    litestream = Litestream(env.config)
    if not litestream.wanted:
        raise BackupError("there is no replica to restore: set BACKUPS_DIR or BACKUP_URL")
    for left in env.config.data_dir.glob("drill-*"):  # left by a drill that was killed
        if abs(time.time() - left.stat().st_mtime) > 24 * 3600:  # or ahead: the clock was set back
            shutil.rmtree(left, ignore_errors=True)
    env.files.check_room(3 * env.config.database_path.stat().st_size, env.config.data_dir)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drill-", dir=env.config.data_dir) as folder:
        here, there = Path(folder) / "here.db", Path(folder) / "there.db"
        copy(env.db, here)
        try:
            litestream.restore(there)
        except BackupError as error:
            return Drill(time.monotonic() - begun, 0, 0, None, None, {}, 0, 0, [str(error)])
        took = round(time.monotonic() - begun, 2)
        recovered, findings = bucket_copies.drill(env, Path(folder))
        compared = _compared(env, here, there, took, whole)
        return replace(compared, findings=compared.findings + findings, recovered=recovered)


def drill_by_schedule(env: Context) -> None:
    """The weekly job: a drill, an audit line, and an event for every administrator."""
    if not Litestream(env.config).wanted:
        return
    deadline = time.monotonic() + WAIT_SECONDS
    while (
        env.replication is not None
        and env.replication.state.behind_seconds
        and time.monotonic() < deadline
    ):
        time.sleep(0.5)
    try:
        facts = drill(env).facts
    except BackupError as error:
        facts = {"passed": False, "findings": [str(error)]}
    log.log(logging.INFO if facts["passed"] else logging.ERROR, "restore drill", extra=facts)
    with env.db.write() as db:
        _record(env, db, facts)
        for (admin,) in db.all("SELECT id FROM developers WHERE role = 'admin' AND suspended = 0"):
            events.add(db, admin, "operator.drill", **facts)


def drill_by_command(env: Context, whole: bool = False) -> Drill:
    """`drill`, with an audit line. Raises as `drill`."""
    found, db = drill(env, whole), env.db.connection()
    with db.write():
        _record(env, db, found.facts)
    return found


def _record(env: Context, db: Connection, facts: dict[str, Any]) -> None:
    """Write the audit line of a drill, in the running transaction; `packages_in` says where it has
    read packages: nothing is pruned before a drill of its target."""
    in_bucket = isinstance(env.files, BucketFiles) and env.files.writes
    place = "bucket" if in_bucket else "disk"
    audit.add(db, PORTAL, "backup.drill", packages_in=place, **facts)


def request_drill(db: Connection) -> None:
    """Queue a drill now, unless one waits or runs."""
    with db.write():
        jobs.add(db, "drill", unique_key="drill:now")


def last_drill(db: Connection) -> dict[str, Any] | None:
    """The result of the last scheduled drill, with `at`; None if there was none."""
    sql = "SELECT at, details FROM audit WHERE action = 'backup.drill' ORDER BY number DESC LIMIT 1"
    row = db.one(sql, into=None)
    return None if row is None else {"at": row[0], **json.loads(row[1])}


def _compared(env: Context, here: Path, there: Path, took: float, whole: bool) -> Drill:
    findings = faults(there)
    with open_checked(here) as live, open_checked(there, check=False) as restored:
        if findings:
            return Drill(
                took, there.stat().st_size, 0, None, newest_change(live), {}, 0, 0, findings
            )
        schema, expected = (int(each.value("PRAGMA user_version")) for each in (restored, live))
        if schema != expected:
            findings.append(f"the replica has schema {schema}, the database {expected}")
        packages = list(packages_of(restored)) if schema == expected else []
        chosen = packages if whole else random.sample(packages, min(SAMPLE, len(packages)))
        for each in chosen:
            findings += _package_faults(env.files, each)
        return Drill(
            took,
            there.stat().st_size,
            schema,
            newest_change(restored),
            newest_change(live),
            _lost(restored, here),
            len(chosen),
            len(packages),
            findings,
        )


def _package_faults(files: Files, package: Packed) -> list[str]:
    place = package.place
    path = files.root / place
    if isinstance(files, BucketFiles) and (files.writes or not path.exists()):
        return _object_faults(files, package, path)
    try:
        if path.stat().st_size != package.size_bytes or sha256_of(path) != package.sha256:
            return [f"the package {place} is damaged"]
    except FileNotFoundError:
        return [f"the package {place} is missing"]
    except OSError as error:
        return [f"the package {place} cannot be read: {error.strerror}"]
    return []


def _object_faults(files: BucketFiles, package: Packed, path: Path) -> list[str]:
    try:
        files.verify(path, package.size_bytes, package.sha256, package.name)
    except Unavailable as error:
        if "retry_after_seconds" in error.facts:
            return [f"the package {package.name} cannot be read: {files.trouble() or error.detail}"]
        return [f"the package {package.name} is missing or damaged in the bucket"]
    return []


def _lost(restored: Connection, here: Path) -> dict[str, int]:
    """The number of rows per table of `here` that the restored database lacks, by primary key."""
    restored.change("ATTACH DATABASE ? AS here", str(here))
    lost = {}
    tables = restored.all(
        "SELECT name FROM here.sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'sqlite!_%'"
        " ESCAPE '!' AND name NOT LIKE '!_%' ESCAPE '!' AND name NOT LIKE 'listing_words%' ORDER BY name"
    )
    for (table,) in tables:
        sql = "SELECT name FROM pragma_table_info(?, 'here') WHERE pk > 0 ORDER BY pk"
        keys = [name for (name,) in restored.all(sql, table)]
        listed = ", ".join(keys) or "rowid"
        sql = f"SELECT count(*) FROM (SELECT {listed} FROM here.{table} EXCEPT SELECT {listed} FROM main.{table})"
        count = restored.value(sql)
        if count:
            lost[table] = int(count)
    return lost
