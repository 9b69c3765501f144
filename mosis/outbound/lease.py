"""The lease in the bucket: who has it may write, so that of several portals at most one writes.

The lease is the object `recovery/lease`, created with `If-None-Match: *` and replaced with `If-Match`;
the holder replaces it several times within its duration. No time of day is compared: a waiting portal
takes the lease when it has seen the same entity tag for the whole duration on its own clock, and the
holder stops writing when 90 % of the duration have passed since it sent its last successful renewal.
So the clocks may show any time; they must run equally fast to within 10 %.

Each change of the holder increases the generation. The replica of a generation has a folder of its
own, to which only its holder writes: a Litestream that wakes up later cannot damage the replica of
its successor. A portal whose data folder is of an older generation than the lease restores from the
bucket before it starts (`mosis/operations/backup/takeover.py`).
"""

import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from mosis.config import Config, ConfigError
from mosis.disk import flush, write_new
from mosis.errors import Unavailable
from mosis.litestream import BackupError
from mosis.litestream.program import NoAnswer, generation_of, write_generation
from mosis.outbound.objects import (
    Bucket,
    ObjectChanged,
    ObjectError,
    ObjectExists,
    ObjectMissing,
    open_bucket,
)
from mosis.records import dataclass

log = logging.getLogger("mosis.operations.lease")

NAME = "recovery/lease"
SAFE_SHARE = 0.9  # of the duration: how long the holder writes after a renewal
RENEWALS = 4  # in one duration
REQUEST_SECONDS = 3.0  # at most; a fifth of a short duration
LIMIT_BYTES = 4096
RACERS = 8  # requests at once that the probe sends; one may succeed
LOST = (
    "This portal does not hold the lease, so it does not write: another portal may. Reading still"
    " works; try again in a moment."
)


def boot_seconds() -> float:
    """Seconds since the machine started, with the time in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """A text that is another one after each start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class Entry:
    """The object's content; `renewal` is random, for another entity tag; `boot`: `boot_id`."""

    holder: str
    host: str
    boot: str
    generation: int
    seconds: float
    released: bool
    renewal: str


