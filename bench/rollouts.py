"""Simulated fleets and rollout plans: are bad versions halted early, and good ones hardly ever?

    python -m bench.rollouts --runs 1000            the decision on simulated counts
    python -m bench.rollouts --real 20              fewer, against the real portal, see bench/rollouts_real.py

A fleet has 10,000 devices. They differ in how often they are used (log-normal) and in how often they crash (gamma); one in a
thousand crashes at every third start. A device takes an update hours after it is offered. A tenth of what devices send arrives up
to two days late, batches come twice, the portal is now and then off for hours, and its clock jumps ahead and back. Halted is
decided by mosis/publishing/halting.py, from what the portal would have counted. --plant looks at a plain test of 1 % every hour
instead: good versions must then be halted, or the campaign itself is broken.
"""

import argparse
import json
import random
import sys
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Any

from mosis.publishing import halting
from mosis.publishing.halting import Condition, Counts

DEVICES = 10_000
# Percent of the devices, hours after the publication: what docs/API.md shows.
PLAN = ((1, 0), (5, 24), (20, 120), (100, 168))
STEPS = {hours for _, hours in PLAN}
HOURS = 168 + 48
RATES = (0.005, 0.01, 0.02, 0.05)  # crashes a session of the version before
FACTORS = {1.0: 1.0, 2.0: 1.0, 3.0: 0.1, 10.0: 0.1}  # of the new one, and the share of the runs
SESSIONS_A_DAY = 8.0  # of a device, on average
UPDATE_HOURS = 6.0  # from the offer to the update, on average
LATE_SHARE, LATE_HOURS = 0.1, 48
LATE_AT_MOST = 0.02
DOWN_SHARE, DOWN_HOURS = (
    0.01,
    8,
)  # each hour the portal goes off, or its clock is wrong, for up to so long
BROKEN_SHARE, BROKEN_RATE = 0.001, 1 / 3  # devices that crash all the time, with any version


@dataclass(frozen=True)
class Fleet:
    """Devices in the order in which they update. The sums up to each device make drawing one fast."""

    updated_at: list[float]  # hours after the publication
    sessions: list[float]  # an hour
    sessions_to: list[float]
    crashes_to: list[float]  # an hour, as a multiple of the version's rate of crashes
    broken_to: list[float]


@dataclass(frozen=True)
class Result:
    """What became of a version."""

    halted_after_hours: int | None
    updated_share: float  # of the devices, when it was halted or in the end
    looks: int


def fleet(rng: random.Random) -> Fleet:
    """Devices with habits of their own."""
    found = []
    for number in range(DEVICES):
        place = (number + rng.random()) / DEVICES * 100
        offered = next(hours for percent, hours in PLAN if place < percent or percent == 100)
        rate = SESSIONS_A_DAY / 24 * rng.lognormvariate(-0.32, 0.8)  # the mean stays
        updated = offered + rng.expovariate(1 / UPDATE_HOURS)
        broken = rng.random() < BROKEN_SHARE
        found.append((updated, rate, rate * rng.gammavariate(2, 0.5), rate * broken))
    found.sort()
    updated_at, sessions, crashes, broken_rates = (list(each) for each in zip(*found, strict=True))
    sums = [list(accumulate(each)) for each in (sessions, crashes, broken_rates)]
    return Fleet(updated_at, sessions, *sums)


