"""Simulated fleets (bench/rollouts.py): bad versions are halted early, good ones are not, whatever is late, twice or killed."""

import random
from fractions import Fraction
from math import comb

import pytest

from bench import rollouts, rollouts_real
from mosis.publishing import halting
from tests.campaign import short_and_full


@pytest.mark.parametrize("runs", short_and_full(4, 1000))
def test_bad_versions_are_halted_early_and_good_ones_are_not(runs: int) -> None:
    figures = rollouts.campaign(runs, seed=7)
    assert rollouts.faults(figures) == []


def test_the_campaign_notices_a_test_that_is_repeated_without_care() -> None:
    assert rollouts.faults(rollouts.campaign(12, seed=7, plant=True))


@pytest.mark.slow
@pytest.mark.parametrize("trials", short_and_full(2, 20))
def test_the_real_portal_takes_each_step_once_and_counts_what_it_acknowledged(trials: int) -> None:
    figures = rollouts_real.campaign(trials, seed=2)
    assert figures["faults"] == []
    assert figures["kills"] > 0
    assert figures["duplicates"] > 0
    assert figures["halted"] == (trials + 1) // 2


def test_the_exact_test_is_fishers() -> None:
    """Against the definition in whole numbers."""
    rng = random.Random(4)
    assert halting.fisher(3, 4, 1, 4) == pytest.approx(17 / 70)  # the lady tasting tea
    for _ in range(200):
        sessions, others = rng.randrange(1, 300), rng.randrange(1, 900)
        crashes, other_crashes = rng.randrange(sessions + 1), rng.randrange(others + 1)
        if rng.random() < 0.7:
            crashes, other_crashes = crashes // 20, other_crashes // 30
        whole, crashed = sessions + others, crashes + other_crashes
        tail = sum(
            comb(crashed, number) * comb(whole - crashed, sessions - number)
            for number in range(crashes, min(crashed, sessions) + 1)
        )
        wanted = Fraction(tail, comb(whole, sessions))
        found = halting.fisher(crashes, sessions, other_crashes, others)
        assert found == pytest.approx(float(wanted), rel=1e-6)


def test_the_binomial_tail_is_exact() -> None:
    assert halting.binomial(3, 3, 0.5) == pytest.approx(0.125)
    assert halting.binomial(1, 10, 0.1) == pytest.approx(1 - 0.9**10)
    assert halting.binomial(0, 10, 0.1) == pytest.approx(1.0)
    assert (halting.binomial(1, 5, 0.0), halting.binomial(0, 5, 0.0)) == (0.0, 1.0)


def test_the_errors_of_all_tests_add_up_to_less_than_one_percent() -> None:
    condition = halting.Condition(0.99, 20)
    counts = halting.Counts(sessions=100)
    bounds = [halting.judge(condition, look, counts, counts).bound for look in range(10_000)]
    assert 0.0099 < sum(bounds) < halting.ERROR_RATE


def test_the_design_effect_is_one_for_equal_devices_and_large_for_a_broken_one() -> None:
    def effect(devices: list[tuple[int, int]]) -> float:
        return halting.design_effect(
            sum(sessions for sessions, _ in devices),
            sum(crashes for _, crashes in devices),
            sum(crashes**2 for _, crashes in devices),
            sum(sessions * crashes for sessions, crashes in devices),
            sum(sessions**2 for sessions, _ in devices),
        )

    assert effect([(1, 1)] * 5 + [(1, 0)] * 95) == pytest.approx(1.0)
    assert effect([(10, 0)] * 99 + [(100, 100)]) > 30
    assert effect([]) == effect([(5, 0)]) == effect([(5, 5)]) == 1.0
