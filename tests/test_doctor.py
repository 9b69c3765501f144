"""`portal.py doctor`: each thing that an operator can get wrong has its line, with what to do, and the exit code tells."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Debugging

import portal
from mosis.operations import doctor
from mosis.operations.doctor import Line, Machine
from tests.server import command, free_port, running

pytestmark = pytest.mark.slow


def lines(folder: Path, machine: Machine | None = None, **settings: str) -> dict[str, Line]:
    """What the doctor says about a portal in this folder: the worst line of each subject."""
    places = {
        "DATABASE_PATH": str(folder / "data/portal.db"),
        "PACKAGES_DIR": str(folder / "packages"),
        "ASSETS_DIR": str(folder / "assets"),
        "DISK_RESERVE_BYTES": "0",
        "LISTEN_ADDR": f"127.0.0.1:{free_port()}",
    }
    found: dict[str, Line] = {}
    order = ("ok", "warn", "bad")
    newest = len(list((portal.HERE / "migrations").glob("[0-9]*.sql")))
    for line in doctor.examine(portal.Config.read(places | settings), newest, machine):
        if line.subject not in found or order.index(line.level) > order.index(
            found[line.subject].level
        ):
            found[line.subject] = line
    return found


def test_a_portal_that_runs_well_has_no_bad_line(tmp_path: Path) -> None:
    with running(tmp_path, {"BACKUPS_DIR": str(tmp_path / "backups")}) as server:
        seen = subprocess.run(
            [sys.executable, str(portal.HERE / "portal.py"), "doctor"],
            env=server.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert seen.returncode == 0, seen.stdout
    assert f"{server.url} answers" in seen.stdout
    assert "whole, schema" in seen.stdout


def test_the_exit_code_tells_of_a_bad_line_and_wrong_settings_are_listed(tmp_path: Path) -> None:
    bad = command(tmp_path, "doctor", settings={"BASE_URL": "https://localhost:1"})
    assert (bad.returncode, "TRUSTED_PROXY is not set" in bad.stdout) == (portal.FAILED, True)
    short = command(tmp_path, "doctor", settings={"JWT_SECRET": "short"})
    assert (short.returncode, "at least 32 bytes" in short.stderr) == (portal.CONFIG, True)


@pytest.mark.parametrize(("settings", "subject", "level", "message"), [
    ({}, "replica", "warn", "set BACKUPS_DIR"),
    ({}, "mail", "warn", "set SMTP_URL"),
    ({}, "BASE_URL", "warn", "does not run here"),
    ({"JWT_SECRET": "a" * 40}, "JWT_SECRET", "bad", "openssl rand"),
    ({"BASE_URL": "https://apps.example.net"}, "proxy", "bad", "TRUSTED_PROXY is not set"),
    ({"TRUSTED_PROXY": "0.0.0.0/0"}, "proxy", "bad", "Name the proxy's address"),
    ({"BASE_URL": "http://apps.example.net"}, "proxy", "warn", "TLS"),
    ({"DISK_RESERVE_BYTES": str(1 << 40)}, "data", "bad", "make room"),
    ({"DATABASE_PATH": "/proc/nowhere/portal.db"}, "data", "bad", "chown"),
    ({"SMTP_URL": "smtp://127.0.0.1:1"}, "mail", "bad", "SMTP_URL"),
    ({"BACKUP_URL": "sftp://nobody:x@127.0.0.1:1/portal"}, "replica", "bad", "BACKUP_URL"),
])  # fmt: skip
def test_each_mistake_has_its_line(
    tmp_path: Path, settings: dict[str, str], subject: str, level: str, message: str
) -> None:
    line = lines(tmp_path, **settings)[subject]
    assert (line.level, message in line.text) == (level, True), line


def test_backups_on_the_disk_of_the_data_are_reported(tmp_path: Path) -> None:
    assert (
        "on the same disk as the data"
        in lines(tmp_path, BACKUPS_DIR=str(tmp_path / "backups"))["backups"].text
    )


def test_a_public_address_that_leads_elsewhere_is_reported(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        line = lines(
            tmp_path,
            LISTEN_ADDR=f"127.0.0.1:{server.port}",
            BASE_URL=f"http://127.0.0.1:{free_port()}",
        )["BASE_URL"]
    assert (line.level, "although the portal runs" in line.text) == ("bad", True)


def test_a_damaged_or_newer_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "data/portal.db"
    command(tmp_path, "migrate")
    assert lines(tmp_path)["database"].level == "ok"
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 999")
    raw.close()
    assert "start the newer program" in lines(tmp_path)["database"].text
    with open(path, "r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 5))
    assert "is damaged" in lines(tmp_path)["database"].text


def test_a_folder_in_the_place_of_the_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data/portal.db").mkdir(parents=True)
    assert "cannot be opened" in lines(tmp_path)["database"].text


def test_a_clock_that_went_back_is_reported(tmp_path: Path) -> None:
    command(tmp_path, "migrate")
    os.utime(tmp_path / "data/portal.db", (time.time() + 3600,) * 2)
    assert "it went back" in lines(tmp_path)["clock"].text


def test_a_network_file_system_and_one_without_locks_are_reported(tmp_path: Path) -> None:
    assert (
        lines(tmp_path)["data"].level == "ok"
    )  # also proves that a lock keeps another process out here
    network = Machine(file_system=lambda folder: "nfs4")
    assert "SQLite needs a disk of this machine" in lines(tmp_path, network)["data"].text
    odd = Machine(file_system=lambda folder: "odd", has_locks=lambda folder: False)
    assert "has no locks" in lines(tmp_path, odd)["data"].text


def test_missing_programs_and_features_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.Litestream, "program", None)
    old = Machine(has_full_text_search=lambda: False)
    found = lines(tmp_path, old, BACKUPS_DIR=str(tmp_path / "backups"))
    assert "FTS5" in found["SQLite"].text
    assert "mosis-portal[backup]" in found["replica"].text


class Picky(Debugging):
    """A server that takes mail from nobody."""

    async def handle_MAIL(
        self, server: object, session: object, envelope: object, address: str, options: object
    ) -> str:
        return "550 not from you"


@pytest.mark.parametrize(("handler", "level"), [(Debugging, "ok"), (Picky, "bad")])
def test_a_mail_server_is_tried_without_sending(
    tmp_path: Path, handler: type[Debugging], level: str
) -> None:
    controller = Controller(handler(), hostname="127.0.0.1", port=free_port(), ready_timeout=60)
    controller.start()
    try:
        line = lines(tmp_path, SMTP_URL=f"smtp://127.0.0.1:{controller.port}")["mail"]
    finally:
        controller.stop()
    assert line.level == level, line
