"""Identities: accounts at sign-in providers, and signing in with them.

A sign-in belongs to one browser, which holds its only secret in a cookie; it is valid for ten
minutes and one response of the provider.
"""

import hashlib
import secrets
from dataclasses import replace

from mosis import audit, events
from mosis.caller import Caller
from mosis.context import Context
from mosis.credentials import oauth, tokens
from mosis.credentials.oauth import AuthorizationResponse, Profile, Provider
from mosis.database import Connection, Record, new_id
from mosis.errors import Conflict, Denied, Malformed, NotFound
from mosis.people import accounts, authentication, email_tokens, second_factor
from mosis.people.accounts import Developer, SignedIn
from mosis.records import dataclass

BEGUN_SECONDS = 600
ANSWERED_SECONDS = 60  # time for a page to fetch the result of a completed sign-in


@dataclass(frozen=True)
class Identity(Record, table="identities"):
    """An account at a provider that is linked to an account here."""

    id: str
    developer_id: str
    provider: str
    issuer: str
    subject: str
    created_at: str
    last_used_at: str


@dataclass(frozen=True)
class Pending(Record, table="oauth_states"):
    """A started sign-in; with `session_id` to link the identity to that session's account."""

    browser_hash: str
    provider: str
    stage: str
    return_to: str | None
    session_id: str | None
    developer_id: str | None
    expires_at: str


def begin(
    env: Context, db: Connection, caller: Caller, name: str, return_to: str | None
) -> tuple[str, str]:
    """Start a sign-in: the address to redirect the browser to, and the value of its cookie. For a
    signed-in caller the identity will be linked to their account. Raises NotFound, Denied
    `forbidden` (credentials with limited scopes must not link an identity, which has all of
    them), Unavailable `provider_unavailable`."""
    provider = _provider(env, name)
    if caller.developer_id is not None and (caller.session_id is None or caller.scopes is not None):
        detail = "This cannot be done with an API key or a limited session; sign in."
        raise Denied("forbidden", detail)
    browser = secrets.token_urlsafe(32)
    address = provider.address(_callback(env, name), oauth.ties(env.secret, browser))
    with db.write():
        db.change("DELETE FROM oauth_states WHERE expires_at <= ?", db.now)
        pending = Pending(
            _hash(browser),
            name,
            "begun",
            return_to,
            caller.session_id,
            None,
            env.clock.now(BEGUN_SECONDS),
        )
        db.insert("oauth_states", **vars(pending))
    return address, browser


def spend(env: Context, db: Connection, name: str, browser: str, state: str) -> Pending:
    """The sign-in that this browser started, which is thereby used up, whatever the outcome. Raises
    NotFound, Malformed `oauth_state_invalid`: another browser's state, none, expired or used."""
    _provider(env, name)
    if not tokens.same(state, oauth.ties(env.secret, browser).state):
        raise _not_begun()
    with db.write():
        where = "browser_hash = ? AND provider = ? AND expires_at > ? AND expires_at <= ?"
        pending = db.find(
            Pending, where, _hash(browser), name, db.now, env.clock.latest(BEGUN_SECONDS)
        )
        sql = "UPDATE oauth_states SET stage = 'spent' WHERE browser_hash = ? AND stage = 'begun'"
        if pending is None or not db.change(sql, pending.browser_hash):
            raise _not_begun()
        return pending


def give_back(db: Connection, pending: Pending) -> None:
    """Undo `spend`: the provider was not asked, so the same response may be presented again."""
    with db.write():
        sql = "UPDATE oauth_states SET stage = 'begun' WHERE browser_hash = ? AND stage = 'spent'"
        db.change(sql, pending.browser_hash)


def answer(
    env: Context,
    db: Connection,
    caller: Caller,
    pending: Pending,
    browser: str,
    answered: AuthorizationResponse,
) -> SignedIn | None:
    """Complete a sign-in after the provider's redirect; with `return_to`, store the result for the
    page to collect. Raises what Provider.profile and `resolve` raise, Denied `suspended`."""
    provider = _provider(env, pending.provider)
    profile = provider.profile(
        _callback(env, provider.name), oauth.ties(env.secret, browser), answered
    )
    refusal = None
    with db.write():
        linking = _linking(env, db, caller, pending)
        developer = resolve(env, db, caller, provider.name, profile, linking)
        if pending.return_to is None:
            db.change("DELETE FROM oauth_states WHERE browser_hash = ?", pending.browser_hash)
            proved = linking is not None  # the session that began it has
            refusal = None if proved else second_factor.required(env, db, developer.id)
            if refusal is None:
                return accounts.sign_in(env, db, caller, developer, proved=True)
        elif developer.suspended:  # raised inside the transaction, so that linking is rolled back
            raise Denied("suspended", "This account is suspended; ask the operator of the portal.")
        else:
            sql = "UPDATE oauth_states SET stage = 'answered', developer_id = ?, expires_at = ? WHERE browser_hash = ?"
            db.change(sql, developer.id, env.clock.now(ANSWERED_SECONDS), pending.browser_hash)
    if refusal is not None:
        raise refusal  # after the commit: this sign-in is spent
    return None


def collect(env: Context, db: Connection, caller: Caller, name: str, browser: str) -> SignedIn:
    """The stored result of this browser's sign-in, once and within a minute. Raises NotFound,
    Malformed `oauth_state_invalid`, Denied `suspended`."""
    _provider(env, name)
    with db.write():
        sql = (
            "DELETE FROM oauth_states WHERE browser_hash = ? AND provider = ? AND stage = 'answered' AND expires_at > ?"
            " AND expires_at <= ? RETURNING developer_id, session_id"
        )
        row = db.one(sql, _hash(browser), name, db.now, env.clock.latest(ANSWERED_SECONDS))
        if row is None:
            raise _not_begun()
        developer_id, session_id = row
        began = session_id and authentication.caller_of_session(
            env, db, developer_id, session_id, caller.address, caller.client
        )
        refusal = None if began else second_factor.required(env, db, developer_id)
        if refusal is None:
            developer = accounts.get(db, developer_id)
            return accounts.sign_in(env, db, caller, developer, proved=True)
    raise refusal  # after the commit: it is collected once


