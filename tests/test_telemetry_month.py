"""A simulated month against the real process: late and doubled batches, retries, two kills in the middle, every sum to the unit.

The client keeps the ledger: each batch is sent until it is answered, so each must count exactly once.
"""

import http.client
import json
import queue
import random
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis.clock import seconds, text
from mosis.commands.cli import parser
from mosis.commands.demo import telemetry
from mosis.config import Config
from mosis.telemetry import rollups
from tests.campaign import short_and_full
from tests.client import PASSWORD
from tests.server import Running

pytestmark = pytest.mark.slow

APP, DAY, DAYS, SENDERS = "com.acme.notes", 86_400, 30, 4
KINDS = {
    "app_start": "starts",
    "app_stop": "stops",
    "app_crash": "crashes",
    "lua_error": "lua_errors",
}


def call(port: int, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def out(server: Running) -> None:
    """Something of the app was published, as far as its row says: of drafts nothing is taken."""
    raw = sqlite3.connect(server.folder / "data/portal.db")
    with raw:
        raw.execute("UPDATE apps SET published = 1")
    raw.close()


def month(rng: random.Random, midnight: int, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Everything that the devices want to say, in a muddle: some of it is late, some twice."""
    devices = telemetry.fleet(rng, count, ["1.0.0"])
    items = [
        each
        for ago in range(DAYS - 1, 0, -1)
        for device in devices
        for each in telemetry.day_of(rng, device, APP, midnight - ago * DAY)
    ]
    for place in range(len(items)):
        if rng.random() < 0.1:  # a day, a week or three too late
            other = min(len(items) - 1, place + rng.choice([20, 150, 500]))
            items[place], items[other] = items[other], items[place]
    return items + rng.sample(items, len(items) // 10)


class Senders:
    """Sends until answered, through kills; and now and then again although it was answered."""

    def __init__(self, port: int, body: list[tuple[str, dict[str, Any]]]) -> None:
        self.port, self.left, self.answers, self.unanswered = (
            port,
            queue.SimpleQueue[Any](),
            Counter[str](),
            0,
        )
        for each in body:
            self.left.put(each)
        self.threads = [
            threading.Thread(target=self._send, args=(number,), daemon=True)
            for number in range(SENDERS)
        ]
        for thread in self.threads:
            thread.start()

    def _send(self, seed: int) -> None:
        rng = random.Random(seed)
        while True:
            try:
                path, document = self.left.get_nowait()
            except queue.Empty:
                return
            while True:
                try:
                    status, answer = call(self.port, "POST", path, document)
                except (OSError, http.client.HTTPException, json.JSONDecodeError):
                    self.unanswered += 1
                    time.sleep(0.05)
                    continue
                assert status == 202, answer
                self.answers["duplicate" if answer["duplicate"] else "new"] += 1
                if rng.random() > 0.05:
                    break


def expected(body: list[tuple[str, dict[str, Any]]], width: int) -> dict[int, Counter[str]]:
    """A plain recount of the events, each once, by the hour or day in which it happened."""
    sums: dict[int, Counter[str]] = {}
    once = {json.dumps(each, sort_keys=True): each for each in body}
    for path, document in once.values():
        for event in document.get("events", ()):
            at = seconds(event["timestamp"])
            bucket = sums.setdefault(at - at % width, Counter())
            bucket["events"] += 1
            if event["type"] in KINDS:
                bucket[KINDS[event["type"]]] += 1
            if event["type"] == "app_stop":
                bucket["sessions"] += 1
                bucket["session_seconds"] += event["data"]["duration_seconds"]
            if event["type"] == "perf_frame":
                bucket["frames"] += 1
        if path.endswith("crashes"):
            at = seconds(document["timestamp"])
            sums.setdefault(at - at % width, Counter())["crash_reports"] += 1
    return sums


def held(path: Path, span: str, version: str) -> dict[int, Counter[str]]:
    """The same as the portal has added it up."""
    raw = sqlite3.connect(path)
    rows = raw.execute(
        f"SELECT start, {rollups.SELECT} FROM rollups WHERE span = ? AND version = ?",
        (span, version),
    ).fetchall()
    raw.close()
    found = {}
    for start, *row in rows:
        each = dict(zip(rollups.COLUMNS, row, strict=True))
        frames = sum(json.loads(each["frames"]).values())
        found[start] = Counter({name: each[name] for name in rollups.COUNTS} | {"frames": frames})
    return found


@pytest.mark.parametrize("count", short_and_full(8, 200))
def test_every_sum_of_a_month_is_right_to_the_unit(tmp_path: Path, count: int) -> None:
    rng = random.Random(4)
    server = Running(tmp_path)
    server.start()
    try:
        account = {"email": "alice@example.net", "password": PASSWORD, "name": "Alice"}
        token = call(server.port, "POST", "/v1/auth/register", account)[1]["access_token"]
        assert (
            call(server.port, "POST", "/v1/apps", {"package_id": APP, "name": "Notes"}, token)[0]
            == 201
        )
        out(server)
        answer = month(rng, int(time.time()) // DAY * DAY, count)
        senders = Senders(server.port, answer)
        for share in (0.7, 0.35):
            while senders.left.qsize() > share * len(answer):
                time.sleep(0.01)
            server.kill()
            server.start()
        for thread in senders.threads:
            thread.join(600)
        assert senders.unanswered > 0
        assert senders.answers["new"] <= len({json.dumps(each) for each in answer})
        assert senders.answers["duplicate"] > len(answer) // 20
        due = sum(each["events"] for each in expected(answer, DAY).values())
        path, query = server.folder / "data/telemetry.db", f"?from={text(time.time() - 30 * DAY)}"
        until = time.monotonic() + 60
        while True:  # the process adds up by itself, every two seconds
            totals = call(server.port, "GET", f"/v1/apps/{APP}/analytics{query}", None, token)[1][
                "totals"
            ]
            if totals["events"] >= due or time.monotonic() > until:
                break
            time.sleep(0.2)
        assert totals["events"] == due
        assert server.stop() == 0
    finally:
        server.kill()
    for span, width in (("hour", 3600), ("day", DAY)):
        for version in ("*", "other"):
            assert held(path, span, version) == expected(answer, width)
    everybody = {document["device_id"] for where, document in answer if where.endswith("events")}
    assert abs(totals["unique_devices"] - len(everybody)) <= 1
    settings = {
        "DATABASE_PATH": str(tmp_path / "data/portal.db"),
        "PACKAGES_DIR": str(tmp_path / "packages"),
    }
    env = portal.open_migrated(Config.read(settings))
    assert rollups.recount(env.telemetry.connection()) == 0
    assert env.telemetry.connection().value("PRAGMA integrity_check") == "ok"
    env.close()


def test_an_address_is_taken_as_people_write_it() -> None:
    for url, kind, port in (
        ("https://apps.example.net", http.client.HTTPSConnection, 443),
        ("localhost:8080", None, 8080),
    ):
        connection = telemetry._connection(url)
        assert (type(connection), connection.port) == (kind or http.client.HTTPConnection, port)


def simulate(url: str, *more: str) -> int:
    """The command `telemetry simulate` with five devices over two days; its exit code."""
    words = ["telemetry", "simulate", "--url", url, "--devices", "5", "--days", "2", *more]
    given = parser().parse_args(words)
    return int(given.run(given, Config.read({})))


def test_the_command_sends_what_devices_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Running(tmp_path)
    server.start()
    try:
        account = {"email": "alice@example.net", "password": PASSWORD, "name": "Alice"}
        token = call(server.port, "POST", "/v1/auth/register", account)[1]["access_token"]
        call(server.port, "POST", "/v1/apps", {"package_id": APP, "name": "Notes"}, token)
        assert simulate(server.url) == portal.FAILED
        assert "no published app" in capsys.readouterr().err
        out(server)
        assert simulate(server.url, "--app", APP) == 0
        output = capsys.readouterr().out
        assert "crash reports for 1 app(s)" in output
        assert " x 202" in output
    finally:
        server.kill()
