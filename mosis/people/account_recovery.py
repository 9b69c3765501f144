"""What a mailbox proves: email verification, password reset, invitations, changes of the address.

A link proves control of the mailbox, not who registered the account. It therefore never gives
access to both: the registrant proves that with the password or a session; otherwise all earlier
credentials end.

When an address changes, the new mailbox gets a link that confirms the change, the old one a link
that undoes it for three days, also after it was confirmed. So an intruder cannot take an account
away from the owner of its mailbox.
"""

from mosis import audit, events, jobs
from mosis.caller import PORTAL, Caller
from mosis.clock import seconds
from mosis.context import Context
from mosis.credentials import passwords, tokens
from mosis.database import Connection
from mosis.errors import Conflict, Denied
from mosis.people import accounts, device_login, email_tokens, revocation
from mosis.people.accounts import Developer
from mosis.people.email_tokens import Ticket


def request_verification(db: Connection, caller: Caller) -> None:
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
    """Verify an email address. The caller holds the mailbox and shows that the account is theirs by
    a session of it or by its password.

    A caller with neither did not register the account: `password` becomes its password, and all
    earlier credentials end; with `claims` false, another password is refused instead. Verification
    gives no role; see `reset` and `appoint`. Raises Denied `invalid_token`, `forbidden` (session of
    another account, API key or device login), `unauthenticated` (neither session nor password),
    `invalid_credentials`, Invalid (password). The token of a changed address confirms that instead:
    see `_confirm_email_change`.
    """
    if email_tokens.purpose_of(env, db, token) == "change":
        return _confirm_email_change(env, db, caller, token, password)
    ticket = email_tokens.read(env, db, token, "verify")
    developer = _unverified(_owner(db, ticket))
    email_tokens.check_session(caller, developer.id)
    if caller.developer_id is None and password is None:
        raise Denied(
            "unauthenticated",
            "Sign in to the account first, or send its password with the token. If "
            "you did not register this account, send a new password for it: every "
            "other session and key of the account is then revoked.",
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
    """At start: make the account of ADMIN_EMAIL an administrator if its address is verified."""
    if env.config.admin_email is None or env.db.damage is not None:
        return
    with env.db.write() as db:
        developer = accounts.find_by_email(db, env.config.admin_email)
        if developer and developer.email_verified and developer.role != "admin":
            accounts.set_role(db, PORTAL, developer.id, "admin")


def forgot(db: Connection, caller: Caller, email: str) -> None:
    """Queue a password-reset mail. Only the job looks up the account, so neither the response nor
    its timing discloses whether it exists."""
    with db.write():
        jobs.add(
            db,
            "mail_reset",
            owner=f"network:{caller.network}",
            unique_key=f"reset:{accounts.folded(email)}",
            email=email,
        )


def mail_reset(env: Context, email: str) -> None:
    """Job of `forgot`. If it runs twice, two mails are sent, and the link in the second is valid."""
    with env.db.write() as db:
        developer = accounts.find_by_email(db, email)
        if developer and not developer.suspended:
            email_tokens.issue(db, "reset", developer.email, developer.id)


def reset(env: Context, db: Connection, caller: Caller, token: str, new_password: str) -> None:
    """Set a new password and end every session. The link also verifies the address and makes the
    account of ADMIN_EMAIL an administrator. Raises Denied `invalid_token`, Invalid.

    If the address was not verified before, somebody else may have registered it: all earlier
    credentials end.
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
    """Mail an invitation to register; its row and its token. Raises Conflict `email_taken`."""
    with db.write():
        if accounts.find_by_email(db, email):
            raise Conflict("email_taken", "An account with this address exists already.")
        ticket = email_tokens.issue(db, "invite", email)
        audit.add(db, caller, "account.invited", ticket.id)
        return ticket, tokens.make_ticket(env.secret, ticket.id)


def sweep(env: Context) -> None:
    """Job: delete email tokens and device logins a day after they expire, sessions after a month;
    in the mail folder, mails older than a month and those to addresses that no account or email
    token has."""
    with env.db.write() as db:
        day, month = db.clock.now(-24 * 3600), db.clock.now(-30 * 24 * 3600)
        email_tokens.delete_expired(db, day)
        device_login.delete_expired(db, day)
        accounts.delete_ended(db, month)
    # a file with a later date was written while the clock was wrong
    latest = env.clock.time() + 24 * 3600
    env.mailer.sweep(seconds(month), latest, lambda address: _is_known(env, db, address))


def _is_known(env: Context, db: Connection, address: str) -> bool:
    """Whether this is ADMIN_EMAIL, or the address of an account or of a valid email token."""
    return accounts.folded(address) == accounts.folded(env.config.admin_email or "") or db.has(
        "SELECT EXISTS (SELECT 1 FROM developers WHERE email = ?1) OR EXISTS"
        " (SELECT 1 FROM tickets WHERE email = ?1 AND used_at IS NULL AND expires_at > ?2)",
        address,
        db.clock.now(),
    )


def _claim(db: Connection, caller: Caller, developer: Developer, password_hash: str) -> None:
    """Transfer an account to the owner of its mailbox, in the running transaction."""
    revocation.end(db, developer.id, revocation.CLAIMED, "password")
    audit.add(db, caller, "account.claimed", developer.id, owner_id=developer.id)
    accounts.set_password(db, caller, developer.id, password_hash)


def _verified(db: Connection, caller: Caller, developer: Developer) -> None:
    accounts.set_email(db, developer.id, developer.email)
    audit.add(db, caller, "account.email_verified", developer.id, owner_id=developer.id)


def _unverified(developer: Developer) -> Developer:
    """The account, if its address is not verified yet. Raises Denied `invalid_token`."""
    if developer.email_verified:
        raise Denied("invalid_token", "This address is verified already.")
    return developer


def _owner(db: Connection, ticket: Ticket, *, has_address: bool = True) -> Developer:
    """The account of an email token, if the address is still its own. Raises `invalid_token`."""
    developer = accounts.get(db, ticket.developer_id or "")
    other = accounts.folded(developer.email) != accounts.folded(ticket.email)
    if developer.suspended or (has_address and other):
        raise Denied("invalid_token", "This link is no longer valid; ask for a new one.")
    return developer


def request_email_change(
    env: Context, db: Connection, caller: Caller, email: str, password: str | None
) -> None:
    """Mail the links. Nothing changes before the change is confirmed. An address that was never
    verified gets no link to undo: it may belong to somebody else. Raises Denied
    `invalid_credentials`, Conflict `email_taken`."""
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


def _confirm_email_change(
    env: Context, db: Connection, caller: Caller, token: str, password: str | None
) -> None:
    """Give the account its new address, which thereby counts as verified. The link alone is not
    sufficient: its receiver may be another person, whose address somebody entered for their own
    account. Raises Denied `invalid_token`, `forbidden`, `unauthenticated` or `invalid_credentials`,
    Conflict `email_taken`."""
    ticket = email_tokens.read(env, db, token, "change")
    developer = _owner(db, ticket, has_address=False)
    email_tokens.check_session(caller, developer.id)
    if caller.developer_id is None:
        if password is None:
            detail = "Sign in to the account first, or send its password with the token."
            raise Denied("unauthenticated", detail)
        if not passwords.verify(password, developer.password_hash, env.password_cost):
            raise Denied("invalid_credentials", "This is not the password of the account.")
    with db.write():
        email_tokens.spend(env, db, token, "change")
        developer = accounts.unchanged(db, _owner(db, ticket, has_address=False))
        _check_free(db, ticket.email, developer.id)
        accounts.set_email(db, developer.id, ticket.email)
        audit.add(db, caller, "account.email_changed", developer.id, owner_id=developer.id)
        events.add(db, developer.id, "security.email_changed", network=caller.network)


def undo_email_change(env: Context, db: Connection, caller: Caller, token: str) -> None:
    """Give the account back to its previous mailbox: it has that address again and no password, and
    all its sessions, keys and other ways to sign in are revoked. A password-reset link is mailed
    there. Raises Denied `invalid_token`, Conflict `email_taken`."""
    with db.write():
        ticket = email_tokens.spend(env, db, token, "undo")
        developer = _owner(db, ticket, has_address=False)
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
