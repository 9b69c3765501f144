"""How often a test repeats itself: a few times in the suite, many times in a campaign (`make campaigns`)."""

import os
import random
from typing import Any

import pytest


def short_and_full(short: Any, full: Any) -> list[Any]:
    """Two values of a parameter: the one of the suite, and the one of the campaign."""
    return [
        pytest.param(short, id="short"),
        pytest.param(full, id="full", marks=pytest.mark.campaign),
    ]


def seeded() -> tuple[random.Random, int]:
    """A generator of random numbers, and its seed for the message of a failure: 1, or what SEED says;
    with SEED=random another one in each run."""
    wanted = os.environ.get("SEED", "1")
    seed = random.randrange(1 << 32) if wanted == "random" else int(wanted)
    print(f"SEED={seed}")
    return random.Random(seed), seed
