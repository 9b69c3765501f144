"""Rollout plans: the share of the devices that are offered a version grows by time, and a version
that crashes too often is halted automatically.

A plan begins at publication. Each step has its full time: a late step (the portal was down, the
version was halted) delays the following ones. Changes of a plan are made in one transaction with
the change of the version, so each step is taken once, whatever is killed and however many processes
there are.
"""

import json
from typing import Any

from mosis import jobs
from mosis.caller import PORTAL, Caller
from mosis.clock import HOUR
from mosis.context import Context
from mosis.database import Connection, Record
from mosis.errors import Invalid
from mosis.publishing import apps, halting, members, versions
from mosis.publishing.apps import App
from mosis.publishing.halting import Condition, Counts
from mosis.publishing.versions import Version
from mosis.records import dataclass

EVERY_SECONDS = 60  # interval between checks of plans
WATCHED_SECONDS = 7 * 24 * 3600  # after the last step; until then crashes still halt the version
MOST_HOURS = 24 * 365


@dataclass(frozen=True)
class Plan(Record, table="rollout_plans"):
    """A row of `rollout_plans`. `round` counts publications; `looks` the tests of this round."""

    version_id: str
    steps: str
    halt_when: str | None
    state: str
    steps_taken: int
    next_step_at: str | None
    watched_until: str | None
    round: int
    looks: int
    next_look: int
    halted: str | None

    @property
    def stages(self) -> list[dict[str, float]]:
        """The steps: [{percent, after_hours}]."""
        return list(json.loads(self.steps))

    @property
    def condition(self) -> Condition | None:
        """The condition for halting the version; None: never automatically."""
        return Condition.of(json.loads(self.halt_when)) if self.halt_when else None

    @property
    def wait_seconds(self) -> float | None:
        """The time between the last step taken and the next one; None after the last."""
        stages = self.stages
        if self.steps_taken >= len(stages):
            return None
        before = stages[self.steps_taken - 1]["after_hours"] if self.steps_taken else 0
        return (stages[self.steps_taken]["after_hours"] - before) * HOUR


def check(plan: dict[str, Any], at: str = "") -> None:
    """Check what the schema cannot: the order of the steps. Raises Invalid; pointers begin with `at`."""
    steps, found = plan["steps"], []

    def wrong(number: int, name: str, code: str, detail: str) -> None:
        found.append({"pointer": f"{at}/steps/{number}/{name}", "code": code, "detail": detail})

    if steps[0]["after_hours"] != 0:
        wrong(0, "after_hours", "not_allowed", "The first step is the publication: 0 hours.")
    for number in range(1, len(steps)):
        for name in ("percent", "after_hours"):
            if steps[number][name] <= steps[number - 1][name]:
                wrong(number, name, "too_small", f"{name} must grow from step to step.")
    if found:
        raise Invalid(found)


def find(db: Connection, version_id: str) -> Plan | None:
    """The plan of a version; None if it has none."""
    return db.find(Plan, "version_id = ?", version_id)


def get(db: Connection, version_id: str) -> Plan:
    """The plan of a version. Raises NotFound."""
    return db.get(Plan, "version_id = ?", version_id, what="rollout plan of this version")


def put(db: Connection, caller: Caller, version: Version, plan: dict[str, Any]) -> Plan:
    """Give a version a plan, or another one, in the running transaction. A published version goes
    on from its share: steps up to it count as taken, the next one comes after its time from now.
    Raises Conflict `invalid_state` for a version that will never be published."""
    if version.state in ("failed", "rejected", "withdrawn"):
        raise versions.not_allowed(version, "rollout-plan")
    _store(db, version, plan)
    versions.note(db, caller, version, "version.rollout_planned", **plan)
    members.notify(db, version.app_id)
    return get(db, version.id)


def remove(db: Connection, caller: Caller, version: Version) -> None:
    """Remove a version's plan, in the running transaction; its share stays. Raises NotFound."""
    get(db, version.id)
    db.change("DELETE FROM rollout_plans WHERE version_id = ?", version.id)
    if not version.released:
        versions.set_columns(db, version.id, rollout_percent=100)
    versions.note(db, caller, version, "version.rollout_plan_removed")
    members.notify(db, version.app_id)


def first_percent(db: Connection, version: Version) -> float:
    """The share with which a version without one is published, in the running transaction: that of
    the first step of its plan, which is a copy of the app's unless it has one; else 100."""
    plan = find(db, version.id)
    if plan is None:
        default = db.value("SELECT rollout_plan FROM apps WHERE id = ?", version.app_id)
        if default is None:
            return 100
        _store(db, version, json.loads(default))
        plan = get(db, version.id)
    return plan.stages[0]["percent"]


