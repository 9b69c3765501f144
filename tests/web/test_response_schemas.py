"""Objects of responses, made from their schema and a record."""

from types import SimpleNamespace

import pytest

from mosis.web.schemas import one_of, shape, shown

THING = shape("Thing", "id:str size:int on:bool tags[] facts:dict? at? kind", kind=one_of("a"))


def test_fields_have_the_type_of_their_word_or_their_name() -> None:
    text, moment = {"type": "string"}, {"type": "string", "format": "date-time"}
    made = shape("Thing", "id app_id? package_id made_at[]? kinds[]", kinds=one_of("a"))
    assert made == {
        "type": "object",
        "title": "Thing",
        "required": ["id", "app_id", "package_id", "made_at", "kinds"],
        "properties": {
            "id": text | {"format": "uuid"},
            "app_id": {"type": ["string", "null"], "format": "uuid"},
            "package_id": text,
            "made_at": {"type": ["array", "null"], "items": moment},
            "kinds": {"type": "array", "items": text | {"enum": ["a"]}},
        },
    }


@pytest.mark.parametrize(("fields", "types"), [("a-b", {}), ("a?[]", {}), ("a", {"b": str})])
def test_a_field_that_cannot_be_read_is_refused(fields: str, types: dict[str, type]) -> None:
    with pytest.raises(AssertionError):
        shape("", fields, **types)


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
