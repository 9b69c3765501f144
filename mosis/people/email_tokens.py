"""Tickets that travel by mail: to verify an address, to set a new password, to register by invitation.

A ticket is good once and for a while. Its token is made from its id with the server's secret, when the mail is written and
again when it is presented; the database has nothing in it that opens an account.
"""

from dataclasses import dataclass

from mosis import jobs
from mosis.clock import for_people
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection, columns, new_id
from mosis.errors import Denied

PAGES = {"verify": "/console/verify", "reset": "/console/reset", "invite": "/console/invitation"}
LIFE_SECONDS = {"verify": 7 * 24 * 3600, "reset": 30 * 60, "invite": 7 * 24 * 3600}


@dataclass(frozen=True)
class Ticket:
    """A ticket as the database keeps it."""

    id: str
    developer_id: str | None
    purpose: str
    email: str
    created_at: str
    expires_at: str
    used_at: str | None


def issue(db: Connection, purpose: str, email: str, developer_id: str | None = None) -> Ticket:
    """A new ticket, and the job that mails it, in the running transaction. Earlier ones for the same purpose are void."""
    db.change(
        "UPDATE tickets SET used_at = ? WHERE purpose = ? AND developer_id IS ? AND email = ? AND used_at IS NULL",
        db.now,
        purpose,
        developer_id,
        email,
    )
    expires_at = db.clock.now(LIFE_SECONDS[purpose])
    ticket = Ticket(new_id(), developer_id, purpose, email, db.now, expires_at, None)
    db.insert("tickets", **vars(ticket))
    jobs.add(db, "mail_ticket", owner=developer_id or "invitations", ticket_id=ticket.id)
    return ticket


def read(env: Context, db: Connection, token: str, purpose: str) -> Ticket:
    """The good ticket with this token. Raises Denied `invalid_token` when it is spent, expired or another kind."""
    ticket = _get(db, tokens.read_ticket(env.secret, token))
    if ticket.purpose != purpose or ticket.used_at or _expired(env, ticket):
        raise Denied("invalid_token", "This link has been used or has expired; ask for a new one.")
    return ticket


def spend(env: Context, db: Connection, token: str, purpose: str) -> Ticket:
    """The good ticket with this token, which is spent by that, in the running transaction. Raises Denied `invalid_token`."""
    ticket = read(env, db, token, purpose)
    db.change("UPDATE tickets SET used_at = ? WHERE id = ? AND used_at IS NULL", db.now, ticket.id)
    return ticket


def mail(env: Context, ticket_id: str) -> None:
    """The job that mails a ticket, unless the ticket or its account has ended. Twice does no harm: the
    message is the same."""
    db = env.db.connection()
    found = _find(db, ticket_id)
    if found is None or not _is_wanted(env, db, ticket_id):
        return
    token = tokens.make_ticket(env.secret, found.id)
    subject, text = {
        "verify": (
            "Verify your address",
            "Open this address to verify that this mailbox is yours:",
        ),
        "reset": (
            "A new password",
            "Somebody, probably you, asked for a new password. Open this address to set one:",
        ),
        "invite": (
            "You are invited",
            "You are invited to make an account here. Open this address:",
        ),
    }[found.purpose]
    text = (
        f"{text}\n\n{env.url(PAGES[found.purpose])}#{token}\n\nIt is good once, until {for_people(found.expires_at)}. "
        f"With a program, send this token instead:\n\n{token}\n\n{_ending(db, found)}\n"
    )
    env.mailer.send(
        found.email,
        f"{subject} - {env.config.store_name}",
        text,
        found.id,
        is_wanted=lambda: _is_wanted(env, db, ticket_id),
    )


def _ending(db: Connection, ticket: Ticket) -> str:
    """How a mail ends. One that verifies an address says when and from where the account was made, so
    that somebody who has not made it sees that somebody else has."""
    if ticket.purpose != "verify":
        return "If you did not ask for it, ignore this message."
    at, network = db.one(
        "SELECT d.created_at, (SELECT address FROM audit WHERE owner_id = d.id AND subject_id = d.id"
        " AND action = 'account.created' ORDER BY number LIMIT 1) FROM developers d WHERE d.id = ?",
        ticket.developer_id,
    )
    return (
        f"The account was made on {for_people(at)} from the network {network or '(not known)'}. You will be asked for its"
        " password.\nIf you have not made it, ignore this message, or take the account over: give a password of"
        " your own there.\nIt becomes the account's password, and every session and key that somebody else has for"
        " it ends."
    )


def _is_wanted(env: Context, db: Connection, ticket_id: str) -> bool:
    """Whether a ticket is good, and its account can use it: asked again right before its mail is sent."""
    found = _find(db, ticket_id)
    if found is None or found.used_at or _expired(env, found):
        return False
    return found.developer_id is None or bool(
        db.value(
            "SELECT 1 FROM developers WHERE id = ? AND email = ? AND suspended = 0",
            found.developer_id,
            found.email,
        )
    )


def _expired(env: Context, ticket: Ticket) -> bool:
    """Also when it ends later than any can: it was made by a clock that was ahead."""
    longest = env.clock.latest(LIFE_SECONDS[ticket.purpose])
    return not env.clock.now() < ticket.expires_at <= longest


def _find(db: Connection, ticket_id: str) -> Ticket | None:
    return db.one(f"SELECT {columns(Ticket)} FROM tickets WHERE id = ?", ticket_id, into=Ticket)


def _get(db: Connection, ticket_id: str) -> Ticket:
    found = _find(db, ticket_id)
    if found is None:
        raise Denied("invalid_token", "This link has expired; ask for a new one.")
    return found
