"""Services of a compose file without a container engine, as root on Linux: each runs as process 1 in namespaces of its own,
with its root file system, volumes, user, limits and address, and without the rights that the file takes away."""

import ctypes
import fcntl
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

import yaml

TOOLS = ("unshare", "nsenter", "ip", "mount")
MISSING = "needs root on Linux, and " + ", ".join(TOOLS)
IS_POSSIBLE = os.geteuid() == 0 and all(map(shutil.which, TOOLS))
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
FOLLOWED = {
    *("image", "command", "entrypoint", "environment", "env_file", "user", "volumes", "tmpfs"),
    *("read_only", "cap_drop", "security_opt", "mem_limit", "pids_limit", "ulimits"),
    *("depends_on", "stop_grace_period"),
}
FOR_ENGINES = {"build", "container_name", "restart", "init", "ports", "memswap_limit", "logging"}
CGROUPS = Path("/sys/fs/cgroup")  # of version 1; limits are not set where it is another one


@dataclass(frozen=True)
class Image:
    """A root file system, and what an engine knows of it besides."""

    root: Path
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    over: Path | None = None  # files that come before those of `root`


def image_of(dockerfile: str, target: str, root: Path) -> Image:
    """What a Dockerfile says of one of its targets, and of those that it builds on."""
    stages = re.split(r"^FROM ", re.sub(r"\\\n", " ", dockerfile), flags=re.MULTILINE)[1:]
    named = {re.findall(r" AS (\S+)", stage)[0]: stage for stage in stages}
    chain = [target]
    while (base := named[chain[0]].split()[0]) in named:
        chain.insert(0, base)
    text = "".join(named[each].partition("\n")[2] for each in chain)

    def last(instruction: str) -> str:
        return str(re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)[-1]).strip()

    return Image(
        root,
        entrypoint=json.loads(last("ENTRYPOINT")),
        command=json.loads(last("CMD")),
        environment={
            name: value
            for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE)
            for name, value in re.findall(r"(\w+)=(\S*)", line)
        },
        user=last("USER"),
        volumes=json.loads(last("VOLUME")),
        healthcheck=json.loads(last("HEALTHCHECK").partition("CMD ")[2]),
    )


def filled(text: str, given: Mapping[str, str]) -> str:
    """A compose file with its variables: `${NAME:-default}` and `${NAME:?why it is needed}`."""

    def value(found: re.Match[str]) -> str:
        name, kind, more = found.groups()
        if not given.get(name) and kind == "?":
            raise KeyError(f"{name}: {more}")
        return given.get(name) or more or ""

    return re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", value, text)


class Project:
    """A compose file and its `.env` in a folder, with a network of its own."""

    def __init__(self, folder: Path, file: str, images: Mapping[str, Image]) -> None:
        self.folder, self.images = folder, images
        self.given = env_file(folder / ".env")
        text = filled((folder / file).read_text(encoding="utf-8"), self.given)
        self.file: dict[str, Any] = yaml.safe_load(text)
        self.services: dict[str, dict[str, Any]] = self.file["services"]
        for name, service in self.services.items():
            assert set(service) <= FOLLOWED | FOR_ENGINES, name
        self.containers: dict[str, Container] = {}
        self.name = f"mosis{os.getpid()}"
        ipam = self.file.get("networks", {}).get("default", {}).get("ipam", {})
        subnets = [each["subnet"] for each in ipam.get("config", ())]
        self.network, self.lock = taken(
            subnets or [f"172.29.{number}.0/24" for number in range(250)]
        )
        self.hosts = folder / "hosts"

    def up(self, *services: str) -> None:
        """Start services (all of them by default), after those that they depend on."""
        for name in services or self.services:
            if name in self.containers:
                continue
            needed = self.services[name].get("depends_on", [])
            self.up(*needed) if needed else None
            for other in needed:
                wanted = (
                    needed[other]["condition"] if isinstance(needed, dict) else "service_started"
                )
                if wanted == "service_completed_successfully":
                    assert self.containers[other].wait(60) == 0, self.containers[other].output
                else:
                    assert wanted == "service_started"
            self.containers[name] = Container(self, name, len(self.containers) + 2)
            self.containers[name].start()

    @contextmanager
    def running(self, *services: str) -> Iterator["Project"]:
        """`up`; at the end everything is killed and removed, but for volumes."""
        ip("link", "add", self.name, "type", "bridge")
        ip("address", "add", f"{self.network}.1/24", "dev", self.name)
        ip("link", "set", self.name, "up")
        self.hosts.write_text("127.0.0.1 localhost\n")
        try:
            self.up(*services)
            yield self
        finally:
            for container in self.containers.values():
                container.remove()
            ip("link", "delete", self.name)
            self.lock.close()


