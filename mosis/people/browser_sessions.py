"""Browser sessions: an opaque random token in a cookie, stored as its SHA-256.

They are rows of `sessions` like every other sign-in: listed and revoked with them, and ended by a
new password or a suspension.
"""

import hashlib
import secrets
from contextlib import suppress

from mosis.caller import Caller
from mosis.clock import seconds
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection
from mosis.errors import Unavailable
from mosis.people import accounts, authentication
from mosis.records import dataclass

TOUCH_SECONDS = 3600  # resolution of `last_used_at`; avoids a write for each page


@dataclass(frozen=True)
class BrowserSession:
    """The caller of a request with a session cookie; if `extended`, it must be set again."""

    caller: Caller
    extended: bool


def cookie_name(base_url: str) -> str:
    """The name of the cookie. With https it says that no other host and no page without encryption can
    have set it (RFC 6265bis, section 4.1.3.2)."""
    return "__Host-session" if base_url.startswith("https://") else "session"


def make_token() -> str:
    """A new token: 43 URL-safe characters, 256 random bits."""
    return secrets.token_urlsafe(32)


def is_token(text: str) -> bool:
    """Whether a text has the form of a session token."""
    return len(text) == 43 and text.isascii() and text.replace("-", "a").replace("_", "a").isalnum()


def open_session(db: Connection, session_id: str) -> str:
    """Issue a cookie token for a session that was just started. It is always new, so that a token
    set before the sign-in (session fixation) is useless."""
    token = make_token()
    with db.write():
        db.update("sessions", "id = ?", session_id, browser_hash=_hash(token))
    return token


def find(
    env: Context, db: Connection, token: str, address: str, client: str
) -> BrowserSession | None:
    """The active session with this token, or None; it ends 30 days after its last use."""
    now, row = env.clock.now(), _row(env, db, token)
    if not row:
        return None
    session_id, developer_id, last_used_at = row
    caller = authentication.caller_of_session(env, db, developer_id, session_id, address, client)
    if caller is None:
        return None
    if abs(seconds(now) - seconds(last_used_at)) < TOUCH_SECONDS:
        return BrowserSession(caller, False)
    with suppress(Unavailable):  # pages stay readable while the database cannot be written
        _touch(env, db, caller)
        return BrowserSession(caller, True)
    return BrowserSession(caller, False)


def account_of(env: Context, db: Connection, token: str) -> str | None:
    """The account of the active session with this token; the session counts as not used."""
    row = _row(env, db, token)
    return str(row[1]) if row else None


def end(db: Connection, caller: Caller) -> None:
    """End the browser's session."""
    accounts.logout(db, caller)


def _row(env: Context, db: Connection, token: str) -> tuple[str, str, str] | None:
    """Id, account and last use of an active session."""
    if not is_token(token):
        return None
    found: tuple[str, str, str] | None = db.one(
        "SELECT id, developer_id, last_used_at FROM sessions WHERE browser_hash = ?"
        " AND ended_at IS NULL AND expires_at > ? AND expires_at <= ?",
        _hash(token),
        env.clock.now(),
        env.clock.latest(tokens.REFRESH_SECONDS),
    )
    return found


def _touch(env: Context, db: Connection, caller: Caller) -> None:
    with db.write():
        db.change(
            "UPDATE sessions SET last_used_at = ?, expires_at = ?, client = ?, address = ?"
            " WHERE id = ? AND ended_at IS NULL",
            db.now,
            env.clock.now(tokens.REFRESH_SECONDS),
            caller.client,
            caller.network,
            caller.session_id,
        )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
