"""The queue: jobs are rows, added in the transaction of the change that makes them necessary, done later by the worker.

A job runs at least once. It is claimed for a while (a lease); a worker that dies loses it to another when the lease ends.

Each lane shares its threads among accounts by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM
1996): every account has a turn, the seconds of work that it has had; the due job of the account with the least goes first. An
account that comes new, or back, begins where the lane is, so idle time is no credit. The portal's own jobs always come first.
"""

import json
import random
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mosis import audit
from mosis.caller import Caller
from mosis.database import Connection, columns, new_id
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import Conflict

# Each lane has threads of its own, so that nothing waits behind work of another sort: a version is not published late because a
# hundred others are checked, and a new password does not wait behind notifications. `urgent_mail` is what somebody waits for in
# front of a screen. Every kind that is not listed is quick.
LANES = ("quick", "checks", "urgent_mail", "mail", "webhooks", "upkeep")
LANE_OF = {
    "check_version": "checks",
    "mail_ticket": "urgent_mail",
    "mail_invitation": "mail",
    "mail_reset": "urgent_mail",
    "mail_security": "urgent_mail",
    "mail_event": "mail",
    "deliver_webhook": "webhooks",
    "copy_database": "upkeep",
    "copy_telemetry": "upkeep",
    "drill": "upkeep",
    "remove_package": "upkeep",
    "expire_packages": "upkeep",
    "sweep_packages": "upkeep",
    "add_up_downloads": "upkeep",
}
STATES = ("waiting", "running", "done", "dead")
LEASE_SECONDS = 15  # the worker extends it every 5 seconds while a job runs
MAX_LOST_LEASES = 40  # workers that may die over a job before it is given up
ATTEMPTS = 8  # the last one comes four to six minutes after the first
# Mail servers are away for hours, and some take a message only when it comes again: a day and more.
ATTEMPTS_OF = {"mail_event": 36, "mail_security": 36, "mail_ticket": 36, "mail_invitation": 36}
LONGEST_DELAY_SECONDS = 3600
# The longest wait that is ever asked for, by kind. A waiting job that is due later was queued by a clock that was ahead.
LONGEST_WAIT_SECONDS = LONGEST_DELAY_SECONDS * 1.5
LONGEST_WAIT_OF = {"lapse_claim": 7200, "deliver_webhook": 33_600}
SHORTEST_TURN_SECONDS = 0.05  # what a job counts at least, so that many short ones have a price too
LONGEST_REST_SECONDS = 3600


@dataclass(frozen=True)
class Again:
    """What a handler returns to be run again after some seconds, with all its attempts."""

    after_seconds: float


@dataclass(frozen=True)
class Job:
    """One job as the queue keeps it."""

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
        return self.attempts >= ATTEMPTS_OF.get(self.kind, ATTEMPTS)


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
    """Queue a job in the running transaction; its id, or None when an unfinished one carries the same `unique_key`.

    `owner` is the account whose turn it takes, or another name for who asked; None is the portal itself. With `again` an
    unfinished job of the same key covers this call too: it is brought forward, or, if it runs now, run once more.
    """
    due = db.clock.now(after_seconds)
    if unique_key is not None and db.value(
        "SELECT 1 FROM jobs WHERE unique_key = ? AND state IN ('waiting', 'running')", unique_key
    ):
        if again:
            db.change(
                "UPDATE jobs SET again = (state = 'running'),"
                " run_at = iif(state = 'waiting' AND attempts = 0, min(run_at, ?), run_at)"
                " WHERE unique_key = ? AND state IN ('waiting', 'running')",
                due,
                unique_key,
            )
            db.notify_workers()
        return None
    job_id = new_id()
    db.insert(
        "jobs",
        id=job_id,
        kind=kind,
        lane=LANE_OF.get(kind, "quick"),
        owner_id=owner,
        arguments=json.dumps(arguments),
        unique_key=unique_key,
        run_at=due,
        created_at=db.now,
    )
    db.notify_workers()
    return job_id


