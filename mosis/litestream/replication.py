"""Runs Litestream as a supervised child: restarted, and trusted while the replica keeps up."""

import json
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from mosis.config import Config
from mosis.database import Database
from mosis.litestream.program import BackupError, Litestream
from mosis.records import dataclass

log = logging.getLogger("mosis.operations.backup")

TICK_SECONDS = 0.5
# interval of asking whether every commit is in the replica, while there are new ones
PROBE_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 60.0
STEADY_SECONDS = 60.0  # after running this long, the restart delay is reset
HEAL_AFTER_SECONDS = 60.0  # without progress; /readyz fails after 30
HEAL_EVERY_SECONDS = 600.0
SYNC_SECONDS = 10
# together with END_SECONDS and the stop time of requests less than ten seconds
LAST_SYNC_SECONDS = 3
END_SECONDS = 2.5


@dataclass(frozen=True)
class State:
    """The state of replication; `behind_seconds`: the age of the oldest commit not in it."""

    running: bool
    behind_seconds: float
    restarts: int
    trouble: str | None


class Replication:
    """Runs Litestream for a database from `start` to `stop`."""

    def __init__(self, config: Config, db: Database) -> None:
        self.litestream = Litestream(config)
        self.db = db
        self._wal = Path(f"{config.database_path}-wal")
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._first: Callable[[], None] = lambda: None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="litestream", daemon=True)
        self._restarts = -1  # the first start is not a restart
        self._failures = 0
        self._started = 0.0  # all times here are of the monotonic clock
        self._start_at = 0.0
        self._probe_at = 0.0
        self._healed = float("-inf")
        self._seen: tuple[int, int] | None = None  # the WAL at the last check
        # when the oldest unconfirmed commit was seen
        self._waiting_since: float | None = time.monotonic()
        self._trouble: str | None = None

    def start(self, lock: int, first: Callable[[], None] = lambda: None) -> None:
        """Start Litestream, and hand it the lock of `Litestream.hold`, so that neither process runs
        on alone. `first` is called before, in Litestream's thread; its errors are logged."""
        self._lock = lock
        self._first = first
        self._thread.start()

    def stop(self) -> None:
        """Have it synchronize once more and end, after the last commit, when every connection is
        closed. A process that hangs is killed."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(LAST_SYNC_SECONDS + END_SECONDS)
            # it is blocked on a request
            if self._thread.is_alive() and (child := self._child) is not None:
                child.kill()
                self._thread.join(1)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def started(self) -> bool:
        """Whether this process runs Litestream."""
        return self._thread.ident is not None

    @property
    def state(self) -> State:
        """The current state."""
        child, since = self._child, self._waiting_since
        return State(
            running=child is not None and child.poll() is None,
            behind_seconds=0.0 if since is None else max(0.1, round(time.monotonic() - since, 1)),
            restarts=max(0, self._restarts),
            trouble=self._trouble,
        )

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def _run(self) -> None:
        try:
            self._first()
        except Exception as error:  # such as a bucket that does not answer; it is tried again later
            log.error("secrets not uploaded", extra={"reason": str(error)})
        while not self._stopping.is_set():
            try:
                self._tick()
            except Exception:
                # such as a full disk or no processes left; the next round tries again
                log.exception("replica cannot be checked")
            self._stopping.wait(TICK_SECONDS)
        self._finish()  # by the thread that started it: PR_SET_PDEATHSIG kills a child when its parent thread ends (prctl(2))

    def _finish(self) -> None:
        """End it, once it has confirmed every commit, which its own shutdown does not ensure."""
        hangs = self.pid is not None and (trouble := self._probe(LAST_SYNC_SECONDS)) is not None
        if hangs:
            log.error("the last commits may be missing in the replica", extra={"reason": trouble})
        self._end(0.5 if hangs else END_SECONDS)

    def _tick(self) -> None:
        now = time.monotonic()
        child = self._child
        if child is not None and child.poll() is not None:
            self._ended(child.returncode, now)
        if self._child is None:
            if now >= self._start_at and not self._stopping.is_set():
                self._spawn(now)
            return
        self._watch(now)
        since = self._waiting_since
        stands_still = since is not None and now - max(since, self._started) > HEAL_AFTER_SECONDS
        if stands_still and now - self._healed > HEAL_EVERY_SECONDS:
            self._heal(now)
        if self._failures and now - self._started > STEADY_SECONDS:
            self._failures = 0

    def _spawn(self, now: float) -> None:
        """Start Litestream on an empty WAL, so that it begins with a full copy. Where it finds frames
        that it has read before, it continues behind them, and misses what was written and
        checkpointed while it did not run: its replica would be damaged (0.5.17, `verify` in db.go)."""
        assert self._lock is not None
        try:
            self.litestream.write_settings()
            command = self.litestream.command("replicate")
            if self.db.damage is None and not self.db.truncate_wal():
                detail = "the WAL cannot be truncated: a long read or write, or a full disk"
                raise BackupError(detail)
        except (BackupError, OSError) as error:
            self._fail(str(error), now)
            return
        self._child = self.litestream.start(self._lock, command)
        self.db.checkpoints = False  # Litestream runs the checkpoints from now on
        self._restarts += 1
        self._started, self._probe_at = now, now + 1.0
        log.info("litestream started", extra={"pid": self._child.pid, "restarts": self._restarts})

    def _ended(self, code: int, now: float) -> None:
        self._child = None
        self._fail(f"litestream ended with code {code}", now)

    def _fail(self, trouble: str, now: float) -> None:
        self.db.checkpoints = True  # the WAL must not grow without bound
        self._waiting_since = self._waiting_since or now
        self._failures += 1
        wait = min(LONGEST_BACKOFF_SECONDS, 2.0 ** (self._failures - 1) / 2)
        self._start_at = now + wait
        self._trouble = trouble
        log.error("replication stands still", extra={"reason": trouble, "next_start_seconds": wait})

    def _watch(self, now: float) -> None:
        """Notice commits by the WAL, and have Litestream confirm that they are in the replica."""
        wal = self._look()
        if wal != self._seen:
            self._seen = wal
            self._waiting_since = self._waiting_since or now
        if now < self._probe_at or (self._waiting_since is None and self._has_snapshot()):
            return
        self._probe_at = now + PROBE_SECONDS
        trouble = self._probe()
        if self._stopping.is_set():
            return
        if trouble is None and not self._has_snapshot() and now - self._started > PROBE_SECONDS:
            trouble = "the replica has no snapshot"
        if trouble is None:
            self._waiting_since = None if self._look() == wal else now
        else:
            self._waiting_since = self._waiting_since or now
            if trouble != self._trouble:
                log.warning("replica is behind", extra={"reason": trouble})
        self._trouble = trouble

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._wal)
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size

    def _has_snapshot(self) -> bool:
        """Whether the replica can be restored: Litestream does not notice when it is deleted."""
        if self.litestream.replica_dir is None:
            return True
        try:
            with os.scandir(self.litestream.replica_dir / "ltx" / "9") as snapshots:
                return next(snapshots, None) is not None
        except OSError:
            return False

    def _probe(self, timeout_seconds: int = SYNC_SECONDS) -> str | None:
        """Have everything synchronized to the replica now; None if it is, else the reason."""
        wanted = {"path": str(self.litestream.database), "wait": True, "timeout": timeout_seconds}
        try:
            answer = ask(self.litestream.folder, "/sync", wanted, timeout_seconds + 0.5)
        except (OSError, ValueError, HTTPException) as error:
            return f"litestream does not answer: {error}"
        if "error" in answer:
            return str(answer["error"])[:300]
        if answer.get("txid") != answer.get("replicated_txid"):
            return f"transaction {answer.get('replicated_txid')} of {answer.get('txid')} is in the replica"
        return None

    def _heal(self, now: float) -> None:
        """Discard the state of a Litestream without progress: it begins with a full copy."""
        log.error("replication restarted with a full copy", extra={"reason": self._trouble})
        self._healed = now
        self._end()
        self.litestream.reset()
        self._start_at = now

    def _end(self, patience_seconds: float = END_SECONDS) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        log.info("litestream ended", extra={"code": child.returncode})


class _Control(HTTPConnection):
    """HTTP over Litestream's control socket, opened through the folder's descriptor because a
    socket's path is limited to 107 bytes."""

    def __init__(self, folder: Path, timeout_seconds: float) -> None:
        super().__init__("litestream", timeout=timeout_seconds)
        self._folder = folder

    def connect(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/litestream.sock")
        finally:
            os.close(folder)


def ask(
    folder: Path, path: str, document: dict[str, object], timeout_seconds: float
) -> dict[str, object]:
    """One request to a running Litestream; its response. Raises OSError, HTTPException, ValueError."""
    connection = _Control(folder, timeout_seconds)
    try:
        connection.request(
            "POST", path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    return answer
