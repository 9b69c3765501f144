"""JSON as strictly as it is read."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosis.errors import Malformed
from mosis.validation.strict_json import load_json


@pytest.mark.parametrize("body", [
    b"", b"{", b"{}x", b'{"a": 1, "a": 2}', b'{"a": {"b": 1, "b": 1}}', b"NaN", b"[Infinity]", b"[-Infinity]", b"1e400", b"\xff",
    b"\xef\xbb\xbf{}",
    b'"\\ud800"', b"[" * 33 + b"]" * 33, b'{"a":' * 33 + b"1" + b"}" * 33, b"1" * 65, b"[1,]", b"{'a': 1}", b'"\n"', b"[" * 100_000,
])  # fmt: skip
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        load_json(body)
    assert refused.value.code == "malformed_json"


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
))  # fmt: skip
def test_what_others_write_is_read(value: object) -> None:
    assert load_json(json.dumps(value).encode()) == value
    assert load_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_value_or_our_error(body: bytes) -> None:
    with contextlib.suppress(Malformed):
        load_json(body)


def test_brackets_inside_texts_are_no_depth() -> None:
    assert load_json(json.dumps(["[" * 100 + '\\"']).encode()) == ["[" * 100 + '\\"']
