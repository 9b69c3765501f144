"""Copies, restoring to a moment, and the drill: in one process where that is enough, with the real Litestream throughout."""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import portal
from bench import restore
from mosis import audit, jobs
from mosis.context import Context
from mosis.database.pagination import PageRequest
from mosis.errors import Unavailable
from mosis.litestream import BackupError, Litestream
from mosis.litestream.replication import ask
from mosis.operations.backup import copies as backup_copies
from mosis.operations.backup import drills, restoring
from mosis.worker import Worker
from tests.campaign import short_and_full
from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.server import Backed, command, names_in, running, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {"BACKUPS_DIR": str(tmp_path / "backups")}


@pytest.fixture
def replicated(env: Context) -> Iterator[Context]:
    """The environment with Litestream running for it."""
    assert env.replication is not None
    env.replication.start(Litestream(env.config).hold())
    yield env
    env.replication.stop()


def settle(env: Context) -> None:
    """Wait until everything is in the replica."""
    assert env.replication is not None
    replication = env.replication
    wait_until(lambda: replication.state.running and not replication.state.behind_seconds)
    wanted = {"path": str(env.db.path), "wait": True, "timeout": 30}
    answer = ask(env.config.data_dir, "/sync", wanted, 35)
    assert answer["txid"] == answer["replicated_txid"], answer


@pytest.fixture
def alice(client: Client) -> Account:
    """Somebody with a published app."""
    account = client.register()
    client.published(account, client.app_of(account))
    return account


def moment_between() -> str:
    """A moment after what is in the replica and before what comes next, which has times to the
    millisecond."""
    time.sleep(0.01)
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    return moment


def test_a_copy_is_whole_names_its_packages_and_has_the_secrets(
    client: Client, env: Context, alice: Account
) -> None:
    made = backup_copies.make(env)
    assert names_in(made.path / "portal.db") == names_in(env.config.database_path)
    proved = subprocess.run(
        ["sha256sum", "--check", "--strict", str(made.path / "packages.sha256")],
        cwd=env.config.packages_dir,
        capture_output=True,
        check=False,
    )
    assert (proved.returncode, made.packages) == (0, 1)
    assert {path.name for path in made.path.iterdir()} >= {
        "portal.db",
        "packages.sha256",
        "jwt_secret",
        "telemetry_secret",
    }
    assert not [
        path
        for path in made.path.iterdir()
        if path.stat().st_mode & 0o077 and path.name != "packages.sha256"
    ]


def test_the_newest_seven_copies_are_kept(env: Context, clock: FakeClock) -> None:
    for _ in range(9):
        clock.advance(60)
        newest = backup_copies.make(env)
    copies = backup_copies.index(env.config, PageRequest()).rows
    assert (len(copies), copies[0].name) == (7, newest.name)


def test_administrators_have_copies_made_and_see_them(client: Client, env: Context) -> None:
    root = client.admin()
    assert client.get("/v1/admin/backups", as_=root).expect(200).json == {
        "backups": [],
        "next_cursor": None,
        "drill": None,
        "replica": {
            "running": False,
            "behind_seconds": client.get("/v1/admin/backups", as_=root)["replica"][
                "behind_seconds"
            ],
            "restarts": 0,
            "trouble": None,
        },
    }
    job = client.post("/v1/admin/backups", as_=root).expect(202)["job"]
    assert client.post("/v1/admin/backups", as_=root).expect(202)["job"] == job  # one at a time
    client.work()
    shown = client.get("/v1/admin/backups", as_=root)["backups"]
    assert [(set(each), each["packages"]) for each in shown] == [
        ({"name", "size_bytes", "packages"}, 0)
    ]
    line = client.get("/v1/admin/audit?action=backup.made", as_=root)["entries"][0]
    assert line["details"]["asked_by"] == root.id
    client.post("/v1/admin/backups", as_=client.reviewer()).expect(403)


def test_telemetry_and_secrets_are_copied_every_day_and_never_half(
    env: Context, tmp_path: Path
) -> None:
    backup_copies.daily(env)
    backup_copies.daily(env)  # a job may run twice
    stored = tmp_path / "backups"
    assert sqlite3.connect(stored / "telemetry.db").execute(
        "PRAGMA integrity_check"
    ).fetchone() == ("ok",)
    assert (stored / "secrets/jwt_secret").read_bytes() == (
        tmp_path / "data/jwt_secret"
    ).read_bytes()
    assert not list(stored.rglob("*.part"))


