"""The job that advances rollout plans: it brings together the plans in the portal's database and what is
counted of their versions in the telemetry database."""

from typing import Any

from mosis.context import Context
from mosis.errors import Invalid
from mosis.publishing import rollout_plans, versions
from mosis.publishing.halting import Counts
from mosis.publishing.rollout_plans import Plan
from mosis.publishing.versions import Version
from mosis.telemetry import rollups, telemetry_apps, watches


def advance(env: Context) -> None:
    """Job of every minute while there are plans: take steps that are due, halt versions that crash too
    often, pause and resume plans. Safe to run twice. An error of one plan does not hold up others;
    the last one is raised when all others are done."""
    db, failed = env.db.connection(), None
    watched = []
    if env.config.telemetry:
        rollups.catch_up(env.telemetry.connection(), seconds=5)
    for version_id in rollout_plans.active(db):
        plan, version = rollout_plans.find(db, version_id), versions.by_id(db, version_id)
        if plan is None or version is None:
            continue
        if plan.halt_when:
            watched.append((version.app_id, version.version))
        try:
            result = rollout_plans.advance(db, plan, _counts(env, plan, version))
            if result is not None:
                env.measures.count("portal_rollouts_total", result=result)
        except Exception as error:
            failed = error
    if env.config.telemetry:
        watches.end_others(env.telemetry.connection(), watched)
    if failed is not None:
        raise failed


def _counts(env: Context, plan: Plan, version: Version) -> tuple[Counts, Counts] | None:
    db, telemetry = env.db.connection(), env.telemetry.connection()
    if (
        not env.config.telemetry
        or plan.halt_when is None
        or plan.state != "running"
        or not rollout_plans.is_offered(db, version)
    ):
        return None
    previous = rollout_plans.previous_version(db, version)
    watch = watches.begin(telemetry, version.app_id, version.version, previous, plan.round)
    return watches.counts(telemetry, watch)


def check_counted(
    env: Context, app_id: str | None, plan: dict[str, Any] | None, at: str = ""
) -> None:
    """Check that sessions of the app (None: a new one) are counted, if a plan shall halt by them. Raises
    Invalid with a pointer that begins with `at`."""
    if not plan or not plan.get("halt_when"):
        return
    if not env.config.telemetry:
        detail = "The operator has switched telemetry off, so crashes are not counted: leave out halt_when."
    elif app_id and not telemetry_apps.settings(env.telemetry.connection(), app_id).enabled:
        detail = "Telemetry of this app is off, so crashes are not counted: switch it on, or leave out halt_when."
    else:
        return
    raise Invalid([{"pointer": f"{at}/halt_when", "code": "not_allowed", "detail": detail}])


def figures(env: Context, version: Version) -> dict[str, object] | None:
    """The counts of a watched version and of the previous one; None if it is not watched."""
    found = watches.find(env.telemetry.connection(), version.app_id, version.version)
    if found is None:
        return None
    previous = found[1].public() if found[1].version is not None else None
    return found[0].public() | {"previous": previous}
