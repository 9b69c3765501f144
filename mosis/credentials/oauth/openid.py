"""OpenID Connect providers: discovery, keys, and validation of ID tokens (Core 1.0, 3.1.3.7)."""

from typing import Any

from mosis.clock import Clock
from mosis.credentials.oauth.provider import (
    AuthorizationResponse,
    AuthorizationState,
    Profile,
    Provider,
    extended,
    profile_of,
)
from mosis.credentials.oauth.signed_claims import (
    KEY_TYPES,
    NotTrusted,
    check_id_token,
    check_origin,
    signed_claims,
)
from mosis.errors import PortalError, Unavailable
from mosis.outbound.http import basic, complaint

CACHED_SECONDS = 3600  # lifetime of cached discovery documents and keys
AGAIN_SECONDS = 30  # an unknown key is requested at most once in this time
_RSA_BITS = 2048
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_METHODS = "token_endpoint_auth_methods_supported"
_SECRETS = ("client_secret_basic", "client_secret_post")


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

    def profile(
        self, redirect_uri: str, tied: AuthorizationState, answer: AuthorizationResponse
    ) -> Profile:
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
        if "client_secret_basic" in metadata[_METHODS]:
            headers["Authorization"] = basic(self.client_id, self.client_secret)
        else:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        tokens = self.exchange(metadata["token_endpoint"], form, headers)
        claims = self._verified(tokens.get("id_token"), tied.nonce)
        if "userinfo_endpoint" in metadata and not _has_claims(claims):
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
        return now - CACHED_SECONDS < self._metadata[0] <= now

    def metadata(self) -> dict[str, Any]:
        """The issuer's metadata (OpenID Connect Discovery 1.0, section 4), cached for an hour.
        Raises Unavailable, also for metadata of another issuer and for endpoints that lead from
        https to http."""
        now = self.clock.time()
        if not self._is_fresh(now):
            reply = self.ask(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
            found = (
                reply.document if reply.status == 200 and isinstance(reply.document, dict) else {}
            )
            self._metadata = (now, self._usable(found, reply.status))
        return self._metadata[1]

    def _usable(self, found: dict[str, Any], status: int) -> dict[str, Any]:
        """The metadata without what is null or empty, which counts as left out. Raises Unavailable."""
        found = {name: value for name, value in found.items() if value not in (None, "", [])}
        if found.get("issuer") != self.issuer:
            raise self.unavailable(
                f"discovery answers {status} and names the issuer {str(found.get('issuer'))[:200]!r}; write OIDC_ISSUER"
                " exactly like this, with or without a slash at its end"
            )
        schemes = ("https://",) if self.issuer.startswith("https://") else ("https://", "http://")
        for name in (*_ENDPOINTS, *({"userinfo_endpoint"} & found.keys())):
            url = found.get(name)
            if (
                not isinstance(url, str)
                or not url.lower().startswith(schemes)
                or complaint(url, private=True)
            ):
                raise self.unavailable(f"discovery has no usable {name}")
        methods = found.setdefault(_METHODS, ["client_secret_basic"])
        if not isinstance(methods, list) or not {*_SECRETS} & {*map(str, methods)}:
            raise self.unavailable(f"discovery has none of {', '.join(_SECRETS)} in {_METHODS}")
        return found

    def _verified(self, token: Any, nonce: str) -> dict[str, Any]:
        """The claims of the ID token; those that are null or empty count as left out. Raises Denied `provider_answer_invalid`."""
        try:
            claims = signed_claims(token, self._key)
            check_id_token(claims, self.issuer, self.client_id, nonce, self.clock.time())
        except NotTrusted as error:
            raise self.untrusted(f"the ID token {error}") from error
        return {name: value for name, value in claims.items() if value not in (None, "")}

    def _key(self, kid: Any, algorithm: str) -> Any:
        """The issuer's key of this id and algorithm, maybe requested. Raises jwt.PyJWTError."""
        import jwt

        now = self.clock.time()
        for cached_seconds in (CACHED_SECONDS, AGAIN_SECONDS):
            if not now - cached_seconds < self._keys[0] <= now:
                self._keys = (now, self._fetch_keys())
            fitting = [key for key in self._keys[1] if _fits(key, kid, algorithm)]
            if len(fitting) == 1:
                key = jwt.PyJWK(fitting[0], algorithm)
                if algorithm == "RS256" and key.key.key_size < _RSA_BITS:
                    raise jwt.InvalidKeyError(f"the key has less than {_RSA_BITS} bits")
                return key
        raise jwt.InvalidKeyError("no key of the issuer matches, or several do")

    def _fetch_keys(self) -> list[dict[str, Any]]:
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
        except Unavailable:
            if "email" in claims:
                return claims
            raise
        if more is None:
            return claims
        if claims.get("email", more.get("email")) != more.get("email"):
            more = {**more, "email_verified": None}
        return {**more, **claims}

    def _userinfo(self, endpoint: str, token: str, subject: str) -> dict[str, Any] | None:
        """What userinfo says, as JSON or signed (OpenID Connect Core 1.0, 5.3.2); None for what cannot be used. Raises Denied
        `provider_answer_invalid` for claims about another subject (5.3.4), Unavailable."""
        reply = self.ask(endpoint, headers={"Authorization": f"Bearer {token}"})
        found = reply.document
        if found is None and reply.status == 200 and reply.content.count(b".") == 2:
            try:
                found = signed_claims(reply.content.decode("latin-1").strip(), self._key)
                check_origin(found, self.issuer, self.client_id)
            except NotTrusted as error:
                raise self.untrusted(f"the token of userinfo {error}") from error
        if reply.status != 200 or not isinstance(found, dict) or found.get("sub") in (None, ""):
            return None
        if found["sub"] != subject:
            raise self.untrusted("userinfo speaks of another subject than the ID token")
        return found

    def unavailable(self, why: str) -> PortalError:
        return super().unavailable(f"{self.issuer} {why}")


def _has_claims(claims: dict[str, Any]) -> bool:
    named = claims.get("name") or claims.get("preferred_username")
    return bool(claims.get("email") and claims.get("email_verified") is not None and named)


def _fits(key: dict[str, Any], kid: Any, algorithm: str) -> bool:
    return (
        key.get("kty") == KEY_TYPES[algorithm]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (kid is None or key.get("kid") == kid)
    )
