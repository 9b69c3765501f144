"""Measures what 1,000 WebSocket connections cost: memory, and the time until all have received an event.

    python -m bench.websockets

Needs room for 1,100 open files. Each of 50 accounts has 20 connections.
"""

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.server import Running, free_port

PASSWORD = "three random words"


def memory_kib(pid: int) -> int:
    """The proportional set size of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def register(url: str, name: str) -> dict[str, Any]:
    body = json.dumps({"email": f"{name}@example.net", "password": PASSWORD, "name": name}).encode()
    request = urllib.request.Request(
        url + "/v1/auth/register", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return dict(json.loads(answer.read()))


async def measure(
    server: Running, port: int, people: list[dict[str, Any]], each: int
) -> dict[str, float]:
    from websockets.asyncio.client import connect

    before = memory_kib(server.pid)
    opened = []
    begun = time.perf_counter()
    for account in people:
        headers = {"Authorization": f"Bearer {account['access_token']}"}
        opened += await asyncio.gather(
            *(
                connect(
                    f"ws://127.0.0.1:{port}/v1/events", additional_headers=headers, compression=None
                )
                for _ in range(each)
            )
        )
    connected = time.perf_counter() - begun
    await asyncio.sleep(2)
    idle = memory_kib(server.pid)
    begun = time.perf_counter()
    with sqlite3.connect(server.environment["DATABASE_PATH"], timeout=20) as db:
        for account in people:
            db.execute(
                "INSERT INTO events (id, developer_id, kind, package_id, created_at) VALUES (hex(randomblob(16)), ?,"
                " 'version.published', 'com.acme.notes', '2026-01-31T12:00:00Z')",
                (account["developer"]["id"],),
            )
    await asyncio.gather(*(asyncio.wait_for(connection.recv(), 30) for connection in opened))
    answer = time.perf_counter() - begun
    busy = memory_kib(server.pid)
    for connection in opened:
        connection.transport.abort()
    return {
        "connections": len(opened),
        "connected_seconds": round(connected, 2),
        "idle_mib_more": round((idle - before) / 1024, 1),
        "after_an_event_mib_more": round((busy - before) / 1024, 1),
        "all_told_seconds": round(answer, 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--accounts", type=int, default=50)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        server = Running(Path(folder), {"EVENTS_ADDR": f"127.0.0.1:{port}"})
        server.start()
        try:
            people = [register(server.url, f"p{number}") for number in range(given.accounts)]
            time.sleep(1)
            print(json.dumps(asyncio.run(measure(server, port, people, 20)), indent=1))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
