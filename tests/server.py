"""The real portal on a port of 127.0.0.1: as a process of its own, as an operator would start it, or in this process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import portal
from mosis.context import Environment
from mosis.process import make_server
from mosis.worker import Worker


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
            "RATE_LIMITS": "off",
            "DISK_RESERVE_BYTES": "0",
            **(settings or {}),
        }
        self.command = [sys.executable, str(portal.HERE / "portal.py"), "serve"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_seconds: float = 20) -> float:
        """Start it; how many seconds until the first 200 of /healthz."""
        begun = time.perf_counter()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while time.perf_counter() < begun + timeout_seconds:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(self.url + "/healthz", timeout=2) as answer,
            ):
                if answer.status == 200:
                    return time.perf_counter() - begun
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
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
        return self.process.wait(timeout=20)


@contextlib.contextmanager
def running(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A started portal that is ended in any case."""
    server = Running(folder, settings)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()


@contextlib.contextmanager
def serving(env: Environment) -> Iterator[Any]:
    """The portal's server and worker for this environment, in threads of this process, so that a test
    can look into `env`. LISTEN_ADDR is to be 127.0.0.1:0; the server's `port` says which it is."""
    server, worker = make_server(env, portal.build(env)), Worker(env)
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    worker.start()
    thread.start()
    try:
        yield server
    finally:
        server.stop(5)
        thread.join(20)
        worker.stop()
        assert not thread.is_alive(), "the server does not stop"


def wait_until(
    condition: Callable[[], object], what: str = "it happens", timeout_seconds: float = 60
) -> None:
    """Return as soon as the condition holds; fail when it does not in a time that no machine needs."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_seconds} s until {what}"
        time.sleep(0.005)
