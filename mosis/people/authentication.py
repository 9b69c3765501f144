"""Authentication: finds the caller of a request by its credential, and verifies the credential
again at the moment of a change. Credentials are not cached between requests."""

import json
from collections.abc import Sequence
from typing import Any

from mosis.caller import ROLES, Caller
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection
from mosis.errors import Denied

_HAS_SECOND_FACTOR = "EXISTS (SELECT 1 FROM second_factors f WHERE f.developer_id = d.id AND f.confirmed_at IS NOT NULL)"
_KEY = (
    "SELECT k.developer_id, k.role, d.role, k.id, k.scopes, k.apps, k.expires_at, k.last_used_at, "
    + _HAS_SECOND_FACTOR
    + " FROM api_keys k JOIN developers d ON d.id = k.developer_id WHERE k.{column} = ?"
    " AND k.revoked_at IS NULL AND d.suspended = 0 AND d.erased_at IS NULL"
    " AND (k.expires_at IS NULL OR k.expires_at > ?)"
)
_TOKEN = (
    "SELECT a.developer_id, t.id, a.id, p.scopes FROM publisher_tokens t"
    " JOIN trusted_publishers p ON p.id = t.publisher_id JOIN apps a ON a.id = p.app_id"
    " JOIN developers d ON d.id = a.developer_id WHERE t.{column} = ? AND t.expires_at > ?"
    " AND d.suspended = 0 AND d.erased_at IS NULL"
)
_SESSION = (
    "SELECT d.role, s.scopes, "
    + _HAS_SECOND_FACTOR
    + " FROM sessions s JOIN developers d ON d.id = s.developer_id"
    " WHERE s.id = ? AND d.id = ? AND s.ended_at IS NULL AND d.suspended = 0 AND d.erased_at IS NULL"
)


def caller_of(env: Context, db: Connection, credential: str, address: str, client: str) -> Caller:
    """The caller with this access token or API key. Raises Denied `invalid_token`."""
    if credential.startswith(tokens.KEY_PREFIX):
        return _caller_of_key(env, db, credential, address, client)
    if credential.startswith(tokens.PUBLISHER_PREFIX):
        return _caller_of_publisher(env, db, credential, address, client)
    claims = env.access_tokens.read(credential, env.clock.time())
    found = caller_of_session(env, db, claims.developer_id, claims.session_id, address, client)
    if found is None:
        raise Denied("invalid_token", "This session has ended; sign in again.")
    return found


def confirm(env: Context, db: Connection, caller: Caller) -> None:
    """Verify, at the beginning of a transaction and under the write lock, that the caller's
    credential is still valid with the same rights (see mosis/web/callers.py): session, key,
    account, role or scopes may have changed since the request was authenticated. Raises Denied
    `invalid_token` if it has ended, `forbidden` if its rights have changed."""
    if caller.key_id is not None:
        row = db.one(_KEY.format(column="id"), caller.key_id, env.clock.now())
        now = None if row is None else _of_key(env, row, caller.address, caller.client)
    elif caller.token_id is not None:
        row = db.one(_TOKEN.format(column="id"), caller.token_id, env.clock.now())
        now = None if row is None else _of_publisher(row, caller.address, caller.client)
    else:
        now = caller_of_session(
            env, db, caller.account, caller.session_id or "", caller.address, caller.client
        )
    if now is None:
        raise Denied(
            "invalid_token",
            "This credential was revoked or expired while the request ran; nothing was changed.",
        )
    if now != caller:
        raise Denied(
            "forbidden",
            "The permissions of this credential changed while the request ran; "
            "nothing was changed. Send the request again.",
        )


def caller_of_session(
    env: Context, db: Connection, developer_id: str, session_id: str, address: str, client: str
) -> Caller | None:
    """The caller of an active session of an active account, or None. A device login has no role."""
    row = db.one(_SESSION, session_id, developer_id)
    if row is None:
        return None
    role, scopes, has_second_factor = row
    lacks = _lacks(env, has_second_factor)
    if scopes is None:
        return Caller(developer_id, role, address, client, session_id=session_id, lacks=lacks)
    limited = frozenset(json.loads(scopes))
    return Caller(
        developer_id, "developer", address, client, session_id, scopes=limited, lacks=lacks
    )


def _caller_of_key(env: Context, db: Connection, secret: str, address: str, client: str) -> Caller:
    now = env.clock.now()
    row = tokens.is_key(secret) and db.one(_KEY.format(column="hash"), tokens.key_hash(secret), now)
    if not row:
        raise Denied("invalid_token", "This API key is unknown, expired or revoked.")
    minute = now[:16] + ":00Z"
    if row[7] != minute:
        env.key_uses.add(f"{row[3]}|{minute}")
    return _of_key(env, row, address, client)


def _of_key(env: Context, row: Sequence[Any], address: str, client: str) -> Caller:
    developer_id, role_of_key, role_of_account, key_id, scopes, limited = row[:6]
    return Caller(
        developer_id,
        # a key never has a higher role than its account
        min(role_of_key, role_of_account, key=ROLES.index),
        address,
        client,
        key_id=key_id,
        scopes=frozenset(json.loads(scopes)),
        lacks=_lacks(env, row[8]),
        apps=None if limited is None else frozenset(json.loads(limited)),
    )


def _caller_of_publisher(
    env: Context, db: Connection, token: str, address: str, client: str
) -> Caller:
    row = tokens.is_publisher_token(token) and db.one(
        _TOKEN.format(column="token_hash"), tokens.key_hash(token), env.clock.now()
    )
    if not row:
        detail = "This token of a trusted publisher has expired; exchange another ID token."
        raise Denied("invalid_token", detail)
    return _of_publisher(row, address, client)


def _of_publisher(row: Sequence[Any], address: str, client: str) -> Caller:
    """Acts for the account that the app belongs to, within one app, and has no role. It is exempt
    from REQUIRE_SECOND_FACTOR: the owner who added the publisher was asked for it."""
    developer_id, token_id, app_id, scopes = row
    return Caller(
        developer_id,
        "developer",
        address,
        client,
        scopes=frozenset(json.loads(scopes)),
        apps=frozenset([app_id]),
        token_id=token_id,
    )


def _lacks(env: Context, has_second_factor: int) -> str:
    """What an account may not do before it has a second factor: REQUIRE_SECOND_FACTOR, or nothing."""
    wanted = env.config.require_second_factor
    return "" if has_second_factor or wanted == "off" else wanted
