"""Follows a replica: `litestream restore -f` as a child process, and copies of the file that it writes.

Litestream writes the file behind SQLite's back, so no reader may open it. While it applies commits it
holds SQLite's locks; when it has applied them, it writes the file's transaction number beside it. A
copy is taken only when the number is the newer of the two files, no lock is held, and neither changed
meanwhile. A child that was killed in the middle left an older number: the file is not copied until
the next child has applied the same commits again.
"""

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from mosis.config import Config
from mosis.database.raw import FIRST_LOCK_BYTE, LOCK_BYTES
from mosis.litestream.program import BackupError, Litestream, write_generation

log = logging.getLogger("mosis.litestream.follow")

LONGEST_BACKOFF_SECONDS = 60.0
STEADY_SECONDS = 60.0  # after running this long, the restart delay is reset
# What Litestream prints about a file that it cannot continue, as in replica.go of 0.5.17.
NOT_CONTINUED = ("cannot resume follow mode", "txid file")
SETTLED_SECONDS = 0.02  # the resolution of file times is 4 ms with a kernel tick of 250 Hz
_FICLONE = 0x40049409  # linux/fs.h; ioctl_ficlone(2)
_NAME = "followed.db"

Result = TypeVar("Result")
State = tuple[int, int, int, int]


class Refused(Exception):
    """A copy that must not be served: a code, and a sentence that says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Follow:
    """The child process, and the file that it writes in `folder`. One thread uses it."""

    def __init__(self, config: Config, folder: Path, monotonic: Callable[[], float]) -> None:
        self._config = config
        self.litestream = Litestream(config)
        self.folder = folder
        self.path = folder / _NAME
        self.restarts = -1  # the first start is none
        self.restores = 0  # how often the whole database was fetched
        self.trouble: str | None = None
        self._every_seconds = config.follow_seconds
        self._monotonic = monotonic
        self._number = self.path.with_name(f"{_NAME}-txid")
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._failures = 0
        self._started = self._start_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process id of the child while it runs."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def tick(self) -> None:
        """Start the child, or start it again when it has ended and its delay is over."""
        now = self._monotonic()
        if self._child is not None and (code := self._child.poll()) is not None:
            self._child = None
            words = self._last_words()
            self._fail(f"litestream ended with code {code}: {words}", now)
            if any(each in words for each in NOT_CONTINUED):
                self._remove()
        if self._child is None and now >= self._start_at:
            self._start(now)
        if self._failures and self.pid and now - self._started > STEADY_SECONDS:
            self._failures, self.trouble = 0, None

    def state(self) -> State | None:
        """What changes with each commit in the file; None unless every commit is whole in it."""
        try:
            file, number = os.stat(self.path), os.stat(self._number)
        except FileNotFoundError:
            return None
        if number.st_mtime_ns < file.st_mtime_ns:
            return None
        return file.st_mtime_ns, file.st_size, number.st_mtime_ns, number.st_ino

    def read(self, use: Callable[[Path], Result]) -> Result | None:
        """The result of `use(path)`, if the file was whole and stood still; otherwise None, and the
        result counts for nothing. Exceptions of a file that has moved meanwhile are dropped."""
        before = self.state()
        if before is None:
            return None
        if abs(time.time_ns() - max(before[0], before[2])) < SETTLED_SECONDS * 1e9:
            return None  # a change within the same tick of the clock could not be seen
        try:
            with self._unlocked() as free:
                result = use(self.path) if free else None
        except Exception:
            if self.state() == before:
                raise
            return None
        return result if self.state() == before else None

    def copy(self, target: Path) -> bool:
        """Copy the file; whether the copy is of one moment. Raises OSError."""
        done = self.read(lambda path: copied(path, target))
        if not done:
            target.unlink(missing_ok=True)
        return bool(done)

    def start_anew(self, reason: str) -> None:
        """End the child and discard its file: the next child fetches the whole database."""
        log.error("the whole database is fetched again", extra={"reason": reason})
        self._end()
        self._remove()
        self._start_at = self._monotonic()

    def follow_generation(self, generation: int) -> None:
        """Follow the replica of this generation of the lease from now on."""
        self.start_anew(f"generation {generation} of the lease has begun")
        write_generation(self._config.data_dir, generation)
        self.litestream = Litestream(self._config)

    def stop(self) -> None:
        """End the child. Its file stays, and the next start continues it."""
        self._end()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def hold(self) -> None:
        """Take the lock of the folder. Raises BackupError if another process follows into it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise BackupError(
                f"another store front end uses {self.folder}: stop it, or give this one a"
                " DATABASE_PATH in a folder of its own"
            ) from None
        self._lock = lock

    def _start(self, now: float) -> None:
        assert self._lock is not None
        self._started = now
        if not self.path.exists():
            self._remove()
            self.restores += 1
        try:
            self.litestream.write_settings()
            arguments = ("-f", "-follow-interval", f"{self._every_seconds}s", "-o", str(self.path))
            command = self.litestream.command("restore", *arguments, str(self.litestream.database))
        except (BackupError, OSError) as error:
            self._fail(str(error), now)
            return
        with open(self.folder / "litestream.log", "wb") as words:
            self._child = self.litestream.start(self._lock, command, words)
        self.restarts += 1
        log.info("litestream follows", extra={"pid": self._child.pid, "restarts": self.restarts})

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = (self.folder / "litestream.log").read_text("utf-8", "replace").splitlines()
            return lines[-1][:300] if lines else "it printed nothing"
        return "its output is lost"

    def _fail(self, trouble: str, now: float) -> None:
        self._failures += 1
        wait = min(LONGEST_BACKOFF_SECONDS, 2.0 ** (self._failures - 1) / 2)
        self._start_at, self.trouble = now + wait, trouble
        log.error("following stands still", extra={"reason": trouble, "next_start_seconds": wait})

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.send_signal(signal.SIGKILL)  # it has nothing to lose, and may be stopped
            child.wait()

    def _remove(self) -> None:
        for path in self.folder.glob(f"{_NAME}*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def _unlocked(self) -> Iterator[bool]:
        """Whether Litestream applies nothing now; meanwhile it waits."""
        with open(self.path, "rb") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, LOCK_BYTES, FIRST_LOCK_BYTE)
            except BlockingIOError:
                yield False
                return
            yield True


def copied(source: Path, target: Path) -> bool:
    """Copy a file, by a reference to the same blocks where the file system can (btrfs, XFS)."""
    with open(source, "rb") as old, open(target, "wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
    return True
