"""The worker: handlers of job kinds, and the threads that run jobs.

To add a job: a function (env, **arguments) in its noun that is safe to run twice, a line in HANDLERS
and one in `jobs.KINDS`.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from mosis import events, idempotency, jobs
from mosis.clock import HOUR, seconds
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import PortalError
from mosis.jobs import Again, Job
from mosis.notifications import feed, webhooks
from mosis.operations import allocator, clock_steps, heartbeat
from mosis.operations.backup import bucket_copies, copies, drills, takeover
from mosis.outbound import mail
from mosis.people import account_recovery, api_keys, email_tokens, revocation, trusted_publishers
from mosis.publishing import (
    abuse_reports,
    invitations,
    quotas,
    releases,
    review_notices,
    reviews,
    rollout_plans,
    version_checks,
)
from mosis.store import download_batches, signed_index
from mosis.store import downloads as store_downloads
from mosis.telemetry import crash_notices, downloads, rollout_health

log = logging.getLogger("mosis.worker")
Result = TypeVar("Result")

HANDLERS: dict[str, Callable[..., Any]] = {
    "check_version": version_checks.check,
    "submit_version": reviews.submit_when_ready,
    "publish_version": releases.publish_scheduled,
    "advance_rollouts": rollout_health.advance,
    "lapse_claim": reviews.lapse,
    "remove_package": quotas.remove_package,
    "expire_packages": quotas.expire_packages,
    "sweep_packages": store_downloads.sweep_packages,
    "sweep_download_batches": download_batches.sweep,
    "mail_event": feed.mail,
    "mail_security": feed.mail_security,
    "mail_ticket": email_tokens.mail,
    "mail_invitation": invitations.mail,
    "mail_reset": account_recovery.mail_reset,
    "tell_of_expiring_keys": api_keys.notify_of_expiring,
    "sweep_invitations": invitations.sweep,
    "sweep_reports": abuse_reports.sweep,
    "sweep_publisher_tokens": trusted_publishers.sweep,
    "sweep_sign_in": account_recovery.sweep,
    "sweep_jobs": jobs.sweep,
    "end_stuck_checks": version_checks.end_stuck_checks,
    "sweep_accounts": revocation.sweep_rows,
    "sweep_events": events.sweep,
    "sweep_idempotency": idempotency.sweep,
    "deliver_webhook": webhooks.deliver,
    "sweep_webhooks": webhooks.sweep,
    "crash_new_group": crash_notices.notify_owner,
    "crash_digest": crash_notices.send_digest,
    "review_digest": review_notices.send_digests,
    "add_up_downloads": downloads.add_up,
    "copy_database": copies.make_by_job,
    "copy_telemetry": copies.daily,
    "sweep_generations": takeover.sweep_generations,
    "upload_secrets": bucket_copies.upload_secrets,
    "drill": drills.drill_by_schedule,
}
# (interval in seconds, function): run by each process for itself, because it concerns its own
# memory
TICKS: list[tuple[int, Callable[[Context], None]]] = [
    (5, downloads.flush),
    (5, api_keys.flush_uses),
    (5, clock_steps.look),
    (5, signed_index.refresh),
    (heartbeat.EVERY_SECONDS, heartbeat.beat),
    (5, lambda env: env.mailer.close_idle()),
    (60, copies.copy_secrets),
    (60, lambda env: allocator.trim()),
    (60, rollout_plans.queue),
]
LONGEST_SLEEP_SECONDS = 5.0
# Threads of each lane; `checks` has CHECK_PROCESSES. A webhook delivery waits for a receiver for
# five seconds at most.
THREADS = {"quick": 1, "urgent_mail": 2, "mail": 1, "webhooks": 3, "upkeep": 1}
HEARTBEAT_SECONDS = 5.0  # a third of the lease


class Worker:
    """Threads that run queued jobs until they are stopped, some for each lane. Commits of this
    process that queue a job wake those of its lane at once; jobs queued by another process are seen within
    `longest_sleep_seconds`."""

    def __init__(self, env: Context, longest_sleep_seconds: float = LONGEST_SLEEP_SECONDS) -> None:
        self.env = env
        self.longest_sleep_seconds = longest_sleep_seconds
        self._running: dict[str, Job] = {}
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._stop_beating = threading.Event()
        self._lock = threading.Lock()
        self._wake = {lane: threading.Condition(self._lock) for lane in jobs.LANES}
        self._signals = Counter[str]()
        self._stopping = False
        self._sizes = THREADS | {"checks": env.config.check_processes}
        self._looking = threading.Lock()
        self._threads = [
            threading.Thread(target=self._loop, args=(lane,), name=f"worker-{lane}", daemon=True)
            for lane in jobs.LANES
            for _ in range(self._sizes[lane])
        ]
        self._due: dict[object, float] = {}

    def start(self) -> None:
        self.env.db.on_job = self.wake
        for thread in (*self._threads, self._heart):
            thread.start()

    def wake(self, *lanes: str) -> None:
        """Wake the threads of these lanes (of all if none is given), because a job may be due. The
        others stay asleep: they would delay the response of the request that queued it."""
        with self._lock:
            for lane in lanes or jobs.LANES:
                self._signals[lane] += 1
                self._wake[lane].notify_all()

    def quit(self) -> None:
        """Start no further job. Does not wait."""
        self._stopping = True
        self.wake()

    def stop(self, timeout_seconds: float = 5) -> None:
        """Stop after the running jobs; those that take too long run again in the next process."""
        self.quit()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._stop_beating.set()
        for job in list(self._running.values()):
            jobs.release(self.env.db.connection(), job)
        for _, tick in TICKS:
            try:
                tick(self.env)
            except Exception:  # for example a full disk; the process ends anyway
                log.exception("counters not flushed at shutdown")

    def run_due(self) -> int:
        """Run what is due in this thread; the number of jobs. For tests and `portal.py demo`."""
        done = 0
        db = self.env.db.connection()
        while job := jobs.claim(db):
            self._run(job)
            done += 1
        return done

    def _loop(self, lane: str) -> None:
        while not self._stopping:
            signals = self._signals[lane]
            if lane == "quick":
                self._logged(self._schedule)
            with self._looking:  # in turn, so that threads without a job share a connection
                job = self._logged(lambda: self._next(lane))
                pause = 0.0 if job else self._pause(lane)
                if job is None:
                    self.env.release_connections()
            if job is not None:
                self._run(job)
                continue
            with self._lock:
                if signals == self._signals[lane] and not self._stopping:
                    self._wake[lane].wait(pause)

    def _logged(self, step: Callable[[], Result]) -> Result | None:
        """The result; None while nothing may be written, and after an error such as a full disk or a
        locked database: the queue continues when it is available again."""
        try:
            return step() if self.env.db.writable else None
        except Exception:
            log.exception("job queue not readable")
            return None

    def _next(self, lane: str) -> Job | None:
        """Claim the next job of this lane."""
        db, busy = self.env.db.connection(), self._busy(lane)
        due = jobs.next_due(db, lane, busy=busy)
        if due is None or due > self.env.clock.now():
            return None
        job = jobs.claim(db, lane, busy=busy)
        if job is not None:
            self._running[job.id] = job
        return job

    def _busy(self, lane: str) -> set[str]:
        """Accounts that occupy half of the lane's threads: one thread is left for other accounts."""
        most = max(1, self._sizes[lane] // 2)
        owners = Counter(job.owner_id for job in list(self._running.values()) if job.lane == lane)
        return {owner for owner, count in owners.items() if owner is not None and count >= most}

    def _beat(self) -> None:
        """Extend the leases of running jobs: a job may take longer than its lease."""
        while not self._stop_beating.wait(HEARTBEAT_SECONDS):
            for job in list(self._running.values()):
                try:
                    jobs.extend(self.env.db.connection(), job)
                # a full disk or a locked database; the next heartbeat tries again
                except Exception:
                    log.exception("lease not extended", extra={"job": job.id})

    def _run(self, job: Job) -> None:
        started, db = time.monotonic(), self.env.db.connection()
        self._running[job.id] = job
        try:
            self._do(job, db, started)
        finally:
            self._running.pop(job.id, None)

    def _do(self, job: Job, db: Connection, started: float) -> None:
        try:
            result = HANDLERS[job.kind](self.env, **job.named_arguments)
        except Exception as error:  # an exception of a handler fails the job, not the worker
            log.exception(
                "job failed", extra={"job": job.id, "kind": job.kind, "attempt": job.attempts}
            )
            took = time.monotonic() - started
            jobs.fail(db, job, _reason(job.kind, error), took)
            self._count(job, "dead" if job.is_last_attempt else "failed")
            return
        took = time.monotonic() - started
        jobs.finish(db, job, took, result if isinstance(result, Again) else None)
        self._count(job, "done")
        level = logging.DEBUG if jobs.kind_of(job.kind).every_seconds else logging.INFO
        extra = {"job": job.id, "kind": job.kind, "ms": round(took * 1000, 1)}
        log.log(level, "job done", extra=extra)

    def _count(self, job: Job, result: str) -> None:
        self.env.measures.count("portal_jobs_total", kind=job.kind, result=result)

    def _schedule(self) -> None:
        for every_seconds, tick in TICKS:
            if self._is_due(tick, every_seconds):
                tick(self.env)
        db, now = self.env.db.connection(), time.monotonic()
        # the table records the last run, also of another process
        due = {
            name: kind.every_seconds
            for name, kind in jobs.KINDS.items()
            if kind.every_seconds and now >= self._due.get(name, 0)
        }
        if due:
            with db.write():
                for name, every_seconds in due.items():
                    jobs.add_scheduled(db, name, every_seconds)
            self._due |= {
                name: now + min(every_seconds, HOUR) for name, every_seconds in due.items()
            }
        if jobs.recover(db):
            self.wake()

    def _is_due(self, what: object, every_seconds: int) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0):
            return False
        self._due[what] = now + every_seconds
        return True

    def _pause(self, lane: str) -> float:
        if not self.env.db.writable:
            return self.longest_sleep_seconds
        try:
            due = jobs.next_due(self.env.db.connection(), lane, busy=self._busy(lane))
        except Exception:
            return self.longest_sleep_seconds
        wait = self.longest_sleep_seconds if due is None else seconds(due) - self.env.clock.time()
        return max(0.02, min(wait, self.longest_sleep_seconds))


def _reason(kind: str, error: Exception) -> str:
    """The reason as administrators are shown it; the log has the whole error."""
    if isinstance(error, PortalError):
        return error.detail[:500]
    if isinstance(error, OSError):
        if kind.startswith("mail"):
            return mail.reason(error)
        if error.strerror:
            return f"The operating system reports: {error.strerror}."
    return "An unexpected error; `job failed` in the log has it under the id of this job."
