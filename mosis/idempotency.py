"""Idempotency keys: the response to a POST is stored for a day under its Idempotency-Key, in the
transaction of the change.

There is no moment at which the change is committed and its response is not. A response may contain
a token or an API key, so it is encrypted with a key derived from the server's secret and the
client's. A copy of the database discloses nothing; bodies and network addresses cannot be guessed
from it, because only their MAC is stored.
"""

import hashlib
import hmac
import json
import os
from typing import Any

from mosis.caller import Caller
from mosis.database import Connection
from mosis.errors import Conflict, Invalid
from mosis.records import dataclass

RETENTION_SECONDS = 24 * 3600
_ID, _BODY, _KEY = (
    b"mosis idempotency id 1",
    b"mosis idempotency body 1",
    b"mosis idempotency answer 1",
)


@dataclass(frozen=True)
class StoredResponse:
    """A stored response, which a retry gets again."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class KeyedRequest:
    """A request with an Idempotency-Key: its name, its body's MAC, its response's key."""

    id: str
    developer_id: str | None
    body_mac: str
    encryption_key: bytes


def request(
    secret: str, caller: Caller, method: str, path: str, key: str, body: bytes
) -> KeyedRequest:
    """Identify a request. An idempotency key is valid for one credential with its rights and one
    address, because a response can contain a secret; a credential whose rights were reduced does
    not count as the same. Refreshing a session's tokens does not change it. For callers who are not
    signed in, the key is valid for the network address."""
    if caller.developer_id:
        credential = [
            caller.developer_id,
            caller.session_id,
            caller.key_id,
            caller.token_id,
            caller.role,
        ]
        limits = [None if each is None else sorted(each) for each in (caller.scopes, caller.apps)]
        who = json.dumps([credential, limits])
    else:
        who = f"nobody {caller.client_network}"
    name = json.dumps([who, method, path, key]).encode()
    return KeyedRequest(
        _mac(secret, _ID, name).hex(),
        caller.developer_id,
        _mac(secret, _BODY, body).hex(),
        _mac(secret, _KEY, name + body),
    )


def find(db: Connection, keyed: KeyedRequest) -> StoredResponse | None:
    """The stored response to this request, or None. Raises Invalid `idempotency_key_reused`."""
    sql = "SELECT body_mac, answer FROM idempotency WHERE id = ? AND expires_at > ? AND expires_at <= ?"
    row = db.one(sql, keyed.id, db.clock.now(), db.clock.latest(RETENTION_SECONDS))
    if row is None:
        return None
    if not hmac.compare_digest(row[0], keyed.body_mac):
        raise Invalid(
            [],
            "idempotency_key_reused",
            "This Idempotency-Key was sent with another body; use a new key for a "
            "different request.",
        )
    status, headers, body = json.loads(_decrypted(keyed, row[1]))
    return StoredResponse(status, [(name, value) for name, value in headers], body.encode())


def keep(db: Connection, keyed: KeyedRequest, answer: StoredResponse) -> None:
    """Store a response, in the running transaction. Raises Conflict `idempotency_in_progress` if
    another process stored one first; then the transaction must be rolled back."""
    plain = json.dumps(
        [answer.status, answer.headers, answer.body.decode()], ensure_ascii=False
    ).encode()
    stored = db.change(
        "INSERT INTO idempotency (id, developer_id, body_mac, answer, expires_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET body_mac = excluded.body_mac, answer = excluded.answer, expires_at = excluded.expires_at"
        " WHERE idempotency.expires_at <= ? OR idempotency.expires_at > ?",
        keyed.id,
        keyed.developer_id,
        keyed.body_mac,
        _encrypted(keyed, plain),
        db.clock.now(RETENTION_SECONDS),
        db.now,
        db.clock.latest(RETENTION_SECONDS),
    )
    if not stored:
        raise in_progress()


def in_progress() -> Conflict:
    """The error while the first request with this key is running."""
    detail = "The first request with this Idempotency-Key is still running; try again in a moment."
    return Conflict("idempotency_in_progress", detail, retry_after_seconds=1)


def sweep(env: Any) -> None:
    """Job: delete stored responses that have expired."""
    with env.db.write() as db:
        db.change("DELETE FROM idempotency WHERE expires_at <= ?", db.now)


def _mac(secret: str, label: bytes, content: bytes) -> bytes:
    return hmac.new(secret.encode(), label + b"\0" + content, hashlib.sha256).digest()


def _encrypted(keyed: KeyedRequest, plain: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(12)
    return nonce + AESGCM(keyed.encryption_key).encrypt(nonce, plain, keyed.id.encode())


def _decrypted(keyed: KeyedRequest, stored: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(keyed.encryption_key).decrypt(stored[:12], stored[12:], keyed.id.encode())
