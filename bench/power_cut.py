"""Simulates power cuts under a portal that registers, changes and stores packages, and checks what was acknowledged.

    python -m bench.power_cut --minutes 15 --inside ext4        (root; needs losetup, mkfs.xfs and mkfs.ext4 or mkfs.btrfs)
    python -m bench.power_cut --minutes 2 --plant flush

The portal's data lie on a file system in an image. The image lies on an XFS that can share blocks, behind a loop device that goes
around the page cache: it holds what that file system has sent to its disk, and nothing that still waits in memory. A cut is
`cp --reflink=always` of the image, one instant while everybody writes. Then the portal is killed, the copy is mounted (which
replays the file system's journal), the portal starts on it, and the next cut comes.

The clients keep the ledger: every account, version and change that was acknowledged before the cut began must be there, every row
must have its file with its SHA-256, the database must be whole, nothing may lie in incoming/ or spool/. `--plant` switches something
off in the portal's process, never in the product: `flush` the flush of the WAL, `files` the fsync of packages and folders. The
campaign must then find losses, else it is broken itself.

What it does not show: a disk that forgets or reorders what it took before the flush. Everything sent to this one stays there.
Mounts and processes live in namespaces of their own: they vanish with the campaign, however it ends.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import sqlite3
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import portal
from bench import kill
from bench.disk import Disk, sharing_disk
from bench.kill import call
from tests.package_builder import SigningKey, build_package, signing_key
from tests.server import Running

CUTS_PER_DISK = (
    25  # then a new file system and a new portal: the first writes of all are part of it
)
SHORTEST, LONGEST = (
    0.05,
    7.0,
)  # seconds of writing before a cut; ext4 commits its journal by itself every 5
UPLOADING, CHANGING, REGISTERING = 3, 4, 1  # clients
FAULTS = ("flush", "files")


class Ledger(kill.Ledger):
    """What the portal has acknowledged, and answers that it should not have given."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: dict[str, int] = {}  # package id: the newest number written into its summary
        self.changed = 0  # how many changes that were
        self.faults: list[str] = []

    def copy(self) -> "Ledger":
        """As it is at this instant."""
        other = Ledger()
        with self.lock:
            other.accounts, other.versions = set(self.accounts), dict(self.versions)
            other.changes, other.changed, other.faults = (
                dict(self.changes),
                self.changed,
                list(self.faults),
            )
        return other


@dataclass
class Developer:
    """A client's account and app, the same over many cuts."""

    package_id: str
    token: str = ""
    number: int = 0  # of the last version or change; never used twice


@dataclass
class Figures:
    """What a campaign has seen."""

    cuts: int = 0
    cuts_with_losses: int = 0
    accounts: int = 0
    versions: int = 0
    changes: int = 0
    logs_begun_anew: int = 0  # how often the WAL had been moved into the database and begun anew
    lost: Counter[str] = field(default_factory=Counter)
    starts: list[float] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