def begin(db: Connection, version: Version) -> None:
    """Begin the plan of a version that was published just now, in the running transaction."""
    if find(db, version.id) is not None:
        _start(db, version)


def previous_version(db: Connection, version: Version) -> str | None:
    """The version string that a new one is compared with: what everybody is offered instead of it,
    else the next lower released version of its channel; None if there is none."""
    sql = (
        "SELECT version FROM versions WHERE app_id = ? AND version_code < ? AND released = 1"
        " AND channel IN (?, 'stable')"
        " ORDER BY (state = 'published' AND rollout_percent >= 100) DESC, version_code DESC LIMIT 1"
    )
    found: str | None = db.value(sql, version.app_id, version.version_code, version.channel)
    return found


def queue(env: Context) -> None:
    """Queue the job that advances the plans, once a minute while there are any."""
    db = env.db.connection()
    if db.value("SELECT 1 FROM rollout_plans WHERE state IN ('running', 'paused') LIMIT 1"):
        with db.write():
            jobs.add_scheduled(db, "advance_rollouts", EVERY_SECONDS)


def active(db: Connection) -> list[str]:
    """The versions with plans to look at: running ones, and paused ones that are offered again."""
    rows = db.all(
        "SELECT p.version_id FROM rollout_plans p JOIN versions v ON v.id = p.version_id"
        " WHERE p.state = 'running' OR (p.state = 'paused' AND v.state = 'published')"
    )
    return [version_id for (version_id,) in rows]


def is_offered(db: Connection, version: Version) -> bool:
    """Whether devices are offered it: published, and neither app nor account suspended."""
    return version.state == "published" and not db.value(
        "SELECT a.suspended OR d.suspended FROM apps a JOIN developers d ON d.id = a.developer_id"
        " WHERE a.id = ?",
        version.app_id,
    )


def advance(db: Connection, seen: Plan, counts: tuple[Counts, Counts] | None) -> str | None:
    """Do what is due for a plan: pause or resume it, halt the version, take the next step. `counts`
    are the sessions of this version and of the previous one in the round of `seen`; None without
    telemetry. Safe to run twice: everything is read again in the transaction. The result is
    `halted`, `step` or None."""
    with db.write():
        plan, version = find(db, seen.version_id), versions.by_id(db, seen.version_id)
        if plan is None or version is None or plan.state not in ("running", "paused"):
            return None
        if not is_offered(db, version):
            if plan.state == "running":
                _change(db, plan, state="paused", next_step_at=None)
            return None
        if plan.state == "paused":
            _resume(db, plan)
            return None
        if counts is not None and plan.round == seen.round and _halted(db, plan, version, counts):
            return "halted"
        return "step" if _step(db, plan, version) else None


def _halted(db: Connection, plan: Plan, version: Version, counts: tuple[Counts, Counts]) -> bool:
    """Test the version, before each step or after enough sessions; whether it was halted."""
    condition = plan.condition
    if condition is None:
        return False
    step = plan.next_step_at is not None and plan.next_step_at <= db.now
    if not halting.is_due(condition, counts[0], plan.next_look, before_step=step):
        return False
    verdict = halting.judge(condition, plan.looks, *counts)
    if not verdict.halt:
        _change(db, plan, looks=plan.looks + 1, next_look=verdict.next_look)
        return False
    figures = {
        "automatic": True,
        **{name: value for name, value in counts[0].public().items() if name != "version"},
        "crash_free_below": condition.crash_free_below,
        "previous": counts[1].public() if verdict.compared else None,
        "p_value": float(f"{verdict.p_value:.3g}"),
        "p_value_bound": float(f"{verdict.bound:.3g}"),
        "rollout_percent": version.rollout_percent,
    }
    versions.move(db, PORTAL, version, "halt", facts=figures)
    apps.touch(db, version.app_id)
    versions.note(db, PORTAL, version, "version.halted_by_plan", **figures)
    halted = json.dumps(figures | {"at": db.now})
    _change(db, plan, state="paused", next_step_at=None, halted=halted)
    return True


