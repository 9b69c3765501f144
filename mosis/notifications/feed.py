"""What developers are told: their events with a sentence each, read or unread, and by mail for the kinds they want."""

from typing import Any

from mosis import events
from mosis.caller import Caller
from mosis.context import Environment
from mosis.database import Connection, columns
from mosis.database.pagination import Page, Wanted, page
from mosis.errors import NotFound
from mosis.events import Event
from mosis.people import accounts

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


def index(db: Connection, caller: Caller, wanted: Wanted, *, unread: bool = False) -> Page[Event]:
    """The caller's notifications, the newest first."""
    rows = db.all(
        f"SELECT {columns(Event)} FROM events WHERE developer_id = ?1 AND (?2 = 0 OR read_at IS NULL)"
        " AND (?3 IS NULL OR number < ?3) ORDER BY number DESC LIMIT ?4",
        caller.account,
        int(unread),
        wanted.after[0] if wanted.after else None,
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


def mail(env: Environment, event_id: str) -> None:
    """The job that mails an event. It is marked when the server has taken it: a kill in between means twice, never not at all."""
    db = env.db.connection()
    event = events.find(db, event_id)
    if event is None or db.value("SELECT mailed_at FROM events WHERE id = ?", event_id):
        return
    developer = accounts.get(db, event.developer_id)
    if event.kind in FAILED and not _failed(event):
        return  # good news that can wait
    if developer.suspended or not events.mail_choices(db, developer.id)[event.kind]:
        return
    said = text(event)
    ending = (
        f'PATCH /v1/auth/me with {{"mail": {{"{event.kind}": false}}}} ends mails of this kind.'
    )
    body = f"{said}\n\n{event.created_at}, {env.config.base_url}\n{ending}\n"
    env.mailer.send(
        developer.email,
        said[:150],
        body,
        event.id,
        is_wanted=lambda: accounts.has_address(db, developer.id, developer.email),
    )
    with db.write():
        db.change("UPDATE events SET mailed_at = ? WHERE id = ?", db.now, event_id)


def _failed(event: Event) -> bool:
    facts = event.facts
    return (event.kind == "version.checked" and facts.get("state") == "failed") or (
        event.kind == "operator.drill" and not facts.get("passed")
    )
