"""Cursors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosis.database import pagination
from mosis.errors import Malformed


@given(st.text(max_size=60))
def test_a_cursor_that_was_not_given_out_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        pagination.position(text, str, int)
    assert refused.value.code == "bad_cursor"
