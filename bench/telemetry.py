"""Measures the cost of telemetry with ten million events on disk, and its effect on the store.

    python -m bench.telemetry --events 10000000

Two portals, one empty and one with so many events of the last 30 days, take batches of 20 over HTTP in turn: the rates must be
alike. Then an analytics answer for 30 days, the size of an event, and the store list alone and beside telemetry at full speed.
The filling writes the rows that the intake would write, a thousand batches to a transaction, and adds them up as the portal does.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import portal
from mosis.clock import text
from mosis.config import Config
from mosis.database import Connection
from mosis.telemetry import intake, rollups
from mosis.validation.strict_json import dump_json
from tests.client import PASSWORD
from tests.server import Running
from tests.test_telemetry_month import call

BATCH, DEVICES, APPS, ROUNDS, SECONDS = 20, 50_000, 10, 5, 4.0
HEAD = b"POST /v1/telemetry/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
SETTINGS = {"TELEMETRY_EVENTS_PER_APP": str(10**9), "LOG_LEVEL": "warning"}


def events(rng: random.Random, at: int) -> list[dict[str, Any]]:
    """A session's events, twenty of them."""
    frames = [
        {
            "type": "perf_frame",
            "timestamp": text(at + second),
            "data": {"frame_ms": round(rng.lognormvariate(2.6, 0.4), 2)},
        }
        for second in range(BATCH - 3)
    ]
    return [
        {"type": "app_start", "timestamp": text(at)},
        {
            "type": "perf_startup",
            "timestamp": text(at),
            "data": {"startup_ms": round(rng.lognormvariate(6, 0.4), 1)},
        },
        *frames,
        {"type": "app_stop", "timestamp": text(at + 60), "data": {"duration_seconds": 60}},
    ]


def batch(rng: random.Random, app: str, body: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "app_id": app, "app_version": "1.0.0", "mosis_version": "2.1.0", "device_id": f"{rng.randrange(DEVICES):064x}",
        "session_id": f"{rng.getrandbits(64):x}", "batch_id": f"{rng.getrandbits(96):x}", "events": body,
    }  # fmt: skip


def prepared(folder: Path) -> Running:
    """A portal with a catalogue, not running."""
    server = Running(folder, SETTINGS)
    config = Config.read(server.environment)
    with (
        contextlib.closing(portal.open_migrated(config)) as env,
        open(folder / "demo.txt", "w") as out,
        contextlib.redirect_stdout(out),
    ):
        from mosis.commands.demo.catalogue import fill as demo

        demo(env)
    return server


def app_names(server: Running) -> list[str]:
    with contextlib.closing(portal.open_migrated(Config.read(server.environment))) as env:
        return [
            row[0]
            for row in env.db.connection().all(
                "SELECT package_id FROM apps ORDER BY package_id LIMIT ?", APPS
            )
        ]


def fill(server: Running, wanted: int) -> dict[str, Any]:
    """Write so many events of the last 30 days and add them up."""
    apps, rng, done = app_names(server), random.Random(1), 0
    with contextlib.closing(portal.open_migrated(Config.read(server.environment))) as env:
        for (
            app
        ) in apps:  # one batch of each by the real way, so that all that belongs to an app is there
            intake.take(env, batch(rng, app, events(rng, int(time.time()) - 100)))
        db, adding, devices = (
            env.telemetry.connection(),
            0.0,
            [rng.randbytes(8) for _ in range(DEVICES)],
        )
        for day in range(30):
            received = (
                int(time.time()) - (29 - day) * 20_000
            )  # nothing is old enough to be forgotten
            items = []
            for _ in range(200):
                session = events(
                    rng, int(time.time()) - (30 - day) * 86_400 + rng.randrange(86_000)
                )
                items.append(
                    dump_json(intake.validate_events(session, False, received).rows).decode()
                )
            for _ in range(math.ceil(wanted / 30 / BATCH / 1000)):
                _write(db, rng, items, devices, received)
                done += 1000 * BATCH
            begun = time.perf_counter()
            rollups.catch_up(db)
            adding += time.perf_counter() - begun
    size = sum(path.stat().st_size for path in (server.folder / "data").glob("telemetry.db*"))
    rate = round(done / adding)
    return {
        "events": done,
        "added_up_events_a_second": rate,
        "bytes_an_event": round(size / done, 1),
        "size_bytes": size,
    }