class Portal:
    """What the portal has counted of the version before (0) and the new one (1)."""

    def __init__(self) -> None:
        self.sessions = [0, 0]
        self.crashes = [Counter[tuple[int, int]](), Counter[tuple[int, int]]()]  # device, day

    def counts(self, fleet: Fleet, is_new: int, hour: int) -> Counts:
        """As mosis/telemetry/watches.py counts them. How many sessions a device had is taken from its
        habits."""
        own = [
            rate * (max(0.0, hour - at) if is_new else min(hour, at))
            for rate, at in zip(fleet.sessions, fleet.updated_at, strict=True)
        ]
        devices, crashed = sum(each > 0 for each in own), Counter[int]()
        bounded = float(self.sessions[is_new])
        for (device, _), crashes in self.crashes[is_new].items():
            crashed[device] += min(crashes, halting.CRASHES_A_DAY)
            if crashes > halting.CRASHES_A_DAY:
                sessions = max(crashes, fleet.sessions[device] * 24)
                less = sessions - halting.bounded_sessions(sessions, crashes)
                own[device], bounded = own[device] - less, bounded - less
        total = crashed.total()
        effect = halting.design_effect(
            bounded,
            total,
            sum(count * count for count in crashed.values()),
            sum(count * max(count, own[each]) for each, count in crashed.items()),
            sum(each * each + abs(each) for each in own),
        )
        return Counts(
            "2.0.0" if is_new else "1.0.0",
            self.sessions[is_new],
            min(self.sessions[is_new], self.crashes[is_new].total()),
            devices,
            len(crashed),
            bounded,
            total,
            effect,
        )


def poisson(rng: random.Random, mean: float) -> int:
    """A number of events: by waiting times where there are few, else by the normal distribution."""
    if mean > 50:
        return max(0, round(rng.gauss(mean, mean**0.5)))
    count, waited = 0, rng.expovariate(1.0)
    while waited < mean:
        count += 1
        waited += rng.expovariate(1.0)
    return count


def run(rng: random.Random, base: float, factor: float, *, plant: bool = False) -> Result:
    """A rollout of a version that crashes `factor` times as often as the one before, which crashes in
    the share `base` of its sessions."""
    devices, portal = fleet(rng), Portal()
    # The bound is what the version before has: the hardest one for a good version.
    whole = devices.crashes_to[-1] * base + devices.broken_to[-1] * BROKEN_RATE
    condition = Condition(crash_free_below=1 - whole / devices.sessions_to[-1])
    arriving: dict[int, list[tuple[int, int, list[tuple[int, int]]]]] = {}
    looks, next_look, off_until = 0, 0, 0
    for hour in range(HOURS):
        updated = bisect_left(devices.updated_at, hour)
        for is_new, first, last, rate in (
            (1, 0, updated, base * factor),
            (0, updated, DEVICES, base),
        ):
            _send(rng, devices, arriving, hour, is_new, first, last, rate)
        if rng.random() < DOWN_SHARE:
            off_until = hour + rng.randrange(1, DOWN_HOURS)
        if hour < off_until:  # devices try again, so it all comes later
            arriving.setdefault(hour + 1, []).extend(arriving.pop(hour, []))
            continue
        for is_new, sessions, crashes in arriving.pop(hour, ()):
            portal.sessions[is_new] += sessions
            portal.crashes[is_new].update(crashes)
        if plant:
            if _looks_bad(portal, condition):
                return Result(hour, updated / DEVICES, looks)
            continue
        counted = Counts(sessions=portal.sessions[1])
        if not halting.is_due(condition, counted, next_look, before_step=hour in STEPS):
            continue
        new, before = (portal.counts(devices, is_new, hour) for is_new in (1, 0))
        verdict = halting.judge(condition, looks, new, before)
        looks, next_look = looks + 1, verdict.next_look
        if verdict.halt:
            return Result(hour, updated / DEVICES, looks)
    return Result(None, bisect_left(devices.updated_at, HOURS) / DEVICES, looks)


def _looks_bad(portal: Portal, condition: Condition) -> bool:
    """The planted fault: a test of 1 % every hour, that takes all sessions for independent."""
    if portal.sessions[1] < condition.sessions_at_least:
        return False
    numbers = [
        (min(portal.sessions[each], portal.crashes[each].total()), portal.sessions[each])
        for each in (1, 0)
    ]
    return halting.fisher(*numbers[0], *numbers[1]) < halting.ERROR_RATE


