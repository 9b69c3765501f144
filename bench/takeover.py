"""What a lost machine costs: the restore of an empty one from a bucket, and how long nobody writes when a
second portal takes over. `python -m bench.takeover --megabytes 200 --cycles 5`

A real SeaweedFS, two real portals and their Litestreams, all on loopback of one machine: a bucket far
away adds its bandwidth. The database is filled with random bytes, which do not compress. Beside it a
client writes all the time; what was acknowledged and is not in the database of the successor is lost.
"""

import argparse
import contextlib
import os
import signal
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mosis.litestream.replication import ask
from mosis.outbound.objects import open_bucket
from tests.seaweed import SeaweedFS
from tests.server import Backed, is_alive, names_in, wait_until

LONGEST_SECONDS = 600.0
PIECE = 100_000


class Writer(threading.Thread):
    """A client that registers accounts, one after the other: `acknowledged` has when, and the name."""

    def __init__(self, portal: Backed, prefix: str) -> None:
        super().__init__(daemon=True)
        self.portal, self.prefix = portal, prefix
        self.acknowledged: list[tuple[float, str]] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            name = f"{self.prefix}n{number}"
            account = {
                "email": f"{name}@example.net",
                "password": "three random words",
                "name": name,
            }
            with contextlib.suppress(OSError, ValueError):
                if self.portal.ask("/v1/auth/register", account)[0] == 201:
                    self.acknowledged.append((time.monotonic(), name))


def fill(database: Path, megabytes: int) -> None:
    """Make a database of this size larger, while no portal runs."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE filling (content BLOB)")
        for _ in range(megabytes * 1_000_000 // PIECE):
            db.execute("INSERT INTO filling VALUES (?)", (os.urandom(PIECE),))
        db.commit()


@contextlib.contextmanager
def ended_at_last(*portals: Backed) -> Iterator[None]:
    """No portal outlives the measurement, whatever fails."""
    try:
        yield
    finally:
        for each in portals:
            if each.process is not None and each.process.poll() is None:
                each.kill()


def settle(portal: Backed) -> None:
    """Wait until everything is in the replica, which may be a whole copy first."""
    database, folder = str(portal.data / "portal.db"), portal.data
    while True:
        with contextlib.suppress(OSError, ValueError):
            answer = ask(folder, "/sync", {"path": database, "wait": True, "timeout": 60}, 65)
            if answer.get("txid") and answer.get("txid") == answer.get("replicated_txid"):
                return
        time.sleep(0.2)


def waiting(portal: Backed) -> threading.Thread:
    """Start a portal, and return when it waits for the lease; the thread ends when it serves."""
    before = waits(portal)
    thread = threading.Thread(target=portal.start, args=(LONGEST_SECONDS,), daemon=True)
    thread.start()
    wait_until(lambda: waits(portal) > before, "it waits")
    return thread


def ended(pid: int) -> bool:
    return not is_alive(pid)


def waits(portal: Backed) -> int:
    text = portal.log.read_text() if portal.log.exists() else ""
    return text.count("portal: waiting for the lease")


def empty_machine(folder: Path, settings: dict[str, str], megabytes: int) -> None:
    """How long a start on an empty machine takes."""
    portal = Backed(folder, settings)
    with ended_at_last(portal):
        portal.start()
        assert portal.stop() == 0
        fill(portal.data / "portal.db", megabytes)
        portal.start()
        settle(portal)
        portal.register("alice")
        settle(portal)
        portal.lose_everything()
        took = portal.start(LONGEST_SECONDS)
        size = (portal.data / "portal.db").stat().st_size
        assert portal.names == ["alice"]
        assert portal.stop() == 0
        print(
            f"empty machine: {size / 1e6:.0f} MB restored, first answer after {took:.1f} s",
            flush=True,
        )


def takeovers(
    folder: Path, settings: dict[str, str], megabytes: int, cycles: int, *, clean: bool
) -> None:
    """End the portal that writes, again and again; the other one takes over."""
    portals = [Backed(folder / name, settings) for name in ("one", "two")]
    for each in portals:
        each.folder.mkdir(parents=True)
    with ended_at_last(*portals):
        _alternate(portals, settings, megabytes, cycles, clean=clean)


def _alternate(
    portals: list[Backed], settings: dict[str, str], megabytes: int, cycles: int, *, clean: bool
) -> None:
    first, second = portals
    first.start()
    assert first.stop() == 0
    fill(first.data / "portal.db", megabytes)
    first.start()
    gaps, ages, lost, total = [], [], 0, 0
    for cycle in range(cycles):
        settle(first)
        thread = waiting(second)
        writer = Writer(first, f"c{cycle}")
        writer.start()
        time.sleep(5 + cycle % 3)  # so that kills meet other moments of the lease
        litestream = first.litestream
        killed = time.monotonic()
        first.stop() if clean else first.kill()
        writer.stopping.set()
        thread.join(LONGEST_SECONDS)
        gaps.append(time.monotonic() - killed)
        wait_until(partial(ended, litestream))
        there = set(names_in(second.data / "portal.db"))
        missing = [at for at, name in writer.acknowledged if name not in there]
        total, lost = total + len(writer.acknowledged), lost + len(missing)
        ages.append(killed - min(missing) if missing else 0.0)
        first, second = second, first
    assert first.stop() == 0
    print(
        f"takeover after {'SIGTERM' if clean else 'SIGKILL'}, {megabytes} MB, LEASE_SECONDS={settings['LEASE_SECONDS']}: until the first"
        f" answer median {statistics.median(gaps):.1f} s, longest of {cycles} {max(gaps):.1f} s; {total} writes"
        f" acknowledged, {lost} lost, the oldest {max(ages):.2f} s before the kill",
        flush=True,
    )


def main() -> None:
    """Measure, and print a line for each figure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=200)
    options.add_argument("--cycles", type=int, default=5)
    options.add_argument("--lease-seconds", type=int, default=20)
    options.add_argument("--clean", action="store_true", help="end it with SIGTERM")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(1)))
    with tempfile.TemporaryDirectory(prefix="takeover-") as name:
        folder = Path(name)
        seaweed = SeaweedFS(folder / "seaweed", "-volume.max=100")
        os.environ |= seaweed.environment
        try:
            seaweed.start()
            open_bucket(seaweed.url("bench")).put("made", b"")
            alone = {
                "BACKUP_URL": seaweed.url("bench", "alone"),
                "BACKUP_KEY": "a passphrase of a benchmark",
            }
            (folder / "alone").mkdir()
            empty_machine(folder / "alone", alone, given.megabytes)
            pair = alone | {
                "BACKUP_URL": seaweed.url("bench", "pair"),
                "LEASE_SECONDS": str(given.lease_seconds),
            }
            takeovers(folder / "pair", pair, given.megabytes, given.cycles, clean=given.clean)
        finally:
            seaweed.remove()


if __name__ == "__main__":
    main()
