"""/metrics: what it tells, in a form that Prometheus reads, and to whom."""

import ast
import json
import math
import re
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from wsgiref.validate import WSGIWarning

import pytest

import portal
from mosis import jobs
from mosis.config import Config
from mosis.context import Context
from mosis.database import Database
from mosis.metrics import Family, MetricsRegistry, exposition
from mosis.operations import metrics_collectors
from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.server import running

reader = pytest.importorskip(
    "prometheus_client.parser", reason="`make test` installs prometheus-client"
)
HERE = "127.0.0.1"
NOTES = "com.acme.notes"
REFUSALS = {"PortalError", "Malformed", "Denied", "LimitReached", "Unavailable"}


def figures(text: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """{name of the sample: {labels: value}}, as Prometheus's own parser reads it."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in reader.text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def value(client: Client, name: str, **labels: str) -> float:
    read = figures(client.get("/metrics", address=HERE).expect(200).body.decode())
    return read.get(name, {}).get(frozenset(labels.items()), 0)


def test_requests_are_counted_by_route_and_status_with_their_times(client: Client) -> None:
    alice = client.register()
    for _ in range(3):
        client.get("/v1/auth/me", as_=alice).expect(200)
    client.get("/auth/me").expect(401)
    client.get("/v1/rubbish/" + "x" * 50).expect(404)
    with pytest.warns(WSGIWarning):
        client.call("BREW", "/v1/rubbish")
    count = "portal_http_requests_total"
    assert value(client, count, method="GET", route="/auth/me", status="200") == 3
    assert value(client, count, method="GET", route="/auth/me", status="401") == 1
    assert value(client, count, method="GET", route="none", status="404") == 1
    assert value(client, count, method="other", route="none", status="501") == 1
    times = "portal_http_request_duration_seconds"
    assert value(client, times + "_count", method="GET", route="/auth/me") == 4
    assert value(client, times + "_bucket", method="GET", route="/auth/me", le="+Inf") == 4
    assert 0 < value(client, times + "_sum", method="GET", route="/auth/me") < 4
    assert "rubbish" not in client.get("/metrics", address=HERE).body.decode()


def test_uploads_jobs_and_the_queue_are_exported(client: Client, env: Context) -> None:
    alice = client.register()
    draft = client.app_of(alice)
    client.upload(draft, client.package(alice, draft), as_=alice).expect(201)
    client.upload(draft, b"not a package", as_=alice).expect(422)
    assert value(client, "portal_uploads_total", result="taken") == 1
    assert value(client, "portal_uploads_total", result="refused") == 1
    assert value(client, "portal_upload_bytes_total") > 100
    assert value(client, "portal_versions", state="checking") == 1
    assert value(client, "portal_jobs", state="due") > 0
    client.worker.run_due()
    assert value(client, "portal_jobs_total", kind="check_version", result="done") == 1
    assert (
        value(client, "portal_jobs", state="due"),
        value(client, "portal_versions", state="checking"),
    ) == (0, 0)


def test_the_age_of_the_queue_is_that_of_the_oldest_job(
    client: Client, env: Context, clock: object
) -> None:
    client.register()
    clock.advance(90)  # type: ignore[attr-defined]
    assert value(client, "portal_jobs_oldest_due_seconds") == 90


def test_a_job_that_fails_is_counted_as_such(client: Client, env: Context) -> None:
    db = env.db.connection()
    with db.write():
        jobs.add(db, "check_version", version_id="gone", unknown_argument=1)
    client.worker.run_due()
    assert value(client, "portal_jobs_total", kind="check_version", result="failed") == 1


def test_cache_hits_and_sizes_are_exported(client: Client, env: Context) -> None:
    for _ in range(3):
        client.get("/v1/store/apps").expect(200)
    assert value(client, "portal_cache_requests_total", result="hit") == 2
    assert value(client, "portal_cache_requests_total", result="miss") >= 1
    assert (
        value(client, "portal_database_bytes", database="portal")
        == env.config.database_path.stat().st_size
    )
    assert value(client, "portal_disk_free_bytes", folder="packages") > 0
    assert value(client, "process_resident_memory_bytes") > 10 << 20
    assert value(client, "process_open_fds") > 3


@pytest.mark.parametrize(("address", "headers"), [
    ("198.51.100.7", {}),
    ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),  # through a proxy on this machine that nobody has called trusted
    ("127.0.0.1", {"X-Real-IP": "198.51.100.7"}),
    ("", {}),
])  # fmt: skip
def test_only_this_machine_may_read_unless_more_is_set(
    client: Client, address: str, headers: dict[str, str]
) -> None:
    client.get("/metrics", address=address, headers=headers).expect(404, code="not_found")
    client.get("/metrics", address="::1").expect(200)


class TestWithNetworks:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"METRICS": "10.0.0.0/8", "TRUSTED_PROXY": "10.1.0.1"}

    @pytest.mark.parametrize(("address", "forwarded", "status"), [
        ("10.2.3.4", "", 200), ("127.0.0.1", "", 404), ("10.1.0.1", "198.51.100.7", 404), ("10.1.0.1", "10.2.3.4", 200),
    ])  # fmt: skip
    def test_a_client_behind_a_trusted_proxy_counts_as_itself(
        self, client: Client, address: str, forwarded: str, status: int
    ) -> None:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        client.get("/metrics", address=address, headers=headers).expect(status)


class TestOff:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"METRICS": "off"}

    def test_nobody_may_read(self, client: Client) -> None:
        client.get("/metrics", address=HERE).expect(404)


def test_an_unreadable_database_is_a_metric_and_the_others_are_exported(
    env: Context, tmp_path: Path
) -> None:
    read = figures(
        metrics_collectors.read(replace(env, db=Database(tmp_path / "nowhere/portal.db"))).decode()
    )
    assert read["portal_database_readable"] == {frozenset(): 0}
    assert "process_open_fds" in read


def test_nothing_is_lost_when_many_threads_count() -> None:
    measures = MetricsRegistry()

    def count() -> None:
        for _ in range(2000):
            measures.count("portal_jobs_total", kind="x", result="done")
            measures.request("GET", "/x", 200, 0.003)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert list(measures.counted("portal_jobs_total")) == [
        ({"kind": "x", "result": "done"}, 16_000)
    ]
    read = figures(exposition(measures.requests()).decode())
    assert list(read["portal_http_requests_total"].values()) == [16_000]
    buckets = {
        dict(labels)["le"]: count
        for labels, count in read["portal_http_request_duration_seconds_bucket"].items()
    }
    assert (buckets["0.0025"], buckets["0.005"], buckets["+Inf"]) == (0, 16_000, 16_000)


def test_labels_are_written_so_that_they_can_be_read() -> None:
    odd = 'a"b\\c\nd'
    written = exposition([Family("x", "X.").add(0.1, label=odd)])
    assert figures(written.decode()) == {"x": {frozenset({("label", odd)}): 0.1}}


def test_the_server_tells_of_its_threads_and_of_what_it_refused(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(
                urllib.request.Request(server.url + "/v1/apps/x/versions", b"x", method="POST"),
                timeout=60,
            )
        with urllib.request.urlopen(server.url + "/metrics", timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            read = figures(answer.read().decode())
        assert server.stop() == 0
    refused = {labels: count for labels, count in read["portal_refused_total"].items() if count}
    assert refused == {frozenset({("code", "unauthenticated")}): 1}
    assert read["portal_threads"][frozenset({("lane", "quick")})] == Config().threads
    assert sum(read["portal_threads_busy"].values()) >= 1  # the one that answers


def test_every_counter_begins_at_zero_with_every_label_it_can_have(
    client: Client, env: Context
) -> None:
    """What the code counts is declared: the name, the labels, and their values where they are
    literals."""
    read = figures(client.get("/metrics", address=HERE).expect(200).body.decode())
    for name, counter in metrics_collectors.COUNTERS.items():
        assert len(read[name]) == math.prod(len([*each]) for each in counter.labels.values())
        assert name == "portal_jobs_total" or set(read[name].values()) == {0}
    counted = set()
    for path in (portal.HERE / "mosis").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not call.args or not call.keywords:
                continue
            name = getattr(call.args[0], "value", None)
            if (
                getattr(call.func, "attr", "") not in ("count", "on_count")
                or name not in metrics_collectors.COUNTERS
            ):
                continue
            counted.add(name)
            declared = metrics_collectors.COUNTERS[name].labels
            assert {each.arg for each in call.keywords} == set(declared), (path, call.lineno)
            for each in call.keywords:
                literals = {
                    part.value for part in ast.walk(each.value) if isinstance(part, ast.Constant)
                }
                assert literals <= {*declared[str(each.arg)]}, (path, call.lineno)
    assert len(counted) >= 5
    sources = [*(portal.HERE / "mosis/server").glob("*.py"), portal.HERE / "mosis/web/admission.py"]
    refused = {
        call.args[0].value
        for path in sources
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") in REFUSALS
        and isinstance(call.args[0], ast.Constant)
    }
    assert "too_large" in refused
    assert refused <= {*metrics_collectors.REFUSED}


def test_what_happens_to_apps_is_in_the_metrics(
    client: Client, clock: FakeClock, alice: Account
) -> None:
    client.published(alice, NOTES)
    assert value(client, "portal_apps", state="all") == 1
    assert value(client, "portal_apps", state="offered") == 1
    assert value(client, "portal_accounts") == 2
    for move in ("checked", "submit", "approve", "publish"):
        assert value(client, "portal_version_moves_total", move=move) == 1, move
    client.upload(NOTES, client.package(alice, NOTES, "1.1.0", 2), as_=alice, query="?submit=true")
    client.work()
    clock.advance(3600)
    assert value(client, "portal_review_oldest_seconds") == 3600
    with pytest.raises(ZeroDivisionError), client.env.db.connection().write() as db:
        db.after_commit(lambda: db.database.on_count("portal_downloads_total"))
        raise ZeroDivisionError
    assert value(client, "portal_downloads_total") == 0, "what is rolled back is not counted"


def test_the_page_and_the_dashboard_name_what_there_is_and_nothing_else(
    client: Client, env: Context
) -> None:
    page = (
        (portal.HERE / "docs/OPERATIONS.md")
        .read_text(encoding="utf-8")
        .partition("## Metrics")[2]
        .partition("\n## ")[0]
    )
    named = set(re.findall(r"(?<!/)`((?:portal|process)_\w+)`", page))
    server = {
        "portal_connections",
        "portal_unsent_bytes",
        "portal_threads",
        "portal_threads_busy",
        "portal_requests_waiting",
    }
    server.add("portal_bucket_up")  # where there is one, tested there
    server |= set(re.findall(r"portal_store_\w+", page))  # of store front ends, tested there
    assert named == {family.name for family in metrics_collectors.families(env)} | server
    board = json.loads((portal.HERE / "contrib/grafana-dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    used = {
        re.sub(r"_bucket$", "", name)
        for each in asked
        for name in re.findall(r"\b(?:portal|process)_\w+", each)
    }
    assert used <= named
    assert len(used) > 20
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    known = {name: counter.labels for name, counter in metrics_collectors.COUNTERS.items()}
    for each in asked:
        for name, label, wanted in re.findall(r'(\w+)\{job=~"\$job",(\w+)=~?"([^"]+)"', each):
            if name in known:
                assert {*wanted.split("|")} <= {*known[name][label]}, each
