"""A store front end: reads copies of the primary's database, which Litestream brings, and never
writes.

Litestream follows the replica into a file of its own. When that has moved and stands still, it is
looked at: if the store has changed, the file is copied, the copy is checked, and requests read it from
their next statement on. Changes that the store does not show (sign-ins, jobs, uploads) need no copy.
"""

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from mosis.config import ConfigError
from mosis.context import Context
from mosis.database import Connection
from mosis.database.snapshots import SnapshotDatabase
from mosis.litestream import BackupError, Follow, Refused
from mosis.operations import heartbeat
from mosis.operations.heartbeat import Heartbeat
from mosis.outbound.lease import newest_generation
from mosis.records import dataclass
from mosis.store.published_index import Held, Published
from mosis.store.published_index import rows as published_rows

log = logging.getLogger("mosis.operations.front_end")

TICK_SECONDS = 0.25
COPY_SECONDS = 2.0  # between two copies, at least
COPY_SHARE = 5  # a copy that takes long is followed by so many times its duration without one
COUNTS_SECONDS = 60.0  # between two copies of which the first differs by download counts alone
BEHIND_SECONDS = 60  # /readyz fails
ANEW_SECONDS = 120  # the followed file is thrown away; each time without result doubles the time
LONGEST_ANEW_SECONDS = 960
OLD_SECONDS = 30  # three heartbeats
GENERATION_SECONDS = 10  # between two looks at the lease meanwhile
DAMAGED_SECONDS = 10  # between two attempts after a damaged copy
FOLDER = "front-end"
# Files of a portal that writes, beside its database.
OF_PRIMARY = ("jwt_secret", "telemetry_secret", "store_key.json", "telemetry.db")
Marks = tuple[int, int, int]


@dataclass(frozen=True)
class State:
    """`behind_seconds`: the age of the primary's last heartbeat here; None without data."""

    following: bool
    behind_seconds: int | None
    copies: int
    restores: int
    refused: Refused | None
    trouble: str | None


@dataclass(frozen=True)
class _Found:
    """What a file says about itself."""

    heartbeat: Heartbeat
    marks: Marks
    indexes: list[Published]


def check_folder(env_folder: Path, database: Path) -> None:
    """Raises ConfigError if the folder belongs to a portal that writes."""
    for path in (database, *(env_folder / name for name in OF_PRIMARY)):
        if path.exists():
            raise ConfigError(
                [
                    f"{path} belongs to a portal that writes, and a store front end never shares its"
                    " folder: set DATABASE_PATH to a file in an empty folder. It is not created."
                ]
            )


def belongs_to_front_end(folder: Path) -> bool:
    """Whether a front end was started with this data folder."""
    return (folder / FOLDER).is_dir()


