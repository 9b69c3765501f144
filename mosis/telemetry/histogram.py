"""Histograms from which percentiles are computed. Buckets are 9 % wide (eight per doubling, from
0.1 on), so that a percentile is within 4.5 % of the exact one, and adding the histograms of hours
to that of a month introduces no further error."""

import json
import math
from collections import Counter
from collections.abc import Mapping

PER_DOUBLING = 8
SMALLEST = 0.1
LAST_BUCKET = 24 * PER_DOUBLING  # 28 minutes, or 1.6 million megabytes


def bucket(value: float) -> int:
    """The bucket of a value in milliseconds or megabytes."""
    if value <= SMALLEST:
        return 0
    return min(int(math.log2(value / SMALLEST) * PER_DOUBLING) + 1, LAST_BUCKET)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The value below which this share of all values lies; None if there are none."""
    total = sum(counts.values())
    if not total:
        return None
    wanted, seen = math.ceil(total * share), 0
    for each in sorted(counts):
        seen += counts[each]
        if seen >= wanted:
            return round(SMALLEST * 2 ** ((each - 0.5) / PER_DOUBLING), 2) if each else SMALLEST
    raise AssertionError


def load(text: str) -> Counter[int]:
    """The counts, from their stored form."""
    return Counter({int(each): count for each, count in json.loads(text).items()})


def dump(counts: Mapping[int, int]) -> str:
    """The stored form; equal counts give equal texts."""
    return json.dumps({str(each): counts[each] for each in sorted(counts)}, separators=(",", ":"))
