"""Readiness: whether the portal can do its work, as /readyz reports it, and why not."""

import logging
import time
from collections.abc import Iterator
from dataclasses import field
from typing import Any

from mosis import disk
from mosis.clock import seconds
from mosis.context import Context
from mosis.database import SQLITE_VERSION, Connection, Database
from mosis.errors import PortalError, Unavailable
from mosis.litestream import State
from mosis.operations import clock_steps, front_end
from mosis.operations.front_end import BEHIND_SECONDS as BEHIND_FRONT_END_SECONDS
from mosis.operations.front_end import FrontEnd
from mosis.packages.bucket_storage import BucketFiles
from mosis.records import dataclass

log = logging.getLogger("mosis.operations.readiness")

QUEUE_SECONDS = 300  # how long a due job may wait before the queue counts as stalled
BEHIND_SECONDS = 30
KEEP_SECONDS = 1.0  # a check takes the write lock briefly, so its result is reused for a second


@dataclass(frozen=True)
class Readiness:
    """The result; `reasons` is empty if all is well."""

    disk_free_bytes: int
    queue_age_seconds: int
    replica: State | None
    reasons: list[dict[str, Any]] = field(default_factory=list)
    sqlite_version: str = SQLITE_VERSION
    store: front_end.State | None = None  # of a store front end


@dataclass
class _Cached:
    """The last result and when it was made (monotonic)."""

    result: tuple[float, Readiness] | None = None


def look(env: Context) -> Readiness:
    """The state, at most a second old."""
    if env.read_only:
        return _front_end(env)
    cached = env.state(_Cached)
    if cached.result is None or time.monotonic() > cached.result[0] + KEEP_SECONDS:
        cached.result = (time.monotonic(), _check_all(env))
    return cached.result[1]


def require(env: Context) -> Readiness:
    """Like `look`. Raises Unavailable `not_ready` with every reason."""
    found = look(env)
    if found.reasons:
        raise Unavailable(
            "not_ready", " ".join(each["detail"] for each in found.reasons), errors=found.reasons
        )
    return found


def read_database(db: Connection) -> None:
    """Read a page of the database. Raises Unavailable `database_unavailable`."""
    db.value("SELECT 1 FROM developers LIMIT 1")


def _check_all(env: Context) -> Readiness:
    places = {env.config.data_dir, env.files.root}
    free = min(disk.free_bytes(place) for place in places)
    age = queue_age_seconds(env)
    replica = env.replication.state if env.replication else None
    reasons = [
        *_database(env.db, "/database"),
        *(_database(env.telemetry, "/telemetry") if env.config.telemetry else ()),
        *_disk(env, free),
        *_bucket(env),
        *_queue(age),
        *_clock(env),
        *_replica(replica),
    ]
    return Readiness(free, age, replica, reasons)


def _front_end(env: Context) -> Readiness:
    """The state of a store front end: whether it has data that is not too old."""
    state = env.states[FrontEnd].state
    reasons = []
    if state.behind_seconds is None:
        detail = "There is no copy of the store yet; the log says why."
        reasons.append(_reason("/store", "store_missing", detail))
    elif state.behind_seconds > BEHIND_FRONT_END_SECONDS:
        reasons.append(
            _reason(
                "/store",
                "store_behind",
                f"The primary's last heartbeat here is {state.behind_seconds} s old: it does not run,"
                " its replica stands still, the clocks differ, or the replica cannot be read.",
            )
        )
    if state.refused is not None:
        reasons.append(_reason("/store", state.refused.code, state.refused.detail))
    free = disk.free_bytes(env.config.data_dir)
    return Readiness(free, 0, None, reasons, store=state)


def _reason(pointer: str, code: str, detail: str) -> dict[str, Any]:
    return {"pointer": pointer, "code": code, "detail": detail}


def _database(database: Database, pointer: str) -> Iterator[dict[str, Any]]:
    """The write lock can be acquired, and the open file is at its path. Nothing is written."""
    name = pointer.strip("/")
    if database.damage is not None:
        yield _reason(
            pointer,
            "database_damaged",
            f"The {name} database is damaged and is only read: restore it.",
        )
        return
    try:
        if not database.path.exists():
            yield _reason(
                pointer, "database_unwritable", f"The file of the {name} database is gone."
            )
            return
        with database.write():
            pass
    except PortalError as error:
        yield _reason(
            pointer, "database_unwritable", f"The {name} database cannot be written: {error.detail}"
        )
    except Exception as error:  # any error of SQLite
        log.error("database not writable", extra={"database": name, "reason": str(error)})
        detail = f"The {name} database cannot be written; `reason` in the log says why."
        yield _reason(pointer, "database_unwritable", detail)


def _disk(env: Context, free: int) -> Iterator[dict[str, Any]]:
    reserve = env.files.reserve_bytes
    if free < reserve:
        detail = f"{free >> 20} MiB are free of {reserve >> 20} MiB reserved: uploads are refused."
        yield _reason("/disk", "disk_low", detail)


def _bucket(env: Context) -> Iterator[dict[str, Any]]:
    """The bucket with the packages answers; asked in the background."""
    if isinstance(env.files, BucketFiles) and (trouble := env.files.trouble()) is not None:
        log.error("bucket not ready", extra={"reason": trouble})
        detail = (
            "The bucket with the packages does not answer or refuses it: no uploads, and no "
            "downloads of what is not cached; `reason` in the log says why."
        )
        yield _reason("/packages", "bucket_unavailable", detail)


def queue_age_seconds(env: Context) -> int:
    """How long the job that is due longest has waited, in seconds; 0 if none, or unreadable."""
    try:
        sql = "SELECT min(run_at) FROM jobs WHERE state = 'waiting' AND run_at <= ?"
        due = env.db.connection().value(sql, env.clock.now())
    except Exception:  # reported by _database
        return 0
    return max(0, int(env.clock.time()) - seconds(due)) if due else 0


def _queue(age: int) -> Iterator[dict[str, Any]]:
    if age > QUEUE_SECONDS:
        detail = f"A job has been due for {age} seconds: no worker runs, or it cannot keep up."
        yield _reason("/queue", "queue_stuck", detail)


def _clock(env: Context) -> Iterator[dict[str, Any]]:
    try:
        ahead = clock_steps.ahead_seconds(env.db.connection())
    except Exception:  # reported by _database
        return
    if ahead > clock_steps.AHEAD_SECONDS:
        yield _reason(
            "/clock",
            "clock_behind",
            f"The newest row of the database is dated {ahead} seconds in the future: the clock is wrong now, or was wrong"
            " and has been set back. Check the time and NTP.",
        )


def _replica(state: State | None) -> Iterator[dict[str, Any]]:
    if state is None:
        return
    why = "the log and GET /v1/admin/backups say why"  # without Litestream's messages, which contain paths and addresses
    if not state.running:
        yield _reason("/replica", "replica_stopped", f"Litestream does not run; {why}.")
    if state.behind_seconds > BEHIND_SECONDS:
        detail = f"Commits have waited {state.behind_seconds:.0f} s for the replica; {why}."
        yield _reason("/replica", "replica_behind", detail)
