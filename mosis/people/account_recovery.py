"""What a mailbox proves: verifying an address, getting back in with a new password, inviting somebody.

A link alone proves the mailbox, not who made the account. So it never leaves both with an account: who
made it proves that with its password or a session, or everything that is older than the proof ends.
"""

from mosis import audit, jobs
from mosis.caller import PORTAL, Caller
from mosis.clock import seconds
from mosis.context import Context
from mosis.credentials import passwords, tokens
from mosis.database import Connection
from mosis.errors import Conflict, Denied
from mosis.people import accounts, email_tokens, revocation
from mosis.people.accounts import Developer
from mosis.people.email_tokens import Ticket


def ask_to_verify(db: Connection, caller: Caller) -> None:
    """Mail the caller a link that verifies the address, unless it is verified."""
    with db.write():
        developer = accounts.get(db, caller.account)
        if not developer.email_verified:
            email_tokens.issue(db, "verify", developer.email, developer.id)


def verify(
    env: Context,
    db: Connection,
    caller: Caller,
    token: str,
    password: str | None,
    *,
    claims: bool = True,
) -> None:
    """The address is verified by whoever holds the mailbox and proves which account is theirs: with a
    session of the account, or with its password. Nothing else changes then.

    Somebody who has neither did not make the account: their `password` becomes its password, and every
    credential that is older ends. Without `claims` another password is refused instead. A verified
    address gives no role: see `reset` and `appoint`.
    Raises Denied `invalid_token`, `forbidden` (another account's session, an API key or device login),
    `unauthenticated` (neither session nor password), `invalid_credentials`, Invalid (password).
    """
    ticket = email_tokens.read(env, db, token, "verify")
    developer = _unverified(_owner(db, ticket))
    if caller.developer_id is not None:
        if caller.session_id is None or caller.scopes is not None:
            raise Denied(
                "forbidden", "This cannot be done with an API key or a device login; sign in."
            )
        if caller.developer_id != developer.id:
            raise Denied("forbidden", "This link is for another account; sign in to that one.")
    elif password is None:
        raise Denied(
            "unauthenticated",
            "Sign in to the account first, or send its password with the token. If you did not make the"
            " account, send the password that it shall have: everything else that opens it ends.",
        )
    claimed_with = None
    if caller.developer_id is None and not passwords.verify(
        password or "", developer.password_hash, env.password_cost
    ):
        if not claims:
            raise Denied("invalid_credentials", "This is not the password of the account.")
        accounts.check_password(password or "", developer.email)
        claimed_with = passwords.make_hash(password or "", env.password_cost)
    with db.write():
        _owner(db, email_tokens.spend(env, db, token, "verify"))
        now = _unverified(accounts.unchanged(db, developer))
        if claimed_with is not None:
            _claim(db, caller, now, claimed_with)
        _verified(db, caller, now)


def appoint(env: Context) -> None:
    """At start: the account of ADMIN_EMAIL is admin, once its address is verified."""
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
    """Set a new password and end every session. The link proves the address too, and makes ADMIN_EMAIL
    admin. Raises Denied `invalid_token`, Invalid.

    Where nobody had verified the address before, somebody else may have made the account with it and be
    waiting for its owner to come: then every credential that is older ends.
    """
    accounts.check_password(
        new_password, email_tokens.read(env, db, token, "reset").email, "/new_password"
    )
    password_hash = passwords.make_hash(new_password, env.password_cost)
    with db.write():
        developer = _owner(db, email_tokens.spend(env, db, token, "reset"))
        if developer.email_verified:
            accounts.set_password(db, caller, developer.id, password_hash)
        else:
            _claim(db, caller, developer, password_hash)
            _verified(db, caller, developer)
        appointed = accounts.folded(developer.email) == accounts.folded(
            env.config.admin_email or ""
        )
        if appointed and developer.role != "admin":
            accounts.set_role(db, PORTAL, developer.id, "admin")


def invite(env: Context, db: Connection, caller: Caller, email: str) -> tuple[Ticket, str]:
    """An invitation to register with this address, mailed there; the ticket and its token. Raises Conflict `email_taken`."""
    with db.write():
        if accounts.find_by_email(db, email):
            raise Conflict("email_taken", "There is an account with this address already.")
        ticket = email_tokens.issue(db, "invite", email)
        audit.add(db, caller, "account.invited", ticket.id)
        return ticket, tokens.make_ticket(env.secret, ticket.id)


def sweep(env: Context) -> None:
    """The job that removes tickets and device logins a day after they ended, sessions a month after; of
    the mails in the folder those that are a month old, and those to an address that no account and no
    ticket has any more."""
    db = env.db.connection()
    with db.write():
        day, month = db.clock.now(-24 * 3600), db.clock.now(-30 * 24 * 3600)
        db.change("DELETE FROM tickets WHERE expires_at < ?", day)
        db.change("DELETE FROM device_logins WHERE expires_at < ?", day)
        db.change("DELETE FROM sessions WHERE coalesce(ended_at, expires_at) < ?", month)
    # a file dated further ahead was written while the clock was ahead
    latest = env.clock.time() + 24 * 3600
    env.mailer.sweep(seconds(month), latest, lambda address: _is_known(env, db, address))


def _is_known(env: Context, db: Connection, address: str) -> bool:
    """Whether this is ADMIN_EMAIL, or an account or a ticket that is good has this address."""
    return accounts.folded(address) == accounts.folded(env.config.admin_email or "") or bool(
        db.value(
            "SELECT EXISTS (SELECT 1 FROM developers WHERE email = ?1) OR EXISTS"
            " (SELECT 1 FROM tickets WHERE email = ?1 AND used_at IS NULL AND expires_at > ?2)",
            address,
            db.clock.now(),
        )
    )


def _claim(db: Connection, caller: Caller, developer: Developer, password_hash: str) -> None:
    """Hand an account over to the owner of its mailbox, in the running transaction."""
    revocation.end(db, developer.id, revocation.CLAIMED, "password")
    audit.add(db, caller, "account.claimed", developer.id, owner_id=developer.id)
    accounts.set_password(db, caller, developer.id, password_hash)


def _verified(db: Connection, caller: Caller, developer: Developer) -> None:
    db.change("UPDATE developers SET email_verified = 1 WHERE id = ?", developer.id)
    audit.add(db, caller, "account.email_verified", developer.id, owner_id=developer.id)


def _unverified(developer: Developer) -> Developer:
    """The account, when its address is to be verified: a link for that is good for nothing else."""
    if developer.email_verified:
        raise Denied("invalid_token", "This address has been verified already.")
    return developer


def _owner(db: Connection, ticket: Ticket) -> Developer:
    """Whose ticket it is, when it went to the address that the account still has."""
    developer = accounts.get(db, ticket.developer_id or "")
    if accounts.folded(developer.email) != accounts.folded(ticket.email) or developer.suspended:
        raise Denied("invalid_token", "This link is not good any more; ask for a new one.")
    return developer
