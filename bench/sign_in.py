"""Measures a burst of sign-ins, and whether response times disclose the existence of accounts.

    python -m bench.sign_in

Fifty sign-ins at once, with /healthz asked all the while; then 50 wrong passwords and 50 forgotten ones each for an account that
exists and one that does not, in turn: the ratio of their median times should be near 1.
"""

import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from bench.kill import call
from tests.client import PASSWORD
from tests.server import Running

BURST, TRIES = 50, 50
LOGIN = "/v1/auth/login"


def asked(port: int, path: str, body: dict[str, str]) -> tuple[int, float]:
    """The status and the seconds of one call."""
    begun = time.perf_counter()
    status, _ = call(port, "POST", path, json.dumps(body).encode())
    return status, time.perf_counter() - begun


def burst(port: int) -> None:
    """Fifty at once beside /healthz."""
    results: list[tuple[int, float]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(
                asked(port, LOGIN, {"email": "a@example.net", "password": PASSWORD})
            )
        )
        for _ in range(BURST)
    ]
    health = []
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        begun = time.perf_counter()
        call(port, "GET", "/healthz", b"")
        health.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.002)
    failed = sum(status != 200 for status, _ in results)
    longest = max(seconds for _, seconds in results)
    health.sort()
    print(
        f"{BURST} sign-ins at once: {failed} failed, the longest took {longest:.2f} s; /healthz meanwhile, {len(health)} times:"
        f" p50 {health[len(health) // 2]:.1f} ms, p95 {health[int(len(health) * 0.95)]:.1f} ms, longest {health[-1]:.1f} ms"
    )


def enumeration(port: int, path: str, body: dict[str, str], expected: int) -> None:
    """The ratio of medians, of the same question about a known and an unknown address."""
    times: dict[str, list[float]] = {"a@example.net": [], "nobody@example.net": []}
    for number in range(TRIES):
        for email, taken in sorted(times.items(), reverse=number % 2 == 0):
            status, seconds = asked(port, path, body | {"email": email})
            assert status == expected
            taken.append(seconds)
            time.sleep(0.02)  # for the job that follows, which is not what is measured
    known, unknown = (statistics.median(taken) * 1000 for taken in times.values())
    print(
        f"{path}, median of {TRIES}: account {known:.2f} ms, no account {unknown:.2f} ms, ratio {unknown / known:.3f}"
    )


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        portal = Running(Path(folder))
        portal.start()
        try:
            account = {"email": "a@example.net", "password": PASSWORD, "name": "A"}
            assert (
                call(portal.port, "POST", "/v1/auth/register", json.dumps(account).encode())[0]
                == 201
            )
            burst(portal.port)
            enumeration(portal.port, LOGIN, {"password": "not this one"}, 401)
            enumeration(portal.port, "/v1/auth/password/forgot", {}, 202)
        finally:
            portal.stop()


if __name__ == "__main__":
    main()
