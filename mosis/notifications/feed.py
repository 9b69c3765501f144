"""Notifications: an account's events as sentences, read or unread, and mailed by choice."""

import time
from functools import partial
from typing import Any

from mosis import events
from mosis.caller import Caller
from mosis.clock import HOUR, seconds
from mosis.context import Context
from mosis.database import Connection
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import NotFound
from mosis.events import Event
from mosis.jobs import Again
from mosis.notifications import mails
from mosis.people import accounts

MAILS_AN_HOUR = 20  # messages to one account; security messages have the same limit of their own
MOST_IN_ONE_MAIL = 200  # notifications in one summary mail
TURN_SECONDS = 1.0  # a job that has sent mails for this long ends, so that others get their turn


def shown(event: Event) -> dict[str, Any]:
    """The event as clients and webhook receivers see it."""
    return {
        "id": event.id,
        "kind": event.kind,
        "created_at": event.created_at,
        "app": {"package_id": event.package_id} if event.package_id else None,
        "version": event.version,
        "data": event.facts,
        "text": mails.text(event),
        "read_at": event.read_at,
    }


def index(
    db: Connection, caller: Caller, paging: PageRequest, *, unread: bool = False
) -> Page[Event]:
    """The caller's notifications, newest first."""
    where = "developer_id = ?1 AND (?2 = 0 OR read_at IS NULL)"
    return newest_first(db, Event, where, caller.account, int(unread), paging=paging, by="number")


def unread_count(db: Connection, caller: Caller) -> int:
    """The number of the caller's unread notifications."""
    sql = "SELECT count(*) FROM events WHERE developer_id = ? AND read_at IS NULL"
    return int(db.value(sql, caller.account))


def read(db: Connection, caller: Caller, event_id: str) -> Event:
    """Mark one as read; repeating keeps the first time. Raises NotFound."""
    with db.write():
        events.mark_read(db, caller.account, event_id)
        found = events.find(db, event_id)
        if found is None or found.developer_id != caller.account:
            raise NotFound("notification")
        return found


def read_all(db: Connection, caller: Caller) -> int:
    """Mark all as read. Returns the number that were unread."""
    with db.write():
        return events.mark_read(db, caller.account)


def mail(env: Context, developer_id: str) -> Again | None:
    """Job: mail an account its notifications; see `_mail`."""
    return _mail(env, developer_id, urgent=False)


def mail_security(env: Context, developer_id: str) -> Again | None:
    """Job: mail an account its security notifications; see `_mail`."""
    return _mail(env, developer_id, urgent=True)


def _mail(env: Context, developer_id: str, *, urgent: bool) -> Again | None:
    """Send the mails that are due, at most MAILS_AN_HOUR messages per hour; if they do not fit, one
    summary for the rest. Events are marked after the mail server has accepted the message: after a
    crash a mail may be sent twice, but is never lost."""
    db, begun = env.db.connection(), time.monotonic()
    while due := _due_mails(db, developer_id, urgent):
        developer = accounts.get(db, developer_id)
        choices = events.mail_choices(db, developer_id)
        wanted = [
            each
            for each in due
            if choices[each.kind] and not developer.suspended and not mails.is_success(each)
        ]
        if not wanted:
            with db.write():
                events.mark_mailed(db, [each.id for each in due], None)
            continue
        sent, oldest = _sent_in_the_last_hour(db, developer_id, urgent)
        if sent >= MAILS_AN_HOUR:
            return Again(HOUR - (seconds(env.clock.now()) - seconds(oldest)))
        mailed = wanted[:1] if len(wanted) <= MAILS_AN_HOUR - sent else wanted
        subject, body = mails.compose(env, mailed)
        env.mailer.send(
            developer.email,
            subject,
            body,
            mailed[0].id,
            settings_url=env.url(mails.SETTINGS),
            is_wanted=partial(accounts.has_address, db, developer.id, developer.email),
        )
        until = mailed[-1].number
        with db.write():
            done = [each.id for each in due if each.number <= until]
            events.mark_mailed(db, done, mailed[0].id)
        if time.monotonic() - begun > TURN_SECONDS:
            return Again(0)
    return None


def _due_mails(db: Connection, developer_id: str, urgent: bool) -> list[Event]:
    where = "developer_id = ? AND mail_due = 1 AND (kind LIKE ?) = ? ORDER BY number LIMIT ?"
    found = db.select(
        Event, where, developer_id, events.URGENT + "%", int(urgent), MOST_IN_ONE_MAIL
    )
    return found


def _sent_in_the_last_hour(db: Connection, developer_id: str, urgent: bool) -> tuple[int, str]:
    """The number of messages sent in the last hour, and the time of the first."""
    sql = (
        "SELECT count(*), coalesce(min(mailed_at), '') FROM events WHERE developer_id = ? AND mailed_at > ?"
        " AND mailed_at <= ? AND (kind LIKE ?) = ?"
    )
    count, oldest = db.one(
        sql, developer_id, db.clock.now(-HOUR), db.clock.now(), events.URGENT + "%", int(urgent)
    )
    return count, oldest
