"""The claims of signed tokens (JWT, RFC 7519), parsed strictly, and the rules for ID tokens.

PyJWT verifies the signature; the JSON is parsed like request bodies, without repeated keys and NaN.
Each NotTrusted explains what is wrong, for the operator who configured the provider.
"""

from collections.abc import Callable
from typing import Any

from mosis.credentials.tokens import same
from mosis.errors import Malformed
from mosis.validation.strict_json import load_json

# Accepted algorithms and the types of their keys: none is symmetric.
KEY_TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
# between the issuer's clock and the portal's; the nonce prevents the reuse of old tokens
LEEWAY_SECONDS = 300
_REQUIRED = ("iss", "aud", "sub", "exp", "iat", "nonce")


class NotTrusted(Exception):
    """Why a token is refused, as the end of a sentence that begins with its name."""


def signed_claims(token: Any, key_of: Callable[[Any, str], Any]) -> dict[str, Any]:
    """The claims of a token that is signed by the key that `key_of(kid, algorithm)` finds. Raises NotTrusted."""
    import jwt

    if not isinstance(token, str) or token.count(".") != 2:
        raise NotTrusted("is not a signed JWT")
    try:
        header = _object(jwt.utils.base64url_decode(token.partition(".")[0]), "header")
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in KEY_TYPES:
            raise NotTrusted(f"is not signed with one of the algorithms {', '.join(KEY_TYPES)}")
        key = key_of(header.get("kid"), algorithm)
        payload = jwt.PyJWS().decode(token, key, algorithms=[algorithm])
    except (
        jwt.PyJWTError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
    ) as error:
        raise NotTrusted("has a signature that none of the issuer's keys fits") from error
    return _object(payload, "claims")


def read_unsigned(token: Any) -> dict[str, Any]:
    """The claims of a token, not verified yet, to find its issuer. Raises NotTrusted."""
    import jwt

    if not isinstance(token, str) or not token.isascii() or token.count(".") != 2:
        raise NotTrusted("is not a signed JWT")
    try:
        return _object(jwt.utils.base64url_decode(token.split(".")[1]), "claims")
    except (ValueError, TypeError) as error:
        raise NotTrusted("is not a signed JWT") from error


def check_id_token(
    claims: dict[str, Any], issuer: str, client_id: str, nonce: str, now: float
) -> None:
    """Raises NotTrusted unless these are the claims of an ID token for this sign-in (OpenID Connect Core 1.0, 3.1.3.7)."""
    for name in _REQUIRED:
        if claims.get(name) in (None, "", []):
            raise NotTrusted(f"has no {name}")
    check_origin(claims, issuer, client_id)
    subject, several = claims["sub"], isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if not isinstance(subject, str) or not subject.isascii() or len(subject) > 255:
        raise NotTrusted("has a sub that is not a text of 1 to 255 ASCII characters")
    if not isinstance(claims["nonce"], str) or not same(claims["nonce"], nonce):
        raise NotTrusted("has another nonce: it is for another sign-in")
    party = claims.get("azp")
    if party is None and several:
        raise NotTrusted("is for several audiences and does not say in azp who asked for it")
    if party not in (None, client_id):
        raise NotTrusted("names another client in azp")
    if now >= moment(claims, "exp") + LEEWAY_SECONDS:
        raise NotTrusted(f"has expired; the clocks may differ by {LEEWAY_SECONDS} seconds")
    for name in ("iat", "nbf"):
        if claims.get(name) is not None and moment(claims, name) > now + LEEWAY_SECONDS:
            raise NotTrusted(
                f"is from the future ({name}); the clocks may differ by {LEEWAY_SECONDS} seconds"
            )


def check_origin(claims: dict[str, Any], issuer: str, client_id: str) -> None:
    """Raises NotTrusted if `iss` or `aud`, where present, do not match."""
    found = claims.get("iss", issuer)
    if found != issuer:
        slash = isinstance(found, str) and found.rstrip("/") == issuer.rstrip("/")
        raise NotTrusted(
            "names the issuer with another slash at its end than the setting"
            if slash
            else "names another issuer"
        )
    audience = claims.get("aud", client_id)
    if client_id not in (audience if isinstance(audience, list) else [audience]):
        raise NotTrusted("is for another audience")


def moment(claims: dict[str, Any], name: str) -> float:
    """Seconds since 1970 (RFC 7519, section 2: NumericDate, which may have a fraction)."""
    value = claims[name]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise NotTrusted(f"has an {name} that is not a number")
    return value


def _object(content: bytes, what: str) -> dict[str, Any]:
    try:
        found = load_json(content)
    except Malformed as error:
        raise NotTrusted(f"has {what} that are not acceptable JSON") from error
    if not isinstance(found, dict):
        raise NotTrusted(f"has {what} that are not a JSON object")
    return found