def resolve(
    env: Context,
    db: Connection,
    caller: Caller,
    name: str,
    profile: Profile,
    linking: Developer | None,
) -> Developer:
    """The account for a provider's profile, in the running transaction: the linked one, the one
    being linked, the one with the same verified address, or a new one. Raises Conflict
    `identity_taken` or `email_not_verified`, Denied `registration_closed`."""
    known = db.find(Identity, "issuer = ? AND subject = ?", profile.issuer, profile.subject)
    if known is not None:
        if linking is not None and linking.id != known.developer_id:
            detail = f"This identity at {name} belongs to another account already."
            raise Conflict("identity_taken", detail)
        db.update("identities", "id = ?", known.id, last_used_at=db.now)
        return accounts.get(db, known.developer_id)
    developer = linking or _with_address(db, name, profile)
    if linking is None and developer is not None and second_factor.active(db, developer.id):
        return developer  # an address alone links nothing to an account that asks for more
    if developer is None:
        developer = _new(env, db, caller, profile)
    else:
        events.add(
            db, developer.id, "security.provider_linked", provider=name, network=caller.network
        )
    identity = Identity(
        new_id(), developer.id, name, profile.issuer, profile.subject, db.now, db.now
    )
    db.insert("identities", **vars(identity))
    audit.add(
        db,
        replace(caller, developer_id=developer.id),
        "identity.linked",
        identity.id,
        provider=name,
    )
    return developer


def unlink(db: Connection, caller: Caller, name: str) -> None:
    """Remove the caller's identity at a provider; sessions stay. Raises NotFound if none is linked,
    Conflict `last_way_in` if the account has neither a password nor another identity."""
    with db.write():
        developer = accounts.get(db, caller.account)
        linked = providers_of(db, developer.id)
        if name not in linked:
            raise NotFound("linked identity")
        if linked == [name] and developer.password_hash is None:
            raise Conflict(
                "last_way_in",
                f"{name} is the only way to sign in to this account; link another "
                "provider or set a password first.",
            )
        sql = "DELETE FROM identities WHERE developer_id = ? AND provider = ?"
        db.change(sql, developer.id, name)
        audit.add(db, caller, "identity.unlinked", developer.id, provider=name)


def providers_of(db: Connection, developer_id: str) -> list[str]:
    """The names of the providers linked to an account, in the order of linking."""
    sql = "SELECT provider FROM identities WHERE developer_id = ? ORDER BY id"
    rows = db.all(sql, developer_id)
    return list(dict.fromkeys(row[0] for row in rows))


def _with_address(db: Connection, name: str, profile: Profile) -> Developer | None:
    """The account with the profile's address, if both sides have verified it; otherwise anybody
    could enter somebody else's address at one side and get into their account at the other.
    Raises Conflict `email_not_verified`."""
    developer = accounts.find_by_email(db, profile.email) if profile.email else None
    if profile.email and profile.email_verified is None and developer is None:
        return None  # a new account, whose address is not verified here either
    if profile.email is None or not profile.email_verified:
        detail = f"{name} has not verified your e-mail address; verify it there, or sign in here and link {name}."
        raise Conflict("email_not_verified", detail, side="provider")
    if developer is not None and not developer.email_verified:
        raise Conflict(
            "email_not_verified",
            "An account with this address exists, but has not verified the address; "
            f"verify it, or sign in and link {name}.",
            side="account",
        )
    return developer


def _new(env: Context, db: Connection, caller: Caller, profile: Profile) -> Developer:
    """A new account without a password. Raises Denied `registration_closed`."""
    accounts.check_registration(env)
    address = profile.email or ""
    verified = profile.email_verified is True
    is_admin = verified and accounts.folded(address) == accounts.folded(
        env.config.admin_email or ""
    )
    # ADMIN_EMAIL gets its role when the address is verified, which it is
    role = "admin" if is_admin else "developer"
    developer = accounts.create(
        db, caller, address, profile.name, None, role=role, verified=verified
    )
    if not verified:
        email_tokens.issue(db, "verify", address, developer.id)
    return developer


def _linking(env: Context, db: Connection, caller: Caller, pending: Pending) -> Developer | None:
    """The account to link an identity to. Raises Malformed if it or its session has ended."""
    if pending.session_id is None:
        return None
    owner = db.value("SELECT developer_id FROM sessions WHERE id = ?", pending.session_id)
    alive = owner and authentication.caller_of_session(
        env, db, owner, pending.session_id, caller.address, caller.client
    )
    if not alive:
        raise _not_begun()
    return accounts.get(db, owner)


def _provider(env: Context, name: str) -> Provider:
    if name not in env.providers:
        known = ", ".join(sorted(env.providers)) or "none"
        raise NotFound(f"sign-in provider here (set up: {known})")
    return env.providers[name]


def _callback(env: Context, name: str) -> str:
    """The redirect URI registered with the provider, which compares it as plain text."""
    return env.url(f"/v1/auth/oauth/{name}/callback")


def _hash(browser: str) -> str:
    return hashlib.sha256(browser.encode()).hexdigest()


def _not_begun() -> Malformed:
    detail = "This sign-in was not started in this browser, took longer than ten minutes or is complete; start again."
    return Malformed("oauth_state_invalid", detail)
