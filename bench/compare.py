"""Compares the portal with other stacks: the same data, the same load, one core each, in turn.

    python -m bench.compare [--apps 10000] [--seconds 3] [--rounds 3] [--only go,fastify] [--write bench]

Needs wrk, Go with Debian's packages of Chi, mattn's SQLite, golang-jwt and validator, nginx, node with npm, and pip; what is missing
is left out and named. Every server is pinned to core 0 and the load generator to core 1; all are started, and for each endpoint they
take turns, `--rounds` times. Printed are medians. `bench/check.py` compares two results.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import aims
from bench.living import LivingPortal
from bench.load import CONNECTIONS, ENDPOINTS, FEW, Measured, load, median, script, uploads
from bench.peers import dataset
from bench.peers.systems import System, fastapi, go, net_http, nginx, node, ours, pocketbase
from bench.report import report, upload_title

PUBLICATIONS = 2_000  # versions prepared for each system: more than a run publishes
SLOW = {"register": 3, "login": 3}  # how many times as long: few requests fit into a second
LIVING = (
    "store list",
    "store detail",
    "updates of 20 apps",
    "apps with token",
    "app with token",
    "mixed",
)


@contextlib.contextmanager
def started(systems: list[System]) -> Iterator[None]:
    """All of them running and signed in."""
    try:
        for system in systems:
            starts = []
            for _ in range(3):
                system.start()
                starts.append(system.start_ms)
                time.sleep(0.5)
                system.idle_mib = system.pss_mib()
                system.stop()
            system.start()
            system.start_ms = statistics.median([*starts, system.start_ms])
            system.sign_in()
        yield
    finally:
        for system in systems:
            system.stop()


def made(folder: Path, only: list[str], developers: int, apps: int) -> list[System]:
    """The systems that can be had here."""
    catalogue = dataset.Catalogue(developers, apps, PUBLICATIONS)
    dataset.fill_peers(folder / "shared/peers.db", catalogue)
    makers = {
        "go": go,
        "net-http": net_http,
        "nginx": nginx,
        "fastify": node("fastify"),
        "hono": node("hono"),
        "express": node("express"),
        "fastapi": fastapi,
    }
    systems = [ours(folder / "ours", catalogue)]
    for name in only:
        own = folder / name
        own.mkdir()
        shared = own / "data"
        shutil.copytree(folder / "shared", shared)
        try:
            systems.append(
                pocketbase(own, catalogue) if name == "pocketbase" else makers[name](own, shared)
            )
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
    return systems


def measured(
    systems: list[System], apps: int, seconds: float, rounds: int, folder: Path
) -> dict[str, dict[str, Measured]]:
    """{endpoint: {system: figures}}, the systems taking turns."""
    ids = dataset.package_ids(apps)
    results: dict[str, dict[str, Measured]] = {}
    plan = [(endpoint, endpoint, FEW.get(endpoint, CONNECTIONS)) for endpoint in ENDPOINTS]
    plan += [(f"{endpoint}, living portal", endpoint, CONNECTIONS) for endpoint in LIVING]
    plan += [
        (f"{endpoint}, 1,000 connections", endpoint, 1000)
        for endpoint in ENDPOINTS
        if endpoint not in FEW
    ]
    for number, (title, endpoint, connections) in enumerate(plan):
        living = title.endswith("living portal")
        taking_part = [
            system
            for system in systems
            if system.has(endpoint) and (not living or system.has("living"))
        ]
        runs: dict[str, list[Measured]] = {system.name: [] for system in taking_part}
        for system in taking_part:
            system.sign_in()
        for turn in range(1 if connections == 1000 else rounds):
            for system in taking_part:
                file = script(system, endpoint, ids, folder, f"r{number}x{turn}")
                used = LivingPortal(system, PUBLICATIONS) if living else contextlib.nullcontext()
                with used as beside:
                    run = load(system, file, seconds * SLOW.get(endpoint, 1), connections)
                run.errors += beside.failures if beside else 0
                runs[system.name].append(run)
        results[title] = {name: median(each) for name, each in runs.items()}
        line = ", ".join(
            f"{name} {each.per_second:,.0f}/s, {each.cpu_us:,.0f} us"
            + (f" ({each.errors} errors)" if each.errors else "")
            for name, each in results[title].items()
        )
        print(f"{title}: {line}", file=sys.stderr, flush=True)
    for system in systems:
        system.busy_mib, system.peak_mib = system.pss_mib(), system.high_water_mib()
    return results


def main() -> None:
    """Measure, print the tables, and keep the figures as JSON beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", type=int, default=10_000)
    parser.add_argument("--developers", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", default="go,net-http,nginx,fastify,hono,express,pocketbase,fastapi"
    )
    parser.add_argument("--write", type=Path, help="a folder for results.md and results.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        systems = made(
            folder, [each for each in given.only.split(",") if each], given.developers, given.apps
        )
        with started(systems):
            results = measured(systems, given.apps, given.seconds, given.rounds, folder)
            sent = {mib: uploads(systems, mib, count) for mib, count in ((1, 15), (45, 5))}
            text = report(systems, results, sent, given)
    print(text)
    if given.write:
        (given.write / f"results-{given.apps}.md").write_text(text)
        figures: dict[str, Any] = {"run": text.partition("\n")[0]} | {
            title: {system: vars(each) for system, each in row.items()}
            for title, row in results.items()
        }
        for mib, row in sent.items():
            figures[upload_title(mib)] = {
                system: {"per_second": 1 / seconds} for system, seconds in row.items()
            }
        (given.write / f"results-{given.apps}.json").write_text(
            json.dumps(figures, indent=1) + "\n"
        )
        summary = given.write / "RESULTS.md"
        if given.apps == 10_000 and summary.exists():
            aims.write(given.write / f"results-{given.apps}.json", summary)


if __name__ == "__main__":
    main()
