"""Email tokens: single-use links that verify an address, set a new password or accept an
invitation.

The token is derived from the row's id with the server's secret, when the mail is written and when
it is presented; the database contains nothing that opens an account.
"""

from mosis import jobs
from mosis.caller import Caller
from mosis.clock import for_people
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection, Record, new_id
from mosis.errors import Denied
from mosis.outbound.mail import paragraph
from mosis.records import dataclass

PAGES = {
    "verify": "/console/verify",
    "reset": "/console/reset",
    "invite": "/console/invitation",
    "change": "/console/verify",
    "undo": "/console/undo",
}
LIFE_SECONDS = {
    "verify": 7 * 24 * 3600,
    "reset": 30 * 60,
    "invite": 7 * 24 * 3600,
    "change": 24 * 3600,
    "undo": 72 * 3600,
}
# Subject and request of each mail.
LETTERS = {
    "verify": (
        "Verify your address",
        "Welcome. Please open this link, and sign in if you are asked to, to show that this mailbox"
        " is yours:",
    ),
    "reset": (
        "Set a new password",
        "Somebody, probably you, wants to set a new password for your account. Choose one here:",
    ),
    "invite": (
        "You are invited",
        "You are invited to publish apps here. Register your account with this link:",
    ),
    "change": (
        "Confirm your new address",
        "This mailbox is to be the new address of an account. If it is your account, open this link"
        " and sign in to confirm that:",
    ),
    "undo": (
        "Your address is being changed",
        "Somebody who is signed in to your account has asked for another e-mail address. If it was"
        " you, there is nothing to do. If not, open this link: the account gets this address back,"
        " every session and key of it ends, and you are sent a link to set a new password:",
    ),
}
OTHERWISE = {
    "reset": "If it was not you, ignore this mail: your password stays as it is.",
    "invite": "If you do not know what this is about, ignore this mail: no account is made.",
    "change": "If you have not asked for that, ignore this mail: nothing changes.",
    "undo": "The link also works after the address was changed.",
}
# These go to an address that is not the one of the account.
ELSEWHERE = ("change", "undo")


@dataclass(frozen=True)
class Ticket(Record, table="tickets"):
    """A row of `tickets`."""

    id: str
    developer_id: str | None
    purpose: str
    email: str
    created_at: str
    expires_at: str
    used_at: str | None


def issue(db: Connection, purpose: str, email: str, developer_id: str | None = None) -> Ticket:
    """Create an email token and the job that mails it, in the running transaction. Earlier tokens
    for the same purpose become invalid."""
    sql = "UPDATE tickets SET used_at = ? WHERE purpose = ? AND developer_id IS ? AND email = ? AND used_at IS NULL"
    db.change(sql, db.now, purpose, developer_id, email)
    expires_at = db.clock.now(LIFE_SECONDS[purpose])
    ticket = Ticket(new_id(), developer_id, purpose, email, db.now, expires_at, None)
    db.insert("tickets", **vars(ticket))
    jobs.add(db, "mail_ticket", owner=developer_id or "invitations", ticket_id=ticket.id)
    return ticket


def cancel(db: Connection, purpose: str, developer_id: str) -> None:
    """Make an account's tokens for a purpose invalid, in the running transaction."""
    sql = (
        "UPDATE tickets SET used_at = ? WHERE developer_id = ? AND purpose = ? AND used_at IS NULL"
    )
    db.change(sql, db.now, developer_id, purpose)


def delete_expired(db: Connection, before: str) -> None:
    """Delete tokens that expired before this time, in the running transaction."""
    db.change("DELETE FROM tickets WHERE expires_at < ?", before)


def read(env: Context, db: Connection, token: str, purpose: str) -> Ticket:
    """The row of a valid token. Raises Denied `invalid_token`, also for another purpose."""
    ticket = _get(db, tokens.read_ticket(env.secret, token))
    if ticket.purpose != purpose or ticket.used_at or _expired(env, ticket):
        raise Denied("invalid_token", "This link has been used or has expired; ask for a new one.")
    return ticket