def test_schedules_of_a_week_hold_although_done_jobs_are_forgotten(
    env: Context, clock: FakeClock
) -> None:
    db, worker = env.db.connection(), Worker(env)
    week = 7 * 24 * 3600

    def runs() -> int:
        with db.write():
            added = jobs.add_scheduled(db, "sweep_jobs", week)
        worker.run_due()
        jobs.sweep(env)
        return int(added is not None)

    counts = []
    for _ in range(15):
        counts.append(runs())
        clock.advance(24 * 3600)
    assert counts == [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]


def test_the_drill_proves_a_good_replica(
    client: Client, replicated: Context, alice: Account
) -> None:
    settle(replicated)
    found = drills.drill(replicated, whole=True)
    assert (found.findings, found.lost, found.packages_checked, found.packages) == ([], {}, 1, 1)
    assert found.newest_change == found.newest_change_here is not None
    assert not list(replicated.config.data_dir.glob("drill-*"))


def test_the_drill_finds_lost_rows_and_bad_packages(
    client: Client, replicated: Context, alice: Account
) -> None:
    assert replicated.replication is not None
    settle(replicated)
    replicated.replication.stop()
    client.register("bob")  # nobody replicates this
    package = next(replicated.config.packages_dir.glob("*/*/*/package.mosis"))
    package.write_bytes(package.read_bytes()[:-1] + b"x")
    found = drills.drill(replicated)
    assert found.lost["developers"] == 1
    assert [finding.endswith("is damaged") for finding in found.findings] == [True]
    package.unlink()
    assert "is missing" in drills.drill(replicated).text


def test_the_drill_finds_a_damaged_replica_and_tells_the_administrators(
    client: Client, replicated: Context, tmp_path: Path
) -> None:
    root = client.admin()
    settle(replicated)
    drills.drill_by_schedule(replicated)
    assert [(each["kind"], each["data"]["passed"]) for each in client.notifications(root)] == [
        ("operator.drill", True)
    ]
    snapshots = tmp_path / "backups/portal/ltx/9"
    wait_until(lambda: [*snapshots.glob("*.ltx")])  # the last file that Litestream writes by itself
    for file in (tmp_path / "backups/portal").rglob("*.ltx"):
        file.write_bytes(hashlib.sha256(file.read_bytes()).digest())
    drills.drill_by_schedule(replicated)
    newest = client.notifications(root)[0]
    assert (newest["data"]["passed"], "could not be restored" in newest["text"]) == (False, True)
    assert client.get("/v1/admin/backups", as_=root)["drill"]["passed"] is False
    client.work()
    mails = [path.read_text() for path in (tmp_path / "data/mail").glob("*.eml")]
    assert sum("restore drill failed" in mail for mail in mails) == 1  # good news is not mailed
    assert audit.verify(replicated.db.connection())


def test_without_a_replica_there_is_no_drill(client: Client, env: Context) -> None:
    with pytest.raises(BackupError):
        restoring.restore(env.config, at="yesterday")
    assert drills.drill(env).findings  # a folder without a replica in it


def test_restoring_to_three_moments_gives_the_rows_of_those_moments(server: Backed) -> None:
    names, moments = [], []
    for name in ("alice", "bob", "carol"):
        server.register(name)
        names.append(name)
        server.replicated()
        moments.append((moment_between(), list(names)))
    settings = {"BACKUPS_DIR": str(server.backups)}
    for number, (moment, there) in enumerate(moments):  # beside the portal, while it runs
        folder = server.folder / f"restored-{number}"
        done = command(
            server.folder, "restore", "--at", moment, "--to", str(folder), settings=settings
        )
        assert done.returncode == 0, done.stderr
        assert names_in(folder / "portal.db") == there
    refused = command(server.folder, "restore", "--at", moments[0][0], settings=settings)
    assert (refused.returncode, "stop it first" in refused.stderr) == (portal.FAILED, True)
    assert server.stop() == 0
    done = command(server.folder, "restore", "--at", moments[1][0], settings=settings)  # in place
    assert (done.returncode, "Renamed" in done.stdout) == (0, True)
    server.start()
    assert server.names == ["alice", "bob"]
    server.register("dave")  # and on from there: what was undone does not come back
    server.replicated()
    server.lose_everything()
    server.start()
    assert server.names == ["alice", "bob", "dave"]


def test_a_lost_data_folder_comes_back_with_its_secrets_so_that_nobody_is_signed_out(
    server: Backed,
) -> None:
    server.register("alice")
    server.wait_for(lambda _: (server.backups / "secrets/store_key.json").exists())
    secrets = {path.name: path.read_bytes() for path in (server.backups / "secrets").iterdir()}
    server.replicated()
    server.lose_everything()
    server.start()
    assert set(secrets) == {"jwt_secret", "telemetry_secret", "store_key.json"}
    assert {name: (server.data / name).read_bytes() for name in secrets} == secrets


