"""The lease in the bucket: of several portals at most one writes, whatever clocks, networks and schedulers do. With a real
SeaweedFS; the portals of the last tests are processes with a real Litestream."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import portal
from mosis import jobs
from mosis.config import Config, ConfigError
from mosis.context import Context, make_reading_context
from mosis.errors import Unavailable
from mosis.litestream import BackupError
from mosis.litestream.program import generation_of, of_generation, write_generation
from mosis.operations.backup import takeover
from mosis.operations.front_end import FrontEnd
from mosis.outbound import lease as leases
from mosis.outbound.lease import NAME, Lease, SharedFence
from mosis.outbound.objects import Bucket, open_bucket
from tests.campaign import seeded, short_and_full
from tests.seaweed import SeaweedFS
from tests.server import Backed, command, free_port, is_alive, names_in, wait_until

WAITS = "portal: waiting for the lease"
KEY = "a passphrase for backups of tests"
SECONDS = 20.0


class Machine:
    """A machine with a data folder, whose clocks a test turns."""

    def __init__(self, bucket: Bucket, folder: Path, wall: float = 0.0) -> None:
        self.at, self.wall, self.folder = 1000.0, wall, folder
        folder.mkdir(exist_ok=True)
        self.lease = Lease(bucket, folder, SECONDS, lambda: self.at, lambda: self.wall)

    def advance(self, seconds: float, rate: float = 1.0) -> None:
        self.at += seconds * rate
        self.wall += seconds * rate

    @property
    def writes(self) -> bool:
        try:
            self.lease.check()
        except Unavailable:
            return False
        return True


@pytest.fixture
def machines(bucket: Bucket, tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(bucket, tmp_path / "a", 1e9), Machine(bucket, tmp_path / "b", 5e9)


def advance(machines: tuple[Machine, ...], seconds: float) -> None:
    for each in machines:
        each.advance(seconds)


@pytest.mark.slow
def test_the_second_waits_until_the_first_has_not_renewed_for_the_whole_duration(
    machines: tuple[Machine, Machine],
) -> None:
    one, two = machines
    assert one.lease.attempt() == ""
    assert two.lease.attempt().endswith("holds it")
    for _ in range(10):
        advance(machines, SECONDS / 4)
        one.lease.renew()
        assert one.writes
        assert two.lease.attempt()
    advance(machines, SECONDS * 0.95)
    assert not one.writes  # it stops before the other one may begin
    assert two.lease.attempt()
    advance(machines, SECONDS * 0.05)
    assert two.lease.attempt() == ""
    assert (one.writes, two.writes) == (False, True)
    assert (two.lease.generation, two.lease.needs_restore) == (1, True)
    gone: list[str] = []
    one.lease.on_lost = lambda: gone.append("stopped")
    one.lease.renew()
    assert gone == ["stopped"]
    assert not one.writes


@pytest.mark.slow
def test_a_released_lease_is_taken_at_once_and_the_database_of_it_is_known(
    machines: tuple[Machine, Machine],
) -> None:
    one, two = machines
    assert one.lease.attempt() == ""
    assert not one.lease.needs_restore  # the first one has what there is
    one.lease.release()
    assert not one.writes
    assert two.lease.attempt() == ""
    assert two.lease.needs_restore
    two.lease.restored()
    two.lease.release()
    again = Machine(two.lease.bucket, two.folder)
    assert again.lease.attempt() == ""
    assert not again.lease.needs_restore  # nobody has written in between
    again.lease.release()
    back = Machine(two.lease.bucket, one.folder)
    assert back.lease.attempt() == ""
    assert (back.lease.generation, back.lease.needs_restore) == (2, True)


@pytest.mark.slow
def test_a_portal_that_starts_again_goes_on_at_once_but_a_copy_of_its_folder_does_not(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Machine(bucket, tmp_path / "a")
    assert one.lease.attempt() == ""
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    copy = Machine(bucket, tmp_path / "copy")
    assert copy.lease.attempt().endswith("holds it")
    assert generation_of(copy.folder) is None
    again = Machine(bucket, tmp_path / "a")
    assert again.lease.attempt() == ""
    assert (again.lease.generation, again.lease.needs_restore) == (0, False)
    monkeypatch.setattr(leases, "boot_id", lambda: "after a restart of the machine")
    rebooted = Machine(bucket, tmp_path / "a")
    assert rebooted.lease.attempt().endswith("holds it")  # a clone of the disk could run elsewhere
    rebooted.advance(SECONDS)
    assert rebooted.lease.attempt() == ""


@pytest.mark.slow
def test_a_renewal_whose_response_was_lost_is_recognized(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    assert one.lease.attempt() == ""
    one.lease.bucket.replace(NAME, one.lease._document(), one.lease._etag)  # and nobody heard of it
    advance(machines, SECONDS / 2)
    one.lease.renew()
    advance(machines, SECONDS / 2)
    assert one.writes
    assert one.lease.lost is None


@pytest.mark.slow
def test_a_lease_that_somebody_removed_ends_and_no_generation_is_used_twice(
    machines: tuple[Machine, Machine],
) -> None:
    one, two = machines
    bucket = one.lease.bucket
    assert one.lease.attempt() == ""
    bucket.put("generations/00000007/ltx/0/file", b"")
    bucket.delete(NAME)
    one.lease.renew()
    assert one.lease.lost
    assert two.lease.attempt() == ""
    assert (two.lease.generation, two.lease.needs_restore) == (8, True)


@pytest.mark.slow
def test_a_clock_that_jumps_ahead_stops_writing_until_the_next_renewal(
    machines: tuple[Machine, Machine],
) -> None:
    one, _ = machines
    assert one.lease.attempt() == ""
    one.wall += 3600  # or the machine was stopped in a way that its steady clock did not see
    assert not one.writes
    one.lease.renew()
    assert one.writes
    one.wall -= 86_400
    assert one.writes
    one.advance(SECONDS)
    assert not one.writes


@pytest.mark.slow
def test_a_bucket_that_was_away_for_long_gives_the_lease_back_if_nobody_took_it(
    bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Machine(bucket, tmp_path / "a")
    assert one.lease.attempt() == ""
    away = open_bucket(f"s3://tests/?endpoint=http://127.0.0.1:{free_port()}", retries=0)
    one.lease.bucket = away
    one.advance(SECONDS / 2)
    one.lease.renew()
    assert one.writes
    one.advance(SECONDS / 2)
    one.lease.renew()
    assert not one.writes
    one.lease.bucket = bucket
    one.lease.renew()
    assert one.writes
    messages = [each.message for each in caplog.records]
    assert messages == ["lease not renewed", "lease renewed again"]  # each once


@pytest.mark.slow
@pytest.mark.parametrize("steps", short_and_full(400, 50_000))
def test_at_most_one_writes_in_random_histories(bucket: Bucket, tmp_path: Path, steps: int) -> None:
    """Three machines whose clocks differ by years and run up to 4 % too fast or slow, which stop for
    any time, lose the bucket, and start again."""
    chance, _ = seeded()
    away = open_bucket(f"s3://tests/?endpoint=http://127.0.0.1:{free_port()}", retries=0)
    machines = [Machine(bucket, tmp_path / name, chance.uniform(0, 4e9)) for name in "abc"]
    rates = [chance.uniform(0.96, 1.04) for _ in machines]
    holders = set()
    for _ in range(steps):
        passed = chance.choice((0.5, 2, 5)) + (chance.random() < 0.2) * chance.choice(
            (5, 15, 25, 60)
        )
        for machine, rate in zip(machines, rates, strict=True):
            machine.advance(passed, rate)
        for number in chance.sample(range(3), 2):
            machine = machines[number]
            held = machine.lease._etag and not machine.lease.lost
            machine.lease.bucket = away if chance.random() < 0.1 else bucket
            if machine.lease.lost or (held and chance.random() < 0.05):
                fresh = Machine(bucket, machine.folder, machine.wall)
                fresh.at = machine.at
                machines[number] = fresh
            elif held:
                machine.lease.renew()
            elif not machine.lease.attempt():
                machine.lease.restored()
            writing = [each for each in machines if each.writes]
            assert len(writing) <= 1
            holders |= {each.folder.name for each in writing}
    assert len(holders) > 1


class Careless(BaseHTTPRequestHandler):
    """A store that takes every PUT, whatever its conditions say, or honours them when nobody else
    asks at the same time (as SeaweedFS 4.16 did)."""

    objects: dict[str, bytes] = {}
    looks = False

    def do_PUT(self) -> None:
        path, wanted = self.path, self.headers.get("If-Match")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        exists = path in self.objects
        refused = self.looks and (exists if wanted is None else self._etag(path) != wanted)
        time.sleep(0.2)  # as long as all others need to look, too
        if not refused:
            self.objects[path] = content
        self._answer(412 if refused else 200, b"", self._etag(path))

    def do_GET(self) -> None:
        self._answer(200, self.objects[self.path], self._etag(self.path))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>", "")

    do_DELETE = do_GET

    def _etag(self, path: str) -> str:
        return f'"{hash(self.objects.get(path, b"")):x}"'

    def _answer(self, status: int, body: bytes, etag: str) -> None:
        self.send_response(status)
        self.send_header("ETag", etag)
        self.send_header("Last-Modified", self.date_time_string())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.mark.parametrize("looks", [False, True], ids=["never", "alone"])
def test_a_store_that_ignores_conditions_is_refused(tmp_path: Path, looks: bool) -> None:
    handler = type("Handler", (Careless,), {"objects": {}, "looks": looks})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"s3://tests/x?endpoint=http://127.0.0.1:{server.server_port}"
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with pytest.raises(BackupError, match="does not honour If-None-Match"):
            Lease(open_bucket(url, keys, retries=0), tmp_path, SECONDS).probe()
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_seaweedfs_honours_conditions(bucket: Bucket, tmp_path: Path) -> None:
    Lease(bucket, tmp_path, SECONDS).probe()
    assert not list(bucket.list())


def test_a_store_that_does_not_answer_is_named(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    away = open_bucket(f"s3://tests/?endpoint=http://127.0.0.1:{free_port()}", keys, retries=0)
    with pytest.raises(BackupError, match="no connection"):
        Lease(away, tmp_path, SECONDS).probe()


def denied() -> None:
    raise Unavailable("lease_lost", "not now")


class TestTheDatabase:
    def test_without_the_lease_no_transaction_begins(self, env: Context) -> None:
        env.db.fence = denied
        db = env.db.connection()
        with pytest.raises(Unavailable, match="lease_lost"), db.write():
            pytest.fail("it began")
        assert not env.db.writable

    def test_a_transaction_that_outlasts_the_lease_is_rolled_back(self, env: Context) -> None:
        db = env.db.connection()
        before = db.value("SELECT count(*) FROM jobs")
        with pytest.raises(Unavailable, match="lease_lost"), db.write():
            jobs.add(db, "drill")
            env.db.fence = denied
        env.db.fence = lambda: None
        assert db.value("SELECT count(*) FROM jobs") == before
        with db.write():
            pass

    def test_a_commit_that_ended_after_the_lease_is_not_acknowledged(self, env: Context) -> None:
        db, calls = env.db.connection(), iter([None, None, denied])

        def fence() -> None:
            if (found := next(calls)) is not None:
                found()

        env.db.fence = fence
        with pytest.raises(Unavailable, match="lease_lost"), db.write():
            jobs.add(db, "drill")

    def test_another_process_asks_the_one_that_has_it(self, tmp_path: Path) -> None:
        fence = SharedFence(tmp_path)
        with pytest.raises(Unavailable):
            fence.check()
        lease = Lease(None, tmp_path, SECONDS)  # type: ignore[arg-type]
        assert lease.holder
        lease._extend(leases.boot_seconds(), time.time())
        fence.check()
        lease._extend(leases.boot_seconds() - SECONDS, time.time())
        with pytest.raises(Unavailable):
            fence.check()
        lease._extend(leases.boot_seconds(), time.time())
        (tmp_path / "lease/until").write_text("another-boot 1e12 1e12")
        with pytest.raises(Unavailable):
            fence.check()


@pytest.mark.parametrize(("given", "message"), [
    ({"LEASE_SECONDS": "20"}, "needs BACKUP_URL"),
    ({"LEASE_SECONDS": "20", "BACKUP_URL": "s3://bucket/x"}, "BACKUP_KEY"),
    ({"LEASE_SECONDS": "2", "BACKUP_URL": "s3://bucket/x", "BACKUP_KEY": KEY}, "from 5 to 300"),
])  # fmt: skip
def test_a_lease_without_what_it_needs_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.read(given)


def test_each_generation_has_an_address_of_its_own() -> None:
    url = "s3://bucket/path?endpoint=http://nas:8333&region=eu-1"
    assert of_generation(url, 0) == url
    query = "?endpoint=http://nas:8333&region=eu-1"
    assert of_generation(url, 3) == f"s3://bucket/path/generations/00000003{query}"
    assert of_generation("s3://bucket", 3) == "s3://bucket/generations/00000003"


@pytest.mark.slow
def test_a_store_front_end_follows_the_replica_of_the_new_holder(
    bucket: Bucket, bucket_url: str, tmp_path: Path
) -> None:
    bucket.put("generations/00000003/ltx/0/file", b"")
    assert Machine(bucket, tmp_path / "holder").lease.attempt() == ""
    settings = {
        "BACKUP_URL": bucket_url,
        "DATABASE_PATH": str(tmp_path / "front/portal.db"),
        "PACKAGES_DIR": str(tmp_path / "packages"),
        "PRIMARY_URL": "http://127.0.0.1:1",
        "FRONT_END_SECRET": "a secret of tests, which is long enough",
    }
    env = make_reading_context(Config.read(settings))
    front_end = FrontEnd(env, 1)
    front_end.follow.hold()
    try:
        front_end.tick()
        assert "/generations/00000004?" in str(front_end.follow.litestream.url)
        assert generation_of(tmp_path / "front") == 4  # known at the next start, too
    finally:
        front_end.follow.stop()
        env.close()


@pytest.mark.slow
def test_replicas_of_earlier_generations_are_removed_after_a_week(
    bucket: Bucket, bucket_url: str, env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [
        "generations/00000001/ltx/0/a",
        "generations/00000002/ltx/0/a",
        "ltx/0/a",
        "recovery/x",
    ]
    for name in names:
        bucket.put(name, b"")
    config = dataclasses.replace(env.config, backup_url=bucket_url)
    write_generation(config.data_dir, 2)
    takeover.sweep_generations(dataclasses.replace(env, config=config))
    assert sorted(each.name for each in bucket.list()) == names
    monkeypatch.setattr(takeover, "KEPT_SECONDS", -60)
    takeover.sweep_generations(dataclasses.replace(env, config=config))
    assert sorted(each.name for each in bucket.list()) == [names[1], names[3]]


class Pair:
    """Two machines with one bucket and a lease of five seconds."""

    def __init__(self, folder: Path, url: str) -> None:
        self.settings = {"BACKUP_URL": url, "BACKUP_KEY": KEY, "LEASE_SECONDS": "5"}
        self.bucket = open_bucket(url)
        self.portals = [self._portal(folder / name) for name in ("one", "two")]

    def _portal(self, folder: Path) -> Backed:
        folder.mkdir(exist_ok=True)
        return Backed(folder, self.settings)

    def wait(self, waiting: Backed) -> None:
        """Start one, until it waits for the lease."""
        output = waiting.log.read_text().count(WAITS) if waiting.log.exists() else 0
        threading.Thread(target=waiting.start, args=(120,), daemon=True).start()
        wait_until(lambda: waiting.log.exists() and waiting.log.read_text().count(WAITS) > output)

    def end(self) -> None:
        for each in self.portals:
            if each.process is not None and each.process.poll() is None:
                each.process.send_signal(signal.SIGCONT)
                each.kill()


@pytest.fixture
def pair(tmp_path: Path, bucket_url: str) -> Iterator[Pair]:
    made = Pair(tmp_path, bucket_url)
    yield made
    made.end()


def serves(portal: Backed) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(portal.url + "/healthz", timeout=2):
        return True
    return False


@pytest.mark.slow
def test_the_second_portal_takes_over_and_the_first_one_comes_back_later(pair: Pair) -> None:
    one, two = pair.portals
    one.start()
    one.register("alice")
    one.replicated()
    moment = datetime.now(UTC).isoformat()
    secrets = (one.data / "store_key.json").read_bytes()
    pair.wait(two)
    assert not serves(two)
    litestream = one.litestream
    one.kill()
    wait_until(lambda: not is_alive(litestream))
    wait_until(lambda: serves(two))
    assert two.names == ["alice"]
    assert (two.data / "store_key.json").read_bytes() == secrets
    two.register("bob")
    two.replicated()
    pair.wait(one)  # its own database is older now
    assert two.stop() == 0
    wait_until(lambda: serves(one))
    assert one.names == ["alice", "bob"]
    assert names_in(one.data / "portal.db.before-generation-2") == ["alice"]
    one.register("carol")
    refused = command(two.folder, "admin", "create", "root@example.net", settings=pair.settings)
    assert (refused.returncode, "does not hold the lease" in refused.stderr) == (
        portal.FAILED,
        True,
    )
    without = command(two.folder, "serve", settings=pair.settings | {"LEASE_SECONDS": "0"})
    assert (without.returncode, "has the lease in the bucket" in without.stderr) == (1, True)
    shown = command(two.folder, "lease", "show", settings=pair.settings)
    assert shown.stdout.startswith("held, last by ")
    look = two.folder / "look"
    earlier = command(
        two.folder, "restore", "--at", moment, "--to", str(look), settings=pair.settings
    )
    assert earlier.returncode == 0, earlier.stderr  # from the replica of the generation before
    assert names_in(look / "portal.db") == ["alice"]
    assert one.stop() == 0


@pytest.mark.slow
def test_a_primary_that_was_stopped_acknowledges_nothing_afterwards_and_then_waits(
    pair: Pair,
) -> None:
    one, two = pair.portals
    one.start()
    one.register("alice")
    one.replicated()
    pair.wait(two)
    pid, acknowledged, stopping = one.pid, [], threading.Event()

    def write(number: int) -> None:
        count = 0
        while not stopping.is_set():
            count += 1
            name = f"w{number}n{count}"
            with contextlib.suppress(OSError):
                account = {
                    "email": f"{name}@example.net",
                    "password": "three random words",
                    "name": name,
                }
                if one.ask("/v1/auth/register", account)[0] == 201:
                    acknowledged.append((time.monotonic(), name))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(acknowledged) > 5)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: serves(two))
    taken_over = set(two.names)
    resumed = time.monotonic()
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: WAITS in one.log.read_text())
    stopping.set()
    for thread in threads:
        thread.join(60)
    assert is_alive(pid)  # the same process waits
    late = [name for at, name in acknowledged if at > resumed and name not in taken_over]
    assert late == []
    two.register("bob")
    two.replicated()
    assert two.stop() == 0
    wait_until(lambda: serves(one))
    assert set(one.names) == taken_over | {"bob"}


@pytest.mark.slow
def test_a_primary_without_the_bucket_stops_writing_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweed = SeaweedFS(tmp_path / "seaweed")
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    try:
        seaweed.start()
        one = Pair(tmp_path, seaweed.url("tests", "x")).portals[0]
        try:
            one.start()
            one.register("alice")
            seaweed.pause()
            account = {"email": "b@example.net", "password": "three random words", "name": "b"}
            wait_until(lambda: "lease" in json.dumps(one.ask("/readyz")[1]))
            status, refusal = one.ask("/v1/auth/register", account)
            assert (status, refusal["code"]) == (503, "lease_lost")
            assert one.ask("/v1/store/apps")[0] == 200
            seaweed.go_on()
            wait_until(lambda: one.ask("/v1/auth/register", account)[0] == 201)
            assert "lease renewed again" in one.log.read_text()
            assert generation_of(one.data) == 0
        finally:
            seaweed.go_on()
            one.kill()
    finally:
        seaweed.remove()