class Lease:
    """The lease of one data folder, from `acquire` to `release`."""

    def __init__(
        self,
        bucket: Bucket,
        folder: Path,
        seconds: float,
        elapsed: Callable[[], float] = boot_seconds,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.bucket = bucket
        self.folder = folder / "lease"
        self.seconds = seconds
        self.generation = 0
        self.lost: str | None = None  # the host that has taken it
        self.on_lost: Callable[[], None] = lambda: None
        self._data = folder
        self._elapsed, self._wall = elapsed, wall
        self._etag = ""
        self._seen, self._seen_at = "", 0.0  # the entity tag seen last, and when it was seen first
        self._until = self._until_wall = float("-inf")
        self._stopping = threading.Event()
        self._renewing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._trouble: str | None = None

    # --- taking it

    def acquire(self, pause: Callable[[float], None], waits: Callable[[str], None]) -> None:
        """Return when this portal holds the lease. `pause` sleeps; `waits` is called with a reason
        whenever it changes why the lease cannot be taken."""
        reason = ""
        while why := self.attempt():
            if why != reason:
                reason = why
                waits(why)
            pause(max(0.2, min(2.0, self.seconds / 10)))

    def attempt(self) -> str:
        """Take the lease if it is free; empty, or why it was not taken."""
        assert self.holder  # first of all: a copy of a data folder has no generation
        begun = self._elapsed()
        try:
            found = find(self.bucket)
            if found is None:
                return "" if self._create() else "another portal created it"
            entry, etag = found
            if etag != self._seen:
                self._seen, self._seen_at = etag, self._elapsed()
            waited = begun - self._seen_at >= max(self.seconds, entry.seconds)
            if not (entry.released or waited or self._is_own(entry)):
                return f"{entry.host} holds it"
            return "" if self._take(entry, etag) else "another portal took it"
        except ObjectError as error:
            return str(error)

    def start(self) -> None:
        """Renew it in a thread from now on."""
        self._thread.start()

    def restored(self) -> None:
        """The data folder has the database of the lease's generation now."""
        write_generation(self._data, self.generation)

    @property
    def needs_restore(self) -> bool:
        """Whether another portal has written since this data folder was used last."""
        return generation_of(self._data) != self.generation

    # --- using it

    def check(self) -> None:
        """Raises Unavailable `lease_lost` if this portal may not write now."""
        if self._elapsed() >= self._until or self._wall() >= self._until_wall or self.lost:
            raise Unavailable("lease_lost", LOST, retry_after_seconds=5)

    @property
    def left_seconds(self) -> float:
        """How long this portal may write without another renewal; 0 if it may not."""
        left = min(self._until - self._elapsed(), self._until_wall - self._wall())
        return 0.0 if self.lost else max(0.0, left)

    def release(self) -> None:
        """Stop renewing; let another portal take the lease at once, if this one still has it."""
        self._stopping.set()
        with self._renewing:
            if self.lost or not self._etag:
                return
            self._until = float("-inf")
            self._share()
            try:
                self._etag = self.bucket.replace(NAME, self._document(released=True), self._etag)
                log.info("lease released", extra={"generation": self.generation})
            except ObjectError as error:
                log.warning("lease not released", extra={"reason": str(error)})

    def renew(self) -> None:
        """Replace the object with a new one of the same holder."""
        with self._renewing:
            if self._stopping.is_set() or self.lost:
                return
            try:
                self._replace()
            except ObjectChanged:
                self._look_again()
            except ObjectError as error:
                self._complain(str(error))

    def probe(self) -> None:
        """Verify that the store refuses a write whose condition does not hold, also when several
        arrive at once. Raises NoAnswer, and BackupError if it does not: no lease is possible there."""
        name = f"recovery/probe-{secrets.token_hex(8)}"
        try:
            created = self._race(lambda data: self.bucket.create(name, data, _sha256(data)))
            etag = self.bucket.get(name, LIMIT_BYTES)[1]
            replaced = self._race(lambda data: self.bucket.replace(name, data, etag))
            self.bucket.delete(name)
        except ObjectError as error:
            raise NoAnswer(f"the lease cannot be used: {error}") from error
        for count, header in ((created, "If-None-Match: *"), (replaced, "If-Match")):
            if count != 1:
                raise BackupError(
                    f"the store at BACKUP_URL does not honour {header} ({count} of {RACERS} writes succeeded"
                    " where one may): set LEASE_SECONDS=0, or use a store that does"
                )

    # --- inside

    @cached_property
    def holder(self) -> str:
        """The identity of this data folder; a copy has another one: the file names its inode."""
        path = self.folder / "holder"
        try:
            identity, inode = path.read_text(encoding="ascii").split()
            if int(inode) == path.stat().st_ino:
                return identity
        except (FileNotFoundError, ValueError):
            pass
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("generation", "until"):  # of the folder that this is a copy of
            (self.folder / name).unlink(missing_ok=True)
        identity = secrets.token_hex(16)
        path.unlink(missing_ok=True)
        write_new(path, [])
        write_new(path, [f"{identity} {path.stat().st_ino}\n".encode()])
        flush(self.folder)
        return identity

    def _is_own(self, entry: Entry) -> bool:
        """Whether an earlier process of this data folder has it. That process has ended: both hold a
        lock on the folder. After a restart of the machine this is not known, so the duration is
        waited for."""
        return (entry.holder, entry.boot) == (self.holder, boot_id())

    def _create(self) -> bool:
        """Create the object where there is none."""
        stored = (each.name.split("/")[1] for each in self.bucket.list("generations"))
        newest = max((int(each) for each in stored if each.isdigit()), default=0)
        own = generation_of(self._data)
        self.generation = newest if not newest or own == newest else newest + 1
        begun = self._elapsed(), self._wall()
        data = self._document()
        try:
            self._etag = self.bucket.create(NAME, data, _sha256(data))
        except ObjectExists:
            return False
        self._extend(*begun)
        if not self.generation:
            self.restored()
        return True

    def _take(self, entry: Entry, etag: str) -> bool:
        self.generation = entry.generation + (entry.holder != self.holder)
        self._etag = etag
        try:
            self._replace()
        except ObjectError as error:
            self._etag = ""
            if isinstance(error, ObjectChanged):
                return False
            raise
        log.warning("lease taken", extra={"from_host": entry.host, "generation": self.generation})
        return True

    def _replace(self) -> None:
        begun = self._elapsed(), self._wall()
        self._etag = self.bucket.replace(NAME, self._document(), self._etag)
        self._extend(*begun)
        if self._trouble is not None:
            self._trouble = None
            log.warning("lease renewed again")

    def _extend(self, begun: float, begun_wall: float) -> None:
        self._until = begun + self.seconds * SAFE_SHARE
        self._until_wall = begun_wall + self.seconds * SAFE_SHARE
        self._share()

    def _look_again(self) -> None:
        """The object is another one: a renewal whose response was lost, or another holder's."""
        try:
            found = find(self.bucket)
            if found is not None and found[0].holder == self.holder:
                self._etag = found[1]
                self._replace()
                return
        except ObjectError as error:
            self._complain(str(error))
            return
        self.lost = found[0].host if found is not None else "somebody who removed the object"
        log.critical("lease lost; this portal stops", extra={"to_host": self.lost})
        self.on_lost()

    def _complain(self, reason: str) -> None:
        if self._trouble != reason:
            self._trouble = reason
            extra = {"reason": reason, "writes_for_seconds": round(self.left_seconds, 1)}
            log.error("lease not renewed", extra=extra)

    def _run(self) -> None:
        pause = self.seconds / RENEWALS
        while not self._stopping.wait(pause):
            try:
                self.renew()
            except Exception:  # such as no threads or memory left; the lease ends by itself
                log.exception("lease not renewed")
            pause = self.seconds / RENEWALS if self._trouble is None else min(1, self.seconds / 10)

    def set_released(self, entry: Entry, etag: str) -> None:
        """Release the lease of a holder that has ended for good. Raises ObjectError."""
        data = json.dumps(asdict(replace(entry, released=True))).encode()
        self.bucket.replace(NAME, data, etag)

    def _document(self, *, released: bool = False) -> bytes:
        entry = Entry(
            self.holder, socket.gethostname()[:200], boot_id(), self.generation, self.seconds, released,
            secrets.token_hex(8),
        )  # fmt: skip
        return json.dumps(asdict(entry)).encode()

    def _share(self) -> None:
        """Tell the other processes on this data folder until when they may write."""
        part = self.folder / "until.part"
        until = f"{boot_id()} {self._until} {self._until_wall}"
        try:
            part.write_text(until, encoding="ascii")
            part.rename(self.folder / "until")
        except OSError as error:  # a full disk: they stop writing
            log.warning("lease not shared", extra={"reason": str(error)})

    def _race(self, write: Callable[[bytes], object]) -> int:
        """How many of several equal requests at once succeed."""
        succeeded: list[bool] = []
        troubles: list[ObjectError] = []

        def run() -> None:
            try:
                write(secrets.token_hex(8).encode())
                succeeded.append(True)
            except (ObjectChanged, ObjectExists):
                pass
            except ObjectError as error:
                troubles.append(error)

        threads = [threading.Thread(target=run, name="probe") for _ in range(RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not succeeded and troubles:
            raise troubles[0]
        return len(succeeded)


class SharedFence:
    """`check` for another process than the holder's, such as `portal.py worker`: it reads what the
    holder's process has written into the data folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lease" / "until"

    def check(self) -> None:
        """Raises Unavailable `lease_lost` if no portal on this data folder holds the lease now."""
        try:
            boot, until, until_wall = self.path.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            boot, until, until_wall = "", "-inf", "-inf"
        if boot != boot_id() or boot_seconds() >= float(until) or time.time() >= float(until_wall):
            raise Unavailable("lease_lost", LOST, retry_after_seconds=5)


def open_lease(config: Config) -> Lease:
    """The lease of the portal with these settings. Raises ConfigError if the extra is missing."""
    seconds = float(config.lease_seconds)
    longest = min(REQUEST_SECONDS, seconds / 5) if seconds else REQUEST_SECONDS
    bucket = open_bucket(config.backup_url or "", request_seconds=longest, retries=0)
    return Lease(bucket, config.data_dir, seconds)


def find(bucket: Bucket) -> tuple[Entry, str] | None:
    """Who has the lease, and the entity tag; None if there is none. Raises ObjectError."""
    try:
        content, etag = bucket.get(NAME, LIMIT_BYTES)
    except ObjectMissing:
        return None
    return parse(content), etag


def newest_generation(config: Config) -> int:
    """The generation of the replica that is written now; 0 without a lease, or without the extra, with
    which there can be none. Raises BackupError if the bucket does not answer."""
    if not config.backup_in_bucket:
        return 0
    try:
        found = find(open_lease(config).bucket)
    except ConfigError:
        return 0
    except ObjectError as error:
        raise BackupError(str(error)) from error
    return found[0].generation if found is not None else 0


def parse(content: bytes) -> Entry:
    """Raises ObjectError if this is no lease."""
    try:
        return Entry(**json.loads(content))
    except (ValueError, TypeError):
        raise ObjectError(f"{NAME} is damaged: remove it while no portal runs") from None


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