def add_scheduled(db: Connection, kind: str, every_seconds: int) -> str | None:
    """Queue a job that is done every so often, in the running transaction; None when another process has done so this time."""
    key, since = f"schedule:{kind}", db.clock.now(-every_seconds * 0.9)
    if db.value(
        "SELECT 1 FROM jobs WHERE unique_key = ? AND created_at > ? AND created_at <= ? LIMIT 1",
        key,
        since,
        db.now,  # one from the future says nothing: the clock was ahead when it was queued
    ):
        return None
    return add(db, kind, unique_key=key)


def claim(db: Connection, *lanes: str, busy: Collection[str] = ()) -> Job | None:
    """The next job of these lanes (of any, when none is given) that is due, leased to the caller; None when there is none.

    Owners who are `busy` have their share of this process's threads; their jobs wait.
    """
    with db.write():
        found = [each for lane in lanes or LANES if (each := _next(db, lane, busy))]
        if not found:
            return None
        job = min(found, key=lambda each: (each.run_at, each.id))
        db.change(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, again = 0, lease_until = ?, lease_token = ?"
            " WHERE id = ?",
            db.clock.now(LEASE_SECONDS),
            secrets.token_hex(8),
            job.id,
        )
        _take_turn(db, job)
        return db.one(f"SELECT {columns(Job)} FROM jobs WHERE id = ?", job.id, into=Job)


def extend(db: Connection, job: Job) -> bool:
    """Heartbeat: hold the lease for another while. False when it is lost and the work should stop."""
    with db.write():
        return bool(
            db.change(
                "UPDATE jobs SET lease_until = ? WHERE id = ? AND lease_token = ? AND state = 'running'",
                db.clock.now(LEASE_SECONDS),
                job.id,
                job.lease_token,
            )
        )


def finish(db: Connection, job: Job, took_seconds: float = 0, again: Again | None = None) -> None:
    """It is done, unless it is to run `again` or was asked for anew while it ran. Nothing happens when the lease has been lost in
    the meantime. `took_seconds` counts for its owner's turn."""
    with db.write():
        _charge(db, job, took_seconds)
        if _asked_anew(db, job):
            again = Again(0)
        if again is None:
            _end(db, job, "done", None)
        elif _give_back(db, job, db.clock.now(again.after_seconds), None):
            db.change("UPDATE jobs SET attempts = 0, again = 0 WHERE id = ?", job.id)


def fail(db: Connection, job: Job, error: str, took_seconds: float = 0) -> None:
    """It failed: try again after 2, 4, 8 ... seconds, at most an hour, and up to half as much again, or give it up as dead. A job
    that was asked for anew while it ran is not given up: that request has its attempts still before it."""
    with db.write():
        _charge(db, job, took_seconds)
        anew = _asked_anew(db, job)
        if job.is_last_attempt and not anew:
            _end(db, job, "dead", error)
            return
        delay = min(2**job.attempts, LONGEST_DELAY_SECONDS) * random.uniform(1, 1.5)  # noqa: S311  (jitter, not a secret)
        given_back = _give_back(db, job, db.clock.now(delay), error)
        if given_back and anew and job.is_last_attempt:
            db.change("UPDATE jobs SET attempts = 1 WHERE id = ?", job.id)


def release(db: Connection, job: Job) -> None:
    """Give a job back unfinished, because this process stops; the attempt does not count."""
    with db.write():
        if _give_back(db, job, db.now, None):
            db.change("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", job.id)


