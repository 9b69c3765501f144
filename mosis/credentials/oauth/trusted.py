"""Issuers that apps trust: ID tokens of build servers (GitHub, GitLab, Forgejo and others), which
are exchanged for short-lived credentials (RFC 8693).

An account has chosen these addresses, so they must not lead into the operator's network, and a slow
one must not hold up others.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from mosis.clock import Clock
from mosis.credentials.oauth.openid import OpenID
from mosis.credentials.oauth.provider import REST_SECONDS
from mosis.credentials.oauth.signed_claims import (
    LEEWAY_SECONDS,
    NotTrusted,
    moment,
    read_unsigned,
    signed_claims,
)
from mosis.errors import PortalError, Unavailable
from mosis.outbound.http import Reply, Unreachable, ask, complaint
from mosis.records import dataclass

LONGEST = 16_384  # characters of a token
LONGEST_LIFE_SECONDS = 24 * 3600  # of a token; its use is remembered for as long
MOST_ISSUERS = 200  # whose keys are in memory
AT_ONCE = 2  # issuers that are asked for their keys at the same time
QUICK_SECONDS = 1.0  # what takes longer costs its account a pause
PAUSE_TIMES = 20  # so many times as long as the issuer took


@dataclass(frozen=True)
class Identity:
    """A verified ID token. `use_hash` identifies it: by `jti` where it has one, else by what is signed."""

    claims: dict[str, Any]
    use_hash: str
    expires_at: float


class KeysNeeded(Exception):
    """The cached keys are too old, or the token's is not among them."""


class TrustedIssuer(OpenID):
    """An issuer of which only the keys are needed; `fetch_keys` alone sends requests to it."""

    def __init__(self, issuer: str, clock: Clock, *, private: bool) -> None:
        super().__init__("the issuer", issuer, "", "", clock)
        self._private = private

    def ask(self, url: str, **more: Any) -> Reply:
        now = self.clock.monotonic()
        if now < self._rests_until:
            raise self.unavailable("was unreachable a moment ago")
        try:
            return ask(url, private=self._private, **more)
        except Unreachable as error:
            self._rests_until = now + REST_SECONDS
            raise self.unavailable(str(error)) from error

    def _usable(self, found: dict[str, Any], status: int) -> dict[str, Any]:
        """The metadata, of which `issuer` and `jwks_uri` are used. Raises Unavailable."""
        if found.get("issuer") != self.issuer:
            raise self.unavailable(f"answers {status} and names another issuer")
        url = found.get("jwks_uri")
        scheme = "https://" if self.issuer.startswith("https://") else "http"
        if (
            not isinstance(url, str)
            or not url.lower().startswith(scheme)
            or complaint(url, private=self._private)
        ):
            raise self.unavailable("names no usable jwks_uri")
        return found

    def unavailable(self, why: str) -> PortalError:
        detail = f"The issuer {self.issuer[:200]} cannot be asked for its keys: it {why[:200]}."
        return Unavailable("provider_unavailable", detail, retry_after_seconds=REST_SECONDS)

    def fetch_keys(self) -> None:
        """Ask the issuer for its keys. Raises Unavailable `provider_unavailable`."""
        self._keys = (self.clock.time(), super()._fetch_keys())

    def _fetch_keys(self) -> list[dict[str, Any]]:
        raise KeysNeeded

    def verify(self, token: str, audience: str) -> Identity:
        """The claims of a token that this issuer has signed for this audience alone. Raises
        NotTrusted, KeysNeeded."""
        claims = signed_claims(token, self._key)
        now = self.clock.time()
        for name in ("iss", "aud", "sub", "exp", "iat"):
            if claims.get(name) in (None, "", []):
                raise NotTrusted(f"has no {name}")
        if claims["iss"] != self.issuer:
            raise NotTrusted("names another issuer")
        # one for several audiences can be presented here by each of the others
        if claims["aud"] not in (audience, [audience]):
            raise NotTrusted(f"must be for the audience {audience}, and no other")
        expires_at, issued_at = moment(claims, "exp"), moment(claims, "iat")
        if now >= expires_at + LEEWAY_SECONDS:
            raise NotTrusted("has expired")
        if expires_at - issued_at > LONGEST_LIFE_SECONDS:
            raise NotTrusted("is valid for more than a day")
        for name in ("iat", "nbf"):
            if claims.get(name) is not None and moment(claims, name) > now + LEEWAY_SECONDS:
                raise NotTrusted(f"is from the future ({name})")
        jti = claims.get("jti")
        if jti is not None and (not isinstance(jti, str) or not 0 < len(jti) <= 255):
            raise NotTrusted("has a jti that is not a text of 1 to 255 characters")
        name = f"jti {jti}" if jti is not None else f"signed {token.rpartition('.')[0]}"
        used = hashlib.sha256(f"{self.issuer}\n{name}".encode()).hexdigest()
        return Identity(claims, used, expires_at + LEEWAY_SECONDS)


