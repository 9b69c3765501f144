"""Parses one request: checks its head, asks for admission of its body, and stores the body.

What a proxy before the portal could understand in another way is refused (RFC 9112, section 11.2), and nothing of a body is
stored before `admit` has seen the head.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from time import monotonic
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote_to_bytes

from waitress.receiver import ChunkedReceiver, FixedStreamReceiver

from mosis.errors import (
    Internal,
    LimitReached,
    Malformed,
    MalformedRequest,
    PortalError,
    Unavailable,
)
from mosis.records import dataclass
from mosis.server.lanes import Share, Shares

log = logging.getLogger("mosis.server")

MEMORY_BYTES = 64 * 1024  # of a body; 1,000 connections with small bodies take 64 MiB at most
BODY_BYTES = 256 * 1024  # read at once of a body: nearly halves the time of a large upload
MINIMUM_RATE = 16 * 1024  # bytes a second; slower bodies are refused once the allowance is used
# waitress's receiver copies its rest after each chunk: quadratic in what it gets at once
CHUNK_STEP = 4096
LONGEST_LINE = 8192  # bytes of an unfinished chunk-size line, or of the trailers
SPARE_FRAMING = 64 * 1024  # bytes that chunk-size lines may take besides a sixteenth of the content
SPOOL_PREFIX = "body-"
RETRY_SECONDS = 5  # an upload takes a second or two where nobody else uploads

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z0-9_-]*) ([!-~\x80-\xff]+) HTTP/1\.([0-9])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\t -~\x80-\xff]*)")
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ABSOLUTE = re.compile(r"https?://([^/?@]+)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)
_ONCE = frozenset({"HOST", "CONTENT_LENGTH", "TRANSFER_ENCODING"})
_FRAMING = frozenset({"CONTENT_LENGTH", "TRANSFER_ENCODING", "EXPECT"})
# Bottle would build URLs from these; the portal's links come from BASE_URL.
_DROPPED = (
    "FORWARDED", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "X_FORWARDED_PORT", "X_FORWARDED_BY",
)  # fmt: skip


LaneName = Literal[
    "quick", "passwords", "uploads", "publishing", "outside", "telemetry", "writes", "intake"
]
BODIES_OF_ONE = 6  # uploads of one account at the server at once; further ones are refused


@dataclass
class Admission:
    """The largest body that a request may have, and the lane of threads that runs it. With the account, where it was looked up:
    the lane is shared among accounts, and `holds_share` bounds the uploads of one account that are at the server.
    `match`: what the application found for the address, which it gets back."""

    limit_bytes: int
    lane: LaneName = "quick"
    account: str = ""
    holds_share: bool = False
    match: Any = None


Admit = Callable[[str, str, Mapping[str, str]], Admission]
# Status, header lines with their line ends (Content-Length too, but no Date and no Connection), body.
Answer = tuple[str, bytes, bytes]
Ready = Callable[["Request"], Answer | None]


@dataclass(frozen=True)
class Bounds:
    """What bounds a request. `ready`, then `admit`, are called when a head is complete; without a folder the system's
    temporary one is used."""

    admit: Admit
    ready: Ready
    temporary_dir: Path | None
    head_seconds: float
    body_seconds: float
    shares: Shares = field(default_factory=Shares)


class Spool:
    """Stores a body: in memory up to MEMORY_BYTES, beyond that in an unnamed file of the folder."""

    def __init__(self, folder: Path | None) -> None:
        self.file = SpooledTemporaryFile(
            MEMORY_BYTES, dir=str(folder) if folder else None, prefix=SPOOL_PREFIX
        )
        self.size_bytes = 0

    def append(self, data: bytes) -> None:
        self.file.write(data)
        self.size_bytes += len(data)

    def __len__(self) -> int:
        return self.size_bytes


class Request:
    """Replaces waitress.parser.HTTPRequestParser: takes bytes in until `completed`; `error` is set when it is refused."""

    HEAD_BYTES = 16 * 1024  # read at once while a head is expected, and beyond a body

    completed = False
    empty = False
    headers_finished = False
    expect_continue = False
    error: Any = None  # a PortalError, or waitress's InternalServerError when the application fails
    command = path = query = request_uri = ""
    version = "1.1"
    url_scheme = "http"
    lane: LaneName = "quick"
    match: Any = None  # see Admission
    response: Any = None  # made by the application, and waiting for a commit
    answer: Answer | None = None  # a cached response, sent without the application
    peer = ""  # the address that the connection comes from
    account = ""  # whose turn in the lane it takes, where that is known
    limit_bytes = 0
    wire_bytes = 0  # of the body, with its framing

    def __init__(self, adj: Any, bounds: Bounds | None = None) -> None:
        self.adj = adj
        self.bounds = bounds
        self.headers: dict[str, str] = {}
        # state that a handler stores for a request it has suspended
        self.memory: dict[str, Any] = {}
        self.since = monotonic()
        self._head = b""
        self._spool: Spool | None = None
        self._share: Share | None = None
        self._receiver: Any = None

    def received(self, data: bytes) -> int:
        """Replaces HTTPRequestParser.received: takes in what belongs to this request and returns how many bytes that were.
        Never raises: a refusal is stored in `error`."""
        try:
            return self._in_body(data) if self.headers_finished else self._in_head(data)
        except PortalError as error:
            self.refuse(error)
        except OSError as error:
            log.error("body not stored", extra={"reason": str(error)})
            self.refuse(Unavailable("no_space", "The body cannot be stored now; try again later."))
        except Exception:
            log.exception("unhandled exception while a request was parsed")
            self.refuse(Internal())
        return len(data)

    def refuse(self, error: PortalError) -> None:
        """Refuse the request and remove what was stored of its body."""
        self.close()
        self._spool = None
        self.error, self.completed, self.expect_continue = error, True, False
        self.lane, self.account = "quick", ""  # a refusal does not wait for what it was refused for

    def overdue(self, now: float) -> bool:
        """Whether head or body take longer than allowed. `now` is monotonic."""
        assert self.bounds is not None
        if not self.headers_finished:
            return now - self.since > self.bounds.head_seconds
        return now - self.since > self.bounds.body_seconds + self.wire_bytes / MINIMUM_RATE

    def debt_seconds(self, now: float) -> float:
        """How far a body is behind MINIMUM_RATE."""
        return now - self.since - self.wire_bytes / MINIMUM_RATE if self.headers_finished else 0.0

    @property
    def body_bytes(self) -> int:
        """The length of the body so far."""
        return len(self._spool) if self._spool is not None else 0

    @property
    def read_bytes(self) -> int:
        """How much to read at once: the rest of the body, or of the chunk, and HEAD_BYTES beyond it."""
        receiver = self._receiver
        if receiver is None:
            return self.HEAD_BYTES
        left = (
            receiver.remain
            if isinstance(receiver, FixedStreamReceiver)
            else receiver.chunk_remainder
        )
        return min(BODY_BYTES, int(left) + self.HEAD_BYTES)

    def get_body_stream(self) -> BinaryIO:
        """Replaces HTTPRequestParser.get_body_stream: the body from its start, to be read in blocks."""
        if self._spool is None:
            return BytesIO()
        self._spool.file.seek(0)
        return self._spool.file  # type: ignore[return-value]

    def close(self) -> None:
        """Replaces HTTPRequestParser.close: removes the stored body."""
        if self._spool is not None:
            self._spool.file.close()
        if self._share is not None:
            self._share.release()

    def _in_head(self, data: bytes) -> int:
        # empty lines before a request are allowed (RFC 9112, section 2.2)
        head = (self._head + data).lstrip(b"\r\n")
        end = head.find(b"\r\n\r\n")
        if (end if end >= 0 else len(head)) >= self.adj.max_request_header_size:
            raise self._head_too_large(head)
        if end < 0:
            self._head = head
            return len(data)
        self._head = b""
        self._read_head(head[:end])
        self.headers_finished = True
        self.since = monotonic()
        return len(data) - (len(head) - end - 4)

    def _read_head(self, head: bytes) -> None:
        line, _, block = head.partition(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            detail = "The first line must be METHOD, path and HTTP/1.1, with one space between."
            raise MalformedRequest(detail)
        command, target, minor = match.groups()
        self.command, self.request_uri = command.decode(), target.decode("latin-1")
        # A higher minor version is answered as the highest that is known (RFC 9110, section 2.5).
        self.version = "1.0" if minor == b"0" else "1.1"
        # Clients send the same block of fields again, so its parsed form is cached.
        fields, is_plain = _remembered_fields(block) if len(block) <= 1024 else _fields(block)
        self.headers = fields.copy()
        self._read_target()
        if is_plain and target.startswith(b"/"):
            self._end_head()
        else:
            self._read_framing()

    def _read_target(self) -> None:
        """Path and query of the request target (RFC 9112, section 3.2)."""
        target = self.request_uri
        if target.startswith("/"):
            path, _, self.query = target.partition("?")
        elif absolute := _ABSOLUTE.fullmatch(target):
            self.headers["HOST"], path, self.query = (
                absolute[1],
                absolute[2] or "/",
                absolute[3] or "",
            )
        elif self.command == "OPTIONS" and target == "*":
            path = "*"
        else:
            raise MalformedRequest("The request target must be a path that begins with a slash.")
        if "#" in target:
            raise MalformedRequest("The request target must not have a fragment (#).")
        if "%" in path:
            path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        self.path = "/" + path.lstrip("/") if path.startswith("//") else path

    def _read_framing(self) -> None:
        """Where the request ends (RFC 9112, section 6), and whether its body is admitted."""
        headers = self.headers
        if (
            self.version == "1.1"
            and headers.get("EXPECT", "100-continue").lower() != "100-continue"
        ):
            detail = "The only supported expectation is 100-continue; leave Expect out."
            raise Malformed("expectation_failed", detail)
        host = headers.get("HOST")
        if (host is None and self.version == "1.1") or (
            host is not None and not _HOST.fullmatch(host)
        ):
            raise _ambiguous("Send one Host header with a host name or address.")
        coding, length = headers.pop("TRANSFER_ENCODING", None), headers.get("CONTENT_LENGTH")
        if length is not None and not (length.isascii() and length.isdigit() and len(length) <= 18):
            raise _ambiguous("Content-Length must be one number.")
        if coding is not None:
            if length is not None or self.version == "1.0":
                raise _ambiguous(
                    "Transfer-Encoding cannot be combined with Content-Length or HTTP/1.0."
                )
            if coding.lower() != "chunked":
                raise Malformed("not_implemented", "The only supported transfer coding is chunked.")
        size = int(length or 0)
        if coding or size:
            self._expect_body(size, coding is not None)
        else:
            self._end_head()

    def _end_head(self) -> None:
        """The request has no body: answer it from the cache, or have it admitted."""
        self.completed = True
        if self.bounds:
            self.answer = self.bounds.ready(self)
            if self.answer is None:
                admission = self.bounds.admit(self.command, self.path, self.headers)
                self.lane, self.account = admission.lane, admission.account
                self.match = admission.match

    def _expect_body(self, size: int, chunked: bool) -> None:
        assert self.bounds is not None
        admission = self.bounds.admit(self.command, self.path, self.headers)
        self.lane, self.account, self.match = admission.lane, admission.account, admission.match
        self.limit_bytes = admission.limit_bytes
        if size > self.limit_bytes:
            raise self._too_large()
        if admission.holds_share:
            self._share = self.bounds.shares.take(self.account, BODIES_OF_ONE)
            if self._share is None:
                detail = (
                    f"{BODIES_OF_ONE} uploads of your account are running; try again "
                    "when one has finished."
                )
                raise LimitReached("too_many_uploads", detail, retry_after_seconds=RETRY_SECONDS)
        self._spool = Spool(self.bounds.temporary_dir)
        self._receiver = (
            ChunkedReceiver(self._spool) if chunked else FixedStreamReceiver(size, self._spool)
        )
        self.expect_continue = (
            self.version == "1.1" and self.headers.get("EXPECT", "").lower() == "100-continue"
        )

    def _in_body(self, data: bytes) -> int:
        receiver, spool = self._receiver, self._spool
        assert spool is not None
        chunked = isinstance(receiver, ChunkedReceiver)
        taken, step = 0, CHUNK_STEP if chunked else len(data)
        while taken < len(data) and not self.completed:
            size = receiver.received(data[taken : taken + step])
            taken += size
            self.wire_bytes += size
            if receiver.error:
                raise MalformedRequest(f"The chunked body cannot be read: {receiver.error.body}.")
            if len(spool) > self.limit_bytes:
                raise self._too_large()
            self.completed = receiver.completed
            if chunked:
                self._check_framing(receiver, spool)
        if chunked and self.completed:
            self.headers["CONTENT_LENGTH"] = str(len(spool))
        return taken

    def _check_framing(self, receiver: Any, spool: Spool) -> None:
        """Every chunk costs processor time: long size lines and many small chunks are refused."""
        too_long = len(receiver.control_line) > LONGEST_LINE or len(receiver.trailer) > LONGEST_LINE
        if too_long or self.wire_bytes - len(spool) > SPARE_FRAMING + len(spool) // 16:
            raise MalformedRequest("The chunked body has too much framing; send larger chunks.")

    def _head_too_large(self, head: bytes) -> LimitReached:
        """414 where the request line takes most of the head (RFC 9110, section 15.5.15), else 431 (RFC 6585)."""
        limit = self.adj.max_request_header_size
        line = head.partition(b"\r\n")[0]
        method = re.match(rb"[A-Z]+(?= )", line)
        if method:
            self.command = method[0].decode()  # HEAD is refused without a body
        if method and 2 * len(line) > limit:
            detail = f"The head of a request may be at most {limit} bytes long; send long lists in a body."
            return LimitReached("uri_too_long", detail)
        return LimitReached(
            "header_too_large", f"The head of a request may be at most {limit} bytes long."
        )

    def _too_large(self) -> LimitReached:
        detail = f"The body may be at most {self.limit_bytes} bytes long here."
        return LimitReached("too_large", detail, limit_bytes=self.limit_bytes)


def _fields(block: bytes) -> tuple[dict[str, str], bool]:
    """The header fields as WSGI names without HTTP_, and whether they are plain: Host is as it should be,
    and there is no body. Raises `ambiguous_request` (RFC 9112, 5)."""
    fields: dict[str, str] = {}
    for line in block.split(b"\r\n") if block else ():
        match = _FIELD.fullmatch(line)
        if match is None:
            raise _ambiguous("A header is not `Name: value` on one line of printable characters.")
        name = match[1].upper().replace(b"-", b"_").decode()
        if b"_" in match[1]:
            # Gateways treat `X_Api_Key` as `X-Api-Key`: as in nginx, the field is dropped. If it
            # could affect framing, the request is refused (RFC 9112, section 11.2).
            if name in _ONCE:
                raise _ambiguous(f"Write the header {name} with a hyphen.")
            continue
        value = match[2].strip(b" \t").decode("latin-1")
        if not value.isascii():
            value = readable(value)
        if name not in fields:
            fields[name] = value
        elif name in _ONCE:
            raise _ambiguous(f"Send the header {match[1].decode()} once.")
        else:
            fields[name] += ", " + value
    for name in _DROPPED:
        fields.pop(name, None)
    options = [option.strip(" \t").lower() for option in fields.get("CONNECTION", "").split(",")]
    if len(options) > 1:
        # waitress compares the whole value
        fields["CONNECTION"] = (
            "close" if "close" in options else "keep-alive" if "keep-alive" in options else ""
        )
    has_host = _HOST.fullmatch(fields.get("HOST", "")) is not None
    return fields, has_host and not _FRAMING & fields.keys()


_remembered_fields = lru_cache(256)(_fields)


def readable(value: str) -> str:
    """A header's value (PEP 3333: bytes as Latin-1) as valid UTF-8, which is what Bottle takes it
    for: other bytes become U+FFFD, and are refused or not found later."""
    return value.encode("latin-1").decode("utf-8", "replace").encode().decode("latin-1")


def _ambiguous(detail: str) -> Malformed:
    return Malformed("ambiguous_request", detail)
