"""The queue: jobs are rows, added in the transaction of the change that makes them necessary, done later by the worker.

A job runs at least once. It is claimed for a while (a lease); a worker that dies loses it to another when the lease ends.
"""

import json
import random
import secrets
from dataclasses import dataclass
from typing import Any

from mosis import audit
from mosis.caller import Caller
from mosis.database import Connection, columns, new_id
from mosis.database.pagination import Page, Wanted, page
from mosis.errors import Conflict, NotFound

# What takes long or waits for other machines has threads of its own, so that a version is not published late because a hundred
# others are being checked or a mail server does not answer. Every other kind is quick.
LANES = ("quick", "checks", "outside", "webhooks")
LANE_OF = {
    "check_version": "checks",
    "mail_event": "outside",
    "mail_ticket": "outside",
    "mail_reset": "outside",
    "copy_database": "outside",
    "copy_telemetry": "outside",
    "drill": "outside",
    "deliver_webhook": "webhooks",
}
STATES = ("waiting", "running", "done", "dead")
LEASE_SECONDS = 15  # the worker extends it every 5 seconds while a job runs
LIVES = 40  # workers that may die over a job before it is given up
ATTEMPTS = 8  # the last one comes four to six minutes after the first
# Mail servers are away for hours, and some take a message only when it comes again: a day and more.
ATTEMPTS_OF = {"mail_event": 36, "mail_ticket": 36}
LONGEST_DELAY_SECONDS = 3600
# The longest wait that is ever asked for, by kind. A waiting job that is due later was queued by a clock that was ahead.
LONGEST_WAIT_SECONDS = LONGEST_DELAY_SECONDS * 1.5
LONGEST_WAIT_OF = {"lapse_claim": 7200, "deliver_webhook": 33_600}


@dataclass(frozen=True)
class Job:
    """One job as the queue keeps it."""

    id: str
    kind: str
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
    after_seconds: float = 0,
    unique_key: str | None = None,
    **arguments: Any,
) -> str | None:
    """Queue a job in the running transaction; its id, or None when an unfinished one carries the same `unique_key`."""
    if unique_key is not None and db.value(
        "SELECT 1 FROM jobs WHERE unique_key = ? AND state IN ('waiting', 'running')", unique_key
    ):
        return None
    job_id = new_id()
    db.insert(
        "jobs",
        id=job_id,
        kind=kind,
        lane=LANE_OF.get(kind, "quick"),
        arguments=json.dumps(arguments),
        unique_key=unique_key,
        run_at=db.database.clock.now(after_seconds),
        created_at=db.now,
    )
    db.after_commit(db.database.wake)
    return job_id


def add_scheduled(db: Connection, kind: str, every_seconds: int) -> str | None:
    """Queue a job that is done every so often, in the running transaction; None when another process has done so this time."""
    key, since = f"schedule:{kind}", db.database.clock.now(-every_seconds * 0.9)
    if db.value(
        "SELECT 1 FROM jobs WHERE unique_key = ? AND created_at > ? AND created_at <= ? LIMIT 1",
        key,
        since,
        db.now,  # one from the future says nothing: the clock was ahead when it was queued
    ):
        return None
    return add(db, kind, unique_key=key)


def claim(db: Connection, *lanes: str) -> Job | None:
    """The next job of these lanes (of any, when none is given) that is due, leased to the caller; None when there is none."""
    with db.write():
        found = [each for lane in lanes or LANES if (each := _next(db, lane))]
        if not found:
            return None
        job = min(found, key=lambda each: (each.run_at, each.id))
        db.change(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, lease_until = ?, lease_token = ? WHERE id = ?",
            db.database.clock.now(LEASE_SECONDS),
            secrets.token_hex(8),
            job.id,
        )
        return db.one(f"SELECT {columns(Job)} FROM jobs WHERE id = ?", job.id, into=Job)  # type: ignore[no-any-return]


def extend(db: Connection, job: Job) -> bool:
    """Heartbeat: hold the lease for another while. False when it is lost and the work should stop."""
    with db.write():
        return bool(
            db.change(
                "UPDATE jobs SET lease_until = ? WHERE id = ? AND lease_token = ? AND state = 'running'",
                db.database.clock.now(LEASE_SECONDS),
                job.id,
                job.lease_token,
            )
        )


def finish(db: Connection, job: Job) -> None:
    """It is done. Nothing happens when the lease has been lost in the meantime."""
    with db.write():
        _end(db, job, "done", None)