def _write(
    db: Connection, rng: random.Random, items: list[str], devices: list[bytes], received: int
) -> None:
    """A thousand batches in a transaction, as the intake writes them."""
    sources = [row[0] for row in db.all("SELECT id FROM sources")]
    with db.write():
        for _ in range(1000):
            db.insert("seen", day=received // 86_400, key=rng.getrandbits(63))
            db.insert(
                "batches",
                source=rng.choice(sources),
                device=rng.choice(devices),
                session=rng.randbytes(8),
                received_at=received,
                events=rng.choice(items),
            )


def synchronous(server: Running) -> dict[str, Any]:
    """What synchronous=FULL costs beside NORMAL when eight threads share commits: batches a second, without HTTP, in turn."""
    apps, rng, rates = app_names(server), random.Random(2), {"FULL": [], "NORMAL": []}
    with contextlib.closing(portal.open_migrated(Config.read(server.environment))) as env:
        answer = events(rng, int(time.time()) - 3600)

        def some(mode: str, documents: list[dict[str, Any]]) -> None:
            env.telemetry.connection().all(f"PRAGMA synchronous = {mode}")
            for document in documents:
                intake.take(env, document)

        for _ in range(ROUNDS):
            for mode, found in rates.items():
                parts = [
                    [batch(rng, rng.choice(apps), answer) for _ in range(200)] for _ in range(8)
                ]
                threads = [threading.Thread(target=some, args=(mode, part)) for part in parts]
                begun = time.perf_counter()
                for each in threads:
                    each.start()
                for each in threads:
                    each.join()
                found.append(1600 / (time.perf_counter() - begun))
    return {mode: round(statistics.median(found)) for mode, found in rates.items()}


def answers(sock: socket.socket, head_and_body: bytes) -> int:
    """One request on an open connection; the status."""
    sock.sendall(head_and_body)
    received = b""
    while b"\r\n\r\n" not in received:
        received += sock.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(65536)
    return int(head[9:12])


def send_batches(port: int, apps: list[str], seconds: float, connections: int, taken: Any) -> None:
    """A process that sends batches as fast as they are answered; counts those that were taken."""
    os.nice(10)  # the devices of the world do not compute on the portal's machine
    rng = random.Random()
    output = json.dumps(events(rng, int(time.time()) - 3600))
    counts = [0] * connections

    def connection(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while time.monotonic() < until:
                whole = (
                    json.dumps(batch(rng, rng.choice(apps), []))
                    .replace('"events": []', f'"events": {output}')
                    .encode()
                )
                counts[number] += answers(sock, HEAD % len(whole) + whole) == 202

    until = time.monotonic() + seconds
    threads = [threading.Thread(target=connection, args=(number,)) for number in range(connections)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    taken.value = sum(counts)


@contextlib.contextmanager
def load(server: Running, apps: list[str], seconds: float, connections: int = 16) -> Iterator[Any]:
    """Telemetry at full speed while the block runs; `.value` holds the batches taken, once it is over."""
    taken = multiprocessing.Value("q", 0)
    process = multiprocessing.Process(
        target=send_batches, args=(server.port, apps, seconds, connections, taken)
    )
    process.start()
    try:
        yield taken
    finally:
        process.join(seconds + 30)


def rate(server: Running, apps: list[str]) -> float:
    """Batches a second over HTTP."""
    server.start()
    try:
        with load(server, apps, SECONDS) as taken:
            pass
        return taken.value / SECONDS
    finally:
        server.stop()


def store_list(server: Running, seconds: float) -> list[float]:
    """Milliseconds of each GET /store/apps, one after the other on one connection."""
    spent, until = [], time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < until:
            begun = time.perf_counter()
            assert answers(sock, b"GET /v1/store/apps HTTP/1.1\r\nHost: x\r\n\r\n") == 200
            spent.append((time.perf_counter() - begun) * 1000)
            time.sleep(0.005)
    return spent


def percentiles(spent: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(spent, n=100)
    return {
        "p50_ms": round(cuts[49], 2),
        "p95_ms": round(cuts[94], 2),
        "p99_ms": round(cuts[98], 2),
    }


def beside_telemetry(server: Running, apps: list[str]) -> dict[str, Any]:
    """The store list alone, and while telemetry comes at full speed."""
    quiet, loud, taken = [], [], 0
    server.start()
    try:
        store_list(server, 1)
        for _ in range(ROUNDS):
            quiet += store_list(server, SECONDS / 2)
            with load(server, apps, SECONDS) as count:
                time.sleep(0.5)
                loud += store_list(server, SECONDS - 1)
            taken += count.value
    finally:
        server.stop()
    return {
        "quiet": percentiles(quiet),
        "beside": percentiles(loud),
        "batches_a_second": round(taken / SECONDS / ROUNDS),
    }


def analytics(server: Running) -> dict[str, Any]:
    """Answers for 30 days of the fullest app."""
    with contextlib.closing(portal.open_migrated(Config.read(server.environment))) as env:
        app = app_names(server)[0]
        db = env.db.connection()
        email = db.value(
            "SELECT d.email FROM developers d JOIN apps a ON a.developer_id = d.id WHERE a.package_id = ?",
            app,
        )
        from mosis.credentials import passwords

        with db.write():
            db.change(
                "UPDATE developers SET password_hash = ? WHERE email = ?",
                passwords.make_hash(PASSWORD),
                email,
            )
    server.start()
    try:
        token = call(server.port, "POST", "/v1/auth/login", {"email": email, "password": PASSWORD})[
            1
        ]["access_token"]
        spent = []
        for _ in range(60):
            begun = time.perf_counter()
            status, found = call(server.port, "GET", f"/v1/apps/{app}/analytics", None, token)
            spent.append((time.perf_counter() - begun) * 1000)
            assert status == 200
        return percentiles(spent) | {
            "events": found["totals"]["events"],
            "unique_devices": found["totals"]["unique_devices"],
        }
    finally:
        server.stop()


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument(
        "--folder", type=Path, help="where the databases are made (a folder on a real disk)"
    )
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetry-", dir=given.folder) as name:
        folder = Path(name)
        for each in ("empty", "full"):
            (folder / each).mkdir()
        empty, full = prepared(folder / "empty"), prepared(folder / "full")
        apps = app_names(empty)
        print(json.dumps({"batches_a_second_by_synchronous": synchronous(empty)}), flush=True)
        print(json.dumps({"filling": fill(full, given.events)}, indent=1), flush=True)
        rates: dict[str, list[float]] = {"empty": [], "full": []}
        for _ in range(ROUNDS):
            rates["empty"].append(rate(empty, apps))
            rates["full"].append(rate(full, apps))
        medians = {each: round(statistics.median(found)) for each, found in rates.items()}
        medians["percent"] = round(100 * medians["full"] / medians["empty"])
        print(json.dumps({"batches_a_second_over_http": medians}), flush=True)
        print(json.dumps({"analytics_30_days": analytics(full)}), flush=True)
        print(json.dumps({"store_list": beside_telemetry(full, apps)}), flush=True)


if __name__ == "__main__":
    main()
