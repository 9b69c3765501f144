"""Finds what became slower: compares two results of bench/compare.py as ratios of the portal to a peer, which
cancels the speed of the machine out.

    python -m bench.check OLD.json NEW.json [--peer "Go, Chi"] [--tolerance 0.1]

Ends with 1 when the portal's ratio to the peer fell by more than the tolerance anywhere.
"""

import argparse
import json
import sys
from pathlib import Path

OURS = "mosis-portal"


def ratios(path: Path, peer: str) -> dict[str, float]:
    """{endpoint: requests a second of the portal for each one of the peer}."""
    rows = json.loads(path.read_text())
    return {
        title: row[OURS]["per_second"] / row[peer]["per_second"]
        for title, row in rows.items()
        if title != "run" and peer in row and row[peer]["per_second"]
    }


def main() -> int:
    """Print each endpoint's ratio, before and now."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--peer", default="Go, Chi")
    parser.add_argument("--tolerance", type=float, default=0.1)
    given = parser.parse_args()
    old, new = ratios(given.old, given.peer), ratios(given.new, given.peer)
    slower = [
        title for title in old if title in new and new[title] < old[title] * (1 - given.tolerance)
    ]
    for title in new:
        before = f"{old[title]:.2f}" if title in old else "-"
        print(f"{title}: {before} -> {new[title]:.2f}" + ("   SLOWER" if title in slower else ""))
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
