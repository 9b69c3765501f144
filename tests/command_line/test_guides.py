"""The commands of the guides, word for word, against a portal that runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import portal
from mosis.packages import manifest
from mosis.packages.findings import FINDINGS
from tests.client import PASSWORD, Account, Client
from tests.command_line.driver import Mosis, approve_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]


def blocks(document: str) -> list[str]:
    text = portal.HERE.joinpath("docs", document).read_text(encoding="utf-8")
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


class Shell:
    """Runs the blocks of a page, one after another, in one folder."""

    def __init__(self, mosis: Mosis) -> None:
        programs = mosis.folder / "bin"
        programs.mkdir()
        for name, command in (("python3", ""), ("mosis", "-m mosis.client.main")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} {command} "$@"\n')
            program.chmod(0o755)
        self.folder = mosis.folder
        self.environment = mosis.environment | {
            "PATH": f"{programs}:{mosis.environment['PATH']}", "PORTAL": str(mosis.url), "PYTHONPATH": str(portal.HERE),
        }  # fmt: skip

    def __call__(self, script: str) -> str:
        done = subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout


def test_getting_started(
    tmp_path: Path, url: str, client: Client, alice: Account, rita: Account
) -> None:
    mosis = Mosis(tmp_path / "home", url)
    del mosis.environment["MOSIS_URL"]
    mosis.folder.joinpath("password.txt").write_text(PASSWORD + "\n")
    shell, output = Shell(mosis), ""
    define = next(block for block in blocks("GETTING-STARTED.md") if "mosis()" in block)
    for block in blocks("GETTING-STARTED.md"):
        output += shell(define + block if "mosis " in block else block)
        if block == "mosis publish notes\n":
            assert approve_all(client, rita) == ["com.acme.notes"]
    for words in (
        "Signed in", "notes/assets/main.rml", "the checks pass", "1.0.0: in_review", "1.0.0: published",
        "com.acme.notes 1.0.0 is in", "1.0.1: in_review",
    ):  # fmt: skip
        assert words in output
    for folder in ("notes", "on-the-device"):
        assert (mosis.folder / folder / "manifest.json").is_file()
    assert "PRIVATE KEY" in mosis.folder.joinpath("signing-key-backup.pem").read_text()


def test_publishing(mosis: Mosis, client: Client, rita: Account) -> None:
    mosis("init", "notes", "--id", "com.acme.notes").expect(0)
    mosis.folder.joinpath("release-notes.txt").write_text("The first version.\n")
    shell, output = Shell(mosis), ""
    for block in blocks("PUBLISHING.md"):
        for line in block.splitlines():
            output += shell(line)
            if "--no-wait" in line and "--when-approved" not in line:
                mosis("publish", "notes").expect(
                    0
                )  # as the reviewers see it: the checks are through
                assert approve_all(client, rita) == ["com.acme.notes"]
    rows = mosis("status", "com.acme.notes", "--json").expect(0).json["versions"]
    assert {row["version"]: row["state"] for row in rows} == {
        "1.1.0": "yanked",
        "1.0.0": "published",
    }
    assert "version.published" in output
    assert "version.yanked" in output


def test_permissions_are_those_of_the_checks() -> None:
    kinds = {
        "normal": manifest.NORMAL_PERMISSIONS,
        "dangerous": manifest.DANGEROUS_PERMISSIONS,
        "system": manifest.RESERVED_PERMISSIONS,
    }
    text = portal.HERE.joinpath("docs/PERMISSIONS.md").read_text(encoding="utf-8")
    for kind, known in kinds.items():
        (row,) = re.findall(rf"^\| {kind} \| [^|]* \| (.*) \|$", text, re.MULTILINE)
        assert set(re.findall(r"`([\w.]+)`", row)) == set(known), kind
    for code in re.findall(r"`(permission_\w+)`", text):
        assert code in FINDINGS, code
