"""Measures what hostile clients do to an honest one: slow readers and senders, many connections, pipelining, a greedy
account.

`python -m bench.hostile_clients` starts a portal of its own on 127.0.0.1, without rate limits. Honest accounts on another
loopback address read the store, sign in and upload: some seconds alone, some seconds beside an attack, and so on through
all attacks, several rounds. Of each period the p95 of each call is taken, of the rounds the median, for the quiet periods
as well. Prints one table; the exit code is 1 when a p95 is more than three times its quiet value or more than 2 s, or when the
portal's memory (RSS, at its peak) is 32 MiB or more above that of the first quiet periods.
"""

import argparse
import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import portal
from bench.hostile_attacks import ACCOUNT, ATTACKS
from tests.package_builder import build_package, signing_key
from tests.server import Running

HONEST = "127.0.0.2"
PASSWORD = "correct horse battery staple"
TIMES, MOST_MS, GROWTH_BYTES = 3.0, 2000.0, 32 << 20
FAILED_MS = 20_000.0
PERIOD_SECONDS = 0.25  # from one upload to the next
READS, SIGN_INS = 8, 2  # for each upload
ACCOUNTS = (
    80  # of each at most 20 versions may wait for their checks, which are slower than uploads
)
CALLS = ("read", "sign in", "upload")
Samples = dict[str, list[float]]


class Honest:
    """A developer who works meanwhile."""

    def __init__(self, port: int, source: str = HONEST, name: str = "honest") -> None:
        self.port, self.source, self.uploads = port, source, 0
        self.name, self.email = name, f"{name}@example.net"
        answer = self.call(
            "POST", "/v1/auth/register", {"email": self.email, "password": PASSWORD, "name": name}
        )
        assert answer[0] in (201, 202), answer
        self.token = json.loads(self.sign_in())["access_token"]
        self.key = signing_key()
        self.call("POST", "/v1/signing-keys", {"name": "k", "public_key": self.key.public_base64})
        self.app = f"net.example.{name}"
        self.call("POST", "/v1/apps", {"package_id": self.app, "name": name})

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=20, source_address=(self.source, 0)
        )
        headers = {"Authorization": f"Bearer {self.token}"} if hasattr(self, "token") else {}
        if isinstance(body, dict):
            headers["Content-Type"], body = "application/json", json.dumps(body)
        elif body is not None:
            headers["Content-Type"] = "application/vnd.mosis.package+zip"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def read(self) -> bool:
        """The store's list."""
        status, body = self.call("GET", "/v1/store/apps")
        assert status == 200, (status, body)
        return True

    def sign_in(self) -> bytes:
        """A session."""
        status, body = self.call(
            "POST", "/v1/auth/login", {"email": self.email, "password": PASSWORD}
        )
        assert status == 200, (status, body)
        return body

    def package(self) -> bytes:
        """A new version."""
        self.uploads += 1
        return build_package(self.app, f"1.0.{self.uploads}", self.uploads, key=self.key)

    def upload(self, package: bytes) -> bool:
        """Send a version; whether it was taken. A quota of the account is no attack's doing."""
        status, body = self.call("POST", f"/v1/apps/{self.app}/versions", package)
        assert status in (201, 409, 429), (status, body)
        return status == 201