def _send(
    rng: random.Random,
    devices: Fleet,
    arriving: dict[int, list[tuple[int, int, list[tuple[int, int]]]]],
    hour: int,
    is_new: int,
    first: int,
    last: int,
    rate: float,
) -> None:
    """What the devices from `first` to `last` send in an hour: in time, and late."""
    if first == last:
        return
    for share in (1 - LATE_SHARE, *[LATE_SHARE / 3] * 3):
        sums = []
        crashes: list[tuple[int, int]] = []
        for to, each in ((devices.crashes_to, rate), (devices.broken_to, BROKEN_RATE)):
            low, high = (to[first - 1] if first else 0.0), to[last - 1]
            sums.append((high - low) * each)
            for _ in range(poisson(rng, (high - low) * each * share)):
                crashes.append((bisect_left(to, rng.uniform(low, high)), hour // 24))
        low = devices.sessions_to[first - 1] if first else 0.0
        mean = (devices.sessions_to[last - 1] - low) * share
        sessions = max(len(crashes), poisson(rng, mean))
        late = 0 if share > 0.5 else rng.randrange(1, LATE_HOURS)
        arriving.setdefault(hour + late, []).append((is_new, sessions, crashes))


def campaign(runs: int, seed: int, *, plant: bool = False) -> dict[str, Any]:
    """So many runs of good versions, and as many of bad ones, over all rates of crashes."""
    rng, rows = random.Random(seed), []
    for base in RATES:
        for factor in (1.0,) if plant else FACTORS:
            number = max(1, round(runs * FACTORS[factor] / len(RATES)))
            found = [run(rng, base, factor, plant=plant) for _ in range(number)]
            halted = [each for each in found if each.halted_after_hours is not None]
            shares = sorted(each.updated_share for each in halted)
            rows.append(
                {
                    "crash_rate": base,
                    "factor": factor,
                    "runs": number,
                    "halted": len(halted),
                    "halted_below_10_percent": sum(share < 0.1 for share in shares),
                    "updated_percent_median": round(median(shares) * 100, 2) if shares else None,
                    "updated_percent_worst": round(shares[-1] * 100, 2) if shares else None,
                    "hours_median": median(each.halted_after_hours or 0 for each in halted)
                    if halted
                    else None,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return {"seed": seed, "rows": rows}


def faults(figures: dict[str, Any]) -> list[str]:
    """What misses the aims: versions of twice the crash rate and more are halted before 10 % of the
    devices have them (all but LATE_AT_MOST), good ones in less than 1 % of the runs."""
    found, good, halted = [], 0, 0
    for row in figures["rows"]:
        if row["factor"] == 1:
            good, halted = good + row["runs"], halted + row["halted"]
        elif (late := row["runs"] - row["halted_below_10_percent"]) > row["runs"] * LATE_AT_MOST:
            name = f"{row['crash_rate']:.1%} of the sessions, {row['factor']:g} times"
            found.append(
                f"{name}: {late} of {row['runs']} bad versions reached 10 % of the devices"
            )
    if halted > max(1, good * 0.01):
        found.append(f"{halted} of {good} good versions were halted")
    return found


def main() -> int:
    given = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    given.add_argument(
        "--runs", type=int, default=0, help="simulated rollouts of good versions, and of bad ones"
    )
    given.add_argument("--real", type=int, default=0, help="rollouts against the real portal")
    given.add_argument("--seed", type=int, default=1)
    given.add_argument("--plant", action="store_true", help="a naive test: must be noticed")
    answer = given.parse_args()
    found: list[str] = []
    if answer.runs or answer.plant or not answer.real:
        found += faults(campaign(answer.runs or 100, answer.seed, plant=answer.plant))
    if answer.real:
        from bench import rollouts_real

        figures = rollouts_real.campaign(answer.real, answer.seed)
        print(json.dumps(figures, indent=1))
        found += figures["faults"]
    for each in found:
        print("FAULT:", each)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
