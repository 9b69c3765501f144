"""Rollout plans against the real portal: two processes with its worker share the queue, its intake takes telemetry over HTTP (late
batches, batches twice), its clock is a file that jumps ahead and back, and it is killed with SIGKILL in between. The client keeps
the ledger: every step must be taken once, a bad version be halted, a good one reach everybody, and what the portal has counted be
what was acknowledged. Part of `python -m bench.rollouts --real N`.
"""

import http.client
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import portal
from mosis import jobs
from mosis.clock import Clock, text
from mosis.commands.process import make_server
from mosis.config import Config
from mosis.context import Context, make_context
from mosis.credentials.passwords import Cost
from mosis.publishing import rollout_plans, versions
from mosis.telemetry import rollups, watches
from mosis.telemetry.maintenance import Maintenance
from mosis.worker import Worker
from tests.catalogue import add_app, add_developer, add_version
from tests.server import free_port, launch

APP, HOUR = "com.acme.notes", 3600
START = 1_800_000_000.0
STEPS = [(10, 0), (30, 24), (100, 48)]
DEVICES, SESSIONS = 60, 40  # of each version, in each round of six hours
CHEAP = Cost(memory_kib=8, iterations=1)

SERVE = "import sys; from bench import rollouts_real; rollouts_real.serve(*sys.argv[1:])"


def serve(clock_file: str, kind: str) -> None:
    """A process of the portal: the worker and, if it is to listen, the server with the upkeep of
    telemetry."""
    clock = Clock(lambda: float(Path(clock_file).read_text()))
    env = make_context(Config.read(), clock, CHEAP)
    worker = Worker(env, longest_sleep_seconds=0.05)
    worker.start()
    if kind == "listens":
        Maintenance(env).start()
        make_server(env, portal.build(env)).run()
    while True:
        time.sleep(1)


