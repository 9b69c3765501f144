"""Set-up of the first administrator, by a link that `serve` prints until one exists."""

import hashlib
import secrets

from mosis.caller import PORTAL, Caller
from mosis.context import Context
from mosis.credentials import passwords
from mosis.database import Connection
from mosis.errors import Denied
from mosis.people import accounts
from mosis.people.accounts import SignedIn

LIFE_SECONDS = 3600


def exists(db: Connection) -> bool:
    """Whether the portal has an administrator."""
    sql = "SELECT EXISTS (SELECT 1 FROM developers WHERE role = 'admin' AND erased_at IS NULL)"
    return db.has(sql)


def make_link(env: Context) -> str | None:
    """A new single-use set-up address, valid for an hour; earlier ones become invalid. None if
    there is an administrator or the database cannot be written."""
    if env.db.damage is not None:
        return None
    db = env.db.connection()
    token = secrets.token_urlsafe(32)
    with db.write():
        db.change("DELETE FROM setup_links")
        if exists(db):
            return None
        db.insert("setup_links", token_hash=_hash(token), expires_at=env.clock.now(LIFE_SECONDS))
    # The token is in the fragment, which browsers do not send, so no proxy logs it.
    return env.url(f"/setup#{token}")


def create(
    env: Context, db: Connection, caller: Caller, token: str, email: str, password: str, name: str
) -> SignedIn:
    """Create the first administrator and sign in. The address counts as verified, because only the
    operator can read the portal's output. Raises Denied `invalid_token`, Invalid (password),
    Conflict `email_taken`."""
    _check(env, db, token)
    accounts.check_password(password, email)
    password_hash = passwords.make_hash(password, env.password_cost)
    with db.write():
        _check(env, db, token)
        db.change("DELETE FROM setup_links")
        developer = accounts.create(
            db, PORTAL, email, name, password_hash, role="admin", verified=True
        )
        return accounts.sign_in(env, db, caller, developer)


def _check(env: Context, db: Connection, token: str) -> None:
    """Raises Denied `invalid_token` unless the token is valid and there is no administrator yet."""
    sql = (
        "SELECT EXISTS (SELECT 1 FROM setup_links WHERE token_hash = ? AND expires_at > ?"
        " AND expires_at <= ?)"
    )
    good = db.value(sql, _hash(token), env.clock.now(), env.clock.latest(LIFE_SECONDS))
    if not good or exists(db):
        raise Denied(
            "invalid_token",
            "This set-up link has been used or has expired. Restart the portal: while there is no"
            " administrator, it prints a new one. Or run `portal.py admin create ADDRESS`.",
        )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
