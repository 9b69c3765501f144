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
    claims = env.access_tokens.read(credential, env.clock.time())
    found = caller_of_session(env, db, claims.developer_id, claims.session_id, address, client)
    if found is None:
        raise Denied("invalid_token", "This session has ended; sign in again.")
    return found


def confirm(env: Context, db: Connection, caller: Caller) -> None:
    """Verify, at the beginning of a transaction and under the write lock, that the caller's
    credential is still valid with the same rights (see mosis/web/plugins.py): session, key,
    account, role or scopes may have changed since the request was authenticated. Raises Denied
    `invalid_token` if it has ended, `forbidden` if its rights have changed."""
    if caller.key_id is not None:
        row = db.one(_KEY.format(column="id"), caller.key_id, env.clock.now())
        now = None if row is None else _of_key(env, row, caller.address, caller.client)
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


def _lacks(env: Context, has_second_factor: int) -> str:
    """What an account may not do before it has a second factor: REQUIRE_SECOND_FACTOR, or nothing."""
    wanted = env.config.require_second_factor
    return "" if has_second_factor or wanted == "off" else wanted
