"""The job queue: jobs are rows, added in the transaction of the change that requires them, and run
later by the worker.

A job runs at least once. A worker claims it with a lease; if the worker dies, another one claims
the job when the lease ends.

Each lane shares its threads among accounts by start-time fair queueing (Goyal, Vin, Cheng:
"Start-time Fair Queueing", SIGCOMM 1996). The turn of an account is the seconds of work it has
received; the due job of the account with the lowest turn goes first. A new or returning account
starts at the current turn of the lane, so idle time is no credit. The portal's own jobs come first.
"""

import json
import random
import secrets
from collections.abc import Collection
from typing import Any

from mosis import audit
from mosis.caller import Caller
from mosis.clock import DAY, HOUR
from mosis.database import Connection, Record, columns, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import InvalidState
from mosis.records import dataclass

# Each lane has its own threads, so that different kinds of work do not delay each other:
# publication does not wait for a hundred checks, nor a password reset for notifications.
# `urgent_mail` is mail that somebody is waiting for.
LANES = ("quick", "checks", "urgent_mail", "mail", "webhooks", "upkeep")
STATES = ("waiting", "running", "done", "dead")
LEASE_SECONDS = 15  # the worker extends it every 5 seconds while a job runs
MAX_LOST_LEASES = 40  # expired leases after which a job is dead
ATTEMPTS = 8  # the last attempt is four to six minutes after the first
# Mail servers may be down for hours, and some accept a message only at a later attempt
# (greylisting): these attempts cover more than a day.
MAIL_ATTEMPTS = 36
LONGEST_DELAY_SECONDS = 3600
LONGEST_WAIT_SECONDS = LONGEST_DELAY_SECONDS * 1.5
SHORTEST_TURN_SECONDS = 0.05  # minimum cost of a job, so that many short ones have a price too
LONGEST_REST_SECONDS = 3600


@dataclass(frozen=True)
class Kind:
    """How jobs of a kind are run; `HANDLERS` of `mosis/worker.py` has the function. `every_seconds`:
    queued once per interval, by whichever process comes first. `longest_wait_seconds`: the longest
    delay that is ever requested; a waiting job that is due later was queued while the clock was
    ahead."""

    lane: str = "quick"
    every_seconds: int | None = None
    attempts: int = ATTEMPTS
    longest_wait_seconds: float = LONGEST_WAIT_SECONDS


KINDS: dict[str, Kind] = {
    "check_version": Kind("checks"),
    "submit_version": Kind(),
    "publish_version": Kind(),
    "advance_rollouts": Kind(),
    "lapse_claim": Kind(longest_wait_seconds=7200),
    "mail_event": Kind("mail", attempts=MAIL_ATTEMPTS),
    "mail_security": Kind("urgent_mail", attempts=MAIL_ATTEMPTS),
    "mail_ticket": Kind("urgent_mail", attempts=MAIL_ATTEMPTS),
    "mail_invitation": Kind("mail", attempts=MAIL_ATTEMPTS),
    "mail_reset": Kind("urgent_mail"),
    "deliver_webhook": Kind("webhooks", longest_wait_seconds=33_600),
    "crash_new_group": Kind(),
    "crash_digest": Kind(),
    "review_digest": Kind(),
    "tell_of_expiring_keys": Kind(every_seconds=HOUR),
    "end_stuck_checks": Kind(every_seconds=HOUR),
    "sweep_sign_in": Kind(every_seconds=HOUR),
    "sweep_invitations": Kind(every_seconds=HOUR),
    "sweep_reports": Kind(every_seconds=HOUR),
    "sweep_publisher_tokens": Kind(every_seconds=HOUR),
    "sweep_jobs": Kind(every_seconds=HOUR),
    "sweep_accounts": Kind(every_seconds=HOUR),
    "sweep_events": Kind(every_seconds=HOUR),
    "sweep_idempotency": Kind(every_seconds=HOUR),
    "sweep_webhooks": Kind(every_seconds=HOUR),
    "sweep_download_batches": Kind(every_seconds=HOUR),
    "expire_packages": Kind("upkeep", every_seconds=HOUR),
    "sweep_packages": Kind("upkeep", every_seconds=HOUR),
    "remove_package": Kind("upkeep"),
    "add_up_downloads": Kind("upkeep", every_seconds=HOUR),
    "copy_database": Kind("upkeep"),
    "copy_telemetry": Kind("upkeep", every_seconds=DAY),
    "upload_secrets": Kind("upkeep"),
    "sweep_generations": Kind("upkeep", every_seconds=DAY),
    "drill": Kind("upkeep", every_seconds=7 * DAY),
}


