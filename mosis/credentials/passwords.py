"""Password hashes: Argon2id, and the only place that knows its parameters.

m = 19 MiB, t = 2, p = 1 is the OWASP Password Storage Cheat Sheet's first choice; RFC 9106 defines the function and PHC
strings carry the parameters, so that they can be raised later.
"""

import secrets
import threading
from functools import cache
from pathlib import Path

MEMORY_KIB, ITERATIONS, LANES = 19456, 2, 1
LONGEST = 1024
SHORTEST = 10
# At most two hashes at a time: a burst of sign-ins takes 38 MiB and two cores, not the machine.
_places = threading.BoundedSemaphore(2)


def make_hash(password: str) -> str:
    """The PHC string of a password. Takes about 30 ms and 19 MiB."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    with _places:
        return Argon2id(
            salt=secrets.token_bytes(16),
            length=32,
            iterations=ITERATIONS,
            lanes=LANES,
            memory_cost=MEMORY_KIB,
        ).derive_phc_encoded(password.encode())


def verify(password: str, phc: str | None) -> bool:
    """Whether this is the password. Takes the same time when there is none to compare with (`phc` None)."""
    from cryptography.exceptions import InvalidKey
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    with _places:
        try:
            Argon2id.verify_phc_encoded(password.encode(), phc or _nobody())
        except InvalidKey:
            return False
    return phc is not None


def weakness(password: str, email: str) -> str | None:
    """Why this password is not good enough (NIST SP 800-63B, 5.1.1.2: length and a list of common ones), or None."""
    folded = password.casefold().strip()
    if folded in (email.casefold(), email.casefold().partition("@")[0]):
        return "The password may not be the e-mail address."
    if len(set(folded)) < 4 or folded in _common():
        return "This is one of the commonest passwords; choose another, three or four random words for instance."
    return None


@cache
def _nobody() -> str:
    """A hash that fits no password: what is verified for accounts that do not exist."""
    return "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43


@cache
def _common() -> frozenset[str]:
    """Common passwords of ten or more characters, from the frequency list of zxcvbn (Dropbox, MIT licence)."""
    return frozenset(
        Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").split("\n")
    ) - {""}
