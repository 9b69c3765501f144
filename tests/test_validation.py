"""Validation: every finding at once, and no more work than findings."""

import ast
import time

import pytest

import portal
from mosis.errors import Invalid
from mosis.validation import MOST_FINDINGS, check


def test_every_finding_comes_at_once_with_its_pointer() -> None:
    schema = {
        "name": {"type": "string", "required": True},
        "count": {"type": "integer", "min": 1},
        "tags": {"type": "list", "schema": {"type": "string", "maxlength": 3}},
        "author": {"type": "dict", "schema": {"email": {"type": "string", "required": True}}},
    }
    with pytest.raises(Invalid) as wrong:
        check({"count": True, "tags": ["ok", "long", 5], "author": {}, "a/b~c": 1}, schema)
    assert [(each["pointer"], each["code"]) for each in wrong.value.errors] == [
        ("/author/email", "required"), ("/a~1b~0c", "unknown_field"), ("/count", "wrong_type"), ("/name", "required"),
        ("/tags/1", "too_long"), ("/tags/2", "wrong_type"),
    ]  # fmt: skip
    assert all(each["detail"] for each in wrong.value.errors)


@pytest.mark.parametrize("rules", [
    {"type": "dict", "valuesrules": {"type": "integer"}}, {"type": "list", "schema": {"type": "integer"}},
    {"type": "dict", "keysrules": {"type": "string", "maxlength": 1}}, {"type": "dict", "schema": {"b": {"type": "string"}}},
])  # fmt: skip
def test_findings_beyond_what_anybody_reads_cost_nothing(rules: dict[str, object]) -> None:
    """A request of a mebibyte can be wrong in so many places; Cerberus alone would take minutes to say so."""
    schema = {"a": rules}
    wrong: dict[str, object] = {f"wrong{number}": "" for number in range(50_000)}
    for document in ({"a": list(wrong) if rules["type"] == "list" else wrong}, wrong):
        begun = time.process_time()
        with pytest.raises(Invalid) as refused:
            check(document, schema)
        assert len(refused.value.errors) == MOST_FINDINGS
        assert time.process_time() - begun < 5
    assert check({}, schema) == {}


def test_what_is_too_long_is_not_looked_into() -> None:
    for kind, value in (("list", ["x"] * 11), ("dict", {f"{number}": "x" for number in range(11)})):
        rules = {
            "type": kind,
            "schema" if kind == "list" else "valuesrules": {"type": "integer"},
            "maxlength": 10,
        }
        with pytest.raises(Invalid) as refused:
            check({"a": value}, {"a": rules})
        assert [each["code"] for each in refused.value.errors] == ["too_long"]


def test_schemas_are_constants() -> None:
    """`check` compiles a schema once and keeps it: one made in each request would be kept for ever."""
    made = []
    for path in sorted((portal.HERE / "mosis").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            if isinstance(call.func, ast.Attribute) and call.func.attr == "checked":
                schemas = call.args[:1]
            elif isinstance(call.func, ast.Name) and call.func.id == "check":
                schemas = call.args[1:2]
            else:
                continue
            if any(isinstance(each, ast.Dict | ast.BinOp | ast.DictComp) for each in schemas):
                made.append(f"{path.name}:{call.lineno}")
    assert made == []
