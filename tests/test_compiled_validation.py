"""The compiled checks and Cerberus say the same about the same document."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mosis.telemetry.schemas import BATCH, CRASH, EVENT, TYPES, event_fits
from mosis.validation import Schema, findings
from mosis.validation.fast_path import compiled
from tests import described
from tests.campaign import short_and_full

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    1e300,
    -1e300,
    float("nan"),
    "",
    "x",
    "x" * 65,
    "x" * 200,
    "x" * 501,
    "a\nb",
    "1.0.0\n",
    "٣",
    [],
    {},
    [1],
    [[]],
    {"x": {}},
    {"a": 1},
    {"": 1},
    {"k" * 65: 1},
    ["x"] * 101,
    {str(number): number for number in range(33)},
    "2026-01-31T12:00:00Z",
    "2026-01-31T12:00:00Z\n",
    "2026-01-31 12:00:00",
    "a" * 64,
    "a" * 64 + "\n",
    "g" * 64,
    "A" * 64,
]


def cerberus_says(document: Any, schema: Schema) -> bool:
    return not findings(document, schema)


def good(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A batch, an event and a crash that fit."""
    stamp = f"2026-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}T1{rng.randint(0, 9)}:00:00{rng.choice(['', '.5', '.123456789'])}Z"
    data = {"ms": rng.random() * 100, "name": "home", "ok": True, "nothing": None}
    event = {"type": rng.choice(sorted(TYPES)), "timestamp": stamp, "data": data}
    device_id = f"{rng.getrandbits(256):064x}"
    sender = {
        "app_id": "com.acme.notes",
        "app_version": "1.0.0",
        "mosis_version": "2.1",
        "device_id": device_id,
    }
    batch = sender | {"session_id": "s", "batch_id": "b", "events": [event] * rng.randint(1, 100)}
    report = {"type": "LuaError", "message": "m\nn", "stack_trace": "t", "context": dict(data)}
    return batch, event, sender | {"timestamp": stamp, "crash": report}


