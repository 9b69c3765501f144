"""Which state of the store this is: what was made from one state is right exactly as long as the state is the same.

An answer about one app depends on that app's revision alone; a list on that of the whole store, which readers notice at most
once a second while it changes all the time.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from mosis.context import Context
from mosis.rate_limits import TokenBuckets

Revision = tuple[int, int]
MOST_CHANGED = 10_000  # apps whose changes are held apart
CHANGES_AT_ONCE, CHANGES_A_SECOND = 30, 1.0  # of lists


@dataclass
class _Known:
    """What this process knows of the store's revisions."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    data_version: int = -1
    store: Revision = (0, 0)
    last: int = -1  # the last change that was seen
    floor: int = 0  # the revision of every app that has not changed since
    changed: dict[str, int] = field(default_factory=dict)
    listed: Revision = (-1, -1)
    listings: TokenBuckets = field(
        default_factory=lambda: TokenBuckets(CHANGES_A_SECOND, CHANGES_AT_ONCE)
    )


def revision(env: Context) -> Revision:
    """(changes of what is offered, changes of the download counts). Read it before what is made from it."""
    return _look(env).store


def app_revision(env: Context, package_id: str) -> int:
    """Changes whenever what the store says of this app does. Read it before what is made from it."""
    known = _look(env)
    return known.changed.get(package_id, known.floor)


def app_revisions(env: Context, package_ids: Iterable[str]) -> dict[str, int]:
    """`app_revision` of many, each once, in the order given."""
    known = _look(env)
    changed, floor = known.changed, known.floor
    return {package_id: changed.get(package_id, floor) for package_id in package_ids}


def list_revision(env: Context) -> Revision:
    """As `revision`, for lists: the first changes are seen at once, then one a second at most, so that an account that changes
    its listing all the time does not have every list made anew for everybody."""
    known = _look(env)
    if known.listed != known.store and not known.listings.take(""):
        known.listed = known.store
    return known.listed


def _look(env: Context) -> _Known:
    """SQLite says in 3 us whether anything was committed since the last time, by any process; only then rows are read."""
    known: _Known | None = env.remembered.get("revisions")
    if known is None:
        known = env.remembered.setdefault("revisions", _Known())
    version = env.db.data_version()
    if known.data_version == version:
        return known
    with known.lock:
        db = env.db.connection()
        known.store = db.one("SELECT catalogue, counts FROM store_state")
        rows = db.all(
            "SELECT number, package_id FROM app_revisions WHERE number > ? ORDER BY number LIMIT ?",
            known.last,
            MOST_CHANGED + 1,
        )
        if known.last < 0 or len(rows) + len(known.changed) > MOST_CHANGED:
            newest = db.value("SELECT coalesce(max(number), 0) FROM app_revisions")
            known.last = known.floor = newest
            known.changed = {}
        elif rows:
            known.changed.update((package_id, number) for number, package_id in rows)
            known.last = rows[-1][0]
        known.data_version = version
    return known
