"""Collectors for /metrics: counters, and readings of databases, disks and the kernel."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from itertools import product
from pathlib import Path

from mosis import disk, jobs
from mosis.clock import seconds
from mosis.context import Context
from mosis.database import Connection
from mosis.metrics import Family, exposition
from mosis.operations.front_end import FrontEnd
from mosis.packages.bucket_storage import BucketFiles
from mosis.publishing import review_queue, versions
from mosis.records import dataclass

# Error codes with which mosis/server/ and admission refuse a request.
REFUSED = (
    "ambiguous_request", "expectation_failed", "header_too_large", "internal", "invalid_token",
    "malformed_request", "no_space", "not_implemented", "request_timeout", "suspended", "too_large",
    "too_many_uploads", "unauthenticated", "uri_too_long",
)  # fmt: skip


@dataclass(frozen=True)
class Counter:
    """A counter, and the values of its labels: each combination is there from the start, at 0,
    because a rate cannot be computed of a sample that appears with its first event."""

    help: str
    labels: Mapping[str, Iterable[str]] = field(default_factory=dict)


COUNTERS = {
    "portal_jobs_total": Counter(
        "Runs of background jobs in this process by result; a job that failed is tried again, a dead one is not.",
        {"kind": jobs.KINDS, "result": ("done", "failed", "dead")},
    ),
    "portal_connections_closed_total": Counter(
        "Connections that were closed to keep a bound, by reason.",
        {"reason": ("slow_reader", "unsent_bytes", "share", "full", "refused")},
    ),
    "portal_refused_total": Counter(
        "Requests that the server has refused before the application saw them, by error code.",
        {"code": REFUSED},
    ),
    "portal_rollouts_total": Counter(
        "What rollout plans have done: steps taken, and versions halted.",
        {"result": ("step", "halted")},
    ),
    "portal_uploads_total": Counter(
        "Packages that were sent, by result.", {"result": ("taken", "known", "refused")}
    ),
    "portal_upload_bytes_total": Counter("Bytes of received packages."),
    "portal_version_moves_total": Counter(
        "Versions that came into another state, by what was done.", {"move": versions.MOVES}
    ),
    "portal_downloads_total": Counter("Downloads that count: one per network, app and day."),
}


def read(env: Context) -> bytes:
    """All metrics in Prometheus's text format."""
    return exposition(families(env))


def families(env: Context) -> Iterator[Family]:
    """All metric families. A database that cannot be read is a value, not an error: the other
    metrics are needed most then."""
    yield from env.measures.requests()
    for name, counter in COUNTERS.items():
        counts = dict.fromkeys(product(*counter.labels.values()), 0.0)
        counts |= {(*labels.values(),): value for labels, value in env.measures.counted(name)}
        family = Family(name, counter.help, "counter")
        for values, count in counts.items():
            family.add(count, **dict(zip(counter.labels, values, strict=True)))
        yield family
    for reading in env.measures.readings:
        yield from reading()
    yield from cache(env)
    yield from disks(env)
    yield from replica(env)
    yield from bucket(env)
    yield from process()
    damaged = Family(
        "portal_database_damaged",
        "1 once damage was found in a database, which is read-only from then on.",
    )
    for name, each in (("portal", env.db), ("telemetry", env.telemetry)):
        damaged.add(int(each.damage is not None), database=name)
    yield damaged
    readable = 1
    if env.read_only:
        yield from following(env)
    try:
        db = env.db.connection()
        db.value("SELECT id FROM store_state")
        found = [] if env.read_only else list(database(db))  # its jobs are those of the primary
    except Exception:
        found, readable = [], 0
    yield from found
    yield Family("portal_database_readable", "1 while the portal's database can be read.").add(
        readable
    )


def database(db: Connection) -> Iterator[Family]:
    """The job queue, and versions in states that need attention."""
    now = db.clock.now()
    sql = "SELECT count(*), count(*) FILTER (WHERE run_at <= ?1), min(run_at) FROM jobs WHERE state = 'waiting'"
    waiting, due, oldest = db.one(sql, now)
    states = dict(
        db.all("SELECT state, count(*) FROM jobs WHERE state IN ('done', 'dead') GROUP BY state")
    )
    running = db.value("SELECT count(*) FROM jobs WHERE state = 'running'")
    queue = Family("portal_jobs", "Background jobs in the table; `due` are those that can run now.")
    for state, count in {
        "due": due,
        "later": waiting - due,
        "running": running,
        "dead": states.get("dead", 0),
    }.items():
        queue.add(count, state=state)
    yield queue
    age = max(0, seconds(now) - seconds(oldest)) if oldest else 0
    yield Family(
        "portal_jobs_oldest_due_seconds", "How long the job that is due longest has been waiting."
    ).add(age)
    watched = Family(
        "portal_versions", "Versions being checked, waiting for a reviewer, or halted."
    )
    counts = dict(
        db.all(
            "SELECT state, count(*) FROM versions WHERE state IN ('checking', 'in_review', 'halted') GROUP BY state"
        )
    )
    for state in ("checking", "in_review", "halted"):
        watched.add(counts.get(state, 0), state=state)
    yield watched
    yield from business(db)