class FrontEnd:
    """Brings new data until it is stopped; in one thread."""

    def __init__(self, env: Context, schema: int) -> None:
        assert isinstance(env.db, SnapshotDatabase)
        self.env, self.db, self.schema = env, env.db, schema
        self.folder = env.config.data_dir / FOLDER
        self.follow = Follow(env.config, self.folder, env.clock.monotonic)
        self.copies = 0
        self._found: _Found | None = None
        self._seen: Any = None  # the state of the followed file that was looked at
        self._refused: Refused | None = None
        self._trouble: str | None = None
        # all times here are of the monotonic clock
        self._look_at = self._counts_at = self._generation_at = 0.0
        self._anew_seconds = ANEW_SECONDS
        self._anew_at = self._last_anew = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="front-end", daemon=True)
        env.states[FrontEnd] = self

    def start(self) -> None:
        """Read the last copy of an earlier process, if there is one, and follow. Raises BackupError
        if another process uses the folder."""
        self.follow.hold()
        self.open_last_copy()
        self._anew_at = self.env.clock.monotonic() + ANEW_SECONDS
        self._thread.start()

    def stop(self) -> None:
        """End following. Requests may still read."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(10)
        else:
            self.follow.stop()

    @property
    def state(self) -> State:
        """The current state."""
        return State(
            following=self.follow.pid is not None,
            behind_seconds=self._behind_seconds(),
            copies=self.copies,
            restores=self.follow.restores,
            refused=self._refused,
            trouble=self._trouble or self.follow.trouble,
        )

    def open_last_copy(self) -> None:
        """Read the newest copy that an earlier process has left and that is sound; remove others."""
        for path in sorted(self.folder.glob("copy-*.db"), reverse=True):
            if self._found is None:
                try:
                    self._show(path, self._checked(path, whole=True))
                    continue
                except Refused as refused:
                    log.warning("earlier copy not used", extra={"reason": refused.detail})
            path.unlink(missing_ok=True)
        for path in self.folder.glob("*.part"):
            path.unlink(missing_ok=True)

    def tick(self) -> None:
        """One round: the child, new data, its age."""
        self.follow.tick()
        try:
            self._look()
            self._trouble = None
        except Refused as refused:
            if self._refused is None or self._refused.code != refused.code:
                log.error("copy refused", extra={"code": refused.code, "reason": refused.detail})
            self._refused = refused
            self._look_at = self.env.clock.monotonic() + COPY_SECONDS
        except OSError as error:  # such as a full disk
            self._trouble = f"the copy could not be made: {error.strerror}"
            log.error("copy not made", extra={"reason": str(error)})
            self._look_at = self.env.clock.monotonic() + COPY_SECONDS
        self._watch_generation()
        self._watch_age()
        self.db.release_older()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.tick()
            except Exception:  # such as no processes left; the next round tries again
                log.exception("front end cannot follow")
            self._stopping.wait(TICK_SECONDS)
        self.follow.stop()  # by the thread that started it, see Replication._run

    def _look(self) -> None:
        """Copy the followed file if the store has changed in it. Raises Refused, OSError."""
        now, state = self.env.clock.monotonic(), self.follow.state()
        if state is None or state == self._seen or now < self._look_at:
            return
        self._look_at = now + COPY_SECONDS
        found = self.follow.read(lambda path: self._checked(path, whole=False))
        if found is None:
            self._look_at = now  # it moved meanwhile
            return
        old = self._found
        same_start = old is not None and old.heartbeat.started == found.heartbeat.started
        if old is not None and same_start and self._can_wait(old.marks, found.marks, now):
            self._found = replace(found, marks=old.marks)
            self.env.state(Held).offered = found.indexes
            self._seen = state if old.marks == found.marks else None
            self._refused = None
            return
        path = self.folder / f"copy-{int(self.env.clock.time() * 1000):015}-{self.copies}.db"
        part = path.with_suffix(".part")
        if not self.follow.copy(part):
            self._look_at = now
            return
        try:
            found = self._checked(part, whole=True)
        except Refused:
            part.unlink(missing_ok=True)
            raise
        part.rename(path)
        self._show(path, found)
        self._seen, self._refused = state, None
        ended = self.env.clock.monotonic()
        self._look_at = max(now + COPY_SECONDS, ended + COPY_SHARE * (ended - now))
        self._counts_at = ended + COUNTS_SECONDS

    def _can_wait(self, old: Marks, new: Marks, now: float) -> bool:
        """Whether nothing that the store shows has changed, or only download counts, a moment ago."""
        return old[1:] == new[1:] and (old[0] == new[0] or now < self._counts_at)

    def _checked(self, path: Path, *, whole: bool) -> _Found:
        """Heartbeat and revisions of a file; `whole` reads every page. Raises Refused."""
        probe = SnapshotDatabase(self.env.clock)
        probe.replace(path)
        try:
            db = probe.connection()
            schema = int(db.value("PRAGMA user_version"))
            if schema != self.schema:
                newer = "newer" if schema > self.schema else "older"
                raise Refused(
                    "schema_differs",
                    f"The primary's database has schema {schema}, {newer} than the {self.schema} of this"
                    " program: run the same version on both.",
                )
            if whole and (fault := db.value("PRAGMA quick_check(1)")) != "ok":
                raise Refused("copy_damaged", f"The copy is damaged: {fault}")
            beat = heartbeat.read(db)
            if beat is None:
                detail = "The primary has not written a heartbeat yet; it does every 10 s."
                raise Refused("no_heartbeat", detail)
            if differences := beat.differences(self.env.config):
                raise Refused("settings_differ", "; ".join(differences) + ": make them the same.")
            return _Found(beat, _marks(db), published_rows(db))
        except Refused:
            raise
        except Exception as error:  # any error of SQLite
            raise Refused("copy_damaged", f"The copy is damaged: {error}") from error
        finally:
            probe.close()

    def _show(self, path: Path, found: _Found) -> None:
        """Have requests read this copy."""
        old, before = self._found, self.db.path
        anew = old is None or old.heartbeat.started != found.heartbeat.started
        self.db.replace(path, anew=anew)
        self.env.state(Held).offered = found.indexes
        self._found = found
        self.copies += 1
        if old is not None:
            before.unlink(missing_ok=True)

    def _behind_seconds(self) -> int | None:
        found = self._found
        return (
            None
            if found is None
            else max(0, int(self.env.clock.time()) - found.heartbeat.at_seconds)
        )

    def _watch_generation(self) -> None:
        """Without a fresh heartbeat, look whether another portal has taken the lease: its replica is in
        another folder of the bucket."""
        now, behind = self.env.clock.monotonic(), self._behind_seconds()
        if (behind is not None and behind <= OLD_SECONDS) or now < self._generation_at:
            return
        self._generation_at = now + GENERATION_SECONDS
        try:
            newest = newest_generation(self.env.config)
        except BackupError as error:
            log.warning("lease cannot be read", extra={"reason": str(error)})
            return
        if newest > self.follow.litestream.generation:
            self._refused, self._seen = None, None
            self.follow.follow_generation(newest)

    def _watch_age(self) -> None:
        """Discard the followed file when the data is too old, whatever the reason, or damaged."""
        now, behind = self.env.clock.monotonic(), self._behind_seconds()
        refused = self._refused.code if self._refused else ""
        if behind is not None and behind <= BEHIND_SECONDS and not refused:
            self._anew_seconds, self._anew_at = ANEW_SECONDS, now
        damaged = refused == "copy_damaged" or self.db.damage is not None
        if damaged and now >= self._last_anew + DAMAGED_SECONDS:
            reason = "the copy is damaged"
        elif refused in ("schema_differs", "settings_differ", "no_heartbeat"):
            return
        elif (behind is None or behind > ANEW_SECONDS) and now >= self._anew_at:
            reason = "no heartbeat" if behind is None else f"{behind} s behind"
        else:
            return
        self._refused, self._seen, self.db.damage = None, None, None
        self._last_anew, self._anew_at = now, now + self._anew_seconds
        self._anew_seconds = min(LONGEST_ANEW_SECONDS, 2 * self._anew_seconds)
        self.follow.start_anew(reason)


def _marks(db: Connection) -> Marks:
    """Numbers that change with everything that the store shows but the signed index, which is made
    from the copy of before; the first with download counts."""
    counts, catalogue = db.one("SELECT counts, catalogue FROM store_state")
    newest = db.value("SELECT coalesce(max(number), 0) FROM store_changes")
    return counts, catalogue, newest
