"""The tables of the comparison."""

import argparse
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.load import LEAST_REQUESTS, Measured
from bench.peers.systems import System


def machine() -> str:
    """What it ran on."""
    model = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}{f' ({model[1]})' if model else ''}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def upload_title(mib: int) -> str:
    """The row of uploads of this size."""
    return f"upload of {mib} MiB"


def table(names: list[str], rows: dict[str, dict[str, str]], first: str = "") -> list[str]:
    """A Markdown table: {title: {column: cell}}, a dash where there is no cell."""
    lines = ["", f"| {first} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, row in rows.items():
        lines.append(f"| {title} | " + " | ".join(row.get(name, "-") for name in names) + " |")
    return lines


def ratio(own: Measured, other: Measured) -> float | None:
    """How many times as many requests a second; None if one of the runs was starved or failed."""
    if not (own.counts and other.counts):
        return None
    return own.per_second / other.per_second


def rate(each: Measured, own: Measured) -> str:
    """A cell with requests a second."""
    text = f"{each.per_second:,.0f}"
    if each is not own:
        found = ratio(own, each)
        text += " (no ratio)" if found is None else f" ({found:.2f})"
    return text + (f", {each.errors} errors" if each.errors else "")


def report(
    systems: list[System],
    results: dict[str, dict[str, Measured]],
    sent: dict[int, dict[str, float]],
    given: argparse.Namespace,
) -> str:
    """The tables of the results."""
    names = [system.name for system in systems]
    ours = names[0]

    def rows(cell: Callable[[Measured], str]) -> dict[str, dict[str, str]]:
        return {
            title: {name: cell(each) for name, each in row.items()}
            for title, row in results.items()
        }

    rates = {
        title: {name: rate(each, row[ours]) for name, each in row.items() if ours in row}
        for title, row in results.items()
    }
    for mib, seconds in sent.items():
        rates[upload_title(mib)] = {
            name: f"{each * 1000:,.0f} ms"
            + (f" ({each / seconds[ours]:.2f})" if name != ours else "")
            for name, each in seconds.items()
        }
    footprint = {
        "start to the first answer, ms": {each.name: f"{each.start_ms:.0f}" for each in systems},
        "memory when idle, MiB PSS": {each.name: f"{each.idle_mib:.0f}" for each in systems},
        "memory after the load, MiB PSS": {each.name: f"{each.busy_mib:.0f}" for each in systems},
        "its highest, MiB RSS": {each.name: f"{each.peak_mib:.0f}" for each in systems},
        "installed, without the interpreter, MiB": {
            each.name: f"{each.size_mib():.0f}" for each in systems
        },
    }
    lines = [
        f"`{command(given)}` at commit {commit()}, medians; {machine()}, Python"
        f" {platform.python_version()}, SQLite {sqlite3.sqlite_version}.",
        "",
        "Requests a second, and in brackets how many times the portal's figure that is of the other"
        f" one's. No ratio is made from a run with fewer than {LEAST_REQUESTS} answers or with more"
        " than one error in a hundred, or in which other programs had more than a quarter of"
        " either core.",
    ]
    lines += table(names, rates)
    lines += ["", "Processor time, microseconds a request:"]
    lines += table(names, rows(lambda each: f"{each.cpu_us:,.0f}"))
    lines += ["", "Milliseconds, p50 / p95 / p99:"]
    lines += table(
        names, rows(lambda each: f"{each.p50_ms:.1f} / {each.p95_ms:.1f} / {each.p99_ms:.1f}")
    )
    lines += ["", "Requests a second, lowest and highest of the rounds:"]
    lines += table(names, rows(lambda each: f"{each.lowest:,.0f}-{each.highest:,.0f}"))
    lines += table(names, footprint)
    return "\n".join(lines) + "\n"


def command(given: argparse.Namespace) -> str:
    """The command that makes these figures."""
    return (
        f"python -m bench.compare --apps {given.apps} --seconds {given.seconds}"
        f" --rounds {given.rounds} --only {given.only}"
    )


def commit() -> str:
    """The commit that is measured, with a plus if files differ from it."""
    run = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    return subprocess.run(run, capture_output=True, text=True, check=False).stdout.strip() or "?"
