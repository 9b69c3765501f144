"""What the fields of events mean: timestamps of RFC 3339, the numbers that are added up, reports that are too long."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosis.telemetry import crashes
from mosis.telemetry.schemas import CRASH, event_fits
from mosis.validation import check, timestamps
from tests.client import Account, Client
from tests.conftest import START
from tests.test_telemetry_abuse import crash
from tests.web.test_telemetry import analytics, event, send

ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@pytest.fixture
def alice(client: Client) -> Account:
    account = client.register()
    client.out(account)
    return account


def written(at: datetime, minutes: int) -> str:
    """A moment as RFC 3339 writes it in the zone that is so many minutes ahead."""
    local = at.astimezone(timezone(timedelta(minutes=minutes)))
    ahead = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    return local.strftime("%Y-%m-%dT%H:%M:%S") + ahead


@settings(derandomize=True, max_examples=100, deadline=None)
@given(MOMENTS, ZONES, st.sampled_from(["", ".5", ".123456789", ".0000000000001"]), st.booleans())
def test_any_offset_is_the_same_moment(
    at: datetime, minutes: int, fraction: str, small: bool
) -> None:
    at = at.replace(microsecond=0)
    stamp = written(at, minutes)
    stamp = stamp[:19] + fraction + stamp[19:]
    utc = at.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"
    for each in (stamp, utc):
        given = each.lower() if small else each
        assert timestamps.seconds(given) == int(at.timestamp())
        assert event_fits({"type": "app_start", "timestamp": given})


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(1972, 2050), ZONES)
def test_a_leap_second_is_taken_where_there_can_be_one_in_any_zone(year: int, minutes: int) -> None:
    for month, day in ((6, 30), (12, 31)):
        last = datetime(year, month, day, 23, 59, 59, tzinfo=UTC)
        stamp = written(last, minutes)
        assert timestamps.seconds(stamp[:17] + "60" + stamp[19:]) == int(last.timestamp()) + 1
    for wrong in (timedelta(minutes=-1), timedelta(minutes=1), timedelta(days=1)):
        stamp = written(datetime(year, 6, 30, 23, 59, 59, tzinfo=UTC) + wrong, minutes)
        assert timestamps.seconds(stamp[:17] + "60" + stamp[19:]) is None


@pytest.mark.parametrize("stamp", [
    "2026-11-27T00:00:69Z", "2026-11-27T00:00:61Z", "2026-12-31T23:59:61Z", "2026-11-27T00:00:60Z", "2026-02-30T00:00:00Z",
    "2026-13-01T00:00:00Z", "2026-11-27T24:00:00Z", "2026-11-27T00:60:00Z", "2026-11-27T00:00:00", "2026-11-27 00:00:00Z",
    "2026-11-27T00:00:00+24:00", "2026-11-27T00:00:00+01:60", "2026-11-27T00:00:00+0100", "2026-11-27T00:00:00.Z", "", "x",
    "0000-01-01T00:00:00Z", "2026-11-27T00:00:00Z\n", "2026-11-27T00:00:00+01:00 ", "٢026-11-27T00:00:00Z", "1" * 100,
])  # fmt: skip
def test_what_is_no_timestamp_is_rejected_by_itself(
    client: Client, alice: Account, stamp: str
) -> None:
    answer = send(client, event(), {"type": "app_start", "timestamp": stamp}).expect(202)
    assert (answer["accepted"], answer["rejected"]) == (1, 1)
    assert answer["errors"][0]["pointer"] == "/events/1/timestamp"
    body = crash() | {"timestamp": stamp}
    client.post("/v1/telemetry/crashes", body).expect(422).finding("/timestamp")


def test_ranges_take_any_offset_too(client: Client, alice: Account) -> None:
    send(client, event())
    for start in (
        "2027-01-15T00:00:00Z",
        "2027-01-15T02:00:00%2B02:00",
        "2027-01-15T02:00:00+02:00",
    ):
        found = analytics(client, alice, f"?from={start}")
        assert (found["from"], found["totals"]["starts"]) == ("2027-01-15T00:00:00Z", 1)
    bad = "?from=2027-01-15T00:00:69Z"
    client.get(f"/v1/apps/com.acme.notes/analytics{bad}", as_=alice).expect(400)


def test_every_number_of_the_contract_is_added_up(client: Client, alice: Account) -> None:
    near = {"rel": 0.046}
    for name in ("frame_ms", "avg_ms"):
        assert analytics(client, alice)["totals"]["frame_ms_p50"] is None
        send(client, *[event("perf_frame", **{name: 12})] * 10, app_version=name)
        totals = analytics(client, alice)["totals"]
        assert totals["frame_ms_p50"] == totals["frame_ms_p95"] == pytest.approx(12, **near)
        with client.env.telemetry.connection().write() as db:
            db.change("DELETE FROM rollups")
    send(client, *[event("perf_frame", avg_ms=16, p95_ms=40)] * 10)
    send(client, event("perf_startup", startup_ms=100), event("perf_startup", duration_ms=900))
    send(client, event("perf_startup", startup_ms=100, duration_ms=5000))
    for used in (50, 60, 400):
        send(client, event("perf_memory", used_mb=used, limit_mb=512))
    send(
        client, event("perf_memory", used_mb="much", limit_mb=-1), event("perf_frame", avg_ms=None)
    )
    totals = analytics(client, alice)["totals"]
    wanted = {
        "frame_ms_p50": 16, "frame_ms_p95": 40, "startup_ms_p50": 100, "startup_ms_p95": 900,
        "memory_mb_p50": 60, "memory_mb_p95": 400, "memory_limit_mb_p50": 512,
    }  # fmt: skip
    assert {name: totals[name] for name in wanted} == pytest.approx(wanted, **near)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(
    lambda each: each * 20_000
)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(10**15), 10**15), TEXTS)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(TEXTS, TEXTS, st.dictionaries(st.text("ab", min_size=1, max_size=200), VALUES, max_size=60))
def test_whatever_is_too_long_of_a_report_is_shortened(
    message: str, trace: str, context: dict[str, Any]
) -> None:
    document = crash(message=message, context=context) | {}
    document["crash"] |= {"stack_trace": trace, "type": "E" * 500}
    before = json.dumps(document)
    assert crashes.shortened(document)
    assert check(document, CRASH) == document
    assert json.dumps(document) != before
    assert not crashes.shortened(document), "once is enough"


def test_a_long_report_is_stored_and_says_so(client: Client, alice: Account) -> None:
    long = {
        "message": "m" * 5000,
        "context": {"n" * 70: "v" * 600} | {str(n): n for n in range(40)},
    }
    body = crash(device=1, **long) | {}
    body["crash"]["stack_trace"] = "main.lua:1: in function 'f'\n" * 10_000
    assert len(json.dumps(body)) > 250_000
    assert client.post("/v1/telemetry/crashes", body).expect(202)["truncated"] is True
    assert "truncated" not in client.post("/v1/telemetry/crashes", crash(device=2)).expect(202).json
    groups = client.get("/v1/apps/com.acme.notes/crashes", as_=alice)["crashes"]
    assert [each["count"] for each in groups] == [1, 1] or [each["count"] for each in groups] == [2]
    samples = [
        sample
        for each in groups
        for sample in client.get(f"/v1/apps/com.acme.notes/crashes/{each['id']}", as_=alice)[
            "samples"
        ]
    ]
    assert sorted(sample["truncated"] for sample in samples) == [False, True]
    cut = next(sample for sample in samples if sample["truncated"])
    assert (len(cut["message"]), len(cut["stack_trace"]), len(cut["context"])) == (4000, 16_000, 32)
    huge = crash(device=3) | {}
    huge["crash"]["stack_trace"] = "x" * (1 << 20)
    client.post("/v1/telemetry/crashes", huge).expect(413, code="too_large")
    assert client.env.telemetry.connection().value("SELECT max(at) FROM crash_reports") <= START
