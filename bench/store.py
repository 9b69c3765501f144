"""How long lists, searches and update checks take with 10,000 and with 100,000 apps, what slow readers cost everybody else, and how
much memory a GiB of parallel downloads takes. Prints figures: `python -m bench.store`, `--apps 10000` for less."""

import argparse
import contextlib
import hashlib
import http.client
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import portal
from mosis.config import Config
from mosis.context import Context, make_context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.store import listings, signed_index
from mosis.store import search as store_search
from mosis.store import updates as store_updates
from mosis.store.search import Query
from mosis.store.updates import Device
from tests.catalogue import add_app, add_developer, add_version
from tests.server import running

MIB = 1 << 20
CATEGORIES = ("productivity", "tools", "games", "media", "travel", "reading")
DAY = "2027-01-{:02}T00:00:00Z"


def opened(folder: Path) -> Context:
    """A fresh portal without a server."""
    config = Config.read({
        "DATABASE_PATH": str(folder / "data/portal.db"), "PACKAGES_DIR": str(folder / "packages"),
        "ASSETS_DIR": str(folder / "assets"), "DISK_RESERVE_BYTES": "0",
    })  # fmt: skip
    portal.migrate_databases(config)
    return make_context(config)


def fill(env: Context, apps: int, rng: random.Random) -> list[str]:
    """So many apps with one to three versions; the words of their texts, the commonest first (as Zipf found them)."""
    letters = "abcdefghijklmnoprstuvwz"
    words = [
        "the",
        "app",
        *("".join(rng.choices(letters, k=rng.randint(3, 9))) for _ in range(5000)),
    ]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    db = env.db.connection()
    for start in range(0, apps, 5000):
        with db.write():
            developer = add_developer(db, f"Maker {start}")
            for number in range(start, min(start + 5000, apps)):
                text = rng.choices(words, weights, k=50)
                app = add_app(
                    db,
                    developer,
                    f"com.bench.a{number}",
                    " ".join(text[:2]).title(),
                    summary=" ".join(text[2:10]),
                    description=" ".join(text[10:]),
                    category=rng.choice(CATEGORIES),
                    updated_at=DAY.format(rng.randint(1, 28)),
                    tags=f'["{rng.choice(words[:200])}", "{"common" if number % 3 else "other"}"]',
                )
                for code in range(1, rng.randint(2, 4)):
                    version = add_version(db, developer, app, code)
                db.insert(
                    "downloads",
                    version_id=version,
                    day="2027-01-01",
                    count=int(rng.paretovariate(1.1)),
                )
    db.checkpoint("TRUNCATE")
    return words


def times(call: Callable[[int], Any], count: int) -> list[float]:
    """How many microseconds each of these calls took, sorted."""
    return sorted(timed(call, number, time.perf_counter) for number in range(count))


def timed(call: Callable[[int], Any], number: int, clock: Callable[[], float]) -> float:
    """How many microseconds one call takes by this clock."""
    started = clock()
    call(number)
    return (clock() - started) * 1e6


