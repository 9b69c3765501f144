"""Suspends long polls (`?wait=SECONDS`) and waiting requests, which then hold no thread."""

from collections.abc import Callable
from time import monotonic

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.errors import MalformedRequest
from mosis.packages.fetches import Fetch, Turn

LONGEST_SECONDS = 20
FETCH_SECONDS = 30  # how long a request waits for an object of the bucket
WAIT = {
    "wait": {
        "type": "integer",
        "min": 0,
        "max": LONGEST_SECONDS,
        "meta": "Seconds to wait for a change.",
    }
}
MOST_OF_ONE = 16  # waiting requests of one account; further ones are answered at once


def wait_seconds() -> int:
    """`wait` of the query, 0 without it. Raises Malformed."""
    text = bottle.request.query.get("wait", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= LONGEST_SECONDS):
        raise MalformedRequest(f"wait must be a number of seconds from 0 to {LONGEST_SECONDS}.")
    return int(text)


def wait(env: Context, developer_id: str, seconds: int, changed: Callable[[], bool]) -> None:
    """Suspend this request until there is an event of the account, as `suspend`; at most
    MOST_OF_ONE per account. `changed` is checked again after the subscription."""
    memory = bottle.request.environ.get("mosis.memory", {})
    if memory.get("too many"):
        return

    def arm(resume: Callable[[], None]) -> Callable[[], None]:
        end = env.news.subscribe_among(developer_id, resume, MOST_OF_ONE)
        if end is None:
            memory["too many"] = True
        if end is None or changed():
            resume()
        return end or nothing

    suspend(seconds, arm)


def nothing() -> None:
    """Ends a subscription that was not made."""


def suspend(seconds: float, arm: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
    """Suspend this request, and run it again from the start when the subscription made by `arm`
    fires, or the time since its first suspension is over. Returns if the time is over, or if the
    server cannot suspend it."""
    environ = bottle.request.environ
    park, memory = environ.get("mosis.park"), environ.get("mosis.memory")
    if park is None or memory is None:
        return
    left = memory.setdefault("until", monotonic() + seconds) - monotonic()
    if left > 0:
        environ["mosis.parked"] = True
        park(left, arm)


def in_turn(caller: Caller) -> Turn:
    """How this request waits for an object of the bucket: suspended, in turn with other clients.
    Where the server cannot suspend it, it blocks."""
    return Turn(caller.client_network, _await)


def _await(fetch: Fetch) -> None:
    request = bottle.request
    if request.method in ("GET", "HEAD") and "mosis.park" in request.environ:
        suspend(FETCH_SECONDS, fetch.subscribe)
        fetch.wait(0)
    else:
        fetch.wait(FETCH_SECONDS)


def first_seen(tag: str) -> str:
    """The entity tags of If-None-Match, else the one when the client started to wait."""
    given = bottle.request.environ.get("HTTP_IF_NONE_MATCH")
    memory = bottle.request.environ.get("mosis.memory", {})
    return str(given or memory.setdefault("tag", tag))