def test_the_commands_say_what_they_have_done(server: Backed) -> None:
    settings = {"BACKUPS_DIR": str(server.backups)}
    server.register("alice")
    server.replicated()
    made = command(server.folder, "backup", settings=settings)
    assert (made.returncode, "bytes of database" in made.stdout) == (0, True)
    tried = command(server.folder, "drill", "--whole", settings=settings)
    assert (tried.returncode, tried.stdout.strip().splitlines()[-1]) == (0, "passed"), (
        tried.stdout + tried.stderr
    )
    shutil.rmtree(server.backups / "portal")
    tried = command(server.folder, "drill", settings=settings)
    assert (tried.returncode, "FAILED" in tried.stdout) == (portal.FAILED, True)
    assert (
        json.loads(next(line for line in tried.stdout.splitlines() if line.startswith("{")))[
            "logger"
        ]
        == "mosis.operations.backup"
    )
    odd = command(server.folder, "restore", "--at", "yesterday", settings=settings)
    assert (odd.returncode, "is not a moment" in odd.stderr) == (portal.FAILED, True)


@pytest.mark.parametrize("cycles", short_and_full(1, 100))
def test_the_whole_group_killed_and_the_data_deleted_loses_little(
    tmp_path: Path, cycles: int
) -> None:
    random.seed(1)
    # at most 1 s on a machine that does nothing else
    figures = restore.run(tmp_path, cycles, most_seconds=10)
    assert figures["acknowledged_writes"] > 0


@pytest.mark.parametrize("cycles", short_and_full(1, 100))
def test_the_portal_alone_killed_in_mid_commit_leaves_no_phantom_in_the_replica(
    tmp_path: Path, cycles: int
) -> None:
    random.seed(1)
    restore.run(tmp_path, cycles, most_seconds=0, phantom=True)


def test_the_campaign_notices_a_replica_that_stands_still(tmp_path: Path) -> None:
    random.seed(1)
    with pytest.raises(AssertionError, match="are lost"):
        restore.run(tmp_path, 1, most_seconds=1, plant=True)


def test_restoring_twice_keeps_everything_that_was_newest_and_any_of_it_can_be_put_back(
    server: Backed,
) -> None:
    settings = {"BACKUPS_DIR": str(server.backups)}
    server.register("alice")
    server.replicated()
    moment = moment_between()
    assert server.stop() == 0
    command(
        server.folder, "admin", "create", "bob@example.net", settings=settings
    )  # nobody replicates this
    stored = []
    for _ in range(2):  # within one second, as a nervous hand would
        done = command(server.folder, "restore", "--at", moment, settings=settings)
        assert done.returncode == 0, done.stderr
        stored.append(Path(done.stdout.partition("Renamed: ")[2].splitlines()[0]))
        assert names_in(server.data / "portal.db") == ["alice"]
    assert [names_in(path) for path in stored] == [
        ["alice", "bob"],
        ["alice"],
    ]  # with what only its WAL had
    done = command(server.folder, "restore", "--from", str(stored[0]), settings=settings)
    assert done.returncode == 0, done.stderr
    server.start()
    assert server.names == ["alice", "bob"]
    server.replicated()
    server.lose_everything()
    server.start()
    assert server.names == ["alice", "bob"]


def test_a_copy_is_put_back_without_a_replica(tmp_path: Path) -> None:
    def names() -> list[str]:
        return names_in(tmp_path / "data/portal.db")

    command(tmp_path, "admin", "create", "alice@example.net")
    made = Path(command(tmp_path, "backup").stdout.partition(": ")[0])
    command(tmp_path, "admin", "create", "bob@example.net")
    elsewhere = command(tmp_path, "restore", "--from", str(made), "--to", str(tmp_path / "there"))
    assert (elsewhere.returncode, names_in(tmp_path / "there/portal.db"), names()) == (
        0,
        ["alice"],
        ["alice", "bob"],
    )
    (tmp_path / "data/store_key.json").unlink()
    with running(tmp_path) as portal_that_runs:
        refused = command(tmp_path, "restore", "--from", str(made))
        assert (refused.returncode, "open: stop the portal" in refused.stderr) == (
            portal.FAILED,
            True,
        )
        assert portal_that_runs.stop() == 0
    (tmp_path / "data/store_key.json").unlink()
    assert command(tmp_path, "restore", "--from", str(made)).returncode == 0
    assert names() == ["alice"]
    assert (tmp_path / "data/store_key.json").read_bytes() == (made / "store_key.json").read_bytes()
    (made / "portal.db").write_bytes(b"SQLite format 3\0" + b"rubbish" * 2000)
    damaged = command(tmp_path, "restore", "--from", str(made))
    assert (damaged.returncode, "damaged" in damaged.stderr, names()) == (
        portal.FAILED,
        True,
        ["alice"],
    )
    assert not list((tmp_path / "data").glob("*.restored*"))


