"""Objects in a bucket of an S3-compatible store: `s3://BUCKET/PREFIX?endpoint=...&region=...`.

The client is obstore (the extra `objects`), imported when a bucket is opened. Credentials come from
the variables that Litestream reads: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the same with
LITESTREAM_ in front; without them obstore asks the machine for its role, as AWS's own clients do.

No call blocks for longer than `longest_seconds` (a bucket that does not answer), or, where it
transfers the content of an object, than TRANSFER_SECONDS and one second for each MiB.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mosis.config import ConfigError
from mosis.records import dataclass

MISSING = "s3:// needs the package obstore: pip install 'mosis-portal[objects]'"
CONNECT_SECONDS = 3
REQUEST_SECONDS = 8  # one attempt of a request without content
RETRIES = 2  # of a request that is safe to repeat, within RETRY_SECONDS
RETRY_SECONDS = 5
STALL_SECONDS = 8  # without a byte from the bucket
TRANSFER_SECONDS = 15  # one attempt of a request with content; and 1 s for each MiB
PIECE = 1 << 20  # bytes at a time of a stream
SMALL_BYTES = 64 << 10
PART = 16 << 20  # bytes of a part of `upload`: with 10,000 parts, the limit of S3, 156 GiB
LONGEST_SIGNED_SECONDS = 7 * 86_400  # a limit of signature version 4

_NAME = r"(?!.*//)[A-Za-z0-9._/-]{1,900}"
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_REGION = r"[A-Za-z0-9-]{1,64}"
_CODE = r"<Code>([A-Za-z0-9]{1,64})</Code>"
_STATUS = r"status code: ([0-9]{3})"
_REASONS = {
    "RequestTimeTooSkewed": "the clock of this machine differs from the bucket's by more than 15 minutes",
    "SignatureDoesNotMatch": "the secret access key is wrong",
    "InvalidAccessKeyId": "the access key id is unknown",
    "AccessDenied": "these credentials may not do this",
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "the name of the bucket is not valid",
    "ExpiredToken": "the session token has expired",
    "InternalError": "the bucket has an error of its own, or is full",
    "ServiceUnavailable": "the bucket has an error of its own, or is full",
    "SlowDown": "it asks to slow down",
    "QuotaExceeded": "the bucket is full",
    "InsufficientStorage": "the bucket is full",
    "EntityTooLarge": "the object is too large for it",
}


class ObjectError(Exception):
    """A request of a bucket failed; the message says which and why, without credentials."""


class ObjectExists(ObjectError):
    """`create`: there is an object of this name. After a broken connection it can be one's own."""


class ObjectMissing(ObjectError):
    """There is no object of this name."""


class ObjectChanged(ObjectError):
    """The object has another entity tag; after a broken connection perhaps by one's own request."""


class BucketUnavailable(ObjectError):
    """The bucket does not answer, is full, or refuses the request; nothing is known of the object."""


@dataclass(frozen=True)
class Address:
    """Where a bucket is; without credentials."""

    bucket: str
    prefix: str
    endpoint: str | None
    region: str
    path_style: bool

    def __str__(self) -> str:
        at = f" at {self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + at


@dataclass(frozen=True)
class Stored:
    """An object without its content; `changed_at` is a time of the bucket's clock, in seconds."""

    name: str
    size_bytes: int
    etag: str
    changed_at: float


def parse(url: str) -> Address:
    """`s3://BUCKET/PREFIX?endpoint=URL&region=NAME&force-path-style=true`. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not re.fullmatch(_BUCKET, parts.netloc):
        raise ValueError("must be s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION")
    prefix = parts.path.strip("/")
    if prefix and (not re.fullmatch(_NAME, prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ValueError("may have a prefix of letters, digits and . _ - / only")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    given = dict(pairs)
    unknown = sorted(set(given) - {"endpoint", "region", "force-path-style"})
    if unknown or len(given) != len(pairs) or parts.fragment:
        raise ValueError("may have the parameters endpoint, region and force-path-style, each once")
    endpoint = given.get("endpoint", "").rstrip("/") or None
    if endpoint and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", endpoint):
        raise ValueError("must have an endpoint such as https://s3.example.net or http://nas:8333")
    style = given.get("force-path-style", "true" if endpoint else "false").lower()
    region = given.get("region") or "us-east-1"
    if style not in ("true", "false") or not re.fullmatch(_REGION, region):
        detail = "must have a region such as eu-central-1, and force-path-style true or false"
        raise ValueError(detail)
    return Address(parts.netloc, prefix, endpoint, region, style == "true")


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The credentials in these variables, as obstore names them. Raises ConfigError for half a pair."""
    found = {}
    for ours, theirs in (
        ("ACCESS_KEY_ID", "access_key_id"),
        ("SECRET_ACCESS_KEY", "secret_access_key"),
    ):
        value = environment.get("AWS_" + ours) or environment.get("LITESTREAM_" + ours)
        if value:
            found[theirs] = value
    if len(found) == 1:
        raise ConfigError(
            ["AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: set both of them for s3://, or none."]
        )
    if found and environment.get("AWS_SESSION_TOKEN"):
        found["session_token"] = environment["AWS_SESSION_TOKEN"]
    return found


