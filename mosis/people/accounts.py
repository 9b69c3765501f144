"""Accounts and their sessions.

Responses do not disclose whether an account exists: unknown addresses cost the same password hash
as known ones.
"""

import json
import secrets
from dataclasses import replace
from typing import Any

from mosis import audit, events
from mosis.caller import Caller
from mosis.clock import Clock, seconds
from mosis.context import Context
from mosis.credentials import passwords, tokens
from mosis.database import Connection, Record, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import Conflict, Denied, Invalid, NotFound
from mosis.people import email_tokens, revocation, second_factor
from mosis.publishing import listing_changes, members, reviews
from mosis.records import dataclass

GRACE_SECONDS = 10  # a client that lost the response to a refresh may retry for this long


@dataclass(frozen=True)
class Developer(Record, table="developers"):
    """A row of `developers`, without what only the database needs."""

    id: str
    email: str
    email_verified: int
    name: str
    role: str
    suspended: int
    password_hash: str | None
    created_at: str


@dataclass(frozen=True)
class Session(Record, table="sessions"):
    """One sign-in on one device."""

    id: str
    developer_id: str
    seed: bytes
    generation: int
    rotated_at: str | None
    client: str
    address: str
    created_at: str
    last_used_at: str
    expires_at: str
    ended_at: str | None
    scopes: str | None
    made_by: str | None


@dataclass(frozen=True)
class SignedIn:
    """The result of a sign-in: the account, the session and a pair of tokens."""

    developer: Developer
    session_id: str
    access_token: str
    refresh_token: str


def get(db: Connection, developer_id: str) -> Developer:
    """The account. Raises NotFound."""
    return db.get(Developer, "id = ?", developer_id)


def find_by_email(db: Connection, email: str) -> Developer | None:
    """The account with this address, compared without regard to case; None if there is none."""
    return db.find(Developer, "email = ?", email)


def get_by_email(db: Connection, email: str) -> Developer:
    """As `find_by_email`. Raises NotFound."""
    return db.get(Developer, "email = ?", email, what="account")


def is_held(db: Connection, email: str, developer_id: str) -> bool:
    """Whether an account other than this one had this address until lately and can have it back; see
    `account_recovery.undo_email_change`."""
    sql = (
        "SELECT 1 FROM tickets WHERE email = ? AND purpose = 'undo' AND developer_id <> ?"
        " AND used_at IS NULL AND expires_at > ?"
    )
    return db.has(sql, email, developer_id, db.clock.now())


def has_address(db: Connection, developer_id: str, email: str) -> bool:
    """Whether the account has this address and is not suspended; an erased account has none."""
    sql = "SELECT 1 FROM developers WHERE id = ? AND email = ? AND suspended = 0"
    return db.has(sql, developer_id, email)


def folded(email: str) -> str:
    """An address in the form in which the database compares addresses (NOCASE): ASCII letters in
    lower case. Full case folding would be wrong: it maps `ß` to `ss`, and the two domains have
    different owners."""
    return email.encode().lower().decode()


def check_registration(env: Context, *, invited: bool = False) -> None:
    """Raises Denied `registration_closed` if nobody may register, or only by invitation."""
    if env.config.registration == "closed" or (env.config.registration == "invite" and not invited):
        detail = "Registration is closed on this portal; ask its operator for an account."
        raise Denied("registration_closed", detail)


def register(
    env: Context,
    db: Connection,
    caller: Caller,
    email: str,
    password: str,
    name: str,
    invitation: str | None = None,
) -> SignedIn:
    """Create an account and sign in; a verification link is mailed. Raises Invalid (password),
    Conflict `email_taken`, Denied `registration_closed`, `invalid_token` (invitation)."""
    check_registration(env, invited=invitation is not None)
    check_password(password, email)
    password_hash = passwords.make_hash(password, env.password_cost)
    with db.write():
        if invitation is not None and folded(
            email_tokens.spend(env, db, invitation, "invite").email
        ) != folded(email):
            raise Denied("invalid_token", "This invitation is for another e-mail address.")
        developer = create(db, caller, email, name, password_hash)
        email_tokens.issue(db, "verify", email, developer.id)
        return sign_in(env, db, caller, developer)


def check_password(password: str | None, email: str, pointer: str = "/password") -> None:
    """Raises Invalid `weak_password` for common passwords and those that equal the address."""
    weakness = passwords.weakness(password, email) if password is not None else None
    if weakness:
        raise Invalid([{"pointer": pointer, "code": "weak_password", "detail": weakness}])


