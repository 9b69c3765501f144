"""Compares two revisions of the portal in one run, with the same requests in turn.

    python -m bench.before_after 9fc3b51 [HEAD] [--rounds 7] [--requests 1000]

Each revision is taken out of git into a temporary folder, filled with its own example catalogue, and served without rate limits.
Printed are the processor time that a request costs the server (/proc/PID/task/*/schedstat), which other work on the machine
changes least, and the time until the response: medians over the rounds, one connection with keep-alive, the client in Python.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import portal
from bench.telemetry import events
from tests.server import free_port

PASSWORD = "correct horse battery"
SETTINGS = {
    "RATE_LIMITS": "off",
    "LOG_LEVEL": "warning",
    "ACCOUNT_APPS": "1000000",
    "TELEMETRY_EVENTS_PER_APP": str(10**9),
}


class Revision:
    """A served revision."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        source = folder / "source"
        source.mkdir()
        archive = subprocess.run(
            ["git", "archive", name], cwd=portal.HERE, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
        self.port = free_port()
        environment = os.environ | SETTINGS | {
            "LISTEN_ADDR": f"127.0.0.1:{self.port}",
            "BASE_URL": f"http://127.0.0.1:{self.port}",
            "DATABASE_PATH": str(folder / "portal.db"),
            "ASSETS_DIR": str(folder / "assets"),
            "PACKAGES_DIR": str(folder / "packages"),
            "DISK_RESERVE_BYTES": "0",
        }  # fmt: skip
        with open(folder / "log", "ab") as log:
            run = {"cwd": source, "env": environment, "stdout": log, "stderr": log}
            subprocess.run([sys.executable, "portal.py", "demo"], check=True, **run)
            self.process = subprocess.Popen([sys.executable, "portal.py", "serve"], **run)
        self._wait()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        self.token = self.call(
            "POST",
            "/v1/auth/register",
            {"email": "bench@example.net", "name": "Bench", "password": PASSWORD},
        )["access_token"]
        apps = self.call("GET", "/v1/store/apps")["apps"]
        self.app, self.version = apps[0]["package_id"], apps[0]["version"]
        self.installed = ",".join(f"{app['package_id']}:1" for app in apps[:20])
        self.own = "net.bench.own"
        self.call("POST", "/v1/apps", {"package_id": self.own, "name": "Own"})
        self.number = 0

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                http.client.HTTPConnection("127.0.0.1", self.port).request("GET", "/healthz")
                return
            time.sleep(0.1)
        self.process.kill()
        raise RuntimeError(f"{self.name} does not start")

    def call(self, method: str, path: str, body: object = None) -> dict:
        """The JSON that is answered."""
        return json.loads(self.ask(method, path, body))

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """The body of a successful response."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if path.startswith("/v1/apps"):
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, headers)
        response = self.connection.getresponse()
        content = response.read()
        assert response.status < 300, (self.name, method, path, response.status, content[:300])
        return content

    def processor_us(self) -> float:
        """The processor time of the server's threads so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1000

    def requests(self) -> dict[str, tuple[str, str, object]]:
        """One request of each kind."""
        self.number += 1
        batch = {
            "device_id": f"{self.number:064x}",
            "batch_id": f"{self.number:032x}",
            "session_id": f"{self.number:x}",
            "app_id": self.app,
            "app_version": self.version,
            "mosis_version": "1.0.0",
            "events": events(random.Random(self.number), int(time.time()) - 120),
        }
        return {
            "healthz": ("GET", "/healthz", None),
            "store list": ("GET", "/v1/store/apps", None),
            "store detail": ("GET", f"/v1/store/apps/{self.app}", None),
            "update check": ("GET", f"/v1/store/updates?pkgs={self.installed}", None),
            "own apps": ("GET", "/v1/apps", None),
            "one app": ("GET", f"/v1/apps/{self.own}", None),
            "make an app": (
                "POST",
                "/v1/apps",
                {"package_id": f"net.bench.a{self.number}", "name": f"App {self.number}"},
            ),
            "telemetry, 20 events": ("POST", "/v1/telemetry/events", batch),
        }

    def measure(self, kind: str, count: int) -> tuple[float, float]:
        """Processor time and time until the response, microseconds for each request."""
        asked = [self.requests()[kind] for _ in range(count)]
        self.connection.close()  # an idle one may have been closed by the server
        times, before = [], self.processor_us()
        for method, path, body in asked:
            begun = time.perf_counter()
            self.ask(method, path, body)
            times.append((time.perf_counter() - begun) * 1e6)
        return (self.processor_us() - before) / count, statistics.median(times)


@contextlib.contextmanager
def served(name: str) -> Iterator[Revision]:
    """A revision that is served while the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        revision = Revision(name, Path(folder))
        try:
            yield revision
        finally:
            revision.process.terminate()
            revision.process.wait(30)


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("before")
    arguments.add_argument("after", nargs="?", default="HEAD")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--requests", type=int, default=1000)
    given = arguments.parse_args()
    with served(given.before) as before, served(given.after) as after:
        print(
            f"| | {given.before}: processor | {given.after}: processor | {given.before}: response | {given.after}: response |"
        )
        print("|---|---|---|---|---|")
        for kind in before.requests():
            found: dict[str, list[tuple[float, float]]] = {"before": [], "after": []}
            for turn in range(given.rounds + 1):  # the first one fills caches
                for name, revision in (("before", before), ("after", after)):
                    figures = revision.measure(kind, given.requests)
                    if turn:
                        found[name].append(figures)
            cells = [
                f"{statistics.median(figures[part] for figures in found[name]):.0f} us"
                for part in (0, 1)
                for name in ("before", "after")
            ]
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
