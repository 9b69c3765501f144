"""Changing the e-mail address of an account, and undoing that from the old mailbox.

The new mailbox gets a link that confirms the change, the old one a link that undoes it for three
days, also after it was confirmed. So an intruder cannot take an account away from the owner
of its mailbox.
"""

from mosis import audit, events
from mosis.caller import Caller
from mosis.context import Context
from mosis.credentials import passwords
from mosis.database import Connection
from mosis.errors import Conflict, Denied
from mosis.people import accounts, email_tokens, revocation
from mosis.people.accounts import Developer
from mosis.people.email_tokens import Ticket


def ask(env: Context, db: Connection, caller: Caller, email: str, password: str | None) -> None:
    """Mail the links. Nothing changes before the change is confirmed. An address that was never
    verified gets no link to undo: it may belong to somebody else.

    Raises Denied `invalid_credentials`, Conflict `email_taken`.
    """
    developer = accounts.get(db, caller.account)
    passwords.require(password, developer.password_hash, env.password_cost)
    with db.write():
        developer = accounts.unchanged(db, developer)
        _check_free(db, email, developer.id)
        email_tokens.cancel(db, "change", developer.id)
        email_tokens.issue(db, "change", email, developer.id)
        if developer.email_verified:
            email_tokens.issue(db, "undo", developer.email, developer.id)
        audit.add(db, caller, "account.email_change_asked", developer.id)


def confirm(env: Context, db: Connection, caller: Caller, token: str, password: str | None) -> None:
    """Give the account its new address, which thereby counts as verified. The link alone is not
    sufficient: its receiver may be another person, whose address somebody entered for their own
    account.

    Raises Denied `invalid_token`, `forbidden`, `unauthenticated` or `invalid_credentials`, Conflict
    `email_taken`.
    """
    ticket = email_tokens.read(env, db, token, "change")
    developer = _owner(db, ticket)
    email_tokens.check_session(caller, developer.id)
    if caller.developer_id is None:
        if password is None:
            raise Denied(
                "unauthenticated",
                "Sign in to the account first, or send its password with the token.",
            )
        if not passwords.verify(password, developer.password_hash, env.password_cost):
            raise Denied("invalid_credentials", "This is not the password of the account.")
    with db.write():
        email_tokens.spend(env, db, token, "change")
        developer = accounts.unchanged(db, _owner(db, ticket))
        _check_free(db, ticket.email, developer.id)
        accounts.set_email(db, developer.id, ticket.email)
        audit.add(db, caller, "account.email_changed", developer.id, owner_id=developer.id)
        events.add(db, developer.id, "security.email_changed", network=caller.network)


def undo(env: Context, db: Connection, caller: Caller, token: str) -> None:
    """Give the account back to its previous mailbox: it has that address again and no password, and
    all its sessions, keys and other ways to sign in are revoked. A password-reset link is mailed
    there.

    Raises Denied `invalid_token`, Conflict `email_taken`.
    """
    with db.write():
        ticket = email_tokens.spend(env, db, token, "undo")
        developer = _owner(db, ticket)
        _check_free(db, ticket.email, developer.id)
        revocation.end(db, developer.id, revocation.CLAIMED, "password")
        accounts.set_email(db, developer.id, ticket.email)
        accounts.drop_password(db, developer.id)
        audit.add(db, caller, "account.email_change_undone", developer.id, owner_id=developer.id)
        events.add(db, developer.id, "security.email_change_undone", network=caller.network)
        email_tokens.issue(db, "reset", ticket.email, developer.id)


def _check_free(db: Connection, email: str, developer_id: str) -> None:
    """Raises Conflict `email_taken` if another account has this address, or can have it back."""
    found = accounts.find_by_email(db, email)
    if (found is not None and found.id != developer_id) or accounts.is_held(
        db, email, developer_id
    ):
        raise Conflict("email_taken", "An account with this address exists already.")


def _owner(db: Connection, ticket: Ticket) -> Developer:
    developer = accounts.get(db, ticket.developer_id or "")
    if developer.suspended:
        raise Denied("invalid_token", "This link is no longer valid; ask for a new one.")
    return developer
