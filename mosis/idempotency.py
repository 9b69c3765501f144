"""Safe retries: what was answered to a POST is kept for a day under its Idempotency-Key, written in the transaction of the change.

So there is no moment at which the change is there and its answer is not. An answer may hold a token or an API key: it is kept
encrypted, with a key made from the server's secret and the client's; a copy of the database alone gives nothing away, and
neither bodies nor network addresses can be guessed from what is stored (they go through a MAC).
"""

import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from typing import Any

from mosis.caller import Caller
from mosis.database import Connection
from mosis.errors import Conflict, Invalid

KEPT_SECONDS = 24 * 3600
_ID, _BODY, _KEY = (
    b"mosis idempotency id 1",
    b"mosis idempotency body 1",
    b"mosis idempotency answer 1",
)


@dataclass(frozen=True)
class Answer:
    """What was answered: also what is answered again."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Request:
    """A request with an Idempotency-Key, as far as it counts: its name in the table, the MAC of its body, the key of its answer."""

    id: str
    developer_id: str | None
    body_mac: str
    encryption_key: bytes


def request(secret: str, caller: Caller, method: str, path: str, key: str, body: bytes) -> Request:
    """The request as it is told from others. A key counts for one credential with its rights and one
    address: an answer can hold a secret, so nobody else is given it, and neither is the same credential
    once it may do less. A session stays the same when its tokens are refreshed. Where nobody is signed
    in, it counts for the network address.
    """
    if caller.developer_id:
        credential = [caller.developer_id, caller.session_id, caller.key_id, caller.role]
        limits = [None if each is None else sorted(each) for each in (caller.scopes, caller.apps)]
        who = json.dumps([credential, limits])
    else:
        who = f"nobody {caller.household}"
    name = json.dumps([who, method, path, key]).encode()
    return Request(
        _mac(secret, _ID, name).hex(),
        caller.developer_id,
        _mac(secret, _BODY, body).hex(),
        _mac(secret, _KEY, name + body),
    )


def find(db: Connection, asked: Request) -> Answer | None:
    """What this request was answered before. Raises Invalid `idempotency_key_reused` when it was another body."""
    row = db.one(
        "SELECT body_mac, answer FROM idempotency WHERE id = ? AND expires_at > ? AND expires_at <= ?",
        asked.id,
        db.clock.now(),
        db.clock.latest(KEPT_SECONDS),
    )
    if row is None:
        return None
    if not hmac.compare_digest(row[0], asked.body_mac):
        raise Invalid(
            [],
            "idempotency_key_reused",
            "This Idempotency-Key was sent with another body; take a new one.",
        )
    status, headers, body = json.loads(_decrypted(asked, row[1]))
    return Answer(status, [(name, value) for name, value in headers], body.encode())


def keep(db: Connection, asked: Request, answer: Answer) -> None:
    """Keep an answer, in the running transaction. Raises Conflict `idempotency_in_progress` when another process was faster: then
    nothing of this request must be committed."""
    plain = json.dumps(
        [answer.status, answer.headers, answer.body.decode()], ensure_ascii=False
    ).encode()
    kept = db.change(
        "INSERT INTO idempotency (id, developer_id, body_mac, answer, expires_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET body_mac = excluded.body_mac, answer = excluded.answer, expires_at = excluded.expires_at"
        " WHERE idempotency.expires_at <= ? OR idempotency.expires_at > ?",
        asked.id,
        asked.developer_id,
        asked.body_mac,
        _encrypted(asked, plain),
        db.clock.now(KEPT_SECONDS),
        db.now,
        db.clock.latest(KEPT_SECONDS),
    )
    if not kept:
        raise in_progress()


def in_progress() -> Conflict:
    """The refusal while the first request with this key still runs."""
    return Conflict(
        "idempotency_in_progress",
        "The first request with this Idempotency-Key still runs; ask again in a moment.",
        retry_after_seconds=1,
    )


def sweep(env: Any) -> None:
    """The job that forgets answers when their day is over."""
    db = env.db.connection()
    with db.write():
        db.change("DELETE FROM idempotency WHERE expires_at <= ?", db.now)


def _mac(secret: str, label: bytes, content: bytes) -> bytes:
    return hmac.new(secret.encode(), label + b"\0" + content, hashlib.sha256).digest()


def _encrypted(asked: Request, plain: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(12)
    return nonce + AESGCM(asked.encryption_key).encrypt(nonce, plain, asked.id.encode())


def _decrypted(asked: Request, stored: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(asked.encryption_key).decrypt(stored[:12], stored[12:], asked.id.encode())
