"""Measures start-up time, idle memory, and the memory that a large upload adds.

python -m bench.footprint
"""

import compileall
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.kill import call
from portal import HERE
from tests.client import PASSWORD
from tests.package_builder import build_package, signing_key
from tests.server import Running

MIB = 1024 * 1024
STARTS = 21
REST_SECONDS = 60
REFERENCE = "import bottle, waitress, sqlite3, ssl"


def memory_mib(pid: int, file: str, name: str) -> float:
    """A figure of /proc/PID/FILE."""
    found = re.search(
        rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1]) / 1024


def processor_ms(pid: int) -> float:
    """What the threads of a running process have used so far (/proc/PID/task/TID/schedstat)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e6


def reference() -> tuple[float, float]:
    """Milliseconds that the imports of the reference take: until it ends, and of the processor."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", REFERENCE])
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0
    return (time.perf_counter() - begun) * 1000, (used.ru_utime + used.ru_stime) * 1000


def starts(portal: Running) -> None:
    """The time until the first answer beside that of the reference, in turn; median and best."""
    compileall.compile_dir(HERE / "mosis", quiet=1)  # an image has compiled modules, too
    ours, theirs = [], []
    for _ in range(STARTS):
        until_answer = portal.start() * 1000
        ours.append((until_answer, processor_ms(portal.pid)))
        portal.stop()
        theirs.append(reference())
    for name, own, other in zip(
        ("time", "processor"), zip(*ours, strict=True), zip(*theirs, strict=True), strict=True
    ):
        median, best = statistics.median(own), min(own)
        print(
            f"start to the first 200, {name}: median {median:.0f} ms, best {best:.0f} ms;"
            f" {median / statistics.median(other):.2f} and {best / min(other):.2f} times `{REFERENCE}`"
        )


def upload(portal: Running) -> None:
    """A small package first, so that every import is done; then 49 MiB in five files, and what it did to the peak."""

    def posted(path: str, document: dict[str, str], token: str = "") -> dict[str, str]:
        status, answer = call(portal.port, "POST", path, json.dumps(document).encode(), token)
        assert status == 201, answer
        return dict(answer)

    key = signing_key()
    token = posted(
        "/v1/auth/register", {"email": "a@example.net", "password": PASSWORD, "name": "A"}
    )["access_token"]
    posted("/v1/signing-keys", {"name": "laptop", "public_key": key.public_base64}, token)
    posted("/v1/apps", {"package_id": "com.acme.big", "name": "Big"}, token)
    stored = {f"assets/{number}.ogg": os.urandom(9 * MIB + 900_000) for number in range(5)}
    small = build_package("com.acme.big", "0.9.0", 1, key=key)
    large = build_package("com.acme.big", "1.0.0", 2, key=key, files=stored)
    path = "/v1/apps/com.acme.big/versions"
    assert call(portal.port, "POST", path, small, token)[0] == 201
    time.sleep(1)
    Path(f"/proc/{portal.pid}/clear_refs").write_text("5")  # the peak starts anew
    before, begun = memory_mib(portal.pid, "status", "VmHWM"), time.perf_counter()
    status, answer = call(portal.port, "POST", path, large, token)
    assert status == 201, answer
    took, after = time.perf_counter() - begun, memory_mib(portal.pid, "status", "VmHWM")
    print(
        f"upload of {len(large) / MIB:.1f} MiB: {took:.2f} s, peak memory {before:.1f} -> {after:.1f} MiB"
    )


def at_rest(portal: Running) -> None:
    """How much of a core it takes, and how often it wakes, while nobody asks for anything."""

    def taken() -> tuple[float, int]:
        fields = Path(f"/proc/{portal.pid}/stat").read_text().rpartition(") ")[2].split()
        threads = Path(f"/proc/{portal.pid}/task").iterdir()
        wakes = sum(
            int(
                re.search(
                    r"^voluntary_ctxt_switches:\s+(\d+)",
                    (each / "status").read_text(),
                    re.MULTILINE,
                )[1]
            )  # type: ignore[index]
            for each in threads
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), wakes

    time.sleep(5)
    (cpu, wakes), begun = taken(), time.monotonic()
    time.sleep(REST_SECONDS)
    (cpu_after, wakes_after), seconds = taken(), time.monotonic() - begun
    print(
        f"at rest: {(cpu_after - cpu) / seconds * 100:.2f} % of a core, {(wakes_after - wakes) / seconds:.1f} wakes a second"
    )


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        portal = Running(Path(folder))
        starts(portal)
        portal.start()
        time.sleep(2)
        print(f"idle: {memory_mib(portal.pid, 'smaps_rollup', 'Pss'):.1f} MiB PSS")
        try:
            at_rest(portal)
            upload(portal)
            print(
                f"busy, after that upload: {memory_mib(portal.pid, 'smaps_rollup', 'Pss'):.1f} MiB PSS"
            )
        finally:
            portal.stop()


if __name__ == "__main__":
    main()
