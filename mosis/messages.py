"""The conversation about a version, between its developer and the reviewers; internal messages are among reviewers."""

from dataclasses import dataclass

from mosis import audit, events
from mosis.callers import Caller
from mosis.db import Connection, columns, new_id
from mosis.errors import Conflict
from mosis.pages import Page, Wanted, page
from mosis.versions import Version

MOST = 500  # of one version: a conversation, not a store of files


@dataclass(frozen=True)
class Message:
    """One message. `sender` is "developer" or "reviewer"."""

    id: str
    version_id: str
    author_id: str
    sender: str
    internal: int
    text: str
    created_at: str


def add(db: Connection, caller: Caller, version: Version, sender: str, text: str, *, internal: bool = False) -> Message:
    """Say something about a version. Raises Conflict `limit_reached`."""
    with db.write():
        if db.value("SELECT count(*) FROM messages WHERE version_id = ?", version.id) >= MOST:
            raise Conflict("limit_reached", f"A version can have at most {MOST} messages.")
        message = Message(new_id(), version.id, caller.account, sender, int(internal), text, db.now)
        db.insert("messages", **vars(message))
        if sender == "reviewer" and not internal:
            owner, package_id = db.one("SELECT developer_id, package_id FROM apps WHERE id = ?", version.app_id)
            events.add(db, owner, "review.message", package_id=package_id, version=version.version, message=message.id)
        audit.add(db, caller, "review.message", version.id, message=message.id, sender=sender, internal=internal)
        return message


def index(db: Connection, version: Version, wanted: Wanted, *, internal: bool) -> Page[Message]:
    """The messages about a version, the oldest first; the internal ones only for reviewers."""
    rows = db.all(
        f"SELECT {columns(Message)} FROM messages WHERE version_id = ? AND id > ? AND internal <= ? ORDER BY id LIMIT ?",
        version.id, wanted.after[0] if wanted.after else "", int(internal), wanted.limit + 1, into=Message,
    )
    return page(rows, wanted, lambda message: (message.id,))
