"""The memory of the portal (PSS) when idle, after 100 sign-ins, after 100 uploads and after mixed load.

    python -m bench.memory [--load-seconds 60] [--litestream]

With `--litestream` a replica runs, and the figures are those of both processes. The child process
of the checks counts while it lives. Sources: /proc/PID/smaps_rollup, kernel documentation
filesystems/proc.
"""

import argparse
import contextlib
import http.client
import json
import os
import tempfile
import threading
import time
from pathlib import Path

from bench.footprint import memory_mib
from bench.hostile_clients import Honest
from tests.package_builder import build_package
from tests.server import Running

CLIENTS = 8
ACCOUNTS = 5


def whole_mib(portal: Running) -> float:
    """PSS of the portal and its children, in MiB."""
    total = memory_mib(portal.pid, "smaps_rollup", "Pss")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that ends meanwhile
        for thread in Path(f"/proc/{portal.pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                total += memory_mib(int(child), "smaps_rollup", "Pss")
    return total


def developers(port: int) -> list[Honest]:
    """Accounts with an app each."""
    return [Honest(port, name=f"developer{number}") for number in range(ACCOUNTS)]


def upload(people: list[Honest], count: int) -> None:
    """Packages of 1 MiB, one account after the other, each waiting for room in the queue of checks."""
    noise = os.urandom(1 << 20)
    for number in range(count):
        account = people[number % len(people)]
        while True:
            account.uploads += 1
            package = build_package(
                account.app,
                f"2.0.{account.uploads}",
                1000 + account.uploads,
                key=account.key,
                files={"assets/noise.ogg": noise, "assets/n.txt": b"%d" % number},
            )
            status, body = account.call("POST", f"/v1/apps/{account.app}/versions", package)
            if status == 201:
                break
            assert status in (409, 429), (status, body)
            time.sleep(0.5)


def load(port: int, token: str, seconds: float) -> int:
    """Reads of the store, of an account and updates by clients on open connections; their number."""
    until, counts = time.monotonic() + seconds, [0] * CLIENTS
    updates = json.dumps({"apps": [{"package_id": "net.example.developer0", "version_code": 1}]})

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while time.monotonic() < until:
            for method, path, body in (
                ("GET", "/v1/store/apps?limit=20", None),
                ("GET", "/v1/store/apps?search=developer", None),
                ("GET", "/v1/apps", None),
                ("POST", "/v1/store/updates", updates),
            ):
                headers = {"Authorization": f"Bearer {token}"} if path == "/v1/apps" else {}
                if body:
                    headers["Content-Type"] = "application/json"
                connection.request(method, path, body, headers)
                connection.getresponse().read()
                counts[number] += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(counts)


def main() -> None:
    """Print one line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load-seconds", type=float, default=60)
    parser.add_argument("--litestream", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"LOG_LEVEL": "warning"}
        if given.litestream:
            settings["BACKUPS_DIR"] = str(folder / "backups")
        portal = Running(folder, settings)
        portal.start()
        try:
            time.sleep(5)
            print(f"idle: {whole_mib(portal):.1f} MiB PSS", flush=True)
            people = developers(portal.port)
            for number in range(100):
                people[number % len(people)].sign_in()
            print(f"after 100 sign-ins: {whole_mib(portal):.1f} MiB PSS", flush=True)
            upload(people, 100)
            time.sleep(10)  # the last checks
            print(f"after 100 uploads of 1 MiB: {whole_mib(portal):.1f} MiB PSS", flush=True)
            asked = load(portal.port, people[0].token, given.load_seconds)
            print(f"after {asked} requests: {whole_mib(portal):.1f} MiB PSS", flush=True)
        finally:
            portal.stop()


if __name__ == "__main__":
    main()