@dataclass
class Trial:
    """One rollout, and the client's ledger of it."""

    folder: Path
    rng: random.Random
    crash_rate: float
    acknowledged: dict[str, tuple[str, int, bool]] = field(default_factory=dict)  # by batch_id
    waiting: list[dict[str, Any]] = field(default_factory=list)  # to be sent later
    kills: int = 0
    duplicates: int = 0

    def __post_init__(self) -> None:
        self.port = free_port()
        self.clock = self.folder / "clock"
        self.set_clock(START)
        self.settings = {
            "DATABASE_PATH": str(self.folder / "data/portal.db"),
            "PACKAGES_DIR": str(self.folder / "packages"),
            "ASSETS_DIR": str(self.folder / "assets"),
            "LISTEN_ADDR": f"127.0.0.1:{self.port}",
            "BASE_URL": f"http://127.0.0.1:{self.port}",
            "RATE_LIMITS": "off",
            "DISK_RESERVE_BYTES": "0",
            "METRICS": "",
        }
        config = Config.read(self.settings)
        portal.migrate_databases(config)
        self.env: Context = make_context(config, Clock(lambda: self.now), CHEAP)
        self.processes: list[Any] = []
        db = self.env.db.connection()
        with db.write():
            developer = add_developer(db)
            app = add_app(db, developer, APP, "Notes")
            add_version(db, developer, app, 1, version="1.0.0")
            self.version_id = add_version(
                db, developer, app, 2, version="2.0.0", rollout_percent=STEPS[0][0]
            )
            plan = {
                "steps": [{"percent": percent, "after_hours": hours} for percent, hours in STEPS],
                "halt_when": {"crash_free_below": 0.9, "sessions_at_least": 100},
            }
            version = versions.by_id(db, self.version_id)
            assert version is not None
            rollout_plans._store(db, version, plan)

    def set_clock(self, now: float) -> None:
        """The portal's clock, replaced atomically."""
        self.now = now
        new = self.clock.with_suffix(".new")
        new.write_text(str(now))
        os.replace(new, self.clock)

    def start(self) -> None:
        for kind in ("listens", "works"):
            command = [sys.executable, "-c", SERVE, str(self.clock), kind]
            with open(self.folder / "log", "ab") as log:
                process = launch(
                    command, env=os.environ | self.settings, cwd=portal.HERE, stdout=log, stderr=log
                )
            self.processes.append(process)
        self.until(lambda: self.ask("GET", "/livez", None) == 200, "the portal answers")

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, f"waited 120 s until {what}"
            time.sleep(0.02)

    def ask(self, method: str, path: str, body: Any) -> int:
        """The status of one request; 0 without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def use(self) -> None:
        """Six hours of sessions with both versions. A tenth is sent in the next six hours, a tenth twice."""
        batches, self.waiting = self.waiting, []
        for version, rate in (("1.0.0", 0.03), ("2.0.0", self.crash_rate)):
            for _ in range(SESSIONS):
                batches.append(self.batch(version, self.rng.random() < rate))
        killed_at = self.rng.randrange(len(batches)) if self.rng.random() < 0.3 else -1
        for number, batch in enumerate(batches):
            if number == killed_at:
                self.kill()
                self.kills += 1
                self.start()
            if self.rng.random() < 0.1:
                self.waiting.append(batch)
                continue
            for _ in range(1 + (self.rng.random() < 0.1)):
                while (status := self.ask("POST", "/v1/telemetry/events", batch)) != 202:
                    assert status in (0, 503), status
                    time.sleep(0.02)
                self.duplicates += batch["batch_id"] in self.acknowledged
                self.note(batch)

    def batch(self, version: str, crashed: bool) -> dict[str, Any]:
        moment = text(self.now)
        names = ["app_start"] + ["app_crash"] * crashed
        device = f"{version}-{self.rng.randrange(DEVICES)}"
        return {
            "app_id": APP,
            "app_version": version,
            "mosis_version": "1.4.0",
            "device_id": device.encode().hex().rjust(64, "0"),
            "session_id": f"{self.rng.getrandbits(40)}",
            "batch_id": f"{self.rng.getrandbits(60)}",
            "events": [{"type": name, "timestamp": moment} for name in names],
        }

    def note(self, batch: dict[str, Any]) -> None:
        crashed = len(batch["events"]) > 1
        self.acknowledged[batch["batch_id"]] = (batch["app_version"], 1, crashed)

    def look(self) -> None:
        """Have the queue advance the plans, as it does every minute, and wait for that."""
        db, key = self.env.db.connection(), f"rollouts:{self.rng.getrandbits(40)}"
        with db.write():
            jobs.add(db, "advance_rollouts", unique_key=key)
        find = "SELECT state FROM jobs WHERE unique_key = ?"
        while db.value(find, key) != "done":
            if self.rng.random() < 0.02:
                self.kill()
                self.kills += 1
                self.set_clock(self.now + jobs.LEASE_SECONDS + 2)
                self.start()
            assert db.value(find, key) != "dead", db.value(
                "SELECT last_error FROM jobs WHERE unique_key = ?", key
            )
            self.set_clock(self.now + 0.5)
            time.sleep(0.05)

    def ledgers(self) -> list[dict[str, tuple[int, int]]]:
        """Sessions and crashes by version after each acknowledged batch, in order: one client sends them
        one after the other."""
        now = {"1.0.0": (0, 0), "2.0.0": (0, 0)}
        found = [now]
        for version, sessions, crashed in self.acknowledged.values():
            before = now[version]
            now = now | {version: (before[0] + sessions, before[1] + crashed)}
            found.append(now)
        return found

    def jump(self) -> None:
        """The clock is wrong for a while: less than what is left until the next step."""
        ahead = self.rng.choice([120, 1800, 5 * HOUR])
        self.set_clock(self.now + ahead)
        with suppress(AssertionError):
            self.look()
        self.set_clock(self.now - ahead)

    def run(self) -> dict[str, Any]:
        """The whole rollout: what became of the version, and what is wrong."""
        self.start()
        try:
            self.look()
            for number in range(12):
                self.use()
                if number % 4 == 1:
                    self.jump()
                self.look()
                self.set_clock(self.now + 6 * HOUR)
            self.look()
        finally:
            self.kill()
        return self.result()

    def result(self) -> dict[str, Any]:
        """Compare the portal's databases with the ledger."""
        db, telemetry = self.env.db.connection(), self.env.telemetry.connection()
        rollups.catch_up(telemetry)
        version, plan = versions.by_id(db, self.version_id), rollout_plans.get(db, self.version_id)
        assert version is not None
        steps = [
            step
            for (step,) in db.all(
                "SELECT details ->> 'step' FROM audit WHERE action = 'version.rollout_step' ORDER BY number"
            )
        ]
        halts = db.value("SELECT count(*) FROM audit WHERE action = 'version.halted_by_plan'")
        counted = watches.find(telemetry, version.app_id, "2.0.0")
        found: list[str] = []
        if steps != list(range(2, 2 + len(steps))):
            found.append(f"steps {steps} are not each once, in order")
        bad = self.crash_rate > 0.1
        wanted = ("halted", 1) if bad else ("published", 0)
        if (version.state, halts) != wanted:
            found.append(f"{version.state} after {halts} automatic halts, wanted {wanted}")
        if not bad and (version.rollout_percent, plan.steps_taken) != (100, 3):
            found.append(f"a good version is at {version.rollout_percent} %")
        ledgers = self.ledgers()
        if (
            plan.halted
        ):  # the figures of the halt, which a job may have decided while batches came in
            figures = json.loads(plan.halted)
            counts = {
                "1.0.0": (figures["previous"]["sessions"], figures["previous"]["crashes"]),
                "2.0.0": (figures["sessions"], figures["crashes"]),
            }
            agrees = counts in ledgers
        else:
            counts = {str(each.version): (each.sessions, each.crashes) for each in counted or ()}
            agrees = counts == ledgers[-1]
        if not agrees:
            found.append(f"{counts} counted, {ledgers[-1]} acknowledged in the end")
        self.env.close()
        return {
            "crash_rate": self.crash_rate,
            "state": version.state,
            "percent": version.rollout_percent,
            "steps": steps,
            "acknowledged": len(self.acknowledged),
            "duplicates": self.duplicates,
            "kills": self.kills,
            "faults": found,
        }


def campaign(trials: int, seed: int) -> dict[str, Any]:
    """So many rollouts, bad and good versions in turn."""
    rng, results = random.Random(seed), []
    for number in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            rate = 0.3 if number % 2 == 0 else 0.03
            results.append(Trial(Path(folder), random.Random(rng.getrandbits(32)), rate).run())
            print(json.dumps(results[-1]), flush=True)
    return {
        "seed": seed,
        "trials": trials,
        "halted": sum(each["state"] == "halted" for each in results),
        "acknowledged": sum(each["acknowledged"] for each in results),
        "duplicates": sum(each["duplicates"] for each in results),
        "kills": sum(each["kills"] for each in results),
        "faults": [fault for each in results for fault in each["faults"]],
    }
