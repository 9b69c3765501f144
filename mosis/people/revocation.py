"""Which credentials and ways into an account end on which occasion, and how many rows of those that
have ended stay.

A test compares the list with the schema: every table with a `developer_id` is listed here, or named
there as one that gives no access.
"""

from mosis import audit
from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.records import dataclass

# The occasions; each includes what ends on the earlier ones.
SIGNED_OUT = "signed_out"  # all sessions end, also when the password changes
SUSPENDED = "suspended"  # an administrator suspends the account
# the owner of the mailbox takes over an account that somebody else may have registered
CLAIMED = "claimed"
ERASED = "erased"  # the account is erased
OCCASIONS = (SIGNED_OUT, SUSPENDED, CLAIMED, ERASED)


@dataclass(frozen=True)
class Ending:
    """How the rows of one table end: the statement, the first occasion on which it runs, and its
    values (`account`, `now`, `reason`, and `but`: the session that stays). An erasure deletes
    the rows afterwards, unless `erase` is set."""

    statement: str
    since: str
    bound: str = "account"
    erase: str | None = None


def _deleted(table: str, where: str = "") -> str:
    return f"DELETE FROM {table} WHERE developer_id = ?1" + where


ENDINGS: dict[str, Ending] = {
    "sessions": Ending(
        "UPDATE sessions SET ended_at = ?2, end_reason = ?3"
        " WHERE developer_id = ?1 AND ended_at IS NULL AND id IS NOT ?4",
        SIGNED_OUT,
        "account now reason but",
    ),
    # approved and not collected yet; would become a session
    "device_logins": Ending(_deleted("device_logins", " AND state = 'approved'"), SIGNED_OUT),
    # completed and not collected yet, or started to link an identity
    "oauth_states": Ending(
        "DELETE FROM oauth_states WHERE developer_id = ?1 OR session_id IN"
        " (SELECT id FROM sessions WHERE developer_id = ?1 AND id IS NOT ?2)",
        SIGNED_OUT,
        "account but",
    ),
    "api_keys": Ending(
        "UPDATE api_keys SET revoked_at = ?2 WHERE developer_id = ?1 AND revoked_at IS NULL",
        SUSPENDED,
        "account now",
    ),
    # a suspended account cannot upload, and the suspension may be lifted
    "signing_keys": Ending(
        "UPDATE signing_keys SET state = 'revoked', revoked_at = ?2"
        " WHERE developer_id = ?1 AND state = 'active'",
        CLAIMED,
        "account now",
        erase="UPDATE signing_keys SET name = 'erased' WHERE developer_id = ?1",
    ),
    "tickets": Ending(
        "UPDATE tickets SET used_at = ?2 WHERE developer_id = ?1 AND used_at IS NULL",
        SUSPENDED,
        "account now",
    ),
    # an intruder could invite themselves and return after the password is changed
    "app_invitations": Ending(_deleted("app_invitations"), SIGNED_OUT),
    "trusted_publishers": Ending(_deleted("trusted_publishers"), SUSPENDED),
    "app_members": Ending(_deleted("app_members"), ERASED),
    "idempotency": Ending(_deleted("idempotency"), SUSPENDED),
    # identities stay linked while suspended, so that their owner cannot register again with them
    "identities": Ending(_deleted("identities"), CLAIMED),
    # also one turned on by somebody else who registered the account
    "second_factors": Ending(_deleted("second_factors"), CLAIMED),
    "webhooks": Ending(_deleted("webhooks"), CLAIMED),
}


def end(
    db: Connection, developer_id: str, occasion: str, reason: str, *, but: str | None = None
) -> None:
    """End what ends on this occasion, in the running transaction; the session `but` stays."""
    place = OCCASIONS.index(occasion)
    known = {"account": developer_id, "now": db.now, "reason": reason, "but": but}
    for ending in ENDINGS.values():
        if OCCASIONS.index(ending.since) <= place:
            db.change(ending.statement, *(known[name] for name in ending.bound.split()))


