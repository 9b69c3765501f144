"""Events: what happened to an account's objects, a row each, in the change's transaction."""

import json
from typing import Any

from mosis import jobs
from mosis.caller import Caller
from mosis.clock import CORRECTED_SECONDS, seconds
from mosis.database import Connection, Record, new_id
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import Malformed
from mosis.events.kinds import KINDS as KINDS
from mosis.records import dataclass

LONGEST_REST_SECONDS = 300  # of a webhook after a failure
MOST_WAITING = 500  # waiting deliveries of one webhook; beyond this the oldest are given up
RETENTION_SECONDS = 90 * 24 * 3600
MOST_STORED = 5000  # events of one account
SWEPT_AT_ONCE = 1000  # rows per transaction, so that others can write in between
URGENT = "security."  # kinds whose mail is not delayed by others


@dataclass(frozen=True)
class Event(Record, table="events"):
    """A row of `events`."""

    number: int
    id: str
    developer_id: str
    kind: str
    package_id: str | None
    version: str | None
    data: str
    created_at: str
    read_at: str | None

    @property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads(self.data))


def add(
    db: Connection,
    developer_id: str,
    kind: str,
    *,
    package_id: str | None = None,
    version: str | None = None,
    **data: Any,
) -> str:
    """Record an event, in the running transaction, with its mail and webhooks. Returns its id."""
    event_id = new_id()
    mailed = mail_choices(db, developer_id)[kind]
    db.insert(
        "events",
        id=event_id,
        developer_id=developer_id,
        kind=kind,
        package_id=package_id,
        version=version,
        data=json.dumps(data, ensure_ascii=False),
        created_at=db.now,
        mail_due=int(mailed),
    )
    db.notify(developer_id)
    if mailed:
        job = "mail_security" if kind.startswith(URGENT) else "mail_event"
        jobs.add(
            db,
            job,
            owner=developer_id,
            unique_key=f"{job}:{developer_id}",
            again=True,
            developer_id=developer_id,
        )
    sql = (
        "SELECT id, rests_until FROM webhooks WHERE developer_id = ?1 AND enabled = 1"
        " AND (kinds IS NULL OR EXISTS (SELECT 1 FROM json_each(kinds) WHERE value = ?2))"
    )
    for webhook_id, rests_until in db.all(sql, developer_id, kind):
        db.insert(
            "webhook_deliveries",
            id=new_id(),
            webhook_id=webhook_id,
            event_id=event_id,
            due_at=db.now,
            begun_at=db.now,
            created_at=db.now,
        )
        _give_up_oldest(db, webhook_id)
        queue_deliveries(db, developer_id, webhook_id, rests_until)
    return event_id


def queue_deliveries(
    db: Connection, developer_id: str, webhook_id: str, rests_until: str | None
) -> None:
    """Queue the one job that sends a webhook's waiting deliveries, not before its pause ends."""
    rest = seconds(rests_until) - seconds(db.now) if rests_until else 0
    if rest > LONGEST_REST_SECONDS + CORRECTED_SECONDS:  # written while the clock was ahead
        rest = 0
    jobs.add(
        db,
        "deliver_webhook",
        owner=developer_id,
        after_seconds=max(0, rest),
        unique_key=f"webhook:{webhook_id}",
        again=True,
        webhook_id=webhook_id,
    )


def _give_up_oldest(db: Connection, webhook_id: str) -> None:
    sql = (
        "UPDATE webhook_deliveries SET state = 'failed', error = 'too many were waiting', finished_at = ? WHERE id IN"
        " (SELECT id FROM webhook_deliveries WHERE webhook_id = ? AND state = 'waiting' ORDER BY rowid DESC LIMIT -1 OFFSET ?)"
    )
    db.change(sql, db.now, webhook_id, MOST_WAITING)


