"""Objects of responses, made from their schema and a record."""

from types import SimpleNamespace

import pytest

from mosis.web.schemas import TIME, many, nullable, one_of, shape, shown

THING = shape(
    "Thing",
    id=str,
    size=int,
    on=bool,
    tags=many(str),
    facts=nullable(dict),
    at=nullable(TIME),
    kind=one_of("a"),
)


def test_stored_values_become_those_of_the_schema() -> None:
    record = SimpleNamespace(id="1", size=0, on=0, tags='["a"]', facts='{"b": 1}', at=60, kind="a")
    assert shown(THING, record) == {
        "id": "1",
        "size": 0,
        "on": False,
        "tags": ["a"],
        "facts": {"b": 1},
        "at": "1970-01-01T00:01:00Z",
        "kind": "a",
    }
    record = SimpleNamespace(id="1", size=2, on=True, tags=["x"], facts=None, at=None, kind="a")
    assert shown(THING, record) == vars(record)


def test_what_is_given_goes_before_the_record_and_a_field_without_value_fails() -> None:
    record = SimpleNamespace(id="1", size=2, on=1, tags="[]", facts=None, kind="a")
    assert shown(THING, record, at="now", tags=None)["tags"] is None
    with pytest.raises(AttributeError):
        shown(THING, record)
