"""The caller's events in order, with long polling, or for browsers as Server-Sent Events."""

from typing import Any

import bottle

from mosis import events
from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import PageRequest
from mosis.errors import Malformed
from mosis.validation import text
from mosis.validation.strict_json import dump_json
from mosis.web.long_poll import LONGEST_SECONDS, WAIT, wait, wait_seconds
from mosis.web.notifications import NOTIFICATION, public
from mosis.web.request import listed, read_page
from mosis.web.schemas import list_of, operation

AFTER = {"after": text(100, meta="The id of the last known event.")}


EVENT_STREAM = "text/event-stream"
RETRY_MS = 500  # after which a browser asks again
FIRST = "0"  # the id of a stream that begins before the first event


def routes(app: bottle.Bottle) -> None:
    app.get("/events", callback=index, scope="apps:read", limited="filtered")


@operation(list_of("events", NOTIFICATION), query=WAIT | AFTER, streams=True)
def index(env: Context, db: Connection, caller: Caller) -> dict[str, Any] | bottle.HTTPResponse:
    """The caller's events in order. With `wait`, an empty list is delayed until there is an event."""
    if EVENT_STREAM in bottle.request.get_header("Accept", ""):
        return stream(env, db, caller)
    seconds, paging = wait_seconds(), read_page(int)
    if after := bottle.request.query.get("after"):
        paging = PageRequest(paging.limit, paging.after or (events.number_of(db, caller, after),))
    page = events.after(db, caller, paging)
    if not page.rows and seconds:
        wait(env, caller.account, seconds, lambda: bool(events.after(db, caller, paging).rows))
    return listed("events", page, [public(each) for each in page.rows])


def stream(env: Context, db: Connection, caller: Caller) -> bottle.HTTPResponse:
    """Server-Sent Events (HTML, section 9.2) from where `Last-Event-ID` or `after` says, else from now on.

    An answer ends with the events that it waited for, and the client asks again by itself: between events a
    stream holds no thread and counts as the long poll that it is.
    """
    last = bottle.request.get_header("Last-Event-ID", "") or bottle.request.query.get("after", "")
    number = _position(db, caller, last)
    if number is None:
        return _streamed(f"id: {events.newest_id(db, caller) or FIRST}\n\n")
    paging = PageRequest(100, (number,))
    rows = events.after(db, caller, paging).rows
    if not rows:
        changed = lambda: bool(events.after(db, caller, paging).rows)  # noqa: E731
        wait(env, caller.account, LONGEST_SECONDS, changed)
        return _streamed(": nothing new\n\n")
    return _streamed("".join(_message(each) for each in rows))


def _position(db: Connection, caller: Caller, last: str) -> int | None:
    """The number of the event after which a stream goes on; None if it is not known, or not any more."""
    if last == FIRST:
        return 0
    try:
        return events.number_of(db, caller, last) if last else None
    except Malformed:
        return None


def _message(event: events.Event) -> str:
    data = dump_json(public(event)).decode()  # in one line, as JSON is written here
    return f"id: {event.id}\ndata: {data}\n\n"


def _streamed(body: str) -> bottle.HTTPResponse:
    headers = {
        "Content-Type": EVENT_STREAM,
        "Cache-Control": "no-store",
        "Vary": "Authorization, X-API-Key, Accept, Last-Event-ID",
        "X-Accel-Buffering": "no",  # for nginx: pass it on at once
    }
    return bottle.HTTPResponse(f"retry: {RETRY_MS}\n{body}".encode(), 200, headers)
