"""What all providers have in common: the state of an authorization request, the authorization
address, and the exchange of the code."""

import base64
import hashlib
import hmac
import logging
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from mosis.clock import Clock
from mosis.errors import Denied, PortalError, Unavailable
from mosis.outbound.http import Reply, Unreachable, ask
from mosis.records import dataclass
from mosis.validation.names import EMAIL_ADDRESS, NAME

log = logging.getLogger("mosis.credentials.oauth")
# concurrent exchanges with one provider, so that a slow one does not occupy every thread of the
# lane
AT_ONCE = 2
REST_SECONDS = 5  # pause after a provider was unreachable: waiting for it delays other sign-ins
# RFC 6749, sections 4.1.2.1 and 5.2, OpenID Connect Core 3.1.2.6, and GitHub's own. Other error
# codes are not repeated in responses.
_ERRORS = {
    "access_denied", "invalid_request", "unauthorized_client", "unsupported_response_type",
    "invalid_scope", "server_error", "temporarily_unavailable", "invalid_client", "invalid_grant",
    "unsupported_grant_type", "interaction_required", "login_required",
    "account_selection_required", "consent_required", "bad_verification_code",
    "incorrect_client_credentials", "redirect_uri_mismatch", "unverified_user_email",
    "application_suspended",
}  # fmt: skip


