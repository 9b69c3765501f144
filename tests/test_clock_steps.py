"""The clock was ahead and is corrected, or starts in the past: nothing waits for a date beyond its interval, nothing is lost."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis import jobs, worker
from mosis.clock import Clock
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import new_id
from mosis.operations import clock_steps, doctor, readiness
from mosis.operations.backup import copies
from mosis.worker import Worker
from tests.client import PASSWORD, Client
from tests.conftest import CHEAP, START, FakeClock, opened

AHEAD = {"minutes": 600, "hours": 30_000, "days": 3 * 86_400, "years": 4 * 365 * 86_400}
ahead = pytest.mark.parametrize("ahead", AHEAD.values(), ids=list(AHEAD))


class Wall(FakeClock):
    """A wall clock that can be set, and a monotonic clock that only runs on."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = 0.0

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.ran += seconds

    def set(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> FakeClock:
    return Wall()


@pytest.fixture
def env(tmp_path: Path, clock: Wall, templates: Callable[..., Any]) -> Iterator[Context]:
    shutil.copytree(templates(None, {}).folder, tmp_path, dirs_exist_ok=True)
    times = Clock(lambda: clock.at, lambda: clock.ran)
    with opened(tmp_path, {"WEBHOOKS_PRIVATE": "allow"}, times, CHEAP) as made:
        yield made


def value(env: Context, sql: str, *values: object) -> object:
    return env.db.connection().value(sql, *values)


@ahead
def test_every_kind_of_job_runs_within_its_longest_wait(
    env: Context, clock: Wall, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    for each in worker.HANDLERS:
        monkeypatch.setitem(
            worker.HANDLERS, each, lambda env, _kind=each, **arguments: seen.append(_kind)
        )
    db = env.db.connection()
    for kind in sorted(worker.HANDLERS):
        clock.set(ahead)
        with db.write():
            jobs.add(db, kind, after_seconds=3600)
            jobs.add(db, kind)
        running = jobs.claim(db, jobs.KINDS[kind].lane)  # its worker dies over it
        assert running is not None
        clock.set(-ahead)
        clock_steps.look(env)
        longest = jobs.KINDS[kind].longest_wait_seconds
        clock.advance(longest + jobs.LEASE_SECONDS + 2)
        jobs.recover(db)
        Worker(env).run_due()
        assert seen == [kind, kind]
        seen.clear()


@ahead
def test_every_entry_of_the_schedule_goes_on(env: Context, clock: Wall, ahead: int) -> None:
    scheduled = [(name, kind.every_seconds) for name, kind in jobs.KINDS.items()]
    for kind, every in scheduled:
        if every:
            _goes_on(env, clock, every, kind, ahead)


def _goes_on(env: Context, clock: Wall, every: int, kind: str, ahead: int) -> None:
    db = env.db.connection()
    clock.set(ahead)
    for _ in range(2):
        with db.write():
            jobs.add_scheduled(db, kind, every)
        for job in iter(lambda: jobs.claim(db), None):
            jobs.finish(db, job)
        clock.advance(every)
    clock.set(-ahead - 2 * every)
    with db.write():
        assert jobs.add_scheduled(db, kind, every), "it waits for a date in the future"
    for job in iter(lambda: jobs.claim(db), None):
        jobs.finish(db, job)
    clock.advance(25 * 3600)
    jobs.sweep(env)
    if every > 25 * 3600:
        with db.write():
            assert jobs.add_scheduled(db, kind, every) is None, "the true last run is forgotten"


def test_a_live_worker_does_not_lose_its_lease_by_a_step_back(env: Context, clock: Wall) -> None:
    db = env.db.connection()
    with db.write():
        jobs.add(db, "sweep_jobs")
    clock.set(1e8)
    job = jobs.claim(db)
    assert job is not None
    clock.set(-1e8)
    clock_steps.look(env)
    assert jobs.recover(db) == 0
    assert jobs.extend(db, job)
    clock.advance(jobs.LEASE_SECONDS + 1)
    assert jobs.recover(db) == 1


def test_a_publication_keeps_the_time_that_its_developer_chose(env: Context, clock: Wall) -> None:
    db, chosen = env.db.connection(), env.clock.now(400 * 86_400)
    with db.write():
        job = jobs.add(
            db,
            "publish_version",
            after_seconds=400 * 86_400,
            version_id=new_id(),
            publish_at=chosen,
        )
    clock_steps.look(env)
    assert value(env, "SELECT run_at FROM jobs WHERE id = ?", job) == chosen
    with db.write():  # an attempt that failed while the clock was ahead
        db.change("UPDATE jobs SET run_at = ? WHERE id = ?", env.clock.now(4000 * 86_400), job)
    clock_steps.look(env)
    assert value(env, "SELECT run_at FROM jobs WHERE id = ?", job) == chosen


@ahead
def test_sessions_of_the_future_live_on_and_other_credentials_are_void(
    client: Client, env: Context, clock: Wall, ahead: int
) -> None:
    clock.set(ahead)
    alice = client.register("alice")
    begun = client.post("/v1/auth/device", {"client_name": "x", "scopes": ["apps:read"]}).expect(
        200
    )
    asked = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": begun["device_code"],
    }
    client.post("/v1/auth/token", asked).expect(400, code="authorization_pending")
    clock.set(-ahead)
    client.get("/v1/auth/me", as_=alice).expect(401, code="invalid_token")
    refreshed = client.post("/v1/auth/refresh", {"refresh_token": alice.refresh_token})
    survives = ahead <= tokens.REFRESH_SECONDS
    if survives:
        client.get("/v1/auth/me", as_=refreshed.expect(200)["access_token"]).expect(200)
        latest = value(env, "SELECT expires_at FROM sessions")
        assert latest == env.clock.now(tokens.REFRESH_SECONDS)
    else:
        refreshed.expect(401, code="invalid_token")
    client.post("/v1/auth/token", asked).expect(400, code="expired_token")
    again = client.post(
        "/v1/auth/login", {"email": "alice@example.net", "password": PASSWORD}
    ).expect(200)
    listed = client.get("/v1/auth/sessions", as_=again["access_token"]).expect(200)["sessions"]
    assert sorted(each["current"] for each in listed) == [False] * survives + [True]


@ahead
def test_a_retry_key_of_the_future_is_taken_anew(client: Client, clock: Wall, ahead: int) -> None:
    def register(email: str, status: int) -> object:
        body = {"email": email, "password": PASSWORD, "name": "A"}
        headers = {"Idempotency-Key": "k"}
        answer = client.call("POST", "/v1/auth/register", body, headers=headers).expect(status)
        return answer.headers.get("idempotency-replayed")

    clock.set(ahead)
    register("alice@example.org", 201)
    clock.set(-ahead)
    assert register("bob@example.org", 201) is None
    assert register("bob@example.org", 201) == "true"


def test_a_claim_of_the_future_is_free(env: Context, clock: Wall) -> None:
    from mosis.caller import Caller
    from mosis.publishing import reviews

    db, one, two = env.db.connection(), new_id(), new_id()
    db_rows = _review(env, one, two)
    clock.set(1e8)
    claimed = reviews.claim(db, Caller(one, "reviewer"), reviews.get(db, db_rows))
    clock.set(-1e8)
    assert claimed.claimed_by == one
    clock_steps.look(env)
    taken = reviews.claim(db, Caller(two, "reviewer"), reviews.get(db, db_rows))
    assert (taken.claimed_by, taken.claimed_until) == (two, env.clock.now(reviews.CLAIM_SECONDS))


def _review(env: Context, *people: str) -> str:
    db, ids = env.db.connection(), [new_id() for _ in range(4)]
    with db.write():
        for account in people:
            db.change(
                "INSERT INTO developers (id, email, name, created_at) VALUES (?, ?, 'A', ?)",
                account,
                f"{account}@example.org",
                db.now,
            )
        db.change(
            "INSERT INTO apps (id, package_id, developer_id, name, created_at, updated_at) VALUES (?, 'a.b', ?, 'A', ?, ?)",
            ids[0],
            people[0],
            db.now,
            db.now,
        )
        db.change(
            "INSERT INTO signing_keys (id, developer_id, name, public_key, fingerprint, created_at)"
            " VALUES (?, ?, 'k', zeroblob(32), 'f', ?)",
            ids[1],
            people[0],
            db.now,
        )
        db.change(
            "INSERT INTO versions (id, app_id, version, version_code, channel, state, min_mosis_version, size_bytes, sha256,"
            " signing_key_id, created_at, manifest, files)"
            " VALUES (?, ?, '1', 1, 'stable', 'in_review', '1', 1, ?, ?, ?, '{}', '{}')",
            ids[2],
            ids[0],
            "0" * 64,
            ids[1],
            db.now,
        )
        db.change(
            "INSERT INTO reviews (id, version_id, submitted_at) VALUES (?, ?, ?)",
            ids[3],
            ids[2],
            db.now,
        )
    return ids[3]


def test_the_newest_review_counts_whatever_its_date(env: Context) -> None:
    from mosis.publishing import review_queue

    db = env.db.connection()
    first = _review(env, new_id())
    version_id = value(env, "SELECT version_id FROM reviews")
    with db.write():
        db.change("UPDATE reviews SET id = ? WHERE id = ?", "f" + first[1:], first)
        second = new_id()
        db.change(
            "INSERT INTO reviews (id, version_id, submitted_at) VALUES (?, ?, ?)",
            second,
            version_id,
            db.now,
        )
    standing = review_queue.standing(db, str(version_id))
    assert standing is not None
    assert standing.review.id == second


def test_every_stored_time_of_the_schema_has_its_longest_interval() -> None:
    """A new column that holds a time needs a line in clock_steps.LONGEST, or a reason in LEFT_ALONE."""
    import re

    named = {
        f"{table}.{column}" for table, columns in clock_steps.LONGEST.items() for column in columns
    }
    named |= clock_steps.LEFT_ALONE | {"audit.at"}
    found = set()
    for table, body in re.findall(
        r"CREATE TABLE (\w+) \((.*?)\) STRICT", (portal.HERE / "schema.sql").read_text(), re.DOTALL
    ):
        found |= {
            f"{table}.{name}"
            for name in re.findall(r"^\s+(\w+_(?:at|until|since)|at)\s", body, re.MULTILINE)
        }
    assert found == named


@ahead
def test_rows_are_corrected_once_the_clock_is_steady(
    client: Client, env: Context, clock: Wall, ahead: int
) -> None:
    clock.set(ahead)
    client.register("alice")
    clock.set(-ahead)
    clock_steps.look(env)
    stored = value(env, "SELECT expires_at FROM sessions")
    clock.advance(clock_steps.STEADY_SECONDS - 1)
    clock_steps.look(env)
    assert value(env, "SELECT expires_at FROM sessions") == stored, "too early"
    clock.advance(1)
    clock_steps.look(env)
    db = env.db.connection()
    for table, columns in clock_steps.LONGEST.items():
        for column, longest in columns.items():
            latest = db.value(f"SELECT max({column}) FROM {table}")
            assert latest is None or latest <= env.clock.latest(longest)
    if ahead > clock_steps.STEADY_SECONDS:
        details = value(env, "SELECT details FROM audit WHERE action = 'clock.corrected'")
        assert "sessions.created_at" in json.loads(str(details))["rows"]
    assert clock_steps.ahead_seconds(db) == 0
    assert clock_steps.correct(env) == 0


def test_a_machine_that_starts_in_the_past_cuts_nothing_short(
    client: Client, env: Context, clock: Wall
) -> None:
    alice = client.register("alice")
    clock.set(-20 * 365 * 86_400)  # no battery: 2007 until the time server answers
    clock_steps.look(env)
    clock.advance(3600)
    clock_steps.look(env)
    worker.jobs.sweep(env)
    worker.HANDLERS["sweep_sign_in"](env)
    worker.HANDLERS["sweep_idempotency"](env)
    clock.set(20 * 365 * 86_400)
    client.post("/v1/auth/refresh", {"refresh_token": alice.refresh_token}).expect(200)


def test_readyz_and_doctor_say_that_the_clock_was_ahead(
    client: Client, env: Context, clock: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "KEEP_SECONDS", 0.0)
    clock.set(1e8)
    client.register("alice")
    clock.set(-1e8)
    refused = client.get("/readyz").expect(503, code="not_ready")
    assert [(each["pointer"], each["code"]) for each in refused["errors"]] == [
        ("/clock", "clock_behind")
    ]
    lines = {line.subject: line for line in doctor._clock(env.config)}
    assert os.stat(env.config.database_path).st_mtime < START
    assert lines["clock"].level == "bad"
    assert "newest row" in lines["clock"].text
    client.register("bob")
    client.get("/readyz").expect(200)


def test_a_copy_of_the_future_goes_first(env: Context, clock: Wall) -> None:
    clock.set(1e8)
    for _ in range(7):
        copies.make(env)
        clock.advance(1)
    clock.set(-1e8)
    stored = copies.make(env)
    names = {path.name for path in stored.path.parent.iterdir()}
    assert stored.name in names
    assert len(names) == 7


@ahead
def test_files_of_the_future_are_swept(env: Context, tmp_path: Path, ahead: int) -> None:
    path = env.files.incoming / "left"
    path.write_bytes(b"x")
    moment = path.stat().st_mtime + ahead
    os.utime(path, (moment, moment))
    found = env.files.find_orphans(lambda path: False)
    assert found == ([path] if ahead > 24 * 3600 else [])


@ahead
def test_telemetry_of_the_future_is_forgotten_in_its_time(
    env: Context, clock: Wall, ahead: int
) -> None:
    db, day = env.telemetry.connection(), 86_400
    future = int(clock.at) + ahead
    with db.write():
        db.change("INSERT INTO seen (day, key) VALUES (?, 1)", future // day)
        db.change("INSERT INTO apps (app_id) VALUES (?)", "x")
        db.change("INSERT INTO intake (app, day) VALUES (1, ?)", future // day)
        db.change(
            "INSERT INTO rollups (app, span, version, start) VALUES (1, 'hour', '*', ?)", future
        )
        db.change(
            "INSERT INTO batches (source, device, session, received_at, events) VALUES (1, x'00', x'00', ?, '[]')",
            future,
        )
    clock_steps.correct(env)
    limit = int(clock.at) + 2 * day
    for table, column in (
        ("seen", "day * 86400"),
        ("rollups", "start"),
        ("batches", "received_at"),
    ):
        assert (db.value(f"SELECT max({column}) FROM {table}") or 0) <= limit


def test_a_scheduled_publication_of_a_version_keeps_its_time(client: Client, env: Context) -> None:
    alice, at = client.register("alice"), "/v1/apps/com.acme.notes/versions/1.0.0"
    client.app_of(alice)
    client.upload("com.acme.notes", client.package(alice), as_=alice).expect(201)
    client.work()
    chosen = env.clock.now(400 * 86_400)
    with env.db.connection().write() as db:
        db.change("UPDATE versions SET state = 'approved'")
    client.post(at + "/publish", {"publish_at": chosen}, as_=alice).expect(200)
    clock_steps.look(env)
    assert value(env, "SELECT run_at FROM jobs WHERE kind = 'publish_version'") == chosen
