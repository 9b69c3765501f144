"""The front door: the commands, as an operator types them, and short forms of the campaigns in bench/."""

import json
import os
import random
import re
import signal
import sqlite3
import threading
import urllib.request
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

import portal
from bench import kill
from mosis import audit, disk, jobs, worker
from mosis.commands.demo import catalogue
from mosis.config import Config, ConfigError
from mosis.context import Context
from mosis.errors import Conflict
from tests.campaign import short_and_full
from tests.client import Client
from tests.server import command, running, wait_until

pytestmark = pytest.mark.slow


def test_migrate_makes_a_database_and_says_so(tmp_path: Path) -> None:
    assert command(tmp_path, "migrate").stdout.strip().endswith("was 0")
    assert command(tmp_path, "migrate").stdout.strip().endswith("nothing to do")


def test_the_first_administrator_can_sign_in(tmp_path: Path) -> None:
    made = command(tmp_path, "admin", "create", "root@example.net")
    password = re.search(r"password (\S+)", made.stdout)[1]  # type: ignore[index]
    assert command(tmp_path, "admin", "create", "root@example.net").returncode == portal.FAILED
    with running(tmp_path) as server:
        request = urllib.request.Request(
            server.url + "/v1/auth/login",
            json.dumps({"email": "root@example.net", "password": password}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["developer"]["role"] == "admin"
    assert password not in server.log.read_text()


def test_the_audit_trail_is_proved_and_a_change_by_hand_shows(tmp_path: Path) -> None:
    command(tmp_path, "admin", "create", "root@example.net")
    assert re.fullmatch(
        r"1 lines, unbroken; the last is [0-9a-f]{64}\n",
        command(tmp_path, "audit", "verify").stdout,
    )
    with sqlite3.connect(tmp_path / "data/portal.db") as raw:
        raw.execute("UPDATE audit SET action = 'nothing.happened'")
    broken = command(tmp_path, "audit", "verify")
    assert (broken.returncode, "broken at line 1" in broken.stderr) == (portal.FAILED, True)


def test_promoting_gives_a_role_and_unknown_accounts_are_reported(tmp_path: Path) -> None:
    command(tmp_path, "admin", "create", "root@example.net")
    assert (
        "is reviewer now"
        in command(tmp_path, "admin", "promote", "root@example.net", "--role", "reviewer").stdout
    )
    nobody = command(tmp_path, "admin", "promote", "nobody@example.net")
    assert (nobody.returncode, "no such account" in nobody.stderr) == (portal.FAILED, True)


@pytest.mark.parametrize(("settings", "items"), [
    ({"THREADS": "many", "BASE_URL": "x"}, ["THREADS='many'", "BASE_URL='x'"]),
    ({"JWT_SECRET": "short"}, ["at least 32 bytes"]),
    ({"DATABASE_PATH": "/proc/nowhere/portal.db"}, ["/proc/nowhere"]),
])  # fmt: skip
def test_errors_in_the_settings_are_reported_in_a_line_each(
    tmp_path: Path, settings: dict[str, str], items: list[str]
) -> None:
    refused = command(tmp_path, "serve", settings=settings)
    assert refused.returncode in (portal.CONFIG, portal.FAILED)
    assert "Traceback" not in refused.stderr
    assert all(text in refused.stderr for text in items)
    assert len(refused.stderr.strip().splitlines()) == len(items)


def test_a_folder_where_the_database_should_be_is_reported_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "data/portal.db").mkdir(parents=True)
    refused = command(tmp_path, "serve")
    assert refused.returncode == portal.CONFIG
    assert (
        refused.stderr
        == f"portal: a folder is in the place of the database: {tmp_path}/data/portal.db\n"
    )


def test_a_newer_database_is_refused_in_words(tmp_path: Path) -> None:
    command(tmp_path, "migrate")
    with sqlite3.connect(tmp_path / "data/portal.db") as raw:
        raw.execute("PRAGMA user_version = 999")
    refused = command(tmp_path, "serve")
    assert (refused.returncode, "start the newer program" in refused.stderr) == (
        portal.FAILED,
        True,
    )


def test_the_link_for_the_first_administrator_is_the_last_that_a_start_prints(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as server:
        with closing(sqlite3.connect(tmp_path / "data/portal.db")) as db:

            def are_done() -> bool:
                states = db.execute("SELECT DISTINCT state FROM jobs").fetchall()
                return states == [("done",)]

            wait_until(are_done, "the jobs of the start are done")
        wait_until(lambda: "/setup#" in server.log.read_text(), "the link is printed")
        lines = server.log.read_text().splitlines()
        assert [
            line for line in lines if line.startswith("{") and "mosis.requests" not in line
        ] == []
        printed = [line for line in lines if line.strip() and not line.startswith("{")]
        assert "/setup#" in printed[-1]
        made = command(tmp_path, "admin", "create", "root@example.net")
        assert made.returncode == 0
    with running(tmp_path) as server:
        again = server.log.read_text().splitlines()[len(lines) :]
        assert "admin create" not in "\n".join(again), "there is one"


@pytest.mark.parametrize("name", ["portal", "waitress"])
@pytest.mark.usefixtures("real_start")
def test_sigterm_lets_it_end_in_order(tmp_path: Path, name: str) -> None:
    with running(tmp_path, {"SERVER": name}) as server:
        assert server.stop() == 0
        assert "listens on port" in server.log.read_text()
        assert (
            not (tmp_path / "data/portal.db-wal").exists()
            or not (tmp_path / "data/portal.db-wal").stat().st_size
        )


@pytest.mark.usefixtures("real_start")
def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with urllib.request.urlopen(server.url + "/healthz", timeout=60):
            os.kill(server.pid, signal.SIGTERM)
            os.kill(server.pid, signal.SIGTERM)
        assert server.process is not None
        assert server.process.wait(60) in (0, 128 + signal.SIGTERM)


def test_the_stock_server_has_the_bounds_that_its_settings_can_express(tmp_path: Path) -> None:
    with running(tmp_path, {"SERVER": "waitress", "PACKAGE_LIMIT_BYTES": "1000000"}) as server:
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as client:
            client.request("GET", "/v1/store/apps")
            answer = client.getresponse()
            assert (answer.status, json.loads(answer.read())["apps"]) == (200, [])
            assert answer.headers["Server"] is None
            client.putrequest("POST", "/v1/apps")
            client.putheader(
                "Content-Length", "1065537"
            )  # the package limit, what a form adds, and one
            client.endheaders()
            assert client.getresponse().status == 413
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as client:
            client.putrequest("POST", "/v1/apps/com.acme.notes/versions")
            client.putheader("Content-Length", "1065536")
            client.endheaders(bytes(900_000))
            open_files = Path(f"/proc/{server.pid}/fd")
            spooled = f"{tmp_path}/packages/spool/"

            def is_spooled() -> bool:
                paths = [os.path.realpath(each) for each in open_files.iterdir()]
                return any(path.startswith(spooled) for path in paths)

            wait_until(is_spooled, "the body waits in PACKAGES_DIR/spool")
            client.send(bytes(165_536))
            refused = client.getresponse()
            assert (refused.status, json.loads(refused.read())["code"]) == (401, "unauthenticated")
        assert "unmodified waitress" in server.log.read_text()


@pytest.mark.parametrize("name", ["portal", "waitress"])
def test_requests_and_downloads_at_hand_are_finished_and_counted_when_it_ends(
    tmp_path: Path, name: str
) -> None:
    """A body that is still arriving when SIGTERM comes is not begun; an answer that is being computed is sent."""
    with running(tmp_path, {"SERVER": name}) as server:
        answers: list[int] = []

        def register(number: int) -> None:
            body = json.dumps(
                {"email": f"{number}@example.net", "password": "correct horse battery", "name": "A"}
            ).encode()
            request = urllib.request.Request(
                server.url + "/v1/auth/register", body, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    answers.append(answer.status)
            except OSError:
                answers.append(0)

        senders = [threading.Thread(target=register, args=(number,)) for number in range(6)]
        for each in senders:
            each.start()
        wait_until(lambda: answers, "the first is answered, and others are on their way")
        assert server.stop() == 0
        for each in senders:
            each.join(60)
    with sqlite3.connect(tmp_path / "data/portal.db") as raw:
        made = raw.execute("SELECT count(*) FROM developers").fetchone()[0]
    assert made == answers.count(201)  # every account that exists was acknowledged
    assert answers.count(201) > 0


def test_a_job_that_outlasts_the_stop_is_given_back_and_the_stop_is_in_time(
    tmp_path: Path, env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Event(), threading.Event()

    def endless(_env: Context) -> None:
        begun.set()
        gate.wait(60)

    monkeypatch.setitem(worker.HANDLERS, "sweep_jobs", endless)
    db = env.db.connection()
    with db.write():
        job = jobs.add(db, "sweep_jobs")
    running_worker = worker.Worker(env)
    running_worker.start()
    assert begun.wait(60)
    running_worker.stop(timeout_seconds=0.5)  # the job would take 30 s
    row = db.one("SELECT state, attempts, lease_until FROM jobs WHERE id = ?", job)
    assert row == ("waiting", 0, None)
    gate.set()


@pytest.mark.usefixtures("real_start")
def test_every_log_line_is_json_and_a_request_leaves_one(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        request = urllib.request.Request(
            server.url + "/v1/store/apps?q=secret", headers={"X-Request-Id": "mine-1"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.headers["X-Request-Id"] is None  # a cache would give it to others
        server.stop()
        lines = [
            json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")
        ]
    logged = [line for line in lines if line.get("request_id") == "mine-1"]
    assert [(each["method"], each["route"], each["status"]) for each in logged] == [
        ("GET", "/store/apps", 200)
    ]
    assert "secret" not in json.dumps(lines)


@pytest.mark.parametrize("count", short_and_full(8, catalogue.APPS))
def test_the_demo_is_a_catalogue_made_the_real_way(
    client: Client, env: Context, count: int
) -> None:
    catalogue.fill(env, count)
    first = client.get("/v1/store/apps?limit=100").expect(200)
    assert len(first["apps"]) == count
    for app in first["apps"][:3]:
        path = (
            client.get(f"/v1/store/apps/{app['package_id']}/download")
            .expect(302)
            .headers["location"]
        )
        assert (
            len(client.get(path.removeprefix(env.config.base_url)).expect(200).body)
            == app["size_bytes"]
        )
    assert audit.verify(env.db.connection()) > 2 * count
    assert any(app["downloads"] for app in first["apps"])


class Late(worker.Worker):
    """A worker to which there is never anything left to do."""

    def run_due(self) -> int:
        return 0


def test_the_demo_can_be_made_beside_a_portal_that_runs(client: Client, env: Context) -> None:
    beside = worker.Worker(env)
    beside.start()
    client.admin()  # the README makes one first
    try:
        assert "2 apps" in catalogue.fill(env, 2, Late(env))
    finally:
        beside.stop()
    with pytest.raises(Conflict):
        catalogue.fill(env)
    assert len(client.get("/v1/store/apps").expect(200)["apps"]) == 2
    mails = [path.read_text() for path in (env.config.data_dir / "mail").glob("*")]
    assert not any("@demo.example" in mail for mail in mails)  # nobody reads it


@pytest.mark.parametrize("cycles", short_and_full(3, 200))
def test_killed_in_the_middle_nothing_acknowledged_is_lost(tmp_path: Path, cycles: int) -> None:
    random.seed(1)
    figures = kill.campaign(tmp_path, cycles)
    assert figures["lost"] == 0
    assert figures["acknowledged_versions"] > 0


def test_the_kill_campaign_notices_a_loss(tmp_path: Path) -> None:
    random.seed(1)
    with pytest.raises(AssertionError, match="file of"):
        kill.campaign(tmp_path, 5, plant=True)


@pytest.mark.skipif(
    os.getuid() != 0, reason="only root can give a folder away and run as somebody else"
)
@pytest.mark.parametrize("folder", ["data", "packages", "assets"])
def test_a_folder_of_somebody_else_is_reported_in_one_line(tmp_path: Path, folder: str) -> None:
    for name in ("data", "packages", "assets"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, 65534, 65534)
    os.chown(tmp_path / folder, 1, 1)
    os.chmod(tmp_path / folder, 0o755)
    config = Config.read(
        {
            "DATABASE_PATH": str(tmp_path / "data/portal.db"),
            "PACKAGES_DIR": str(tmp_path / "packages"),
            "ASSETS_DIR": str(tmp_path / "assets"),
        }
    )
    for each in (tmp_path, *tmp_path.parents[:-2]):
        os.chmod(each, 0o755)
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            portal.migrate_databases(config)
        except PermissionError as error:
            os._exit(7 if error.filename == str(tmp_path / folder) else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_database_on_a_file_system_of_the_network_is_refused_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    places = {
        "DATABASE_PATH": str(tmp_path / "data/portal.db"),
        "PACKAGES_DIR": str(tmp_path / "packages"),
    }
    with pytest.raises(ConfigError, match=r"on nfs4.*NETWORK_DISK=allow"):
        portal.migrate_databases(Config.read(places), lambda folder: "nfs4")
    assert not (tmp_path / "data/portal.db").exists()
    portal.migrate_databases(Config.read(places | {"NETWORK_DISK": "allow"}), lambda folder: "nfs4")
    assert (tmp_path / "data/portal.db").exists()


def test_the_file_system_of_a_folder_is_known(tmp_path: Path) -> None:
    assert disk.file_system(Path("/proc/self")) == "proc"
    assert disk.file_system(tmp_path) not in {"unknown", "proc", *disk.NETWORK}
