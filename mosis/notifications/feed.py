"""What developers are told: their events with a sentence each, read or unread, and by mail for the kinds they want."""

import json
import time
from functools import partial
from typing import Any

from mosis import events
from mosis.caller import Caller
from mosis.clock import seconds
from mosis.context import Context
from mosis.database import Connection, columns
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import NotFound
from mosis.events import Event
from mosis.jobs import Again
from mosis.people import accounts

HOUR = 3600
MAILS_AN_HOUR = 20  # messages to one account, of those about its security as many again
MOST_IN_ONE_MAIL = 200  # notifications that one message sums up
TURN_SECONDS = 1.0  # after this much sending no further message is begun: others have their turn

# One sentence a kind. The names in braces are the event's own fields and facts.
TEXTS = {
    "version.checked": "{package_id} {version} passed the checks.",
    "version.submitted": "{package_id} {version} waits for a reviewer.",
    "version.approved": "{package_id} {version} was approved; publish it when you like, unless you chose to have that done.",
    "version.rejected": "{package_id} {version} was rejected; the review says why.",
    "version.published": "{package_id} {version} is published.",
    "version.halted": "{package_id} {version} is halted: no further device is offered it.",
    "version.yanked": "{package_id} {version} was taken back.",
    "review.message": "The {sender} wrote about {package_id} {version}.",
    "crash.new_group": "{package_id} crashes in a new way.",
    "crash.digest": "{package_id} crashes in {new} way(s) that are new or have come back: {summary}",
    "security.signed_in_elsewhere": "Somebody signed in to your account from {network} ({client}), where it was never used before.",
    "security.token_reused": "A refresh token was used twice, so the session was ended. If it was not you, change your password.",
    "security.key_reported": "The API key {name!r} ({prefix}...) was found in a public place and is revoked.",
    "security.password_changed": "Your password was changed and your other sessions were ended.",
    "security.provider_linked": "From {network}, {provider} was linked: it opens your account now. If it was not you, unlink it.",
    "key.expiring": "The API key {name!r} ({prefix}...) ends at {expires_at}.",
    "operator.drill": "The restore drill passed in {seconds} s: {lost_rows} rows behind, {packages_checked} packages hashed.",
    "webhook.switched_off": "The webhook to {host} was switched off: {why}. Switch it on again when the receiver answers.",
}

FAILED = {
    "version.checked": "The checks of {package_id} {version} found errors; see its findings.",
    "operator.drill": "The restore drill FAILED, the backup would not help: {findings}.",
}


class _Known(dict[str, Any]):
    """Facts for a text; what an older event did not say yet is left open."""

    def __missing__(self, name: str) -> str:
        return "?"


def text(event: Event) -> str:
    """The event in a sentence."""
    said = (FAILED if _failed(event) else TEXTS)[event.kind]
    return said.format_map(_Known(event.facts, package_id=event.package_id, version=event.version))


def shown(event: Event) -> dict[str, Any]:
    """The event as clients and receivers of webhooks see it."""
    return {
        "id": event.id,
        "kind": event.kind,
        "created_at": event.created_at,
        "app": {"package_id": event.package_id} if event.package_id else None,
        "version": event.version,
        "data": event.facts,
        "text": text(event),
        "read_at": event.read_at,
    }


def index(
    db: Connection, caller: Caller, wanted: PageRequest, *, unread: bool = False
) -> Page[Event]:
    """The caller's notifications, the newest first."""
    rows = db.all(
        f"SELECT {columns(Event)} FROM events WHERE developer_id = ?1 AND (?2 = 0 OR read_at IS NULL)"
        " AND (?3 IS NULL OR number < ?3) ORDER BY number DESC LIMIT ?4",
        caller.account,
        int(unread),
        wanted.position,
        wanted.limit + 1,
        into=Event,
    )
    return page(rows, wanted, lambda event: (event.number,))


def unread_count(db: Connection, caller: Caller) -> int:
    """How many the caller has not read."""
    return int(
        db.value(
            "SELECT count(*) FROM events WHERE developer_id = ? AND read_at IS NULL", caller.account
        )
    )


def read(db: Connection, caller: Caller, event_id: str) -> Event:
    """Mark one as read; twice keeps the first time. Raises NotFound."""
    account = caller.account
    with db.write():
        db.change(
            "UPDATE events SET read_at = ? WHERE id = ? AND developer_id = ? AND read_at IS NULL",
            db.now,
            event_id,
            account,
        )
        found = events.find(db, event_id)
        if found is None or found.developer_id != account:
            raise NotFound("notification")
        return found


