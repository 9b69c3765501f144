"""A flame graph of the server under a mixed load, by py-spy: profile.svg.

python -m bench.profile [SECONDS]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from bench import compare
from bench.peers import dataset


def main() -> None:
    """Load it and watch."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        system = compare.ours(folder / "ours", dataset.Catalogue(1000, 10_000))
        with compare.started([system]):
            file = compare.script(system, "mixed", dataset.package_ids(10_000), folder, "profile")
            spy = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("py-spy")),
                    "record",
                    "--gil",
                    "-d",
                    str(seconds),
                    "-o",
                    "profile.svg",
                    "--pid",
                    str(system.pids[0]),
                ]
            )
            print(compare.load(system, file, seconds + 1, compare.CONNECTIONS))
            spy.wait(60)


if __name__ == "__main__":
    main()
