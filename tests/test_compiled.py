"""The compiled checks and Cerberus say the same about the same document."""

import random
from typing import Any

import pytest

from mosis.compiled import compiled
from mosis.errors import Invalid
from mosis.telemetry.schemas import BATCH, CRASH, EVENT, TYPES, batch_fits, crash_fits, event_fits
from mosis.validation import Schema, check

DOCUMENTS = 10_000
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 1e300, -1e300, float("nan"), "", "x", "x" * 65, "x" * 200, "x" * 501, "a\nb", "1.0.0\n", "٣",
    [], {},
    [1], [[]], {"x": {}}, {"a": 1}, {"": 1}, {"k" * 65: 1}, ["x"] * 101, {str(number): number for number in range(33)},
    "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z\n", "2026-01-31 12:00:00", "a" * 64, "a" * 64 + "\n", "g" * 64, "A" * 64,
]


def cerberus_says(document: Any, schema: Schema) -> bool:
    try:
        check(document, schema)
    except Invalid:
        return False
    return True


def good(dice: random.Random) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A batch, an event and a crash that fit."""
    stamp = f"2026-0{dice.randint(1, 9)}-1{dice.randint(0, 9)}T1{dice.randint(0, 9)}:00:00{dice.choice(['', '.5', '.123456789'])}Z"
    data = {"ms": dice.random() * 100, "name": "home", "ok": True, "nothing": None}
    event = {"type": dice.choice(sorted(TYPES)), "timestamp": stamp, "data": data}
    device_id = f"{dice.getrandbits(256):064x}"
    sender = {"app_id": "com.acme.notes", "app_version": "1.0.0", "mosis_version": "2.1", "device_id": device_id}
    batch = sender | {"session_id": "s", "batch_id": "b", "events": [event] * dice.randint(1, 100)}
    report = {"type": "LuaError", "message": "m\nn", "stack_trace": "t", "context": dict(data)}
    return batch, event, sender | {"timestamp": stamp, "crash": report}


def spoil(dice: random.Random, value: Any) -> Any:
    """The same with something else somewhere: a value, a field too much or too few."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        name = dice.choice(sorted(value))
        changed = dict(value)
        fate = dice.random()
        if fate < 0.15:
            del changed[name]
        elif fate < 0.25:
            changed[dice.choice(["extra", "", "k" * 65])] = dice.choice(ODD)
        else:
            changed[name] = spoil(dice, changed[name])
        return changed
    return dice.choice(ODD)


@pytest.mark.parametrize(("number", "schema", "fits"), [(0, BATCH, batch_fits), (1, EVENT, event_fits), (2, CRASH, crash_fits)])
def test_both_engines_agree_on_10_000_random_documents(number: int, schema: Schema, fits: Any) -> None:
    dice, verdicts = random.Random(number), {True: 0, False: 0}
    for _ in range(DOCUMENTS):
        document = good(dice)[number]
        for _ in range(dice.choice([0, 1, 1, 1, 2])):
            document = spoil(dice, document)
        if not isinstance(document, dict):
            assert not fits(document)
            continue
        verdict = cerberus_says(document, schema)
        assert fits(document) == verdict, document
        verdicts[verdict] += 1
    assert min(verdicts.values()) > 1000, verdicts  # both are really asked


def test_lists_and_lone_bounds_are_compiled_too() -> None:
    schema: Schema = {
        "tags": {"type": "list", "maxlength": 2, "schema": {"type": "string", "regex": "[a-z]+"}},
        "size": {"type": ["integer", "string"], "min": 3, "nullable": True, "minlength": 2, "regex": "b+"},
    }
    fits = compiled(schema)
    documents: list[dict[str, Any]] = [
        {}, {"tags": ["a", "b"]}, {"tags": ["a", "b", "c"]}, {"tags": ["A"]}, {"tags": [1]}, {"tags": None},
        {"size": 3}, {"size": 2},
        {"size": True}, {"size": None}, {"size": "bb"}, {"size": "b"}, {"size": "cc"}, {"size": 3.5}, {"other": 1},
    ]
    assert [fits(each) for each in documents] == [cerberus_says(each, schema) for each in documents]
    with pytest.raises(ValueError, match="dependencies"):
        compiled({"a": {"type": "string", "dependencies": "b"}})
