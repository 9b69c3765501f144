"""Runs the portal under a mixed load for a while, and checks whether memory or descriptors grow.

    python -m bench.soak --minutes 60

Prints both every ten seconds, and at the end the slope over the second half, in MiB an hour.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from bench import compare
from bench.peers import dataset

EVERY_SECONDS = 10


def slope_per_hour(samples: list[tuple[float, float]]) -> float:
    """Least squares over (seconds, value)."""
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread * 3600 if spread else 0.0


def main() -> None:
    """Load, look, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--apps", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        system = compare.ours(folder / "ours", dataset.Catalogue(1000, given.apps))
        with compare.started([system]):
            begun, samples = time.monotonic(), []
            while time.monotonic() < begun + given.minutes * 60:
                file = compare.script(
                    system, "mixed", dataset.package_ids(given.apps), folder, f"r{len(samples)}"
                )
                subprocess.run(
                    [
                        "taskset",
                        "-c",
                        "1",
                        "wrk",
                        "-t1",
                        "-c64",
                        f"-d{EVERY_SECONDS}s",
                        "-s",
                        str(file),
                        system.url,
                    ],
                    capture_output=True,
                    check=True,
                    timeout=EVERY_SECONDS + 60,
                )
                if samples and len(samples) % 60 == 0:  # the token is good for 15 minutes
                    system.sign_in()
                memory, descriptors = (
                    system.pss_mib(),
                    len(list(Path(f"/proc/{system.pids[0]}/fd").iterdir())),
                )
                samples.append((time.monotonic() - begun, memory))
                print(
                    f"{samples[-1][0]:6.0f} s  {memory:6.1f} MiB PSS  {descriptors} descriptors",
                    flush=True,
                )
    half = samples[len(samples) // 2 :]
    print(f"slope over the second half: {slope_per_hour(half):.2f} MiB an hour")


if __name__ == "__main__":
    main()
