"""What the database has of signed indexes: everything but their bytes, which follow from the rows.

The primary writes it with each index, if a replica is configured. A store front end makes the same
bytes from its copy (front_index.py), so it serves what the primary has signed and never has the key.
"""

import json
from dataclasses import field
from pathlib import Path
from typing import Any

from mosis.context import Context
from mosis.database import Connection, columns
from mosis.errors import NotFound
from mosis.records import dataclass


class NotHere(NotFound):
    """This store front end does not have it; the primary may."""


@dataclass(frozen=True)
class SignedIndex:
    """An index file with its signatures."""

    sequence: int
    catalogue: int
    path: Path
    size_bytes: int
    sha256: str
    created_at: str
    fingerprints: tuple[str, ...]
    signatures: bytes  # content of index.json.sig
    renewed_after_seconds: int


@dataclass(frozen=True)
class Published:
    """A row: an index as the primary has signed it."""

    min_age_days: int
    sequence: int
    catalogue: int
    created_at: str
    size_bytes: int
    sha256: str
    signatures: str
    keys: str

    @property
    def public_keys(self) -> list[dict[str, Any]]:
        """The keys that signed it, as `index_keys.public_keys`."""
        return list(json.loads(self.keys))


@dataclass
class Held:
    """A front end's newest indexes by cooldown, and keys; `offered`: rows of the newest data."""

    offered: list[Published] = field(default_factory=list)
    by_age: dict[int, SignedIndex] = field(default_factory=dict)
    keys: list[dict[str, Any]] | None = None


def publish(
    db: Connection, index: SignedIndex, min_age_days: int, keys: list[dict[str, Any]]
) -> None:
    """Store what front ends need of an index."""
    with db.write():
        db.change(
            "INSERT OR REPLACE INTO signed_indexes (min_age_days, sequence, catalogue, created_at,"
            " size_bytes, sha256, signatures, keys) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            min_age_days,
            index.sequence,
            index.catalogue,
            index.created_at,
            index.size_bytes,
            index.sha256,
            index.signatures.decode(),
            json.dumps(keys),
        )


def ages(db: Connection) -> list[int]:
    """The cooldowns for which an index was made, in days."""
    return [age for (age,) in db.all("SELECT min_age_days FROM signed_indexes")]


def rows(db: Connection) -> list[Published]:
    """The newest index of each cooldown."""
    sql = f"SELECT {columns(Published)} FROM signed_indexes ORDER BY min_age_days"
    return db.all(sql, into=Published)


def current(env: Context, min_age_days: int) -> SignedIndex:
    """The newest index that this front end has. Raises NotHere."""
    found = env.state(Held).by_age.get(min_age_days)
    if found is None or not found.path.exists():
        raise NotHere("index")
    return found


def announced_keys(env: Context) -> list[dict[str, Any]]:
    """The keys that sign now, as this front end knows them. Raises NotHere."""
    keys, now = env.state(Held).keys, env.clock.now()
    if keys is None:
        raise NotHere("key")
    return [key for key in keys if key["announced_until"] is None or key["announced_until"] > now]
