"""Changes of the store in order, for mirrors.

Each app has one row with the number of its last change; triggers write it in the transaction of the
change. A client that knows all changes up to a number requests the later ones.
"""

from mosis.database import Connection
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import Malformed
from mosis.records import dataclass


@dataclass(frozen=True)
class Change:
    """The last change of an app. The version is None once it was removed."""

    number: int
    package_id: str
    added: int
    removed: int
    version: str | None
    version_code: int | None
    sha256: str | None
    updated_at: str | None

    def kind(self, after: int) -> str:
        """The kind of the change for a client that knows the store up to a number."""
        return "removed" if self.removed else "added" if self.added > after else "updated"


def changes(db: Connection, after: int, wanted: PageRequest) -> Page[Change]:
    """The last change of each app that has changed after a number, in order. Raises Malformed
    `bad_cursor` for a number that the store has not reached: its database is an older one."""
    newest = db.value("SELECT coalesce(max(number), 0) FROM store_changes")
    if after > newest:
        raise Malformed(
            "bad_cursor",
            f"The last change is number {newest}: the database was restored. Start again with after=0.",
        )
    rows = db.all(
        "SELECT c.number, c.package_id, c.added, c.removed, l.version, l.version_code, l.sha256, l.updated_at"
        " FROM store_changes c LEFT JOIN listings l ON l.package_id = c.package_id"
        " WHERE c.number > ? ORDER BY c.number LIMIT ?",
        max(after, wanted.position or 0),
        wanted.limit + 1,
        into=Change,
    )
    return page(rows, wanted, lambda change: (change.number,))