def fail(db: Connection, job: Job, error: str) -> None:
    """It failed: try again after 2, 4, 8 ... seconds, at most an hour, and up to half as much again, or give it up as dead."""
    with db.write():
        if job.is_last_attempt:
            _end(db, job, "dead", error)
            return
        delay = min(2**job.attempts, LONGEST_DELAY_SECONDS) * random.uniform(1, 1.5)  # noqa: S311  (jitter, not a secret)
        _give_back(db, job, db.database.clock.now(delay), error)


def release(db: Connection, job: Job) -> None:
    """Give a job back unfinished, because this process stops; the attempt does not count."""
    with db.write():
        if _give_back(db, job, db.now, None):
            db.change("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", job.id)


def correct_times(db: Connection) -> int:
    """Bring forward what a clock that was ahead has put off, since that clock was set right; how many jobs.

    A lease ends at most LEASE_SECONDS from now: a worker that lives extends it before that. A waiting job is due now when it is
    due later than its kind can ask for. `publish_version` keeps the time that its argument names: the developer chose it.
    """
    now, clock = db.database.clock.now(), db.database.clock
    lease, soonest = clock.now(LEASE_SECONDS + 1), clock.now(LONGEST_WAIT_SECONDS)
    late = db.all(
        "SELECT id, kind, run_at, json_extract(arguments, '$.publish_at') FROM jobs WHERE state = 'waiting' AND run_at > ?",
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


def recover(db: Connection) -> int:
    """Put jobs whose lease has ended back into the queue; how many.

    That their worker died need not be their fault, so they have many more lives than jobs that fail; but from the third time on
    they wait, in case they are what kills it: up to a minute, so that others get their turn.
    """
    now = db.database.clock.now()
    if not db.value("SELECT 1 FROM jobs WHERE state = 'running' AND lease_until < ? LIMIT 1", now):
        return 0
    with db.write():
        lost = db.all(
            f"SELECT {columns(Job)} FROM jobs WHERE state = 'running' AND lease_until < ?",
            db.now,
            into=Job,
        )
        for job in lost:
            if job.attempts >= LIVES:
                _end(db, job, "dead", "the worker died or hung")
            else:
                delay = min(2 ** (job.attempts - 2), 60) if job.attempts > 2 else 0
                _give_back(db, job, db.database.clock.now(delay), "the worker died or hung")
        return len(lost)


def index(db: Connection, wanted: Wanted, state: str | None = None) -> Page[Job]:
    """The jobs, the newest first, all or those in a state."""
    among, after = (state,) if state else STATES, wanted.after[0] if wanted.after else "~"
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
        job: Job | None = db.one(f"SELECT {columns(Job)} FROM jobs WHERE id = ?", job_id, into=Job)
        if job is None:
            raise NotFound("job")
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
        db.after_commit(db.database.wake)
        return db.one(f"SELECT {columns(Job)} FROM jobs WHERE id = ?", job_id, into=Job)  # type: ignore[no-any-return]


def sweep(env: Any) -> None:
    """The job that forgets what was done: after a day, and what was given up after a month."""
    db = env.db.connection()
    with db.write():
        db.change(
            "DELETE FROM jobs WHERE state = 'done' AND finished_at < ?1 AND (unique_key IS NULL OR unique_key NOT LIKE 'schedule:%'"
            # the last says when it ran; one from the future says nothing
            " OR id < (SELECT max(id) FROM jobs AS later WHERE later.unique_key = jobs.unique_key AND later.created_at <= ?2))",
            db.database.clock.now(-24 * 3600),
            db.now,
        )
        db.change(
            "DELETE FROM jobs WHERE state = 'dead' AND finished_at < ?",
            db.database.clock.now(-30 * 24 * 3600),
        )


def next_due(db: Connection, *lanes: str) -> str | None:
    """When the next waiting job of these lanes (of any, when none is given) is due, or None."""
    due = [
        db.value("SELECT min(run_at) FROM jobs WHERE state = 'waiting' AND lane = ?", lane)
        for lane in lanes or LANES
    ]
    return min((each for each in due if each), default=None)


def _next(db: Connection, lane: str) -> Job | None:
    found: Job | None = db.one(
        f"SELECT {columns(Job)} FROM jobs WHERE state = 'waiting' AND lane = ? AND run_at <= ? ORDER BY run_at, id LIMIT 1",
        lane,
        db.now,
        into=Job,
    )
    return found


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
    db.after_commit(db.database.wake)
    return db.change(
        "UPDATE jobs SET state = 'waiting', lease_until = NULL, lease_token = NULL, run_at = ?,"
        " last_error = coalesce(?, last_error) WHERE id = ? AND lease_token = ? AND state = 'running'",
        run_at,
        error,
        job.id,
        job.lease_token,
    )
