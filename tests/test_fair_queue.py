"""Lanes of the queue shared among accounts: a greedy one delays the others by one job, whatever the kind."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis import events, jobs, worker
from mosis.context import Context
from mosis.database import migrate, statements
from mosis.jobs import Again
from mosis.worker import Worker
from tests.conftest import FakeClock

OWNED = sorted(
    name for name, kind in jobs.KINDS.items() if not kind.every_seconds and name != "copy_database"
)  # what accounts cause


def add(env: Context, kind: str, owner: str | None, **more: Any) -> str | None:
    db = env.db.connection()
    with db.write():
        return jobs.add(db, kind, owner=owner, **more)


def drained(env: Context, lane: str, costs: dict[str | None, float]) -> list[str | None]:
    """Whose jobs are done, in order, when each takes what its owner's take."""
    db, order = env.db.connection(), []
    while job := jobs.claim(db, lane):
        order.append(job.owner_id)
        jobs.finish(db, job, costs[job.owner_id])
    return order


@pytest.mark.parametrize("kind", OWNED)
def test_three_accounts_share_each_lane_whatever_the_greedy_one_queued_before(
    env: Context, kind: str
) -> None:
    for _ in range(20):
        add(env, kind, "greedy")
    for _ in range(3):
        for owner in ("modest", "other"):
            add(env, kind, owner)
    lane = jobs.KINDS[kind].lane
    order = drained(env, lane, dict.fromkeys(("greedy", "modest", "other"), 1.0))
    assert order[:3] in (["greedy", "modest", "other"],)
    assert all(order[at : at + 3].count("greedy") == 1 for at in range(0, 9, 3))


def test_time_counts_and_not_the_number_of_jobs(env: Context) -> None:
    for _ in range(10):
        add(env, "check_version", "slow")
    for _ in range(40):
        add(env, "check_version", "quick")
    order = drained(env, "checks", {"slow": 20.0, "quick": 0.5})
    assert order[0] == "slow"  # it was there first
    assert order[1:41].count("quick") >= 39


def test_idle_time_is_no_credit_and_no_debt(env: Context) -> None:
    for _ in range(50):
        add(env, "check_version", "first")
    drained(env, "checks", {"first": 10.0})
    for _ in range(5):
        for owner in ("late", "first"):
            add(env, "check_version", owner)
    order = drained(env, "checks", {"first": 10.0, "late": 10.0})
    assert order.count("late") == 5
    assert order[:4].count("first") >= 1  # the newcomer does not have the lane for itself


def test_the_portals_own_jobs_come_first(env: Context) -> None:
    for _ in range(3):
        add(env, "count", "greedy")
    add(env, "count", None)
    assert drained(env, "quick", {"greedy": 1.0, None: 1.0})[0] is None


def test_one_account_leaves_threads_to_others(env: Context) -> None:
    for owner in ("greedy", "greedy", "modest"):
        add(env, "deliver_webhook", owner)
    db = env.db.connection()
    first = jobs.claim(db, "webhooks")
    assert first is not None
    second = jobs.claim(db, "webhooks", busy={"greedy"})
    assert (first.owner_id, second and second.owner_id) == ("greedy", "modest")
    assert jobs.claim(db, "webhooks", busy={"greedy"}) is None
    assert jobs.next_due(db, "webhooks", busy={"greedy"}) is None  # no thread asks again and again
    jobs.finish(db, first, 1.0)
    assert jobs.next_due(db, "webhooks") is not None


def test_what_a_killed_process_was_doing_holds_up_nothing_else_of_its_account(
    env: Context,
) -> None:
    for _ in range(3):
        add(env, "check_version", "a")
    db = env.db.connection()
    assert jobs.claim(db, "checks") is not None  # by a process that is killed now
    assert drained(env, "checks", {"a": 1.0}) == ["a", "a"]


def test_a_rest_holds_one_account_only_and_ends(env: Context, clock: FakeClock) -> None:
    for owner in ("resting", "modest"):
        add(env, "check_version", owner)
    db = env.db.connection()
    with db.write():
        jobs.rest(db, "checks", "resting", 60)
    assert drained(env, "checks", {"modest": 1.0}) == ["modest"]
    assert jobs.next_due(db, "checks") == env.clock.now(60)
    clock.advance(61)
    assert drained(env, "checks", {"resting": 1.0}) == ["resting"]


