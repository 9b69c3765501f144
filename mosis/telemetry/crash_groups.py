"""Assigns crash reports to groups, and bounds the groups of an app.

Anybody can send reports that look like new crashes. To keep these from hiding real ones, an app may
have SINGLE_GROUPS groups that only one device has reported, and NEW_SINGLES_A_DAY new ones a day.
If these are used up, the oldest group with the fewest reports is deleted, not the new one. Each
network and device has a small daily share; beyond it, its new groups replace its own earlier ones
first. Groups reported by several devices are always stored.
"""

import hashlib
import json
import re
import secrets
import threading
from collections import OrderedDict, deque
from typing import Any

from mosis.clock import DAY
from mosis.database import Connection, new_id
from mosis.records import dataclass
from mosis.telemetry.hyperloglog import HyperLogLog
from mosis.telemetry.intake import OTHER

ALGORITHM = 1
LINE_CHARACTERS = 300  # of a line; regular expressions never see more
NEW_SINGLES_A_DAY, SINGLE_GROUPS = 100, 1000  # per app
SHARED_GROUPS = 4000  # reported by several devices; further ones are counted in a group "other"
GROUPS_OF_HOUSEHOLD, GROUPS_OF_DEVICE = 20, 10  # new ones per day and app
MOST_AUTHORS = 4000
# the HyperLogLog sketch of one device has one register: four bytes
_SEVERAL = "length(devices) > 4"

# what differs between devices and runs, in this order, and what it becomes; compiled at first use
_DIFFERENT: tuple[tuple[str, str], ...] = (
    (
        r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{8,}\b",
        "ADDRESS",
    ),
    # directories before file:line, also with spaces
    (r"(?:\A|(?<=<))(?:[A-Za-z]:)?[^:<>]*[/\\](?=[^:<>/\\]+:[0-9])", ""),
    (r"(?:[A-Za-z]:)?[\w.~+@-]*[/\\](?:[\w.~+@-]*[/\\])*", ""),
    (r"[0-9]+", "#"),
)


@dataclass(frozen=True)
class Arrived:
    """The fields of a report that its group needs; times in seconds since 1970."""

    app: int
    mark: str
    crash: dict[str, Any]
    frames: list[str]
    at: int
    now: int


class Authors:
    """Which groups of today each network and device created; in memory, as a bounded LRU."""

    def __init__(self) -> None:
        self._made: OrderedDict[bytes, deque[str]] = OrderedDict()
        self._day = 0
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()

    def groups(self, key: str, now: int) -> deque[str]:
        """Today's groups of one network or device, oldest first; changed under the write lock."""
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
    """A line without what differs between devices and runs: memory addresses, directories, numbers."""
    line = line[:LINE_CHARACTERS]
    for pattern, replacement in _DIFFERENT:
        line = re.sub(pattern, replacement, line)
    return line.strip()


def of_report(
    db: Connection, report: Arrived, authors: Authors | None, keys: tuple[str, str]
) -> str:
    """The group of a report, in the running transaction. If it is the first of its kind, a group is
    created, or if there is no room, the group "other" is used. `keys` are the device and the
    network; without `authors` they have no shares."""
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
            {"type": OTHER, "message": "Reports that arrived while there were too many groups."},
            [],
        )
    group = _make(db, report, report.mark, report.crash, report.frames)
    for each in made:
        each.append(group)
    return group


def count(db: Connection, group: str, device: bytes, at: int, now: int) -> int:
    """Count a report in its group and return its number there. A resolved group opens again if the
    crash happened after it was resolved."""
    count, known, resolved_at, state = db.one(
        "SELECT count, devices, resolved_at, state FROM crash_groups WHERE id = ?", group
    )
    devices = HyperLogLog(known)
    devices.add(device)
    sql = (
        "UPDATE crash_groups SET count = count + 1, devices = ?, first_seen = min(first_seen, ?), last_seen = max(last_seen, ?)"
        " WHERE id = ?"
    )
    db.change(sql, devices.stored(), at, at, group)
    if state == "resolved" and at > resolved_at:
        db.update(
            "crash_groups", "id = ?", group, state="open", reopened_at=now, announced=0, digested=0
        )
    return int(count) + 1


def set_state(db: Connection, group: str, state: str) -> None:
    """Mark a group as resolved or open, in the running transaction."""
    column = "resolved_at" if state == "resolved" else "reopened_at"
    sql = f"UPDATE crash_groups SET state = ?, {column} = ? WHERE id = ?"
    db.change(sql, state, int(db.clock.time()), group)


def mark(db: Connection, column: str, groups: list[str]) -> None:
    """Set `announced` or `digested`, in the running transaction."""
    sql = f"UPDATE crash_groups SET {column} = 1 WHERE id IN (SELECT value FROM json_each(?))"
    db.change(sql, json.dumps(groups))


def _find(db: Connection, app: int, mark: str) -> str | None:
    sql = "SELECT id FROM crash_groups WHERE app = ? AND algorithm = ? AND fingerprint = ?"
    found: str | None = db.value(sql, app, ALGORITHM, mark)
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
    """Whether device and network may create another group. If one has used its share, its oldest
    group with a single report is deleted; False if all of them have more reports."""
    for groups, most in zip(made, (GROUPS_OF_DEVICE, GROUPS_OF_HOUSEHOLD), strict=False):
        if len(groups) >= most:  # some may have been deleted meanwhile
            for group in tuple(groups):
                if not db.value("SELECT 1 FROM crash_groups WHERE id = ?", group):
                    groups.remove(group)
        if len(groups) >= most and not _drop_one(db, groups):
            return False
    return True


def _drop_one(db: Connection, groups: deque[str]) -> bool:
    """Delete the oldest of these groups that has a single report. Returns whether there was one."""
    for group in tuple(groups):
        if db.change("DELETE FROM crash_groups WHERE id = ? AND count <= 1", group):
            groups.remove(group)
            return True
    return False


def _has_room(db: Connection, app: int, now: int) -> bool:
    """Whether an app may have another group; one of a single device is deleted if need be."""
    midnight = now - now % DAY
    sql = (
        f"SELECT count(*) FILTER (WHERE NOT {_SEVERAL}), count(*) FILTER (WHERE NOT {_SEVERAL} AND created_at >= ?),"
        f" count(*) FILTER (WHERE {_SEVERAL}) FROM crash_groups WHERE app = ? AND fingerprint <> ?"
    )
    singles, today, several = db.one(sql, midnight, app, OTHER)
    if several >= SHARED_GROUPS:
        return False
    if today >= NEW_SINGLES_A_DAY or singles >= SINGLE_GROUPS:
        sql = (
            "DELETE FROM crash_groups WHERE id = (SELECT id FROM crash_groups g WHERE app = ?1 AND fingerprint <> ?2"
            f" AND NOT {_SEVERAL} AND created_at >= ?3 ORDER BY count > 1, EXISTS (SELECT 1 FROM crash_counts c"
            " WHERE c.crash_group = g.id AND c.version <> ?2), last_seen, created_at, id LIMIT 1)"
        )
        db.change(sql, app, OTHER, midnight if today >= NEW_SINGLES_A_DAY else 0)
    return True