def spoil(rng: random.Random, value: Any) -> Any:
    """The same with something else somewhere: a value, a field too much or too few."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(sorted(value))
        changed = dict(value)
        fate = rng.random()
        if fate < 0.15:
            del changed[name]
        elif fate < 0.25:
            changed[rng.choice(["extra", "", "k" * 65])] = rng.choice(ODD)
        else:
            changed[name] = spoil(rng, changed[name])
        return changed
    return rng.choice(ODD)


@pytest.mark.parametrize(
    ("number", "schema", "fits"),
    [(0, BATCH, compiled(BATCH)), (1, EVENT, event_fits), (2, CRASH, compiled(CRASH))],
)
@pytest.mark.parametrize("count", short_and_full(500, 100_000))
def test_both_engines_agree_on_random_documents(
    number: int, schema: Schema, fits: Any, count: int
) -> None:
    rng, verdicts = random.Random(number), {True: 0, False: 0}
    for _ in range(count):
        document = good(rng)[number]
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            document = spoil(rng, document)
        if not isinstance(document, dict):
            assert not fits(document)
            continue
        verdict = cerberus_says(document, schema)
        assert fits(document) == verdict, document
        verdicts[verdict] += 1
    assert min(verdicts.values()) > count // 10, verdicts  # both are really asked


def test_lists_and_lone_bounds_are_compiled_too() -> None:
    schema: Schema = {
        "tags": {"type": "list", "maxlength": 2, "schema": {"type": "string", "regex": "[a-z]+"}},
        "size": {
            "type": ["integer", "string"],
            "min": 3,
            "nullable": True,
            "minlength": 2,
            "regex": "b+",
        },
    }
    fits = compiled(schema)
    documents: list[dict[str, Any]] = [
        {},
        {"tags": ["a", "b"]},
        {"tags": ["a", "b", "c"]},
        {"tags": ["A"]},
        {"tags": [1]},
        {"tags": None},
        {"size": 3},
        {"size": 2},
        {"size": True},
        {"size": None},
        {"size": "bb"},
        {"size": "b"},
        {"size": "cc"},
        {"size": 3.5},
        {"other": 1},
    ]
    assert [fits(each) for each in documents] == [cerberus_says(each, schema) for each in documents]
    with pytest.raises(ValueError, match="dependencies"):
        compiled({"a": {"type": "string", "dependencies": "b"}})


# every body that the portal takes, near the edges of its schema

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda more: (
        st.lists(more, max_size=3) | st.dictionaries(st.text(max_size=12), more, max_size=3)
    ),
    max_leaves=6,
)


def near(rules: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit these rules, or nearly do."""
    found = [ANYTHING]
    names = [rules["type"]] if isinstance(rules["type"], str) else rules["type"]
    edges = sorted(
        {
            max(0, rules.get(name, 0) + more)
            for name in ("minlength", "maxlength")
            for more in (-1, 0, 1)
        }
    )
    if "string" in names:
        found += [
            st.sampled_from(
                [letter * edge for letter in "a0é" for edge in edges] + ["a\n", "\x00", "٣"]
            )
        ]
        found += [st.sampled_from(rules["allowed"])] if "allowed" in rules else []
        texts = st.from_regex(rules["regex"]) if "regex" in rules else st.nothing()
        found += [texts, texts.map(lambda text: text + "\n")]
    if {"number", "integer"} & set(names):
        bounds = [
            rules[name] + more for name in ("min", "max") if name in rules for more in (-1, 0, 1)
        ]
        found += [st.sampled_from([*bounds, *map(float, bounds), True, -0.0, 10**40])]
    item = near(rules["schema"]) if "list" in names and "schema" in rules else ANYTHING
    if "list" in names:
        found += [
            st.lists(item, max_size=4),
            st.tuples(item, st.sampled_from(edges)).map(lambda pair: [pair[0]] * pair[1]),
        ]
    if "dict" in names and "schema" in rules:
        found += [nearly(rules["schema"])]
    elif "dict" in names:
        pairs = [near(rules[name]).filter(kind) if name in rules else otherwise for name, kind, otherwise in (
            ("keysrules", lambda key: isinstance(key, str), st.text(max_size=5)), ("valuesrules", lambda value: True, ANYTHING),
        )]  # fmt: skip
        found += [st.dictionaries(*pairs, max_size=4)]
        found += [
            pairs[1].map(lambda value, size=size: {f"k{number}": value for number in range(size)})
            for size in edges
        ]
    return st.one_of(found)


def nearly(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    """Documents of which each field is there or not, fits or nearly does; now and then one more."""
    known = st.fixed_dictionaries(
        {}, optional={name: near(rules) for name, rules in schema.items()}
    )
    whole = st.fixed_dictionaries(
        {name: near(rules) for name, rules in schema.items() if rules.get("required")}
    )
    return st.tuples(
        whole | known,
        known,
        st.just({}) | st.dictionaries(st.text(max_size=3), ANYTHING, max_size=1),
    ).map(lambda parts: parts[1] | parts[0] | parts[2])


def bodies() -> dict[str, Schema]:
    """The schema of every call that takes JSON."""
    body = {
        f"{route.method} {route.rule}": route.callback.operation.body for route in described.calls()
    }
    return {call: schema for call, schema in body.items() if isinstance(schema, dict)} | {
        "event": EVENT,
        "batch": BATCH,
    }


@pytest.mark.parametrize("call", sorted(bodies()))
def test_both_engines_agree_on_what_nearly_fits(call: str) -> None:
    schema = bodies()[call]
    fits = compiled(schema)

    @settings(
        suppress_health_check=list(HealthCheck),
        # many schemas have the same kinds of fields
        max_examples=settings.default.max_examples // 5,
    )
    @given(nearly(schema))
    def agree(document: dict[str, Any]) -> None:
        assert fits(document) == cerberus_says(document, schema)

    agree()
