"""Short forms of the campaigns about checks and jobs; the long ones run from the command line (bench/)."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import portal
from bench import fuzz, hidden_lua, kill_checks
from mosis import jobs
from mosis.context import Context
from mosis.packages import checks
from mosis.packages.checks import Checks, ChecksUnavailable
from mosis.publishing import version_checks
from tests.campaign import short_and_full
from tests.client import Client
from tests.conftest import FakeClock
from tests.package_builder import build_package, signing_key
from tests.server import Running, is_alive, wait_until

pytestmark = pytest.mark.slow

SLOW = {"assets/slow.rcss": b"a { b: c; }\n" * 300_000}  # seconds of checking
HUNGRY = {"assets/hungry.lua": b"local a = " + b"{" * 150 + b"'x'," * 2_000_000 + b"}" * 150}


@pytest.fixture
def slow_package(tmp_path: Path) -> Path:
    path = tmp_path / "slow.mosis"
    path.write_bytes(build_package(key=signing_key(), files=SLOW))
    return path


@pytest.fixture
def checks_class() -> type[Checks]:
    """The child of the portal itself, which is what these tests are about."""
    return Checks


def limits_of(pid: int) -> dict[str, list[str]]:
    """The soft and hard limits of a process by name; nothing when it has ended."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        return {line[:26].strip(): line[26:].split()[:2] for line in lines}
    return {}


