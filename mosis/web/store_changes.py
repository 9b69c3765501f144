"""The changes of the store in order, for mirrors. Public."""

from typing import Any

import bottle

from mosis.database import Connection
from mosis.store import listings
from mosis.validation import Schema
from mosis.web.request import listed, read_number, read_page
from mosis.web.schemas import list_of, one_of, operation, shape, shown

LARGEST_NUMBER = (1 << 53) - 1  # RFC 8259, section 6
CHANGE = shape(
    "StoreChange",
    "number:int change package_id version? version_code:int? sha256? updated_at?",
    change=one_of("added", "updated", "removed"),
)
AFTER: Schema = {
    "after": {
        "type": "integer",
        "min": 0,
        "max": LARGEST_NUMBER,
        "meta": "The number of the last known change; 0 for all.",
    }
}


def routes(app: bottle.Bottle) -> None:
    app.get("/store/changes", callback=changes, scope="public")


@operation(list_of("changes", CHANGE, "last:int"), query=AFTER)
def changes(db: Connection) -> dict[str, Any]:
    """Apps that were added to the store, changed or removed, in order: the last change of each app."""
    after, paging = read_number("after", LARGEST_NUMBER), read_page(int)
    page = listings.changes(db, after, paging)
    last = page.rows[-1].number if page.rows else max(after, paging.position or 0)
    rows = [shown(CHANGE, each, change=each.kind(after)) for each in page.rows]
    return listed("changes", page, rows, last=last)