def erase(db: Connection, developer_id: str) -> None:
    """End everything and delete the rows, in the running transaction."""
    end(db, developer_id, ERASED, "erased")
    for table, ending in ENDINGS.items():
        db.change(ending.erase or _deleted(table), developer_id)


def end_made_by(db: Connection, caller: Caller, owner_id: str, credential_id: str) -> None:
    """End what was made, directly or indirectly, with a revoked or leaked credential (API key or
    session), in the running transaction: API keys, signing keys and the sessions of device
    logins.

    Of a session with all rights, only the device logins approved in it end: its API keys and
    signing keys belong to the account, are listed with `made_by` and are revoked one by one.
    """
    made = db.all(
        "WITH RECURSIVE roots (id) AS (SELECT ?1 UNION SELECT s.id FROM sessions s JOIN roots r ON s.made_by = r.id),"
        " tree (id) AS (SELECT r.id FROM roots r WHERE NOT EXISTS"
        " (SELECT 1 FROM sessions s WHERE s.id = r.id AND s.scopes IS NULL)"
        " UNION SELECT k.id FROM api_keys k JOIN tree t ON k.made_by = t.id)"
        " SELECT 'session', id FROM sessions WHERE id IN roots AND id <> ?1 AND ended_at IS NULL"
        " UNION ALL SELECT 'api_key', id FROM api_keys WHERE made_by IN tree AND revoked_at IS NULL"
        " UNION ALL SELECT 'signing_key', id FROM signing_keys WHERE made_by IN tree AND state = 'active'",
        credential_id,
    )
    statements = {
        "session": "UPDATE sessions SET ended_at = ?, end_reason = 'revoked' WHERE id = ?",
        "api_key": "UPDATE api_keys SET revoked_at = ? WHERE id = ?",
        "signing_key": "UPDATE signing_keys SET state = 'revoked', revoked_at = ? WHERE id = ?",
    }
    db.change("DELETE FROM device_logins WHERE made_by = ? AND state = 'approved'", credential_id)
    for kind, made_id in made:
        db.change(statements[kind], db.now, made_id)
        audit.add(
            db, caller, f"{kind}.revoked", made_id, owner_id=owner_id, made_by_revoked=credential_id
        )


# table: (condition of the counted rows, with ?1 the current time; order, newest first; rows that stay per account). Active
# keys have limits of their own; a signing key that a version refers to stays.
ROWS_PER_ACCOUNT: dict[str, tuple[str, str, int]] = {
    "sessions": ("1", "ended_at IS NULL DESC, last_used_at DESC", 500),
    "api_keys": ("revoked_at IS NOT NULL OR expires_at <= ?1", "created_at DESC", 500),
    "signing_keys": (
        "state = 'revoked' AND id NOT IN (SELECT signing_key_id FROM versions)",
        "revoked_at DESC",
        500,
    ),
    "idempotency": ("developer_id IS NOT NULL", "expires_at DESC", 2000),
}


def sweep_rows(env: Context) -> None:
    """Job: delete the rows of each account beyond these bounds. The audit trail still lists them."""
    db = env.db.connection()
    for table, (counted, order, most) in ROWS_PER_ACCOUNT.items():
        surplus = (
            f"SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY developer_id ORDER BY {order}, id DESC) AS place"
            f" FROM {table} WHERE ({counted}) AND ?1 <> '') WHERE place > {most}"
        )
        if db.value(f"SELECT 1 FROM ({surplus}) LIMIT 1", env.clock.now()):
            with db.write():
                if table == "api_keys":
                    _pass_on_makers(db, surplus)
                db.change(f"DELETE FROM {table} WHERE id IN ({surplus})", db.now)


def _pass_on_makers(db: Connection, surplus: str) -> None:
    """What a deleted key has made gets that key's maker, whose revocation then still reaches it."""
    for (key_id,) in db.all(surplus, db.now):
        maker = db.value("SELECT made_by FROM api_keys WHERE id = ?", key_id)
        for table in ("api_keys", "signing_keys"):
            db.change(f"UPDATE {table} SET made_by = ? WHERE made_by = ?", maker, key_id)
