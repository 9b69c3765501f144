"""Runs a living portal for a while, and checks whether memory or descriptors grow.

    python -m bench.soak --minutes 60 [--rate 200]

Each second a version is published, 20 downloads are counted and five batches of telemetry arrive
(bench/living.py); each half minute a package is uploaded and an account signs in; and 16 clients
read the store, the updates and their apps `--rate` times a second. Printed each half minute: memory
(PSS, children included), what of it is anonymous, and descriptors; at the end how they grew over the
second half. Programs and libraries are in the PSS, but the system drops their pages and loads them
again as it likes, by several MiB: growth shows in anonymous memory.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import compare, load
from bench.living import LivingPortal
from bench.peers import dataset, systems

EVERY_SECONDS = 30
CLIENTS = 16


def slope_per_hour(samples: list[tuple[float, float]]) -> float:
    """Least squares over (seconds, value)."""
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread * 3600 if spread else 0.0


def read_for_a_while(system: systems.System, file: Path) -> None:
    """The clients of one period. Raises RuntimeError if wrk counts an error."""
    done = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{CLIENTS}", f"-d{EVERY_SECONDS}s",
         "--timeout", "20s", "-s", str(file), system.url],
        capture_output=True,
        text=True,
        timeout=EVERY_SECONDS + 60,
        check=True,
    )  # fmt: skip
    result = load.result_of(done.stdout)
    if result["status"] + result["socket"]:
        raise RuntimeError(f"the load had errors: {done.stdout}")


def main() -> int:
    """Load, look, and print. 1 if a request was not served."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--apps", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200, help="reads a second")
    given = parser.parse_args()
    publications = int(given.minutes * 60) + 60
    ids = dataset.package_ids(given.apps)
    memory: list[tuple[float, float]] = []
    anonymous: list[tuple[float, float]] = []
    descriptors: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalogue = dataset.Catalogue(1000, given.apps, publications)
        system = systems.ours(folder / "ours", catalogue)
        with compare.started([system]):
            print(f"idle: {system.idle_mib:.1f} MiB PSS", flush=True)
            packages = load.Packages([system], "net.upload.soak", 1)
            begun = time.monotonic()
            with LivingPortal(system, publications) as living:
                while time.monotonic() < begun + given.minutes * 60:
                    system.sign_in()
                    packages.upload(system, packages.next())
                    file = load.script(system, "mixed", ids, folder, f"r{len(memory)}")
                    with file.open("a") as text:
                        text.write(
                            f"function delay() return {CLIENTS * 1000 / given.rate:.0f} end\n"
                        )
                    read_for_a_while(system, file)
                    passed = time.monotonic() - begun
                    files = len(list(Path(f"/proc/{system.pids[0]}/fd").iterdir()))
                    memory.append((passed, system.pss_mib()))
                    anonymous.append((passed, system.anonymous_mib()))
                    descriptors.append((passed, float(files)))
                    print(
                        f"{passed:6.0f} s  {memory[-1][1]:6.1f} MiB PSS  {anonymous[-1][1]:6.1f} anonymous"
                        f"  {files} descriptors"
                        f"  {system.published} publications  {living.failures} failures",
                        flush=True,
                    )
    half = len(memory) // 2
    print(
        f"over the second half: {slope_per_hour(memory[half:]):+.2f} MiB,"
        f" {slope_per_hour(anonymous[half:]):+.2f} anonymous, and"
        f" {slope_per_hour(descriptors[half:]):+.1f} descriptors an hour; at the end"
        f" {memory[-1][1]:.1f} MiB PSS, at most {max(mib for _, mib in memory):.1f};"
        f" {living.failures} of {living.asked} requests of the living portal failed"
    )
    return 1 if living.failures else 0


if __name__ == "__main__":
    sys.exit(main())