def create(
    db: Connection,
    caller: Caller,
    email: str,
    name: str,
    password_hash: str | None,
    *,
    role: str = "developer",
    verified: bool = False,
) -> Developer:
    """Create an account, in the running transaction. Raises Conflict `email_taken`."""
    if find_by_email(db, email) or is_held(db, email, ""):
        raise Conflict(
            "email_taken",
            "An account with this e-mail address exists already; sign in, or ask for "
            "a new password.",
        )
    developer = Developer(new_id(), email, int(verified), name, role, 0, password_hash, db.now)
    db.insert("developers", **vars(developer))
    audit.add(db, caller, "account.created", developer.id, owner_id=developer.id, role=role)
    return developer


def login(env: Context, db: Connection, caller: Caller, email: str, password: str) -> SignedIn:
    """Sign in. Raises Denied `invalid_credentials` (the same for a wrong password and an unknown
    address), `suspended`, or `second_factor_required` with a ticket for the second step."""
    developer = find_by_email(db, email)
    if (
        not passwords.verify(
            password, developer.password_hash if developer else None, env.password_cost
        )
        or developer is None
    ):
        detail = "There is no account with this e-mail address and password."
        raise Denied("invalid_credentials", detail)
    new_hash = None
    if passwords.is_outdated(password, developer.password_hash or "", env.password_cost):
        new_hash = passwords.make_hash(password, env.password_cost)
    with db.write():
        developer = unchanged(db, developer)
        if new_hash:
            db.update("developers", "id = ?", developer.id, password_hash=new_hash)
        refusal = second_factor.required(env, db, developer.id)
        if refusal is None:
            return sign_in(env, db, caller, developer)
    raise refusal  # after the commit: the new hash is kept


def unchanged(db: Connection, developer: Developer) -> Developer:
    """The account as stored now, in the running transaction; its password was verified before the
    transaction began. Raises Denied `invalid_credentials` if the password has changed since."""
    now = get(db, developer.id)
    if now.password_hash != developer.password_hash:
        raise Denied("invalid_credentials", "The password was changed during this request.")
    return now


def refresh(env: Context, db: Connection, caller: Caller, token: str) -> SignedIn:
    """Exchange a refresh token for a new pair. A refresh token is valid once; using it again ends
    the session, except by the same client within GRACE_SECONDS, which gets the lost response
    again. Raises Denied `invalid_token`."""
    session_id, generation = tokens.split_refresh(token)
    refusal = Denied("invalid_token", "This refresh token is no longer valid; sign in again.")
    with db.write():
        session = db.find(Session, "id = ?", session_id)
        if session is None or not tokens.same(
            token, tokens.make_refresh(env.secret, session_id, session.seed, generation)
        ):
            raise refusal
        developer = get(db, session.developer_id)
        expired = not db.now < session.expires_at <= _latest_expiry(env.clock)
        if session.ended_at or expired or developer.suspended:
            raise refusal
        if generation == session.generation:
            session = replace(session, generation=generation + 1, rotated_at=db.now)
            db.change(
                "UPDATE sessions SET generation = ?, rotated_at = ?, last_used_at = ?, expires_at = ?, client = ?, address = ?"
                " WHERE id = ?",
                session.generation,
                db.now,
                db.now,
                env.clock.now(tokens.REFRESH_SECONDS),
                caller.client,
                caller.network,
                session.id,
            )
            return _pair(env, developer, session)
        if _is_repetition(session, generation, caller, db.now):
            return _pair(env, developer, session)
        end_session(db, session.id, "reuse")
        owner = replace(caller, developer_id=session.developer_id)
        audit.add(db, owner, "session.token_reused", session.id)
        revocation.end_made_by(db, owner, session.developer_id, session.id)
        facts = {"client": session.client, "network": caller.network}
        events.add(db, session.developer_id, "security.token_reused", **facts)
    raise refusal


def logout(db: Connection, caller: Caller, *, everywhere: bool = False) -> None:
    """End the caller's session, or all sessions of the account; their access tokens are refused at
    once. Raises Denied `forbidden` if a device login tries to end other sessions."""
    account = caller.account
    if everywhere and caller.scopes is not None:
        detail = "A device login can only end itself; sign in to end all sessions."
        raise Denied("forbidden", detail)
    with db.write():
        if everywhere:
            revocation.end(db, account, revocation.SIGNED_OUT, "everywhere")
        elif caller.session_id:
            end_session(db, caller.session_id, "logout")
        audit.add(db, caller, "session.ended", caller.session_id, everywhere=everywhere)