class TrustedIssuers:
    """The issuers whose keys are in memory, the least recently used dropped first."""

    def __init__(self, clock: Clock, *, private: bool) -> None:
        self._clock = clock
        self._private = private
        self._known: OrderedDict[str, TrustedIssuer] = OrderedDict()
        self._asking: set[str] = set()
        self._paused: dict[str, float] = {}  # account: until when, monotonic
        self._lock = threading.Lock()

    def is_usable(self, issuer: str) -> bool:
        """Whether tokens of this issuer can be taken: https, of the public internet, unless private
        addresses are allowed."""
        schemes = ("https://", "http://") if self._private else ("https://",)
        return issuer.startswith(schemes) and not complaint(issuer, private=self._private)

    def verify(self, issuer: str, token: str, audience: str, account: str) -> Identity:
        """As TrustedIssuer.verify, with keys that are asked for if they are needed.

        For one account one issuer at a time is asked, and AT_ONCE for all. An account whose issuer
        is slow pauses, so that few such accounts cannot hold all places. Raises NotTrusted,
        Unavailable `provider_unavailable`.
        """
        with self._lock:
            found = self._known.pop(issuer, None)
            if found is None:
                found = TrustedIssuer(issuer, self._clock, private=self._private)
            self._known[issuer] = found
            if len(self._known) > MOST_ISSUERS:
                self._known.popitem(last=False)
        try:
            return found.verify(token, audience)
        except KeysNeeded:
            with self._turn(account):
                found.fetch_keys()
        try:
            return found.verify(token, audience)
        except KeysNeeded as error:  # the clock was set back
            raise NotTrusted("has a signature that none of the issuer's keys fits") from error

    @contextmanager
    def _turn(self, account: str) -> Iterator[None]:
        begun = self._clock.monotonic()
        with self._lock:
            self._paused = {each: until for each, until in self._paused.items() if until > begun}
            pause = self._paused.get(account, begun) - begun
            if pause > 0:
                detail = "An issuer of this account was slow to answer; try again later."
                raise Unavailable("provider_unavailable", detail, retry_after_seconds=ceil(pause))
            if account in self._asking or len(self._asking) >= AT_ONCE:
                detail = "Other issuers are being asked for their keys; try again in a moment."
                raise Unavailable("provider_unavailable", detail, retry_after_seconds=REST_SECONDS)
            self._asking.add(account)
        try:
            yield
        finally:
            now = self._clock.monotonic()
            with self._lock:
                self._asking.discard(account)
                if now - begun > QUICK_SECONDS:
                    self._paused[account] = now + PAUSE_TIMES * (now - begun)


def issuer_of(token: str) -> str:
    """The issuer that a token names, unverified: whom to ask for keys. Raises NotTrusted."""
    if len(token) > LONGEST:
        raise NotTrusted(f"has more than {LONGEST} characters")
    issuer = read_unsigned(token).get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise NotTrusted("has no iss")
    return issuer
