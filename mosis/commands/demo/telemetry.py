"""`portal.py telemetry simulate`: simulated devices that send telemetry over HTTP, for
demonstrations and measurements.

Traffic depends on a seed: the same seed makes the same devices, sessions, batches and batch_ids,
which count once if sent twice. All events are in the past days; a portal accepts those of the last
30.
"""

import gzip
import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import field
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from mosis.clock import DAY, text
from mosis.records import dataclass

# relative activity by hour of the day
CONNECTIONS = 4  # of the simulated devices
_HOURS = [1, 1, 1, 1, 1, 2, 5, 9, 9, 7, 7, 8, 10, 8, 7, 7, 8, 10, 12, 14, 14, 12, 7, 3]
_CRASHES = [
    ("LuaError", "attempt to index a nil value (local 'note')", "notes.lua", "save"),
    ("LuaError", "attempt to compare number with nil", "list.lua", "sort"),
    ("OutOfMemory", "allocation of 8388608 bytes failed", "gallery.lua", "decode"),
    ("Timeout", "handler took 5012 ms", "sync.lua", "pull"),
]


@dataclass(frozen=True)
class Device:
    """A simulated device."""

    id: str
    version: str
    mosis_version: str
    frame_ms: float
    sessions_a_day: float


@dataclass
class Sent:
    """Counts of what was sent and how it was answered."""

    batches: int = 0
    events: int = 0
    crashes: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def fleet(rng: random.Random, devices: int, versions: list[str]) -> list[Device]:
    """Devices of different speeds; most have the newest version."""
    return [
        Device(
            id=f"{rng.getrandbits(256):064x}",
            version=rng.choices(versions, [2**place for place in range(len(versions))])[0],
            mosis_version=rng.choice(["2.0.0", "2.1.0", "2.1.0"]),
            frame_ms=rng.choice([7.0, 11.0, 14.0, 22.0]),
            sessions_a_day=rng.expovariate(0.5),
        )
        for _ in range(devices)
    ]


def day_of(
    rng: random.Random, device: Device, app: str, midnight: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a device sends in a day: (path, document)."""
    sender = {
        "app_id": app,
        "app_version": device.version,
        "mosis_version": device.mosis_version,
        "device_id": device.id,
    }
    for number in range(min(20, round(rng.expovariate(1 / max(0.1, device.sessions_a_day))))):
        at = midnight + rng.choices(range(24), _HOURS)[0] * 3600 + rng.randrange(3600)
        events, crash = _session(rng, device, at)
        name = f"{midnight}-{number}"
        for place in range(0, len(events), 50):
            yield (
                "/v1/telemetry/events",
                sender
                | {
                    "session_id": name,
                    "batch_id": f"{name}-{place}",
                    "events": events[place : place + 50],
                },
            )
        if crash is not None:
            yield (
                "/v1/telemetry/crashes",
                sender | {"timestamp": events[-1]["timestamp"], "crash": crash},
            )


def _session(
    rng: random.Random, device: Device, at: int
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The events of a session, and its crash if it had one."""
    length = round(rng.lognormvariate(5, 1))
    events = [
        _event("app_start", at),
        _event("perf_startup", at, startup_ms=round(rng.lognormvariate(6, 0.4), 1)),
    ]
    for second in range(10, min(length, 900), 30):
        events.append(
            _event(
                "perf_frame",
                at + second,
                frame_ms=round(rng.lognormvariate(0, 0.3) * device.frame_ms, 2),
            )
        )
    events.append(
        _event("perf_memory", at + length // 2, used_mb=rng.randrange(20, 200), limit_mb=512)
    )
    if rng.random() < 0.02:
        error = {
            "message": "attempt to call a nil value",
            "file": "main.lua",
            "line": rng.randrange(200),
        }
        events.append(_event("lua_error", at + length, **error))
    if rng.random() < 0.01:
        kind, message, file, function = rng.choice(_CRASHES)
        line = rng.randrange(1, 400)
        places = (
            f"/data/{device.id[:6]}/{file}:{line}: in function '{function}'",
            "/data/main.lua:7: in main chunk",
        )
        trace = "\n\t".join(("stack traceback:", *places))
        events.append(_event("app_crash", at + length))
        return events, {
            "type": kind,
            "message": message,
            "stack_trace": trace,
            "context": {"free_bytes": rng.getrandbits(30)},
        }
    events.append(_event("app_stop", at + length, duration_seconds=length))
    return events, None


def _event(kind: str, at: int, **data: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": text(at)} | ({"data": data} if data else {})


def simulate(
    url: str, apps: list[tuple[str, list[str]]], devices: int, days: int, seed: int = 1
) -> Sent:
    """Send what `devices` devices produce in `days` days, spread over the apps; the counts."""
    rng, sent = random.Random(seed), Sent()  # noqa: S311  (must be reproducible, not secret)
    today = int(time.time()) // DAY * DAY
    queue: SimpleQueue[tuple[str, dict[str, Any]] | None] = SimpleQueue()
    arguments = (url, queue, sent)
    threads = [threading.Thread(target=_send_all, args=arguments) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    fleets = [(app, fleet(rng, max(1, devices // len(apps)), versions)) for app, versions in apps]
    for ago in range(days, 0, -1):
        for app, members in fleets:
            for device in members:
                for each in day_of(rng, device, app, today - ago * DAY):
                    queue.put(each)
                while queue.qsize() > 1000:
                    time.sleep(0.01)
    for _ in threads:
        queue.put(None)
    for thread in threads:
        thread.join()
    return sent


def _send_all(
    url: str, queue: "SimpleQueue[tuple[str, dict[str, Any]] | None]", sent: Sent
) -> None:
    """Send over one connection, reopened when lost; waits as long as 429 and 507 say."""
    connection = _connection(url)
    while each := queue.get():
        path, document = each
        body = gzip.compress(json.dumps(document).encode(), 1)
        for _ in range(100):
            status, wait = _post(connection, path, body)
            with sent.lock:
                sent.answers[status] = sent.answers.get(status, 0) + 1
                if status == 202:
                    sent.batches += path.endswith("events")
                    sent.events += len(document.get("events", ()))
                    sent.crashes += path.endswith("crashes")
            if status not in (0, 429, 503) or wait > 60:
                break
            time.sleep(wait)
    connection.close()


def _post(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, float]:
    """(status, seconds to wait); status 0 if there was no response."""
    try:
        connection.request(
            "POST", path, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status, float(answer.headers.get("Retry-After", 1))
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, 0.5


def published_apps(url: str) -> list[tuple[str, list[str]]]:
    """The published apps of a portal with their versions, oldest first."""
    found = _get(url, "/v1/store/apps?limit=10")["apps"]
    return [(app["package_id"], _versions(url, app["package_id"])) for app in found]


def _versions(url: str, package_id: str) -> list[str]:
    return [
        each["version"] for each in _get(url, f"/v1/store/apps/{package_id}/versions")["versions"]
    ][::-1]


def _connection(url: str) -> http.client.HTTPConnection:
    place = urlsplit(url if "://" in url else f"http://{url}")
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    return kind(place.hostname or "localhost", place.port, timeout=30)


def _get(url: str, path: str) -> Any:
    connection = _connection(url)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return json.loads(answer.read())
    finally:
        connection.close()
