"""A bucket that brings everything back: with BACKUP_URL and BACKUP_KEY alone an empty machine is the lost portal again.
With a real SeaweedFS and the real Litestream."""

import contextlib
import dataclasses
import shutil
import signal
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import portal
from mosis.config import Config, ConfigError
from mosis.context import Context
from mosis.credentials import totp
from mosis.litestream import BackupError
from mosis.operations import doctor
from mosis.operations.backup import bucket_copies, copies, encryption, recovery, takeover
from mosis.operations.backup import bucket_copies as backup_bucket_copies
from mosis.operations.backup.encryption import WrongKey
from mosis.operations.backup.recovery import RecoveryBucket
from mosis.outbound.objects import Bucket, open_bucket
from mosis.store import index_keys
from mosis.worker import Worker
from tests.campaign import short_and_full
from tests.client import PASSWORD, Client
from tests.conftest import FakeClock
from tests.server import Backed, command, ended, free_port, wait_until
from tests.test_signed_index import pinned, verify
from tests.web.test_second_factor import turned_on
from tests.web.test_telemetry import event, send

pytestmark = pytest.mark.slow

KEY = "a passphrase for backups of tests"
SECRETS = ("jwt_secret", "telemetry_secret", "store_key.json")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def settings(bucket_url: str, port: int) -> dict[str, str]:
    return {
        "BACKUP_URL": bucket_url,
        "BACKUP_KEY": KEY,
        "BASE_URL": f"http://127.0.0.1:{port}",  # of the tokens
    }


@pytest.fixture
def clock() -> FakeClock:
    """The real time, so that a process may go on with what the test began."""
    made = FakeClock()
    made.at = time.time()
    return made


