"""Which group a crash report belongs to, and which groups an app has room for.

Anybody can send reports that look like new crashes. So that they hide no real one, there is room for SINGLE_GROUPS groups
that one device has met, and for NEW_SINGLES_A_DAY of a day; when it is full, the one with the fewest reports and the oldest
goes, not the newcomer. A household and a device take each other's places last: what they make beyond their own few a day takes
the place of what they made before. Groups that several devices have met always have a place.
"""

import hashlib
import json
import re
import secrets
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

from mosis.database import Connection, new_id
from mosis.telemetry.intake import OTHER
from mosis.telemetry.shares import DAY

ALGORITHM = 1
LINE_CHARACTERS = 300  # of a line: regexes never see more
NEW_SINGLES_A_DAY, SINGLE_GROUPS = 100, 1000  # of an app
SHARED_GROUPS = 4000  # that several devices have met; what is beyond belongs to one group "other"
GROUPS_OF_HOUSEHOLD, GROUPS_OF_DEVICE = 20, 10  # new ones a day and app
MOST_AUTHORS = 4000
_SEVERAL = "length(devices) > 4"  # a sketch of one device has one register: four bytes

_ADDRESS = re.compile(
    r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{8,}\b"
)
_PATH = re.compile(r"(?:[A-Za-z]:)?[\w.~+@-]*[/\\](?:[\w.~+@-]*[/\\])*")
_PLACE = re.compile(
    r"(?:\A|(?<=<))(?:[A-Za-z]:)?[^:<>]*[/\\](?=[^:<>/\\]+:[0-9])"
)  # folders before file:line, with spaces too
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Arrived:
    """A report, as far as its group needs to know it; times in seconds since 1970."""

    app: int
    mark: str
    crash: dict[str, Any]
    frames: list[str]
    at: int
    now: int


class Authors:
    """Which groups of today came from which household and device; in memory, by hashes, the longest unused forgotten."""

    def __init__(self) -> None:
        self._made: OrderedDict[bytes, deque[str]] = OrderedDict()
        self._day = 0
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()

    def groups(self, key: str, now: int) -> deque[str]:
        """The groups that somebody made today, the oldest first; to be changed inside the writers' lock alone."""
        hashed = hashlib.blake2b(key.encode(), digest_size=8, key=self._secret).digest()
        with self._lock:
            if now // DAY != self._day:
                self._made.clear()
                self._day = now // DAY
            found = self._made[hashed] = self._made.pop(hashed, deque())
            if len(self._made) > MOST_AUTHORS:
                self._made.popitem(last=False)
        return found


def normalised(line: str) -> str:
    """A line without what differs between devices and runs: addresses, folders, numbers."""
    return _NUMBER.sub(
        "#", _PATH.sub("", _PLACE.sub("", _ADDRESS.sub("ADDRESS", line[:LINE_CHARACTERS])))
    ).strip()


def of_report(
    db: Connection, report: Arrived, authors: Authors | None, keys: tuple[str, str]
) -> str:
    """The group of a report, in the running transaction; made when it is the first of its kind and there is room for it, else
    the group "other". `keys` are the device and the household; without `authors` they have no shares."""
    found = _find(db, report.app, report.mark)
    if found is not None:
        return found
    made = []
    if authors is not None:
        made = [authors.groups(key, report.now) for key in keys]
    if not _has_share(db, made) or not _has_room(db, report.app, report.now):
        return _find(db, report.app, OTHER) or _make(
            db,
            report,
            OTHER,
            {"type": OTHER, "message": "What came when there were too many groups."},
            [],
        )
    group = _make(db, report, report.mark, report.crash, report.frames)
    for each in made:
        each.append(group)
    return group


def _find(db: Connection, app: int, mark: str) -> str | None:
    found: str | None = db.value(
        "SELECT id FROM crash_groups WHERE app = ? AND algorithm = ? AND fingerprint = ?",
        app,
        ALGORITHM,
        mark,
    )
    return found


def _make(
    db: Connection, report: Arrived, mark: str, crash: dict[str, Any], frames: list[str]
) -> str:
    group = new_id()
    db.insert(
        "crash_groups",
        id=group,
        app=report.app,
        algorithm=ALGORITHM,
        fingerprint=mark,
        type=crash["type"],
        message=normalised(crash["message"].partition("\n")[0]),
        frames=json.dumps(frames, ensure_ascii=False),
        first_seen=report.at,
        last_seen=report.at,
        created_at=report.now,
    )
    return group


def _has_share(db: Connection, made: list[deque[str]]) -> bool:
    """Whether device and household may make another group: where one has made its number, the oldest of its own goes that has
    one report yet. False when all of them have more."""
    for groups, most in zip(made, (GROUPS_OF_DEVICE, GROUPS_OF_HOUSEHOLD), strict=False):
        if len(groups) >= most:  # some may have gone meanwhile
            for group in tuple(groups):
                if not db.value("SELECT 1 FROM crash_groups WHERE id = ?", group):
                    groups.remove(group)
        if len(groups) >= most and not _drop_one(db, groups):
            return False
    return True


def _drop_one(db: Connection, groups: deque[str]) -> bool:
    """Delete the oldest of these groups that has one report; whether there was one."""
    for group in tuple(groups):
        if db.change("DELETE FROM crash_groups WHERE id = ? AND count <= 1", group):
            groups.remove(group)
            return True
    return False


def _has_room(db: Connection, app: int, now: int) -> bool:
    """Whether an app may have another group; one that a single device has met gives way where it must."""
    midnight = now - now % DAY
    singles, today, several = db.one(
        f"SELECT count(*) FILTER (WHERE NOT {_SEVERAL}), count(*) FILTER (WHERE NOT {_SEVERAL} AND created_at >= ?),"
        f" count(*) FILTER (WHERE {_SEVERAL}) FROM crash_groups WHERE app = ? AND fingerprint <> ?",
        midnight,
        app,
        OTHER,
    )
    if several >= SHARED_GROUPS:
        return False
    if today >= NEW_SINGLES_A_DAY or singles >= SINGLE_GROUPS:
        db.change(
            "DELETE FROM crash_groups WHERE id = (SELECT id FROM crash_groups g WHERE app = ?1 AND fingerprint <> ?2"
            f" AND NOT {_SEVERAL} AND created_at >= ?3 ORDER BY count > 1, EXISTS (SELECT 1 FROM crash_counts c"
            " WHERE c.crash_group = g.id AND c.version <> ?2), last_seen, created_at, id LIMIT 1)",
            app,
            OTHER,
            midnight if today >= NEW_SINGLES_A_DAY else 0,
        )
    return True
