"""`?wait=SECONDS`: a request that has nothing to say yet is put aside and run again when something happens. It holds no thread."""

from collections.abc import Callable
from time import monotonic

import bottle

from mosis.context import Environment
from mosis.errors import Malformed

LONGEST_SECONDS = 20
WAIT = {
    "wait": {
        "type": "integer",
        "min": 0,
        "max": LONGEST_SECONDS,
        "meta": "Seconds to wait for something new.",
    }
}
MOST_OF_ONE = 16  # waiting requests of one account; further ones are answered at once


def wait_seconds() -> int:
    """`wait` of the query, 0 without it. Raises Malformed."""
    text = bottle.request.query.get("wait", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= LONGEST_SECONDS):
        raise Malformed(
            "malformed_request", f"wait must be a number of seconds from 0 to {LONGEST_SECONDS}."
        )
    return int(text)


def wait(env: Environment, developer_id: str, seconds: int, changed: Callable[[], bool]) -> None:
    """Put this request aside and run it again from its beginning when something has happened to the account. Returns when there
    is no waiting: its time is over, too many wait, or the server cannot. `changed` looks once more, after the subscription."""
    environ = bottle.request.environ
    park, memory = environ.get("mosis.park"), environ.get("mosis.memory")
    if park is None or memory is None:
        return
    left = memory.setdefault("until", monotonic() + seconds) - monotonic()
    if left <= 0 or env.news.waiting(developer_id) >= MOST_OF_ONE:
        return

    def arm(resume: Callable[[], None]) -> Callable[[], None]:
        end = env.news.subscribe(developer_id, resume)
        if changed():
            resume()
        return end

    environ["mosis.parked"] = True
    park(left, arm)


def first_seen(tag: str) -> str:
    """The entity tags that the client knows: those of If-None-Match, or the one that was current when it began to wait."""
    given = bottle.request.environ.get("HTTP_IF_NONE_MATCH")
    memory = bottle.request.environ.get("mosis.memory", {})
    return str(given or memory.setdefault("tag", tag))