def kind_of(name: str) -> Kind:
    """The kind with this name; with the usual values for a row of an earlier release."""
    return KINDS.get(name, Kind())


@dataclass(frozen=True)
class Again:
    """Returned by a handler that wants to run again after some seconds, with all its attempts."""

    after_seconds: float


@dataclass(frozen=True)
class Job(Record, table="jobs"):
    """A row of `jobs`."""

    id: str
    kind: str
    lane: str
    owner_id: str | None
    arguments: str
    state: str
    attempts: int
    run_at: str
    lease_until: str | None
    lease_token: str | None
    last_error: str | None
    created_at: str

    @property
    def named_arguments(self) -> dict[str, Any]:
        return dict(json.loads(self.arguments))

    @property
    def is_last_attempt(self) -> bool:
        return self.attempts >= kind_of(self.kind).attempts


def add(
    db: Connection,
    kind: str,
    *,
    owner: str | None = None,
    after_seconds: float = 0,
    unique_key: str | None = None,
    again: bool = False,
    **arguments: Any,
) -> str | None:
    """Queue a job, in the running transaction. Returns its id, or None if an unfinished one has the
    same `unique_key`.

    `owner` is the account whose turn is charged, or another name for the requester; None is the
    portal itself. With `again`, an unfinished job with the same key serves this call too: it
    becomes due at the requested time if that is earlier, or runs once more if it is running now.
    """
    due = db.clock.now(after_seconds)
    sql = "SELECT 1 FROM jobs WHERE unique_key = ? AND state IN ('waiting', 'running')"
    if unique_key is not None and db.value(sql, unique_key):
        if again:
            sql = (
                "UPDATE jobs SET again = (state = 'running'),"
                " run_at = iif(state = 'waiting' AND attempts = 0, min(run_at, ?), run_at)"
                " WHERE unique_key = ? AND state IN ('waiting', 'running')"
            )
            db.change(sql, due, unique_key)
            db.notify_workers(kind_of(kind).lane)
        return None
    job_id = new_id()
    db.insert(
        "jobs",
        id=job_id,
        kind=kind,
        lane=kind_of(kind).lane,
        owner_id=owner,
        arguments=json.dumps(arguments),
        unique_key=unique_key,
        run_at=due,
        created_at=db.now,
    )
    db.notify_workers(kind_of(kind).lane)
    return job_id


def add_scheduled(db: Connection, kind: str, every_seconds: int) -> str | None:
    """Queue a periodic job, in the running transaction; None if it is queued for this period."""
    key, since = f"schedule:{kind}", db.clock.now(-every_seconds * 0.9)
    if db.value(
        "SELECT 1 FROM jobs WHERE unique_key = ? AND created_at > ? AND created_at <= ? LIMIT 1",
        key,
        since,
        db.now,  # a time in the future does not count; the clock was ahead when it was written
    ):
        return None
    return add(db, kind, unique_key=key)


def claim(db: Connection, *lanes: str, busy: Collection[str] = ()) -> Job | None:
    """Claim the next due job of these lanes (of all if none is given), with a lease. None if there
    is none.

    Jobs of owners who are `busy`, because they have their share of this process's threads, are
    skipped.
    """
    with db.write():
        found = [each for lane in lanes or LANES if (each := _next(db, lane, busy))]
        if not found:
            return None
        job = min(found, key=lambda each: (each.run_at, each.id))
        sql = (
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, again = 0, lease_until = ?, lease_token = ?"
            " WHERE id = ?"
        )
        db.change(sql, db.clock.now(LEASE_SECONDS), secrets.token_hex(8), job.id)
        _take_turn(db, job)
        return db.find(Job, "id = ?", job.id)