def end_session(db: Connection, session_id: str, reason: str) -> None:
    """End one session, in the running transaction."""
    where = "id = ? AND ended_at IS NULL"
    db.update("sessions", where, session_id, ended_at=db.now, end_reason=reason)


def change(db: Connection, caller: Caller, changes: dict[str, Any]) -> Developer:
    """Change the caller's own name, in the running transaction."""
    account = caller.account
    if "name" in changes:
        before = get(db, account)
        db.update("developers", "id = ?", account, name=changes["name"])
        audit.add(db, caller, "account.changed", account, fields=sorted(changes))
        members.announce_name(db, account, (account, before.name))
    return get(db, account)


def choose_mail(db: Connection, developer_id: str, choices: dict[str, bool]) -> None:
    """Switch the mail of some kinds of events on or off, in the running transaction."""
    sql = "UPDATE developers SET mail_choices = json_patch(mail_choices, ?) WHERE id = ?"
    db.change(sql, json.dumps(choices), developer_id)


def set_email(db: Connection, developer_id: str, email: str) -> None:
    """Give an account an address that it has proved, in the running transaction."""
    db.update("developers", "id = ?", developer_id, email=email, email_verified=1)


def drop_password(db: Connection, developer_id: str) -> None:
    """Leave an account without a password, in the running transaction."""
    db.update("developers", "id = ?", developer_id, password_hash=None)


def delete_ended(db: Connection, before: str) -> None:
    """Delete sessions that ended before this time, in the running transaction."""
    db.change("DELETE FROM sessions WHERE coalesce(ended_at, expires_at) < ?", before)


def promote(db: Connection, email: str, role: str) -> Developer:
    """Give an account a role, from the command line. Raises NotFound."""
    with db.write():
        developer = get_by_email(db, email)
        set_role(db, Caller(), developer.id, role)
        return get(db, developer.id)


def check_another(caller: Caller, developer_id: str) -> None:
    """Raises Denied `forbidden` for the caller's own account."""
    if developer_id == caller.account:
        detail = "Nobody changes their own role or suspension; ask another administrator."
        raise Denied("forbidden", detail)


def set_role(db: Connection, caller: Caller, developer_id: str, role: str) -> None:
    """Give an account a role, in the running transaction; effective from the next request on."""
    db.update("developers", "id = ?", developer_id, role=role)
    audit.add(db, caller, "account.role_changed", developer_id, owner_id=developer_id, role=role)


def set_suspended(db: Connection, caller: Caller, developer_id: str, suspended: bool) -> None:
    """Suspend an account or lift its suspension, in the running transaction. A suspension ends its
    sessions and API keys and withdraws every version that was never offered to devices. Lifting
    it restores none of these."""
    db.update("developers", "id = ?", developer_id, suspended=int(suspended))
    if suspended:
        revocation.end(db, developer_id, revocation.SUSPENDED, "suspended")
        reviews.end_unreleased(db, caller, developer_id)
        listing_changes.end_waiting(db, caller, developer_id)
    audit.add(
        db,
        caller,
        "account.suspended" if suspended else "account.unsuspended",
        developer_id,
        owner_id=developer_id,
    )


def set_password(db: Connection, caller: Caller, developer_id: str, password_hash: str) -> None:
    """Set a password, in the running transaction; other sessions end, the owner is notified."""
    db.update("developers", "id = ?", developer_id, password_hash=password_hash)
    revocation.end(db, developer_id, revocation.SIGNED_OUT, "password", but=caller.session_id)
    audit.add(db, caller, "account.password_changed", developer_id, owner_id=developer_id)
    events.add(db, developer_id, "security.password_changed", network=caller.network)


def change_password(env: Context, db: Connection, caller: Caller, current: str, new: str) -> None:
    """Change the caller's password. Raises Denied `invalid_credentials` when the current one is wrong, Invalid."""
    developer = get(db, caller.account)
    if not passwords.verify(current, developer.password_hash, env.password_cost):
        raise Denied("invalid_credentials", "The current password is wrong.")
    check_password(new, developer.email, "/new_password")
    password_hash = passwords.make_hash(new, env.password_cost)
    with db.write():
        set_password(db, caller, unchanged(db, developer).id, password_hash)


