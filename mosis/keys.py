"""Signing keys: the Ed25519 public keys with which a developer's packages are verified."""

from dataclasses import dataclass

from mosis import audit, packages
from mosis.callers import Caller
from mosis.db import Connection, columns, new_id
from mosis.errors import Conflict, NotFound

LIVE_SIGNING_KEYS = 10


@dataclass(frozen=True)
class SigningKey:
    """A registered public key, 32 raw bytes (RFC 8032)."""

    id: str
    developer_id: str
    name: str
    public_key: bytes
    fingerprint: str
    state: str
    created_at: str
    revoked_at: str | None


def add_signing_key(db: Connection, caller: Caller, name: str, public_key: str) -> SigningKey:
    """Register a key given as PEM or base64. Raises Invalid, Conflict `signing_key_exists` or `limit_reached`."""
    account = caller.account
    raw = packages.parse_public_key(public_key)
    with db.write():
        if db.value("SELECT 1 FROM signing_keys WHERE developer_id = ? AND public_key = ?", account, raw):
            raise Conflict("signing_key_exists", "This key is registered already, or was and has been revoked.")
        live = db.value("SELECT count(*) FROM signing_keys WHERE developer_id = ? AND state = 'active'", account)
        if live >= LIVE_SIGNING_KEYS:
            raise Conflict("limit_reached", f"An account has at most {LIVE_SIGNING_KEYS} live signing keys; revoke one first.")
        key = SigningKey(new_id(), account, name, raw, packages.fingerprint(raw), "active", db.now, None)
        db.insert("signing_keys", **vars(key))
        audit.add(db, caller, "signing_key.added", key.id, fingerprint=key.fingerprint)
        return key


def signing_keys(db: Connection, developer_id: str) -> list[SigningKey]:
    """All keys of an account, the newest first."""
    return db.all(
        f"SELECT {columns(SigningKey)} FROM signing_keys WHERE developer_id = ? ORDER BY id DESC", developer_id, into=SigningKey
    )


def get_signing_key(db: Connection, developer_id: str, key_id: str) -> SigningKey:
    """One key of an account. Raises NotFound."""
    found: SigningKey | None = db.one(
        f"SELECT {columns(SigningKey)} FROM signing_keys WHERE id = ? AND developer_id = ?", key_id, developer_id, into=SigningKey
    )
    if found is None:
        raise NotFound("signing key")
    return found


def live_signing_keys(db: Connection, developer_id: str) -> dict[str, bytes]:
    """The keys that may sign new uploads: {id: 32 raw bytes}."""
    return dict(db.all("SELECT id, public_key FROM signing_keys WHERE developer_id = ? AND state = 'active'", developer_id))


def revoke_signing_key(db: Connection, caller: Caller, key_id: str) -> None:
    """No new upload may use it from now on; what is installed stays. Doing it twice does no harm. Raises NotFound."""
    account = caller.account
    with db.write():
        get_signing_key(db, account, key_id)
        if db.change(
            "UPDATE signing_keys SET state = 'revoked', revoked_at = ? WHERE id = ? AND developer_id = ? AND state = 'active'",
            db.now, key_id, account,
        ):
            audit.add(db, caller, "signing_key.revoked", key_id)
