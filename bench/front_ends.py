"""Store front ends in figures: how late they are, how they take over new data, how many requests they
answer, and what they take of memory.

    python -m bench.front_ends --apps 10000
    python -m bench.front_ends --apps 10000 --bucket      with the replica in SeaweedFS

Everything runs on this machine, the clients too. What several machines would do cannot be measured
here: `alone` is computed from the processor time that one request takes in a front end, which shares
nothing with others but the replica.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from bench.footprint import memory_mib
from mosis.config import Config
from mosis.database import Database
from mosis.outbound.objects import open_bucket
from tests.catalogue import add_developer, add_listed
from tests.front_ends import FrontEndProcess, ask, primary_process
from tests.seaweed import SeaweedFS
from tests.server import Backed, Running, wait_until

TICKS = os.sysconf("SC_CLK_TCK")
PATHS = (
    "/v1/store/apps",
    "/v1/store/apps/bench.app00007",
    "/v1/store/updates?pkgs=bench.app00001:0,bench.app00002:1,bench.app00003:0",
)


def cpu_seconds(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def memory(front: FrontEndProcess) -> str:
    """What a front end and its Litestream take: PSS, and RSS, which counts shared pages in full."""
    found = []
    for pid in (front.pid, front.follower):
        pss, rss = (int(memory_mib(pid, "smaps_rollup", name)) for name in ("Pss", "Rss"))
        found.append(f"{pss} MiB PSS ({rss} RSS)")
    return " and its Litestream ".join(found)


def fill(primary: Backed, apps: int) -> None:
    """Apps of a hundred developers, as rows."""
    primary.start()
    primary.stop()
    database = Database(Config.read(primary.environment).database_path)
    db = database.connection()
    with db.write():
        developers = [add_developer(db, f"Developer {number}") for number in range(100)]
        for number in range(apps):
            name = f"App number {number}"
            add_listed(db, developers[number % 100], f"bench.app{number:05}", name)
    database.close()


def change(path: Path, name: str) -> float:
    """Rename a developer in the primary's database; when it was committed."""
    database = Database(path)
    database.checkpoints = False
    with database.connection().write() as db:
        db.change("UPDATE developers SET name = ? WHERE name LIKE 'Developer 7%'", name)
    at = time.perf_counter()
    for connection in database._open:
        connection.close()
    return at


def shown(port: int) -> str:
    status, _, body = ask(port, "/v1/store/apps/bench.app00007")
    return str(json.loads(body)["developer"]["name"]) if status == 200 else ""


def lags(primary: Backed, front: Running, times: int) -> list[float]:
    """Seconds from a commit until the front end shows it."""
    found = []
    for number in range(times):
        name = f"Developer 7 {front.port} {number}"
        begun = change(primary.data / "portal.db", name)
        wait_until(lambda name=name: shown(front.port) == name, "it is shown")
        found.append(time.perf_counter() - begun)
        time.sleep(0.37 * (number % 7))
    return found


def summary(values: list[float]) -> str:
    ordered = sorted(values)
    at = [statistics.median(ordered), ordered[int(len(ordered) * 0.95)], ordered[-1]]
    return "median {:.2f} s, p95 {:.2f} s, longest {:.2f} s".format(*at)


def load(ports: list[int], seconds: float) -> tuple[int, float]:
    """Requests answered by these servers together in this time, by eight connections each, and the
    seconds that it took."""
    requests = [
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n".encode()
        for path in PATHS
    ]
    done, until = [0] * (8 * len(ports)), time.monotonic() + seconds

    def client(place: int, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            number = place
            while time.monotonic() < until:
                connection.sendall(requests[number % len(requests)])
                read_response(connection)
                done[place] += 1
                number += 1

    begun = time.monotonic()
    threads = [
        threading.Thread(target=client, args=(place, ports[place % len(ports)]))
        for place in range(len(done))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done), time.monotonic() - begun


def read_response(connection: socket.socket) -> None:
    received = connection.recv(65_536)
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b" 200 " in head[:16], head
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)


def throughput(fronts: list[FrontEndProcess], seconds: float) -> None:
    """Requests a second of one, two and three front ends on this machine, and of each alone."""
    for count in range(1, len(fronts) + 1):
        some = fronts[:count]
        load([front.port for front in some], 1)
        before = sum(cpu_seconds(front.pid) for front in some)
        requests, took = load([front.port for front in some], seconds)
        spent = sum(cpu_seconds(front.pid) for front in some) - before
        print(
            f"{count} front end(s): {requests / took:.0f} requests a second on this machine with its"
            f" clients; {1000 * spent / requests:.3f} ms of processor time each, that is"
            f" {requests / spent * count:.0f} a second on {count} machine(s) with one core (simulated)"
        )


def main(arguments: list[str] | None = None) -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--apps", type=int, default=10_000)
    given.add_argument("--times", type=int, default=30)
    given.add_argument("--seconds", type=float, default=10)
    given.add_argument("--bucket", action="store_true")
    options = given.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="front-ends-") as name, contextlib.ExitStack() as stack:
        folder, more = Path(name), dict[str, str]()
        if options.bucket:
            store = SeaweedFS(folder / "weed")
            stack.callback(store.kill)
            store.start()
            open_bucket(store.url("mosis"), store.environment).put("made", b"")
            more = dict(store.environment) | {"BACKUP_URL": store.url("mosis", "replica")}
        run(folder, options, more, stack)
    return 0


def run(
    folder: Path, options: argparse.Namespace, more: Mapping[str, str], stack: contextlib.ExitStack
) -> None:
    primary = primary_process(folder / "primary")
    primary.environment |= more
    fill(primary, options.apps)
    stack.callback(primary.kill)
    primary.start()
    primary.wait_for(lambda ready: ready["status"] == "ready")
    size = (primary.data / "portal.db").stat().st_size
    where = "SeaweedFS" if options.bucket else "a folder"
    print(f"{options.apps} apps, {size / 1e6:.0f} MB of database, the replica in {where}")
    fronts = []
    for number in range(3):
        front = FrontEndProcess(folder / f"front-{number}", primary, primary.backups, **more)
        front.environment["FOLLOW_SECONDS"] = ("1", "2", "1")[number]
        begun = time.perf_counter()
        stack.callback(lambda front=front: front.process is not None and front.kill())
        front.start()
        wait_until(lambda front=front: shown(front.port), "it has data")
        print(
            f"front end {number}: first response {time.perf_counter() - begun:.2f} s after its start"
        )
        fronts.append(front)
    wait_until(lambda: ask(fronts[0].port, "/v1/store/index.json.sig")[0] == 200, "the index")
    for number in (0, 1):
        looks = fronts[number].environment["FOLLOW_SECONDS"]
        found = lags(primary, fronts[number], options.times)
        print(f"FOLLOW_SECONDS={looks}: from a commit until it is shown {summary(found)}")
    print(f"memory before the load: {memory(fronts[0])}")
    throughput(fronts, options.seconds)
    print(f"memory after the load: {memory(fronts[0])}")
    fronts[0].kill()
    begun = time.perf_counter()
    fronts[0].start()
    wait_until(lambda: shown(fronts[0].port), "it has data")
    print(f"killed and started again, first response {time.perf_counter() - begun:.2f} s later")
    primary.kill()
    begun = time.perf_counter()
    primary.start()
    name = "Developer 7 after the kill"
    change(primary.data / "portal.db", name)
    wait_until(lambda: shown(fronts[0].port) == name, "it is shown", 120)
    print(
        f"primary killed: a change right after its start is shown {time.perf_counter() - begun:.2f} s later"
    )


if __name__ == "__main__":
    sys.exit(main())