@pytest.fixture(autouse=True)
def _cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that scrypt can cost in this process; forked portals have it too."""
    for name in ("LOG2_N", "R", "P"):
        monkeypatch.setattr(encryption, name, 1)


@pytest.fixture
def keyed(env: Context) -> Context:
    """The environment with all its secrets."""
    index_keys.index_keys(env)
    return env


@pytest.fixture
def objects(bucket_url: str, env: Context) -> Bucket:
    return open_bucket(bucket_url)


def secrets_in(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in SECRETS if (folder / name).exists()}


def names(bucket: Bucket, series: str) -> list[str]:
    return sorted(each.name for each in bucket.list(f"recovery/{series}"))


@pytest.fixture
def lost(env: Context, tmp_path: Path, settings: dict[str, str], port: int) -> Iterator[Backed]:
    """The portal of `env` as a process, not started yet."""
    made = Backed(tmp_path, settings, port)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def test_an_empty_machine_becomes_the_portal_that_was_lost(
    env: Context, client: Client, clock: FakeClock, lost: Backed
) -> None:
    alice = client.register("alice")
    client.published(alice, client.app_of(alice))
    phone = turned_on(client, clock, alice)
    trusted = pinned(client)
    send(client, event(at=clock.at - 60)).expect(202)
    copies.daily(env)  # of yesterday
    before = secrets_in(env.config.data_dir)
    env.close()
    lost.start()
    lost.replicated()
    lost.lose_everything()
    lost.start()

    assert secrets_in(lost.data) == before
    assert "secrets restored from the bucket" in lost.log.read_text()
    assert lost.ask("/v1/auth/me", token=alice.token)[1]["email"] == "alice@example.net"
    assert lost.ask("/v1/auth/refresh", {"refresh_token": alice.refresh_token})[0] == 200
    index, signature = (raw(f"{lost.url}/v1/store/index.json{end}") for end in ("", ".sig"))
    assert len(verify(index, signature, trusted, datetime.now(UTC))[0]["apps"]) == 1
    given = {"email": alice.email, "password": PASSWORD}
    status, refusal = lost.ask("/v1/auth/login", given)
    assert (status, refusal["code"]) == (401, "second_factor_required")
    code = totp.code_at(phone.secret, int(time.time()) // totp.STEP_SECONDS + 1)  # not used before
    step = {"ticket": refusal["ticket"], "code": code}
    assert lost.ask("/v1/auth/login/second-factor", step)[0] == 200
    with contextlib.closing(sqlite3.connect(lost.data / "telemetry.db")) as telemetry:
        assert telemetry.execute("SELECT count(*) FROM batches").fetchone()[0] == 1


def raw(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def test_only_who_has_the_key_can_read_what_is_in_the_bucket(
    keyed: Context, client: Client, objects: Bucket
) -> None:
    copies.daily(keyed)
    stored = [
        objects.get(name)[0]
        for series in ("secrets", "telemetry")
        for name in names(objects, series)
    ]
    assert len(stored) == 2
    for secret in secrets_in(keyed.config.data_dir).values():
        assert not any(secret[:20] in each for each in stored)
    assert not any(b"SQLite format" in each for each in stored)


def test_secrets_are_uploaded_when_they_change_and_only_then(
    keyed: Context, objects: Bucket
) -> None:
    worker = Worker(keyed)
    for _ in range(3):
        copies.copy_secrets(keyed)
        worker.run_due()
    assert len(names(objects, "secrets")) == 1
    index_keys.rotate(keyed)
    copies.copy_secrets(keyed)
    worker.run_due()
    assert len(names(objects, "secrets")) == 2  # the older ones stay
    assert RecoveryBucket(objects, KEY).newest_secrets() == secrets_in(keyed.config.data_dir)


def test_a_rotated_index_key_is_in_the_bucket_when_the_command_has_ended(
    keyed: Context, objects: Bucket, tmp_path: Path, settings: dict[str, str]
) -> None:
    keyed.close()
    rotated = command(tmp_path, "store-key", "rotate", settings=settings)
    assert rotated.returncode == 0, rotated.stderr
    assert RecoveryBucket(objects, KEY).newest_secrets() == secrets_in(tmp_path / "data")


def test_what_exists_is_never_overwritten(keyed: Context, objects: Bucket) -> None:
    copies.daily(keyed)
    data = keyed.config.data_dir
    (data / "jwt_secret").write_text("another secret that is in use on this machine")
    (data / "telemetry.db").write_bytes(b"in use")
    (data / "store_key.json").unlink()
    before = secrets_in(data)
    assert bucket_copies.restore_secrets(keyed.config) == ["store_key.json"]
    assert bucket_copies.restore_telemetry(keyed.config) is False
    assert {name: secret for name, secret in secrets_in(data).items() if name in before} == before
    assert (data / "telemetry.db").read_bytes() == b"in use"


def test_jwt_secret_of_the_settings_is_in_the_bucket_too(keyed: Context, objects: Bucket) -> None:
    config = dataclasses.replace(keyed.config, jwt_secret="a secret of the settings, long enough")
    assert (
        bucket_copies.live_secrets(config)["jwt_secret"] == b"a secret of the settings, long enough"
    )
    (keyed.config.data_dir / "jwt_secret").unlink()
    assert bucket_copies.restore_secrets(config) == []  # nothing is missing


@pytest.mark.parametrize("key", ["another passphrase for backups", None])
def test_without_the_right_key_the_start_is_refused_and_nothing_is_made(
    keyed: Context, tmp_path: Path, settings: dict[str, str], objects: Bucket, key: str | None
) -> None:
    copies.daily(keyed)
    keyed.close()
    shutil.rmtree(keyed.config.data_dir)
    before = names(objects, "secrets")
    refused = command(tmp_path, "serve", settings=settings | {"BACKUP_KEY": key or ""})
    assert (refused.returncode, "BACKUP_KEY" in refused.stderr) == (portal.FAILED, True)
    assert KEY not in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not secrets_in(keyed.config.data_dir)
    assert not keyed.config.database_path.exists()
    assert names(objects, "secrets") == before


@pytest.mark.parametrize(
    "command_", [("migrate",), ("admin", "create", "root@example.net")], ids=" ".join
)
def test_no_command_makes_secrets_that_the_bucket_has(
    keyed: Context, tmp_path: Path, settings: dict[str, str], command_: tuple[str, ...]
) -> None:
    copies.daily(keyed)
    keyed.close()
    for name in SECRETS:
        (keyed.config.data_dir / name).unlink()
    refused = command(tmp_path, *command_, settings=settings)
    assert (refused.returncode, "start the portal" in refused.stderr) == (portal.FAILED, True)
    assert not secrets_in(keyed.config.data_dir)


def damage(content: bytes) -> bytes:
    return content[:-1] + bytes((content[-1] ^ 1,))


@pytest.mark.parametrize(
    "spoil",
    [damage, lambda content: content[:-1], lambda content: b""],
    ids=["bit", "cut", "empty"],
)
def test_a_damaged_object_is_reported_and_the_one_before_is_taken(
    keyed: Context,
    objects: Bucket,
    spoil: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    copies.daily(keyed)
    secrets = secrets_in(keyed.config.data_dir)
    index_keys.rotate(keyed)
    copies.daily(keyed)
    for series in ("secrets", "telemetry"):
        newest = names(objects, series)[-1]
        objects.put(newest, spoil(objects.get(newest)[0]))
    keyed.close()
    shutil.rmtree(keyed.config.data_dir)
    assert bucket_copies.restore_secrets(keyed.config) == list(SECRETS)
    assert secrets_in(keyed.config.data_dir) == secrets
    assert bucket_copies.restore_telemetry(keyed.config)
    assert [each.message for each in caplog.records].count("backup is damaged") == 2


def test_without_a_sound_object_the_start_is_refused(keyed: Context, objects: Bucket) -> None:
    copies.daily(keyed)
    name = names(objects, "secrets")[0]
    objects.put(name, damage(objects.get(name)[0]))
    keyed.close()
    shutil.rmtree(keyed.config.data_dir)
    with pytest.raises(BackupError, match="damaged"):
        bucket_copies.restore_secrets(keyed.config)
    assert not secrets_in(keyed.config.data_dir)


def test_telemetry_that_cannot_be_read_does_not_stop_the_start(
    keyed: Context, objects: Bucket
) -> None:
    copies.daily(keyed)
    name = names(objects, "telemetry")[0]
    objects.put(name, damage(objects.get(name)[0]))
    keyed.close()
    keyed.config.telemetry_path.unlink()
    assert bucket_copies.restore_telemetry(keyed.config) is False
    assert not list(keyed.config.data_dir.glob("telemetry.db*"))


def test_a_bounded_number_of_copies_stays(
    keyed: Context, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "SECRETS_KEPT", 2)
    for _ in range(5):
        index_keys.rotate(keyed)
        copies.daily(keyed)
    assert [name[-8:] for name in names(objects, "telemetry")] == [
        "00000003",
        "00000004",
        "00000005",
    ]
    assert [name[-8:] for name in names(objects, "secrets")] == ["00000004", "00000005"]


def test_a_new_key_encrypts_everything_again(keyed: Context, objects: Bucket) -> None:
    copies.daily(keyed)
    new = "another passphrase for backups"
    env = dataclasses.replace(
        keyed, config=dataclasses.replace(keyed.config, backup_key=new), states={}
    )
    backup_bucket_copies.upload_secrets(env)
    Worker(env).run_due()
    bucket = RecoveryBucket(objects, new)
    assert bucket.newest_secrets() == secrets_in(keyed.config.data_dir)
    assert len(names(objects, "telemetry")) == 2
    with pytest.raises(WrongKey):
        RecoveryBucket(objects, KEY).newest_secrets()


def test_a_bucket_that_does_not_answer_is_reported_and_uploads_are_made_up_for(
    keyed: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"s3://tests/gone?endpoint=http://127.0.0.1:{free_port()}"
    env = dataclasses.replace(
        keyed, config=dataclasses.replace(keyed.config, backup_url=away), states={}
    )
    monkeypatch.setattr(bucket_copies, "TRIES", 1)
    copies.copy_secrets(env)
    Worker(env).run_due()
    assert (
        keyed.db.connection().value("SELECT state FROM jobs WHERE kind = 'upload_secrets'")
        == "waiting"
    )
    shutil.move(env.config.data_dir / "jwt_secret", tmp_path)
    with pytest.raises(BackupError, match="no connection"):  # whether it has secrets is not known
        bucket_copies.restore_secrets(env.config)
    assert bucket_copies.report(env.config) == ("bad", bucket_copies.report(env.config)[1])


@pytest.mark.parametrize("extra", [True, False], ids=["no answer", "no extra"])
def test_a_first_start_without_a_key_needs_no_more_than_litestream_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: bool
) -> None:
    if not extra:
        monkeypatch.setitem(sys.modules, "obstore", None)
        monkeypatch.setitem(sys.modules, "obstore.store", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    url = f"s3://tests/gone?endpoint=http://127.0.0.1:{free_port()}"
    config = Config.read({"BACKUP_URL": url, "DATABASE_PATH": str(tmp_path / "data/portal.db")})
    takeover.check_without_lease(config)
    assert bucket_copies.restore_secrets(config) == []
    (tmp_path / "data/lease").mkdir(parents=True)
    with pytest.raises(BackupError, match="not known which portal"):
        takeover.check_without_lease(config)


def test_the_start_uploads_the_secrets_before_the_replica(lost: Backed, objects: Bucket) -> None:
    lost.start()
    wait_until(lambda: names(objects, "secrets"), "the secrets are in the bucket")
    lost.replicated()
    at = {each.name: each.changed_at for each in objects.list()}  # in whole seconds
    assert at.pop(names(objects, "secrets")[0]) <= min(at.values())


RESTORE = """
import os, signal, sys
from mosis.config import Config
from mosis.litestream import Litestream
from mosis.operations.backup import restoring, bucket_copies
import mosis.disk
replaced, left = os.rename, [int(sys.argv[1])]
def kill():
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
for name in ("fsync", "rename", "replace"):
    def wrapped(*arguments, real=getattr(os, name), **more):
        kill()
        return real(*arguments, **more)
    setattr(os, name, wrapped)
