"""What handlers read of a request."""

import pytest

from mosis.web.request import names_tag


@pytest.mark.parametrize(("header", "matches"), [
    ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False), ("", False),
])  # fmt: skip
def test_tags_are_compared_as_rfc_9110_says(header: str, matches: bool) -> None:
    assert names_tag(header, '"a"') is matches
    assert not names_tag('W/"a"', '"a"', strong=True)
