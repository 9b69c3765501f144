"""The caller's events in order; with long polling."""

from typing import Any

import bottle

from mosis import events
from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.web.long_poll import WAIT, wait, wait_seconds
from mosis.web.notifications import NOTIFICATION, public
from mosis.web.openapi_schemas import list_of, operation
from mosis.web.request import listed, read_page

AFTER = {"after": {"type": "string", "maxlength": 100, "meta": "The id of the last known event."}}


def routes(app: bottle.Bottle) -> None:
    app.get("/events", callback=index, scope="apps:read", limited="filtered")


@operation(list_of("events", NOTIFICATION), query=WAIT | AFTER)
def index(env: Context, db: Connection, caller: Caller) -> dict[str, Any]:
    """The caller's events in order. With `wait`, an empty list is delayed until there is an event."""
    seconds, wanted = wait_seconds(), read_page(int)
    if after := bottle.request.query.get("after"):
        wanted = PageRequest(wanted.limit, wanted.after or (events.number_of(db, caller, after),))
    page = events.after(db, caller, wanted)
    if not page.rows and seconds:
        wait(env, caller.account, seconds, lambda: bool(events.after(db, caller, wanted).rows))
    return listed("events", page, [public(each) for each in page.rows])