config = Config.read()
print(restoring.restore_lost(config, Litestream(config)))
"""


@pytest.mark.parametrize("every", short_and_full(5, 1))
def test_a_restore_that_is_killed_anywhere_begins_anew(
    keyed: Context, client: Client, lost: Backed, every: int
) -> None:
    client.register("alice")
    send_any(client)
    copies.daily(keyed)
    before = secrets_in(keyed.config.data_dir)
    keyed.close()
    lost.start()
    lost.replicated()
    lost.lose_everything()
    for step in range(0, 60, every):
        done = ended(["-c", RESTORE, str(step)], lost.environment, portal.HERE)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        if lost.data.exists() and step % 2 == 0:  # sometimes everything from the beginning
            shutil.rmtree(lost.data)
    else:
        pytest.fail("it never ended")
    assert step > 4
    assert secrets_in(lost.data) == before
    assert lost.names == ["Alice"]
    assert not list(lost.data.glob("*.part"))


def send_any(client: Client) -> None:
    client.post("/v1/telemetry/events", {}).expect(422)


UPLOAD = """
import os, signal, sys
import portal
from mosis.config import Config
from mosis.operations.backup import copies
from mosis.outbound.objects import Bucket
left = [int(sys.argv[1])]
for name in ("create", "upload", "list", "delete"):
    def wrapped(self, *arguments, real=getattr(Bucket, name), name=name):
        if name == "upload" and left[0] == 1:  # in the middle of it
            first, pieces = arguments
            def cut():
                for number, piece in enumerate(pieces):
                    yield piece
                    os.kill(os.getpid(), signal.SIGKILL) if number else None
            arguments = first, cut()
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(self, *arguments)
    setattr(Bucket, name, wrapped)
