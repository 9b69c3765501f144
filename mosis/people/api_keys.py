"""API keys, with which programs sign in."""

import json
from collections.abc import Iterator

from mosis import audit, events
from mosis.caller import SCOPES, Caller
from mosis.clock import seconds
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection, Record, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import Conflict, Denied, Invalid, NotFound
from mosis.people import revocation
from mosis.publishing import apps
from mosis.records import dataclass
from mosis.validation import Finding, finding

MOST_ACTIVE = 100  # of one account
NOTICE_SECONDS = 7 * 24 * 3600  # how long before the expiry of a key its owner is notified

# An API key that is limited to apps (?2 is its id; NULL for any other caller) sees the keys that
# were made with it, directly or indirectly.
_SEEN = (
    "(?2 IS NULL OR id IN (WITH RECURSIVE made (id) AS (SELECT id FROM api_keys WHERE made_by = ?2"
    " UNION SELECT k.id FROM api_keys k JOIN made ON k.made_by = made.id) SELECT id FROM made))"
)


@dataclass(frozen=True)
class ApiKey(Record, table="api_keys"):
    """A row of `api_keys`; the key itself is stored as a hash only."""

    id: str
    developer_id: str
    name: str
    prefix: str
    scopes: str
    apps: str | None
    role: str
    expires_at: str | None
    last_used_at: str | None
    created_at: str
    revoked_at: str | None
    made_by: str | None


@dataclass(frozen=True)
class NewKey:
    """The rights of a new API key. `apps` None: all apps of the account; `expires_at` None: until
    it is revoked. If the caller is an API key itself, None means the caller's own limit."""

    name: str
    scopes: list[str]
    apps: list[str] | None = None
    expires_at: str | None = None
    role: str = "developer"


def add(db: Connection, caller: Caller, wanted: NewKey) -> tuple[ApiKey, str]:
    """Create an API key. Returns its text, which cannot be shown again, and its row.

    A key made with a key has at most the rights of that key. Raises Invalid, NotFound (apps),
    Denied, Conflict `limit_reached`.
    """
    account = caller.account
    _check_no_more_than(caller, wanted)
    if found := list(findings(wanted.expires_at, wanted.role, wanted.apps, db.clock.time())):
        raise Invalid(found)
    secret = tokens.make_key()
    with db.write():
        limited, expires_at = caller.apps, _end_within(db, caller, wanted.expires_at)
        if wanted.apps is not None:
            limited = frozenset(apps.with_role(db, caller, app, "viewer").id for app in wanted.apps)
        sql = (
            "SELECT count(*) FROM api_keys WHERE developer_id = ? AND revoked_at IS NULL"
            " AND (expires_at IS NULL OR expires_at > ?)"
        )
        live = db.value(sql, account, db.now)
        if live >= MOST_ACTIVE:
            detail = f"An account may have {MOST_ACTIVE} active API keys; revoke one first."
            raise Conflict("limit_reached", detail)
        key = ApiKey(
            new_id(),
            account,
            wanted.name,
            secret[:14],
            json.dumps(sorted(set(wanted.scopes))),
            None if limited is None else json.dumps(sorted(limited)),
            wanted.role,
            expires_at,
            None,
            db.now,
            None,
            caller.key_id or caller.session_id,
        )
        db.insert("api_keys", **vars(key), hash=tokens.key_hash(secret))
        facts = {"prefix": key.prefix, "scopes": json.loads(key.scopes), "role": key.role}
        audit.add(db, caller, "api_key.added", key.id, **facts)
        return key, secret


def findings(
    expires_at: str | None, role: str, apps: list[str] | None, now: float
) -> Iterator[Finding]:
    """What is wrong with a new key, apart from the rights of its caller."""
    if expires_at is not None and seconds(expires_at) <= now:
        yield finding("/expires_at", "too_small", "This time is in the past.")
    if role != "developer" and apps is not None:
        detail = "A role applies to the whole portal; a key with a role cannot be limited to apps."
        yield finding("/apps", "not_allowed", detail)


def index(db: Connection, caller: Caller, paging: PageRequest) -> Page[ApiKey]:
    """The active API keys that the caller may see, newest first."""
    where = f"developer_id = ?1 AND {_SEEN} AND revoked_at IS NULL"
    return newest_first(db, ApiKey, where, caller.account, _limited(caller), paging=paging)