def open_bucket(
    url: str,
    environment: Mapping[str, str] | None = None,
    request_seconds: float = REQUEST_SECONDS,
    retries: int = RETRIES,
) -> "Bucket":
    """The bucket of this address; nothing is requested yet. `request_seconds` is the time-out of one
    attempt of a request without much content, which is repeated `retries` times.

    Raises ConfigError for a wrong address, half a pair of credentials, or a missing extra."""
    try:
        address = parse(url)
    except ValueError as error:
        raise ConfigError([f"{_shown(url)}: {error}."]) from None
    try:
        import obstore.store  # noqa: F401  (that it is there)
    except ImportError:
        raise ConfigError([MISSING + "."]) from None
    keys = credentials(os.environ if environment is None else environment)
    return Bucket(address, keys, request_seconds, retries)


def _shown(url: str) -> str:
    """An address without what could be a password."""
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])[:200]


class Bucket:
    """The objects below the prefix of a bucket. Names are relative to the prefix. Thread-safe."""

    def __init__(
        self, address: Address, keys: Mapping[str, str], request_seconds: float, retries: int
    ) -> None:
        self.address = address
        self.request_seconds = request_seconds
        self.retries = retries
        self._keys = dict(keys)
        self._store_for = lru_cache(maxsize=32)(self._opened)

    @property
    def longest_seconds(self) -> float:
        """How long a request without content can take at most, with its repetitions."""
        return RETRY_SECONDS + 2 * self.request_seconds

    def create(self, name: str, source: Path | bytes, sha256: str) -> str:
        """Store a new object with this content and return its entity tag. The bucket verifies the
        SHA-256 of what arrives, and never replaces an object (`If-None-Match: *`).

        The content is in memory meanwhile. Raises ObjectExists, BucketUnavailable, and ObjectError
        if the source does not have this SHA-256.
        """
        content = source if isinstance(source, bytes) else source.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ObjectError(f"{name} is not stored: its source has another SHA-256 than {sha256}")
        return self._put(name, content, "create")

    def put(self, name: str, data: bytes) -> str:
        """Store an object, or replace it; the new entity tag. Raises BucketUnavailable."""
        return self._put(name, data, "overwrite")

    def upload(self, name: str, pieces: Iterable[bytes]) -> None:
        """Store an object of unknown size, in place of one of this name, in parts of PART bytes, of
        which two are in memory. It appears when the last part has arrived, or not at all. Raises
        BucketUnavailable."""
        import obstore

        with _errors(self, name):
            obstore.put(
                self._store_for(_scale(PART)),
                _checked(name),
                iter(pieces),
                chunk_size=PART,
                max_concurrency=1,
            )

    def replace(self, name: str, data: bytes, etag: str) -> str:
        """Replace the object that has this entity tag (`If-Match`); the new one. Raises
        ObjectChanged (also if it is gone), BucketUnavailable."""
        return self._put(name, data, {"e_tag": etag})

    def get(self, name: str, limit_bytes: int = 64 << 20) -> tuple[bytes, str]:
        """The whole object and its tag. Raises ObjectMissing, BucketUnavailable, ObjectError."""
        import obstore

        with _errors(self, name):
            result = obstore.get(self._store_for(_scale(limit_bytes)), _checked(name))
            if result.meta["size"] > limit_bytes:
                raise ObjectError(f"{name} has more than {limit_bytes} bytes")
            return bytes(result.bytes()), str(result.meta["e_tag"])

    def stream(self, name: str, size_bytes: int, start: int = 0) -> Iterator[bytes]:
        """The object from this byte on, in pieces of about 1 MiB. `size_bytes` is the size that it
        must have. Raises ObjectMissing, BucketUnavailable (also if it ends early), ObjectError if
        it has another size. Memory does not grow with the object."""
        import obstore

        left = size_bytes - start
        deadline = time.monotonic() + TRANSFER_SECONDS + (1 << _scale(left))
        with _errors(self, name):
            result = obstore.get(
                self._store_for(_scale(left)),
                _checked(name),
                options={"range": {"offset": start}} if start else None,
            )
            if result.meta["size"] != size_bytes:
                raise ObjectError(f"{name} has {result.meta['size']} bytes, not {size_bytes}")
            for piece in result.stream(min_chunk_size=PIECE):
                left -= len(piece)
                yield bytes(piece)
                if time.monotonic() > deadline:
                    raise BucketUnavailable(f"{self.address}: {name} takes too long")
        if left:
            raise BucketUnavailable(f"{self.address}: {name} ended early")

    def head(self, name: str) -> Stored:
        """The object without its content. Raises ObjectMissing, BucketUnavailable."""
        import obstore

        with _errors(self, name):
            return _stored(obstore.head(self._store_for(0), _checked(name)))

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """The objects in this folder and below, a thousand a request. Raises BucketUnavailable."""
        import obstore

        with _errors(self, prefix or "list"):
            for page in obstore.list(self._store_for(0), prefix or None):
                yield from map(_stored, page)

    def delete(self, name: str) -> None:
        """Remove an object if it exists. Raises BucketUnavailable."""
        import obstore

        with _errors(self, name):
            obstore.delete(self._store_for(0), _checked(name))

    def signed_url(self, name: str, seconds: int) -> str:
        """An address that anybody can GET for this time; made locally. Raises BucketUnavailable."""
        import obstore

        with _errors(self, name):
            return str(
                obstore.sign(
                    self._store_for(0),
                    "GET",
                    _checked(name),
                    timedelta(seconds=min(seconds, LONGEST_SIGNED_SECONDS)),
                )
            )

    def check(self) -> None:
        """A request that needs bucket and credentials. Raises BucketUnavailable with the reason."""
        import obstore

        with _errors(self, "list"):
            next(iter(obstore.list(self._store_for(0), "readiness", chunk_size=1)), None)

    def _put(self, name: str, data: bytes, mode: Any) -> str:
        import obstore

        with _errors(self, name):
            result = obstore.put(
                self._store_for(_scale(len(data))),
                _checked(name),
                data,
                mode=mode,
                use_multipart=False,
            )
        return str(result["e_tag"])

    def _opened(self, scale: int) -> Any:
        """A client whose requests may transfer 2**scale MiB each; 0: requests without content."""
        from obstore.store import S3Store

        seconds = float(TRANSFER_SECONDS + (1 << scale)) if scale else self.request_seconds
        given: dict[str, Any] = {**self._keys}
        if self.address.endpoint:
            given["endpoint"] = self.address.endpoint
        return S3Store(
            self.address.bucket,
            prefix=self.address.prefix or None,
            region=self.address.region,
            virtual_hosted_style_request=not self.address.path_style,
            checksum_algorithm="SHA256",
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "read_timeout": timedelta(seconds=min(seconds, STALL_SECONDS)),
                "timeout": timedelta(seconds=seconds),
                "user_agent": "mosis-portal",
            },
            retry_config={
                "max_retries": self.retries,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=1),
                    "base": 2,
                },
            },
            **given,
        )


