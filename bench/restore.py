"""Kills the portal and Litestream together, deletes the data directory, restarts, and measures what was lost.

    python -m bench.restore --cycles 100             the data folder is lost each time; at most the last second may be
    python -m bench.restore --cycles 100 --phantom   the portal alone is killed in mid-commit; nothing may be lost, and the replica
                                                     must hold exactly what the database holds

The clients keep the ledger: each raises the number in its app's summary as fast as it can and notes when each was acknowledged.
With --plant Litestream is made to stand still before the kill: the campaign must notice.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.kill import call
from mosis.config import Config
from mosis.database import faults
from mosis.litestream import Litestream
from tests.server import Running

CLIENTS = 3
ACCOUNT = {"email": "ledger@example.net", "password": "three random words", "name": "ledger"}


class Client(threading.Thread):
    """Writes a growing number until the portal dies under it. `acknowledged[n]` is when number `first + n` was."""

    def __init__(self, port: int, token: str, app: str, first: int) -> None:
        super().__init__(daemon=True)
        self.port, self.token, self.app, self.first = port, token, app, first
        self.acknowledged: list[float] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(connection),
        ):
            while True:
                number = self.first + len(self.acknowledged)
                connection.request(
                    "PATCH",
                    f"/v1/apps/{self.app}",
                    json.dumps({"summary": str(number)}).encode(),
                    headers,
                )
                answer = connection.getresponse()
                result = answer.read()
                if answer.status != 200:
                    raise RuntimeError(result[:500])
                self.acknowledged.append(time.monotonic())
                time.sleep(random.uniform(0, 0.01))


def numbers(database: Path) -> dict[str, int]:
    """The number of each app."""
    db = sqlite3.connect(database)
    with contextlib.closing(db):
        return {
            app: int(summary or 0)
            for app, summary in db.execute("SELECT package_id, summary FROM apps")
        }


class Campaign:
    """A portal with a replica, and what was found out about it."""

    def __init__(self, folder: Path) -> None:
        self.server = Running(folder, {"BACKUPS_DIR": str(folder / "backups")})
        self.data = folder / "data"
        self.database = self.data / "portal.db"
        self.apps = [f"restore.c{number}" for number in range(CLIENTS)]
        self.lost_seconds: list[float] = []
        self.lost_writes: list[int] = []
        self.starts: list[float] = []
        self.acknowledged = 0

    def begin(self) -> None:
        """The first start, an account, and an app for each client."""
        self.server.start()
        token = call(self.server.port, "POST", "/v1/auth/register", json.dumps(ACCOUNT).encode())[
            1
        ]["access_token"]
        for app in self.apps:
            body = json.dumps({"package_id": app, "name": "Ledger"}).encode()
            assert call(self.server.port, "POST", "/v1/apps", body, token)[0] == 201
        self.settle()

    def settle(self) -> None:
        """Wait until everything is in the replica."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            status, ready = call(self.server.port, "GET", "/readyz", b"{}")
            if (
                status == 200
                and ready["replica"]["running"]
                and not ready["replica"]["behind_seconds"]
            ):
                return
            time.sleep(0.1)
        raise AssertionError(f"the replica does not catch up: {ready}")

    def write_and_kill(self, *, both: bool, plant: bool = False) -> tuple[float, list[Client]]:
        """Let the clients write for a while, then kill; when, and the clients with their ledgers."""
        credentials = json.dumps(
            {"email": ACCOUNT["email"], "password": ACCOUNT["password"]}
        ).encode()
        token = call(self.server.port, "POST", "/v1/auth/login", credentials)[1]["access_token"]
        before = numbers(self.database)
        clients = [Client(self.server.port, token, app, before[app] + 1) for app in self.apps]
        for client in clients:
            client.start()
        time.sleep(random.uniform(0.5, 2.5))
        litestream = int((self.data / "litestream.lock").read_text())
        if plant:
            os.kill(litestream, signal.SIGSTOP)
            time.sleep(3)
        killed_at = time.monotonic()
        if both:
            os.kill(litestream, signal.SIGKILL)
        self.server.kill()
        for client in clients:
            client.join(15)
            self.acknowledged += len(client.acknowledged)
        return killed_at, clients

    def lose_the_folder(self, plant: bool = False) -> None:
        """One cycle: everything but the replica is gone."""
        killed_at, clients = self.write_and_kill(both=True, plant=plant)
        shutil.rmtree(self.data)
        self.starts.append(self.server.start())
        assert not faults(self.database)
        there = numbers(self.database)
        lost = [client.acknowledged[there[client.app] - client.first + 1 :] for client in clients]
        self.lost_writes.append(sum(map(len, lost)))
        self.lost_seconds.append(max([0.0, *(killed_at - times[0] for times in lost if times)]))

    def phantom(self) -> None:
        """One cycle: the portal alone is killed, and the replica must tell the same as the database afterwards."""
        _, clients = self.write_and_kill(both=False)
        self.starts.append(self.server.start())
        there = numbers(self.database)
        for client in clients:
            assert there[client.app] >= client.first + len(client.acknowledged) - 1, (
                f"an acknowledged write to {client.app} is lost"
            )
        self.settle()
        restored = self.server.folder / "restored.db"
        settings = {
            name: value
            for name, value in self.server.environment.items()
            if name.lower() in Config.__dataclass_fields__
        }
        Litestream(Config.read(settings)).restore(restored)
        assert not faults(restored)
        assert numbers(restored) == numbers(self.database), "the replica holds something else"
        restored.unlink()

    def figures(self) -> dict[str, Any]:
        """What came out."""
        found: dict[str, Any] = {
            "cycles": len(self.starts),
            "acknowledged_writes": self.acknowledged,
        }
        if self.lost_seconds:
            inner = sorted(self.lost_seconds)
            found |= {
                "lost_seconds": {
                    "p50": round(statistics.median(inner), 3),
                    "p95": round(inner[int(0.95 * (len(inner) - 1))], 3),
                    "longest": round(inner[-1], 3),
                },
                "cycles_without_loss": sum(not each for each in inner),
                "lost_writes": sum(self.lost_writes),
            }
        return found | {
            "median_start_seconds": round(statistics.median(self.starts), 3),
            "slowest_start_seconds": round(max(self.starts), 3),
        }


def run(
    folder: Path, cycles: int, most_seconds: float, phantom: bool = False, plant: bool = False
) -> dict[str, Any]:
    """Run it; the figures. Raises AssertionError when more is lost than may be."""
    campaign = Campaign(folder)
    try:
        campaign.begin()
        for _ in range(cycles):
            campaign.phantom() if phantom else campaign.lose_the_folder(plant)
    finally:
        if campaign.server.process is not None:
            campaign.server.kill()
    figures = campaign.figures()
    assert max(campaign.lost_seconds, default=0) <= most_seconds, (
        f"more than {most_seconds} s are lost: {figures}"
    )
    return figures


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--cycles", type=int, default=100)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument(
        "--most", type=float, default=1.0, metavar="SECONDS", help="more may not be lost (1)"
    )
    options.add_argument("--phantom", action="store_true", help="kill the portal alone")
    options.add_argument(
        "--plant", action="store_true", help="make Litestream stand still: the campaign must fail"
    )
    given = options.parse_args()
    print(f"seed {given.seed}")
    random.seed(given.seed)
    with tempfile.TemporaryDirectory(prefix="restore-") as folder:
        json.dump(
            run(Path(folder), given.cycles, given.most, given.phantom, given.plant),
            sys.stdout,
            indent=1,
        )
    print()


if __name__ == "__main__":
    main()
