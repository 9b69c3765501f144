"""Downloads by day, version and channel, for developers. No personal data: only numbers.

The portal's database counts; the days are copied from there with their whole numbers, so a copy can be
repeated after a kill and never counts twice. Numbers only grow: the larger one is the right one.
"""

import logging
from typing import Any

from mosis.clock import DAY, seconds
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import MalformedRequest
from mosis.store import downloads
from mosis.telemetry import telemetry_apps
from mosis.telemetry.analytics import Range

log = logging.getLogger("mosis.telemetry")
DAYS_IN_PORTAL = 7  # older days are added up there
RETENTION_DAYS = 730
MOST_ROWS = 10_000
SLICE = 100  # versions
BY = ("day", "version", "channel")


def flush(env: Context) -> None:
    """Write the new counts, and copy these versions' days. The hourly job repeats what fails."""
    changed = downloads.flush_downloads(env)
    if changed:
        try:
            _copy(env, changed)
        except Exception:
            log.exception("downloads by day cannot be copied")


def add_up(env: Context) -> None:
    """Hourly job: copy all days, and sum up those beyond DAYS_IN_PORTAL. Safe to run twice."""
    db = env.db.connection()
    downloads.flush_downloads(env)
    after = ""
    while True:
        sql = (
            "SELECT DISTINCT version_id FROM downloads WHERE day <> '' AND version_id > ?"
            " ORDER BY version_id LIMIT ?"
        )
        rows = db.all(sql, after, SLICE)
        if not rows:
            break
        _copy(env, [version_id for (version_id,) in rows])
        after = rows[-1][0]
    before = env.clock.now(-DAYS_IN_PORTAL * DAY)[:10]
    while version_ids := downloads.versions_with_days(db, before, SLICE):
        _copy(env, version_ids)
        for version_id in version_ids:
            downloads.add_up_days(db, version_id, before)


def _copy(env: Context, version_ids: list[str]) -> None:
    rows, telemetry = (
        downloads.download_days(env.db.connection(), version_ids),
        env.telemetry.connection(),
    )
    with telemetry.write():
        for app_id, version, channel, day, count in rows:
            telemetry.change(
                "INSERT INTO downloads (app, day, version, channel, count) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET count = max(count, excluded.count)",
                telemetry_apps.number(telemetry, app_id),
                seconds(f"{day}T00:00:00Z") // DAY,
                version,
                channel,
                count,
            )


def read_by(given: str | None) -> tuple[str, ...]:
    """What to group by: `day` (default), `version`, `channel`, or several. Raises Malformed."""
    names = (given or "day").split(",")
    if len(set(names)) != len(names) or not set(names) <= set(BY):
        raise MalformedRequest(f"by is one or several of {','.join(BY)}, each once.")
    return tuple(name for name in BY if name in names)


def counts(
    db: Connection, app_id: str, wanted: Range, by: tuple[str, ...]
) -> tuple[int, list[dict[str, Any]]]:
    """The downloads of an app (by its id in the portal) on the days of the range: how many in all, and
    by each of `by`; rows without a download are left out. Raises Malformed for more than MOST_ROWS."""
    sql = (
        f"SELECT sum(d.count), {', '.join(by)} FROM downloads d JOIN apps a ON a.id = d.app"
        f" WHERE a.app_id = ? AND d.day BETWEEN ? AND ? GROUP BY {', '.join(by)}"
        f" ORDER BY {', '.join(by)} LIMIT ?"
    )
    rows = db.all(sql, app_id, wanted.first // DAY, wanted.last // DAY, MOST_ROWS + 1)
    if len(rows) > MOST_ROWS:
        detail = f"These are more than {MOST_ROWS} rows: ask for fewer days, or with fewer of `by`."
        raise MalformedRequest(detail)
    found = [dict(zip(("count", *by), row, strict=True)) for row in rows]
    return sum(row["count"] for row in found), found


def old_days(db: Connection, limit: int) -> list[tuple[int, int, str]]:
    """Rows that are older than RETENTION_DAYS."""
    sql = "SELECT app, day, version FROM downloads WHERE day < ? LIMIT ?"
    rows: list[tuple[int, int, str]] = db.all(
        sql, int(db.clock.time()) // DAY - RETENTION_DAYS, limit
    )
    return rows


def delete(db: Connection, rows: list[tuple[int, int, str]]) -> None:
    """Delete these rows, in the running transaction."""
    for row in rows:
        db.change("DELETE FROM downloads WHERE app = ? AND day = ? AND version = ?", *row)