def correct_times(db: Connection) -> int:
    """Bring forward what a clock that was ahead has put off, since that clock was set right; how many jobs.

    A lease ends at most LEASE_SECONDS from now: a worker that lives extends it before that. A waiting job is due now when it is
    due later than its kind can ask for. `publish_version` keeps the time of its version: the developer chose it.
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
        if run_at > clock.later(wanted or now, LONGEST_WAIT_OF.get(kind, LONGEST_WAIT_SECONDS))
    ]
    leases = "SELECT 1 FROM jobs WHERE state = 'running' AND lease_until > ? LIMIT 1"
    if not late and not db.value(leases, lease):
        return 0
    with db.write():
        for job_id, run_at in late:
            db.change(
                "UPDATE jobs SET run_at = ? WHERE id = ? AND state = 'waiting'", run_at, job_id
            )
        db.change(
            "UPDATE jobs SET lease_until = ? WHERE state = 'running' AND lease_until > ?",
            clock.now(LEASE_SECONDS),
            lease,
        )
    return len(late)


def rest(db: Connection, lane: str, owner: str, seconds: float) -> None:
    """Begin no job of this owner in the lane for a while, at most an hour, in the running transaction."""
    until = db.clock.now(min(seconds, LONGEST_REST_SECONDS))
    db.change(
        "INSERT INTO job_turns (lane, owner_id, turn, rests_until) VALUES (?1, ?2, 0, ?3)"
        " ON CONFLICT (lane, owner_id) DO UPDATE SET rests_until = excluded.rests_until",
        lane,
        owner,
        until,
    )


def recover(db: Connection) -> int:
    """Put jobs whose lease has ended back into the queue; how many.

    That their worker died need not be their fault, so they have many more lives than jobs that fail; but from the third time on
    they wait, in case they are what kills it: up to a minute, so that others get their turn.
    """
    now = db.clock.now()
    if not db.value("SELECT 1 FROM jobs WHERE state = 'running' AND lease_until < ? LIMIT 1", now):
        return 0
    with db.write():
        lost = db.all(
            f"SELECT {columns(Job)} FROM jobs WHERE state = 'running' AND lease_until < ?",
            db.now,
            into=Job,
        )
        for job in lost:
            _charge(db, job, LEASE_SECONDS)
            if job.attempts >= MAX_LOST_LEASES:
                _end(db, job, "dead", "the worker died or hung")
            else:
                delay = min(2 ** (job.attempts - 2), 60) if job.attempts > 2 else 0
                _give_back(db, job, db.clock.now(delay), "the worker died or hung")
        return len(lost)


def index(db: Connection, wanted: PageRequest, state: str | None = None) -> Page[Job]:
    """The jobs, the newest first, all or those in a state."""
    among, after = (state,) if state else STATES, wanted.position or "~"
    rows = db.all(
        f"SELECT {columns(Job)} FROM jobs WHERE state IN ({', '.join('?' * len(among))}) AND id < ? ORDER BY id DESC LIMIT ?",
        *among,
        after,
        wanted.limit + 1,
        into=Job,
    )
    return page(rows, wanted, lambda job: (job.id,))


def retry(db: Connection, caller: Caller, job_id: str) -> Job:
    """Give a dead job a new life: it is due at once, with all its attempts. Raises NotFound, Conflict `invalid_state`."""
    with db.write():
        job = db.get("job", f"SELECT {columns(Job)} FROM jobs WHERE id = ?", job_id, into=Job)
        if job.state != "dead":
            detail = f"This job is {job.state}; only a dead one is tried again."
            raise Conflict("invalid_state", detail, state=job.state, allowed=[])
        again = db.change(
            "UPDATE jobs SET state = 'waiting', attempts = 0, run_at = ?, finished_at = NULL WHERE id = ? AND NOT EXISTS"
            " (SELECT 1 FROM jobs AS other WHERE other.unique_key = jobs.unique_key AND other.state IN ('waiting', 'running'))",
            db.now,
            job_id,
        )
        if not again:
            raise Conflict(
                "invalid_state", "Another job does the same already.", state=job.state, allowed=[]
            )
        audit.add(db, caller, "job.retry", job_id, kind=job.kind)
        db.notify_workers()
        return db.get("job", f"SELECT {columns(Job)} FROM jobs WHERE id = ?", job_id, into=Job)


def sweep(env: Any) -> None:
    """The job that forgets what was done: after a day, and what was given up after a month."""
    db = env.db.connection()
    with db.write():
        db.change(
            "DELETE FROM jobs WHERE state = 'done' AND finished_at < ?1 AND (unique_key IS NULL OR unique_key NOT LIKE 'schedule:%'"
            # the last says when it ran; one from the future says nothing
            " OR id < (SELECT max(id) FROM jobs AS later WHERE later.unique_key = jobs.unique_key AND later.created_at <= ?2))",
            db.clock.now(-24 * 3600),
            db.now,
        )
        db.change(
            "DELETE FROM jobs WHERE state = 'dead' AND finished_at < ?",
            db.clock.now(-30 * 24 * 3600),
        )
        db.change(  # whoever stands where the lane is, or before, is like one who comes new
            "DELETE FROM job_turns WHERE owner_id <> '' AND coalesce(rests_until <= ?, 1) AND turn <="
            " (SELECT lane.turn FROM job_turns AS lane WHERE lane.lane = job_turns.lane AND lane.owner_id = '')",
            db.now,
        )


def next_due(db: Connection, *lanes: str, busy: Collection[str] = ()) -> str | None:
    """When the next waiting job of these lanes (of any, when none is given) can be claimed, or None; see `claim`. What waits for
    a job of the same owner to end is not due: whoever ends that job claims it."""
    due = [_next_due(db, lane, busy) for lane in lanes or LANES]
    return min((each for each in due if each), default=None)


def _next_due(db: Connection, lane: str, busy: Collection[str]) -> str | None:
    now = db.clock.now()
    first: str | None = db.value(
        "SELECT min(run_at) FROM jobs WHERE state = 'waiting' AND lane = ?", lane
    )
    if first is None or first > now:
        return first
    job = _next(db, lane, busy)
    if job is not None:
        return job.run_at
    later: str | None = db.value(
        "SELECT min(moment) FROM (SELECT min(run_at) AS moment FROM jobs WHERE state = 'waiting' AND lane = ?1 AND run_at > ?2"
        " UNION ALL SELECT min(rests_until) FROM job_turns WHERE lane = ?1 AND rests_until > ?2)",
        lane,
        now,
    )
    return later


def _next(db: Connection, lane: str, busy: Collection[str]) -> Job | None:
    """The due job of the owner who has had the least of the lane; a rest that ends too late was written by a clock that was
    ahead, and does not count."""
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
    """The turn at which the last job of the lane began; nobody stands before it."""
    turn = db.value("SELECT turn FROM job_turns WHERE lane = ? AND owner_id = ''", lane)
    return float(turn or 0)


def _take_turn(db: Connection, job: Job) -> None:
    """The lane moves on to the turn of the job's owner, and the owner behind it."""
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
        db.change(
            "INSERT INTO job_turns (lane, owner_id, turn) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (lane, owner_id) DO UPDATE SET turn = excluded.turn",
            job.lane,
            owner,
            turn,
        )


def _charge(db: Connection, job: Job, seconds: float) -> None:
    db.change(
        "UPDATE job_turns SET turn = turn + ? WHERE lane = ? AND owner_id = ?",
        max(0.0, seconds),
        job.lane,
        job.owner_id,
    )


def _asked_anew(db: Connection, job: Job) -> bool:
    return bool(
        db.value("SELECT again FROM jobs WHERE id = ? AND lease_token = ?", job.id, job.lease_token)
    )


def _end(db: Connection, job: Job, state: str, error: str | None) -> None:
    db.change(
        "UPDATE jobs SET state = ?, lease_until = NULL, lease_token = NULL, last_error = coalesce(?, last_error),"
        " finished_at = ? WHERE id = ? AND lease_token = ? AND state = 'running'",
        state,
        error,
        db.now,
        job.id,
        job.lease_token,
    )


def _give_back(db: Connection, job: Job, run_at: str, error: str | None) -> int:
    db.notify_workers()
    return db.change(
        "UPDATE jobs SET state = 'waiting', lease_until = NULL, lease_token = NULL, run_at = ?,"
        " last_error = coalesce(?, last_error) WHERE id = ? AND lease_token = ? AND state = 'running'",
        run_at,
        error,
        job.id,
        job.lease_token,
    )
