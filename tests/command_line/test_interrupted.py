"""Killed, cut off, refused: the same command again goes on, and there is one version."""

import contextlib
import json
import os
import random
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosis.client.api import Portal
from mosis.client.output import Output
from tests.campaign import short_and_full
from tests.client import PASSWORD, Account, Client
from tests.command_line.driver import Mosis, Terminal, approve_all, ended
from tests.conftest import FakeClock
from tests.server import command as server_command
from tests.server import running, wait_until

APP = "app.alice.notes"


@pytest.fixture
def settings(settings: dict[str, str]) -> dict[str, str]:
    return settings | {"ACCOUNT_UNPUBLISHED_VERSIONS": "1000"}


def versions(client: Client, alice: Account) -> list[tuple[str, str]]:
    """(version, state) of every version of the app, the newest first."""
    found, cursor = [], ""
    while True:
        answer = client.get(f"/v1/apps/{APP}/versions?limit=100{cursor}", as_=alice)
        if answer.status != 200:
            return []
        found += [(each["version"], each["state"]) for each in answer["versions"]]
        if not answer["next_cursor"]:
            return found
        cursor = f"&cursor={answer['next_cursor']}"


@pytest.mark.slow
@pytest.mark.parametrize("cycles", short_and_full(6, 200))
def test_killed_at_any_moment_and_run_again(
    mosis: Mosis, client: Client, alice: Account, cycles: int
) -> None:
    """Each cycle is a version: `--bump patch` is killed, then run again until it ends."""
    chance = random.Random(4)
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    for cycle in range(1, cycles + 1):
        mosis.folder.joinpath("notes/assets/scripts/main.lua").write_text(f"return {cycle}\n")
        for _ in range(2):
            with ended(mosis.start("publish", "notes", "--bump", "patch")) as process:
                with contextlib.suppress(Exception):
                    process.wait(chance.uniform(0.1, 0.8))
                if process.poll() is not None:
                    break
                process.kill()
        else:
            mosis("publish", "notes", "--bump", "patch").expect(0)
        found = versions(client, alice)
        assert found == [(f"1.0.{number}", "in_review") for number in range(cycle, -1, -1)]


class Cut:
    """A proxy in between that breaks the next `breaks` connections after `after` bytes from the client."""

    def __init__(self, port: int) -> None:
        self.port, self.breaks, self.after, self.broken = port, 0, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", self.port))
        passed = 0
        with near, far, contextlib.suppress(OSError):
            while True:
                for ready in select.select([near, far], [], [], 30)[0]:
                    data = ready.recv(4096)
                    if not data:
                        return
                    (far if ready is near else near).sendall(data)
                    passed += len(data) if ready is near else 0
                    if self.breaks and passed > self.after:
                        self.breaks, self.broken = self.breaks - 1, self.broken + 1
                        return


@pytest.fixture
def cut(mosis: Mosis, alice: Account, url: str) -> Iterator[Cut]:
    made = Cut(int(url.rpartition(":")[2]))
    mosis.url = mosis.environment["MOSIS_URL"] = made.url
    mosis.sign_in(alice)
    yield made
    made.listener.close()


@pytest.mark.parametrize("after", [100, 1500, 3000])
def test_the_network_is_cut(
    mosis: Mosis, cut: Cut, client: Client, alice: Account, after: int
) -> None:
    mosis("init", "notes").expect(0)
    cut.after, cut.breaks = after, 2
    mosis("publish", "notes").expect(0)
    assert cut.broken > 0
    assert versions(client, alice) == [("1.0.0", "in_review")]


def test_nobody_answers(offline: Mosis, monkeypatch: pytest.MonkeyPatch) -> None:
    from mosis.client import api

    monkeypatch.setattr(api, "FIRST_SECONDS", 1)
    offline("init", "notes").expect(0)
    secrets = {"MOSIS_URL": "http://127.0.0.1:9", "MOSIS_TOKEN": "x"}
    assert "run the same command again" in offline("publish", "notes", env=secrets).expect(4).err


def test_unchanged_files_are_one_version(mosis: Mosis, client: Client, alice: Account) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    for _ in range(2):
        mosis("publish", "notes", "--bump", "patch").expect(0)
    assert [version for version, _ in versions(client, alice)] == ["1.0.1", "1.0.0"]
    mosis("publish", "notes", "--bump", "patch", "--again").expect(0)
    assert versions(client, alice)[0][0] == "1.0.2"


def test_withdrawn_and_the_same_bytes_again(mosis: Mosis, client: Client, alice: Account) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    client.post(f"/v1/apps/{APP}/versions/1.0.0/withdraw", as_=alice).expect(200)
    assert mosis("publish", "notes", "--json").expect(0).json["state"] == "in_review"
    assert versions(client, alice) == [("1.0.0", "in_review"), ("1.0.0", "withdrawn")]


def test_questions_and_progress_on_a_terminal(mosis: Mosis, client: Client, alice: Account) -> None:
    terminal = Terminal(mosis, "init", "notes")
    with ended(terminal.process):
        terminal.read("Package id")
        terminal.type("com.acme.notes\n")
        terminal.read("Name of the app")
        terminal.type("Notes\n")
        terminal.read("Author")
        terminal.type("\n")
        terminal.read("E-mail")
        terminal.type("\n")
        terminal.read()
        assert terminal.process.wait(60) == 0
    assert mosis.manifest()["id"] == "com.acme.notes"
    terminal = Terminal(mosis, "publish", "notes")
    with ended(terminal.process):
        shown = terminal.read()
        assert terminal.process.wait(60) == 0
    assert "Uploading com.acme.notes 1.0.0 [####" in shown
    assert "100%" in shown


