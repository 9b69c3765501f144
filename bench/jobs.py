"""Measures the time to claim a job, with a short and a long queue.

    python -m bench.jobs --backlog 10000

Claims and finishes 1,000 jobs (WAL, synchronous=FULL) with 100 and then with so many jobs waiting, some of them in the future,
and measures from a commit to the start of its job in a running worker. A claim is a transaction, so it takes as long as the disk
takes to flush: `--folder /dev/shm` shows what is ours of it. With --plant the index is dropped: it must fail.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import portal
from mosis import jobs, worker
from mosis.clock import Clock
from mosis.config import Config
from mosis.context import Context, make_context
from mosis.database import migrate
from mosis.worker import Worker

CLAIMS = 1000


def fresh(folder: Path) -> Context:
    """The environment of an empty portal."""
    config = Config.read(
        {
            "DATABASE_PATH": str(folder / "portal.db"),
            "PACKAGES_DIR": str(folder / "packages"),
            "ASSETS_DIR": str(folder / "assets"),
            "DISK_RESERVE_BYTES": "0",
            "RATE_LIMITS": "off",
        }
    )
    migrate(config.database_path, portal.HERE / "schema.sql", portal.HERE / "migrations")
    return make_context(config, Clock())


def fill(env: Context, count: int) -> None:
    """Queue so many jobs, a third of them for later."""
    db = env.db.connection()
    for start in range(0, count, 1000):
        with db.write():
            for number in range(start, min(start + 1000, count)):
                jobs.add(
                    db,
                    "nothing",
                    after_seconds=3600 * (number % 3 == 0),
                    unique_key=f"n:{number}",
                    number=number,
                )


def claims(env: Context) -> dict[str, float]:
    """Milliseconds of a claim (its transaction, flushed to disk) while jobs are claimed and finished."""
    db, taken = env.db.connection(), []
    for _ in range(CLAIMS):
        begun = time.perf_counter()
        job = jobs.claim(db, "quick")
        taken.append((time.perf_counter() - begun) * 1000)
        assert job is not None
        jobs.finish(db, job)
        with db.write():  # the backlog stays as long as it was
            jobs.add(db, "nothing")
    taken.sort()
    return {f"p{share}_ms": round(taken[CLAIMS * share // 100 - 1], 3) for share in (50, 95, 99)}


def starts(env: Context, count: int = 200) -> dict[str, float]:
    """Milliseconds from the begin of the COMMIT that queues a job to its start in an idle worker."""
    db, taken, begun = env.db.connection(), [], 0.0
    worker.HANDLERS["bench"] = lambda env: taken.append((time.perf_counter() - begun) * 1000)
    running = Worker(env)
    running.start()
    time.sleep(0.5)
    for number in range(count):
        with db.write():
            jobs.add(db, "bench")
            begun = (
                time.perf_counter()
            )  # before COMMIT: the job can start before this thread goes on
        while len(taken) <= number:
            time.sleep(0.0005)
        time.sleep(0.005)
    running.stop()
    taken.sort()
    return {
        "p50_ms": round(taken[count // 2], 3),
        "p95_ms": round(taken[count * 95 // 100], 3),
        "longest_ms": round(taken[-1], 3),
    }


def measure(backlog: int, plant: bool = False, where: str | None = None) -> dict[str, Any]:
    """All figures. Raises AssertionError when a claim is slow or grows with the backlog."""
    worker.HANDLERS["nothing"] = lambda env, **_: None
    figures: dict[str, Any] = {}
    for count in (100, backlog):
        with tempfile.TemporaryDirectory(prefix="jobs-", dir=where) as folder:
            env = fresh(Path(folder))
            if plant:
                db = env.db.connection()
                with db.write():
                    db.change("DROP INDEX jobs_due")
            fill(env, count)
            figures[f"claim_with_{count}_waiting"] = claims(env)
            env.close()
    with tempfile.TemporaryDirectory(prefix="jobs-", dir=where) as folder:
        env = fresh(Path(folder))
        figures["commit_to_start"] = starts(env)
        env.close()
    few, many = (figures[f"claim_with_{count}_waiting"]["p50_ms"] for count in (100, backlog))
    assert many < 1.5 * few + 0.2, f"claims grow with the backlog: {figures}"
    return figures


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--backlog", type=int, default=10_000)
    options.add_argument(
        "--plant", action="store_true", help="drop the index of due jobs: the measurement must fail"
    )
    options.add_argument("--folder", help="folder of the database; by default a temporary folder")
    given = options.parse_args()
    json.dump(measure(given.backlog, given.plant, given.folder), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