REFUSED_RESTORES = [
    (["--at", ""], "is not a moment"),
    (["--at", "2026-01-31T12:00:00"], "is not a moment"),  # in which time zone?
    (["--at", "2126-01-31T12:00:00Z"], "is the time zone right?"),
    (["--at", "2020-01-31T12:00:00Z"], "the replica begins at 20"),
    (["--from", "nowhere"], "is no database"),
    (["--from", ""], "is empty"),
    (["--to", ""], "is empty"),
    (["--at", "2020-01-31T12:00:00Z", "--from", "x"], "not allowed with"),
]  # fmt: skip


def test_a_restore_that_is_refused_says_why_and_changes_nothing(tmp_path: Path) -> None:
    server = Backed(tmp_path)
    server.start()
    server.replicated()
    assert server.stop() == 0
    before = {path.name for path in server.data.iterdir()}
    settings = {"BACKUPS_DIR": str(server.backups)}
    for arguments, reason in REFUSED_RESTORES:
        refused = command(tmp_path, "restore", *arguments, settings=settings)
        assert refused.returncode != 0, arguments
        assert reason in refused.stderr, (arguments, refused.stderr)
        assert "Traceback" not in refused.stderr, (arguments, refused.stderr)
        assert {path.name for path in server.data.iterdir()} == before, arguments


def test_no_command_puts_an_empty_database_in_the_place_of_a_lost_one(server: Backed) -> None:
    server.register("alice")
    server.replicated()
    secrets = {path.name: path.read_bytes() for path in (server.backups / "secrets").iterdir()}
    server.lose_everything()
    settings = {"BACKUPS_DIR": str(server.backups)}
    for line in (
        "backup",
        "drill",
        "migrate",
        "admin create root@example.net",
        "audit verify",
        "worker",
    ):
        refused = command(server.folder, *line.split(), settings=settings)
        assert refused.returncode == portal.FAILED, line
        assert "start the portal, which restores it" in refused.stderr, (line, refused.stderr)
        assert not (server.data / "portal.db").exists(), line
        left = {path.name: path.read_bytes() for path in (server.backups / "secrets").iterdir()}
        assert left == secrets, line
    server.start()
    assert server.names == ["alice"]


@pytest.mark.parametrize("arguments", [("backup",), ("drill",), ("audit", "verify")], ids=" ".join)
def test_a_folder_without_a_database_is_reported(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    refused = command(tmp_path, *arguments)
    assert (refused.returncode, "does DATABASE_PATH say where it is" in refused.stderr) == (
        portal.FAILED,
        True,
    )
    assert not (tmp_path / "data").exists()


def test_a_secret_that_changes_leaves_the_one_before_in_the_backup(
    env: Context, tmp_path: Path
) -> None:
    backup_copies.copy_secrets(env)
    old = (tmp_path / "data/jwt_secret").read_bytes()
    (tmp_path / "data/jwt_secret").write_bytes(b"another one, of as many bytes as it must have\n")
    backup_copies.copy_secrets(env)
    backup_copies.copy_secrets(env)
    stored = sorted((tmp_path / "backups/secrets").glob("jwt_secret*"))
    assert [path.name.partition(".")[2][:6] for path in stored] == ["", "until-"]
    assert stored[1].read_bytes() == old


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be refused for being root")
def test_root_is_kept_from_leaving_files_that_the_portal_cannot_write(tmp_path: Path) -> None:
    command(tmp_path, "migrate")
    os.chown(tmp_path / "data", 1026, 100)
    refused = command(tmp_path, "backup")
    assert (refused.returncode, "sudo -u '#1026'" in refused.stderr) == (portal.CONFIG, True)


def test_a_copy_for_which_there_is_no_room_is_refused_with_the_folder(
    env: Context, tmp_path: Path
) -> None:
    env.files.reserve_bytes = 1 << 60
    with pytest.raises(Unavailable) as refusal:
        backup_copies.make(env)
    assert (refusal.value.code, str(tmp_path / "backups/copies") in refusal.value.detail) == (
        "no_space",
        True,
    )
    assert list((tmp_path / "backups/copies").iterdir()) == []