def _scale(size_bytes: int) -> int:
    """The class of a transfer: its size in MiB is at most 2 to the power of this, from 1 on; 0 for
    content so small that it takes no longer than a request without."""
    if size_bytes <= SMALL_BYTES:
        return 0
    return max(1, ((size_bytes >> 20) + 1).bit_length())


def _checked(name: str) -> str:
    """A name of an object; ours consist of safe characters. Raises ValueError."""
    if not re.fullmatch(_NAME, name) or {".", "..", ""} & set(name.split("/")):
        raise ValueError(f"not a name of an object: {name!r}")
    return name


def _stored(meta: Any) -> Stored:
    changed: datetime = meta["last_modified"]
    return Stored(str(meta["path"]), int(meta["size"]), str(meta["e_tag"]), changed.timestamp())


class _errors:
    """Turns obstore's errors into ours."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self.where, self.name = str(bucket.address), name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, ObjectError) or not isinstance(error, Exception):
            return
        from obstore import exceptions

        text, about = str(error), f"{self.where}: {self.name}"
        code = (re.search(_CODE, text) or [None, ""])[1] or ""
        if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
            raise ObjectMissing(f"{about} is missing") from None
        if isinstance(error, exceptions.AlreadyExistsError):
            raise ObjectExists(f"{about} exists") from None
        if isinstance(error, exceptions.PreconditionError):
            raise ObjectChanged(f"{about} was changed") from None
        if isinstance(error, (OSError, exceptions.BaseError)):
            raise BucketUnavailable(f"{about}: {_reason(text, code)}") from None


def _reason(text: str, code: str) -> str:
    """Why a request failed, in words; obstore's messages repeat the request in many lines."""
    if code:
        return f"{_REASONS.get(code, 'the bucket refused the request')} ({code})"
    status = re.search(_STATUS, text)
    if status:
        refused = " (credentials, or the clock of this machine)" if status[1] == "403" else ""
        return f"the bucket answered with status {status[1]}{refused}"
    lowered = text.lower()
    if "kind: timeout" in lowered or "timedout" in lowered or "operation timed out" in lowered:
        return "the bucket did not answer in time"
    if "kind: connect" in lowered:
        return "no connection to the bucket"
    return "the connection to the bucket failed: " + text.partition("\n")[0][-200:]