def nouns(env: Context, apps: int, words: list[str], rng: random.Random) -> dict[str, float]:
    """Medians, in microseconds of processor time, of what the store does without a cache."""
    db = env.db.connection()

    def deep(sort: str) -> Callable[[int], Any]:
        """A page from the middle of the list."""
        column = {"name": "name", "updated": "updated_at", "downloads": "downloads"}[sort]
        number, value = db.one(
            f"SELECT number, {column} FROM listings ORDER BY {column} LIMIT 1 OFFSET ?", apps // 2
        )
        return lambda _: store_search.index(
            db, PageRequest(20, (sort, value, number)), Query(sort=sort)
        )

    def search(text: Callable[[int], str], **more: str) -> Callable[[int], Any]:
        return lambda number: store_search.index(db, PageRequest(20), Query(text(number), **more))

    def updates(number: int) -> None:
        env.cache.__init__()  # type: ignore[misc]
        chosen = {f"com.bench.a{rng.randrange(apps)}": 1 for _ in range(20)}
        store_updates.updates(env, db, chosen, Device(id=str(number)))

    rare, full = words[2000:], f"com.bench.a{apps // 2}"
    calls: dict[str, tuple[Callable[[int], Any], int]] = {
        "list by name": (lambda _: store_search.index(db, PageRequest(20), Query()), 300),
        "list by date, from the middle": (deep("updated"), 300), "list by downloads, from the middle": (deep("downloads"), 300),
        "list of a category by downloads": (lambda _: store_search.index(db, PageRequest(20), Query(category="tools", sort="downloads")), 300),
        "list of a rare tag": (lambda number: store_search.index(db, PageRequest(20), Query(tag=words[100 + number % 90])), 100),
        "list of a common tag": (lambda _: store_search.index(db, PageRequest(20), Query(tag="common", sort="downloads")), 100),
        "search a rare word": (search(lambda number: rare[number]), 200),
        "search a package id": (search(lambda _: full), 100),
        "search two words": (search(lambda number: f"{rare[number]} {words[5 + number % 50]}"), 200),
        "search the beginning of a word": (search(lambda number: rare[number][:4]), 200),
        "search one letter": (search(lambda number: "abcdefghij"[number % 10]), 100),
        "search the commonest word": (search(lambda _: "the"), 50),
        "search a rare word in a category": (search(lambda number: rare[number], category="tools"), 200),
        "search a common word by date": (search(lambda number: words[10 + number % 20], sort="updated"), 50),
        "detail": (lambda number: listings.get(db, f"com.bench.a{number}"), 300),
        "update check of 20 apps": (updates, 300),
    }  # fmt: skip
    return {
        name: statistics.median(timed(call, number, time.thread_time) for number in range(count))
        for name, (call, count) in calls.items()
    }


def catalogue(sizes: list[int]) -> None:
    """Fill, measure, and print a table with one column for each size."""
    columns = []
    for apps in sizes:
        with tempfile.TemporaryDirectory() as folder:
            rng = random.Random(1)
            env = opened(Path(folder))
            started = time.perf_counter()
            words = fill(env, apps, rng)
            filled = time.perf_counter() - started
            size = env.config.database_path.stat().st_size
            print(f"{apps} apps: filled in {filled:.0f} s, {size / MIB:.0f} MiB", flush=True)
            figures = nouns(env, apps, words, rng)
            started = time.perf_counter()
            made = signed_index.current_index(env, env.db.connection())
            figures["signed index, once"] = (time.perf_counter() - started) * 1e6
            print(f"signed index {made.size_bytes / MIB:.1f} MiB", flush=True)
            columns.append(list(figures.items()))
            env.close()
            figures_over_http(Path(folder), apps, words)
    print(
        f"\n{'microseconds of the processor, median, no cache':<54}"
        + "".join(f"{size:>12,}" for size in sizes)
    )
    for row in zip(*columns, strict=True):
        print(f"{row[0][0]:<54}" + "".join(f"{value:>12,.0f}" for _, value in row))


def figures_over_http(folder: Path, apps: int, words: list[str]) -> None:
    """The same over one connection to the real portal: fresh and cached responses, and the memory used."""
    with running(folder) as server:
        line = http.client.HTTPConnection("127.0.0.1", server.port)

        def get(path: str) -> None:
            line.request("GET", path)
            answer = line.getresponse()
            answer.read()
            assert answer.status == 200, path

        pkgs = ",".join(f"com.bench.a{number}:1" for number in range(20))
        rows = {
            "/healthz": times(lambda _: get("/healthz"), 1000),
            "list, cached": times(lambda _: get("/v1/store/apps"), 1000),
            "list, fresh": times(lambda number: get(f"/v1/store/apps?x={number}"), 500),
            "search, cached": times(lambda _: get(f"/v1/store/apps?q={words[2500]}"), 1000),
            "search, fresh": times(lambda number: get(f"/v1/store/apps?q={words[2000 + number]}"), 500),
            "detail, cached": times(lambda _: get("/v1/store/apps/com.bench.a1"), 1000),
            "updates of 20, each device another": times(lambda number: get(f"/v1/store/updates?pkgs={pkgs}&device={number}"), 1000),
        }  # fmt: skip
        print(f"{apps} apps, over HTTP on one connection, microseconds")
        for name, took in rows.items():
            print(
                f"  {name:<36} p50 {statistics.median(took):8,.0f}   p95 {took[int(len(took) * 0.95)]:8,.0f}"
            )
        print(f"  memory {memory_kib(server.pid, 'Pss') / 1024:.1f} MiB", flush=True)


