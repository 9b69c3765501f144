"""Identifiers: of rows and of requests."""

import os
import re
import struct
import time
from collections import deque

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


_pool: deque[int] = deque()


def _random_bits() -> int:
    """64 random bits of the operating system, read for a hundred ids at once."""
    while True:
        try:
            return _pool.pop()
        except IndexError:
            _pool.extend(struct.unpack("=128Q", os.urandom(1024)))


def new_id(nanoseconds: int | None = None) -> str:
    """A UUIDv7 (RFC 9562, section 5.7, method 3 of section 6.2): 60 bits of time with a resolution of a quarter of a
    microsecond, then 62 random bits. Ids sort by age."""
    milliseconds, rest = divmod(time.time_ns() if nanoseconds is None else nanoseconds, 1_000_000)
    first = f"{milliseconds & (1 << 48) - 1:012x}"
    last = f"{1 << 63 | _random_bits() >> 2:016x}"
    return f"{first[:8]}-{first[8:]}-7{(rest << 12) // 1_000_000:03x}-{last[:4]}-{last[4:]}"


def request_id_of(given: str) -> str:
    """The id of a request in the log and in every problem: the client's own where it is well-formed, otherwise a new one."""
    return given if _REQUEST_ID.match(given) else new_id()
