"""Time-based one-time passwords (RFC 6238 over RFC 4226) and recovery codes; pure functions.

SHA-1, six digits, 30 seconds: what every authenticator app takes. The secret is derived from a
random seed and the server's secret, so that a copy of the database makes no code.
"""

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote, urlencode

STEP_SECONDS = 30
DIGITS = 6
STEPS_AROUND = 1  # steps before and after now that count: clocks differ (RFC 6238, section 5.2)
RECOVERY_CODES = 10
_SALT = b"mosis totp 1"
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without similar characters


def make_seed() -> bytes:
    """A new seed, which the database stores."""
    return secrets.token_bytes(20)


def secret_of(server_secret: str, developer_id: str, seed: bytes) -> bytes:
    """The secret that an authenticator app shares: 20 bytes (RFC 4226, section 4)."""
    message = _SALT + developer_id.encode() + seed
    return hmac.digest(server_secret.encode(), message, hashlib.sha256)[:20]


def base32(secret: bytes) -> str:
    """The secret in the form that users type into an app."""
    return base64.b32encode(secret).decode()


def uri(secret: bytes, issuer: str, account: str) -> str:
    """The address in the QR code, in the format introduced by Google Authenticator."""
    label = quote(f"{issuer}:{account}", safe="")
    return f"otpauth://totp/{label}?{urlencode({'secret': base32(secret), 'issuer': issuer}, quote_via=quote)}"


def code_at(secret: bytes, step: int) -> str:
    """The code of a time step (RFC 4226, section 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    at = digest[-1] & 0x0F
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def step_of(secret: bytes, code: str, now: float) -> int | None:
    """The time step around now that has this code; None if none has. Compares in constant time."""
    if len(code) != DIGITS or not code.isascii() or not code.isdigit():
        return None
    current, found = int(now) // STEP_SECONDS, None
    for step in range(current - STEPS_AROUND, current + STEPS_AROUND + 1):
        if hmac.compare_digest(code_at(secret, step), code):
            found = step
    return found


def make_recovery_codes() -> list[str]:
    """New recovery codes, about 79 random bits each: four groups of four letters and digits."""
    return [
        "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(4))
        for _ in range(RECOVERY_CODES)
    ]


def recovery_hash(code: str) -> str:
    """The stored form of a recovery code, as `key_hash`; case, spaces and hyphens are ignored."""
    plain = "".join(letter for letter in code.lower() if letter.isalnum())
    return hashlib.sha256(plain.encode()).hexdigest()