class Client(threading.Thread):
    """Does one thing again and again until the portal dies under it, or answers what it must not."""

    def __init__(
        self, work: "Work", developer: Developer, port: int, ledger: Ledger, key: SigningKey
    ) -> None:
        super().__init__(daemon=True)
        self.work, self.developer, self.port, self.ledger, self.key = (
            work,
            developer,
            port,
            ledger,
            key,
        )

    def run(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            while True:
                self.work(self)

    def ask(self, method: str, path: str, body: bytes | dict[str, Any]) -> Any:
        """The response, which must be a good one: what was acknowledged before is known, and nothing is refused. On a busy machine
        the checks of an account's versions are waited for, of which only some may be running."""
        sent = json.dumps(body).encode() if isinstance(body, dict) else body
        status, answer = call(self.port, method, "/v1" + path, sent, self.developer.token)
        while status == 409 and answer.get("quota") == "checking_versions":
            time.sleep(0.1)
            status, answer = call(self.port, method, "/v1" + path, sent, self.developer.token)
        if status not in (200, 201):
            with self.ledger.lock:
                self.ledger.faults.append(
                    f"answer {status} to {method} {path}: {answer.get('code')}"
                )
            raise ConnectionError
        return answer


Work = Callable[[Client], None]


def register(client: Client) -> None:
    """One more account."""
    developer = client.developer
    developer.number, developer.token = developer.number + 1, ""
    email = f"{developer.package_id}.{developer.number}@example.net"
    answer = client.ask(
        "POST", "/auth/register", {"email": email, "password": "three random words", "name": "Cut"}
    )
    developer.token = answer["access_token"]
    with client.ledger.lock:
        client.ledger.accounts.add(email)


def begin(client: Client) -> None:
    """An account with a key and an app."""
    register(client)
    client.ask("POST", "/signing-keys", {"name": "k", "public_key": client.key.public_base64})
    client.ask("POST", "/apps", {"package_id": client.developer.package_id, "name": "Cut"})


def upload(client: Client) -> None:
    """One more version."""
    developer = client.developer
    developer.number += 1
    filling = {"assets/filling.txt": random.randbytes(random.choice((1000, 30_000, 300_000)))}
    package = build_package(
        developer.package_id,
        f"1.0.{developer.number}",
        developer.number,
        key=client.key,
        files=filling,
    )
    answer = client.ask("POST", f"/apps/{developer.package_id}/versions", package)
    with client.ledger.lock:
        client.ledger.versions[answer["id"]] = hashlib.sha256(package).hexdigest()


def change(client: Client) -> None:
    """A greater number in the app's summary."""
    developer = client.developer
    developer.number += 1
    client.ask("PATCH", f"/apps/{developer.package_id}", {"summary": str(developer.number)})
    with client.ledger.lock:
        client.ledger.changes[developer.package_id] = developer.number
        client.ledger.changed += 1


class PlantedPortal(Running):
    """The portal, started by this module, which switches something off in its process."""

    def __init__(self, folder: Path, fault: str) -> None:
        super().__init__(folder)
        if fault:
            self.command = [sys.executable, "-m", "bench.power_cut", "--serve-without", fault]
            self.environment["PYTHONPATH"] = str(portal.HERE)


def serve_without(fault: str) -> int:
    """Serve with this fault planted."""
    from mosis.database import Database

    wanted = os.fsync

    def fsync(handle: int) -> None:
        if not os.readlink(f"/proc/self/fd/{handle}").startswith(os.environ["PACKAGES_DIR"]):
            wanted(handle)

    if fault == "flush":
        Database.flush = lambda self, number: None  # type: ignore[method-assign]
    else:
        os.fsync = fsync  # type: ignore[assignment]
    return portal.main(["serve"])


def wal_number(database: Path) -> int:
    """How often this WAL was begun anew (https://sqlite.org/fileformat2.html#the_write_ahead_log, offset 12)."""
    with contextlib.suppress(FileNotFoundError), open(f"{database}-wal", "rb") as file:
        head = file.read(16)
        return int(struct.unpack(">I", head[12:])[0]) if len(head) == 16 else 0
    return 0


def missing(server: Running, ledger: Ledger) -> Iterator[str]:
    """Everything that is not as it was promised, in sentences that begin with its kind."""
    yield from kill.missing(server, ledger)
    db = sqlite3.connect(f"file:{server.environment['DATABASE_PATH']}?mode=ro", uri=True)
    with contextlib.closing(db):
        stored = dict(db.execute("SELECT package_id, summary FROM apps"))
    for package_id, number in ledger.changes.items():
        if int(stored.get(package_id) or 0) < number:
            yield f"change {number} of {package_id}: {stored.get(package_id)!r} is there"


class Campaign:
    """Cuts on one kind of file system until the time is over."""

    def __init__(self, outside: Path, kind: str, plant: str) -> None:
        self.outside, self.kind, self.plant = outside, kind, plant
        self.key = signing_key()
        self.figures = Figures()

    def run(self, deadline: float, cuts: int) -> Figures:
        """Disk after disk until the deadline (monotonic seconds) or so many cuts; with a loss a disk is done for."""
        while time.monotonic() < deadline and self.figures.cuts < cuts:
            disk = Disk(self.outside, self.kind)
            try:
                self.one_disk(disk, deadline, min(CUTS_PER_DISK, cuts - self.figures.cuts))
            finally:
                disk.remove()
        return self.figures

    def one_disk(self, disk: Disk, deadline: float, cuts: int) -> None:
        """Cut after cut, each time going on with what the cut has left."""
        server, ledger, wal = PlantedPortal(disk.place, self.plant), Ledger(), 0
        try:
            server.start()
            clients = self.beginners(server.port, ledger)
            for _ in range(cuts):
                ledger = self.write_until_cut(disk, server, clients, ledger)
                disk.restore()
                self.figures.cuts += 1
                was, wal = wal, wal_number(Path(server.environment["DATABASE_PATH"]))
                self.figures.logs_begun_anew += max(0, wal - was)
                if self.look(server, ledger) or time.monotonic() > deadline:
                    break
            self.figures.accounts += len(ledger.accounts)
            self.figures.versions += len(ledger.versions)
            self.figures.changes += ledger.changed
        finally:
            if server.process is not None:
                server.kill()

    def beginners(self, port: int, ledger: Ledger) -> list[tuple[Work, Developer]]:
        """The clients of one disk: accounts with an app each."""
        found = []
        for number, work in enumerate(
            [upload] * UPLOADING + [change] * CHANGING + [register] * REGISTERING
        ):
            client = Client(work, Developer(f"cut.c{number}"), port, ledger, self.key)
            begin(client)
            found.append((work, client.developer))
        return found

    def write_until_cut(
        self, disk: Disk, server: Running, clients: list[tuple[Work, Developer]], ledger: Ledger
    ) -> Ledger:
        """Let everybody write, cut, kill the portal; the ledger as it was when the cut began."""
        threads = [
            Client(work, developer, server.port, ledger, self.key) for work, developer in clients
        ]
        for thread in threads:
            thread.start()
        time.sleep(LONGEST * (SHORTEST / LONGEST) ** random.random())
        promised = ledger.copy()
        disk.cut()
        server.kill()
        for thread in threads:
            thread.join(15)
        return promised

    def look(self, server: Running, ledger: Ledger) -> bool:
        """Start the portal on what is left; whether something is missing."""
        try:
            self.figures.starts.append(server.start())
            found = ledger.faults + list(missing(server, ledger))
        except RuntimeError as error:
            found = [f"start: {error}"]
        self.figures.lost.update(each.split()[0].rstrip(":") for each in found)
        self.figures.examples.extend(found[:5])
        self.figures.cuts_with_losses += bool(found)
        return bool(found)


def campaign(folder: Path, kind: str, minutes: float, cuts: int, plant: str = "") -> dict[str, Any]:
    """Run it; the figures."""
    with sharing_disk(folder) as outside:
        seen = Campaign(outside, kind, plant).run(time.monotonic() + 60 * minutes, cuts)
    return {
        "inside": kind,
        "planted": plant,
        "cuts": seen.cuts,
        "acknowledged_accounts": seen.accounts,
        "acknowledged_versions": seen.versions,
        "acknowledged_changes": seen.changes,
        "wal_begun_anew": seen.logs_begun_anew,
        "cuts_with_losses": seen.cuts_with_losses,
        "lost": dict(seen.lost),
        "examples": seen.examples[:10],
        "slowest_start_seconds": round(max(seen.starts, default=0), 3),
    }


def in_own_namespaces() -> None:
    """Start again where mounts and processes end with this one."""
    command = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        sys.executable,
        "-m",
        "bench.power_cut",
    ]
    os.execvp("unshare", [*command, "--alone", *sys.argv[1:]])


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, default=15)
    options.add_argument("--cuts", type=int, default=1_000_000, help="at most so many")
    options.add_argument(
        "--inside", choices=("ext4", "btrfs"), default="ext4", help="what the portal's data lie on"
    )
    options.add_argument(
        "--folder",
        help="for the image of up to 16 GiB, sparse; otherwise the folder for temporary files",
    )
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument(
        "--plant",
        choices=FAULTS,
        default="",
        help="switch this off in the portal: the campaign must find losses",
    )
    options.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--serve-without", choices=FAULTS, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve_without:
        return serve_without(given.serve_without)
    if os.geteuid() != 0:
        raise SystemExit("only root can mount images")
    if not given.alone:
        in_own_namespaces()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    print(f"seed {given.seed}", flush=True)
    random.seed(given.seed)
    with tempfile.TemporaryDirectory(prefix="power-cut-", dir=given.folder) as folder:
        figures = campaign(Path(folder), given.inside, given.minutes, given.cuts, given.plant)
    print(json.dumps(figures, indent=1))
    if given.plant and not figures["cuts_with_losses"]:
        print("The planted fault was not found: the campaign is broken.", file=sys.stderr)
    return int(bool(figures["cuts_with_losses"]) != bool(given.plant))


if __name__ == "__main__":
    sys.exit(main())
