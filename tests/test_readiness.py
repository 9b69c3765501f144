"""/readyz: green when the portal can do its work, red with a reason each when it cannot."""

import pytest

from mosis import jobs
from mosis.context import Context
from mosis.litestream import State
from mosis.operations import readiness
from tests.client import Client
from tests.conftest import FakeClock


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KEEP_SECONDS", 0.0)


def codes(client: Client) -> list[tuple[str, str]]:
    refused = client.get("/readyz").expect(503, code="not_ready")
    return [(each["pointer"], each["code"]) for each in refused["errors"]]


def test_a_portal_that_works_is_ready(client: Client) -> None:
    ready = client.get("/readyz").expect(200)
    assert set(ready.json) == {
        "status",
        "sqlite_version",
        "disk_free_bytes",
        "queue_age_seconds",
        "replica",
        "store",
    }
    assert (ready["status"], ready["replica"], ready["store"]) == ("ready", None, None)


def test_a_job_that_nobody_does_is_reported(client: Client, clock: FakeClock) -> None:
    db = client.env.db.connection()
    with db.write():
        jobs.add(db, "sweep_packages")
    clock.advance(299)
    assert client.get("/readyz").expect(200)["queue_age_seconds"] == 299
    clock.advance(2)
    assert codes(client) == [("/queue", "queue_stuck")]
    client.work()
    client.get("/readyz").expect(200)


def test_a_database_that_is_gone_or_locked_is_reported(
    client: Client, env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosis.database.connection.BUSY_SECONDS", 0.1)
    with env.db.writers:
        assert codes(client) == [("/database", "database_unwritable")]
    env.telemetry.path.unlink()
    assert codes(client) == [("/telemetry", "database_unwritable")]


def test_what_litestream_says_is_not_for_everybody() -> None:
    trouble = State(
        running=False,
        behind_seconds=40.0,
        restarts=1,
        trouble="mkdir /volume1/secret: permission denied",
    )
    found = list(readiness._replica(trouble))
    assert [each["code"] for each in found] == ["replica_stopped", "replica_behind"]
    assert "volume1" not in str(found)


def test_a_disk_below_the_reserve_is_reported(client: Client, env: Context) -> None:
    env.files.reserve_bytes = 1 << 60
    assert codes(client) == [("/disk", "disk_low")]


def test_several_reasons_come_at_once_and_are_kept_for_a_second(
    client: Client, env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.files.reserve_bytes = 1 << 60
    env.telemetry.path.unlink()
    assert len(codes(client)) == 2
    monkeypatch.setattr(readiness, "KEEP_SECONDS", 60.0)
    env.files.reserve_bytes = 0
    assert len(codes(client)) == 2