def index(db: Connection, paging: PageRequest, query: str = "") -> Page[Developer]:
    """All accounts, newest first, for operators; `query` is a substring of address or name."""
    where = "(?1 = '' OR instr(lower(email || ' ' || name), lower(?1)))"
    return newest_first(db, Developer, where, query, paging=paging)


def sessions(db: Connection, caller: Caller, paging: PageRequest) -> Page[Session]:
    """The active sessions of the caller's account, newest first."""
    where = "developer_id = ?1 AND ended_at IS NULL AND expires_at > ?2 AND expires_at <= ?3"
    return newest_first(
        db, Session, where, caller.account, db.clock.now(), _latest_expiry(db.clock), paging=paging
    )


def revoke_session(db: Connection, caller: Caller, session_id: str) -> None:
    """End one of the caller's sessions and what was made with it; its tokens are refused at once.
    Objects made by a device login end too. Raises NotFound."""
    account = caller.account
    with db.write():
        sql = "SELECT 1 FROM sessions WHERE id = ? AND developer_id = ?"
        if not db.value(sql, session_id, account):
            raise NotFound("session")
        end_session(db, session_id, "revoked")
        audit.add(db, caller, "session.revoked", session_id)
        revocation.end_made_by(db, caller, account, session_id)


def sign_in(
    env: Context,
    db: Connection,
    caller: Caller,
    developer: Developer,
    scopes: str | None = None,
    made_by: str | None = None,
    *,
    proved: bool = False,
) -> SignedIn:
    """Create a session, in the running transaction. `scopes` (a JSON list) limits it and removes
    its role; `made_by` is the session that approved it. The owner is notified of a sign-in from
    a network that the account was never used from. `proved`: the second factor was proved, or a
    session that had proved it has approved this. Raises Denied `suspended`,
    `second_factor_required`."""
    if developer.suspended:
        raise Denied("suspended", "This account is suspended; ask the operator of the portal.")
    if not proved and (refusal := second_factor.required(env, db, developer.id)):
        raise refusal
    caller = replace(caller, developer_id=developer.id)
    known = db.all("SELECT DISTINCT address FROM sessions WHERE developer_id = ?", developer.id)
    session = Session(
        new_id(),
        developer.id,
        secrets.token_bytes(16),
        0,
        None,
        caller.client,
        caller.network,
        db.now,
        db.now,
        env.clock.now(tokens.REFRESH_SECONDS),
        None,
        scopes,
        made_by,
    )
    db.insert("sessions", **vars(session))
    audit.add(db, caller, "session.started", session.id)
    if known and (caller.network,) not in known:
        facts = {"client": caller.client, "network": caller.network}
        events.add(db, developer.id, "security.signed_in_elsewhere", **facts)
    return _pair(env, developer, session)


def _pair(env: Context, developer: Developer, session: Session) -> SignedIn:
    access = env.access_tokens.make(
        developer.id, session.id, developer.role, env.clock.time(), new_id()
    )
    return SignedIn(
        developer,
        session.id,
        access,
        tokens.make_refresh(env.secret, session.id, session.seed, session.generation),
    )


def _latest_expiry(clock: Clock) -> str:
    """The latest expiry of a session that is accepted: sessions created while the clock was ahead
    stay valid after it is corrected, unless it was ahead by more than a session's lifetime. Their
    next refresh sets an ordinary expiry."""
    return clock.latest(2 * tokens.REFRESH_SECONDS)


def _is_repetition(session: Session, generation: int, caller: Caller, now: str) -> bool:
    return (
        generation == session.generation - 1
        and session.rotated_at is not None
        and 0 <= seconds(now) - seconds(session.rotated_at) <= GRACE_SECONDS
        and (session.client, session.address) == (caller.client, caller.network)
    )


def second_step(env: Context, db: Connection, caller: Caller, ticket: str, code: str) -> SignedIn:
    """Sign in with the ticket of the first step and a code. Raises Denied `invalid_token`,
    `invalid_code` (the owner is notified) or `suspended`."""
    developer_id = second_factor.account_of(env, db, ticket)
    try:
        with db.write():
            second_factor.account_of(env, db, ticket)  # the password may have changed meanwhile
            factor = second_factor.active(db, developer_id)
            if factor is not None:
                someone = replace(caller, developer_id=developer_id)
                second_factor.prove(env, db, someone, factor, code)
            developer = get(db, developer_id)
            return sign_in(env, db, caller, developer, proved=True)
    except Denied as refusal:
        if refusal.code == "invalid_code":
            second_factor.notify_of_failure(db, caller, developer_id)
        raise
