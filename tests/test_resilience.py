"""What an operator's machine does to a portal that runs: full disks, folders that cannot be written, files that vanish, little
memory, clocks that go back. Each has a row in docs/OPERATIONS.md. Small file systems need root."""

import contextlib
import http.client
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mosis.clock import text
from tests.client import PASSWORD, Client
from tests.package_builder import SigningKey, build_package, signing_key
from tests.server import Running, running, wait_until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small file system")


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of this size at the folder, in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=777", "tmpfs", folder], check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """Take all of a disk but so many bytes."""
    filler = folder / "filler"
    disk = os.statvfs(folder)
    left = max(0, disk.f_bavail * disk.f_frsize - leave_bytes)
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while left > 0:
            left -= file.write(b"\1" * min(left, MIB))
    return filler


class Developer:
    """Somebody with an app, over real HTTP."""

    def __init__(self, server: Running) -> None:
        self.port = server.port
        self.token = ""
        self.key: SigningKey = signing_key()
        self.token = self.call(
            "POST", "/v1/auth/register", 201, email="a@example.net", password=PASSWORD, name="A"
        )["access_token"]
        self.call("POST", "/v1/signing-keys", 201, name="laptop", public_key=self.key.public_base64)
        self.call("POST", "/v1/apps", 201, package_id="com.acme.notes", name="Notes")

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            headers = {"Content-Type": kind} | (
                {"Authorization": f"Bearer {self.token}"} if self.token else {}
            )
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")

    def call(self, method: str, path: str, status: int, **document: Any) -> Any:
        got, answer = self.ask(method, path, json.dumps(document).encode() if document else b"")
        assert got == status, (got, answer)
        return answer

    def upload(self, code: int, size_bytes: int = 0) -> tuple[int, str]:
        """(status, code of the error)."""
        sizes = [
            min(8 * MIB, size_bytes - begun) for begun in range(0, size_bytes, 8 * MIB)
        ]  # a file may have 10 MiB
        files = {f"assets/noise{number}.ogg": os.urandom(size) for number, size in enumerate(sizes)}
        package = build_package("com.acme.notes", f"1.0.{code}", code, key=self.key, files=files)
        status, answer = self.ask(
            "POST", "/v1/apps/com.acme.notes/versions", package, "application/octet-stream"
        )
        return status, answer.get("code", "")

    def reads(self) -> None:
        """What does not need to write goes on."""
        for path in (
            "/healthz",
            "/v1/store/apps",
            "/v1/auth/me",
            "/v1/apps",
            "/v1/store/apps?q=notes",
        ):
            self.call("GET", path, 200)


def whole(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []


@root_only
def test_below_the_reserve_uploads_are_refused_and_reads_go_on(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "packages", 32 * MIB) as disk,
        running(tmp_path, {"DISK_RESERVE_BYTES": str(8 * MIB)}) as server,
    ):
        alice = Developer(server)
        assert alice.upload(1, MIB)[0] == 201
        filler = fill(disk, leave_bytes=8 * MIB)
        assert alice.upload(2, MIB) == (507, "no_space")
        alice.reads()
        alice.call(
            "POST", "/v1/apps", 201, package_id="com.acme.other", name="Other"
        )  # the database has its own disk
        assert [path.name for path in (disk / "incoming").iterdir()] == []
        filler.unlink()
        assert alice.upload(2, MIB)[0] == 201
        assert server.stop() == 0
        assert "crash" not in server.log.read_text()


@root_only
def test_without_a_reserve_a_disk_that_is_full_to_the_last_byte_heals_too(tmp_path: Path) -> None:
    with small_disk(tmp_path / "packages", 16 * MIB) as disk, running(tmp_path) as server:
        alice = Developer(server)
        filler = fill(disk)
        for size in (0, MIB):
            assert alice.upload(1, size) == (507, "no_space")
        alice.reads()
        filler.unlink()
        assert alice.upload(1, MIB)[0] == 201
        assert server.stop() == 0


@root_only
def test_a_full_disk_under_the_database_is_507_and_heals(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", 12 * MIB) as disk, running(tmp_path) as server:
        alice = Developer(server)
        filler = fill(disk)
        answers = [
            alice.ask(
                "POST",
                "/v1/apps",
                json.dumps({"package_id": f"com.acme.app{number}", "name": "X"}).encode(),
            )
            for number in range(40)
        ]
        assert {status for status, _ in answers} <= {201, 507}
        assert {answer["code"] for status, answer in answers if status == 507} == {"no_space"}
        acknowledged = {answer["package_id"] for status, answer in answers if status == 201}
        alice.reads()
        filler.unlink()
        alice.call("POST", "/v1/apps", 201, package_id="com.acme.healed", name="Healed")
        listed = {app["package_id"] for app in alice.call("GET", "/v1/apps?limit=100", 200)["apps"]}
        assert listed == acknowledged | {"com.acme.healed", "com.acme.notes"}
        assert server.stop() == 0
        whole(disk / "portal.db")


@root_only
def test_a_full_tmp_disturbs_nothing(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "tmp", MIB) as disk,
        running(tmp_path, {"TMPDIR": str(tmp_path / "tmp")}) as server,
    ):
        fill(disk)
        alice = Developer(server)
        assert alice.upload(1, 2 * MIB)[0] == 201
        alice.reads()
        assert server.stop() == 0


@root_only
def test_a_packages_folder_that_becomes_read_only_stops_uploads_alone(tmp_path: Path) -> None:
    with small_disk(tmp_path / "packages", 32 * MIB) as disk, running(tmp_path) as server:
        alice = Developer(server)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert alice.upload(1) == (503, "package_unavailable")
        assert alice.upload(1, MIB)[0] in (503, 507)
        alice.reads()
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert alice.upload(1, MIB)[0] == 201
        assert server.stop() == 0


def test_telemetry_that_is_deleted_while_it_runs_is_not_the_portals_end(tmp_path: Path) -> None:
    event = {
        "app_id": "com.acme.notes",
        "app_version": "1.0.0",
        "mosis_version": "1.0.0",
        "device_id": "d" * 64,
        "session_id": "s" * 16,
        "events": [{"type": "app_start", "timestamp": text(time.time())}],
    }
    with running(tmp_path) as server:
        alice = Developer(server)
        sent = json.dumps(event).encode()
        before, answer = alice.ask("POST", "/v1/telemetry/events", sent)
        assert before == 202, answer
        for path in (tmp_path / "data").glob("telemetry.db*"):
            path.unlink()
        assert alice.ask("POST", "/v1/telemetry/events", sent)[0] in (202, 503)
        alice.reads()
        assert alice.upload(1)[0] == 201
        assert server.stop() == 0
        server.start()
        assert alice.ask("POST", "/v1/telemetry/events", sent)[0] == 202
        alice.reads()
        assert server.stop() == 0
    whole(tmp_path / "data/portal.db")


def removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A control group with this much memory, of the first or second kind; skips where there is none."""
    for base, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = base / f"portal-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            (group / limit).write_text(str(limit_bytes))
            break
    else:
        pytest.skip("no control group for memory can be made here")
    try:
        yield group
    finally:
        wait_until(lambda: removed(group), "the control group is empty")