def extend(db: Connection, job: Job) -> bool:
    """Extend the lease of a running job; False if it is lost and the work should stop."""
    with db.write():
        sql = (
            "UPDATE jobs SET lease_until = ? WHERE id = ? AND lease_token = ? AND state = 'running'"
        )
        return bool(db.change(sql, db.clock.now(LEASE_SECONDS), job.id, job.lease_token))


def finish(db: Connection, job: Job, took_seconds: float = 0, again: Again | None = None) -> None:
    """Mark a job as done, unless it is to run `again` or was requested anew while it ran. Does
    nothing if the lease was lost. `took_seconds` is charged to its owner's turn."""
    with db.write():
        _charge(db, job, took_seconds)
        if _requested_again(db, job):
            again = Again(0)
        if again is None:
            _end(db, job, "done", None)
        elif _give_back(db, job, db.clock.now(again.after_seconds), None):
            db.update("jobs", "id = ?", job.id, attempts=0, again=0)


def fail(db: Connection, job: Job, error: str, took_seconds: float = 0) -> None:
    """Record a failure: the job is retried after 2, 4, 8 ... seconds (at most an hour, plus up to
    half of that at random), or marked as dead. A job that was requested anew while it ran starts
    over with all its attempts."""
    with db.write():
        _charge(db, job, took_seconds)
        anew = _requested_again(db, job)
        if job.is_last_attempt and not anew:
            _end(db, job, "dead", error)
            return
        delay = min(2**job.attempts, LONGEST_DELAY_SECONDS) * random.uniform(1, 1.5)  # noqa: S311  (jitter, not a secret)
        returned = _give_back(db, job, db.clock.now(delay), error)
        if returned and anew and job.is_last_attempt:
            db.update("jobs", "id = ?", job.id, attempts=1)


def release(db: Connection, job: Job) -> None:
    """Return an unfinished job to the queue because this process stops; the attempt does not count."""
    with db.write():
        if _give_back(db, job, db.now, None):
            db.change("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", job.id)


def correct_times(db: Connection) -> int:
    """Correct the due times that were written while the clock was ahead. Returns the number of
    jobs.

    A lease ends at most LEASE_SECONDS from now, because an active worker extends it. A waiting job
    becomes due now if it is due later than its kind allows. `publish_version` keeps its time, which
    the developer chose.
    """
    now, clock = db.clock.now(), db.clock
    lease, soonest = clock.now(LEASE_SECONDS + 1), clock.now(LONGEST_WAIT_SECONDS)
    late = db.all(
        "SELECT id, kind, run_at, coalesce(arguments ->> '$.publish_at', (SELECT publish_at FROM versions v"
        " WHERE v.id = arguments ->> '$.version_id' AND kind = 'publish_version'))"
        " FROM jobs WHERE state = 'waiting' AND run_at > ?",
        soonest,
    )
    late = [
        (job_id, wanted or now)
        for job_id, kind, run_at, wanted in late
        if run_at > clock.later(wanted or now, kind_of(kind).longest_wait_seconds)
    ]
    leases = "SELECT 1 FROM jobs WHERE state = 'running' AND lease_until > ? LIMIT 1"
    if not late and not db.value(leases, lease):
        return 0
    with db.write():
        for job_id, run_at in late:
            db.update("jobs", "id = ? AND state = 'waiting'", job_id, run_at=run_at)
        sql = "UPDATE jobs SET lease_until = ? WHERE state = 'running' AND lease_until > ?"
        db.change(sql, clock.now(LEASE_SECONDS), lease)
    return len(late)


def rest(db: Connection, lane: str, owner: str, seconds: float) -> None:
    """Start no job of this owner in the lane for a time, an hour at most, in the transaction."""
    until = db.clock.now(min(seconds, LONGEST_REST_SECONDS))
    sql = (
        "INSERT INTO job_turns (lane, owner_id, turn, rests_until) VALUES (?1, ?2, 0, ?3)"
        " ON CONFLICT (lane, owner_id) DO UPDATE SET rests_until = excluded.rests_until"
    )
    db.change(sql, lane, owner, until)


