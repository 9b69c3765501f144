"""compose.yaml as a newcomer uses it: the commands of README.md and docs/OPERATIONS.md in containers with the image's root
file system. IMAGE_ROOT names one that was built; without it `image/collect.py` makes one from this Python."""

import fcntl
import gzip
import http.cookiejar
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import portal
from mosis import VERSION
from tests import containers
from tests.containers import Container, Image, Project
from tests.server import free_port, wait_until
from tests.test_cookbook import TOOLS, commands
from tests.test_documents import blocks

HERE = portal.HERE
DOCKERFILE = HERE.joinpath("Dockerfile").read_text(encoding="utf-8")
OWNER = 1234  # neither root nor the user of the image
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not containers.IS_POSSIBLE, reason=containers.MISSING),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The target portal-with-litestream; what is made is shared by all workers of a run."""
    root = Path(os.environ.get("IMAGE_ROOT", ""))
    if root == Path():
        shared = tmp_path_factory.getbasetemp()
        shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
        root = shared / "image/root-fs"
        with open(shared / "image.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not root.exists():
                collected(root.parent, root)
    return containers.image_of(DOCKERFILE, "portal-with-litestream", root)


def collected(folder: Path, root: Path) -> None:
    """What the stage `build` of the Dockerfile does, with the packages of this Python."""
    build, app, site = folder / "build", folder / "build/app", folder / "build/site"
    app.mkdir(parents=True)
    for line in re.findall(r"^COPY (\S.*) /build/(\S*)$", DOCKERFILE, re.MULTILINE):
        for name in line[0].split():
            source, target = HERE / name, build / line[1]
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
    for requirements in ("requirements.txt", "requirements-litestream.txt"):
        text = (build / requirements).read_text(encoding="utf-8")
        for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE):
            for file in importlib.metadata.files(name) or ():
                inside = file.parts[0] != ".." and file.suffix != ".pyc"
                if inside:
                    (site / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file.locate(), site / file)
    python = Path(sys.base_prefix, "bin/python3")
    collect = [python, "-B", build / "collect.py", root, site, app]
    done = subprocess.run(collect, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(Path(sys.executable).with_name("litestream"), root / "usr/bin/litestream")
    for name in ("data", "packages", "backups"):
        os.chown(root / name, 1026, 100)
    (root / "tmp").chmod(0o1777)


@pytest.fixture
def project(tmp_path: Path, image: Image) -> Project:
    """What README.md has a newcomer do, with lines for the cookbook in `.env`."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(Path(os.environ.get("PYTEST_DEBUG_TEMPROOT", "/tmp"))):
            folder.chmod(folder.stat().st_mode | 0o711)
    home = tmp_path / "mosis"
    home.mkdir()
    os.chown(home, OWNER, 100)
    (prepare,) = (block for block in blocks("README.md", "sh") if "mkdir" in block)
    subprocess.run(
        ["sh", "-eu", "-c", prepare.partition("docker")[0]], cwd=home, user=OWNER, group=100, check=True, timeout=60
    )  # fmt: skip
    shutil.copy(HERE / "compose.yaml", home)
    return Project(home, "compose.yaml", {f"mosis-portal:{VERSION}": image})


