"""The replica, with the real Litestream beside the real portal: what is written comes back when the data folder is lost."""

import json
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import portal
from mosis.config import Config
from mosis.context import Context
from mosis.litestream import Litestream, replication
from mosis.operations import readiness
from tests.client import Client
from tests.server import Backed, command, in_the_replica, is_alive, names_in, wait_until

pytestmark = pytest.mark.slow


def test_a_lost_data_folder_comes_back_at_the_next_start(server: Backed) -> None:
    server.register("alice")
    server.replicated()
    server.register("bob")
    server.synced()
    server.lose_everything()
    server.start()
    assert server.names == ["alice", "bob"]
    assert "restored from the replica" in server.log.read_text()
    holding = [server.data / "portal.db", *server.backups.rglob("*.ltx")]
    assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}, "they hold secrets"
    server.register("carol")  # and it goes on from there
    server.replicated()
    server.lose_everything()
    server.start()
    assert server.names == ["alice", "bob", "carol"]


def test_an_empty_database_is_not_replicated_over_the_good_one(server: Backed) -> None:
    server.register("alice")
    server.replicated()
    assert server.stop() == 0
    (server.data / "portal.db").write_bytes(b"")
    server.start()
    assert server.names == ["alice"]


def test_a_replica_that_cannot_be_restored_stops_the_start_instead_of_being_overwritten(
    server: Backed,
) -> None:
    server.replicated()
    assert server.stop() == 0
    (server.data / "portal.db").unlink()
    for file in server.backups.rglob("*.ltx"):
        file.write_bytes(b"rubbish")
    refused = command(server.folder, "serve", settings={"BACKUPS_DIR": str(server.backups)})
    assert (refused.returncode, "litestream" in refused.stderr) == (portal.FAILED, True)
    assert not (server.data / "portal.db").exists()


def test_stopping_takes_the_last_commit_along(server: Backed) -> None:
    server.replicated()
    server.register("alice")
    litestream = server.litestream
    assert server.stop() == 0
    assert not is_alive(litestream)
    shutil.rmtree(server.data)
    server.start()
    assert server.names == ["alice"]


def test_litestream_is_started_again_when_it_dies_and_it_is_reported(server: Backed) -> None:
    server.replicated()
    os.kill(server.litestream, signal.SIGKILL)
    ready = server.wait_for(
        lambda ready: in_the_replica(ready) and ready["replica"]["restarts"] == 1
    )
    assert ready["sqlite_version"] == sqlite3.sqlite_version
    lines = [
        json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")
    ]
    assert any(
        line["level"] == "error" and "litestream ended with code -9" in line.get("reason", "")
        for line in lines
    )


def test_litestream_dies_with_the_portal(server: Backed) -> None:
    server.replicated()
    litestream = server.litestream
    server.kill()
    wait_until(lambda: not is_alive(litestream), "litestream has ended")


def test_a_second_portal_on_the_same_data_is_refused(server: Backed) -> None:
    refused = command(server.folder, "serve", settings={"BACKUPS_DIR": str(server.backups)})
    assert (refused.returncode, "another portal serves" in refused.stderr) == (portal.FAILED, True)


@pytest.fixture
def replicated_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    """An environment whose database is replicated by a child of this process; it loses patience quickly."""
    monkeypatch.setattr(replication, "HEAL_AFTER_SECONDS", 3.0)
    monkeypatch.setattr(readiness, "BEHIND_SECONDS", 1.0)
    monkeypatch.setattr(readiness, "KEEP_SECONDS", 0.0)
    places = {
        "DATABASE_PATH": str(tmp_path / "data/portal.db"),
        "PACKAGES_DIR": str(tmp_path / "packages"),
        "ASSETS_DIR": str(tmp_path / "assets"),
        "BACKUPS_DIR": str(tmp_path / "backups"),
        "DISK_RESERVE_BYTES": "0",
    }
    config = Config.read(places)
    env = portal.open_migrated(config)
    assert env.replication is not None
    env.replication.start(Litestream(config).hold())
    try:
        yield env
    finally:
        env.close()
        env.replication.stop()


def codes(env: Context) -> list[str]:
    return [each["code"] for each in readiness.look(env).reasons]


def settled(env: Context) -> bool:
    """Whether everything is in the replica."""
    assert env.replication is not None
    state = env.replication.state
    return state.running and state.behind_seconds == 0 and state.trouble is None


def write(env: Context, name: str) -> None:
    client = Client(portal.build(env), env)
    client.register(name)


def restored_names(env: Context, folder: Path) -> list[str]:
    Litestream(env.config).restore(folder / "restored.db")
    return names_in(folder / "restored.db")