def recover(db: Connection) -> int:
    """Put jobs whose lease has expired back into the queue. Returns their number.

    The job need not be the cause, so MAX_LOST_LEASES is larger than the number of attempts. From
    the third time on the job is delayed, up to a minute, in case it is the cause.
    """
    now = db.clock.now()
    if not db.value("SELECT 1 FROM jobs WHERE state = 'running' AND lease_until < ? LIMIT 1", now):
        return 0
    with db.write():
        lost = db.select(Job, "state = 'running' AND lease_until < ?", db.now)
        for job in lost:
            _charge(db, job, LEASE_SECONDS)
            if job.attempts >= MAX_LOST_LEASES:
                _end(db, job, "dead", "the worker died or hung")
            else:
                delay = min(2 ** (job.attempts - 2), 60) if job.attempts > 2 else 0
                _give_back(db, job, db.clock.now(delay), "the worker died or hung")
        return len(lost)


def index(db: Connection, paging: PageRequest, state: str | None = None) -> Page[Job]:
    """The jobs, newest first: all, or those in a state."""
    among = (state,) if state else STATES
    numbers = ", ".join(f"?{number}" for number in range(1, len(among) + 1))
    return newest_first(db, Job, f"state IN ({numbers})", *among, paging=paging)


def retry(db: Connection, caller: Caller, job_id: str) -> Job:
    """Queue a dead job again, with all its attempts. Raises NotFound, Conflict `invalid_state`."""
    with db.write():
        job = db.get(Job, "id = ?", job_id)
        if job.state != "dead":
            detail = f"This job is {job.state}; only a dead job can be retried."
            raise InvalidState(detail, job.state)
        sql = (
            "UPDATE jobs SET state = 'waiting', attempts = 0, run_at = ?, finished_at = NULL WHERE id = ? AND NOT EXISTS"
            " (SELECT 1 FROM jobs AS other WHERE other.unique_key = jobs.unique_key AND other.state IN ('waiting', 'running'))"
        )
        again = db.change(sql, db.now, job_id)
        if not again:
            raise InvalidState("Another unfinished job does the same already.", job.state)
        audit.add(db, caller, "job.retry", job_id, kind=job.kind)
        db.notify_workers(job.lane)
        return db.get(Job, "id = ?", job_id)


def sweep(env: Any) -> None:
    """Job: delete finished jobs after a day, dead ones after a month."""
    with env.db.write() as db:
        sql = (
            "DELETE FROM jobs WHERE state = 'done' AND finished_at < ?1 AND (unique_key IS NULL OR unique_key NOT LIKE 'schedule:%'"
            # the last finished one of a kind records when it ran; a time in the future does not
            # count
            " OR id < (SELECT max(id) FROM jobs AS later WHERE later.unique_key = jobs.unique_key AND later.created_at <= ?2))"
        )
        db.change(sql, db.clock.now(-DAY), db.now)
        sql = "DELETE FROM jobs WHERE state = 'dead' AND finished_at < ?"
        db.change(sql, db.clock.now(-30 * DAY))
        db.change(  # an owner at or below the lane's turn is treated like a new one
            "DELETE FROM job_turns WHERE owner_id <> '' AND coalesce(rests_until <= ?, 1) AND turn <="
            " (SELECT lane.turn FROM job_turns AS lane WHERE lane.lane = job_turns.lane AND lane.owner_id = '')",
            db.now,
        )


def next_due(db: Connection, *lanes: str, busy: Collection[str] = ()) -> str | None:
    """When the next waiting job of these lanes (of all if none is given) can be claimed, or None;
    see `claim`. A job that waits for another of its owner is not due: the thread that finishes the
    other claims it."""
    due = [_next_due(db, lane, busy) for lane in lanes or LANES]
    return min((each for each in due if each), default=None)


