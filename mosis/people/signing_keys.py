"""Signing keys: the Ed25519 public keys that verify packages."""

from mosis import audit, packages
from mosis.caller import Caller
from mosis.database import Connection, Record, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import Conflict
from mosis.records import dataclass

MOST_ACTIVE = 10  # of one account


@dataclass(frozen=True)
class SigningKey(Record, table="signing_keys"):
    """A registered public key, 32 raw bytes (RFC 8032)."""

    id: str
    developer_id: str
    name: str
    public_key: bytes
    fingerprint: str
    state: str
    created_at: str
    revoked_at: str | None
    made_by: str | None


def add(db: Connection, caller: Caller, name: str, public_key: str) -> SigningKey:
    """Register a key given as PEM or base64. Raises Invalid, Conflict `signing_key_exists` or `limit_reached`."""
    account = caller.account
    raw = packages.parse_public_key(public_key)
    with db.write():
        sql = "SELECT 1 FROM signing_keys WHERE developer_id = ? AND public_key = ?"
        if db.value(sql, account, raw):
            detail = "This key is registered already, or was registered and revoked."
            raise Conflict("signing_key_exists", detail)
        sql = "SELECT count(*) FROM signing_keys WHERE developer_id = ? AND state = 'active'"
        live = db.value(sql, account)
        if live >= MOST_ACTIVE:
            detail = f"An account may have {MOST_ACTIVE} active signing keys; revoke one first."
            raise Conflict("limit_reached", detail)
        key = SigningKey(
            new_id(),
            account,
            name,
            raw,
            packages.fingerprint(raw),
            "active",
            db.now,
            None,
            caller.key_id or caller.session_id,
        )
        db.insert("signing_keys", **vars(key))
        audit.add(db, caller, "signing_key.added", key.id, fingerprint=key.fingerprint)
        return key


def index(db: Connection, developer_id: str, paging: PageRequest) -> Page[SigningKey]:
    """All signing keys of an account, newest first."""
    return newest_first(db, SigningKey, "developer_id = ?1", developer_id, paging=paging)


def get(db: Connection, developer_id: str, key_id: str) -> SigningKey:
    """One signing key of an account. Raises NotFound."""
    return db.get(SigningKey, "id = ? AND developer_id = ?", key_id, developer_id)


def that_sign(db: Connection, app_id: str) -> dict[str, bytes]:
    """The keys that may sign new uploads of an app: {id: 32 raw bytes}. They are the active ones of its
    publishers and owners; see `members.may_sign`."""
    sql = (
        "SELECT k.id, k.public_key FROM app_members m JOIN developers d ON d.id = m.developer_id"
        " JOIN signing_keys k ON k.developer_id = m.developer_id WHERE m.app_id = ?"
        " AND m.role <> 'viewer' AND k.state = 'active' AND d.suspended = 0"
    )
    return dict(db.all(sql, app_id))


def revoke(db: Connection, caller: Caller, key_id: str) -> None:
    """Revoke a signing key, in the running transaction: no new upload may use it; installed
    versions stay. Safe to repeat. Raises NotFound."""
    get(db, caller.account, key_id)
    sql = "UPDATE signing_keys SET state = 'revoked', revoked_at = ? WHERE id = ? AND developer_id = ? AND state = 'active'"
    if db.change(sql, db.now, key_id, caller.account):
        audit.add(db, caller, "signing_key.revoked", key_id)
