"""Quality of an app: charts of what devices send, the versions beside each other, and the groups of crashes."""

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.clock import DAY, text
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.publishing import apps, versions
from mosis.publishing.apps import App
from mosis.telemetry import analytics, crashes, downloads
from mosis.telemetry.analytics import Range
from mosis.ui import charts
from mosis.ui.charts import Chart, Series
from mosis.ui.pages import Page, Section
from mosis.ui.rendering import message
from mosis.validation import Json, Schema, choice
from mosis.web.plugins import Portal
from mosis.web.request import read_choice
from mosis.web.telemetry import public_group

SPANS = {"7": 7, "30": 30, "90": 90}  # days
VERSIONS = 8  # beside each other
DECISION: Schema = {
    "state": choice(("open", "resolved"), required=True),
    "show": choice(("open", "resolved")),
}


def routes(app: Portal) -> None:
    pages = Section(app, "/console/apps/<app>", scope="developer", again=show)
    pages.get("/quality", show)
    pages.post("/crashes/<group>", decide)


def show(
    env: Context, db: Connection, caller: Caller, page: Page, app: str, group: str = ""
) -> bytes:
    """The figures of the last days, and the open groups of crashes."""
    found = apps.with_role(db, caller, app, "viewer")
    days = SPANS[str(read_choice("days", *SPANS, default="30"))]
    now = int(env.clock.time())
    first, last = text(now - (days - 1) * DAY)[:10], text(now)[:10]
    wanted = analytics.read_range("day", first, last, now)
    telemetry = env.telemetry.connection()
    figures = analytics.analytics(telemetry, found.id, wanted, None)
    state = str(read_choice("show", "open", "resolved", default="open"))
    groups = crashes.index(telemetry, found.id, page.request(str), state)
    return page.render(
        "quality.tpl",
        app=found,
        days=days,
        spans=SPANS,
        totals=figures["totals"],
        charts=_charts(figures["series"], _downloads(telemetry, found, wanted)),
        versions=_versions(db, telemetry, found, wanted, figures["versions"]),
        groups=[public_group(telemetry, each) for each in groups.rows],
        next_cursor=groups.next_cursor,
        state=state,
        written=charts.written,
    )


def decide(
    env: Context, db: Connection, caller: Caller, page: Page, app: str, group: str
) -> HTTPResponse:
    """Mark a group of crashes as resolved, or open again."""
    form = page.form.checked(DECISION)
    found, telemetry = apps.with_role(db, caller, app, "publisher"), env.telemetry.connection()
    crashes.get(telemetry, found.id, group)
    with telemetry.write():
        apps.with_role(db, caller, app, "publisher")  # again: another write may have taken a while
        crashes.change(telemetry, found.id, group, form["state"])
    return page.see_other(
        f"/console/apps/{found.package_id}/quality", notice=f"crash_{form['state']}"
    )


def _charts(series: list[Json], downloaded: dict[str, int]) -> list[Chart]:
    """The charts of the page, over the same days."""
    labels = [each["start"][:10] for each in series]

    def values(name: str, factor: float = 1) -> list[float | None]:
        return [None if each[name] is None else each[name] * factor for each in series]

    def percentiles(name: str) -> list[Series]:
        return [Series(message("quality.median"), values(f"{name}_p50")),
                Series(message("quality.p95"), values(f"{name}_p95"))]  # fmt: skip

    free = Series(message("quality.crash_free"), values("crash_free_share", 100))
    fetched = Series(message("app.downloads"), [downloaded.get(day, 0) for day in labels])
    devices = Series(message("quality.devices"), values("unique_devices"))
    return [
        charts.bars(message("quality.devices"), "", labels, devices),
        charts.lines(message("quality.crash_free"), "%", labels, [free], share=True),
        charts.bars(message("app.downloads"), "", labels, fetched),
        charts.lines(message("quality.startup"), "ms", labels, percentiles("startup_ms")),
        charts.lines(message("quality.frame"), "ms", labels, percentiles("frame_ms")),
        charts.lines(message("quality.memory"), "MB", labels, percentiles("memory_mb")),
    ]


def _downloads(telemetry: Connection, app: App, wanted: Range) -> dict[str, int]:
    """Downloads by day."""
    _, rows = downloads.counts(telemetry, app.id, wanted, ("day",))
    return {text(row["day"] * DAY)[:10]: row["count"] for row in rows}


def _versions(
    db: Connection, telemetry: Connection, app: App, wanted: Range, sent: list[Json]
) -> list[Json]:
    """The most active versions with their own figures, and whether each can be halted."""
    known = {each.version: each for each in versions.index(db, app, PageRequest(100)).rows}
    found = []
    for each in sent[:VERSIONS]:
        totals = analytics.analytics(telemetry, app.id, wanted, each["version"])["totals"]
        version = known.get(each["version"])
        found.append(
            totals
            | {"version": each["version"], "state": version.state if version else None}
            | {"percent": version.rollout_percent if version else None}
        )
    return found