def sweep(env: Any) -> None:
    """Job: delete events after ninety days, and all but the newest MOST_STORED of an account."""
    db = env.db.connection()
    old = "SELECT number FROM (SELECT number, created_at FROM events ORDER BY number LIMIT ?) WHERE created_at < ?"
    while numbers := db.all(old, SWEPT_AT_ONCE, env.clock.now(-RETENTION_SECONDS)):
        _forget(db, numbers)
    sql = "SELECT developer_id FROM events GROUP BY developer_id HAVING count(*) > ?"
    crowded = db.all(sql, MOST_STORED)
    for (developer_id,) in crowded:
        too_many = (
            "SELECT number FROM events WHERE developer_id = ?1 AND number <= (SELECT number FROM events WHERE developer_id = ?1"
            " ORDER BY number DESC LIMIT 1 OFFSET ?2) ORDER BY number LIMIT ?3"
        )
        while numbers := db.all(too_many, developer_id, MOST_STORED, SWEPT_AT_ONCE):
            _forget(db, numbers)


def _forget(db: Connection, numbers: list[tuple[int]]) -> None:
    with db.write():
        sql = "DELETE FROM events WHERE number IN (SELECT value FROM json_each(?))"
        db.change(sql, json.dumps([number for (number,) in numbers]))


def mail_choices(db: Connection, developer_id: str) -> dict[str, bool]:
    """For each kind of event, whether it is mailed to this account."""
    chosen: dict[str, bool] = json.loads(
        db.value("SELECT mail_choices FROM developers WHERE id = ?", developer_id)
    )
    return {name: kind.mailed for name, kind in KINDS.items()} | chosen


def find(db: Connection, event_id: str) -> Event | None:
    """The event with this id, or None."""
    return db.find(Event, "id = ?", event_id)


def mark_read(db: Connection, developer_id: str, event_id: str | None = None) -> int:
    """Mark one event of an account, or all, as read, in the running transaction; repeating keeps
    the first time. Returns the number that were unread."""
    sql = "UPDATE events SET read_at = ?1 WHERE developer_id = ?2 AND read_at IS NULL AND (?3 IS NULL OR id = ?3)"
    return db.change(sql, db.now, developer_id, event_id)


def mark_mailed(db: Connection, event_ids: list[str], message_id: str | None) -> None:
    """Mark these as mailed, in the running transaction; `message_id` gets the time."""
    sql = (
        "UPDATE events SET mail_due = 0, mailed_at = iif(id = ?1, ?2, mailed_at)"
        " WHERE id IN (SELECT value FROM json_each(?3))"
    )
    db.change(sql, message_id, db.now, json.dumps(event_ids))


def after(db: Connection, caller: Caller, paging: PageRequest) -> Page[Event]:
    """The caller's events behind a number, in order. Callers with limited scopes (API keys, device
    logins) see only events of apps, and only of apps they may access."""
    limited, only = (
        caller.scopes is not None,
        None if caller.apps is None else json.dumps(sorted(caller.apps)),
    )
    where = (
        "developer_id = ?1 AND number > ?2 AND (?3 = 0 OR package_id IS NOT NULL) AND (?4 IS NULL"
        " OR package_id IN (SELECT package_id FROM apps WHERE id IN (SELECT value FROM"
        " json_each(?4)))) ORDER BY number LIMIT ?5"
    )
    rows = db.select(
        Event, where, caller.account, paging.position or 0, int(limited), only, paging.limit + 1
    )
    return page(rows, paging, lambda event: (event.number,))


def number_of(db: Connection, caller: Caller, event_id: str) -> int:
    """The position of one of the caller's events. Raises Malformed `bad_cursor`."""
    sql = "SELECT number FROM events WHERE id = ? AND developer_id = ?"
    number: int | None = db.value(sql, event_id, caller.account)
    if number is None:
        detail = "`after` is not the id of one of your events; start again without it."
        raise Malformed("bad_cursor", detail)
    return number


def newest_id(db: Connection, caller: Caller) -> str | None:
    """The id of the caller's last event."""
    sql = "SELECT id FROM events WHERE developer_id = ? ORDER BY number DESC LIMIT 1"
    found: str | None = db.value(sql, caller.account)
    return found


def newest(db: Connection, caller: Caller) -> int:
    """The position of the caller's last event; 0 without any."""
    sql = "SELECT coalesce(max(number), 0) FROM events WHERE developer_id = ?"
    return int(db.value(sql, caller.account))
