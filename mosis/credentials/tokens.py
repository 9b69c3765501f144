"""Access, refresh and email tokens and API keys: making and reading them, without a database. A
copy of the database contains nothing that can be presented as a credential.

An access token is a JWT (RFC 7519) with HS256, valid for 15 minutes. A refresh token is `mr_` and
64 URL-safe characters: the session's id, its generation and a MAC over both. A used token can
therefore be distinguished from a forged one, and the successor of a token is always the same: a
client that lost the response can ask again.
"""

import base64
import hashlib
import hmac
import secrets
import string
import uuid
import zlib

from mosis.errors import Denied
from mosis.records import dataclass

ACCESS_SECONDS = 15 * 60
REFRESH_SECONDS = 30 * 24 * 3600
AUDIENCE = "mosis-portal"
MOST_REMEMBERED = 4000  # verified access tokens; about 1.5 MiB
KEY_PREFIX = "mk_live_"
PUBLISHER_PREFIX = "mp_"
_REFRESH = b"mosis refresh token 1"
_TICKET = b"mosis ticket 1"
_STEP = b"mosis second step 1"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase


@dataclass(frozen=True)
class Claims:
    """The claims of an access token."""

    developer_id: str
    session_id: str


class AccessTokens:
    """The access tokens of this portal. Verified tokens are cached by their hash, because
    verification is the largest part of a small request. The times are checked at each use, and the
    state of the session is never cached."""

    def __init__(self, secret: str, issuer: str) -> None:
        self._secret = secret
        self._issuer = issuer
        self._verified: dict[bytes, tuple[Claims, int, int]] = {}

    def make(self, developer_id: str, session_id: str, role: str, now: float, token_id: str) -> str:
        """A signed access token that expires in 15 minutes."""
        import jwt

        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": developer_id,
            "sid": session_id,
            "role": role,
            "iat": int(now),
            "exp": int(now) + ACCESS_SECONDS,
            "jti": token_id,
        }
        return jwt.encode(claims, self._secret, algorithm="HS256", headers={"typ": "at+jwt"})

    def read(self, token: str, now: float) -> Claims:
        """The claims of a valid token. Raises Denied `invalid_token`. The caller checks whether the
        session is active.

        The role in the claims is a hint for clients; the database decides.
        """
        key = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(key)
        if known is None:
            known = self._verify(token)
            if len(self._verified) >= MOST_REMEMBERED:
                self._verified = {}  # another request with this token verifies it again
            self._verified[key] = known
        claims, issued, ends = known
        if not issued - 60 <= now < min(ends, issued + ACCESS_SECONDS):
            detail = "The access token has expired; POST /v1/auth/refresh gives a new one."
            raise Denied("invalid_token", detail)
        return claims

    def _verify(self, token: str) -> tuple[Claims, int, int]:
        import jwt

        try:
            if jwt.get_unverified_header(token).get("typ") != "at+jwt":
                raise jwt.InvalidTokenError("not an access token")
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                issuer=self._issuer,
                audience=AUDIENCE,
                options={
                    "require": ["iss", "aud", "sub", "sid", "iat", "exp", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
            issued, ends = claims["iat"], claims["exp"]
            if (
                type(issued) is not int
                or type(ends) is not int
                or not isinstance(claims["sid"], str)
            ):
                raise jwt.InvalidTokenError("wrong types")
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            detail = "This access token was not issued by this portal."
            raise Denied("invalid_token", detail) from error
        return Claims(claims["sub"], claims["sid"]), issued, ends


def make_refresh(secret: str, session_id: str, seed: bytes, generation: int) -> str:
    """The refresh token of a session's generation; `seed` is the session's stored random part."""
    head = uuid.UUID(session_id).bytes + generation.to_bytes(4, "big")
    return "mr_" + base64.urlsafe_b64encode(
        head + _mac(secret, _REFRESH + seed, head)
    ).decode().rstrip("=")


def split_refresh(token: str) -> tuple[str, int]:
    """(session id, generation) as the token claims them, unverified. Raises `invalid_token`."""
    try:
        raw = base64.b64decode(token.removeprefix("mr_"), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if not token.startswith("mr_") or len(raw) != 48:
        detail = "This refresh token was not issued by this portal; sign in again."
        raise Denied("invalid_token", detail)
    return str(uuid.UUID(bytes=raw[:16])), int.from_bytes(raw[16:20], "big")


def make_ticket(secret: str, ticket_id: str) -> str:
    """An email token: `mt_` and 59 URL-safe characters. It is derived from the id and not stored."""
    head = uuid.UUID(ticket_id).bytes
    return "mt_" + base64.urlsafe_b64encode(head + _mac(secret, _TICKET, head)).decode().rstrip("=")


def read_ticket(secret: str, token: str) -> str:
    """The id of an email token. Raises Denied `invalid_token`."""
    try:
        head = base64.urlsafe_b64decode(token.removeprefix("mt_") + "=")[:16]
        ticket_id = str(uuid.UUID(bytes=head))
    except ValueError:
        ticket_id = ""
    if not ticket_id or not same(token, make_ticket(secret, ticket_id)):
        raise Denied("invalid_token", "This link was not issued by this portal; ask for a new one.")
    return ticket_id


def make_step(secret: str, developer_id: str, expires_at: int, password_hash: str) -> str:
    """The ticket of somebody who has proved the first of two factors: `ms_` and 64 URL-safe
    characters. It is stored nowhere, and another password makes it invalid."""
    head = uuid.UUID(developer_id).bytes + expires_at.to_bytes(4, "big")
    mac = _mac(secret, _STEP + password_hash.encode(), head)
    return "ms_" + base64.urlsafe_b64encode(head + mac).decode().rstrip("=")


def split_step(ticket: str) -> tuple[str, int]:
    """(account id, expiry) as the ticket claims them, unverified. Raises Denied `invalid_token`."""
    try:
        raw = base64.b64decode(ticket.removeprefix("ms_"), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if not ticket.startswith("ms_") or len(raw) != 48:
        raise Denied("invalid_token", "This ticket was not issued by this portal; sign in again.")
    return str(uuid.UUID(bytes=raw[:16])), int.from_bytes(raw[16:20], "big")


def make_key() -> str:
    """A new API key: `mk_live_`, 36 random letters and digits (214 bits) and a checksum of six."""
    body = "".join(secrets.choice(_DIGITS) for _ in range(36))
    return KEY_PREFIX + body + _checksum(body)


def is_key(key: str) -> bool:
    """Whether a text has the form and checksum of an API key, as scanners verify it offline."""
    body = key.removeprefix(KEY_PREFIX)
    formed = key.startswith(KEY_PREFIX) and len(body) == 42 and body.isascii() and body.isalnum()
    return formed and body[36:] == _checksum(body[:36])


def key_hash(key: str) -> str:
    """The stored form of an API key; a plain hash, because 214 random bits cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Compares two secrets in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def make_publisher_token() -> str:
    """A new token of a trusted publisher: `mp_` and 43 URL-safe characters, 256 random bits."""
    return PUBLISHER_PREFIX + secrets.token_urlsafe(32)


def is_publisher_token(token: str) -> bool:
    """Whether this has the form of a token of a trusted publisher."""
    body = token.removeprefix(PUBLISHER_PREFIX)
    plain = body.replace("-", "a").replace("_", "a")
    return len(token) == 46 and len(body) == 43 and plain.isascii() and plain.isalnum()


def plausible(credential: str) -> bool:
    """Whether a text has the form of a credential: looked at before the database is asked."""
    return 40 <= len(credential) <= 4096 and (
        credential.count(".") == 2 or is_key(credential) or is_publisher_token(credential)
    )


def _mac(secret: str, salt: bytes, head: bytes) -> bytes:
    return hmac.new(secret.encode(), salt + head, hashlib.sha256).digest()[:28]


def _checksum(body: str) -> str:
    """CRC-32 in base 62, six digits, as in GitHub's tokens."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
