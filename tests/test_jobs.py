"""The queue and the worker: each job is done, at least once, whatever dies in between."""

import threading

import pytest

from mosis import jobs, worker
from mosis.caller import PORTAL
from mosis.context import Context
from mosis.worker import Worker
from tests.conftest import FakeClock
from tests.server import wait_until


def add(env: Context, kind: str = "count", **more: object) -> str | None:
    db = env.db.connection()
    with db.write():
        return jobs.add(db, kind, **more)  # type: ignore[arg-type]


def state(env: Context, job_id: str | None) -> tuple[str, int]:
    return env.db.connection().one("SELECT state, attempts FROM jobs WHERE id = ?", job_id)  # type: ignore[no-any-return]


def lease(env: Context, job_id: str | None) -> object:
    return env.db.connection().value("SELECT lease_until FROM jobs WHERE id = ?", job_id)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the handlers of this test have done."""
    seen: list[int] = []
    monkeypatch.setitem(worker.HANDLERS, "count", lambda env, number=0: seen.append(number))
    monkeypatch.setitem(worker.HANDLERS, "break", lambda env: 1 / 0)
    return seen


def test_jobs_are_done_in_order_and_once(env: Context, done: list[int]) -> None:
    for number in range(3):
        add(env, number=number)
    assert Worker(env).run_due() == 3
    assert (done, Worker(env).run_due()) == ([0, 1, 2], 0)


def test_a_job_exists_exactly_when_the_change_does(env: Context, done: list[int]) -> None:
    db = env.db.connection()
    with pytest.raises(ValueError), db.write():
        jobs.add(db, "count")
        raise ValueError
    assert Worker(env).run_due() == 0


def test_a_job_in_the_future_waits_for_its_time(
    env: Context, done: list[int], clock: FakeClock
) -> None:
    add(env, after_seconds=60)
    assert Worker(env).run_due() == 0
    clock.advance(61)
    assert Worker(env).run_due() == 1


def test_a_unique_key_is_for_the_unfinished(env: Context, done: list[int]) -> None:
    assert add(env, unique_key="x")
    assert add(env, unique_key="x") is None
    Worker(env).run_due()
    assert add(env, unique_key="x")


def test_what_fails_is_tried_again_later_and_later_and_then_given_up(
    env: Context, done: list[int], clock: FakeClock
) -> None:
    job = add(env, "break")
    waits = []
    for attempt in range(1, jobs.ATTEMPTS + 1):
        Worker(env).run_due()
        expected = "dead" if attempt == jobs.ATTEMPTS else "waiting"
        assert state(env, job) == (expected, attempt)
        waits.append(0)
        while expected == "waiting" and not jobs.next_due(env.db.connection()) <= env.clock.now():  # type: ignore[operator]
            clock.advance(1)
            waits[-1] += 1
    assert all(
        2**number <= wait <= 2**number * 1.5 + 1 for number, wait in enumerate(waits[:-1], 1)
    )
    assert "An unexpected error" in env.db.connection().value(
        "SELECT last_error FROM jobs WHERE id = ?", job
    )


def test_mail_waits_for_its_server_for_more_than_a_day(
    env: Context, done: list[int], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(worker.HANDLERS, "mail_event", lambda env: 1 / 0)
    job, db, begun, last = add(env, "mail_event"), env.db.connection(), clock.at, clock.at
    while Worker(env).run_due():
        last = clock.at
        while (due := jobs.next_due(db)) and due > env.clock.now():
            clock.advance(60)
            assert clock.at - last <= 1.5 * jobs.LONGEST_DELAY_SECONDS + 60
    assert state(env, job) == ("dead", jobs.KINDS["mail_event"].attempts)
    assert last - begun > 24 * 3600


def test_a_worker_that_died_loses_its_job_to_another(
    env: Context, done: list[int], clock: FakeClock
) -> None:
    job, db = add(env), env.db.connection()
    held = jobs.claim(db)
    assert held is not None
    assert (jobs.recover(db), Worker(env).run_due()) == (0, 0)
    clock.advance(jobs.LEASE_SECONDS + 1)
    assert (jobs.recover(db), Worker(env).run_due(), done) == (1, 1, [0])
    jobs.fail(db, held, "comes too late")  # the one that was given up for dead is heard no more
    assert not jobs.extend(db, held)
    assert state(env, job) == ("done", 2)


def test_a_heartbeat_keeps_the_lease(env: Context, done: list[int], clock: FakeClock) -> None:
    add(env)
    db = env.db.connection()
    held = jobs.claim(db)
    assert held is not None
    clock.advance(jobs.LEASE_SECONDS - 1)
    assert jobs.extend(db, held)
    clock.advance(jobs.LEASE_SECONDS - 1)
    assert jobs.recover(db) == 0


def test_a_job_given_back_has_lost_no_attempt(env: Context, done: list[int]) -> None:
    job, db = add(env), env.db.connection()
    held = jobs.claim(db)
    assert held is not None
    jobs.release(db, held)
    assert state(env, job) == ("waiting", 0)


def test_a_commit_wakes_the_worker_at_once(env: Context, done: list[int]) -> None:
    running = Worker(env, longest_sleep_seconds=3600)
    running.start()
    for number in range(10):  # now and then it has not gone back to sleep yet
        add(env, number=number)
        wait_until(lambda number=number: done == [*range(number + 1)], "the job is done")
    running.stop()


def test_a_commit_wakes_the_lane_of_its_job(env: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lane has threads that sleep; a retried job wakes its lane too."""
    done: list[str] = []
    running = Worker(env, longest_sleep_seconds=3600)
    running.start()
    for lane in jobs.LANES:
        kind = next(
            name
            for name, kind in jobs.KINDS.items()
            if kind.lane == lane and not kind.every_seconds
        )
        monkeypatch.setitem(worker.HANDLERS, kind, lambda env, lane: done.append(lane))
        job = add(env, kind, lane=lane)
        wait_until(lambda lane=lane: done[-1:] == [lane], "the job is done")
        wait_until(lambda job=job: state(env, job)[0] == "done", "it is recorded")
        with env.db.connection().write() as db:
            db.update("jobs", "id = ?", job, state="dead")
        jobs.retry(env.db.connection(), PORTAL, job)
        wait_until(lambda job=job: state(env, job)[0] == "done", "it has run again")
    running.stop()
    assert done == [lane for lane in jobs.LANES for _ in range(2)]