def taken(subnets: list[str]) -> tuple[str, IO[str]]:
    """The first of these networks that no other test uses, or the only one once it is free; whose lock is to be closed."""
    for subnet in subnets:
        network = subnet.rpartition(".")[0]
        lock = open(Path(tempfile.gettempdir(), f"network-{network}.lock"), "w")
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if len(subnets) > 1 else 0))
            return network, lock
        lock.close()
    raise RuntimeError("every network is in use")


class Container:
    """A service of a project."""

    def __init__(self, project: Project, name: str, number: int) -> None:
        self.project, self.name = project, name
        self.service = project.services[name]
        self.image = project.images[self.service["image"]]
        self.address = f"{project.network}.{number}"
        self.log = project.folder / f"{name}.log"
        self.environment = dict(self.image.environment)
        if "env_file" in self.service:
            self.environment |= env_file(project.folder / self.service["env_file"])
        for key, value in self.service.get("environment", {}).items():
            self.environment[key] = str(value)
        user = str(self.service.get("user", self.image.user))
        self.user, self.group = map(int, user.split(":"))
        self.process: subprocess.Popen[bytes] | None = None
        self.namespace = f"{project.name}-{name}"
        link = f"ve{os.getpid()}.{number}"
        ip("netns", "add", self.namespace)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("link", "set", link, "master", project.name, "up")
        for command in (
            f"address add {self.address}/24 dev eth0",
            "link set lo up",
            "link set eth0 up",
        ):
            ip("-n", self.namespace, *command.split())
        with open(project.hosts, "a", encoding="utf-8") as hosts:
            hosts.write(f"{self.address} {name}\n")

    def start(self) -> None:
        """Start it, as the file says."""
        self._run(self.service.get("command") or self.image.command)

    def ends(self, *command: str) -> int:
        """`docker compose run --rm`: the exit code of this command instead; the container must not run."""
        self._run(list(command))
        return self.wait(60)

    def _run(self, command: list[str]) -> None:
        scratch = self.project.folder / f"scratch-{self.name}"
        scratch.mkdir(exist_ok=True)
        service = self.service
        spec = {
            "root": ":".join(str(each) for each in (self.image.over, self.image.root) if each),
            "scratch": str(scratch),
            "hosts": str(self.project.hosts),
            "volumes": self._volumes(),
            "tmpfs": service.get("tmpfs", []),
            "read_only": service.get("read_only", False),
            "capabilities": service.get("cap_drop") != ["ALL"],
            "no_new_privileges": "no-new-privileges:true" in service.get("security_opt", ()),
            "nofile": service.get("ulimits", {}).get("nofile"),
            "cgroups": self._cgroups(),
            "user": [self.user, self.group],
            "command": [*service.get("entrypoint", self.image.entrypoint), *command],
            "environment": self.environment,
        }
        line = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount", "--pid"]
        line += ["--ipc", "--uts", "--fork", sys.executable, "-I", __file__]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*line, json.dumps(spec)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _volumes(self) -> list[tuple[str, str, bool]]:
        """Source, target, and whether it is read-only; a named one begins as the image has the folder."""
        mounts = [str(each).split(":") for each in self.service.get("volumes", ())]
        mounts += [
            [f"anonymous-{self.name}{target.replace('/', '-')}", target]
            for target in self.image.volumes
            if target not in [mount[1] for mount in mounts]
        ]
        found = []
        for source, target, *mode in mounts:
            path = self.project.folder / source
            if not source.startswith("."):
                assert source.startswith("anonymous-") or source in self.project.file["volumes"]
                path = self.project.folder / "volumes" / source
                if not path.exists():
                    path.mkdir(parents=True)
                    with suppress(FileNotFoundError):
                        owner = (self.image.root / target[1:]).stat()
                        os.chown(path, owner.st_uid, owner.st_gid)
            found.append((str(path.resolve(strict=True)), target, mode == ["ro"]))
        return found

    def _cgroups(self) -> list[str]:
        """Groups with the limits of the file."""
        limits = {
            "memory": ("memory.limit_in_bytes", self.service.get("mem_limit")),
            "pids": ("pids.max", self.service.get("pids_limit")),
        }
        groups = []
        for kind, (name, limit) in limits.items():
            if limit and (CGROUPS / kind / "tasks").exists():
                group = CGROUPS / kind / self.namespace
                group.mkdir(exist_ok=True)
                (group / name).write_text(str(limit))
                groups.append(str(group))
        return groups

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        """Process 1 of the container, seen from here."""
        assert self.process is not None
        parent = self.process.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])

    def exec(self, *command: str) -> list[str]:
        """`docker exec`: a command line that runs this in the container."""
        values = [f"{name}={value}" for name, value in self.environment.items()]
        entered = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--ipc"]
        entered += ["--root", "--wd", f"--setuid={self.user}", f"--setgid={self.group}"]
        return ["env", "-i", *values, shutil.which("nsenter") or "", *entered[1:], *command]

    def asked(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What a command in the container prints, and its exit code."""
        return subprocess.run(
            self.exec(*command), capture_output=True, text=True, timeout=60, check=False
        )

    def is_healthy(self) -> bool:
        """What the image's HEALTHCHECK finds."""
        return self.asked(*self.image.healthcheck).returncode == 0

    def stop(self) -> int:
        """SIGTERM; the exit code. Raises TimeoutExpired when it takes longer than `stop_grace_period`."""
        os.kill(self.pid, 15)
        return self.wait(int(str(self.service.get("stop_grace_period", "10s")).rstrip("s")))

    def wait(self, seconds: float) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def remove(self) -> None:
        if self.process and self.process.poll() is None:
            os.kill(self.pid, 9)  # process 1, and with it everything in the container
            self.wait(60)
        ip("netns", "delete", self.namespace)
        for kind in ("memory", "pids"):
            group = CGROUPS / kind / self.namespace
            deadline = time.monotonic() + 20
            while group.exists() and time.monotonic() < deadline:
                with suppress(OSError):  # its processes are still ending
                    group.rmdir()
                time.sleep(0.01)


def capabilities(pid: int) -> int:
    """Everything that a process has or could get, as one bit set."""
    found = 0
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("Cap"):
            found |= int(line.split()[1], 16)
    return found


def env_file(path: Path) -> dict[str, str]:
    """`NAME=VALUE` lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=60)


def enter(spec: dict[str, Any]) -> NoReturn:
    """Become the container: process 1 of the new namespaces."""

    def mount(*arguments: str | Path) -> None:
        subprocess.run(["mount", *map(str, arguments)], check=True)

    def bind(source: str | Path, target: Path, *, read_only: bool = False) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(exist_ok=True) if Path(source).is_dir() else target.touch()
        mount("--bind", source, target)
        if read_only:
            mount("-o", "remount,bind,ro", target)

    for group in spec["cgroups"]:
        Path(group, "tasks").write_text("0")
    scratch = Path(spec["scratch"])
    mount("-t", "tmpfs", "tmpfs", scratch)
    layers = [scratch / name for name in ("upper", "work", "root")]
    for layer in layers:
        layer.mkdir()
    upper, work, root = layers
    options = f"lowerdir={spec['root']},upperdir={upper},workdir={work}"
    mount("-t", "overlay", "-o", options, "overlay", root)
    for name, kind in (("proc", "proc"), ("dev", "tmpfs")):
        (root / name).mkdir(exist_ok=True)
        mount("-t", kind, kind, root / name)
    for device in ("null", "zero", "full", "random", "urandom"):
        bind(f"/dev/{device}", root / "dev" / device)
    bind(spec["hosts"], root / "etc/hosts", read_only=True)
    for source, target, read_only in spec["volumes"]:
        bind(source, root / target[1:], read_only=read_only)
    for each in spec["tmpfs"]:
        target, _, options = each.partition(":")
        (root / target[1:]).mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", options, "tmpfs", root / target[1:])
    if spec["read_only"]:
        mount("-o", "remount,ro", root)
    if spec["nofile"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spec["nofile"], spec["nofile"]))
    os.chroot(root)
    os.chdir("/")
    libc = ctypes.CDLL(None)
    if not spec["capabilities"]:
        for capability in range(64):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setgid(spec["user"][1])
    os.setuid(spec["user"][0])
    if spec["no_new_privileges"]:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.environ["PATH"] = spec["environment"]["PATH"]
    os.execvpe(spec["command"][0], spec["command"], spec["environment"])


if __name__ == "__main__":
    enter(json.loads(sys.argv[1]))
