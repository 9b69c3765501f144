"""Revisions of the store. A cached response is valid as long as its revision is unchanged.

A response about one app depends on that app's revision only; a list depends on the revision of the
whole store, which is updated for readers at most once a second.
"""

import threading
from collections.abc import Iterable
from dataclasses import field

from mosis.context import Context
from mosis.rate_limits import TokenBuckets
from mosis.records import dataclass

Revision = tuple[int, int]
EPOCH = 1 << 50  # more than any number of a revision
MOST_CHANGED = 10_000  # apps whose revisions are held in memory
CHANGES_AT_ONCE, CHANGES_A_SECOND = 30, 1.0  # between two revisions of lists


@dataclass
class Revisions:
    """The store's revisions as last read by this process. Each has the number of the database's epoch
    added, so that numbers which start again are not taken for the old ones."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    data_version: int = -1
    epoch: int = 0
    store: Revision = (0, 0)
    last: int = -1  # number of the last change that was read
    floor: int = 0  # revision of every app without a later change
    changed: dict[str, int] = field(default_factory=dict)
    listed: Revision = (-1, -1)
    listings: TokenBuckets = field(
        default_factory=lambda: TokenBuckets(CHANGES_A_SECOND, CHANGES_AT_ONCE)
    )


def revision(env: Context) -> Revision:
    """(revision of listings, of download counts); read it before the data that depends on it."""
    return _read(env).store


def app_revision(env: Context, package_id: str) -> int:
    """Changes with what the store shows of an app; read it before the data that depends on it."""
    known = _read(env)
    return known.changed.get(package_id, known.floor)


def app_revisions(env: Context, package_ids: Iterable[str]) -> dict[str, int]:
    """`app_revision` of many apps, each once, in the given order."""
    known = _read(env)
    changed, floor = known.changed, known.floor
    return {package_id: changed.get(package_id, floor) for package_id in package_ids}


def list_revision(env: Context) -> Revision:
    """As `revision`, for lists: first changes are visible at once, later ones once a second at
    most, so that an account that keeps changing its listing does not invalidate every list each
    time."""
    known = _read(env)
    if known.listed != known.store and not known.listings.take(""):
        known.listed = known.store
    return known.listed


def _read(env: Context) -> Revisions:
    """Read the revisions if there was a commit, by any process, since the last call. `PRAGMA
    data_version` costs 3 us; rows are read only if it has changed."""
    known = env.state(Revisions)
    version = env.db.data_version()
    if known.data_version == version:
        return known
    with known.lock:
        db = env.db.connection()
        catalogue, counts = db.one("SELECT catalogue, counts FROM store_state")
        if known.epoch != env.db.epoch:
            known.epoch, known.last = env.db.epoch, -1
        base = known.epoch * EPOCH
        known.store = (base + catalogue, base + counts)
        sql = (
            "SELECT number, package_id FROM app_revisions WHERE number > ? ORDER BY number LIMIT ?"
        )
        rows = db.all(sql, known.last, MOST_CHANGED + 1)
        if known.last < 0 or len(rows) + len(known.changed) > MOST_CHANGED:
            newest = db.value("SELECT coalesce(max(number), 0) FROM app_revisions")
            known.last, known.floor = newest, base + newest
            known.changed = {}
        elif rows:
            known.changed.update((package_id, base + number) for number, package_id in rows)
            known.last = rows[-1][0]
        known.data_version = version
    return known