def read_all(db: Connection, caller: Caller) -> int:
    """Mark all as read; how many there were."""
    account = caller.account
    with db.write():
        return db.change(
            "UPDATE events SET read_at = ? WHERE developer_id = ? AND read_at IS NULL",
            db.now,
            account,
        )


def mail(env: Context, developer_id: str) -> Again | None:
    """The job that mails an account its notifications; see `_mail`."""
    return _mail(env, developer_id, urgent=False)


def mail_security(env: Context, developer_id: str) -> Again | None:
    """The job that mails an account what concerns its security; see `_mail`."""
    return _mail(env, developer_id, urgent=True)


def _mail(env: Context, developer_id: str, *, urgent: bool) -> Again | None:
    """Send the mails that are due, at most MAILS_AN_HOUR messages in an hour: where not all fit, one sums up the rest. An event is
    marked when the server has taken its mail: a kill in between means twice, never not at all."""
    db, begun = env.db.connection(), time.monotonic()
    while due := _due_mails(db, developer_id, urgent):
        developer = accounts.get(db, developer_id)
        choices = events.mail_choices(db, developer_id)
        wanted = [
            each
            for each in due
            if choices[each.kind] and not developer.suspended and not _is_good_news(each)
        ]
        if not wanted:
            _mark(db, due, None)
            continue
        sent, oldest = _sent_in_the_last_hour(db, developer_id, urgent)
        if sent >= MAILS_AN_HOUR:
            return Again(HOUR - (seconds(env.clock.now()) - seconds(oldest)))
        told = wanted[:1] if len(wanted) <= MAILS_AN_HOUR - sent else wanted
        subject, body = _message(env, told)
        env.mailer.send(
            developer.email,
            subject,
            body,
            told[0].id,
            is_wanted=partial(accounts.has_address, db, developer.id, developer.email),
        )
        until = told[-1].number
        _mark(db, [each for each in due if each.number <= until], told[0].id)
        if time.monotonic() - begun > TURN_SECONDS:
            return Again(0)
    return None


def _due_mails(db: Connection, developer_id: str, urgent: bool) -> list[Event]:
    found = db.all(
        f"SELECT {columns(Event)} FROM events WHERE developer_id = ? AND mail_due = 1 AND (kind LIKE ?) = ?"
        " ORDER BY number LIMIT ?",
        developer_id,
        events.URGENT + "%",
        int(urgent),
        MOST_IN_ONE_MAIL,
        into=Event,
    )
    return found


def _sent_in_the_last_hour(db: Connection, developer_id: str, urgent: bool) -> tuple[int, str]:
    """How many messages went out, and when the first of them did."""
    count, oldest = db.one(
        "SELECT count(*), coalesce(min(mailed_at), '') FROM events WHERE developer_id = ? AND mailed_at > ?"
        " AND mailed_at <= ? AND (kind LIKE ?) = ?",
        developer_id,
        db.clock.now(-HOUR),
        db.clock.now(),
        events.URGENT + "%",
        int(urgent),
    )
    return count, oldest


def _mark(db: Connection, done: list[Event], mailed_id: str | None) -> None:
    """No mail is due for these any more; the one whose id the message had says when it went out."""
    with db.write():
        db.change(
            "UPDATE events SET mail_due = 0, mailed_at = iif(id = ?1, ?2, mailed_at)"
            " WHERE id IN (SELECT value FROM json_each(?3))",
            mailed_id,
            db.now,
            json.dumps([each.id for each in done]),
        )


def _message(env: Context, told: list[Event]) -> tuple[str, str]:
    """Subject and text of one mail about one event or several."""
    sentences = [text(each) for each in told]
    kinds = sorted({each.kind for each in told})
    off = json.dumps({"mail": dict.fromkeys(kinds, False)})
    ending = f"PATCH /v1/auth/me with {off} ends mails of {'this kind' if len(kinds) == 1 else 'these kinds'}."
    if len(told) == 1:
        return (
            sentences[0][:150],
            f"{sentences[0]}\n\n{told[0].created_at}, {env.config.base_url}\n{ending}\n",
        )
    lines = [f"{each.created_at}  {said}" for each, said in zip(told, sentences, strict=True)]
    why = f"There were more than {MAILS_AN_HOUR} notifications within an hour, so these come together."
    return (
        f"{len(told)} notifications - {env.config.base_url}",
        "\n".join([why, "", *lines, "", env.config.base_url, ending, ""]),
    )


def _is_good_news(event: Event) -> bool:
    """Whether it is only mailed when it failed, and it did not."""
    return event.kind in FAILED and not _failed(event)


def _failed(event: Event) -> bool:
    facts = event.facts
    return (event.kind == "version.checked" and facts.get("state") == "failed") or (
        event.kind == "operator.drill" and not facts.get("passed")
    )
