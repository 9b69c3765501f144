"""Measures the cost of durable commits: commits per second of several modes, on the file system of FOLDER.

    python -m bench.durability [FOLDER]

"each" waits for the disk in every commit (synchronous=FULL), "shared" is what the portal does (one flush of the WAL for all who
have committed by then), "none" does not wait (synchronous=NORMAL): a power cut loses acknowledged changes with it.
"""

import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import portal
from mosis.database import Database, migrate, new_id

ROUNDS, COMMITS = 5, 800
MODES = ("each", "shared", "none")


@contextlib.contextmanager
def waiting(database: Database, mode: str) -> Iterator[None]:
    """The database with another way of waiting for the disk."""
    if mode != "shared":
        database.flush = lambda number: None  # type: ignore[method-assign]
    yield
    vars(database).pop("flush", None)


def commits_a_second(database: Database, mode: str, threads: int) -> float:
    """Insert COMMITS accounts, each in a transaction of its own."""

    def work() -> None:
        db = database.connection()
        db.change(f"PRAGMA synchronous = {'FULL' if mode == 'each' else 'NORMAL'}")
        for _ in range(COMMITS // threads):
            with db.write():
                each = new_id()
                db.insert(
                    "developers", id=each, email=each + "@example.net", name="x", created_at=db.now
                )

    with waiting(database, mode):
        workers = [threading.Thread(target=work) for _ in range(threads)]
        begun = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return COMMITS / (time.perf_counter() - begun)


def main() -> None:
    """Alternate the modes and print the medians."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        path = Path(folder) / "portal.db"
        migrate(path, portal.HERE / "schema.sql", portal.HERE / "migrations")
        database = Database(path)
        for threads in (1, 8):
            rates: dict[str, list[float]] = {mode: [] for mode in MODES}
            for _ in range(ROUNDS):
                for mode in MODES:
                    rates[mode].append(commits_a_second(database, mode, threads))
            shown = ", ".join(
                f"{mode} {statistics.median(each):,.0f}" for mode, each in rates.items()
            )
            print(f"{threads} threads, commits a second: {shown}")
        database.close()


if __name__ == "__main__":
    main()
