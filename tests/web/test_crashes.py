"""Crash reports over HTTP: groups, samples, the way from open to resolved and back."""

import json
from typing import Any

import pytest

from mosis import worker
from mosis.clock import text
from mosis.telemetry import crash_groups, crashes, maintenance
from tests.client import Account, Answer, Client
from tests.conftest import START, FakeClock

NOTES = "com.acme.notes"
AT = f"/v1/apps/{NOTES}/crashes"
TRACE = """stack traceback:
\t[C]: in function 'error'
\t/data/apps/{user}/scripts/notes.lua:{line}: in function 'save' (0x7f{line}00aa)
\t/data/apps/{user}/scripts/main.lua:7: in function <main.lua:5>
\t[C]: in ?"""


@pytest.fixture
def alice(client: Client) -> Account:
    account = client.register()
    client.out(account)
    return account


def report(
    client: Client, device: int = 1, at: float = START - 60, kind: str = "LuaError", **more: Any
) -> Answer:
    trace = TRACE.format(user="u1", line=12)
    crash = {
        "type": kind,
        "message": "bad argument #1",
        "stack_trace": trace,
        "context": {"screen": "home"},
    }
    return client.post("/v1/telemetry/crashes", {
        "app_id": NOTES, "app_version": "1.0.0", "mosis_version": "2.1.0", "device_id": f"{device:064x}", "timestamp": text(at),
        "crash": crash | more,
    })  # fmt: skip


def test_the_same_mistake_is_one_group_on_every_device(client: Client, alice: Account) -> None:
    for device in range(5):
        trace = TRACE.format(user=f"user{device}", line=10 + device)
        answer = report(
            client,
            device,
            message=f"bad argument #{device} at 0xdeadbeef{device}",
            stack_trace=trace,
        ).expect(202)
        assert answer.json == {
            "accepted": 1,
            "rejected": 0,
            "duplicate": False,
            "sample_rate": 1.0,
            "errors": [],
        }
    report(client, 1, kind="NetworkError").expect(202)
    listed = client.get(AT, as_=alice).expect(200)["crashes"]
    assert [(each["type"], each["count"], each["devices"]) for each in listed] == [
        ("NetworkError", 1, 1),
        ("LuaError", 5, 5),
    ]
    assert listed[1]["frames"] == [
        "[C]: in function 'error'", "notes.lua:#: in function 'save' (ADDRESS)", "main.lua:#: in function <main.lua:#>",
    ]  # fmt: skip
    assert listed[1]["message"] == "bad argument ## at ADDRESS"
    assert listed[1]["versions"] == [{"version": "other", "count": 5}]


def test_the_same_report_again_counts_once(client: Client, alice: Account) -> None:
    report(client)
    assert report(client).expect(202)["duplicate"]
    report(client, at=START - 59)
    report(client, device=2)
    assert client.get(AT, as_=alice)["crashes"][0]["count"] == 3


def test_samples_are_the_first_the_last_and_some_between(client: Client, alice: Account) -> None:
    for number in range(1, 22):
        report(client, device=number, at=START - 100 + number, message=f"number {number}").expect(
            202
        )
    group = client.get(AT, as_=alice)["crashes"][0]["id"]
    found = client.get(f"{AT}/{group}", as_=alice).expect(200)
    assert [each["number"] for each in found["samples"]] == [1, 2, 4, 8, 16, 21]
    assert found["samples"][-1]["message"] == "number 21"
    assert found["samples"][0]["context"] == {"screen": "home"}
    assert found["days"] == [{"day": "2027-01-15", "count": 21}]
    assert "device" not in found["samples"][0]
    assert found["first_seen"] == text(START - 99)


def test_resolved_and_back(client: Client, alice: Account, clock: FakeClock) -> None:
    report(client)
    maintenance.turn(client.env)
    client.work()
    group = client.get(AT, as_=alice)["crashes"][0]["id"]
    clock.advance(60)
    resolved = client.patch(f"{AT}/{group}", {"state": "resolved"}, as_=alice).expect(200)
    assert (resolved["state"], resolved["resolved_at"]) == ("resolved", text(START + 60))
    assert client.get(AT + "?state=open", as_=alice)["crashes"] == []
    clock.advance(60)
    report(client, device=2, at=START + 30)  # happened before
    assert client.get(f"{AT}/{group}", as_=alice)["state"] == "resolved"
    report(client, device=2, at=START + 90)
    found = client.get(f"{AT}/{group}", as_=alice)
    assert (found["state"], found["reopened_at"]) == ("open", text(START + 120))
    maintenance.turn(client.env)
    client.work()
    listed = client.get("/v1/notifications", as_=alice)["notifications"]
    assert [each["data"]["reopened_at"] for each in listed] == [text(START + 120), None]
    client.patch(f"{AT}/{group}", {"state": "closed"}, as_=alice).expect(422)
    client.patch(
        f"{AT}/{group}", {"state": "resolved"}, as_=alice, headers={"If-Match": '"x"'}
    ).expect(412)


def test_owners_are_notified_once_of_each_group(client: Client, alice: Account) -> None:
    report(client)
    report(client, device=2)
    db = client.env.db.connection()
    for _ in range(2):
        maintenance.turn(client.env)
    queued = db.all("SELECT kind, arguments FROM jobs WHERE kind = 'crash_new_group'")
    assert len(queued) == 1
    for _ in range(2):
        client.work()
        with (
            client.env.telemetry.connection().write() as telemetry
        ):  # killed between the queue and the mark
            telemetry.change("UPDATE crash_groups SET announced = 0")
        maintenance.turn(client.env)
        worker.HANDLERS["crash_new_group"](client.env, **json.loads(queued[0][1]))
    worker.HANDLERS["crash_new_group"](client.env, group="gone")
    found = client.get("/v1/notifications", as_=alice).expect(200)["notifications"]
    assert [(each["kind"], each["data"]["type"]) for each in found] == [
        ("crash.new_group", "LuaError")
    ]