def get(db: Connection, caller: Caller, key_id: str) -> ApiKey:
    """One active API key that the caller may see. Raises NotFound."""
    where = f"developer_id = ?1 AND {_SEEN} AND id = ?3 AND revoked_at IS NULL"
    return db.get(ApiKey, where, caller.account, _limited(caller), key_id, what="API key")


def _limited(caller: Caller) -> str | None:
    return None if caller.apps is None else caller.key_id


def revoke(db: Connection, caller: Caller, key_id: str) -> None:
    """Revoke a key and everything made with it, in the running transaction; the next request with
    any of them is refused. Safe to repeat. Raises NotFound."""
    sql = f"SELECT 1 FROM api_keys WHERE developer_id = ?1 AND {_SEEN} AND id = ?3"
    if not db.value(sql, caller.account, _limited(caller), key_id):
        raise NotFound("API key")
    if db.update("api_keys", "id = ? AND revoked_at IS NULL", key_id, revoked_at=db.now):
        audit.add(db, caller, "api_key.revoked", key_id)
    revocation.end_made_by(db, caller, caller.account, key_id)


def is_known(db: Connection, secret: str) -> bool:
    """Whether this is an API key of the portal, active or revoked."""
    sql = "SELECT 1 FROM api_keys WHERE hash = ?"
    return tokens.is_key(secret) and db.has(sql, tokens.key_hash(secret))


def report(db: Connection, caller: Caller, secret: str) -> bool:
    """Revoke a leaked key, presented by anybody who found it, with everything made with it, and
    notify its owner. Returns whether the key was active; what was made with a revoked key is
    revoked too."""
    if not is_known(db, secret):
        return False
    with db.write():
        sql = "SELECT id, developer_id, name, prefix, revoked_at FROM api_keys WHERE hash = ?"
        row = db.one(sql, tokens.key_hash(secret))
        if row is None:
            return False
        key_id, owner_id, name, prefix, revoked_at = row
        revocation.end_made_by(db, caller, owner_id, key_id)
        if revoked_at is not None:
            return False
        db.update("api_keys", "id = ?", key_id, revoked_at=db.now)
        audit.add(db, caller, "api_key.reported", key_id, owner_id=owner_id)
        events.add(db, owner_id, "security.key_reported", name=name, prefix=prefix)
        return True


def flush_uses(env: Context) -> None:
    """Write the times at which keys were last used, to the minute."""
    uses = env.key_uses.take()
    if not uses:
        return
    db = env.db.connection()
    try:
        with db.write():
            for use in uses:
                key_id, _, minute = use.partition("|")
                sql = "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, ''), ?) WHERE id = ?"
                db.change(sql, minute, key_id)
    except BaseException:
        env.key_uses.put_back(uses)
        raise


def notify_of_expiring(env: Context) -> None:
    """Job: notify owners of keys that expire within a week, once for each key."""
    with env.db.write() as db:
        sql = (
            "SELECT id, developer_id, name, prefix, expires_at FROM api_keys WHERE expires_at < ? AND expires_at > ?"
            " AND revoked_at IS NULL AND notified_at IS NULL"
        )
        ending = db.all(sql, db.clock.now(NOTICE_SECONDS), db.now)
        for key_id, developer_id, name, prefix, expires_at in ending:
            db.update("api_keys", "id = ?", key_id, notified_at=db.now)
            events.add(
                db, developer_id, "key.expiring", name=name, prefix=prefix, expires_at=expires_at
            )


def _end_within(db: Connection, caller: Caller, wanted: str | None) -> str | None:
    """The expiry of a new key, not after its maker's: a leaked key must not prolong itself."""
    limit: str | None = (
        db.value("SELECT expires_at FROM api_keys WHERE id = ?", caller.key_id)
        if caller.key_id
        else None
    )
    if limit is not None and wanted is not None and wanted > limit:
        detail = f"The expiry must not be later than that of the API key in use, {limit}."
        raise Invalid([finding("/expires_at", "too_large", detail)])
    return wanted or limit


def _check_no_more_than(caller: Caller, wanted: NewKey) -> None:
    more = sorted(
        set(wanted.scopes) - (caller.scopes if caller.scopes is not None else set(SCOPES))
    )
    if more:
        detail = f"A credential cannot grant more than it has; missing: {', '.join(more)}."
        raise Denied("insufficient_scope", detail, scope=more[0])
    if wanted.role != "developer" and (
        caller.session_id is None or caller.scopes is not None or not caller.has_role("admin")
    ):
        raise Denied("forbidden", "Only a signed-in administrator can make keys with a role.")
