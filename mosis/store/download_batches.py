"""Download counts of store front ends: collected in files there, added once here.

A front end writes its counts to `counts/open-DAY.json` every ten seconds. The oldest of these files
is sealed: it gets an id and is not changed any more. It is sent until the primary confirms it, then
the next is sealed. The primary stores the id in the transaction that adds the counts, so a batch that
is sent again, after a kill or a lost response, adds nothing. A killed front end loses the counts of
its last ten seconds; counts that cannot be sent for a week are dropped.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from mosis import disk
from mosis.clock import DAY, text
from mosis.context import Context
from mosis.database import Connection, new_id
from mosis.outbound.http import Unreachable
from mosis.outbound.primary import send
from mosis.store.downloads import add_counts

log = logging.getLogger("mosis.store.download_batches")

PATH = "/v1/front-ends/downloads"
EVERY_SECONDS = 10
MOST_VERSIONS = 5000  # of one batch
KEPT_DAYS = 7  # counts wait this long at a front end, and so old days are accepted
KNOWN_DAYS = 30  # ids of batches are remembered; longer than KEPT_DAYS
_SEALED = r"sealed-(\d{4}-\d\d-\d\d)-([0-9a-f-]{36})\.json\Z"
_OPEN = r"open-(\d{4}-\d\d-\d\d)\.json\Z"


def add_batch(db: Connection, batch: str, day: str, counts: Mapping[str, int]) -> bool:
    """Add the counts of a batch {version id: downloads} to this day, unless they have been; whether
    they were added. Versions that are gone are skipped, a day that is too old or not begun is today."""
    with db.write():
        if db.value("SELECT 1 FROM download_batches WHERE id = ?", batch):
            return False
        db.insert("download_batches", id=batch, received_at=db.now)
        if not db.clock.now(-KEPT_DAYS * DAY)[:10] <= day <= db.clock.now(DAY)[:10]:
            day = db.now[:10]
        add_counts(db, day, counts)
    return True


def sweep(env: Context) -> None:
    """Job of every hour: forget the ids of batches that no front end sends any more."""
    with env.db.write() as db:
        sql = "DELETE FROM download_batches WHERE received_at < ?"
        db.change(sql, db.clock.now(-KNOWN_DAYS * DAY))


def report(env: Context) -> None:
    """Write what a front end has counted to its files, and send them. Called by one thread."""
    folder = keep_counts(env)
    while (sealed := _next(env, folder)) is not None:
        if not _sent(env, sealed):
            return
        sealed.unlink()


def keep_counts(env: Context) -> Path:
    """Add new counts to the file of the day; the folder. Raises OSError; they stay in memory."""
    folder = env.config.data_dir / "counts"
    folder.mkdir(parents=True, exist_ok=True)
    counts = env.downloads.take()
    if not counts:
        return folder
    path = folder / f"open-{env.clock.now()[:10]}.json"
    try:
        known = _read(path) if path.exists() else {}
        for version_id, count in counts.items():
            known[version_id] = known.get(version_id, 0) + count
        _write(path, known)
    except BaseException:
        env.downloads.put_back(counts)
        raise
    return folder


def _next(env: Context, folder: Path) -> Path | None:
    """The sealed file, or the oldest other one, sealed now; None if there is nothing to send."""
    oldest = text(env.clock.time() - KEPT_DAYS * DAY)[:10]
    for path in sorted(folder.iterdir()):
        found = re.match(_OPEN, path.name) or re.match(_SEALED, path.name)
        if path.suffix == ".part" or (found and found[1] < oldest):
            if found:
                log.error("download counts dropped after a week", extra={"file": path.name})
            path.unlink()
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        if re.match(_SEALED, name):
            return folder / name
    for name in names:
        if found := re.match(_OPEN, name):
            return _seal(folder / name, found[1])
    return None


def _seal(path: Path, day: str) -> Path:
    """Give the counts an id: of a very large file to its first part."""
    counts, sealed = _read(path), path.with_name(f"sealed-{day}-{new_id()}.json")
    if len(counts) <= MOST_VERSIONS:
        return path.rename(sealed)
    rest = dict(list(counts.items())[MOST_VERSIONS:])
    # the rest first: a kill between the two loses a part, where the other order would double it
    _write(path, rest)
    _write(sealed, dict(list(counts.items())[:MOST_VERSIONS]))
    return sealed


def _sent(env: Context, path: Path) -> bool:
    found = re.match(_SEALED, path.name)
    assert found is not None
    document = {"batch": found[2], "day": found[1], "counts": _read(path)}
    try:
        url, secret = f"{env.config.primary_url}{PATH}", env.config.front_end_secret or ""
        status = send(url, document, secret)
    except Unreachable as error:
        log.warning("download counts not sent", extra={"reason": str(error)})
        return False
    if status != 200:
        log.error("download counts refused", extra={"status": status})
    return status == 200


def _read(path: Path) -> dict[str, int]:
    """The counts in a file; none from one that a power cut has left unreadable."""
    try:
        found = json.loads(path.read_bytes())
        return {str(version_id): int(count) for version_id, count in found.items()}
    except (ValueError, AttributeError, TypeError):
        log.error("download counts unreadable", extra={"file": path.name})
        return {}


def _write(path: Path, counts: dict[str, int]) -> None:
    disk.replace(path, [json.dumps(counts).encode()])
