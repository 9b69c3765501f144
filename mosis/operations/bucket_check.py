"""What `doctor` finds about the bucket with the packages."""

import hashlib
import time
from collections.abc import Iterator

from mosis.config import Config, ConfigError
from mosis.ids import new_id
from mosis.outbound.objects import Bucket, BucketUnavailable, ObjectError, open_bucket
from mosis.packages.storage import NAME

SLOW_SECONDS = 1.0


def examine(config: Config) -> Iterator[tuple[str, str]]:
    """(level, text) of each finding; nothing where packages are on the disk. An object of a few
    bytes is written, read and removed."""
    url = config.packages_bucket
    if url is None:
        return
    try:
        bucket = open_bucket(url)
    except ConfigError as error:
        yield "bad", f"{error.complaints[0]} Look at PACKAGES_URL."
        return
    begun = time.monotonic()
    try:
        _try_out(bucket, writes=config.packages_url is not None)
    except BucketUnavailable as error:
        yield (
            "bad",
            f"{error}: no package can be stored or fetched. Look at PACKAGES_URL, its keys, the network and the clock.",
        )
        return
    except ObjectError as error:
        yield "bad", f"{error}: this is not an S3-compatible store that can be used."
        return
    took = time.monotonic() - begun
    slow = took > SLOW_SECONDS
    yield "warn" if slow else "ok", f"{bucket.address} answers ({took * 1000:.0f} ms)"
    left = sum(1 for _ in config.packages_dir.glob(f"*/*/*/{NAME}"))
    if config.packages_url and left:
        yield (
            "warn",
            f"{left} packages are still in PACKAGES_DIR: `portal.py move-packages --to PACKAGES_URL`, then with --prune.",
        )


def _try_out(bucket: Bucket, *, writes: bool) -> None:
    """Raises ObjectError."""
    bucket.check()
    if not writes:
        return
    content = b"written by portal.py doctor"
    name = f"doctor/{new_id()}"
    bucket.create(name, content, hashlib.sha256(content).hexdigest())
    try:
        if bucket.get(name)[0] != content:
            raise ObjectError(f"{bucket.address}: an object is not what was stored")
    finally:
        bucket.delete(name)
