"""What a clock that was set leaves behind: rows dated in the future.

Nothing waits for such a date: what compares a stored time with now ignores one that lies further ahead than its interval
allows (`jobs.correct_times`, and the conditions beside each statement). Here the rows themselves are corrected, so that
retention and expiry count again; only after the clock has run for STEADY_SECONDS without a step, because a machine without
a battery starts in the past until it has reached a time server, and its good rows would be cut short.
"""

import logging

from mosis import audit, events, jobs
from mosis.caller import PORTAL
from mosis.clock import CORRECTED_SECONDS, DAY, seconds
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection
from mosis.idempotency import RETENTION_SECONDS
from mosis.notifications import webhooks
from mosis.people import (
    device_login,
    email_tokens,
    first_administrator,
    identities,
    trusted_publishers,
)
from mosis.publishing import invitations, reviews, rollout_plans
from mosis.records import dataclass

log = logging.getLogger("mosis.operations")
STEADY_SECONDS = 6 * 3600
AGAIN_SECONDS = 3600
AHEAD_SECONDS = 300  # how far in the future the newest row may be dated before operators are warned


def _past(columns: str, **longest: int) -> dict[str, int]:
    """Columns that say when something happened, and others."""
    return dict.fromkeys(columns.split(), 0) | longest


# How far ahead of now a column can truly lie, in seconds. 0: it says when something happened.
LONGEST: dict[str, dict[str, int]] = {
    "developers": _past("created_at erased_at"),
    "sessions": _past(
        "created_at rotated_at last_used_at ended_at", expires_at=tokens.REFRESH_SECONDS
    ),
    "identities": _past("created_at last_used_at"),
    "oauth_states": {"expires_at": identities.BEGUN_SECONDS},
    "tickets": _past("created_at used_at", expires_at=max(email_tokens.LIFE_SECONDS.values())),
    "setup_links": {"expires_at": first_administrator.LIFE_SECONDS},
    "device_logins": _past("created_at polled_at", expires_at=device_login.LIFE_SECONDS),
    "api_keys": _past("created_at notified_at last_used_at revoked_at"),
    "signing_keys": _past("created_at revoked_at"),
    "apps": _past("created_at updated_at transferred_at"),
    "app_members": _past("created_at"),
    "app_invitations": _past("created_at", expires_at=invitations.LIFE_SECONDS),
    "second_factors": _past("created_at confirmed_at"),
    "trusted_publishers": _past("created_at last_used_at"),
    "publisher_tokens": _past("created_at", expires_at=trusted_publishers.LIFE_SECONDS),
    "versions": _past(
        "package_removed_at created_at submitted_at decided_at published_at offered_at"
    ),
    "rollout_plans": {
        "next_step_at": rollout_plans.MOST_HOURS * 3600,
        "watched_until": rollout_plans.WATCHED_SECONDS,
    },
    "reviews": _past("submitted_at decided_at", claimed_until=reviews.CLAIM_SECONDS),
    "listing_changes": _past("submitted_at updated_at decided_at"),
    "abuse_reports": _past("created_at closed_at"),
    "download_batches": _past("received_at"),
    "messages": _past("created_at"),
    "jobs": _past("created_at finished_at"),
    "job_turns": {"rests_until": jobs.LONGEST_REST_SECONDS},
    "events": _past("created_at read_at mailed_at"),
    "webhooks": _past(
        "created_at failing_since",
        old_until=webhooks.OLD_SECRET_SECONDS,
        rests_until=events.LONGEST_REST_SECONDS,
    ),
    "webhook_deliveries": _past(
        "created_at attempted_at begun_at finished_at", due_at=webhooks.DELAYS[-1]
    ),
    "idempotency": {"expires_at": RETENTION_SECONDS},
}
# What stays as it is: a person's wish, what others correct, and what is made from the rows above.
LEFT_ALONE = {
    "api_keys.expires_at",
    "exchanged_tokens.expires_at",  # the issuer's; earlier, a token could be exchanged twice
    "versions.publish_at",
    "jobs.run_at",
    "jobs.lease_until",
    "heartbeat.beaten_at",  # written again every ten seconds
    "signed_indexes.created_at",  # part of what is signed
    "listings.published_at",
    "listings.updated_at",
}
TELEMETRY: dict[str, tuple[str, ...]] = {
    "batches": ("received_at",),
    "crash_groups": ("first_seen", "last_seen", "created_at", "resolved_at", "reopened_at"),
    "crash_reports": ("at", "received_at"),
}


