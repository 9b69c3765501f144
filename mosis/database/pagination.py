"""Pages of a list: a bounded number of rows after an opaque cursor, by seeking and not by counting, so that rows which come
in meanwhile neither repeat nor hide others."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mosis.errors import Malformed

Item = TypeVar("Item")
DEFAULT, MOST = 20, 100
LONGEST = 2000  # characters of a cursor


@dataclass(frozen=True)
class Wanted:
    """What part of a list is asked for: at most `limit` rows after the position `after` (the sort values of the last row)."""

    limit: int = DEFAULT
    after: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Some rows of a list, and the cursor of those behind them (None: there are none)."""

    rows: list[Item]
    next_cursor: str | None


def page(
    rows: list[Item], wanted: Wanted, position: Callable[[Item], tuple[Any, ...]]
) -> Page[Item]:
    """Make a page of up to limit + 1 rows: the one too many only says that there are more."""
    if len(rows) <= wanted.limit:
        return Page(rows, None)
    return Page(rows[: wanted.limit], cursor(position(rows[wanted.limit - 1])))


def cursor(position: tuple[Any, ...]) -> str:
    """A position as text for a URL."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def position(text: str, *types: type | tuple[type, ...]) -> tuple[Any, ...]:
    """The position in a cursor whose parts have these types. Raises Malformed `bad_cursor`."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        json.dumps(
            found, ensure_ascii=False
        ).encode()  # a ValueError where there is half a character (a lone surrogate)
        if isinstance(found, list) and len(found) == len(types) and all(map(_is, found, types)):
            return tuple(found)
    except (ValueError, RecursionError):
        pass
    raise Malformed("bad_cursor", "This cursor is not one of ours; start again without it.")


def _is(value: Any, wanted: type | tuple[type, ...]) -> bool:
    whole_number_fits = not isinstance(value, int) or (
        isinstance(value, bool) is False and abs(value) < 1 << 63
    )
    return isinstance(value, wanted) and whole_number_fits