def _step(db: Connection, plan: Plan, version: Version) -> bool:
    """Take the next step if it is due. Returns whether it was taken."""
    wait = plan.wait_seconds
    if wait is None:
        if plan.watched_until is None or plan.watched_until <= db.now:
            _change(db, plan, state="finished", watched_until=None)
        elif plan.watched_until > db.clock.latest(WATCHED_SECONDS):  # by a clock that was ahead
            _change(db, plan, watched_until=db.clock.now(WATCHED_SECONDS))
        return False
    if plan.next_step_at is None or plan.next_step_at > db.clock.latest(wait):
        _change(db, plan, next_step_at=db.clock.now(wait))
        return False
    if plan.next_step_at > db.now:
        return False
    percent = max(version.rollout_percent, plan.stages[plan.steps_taken]["percent"])
    versions.set_rollout(db, version, percent)
    taken = _after_step(db, plan, plan.steps_taken + 1)
    members.add_events(
        db,
        version.app_id,
        "publisher",
        "version.rollout",
        version=version.version,
        percent=int(percent) if percent == int(percent) else percent,
        step=taken.steps_taken,
        steps=len(taken.stages),
        next_step_at=taken.next_step_at,
    )
    step = taken.steps_taken
    versions.note(db, PORTAL, version, "version.rollout_step", percent=percent, step=step)
    return True


def _store(db: Connection, version: Version, plan: dict[str, Any]) -> None:
    halt_when = plan.get("halt_when")
    values = (json.dumps(plan["steps"]), None if halt_when is None else json.dumps(halt_when))
    sql = (
        "INSERT INTO rollout_plans (version_id, steps, halt_when) VALUES (?1, ?2, ?3)"
        " ON CONFLICT DO UPDATE SET steps = ?2, halt_when = ?3, state = 'waiting', steps_taken = 0,"
        " next_step_at = NULL, watched_until = NULL"
    )
    db.change(sql, version.id, *values)
    if not version.released:
        first = plan["steps"][0]["percent"]
        versions.set_columns(db, version.id, rollout_percent=first)
    else:
        _start(db, version)


def _start(db: Connection, version: Version) -> None:
    """Begin a round of a released version: the steps up to its share are taken."""
    plan = get(db, version.id)
    taken = sum(stage["percent"] <= version.rollout_percent for stage in plan.stages)
    _begin_round(db, plan, "running" if version.state == "published" else "paused")
    _after_step(db, get(db, version.id), taken)


def _resume(db: Connection, plan: Plan) -> None:
    """Continue after a pause: sessions count from zero, and the next step has its full time."""
    _begin_round(db, plan, "running")
    _after_step(db, get(db, plan.version_id), plan.steps_taken)


def _begin_round(db: Connection, plan: Plan, state: str) -> None:
    _change(db, plan, state=state, round=plan.round + 1, looks=0, next_look=0)


def _after_step(db: Connection, plan: Plan, taken: int) -> Plan:
    """Record the number of steps taken, and when the next one is due or the watch ends."""
    _change(db, plan, steps_taken=taken)
    now = get(db, plan.version_id)
    if now.state == "paused":
        _change(db, plan, next_step_at=None, watched_until=None)
    elif now.wait_seconds is not None:
        _change(db, plan, next_step_at=db.clock.now(now.wait_seconds), watched_until=None)
    elif plan.halt_when is not None:
        _change(db, plan, next_step_at=None, watched_until=db.clock.now(WATCHED_SECONDS))
    else:
        _change(db, plan, next_step_at=None, watched_until=None, state="finished")
    return get(db, plan.version_id)


def _change(db: Connection, plan: Plan, **values: Any) -> None:
    db.update("rollout_plans", "version_id = ?", plan.version_id, **values)


def sentence(plan: Plan | None) -> str | None:
    """What the plan does next, for `next_step`; None if nothing."""
    if plan is None:
        return None
    if plan.state == "running" and plan.next_step_at:
        percent = plan.stages[plan.steps_taken]["percent"]
        return f"its rollout plan raises the share to {percent:g} % at {plan.next_step_at}"
    return None


def public(plan: Plan | None) -> dict[str, Any] | None:
    """A plan as shown."""
    if plan is None:
        return None
    condition = plan.condition
    return {
        "steps": plan.stages,
        "halt_when": None
        if condition is None
        else {
            "crash_free_below": condition.crash_free_below,
            "sessions_at_least": condition.sessions_at_least,
            "compared_with": "previous" if condition.compared else None,
        },
        "state": plan.state,
        "steps_taken": plan.steps_taken,
        "next_step_at": plan.next_step_at,
        "watched_until": plan.watched_until,
        "halted": json.loads(plan.halted) if plan.halted else None,
    }


def default_of(app: App) -> dict[str, Any] | None:
    """The plan that versions of an app get which have none of their own."""
    found: dict[str, Any] | None = json.loads(app.rollout_plan) if app.rollout_plan else None
    return found
