"""Token buckets; that a portal applies them is tested in tests/web/test_limits.py."""

from mosis.rate_limits import MOST_KEYS, TokenBuckets


def test_buckets_refill() -> None:
    now = [0.0]
    buckets = TokenBuckets(per_second=2, burst=3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0
    now[0] = 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]


def test_the_longest_unused_are_forgotten() -> None:
    buckets = TokenBuckets(per_second=1, burst=1, clock=lambda: 0.0)
    assert [buckets.take("a"), buckets.take("a")] == [0, 1]
    for number in range(MOST_KEYS - 1):
        buckets.take(str(number))
    assert buckets.take("a") == 1  # it is there, and is now the one that was used last
    for number in range(MOST_KEYS):
        buckets.take(f"more {number}")
    assert buckets.take("a") == 0


def test_a_full_bucket_takes_no_memory() -> None:
    now = [0.0]
    buckets = TokenBuckets(per_second=2, burst=3, clock=lambda: now[0])
    for number in range(100):
        buckets.take(str(number))
    now[0] = 1.49
    assert buckets.take("a", 3) == 0
    assert len(buckets) == 101
    for later in range(60):
        now[0] = 1.5 + later / 100
        buckets.take("b")
    assert len(buckets) == 2
    assert buckets.take("a", 3) > 0  # it was not full
