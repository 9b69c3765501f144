"""The navigation of the console."""

from mosis.caller import Caller
from mosis.records import dataclass


@dataclass(frozen=True)
class Entry:
    """A link of the navigation: its path, the key of its text, and the role that sees it."""

    path: str
    text: str
    role: str = "developer"


ENTRIES = (
    Entry("/console/", "navigation.overview"),
    Entry("/console/notifications", "navigation.notifications"),
    Entry("/console/reviews", "navigation.reviews", role="reviewer"),
    Entry("/console/reports", "navigation.reports", role="reviewer"),
    Entry("/console/account", "navigation.account"),
    Entry("/console/admin", "navigation.admin", role="admin"),
)


def entries_for(caller: Caller) -> list[Entry]:
    """The links for a signed-in account."""
    return [entry for entry in ENTRIES if caller.has_role(entry.role)]
