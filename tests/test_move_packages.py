"""Packages move between the disk and a bucket while the portal serves, and nothing is lost."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import portal
from mosis.config import Config, ConfigError
from mosis.context import Context, make_context
from mosis.litestream import Litestream
from mosis.operations import moving
from mosis.operations.backup import drills
from mosis.operations.moving import MoveError, move
from mosis.outbound.objects import Bucket
from mosis.packages.bucket_storage import BucketFiles
from tests.client import Account, Client
from tests.conftest import CHEAP
from tests.server import command, wait_until
from tests.test_backup_copies import settle

pytestmark = pytest.mark.slow
NOTES = "com.acme.notes"


@contextmanager
def restarted(before: Client, **settings: object) -> Iterator[Client]:
    """A portal on the same data with other settings."""
    env = before.env
    opened = make_context(replace(env.config, **settings), env.clock, CHEAP)  # type: ignore[arg-type]
    again = Client(portal.build(opened), opened)
    again.found_desk = before.found_desk
    try:
        yield again
    finally:
        opened.close()


def publish(client: Client, account: Account, number: int) -> str:
    """Publish a version; the path of its package."""
    shown = client.published(account, NOTES, f"1.0.{number}", number + 1)
    return str(shown["download_url"]).removeprefix(client.env.config.base_url)


def sha256s(env: Context) -> dict[str, str]:
    rows = env.db.connection().all("SELECT version, sha256 FROM versions WHERE released = 1")
    return dict(rows)


def check_all(client: Client, account: Account) -> int:
    """Every published package can be downloaded, and is what was uploaded."""
    expected = sha256s(client.env)
    (app_id,) = client.env.db.connection().one("SELECT id FROM apps")
    for version, sha256 in expected.items():
        body = client.get(f"/packages/{account.id}/{app_id}/{version}/package.mosis").expect(200)
        assert hashlib.sha256(body.body).hexdigest() == sha256
    return len(expected)


@contextmanager
def busy(client: Client, account: Account, first: int) -> Iterator[list[int]]:
    """Uploads and downloads in another thread; the numbers of what was published."""
    done: list[int] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                publish(client, account, first + len(done))
                done.append(first + len(done))
                check_all(client, account)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(60)
        assert failures == []


def test_there_and_back_under_load_loses_nothing(
    client: Client, alice: Account, env: Context, bucket_url: str, bucket: Bucket
) -> None:
    for number in range(3):
        publish(client, alice, number)
    with busy(client, alice, 10) as done:
        wait_until(lambda: len(done) >= 1)
        there = move(env, bucket_url, verify=True)
        wait_until(lambda: len(done) >= 3)  # after the move, and before the restart
    assert there.findings == []
    assert there.copied >= 4
    with restarted(client, packages_url=bucket_url) as moved:
        assert check_all(moved, alice) == 3 + len(done)  # the rest is read from the disk
        with busy(moved, alice, 30) as later:
            wait_until(lambda: len(later) >= 1)
            assert move(moved.env, bucket_url).findings == []
            wait_until(lambda: len(later) >= 2)
        assert len([*bucket.list("packages")]) == check_all(moved, alice)
        for path in env.files.root.glob("*/*/*/package.mosis"):
            path.unlink()
        count = check_all(moved, alice)
        with busy(moved, alice, 60) as more:
            wait_until(lambda: len(more) >= 1)
            assert move(moved.env, moving.DISK, verify=True).findings == []
            wait_until(lambda: len(more) >= 2)
    with restarted(client, packages_moved_from=bucket_url) as back:
        assert check_all(back, alice) == count + len(more)  # the rest is read from the bucket
        assert move(back.env, moving.DISK).findings == []
    assert check_all(client, alice) == count + len(more)  # without a bucket


def test_a_move_continues_where_it_was_interrupted(
    client: Client, alice: Account, env: Context, bucket_url: str, bucket: Bucket
) -> None:
    for number in range(4):
        publish(client, alice, number)
    dry = move(env, bucket_url, dry_run=True)
    assert (dry.copied, dry.present, list(bucket.list())) == (4, 0, [])
    move(env, bucket_url)
    for each in [*bucket.list("packages")][:2] + [*bucket.list("pictures")][:1]:
        bucket.delete(each.name)  # as if it had been killed before
    dry = move(env, bucket_url, dry_run=True)
    again = move(env, bucket_url)
    assert again.copied == dry.copied in (2, 3)
    assert again.copied + again.present == 4
    assert (move(env, bucket_url).copied, move(env, bucket_url).present) == (0, 4)


def test_a_killed_move_leaves_nothing_wrong(
    client: Client, alice: Account, env: Context, bucket_url: str, tmp_path: Path
) -> None:
    import signal
    import subprocess
    import sys

    from tests.server import Running

    for number in range(6):
        publish(client, alice, number)
    arguments = [sys.executable, str(portal.HERE / "portal.py"), "move-packages", "--parallel", "1"]
    environment = Running(tmp_path).environment
    process = subprocess.Popen([*arguments, "--to", bucket_url], env=environment, cwd=tmp_path)
    with_objects = moving.plan(env.config, bucket_url)[0]
    wait_until(lambda: [*with_objects.list("packages")])
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    done = command(tmp_path, "move-packages", "--to", bucket_url, "--verify")
    assert done.returncode == 0, done.stderr
    assert "6 verified" in done.stdout
    assert check_all(client, alice) == 6


@pytest.mark.parametrize("damage", ["here", "there"])
def test_a_move_names_what_is_damaged_and_prunes_nothing(
    client: Client, alice: Account, env: Context, bucket_url: str, bucket: Bucket, damage: str
) -> None:
    publish(client, alice, 0)
    publish(client, alice, 1)
    path = env.files.path(alice.id, str(env.db.connection().value("SELECT id FROM apps")), "1.0.0")
    good = path.read_bytes()
    if damage == "here":
        path.write_bytes(good[:-1] + b"x")
        found = move(env, bucket_url)
        assert (found.copied, len(found.findings)) == (1, 1)
        assert str(path) in found.findings[0]
        return
    move(env, bucket_url)
    (name,) = [each.name for each in bucket.list("packages") if bucket.get(each.name)[0] == good]
    bucket.put(name, good[:-1] + b"x")
    found = move(env, bucket_url, verify=True)
    assert (found.verified, len(found.findings)) == (1, 1)
    assert name in found.findings[0]


class TestPruning:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, str]:
        return {"BACKUPS_DIR": str(tmp_path / "backups")}

    def test_only_after_a_drill_of_the_target(
        self,
        client: Client,
        alice: Account,
        env: Context,
        bucket_url: str,
        bucket: Bucket,
        tmp_path: Path,
    ) -> None:
        assert env.replication is not None
        env.replication.start(Litestream(env.config).hold())
        try:
            publish(client, alice, 0)
            publish(client, alice, 1)
            move(env, bucket_url)
            with pytest.raises(MoveError, match="set PACKAGES_URL"):
                move(env, bucket_url, prune=True)
            settle(env)
            assert drills.drill_by_command(env).passed  # of the disk
            with restarted(client, packages_url=bucket_url) as moved:
                with pytest.raises(MoveError, match="a drill of the bucket"):
                    move(moved.env, bucket_url, prune=True)
                settle(env)
                assert drills.drill_by_command(moved.env).packages_checked == 2
                damaged, good = self._damage(bucket)
                found = move(moved.env, bucket_url, prune=True)
                assert (found.pruned, len(found.findings)) == (1, 1)
                bucket.put(damaged, good)
                found = move(moved.env, bucket_url, prune=True)
                assert (found.pruned, found.findings) == (1, [])
                assert list(env.files.root.glob("*/*/*/package.mosis")) == []
                assert check_all(moved, alice) == 2
                move(moved.env, moving.DISK)
                with pytest.raises(MoveError, match="unset PACKAGES_URL"):
                    move(moved.env, moving.DISK, prune=True)
            with restarted(client, packages_moved_from=bucket_url) as back:
                settle(env)
                drills.drill_by_command(back.env)
                assert move(back.env, moving.DISK, prune=True).pruned == 2
            assert [each.name for each in bucket.list()] == []
            assert check_all(client, alice) == 2
        finally:
            env.replication.stop()

    def _damage(self, bucket: Bucket) -> tuple[str, bytes]:
        name = next(bucket.list("packages")).name
        good, _ = bucket.get(name)
        bucket.put(name, good[:-1])
        return name, good


def test_a_move_needs_a_source_and_a_bucket_of_its_own(env: Context, bucket_url: str) -> None:
    with pytest.raises(ConfigError, match="needs PACKAGES_URL"):
        move(env, moving.DISK)
    elsewhere = replace(env.config, packages_url="s3://another/bucket")
    with pytest.raises(ConfigError, match="another bucket"):
        moving.plan(elsewhere, bucket_url)
    for wrong in ("/tmp/packages", "file:///tmp", ""):
        with pytest.raises(ConfigError):
            moving.plan(env.config, wrong)


def test_settings_that_contradict_each_other_are_refused() -> None:
    for wrong in (
        {"PACKAGES_SERVE": "redirect"},
        {"PACKAGES_CDN": "https://cdn.example.net"},
        {"PACKAGES_URL": "s3://a-bucket", "PACKAGES_MOVED_FROM": "s3://a-bucket"},
        {"PACKAGES_URL": "https://bucket.example.net"},
        {"PACKAGES_URL": "s3://user:word@bucket"},
    ):
        with pytest.raises(ConfigError):
            Config.read(wrong)


def test_an_address_with_a_mistake_stops_the_start(client: Client, env: Context) -> None:
    with (
        pytest.raises(ConfigError, match="endpoint"),
        restarted(client, packages_url="s3://a-bucket/x?endpoint=nas:8333"),
    ):
        pass
    assert not isinstance(env.files, BucketFiles)
