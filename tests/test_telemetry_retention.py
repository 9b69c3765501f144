"""Forgetting: what is too old goes, in small slices, and its space with it; what a device asks for goes at once."""

import json
import statistics
from typing import Any

import pytest

from mosis.clock import text
from mosis.telemetry import maintenance, retention, rollups
from tests.client import Account, Client
from tests.conftest import START, FakeClock
from tests.web.test_crashes import report
from tests.web.test_telemetry import (
    DAY,
    DEVICE,
    NOTES,
    analytics,
    batch,
    event,
    send,
    sign_in_again,
    stored,
)

OTHER = "f" * 64


@pytest.fixture
def alice(client: Client) -> Account:
    account = client.register()
    client.out(account)
    return account


def rows(client: Client, table: str) -> int:
    return int(stored(client, f"SELECT count(*) FROM {table}")[0][0])


def test_raw_events_stay_seven_days_and_sums_for_good(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    send(client, event(), batch_id="b")
    clock.advance(3 * DAY)
    send(client, event(at=clock.at))
    clock.advance(4 * DAY)
    maintenance.turn(client.env)
    assert rows(client, "batches") == 2
    clock.advance(1)
    maintenance.turn(client.env)
    assert rows(client, "batches") == 1
    clock.advance(100 * DAY)
    maintenance.turn(client.env)
    assert (rows(client, "batches"), rows(client, "seen")) == (0, 0)
    assert stored(client, "SELECT DISTINCT span FROM rollups") == [("day",)]
    sign_in_again(client, alice)
    assert analytics(client, alice, "?from=2027-01-15&to=2027-01-25")["totals"]["starts"] == 2
    send(client, event(at=clock.at))
    assert (
        analytics(client, alice)["totals"]["starts"] == 1
    )  # a new row is not taken for a summed one


def test_batches_that_are_not_in_the_sums_yet_stay(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    send(client, event())
    clock.advance(30 * DAY)
    retention.prune(client.env)
    assert rows(client, "batches") == 1
    maintenance.turn(client.env)
    assert rows(client, "batches") == 0
    assert stored(
        client, "SELECT sum(starts) FROM rollups WHERE span = 'day' AND version = '*'"
    ) == [(1,)]


def test_rows_from_a_future_that_was_none_go_too(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    clock.advance(1000 * DAY)
    send(client, event())
    clock.advance(-1000 * DAY)
    send(client, event())
    maintenance.turn(client.env)
    assert rows(client, "batches") == 1


def test_crashes_stay_ninety_days(client: Client, alice: Account, clock: FakeClock) -> None:
    report(client)
    report(client, kind="Other")
    clock.advance(60 * DAY)
    report(client, at=clock.at)
    clock.advance(31 * DAY)
    maintenance.turn(client.env)
    assert stored(client, "SELECT type, count FROM crash_groups") == [("LuaError", 2)]
    assert (rows(client, "crash_reports"), rows(client, "crash_counts")) == (1, 2)
    assert stored(
        client, "SELECT sum(crash_reports) FROM rollups WHERE span = 'day' AND version = '*'"
    ) == [(3,)]


def test_slices_are_short_and_the_space_comes_back(
    client: Client, alice: Account, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = retention.Slices.took
    db = client.env.telemetry.connection()
    send(client, event())
    source = db.value("SELECT id FROM sources")
    events = json.dumps([[5, int(START), {"frame_ms": 16.5}]] * 20)
    for _ in range(20):
        with db.write():
            for _ in range(1000):
                db.insert(
                    "batches",
                    source=source,
                    device=b"12345678",
                    session=b"s",
                    received_at=int(START),
                    events=events,
                )
    rollups.catch_up(db)
    before = db.value("PRAGMA page_count")
    clock.advance(8 * DAY)
    spent: list[float] = []
    monkeypatch.setattr(
        retention.Slices, "took", lambda self, seconds: spent.append(seconds) or took(self, seconds)
    )
    retention.prune(client.env)
    assert rows(client, "batches") == 0
    assert len(spent) > 20
    assert (
        statistics.median(spent) < 0.05
    )  # the longest is about 30 ms on a quiet machine; a busy one is no measure
    assert db.value("PRAGMA page_count") < before / 5
    assert db.value("PRAGMA integrity_check") == "ok"


def test_a_slice_adapts_to_what_it_costs() -> None:
    slices = retention.Slices()
    for _ in range(20):
        slices.took(0.001)
    assert slices.size == retention.LARGEST_SLICE
    slices.took(0.04)
    assert (slices.size, slices.longest_seconds) == (retention.LARGEST_SLICE // 2, 0.04)
    for _ in range(20):
        slices.took(1)
    assert slices.size == 1


def test_pruning_stops_when_its_time_is_over(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    for _ in range(200):
        send(client, event())
    maintenance.turn(client.env)
    clock.advance(8 * DAY)
    retention.prune(client.env, seconds=0)
    assert rows(client, "batches") == 200 - retention.FIRST_SLICE


def test_a_deleted_draft_takes_its_telemetry_along(client: Client, alice: Account) -> None:
    client.app_of(alice, "com.acme.todo")
    try_out(client, alice, "com.acme.todo")
    send(client, event())
    client.delete("/v1/apps/com.acme.todo", as_=alice).expect(204)
    maintenance.turn(client.env)
    assert (rows(client, "apps"), rows(client, "sources"), rows(client, "batches")) == (1, 1, 1)
    assert stored(client, "SELECT count(DISTINCT app) FROM rollups") == [(1,)]
    client.app_of(alice, "com.acme.new")  # does not inherit its number, nor its events
    try_out(client, alice, "com.acme.new")
    maintenance.turn(client.env)
    assert max(stored(client, "SELECT id FROM apps")) == (3,)
    assert rollups.recount(client.env.telemetry.connection()) == 0


def try_out(client: Client, developer: Account, app_id: str) -> None:
    """A device of the developer sends something of a draft."""
    body = batch(event(), app_id=app_id)
    assert client.post("/v1/telemetry/events", body, as_=developer).expect(202)["accepted"] == 1


def everything(client: Client, device: str, limit: int = 100) -> tuple[list[Any], list[Any]]:
    batches, reports, query = [], [], f"?limit={limit}"
    while True:
        page = client.get(f"/v1/telemetry/devices/{device}{query}").expect(200)
        batches += page["batches"]
        reports += page["crash_reports"]
        if page["next_cursor"] is None:
            return batches, reports
        query = f"?limit={limit}&cursor={page['next_cursor']}"


def test_a_device_sees_and_erases_what_is_stored_about_it(client: Client, alice: Account) -> None:
    client.out(alice, "com.acme.todo")
    for number in range(5):
        send(client, event("perf_frame", frame_ms=number))
        send(client, event(), device_id=OTHER)
    send(client, event(), app_id="com.acme.todo")
    report(client, device=int(DEVICE, 16))
    report(client, device=2)
    before = analytics(client, alice).json
    batches, reports = everything(client, DEVICE)
    assert [each["events"][0]["data"] for each in batches] == [
        {"frame_ms": number} for number in range(5)
    ] + [{}]
    assert batches[0] == {
        "app_id": NOTES, "app_version": "other", "mosis_version": "2.1.0", "received_at": text(START),
        "events": [{"type": "perf_frame", "timestamp": text(START - 60), "data": {"frame_ms": 0}}],
    }  # fmt: skip
    assert batches[-1]["app_id"] == "com.acme.todo"
    assert [(each["type"], each["context"]) for each in reports] == [
        ("LuaError", {"screen": "home"})
    ]
    assert everything(client, DEVICE.upper(), limit=2) == (batches, reports)

    client.delete(f"/v1/telemetry/devices/{DEVICE}").expect(204)
    assert everything(client, DEVICE) == ([], [])
    assert len(everything(client, OTHER)[0]) == 5
    assert rows(client, "crash_reports") == 1
    assert analytics(client, alice).json == before
    client.delete(f"/v1/telemetry/devices/{DEVICE}").expect(204)


def test_the_newest_batch_erased_leaves_no_number_for_the_next(
    client: Client, alice: Account
) -> None:
    send(client, event())
    maintenance.turn(client.env)
    client.delete(f"/v1/telemetry/devices/{DEVICE}").expect(204)
    send(client, event())
    assert analytics(client, alice)["totals"]["starts"] == 2


def test_what_is_no_device_id(client: Client) -> None:
    client.get("/v1/telemetry/devices/abc").expect(400, code="malformed_request")
    client.delete(f"/v1/telemetry/devices/{'g' * 64}").expect(400)


def test_one_search_at_a_time(client: Client, alice: Account) -> None:
    send(client, event())
    with client.env.telemetry_search:
        refused = client.get(f"/v1/telemetry/devices/{DEVICE}").expect(503, code="busy")
        assert refused.headers["retry-after"] == "5"
    assert len(everything(client, DEVICE)[0]) == 1
