"""The cases of test_range_requests.py, with the package in a bucket."""

import pytest

from tests.seaweed import SeaweedFS
from tests.web.test_range_requests import (  # noqa: F401  (collected here again)
    package,
    prepare,
    test_a_range_outside_is_416_and_says_how_long_the_file_is,
    test_head_is_get_without_the_body_and_knows_no_range,
    test_if_match_goes_before_if_unmodified_since_and_both_before_the_rest,
    test_if_none_match_goes_before_if_modified_since,
    test_if_range_gives_the_part_only_of_the_same_file,
    test_no_file_stays_open_whatever_is_answered,
    test_one_range_is_answered_with_that_part,
    test_other_ranges_are_ignored_and_the_whole_comes,
    test_the_whole_says_what_it_is,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(seaweed: SeaweedFS, bucket_url: str) -> dict[str, str]:
    """With one prefix for all tests, which change nothing."""
    return {"PACKAGES_URL": seaweed.url("tests", "sending")}
