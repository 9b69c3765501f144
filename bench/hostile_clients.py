"""What hostile clients do to an honest one: slow readers, slow senders, hoarders of connections, pipeliners, a greedy account.

`python -m bench.hostile_clients` starts a portal of its own on 127.0.0.1. While each attack runs, an honest client on another
loopback address reads the store, signs in and uploads. Prints one table; the exit code is 1 when the p95 of a call is more than
three times its quiet value (what is under 250 ms is noise) or 2 s, or when the portal's memory (RSS) grows by 32 MiB or more.
"""

import argparse
import contextlib
import http.client
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.package_builder import build_package, signing_key
from tests.server import Running

HONEST, HOSTILE = "127.0.0.2", "127.0.0.3"
PASSWORD = "correct horse battery staple"
TIMES, FLOOR_MS, MOST_MS, GROWTH_BYTES = 3.0, 250.0, 2000.0, 32 << 20
FAILED_MS = 20_000.0


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
        return self.call("GET", "/v1/store/apps")[0] == 200

    def sign_in(self) -> bytes:
        """A session."""
        status, body = self.call(
            "POST", "/v1/auth/login", {"email": self.email, "password": PASSWORD}
        )
        assert status == 200, (status, body)
        return body

    def upload(self) -> bool:
        """A new version."""
        self.uploads += 1
        package = build_package(self.app, f"1.0.{self.uploads}", self.uploads, key=self.key)
        status, body = self.call("POST", f"/v1/apps/{self.app}/versions", package)
        assert status in (201, 409, 429), (
            status,
            body,
        )  # a quota of the account is no attack's doing
        return status == 201


def opened(port: int, data: bytes = b"", receive_buffer: int = 4096) -> socket.socket | None:
    """A hostile connection that has sent this and does not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(1)
    try:
        client.bind((HOSTILE, 0))
        client.connect(("127.0.0.1", port))
        client.sendall(data)
        return client
    except OSError:
        client.close()
        return None


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


Attack = Callable[[int, list[socket.socket]], None]


def slow_readers(port: int, crowd: list[socket.socket]) -> None:
    """Ask for much and read nothing."""
    for number in range(60):
        path = f"/v1/store/apps?limit=100&x={number}" if number % 2 else "/openapi.json"
        keep(crowd, opened(port, get(path) * 200))


def slow_senders(port: int, crowd: list[socket.socket]) -> None:
    """A byte of a head or of a body now and then."""
    body = b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    for number in range(300):
        keep(crowd, opened(port, body if number % 2 else b"GET / HTTP/1.1\r\nX: "))


def hoarders(port: int, crowd: list[socket.socket]) -> None:
    """Every connection there is, each with a cheap request."""
    for _ in range(1100):
        keep(crowd, opened(port, get("/healthz")))


def pipeliners(port: int, crowd: list[socket.socket]) -> None:
    """As many requests in one go as a connection takes."""
    for _ in range(300):
        keep(crowd, opened(port, get("/") * 600))


ATTACKS: dict[str, Attack] = {
    "slow readers": slow_readers,
    "slow senders": slow_senders,
    "hoarders of connections": hoarders,
    "pipeliners": pipeliners,
}


def keep(crowd: list[socket.socket], client: socket.socket | None) -> None:
    if client is not None:
        crowd.append(client)


@contextlib.contextmanager
def under(attack: Attack | None, port: int) -> Iterator[None]:
    """The attack goes on while this is held: its connections are made again and trickle bytes."""
    crowd: list[socket.socket] = []
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(0.5):
            for client in crowd:
                with contextlib.suppress(OSError):
                    client.send(b"x")

    if attack is not None:
        attack(port, crowd)
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for client in crowd:
            client.close()


@contextlib.contextmanager
def greedy(port: int, account: "Honest") -> Iterator[None]:
    """One account that uploads and signs in as fast as it can, six at a time."""
    ended = threading.Event()

    def take() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                account.upload()
                account.sign_in()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def measured(honest: Honest, seconds: float) -> dict[str, float]:
    """The p95 of each call in milliseconds, by turns, for some seconds. A call that fails counts as 20 s; one
    that a quota refuses is left out."""
    took: dict[str, list[float]] = {"read": [], "sign in": [], "upload": []}
    calls = (("read", honest.read), ("sign in", honest.sign_in), ("upload", honest.upload))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, call in calls:
            begun = time.perf_counter()
            try:
                if call():
                    took[name].append((time.perf_counter() - begun) * 1000)
            except (OSError, http.client.HTTPException, AssertionError):
                took[name].append(FAILED_MS)
        time.sleep(0.3)  # the checks of an upload must keep up
    return {
        name: sorted(each)[int(len(each) * 0.95)] if each else FAILED_MS
        for name, each in took.items()
    }


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


def main() -> int:
    """Measure quiet, then under each attack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6, help="for each attack")
    seconds = parser.parse_args().seconds
    broken = []
    with tempfile.TemporaryDirectory() as folder:
        server = Running(
            Path(folder), {"RATE_LIMITS": "off", "ACCOUNT_UNPUBLISHED_VERSIONS": "1000"}
        )
        server.start()
        try:
            honest = Honest(server.port)
            mallory = Honest(server.port, HOSTILE, "mallory")
            for path in ("/openapi.json", "/docs", "/v1/store/apps"):
                honest.call("GET", path)  # what is made once, and kept
            measured(honest, 2)
            quiet, before = measured(honest, seconds), rss(server.pid)
            print(f"{'':<26}{'read p95':>10}{'sign in p95':>13}{'upload p95':>12}{'RSS':>10}")
            report("quiet", quiet, 0)
            for name in [*ATTACKS, "a greedy account"]:
                attack = ATTACKS.get(name)
                with under(attack, server.port) if attack else greedy(server.port, mallory):
                    found = measured(honest, seconds)
                    growth = rss(server.pid) - before
                report(name, found, growth)
                slow = [
                    call
                    for call, value in found.items()
                    if value > min(MOST_MS, max(TIMES * quiet[call], FLOOR_MS))
                ]
                broken += [f"{name}: {call} took too long" for call in slow]
                if growth >= GROWTH_BYTES:
                    broken.append(f"{name}: memory grew by {growth >> 20} MiB")
        finally:
            server.kill()
    for each in broken:
        print(each)
    return 1 if broken else 0


def report(name: str, found: dict[str, float], growth: int) -> None:
    """One line of the table."""
    print(
        f"{name:<26}{found['read']:>7.1f} ms{found['sign in']:>10.1f} ms{found['upload']:>9.1f} ms"
        f"{growth / 2**20:>+6.1f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