@root_only
@pytest.mark.usefixtures("real_start")
def test_with_128_mib_of_memory_a_large_package_is_taken_and_checked(tmp_path: Path) -> None:
    with memory_group(128 * MIB) as group, running(tmp_path) as server:
        (group / "cgroup.procs").write_text(str(server.pid))
        alice = Developer(server)
        assert alice.upload(1, 30 * MIB)[0] == 201
        at = "/v1/apps/com.acme.notes/versions/1.0.1"
        wait_until(lambda: alice.call("GET", at, 200)["state"] != "checking", "it is checked", 120)
        assert alice.call("GET", at, 200)["state"] in ("ready", "failed")
        alice.reads()
        assert server.stop() == 0


def test_a_clock_that_goes_back_an_hour_stops_nobody(client: Client, clock: Any) -> None:
    alice = client.register()
    app = client.app_of(alice)
    clock.advance(-3600)
    again = client.sign_in(alice)
    client.upload(app, client.package(again, app), as_=again).expect(201)
    client.work()
    assert client.get(f"/v1/apps/{app}/versions/1.0.0", as_=again)["state"] in ("ready", "failed")
    client.get("/v1/store/apps").expect(200)
    clock.advance(3600 + 60)
    client.get("/v1/auth/me", as_=client.sign_in(alice)).expect(200)


def test_an_access_token_of_the_future_is_renewed_and_the_session_lives_on(
    client: Client, clock: Any
) -> None:
    alice = client.register()
    clock.advance(-3600)
    client.get("/v1/auth/me", as_=alice).expect(
        401, code="invalid_token"
    )  # it was made in what is now the future
    renewed = client.post("/v1/auth/refresh", {"refresh_token": alice.refresh_token}).expect(200)
    client.get("/v1/auth/me", as_=renewed["access_token"]).expect(200)
