"""The load of the comparison: the scripts for wrk, which runs on core 1, and uploads one by one."""

import json
import os
import re
import resource
import statistics
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from bench.living import batch
from bench.peers import dataset
from bench.peers.systems import System
from tests.package_builder import build_package

CONNECTIONS = 64
UPDATE_APPS = 20
LEAST_REQUESTS = 20  # a run with fewer was starved: no ratio is made from it
MOST_FOREIGN = 0.25  # nor from one in which other programs had more of either core
LUA = """
local ids = {%(ids)s}
local n, thread = 0, 0
local token, run = %(token)q, %(run)q
function setup(t) t:set("number", thread) thread = thread + 1 end
function init() math.randomseed(number + 1) end
local plain = {["Content-Type"] = "application/json"}
local json = {["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. token}
local function id() return ids[math.random(#ids)] end
local function get(path, with) return wrk.format("GET", path, with and json or nil) end
local function updates()
  local t, first, step = {}, math.random(#ids), math.random(40)
  for i = 1, %(updates)d do t[i] = ids[(first + i * step) %% #ids + 1] .. ":4" end
  return get("/store/updates?pkgs=" .. table.concat(t, ","))
end
local batch = %(batch)q
local function telemetry() return wrk.format("POST", "/telemetry/events", plain, batch) end
local function fresh()
  n = n + 1
  return wrk.format("POST", %(new_app)q, json, string.format('{"package_id":"net.%%s.t%%d.n%%d","name":"New","summary":"An app","tags":["a","b"]}', run, number, n))
end
local function person()
  n = n + 1
  return wrk.format("POST", "/auth/register", plain, string.format('{"email":"%%s.%%d.%%d@example.net","password":"three random words","name":"New"}', run, number, n))
end
function request()
  %(request)s
end
function done(summary, latency, requests)
  io.write(string.format('RESULT {"requests":%%d,"micros":%%d,"p50":%%d,"p95":%%d,"p99":%%d,"status":%%d,"socket":%%d}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""

ENDPOINTS = {
    "healthz": "return get(%(path)q)",
    "store list": "return get(%(path)q)",
    "store detail": "return get(%(path)q .. id())",
    "updates of 20 apps": "return updates()",
    "apps with token": 'return get("/apps", true)',
    "app with token": 'return get("/apps/" .. ids[math.random(20)], true)',
    "new app": "return fresh()",
    "register": "return person()",
    "login": 'return wrk.format("POST", %(path)q, plain, %(login)q)',
    "telemetry batch of 20": "return telemetry()",
    "download of 10 MiB": "return get(%(download)q)",
    "mixed": """n = n + 1
  local kind = n %% 10
  if kind == 0 then return telemetry() elseif kind == 1 then return get("/apps/" .. ids[math.random(20)], true)
  elseif kind < 6 then return get("/store/apps") elseif kind < 9 then return get("/store/apps/" .. id()) else return updates() end""",
}
FEW = {
    "register": 2,  # as many as hash at once in the portal and in Go
    "login": 2,
    "download of 10 MiB": 8,
}  # connections; what hashes or fills the line waits for itself, for every account
COMMON = {
    "healthz": "/healthz",
    "store list": "/store/apps",
    "store detail": "/store/apps/",
    "login": "/auth/login",
}


def script(system: System, endpoint: str, package_ids: list[str], folder: Path, run: str) -> Path:
    """The wrk script for one endpoint of one system."""
    detail = system.paths.get("store detail", "").startswith("/api")
    names = (
        [f"a{number:07}".ljust(15, "0") for number in range(1000)] if detail else package_ids[:1000]
    )
    login = {
        "identity" if system.name == "PocketBase" else "email": dataset.EMAIL,
        "password": dataset.PASSWORD,
    }
    path = system.paths.get(endpoint, COMMON.get(endpoint, ""))
    lua = lambda value: json.dumps(value)  # noqa: E731  (a Lua string is a JSON string here)
    values = {
        "path": path,
        "login": json.dumps(login),
        "download": system.paths.get("download", "/download"),
    }
    request = re.sub(
        r"%\((\w+)\)q", lambda found: lua(values[found[1]]), ENDPOINTS[endpoint]
    ).replace("%%", "%")
    filled = {
        "token": system.token,
        "run": run,
        "batch": json.dumps(batch()),
        "new_app": system.paths.get("new app", "/apps"),
    }
    text = (
        LUA.replace("%(ids)s", ",".join(map(lua, names)))
        .replace("%(updates)d", str(UPDATE_APPS))
        .replace("%(request)s", request)
    )
    text = re.sub(r"%\((\w+)\)q", lambda found: lua(filled[found[1]]), text).replace("%%", "%")
    file = folder / f"{run}.lua"
    file.write_text(text)
    return file


@dataclass
class Measured:
    """One run of wrk."""

    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us: float
    errors: int
    client_us: float = 0  # processor time of wrk
    requests: int = 0  # answered, errors apart; of several runs the fewest
    foreign: float = 0  # the share of its core that the server or wrk lost to other programs
    lowest: float = 0  # requests a second, of several runs
    highest: float = 0

    @property
    def counts(self) -> bool:
        """Whether the run says anything: neither starved nor failing."""
        return (
            self.requests >= LEAST_REQUESTS
            and self.errors <= self.requests / 100
            and self.foreign <= MOST_FOREIGN
        )


def result_of(output: str) -> dict[str, int]:
    """What the script printed at its end. Raises RuntimeError if it printed nothing."""
    found = re.search(r"RESULT (\{.*\})", output)
    if found is None:
        raise RuntimeError(f"wrk gave no result: {output}")
    return json.loads(found[1])  # type: ignore[no-any-return]


def load(system: System, file: Path, seconds: int, connections: int) -> Measured:
    """Load it from core 1."""
    before, own, cores = system.cpu_seconds(), children_seconds(), cores_seconds()
    begun = time.monotonic()
    done = subprocess.run(
        [
            "taskset",
            "-c",
            "1",
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "10s",
            "-s",
            str(file),
            system.url,
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    result = result_of(done.stdout)
    taken, passed = cores_seconds(), time.monotonic() - begun
    cpu, requests = system.cpu_seconds() - before, max(1, result["requests"])
    client = children_seconds() - own
    return Measured(
        result["requests"] / (result["micros"] / 1e6),
        result["p50"] / 1000,
        result["p95"] / 1000,
        result["p99"] / 1000,
        cpu / requests * 1e6,
        result["status"] + result["socket"],
        client / requests * 1e6,
        result["requests"] - result["status"],
        foreign=max(taken[0] - cores[0] - cpu, taken[1] - cores[1] - client, 0.0) / passed,
    )


def cores_seconds() -> tuple[float, float]:
    """The time that programs have had on the first two cores (proc(5), /proc/stat), without
    interrupts."""
    rows = Path("/proc/stat").read_text().split("\n")[1:3]
    ticks = [[int(each) for each in row.split()[1:]] for row in rows]
    first, second = (sum(row[:3]) / os.sysconf("SC_CLK_TCK") for row in ticks)
    return first, second


def children_seconds() -> float:
    """The processor time of the programs that this one has run to their end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Packages:
    """Uploads packages of about this size to an app of its own, which it creates on each system."""

    def __init__(self, systems: list[System], package_id: str, mib: int) -> None:
        self.package_id = package_id
        self._number = 0
        noise = os.urandom(mib * 1024 * 1024 // 5)  # as sounds and pictures are: compressed
        words = " ".join(dataset.CATEGORIES).encode()
        self._files = {f"assets/{number}.ogg": noise for number in range(5)} | {
            f"assets/{number}.txt": b"\n".join([words] * 100) for number in range(5)
        }
        for system in systems:
            system.sign_in()
            document = {"package_id": package_id, "name": "Upload"}
            posted(system, "/apps", json.dumps(document).encode(), "application/json")

    def next(self) -> bytes:
        """A package of the next version."""
        self._number += 1
        return build_package(
            self.package_id,
            f"1.0.{self._number}",
            self._number,
            key=dataset.KEY,
            files=self._files,  # type: ignore[arg-type]
        )

    def upload(self, system: System, package: bytes) -> float:
        """Seconds until a system has answered."""
        path = f"/apps/{self.package_id}/versions"
        return posted(system, path, package, "application/octet-stream")


def posted(system: System, path: str, body: bytes, kind: str) -> float:
    """Seconds that one POST takes. Raises HTTPError unless it is 201."""
    headers = {"Content-Type": kind, "Authorization": f"Bearer {system.token}"}
    request = urllib.request.Request(system.url + path, body, headers)
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        assert answer.status == 201, answer.status
    return time.perf_counter() - begun


def uploads(systems: list[System], mib: int, count: int) -> dict[str, float]:
    """{system: median seconds} of one upload after the other, of the systems that check packages:
    archive, manifest, digests and signature."""
    taking_part = [system for system in systems if system.has("upload")]
    packages = Packages(taking_part, f"net.upload.m{mib}", mib)
    taken: dict[str, list[float]] = {system.name: [] for system in taking_part}
    for _ in range(count):
        package = packages.next()
        for system in taking_part:
            taken[system.name].append(packages.upload(system, package))
    return {name: statistics.median(each) for name, each in taken.items()}


def median(runs: list[Measured]) -> Measured:
    """The median of each figure of the runs that count, or of all if none does; errors are added
    up."""
    runs = [run for run in runs if run.counts] or runs
    middle = {
        name: statistics.median(getattr(run, name) for run in runs)
        for name in ("per_second", "p50_ms", "p95_ms", "p99_ms", "cpu_us", "client_us")
    }
    each = [run.per_second for run in runs]
    return Measured(
        **middle,
        errors=sum(run.errors for run in runs),
        requests=min(run.requests for run in runs),
        foreign=max(run.foreign for run in runs),
        lowest=min(each),
        highest=max(each),
    )
