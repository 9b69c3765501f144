"""What synchronous=FULL costs: transactions a second beside NORMAL, side by side, on the file system of FOLDER.

    python -m bench.durability [FOLDER]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import portal
from mosis.db import Connection, Database, migrate, new_id

ROUNDS, COMMITS = 7, 500


def commits_a_second(db: Connection) -> float:
    """Insert COMMITS accounts, each in a transaction of its own."""
    begun = time.perf_counter()
    for _ in range(COMMITS):
        with db.write():
            each = new_id()
            db.insert("developers", id=each, email=each + "@example.net", name="x", created_at=db.now)
    return COMMITS / (time.perf_counter() - begun)


def main() -> None:
    """Alternate the two and print the medians and their ratio."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        path = Path(folder) / "portal.db"
        migrate(path, portal.HERE / "schema.sql", portal.HERE / "migrations")
        database = Database(path)
        db = database.connection()
        figures: dict[str, list[float]] = {"FULL": [], "NORMAL": []}
        for _ in range(ROUNDS):
            for mode, rates in figures.items():
                db.change(f"PRAGMA synchronous = {mode}")
                rates.append(commits_a_second(db))
        database.close()
    medians = {mode: statistics.median(rates) for mode, rates in figures.items()}
    print(", ".join(f"{mode} {rate:,.0f} commits/s" for mode, rate in medians.items()),
          f"ratio {medians['FULL'] / medians['NORMAL']:.2f}")


if __name__ == "__main__":
    main()
