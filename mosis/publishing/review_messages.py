"""Messages about a version between developer and reviewers, or among reviewers only."""

from typing import Any

from mosis import audit, events
from mosis.caller import Caller
from mosis.database import Connection, Record, new_id
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import Conflict
from mosis.publishing import members
from mosis.publishing.versions import Version
from mosis.records import dataclass

MOST = 500  # messages of one version


@dataclass(frozen=True)
class Message(Record, table="messages"):
    """One message. `sender` is "developer" or "reviewer"."""

    id: str
    version_id: str
    author_id: str
    sender: str
    internal: int
    text: str
    created_at: str


def add(
    db: Connection,
    caller: Caller,
    version: Version,
    sender: str,
    text: str,
    *,
    internal: bool = False,
) -> Message:
    """Add a message to a version. Raises Conflict `limit_reached`."""
    with db.write():
        if db.value("SELECT count(*) FROM messages WHERE version_id = ?", version.id) >= MOST:
            raise Conflict("limit_reached", f"A version can have at most {MOST} messages.")
        message = Message(new_id(), version.id, caller.account, sender, int(internal), text, db.now)
        db.insert("messages", **vars(message))
        details = {"message": message.id, "sender": sender, "text": text[:2000]}
        if sender == "reviewer" and not internal:
            members.add_events(
                db,
                version.app_id,
                "publisher",
                "review.message",
                version=version.version,
                **details,
            )
        reviewer = _reviewer_of(db, version) if sender == "developer" else None
        if reviewer is not None:
            package_id = db.value("SELECT package_id FROM apps WHERE id = ?", version.app_id)
            events.add(
                db,
                reviewer,
                "review.message",
                package_id=package_id,
                version=version.version,
                **details,
            )
        facts: dict[str, Any] = {"message": message.id, "sender": sender, "internal": internal}
        audit.add(db, caller, "review.message", version.id, **facts)
        return message


def _reviewer_of(db: Connection, version: Version) -> str | None:
    """The reviewer to notify: who has claimed the review, else who wrote the last message."""
    found: str | None = db.value(
        "SELECT developers.id FROM developers JOIN ("
        "SELECT claimed_by AS who, 'claimed' AS place FROM reviews WHERE version_id = ?1 AND state = 'claimed'"
        " UNION ALL SELECT author_id, id FROM messages WHERE version_id = ?1 AND sender = 'reviewer'"  # digits sort first
        ") ON who = developers.id WHERE role <> 'developer' AND suspended = 0 ORDER BY place DESC LIMIT 1",
        version.id,
    )
    return found


def index(
    db: Connection, version: Version, paging: PageRequest, *, internal: bool
) -> Page[Message]:
    """The messages about a version, oldest first; internal ones only with `internal`."""
    where = "version_id = ? AND id > ? AND internal <= ? ORDER BY id LIMIT ?"
    rows = db.select(
        Message, where, version.id, paging.position or "", int(internal), paging.limit + 1
    )
    return page(rows, paging, lambda message: (message.id,))