def test_other_peoples_crashes_do_not_exist(client: Client, alice: Account) -> None:
    report(client)
    bob = client.register("bob")
    client.app_of(bob, "com.bob.todo")
    group = client.get(AT, as_=alice)["crashes"][0]["id"]
    client.get(AT, as_=bob).expect(404)
    client.get(f"{AT}/{group}", as_=bob).expect(404)
    client.get(f"/v1/apps/com.bob.todo/crashes/{group}", as_=bob).expect(404, code="not_found")
    client.patch(f"/v1/apps/com.bob.todo/crashes/{group}", {"state": "resolved"}, as_=bob).expect(
        404
    )
    assert client.get("/v1/apps/com.bob.todo/crashes", as_=bob)["crashes"] == []


def test_crashes_show_in_the_analytics(client: Client, alice: Account) -> None:
    report(client)
    totals = client.get(f"/v1/apps/{NOTES}/analytics", as_=alice)["totals"]
    assert (totals["crashes"], totals["crash_free_share"]) == (1, None)


def test_strangers_cannot_make_groups_without_end(
    client: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash_groups, "NEW_SINGLES_A_DAY", 5)
    letters = "abcdefghijkl"
    for letter in letters:
        report(client, kind=f"Error{letter}").expect(202)
    kinds = [each["type"][-1] for each in client.get(AT, as_=alice)["crashes"]]
    assert "".join(sorted(kinds)) == "hijkl", "the newest stay"
    with client.env.telemetry.connection().write() as telemetry:
        telemetry.change("UPDATE intake SET crash_reports = 10000")
    report(client).expect(429, code="rate_limited")


def test_pages_of_groups(client: Client, alice: Account, clock: FakeClock) -> None:
    for letter in "abcde":
        report(client, kind=f"Error{letter}", at=clock.at).expect(202)
        clock.advance(1)
    first = client.get(AT + "?limit=2", as_=alice)
    second = client.get(f"{AT}?limit=3&cursor={first['next_cursor']}", as_=alice)
    assert [each["type"][-1] for each in first["crashes"] + second["crashes"]] == list("edcba")
    assert second["next_cursor"] is None


@pytest.mark.parametrize(("more", "pointer"), [
    ({"stack_trace": None}, "/crash/stack_trace"), ({"context": {"a": []}}, "/crash/context/a"),
    ({"message": 5}, "/crash/message"), ({"type": "a\nb"}, "/crash/type"), ({"context": []}, "/crash/context"),
])  # fmt: skip
def test_reports_that_do_not_fit_are_explained(
    client: Client, alice: Account, more: dict[str, Any], pointer: str
) -> None:
    report(client, **more).expect(422, code="invalid").finding(pointer)


def test_a_moment_that_is_none(client: Client, alice: Account) -> None:
    body = {"app_id": NOTES, "app_version": "1", "mosis_version": "2", "device_id": "a" * 64, "timestamp": "2026-02-30T00:00:00Z",
            "crash": {"type": "a", "message": "", "stack_trace": ""}}  # fmt: skip
    assert (
        client.post("/v1/telemetry/crashes", body).expect(422).finding("/timestamp")
        == "wrong_format"
    )
    body["timestamp"] = "2026-02-20T00:00:00Z"
    assert client.post("/v1/telemetry/crashes", body).expect(202)["accepted"] == 1


@pytest.mark.parametrize(("one", "other", "same"), [
    ("at foo (C:\\Users\\x\\a.lua:3)", "at foo (D:\\y\\a.lua:99)", True), ("at foo", "at bar", False),
    ("a.lua:3: in f", "b.lua:3: in f", False), ("/x/y/z.lua:1: in upvalue 'f1'", "z.lua:22: in upvalue 'f2'", True),
    ("/home/Jörg Müller/my apps/a.lua:3: in function <C:\\Data of A\\b.lua:7>", "a.lua:4: in function <b.lua:1>", True),
    ("a.lua:1: no 'Anna'\nstack traceback:\n\ta.lua:1: in f", "a.lua:1: no 'Bob'\nstack traceback:\n\ta.lua:1: in f", True),
    ("in task 550e8400-e29b-41d4-a716-446655440000", "in task 6ba7b810-9dad-11d1-80b4-00c04fd430c8", True),
    ("x" * 299 + "a" + "1", "x" * 299 + "a" + "2", True),
])  # fmt: skip
def test_what_makes_frames_equal(one: str, other: str, same: bool) -> None:
    marks = [crashes.fingerprint("T", crashes.top_frames(trace), "m") for trace in (one, other)]
    assert (marks[0] == marks[1]) == same


def test_long_traces_are_read_quickly() -> None:
    import time

    for filling in (
        "a" * 60_000,
        "/" * 60_000,
        "\n" * 60_000,
        "0x" * 30_000,
        ("a" * 299 + "\n") * 200,
        "a/" * 30_000,
    ):
        begun = time.thread_time()
        crashes.fingerprint("T", crashes.top_frames(filling), filling)
        assert time.thread_time() - begun < 5  # more than linear, it would be minutes