env = portal.open_migrated(Config.read())
copies.daily(env)
env.close()
"""


@pytest.mark.parametrize("every", short_and_full(2, 1))
def test_an_upload_that_is_killed_anywhere_leaves_what_was_there(
    keyed: Context, objects: Bucket, lost: Backed, every: int
) -> None:
    copies.daily(keyed)
    before = secrets_in(keyed.config.data_dir)
    new = index_keys.rotate(keyed)
    after = secrets_in(keyed.config.data_dir)
    keyed.close()
    assert before != after
    assert new
    for step in range(0, 30, every):
        done = ended(["-c", UPLOAD, str(step)], lost.environment, portal.HERE)
        assert RecoveryBucket(objects, KEY).newest_secrets() in (before, after)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert 3 < step < 28
    assert RecoveryBucket(objects, KEY).newest_secrets() == after
    assert not list(keyed.config.data_dir.glob("*.part"))


def test_the_drill_opens_and_compares_without_telling(
    keyed: Context, objects: Bucket, lost: Backed
) -> None:
    copies.daily(keyed)
    keyed.close()
    lost.start()
    lost.replicated()
    passed = command(lost.folder, "drill", settings=lost.environment)
    assert "secrets in the bucket: 3 of 3 as in use" in passed.stdout, passed.stdout + passed.stderr
    assert passed.returncode == 0
    for secret in secrets_in(lost.data).values():
        assert secret.decode().strip() not in passed.stdout
    (lost.data / "telemetry_secret").write_text("another one, which nobody has uploaded, 32 bytes")
    for name in names(objects, "telemetry"):
        objects.delete(name)
    failed = command(lost.folder, "drill", settings=lost.environment)
    assert failed.returncode == portal.FAILED
    assert "does not have the telemetry_secret that is in use" in failed.stdout
    assert "no copy of telemetry.db" in failed.stdout


def test_the_doctor_says_what_is_missing(keyed: Context, objects: Bucket) -> None:
    config = keyed.config

    def line(config: Config) -> tuple[str, str]:
        found = [each for each in doctor.examine(config, 99) if each.subject == "secrets"]
        return (found[0].level, found[0].text) if found else ("", "")

    assert line(config)[0] == "warn"
    assert "no secrets" in line(config)[1]
    backup_bucket_copies.upload_secrets(keyed)
    assert "no copy of telemetry.db" in line(config)[1]
    copies.daily(keyed)
    assert line(config)[0] == "ok"
    without = dataclasses.replace(config, backup_key=None)
    assert line(without)[0] == "warn"
    assert "set BACKUP_KEY" in line(without)[1]
    wrong = dataclasses.replace(config, backup_key="another passphrase for backups")
    assert line(wrong)[0] == "warn"
    assert "not the key" in line(wrong)[1]
    index_keys.rotate(keyed)
    assert "other secrets" in line(config)[1]


@pytest.mark.parametrize(("given", "message"), [
    ({"BACKUP_KEY": KEY}, "needs BACKUP_URL"),
    ({"BACKUP_KEY": KEY, "BACKUP_URL": "sftp://a:b@host/path"}, "needs BACKUP_URL"),
    ({"BACKUP_KEY": "short", "BACKUP_URL": "s3://bucket/path"}, "at least 20"),
])  # fmt: skip
def test_a_key_that_would_have_no_effect_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        Config.read(given)
    assert "short" not in str(refused.value)
