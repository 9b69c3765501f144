"""The aims of the comparison beside what was reached, for RESULTS.md.

    python -m bench.aims bench/results-10000.json

`bench.compare --write` puts the table between the marks in RESULTS.md.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import LEAST_REQUESTS, MOST_FOREIGN

OURS, GO = "mosis-portal", "Go, Chi"
BEGIN, END = "<!-- aims: written by bench.compare -->", "<!-- end of the aims -->"
CONSTANT = {  # requests a second that the authors of the first plan expected of a constant answer
    "Express": 15_000,
    "Fastify": 45_000,
    "Hono": 50_000,
    "Go, net/http": 60_000,
    "Go, Chi": 55_000,
}
PYTHON = "a hundred small steps in Python"
WRITES = (
    "a fifth of it is SQLite, the rest Python; requests that wait share a transaction"
    " ([decision 63](../docs/decisions/0063-quick-writes-share-a-transaction.md))"
)


@dataclass(frozen=True)
class Aim:
    """The least ratio of requests a second to Go with Chi (or to `peer`) in a row of the results."""

    row: str
    least: float
    reason: str = ""  # if it is missed
    peer: str = GO

    def processor_us(self, figure: dict[str, Any]) -> float:
        """Processor time of a request. For downloads that of server and client together: over
        loopback the kernel sends a segment in the time of whichever of the two makes room for it."""
        both = self.row.startswith("download")
        return float(figure["cpu_us"] + (figure.get("client_us", 0) if both else 0))


AIMS = (
    Aim("store list", 4, "a cached response costs 50 us, most of it the loop and the kernel"),
    Aim("store list, living portal", 4, "a publication a second makes the list new each time"),
    Aim("store detail", 1, "both do next to nothing; what is left is the interpreter"),
    Aim("store detail, living portal", 1, "the same, and each publication makes one detail new"),
    Aim(
        "updates of 20 apps",
        1.5,
        "20 apps are taken apart, looked up and chosen from in Python; Go asks SQLite 20 times",
    ),
    Aim("updates of 20 apps, living portal", 1.5, "the same"),
    Aim("app with token", 0.75, f"{PYTHON}, 25 of 144 us are the three statements"),
    Aim("app with token, living portal", 0.75, "the same"),
    Aim("new app", 1.4, WRITES),
    Aim(
        "telemetry batch of 20",
        1.5,
        "Go decodes into a struct and counts nothing; here half is the way through Bottle and the plugins",
    ),
    Aim(
        "login",
        1,
        "Argon2id of libsodium takes 14 ms here, that of Go 23 to 26"
        " ([decision 24](../docs/decisions/0024-argon2id-from-libsodium.md))",
    ),
    Aim(
        "upload of 1 MiB",
        1,
        "the package with its folders, then the WAL are flushed; the check runs beside it",
    ),
    Aim("upload of 45 MiB", 1, "the body is stored twice, by the server and by the application"),
    Aim("download of 10 MiB", 1.2, "both hand the file to the kernel"),
    Aim("download of 10 MiB", 0.9, "Python's loop stands around sendfile", "nginx"),
    Aim("healthz", 0.5, "parsing, limits and counters in Python: 29 us against 11"),
    Aim("mixed", 1.5, "half of it is what is missed above"),
    Aim("mixed, living portal", 1.2, "the same"),
)


def says(figure: dict[str, Any]) -> bool:
    """Whether a ratio may be made from a run (see Measured.counts). Uploads have no counts."""
    requests = figure.get("requests", LEAST_REQUESTS)
    return bool(
        requests >= LEAST_REQUESTS
        and figure.get("errors", 0) <= requests / 100
        and figure.get("foreign", 0) <= MOST_FOREIGN
        and figure["per_second"]
    )


def aims_table(rows: dict[str, Any]) -> list[str]:
    """Each aim beside the ratio of requests and that of processor time."""
    lines = [
        "| | aim | requests | processor | |",
        "|---|---|---|---|---|",
    ]
    for aim in AIMS:
        row = rows.get(aim.row, {})
        ours, peer = row.get(OURS), row.get(aim.peer)
        beside = "" if aim.peer == GO else f" (to {aim.peer})"
        if not (ours and peer):
            continue
        found = ours["per_second"] / peer["per_second"] if says(ours) and says(peer) else None
        processor = None
        if ours.get("cpu_us") and peer.get("cpu_us") and ours.get("requests", 0) >= LEAST_REQUESTS:
            processor = aim.processor_us(peer) / aim.processor_us(ours)
        best = processor if found is None else found
        missed = best is not None and round(best, 2) < aim.least
        lines.append(
            f"| {aim.row}{beside} | {aim.least} | {'-' if found is None else f'**{found:.2f}**'}"
            f" | {'-' if processor is None else f'{processor:.2f}'}"
            f" | {f'missed: {aim.reason}' if missed else ''} |"
        )
    return lines


def others_table(rows: dict[str, Any]) -> list[str]:
    """Where each other peer is ahead."""
    peers = sorted({name for row in rows.values() for name in row} - {OURS, GO, "nginx"})
    lines = ["| | rows compared | ahead of the portal in |", "|---|---|---|"]
    for peer in peers:
        compared = [
            title
            for title, row in rows.items()
            if OURS in row and peer in row and says(row[OURS]) and says(row[peer])
        ]
        ahead = [
            f"{title} ({rows[title][peer]['per_second'] / rows[title][OURS]['per_second']:.1f})"
            for title in compared
            if rows[title][peer]["per_second"] > rows[title][OURS]["per_second"]
        ]
        lines.append(f"| {peer} | {len(compared)} | {', '.join(ahead) or 'nothing'} |")
    return lines


def constant_table(rows: dict[str, Any]) -> list[str]:
    """The published figures of a constant answer beside those of here."""
    here = rows.get("healthz", {})
    lines = ["| | published | here |", "|---|---|---|"]
    for name, published in CONSTANT.items():
        found = f"{here[name]['per_second']:,.0f}" if name in here and says(here[name]) else "-"
        lines.append(f"| {name} | {published:,} | {found} |")
    if OURS in here and says(here[OURS]):
        lines.append(f"| the portal | - | {here[OURS]['per_second']:,.0f} |")
    return lines


def section(document: dict[str, Any]) -> str:
    """What stands between the marks."""
    rows = {title: row for title, row in document.items() if title != "run"}
    parts = [
        [document["run"]],
        aims_table(rows),
        ["Where other peers are ahead, by how many times as many requests:"],
        others_table(rows),
        [
            "A constant answer (`/healthz`), requests a second, one core for the server and one for"
            " the load:"
        ],
        constant_table(rows),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def write(results: Path, into: Path) -> None:
    """Put the section into a document that has the marks."""
    text = into.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    made = section(json.loads(results.read_text()))
    into.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")


if __name__ == "__main__":
    print(section(json.loads(Path(sys.argv[1]).read_text())))