@dataclass
class _Watch:
    """`offset`: wall clock minus monotonic clock; `since`, `corrected`: monotonic seconds."""

    offset: float | None = None
    since: float = 0.0
    corrected: float | None = None


def look(env: Context) -> None:
    """Notice a step of the clock, bring forward jobs that wait for a date too far ahead, and correct rows once it is steady."""
    now = env.clock.monotonic()
    offset = env.clock.time() - now
    watch = env.state(_Watch)
    if watch.offset is None:
        watch.offset, watch.since = offset, now
    if abs(offset - watch.offset) > CORRECTED_SECONDS:
        log.warning("clock stepped", extra={"seconds": round(offset - watch.offset)})
        watch.since, watch.corrected = now, None
    watch.offset = offset
    if jobs.correct_times(env.db.connection()):
        for lane in jobs.LANES:
            env.db.on_job(lane)
    steady = now - watch.since >= STEADY_SECONDS
    if steady and (watch.corrected is None or now - watch.corrected >= AGAIN_SECONDS):
        watch.corrected = now
        correct(env)


def ahead_seconds(db: Connection) -> int:
    """How far in the future the newest line of the audit trail is dated; 0 when it is not, or there is none."""
    newest = db.value("SELECT at FROM audit ORDER BY number DESC LIMIT 1")
    return max(0, seconds(newest) - int(db.clock.time())) if newest else 0


def correct(env: Context) -> int:
    """Date rows from the future as late as they can truly be; how many. The audit trail is not changed: it gets a line."""
    db, ahead = env.db.connection(), ahead_seconds(env.db.connection())
    found: dict[str, int] = {}
    for table, columns in LONGEST.items():
        for column, longest in columns.items():
            latest = db.clock.latest(longest)
            if not db.value(f"SELECT 1 FROM {table} WHERE {column} > ? LIMIT 1", latest):
                continue
            with db.write():
                sql = f"UPDATE {table} SET {column} = ? WHERE {column} > ?"
                found[f"{table}.{column}"] = db.change(sql, db.clock.now(longest), latest)
    if env.config.telemetry:
        found |= _correct_telemetry(env.telemetry.connection())
    if found or ahead > CORRECTED_SECONDS:
        log.warning("rows from the future corrected", extra={"rows": found})
        with db.write():
            audit.add(db, PORTAL, "clock.corrected", None, ahead_seconds=ahead, rows=found)
    return sum(found.values())


def _correct_telemetry(db: Connection) -> dict[str, int]:
    now, found = int(db.clock.time()), {}
    latest, tomorrow = now + CORRECTED_SECONDS, now // DAY + 1
    with db.write():
        for table, columns in TELEMETRY.items():
            for column in columns:
                sql = f"UPDATE {table} SET {column} = ? WHERE {column} > ?"
                found[f"{table}.{column}"] = db.change(sql, now, latest)
        # These go by day and hour, and a row of today may be there already: rows in the future cannot be moved.
        for table in ("seen", "intake", "crash_counts", "downloads"):
            found[table] = db.change(f"DELETE FROM {table} WHERE day > ?", tomorrow)
        found["rollups"] = db.change("DELETE FROM rollups WHERE start > ?", tomorrow * DAY)
    return {name: count for name, count in found.items() if count}
