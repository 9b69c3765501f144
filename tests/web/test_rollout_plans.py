"""Rollout plans: steps by time, once each; halting by crashes; resuming; the plan of an app."""

import multiprocessing
import random
from collections.abc import Callable
from typing import Any

import pytest

from mosis.clock import Clock, text
from mosis.config import Config
from mosis.context import make_context
from mosis.publishing import rollout_plans
from mosis.telemetry import intake, rollout_health, rollups
from mosis.worker import HANDLERS
from tests.client import Account, Answer, Client
from tests.conftest import CHEAP, FakeClock

NOTES = "com.acme.notes"
HOUR, DAY = 3600, 86_400
STEPS = [
    {"percent": 1, "after_hours": 0},
    {"percent": 10, "after_hours": 24},
    {"percent": 100, "after_hours": 72},
]
HALT = {"crash_free_below": 0.99, "sessions_at_least": 100}


def at(version: str) -> str:
    return f"/v1/apps/{NOTES}/versions/{version}"


def approved(client: Client, alice: Account, version: str, code: int) -> None:
    """A version that waits to be published."""
    package = client.package(alice, NOTES, version, code)
    client.upload(NOTES, package, as_=alice, query="?submit=true").expect(201)
    client.work()
    review = client.get(at(version), as_=alice)["review"]["id"]
    client.post(f"/v1/reviews/{review}/approve", as_=client.desk).expect(200)


def planned(client: Client, alice: Account, **more: Any) -> Answer:
    """1.0.0 for everybody, 2.0.0 published by a plan."""
    client.published(alice, NOTES)
    approved(client, alice, "2.0.0", 2)
    client.call("PUT", at("2.0.0") + "/rollout-plan", {"steps": STEPS} | more, as_=alice).expect(
        200
    )
    return client.post(at("2.0.0") + "/publish", as_=alice).expect(200)


def share(client: Client, alice: Account) -> tuple[str, float]:
    shown = client.get(at("2.0.0"), as_=alice).expect(200)
    return shown["state"], shown["rollout_percent"]


def later(client: Client, alice: Account, clock: FakeClock, seconds: float) -> None:
    """Some time passes; access tokens of before have expired."""
    clock.advance(seconds)
    for account in (alice, client.found_desk):
        if account is not None:
            account.token = client.sign_in(account).token


def advance(client: Client) -> None:
    HANDLERS["advance_rollouts"](client.env)


def sessions(
    client: Client,
    version: str,
    number: int,
    crashed: int,
    devices: Callable[[int], int] = lambda number: number,
    prefix: str = "",
    late_seconds: int = 0,
) -> None:
    """So many sessions, the first of them with a crash, of devices by number."""
    now = client.env.clock.time() - late_seconds
    for each in range(number):
        device = f"{prefix}{version}{devices(each)}".encode().hex().rjust(64, "0")[-64:]
        events = [{"type": "app_start", "timestamp": text(now)}]
        if each < crashed:
            events.append({"type": "app_crash", "timestamp": text(now)})
        batch = {
            "app_id": NOTES,
            "app_version": version,
            "mosis_version": "1.4.0",
            "device_id": device,
            "session_id": f"{version}-{each}",
            "batch_id": f"{prefix}{version}-{each}-{now}",
            "events": events,
        }
        intake.take(client.env, batch)
    rollups.catch_up(client.env.telemetry.connection())


