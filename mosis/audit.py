"""The audit trail: who did what, when, from which network; each line has the hash of the last."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

from mosis.caller import Caller
from mosis.database import Connection, Record
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.records import dataclass

FIRST = "0" * 64
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
COUNT = "SELECT seq FROM sqlite_sequence WHERE name = 'audit'"  # the count of all lines ever written, including deleted ones


@dataclass(frozen=True)
class Entry(Record, table="audit"):
    """One line of the audit trail."""

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
    db: Connection,
    caller: Caller,
    action: str,
    subject_id: str | None = None,
    *,
    owner_id: str | None = None,
    **details: Any,
) -> None:
    """Append a line in the transaction of the change it describes. It contains no secret and no
    personal address. Changes by an API key carry its id, so that after a leak its uses can be
    listed."""
    if caller.key_id is not None:
        details["api_key_id"] = caller.key_id
    if caller.token_id is not None:
        details["publisher_token_id"] = caller.token_id
    sql = f"SELECT ({COUNT}), (SELECT hash FROM audit ORDER BY number DESC LIMIT 1)"
    count, last_hash = db.one(sql)
    row = {
        "number": (count or 0) + 1,
        "at": db.now,
        "actor_id": caller.developer_id,
        "action": action,
        "subject_id": subject_id,
        "owner_id": owner_id or caller.developer_id,
        "address": caller.network,
        "details": _encode(details),
        "previous_hash": last_hash or FIRST,
    }
    db.insert("audit", **row, hash=_digest(row))


def index(
    db: Connection, paging: PageRequest, *, owner_id: str | None = None, action: str | None = None
) -> Page[Entry]:
    """The audit trail, newest line first: all of it, or the lines of one account or action."""
    where = "(?1 IS NULL OR owner_id = ?1) AND (?2 IS NULL OR action = ?2)"
    return newest_first(db, Entry, where, owner_id, action, paging=paging, by="number")


def redacted_for_owner(entry: Entry, owner_id: str) -> Entry:
    """A line as the account's owner may see it: without the acting staff member's id and network."""
    return (
        entry if entry.actor_id in (None, owner_id) else replace(entry, actor_id=None, address="")
    )


def verify(db: Connection) -> int:
    """The number of lines, after verifying that the hash chain is unbroken and no line is missing.
    Raises ValueError naming the first line that does not fit."""
    number, previous = 0, FIRST
    while lines := db.select(Entry, "number > ? ORDER BY number LIMIT 1000", number):
        for entry in lines:
            row = asdict(entry)
            if (
                entry.number != number + 1
                or entry.previous_hash != previous
                or row.pop("hash") != _digest(row)
            ):
                raise ValueError(f"the audit trail is broken at line {number + 1}")
            number, previous = entry.number, entry.hash
    if number != (db.value(COUNT) or 0):
        detail = f"the audit trail is broken after line {number}: lines are missing at its end"
        raise ValueError(detail)
    return number


def _digest(row: dict[str, Any]) -> str:
    return hashlib.sha256(_encode(row).encode()).hexdigest()
