"""Where the Litestream program is, its settings, and restoring a database from a replica."""

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from mosis.config import Config
from mosis.database import has_tables
from mosis.disk import flush, replace

log = logging.getLogger("mosis.operations.backup")

MISSING = "there is no program `litestream`: pip install 'mosis-portal[backup]', or unset BACKUPS_DIR and BACKUP_URL"
GENERATION = "lease/generation"  # in the data folder
TRIES = 3  # a restore that races with a compaction can fail
RESTORE_SECONDS = 3600
NOT_SO_FAR_BACK = "no matching backup files available"  # as Litestream prints it
ASK_SECONDS = 60
LOCK_SECONDS = 6.0


class BackupError(Exception):
    """There is no backup, or none that is sound; the message says what to do."""


class NoAnswer(BackupError):
    """The bucket does not answer, or refuses the request; a later attempt may succeed."""


class NotSoFarBack(BackupError):
    """The replica has nothing of that moment."""


class Litestream:
    """The program with the settings of this portal. `replica_dir` is None where the replica is not
    a local folder. `generation` is that of the lease, by default of this data folder; see
    `mosis/outbound/lease.py`."""

    def __init__(self, config: Config, generation: int | None = None) -> None:
        self.config = config
        self.generation = generation_of(config.data_dir) or 0 if generation is None else generation
        self.database = config.database_path
        self.folder = config.data_dir
        name = "litestream.yml" if generation is None else f"litestream-{generation}.yml"
        self.settings_path = self.folder / name
        # Litestream's own files beside a database
        self.state_dir = self.folder / f".{self.database.name}-litestream"
        self.url = of_generation(config.backup_url, self.generation)
        self.replica_dir = (
            config.backups_dir / "portal" if config.backups_dir and not config.backup_url else None
        )
        self.debug = config.log_level == "debug"

    @property
    def wanted(self) -> bool:
        """Whether the settings ask for a replica."""
        return self.url is not None or self.replica_dir is not None

    @property
    def program(self) -> str | None:
        """The program's path: from this Python environment, else from PATH; None if there is none."""
        beside = Path(sys.executable).parent / "litestream"
        return str(beside) if os.access(beside, os.X_OK) else shutil.which("litestream")

    def settings(self) -> dict[str, Any]:
        """Litestream's configuration, as JSON, which is valid YAML."""
        replica: dict[str, Any] = (
            {"url": self.url} if self.url else {"type": "file", "path": str(self.replica_dir)}
        ) | {"sync-interval": "500ms"}
        return {
            "logging": {"type": "json", "level": "debug" if self.debug else "warn"},
            # relative, because a socket's path is limited to 107 bytes; the process runs in this folder
            "socket": {"enabled": True, "path": "litestream.sock", "permissions": 0o600},
            "snapshot": {"interval": "6h", "retention": "168h"},
            "l0-retention": "15m",
            "verify-compaction": True,
            "shutdown-sync-timeout": "2s",
            "dbs": [{"path": str(self.database), "monitor-interval": "500ms", "replica": replica}],
        }

    def write_settings(self) -> None:
        """Write the configuration with mode 0600: a replica's URL can contain a password."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self.settings_path, [json.dumps(self.settings(), indent=1).encode()])

    def command(self, action: str, *arguments: str) -> list[str]:
        """The command line of one action. Raises BackupError if the program is missing."""
        program = self.program
        if program is None:
            raise BackupError(MISSING)
        return [program, action, "-config", str(self.settings_path), "-no-expand-env", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes. Litestream 0.5.17 does not open a bucket while
        AWS_CA_BUNDLE is set ("HTTPClient has no WithTransportOptions"); SSL_CERT_FILE, which Go
        reads, takes its place. With GOGC=50 its heap is a third smaller for the same time."""
        found = {"GOGC": "50"} | os.environ
        if bundle := found.pop("AWS_CA_BUNDLE", ""):
            found.setdefault("SSL_CERT_FILE", bundle)
        return found

    def start(
        self, lock: int, command: list[str], output: IO[bytes] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a command that ends with this process and holds its folder's lock, see child.py."""
        wrapper = [sys.executable, "-I", "-S", "-B", str(Path(__file__).with_name("child.py"))]
        return subprocess.Popen(  # noqa: S603  (our own program)
            [*wrapper, str(os.getpid()), str(lock), *command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
            process_group=0,  # Ctrl-C is for the portal; Litestream ends after it
            umask=0o077,  # its files hold the database
        )

    def ask(self, action: str, *arguments: str, timeout_seconds: float = ASK_SECONDS) -> str:
        """The output of an action. Raises BackupError with its last lines."""
        self.write_settings()
        command = self.command(action, *arguments)
        try:
            done = subprocess.run(  # noqa: S603  (Litestream with our settings)
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
                umask=0o077,  # what it restores holds secrets
            )
        except subprocess.TimeoutExpired:
            detail = f"litestream {action} took more than {timeout_seconds:.0f} seconds"
            raise BackupError(detail) from None
        if done.returncode:
            words = (
                done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
            ).splitlines()[-1]
            raise BackupError(f"litestream {action}: {words.removeprefix('Error: ')[:500]}")
        return done.stdout

    def files(self) -> list[dict[str, Any]]:
        """The replica's files, each with level, min_txid, max_txid, size and timestamp."""
        if self.replica_dir is not None and not self.replica_dir.exists():
            return []
        return list(
            json.loads(self.ask("ltx", "-json", "-level", "all", str(self.database)) or "[]") or []
        )

    def restore(self, target: Path, at: str | None = None) -> None:
        """Restore the newest state, or that of a moment (RFC 3339), into a new file and check it
        completely. If the newest state is damaged, the one before it is taken. Raises
        BackupError; then there is no file."""
        moment = ["-timestamp", at] if at else []
        for attempt in range(TRIES):
            try:
                return self._restore(target, *moment)
            except BackupError as error:
                trouble = error
                log.warning("restore failed", extra={"attempt": attempt + 1, "reason": str(error)})
            time.sleep(0.2 * attempt)
        if at and NOT_SO_FAR_BACK in str(trouble):
            begins = min((str(each["timestamp"]) for each in self.files()), default="nowhere")
            raise NotSoFarBack(f"there is nothing of {at}: the replica begins at {begins}")
        steps = [] if at else self._steps(target)
        if len(steps) < 2:
            raise trouble
        log.error(
            "newest state cannot be restored; trying the previous one", extra={"txid": steps[-2]}
        )
        self._restore(target, "-txid", steps[-2])

    def _restore(self, target: Path, *arguments: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        discard(part)
        try:
            self.ask(
                "restore",
                "-integrity-check",
                "full",
                *arguments,
                "-o",
                str(part),
                str(self.database),
                timeout_seconds=RESTORE_SECONDS,
            )
            part.rename(target)
        finally:
            discard(part)

    def _steps(self, target: Path) -> list[str]:
        """The transactions at which the replica can be restored, newest last."""
        try:
            plan = json.loads(
                self.ask(
                    "restore", "-json", "-dry-run", "-o", str(target) + ".plan", str(self.database)
                )
            )
        except (BackupError, ValueError):
            return []
        return [each["max_txid"] for each in plan.get("files", [])]

    def reset(self) -> None:
        """Discard Litestream's state for the database: it then starts with a full copy."""
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def hold(self) -> int:
        """The descriptor of a lock that the portal and its Litestream hold while either lives, one
        pair per database. Waits briefly for a process that is ending. Raises BackupError if
        another portal holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(
            self.folder / "litestream.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    detail = f"another portal serves {self.database}: stop it first"
                    raise BackupError(detail) from None
                time.sleep(0.05)

    def source_if_lost(self) -> "Litestream | None":
        """The replica of a database that is missing, empty or without tables; None where nothing is
        lost or there is no replica. A new database would be replicated over the good replica.
        Raises BackupError if it cannot be determined whether there is one."""
        if not self.wanted or has_tables(self.database):
            return None
        if self.program is None:
            if self.replica_dir is not None and self.replica_dir.exists():
                self.command("restore")  # says that it is missing
            return None
        return self.with_files()

    def with_files(self) -> "Litestream | None":
        """The replica of the newest generation, up to this one, that has files; None if none has.
        Raises BackupError if it cannot be determined."""
        for generation in range(self.generation, -1, -1):
            found = self if generation == self.generation else Litestream(self.config, generation)
            if found.files():
                return found
        return None

    def restore_lost(self, source: "Litestream") -> None:
        """At start: restore a lost database. Raises BackupError if the replica cannot be restored: an
        empty portal must not replace a good replica."""
        left = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        # a WAL without its database; never deleted, never applied to another database
        for path in beside(self.database):
            path.rename(path.with_name(f"{path.name}.left-{left}"))
        self.reset()
        source.restore(self.database)
        size_bytes = self.database.stat().st_size
        log.warning("database was missing; restored from the replica", extra={"bytes": size_bytes})


def generation_of(folder: Path) -> int | None:
    """The generation of the lease to which the database of this data folder belongs; None if the
    folder never had a lease. Raises BackupError if the file is damaged."""
    try:
        return int((folder / GENERATION).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise BackupError(f"{folder / GENERATION} is damaged: remove the folder lease") from None


def write_generation(folder: Path, generation: int) -> None:
    """Have this data folder belong to a generation from now on; flushed."""
    path = folder / GENERATION
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(path, [f"{generation}\n".encode()])
    flush(path.parent)


def of_generation(url: str | None, generation: int) -> str | None:
    """The address of a generation's replica. The first one has that of a portal without lease."""
    if url is None or not generation:
        return url
    place, mark, query = url.partition("?")
    return f"{place.rstrip('/')}/generations/{generation:08d}{mark}{query}"


def beside(database: Path) -> list[Path]:
    """A database and its sidecar files, as far as they exist."""
    return [
        path for suffix in ("", "-wal", "-shm") if (path := Path(f"{database}{suffix}")).exists()
    ]


def discard(database: Path) -> None:
    """Remove a database with its sidecar files."""
    for path in beside(database):
        path.unlink(missing_ok=True)
