"""A real portal for each test: real SQLite files and package folders in a temporary directory, a clock that the test sets."""

import contextlib
import gc
import logging
import os
import re
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import portal
from mosis.clock import Clock
from mosis.commands import process
from mosis.config import Config
from mosis.context import Context, make_context
from mosis.credentials.passwords import Cost
from mosis.database import connection, database, raw
from mosis.outbound.objects import Bucket, open_bucket
from mosis.packages.checks import Checks
from tests import forked_checks
from tests.client import PASSWORD, Account, Client
from tests.forked_checks import ForkedChecks
from tests.seaweed import SeaweedFS
from tests.server import Backed, programs, wait_until

START = 1_800_000_000.0  # 2027-01-15T08:00:00Z
CHEAP = Cost(memory_kib=8, iterations=1)  # password hashes of tests; Argon2's least
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

# A test that holds a lock while another thread waits for it may be held up itself.
connection.BUSY_SECONDS = database.BUSY_SECONDS = raw.BUSY_SECONDS = 60.0

os.environ["PORTALS_OF_TESTS"] = "forked"  # see tests/forked_portal.py

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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker begin with its share of the slow tests, file by file: xdist gives equal parts
    of the list to the workers, and those that are done take over quick tests from the end."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow: dict[Path, list[pytest.Item]] = {}
    quick = []
    for item in items:
        # all that use a browser go to one worker
        group = item.path.parent if item.path.parent.name == "e2e" else item.path
        here = slow.setdefault(group, []) if item.get_closest_marker("slow") else quick
        here.append(item)
    left, count = [*slow.values()], len(items)
    items.clear()
    for number in range(workers):
        share = (count - len(items)) // (workers - number)
        mine = [item for part in left[number::workers] for item in part]
        take = max(0, share - len(mine))
        items += mine + quick[:take]
        del quick[:take]
    items += quick


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


@pytest.fixture(autouse=True)
def _no_process_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every program that a test starts ends with it: what is left would slow down the others, or
    hold a port or a file of theirs."""
    if request.node.get_closest_marker("slow") is None:
        yield
        return
    before = programs()
    yield
    with contextlib.suppress(AssertionError):
        wait_until(lambda: programs().keys() <= before.keys(), "all have ended", 10)
    left = {pid: command for pid, command in programs().items() if pid not in before}
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert left == {}, f"programs that the test has left: {left}"


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


def developer_with_an_app(client: Client) -> Account:
    account = client.register()
    client.app_of(account)
    return account


@pytest.fixture
def prepare() -> Callable[[Client], Any]:
    """What is in the portal of a test that requests `prepared`, which is the result. It is done
    twice at most for tests with the same settings: in the portal of the first one, and for a copy
    that all others get. A test module overrides the fixture to have something of its own."""
    return developer_with_an_app


@dataclass
class Template:
    """A data folder, packages and assets to begin with, and what `prepare` has returned."""

    folder: Path
    result: Any = None
    desk: Account | None = None


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Template | None]:
    """Finds the template for a preparation and settings, or makes it."""
    new = tmp_path_factory.mktemp("new")
    portal.migrate_databases(configuration(new, {}))
    (new / "data/telemetry_secret").write_text(TELEMETRY_SECRET)
    (new / "data/telemetry_secret").chmod(0o600)
    found: dict[Any, Template | None] = {}

    def template(prepare: Any, settings: dict[str, str]) -> Template | None:
        """None the first time: settings that are asked for once are not worth a template."""
        key = (prepare, *sorted(settings.items()))
        if prepare is None:
            return Template(new)
        if key not in found:
            found[key] = None
        elif found[key] is None:
            made = Template(tmp_path_factory.mktemp("template"))
            shutil.copytree(new, made.folder, dirs_exist_ok=True)
            with opened(made.folder, settings, Clock(lambda: START, lambda: START), CHEAP) as env:
                client = Client(portal.build(env), env)
                made.result = prepare(client)
                made.desk = client.found_desk
            found[key] = made
        return found[key]

    template(None, {})
    return template


def configuration(folder: Path, settings: dict[str, str]) -> Config:
    """The settings of a portal with everything in this folder."""
    places = {
        "DATABASE_PATH": str(folder / "data/portal.db"),
        "PACKAGES_DIR": str(folder / "packages"),
        "ASSETS_DIR": str(folder / "assets"),
        "RATE_LIMITS": "off",
        "DISK_RESERVE_BYTES": "0",
    }
    config = Config.read(places | settings)
    config.packages_dir.mkdir(parents=True, exist_ok=True)
    return config


@contextlib.contextmanager
def opened(
    folder: Path,
    settings: dict[str, str],
    clock: Clock,
    cost: Cost,
    checks_class: type[Checks] = ForkedChecks,
) -> Iterator[Context]:
    """The context of the portal in this folder."""
    config = configuration(folder, settings)
    made = make_context(config, clock, cost)
    if checks_class is ForkedChecks:
        forked_checks.start()
    limits = (config.check_memory_bytes, config.check_seconds, config.check_processes)
    yield replace(made, checks=checks_class(*limits))
    made.close()


@pytest.fixture
def template(
    request: pytest.FixtureRequest,
    prepare: Callable[[Client], Any],
    clock: FakeClock,
    settings: dict[str, str],
    password_cost: Cost,
    templates: Callable[..., Template | None],
) -> Template | None:
    """What this test's portal begins with, if there is a copy of it."""
    if "prepared" not in request.fixturenames or password_cost != CHEAP or clock.at != START:
        return None
    return templates(prepare, settings)


@pytest.fixture
def env(
    tmp_path: Path,
    clock: FakeClock,
    settings: dict[str, str],
    password_cost: Cost,
    checks_class: type[Checks],
    template: Template | None,
    templates: Callable[..., Template | None],
) -> Iterator[Context]:
    """The context of a new portal; rate limits are off unless a test asks for them."""
    found = template or templates(None, {})
    assert found is not None
    shutil.copytree(found.folder, tmp_path, dirs_exist_ok=True)
    times = Clock(lambda: clock.at, lambda: clock.at)
    with opened(tmp_path, settings, times, password_cost, checks_class) as made:
        yield made


@pytest.fixture
def prepared(client: Client, prepare: Callable[[Client], Any], template: Template | None) -> Any:
    """What `prepare` has returned."""
    if template is None:
        return prepare(client)
    client.found_desk = template.desk and replace(template.desk)
    return replace(template.result) if is_dataclass(template.result) else template.result


@pytest.fixture
def client(env: Context) -> Client:
    """The real WSGI application, spoken to without a socket."""
    return Client(portal.build(env), env)


@pytest.fixture
def alice(prepared: Account) -> Account:
    """A developer with an app, com.acme.notes."""
    return prepared


@pytest.fixture
def rita(client: Client) -> Account:
    return client.reviewer()


@pytest.fixture
def real_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the portals of this test started by a Python of their own."""
    monkeypatch.delenv("PORTALS_OF_TESTS")


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
