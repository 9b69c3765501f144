"""OpenID Connect providers: discovery, keys, and validation of the ID token as in OpenID Connect
Core 1.0, section 3.1.3.7."""

from typing import Any

from mosis.clock import Clock
from mosis.credentials.oauth.provider import (
    Answer,
    AuthorizationState,
    Profile,
    Provider,
    extended,
    profile_of,
)
from mosis.credentials.tokens import same
from mosis.errors import PortalError
from mosis.outbound.http import basic

KEPT_SECONDS = 3600  # lifetime of cached discovery documents and keys
AGAIN_SECONDS = 30  # an unknown key is requested from the issuer at most once in this time
LEEWAY_SECONDS = 60  # tolerated difference to the issuer's clock
KEY_TYPES = {
    "RS256": "RSA",
    "ES256": "EC",
    "EdDSA": "OKP",
}  # accepted algorithms; none is symmetric
_RSA_BITS = 2048
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class OpenID(Provider):
    """An issuer, identified by its exact address."""

    def __init__(
        self, name: str, issuer: str, client_id: str, client_secret: str, clock: Clock
    ) -> None:
        super().__init__(name, issuer, client_id, client_secret, clock)
        self._metadata: tuple[float, dict[str, Any]] = (float("-inf"), {})
        self._keys: tuple[float, list[dict[str, Any]]] = (float("-inf"), [])

    def address(self, redirect_uri: str, tied: AuthorizationState) -> str:
        return extended(
            self.metadata()["authorization_endpoint"],
            {
                "response_type": "code",
                "client_id": self.client_id,
                "redirect_uri": redirect_uri,
                "scope": "openid email profile",
                "state": tied.state,
                "nonce": tied.nonce,
                "code_challenge": tied.challenge,
                "code_challenge_method": "S256",
            },
        )

    def profile(self, redirect_uri: str, tied: AuthorizationState, answer: Answer) -> Profile:
        metadata = self.metadata()
        # RFC 9207, section 2.4: compared as plain text before the code or error is used; it may be
        # missing only if the provider does not announce it.
        promised = metadata.get("authorization_response_iss_parameter_supported") is True
        if answer.iss != self.issuer and (promised or answer.iss is not None):
            raise self.untrusted("iss is missing or names another issuer")
        if answer.error is not None or answer.code is None:
            raise self.refused(answer.error)
        form = {"code": answer.code, "redirect_uri": redirect_uri, "code_verifier": tied.verifier}
        headers = {}
        if "client_secret_basic" in metadata["token_endpoint_auth_methods_supported"]:
            headers["Authorization"] = basic(self.client_id, self.client_secret)
        else:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        tokens = self.exchange(metadata["token_endpoint"], form, headers)
        claims = self._verified(tokens.get("id_token"), tied.nonce)
        if "userinfo_endpoint" in metadata and not _says_all(claims):
            claims = self._completed(claims, metadata["userinfo_endpoint"], tokens["access_token"])
        return profile_of(
            self.issuer,
            claims["sub"],
            claims.get("email"),
            claims.get("email_verified"),
            claims.get("name"),
            claims.get("preferred_username"),
        )

    @property
    def needs_network(self) -> bool:
        return not self._is_fresh(self.clock.time())

    def _is_fresh(self, now: float) -> bool:
        return now - KEPT_SECONDS < self._metadata[0] <= now

    def metadata(self) -> dict[str, Any]:
        """The issuer's metadata (OpenID Connect Discovery 1.0, section 4), cached for an hour.

        Raises Unavailable, also for metadata of another issuer and for endpoints that lead from
        https to http.
        """
        now = self.clock.time()
        if not self._is_fresh(now):
            reply = self.ask(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
            found = (
                reply.document if reply.status == 200 and isinstance(reply.document, dict) else {}
            )
            if found.get("issuer") != self.issuer:
                raise self.unavailable(
                    f"discovery answers {reply.status} and names the issuer {str(found.get('issuer'))[:200]!r}"
                )
            schemes = (
                ("https://",) if self.issuer.startswith("https://") else ("https://", "http://")
            )
            for name in (*_ENDPOINTS, *({"userinfo_endpoint"} & found.keys())):
                if not isinstance(found.get(name), str) or not found[name].startswith(schemes):
                    raise self.unavailable(f"discovery has no usable {name}")
            if not isinstance(
                found.setdefault("token_endpoint_auth_methods_supported", ["client_secret_basic"]),
                list,
            ):
                raise self.unavailable(
                    "discovery has no usable token_endpoint_auth_methods_supported"
                )
            self._metadata = (now, found)
        return self._metadata[1]

    def _verified(self, token: Any, nonce: str) -> dict[str, Any]:
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in KEY_TYPES:
                raise jwt.InvalidTokenError(f"algorithm {algorithm!r}")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(header.get("kid"), algorithm),
                algorithms=[algorithm],
                issuer=self.issuer,
                audience=self.client_id,
                options={
                    "require": ["iss", "aud", "sub", "exp", "iat", "nonce"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,  # checked against our clock in _complaint
                },
            )
            complaint = self._complaint(claims, nonce)
        except (
            jwt.PyJWTError,
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise self.untrusted(f"ID token: {type(error).__name__} {error}") from error
        if complaint:
            raise self.untrusted(f"ID token: {complaint}")
        return claims

    def _complaint(self, claims: dict[str, Any], nonce: str) -> str | None:
        """What is wrong with the claims of a token whose signature, issuer and audience are valid."""
        now, audience, subject = self.clock.time(), claims["aud"], claims["sub"]
        if not isinstance(claims["nonce"], str) or not same(claims["nonce"], nonce):
            return "another nonce"
        if not now < claims["exp"] + LEEWAY_SECONDS:
            return "expired"
        if not claims["iat"] <= now + LEEWAY_SECONDS:
            return "made in the future"
        party = claims.get(
            "azp", None if isinstance(audience, list) and len(audience) > 1 else self.client_id
        )
        if party != self.client_id:
            return "made for another client"
        if not isinstance(subject, str) or not subject.isascii() or not 0 < len(subject) <= 255:
            return "no usable subject"
        return None

    def _key(self, kid: Any, algorithm: str) -> Any:
        """The issuer's key with this id for this algorithm; unknown keys are requested from the
        issuer. Raises jwt.PyJWTError."""
        import jwt

        now = self.clock.time()
        for kept_seconds in (KEPT_SECONDS, AGAIN_SECONDS):
            if not now - kept_seconds < self._keys[0] <= now:
                self._keys = (now, self._ask_keys())
            fitting = [key for key in self._keys[1] if _fits(key, kid, algorithm)]
            if len(fitting) == 1:
                key = jwt.PyJWK(fitting[0], algorithm)
                if algorithm == "RS256" and key.key.key_size < _RSA_BITS:
                    raise jwt.InvalidKeyError(f"the key has less than {_RSA_BITS} bits")
                return key
        raise jwt.InvalidKeyError("no key of the issuer matches, or several do")

    def _ask_keys(self) -> list[dict[str, Any]]:
        reply = self.ask(self.metadata()["jwks_uri"])
        keys = (
            reply.document.get("keys")
            if reply.status == 200 and isinstance(reply.document, dict)
            else None
        )
        if not isinstance(keys, list):
            raise self.unavailable(f"jwks_uri answers {reply.status} without keys")
        return [key for key in keys if isinstance(key, dict)]

    def _completed(self, claims: dict[str, Any], endpoint: str, token: str) -> dict[str, Any]:
        """The claims of the ID token, completed from userinfo. `email_verified` is taken from the
        same source as the address. If the ID token contains an address, userinfo may fail."""
        try:
            more = self._userinfo(endpoint, token, claims["sub"])
        except PortalError:
            if "email" in claims:
                return claims
            raise
        stated = {name: value for name, value in claims.items() if value not in (None, "")}
        if stated.get("email", more.get("email")) != more.get("email"):
            more = {**more, "email_verified": None}
        return {**more, **stated}

    def _userinfo(self, endpoint: str, token: str, subject: str) -> dict[str, Any]:
        """Claims from userinfo (OpenID Connect Core 5.3); its subject must be the same (5.3.4)."""
        reply = self.ask(endpoint, headers={"Authorization": f"Bearer {token}"})
        found = reply.document if reply.status == 200 and isinstance(reply.document, dict) else {}
        if found.get("sub") != subject:
            raise self.untrusted(f"userinfo answers {reply.status} or is about another subject")
        return found

    def unavailable(self, why: str) -> PortalError:
        return super().unavailable(f"{self.issuer} {why}")


def _says_all(claims: dict[str, Any]) -> bool:
    named = claims.get("name") or claims.get("preferred_username")
    return bool(claims.get("email") and claims.get("email_verified") is not None and named)


def _fits(key: dict[str, Any], kid: Any, algorithm: str) -> bool:
    return (
        key.get("kty") == KEY_TYPES[algorithm]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (kid is None or key.get("kid") == kid)
    )
