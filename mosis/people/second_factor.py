"""The second factor of an account: codes of an authenticator app, and recovery codes in case it is
lost.

Each code is valid once. After the first factor a client gets a ticket, which is valid for ten
minutes or until the password changes. `accounts.second_step` exchanges it for a session.
"""

import json
from typing import Any

from mosis import audit, events
from mosis.caller import Caller
from mosis.context import Context
from mosis.credentials import passwords, tokens, totp
from mosis.database import Connection, Record
from mosis.errors import Denied, InvalidState
from mosis.records import dataclass

TICKET_SECONDS = 600
NOTICE_SECONDS = 3600  # at most one notice of wrong codes in this time


@dataclass(frozen=True)
class SecondFactor(Record, table="second_factors"):
    """A row of `second_factors`. `last_step` is the time step of the last code that was accepted."""

    developer_id: str
    seed: bytes
    confirmed_at: str | None
    last_step: int
    recovery_hashes: str

    @property
    def codes_left(self) -> int:
        """How many recovery codes have not been used."""
        return len(json.loads(self.recovery_hashes))


def find(db: Connection, developer_id: str) -> SecondFactor | None:
    """The second factor of an account, confirmed or not."""
    return db.find(SecondFactor, "developer_id = ?", developer_id)


def active(db: Connection, developer_id: str) -> SecondFactor | None:
    """The second factor of an account, if it is confirmed."""
    found = find(db, developer_id)
    return found if found is not None and found.confirmed_at else None


def required(env: Context, db: Connection, developer_id: str) -> Denied | None:
    """The error with a ticket, for a caller who has proved the first factor of an account with a
    second one. None if the account has none."""
    if active(db, developer_id) is None:
        return None
    password_hash = db.value("SELECT password_hash FROM developers WHERE id = ?", developer_id)
    expires_at = int(env.clock.time()) + TICKET_SECONDS
    ticket = tokens.make_step(env.secret, developer_id, expires_at, password_hash or "")
    detail = (
        "Send this ticket with a code of your authenticator app, or a recovery code, to"
        " POST /v1/auth/login/second-factor."
    )
    return Denied("second_factor_required", detail, ticket=ticket)


def account_of(env: Context, db: Connection, ticket: str) -> str:
    """The account of a valid ticket. Raises Denied `invalid_token`."""
    developer_id, expires_at = tokens.split_step(ticket)
    row = db.one("SELECT password_hash FROM developers WHERE id = ?", developer_id)
    now = env.clock.time()
    if (
        row is None
        or not tokens.same(
            ticket, tokens.make_step(env.secret, developer_id, expires_at, row[0] or "")
        )
        or not now < expires_at <= now + TICKET_SECONDS
    ):
        raise Denied("invalid_token", "This ticket is no longer valid; sign in again.")
    return developer_id


def begin(env: Context, db: Connection, caller: Caller, password: str | None) -> bytes:
    """Create a secret for an authenticator app; it takes effect when `turn_on` gets a code of it.
    Raises Denied `invalid_credentials` without the account's password (a stolen session must not
    lock the owner out), Conflict `invalid_state` if a second factor is on."""
    stored = db.value("SELECT password_hash FROM developers WHERE id = ?", caller.account)
    passwords.require(password, stored, env.password_cost)
    with db.write():
        if active(db, caller.account):
            detail = "Your account has a second factor: turn it off first."
            raise InvalidState(detail, "on", ["off"])
        seed = totp.make_seed()
        db.change("DELETE FROM second_factors WHERE developer_id = ?", caller.account)
        db.insert("second_factors", developer_id=caller.account, seed=seed, created_at=db.now)
    return totp.secret_of(env.secret, caller.account, seed)


def uri(env: Context, db: Connection, developer_id: str, secret: bytes) -> str:
    """The address of a secret for authenticator apps."""
    email = db.value("SELECT email FROM developers WHERE id = ?", developer_id)
    return totp.uri(secret, env.config.store_name, email)


def turn_on(env: Context, db: Connection, caller: Caller, code: str) -> list[str]:
    """Turn the second factor on with the first code of the app: the recovery codes, shown once.
    Raises Conflict `invalid_state` if it was not begun or is on, Denied `invalid_code`."""
    with db.write():
        found = find(db, caller.account)
        if found is None or found.confirmed_at:
            detail = "Start with POST /v1/auth/totp; a second factor that is on is not changed."
            raise InvalidState(detail, "on" if found else "off", ["off"] if found else ["begin"])
        _spend_code(env, db, found, code)
        db.update("second_factors", "developer_id = ?", caller.account, confirmed_at=db.now)
        audit.add(db, caller, "second_factor.on", caller.account)
        events.add(db, caller.account, "security.second_factor_on", network=caller.network)
        return _new_recovery_codes(db, caller.account)