def get(container: Container, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{container.address}:8080{path}", timeout=60) as answer:
        return bytes(answer.read())


def answers(container: Container) -> bool:
    assert container.process is not None
    assert container.process.poll() is None, container.output
    try:
        return get(container, "/healthz") != b""
    except OSError:
        return False


@contextmanager
def up(project: Project) -> Iterator[Container]:
    """`docker compose up -d`."""
    with project.running():
        container = project.containers["portal"]
        wait_until(lambda: answers(container), "the container answers", 30)
        yield container


def status_of(container: Container) -> dict[str, str]:
    lines = Path(f"/proc/{container.pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def test_the_container_has_the_rights_and_bounds_of_the_compose_file(project: Project) -> None:
    with up(project) as container:
        status = status_of(container)
        assert status["Uid"].split() == [str(OWNER)] * 4
        assert status["Gid"].split() == ["100"] * 4
        assert containers.capabilities(container.pid) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["NSpid"].split()[-1] == "1"
        limits = Path(f"/proc/{container.pid}/limits").read_text(encoding="utf-8")
        assert re.search(r"^Max open files +8192 +8192 ", limits, re.MULTILINE)
        mounts = Path(f"/proc/{container.pid}/mountinfo").read_text(encoding="utf-8")
        assert re.search(r" / / ro[, ]", mounts)
        (tmp,) = re.findall(r" / /tmp (\S+) .*tmpfs (\S+)", mounts)
        assert {"nosuid", "nodev", "noexec"} <= set(tmp[0].split(","))
        assert "size=65536k" in tmp[1]
        program = "import pathlib; pathlib.Path('/app/x').write_text('')"
        assert "Read-only file system" in container.asked("python3", "-c", program).stderr
        doctor = container.asked(*container.image.entrypoint, "doctor")
        assert doctor.returncode == 0, doctor.stdout
        assert not re.search("^(bad|warn data|warn packages)", doctor.stdout, re.MULTILINE)
        assert container.is_healthy()
        os.kill(container.pid, 19)  # SIGSTOP: it hangs
        assert not container.is_healthy()
        os.kill(container.pid, 18)
        assert container.stop() == 0


def test_the_printed_link_makes_the_first_administrator(project: Project) -> None:
    with up(project) as container:
        wait_until(lambda: "/setup#" in container.output, "the set-up link is printed")
        (token,) = re.findall(r"http://localhost:8080/setup#([\w-]+)", container.output)
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        browser = urllib.request.build_opener(cookies)
        browser.addheaders = [("Origin", "http://localhost:8080"), ("Accept", "text/html")]
        url = f"http://{container.address}:8080/setup"
        page = browser.open(url, timeout=60).read().decode()
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
        fields |= {
            "token": token,
            "email": "a@example.net",
            "name": "A",
            "password": "three random words",
        }
        with browser.open(url, urllib.parse.urlencode(fields).encode(), timeout=60) as made:
            assert "You are the administrator" in made.read().decode()
        container.stop()
        container.start()
        wait_until(lambda: answers(container), "the container answers again")
        assert container.output.count("/setup#") == 1, "it is made once"


@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")
def test_the_cookbook_works_in_the_container(project: Project, tmp_path: Path) -> None:
    with open(project.folder / ".env", "a", encoding="utf-8") as env:
        env.write("EVENTS_ADDR=:8081\nWEBHOOKS_PRIVATE=allow\n")
        env.write(f"BASE_URL=http://{project.network}.2:8080\n")
    with up(project) as container:
        python = tmp_path / "python"  # portal.py runs in the container, the examples here
        inside = " ".join(f"'{each}'" for each in container.exec(*container.image.entrypoint))
        python.write_text(
            f'#!/bin/sh\ntest "$1" = portal.py || exec {sys.executable} "$@"\nshift\nexec {inside} "$@"\n'
        )
        python.chmod(0o755)
        environment = {
            "PORTAL": f"http://{container.address}:8080",
            "EVENTS": f"ws://{container.address}:8081",
            "HOOK": f"http://{project.network}.1:{free_port()}",
            "PYTHON": str(python),
            "TMPDIR": str(tmp_path),
            "HOME": str(tmp_path / "home"),
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            ["bash", "--posix", "-c", commands("COOKBOOK.md")],
            cwd=HERE, env=environment, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert done.stdout.count("com.acme.notes 1.0.4 passed the checks.") == 2
        (backup,) = (line for block in blocks("docs/OPERATIONS.md", "sh") for line in block.splitlines()
                     if line.startswith("docker exec"))  # fmt: skip
        _, _, name, *command = backup.split()
        assert name == container.service["container_name"]
        copy = container.asked(*command)
        assert copy.returncode == 0, copy.stderr
        made = copy.stdout.partition(": ")[0]
        assert made.startswith("/backups/copies/")
        assert container.stop() == 0
        assert container.ends("restore", "--from", made) == 0, container.output
        container.start()
        wait_until(lambda: answers(container), "the container answers with the copy")
        assert b"com.acme.notes" in get(container, "/v1/store/apps")


def test_the_data_of_an_older_release_is_migrated(project: Project) -> None:
    for name in ("portal", "telemetry"):
        path = project.folder / f"data/{name}.db"
        path.write_bytes(gzip.decompress((HERE / f"tests/schemas/{name}-0001.db.gz").read_bytes()))
        os.chown(path, OWNER, 100)
    with up(project) as container:
        assert list((project.folder / "data").glob("portal.db.before-*"))
        assert container.is_healthy()
        assert container.stop() == 0


def test_a_folder_of_somebody_else_is_named(project: Project) -> None:
    os.chown(project.folder / "data", 0, 0)
    with project.running():
        container = project.containers["portal"]
        assert container.wait(60) == 78
        assert "/data" in container.output