def _next_due(db: Connection, lane: str, busy: Collection[str]) -> str | None:
    now = db.clock.now()
    sql = "SELECT min(run_at) FROM jobs WHERE state = 'waiting' AND lane = ?"
    first: str | None = db.value(sql, lane)
    if first is None or first > now:
        return first
    job = _next(db, lane, busy)
    if job is not None:
        return job.run_at
    sql = (
        "SELECT min(moment) FROM (SELECT min(run_at) AS moment FROM jobs WHERE state = 'waiting' AND lane = ?1 AND run_at > ?2"
        " UNION ALL SELECT min(rests_until) FROM job_turns WHERE lane = ?1 AND rests_until > ?2)"
    )
    later: str | None = db.value(sql, lane, now)
    return later


def _next(db: Connection, lane: str, busy: Collection[str]) -> Job | None:
    """The due job of the owner with the lowest turn in the lane. A pause that is longer than
    allowed does not count: it was written while the clock was ahead."""
    clock = db.clock
    return db.one(
        f"SELECT {columns(Job, 'j')} FROM jobs j LEFT JOIN job_turns t ON t.lane = j.lane AND t.owner_id = j.owner_id"
        " WHERE j.state = 'waiting' AND j.lane = ?1 AND j.run_at <= ?2"
        " AND NOT coalesce(t.rests_until > ?2 AND t.rests_until <= ?3, 0)"
        " AND (j.owner_id IS NULL OR j.owner_id NOT IN (SELECT value FROM json_each(?4)))"
        " ORDER BY iif(j.owner_id IS NULL, -1, max(coalesce(t.turn, 0), ?5)), j.run_at, j.id LIMIT 1",
        lane,
        clock.now(),
        clock.now(LONGEST_REST_SECONDS),
        json.dumps(sorted(busy)),
        _turn_of_lane(db, lane),
        into=Job,
    )


def _turn_of_lane(db: Connection, lane: str) -> float:
    """The turn at which the last job of the lane started; no owner's turn is lower."""
    turn = db.value("SELECT turn FROM job_turns WHERE lane = ? AND owner_id = ''", lane)
    return float(turn or 0)


def _take_turn(db: Connection, job: Job) -> None:
    """Move the lane to the turn of the job's owner, and charge the owner."""
    if job.owner_id is None:
        return
    at = max(
        _turn_of_lane(db, job.lane),
        db.value(
            "SELECT turn FROM job_turns WHERE lane = ? AND owner_id = ?", job.lane, job.owner_id
        )
        or 0,
    )
    for owner, turn in (("", at), (job.owner_id, at + SHORTEST_TURN_SECONDS)):
        sql = (
            "INSERT INTO job_turns (lane, owner_id, turn) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (lane, owner_id) DO UPDATE SET turn = excluded.turn"
        )
        db.change(sql, job.lane, owner, turn)


def _charge(db: Connection, job: Job, seconds: float) -> None:
    sql = "UPDATE job_turns SET turn = turn + ? WHERE lane = ? AND owner_id = ?"
    db.change(sql, max(0.0, seconds), job.lane, job.owner_id)


def _requested_again(db: Connection, job: Job) -> bool:
    sql = "SELECT again FROM jobs WHERE id = ? AND lease_token = ?"
    return db.has(sql, job.id, job.lease_token)


def _end(db: Connection, job: Job, state: str, error: str | None) -> None:
    sql = (
        "UPDATE jobs SET state = ?, lease_until = NULL, lease_token = NULL, last_error = coalesce(?, last_error),"
        " finished_at = ? WHERE id = ? AND lease_token = ? AND state = 'running'"
    )
    db.change(sql, state, error, db.now, job.id, job.lease_token)


def _give_back(db: Connection, job: Job, run_at: str, error: str | None) -> int:
    db.notify_workers(job.lane)
    sql = (
        "UPDATE jobs SET state = 'waiting', lease_until = NULL, lease_token = NULL, run_at = ?,"
        " last_error = coalesce(?, last_error) WHERE id = ? AND lease_token = ? AND state = 'running'"
    )
    return db.change(sql, run_at, error, job.id, job.lease_token)
