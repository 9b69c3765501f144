"""The clock, which tests can set, and the text form in which times are stored and shown."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
HOUR, DAY = 3600, 86_400  # seconds
CORRECTED_SECONDS = 60  # a step back of at most this is an ordinary correction


def text(seconds: float) -> str:
    """Seconds since 1970 as `2026-01-31T12:00:00Z` (RFC 3339, UTC, whole seconds); sorts like the time itself."""
    return _text(int(seconds))


@lru_cache(maxsize=256)  # most are now, or a fixed time from now
def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(stamp: str) -> int:
    """The reverse of `text`. Raises ValueError if the text is not such a time."""
    return int(datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def for_people(stamp: str) -> str:
    """A time for readers: `2026-01-31T12:00:00Z` is `31 January 2026, 12:00 UTC`."""
    moment = datetime.fromtimestamp(seconds(stamp), UTC)
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment:%Y, %H:%M} UTC"


def is_time(stamp: str) -> bool:
    """Whether this is a time of this century, written exactly as `text` writes it."""
    try:
        return stamp.startswith("20") and text(seconds(stamp)) == stamp
    except ValueError:
        return False


class Clock:
    """The current time, and durations. `source` returns seconds since 1970; `monotonic` seconds of
    a clock that is never set back. Tests pass in their own."""

    def __init__(
        self,
        source: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.time = source
        self.monotonic = monotonic

    def now(self, plus_seconds: float = 0) -> str:
        """Now, or this many seconds from now, as text."""
        return text(self.time() + plus_seconds)

    def latest(self, longest_seconds: float) -> str:
        """The latest end of a period of this length that has begun by now. A stored time beyond it
        is ignored: it was written while the clock was ahead. Corrections of a minute or less are
        tolerated."""
        return text(self.time() + longest_seconds + CORRECTED_SECONDS)

    def later(self, stamp: str, plus_seconds: float) -> str:
        """The later of `stamp` and now, plus this many seconds, as text."""
        return text(max(seconds(stamp), self.time()) + plus_seconds)