def memory_kib(pid: int, what: str) -> int:
    """A line of /proc/PID/smaps_rollup, KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(what + ":"))


def transfers(parallel: int = 16, package_bytes: int = 50 * MIB, count: int = 21) -> None:
    """1 GiB of downloads in parallel, and 90 readers of a byte a second, against the real portal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = opened(folder)
        path, digest = published(env, env.db.connection(), package_bytes)
        env.close()
        with running(folder) as server:
            for _ in range(3):
                fetch(server.port, path)  # warm, so that what is measured is what more of them cost
            before = memory_kib(server.pid, "Pss")
            peak = [before]
            threads = [
                threading.Thread(
                    target=lambda: [
                        fetch(server.port, path, digest) for _ in range(-(-count // parallel))
                    ]
                )
                for _ in range(parallel)
            ]
            started = time.perf_counter()
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                peak.append(memory_kib(server.pid, "Pss"))
                time.sleep(0.02)
            took = time.perf_counter() - started
            sent = parallel * -(-count // parallel) * package_bytes
            print(
                f"{sent / MIB:,.0f} MiB by {parallel} readers in {took:.1f} s ({sent / MIB / took:,.0f} MiB a second): memory"
                f" {before / 1024:.1f} MiB before, {max(peak) / 1024:.1f} at most"
            )
            slow_readers(server.port, server.pid, path)


def slow_readers(port: int, pid: int, path: str, count: int = 90, seconds: float = 20) -> None:
    """What others notice of readers that take one byte a second."""

    def others(label: str) -> None:
        for address in ("/healthz", "/v1/store/apps"):
            took = []
            until = time.perf_counter() + seconds / 2
            while time.perf_counter() < until:
                started = time.perf_counter()
                fetch(port, address)
                took.append((time.perf_counter() - started) * 1000)
                time.sleep(0.002)
            took.sort()
            print(
                f"  {label:<30} {address:<16} p50 {took[len(took) // 2]:6.2f} ms   p95 {took[int(len(took) * 0.95)]:6.2f} ms"
                f"   longest {took[-1]:6.2f} ms"
            )

    others("alone")
    readers = []
    for _ in range(count):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", port))
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        readers.append(reader)
    stopped = threading.Event()

    def sip() -> None:
        while not stopped.wait(1):
            for reader in readers:
                with contextlib.suppress(OSError):
                    reader.recv(1)

    threading.Thread(target=sip, daemon=True).start()
    time.sleep(2)
    others(f"beside {count} readers")
    stopped.set()
    print(f"  memory beside them {memory_kib(pid, 'Pss') / 1024:.1f} MiB")
    for reader in readers:
        reader.close()


def published(env: Context, db: Connection, size: int) -> tuple[str, str]:
    """The address and hash of something of this size in the place of a package."""
    body = os.urandom(MIB) * (size // MIB)
    digest = hashlib.sha256(body).hexdigest()
    with db.write():
        developer = add_developer(db)
        app = add_app(db, developer, "com.bench.big", "Big")
        add_version(db, developer, app, version="1.0.0", size_bytes=len(body), sha256=digest)
    path = env.files.path(developer, app, "1.0.0")
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    return f"/packages/{developer}/{app}/1.0.0/package.mosis", digest


def fetch(port: int, path: str, digest: str | None = None) -> None:
    """One answer, read whole in pieces."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    line.request("GET", path)
    answer, found = line.getresponse(), hashlib.sha256()
    while block := answer.read(256 * 1024):
        if digest:
            found.update(block)
    assert answer.status == 200
    assert digest in (None, found.hexdigest())
    line.close()


def main() -> None:
    """Everything, or less."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--apps", type=int, nargs="*", default=[10_000, 100_000], help="sizes of the catalogue"
    )
    parser.add_argument("--no-transfers", action="store_true", help="leave the downloads out")
    given = parser.parse_args()
    catalogue(given.apps)
    if not given.no_transfers:
        transfers()


if __name__ == "__main__":
    main()
