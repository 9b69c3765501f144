"""Objects in a real S3-compatible store, and how its failures are reported."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mosis.config import ConfigError
from mosis.outbound import objects
from mosis.outbound.objects import (
    Bucket,
    BucketUnavailable,
    ObjectChanged,
    ObjectError,
    ObjectExists,
    ObjectMissing,
    open_bucket,
)
from tests.seaweed import SeaweedFS
from tests.server import free_port

CONTENT = bytes(range(256)) * 13_000  # more than three pieces of a stream
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.slow
def test_an_object_is_created_once_and_read_whole_and_in_parts(
    bucket: Bucket, tmp_path: Path
) -> None:
    source = tmp_path / "package"
    source.write_bytes(CONTENT)
    etag = bucket.create("packages/a", source, SHA256)
    with pytest.raises(ObjectExists):
        bucket.create("packages/a", b"other", hashlib.sha256(b"other").hexdigest())
    assert bucket.get("packages/a") == (CONTENT, etag)
    assert b"".join(bucket.stream("packages/a", len(CONTENT))) == CONTENT
    for start in (1, len(CONTENT) - 1):
        assert b"".join(bucket.stream("packages/a", len(CONTENT), start)) == CONTENT[start:]
    found = bucket.head("packages/a")
    assert (found.name, found.size_bytes, found.etag) == ("packages/a", len(CONTENT), etag)
    assert [each.name for each in bucket.list()] == ["packages/a"]
    assert [each.name for each in bucket.list("other")] == []
    bucket.check()


@pytest.mark.slow
def test_an_object_is_replaced_only_if_it_is_the_known_one(bucket: Bucket) -> None:
    first = bucket.put("lease", b"1")
    second = bucket.replace("lease", b"2", first)
    with pytest.raises(ObjectChanged):
        bucket.replace("lease", b"3", first)
    assert bucket.get("lease") == (b"2", second)
    bucket.delete("lease")
    bucket.delete("lease")
    for missing in (bucket.head, bucket.get, lambda name: list(bucket.stream(name, 1))):
        with pytest.raises(ObjectMissing):
            missing("lease")
    with pytest.raises(ObjectChanged):
        bucket.replace("lease", b"4", second)


@pytest.mark.slow
def test_wrong_content_is_neither_stored_nor_read(bucket: Bucket) -> None:
    with pytest.raises(ObjectError, match="another SHA-256"):
        bucket.create("a", b"changed on the disk", SHA256)
    bucket.put("a", b"four")
    with pytest.raises(ObjectError, match="4 bytes, not 5"):
        list(bucket.stream("a", 5))
    with pytest.raises(ObjectError, match="more than 3 bytes"):
        bucket.get("a", limit_bytes=3)


@pytest.mark.slow
def test_a_signed_address_serves_ranges_to_everybody(bucket: Bucket) -> None:
    import urllib.request

    bucket.put("a", CONTENT)
    request = urllib.request.Request(bucket.signed_url("a", 60), headers={"Range": "bytes=5-9"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert (answer.status, answer.read()) == (206, CONTENT[5:10])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another secret key"}, "secret access key is wrong"),
        ({"AWS_ACCESS_KEY_ID": "another-id"}, "access key id is unknown"),
    ],
)
def test_a_refusal_names_its_reason_and_no_secret(
    seaweed: SeaweedFS, wrong: dict[str, str], reason: str
) -> None:
    bucket = open_bucket(seaweed.url("tests", "refused"), {**seaweed.environment, **wrong})
    for request in (bucket.check, lambda: bucket.put("a", b"1"), lambda: bucket.get("a")):
        with pytest.raises(BucketUnavailable, match=reason) as refused:
            request()
        assert not any(
            secret in str(refused.value) for secret in (*wrong.values(), "secret key of")
        )
    with pytest.raises(BucketUnavailable, match="status 403"):  # a HEAD has no body with a reason
        bucket.head("a")


@pytest.mark.slow
def test_a_missing_bucket_is_not_a_missing_object(seaweed: SeaweedFS) -> None:
    bucket = open_bucket(seaweed.url("none-such"), seaweed.environment)
    for request in (bucket.check, lambda: bucket.get("a")):
        with pytest.raises(BucketUnavailable, match="no such bucket"):
            request()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


REQUESTS: dict[str, Callable[[Bucket], object]] = {
    "get": lambda bucket: bucket.get("a"),
    "stream": lambda bucket: list(bucket.stream("a", 5)),
    "head": lambda bucket: bucket.head("a"),
    "list": lambda bucket: list(bucket.list()),
    "create": lambda bucket: bucket.create("a", CONTENT, SHA256),
    "replace": lambda bucket: bucket.replace("a", b"1", '"etag"'),
    "delete": lambda bucket: bucket.delete("a"),
    "check": lambda bucket: bucket.check(),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_no_connection_is_reported_at_once(request_: Callable[[Bucket], object]) -> None:
    bucket = open_bucket(
        f"s3://tests/?endpoint=http://127.0.0.1:{free_port()}",
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        retries=0,
    )
    with pytest.raises(BucketUnavailable, match="no connection to the bucket"):
        request_(bucket)


@pytest.mark.slow
def test_no_request_waits_for_a_silent_bucket_without_end(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "TRANSFER_SECONDS", 0)
    bucket = open_bucket(
        f"s3://tests/?endpoint={silent}",
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        request_seconds=0.2,
        retries=1,
    )
    ended: dict[str, str] = {}

    def ask(name: str) -> None:
        with pytest.raises(BucketUnavailable) as error:
            REQUESTS[name](bucket)
        ended[name] = str(error.value)

    # longest_seconds is far away here: what is tested is that each ends, and why
    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in REQUESTS]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 120
    for thread in threads:
        thread.join(deadline - time.monotonic())
    assert set(ended) == set(REQUESTS)
    assert all("did not answer in time" in reason for reason in ended.values()), ended


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket/x", "s3://", "s3://B/x", "s3://a/x", "s3://user:word@bucket/x", "s3://bucket/a b", "s3://bucket/../x",
        "s3://bucket/a//b", "s3://bucket/x?endpoint=nas:8333", "s3://bucket/x?endpoint=https://a@b", "s3://bucket/x?part-size=5",
        "s3://bucket/x?region=a%20b", "s3://bucket/x?force-path-style=maybe", "s3://bucket/x?region=a&region=b", "s3://bucket/x#y",
    ],
)  # fmt: skip
def test_an_address_with_a_mistake_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_bucket(url, {})
    assert "word" not in str(refused.value)


def test_an_address_in_full_and_in_short() -> None:
    full = objects.parse(
        "s3://bucket/a/b/?endpoint=http%3A%2F%2Fnas%3A8333%2F&region=eu-1&force-path-style=true"
    )
    assert str(full) == "s3://bucket/a/b at http://nas:8333"
    assert (full.region, full.path_style) == ("eu-1", True)
    short = objects.parse("s3://bucket")
    assert (short.prefix, short.endpoint, short.region, short.path_style) == (
        "",
        None,
        "us-east-1",
        False,
    )


def test_credentials_are_those_of_litestream() -> None:
    pair = {"access_key_id": "a", "secret_access_key": "b"}
    for start in ("AWS_", "LITESTREAM_"):
        assert pair == objects.credentials(
            {start + "ACCESS_KEY_ID": "a", start + "SECRET_ACCESS_KEY": "b"}
        )
    assert objects.credentials(dict.fromkeys(("PATH",), os.devnull)) == {}
    with pytest.raises(ConfigError, match="both"):
        objects.credentials({"AWS_ACCESS_KEY_ID": "a"})


@pytest.mark.parametrize("name", ["", "/a", "a/", "../a", "a/./b", "a//b", "a b", "ä", "a" * 901])
def test_a_name_that_could_mean_another_object_is_refused(name: str) -> None:
    bucket = open_bucket("s3://bucket", {})
    with pytest.raises(ValueError, match="not a name"):
        bucket.head(name)