def test_two_workers_share_one_queue(env: Context, done: list[int]) -> None:
    for number in range(50):
        add(env, number=number)
    workers = [threading.Thread(target=Worker(env).run_due) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert sorted(done) == list(range(50))


def test_a_lane_does_not_wait_for_another(env: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version is published at once while another is being checked and a mail server does not answer."""
    done, go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(worker.HANDLERS, "check_version", lambda env: go_on.wait(60))
    monkeypatch.setitem(worker.HANDLERS, "mail_event", lambda env: go_on.wait(60))
    monkeypatch.setitem(worker.HANDLERS, "count", lambda env: done.set())
    running = Worker(env)
    running.start()
    try:
        for kind in ("check_version", "mail_event", "count"):
            add(env, kind)
        assert done.wait(60)
    finally:
        go_on.set()
        running.stop()


def test_a_long_job_keeps_its_lease(
    env: Context, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.02)
    started, go_on, runs = threading.Event(), threading.Event(), []

    def take_long(env: Context) -> None:
        runs.append(1)
        started.set()
        go_on.wait(60)

    monkeypatch.setitem(worker.HANDLERS, "count", take_long)
    running = Worker(env)
    running.start()
    try:
        job_id = add(env)
        assert started.wait(60)
        for _ in range(6):
            held = lease(env, job_id)
            clock.advance(jobs.LEASE_SECONDS / 2)
            wait_until(lambda held=held: lease(env, job_id) != held, "the lease is extended")
        assert (jobs.recover(env.db.connection()), state(env, job_id)) == (0, ("running", 1))
    finally:
        go_on.set()
        running.stop()
    assert (runs, state(env, job_id)) == ([1], ("done", 1))


def test_a_worker_that_stops_gives_back_what_it_has_not_finished(
    env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(worker.HANDLERS, "count", lambda env: (started.set(), go_on.wait(60)))
    running = Worker(env)
    running.start()
    job_id = add(env)
    assert started.wait(60)
    running.stop(timeout_seconds=0.05)
    assert state(env, job_id) == ("waiting", 0)
    go_on.set()


def test_what_is_scheduled_is_queued_once_by_two_processes(env: Context, clock: FakeClock) -> None:
    db = env.db.connection()
    for expected in (True, False):
        with db.write():
            assert bool(jobs.add_scheduled(db, "sweep_packages", 3600)) is expected
        Worker(env).run_due()
    clock.advance(3600)
    with db.write():
        assert jobs.add_scheduled(db, "sweep_packages", 3600)


def test_a_job_whose_workers_die_has_many_lives_but_waits(
    env: Context, done: list[int], clock: FakeClock
) -> None:
    job_id, db, waits = add(env), env.db.connection(), []
    while state(env, job_id)[0] != "dead":
        lost = clock.at
        while jobs.claim(db) is None:
            clock.advance(1)
        waits.append(clock.at - lost)
        clock.advance(jobs.LEASE_SECONDS + 1)
        assert jobs.recover(db) == 1
    assert waits[:6] == [0, 0, 0, 2, 4, 8]
    assert (len(waits), max(waits)) == (jobs.MAX_LOST_LEASES, 60)


def test_what_could_not_be_scheduled_is_scheduled_as_soon_as_it_can_be(
    env: Context, caplog: pytest.LogCaptureFixture
) -> None:
    db = env.db.connection()
    with db.write():
        db.change(
            "CREATE TRIGGER refuse BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'not now'); END"
        )
    running = Worker(env, longest_sleep_seconds=0.01)
    running.start()
    try:
        wait_until(lambda: "not now" in caplog.text, "it is tried")
        assert db.value("SELECT count(*) FROM jobs") == 0
        with db.write():
            db.change("DROP TRIGGER refuse")
        kinds = {name for name, kind in jobs.KINDS.items() if kind.every_seconds}
        wait_until(lambda: kinds <= {kind for (kind,) in db.all("SELECT kind FROM jobs")})
    finally:
        running.stop()
