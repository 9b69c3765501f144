"""The README: what it shows is there, its compose file is the one of the project, and its commands run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import portal
from mosis.config import Config, read_env_file
from tests.client import PASSWORD, Account, Client
from tests.command_line.conftest import alice, settings, url  # noqa: F401  (fixtures)
from tests.command_line.driver import Mosis
from tests.server import command

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
    (prepare,) = (block for block in blocks("sh") if "mkdir" in block)
    subprocess.run(["sh", "-eu", "-c", prepare], cwd=tmp_path, check=True, timeout=30)
    assert {each.name for each in tmp_path.iterdir()} == {"data", "packages", "backups", ".env"}
    found = read_env_file(tmp_path / ".env")
    assert found["PUID"].isdigit()
    (lines,) = blocks("ini")
    tmp_path.joinpath(".env").write_text(lines)
    config = Config.read(read_env_file(tmp_path / ".env"))
    assert config.base_url == "https://apps.example.net"
    assert config.trusted_proxy


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs docker")
def test_docker_compose_understands_the_file(tmp_path: Path) -> None:
    tmp_path.joinpath("compose.yaml").write_text(blocks("yaml")[0])
    tmp_path.joinpath(".env").write_text("PUID=1000\nPGID=1000\n")
    command = ["docker", "compose", "config", "--format", "json"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    if re.search("is not a docker command|unknown flag", done.stderr):
        pytest.skip("docker has no compose here")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["services"]["portal"]["user"] == "1000:1000"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_publish_an_app(
    tmp_path: Path,
    url: str,  # noqa: F811
    client: Client,
    alice: Account,  # noqa: F811
) -> None:
    (script,) = (block for block in blocks("sh") if "mosis.pyz" in block)
    script = script.replace("http://localhost:8080", url)
    script = script.replace("mosis.pyz login", f"mosis.pyz login --email {alice.email}")
    mosis = Mosis(tmp_path / "home")
    python = mosis.folder / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    mosis.environment["PATH"] = f"{mosis.folder}:{mosis.environment['PATH']}"
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=mosis.folder, env=mosis.environment, input=PASSWORD + "\n", capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1.0.0: in_review" in done.stdout


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