def turn_off(env: Context, db: Connection, caller: Caller, code: str) -> None:
    """Turn it off, with a code. Raises Conflict `invalid_state`, Denied `invalid_code`."""
    with db.write():
        prove(env, db, caller, _on(db, caller.account), code)
        remove(db, caller, caller.account)


def remove(db: Connection, caller: Caller, developer_id: str) -> None:
    """Turn the second factor of an account off, in the running transaction; also for the operator."""
    if db.change("DELETE FROM second_factors WHERE developer_id = ?", developer_id):
        audit.add(db, caller, "second_factor.off", developer_id, owner_id=developer_id)
        events.add(db, developer_id, "security.second_factor_off", network=caller.network)


def renew_recovery_codes(env: Context, db: Connection, caller: Caller, code: str) -> list[str]:
    """New recovery codes for old ones. Raises Conflict `invalid_state`, Denied `invalid_code`."""
    with db.write():
        prove(env, db, caller, _on(db, caller.account), code)
        audit.add(db, caller, "second_factor.codes_renewed", caller.account)
        return _new_recovery_codes(db, caller.account)


def prove(env: Context, db: Connection, caller: Caller, factor: SecondFactor, code: str) -> None:
    """Use up a code of either kind, in the running transaction. Raises Denied `invalid_code`."""
    hashed = totp.recovery_hash(code)
    left = json.loads(factor.recovery_hashes)
    if hashed not in left:
        _spend_code(env, db, factor, code)
        return
    left.remove(hashed)
    db.update(
        "second_factors", "developer_id = ?", factor.developer_id, recovery_hashes=json.dumps(left)
    )
    audit.add(
        db, caller, "second_factor.recovery_code_used", factor.developer_id,
        owner_id=factor.developer_id, left=len(left),
    )  # fmt: skip
    facts: dict[str, Any] = {"network": caller.network, "left": len(left)}
    events.add(db, factor.developer_id, "security.recovery_code_used", **facts)


def prove_if_on(env: Context, db: Connection, caller: Caller, code: str | None) -> None:
    """As `prove` for the caller, in the running transaction, if the account has a second factor.
    Raises Denied `second_factor_required` without a code."""
    factor = active(db, caller.account)
    if factor is None:
        return
    if not code:
        detail = "Send `code` too: a code of your authenticator app, or a recovery code."
        raise Denied("second_factor_required", detail)
    prove(env, db, caller, factor, code)


def notify_of_failure(db: Connection, caller: Caller, developer_id: str) -> None:
    """Notify the owner, at most once an hour, that somebody knows the password and tries codes."""
    with db.write():
        sql = (
            "SELECT 1 FROM events WHERE developer_id = ? AND kind = 'security.second_factor_failed'"
            " AND created_at > ?"
        )
        if not db.value(sql, developer_id, db.clock.now(-NOTICE_SECONDS)):
            facts = {"network": caller.network, "client": caller.client}
            events.add(db, developer_id, "security.second_factor_failed", **facts)


def _on(db: Connection, developer_id: str) -> SecondFactor:
    found = active(db, developer_id)
    if found is None:
        raise InvalidState("Your account has no second factor.", "off", ["begin"])
    return found


def _spend_code(env: Context, db: Connection, factor: SecondFactor, code: str) -> None:
    """Use up a code of the app; of two requests with the same code one fails. A last step beyond
    what the clock allows was written while it was ahead, and does not count."""
    secret, now = totp.secret_of(env.secret, factor.developer_id, factor.seed), env.clock.time()
    step = totp.step_of(secret, code.replace(" ", ""), now)
    latest = int(now) // totp.STEP_SECONDS + totp.STEPS_AROUND
    sql = (
        "UPDATE second_factors SET last_step = ?1 WHERE developer_id = ?2"
        " AND (last_step < ?1 OR last_step > ?3)"
    )
    if step is None or not db.change(sql, step, factor.developer_id, latest):
        detail = "This code is wrong or was used already; wait for the next one."
        raise Denied("invalid_code", detail)


def _new_recovery_codes(db: Connection, developer_id: str) -> list[str]:
    made = totp.make_recovery_codes()
    sql = "UPDATE second_factors SET recovery_hashes = ? WHERE developer_id = ?"
    db.change(sql, json.dumps([totp.recovery_hash(each) for each in made]), developer_id)
    return made
