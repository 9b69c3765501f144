"""Keyset pagination: a bounded number of rows after an opaque cursor. Rows inserted meanwhile are
neither repeated nor hide others."""

import base64
import json
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mosis.database.connection import Connection
from mosis.database.tables import Stored
from mosis.errors import Malformed
from mosis.records import dataclass

Item = TypeVar("Item")
DEFAULT, MOST = 20, 100
LONGEST = 2000  # characters in a cursor


@dataclass(frozen=True)
class PageRequest:
    """`limit` rows at most, after the position `after`: the sort values of the last row before."""

    limit: int = DEFAULT
    after: tuple[Any, ...] | None = None

    @property
    def position(self) -> Any:
        """The sort value to continue after, of a list that is sorted by one; None for its start."""
        return self.after[0] if self.after else None


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Rows of a list, and the cursor of the next page (None: this is the last)."""

    rows: list[Item]
    next_cursor: str | None


def page(
    rows: list[Item], paging: PageRequest, position: Callable[[Item], tuple[Any, ...]]
) -> Page[Item]:
    """A page from up to limit + 1 rows: the extra one only shows that there are more."""
    if len(rows) <= paging.limit:
        return Page(rows, None)
    return Page(rows[: paging.limit], cursor(position(rows[paging.limit - 1])))


def newest_first(
    db: Connection,
    record: type[Stored],
    where: str,
    *values: Any,
    paging: PageRequest,
    by: str = "id",
) -> Page[Stored]:
    """A page of rows, the largest `by` first: a column that grows, such as a UUIDv7. The numbered
    placeholders of the condition take the values."""
    most, after = len(values) + 1, len(values) + 2
    beyond = f" AND {by} < ?{after}" if paging.after else ""
    where = f"{where}{beyond} ORDER BY {by} DESC LIMIT ?{most}"
    rows = db.select(record, where, *values, paging.limit + 1, *(paging.after or ()))
    return page(rows, paging, lambda row: (getattr(row, by),))


def cursor(position: tuple[Any, ...]) -> str:
    """A position as text for a URL."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def position(text: str, *types: type | tuple[type, ...]) -> tuple[Any, ...]:
    """The position in a cursor whose parts have these types. Raises Malformed `bad_cursor`."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        json.dumps(found, ensure_ascii=False).encode()  # ValueError for a lone surrogate
        if isinstance(found, list) and len(found) == len(types) and all(map(_is, found, types)):
            return tuple(found)
    except (ValueError, RecursionError):
        pass
    detail = "This cursor was not made by this portal; start again without one."
    raise Malformed("bad_cursor", detail)


def _is(value: Any, wanted: type | tuple[type, ...]) -> bool:
    whole_number_fits = not isinstance(value, int) or (
        isinstance(value, bool) is False and abs(value) < 1 << 63
    )
    return isinstance(value, wanted) and whole_number_fits