def test_a_rest_written_by_a_clock_that_was_ahead_does_not_count(
    env: Context, clock: FakeClock
) -> None:
    clock.advance(10 * 24 * 3600)
    db = env.db.connection()
    with db.write():
        jobs.rest(db, "checks", "unlucky", 3600)
    clock.advance(-10 * 24 * 3600)
    add(env, "check_version", "unlucky")
    assert drained(env, "checks", {"unlucky": 1.0}) == ["unlucky"]


def test_what_is_asked_for_while_it_runs_runs_once_more(
    env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []

    def handler(env: Context) -> None:
        runs.append(1)
        if len(runs) == 1:
            for _ in range(3):
                assert add(env, "count", "x", unique_key="one", again=True) is None

    monkeypatch.setitem(worker.HANDLERS, "count", handler)
    add(env, "count", "x", unique_key="one", again=True)
    assert (Worker(env).run_due(), len(runs)) == (2, 2)


def test_what_is_asked_for_during_the_last_attempt_is_not_lost(
    env: Context, clock: FakeClock
) -> None:
    add(env, "count", "x", unique_key="one", again=True)
    db = env.db.connection()
    with db.write():
        db.change("UPDATE jobs SET attempts = ?", jobs.ATTEMPTS - 1)
    job = jobs.claim(db)
    assert job is not None
    assert job.is_last_attempt
    add(env, "count", "x", unique_key="one", again=True)
    jobs.fail(db, job, "no")
    clock.advance(1000)
    again = jobs.claim(db)
    assert again is not None
    assert not again.is_last_attempt


def test_a_job_that_waits_for_later_is_brought_forward(env: Context) -> None:
    add(env, "count", "x", unique_key="one", again=True, after_seconds=600)
    db = env.db.connection()
    add(env, "count", "x", unique_key="one", again=True, after_seconds=30)
    add(env, "count", "x", unique_key="one", again=True, after_seconds=300)
    assert jobs.next_due(db) == env.clock.now(30)


def test_a_handler_may_ask_to_be_run_again(
    env: Context, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(worker.HANDLERS, "count", lambda env: Again(60))
    add(env, "count", "x")
    assert Worker(env).run_due() == 1
    assert jobs.next_due(env.db.connection()) == env.clock.now(60)
    clock.advance(60)
    assert Worker(env).run_due() == 1


def test_the_threads_of_a_lane_go_on_with_others_while_one_account_holds_its_share(
    env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real threads: receivers of one account hang, and another account's delivery goes out."""
    go_on, done = threading.Event(), threading.Event()

    def handler(env: Context, account: str) -> None:
        if account == "greedy":
            go_on.wait(60)
        else:
            done.set()

    monkeypatch.setitem(worker.HANDLERS, "deliver_webhook", handler)
    for _ in range(10):
        add(env, "deliver_webhook", "greedy", account="greedy")
    running = Worker(env)
    running.start()
    try:
        add(env, "deliver_webhook", "modest", account="modest")
        assert done.wait(60)
    finally:
        go_on.set()
        running.stop()


def test_the_sweep_forgets_turns_that_say_nothing(env: Context) -> None:
    for owner in ("a", "b"):
        add(env, "count", owner)
    drained(env, "quick", {"a": 1.0, "b": 5.0})
    add(env, "count", "a")
    drained(env, "quick", {"a": 3.0})
    jobs.sweep(env)
    owners = {row[0] for row in env.db.connection().all("SELECT owner_id FROM job_turns")}
    assert owners == {"", "a", "b"}
    for _ in range(9):
        add(env, "count", "c")
    drained(env, "quick", {"c": 9.0})
    jobs.sweep(env)
    owners = {row[0] for row in env.db.connection().all("SELECT owner_id FROM job_turns")}
    assert owners == {"", "c"}


def test_events_of_one_account_make_one_job_for_each_webhook_and_one_for_its_mails(
    env: Context,
) -> None:
    db = env.db.connection()
    with db.write():
        _account(db, "a")
        for number in range(2):
            db.insert("webhooks", id=f"w{number}", developer_id="a", url="https://hooks.example/",
                      secret="whsec_x", created_at=db.now)  # fmt: skip
        for _ in range(5):
            events.add(db, "a", "version.approved", package_id="com.a", version="1")
    assert dict(db.all("SELECT kind, count(*) FROM jobs GROUP BY kind")) == {
        "deliver_webhook": 2,
        "mail_event": 1,
    }


def test_a_webhook_has_a_bounded_number_of_deliveries_waiting(env: Context) -> None:
    db = env.db.connection()
    with db.write():
        _account(db, "a")
        db.insert("webhooks", id="w", developer_id="a", url="https://hooks.example/",
                  secret="whsec_x", created_at=db.now)  # fmt: skip
        made = [events.add(db, "a", "version.published") for _ in range(events.MOST_WAITING + 3)]
    rows = db.all(
        "SELECT event_id, error FROM webhook_deliveries WHERE state = 'failed' ORDER BY id"
    )
    assert rows == [(each, "too many were waiting") for each in made[:3]]


def _account(db: Any, id: str) -> None:
    db.insert("developers", id=id, email=f"{id}@example.net", name=id, created_at=db.now)


def test_a_queue_from_before_is_put_together_and_shared_out(tmp_path: Path) -> None:
    """Migration 0002 on a database of 0001 with jobs in every state."""
    path, folder = tmp_path / "old.db", portal.HERE / "migrations"
    raw = sqlite3.connect(path, isolation_level=None)
    for statement in statements((folder / "0001_initial.sql").read_text(encoding="utf-8")):
        raw.execute(statement)
    raw.execute("PRAGMA user_version = 1")
    now = "2026-11-27T00:00:00Z"
    raw.execute(
        "INSERT INTO developers (id, email, name, created_at) VALUES ('a', 'a@x', 'A', ?), ('b', 'b@x', 'B', ?)",
        (now, now),
    )
    raw.execute(
        "INSERT INTO webhooks (id, developer_id, url, secret, created_at) VALUES ('w', 'a', 'u', 's', ?)",
        (now,),
    )
    for number, owner in enumerate("aab"):
        raw.execute("INSERT INTO events (id, developer_id, kind, created_at) VALUES (?, ?, 'version.approved', ?)",
                    (f"e{number}", owner, now))  # fmt: skip
    rows = [
        ("mail_event", "outside", '{"event_id": "e0"}', "waiting"),
        ("mail_event", "outside", '{"event_id": "e1"}', "dead"),
        ("mail_event", "outside", '{"event_id": "e2"}', "running"),
        ("mail_event", "outside", '{"event_id": "gone"}', "waiting"),
        ("deliver_webhook", "webhooks", '{"webhook_id": "w"}', "waiting"),
        ("deliver_webhook", "webhooks", '{"webhook_id": "w"}', "waiting"),
        ("mail_ticket", "outside", '{"ticket_id": "t"}', "waiting"),
        ("drill", "outside", "{}", "done"),
        ("publish_version", "quick", '{"version_id": "v", "publish_at": "2027"}', "waiting"),
    ]
    for number, (kind, lane, arguments, state) in enumerate(rows):
        lease, end = (now if state == "running" else None), (now if state == "done" else None)
        raw.execute(
            "INSERT INTO jobs (id, kind, lane, arguments, state, run_at, lease_until, created_at, finished_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (f"j{number}", kind, lane, arguments, state, now, lease, now, end),
        )
    raw.close()
    migrate(path, portal.HERE / "schema.sql", folder)
    raw = sqlite3.connect(path)
    left = raw.execute(
        "SELECT kind, lane, owner_id, arguments, unique_key, state FROM jobs ORDER BY id"
    ).fetchall()
    assert left == [
        ("mail_event", "mail", "a", '{"developer_id":"a"}', "mail_event:a", "waiting"),
        ("mail_event", "mail", "b", '{"developer_id":"b"}', "mail_event:b", "waiting"),
        ("deliver_webhook", "webhooks", "a", '{"webhook_id": "w"}', "webhook:w", "waiting"),
        ("mail_ticket", "urgent_mail", None, '{"ticket_id": "t"}', None, "waiting"),
        ("drill", "upkeep", None, "{}", None, "done"),
        (
            "publish_version",
            "quick",
            None,
            '{"version_id": "v", "publish_at": "2027"}',
            None,
            "waiting",
        ),
    ]
    assert raw.execute("SELECT id FROM events WHERE mail_due = 1 ORDER BY id").fetchall() == [
        ("e0",),
        ("e1",),
        ("e2",),
    ]
    raw.close()
