"""Analytics: the sums of an app's telemetry over a range of time, per bucket and in total."""

from typing import Any

from mosis.clock import DAY, HOUR, text
from mosis.database import Connection
from mosis.errors import MalformedRequest
from mosis.records import dataclass
from mosis.telemetry import histogram, rollups
from mosis.telemetry.rollups import ALL, Sums
from mosis.validation import timestamps

WIDTHS = {"hour": HOUR, "day": DAY}
MOST_BUCKETS = {"hour": 8 * 24, "day": 400}
INTAKE = ("events", "rejected", "duplicates", "clock_behind", "clock_ahead")


@dataclass(frozen=True)
class Range:
    """From the start of one bucket to the start of another, both included; seconds since 1970."""

    span: str
    first: int
    last: int

    def starts(self) -> range:
        return range(self.first, self.last + 1, WIDTHS[self.span])


def read_range(span: str, since: str | None, until: str | None, now: int) -> Range:
    """The range of two days or moments; default 30 days or 24 hours. Raises Malformed."""
    width = WIDTHS[span]
    last = _moment("to", until, end=True) if until else now
    first = (
        _moment("from", since, end=False) if since else last - (29 if span == "day" else 23) * width
    )
    found = Range(span, first - first % width, last - last % width)
    if not 0 < len(found.starts()) <= MOST_BUCKETS[span]:
        raise MalformedRequest(
            f"from must be before to, and a range may contain at most {MOST_BUCKETS[span]} {span}s."
        )
    return found


def analytics(db: Connection, app_id: str, wanted: Range, version: str | None) -> dict[str, Any]:
    """The sums of an app (by its id in the portal): total, and by hour or day without gaps."""
    app = db.value("SELECT id FROM apps WHERE app_id = ?", app_id)
    sql = f"SELECT start, {rollups.SELECT} FROM rollups WHERE app = ? AND span = ? AND version = ? AND start BETWEEN ? AND ?"
    rows = db.all(sql, app, wanted.span, version or ALL, wanted.first, wanted.last)
    buckets = {start: rollups.sums(row) for start, *row in rows}
    total = Sums()
    for each in buckets.values():
        total.add(each)
    return {
        "from": text(wanted.first),
        "to": text(wanted.last),
        "granularity": wanted.span,
        "version": version,
        "totals": shown(total),
        "versions": _versions(db, app, wanted),
        "intake": _intake(db, app, wanted),
        "series": [
            {"start": text(start)} | shown(buckets.get(start, _NOTHING))
            for start in wanted.starts()
        ],
    }


def shown(each: Sums) -> dict[str, Any]:
    """Sums in the form of responses. A device may report a crash as an event, as a report or both:
    the larger number counts. The crash-free share is computed from events if there are any: like
    the starts, they come from sampled sessions, whereas reports come from all."""
    crashes, among_starts = (
        max(each.crashes, each.crash_reports),
        each.crashes or each.crash_reports,
    )
    return {
        "events": each.events,
        "starts": each.starts,
        "stops": each.stops,
        "crashes": crashes,
        "lua_errors": each.lua_errors,
        "unique_devices": each.devices.estimate(),
        "session_seconds_mean": round(each.session_seconds / each.sessions, 1)
        if each.sessions
        else None,
        "crash_free_share": round(max(0.0, 1 - among_starts / each.starts), 6)
        if each.starts
        else None,
        "frame_ms_p50": histogram.percentile(each.frames, 0.5),
        "frame_ms_p95": histogram.percentile(each.frames, 0.95),
        "startup_ms_p50": histogram.percentile(each.startups, 0.5),
        "startup_ms_p95": histogram.percentile(each.startups, 0.95),
        "memory_mb_p50": histogram.percentile(each.memory, 0.5),
        "memory_mb_p95": histogram.percentile(each.memory, 0.95),
        "memory_limit_mb_p50": histogram.percentile(each.memory_limits, 0.5),
    }


_NOTHING = Sums()


def _versions(db: Connection, app: int | None, wanted: Range) -> list[dict[str, Any]]:
    """The events of each version in the range, most active first."""
    sql = (
        "SELECT version, sum(events), sum(starts) FROM rollups WHERE app = ? AND span = ? AND version <> ?"
        " AND start BETWEEN ? AND ? GROUP BY version ORDER BY 2 DESC, 1 LIMIT 50"
    )
    rows = db.all(sql, app, wanted.span, ALL, wanted.first, wanted.last)
    return [
        {"version": version, "events": events, "starts": starts} for version, events, starts in rows
    ]


def _intake(db: Connection, app: int | None, wanted: Range) -> dict[str, int]:
    """What was received on each day of the range, by day of receipt; shows where events are lost."""
    columns = ", ".join(f"coalesce(sum({name}), 0)" for name in INTAKE)
    days = (wanted.first // DAY, wanted.last // DAY)
    row = db.one(f"SELECT {columns} FROM intake WHERE app = ? AND day BETWEEN ? AND ?", app, *days)
    return dict(zip(INTAKE, row, strict=True))


def _moment(name: str, given: str, *, end: bool) -> int:
    is_day = len(given) == 10
    # an unencoded plus sign in a query is decoded as a space
    stamp = given + "T00:00:00Z" if is_day else given.replace(" ", "+")
    found = timestamps.seconds(stamp)
    if found is None or not 0 <= found < timestamps.END:
        detail = f"{name} must be a day such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z."
        raise MalformedRequest(detail)
    return found + (DAY - 1 if is_day and end else 0)
