"""Bounds the rows that accounts leave behind (ended sessions, revoked keys, stored responses): the
newest of each account stay."""

from mosis.context import Context
from mosis.database import Connection

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


def sweep(env: Context) -> None:
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
                    _pass_on(db, surplus)
                db.change(f"DELETE FROM {table} WHERE id IN ({surplus})", db.now)


def _pass_on(db: Connection, surplus: str) -> None:
    """Objects made with a deleted key get that key's own maker as `made_by`, so that revoking the
    maker still reaches them."""
    for (key_id,) in db.all(surplus, db.now):
        maker = db.value("SELECT made_by FROM api_keys WHERE id = ?", key_id)
        for table in ("api_keys", "signing_keys"):
            db.change(f"UPDATE {table} SET made_by = ? WHERE made_by = ?", maker, key_id)