def business(db: Connection) -> Iterator[Family]:
    """Accounts, apps, and how long reviews take. Apps and reviews are
    counted in an index."""
    registered, offered, accounts, oldest = db.one(
        "SELECT (SELECT count(*) FROM apps), (SELECT count(*) FROM listings),"
        " (SELECT count(*) FROM developers WHERE erased_at IS NULL),"
        " (SELECT min(submitted_at) FROM reviews WHERE state IN ('waiting', 'claimed'))"
    )
    apps = Family("portal_apps", "Apps: all, and those that the store offers.")
    yield apps.add(registered, state="all").add(offered, state="offered")
    waits = max(0, seconds(db.clock.now()) - seconds(oldest)) if oldest else 0
    usual = review_queue.median_wait_seconds(db) or 0
    yield Family("portal_accounts", "Accounts, without those that were erased.").add(accounts)
    yield Family(
        "portal_review_oldest_seconds",
        "How long the version that was submitted first has waited for a decision.",
    ).add(waits)
    yield Family(
        "portal_review_median_seconds",
        "The median time from submission to the decision of a reviewer over 30 days.",
    ).add(usual)


def bucket(env: Context) -> Iterator[Family]:
    """The bucket with the packages, where there is one; asked in the background."""
    if isinstance(env.files, BucketFiles):
        up = int(env.files.trouble() is None)
        yield Family("portal_bucket_up", "1 while the bucket with the packages answers.").add(up)


def cache(env: Context) -> Iterator[Family]:
    """The response cache of the store."""
    asked = Family(
        "portal_cache_requests_total",
        "Lookups in the store's response cache, by result.",
        "counter",
    )
    yield asked.add(env.cache.hits, result="hit").add(env.cache.misses, result="miss")
    yield Family("portal_cache_bytes", "Size of cached responses.").add(env.cache.size_bytes)


def disks(env: Context) -> Iterator[Family]:
    """The sizes of the databases, and the free space of their disks."""
    databases = {"portal": env.config.database_path, "telemetry": env.config.telemetry_path}
    size = Family("portal_database_bytes", "Size of a database file.")
    wal = Family("portal_wal_bytes", "Size of a database's write-ahead log.")
    for name, path in databases.items():
        size.add(_size(path), database=name)
        wal.add(_size(Path(f"{path}-wal")), database=name)
    free = Family("portal_disk_free_bytes", "Free space for the portal on the disk of a folder.")
    for name, folder in (("data", env.config.data_dir), ("packages", env.config.packages_dir)):
        try:
            free.add(disk.free_bytes(folder), folder=name)
        except OSError:
            continue
    yield from (size, wal, free)
    yield Family("portal_disk_reserve_bytes", "Uploads are refused below this.").add(
        env.config.disk_reserve_bytes
    )


def replica(env: Context) -> Iterator[Family]:
    """The state of Litestream; no samples where no replica is configured."""
    running = Family("portal_replica_running", "1 while Litestream runs.")
    behind = Family(
        "portal_replica_behind_seconds", "How long a commit has been waiting to be in the replica."
    )
    restarts = Family("portal_replica_restarts", "Restarts of Litestream.")
    if env.replication is not None:
        state = env.replication.state
        running.add(int(state.running))
        behind.add(state.behind_seconds)
        restarts.add(state.restarts)
    yield from (running, behind, restarts)


def following(env: Context) -> Iterator[Family]:
    """The data of a store front end, and its age."""
    state = env.states[FrontEnd].state
    behind = Family(
        "portal_store_behind_seconds",
        "Age of the primary's last heartbeat in the data of a store front end.",
    )
    if state.behind_seconds is not None:
        behind.add(state.behind_seconds)
    yield behind
    yield Family(
        "portal_store_copies_total", "Copies of the database that were read.", "counter"
    ).add(state.copies)
    yield Family(
        "portal_store_restores_total", "Times that the whole database was fetched.", "counter"
    ).add(state.restores)
    yield Family("portal_store_following", "1 while Litestream follows.").add(int(state.following))


def process() -> Iterator[Family]:
    """The kernel's figures about this process, under the names that Prometheus's client libraries
    use."""
    try:
        after_name = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
        descriptors = len(os.listdir("/proc/self/fd"))
        booted = time.time() - float(Path("/proc/uptime").read_bytes().split()[0])
    except (OSError, ValueError):
        return
    ticks = os.sysconf("SC_CLK_TCK")
    cpu = Family("process_cpu_seconds_total", "Processor time, user and system.", "counter")
    yield cpu.add((int(after_name[11]) + int(after_name[12])) / ticks)
    yield Family("process_resident_memory_bytes", "Memory that is in use.").add(
        pages * os.sysconf("SC_PAGE_SIZE")
    )
    yield Family("process_open_fds", "Open files and connections.").add(descriptors)
    yield Family("process_threads", "Threads.").add(int(after_name[17]))
    yield Family(
        "process_start_time_seconds", "When the process began, in seconds since 1970."
    ).add(booted + int(after_name[19]) / ticks)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
