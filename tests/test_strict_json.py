"""JSON as strictly as it is read."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosis.errors import Malformed
from mosis.validation import strict_json
from mosis.validation.strict_json import DEPTH, load_json


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


@pytest.mark.parametrize("depth", [1, DEPTH, DEPTH + 1, 254, 255, 256, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")]
)
def test_every_depth_is_read_or_refused(depth: int, opening: bytes, closing: bytes) -> None:
    """Also the depths that orjson reads but does not write, and those that it does not read."""
    body = opening * depth + b"1" + closing * depth
    if depth * len(closing) <= DEPTH:
        assert load_json(body) == json.loads(body)
    else:
        with pytest.raises(Malformed, match=f"more than {DEPTH} levels"):
            load_json(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, -0.0, 1e22, 2**53, 2**63, 2**64, 10**15, -1e-300])
    | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
MUTATIONS = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(
        ['"', ":", ",", '"":0,', '"a":1,', "[", "}", "1" * 9, " ", "\\u003a", "e9", "NaN"]
    )),
    max_size=2,
)  # fmt: skip


@given(VALUES, MUTATIONS, st.booleans(), st.sampled_from([None, 1]))
def test_the_quick_way_and_the_exact_one_read_the_same(
    value: object, mutations: list[tuple[int, str]], ascii_only: bool, indent: int | None
) -> None:
    """What orjson may read is what the standard library's parser with our rules reads, types included."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    for at, piece in mutations:
        text = text[: at % (len(text) + 1)] + piece + text[at % (len(text) + 1) :]
    body = text.encode("utf-8", "surrogatepass")
    quickly = strict_json._read_quickly(body, strict_json._outside_strings(body))
    if quickly is not strict_json._UNDECIDED:
        assert repr(strict_json._decoder.decode(body.decode())) == repr(quickly)


@pytest.mark.parametrize("body", [
    '{"a":1,"a":2}', '{"a" :1,"a":":"}', '{"a":":","a":1}', '{"\\u0061":1,"a":2}',
    '{"a":{"b":1},"a":"::"}', '{"a":1,"a":"\\u003a"}',
    '[{":":1,":":2}]', '{"a":[{"b":0,"b":0}]}',
])  # fmt: skip
def test_repeated_keys_are_found_however_they_are_written(body: str) -> None:
    with pytest.raises(Malformed, match="occurs twice"):
        load_json(body.encode())