def test_ctrl_c_stops_watching_and_not_the_release(
    mosis: Mosis, client: Client, alice: Account, rita: Account
) -> None:
    mosis("init", "notes").expect(0)
    terminal = Terminal(mosis, "publish", "notes", "--when-approved")
    with ended(terminal.process):
        terminal.read("in the queue")
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.process.wait(60) == 130
        assert "interrupted" in terminal.read()
    (review,) = client.get("/v1/reviews", as_=rita)["reviews"]
    client.post(f"/v1/reviews/{review['id']}/approve", as_=rita).expect(200)
    wait_until(lambda: versions(client, alice) == [("1.0.0", "published")], "it is published")


def test_what_cannot_be_taken_back_asks(mosis: Mosis, client: Client, rita: Account) -> None:
    mosis("init", "notes").expect(0)
    mosis("publish", "notes").expect(0)
    approve_all(client, rita)
    mosis("publish", "notes").expect(0)
    assert "--yes" in mosis("halt", APP, "1.0.0").expect(2).err
    terminal = Terminal(mosis, "halt", APP, "1.0.0")
    with ended(terminal.process):
        terminal.read("[y/N]")
        terminal.type("n\n")
        terminal.read()
        assert terminal.process.wait(60) == 1
    assert mosis("halt", APP, "1.0.0", "--yes", "--json").expect(0).json["state"] == "halted"


def test_somebody_elses_text_cannot_drive_the_terminal(mosis: Mosis, tmp_path: Path) -> None:
    mosis("init", "notes").expect(0)
    mosis.folder.joinpath("notes/assets/a\x1b[31m.txt").write_text("x")
    answer = mosis("check", "notes").expect(1)
    assert "\x1b" not in answer.out + answer.err


@pytest.mark.slow
def test_the_server_is_killed_and_started_again(tmp_path: Path) -> None:
    """While `publish` builds, uploads, waits for the checks and for the review: it goes on by itself."""
    chance = random.Random(6)
    with running(tmp_path) as server:
        mosis = Mosis(tmp_path / "home", server.url)
        account = {"email": "alice@example.net", "password": PASSWORD, "name": "Alice"}
        api = Portal(mosis.config, server.url, Output(quiet=True))
        api.post("/auth/register", account, public=True)
        mosis("login", server.url, "--email", account["email"], stdin=PASSWORD + "\n").expect(0)
        mosis("init", "notes").expect(0)
        for number in range(2):
            more = ["--bump", "patch"] if number else []
            with ended(mosis.start("publish", "notes", *more, "--json")) as process:
                with contextlib.suppress(Exception):
                    process.wait(chance.uniform(0.2, 0.8))
                server.kill()
                server.start()
                out, err = process.communicate(timeout=280)
            assert process.returncode == 0, (out, err)
            assert json.loads(out)["state"] == "in_review"
            mosis.folder.joinpath("notes/assets/scripts/main.lua").write_text(f"return {number}\n")
        rows = mosis("status", APP, "--json").expect(0).json["versions"]
        assert [row["version"] for row in rows] == ["1.0.1", "1.0.0"]
        made = server_command(tmp_path, "admin", "create", "rita@example.net").stdout
        password = made.partition("password ")[2].split()[0] + "\n"
        reviewer = Mosis(tmp_path / "rita", server.url)
        reviewer("login", server.url, "--email", "rita@example.net", stdin=password).expect(0)
        with ended(
            mosis.start("publish", "notes", "--bump", "patch", "--when-approved")
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if "waiting for the review" in line:
                    break
            server.kill()
            server.start()
            (review,) = (
                each
                for each in reviewer("review", "--json").expect(0).json["reviews"]
                if each["version"] == "1.0.2"
            )
            reviewer("approve", review["id"], "--yes").expect(0)
            out, err = process.communicate(timeout=280)
        assert process.returncode == 0, (out, err)
        assert "1.0.2: published" in out


@pytest.mark.slow
@pytest.mark.parametrize("how", ["expired", "ended"])
def test_the_session_ends_while_publish_waits(
    mosis: Mosis, client: Client, alice: Account, rita: Account, clock: FakeClock, how: str
) -> None:
    """A token that has expired is replaced; a session that was ended stops with what to do, and the
    release goes on."""
    mosis("init", "notes").expect(0)
    with ended(mosis.start("publish", "notes", "--when-approved")) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting for the review" in line:
                break
        if how == "expired":
            clock.advance(3600)
            rita = client.sign_in(rita)
        else:
            client.post("/v1/auth/logout", as_=alice).expect(204)
        approve_all(client, rita)
        out, err = process.communicate(timeout=60)
    if how == "expired":
        assert (process.returncode, "published" in out) == (0, True), (out, err)
    else:
        assert process.returncode == 1
        assert f"Sign in again: mosis login {mosis.url}" in err
    alice = client.sign_in(alice)
    wait_until(lambda: versions(client, alice) == [("1.0.0", "published")], "it is published")
