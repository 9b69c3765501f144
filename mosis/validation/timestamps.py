"""Parses RFC 3339 timestamps (section 5.6) with any offset."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from mosis import clock

PATTERN = (
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"([Zz]|[+-][0-2][0-9]:[0-5][0-9])\Z"
)
FORM = "This must be a timestamp of RFC 3339 with its offset, such as 2027-01-31T12:00:00Z."
LONGEST = 64  # characters
_PARTS = re.compile(PATTERN)
RULES: dict[str, Any] = {"type": "string", "maxlength": LONGEST, "regex": PATTERN}  # of a schema
NO_MOMENT = "This is not a valid date and time between 2000 and 2099."
END = 4_102_444_800  # 2100-01-01T00:00:00Z
_LEAP_DAYS = ((6, 30), (12, 31))  # all leap seconds so far (RFC 3339, appendix D)


def seconds(stamp: str) -> int | None:
    """Seconds since 1970 without fractions. None if the text is not a timestamp or the time does
    not exist: no such day or hour, or a second 60 other than 23:59:60 UTC at the end of June or
    December."""
    found = _PARTS.match(stamp)
    if found is None:
        return None
    minute, second = _minute(stamp[:16], found[3]), int(found[1])
    if minute is None:
        return None
    if second == 60 and not _ends_with_leap_second(minute):
        return None
    return minute + second


def stored(stamp: str | None) -> str | None:
    """A timestamp as it is stored and shown, in UTC and whole seconds; None for what is no moment of this century."""
    moment = seconds(stamp) if stamp is not None else None
    text = clock.text(moment) if moment is not None and 0 < moment < END else ""
    return text if clock.is_time(text) else None


def _ends_with_leap_second(minute: int) -> bool:
    """Whether there can be a second 60 in the minute with this start."""
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=minute)
    except OverflowError:  # its offset leads out of the years 1 to 9999
        return False
    return (at.hour, at.minute) == (23, 59) and (at.month, at.day) in _LEAP_DAYS


@lru_cache(256)
def _minute(start: str, offset: str) -> int | None:
    """Cached, because the events of a batch are close together and parsing a time is slow."""
    try:
        local = datetime.strptime(start.upper(), "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    ahead = 0
    if offset not in "Zz":
        hours, minutes = int(offset[1:3]), int(offset[4:6])
        if hours > 23:
            return None
        ahead = (hours * 3600 + minutes * 60) * (-1 if offset[0] == "-" else 1)
    return int(local.timestamp()) - ahead