def test_a_plan_takes_each_step_at_its_time(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    begun = planned(client, alice)
    assert begun["rollout_percent"] == 1
    assert begun["rollout_plan"]["next_step_at"] == client.env.clock.now(24 * HOUR)
    assert "raises the share to 10 %" in begun["next_step"]
    advance(client)
    assert share(client, alice) == ("published", 1)
    later(client, alice, clock, 24 * HOUR)
    advance(client)
    advance(client)
    assert share(client, alice) == ("published", 10)
    later(client, alice, clock, 47 * HOUR)
    advance(client)
    assert share(client, alice) == ("published", 10)
    later(client, alice, clock, HOUR)
    advance(client)
    assert share(client, alice) == ("published", 100)
    plan = client.get(at("2.0.0") + "/rollout-plan", as_=alice).expect(200)
    assert (plan["state"], plan["steps_taken"], plan["next_step_at"]) == ("finished", 3, None)
    found = [each for each in client.notifications(alice) if each["kind"] == "version.rollout"]
    assert [each["data"]["percent"] for each in found] == [100, 10]
    lines = client.get("/v1/auth/me/audit?limit=100", as_=alice).expect(200)["entries"]
    assert sum(line["action"] == "version.rollout_step" for line in lines) == 2


def test_the_feed_has_a_version_when_everybody_is_offered_it(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    planned(client, alice)
    later(client, alice, clock, 10 * DAY)
    client.published(alice, client.app_of(alice, "com.acme.todo"))
    assert "Notes 2.0.0" not in client.get("/feed.atom").body.decode()
    for _ in STEPS[1:]:
        later(client, alice, clock, 48 * HOUR)
        advance(client)
    feed = client.get("/feed.atom").body.decode()
    assert feed.index("Notes 2.0.0") < feed.index("Todo 1.0.0") < feed.index("Notes 1.0.0")
    assert feed.count(f"<updated>{client.env.clock.now()}</updated>") == 2, "of feed and entry"


def test_a_late_step_makes_the_next_ones_late(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    planned(client, alice)
    later(client, alice, clock, 30 * DAY)  # the portal was off
    advance(client)
    advance(client)
    assert share(client, alice) == ("published", 10)
    later(client, alice, clock, 48 * HOUR)
    advance(client)
    assert share(client, alice) == ("published", 100)


@pytest.mark.parametrize("ahead", [600, 30_000, 3 * DAY, 4 * 365 * DAY])
def test_a_clock_that_was_ahead_holds_no_step_up(
    client: Client, alice: Account, clock: FakeClock, ahead: int
) -> None:
    later(client, alice, clock, ahead)
    planned(client, alice)
    later(client, alice, clock, -ahead)
    advance(client)
    later(client, alice, clock, 24 * HOUR + 61)
    advance(client)
    assert share(client, alice)[1] == (10 if ahead > 60 else 1)
    advance(client)
    assert share(client, alice)[1] == 10


def test_a_halted_version_waits_and_goes_on_with_the_full_time(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    planned(client, alice)
    client.post(at("2.0.0") + "/halt", as_=alice).expect(200)
    advance(client)
    later(client, alice, clock, 100 * HOUR)
    advance(client)
    assert share(client, alice) == ("halted", 1)
    assert client.get(at("2.0.0"), as_=alice)["rollout_plan"]["state"] == "paused"
    client.post(at("2.0.0") + "/publish", as_=alice).expect(200)
    advance(client)
    later(client, alice, clock, 23 * HOUR)
    advance(client)
    assert share(client, alice) == ("published", 1)
    later(client, alice, clock, HOUR)
    advance(client)
    assert share(client, alice) == ("published", 10)


def test_a_share_that_was_raised_by_hand_is_not_reduced(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    planned(client, alice)
    client.post(at("2.0.0") + "/rollout", {"percent": 50}, as_=alice).expect(200)
    later(client, alice, clock, 24 * HOUR)
    advance(client)
    assert share(client, alice) == ("published", 50)
    other = [{"percent": 5, "after_hours": 0}, {"percent": 60, "after_hours": 2}]
    put = client.call("PUT", at("2.0.0") + "/rollout-plan", {"steps": other}, as_=alice).expect(200)
    assert (put["steps_taken"], put["next_step_at"]) == (1, client.env.clock.now(2 * HOUR))
    later(client, alice, clock, 2 * HOUR)
    advance(client)
    assert share(client, alice) == ("published", 60)


def test_a_plan_can_be_removed_and_is_checked(client: Client, alice: Account) -> None:
    plan = at("1.0.0") + "/rollout-plan"
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    client.get(plan, as_=alice).expect(404, code="not_found")
    for steps, pointer, code in (
        ([], "/steps", "too_short"),
        ([{"percent": 5, "after_hours": 1}], "/steps/0/after_hours", "not_allowed"),
        ([*STEPS, {"percent": 100, "after_hours": 80}], "/steps/3/percent", "too_small"),
        ([STEPS[0], {"percent": 2, "after_hours": 0}], "/steps/1/after_hours", "too_small"),
        ([{"percent": 0, "after_hours": 0}], "/steps/0/percent", "too_small"),
        ([{"percent": True, "after_hours": 0}], "/steps/0/percent", "wrong_type"),
        ([{"percent": 1}], "/steps/0/after_hours", "required"),
    ):
        refused = client.call("PUT", plan, {"steps": steps}, as_=alice).expect(422, code="invalid")
        assert refused.finding(pointer) == code
    wrong = {"steps": STEPS, "halt_when": {"crash_free_below": 1.5, "compared_with": "last"}}
    refused = client.call("PUT", plan, wrong, as_=alice).expect(422)
    assert refused.finding("/halt_when/crash_free_below") == "too_large"
    assert refused.finding("/halt_when/compared_with") == "not_allowed"
    put = client.call("PUT", plan, {"steps": STEPS, "halt_when": HALT}, as_=alice).expect(200)
    assert put["halt_when"] == HALT | {"compared_with": "previous"}
    assert client.get(at("1.0.0"), as_=alice)["rollout_percent"] == 1
    tag = client.get(plan, as_=alice).headers["etag"]
    client.call("PUT", plan, {"steps": STEPS}, as_=alice, headers={"If-Match": tag}).expect(200)
    client.call("PUT", plan, {"steps": STEPS}, as_=alice, headers={"If-Match": tag}).expect(412)
    client.delete(plan, as_=alice).expect(204)
    client.delete(plan, as_=alice).expect(404)
    assert client.get(at("1.0.0"), as_=alice)["rollout_percent"] == 100
    client.work()
    client.post(at("1.0.0") + "/withdraw", as_=alice).expect(200)
    client.call("PUT", plan, {"steps": STEPS}, as_=alice).expect(409, code="invalid_state")
    other = client.register("bob")
    client.call("PUT", plan, {"steps": STEPS}, as_=other).expect(404)


def test_a_plan_cannot_halt_by_what_is_not_counted(client: Client, alice: Account) -> None:
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    plan, at_app = {"steps": STEPS, "halt_when": HALT}, f"/v1/apps/{NOTES}"
    client.patch(at_app + "/telemetry", {"enabled": False}, as_=alice).expect(200)
    for method, path, body, pointer in (
        ("PUT", at("1.0.0") + "/rollout-plan", plan, "/halt_when"),
        ("PATCH", at_app, {"rollout_plan": plan}, "/rollout_plan/halt_when"),
    ):
        refused = client.call(method, path, body, as_=alice).expect(422, code="invalid")
        assert refused.finding(pointer) == "not_allowed"
    client.call("PUT", at("1.0.0") + "/rollout-plan", {"steps": STEPS}, as_=alice).expect(200)
    client.patch(at_app + "/telemetry", {"enabled": True}, as_=alice).expect(200)
    object.__setattr__(client.env.config, "telemetry", False)
    new = {"package_id": "com.acme.new", "name": "New", "rollout_plan": plan}
    refused = client.post("/v1/apps", new, as_=alice).expect(422, code="invalid")
    assert refused.finding("/rollout_plan/halt_when") == "not_allowed"
    object.__setattr__(client.env.config, "telemetry", True)
    client.post("/v1/apps", new, as_=alice).expect(201)


def test_versions_without_a_plan_get_that_of_their_app(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    client.published(alice, NOTES)
    app = f"/v1/apps/{NOTES}"
    plan = {"steps": STEPS[:2], "halt_when": HALT}
    refused = client.patch(app, {"rollout_plan": {"steps": STEPS[1:]}}, as_=alice).expect(422)
    assert refused.finding("/rollout_plan/steps/0/after_hours") == "not_allowed"
    assert client.patch(app, {"rollout_plan": plan}, as_=alice).expect(200)["rollout_plan"] == plan
    approved(client, alice, "2.0.0", 2)
    published = client.post(at("2.0.0") + "/publish", as_=alice).expect(200)
    assert published["rollout_percent"] == 1
    assert published["rollout_plan"]["steps"] == STEPS[:2]
    approved(client, alice, "3.0.0", 3)
    whole = client.post(at("3.0.0") + "/publish", {"rollout_percent": 100}, as_=alice)
    assert (whole["rollout_percent"], whole["rollout_plan"]) == (100, None)
    package = client.package(alice, NOTES, "4.0.0", 4)
    client.upload(NOTES, package, as_=alice, query="?submit=true&publish=true").expect(201)
    client.work()
    review = client.get(at("4.0.0"), as_=alice)["review"]["id"]
    client.post(f"/v1/reviews/{review}/approve", as_=client.desk).expect(200)
    client.work()
    soon = client.get(at("4.0.0"), as_=alice).expect(200)
    assert (soon["state"], soon["rollout_percent"]) == ("published", 1)
    assert soon["rollout_plan"]["state"] == "running"
    client.patch(app, {"rollout_plan": None}, as_=alice).expect(200)
    approved(client, alice, "5.0.0", 5)
    moment = client.env.clock.now(HOUR)
    client.call("PUT", at("5.0.0") + "/rollout-plan", {"steps": STEPS}, as_=alice).expect(200)
    client.post(at("5.0.0") + "/publish", {"publish_at": moment}, as_=alice).expect(200)
    later(client, alice, clock, HOUR)
    client.work()
    then = client.get(at("5.0.0"), as_=alice)
    assert (then["state"], then["rollout_percent"]) == ("published", 1)


def test_a_version_that_crashes_more_than_the_one_before_is_halted(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    planned(client, alice, halt_when=HALT)
    advance(client)
    sessions(client, "1.0.0", 300, 3)
    sessions(client, "2.0.0", 90, 20)
    advance(client)
    assert share(client, alice) == ("published", 1), "too few sessions"
    sessions(client, "2.0.0", 10, 0, prefix="b")
    sessions(client, "2.0.0", 10, 0, prefix="b")  # the same once more: duplicates
    advance(client)
    advance(client)
    assert share(client, alice) == ("halted", 1)
    shown = client.get(at("2.0.0") + "/rollout-plan", as_=alice).expect(200)
    halted = shown["halted"]
    assert (halted["sessions"], halted["crashes"], halted["crash_free_share"]) == (100, 20, 0.8)
    assert halted["previous"]["version"] == "1.0.0"
    assert (halted["previous"]["sessions"], halted["previous"]["crashes"]) == (300, 3)
    assert halted["p_value"] < halted["p_value_bound"] <= 0.005
    assert shown["state"] == "paused"
    [event] = [each for each in client.notifications(alice) if each["kind"] == "version.halted"]
    assert event["data"]["sessions"] == 100
    assert "by its rollout plan" in event["text"]
    client.work()
    [mail] = [
        path.read_text()
        for path in (client.env.config.data_dir / "mail").iterdir()
        if "was halted by its rollout plan" in path.read_text()
    ]
    assert "80.00%" in mail
    assert "Version 1.0.0: 99.00%" in mail
    lines = client.get("/v1/auth/me/audit?limit=100", as_=alice)["entries"]
    [line] = [line for line in lines if line["action"] == "version.halted_by_plan"]
    assert line["details"]["crashes"] == 20
    assert client.get(f"/v1/store/updates?pkgs={NOTES}:1&device=x")["updates"] == []
    assert [*client.env.measures.counted("portal_rollouts_total")] == [({"result": "halted"}, 1)]


def test_after_a_resume_only_new_sessions_count(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    planned(client, alice, halt_when=HALT)
    advance(client)
    sessions(client, "1.0.0", 300, 3)
    sessions(client, "2.0.0", 120, 120)
    advance(client)
    assert share(client, alice)[0] == "halted"
    later(client, alice, clock, HOUR)
    client.post(at("2.0.0") + "/publish", as_=alice).expect(200)
    advance(client)
    advance(client)
    sessions(client, "2.0.0", 150, 150, prefix="late", late_seconds=HOUR // 2)
    advance(client)
    assert share(client, alice)[0] == "published", "sessions of before the resume"
    figures = client.get(at("2.0.0") + "/rollout-plan", as_=alice)["figures"]
    assert (figures["sessions"], figures["crashes"]) == (0, 0)
    sessions(client, "1.0.0", 300, 3, prefix="again")
    sessions(client, "2.0.0", 120, 40, prefix="again")
    advance(client)
    assert share(client, alice)[0] == "halted"


def test_one_device_alone_halts_nothing(client: Client, alice: Account) -> None:
    planned(client, alice, halt_when=HALT)
    advance(client)
    sessions(client, "1.0.0", 300, 3)
    sessions(client, "2.0.0", 150, 150, devices=lambda number: number % 2)
    advance(client)
    assert share(client, alice)[0] == "published"
    sessions(client, "2.0.0", 72, 72, devices=lambda number: number % 12, prefix="more")
    advance(client)
    assert share(client, alice)[0] == "halted", "a dozen devices do"


def test_a_first_version_is_held_to_the_bound_of_the_plan(client: Client, alice: Account) -> None:
    approved(client, alice, "2.0.0", 2)
    plan = {"steps": STEPS, "halt_when": HALT}
    client.call("PUT", at("2.0.0") + "/rollout-plan", plan, as_=alice).expect(200)
    client.post(at("2.0.0") + "/publish", as_=alice).expect(200)
    advance(client)
    sessions(client, "2.0.0", 100, 3)
    advance(client)
    assert share(client, alice)[0] == "published", "3 of 100 may be chance at 99 %"
    sessions(client, "2.0.0", 100, 12, prefix="b")
    advance(client)
    assert share(client, alice)[0] == "halted"
    assert client.get(at("2.0.0"), as_=alice)["rollout_plan"]["halted"]["previous"] is None


def test_a_version_that_is_no_worse_is_not_halted(client: Client, alice: Account) -> None:
    planned(client, alice, halt_when=HALT)
    advance(client)
    sessions(client, "1.0.0", 300, 30)
    sessions(client, "2.0.0", 200, 22)
    advance(client)
    assert share(client, alice)[0] == "published"


def test_crash_reports_count_where_no_crash_comes_as_an_event(
    client: Client, alice: Account
) -> None:
    planned(client, alice, halt_when=HALT)
    advance(client)
    sessions(client, "1.0.0", 300, 0)
    sessions(client, "2.0.0", 150, 0)
    for number in range(30):
        device = f"2.0.0{number}".encode().hex().rjust(64, "0")[-64:]
        report = {
            "app_id": NOTES,
            "app_version": "2.0.0",
            "mosis_version": "1.4.0",
            "device_id": device,
            "timestamp": client.env.clock.now(),
            "crash": {"type": "LuaError", "message": "no", "stack_trace": "main.lua:1: no"},
        }
        client.post("/v1/telemetry/crashes", report).expect(202)
    advance(client)
    assert share(client, alice)[0] == "halted"


def test_what_is_counted_agrees_with_the_raw_events(client: Client, alice: Account) -> None:
    planned(client, alice, halt_when=HALT | {"sessions_at_least": 1_000_000})
    advance(client)
    rng = random.Random(5)
    for number in range(40):
        version = rng.choice(["1.0.0", "2.0.0"])
        count = rng.randrange(1, 5)
        sessions(client, version, count, rng.randrange(count + 1), prefix=str(number))
    figures = client.get(at("2.0.0") + "/rollout-plan", as_=alice)["figures"]
    raw = {
        (version, kind): count
        for version, kind, count in client.env.telemetry.connection().all(
            "SELECT version, type, count(*) FROM events GROUP BY 1, 2"
        )
    }
    assert raw["2.0.0", "app_start"] == figures["sessions"] > 0
    assert raw["2.0.0", "app_crash"] == figures["crashes"] > 0
    assert raw["1.0.0", "app_start"] == figures["previous"]["sessions"]
    assert raw["1.0.0", "app_crash"] == figures["previous"]["crashes"]


def test_a_device_sees_and_erases_what_was_counted_of_it(client: Client, alice: Account) -> None:
    planned(client, alice, halt_when=HALT)
    advance(client)
    sessions(client, "2.0.0", 3, 1, devices=lambda number: 7)
    device = b"2.0.07".hex().rjust(64, "0")
    [day] = client.get(f"/v1/telemetry/devices/{device}").expect(200)["days"]
    assert (day["app_id"], day["app_version"], day["starts"], day["crashes"]) == (
        NOTES,
        "2.0.0",
        3,
        1,
    )
    client.delete(f"/v1/telemetry/devices/{device}").expect(204)
    assert client.get(f"/v1/telemetry/devices/{device}").expect(200)["days"] == []


def test_what_was_counted_goes_when_the_watch_is_over(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    from mosis.telemetry import retention

    planned(client, alice, halt_when=HALT)
    advance(client)
    sessions(client, "2.0.0", 5, 1)
    for _ in STEPS:
        later(client, alice, clock, 72 * HOUR)
        advance(client)
    assert share(client, alice) == ("published", 100)
    later(client, alice, clock, rollout_plans.WATCHED_SECONDS)
    advance(client)
    advance(client)
    telemetry = client.env.telemetry.connection()
    retention.prune(client.env)
    assert telemetry.value("SELECT count(*) FROM watched_days") == 0
    assert telemetry.value("SELECT count(*) FROM watches") == 0
    assert client.get(at("2.0.0"), as_=alice)["rollout_plan"]["state"] == "finished"


def test_no_job_is_queued_without_a_plan(client: Client, alice: Account) -> None:
    db = client.env.db.connection()

    def queued() -> int:
        rollout_plans.queue(client.env)
        return int(db.value("SELECT count(*) FROM jobs WHERE kind = 'advance_rollouts'"))

    client.published(alice, NOTES)
    assert queued() == 0
    approved(client, alice, "2.0.0", 2)
    client.call("PUT", at("2.0.0") + "/rollout-plan", {"steps": STEPS}, as_=alice).expect(200)
    assert queued() == 0
    client.post(at("2.0.0") + "/publish", as_=alice).expect(200)
    assert queued() == 1
    assert queued() == 1, "once a minute, for all callers"


def _advance_in_a_process(config: Config, now: float, begin: Any) -> None:
    env = make_context(config, Clock(lambda: now), CHEAP)
    begin.wait(60)
    for _ in range(3):
        rollout_health.advance(env)
    env.close()


def test_two_processes_take_each_step_once(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    planned(client, alice, halt_when=HALT)
    spawn = multiprocessing.get_context("fork")
    for _ in range(2):
        later(client, alice, clock, 72 * HOUR)
        begin = spawn.Barrier(2)
        both = [
            spawn.Process(target=_advance_in_a_process, args=(client.env.config, clock.at, begin))
            for _ in range(2)
        ]
        for each in both:
            each.start()
        for each in both:
            each.join(60)
            assert each.exitcode == 0
    lines = client.get("/v1/auth/me/audit?limit=100", as_=alice)["entries"]
    steps = [line["details"]["step"] for line in lines if line["action"] == "version.rollout_step"]
    assert steps == [3, 2]
