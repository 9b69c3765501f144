"""Sums: exact counts, honest estimates, each batch once."""

import json
import random
from collections import Counter

import pytest

from mosis.context import Context
from mosis.telemetry import histogram, rollups
from mosis.telemetry.hyperloglog import HyperLogLog


def devices(rng: random.Random, number: int) -> list[bytes]:
    return [rng.randbytes(8) for _ in range(number)]


@pytest.mark.parametrize(
    ("size", "error"),
    [(0, 0), (1, 0), (10, 0.0), (100, 0.03), (900, 0.04), (5_000, 0.06), (100_000, 0.06)],
)
def test_a_sketch_knows_how_many_devices_it_saw(size: int, error: float) -> None:
    rng = random.Random(size)
    sketch = HyperLogLog()
    for device in devices(rng, size) * 2:
        sketch.add(device)
    assert abs(sketch.estimate() - size) <= error * size
    assert HyperLogLog(sketch.stored()).stored() == sketch.stored()
    assert HyperLogLog(sketch.stored()).estimate() == sketch.estimate()
    assert len(sketch.stored()) <= min(3 * size + 1, 3200)


@pytest.mark.parametrize(
    ("left", "right"), [(50, 60), (50, 5000), (5000, 50), (5000, 6000), (900, 900)]
)
def test_united_sketches_are_the_sketch_of_all(left: int, right: int) -> None:
    rng = random.Random(left)
    both, one, other = HyperLogLog(), HyperLogLog(), HyperLogLog()
    for device in devices(rng, left):
        both.add(device)
        one.add(device)
    for device in devices(rng, right):
        both.add(device)
        other.add(device)
    one.unite(other)
    assert one.stored() == both.stored()


def test_percentiles_are_within_their_width_and_add_up() -> None:
    rng = random.Random(7)
    values = [rng.lognormvariate(2.8, 0.6) for _ in range(20_000)] + [0.0, 1e9]
    halves = [Counter(map(histogram.bucket, values[part::2])) for part in (0, 1)]
    counts = histogram.load(histogram.dump(halves[0] + halves[1]))
    assert counts == Counter(map(histogram.bucket, values))
    for share in (0.5, 0.95):
        true = sorted(values)[int(len(values) * share)]
        assert histogram.percentile(counts, share) == pytest.approx(true, rel=0.046)
    assert histogram.percentile({}, 0.5) is None


def test_batches_are_added_once_and_can_be_counted_again(env: Context) -> None:
    db, rng = env.telemetry.connection(), random.Random(3)
    with db.write():
        app = db.insert("apps", app_id="x")
        source = db.insert("sources", app=app, version="1.0.0", mosis_version="2")
        for _ in range(rollups.SLICE + 7):
            events = [
                [rng.choice([1, 2, 3, 5]), rng.randrange(10**6), {"frame_ms": rng.random() * 40}]
                for _ in range(5)
            ]
            row = {
                "source": source,
                "device": rng.randbytes(8),
                "session": b"s",
                "received_at": 10**6,
            }
            db.insert("batches", **row, events=json.dumps(events))
    assert rollups.catch_up(db)
    before = db.all("SELECT * FROM rollups ORDER BY app, span, version, start")
    assert rollups.catch_up(db)
    assert db.all("SELECT * FROM rollups ORDER BY app, span, version, start") == before
    for span in ("hour", "day"):
        for version in ("1.0.0", "*"):
            total = db.value(
                "SELECT sum(events) FROM rollups WHERE span = ? AND version = ?", span, version
            )
            assert total == 5 * (rollups.SLICE + 7)
    assert rollups.recount(db) == 0
    with db.write():
        db.change("UPDATE rollups SET starts = starts + 1 WHERE span = 'day'")
        db.change(
            "DELETE FROM rollups WHERE span = 'hour' AND start = (SELECT min(start) FROM rollups)"
        )
        db.change(
            "INSERT INTO rollups (app, span, version, start, events) VALUES (?, 'hour', '9', 0, 4)",
            app,
        )
    assert (
        rollups.recount(db) == db.value("SELECT count(*) FROM rollups WHERE span = 'day'") + 2 + 1
    )
    with db.write():
        db.change("DELETE FROM rollups WHERE version = '9'")
    assert db.all("SELECT * FROM rollups ORDER BY app, span, version, start") == before


def test_batches_that_speak_of_many_hours_come_in_smaller_slices(env: Context) -> None:
    """The lock is held for each hour that is written; a stranger can put a hundred of them into a batch."""
    db = env.telemetry.connection()
    with db.write():
        source = db.insert(
            "sources", app=db.insert("apps", app_id="x"), version="1.0.0", mosis_version="2"
        )
        for number in range(10):
            events = json.dumps([[1, (100 * number + hour) * 3600] for hour in range(100)])
            db.insert(
                "batches",
                source=source,
                device=bytes(8),
                session=b"s",
                received_at=1,
                events=events,
            )
    slices = []
    rollups.catch_up(db, pause=lambda: slices.append(rollups.summed(db)))
    assert slices == [3, 6, 9]
    assert db.value("SELECT sum(starts) FROM rollups WHERE span = 'hour' AND version = '*'") == 1000
    assert rollups.recount(db) == 0
