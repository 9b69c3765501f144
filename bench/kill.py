"""Kills the portal with SIGKILL during registrations and uploads, and checks what was acknowledged.

    python -m bench.kill --cycles 200

The clients keep the ledger: what was acknowledged with 201 must be there after the next start, every row must have its file, the
database must be whole, nothing may lie in incoming/ or spool/. With --plant a file is removed by hand: the campaign must notice.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.package_builder import SigningKey, build_package, signing_key
from tests.server import Running

CLIENTS = 3


class Ledger:
    """What the portal has acknowledged."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.accounts: set[str] = set()
        self.versions: dict[str, str] = {}  # id: sha256
        self.unanswered = 0


QUOTAS = {  # everything that was acknowledged is looked for, so nothing may make room for something else
    "ACCOUNT_UNPUBLISHED_VERSIONS": "1000000",
    "ACCOUNT_BYTES": str(1 << 40),
}


def call(port: int, method: str, path: str, body: bytes, token: str = "") -> tuple[int, Any]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    kind = "application/json" if body[:1] == b"{" else "application/octet-stream"
    headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")


class Client(threading.Thread):
    """Registers, makes an app and uploads versions until the portal dies under it."""

    def __init__(self, number: str, port: int, ledger: Ledger, key: SigningKey) -> None:
        super().__init__(daemon=True)
        self.number, self.port, self.ledger, self.key = number, port, ledger, key

    def run(self) -> None:
        try:
            self._work()
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            with self.ledger.lock:
                self.ledger.unanswered += 1

    def _work(self) -> None:
        account = {
            "email": f"{self.number}@example.net",
            "password": "three random words",
            "name": self.number,
        }
        status, answer = call(self.port, "POST", "/v1/auth/register", json.dumps(account).encode())
        assert status == 201, answer
        with self.ledger.lock:
            self.ledger.accounts.add(account["email"])
        token, package_id = answer["access_token"], f"kill.{self.number}"
        call(
            self.port,
            "POST",
            "/v1/signing-keys",
            json.dumps({"name": "k", "public_key": self.key.public_base64}).encode(),
            token,
        )
        call(
            self.port,
            "POST",
            "/v1/apps",
            json.dumps({"package_id": package_id, "name": "Kill"}).encode(),
            token,
        )
        for code in range(1, 1000):
            filling = {
                "assets/filling.txt": random.randbytes(random.choice((1000, 300_000, 2_000_000)))
            }
            package = build_package(package_id, f"1.0.{code}", code, key=self.key, files=filling)
            status, answer = call(
                self.port, "POST", f"/v1/apps/{package_id}/versions", package, token
            )
            if status == 409:
                assert answer["code"] == "quota_exceeded", answer  # too many are being checked
                time.sleep(0.1)
                continue
            assert status == 201, answer
            with self.ledger.lock:
                self.ledger.versions[answer["id"]] = hashlib.sha256(package).hexdigest()


def missing(server: Running, ledger: Ledger) -> Iterator[str]:
    """Everything that is not as it was promised."""
    db = sqlite3.connect(f"file:{server.environment['DATABASE_PATH']}?mode=ro", uri=True)
    with contextlib.closing(db):
        if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            yield "integrity_check"
        if db.execute("PRAGMA foreign_key_check").fetchall():
            yield "foreign_key_check"
        accounts = {row[0] for row in db.execute("SELECT email FROM developers")}
        yield from (f"account {email}" for email in ledger.accounts - accounts)
        rows = db.execute(
            "SELECT v.id, v.sha256, a.developer_id, a.id, v.version FROM versions v JOIN apps a ON a.id = v.app_id"
        )
        stored = {}
        for version_id, sha256, developer_id, app_id, version in rows:
            stored[version_id] = sha256
            file = (
                Path(server.environment["PACKAGES_DIR"])
                / developer_id
                / app_id
                / version
                / "package.mosis"
            )
            if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
                yield f"file of {version_id}"
        yield from (
            f"version {each}"
            for each, sha256 in ledger.versions.items()
            if stored.get(each) != sha256
        )
    for folder in ("incoming", "spool"):
        yield from (
            f"left over {each}"
            for each in (Path(server.environment["PACKAGES_DIR"]) / folder).iterdir()
        )


def _look(server: Running, ledger: Ledger) -> None:
    found = list(missing(server, ledger))
    assert not found, found[:10]


def campaign(folder: Path, cycles: int, plant: bool = False) -> dict[str, Any]:
    """Run it; the figures. Raises AssertionError with what is missing."""
    ledger, key, starts = Ledger(), signing_key(), []
    server = Running(folder, QUOTAS)
    starts.append(server.start())
    try:
        for cycle in range(20 * cycles):
            if (
                cycle >= cycles and ledger.versions
            ):  # on a busy machine nothing may get as far at first
                break
            clients = [
                Client(f"c{cycle}x{number}", server.port, ledger, key) for number in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            time.sleep(random.uniform(0.05, 0.8))
            server.kill()
            for client in clients:
                client.join(15)
            if plant and ledger.versions:
                next(Path(server.environment["PACKAGES_DIR"]).glob("*/*/*/package.mosis")).unlink()
            starts.append(server.start())
            # a whole look at every tenth cycle and at the end: the ledger grows
            if plant or cycle % 10 == 9:
                _look(server, ledger)
        _look(server, ledger)
    finally:
        server.kill()
    return {
        "cycles": cycles,
        "acknowledged_accounts": len(ledger.accounts),
        "acknowledged_versions": len(ledger.versions),
        "cut_off_requests": ledger.unanswered,
        "lost": 0,
        "slowest_start_seconds": round(max(starts), 3),
        "median_start_seconds": round(sorted(starts)[len(starts) // 2], 3),
    }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--cycles", type=int, default=200)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument(
        "--plant", action="store_true", help="remove a package by hand: the campaign must fail"
    )
    given = options.parse_args()
    print(f"seed {given.seed}")
    random.seed(given.seed)
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        json.dump(campaign(Path(folder), given.cycles, given.plant), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
