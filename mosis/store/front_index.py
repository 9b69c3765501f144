"""The signed indexes of a store front end: made again from its copy, and compared with the SHA-256
that the primary has signed.

The rows of a copy make the bytes only while the catalogue is the one that was signed. If it has
changed since, the index is fetched from the primary; if that does not answer either, the one before
stays until the primary has signed again, five seconds after the last change.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from mosis.context import Context
from mosis.database import Connection
from mosis.outbound.http import Unreachable
from mosis.outbound.primary import fetch
from mosis.records import dataclass
from mosis.store.published_index import Held, Published, SignedIndex
from mosis.store.signed_index import document, index_folder, sweep, write_index

log = logging.getLogger("mosis.store.front_index")

FETCH_SECONDS = 10.0
AGAIN_SECONDS = 5.0  # after a fetch without result


class Differs(Exception):
    """The bytes are not those that were signed."""


@dataclass
class _Tries:
    """When the next fetch may be tried (monotonic)."""

    fetch_at: float = 0.0


def refresh(env: Context) -> None:
    """Have the newest signed indexes. Called by one thread."""
    db, held = env.db.connection(), env.state(Held)
    for row in held.offered:
        if row.min_age_days == 0:
            held.keys = row.public_keys
        known = held.by_age.get(row.min_age_days)
        if known is not None and known.sequence == row.sequence:
            continue
        if found := _made(env, db, row):
            held.by_age[row.min_age_days] = found


def _made(env: Context, db: Connection, row: Published) -> SignedIndex | None:
    folder = index_folder(env, row.min_age_days)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row.sequence}.json"
    known = path.exists() and path.stat().st_size == row.size_bytes  # of an earlier process
    if not (known or _from_copy(env, db, row) or _from_primary(env, row)):
        return None
    with suppress(FileNotFoundError):
        sweep(env, folder, row.sequence)
    return SignedIndex(
        row.sequence,
        row.catalogue,
        path,
        row.size_bytes,
        row.sha256,
        row.created_at,
        tuple(key["fingerprint"] for key in row.public_keys),
        row.signatures.encode(),
        0,
    )


def _from_copy(env: Context, db: Connection, row: Published) -> bool:
    if db.value("SELECT catalogue FROM store_state") != row.catalogue:
        return False
    return _written(
        env, row, document(env, db, row.public_keys, row.sequence, row.created_at, row.min_age_days)
    )


def _from_primary(env: Context, row: Published) -> bool:
    tries, now = env.state(_Tries), env.clock.monotonic()
    if now < tries.fetch_at or env.config.primary_url is None:
        return False
    tries.fetch_at = now + AGAIN_SECONDS
    url = f"{env.config.primary_url}/v1/store/index/{row.sequence}.json"
    try:
        return _written(env, row, fetch(url, row.size_bytes, FETCH_SECONDS))
    except Unreachable as error:
        log.info("index not fetched", extra={"sequence": row.sequence, "reason": str(error)})
        return False


def _written(env: Context, row: Published, parts: Iterator[bytes]) -> bool:
    """Write these bytes if they are those that were signed."""

    def check(file: BinaryIO, sha256: str) -> None:
        if sha256 != row.sha256:
            raise Differs

    path = index_folder(env, row.min_age_days) / f"{row.sequence}.json"
    try:
        write_index(path, parts, env.config.compression, check)
    except Differs:
        log.info("index differs from the signed one", extra={"sequence": row.sequence})
        return False
    except OSError as error:
        log.error("index not written", extra={"reason": os.strerror(error.errno or 0)})
        return False
    return True