@dataclass(frozen=True)
class AuthorizationState:
    """The secrets of one authorization request: `state` binds it to the browser (RFC 6749, 10.12),
    `nonce` to the ID token (OpenID Connect Core 3.1.2.1), `verifier` to the code (PKCE, RFC 7636).
    All three are derived from one secret that only the browser has."""

    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        """S256 of the verifier (RFC 7636, 4.2)."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())


@dataclass(frozen=True)
class AuthorizationResponse:
    """The authorization response of a provider: a code or an error, and possibly its issuer."""

    code: str | None
    error: str | None
    iss: str | None


@dataclass(frozen=True)
class Profile:
    """An account at a provider. (issuer, subject) never changes and is never given to another
    account; the rest may change. `email` is None unless it has the form of an address,
    `email_verified` if the provider does not state it."""

    issuer: str
    subject: str
    email: str | None
    email_verified: bool | None
    name: str


def ties(secret: str, browser: str) -> AuthorizationState:
    """The state of this browser's sign-in, from the portal's secret and the text in its cookie."""
    state, nonce, verifier = (
        _text(
            hmac.new(
                secret.encode(), f"mosis oauth {purpose} 1 {browser}".encode(), hashlib.sha256
            ).digest()
        )
        for purpose in ("state", "nonce", "verifier")
    )
    return AuthorizationState(state, nonce, verifier)


class Provider:
    """A provider of sign-ins. `name` is used in addresses; `issuer` is the issuer of its subjects."""

    def __init__(
        self, name: str, issuer: str, client_id: str, client_secret: str, clock: Clock
    ) -> None:
        self.name = name
        self.issuer = issuer
        self.client_id = client_id
        self.client_secret = client_secret
        self.clock = clock
        self._rests_until = 0.0
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: list[Callable[[], None]] = []

    @property
    def needs_network(self) -> bool:
        """Whether `address` sends a request to the provider."""
        return False

    def enter(self) -> bool:
        """Start an exchange; False while AT_ONCE others run. Each True requires one `leave`."""
        with self._lock:
            if self._running >= AT_ONCE:
                return False
            self._running += 1
            return True

    def leave(self) -> None:
        """End an exchange, and call the callbacks registered by `when_free`."""
        with self._lock:
            self._running -= 1
            waiting, self._waiting = self._waiting, []
        for each in waiting:
            each()

    def when_free(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` once, when an exchange may start. Returns a function that cancels this."""
        with self._lock:
            free = self._running < AT_ONCE
            if not free:
                self._waiting.append(call)
        if free:
            call()

        def withdraw() -> None:
            with self._lock:
                if call in self._waiting:
                    self._waiting.remove(call)

        return withdraw

    def address(self, redirect_uri: str, tied: AuthorizationState) -> str:
        """The address to redirect the browser to. Raises Unavailable `provider_unavailable`."""
        raise NotImplementedError

    def profile(
        self, redirect_uri: str, tied: AuthorizationState, answer: AuthorizationResponse
    ) -> Profile:
        """The profile of the user who has signed in. Raises Unavailable `provider_unavailable`,
        Denied `provider_refused` or `provider_answer_invalid`."""
        raise NotImplementedError

    def ask(self, url: str, **more: Any) -> Reply:
        """A request to the provider. Raises Unavailable `provider_unavailable`."""
        now = self.clock.monotonic()  # monotonic, because the wall clock can be set back
        if now < self._rests_until:
            raise self.unavailable("was unreachable a moment ago")
        try:
            return ask(url, **more)
        except Unreachable as error:
            self._rests_until = now + REST_SECONDS
            raise self.unavailable(str(error)) from error

    def exchange(
        self, endpoint: str, form: dict[str, str], headers: dict[str, str]
    ) -> dict[str, Any]:
        """The tokens for a code (RFC 6749, 4.1.3 to 5.2); GitHub sends errors with status 200."""
        reply = self.ask(
            endpoint, form={"grant_type": "authorization_code", **form}, headers=headers
        )
        tokens = reply.document if isinstance(reply.document, dict) else {}
        if "error" in tokens:
            raise self.refused(tokens["error"])
        if (
            reply.status != 200
            or not _is_word(tokens.get("access_token"))
            or str(tokens.get("token_type")).lower() != "bearer"
        ):
            raise self.untrusted(
                f"the token endpoint answers {reply.status} without a bearer token"
            )
        return tokens

    def unavailable(self, why: str) -> PortalError:
        """`provider_unavailable`, with the reason in the log."""
        log.warning("provider unavailable", extra={"provider": self.name, "why": why[:300]})
        detail = f"Signing in with {self.name} is not possible at the moment; try again soon."
        return Unavailable("provider_unavailable", detail, retry_after_seconds=REST_SECONDS)

    def refused(self, error: Any) -> PortalError:
        """The provider's error as ours, without its text: anybody can put one into a link."""
        word = error if isinstance(error, str) and error in _ERRORS else "other"
        if word in ("server_error", "temporarily_unavailable"):
            return self.unavailable(word)
        log.warning("provider refused", extra={"provider": self.name, "error": word})
        detail = f"{self.name} refused the sign-in ({word})."
        return Denied("provider_refused", detail, provider_error=word)

    def untrusted(self, why: str) -> PortalError:
        """`provider_answer_invalid`; the reason, in our own words, is in the log too."""
        log.warning("provider answer invalid", extra={"provider": self.name, "why": why[:300]})
        detail = f"The response of {self.name} could not be verified: {why[:300]}. Start again."
        return Denied("provider_answer_invalid", detail)


def extended(endpoint: str, parameters: dict[str, str]) -> str:
    """The address with additional query parameters (RFC 6749, 3.1)."""
    return endpoint + ("&" if "?" in endpoint else "?") + urlencode(parameters)


def profile_of(issuer: str, subject: str, email: Any, verified: Any, *names: Any) -> Profile:
    """A profile from a provider's claims; the first name that is not empty after cleaning is used."""
    good = isinstance(email, str) and re.match(EMAIL_ADDRESS, email) is not None
    cleaned = (
        "".join(filter(str.isprintable, name)).strip()[:100]
        for name in names
        if isinstance(name, str)
    )
    local = str(email).partition("@")[0] if good else ""
    # Some send the word instead of the value
    # (https://docs.aws.amazon.com/cognito/latest/developerguide/userinfo-endpoint.html).
    is_verified = None if verified is None else good and (verified is True or verified == "true")
    return Profile(
        issuer,
        subject,
        email if good else None,
        is_verified,
        next((name for name in cleaned if re.match(NAME, name)), local or "somebody"),
    )


def _is_word(value: Any) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= 16_384
        and all(" " < letter <= "~" for letter in value)
    )


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