def purpose_of(env: Context, db: Connection, token: str) -> str:
    """What a token is for, whether it is still valid or not. Raises Denied `invalid_token`."""
    return _get(db, tokens.read_ticket(env.secret, token)).purpose


def spend(env: Context, db: Connection, token: str, purpose: str) -> Ticket:
    """As `read`, and mark it as used, in the running transaction. Raises Denied `invalid_token`."""
    ticket = read(env, db, token, purpose)
    db.update("tickets", "id = ? AND used_at IS NULL", ticket.id, used_at=db.now)
    return ticket


def mail(env: Context, ticket_id: str) -> None:
    """Job: mail a token, unless it or its account has ended; twice with the same Message-ID."""
    db = env.db.connection()
    found = _find(db, ticket_id)
    if found is None or not _is_wanted(env, db, ticket_id):
        return
    token = tokens.make_ticket(env.secret, found.id)
    subject, request = LETTERS[found.purpose]
    text = (
        f"{paragraph(request)}\n\n{env.url(PAGES[found.purpose])}#{token}\n\n"
        f"{paragraph(f'The link works once, until {for_people(found.expires_at)}.')}\n\n"
        f"{paragraph(_ending(db, found))}\n\n"
        f"A program sends this token instead of opening the link:\n\n{token}\n"
    )
    env.mailer.send(
        found.email,
        f"{subject} - {env.config.store_name}",
        text,
        found.id,
        is_wanted=lambda: _is_wanted(env, db, ticket_id),
    )


def _ending(db: Connection, ticket: Ticket) -> str:
    """What to do for a reader who did not ask for the mail. A verification mail names when and from
    where the account was registered."""
    if ticket.purpose != "verify":
        return OTHERWISE[ticket.purpose]
    at, network = db.one(
        "SELECT d.created_at, (SELECT address FROM audit WHERE owner_id = d.id AND subject_id = d.id"
        " AND action = 'account.created' ORDER BY number LIMIT 1) FROM developers d WHERE d.id = ?",
        ticket.developer_id,
    )
    return (
        f"The account was registered on {for_people(at)}, from the network "
        f"{network or '(unknown)'}. Was that not you? Then ignore this mail, or take the account "
        "over: open the link and choose a password of your own. Every other session and key of "
        "the account then ends."
    )


def _is_wanted(env: Context, db: Connection, ticket_id: str) -> bool:
    """Whether a token is valid and of use to its account; checked just before it is mailed."""
    found = _find(db, ticket_id)
    if found is None or found.used_at or _expired(env, found):
        return False
    sql = "SELECT 1 FROM developers WHERE id = ? AND (email = ? OR ?) AND suspended = 0"
    return found.developer_id is None or db.has(
        sql, found.developer_id, found.email, found.purpose in ELSEWHERE
    )


def check_session(caller: Caller, developer_id: str) -> None:
    """Raises Denied `forbidden` for a caller of another account, or without a session."""
    if caller.developer_id is None:
        return
    if caller.session_id is None or caller.scopes is not None:
        raise Denied("forbidden", "This cannot be done with an API key or a device login; sign in.")
    if caller.developer_id != developer_id:
        raise Denied("forbidden", "This link is for another account; sign in to that one.")


def _expired(env: Context, ticket: Ticket) -> bool:
    """Whether it has expired, also by an expiry that is too far ahead: the clock was wrong."""
    longest = env.clock.latest(LIFE_SECONDS[ticket.purpose])
    return not env.clock.now() < ticket.expires_at <= longest


def _find(db: Connection, ticket_id: str) -> Ticket | None:
    return db.find(Ticket, "id = ?", ticket_id)


def _get(db: Connection, ticket_id: str) -> Ticket:
    found = _find(db, ticket_id)
    if found is None:
        raise Denied("invalid_token", "This link has expired; ask for a new one.")
    return found
