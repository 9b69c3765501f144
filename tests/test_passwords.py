"""Password hashes, with the cost that a portal has; every other test pays less for them."""

import pytest
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from mosis.context import Context, make_context
from mosis.credentials import passwords
from tests.client import PASSWORD, Client
from tests.conftest import CHEAP


@pytest.fixture
def password_cost() -> passwords.Cost:
    return passwords.OWASP


def test_an_account_has_a_hash_of_the_recommended_cost(client: Client, env: Context) -> None:
    alice = client.register()
    stored = env.db.connection().value("SELECT password_hash FROM developers")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    client.sign_in(alice)


def test_that_is_the_cost_unless_a_test_asks_for_less(env: Context) -> None:
    opened = make_context(env.config)
    opened.close()
    assert opened.password_cost == passwords.OWASP == passwords.Cost(19456, 2)


def test_a_hash_names_its_own_cost(env: Context) -> None:
    for made_at, now in ((CHEAP, passwords.OWASP), (passwords.OWASP, CHEAP)):
        stored = passwords.make_hash(PASSWORD, made_at)
        assert passwords.verify(PASSWORD, stored, now)
        assert not passwords.verify(PASSWORD + "x", stored, now)


@pytest.mark.parametrize("password", [
    PASSWORD, "", "ümlaut und 密码", "with\0nothing behind", "x" * passwords.LONGEST,
])  # fmt: skip
def test_hashes_are_those_of_another_implementation(password: str) -> None:
    """Those of the portal until PyNaCl made them, by OpenSSL, and of other programs: also with
    several lanes and other lengths."""
    for lanes, length in ((1, 32), (4, 32), (1, 24)):
        stored = Argon2id(
            salt=b"sixteen bytes of", length=length, iterations=2, lanes=lanes, memory_cost=64
        ).derive_phc_encoded(password.encode())
        assert passwords.verify(password, stored, CHEAP)
        assert not passwords.verify(password + "x", stored, CHEAP)
    Argon2id.verify_phc_encoded(password.encode(), passwords.make_hash(password, CHEAP))


@pytest.mark.parametrize(
    "stored", ["", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$AAAA$", "$2b$12$" + "a" * 53]
)
def test_nothing_fits_a_hash_that_cannot_be_read(stored: str) -> None:
    assert not passwords.verify(PASSWORD, stored, CHEAP)


def test_the_hash_of_an_account_that_does_not_exist_can_be_read() -> None:
    """Otherwise it would take no time, and disclose that."""
    for cost in (CHEAP, passwords.OWASP):
        dummy = passwords._dummy_hash(cost)
        encoded = passwords.make_hash(PASSWORD, cost)
        assert len(dummy) == len(encoded)
        assert dummy.rpartition("p=1$")[0] == encoded.rpartition("p=1$")[0]
        with pytest.raises(InvalidKey):  # not an error of its format
            Argon2id.verify_phc_encoded(PASSWORD.encode(), dummy)


@pytest.mark.parametrize("cost", [CHEAP, passwords.OWASP], ids=["cheap", "OWASP"])
def test_without_a_hash_nothing_fits(cost: passwords.Cost) -> None:
    assert not passwords.verify(PASSWORD, None, cost)
    assert not passwords.verify("", None, cost)
