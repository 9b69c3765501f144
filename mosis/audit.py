"""The trail: who did what, when, from which network; each line carries the hash of the one before it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from mosis.callers import Caller
from mosis.db import Connection, columns
from mosis.pages import Page, Wanted, page

FIRST = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One line of the trail."""

    number: int
    at: str
    actor_id: str | None
    action: str
    subject_id: str | None
    owner_id: str | None
    address: str
    details: str
    previous_hash: str
    hash: str

    @property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads(self.details))


def add(
    db: Connection, caller: Caller, action: str, subject_id: str | None = None, *, owner_id: str | None = None, **details: Any
) -> None:
    """Append a line, in the transaction of the change that it speaks of. No secret and no address of a person in it."""
    last = db.one("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1") or (0, FIRST)
    row = {
        "number": last[0] + 1, "at": db.now, "actor_id": caller.developer_id, "action": action, "subject_id": subject_id,
        "owner_id": owner_id or caller.developer_id, "address": caller.network,
        "details": json.dumps(details, ensure_ascii=False, sort_keys=True), "previous_hash": last[1],
    }
    db.insert("audit", **row, hash=_digest(row))


def index(db: Connection, wanted: Wanted, *, owner_id: str | None = None, action: str | None = None) -> Page[Entry]:
    """The trail, the newest line first: all of it, what touches one account, or one action."""
    rows = db.all(
        f"SELECT {columns(Entry)} FROM audit WHERE (?1 IS NULL OR owner_id = ?1) AND (?2 IS NULL OR action = ?2)"
        " AND (?3 IS NULL OR number < ?3) ORDER BY number DESC LIMIT ?4",
        owner_id, action, wanted.after[0] if wanted.after else None, wanted.limit + 1, into=Entry,
    )
    return page(rows, wanted, lambda entry: (entry.number,))


def verify(db: Connection) -> int:
    """How many lines there are, all of them unbroken. Raises ValueError with the first line that does not fit."""
    number, previous = 0, FIRST
    while lines := db.all(f"SELECT {columns(Entry)} FROM audit WHERE number > ? ORDER BY number LIMIT 1000", number, into=Entry):
        for entry in lines:
            row = asdict(entry)
            if entry.number != number + 1 or entry.previous_hash != previous or row.pop("hash") != _digest(row):
                raise ValueError(f"the audit trail is broken at line {number + 1}")
            number, previous = entry.number, entry.hash
    return number


def _digest(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
