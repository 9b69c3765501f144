"""Device login (RFC 8628): a client shows a code, which its user approves in a session."""

import hashlib
import json
import secrets
from typing import Any

from mosis import audit
from mosis.caller import Caller
from mosis.clock import seconds
from mosis.context import Context
from mosis.database import Connection, Record, new_id
from mosis.errors import Malformed
from mosis.people import accounts, second_factor
from mosis.people.accounts import SignedIn
from mosis.records import dataclass

LIFE_SECONDS = 15 * 60
INTERVAL_SECONDS = 5
# No vowels, so that no code spells a word; no digits or similar letters, so that none is misread
# (RFC 8628, section 6.1). 20^8 codes.
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


@dataclass(frozen=True)
class DeviceLogin(Record, table="device_logins"):
    """A row of `device_logins`."""

    id: str
    user_code: str
    client_name: str
    scopes: str
    state: str
    developer_id: str | None
    interval_seconds: int
    polled_at: str | None
    expires_at: str
    made_by: str | None


def begin(db: Connection, client_name: str, scopes: list[str]) -> tuple[str, DeviceLogin]:
    """Start a device login. Returns it with its device code, which only the client receives."""
    device_code = secrets.token_urlsafe(32)
    with db.write():
        login = DeviceLogin(
            new_id(),
            _user_code(),
            client_name,
            json.dumps(sorted(set(scopes))),
            "waiting",
            None,
            INTERVAL_SECONDS,
            None,
            db.clock.now(LIFE_SECONDS),
            None,
        )
        db.insert(
            "device_logins", **vars(login), device_code_hash=_hash(device_code), created_at=db.now
        )
    return device_code, login


def find(db: Connection, user_code: str) -> DeviceLogin:
    """The pending login with this user code; case and separators are ignored. Raises NotFound, the
    same for wrong, expired and decided codes."""
    letters = "".join(letter for letter in user_code.upper() if letter.isalpha())
    return db.get(
        DeviceLogin,
        "user_code = ? AND state = 'waiting' AND expires_at > ? AND expires_at <= ?",
        f"{letters[:4]}-{letters[4:]}",
        db.clock.now(),
        db.clock.latest(LIFE_SECONDS),
        what="code (wrong, expired or used)",
    )


def decide(
    env: Context,
    db: Connection,
    caller: Caller,
    user_code: str,
    approve: bool,
    code: str | None = None,
) -> DeviceLogin:
    """Approve or deny a device login to the caller's account. Raises NotFound."""
    account = caller.account
    with db.write():
        login = find(db, user_code)
        if approve:
            second_factor.prove_if_on(env, db, caller, code)
        sql = "UPDATE device_logins SET state = ?, developer_id = ?, made_by = ? WHERE id = ? AND state = 'waiting'"
        db.change(sql, "approved" if approve else "denied", account, caller.session_id, login.id)
        audit.add(
            db,
            caller,
            "device_login.approved" if approve else "device_login.denied",
            login.id,
            client=login.client_name,
            scopes=json.loads(login.scopes),
        )
    return login


def delete_expired(db: Connection, before: str) -> None:
    """Delete device logins that expired before this time, in the running transaction."""
    db.change("DELETE FROM device_logins WHERE expires_at < ?", before)


def poll(env: Context, db: Connection, caller: Caller, device_code: str) -> SignedIn:
    """The client asks for its tokens; they are issued once, with the approved scopes. Raises
    Malformed `authorization_pending`, `slow_down` (the interval grows by five seconds),
    `access_denied`, `expired_token` (RFC 8628, section 3.5)."""
    refusal: Malformed | None = None
    with db.write():
        login = db.find(DeviceLogin, "device_code_hash = ?", _hash(device_code))
        longest = env.clock.latest(LIFE_SECONDS)
        if login is None or login.state == "spent" or not db.now < login.expires_at <= longest:
            raise _refusal("expired_token", "The device code has expired or was used; start again.")
        if login.state == "denied":
            raise _refusal("access_denied", "The sign-in was denied.")
        interval = login.interval_seconds
        if login.polled_at and 0 <= seconds(db.now) - seconds(login.polled_at) < interval:
            interval += 5
            refusal = _refusal("slow_down", f"Ask every {interval} seconds.", interval=interval)
        elif login.state == "waiting":
            refusal = _refusal(
                "authorization_pending", "Nobody has approved this sign-in yet.", interval=interval
            )
        db.update("device_logins", "id = ?", login.id, polled_at=db.now, interval_seconds=interval)
        if refusal is None:
            db.update("device_logins", "id = ?", login.id, state="spent")
            developer = accounts.get(db, login.developer_id or "")
            return accounts.sign_in(
                env, db, caller, developer, login.scopes, login.made_by, proved=True
            )
    raise refusal  # after the commit, which counts this poll


def _refusal(error: str, detail: str, **facts: Any) -> Malformed:
    return Malformed(error, detail, error=error, **facts)  # `error`: member that RFC 8628 requires


def _user_code() -> str:
    letters = [secrets.choice(LETTERS) for _ in range(8)]
    return "".join(letters[:4]) + "-" + "".join(letters[4:])


def _hash(device_code: str) -> str:
    return hashlib.sha256(device_code.encode()).hexdigest()