@contextlib.contextmanager
def under(name: str, port: int, opened: list[float]) -> Iterator[None]:
    """The attack goes on while this is held; then `opened` has how many connections or calls it made in a second."""
    command = [sys.executable, "-m", "bench.hostile_attacks", name, str(port)]
    begun = time.monotonic()
    process = subprocess.Popen(
        command, cwd=portal.HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        time.sleep(2)  # until it is at full strength
        yield
        output, _ = process.communicate("", timeout=60)
        opened.append(int(output) / (time.monotonic() - begun))
    finally:
        process.kill()
        process.wait()


def measured(accounts: Iterator[Honest], seconds: float) -> Samples:
    """How long each call took, in milliseconds, by turns, for some seconds. A call that fails counts as 20 s; one that a quota
    refuses is left out."""
    took: Samples = {name: [] for name in CALLS}

    def timed(name: str, call: Callable[[], Any]) -> None:
        begun = time.perf_counter()
        try:
            if call():
                took[name].append((time.perf_counter() - begun) * 1000)
        except (OSError, http.client.HTTPException, AssertionError):
            took[name].append(FAILED_MS)

    at = begun = time.monotonic()
    while at < begun + seconds:
        honest = next(accounts)
        package = honest.package()
        for number in range(READS):
            timed("read", honest.read)
            if number % (READS // SIGN_INS) == 0:
                timed("sign in", honest.sign_in)
        timed("upload", partial(honest.upload, package))
        at = max(at + PERIOD_SECONDS, time.monotonic())
        time.sleep(max(0.0, at - time.monotonic()))
    return took


def p95(samples: list[float]) -> float | None:
    """None for too few of them."""
    return sorted(samples)[int(len(samples) * 0.95)] if len(samples) >= 10 else None


def middle(values: Iterable[float | None]) -> float:
    """The median of the periods that have a value."""
    known = [value for value in values if value is not None]
    return median(known) if known else FAILED_MS


class Peak:
    """The most resident memory of a process, looked at fifty times a second while this is held, in bytes."""

    def __init__(self, pid: int) -> None:
        self.pid, self.size_bytes = pid, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
            now = int(text.partition("VmRSS:")[2].split()[0]) * 1024
            self.size_bytes = max(self.size_bytes, now)


class Rounds:
    """What was measured: the p95 of each call in each period, quiet and beside each attack."""

    def __init__(self) -> None:
        self.quiet: list[dict[str, float | None]] = []
        self.beside: dict[str, list[dict[str, float | None]]] = {
            name: [] for name in (*ATTACKS, ACCOUNT)
        }
        self.samples = dict.fromkeys(CALLS, 0)
        self.opened: dict[str, list[float]] = {name: [] for name in self.beside}
        self.growth = dict.fromkeys(self.beside, 0)

    def note(self, periods: list[dict[str, float | None]], took: Samples) -> None:
        """Add a period."""
        periods.append({call: p95(took[call]) for call in CALLS})
        for call in CALLS:
            self.samples[call] += len(took[call])

    def report(self) -> list[str]:
        """Print the table; what was too much."""
        quiet = {call: middle(each[call] for each in self.quiet) for call in CALLS}
        broken = []
        print(f"{'':<26}{'read p95':>14}{'sign in p95':>16}{'upload p95':>16}{'RSS':>12}")
        print(f"{'quiet':<26}" + "".join(f"{quiet[call]:>10.1f} ms   " for call in CALLS))
        for name, periods in self.beside.items():
            found = {call: middle(each[call] for each in periods) for call in CALLS}
            line = "".join(
                f"{found[call]:>8.1f} {found[call] / quiet[call]:4.1f}x " for call in CALLS
            )
            grown = f"{self.growth[name] / 2**20:+.1f} MiB"
            print(f"{name:<26}{line}{grown:>12}  ({median(self.opened[name]):.0f}/s)")
            for call, value in found.items():
                if value > min(MOST_MS, TIMES * quiet[call]):
                    broken.append(f"{name}: {call} took {value / quiet[call]:.1f} times as long")
            if self.growth[name] >= GROWTH_BYTES:
                broken.append(f"{name}: memory grew by {grown}")
        print("samples: " + ", ".join(f"{call} {self.samples[call]}" for call in CALLS))
        return broken


def main() -> int:
    """Measure quiet, then beside each attack, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8, help="for each period")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", help="one attack")
    options = parser.parse_args()
    found = Rounds()
    if options.only:
        found.beside = {options.only: []}
        found.growth = {options.only: 0}
    settings = {"RATE_LIMITS": "off", "ACCOUNT_UNPUBLISHED_VERSIONS": "100000"}
    with tempfile.TemporaryDirectory() as folder:
        server = Running(Path(folder), settings)
        server.start()
        try:
            accounts = cycle([Honest(server.port, name=f"dev{n}") for n in range(ACCOUNTS)])
            for path in ("/openapi.json", "/docs", "/v1/store/apps"):
                next(accounts).call("GET", path)  # what is made once, and cached
            with Peak(server.pid) as before:
                measured(accounts, options.seconds)
                found.note(found.quiet, measured(accounts, options.seconds))
            for _ in range(options.rounds):
                for name in found.beside:
                    found.note(found.quiet, measured(accounts, options.seconds))
                    with under(name, server.port, found.opened[name]), Peak(server.pid) as peak:
                        found.note(found.beside[name], measured(accounts, options.seconds))
                    growth = peak.size_bytes - before.size_bytes
                    found.growth[name] = max(found.growth[name], growth)
        finally:
            server.kill()
    broken = found.report()
    for each in broken:
        print(each)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
