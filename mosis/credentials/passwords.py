"""Password hashes: Argon2id (RFC 9106), as PHC strings, so that the cost can be raised."""

import threading
import unicodedata
from functools import cache
from pathlib import Path

from mosis.errors import Denied
from mosis.records import dataclass


@dataclass(frozen=True)
class Cost:
    """The cost parameters of Argon2id: memory in KiB, passes. There is one lane."""

    memory_kib: int
    iterations: int


# First recommendation of the OWASP Password Storage Cheat Sheet; about 15 ms per hash.
OWASP = Cost(memory_kib=19456, iterations=2)
LONGEST = 1024
# At most two hashes at a time, so that a burst of sign-ins needs 38 MiB and two cores.
_places = threading.BoundedSemaphore(2)


def prepare(password: str) -> str:
    """The form of a password that is hashed: OpaqueString profile (RFC 8265, section 4.2.2).
    Keyboards differ in composed characters and in kinds of spaces."""
    spaced = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    return unicodedata.normalize("NFC", spaced)


def make_hash(password: str, cost: Cost = OWASP) -> str:
    """The PHC string of a password."""
    from nacl.pwhash import argon2id

    with _places:
        return argon2id.str(
            prepare(password).encode(), cost.iterations, cost.memory_kib * 1024
        ).decode()


def verify(password: str, phc: str | None, cost: Cost = OWASP) -> bool:
    """Whether the hash fits the password, prepared or, as in old hashes, unprepared. With `phc`
    None, for an account that does not exist, the result is False after the same time."""
    forms = dict.fromkeys((prepare(password), password))
    # no short circuit, so that the time discloses nothing
    found = [_fits(form, phc, cost) for form in forms]
    return any(found)


def require(password: str | None, phc: str | None, cost: Cost = OWASP) -> None:
    """Raise Denied `invalid_credentials` unless the hash fits, or the account has none."""
    if phc and not verify(password or "", phc, cost):
        raise Denied("invalid_credentials", "The password is wrong.")


def is_outdated(password: str, phc: str, cost: Cost = OWASP) -> bool:
    """Whether a hash that fits this password was made of its unprepared form and should be renewed."""
    return prepare(password) != password and not _fits(prepare(password), phc, cost)


def _fits(password: str, phc: str | None, cost: Cost) -> bool:
    from nacl.exceptions import InvalidkeyError
    from nacl.pwhash import argon2id

    with _places:
        try:
            argon2id.verify((phc or _dummy_hash(cost)).encode(), password.encode())
        except InvalidkeyError:
            return False
    return phc is not None


def weakness(password: str, email: str) -> str | None:
    """Why this password is too weak (NIST SP 800-63B, 5.1.1.2: length, common ones), or None."""
    folded = prepare(password).casefold().strip()
    if folded in (email.casefold(), email.casefold().partition("@")[0]):
        return "The password must not be the e-mail address."
    if len(set(folded)) < 4 or folded in _common():
        return (
            "This is one of the most common passwords; choose another, for example "
            "three or four random words."
        )
    return None


@cache
def _dummy_hash(cost: Cost) -> str:
    """A hash with this cost that fits no password, for accounts that do not exist."""
    parameters = f"m={cost.memory_kib},t={cost.iterations},p=1"
    return f"$argon2id$v=19${parameters}$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43


@cache
def _common() -> frozenset[str]:
    """Common passwords of ten or more characters, from zxcvbn's frequency list (Dropbox, MIT)."""
    return frozenset(
        Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").split("\n")
    ) - {""}
