"""Sign-in at a provider: redirect, callback, and the browser's cookie."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.credentials.oauth import AuthorizationResponse
from mosis.database import Connection
from mosis.errors import MalformedRequest, PortalError
from mosis.people import identities
from mosis.validation import Json, Schema, pattern, text
from mosis.web import auth
from mosis.web.long_poll import suspend
from mosis.web.request import spend
from mosis.web.schemas import EMPTY, operation, shape

# A path of this portal: one slash first, never two in a row, no backslash, no control character, no
# fragment (the portal adds its own).
_PATH = pattern(
    r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@%?-]|(?<!/)/)*\Z",
    "This must be a path of this portal, such as /console/; without a host, `//`, backslashes or a fragment.",
)
BEGIN = {"return_to": text(2000, regex=_PATH)}
_WORD = re.compile(r"[\x21-\x7e]{1,8192}\Z")

WAIT_SECONDS = 10  # for other exchanges with the same provider

BEGUN = shape("SignInBegun", "redirect_url")
OF_PROVIDER: Schema = {
    name: text(8000, meta="From the provider (RFC 6749, RFC 9207).")
    for name in ("state", "code", "error", "iss")
}
REFUSED = (
    "second_factor_required oauth_state_invalid provider_refused provider_answer_invalid"
    " provider_unavailable email_not_verified identity_taken registration_closed"
)


def routes(app: bottle.Bottle) -> None:
    provider, ends = "/auth/oauth/<provider>", {"scope": "public", "auth": "none"}
    app.post(provider, callback=begin, scope="public", lane=lane_of_begin)
    app.delete(provider, callback=unlink, scope="account")
    app.get(f"{provider}/callback", callback=come_back, lane="outside", **ends)
    app.post(f"{provider}/collect", callback=collect, **ends)


@operation(BEGUN, body=BEGIN, optional=True, refuses="provider_unavailable forbidden")
def begin(env: Context, db: Connection, caller: Caller, provider: str, body: Json) -> Json:
    """Start a sign-in at a provider: send the browser to redirect_url within 10 minutes."""
    with turn(env, provider):
        spend(env, "sign_in_network", caller.network)
        address, browser = identities.begin(env, db, caller, provider, body.get("return_to"))
    set_cookie(bottle.response, env, browser, identities.BEGUN_SECONDS)
    return {"redirect_url": address}


@operation({200: auth.SIGNED_IN, 303: None}, query=OF_PROVIDER, refuses=REFUSED)
def come_back(env: Context, db: Connection, caller: Caller, provider: str) -> Any:
    """The address to which the provider redirects the browser."""
    answer = AuthorizationResponse(_parameter("code"), _parameter("error"), _parameter("iss"))
    browser = browser_of(env)
    # Used up before it waits, so that the second of two equal requests is refused and takes no
    # place; a suspended request is run again from here, and has used it up already.
    memory = bottle.request.environ.get("mosis.memory", {})
    pending = memory.get("pending")
    if pending is None:
        state = _parameter("state") or ""
        pending = memory["pending"] = identities.spend(env, db, provider, browser, state)
    with turn(env, provider, lambda: identities.give_back(db, pending)):
        try:
            signed_in = identities.answer(env, db, caller, pending, browser, answer)
        except PortalError as error:
            if pending.return_to is None:
                raise
            return _back(env, pending.return_to, f"sign_in_error={error.code}")
    if signed_in is None:
        return _back(env, pending.return_to or "/", f"sign_in={provider}")
    set_cookie(bottle.response, env, "", 0)
    bottle.response.set_header("Referrer-Policy", "no-referrer")  # the address has the code in it
    return auth.public(db, signed_in)


@operation(auth.SIGNED_IN, body=EMPTY, refuses=REFUSED)
def collect(env: Context, db: Connection, caller: Caller, provider: str) -> Json:
    """Fetch the result of a sign-in that was started with return_to: once, within a minute, by the
    same browser."""
    signed_in = identities.collect(env, db, caller, provider, browser_of(env))
    set_cookie(bottle.response, env, "", 0)
    return auth.public(db, signed_in)


@operation(refuses="last_way_in")
def unlink(db: Connection, caller: Caller, provider: str) -> None:
    """Remove a provider's identity from the account."""
    identities.unlink(db, caller, provider)


def lane_of_begin(env: Context, provider: str) -> str:
    """The lane of `begin`: only requests to the provider need a thread for other servers."""
    known = env.providers.get(provider)
    return "outside" if known is not None and known.needs_network else "quick"


@contextmanager
def turn(env: Context, name: str, without: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold one of the few places for conversations with a provider; without a free one the request is
    suspended, which takes no thread. Raises Unavailable `provider_unavailable` after WAIT_SECONDS,
    having called `without`."""
    provider = env.providers.get(name)
    if provider is None:
        yield  # the handler answers 404
        return
    if not provider.enter():
        suspend(WAIT_SECONDS, provider.when_free)
        without()
        raise provider.unavailable("has not answered in time")
    try:
        yield
    finally:
        provider.leave()


def _back(env: Context, path: str, fragment: str) -> bottle.HTTPResponse:
    """Redirect to where the sign-in started; the fragment has a result code, never a token."""
    own = urlsplit(env.config.base_url)
    location = f"{own.scheme}://{own.netloc}{path}#{fragment}"
    headers = {"Location": location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return bottle.HTTPResponse(b"", 303, headers)


def _parameter(name: str) -> str | None:
    """A parameter of the query, at most once (RFC 6749, 3.1) and of visible ASCII. Raises Malformed."""
    values = bottle.request.query.getall(name)
    if len(values) > 1 or any(not _WORD.match(value) for value in values):
        detail = f"{name} occurs twice in the address, or is not what a provider sends."
        raise MalformedRequest(detail)
    return values[0] if values else None


def _cookie(env: Context) -> str:
    """With https, the prefix excludes other hosts and plain http (RFC 6265bis, 4.1.3.2)."""
    return "__Host-mosis_sign_in" if _encrypted(env) else "mosis_sign_in"


def _encrypted(env: Context) -> bool:
    return env.config.base_url.startswith("https://")


def browser_of(env: Context) -> str:
    """The secret of the sign-in that this browser started; empty if there is none."""
    value = bottle.request.get_cookie(_cookie(env), "")
    return value if _WORD.match(value) and len(value) == 43 else ""


def set_cookie(response: Any, env: Context, value: str, seconds: int) -> None:
    """Set the cookie with the secret of a sign-in; an empty one deletes it."""
    response.set_cookie(
        _cookie(env),
        value,
        max_age=seconds,
        path="/",
        httponly=True,
        samesite="lax",
        secure=_encrypted(env),
    )