def test_a_replica_folder_that_is_taken_away_is_reported_and_healed(
    replicated_env: Context, tmp_path: Path
) -> None:
    env, backups = replicated_env, tmp_path / "backups"
    wait_until(lambda: settled(env))
    shutil.rmtree(backups)
    backups.write_text("not a folder any more")
    write(env, "alice")
    wait_until(lambda: codes(env) == ["replica_behind"])
    backups.unlink()
    wait_until(lambda: settled(env))
    assert restored_names(env, tmp_path) == ["Alice"]


def test_a_replica_that_somebody_emptied_is_begun_anew(
    replicated_env: Context, tmp_path: Path
) -> None:
    env = replicated_env
    write(env, "alice")
    wait_until(lambda: settled(env) and (tmp_path / "backups/portal/ltx/9").exists())
    shutil.rmtree(
        tmp_path / "backups"
    )  # Litestream itself does not notice, and goes on with the newest transactions alone
    begun_anew = (tmp_path / "backups/portal/ltx/9").exists  # already, if this machine stood still
    wait_until(lambda: codes(env) == ["replica_behind"] or begun_anew())
    wait_until(lambda: settled(env))
    assert restored_names(env, tmp_path) == ["Alice"]


def test_damage_to_what_litestream_knows_is_healed(replicated_env: Context, tmp_path: Path) -> None:
    env = replicated_env
    write(env, "alice")
    wait_until(lambda: settled(env))
    newest = max((tmp_path / "data/.portal.db-litestream/ltx/0").iterdir())
    assert env.replication is not None
    litestream = env.replication.pid
    newest.write_bytes(b"")
    write(env, "bob")
    # not the same any more, if this machine stood still while it was healed
    wait_until(lambda: not settled(env) or env.replication.pid != litestream)
    wait_until(lambda: settled(env))
    assert restored_names(env, tmp_path) == ["Alice", "Bob"]


def test_what_is_written_and_checkpointed_while_litestream_is_dead_is_in_the_replica(
    replicated_env: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames that Litestream has read are still in the WAL when it starts again, and behind them
    others were checkpointed and overwritten: it would take the first for the last ones."""
    env, may_start = replicated_env, threading.Event()
    assert env.replication is not None
    spawn = replication.Replication._spawn
    monkeypatch.setattr(
        replication.Replication,
        "_spawn",
        lambda self, now: spawn(self, now) if may_start.is_set() else None,
    )
    db = env.db.connection()

    def add(text: str) -> None:
        with db.write():
            db.change("INSERT INTO probe (text) VALUES (?)", text)

    may_start.set()
    with db.write():
        db.change("CREATE TABLE probe (text TEXT)")
    add("before" * 1000)
    wait_until(lambda: settled(env), "every commit is in the replica")
    may_start.clear()
    pid = env.replication.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "litestream has died")
    for number in range(20):
        add(f"meanwhile {number} " * 500)
    raw = sqlite3.connect(env.config.database_path)
    busy, frames, checkpointed = raw.execute("PRAGMA wal_checkpoint").fetchone()
    raw.close()
    assert (busy, frames) == (0, checkpointed)
    add("last")  # overwrites the first frames of the WAL
    may_start.set()
    wait_until(lambda: env.replication.pid not in (None, pid), "litestream runs again")
    add("after")
    wait_until(lambda: settled(env), "every commit is in the replica")
    Litestream(env.config).restore(tmp_path / "restored.db")
    restored = sqlite3.connect(tmp_path / "restored.db")
    assert restored.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert restored.execute("SELECT text FROM probe").fetchall() == [
        tuple(row) for row in db.all("SELECT text FROM probe")
    ]
    restored.close()


def test_a_stop_has_litestream_say_that_it_has_everything(server: Backed) -> None:
    server.replicated()
    server.register("alice")
    before = len(server.log.read_text())  # a busy machine may have been behind for a while
    assert server.stop() == 0
    lines = [
        json.loads(line)
        for line in server.log.read_text()[before:].splitlines()
        if line.startswith("{")
    ]
    assert [line for line in lines if line["level"] in ("warning", "error")] == []


def test_litestream_that_hangs_does_not_hold_up_the_end(server: Backed) -> None:
    server.replicated()
    litestream = server.litestream
    os.kill(litestream, signal.SIGSTOP)
    server.register("alice")
    server.wait_for(
        lambda ready: ready["replica"]["behind_seconds"] > 2
    )  # it has been asked for it
    assert server.stop() == 0, "it does not hang for ever"
    assert not is_alive(litestream)
    server.start()
    server.replicated()
    server.lose_everything()
    server.start()
    assert server.names == ["alice"]


def test_litestream_collects_garbage_early_unless_the_operator_decides(
    env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOGC", raising=False)
    assert Litestream(env.config).environment["GOGC"] == "50"
    monkeypatch.setenv("GOGC", "100")
    assert Litestream(env.config).environment["GOGC"] == "100"
