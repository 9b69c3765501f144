"""Moves packages between the disk and a bucket while the portal serves (`portal.py move-packages`).

Nothing is removed by a move: what was copied is there twice until `--prune`. A move can be
interrupted anywhere and run again; what is at its target is not copied again.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TypeVar

from mosis import audit
from mosis.caller import PORTAL
from mosis.config import Config, ConfigError
from mosis.context import Context
from mosis.database import Connection, new_id
from mosis.errors import PortalError
from mosis.outbound.objects import (
    Bucket,
    BucketUnavailable,
    ObjectError,
    ObjectExists,
    ObjectMissing,
    open_bucket,
    parse,
)
from mosis.packages.bucket_storage import BucketFiles, package_name
from mosis.packages.storage import Files, Received
from mosis.publishing import package_files
from mosis.records import dataclass

log = logging.getLogger("mosis.operations.moving")

DISK = "file:"
PAUSES_SECONDS = (1, 2, 4, 8)  # before further attempts while the bucket does not answer
PASSES = 20  # until nothing new was uploaded meanwhile
Result = TypeVar("Result")
Report = Callable[[str], None]


class MoveError(Exception):
    """The move cannot be done or continued; the message says what to do."""


@dataclass(frozen=True)
class Row:
    """A package that is stored, whichever state its version has."""

    id: str
    app_id: str
    home: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """That of its object."""
        return package_name(self.app_id, self.sha256, self.id)


@dataclass
class Move:
    """What was done: packages copied, present already, verified and pruned, with the bytes copied.
    `findings` are packages that are missing or damaged."""

    copied: int = 0
    present: int = 0
    verified: int = 0
    pruned: int = 0
    size_bytes: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """For a terminal."""
        done = [f"{self.copied} packages copied ({self.size_bytes} bytes), {self.present} present"]
        done += [f"{self.verified} verified"] if self.verified else []
        done += [f"{self.pruned} removed at the source"] if self.pruned else []
        return "\n".join([*(f"BAD  {finding}" for finding in self.findings), ", ".join(done)])


def rows_of(db: Connection) -> Iterator[Row]:
    """Every package that a row names, the oldest first."""
    last = ""
    while True:
        rows = db.all(
            f"SELECT v.id, v.app_id, {package_files.HOME}, v.version, v.sha256, v.size_bytes FROM versions v"
            " JOIN apps a ON a.id = v.app_id WHERE v.package_removed_at IS NULL AND v.id > ? ORDER BY v.id LIMIT 500",
            last,
        )
        yield from (Row(*row) for row in rows)
        if not rows:
            return
        last = rows[-1][0]


def plan(config: Config, to: str) -> tuple[Bucket, bool]:
    """The bucket of a move, and whether the move goes there. Raises ConfigError."""
    configured = config.packages_bucket
    if to == DISK:
        if configured is None:
            raise ConfigError(["--to file: needs PACKAGES_URL or PACKAGES_MOVED_FROM, the source."])
        return open_bucket(configured), False
    bucket = open_bucket(to)
    if configured is not None and parse(configured) != bucket.address:
        raise ConfigError(
            ["--to: PACKAGES_URL is another bucket. Move to file: first, then to the new one."]
        )
    return bucket, True


class Mover:
    """One move. `parallel` packages are copied at a time, each in memory where it goes to the bucket."""

    def __init__(self, env: Context, bucket: Bucket, parallel: int, report: Report) -> None:
        self.env, self.bucket, self.parallel, self.report = env, bucket, parallel, report
        self.disk = Files(env.config.packages_dir, env.config.disk_reserve_bytes)
        self.objects = BucketFiles(
            env.config.packages_dir, env.config.disk_reserve_bytes, bucket, writes=False
        )
        self.result = Move()
        self._lock = threading.Lock()

    def run(self, *, to_bucket: bool, dry_run: bool = False, verify: bool = False) -> Move:
        """Copy everything that is not at the target, until nothing is left; then, with `verify`, read
        all of the target. Raises MoveError."""
        copy = self._to_bucket if to_bucket else self._to_disk
        for number in range(1 if dry_run else PASSES):
            before, present = self.result.copied, self.result.present
            known = self._known() if to_bucket else {}
            self._each(partial(copy, known=known, dry_run=dry_run))
            if number:  # what this pass found was copied by the one before
                self.result.present = present
            if self.result.copied == before or self.result.findings or number == PASSES - 1:
                break
        if self.result.copied and not dry_run:
            self._record(to_bucket)
        if verify and not dry_run:
            copied = self.result.copied
            check = self._verify_object if to_bucket else self._verify_file
            self._each(partial(check, copy=True))
            if self.result.copied > copied:
                self._record(to_bucket)
        return self.result

    def prune(self, *, to_bucket: bool) -> Move:
        """Remove at the source what is at the target, each after it was read there. Raises MoveError
        unless the portal reads from the target, and a drill of it has passed since the last copy."""
        config = self.env.config
        if (config.packages_url is not None) != to_bucket:
            setting = "set PACKAGES_URL" if to_bucket else "unset PACKAGES_URL"
            raise MoveError(f"the portal must use the target first: {setting} and restart it")
        self._require_drill("bucket" if to_bucket else "disk")
        self._each(self._prune_file if to_bucket else self._prune_object)
        return self.result

    # One package each

    def _to_bucket(self, row: Row, known: dict[str, int], dry_run: bool) -> None:
        pictures = package_files.of_version(self.env.db.connection(), row.id)
        wrong = known.get(row.name) not in (None, row.size_bytes)
        if wrong:
            self._finding(f"{row.name} has {known[row.name]} bytes in the bucket")
        missing = {name: each for name, each in pictures.items() if name not in known}
        if wrong or (row.name in known and not missing):
            if not wrong:
                self._add("present")
            return
        if dry_run:
            self._count(row)
            return
        path = self._path(row)
        file = self.disk.find(path, row.size_bytes, row.sha256, anew=True)
        if file is None:
            if row.name in known:  # its pictures come out of the package when they are asked for
                self._add("present")
            elif self._is_named(row):
                self._finding(f"{path} is missing or damaged, and not in the bucket")
            return
        file.close()
        if row.name not in known:
            self._create(row.name, path, row.sha256)
        self._patiently(lambda: package_files.store_pictures(self.objects, path, missing))
        self._count(row)

    def _create(self, name: str, source: Path, sha256: str) -> None:
        try:
            self._patiently(lambda: self.bucket.create(name, source, sha256))
        except ObjectExists:  # of an attempt whose answer was lost
            size = self._patiently(lambda: self.bucket.head(name)).size_bytes
            if size != source.stat().st_size:
                self._finding(f"{name} has {size} bytes in the bucket")

    def _to_disk(self, row: Row, known: dict[str, int], dry_run: bool) -> None:
        path = self._path(row)
        if file := self.disk.find(path, row.size_bytes, row.sha256):
            file.close()
            self._add("present")
            return
        if dry_run:
            self._count(row)
            return
        self.disk.check_room(row.size_bytes)
        part = self.disk.incoming / new_id()
        try:
            self._patiently(lambda: self._fetch(row, part))
            with self.env.db.write():  # as uploads and removals of this file
                if self._is_named(row):
                    self.disk.keep(Received(part, row.size_bytes, row.sha256), path)
                    self._count(row)
        except BucketUnavailable:
            raise
        except ObjectError as error:
            if self._is_named(row):
                self._finding(str(error))
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, row: Row, part: Path) -> None:
        with open(part, "wb") as file:
            self.objects.read_object(row.name, row.size_bytes, row.sha256, file)
            file.flush()
            os.fsync(file.fileno())

    def _verify_object(self, row: Row, *, copy: bool = False) -> bool:
        """Read an object. With `copy`, one that is missing is copied first: the portal may have stored
        its package on the disk after the last pass."""
        try:
            self._patiently(lambda: self.objects.check_object(row.name, row.size_bytes, row.sha256))
        except BucketUnavailable:
            raise
        except ObjectError as error:
            if copy and isinstance(error, ObjectMissing) and self._path(row).exists():
                self._to_bucket(row, {}, False)
                return self._verify_object(row)
            if self._is_named(row):
                self._finding(str(error))
            return False
        self._add("verified")
        return True

    def _verify_file(self, row: Row, *, copy: bool = False) -> bool:
        if copy and not self._path(row).exists():  # stored in the bucket after the last pass
            self._to_disk(row, {}, False)
        file = self.disk.find(self._path(row), row.size_bytes, row.sha256, anew=True)
        if file is None:
            if self._is_named(row):
                self._finding(f"{self._path(row)} is missing or damaged")
            return False
        file.close()
        self._add("verified")
        return True

    def _prune_file(self, row: Row) -> None:
        path = self._path(row)
        if not path.exists() or not self._verify_object(row):
            return
        with self.env.db.write():  # as uploads and removals of this file
            if self._is_named(row):
                self.disk.remove(path)
                self._add("pruned")

    def _prune_object(self, row: Row) -> None:
        if not self._verify_file(row):
            return
        for name in (row.name, *package_files.of_version(self.env.db.connection(), row.id)):
            self._patiently(partial(self.bucket.delete, name))
        self._add("pruned")

    # What all share

    def _each(self, work: Callable[[Row], object]) -> None:
        """Do the work for every package, some at a time. Raises MoveError."""
        begun = time.monotonic()
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="move") as pool:
            running: set[Future[object]] = set()
            try:
                for number, row in enumerate(rows_of(self.env.db.connection()), 1):
                    running.add(pool.submit(work, row))
                    if len(running) >= 2 * self.parallel:
                        done, running = wait(running, return_when=FIRST_COMPLETED)
                        for each in done:
                            each.result()
                    if number % 500 == 0:
                        self.report(
                            f"{number} packages looked at, {time.monotonic() - begun:.0f} s"
                        )
                for each in running:
                    each.result()
            except (BucketUnavailable, PortalError) as error:
                for each in running:
                    each.cancel()
                raise MoveError(f"{_words(error)}. Run it again: it continues here") from error

    def _patiently(self, request: Callable[[], Result]) -> Result:
        """The result of a request, repeated while the bucket does not answer."""
        for pause in PAUSES_SECONDS:
            try:
                return request()
            except BucketUnavailable as error:
                self.report(f"{error}; again in {pause} s")
            except PortalError as error:
                if "retry_after_seconds" not in error.facts:
                    raise
            time.sleep(pause)
        return request()

    def _known(self) -> dict[str, int]:
        """Name and size of everything that is in the bucket."""
        try:
            return self._patiently(
                lambda: {each.name: each.size_bytes for each in self.objects.objects()}
            )
        except BucketUnavailable as error:
            raise MoveError(str(error)) from error

    def _path(self, row: Row) -> Path:
        return self.disk.path(row.home, row.app_id, row.version)

    def _is_named(self, row: Row) -> bool:
        """Whether the package is still wanted: its row may have been removed meanwhile."""
        sql = "SELECT 1 FROM versions WHERE id = ? AND package_removed_at IS NULL"
        return self.env.db.connection().has(sql, row.id)

    def _count(self, row: Row) -> None:
        with self._lock:
            self.result.copied += 1
            self.result.size_bytes += row.size_bytes

    def _add(self, counter: str) -> None:
        with self._lock:
            setattr(self.result, counter, getattr(self.result, counter) + 1)

    def _finding(self, text: str) -> None:
        self.result.findings.append(text)

    def _record(self, to_bucket: bool) -> None:
        db = self.env.db.connection()
        with db.write():
            audit.add(
                db,
                PORTAL,
                "packages.moved",
                to=str(self.bucket.address) if to_bucket else "disk",
                packages=self.result.copied,
                size_bytes=self.result.size_bytes,
            )

    def _require_drill(self, target: str) -> None:
        """Raises MoveError unless the last drill passed, at the target, after the last copy."""
        rows = self.env.db.connection().all(
            "SELECT action, details FROM audit WHERE action IN ('backup.drill', 'packages.moved')"
            " ORDER BY number DESC LIMIT 1"
        )
        details = json.loads(rows[0][1]) if rows and rows[0][0] == "backup.drill" else {}
        if not details.get("passed") or details.get("packages_in") != target:
            raise MoveError(
                f"nothing is removed before a drill of the {target} has passed since the last copy: "
                "run `portal.py drill` with the settings of the portal"
            )


def _words(error: Exception) -> str:
    return (error.detail if isinstance(error, PortalError) else str(error)).rstrip(".")


def move(
    env: Context,
    to: str,
    *,
    parallel: int = 4,
    dry_run: bool = False,
    verify: bool = False,
    prune: bool = False,
    report: Report = lambda line: None,
) -> Move:
    """Move the packages to `s3://...` or `file:`. Raises ConfigError, MoveError."""
    bucket, to_bucket = plan(env.config, to)
    mover = Mover(env, bucket, parallel, report)
    if not prune:
        return mover.run(to_bucket=to_bucket, dry_run=dry_run, verify=verify)
    if dry_run:
        raise ConfigError(["--dry-run and --prune: choose one of them."])
    return mover.prune(to_bucket=to_bucket)
