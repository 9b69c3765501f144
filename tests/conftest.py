"""A real portal for each test: real SQLite files and package folders in a temporary directory, a clock that the test sets."""

import gc
import logging
import os
import re
import shutil
import signal
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest

import portal
from mosis.clock import Clock
from mosis.commands import process
from mosis.config import Config
from mosis.context import Context, make_context
from mosis.credentials.passwords import Cost
from mosis.outbound.objects import Bucket, open_bucket
from mosis.packages.checks import Checks
from tests import forked_checks
from tests.client import PASSWORD, Account, Client
from tests.forked_checks import ForkedChecks
from tests.seaweed import SeaweedFS
from tests.server import Backed

START = 1_800_000_000.0  # 2027-01-15T08:00:00Z
CHEAP = Cost(memory_kib=8, iterations=1, lanes=1)  # password hashes of tests; Argon2's least
# Fixed, so that devices have the same registers of a sketch in every run: with a random one, two
# of them share a register in one run of 4,096 and are counted as one.
TELEMETRY_SECRET = "the telemetry secret of tests, which is not a secret"

# Files of tests are in memory where there is room: flushing them to a disk is half of the time.
_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 4 << 30
if _MEMORY.is_dir() and "PYTEST_DEBUG_TEMPROOT" not in os.environ:
    _state = os.statvfs(_MEMORY)
    if _state.f_bavail * _state.f_frsize >= _ROOM_BYTES and not _state.f_flag & os.ST_NOEXEC:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(_MEMORY)

# The same examples in every run: a red run can be repeated. `make campaigns` looks further.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.register_profile("campaign", deadline=None, max_examples=2_000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# A shell that runs the suite in the background has it ignore SIGINT, and so would every program that
# a test starts and means to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


SECRET = re.compile(
    PASSWORD + r"|three random words|mk_live_\w{20}|whsec_|eyJ[\w-]{10}|Bearer \w"
)  # passwords and tokens of tests


class _Log(logging.Handler):
    """Stores the log lines that contain a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(process.JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if SECRET.search(line):
            self.lines.append(line)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers a core for `-n auto`: half of the time a test waits for a server of its own."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name bytes and long texts by their argument: a key or signature made at import would give each parallel
    worker other test ids."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 40) else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exempt what the collection has made from the garbage collector's search for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(autouse=True)
def _no_secret_in_the_log() -> Iterator[None]:
    """Whatever a test does, no log line of any level contains a password or a token."""
    log, handler = logging.getLogger("mosis"), _Log()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield
    log.removeHandler(handler)
    log.setLevel(level)
    root = logging.getLogger()
    for each in list(root.handlers):  # of a command that ran in this process
        if isinstance(each.formatter, process.JsonLines):
            root.removeHandler(each)
            root.setLevel(logging.WARNING)
    assert handler.lines == []


class FakeClock:
    """The time of this test's portal: `clock.advance(60)` lets a minute pass; `at` is in seconds since 1970."""

    def __init__(self) -> None:
        self.at = START

    def advance(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def settings() -> dict[str, str]:
    """Settings of this test's portal; a test module overrides the fixture to have others."""
    return {}


@pytest.fixture
def password_cost() -> Cost:
    """The cost of this portal's password hashes; a test overrides the fixture to have the real one."""
    return CHEAP


@pytest.fixture
def checks_class() -> type[Checks]:
    """How this portal starts the child that checks a package; a test overrides the fixture to have
    the real start."""
    return ForkedChecks


@pytest.fixture(scope="session")
def new_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both databases, migrated and empty: made once, and copied for each test."""
    folder = tmp_path_factory.mktemp("new")
    config = Config.read(
        {"DATABASE_PATH": str(folder / "portal.db"), "PACKAGES_DIR": str(folder / "packages")}
    )
    portal.migrate_databases(config)
    return folder


@pytest.fixture
def env(
    tmp_path: Path,
    clock: FakeClock,
    settings: dict[str, str],
    password_cost: Cost,
    checks_class: type[Checks],
    new_databases: Path,
) -> Iterator[Context]:
    """The context of a new portal; rate limits are off unless a test asks for them."""
    (tmp_path / "data").mkdir(exist_ok=True)
    for name in ("portal.db", "telemetry.db"):
        shutil.copy(new_databases / name, tmp_path / "data" / name)
    (tmp_path / "data/telemetry_secret").write_text(TELEMETRY_SECRET)
    (tmp_path / "data/telemetry_secret").chmod(0o600)
    places = {
        "DATABASE_PATH": str(tmp_path / "data/portal.db"),
        "PACKAGES_DIR": str(tmp_path / "packages"),
        "ASSETS_DIR": str(tmp_path / "assets"),
        "RATE_LIMITS": "off",
        "DISK_RESERVE_BYTES": "0",
    }
    config = Config.read(places | settings)
    config.packages_dir.mkdir(parents=True, exist_ok=True)
    opened = make_context(config, Clock(lambda: clock.at, lambda: clock.at), password_cost)
    if checks_class is ForkedChecks:
        forked_checks.start()
    limits = (config.check_memory_bytes, config.check_seconds, config.check_processes)
    yield replace(opened, checks=checks_class(*limits))
    opened.close()


@pytest.fixture
def client(env: Context) -> Client:
    """The real WSGI application, spoken to without a socket."""
    return Client(portal.build(env), env)


@pytest.fixture
def alice(client: Client) -> Account:
    """A developer with an app, com.acme.notes."""
    account = client.register()
    client.app_of(account)
    return account


@pytest.fixture
def rita(client: Client) -> Account:
    return client.reviewer()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Backed]:
    """A portal that runs as a process of its own, with a replica."""
    made = Backed(tmp_path)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.kill()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """SeaweedFS on loopback, one per worker, started when a test first needs it. A test that stops
    or damages it starts one of its own instead."""
    store = SeaweedFS(tmp_path_factory.mktemp("seaweed"))
    try:
        store.start()
        yield store
    finally:
        store.remove()


@pytest.fixture
def bucket_url(seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket (a prefix of its own); the credentials are in the environment
    of this process and those that it starts."""
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    return seaweed.url("tests", uuid.uuid4().hex)


@pytest.fixture
def bucket(bucket_url: str) -> Bucket:
    """The bucket of `bucket_url`."""
    return open_bucket(bucket_url)
