"""Ranges and conditions, case by case as RFC 9110 says."""

import hashlib
from collections.abc import Callable

import pytest

from tests.client import Answer, Client

NOTES = "com.acme.notes"
LATER, EARLIER = "Sat, 16 Jan 2027 08:00:00 GMT", "Thu, 14 Jan 2027 08:00:00 GMT"


class Download:
    """A published package and what is answered about it."""

    def __init__(self, client: Client, path: str) -> None:
        self.client, self.path = client, path
        whole = client.get(self.path).expect(200)
        self.body, self.tag, self.changed = (
            whole.body,
            whole.headers["etag"],
            whole.headers["last-modified"],
        )
        self.size = len(self.body)

    def get(self, **headers: str) -> Answer:
        return self.client.get(
            self.path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    def head(self, **headers: str) -> Answer:
        return self.client.call(
            "HEAD",
            self.path,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )


def published_package(client: Client) -> str:
    """Its path."""
    alice = client.register()
    client.app_of(alice)
    url: str = client.published(alice, NOTES)["download_url"]
    return url.removeprefix(client.env.config.base_url)


@pytest.fixture
def prepare() -> Callable[[Client], str]:
    return published_package


@pytest.fixture
def package(client: Client, prepared: str) -> Download:
    return Download(client, prepared)


def test_the_whole_says_what_it_is(package: Download) -> None:
    whole = package.get().expect(200)
    assert package.tag == f'"{hashlib.sha256(package.body).hexdigest()}"'
    assert whole.headers["repr-digest"].startswith("sha-256=:")
    assert (whole.headers["accept-ranges"], whole.headers["content-length"]) == (
        "bytes",
        str(package.size),
    )
    assert whole.headers["cache-control"] == "public, max-age=31536000, s-maxage=300, immutable"


@pytest.mark.parametrize(("wanted", "first", "last"), [
    ("bytes=0-0", 0, 1), ("bytes=0-9", 0, 10), ("bytes=10-", 10, None), ("bytes=-1", -1, None), ("bytes=-10", -10, None),
    ("bytes=0-", 0, None), ("BYTES=5-6", 5, 7), ("bytes= 5-6", 5, 7), ("bytes=3-99999999999999999999999", 3, None),
    ("bytes=-99999999999999999999999", 0, None), ("bytes=007-8", 7, 9),
])  # fmt: skip
def test_one_range_is_answered_with_that_part(
    package: Download, wanted: str, first: int, last: int | None
) -> None:
    part = package.get(Range=wanted).expect(206)
    expected = package.body[first:last]
    start = first % package.size if first else 0
    assert part.body == expected
    assert (
        part.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{package.size}"
    )
    assert part.headers["content-length"] == str(len(expected))
    assert (part.headers["etag"], "repr-digest" in part.headers) == (package.tag, True)


@pytest.mark.parametrize("wanted", [
    "bytes=0-1,4-5", "bytes=0-0,-1", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "lines=0-1", "bytes 0-1", "0-1", "bytes=1-2-3",
    "bytes=1 2-13", "bytes =0-1",
    "bytes=--1", "bytes=+1-2", "bytes=\u0660-\u0661".encode().decode("latin-1"), "bytes=" + "1" * 50 + "-",
])  # fmt: skip
def test_other_ranges_are_ignored_and_the_whole_comes(package: Download, wanted: str) -> None:
    whole = package.get(Range=wanted).expect(200)
    assert (whole.body, "content-range" in whole.headers) == (package.body, False)


@pytest.mark.parametrize(
    "wanted", ["bytes=1000000-", "bytes=99999999999999999999-", "bytes=1000000-2000000", "bytes=-0"]
)
def test_a_range_outside_is_416_and_says_how_long_the_file_is(
    package: Download, wanted: str
) -> None:
    refused = package.get(Range=wanted).expect(416, code="range_not_satisfiable")
    assert refused.headers["content-range"] == f"bytes */{package.size}"
    assert refused["size_bytes"] == package.size


def test_if_range_gives_the_part_only_of_the_same_file(package: Download) -> None:
    for known in (package.tag, package.changed):
        assert package.get(Range="bytes=5-9", If_Range=known).expect(206).body == package.body[5:10]
    for other in (
        '"' + "0" * 64 + '"',
        "W/" + package.tag,
        package.tag.strip('"'),
        EARLIER,
        LATER,
        "*",
        "",
    ):
        assert package.get(Range="bytes=5-9", If_Range=other).expect(200).body == package.body, (
            other
        )
    assert package.get(Range="bytes=9999999-", If_Range='"old"').expect(200).body == package.body


def test_if_none_match_goes_before_if_modified_since(package: Download) -> None:
    for known in (package.tag, f'"x", {package.tag}', "W/" + package.tag, "*"):
        unchanged = package.get(If_None_Match=known).expect(304)
        assert (unchanged.body, unchanged.headers["etag"]) == (b"", package.tag)
        assert unchanged.headers["cache-control"].endswith("immutable")
    package.get(If_None_Match='"x"').expect(200)
    package.get(If_None_Match='"x"', If_Modified_Since=LATER).expect(200)
    package.get(If_None_Match=package.tag, If_Modified_Since=EARLIER).expect(304)
    package.get(If_Modified_Since=LATER).expect(304)
    package.get(If_Modified_Since=package.changed).expect(304)
    package.get(If_Modified_Since=EARLIER).expect(200)
    for nonsense in ("yesterday", "2027-01-16", "", "Sat, 16 Jan 2027 08:00:00"):
        package.get(If_Modified_Since=nonsense).expect(200)


def test_if_match_goes_before_if_unmodified_since_and_both_before_the_rest(
    package: Download,
) -> None:
    package.get(If_Match=package.tag).expect(200)
    package.get(If_Match="*").expect(200)
    for other in ('"x"', "W/" + package.tag):
        package.get(If_Match=other).expect(412, code="precondition_failed")
    package.get(If_Match=package.tag, If_Unmodified_Since=EARLIER).expect(200)
    package.get(If_Unmodified_Since=LATER).expect(200)
    package.get(If_Unmodified_Since=package.changed).expect(200)
    package.get(If_Unmodified_Since=EARLIER).expect(412)
    package.get(If_Unmodified_Since="nonsense").expect(200)
    package.get(If_Match='"x"', If_None_Match=package.tag).expect(412)
    package.get(If_Match=package.tag, If_None_Match=package.tag, Range="bytes=0-1").expect(304)
    assert package.get(If_Match=package.tag, Range="bytes=0-1").expect(206).body == package.body[:2]
    package.get(If_Match='"x"', Range="bytes=0-1").expect(412)


def test_head_is_get_without_the_body_and_knows_no_range(package: Download) -> None:
    whole, head = package.get().headers, package.head().expect(200)
    ours = {"x-request-id": ""}
    assert (head.body, head.headers | ours) == (b"", whole | ours)
    assert package.head(Range="bytes=0-1").expect(200).headers["content-length"] == str(
        package.size
    )
    package.head(Range="bytes=9999999-").expect(200)
    package.head(If_None_Match=package.tag).expect(304)
    assert package.head(If_Match='"x"').status == 412


def test_no_file_stays_open_whatever_is_answered(package: Download) -> None:
    import os

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    package.get().expect(200)
    before = descriptors()
    for headers in (
        {},
        {"Range": "bytes=0-1"},
        {"Range": "bytes=9999999-"},
        {"If_None_Match": "*"},
        {"If_Match": '"x"'},
    ):
        package.get(**headers)
        package.head(**headers)
    assert descriptors() == before
