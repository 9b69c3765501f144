"""The forms of rollout plans: of an app, for every further version, and of one version."""

from bottle import HTTPResponse

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Invalid
from mosis.publishing import apps, rollout_plans, versions
from mosis.telemetry import rollout_health
from mosis.ui.pages import Page
from mosis.validation import Json, Schema, check, choice, pattern, text
from mosis.web import apps as api
from mosis.web.request import spend
from mosis.web.rollout_plans import ROLLOUT_PLAN

PLAN_HERE: Schema = {
    "steps": text(1000),
    "crash_free_below": text(
        6, regex=pattern(r"(?:100|[0-9]{1,2}(?:\.[0-9]{1,3})?)\Z", "This must be a percentage.")
    ),
    "sessions_at_least": text(7, regex=pattern(r"[0-9]{1,7}\Z", "This must be a number.")),
    "remove": choice(("yes",)),
}
_LINE = (
    "Write one step in each line: the share in percent and the hours after publication, as in 5 0."
)


def change_default(
    env: Context, db: Connection, caller: Caller, page: Page, app: str
) -> HTTPResponse:
    """Set or remove the plan of versions that have none of their own."""
    apps.with_role(db, caller, app, "owner")
    plan = _read(page)
    with apps.changing(db, caller, app, "owner") as found:
        api.change_fields(env, db, caller, found, {"rollout_plan": plan})
    notice = "plan_removed" if plan is None else "plan_saved"
    return page.see_other(f"/console/apps/{found.package_id}", notice=notice)


def change(
    env: Context, db: Connection, caller: Caller, page: Page, app: str, version: str
) -> HTTPResponse:
    """Set, replace or remove the plan of a version."""
    found = apps.with_role(db, caller, app, "publisher")
    versions.get(db, found, version)
    plan = _read(page)
    with apps.changing(db, caller, app, "publisher") as found:
        planned = versions.get(db, found, version)
        spend(env, "version_moves", planned.id)
        if plan is None:
            rollout_plans.remove(db, caller, planned)
        else:
            rollout_health.check_counted(env, found.id, plan)
            rollout_plans.put(db, caller, planned, plan)
    notice = "plan_removed" if plan is None else "plan_saved"
    return page.see_other(
        f"/console/apps/{found.package_id}/versions/{planned.version}", notice=notice
    )


def shown(plan: Json | None) -> dict[str, str]:
    """A plan in the fields of the form."""
    if not plan:
        return {"steps": "", "crash_free_below": "", "sessions_at_least": ""}
    halt = plan.get("halt_when") or {}
    return {
        "steps": "\n".join(
            f"{step['percent']:g} {step['after_hours']:g}" for step in plan["steps"]
        ),
        "crash_free_below": f"{100 * halt['crash_free_below']:g}" if halt else "",
        "sessions_at_least": str(halt.get("sessions_at_least", "")),
    }


def _read(page: Page) -> Json | None:
    """The plan in a form; None if it is to be removed. Raises Invalid."""
    form = page.form.checked(PLAN_HERE, trimmed=("steps", "crash_free_below", "sessions_at_least"))
    if "remove" in form:
        return None
    plan: Json = {"steps": _steps(form.get("steps", ""))}
    if "crash_free_below" in form:
        share = round(float(form["crash_free_below"]) / 100, 6)
        plan["halt_when"] = {"crash_free_below": share, "compared_with": "previous"}
        if "sessions_at_least" in form:
            plan["halt_when"]["sessions_at_least"] = int(form["sessions_at_least"])
    plan = dict(check(plan, ROLLOUT_PLAN))
    rollout_plans.check(plan)
    return plan


def _steps(text: str) -> list[dict[str, float]]:
    """Steps from lines `percent hours`. Raises Invalid."""
    found = []
    for line in filter(None, (each.strip() for each in text.split("\n"))):
        try:
            percent, hours = (float(part) for part in line.replace("%", " ").split())
        except ValueError:
            raise _wrong() from None
        if not abs(percent) + abs(hours) < 1e9:  # also NaN
            raise _wrong()
        found.append({"percent": percent, "after_hours": hours})
    if not found:
        raise _wrong()
    return found


def _wrong() -> Invalid:
    return Invalid([{"pointer": "/steps", "code": "wrong_format", "detail": _LINE}])