def written_bytes(pid: int) -> int:
    """What a process has written so far; 0 when it has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/io").read_text().partition("wchar: ")[2].split()[0])
    return 0


def the_child(of: int | None = None, *, but: int = 0, timeout_seconds: float = 60) -> int:
    """The process that checks a package for us (or for another process), once it has all its limits and
    has written its first line, which is longer than what it writes about itself into /proc."""
    until = time.monotonic() + timeout_seconds
    while time.monotonic() < until:
        for pid in kill_checks.children_of(of or os.getpid()):
            limited = limits_of(pid).get("Max open files") == ["3", "3"]
            if pid != but and limited and written_bytes(pid) > 20:
                return pid
        time.sleep(0.005)
    raise AssertionError("no child was started")


@pytest.mark.parametrize("cycles", short_and_full(1, 100))
def test_killed_while_checking_every_version_reaches_its_end(tmp_path: Path, cycles: int) -> None:
    random.seed(2)
    figures = kill_checks.campaign(tmp_path, cycles=cycles)
    assert (figures["lost"], figures["versions"]) == (0, 3 * cycles)


@pytest.mark.parametrize("seconds", short_and_full(1, 600))
def test_the_fuzzer_finds_nothing_and_what_is_planted(seconds: int) -> None:
    """The full form compares with every reader of this machine, the short one with zipfile and unzip; see test_readers.py."""
    only = None if seconds > 1 else frozenset(["none"])
    figures = fuzz.campaign(seconds, seed=5, only=only)
    assert figures["finds"] == []
    assert figures["compared"] > 0
    assert fuzz.campaign(30, seed=5, plant="text", only=frozenset(["none"]))["finds"]


@pytest.mark.parametrize("seconds", short_and_full(1, 300))
def test_what_a_script_uses_cannot_be_hidden_and_what_is_planted_is_found(seconds: int) -> None:
    figures = hidden_lua.campaign(seconds, seed=5)
    assert figures["finds"] == []
    assert figures["reached"] > 0
    assert hidden_lua.campaign(20, seed=5, plant=True)["finds"]


def killed_twice(slow_package: Path) -> list[dict[str, object]]:
    """The findings of a check whose two children were killed; none if one had not begun yet."""
    checks, findings = Checks(512 << 20, 60), []

    def run() -> None:
        with contextlib.suppress(ChecksUnavailable), open(slow_package, "rb") as file:
            findings.extend(checks.run(file))

    thread = threading.Thread(target=run)
    thread.start()
    first = the_child()
    time.sleep(0.1)
    os.kill(first, signal.SIGKILL)
    second = the_child(but=first)
    time.sleep(0.1)
    os.kill(second, signal.SIGKILL)
    thread.join(280)
    assert first != second
    return findings


def test_a_child_that_is_killed_from_outside_is_started_again(slow_package: Path) -> None:
    found = next(filter(None, (killed_twice(slow_package) for _ in range(10))))
    assert (found[0]["code"], found[0]["severity"]) == ("check_crashed", "error")


def stopped(slow_package: Path) -> list[dict[str, object]]:
    """The findings of a check whose child was stopped; none if it had ended or had not begun."""
    findings: list[dict[str, object]] = []

    def run() -> None:
        with contextlib.suppress(ChecksUnavailable), open(slow_package, "rb") as file:
            findings.extend(Checks(512 << 20, 1).run(file))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        child = the_child(timeout_seconds=10)
        os.kill(child, signal.SIGSTOP)
    except (AssertionError, ProcessLookupError):
        findings.clear()
        return []
    finally:
        thread.join(280)
    assert not is_alive(child)
    return findings


def test_a_child_that_does_nothing_at_all_is_ended(slow_package: Path) -> None:
    found = next(filter(None, (stopped(slow_package) for _ in range(5))))
    assert found[0]["code"] == "check_timeout"


def test_a_child_on_a_busy_machine_is_not_ended_while_it_computes() -> None:
    """It takes several windows of time here. It may get no processor in one of them: then again."""
    script = "import time\nwhile time.process_time() < 0.6: pass\nprint('{}')"

    def answer() -> list[dict[str, object]]:
        command = [sys.executable, "-S", "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            with contextlib.suppress(TimeoutError):
                return list(checks._lines(child.stdout, child.pid, 0.2))
            child.kill()
        return []

    assert next(filter(None, (answer() for _ in range(20)))) == [{}]


def test_a_child_dies_with_its_portal(slow_package: Path) -> None:
    script = (
        "import sys; from mosis.packages.checks import Checks\n"
        "with open(sys.argv[1], 'rb') as file: Checks(1 << 30, 60).run(file)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(slow_package)], cwd=portal.HERE)
    child = the_child(parent.pid)
    parent.kill()
    parent.wait(60)
    wait_until(lambda: not is_alive(child), "the child has ended")


def test_the_portals_own_memory_does_not_move(tmp_path: Path) -> None:
    path = tmp_path / "hungry.mosis"
    path.write_bytes(build_package(key=signing_key(), files=HUNGRY))
    before = resident_bytes()
    with open(path, "rb") as file:
        found = Checks(256 << 20, 100).run(file)
    assert found[0]["code"] == "check_memory"
    assert resident_bytes() - before < 4 << 20


def test_a_child_cannot_open_anything(slow_package: Path) -> None:
    with open(slow_package, "rb") as file:
        thread = threading.Thread(target=Checks(512 << 20, 60).run, args=(file,))
        thread.start()
        child = the_child()
        answer = limits_of(child)
        environment = Path(f"/proc/{child}/environ").read_bytes()
        session = os.getsid(child)
        os.kill(child, signal.SIGKILL)
        os.kill(the_child(but=child), signal.SIGKILL)
        thread.join(280)
    assert answer["Max open files"] == ["3", "3"]
    assert answer["Max file size"] == ["0", "0"]
    assert answer["Max address space"] == [str(512 << 20)] * 2
    assert answer["Max cpu time"] == ["60", "62"]
    assert (environment, session) == (b"", child)


def test_a_child_that_cannot_start_is_not_the_packages_fault(slow_package: Path) -> None:
    with open(slow_package, "rb") as file, pytest.raises(ChecksUnavailable):
        Checks(1 << 20, 5).run(file)  # not enough even for Python


def test_then_the_version_waits_and_is_checked_later(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = client.register()
    client.upload(client.app_of(alice), client.package(alice), as_=alice).expect(201)
    monkeypatch.setattr(client.env.checks, "memory_bytes", 1 << 20)
    client.work()
    at = "/v1/apps/com.acme.notes/versions/1.0.0"
    assert client.get(at, as_=alice)["state"] == "checking"
    monkeypatch.undo()
    version_checks.check(client.env, client.get(at, as_=alice)["id"])
    assert client.get(at, as_=alice)["state"] == "ready"


def test_two_processes_share_one_queue(tmp_path: Path, env: Context, clock: FakeClock) -> None:
    """Beside this process `portal.py worker` does what it queues, and ends in order."""
    environment = Running(tmp_path).environment | {
        "DATABASE_PATH": str(env.config.database_path),
        "PACKAGES_DIR": str(env.config.packages_dir),
        "ASSETS_DIR": str(env.config.assets_dir),
    }
    db = env.db.connection()
    clock.at = time.time()
    worker = subprocess.Popen(
        [sys.executable, str(portal.HERE / "portal.py"), "worker"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        with db.write():
            job_id = jobs.add(db, "sweep_packages")
        sql = "SELECT state FROM jobs WHERE id = ?"
        wait_until(lambda: db.value(sql, job_id) == "done", "the worker has done the job")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
