"""Password hashes, with the cost that a portal has; every other test pays less for them."""

import pytest

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
    assert opened.password_cost == passwords.OWASP == passwords.Cost(19456, 2, 1)


def test_a_hash_names_its_own_cost(env: Context) -> None:
    for made_at, now in ((CHEAP, passwords.OWASP), (passwords.OWASP, CHEAP)):
        stored = passwords.make_hash(PASSWORD, made_at)
        assert passwords.verify(PASSWORD, stored, now)
        assert not passwords.verify(PASSWORD + "x", stored, now)


@pytest.mark.parametrize("cost", [CHEAP, passwords.OWASP], ids=["cheap", "OWASP"])
def test_without_a_hash_nothing_fits(cost: passwords.Cost) -> None:
    assert not passwords.verify(PASSWORD, None, cost)
    assert not passwords.verify("", None, cost)
