"""What a mailbox proves: verifying an address, getting back in with a new password, inviting somebody."""

from mosis import audit, jobs
from mosis.caller import PORTAL, Caller
from mosis.clock import seconds
from mosis.context import Context
from mosis.credentials import passwords, tokens
from mosis.database import Connection
from mosis.errors import Conflict, Denied
from mosis.people import accounts, email_tokens
from mosis.people.accounts import Developer
from mosis.people.email_tokens import Ticket


def ask_to_verify(db: Connection, caller: Caller) -> None:
    """Mail the caller a link that verifies the address, unless it is verified."""
    with db.write():
        developer = accounts.get(db, caller.account)
        if not developer.email_verified:
            email_tokens.issue(db, "verify", developer.email, developer.id)


def verify(env: Context, db: Connection, caller: Caller, token: str) -> Developer:
    """The address is the account's. ADMIN_EMAIL becomes admin by that. Raises Denied `invalid_token`."""
    with db.write():
        developer = _owner(db, email_tokens.spend(env, db, token, "verify"))
        _verified(env, db, caller, developer)
        return accounts.get(db, developer.id)


def appoint(env: Context) -> None:
    """At start: ADMIN_EMAIL is admin also when the setting came after the address was verified."""
    if env.config.admin_email is None or env.db.damage is not None:
        return
    db = env.db.connection()
    with db.write():
        developer = accounts.find_by_email(db, env.config.admin_email)
        if developer and developer.email_verified and developer.role != "admin":
            accounts.set_role(db, PORTAL, developer.id, "admin")


def forgot(db: Connection, caller: Caller, email: str) -> None:
    """Mail a link that sets a new password, where there is such an account. Whether there is, only the job finds out: neither
    the answer nor its time tells."""
    with db.write():
        jobs.add(
            db,
            "mail_reset",
            owner=f"network:{caller.network}",
            unique_key=f"reset:{accounts.folded(email)}",
            email=email,
        )


def mail_reset(env: Context, email: str) -> None:
    """The job behind `forgot`. Twice means two mails, of which the second one's link is good."""
    db = env.db.connection()
    with db.write():
        developer = accounts.find_by_email(db, email)
        if developer and not developer.suspended:
            email_tokens.issue(db, "reset", developer.email, developer.id)


def reset(env: Context, db: Connection, caller: Caller, token: str, new_password: str) -> None:
    """Set a new password and end every session. The link proves the address too. Raises Denied `invalid_token`, Invalid.

    Where nobody had proved the address before, somebody else may have made the account with it and be waiting for its owner to
    come: then every other way in goes as well.
    """
    accounts.check_password(
        new_password, email_tokens.read(env, db, token, "reset").email, "/new_password"
    )
    password_hash = passwords.make_hash(new_password, env.password_cost)
    with db.write():
        developer = _owner(db, email_tokens.spend(env, db, token, "reset"))
        if not developer.email_verified:
            for table in ("identities", "webhooks"):  # and where its events went
                db.change(f"DELETE FROM {table} WHERE developer_id = ?", developer.id)
            db.change(
                "UPDATE api_keys SET revoked_at = ? WHERE developer_id = ? AND revoked_at IS NULL",
                db.now,
                developer.id,
            )
            _verified(env, db, caller, developer)
        accounts.set_password(db, caller, developer.id, password_hash)


def invite(env: Context, db: Connection, caller: Caller, email: str) -> tuple[Ticket, str]:
    """An invitation to register with this address, mailed there; the ticket and its token. Raises Conflict `email_taken`."""
    with db.write():
        if accounts.find_by_email(db, email):
            raise Conflict("email_taken", "There is an account with this address already.")
        ticket = email_tokens.issue(db, "invite", email)
        audit.add(db, caller, "account.invited", ticket.id)
        return ticket, tokens.make_ticket(env.secret, ticket.id)


def sweep(env: Context) -> None:
    """The job that forgets tickets and device logins a day after they ended; sessions, and mails in the folder, a month after."""
    db = env.db.connection()
    with db.write():
        day, month = db.database.clock.now(-24 * 3600), db.database.clock.now(-30 * 24 * 3600)
        db.change("DELETE FROM tickets WHERE expires_at < ?", day)
        db.change("DELETE FROM device_logins WHERE expires_at < ?", day)
        db.change("DELETE FROM sessions WHERE coalesce(ended_at, expires_at) < ?", month)
    # a file dated further ahead was written while the clock was ahead
    env.mailer.sweep(seconds(month), env.clock.time() + 24 * 3600)


def _verified(env: Context, db: Connection, caller: Caller, developer: Developer) -> None:
    db.change("UPDATE developers SET email_verified = 1 WHERE id = ?", developer.id)
    audit.add(db, caller, "account.email_verified", developer.id, owner_id=developer.id)
    if accounts.folded(developer.email) == accounts.folded(env.config.admin_email or ""):
        accounts.set_role(db, PORTAL, developer.id, "admin")


def _owner(db: Connection, ticket: Ticket) -> Developer:
    """Whose ticket it is, when it went to the address that the account still has."""
    developer = accounts.get(db, ticket.developer_id or "")
    if accounts.folded(developer.email) != accounts.folded(ticket.email) or developer.suspended:
        raise Denied("invalid_token", "This link is not good any more; ask for a new one.")
    return developer
