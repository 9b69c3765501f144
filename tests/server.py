"""The real portal on a port of 127.0.0.1: as a process of its own, as an operator would start it, or in this process."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import portal
from mosis.commands.process import make_server
from mosis.context import Context
from mosis.litestream.replication import ask
from mosis.worker import Worker
from tests import forked_portal


def launch(command: list[str], **options: Any) -> Any:
    """Start the portal: by a fork in tests and in what they run, otherwise with a Python of its own."""
    if os.environ.get("PORTALS_OF_TESTS") == "forked":
        return forked_portal.ForkedProcess(command, **options)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)


def free_port() -> int:
    """A port for one server, or for none. The kernel gives it to no connection, since it is below
    the range for those, and no other process that runs tests gets it while this one runs."""
    while True:
        if not _ports:
            _reserve_ports()
        port = _ports.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


_ports: list[int] = []
_reserved: list[socket.socket] = []


def _reserve_ports() -> None:
    """Take the next hundred ports: a name of the abstract namespace belongs to one process."""
    for first in range(12_000, 32_000, 100):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0ports of tests from {first}")
        except OSError:
            name.close()
            continue
        _reserved.append(name)
        _ports.extend(range(first, first + 100))
        return
    raise RuntimeError("other processes have reserved all ports for tests")


class Running:
    """A portal that runs: `url`, `port`, `pid`, the log in `log`."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, port: int | None = None
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "portal.log"
        settings_of_ours = portal.Config.__dataclass_fields__
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name.lower() not in settings_of_ours
        }
        self.environment |= {
            "LISTEN_ADDR": f"127.0.0.1:{self.port}",
            "BASE_URL": self.url,
            "DATABASE_PATH": str(folder / "data/portal.db"),
            "PACKAGES_DIR": str(folder / "packages"),
            "ASSETS_DIR": str(folder / "assets"),
            "CHECK_SECONDS": "120",  # of a busy machine: a package that takes longer has failed
            "RATE_LIMITS": "off",
            "DISK_RESERVE_BYTES": "0",
            **(settings or {}),
        }
        self.command = [sys.executable, str(portal.HERE / "portal.py"), "serve"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_seconds: float = 60) -> float:
        """Start it; how many seconds until the first 200 of /healthz."""
        begun = time.perf_counter()
        with open(self.log, "ab") as log:
            self.process = launch(
                self.command, env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )
        while (waited := time.perf_counter() - begun) < timeout_seconds:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(self.url + "/healthz", timeout=2) as answer,
            ):
                if answer.status == 200:
                    return time.perf_counter() - begun
            if self.process.poll() is not None:
                break
            time.sleep(pause(waited))
        self.kill()
        raise RuntimeError(f"the portal did not start:\n{self.log.read_text()[-3000:]}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL: no chance to do anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


class Backed(Running):
    """A portal with a replica in `backups/`, or where `settings` say."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, port: int | None = None
    ) -> None:
        super().__init__(folder, settings or {"BACKUPS_DIR": str(folder / "backups")}, port)
        self.data, self.backups = folder / "data", folder / "backups"

    def ask(
        self, path: str, body: dict[str, Any] | None = None, token: str | None = None
    ) -> tuple[int, Any]:
        """Status and document of one call."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def register(self, name: str) -> None:
        account = {"email": f"{name}@example.net", "password": "three random words", "name": name}
        assert self.ask("/v1/auth/register", account)[0] == 201

    @property
    def names(self) -> list[str]:
        """Who has an account, by the database file."""
        return names_in(self.data / "portal.db")

    @property
    def litestream(self) -> int:
        """The process id of its Litestream."""
        return int((self.data / "litestream.lock").read_text())

    def wait_for(self, what: Callable[[Any], bool], timeout_seconds: float = 60) -> Any:
        """The first answer of /readyz that is as it should be."""
        begun = time.monotonic()
        while True:
            status, document = self.ask("/readyz")
            if what(document):
                return document
            waited = time.monotonic() - begun
            assert waited < timeout_seconds, (status, document)
            time.sleep(pause(waited))

    def replicated(self) -> None:
        """Wait until Litestream runs and everything is in the replica."""
        self.wait_for(in_the_replica)
        self.synced()

    def synced(self) -> None:
        """Have everything that is committed by now in the replica."""
        wanted = {"path": str(self.data / "portal.db"), "wait": True, "timeout": 30}
        answer = ask(self.data, "/sync", wanted, 35)
        assert answer["txid"] == answer["replicated_txid"], answer

    def lose_everything(self) -> None:
        """SIGKILL for both, at once; then the data folder is gone."""
        os.kill(self.pid, signal.SIGSTOP)  # or it could start another Litestream in between
        litestream = self.litestream
        os.kill(litestream, signal.SIGKILL)
        self.kill()
        # A write that a thread of it had begun could still create a file: the lock ends with the last.
        with open(self.data / "litestream.lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(self.data)


def in_the_replica(ready: Any) -> bool:
    return bool(
        ready["status"] == "ready"
        and ready["replica"]["running"]
        and ready["replica"]["behind_seconds"] == 0
    )


def names_in(database: Path) -> list[str]:
    db = sqlite3.connect(database)
    try:
        return sorted(name for (name,) in db.execute("SELECT name FROM developers"))
    finally:
        db.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not, once all of its threads have ended: until then its
    files are open, and its locks held."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def programs() -> dict[int, str]:
    """What this process has started, or had forked, and still runs: pid and command. What the
    fixtures of a session start is left out, and the processes that fork for others."""

    def children(parent: int) -> Iterator[tuple[int, str]]:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # it has ended
                for pid in filter(is_alive, map(int, task.read_text().split())):
                    yield pid, Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")

    found = dict(children(os.getpid()))
    forking = [pid for pid in found if re.search("multiprocessing|forked_portal", found[pid])]
    found = {pid: found[pid] for pid in found if not re.search("weed|chrom", found[pid])}
    for pid in forking:
        found |= dict(children(pid))
    return {pid: found[pid] for pid in found.keys() - set(forking)}


@contextlib.contextmanager
def running(
    folder: Path, settings: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[Running]:
    """A started portal that is ended in any case."""
    server = Running(folder, settings, port)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()


def command(
    folder: Path, *arguments: str, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python portal.py ARGUMENTS` with its data in `folder`."""
    environment = Running(folder, settings).environment
    return ended([str(portal.HERE / "portal.py"), *arguments], environment, folder)


def ended(
    arguments: list[str], environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, once it has ended."""
    line = [sys.executable, *arguments]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = launch(line, env=environment, cwd=folder, stdout=output, stderr=errors)
        try:
            code = process.wait(280)
        finally:
            process.kill()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(line, code, output.read(), errors.read())


@contextlib.contextmanager
def serving(env: Context) -> Iterator[Any]:
    """The portal's server and worker for this environment, in threads of this process, so that a test
    can look into `env`. LISTEN_ADDR is to be 127.0.0.1:0; the server's `port` says which it is."""
    worker = Worker(env)
    worker.start()
    try:
        with in_thread(make_server(env, portal.build(env))) as server:
            yield server
    finally:
        worker.stop()


@contextlib.contextmanager
def in_thread(server: Any) -> Iterator[Any]:
    """A server that runs in a thread of this process."""
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop(5)
        thread.join(60)
        assert not thread.is_alive(), "the server does not stop"


def pause(waited_seconds: float) -> float:
    """How long to sleep between two looks after so long a wait: a twentieth of it, so that many
    looks a second are only taken where the state is near."""
    return min(0.1, max(0.005, waited_seconds / 20))


def wait_until(
    condition: Callable[[], object], what: str = "it happens", timeout_seconds: float = 60
) -> None:
    """Return as soon as the condition holds; fail when it does not in a time that no machine needs."""
    begun = time.monotonic()
    while not condition():
        waited = time.monotonic() - begun
        assert waited < timeout_seconds, f"waited {timeout_seconds} s until {what}"
        time.sleep(pause(waited))
