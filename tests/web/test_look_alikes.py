"""Package ids that are easily taken for somebody else's: a finding for the reviewer."""

import pytest

from mosis.publishing import look_alikes
from tests.client import Account, Client

PUBLISHED = "com.mybank.wallet"


@pytest.fixture
def bank(client: Client) -> Account:
    account = client.register("bank")
    client.out(account, PUBLISHED)
    return account


def finding(client: Client, account: Account, package_id: str) -> str | None:
    """What the checks say about the first version of a new app."""
    client.app_of(account, package_id)
    client.upload(package_id, client.package(account, package_id), as_=account).expect(201)
    client.work()
    found = client.get(f"/v1/apps/{package_id}/versions/1.0.0", as_=account)["findings"]
    return next((each["detail"] for each in found if each["code"] == "look_alike"), None)


@pytest.mark.parametrize(
    "package_id",
    [
        "com.mybank.wa11et",
        "com.myband.wallet",
        "com.mybannk.wallet",
        "com.mybak.wallet",
        "com.mybnak.wallet",
        "c0m.mybank.wallet",
        "corn.mybank.wallet",
        "com.mybank.vvallet",
        "com.my.bankwallet",
        "com.mybank.wallets",
        "co.mybank.wallet",
    ],
)
def test_a_look_alike_is_a_finding_for_the_reviewer(
    client: Client, bank: Account, package_id: str
) -> None:
    detail = finding(client, client.register("mallory"), package_id)
    assert detail is not None
    assert PUBLISHED in detail


@pytest.mark.parametrize(
    "package_id",
    ["com.mybank.notes", "org.mybank.wallet", "com.acme.wallet", "com.mybank.walletpro"],
)
def test_what_differs_enough_is_none(client: Client, bank: Account, package_id: str) -> None:
    assert finding(client, client.register("mallory"), package_id) is None


def test_ids_of_ones_own_and_of_drafts_are_none(client: Client, bank: Account) -> None:
    assert finding(client, bank, "com.mybank.wallet2") is None
    mallory = client.register("mallory")
    client.app_of(mallory, "com.mallory.drafts")
    assert finding(client, client.register("bob"), "com.mallory.draft") is None


def test_short_ids_are_compared_by_their_looks_alone(client: Client, bank: Account) -> None:
    client.out(bank, "io.go")
    mallory = client.register("mallory")
    assert finding(client, mallory, "io.gi") is None
    assert finding(client, mallory, "io.g0") is not None


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("abc", "abd", True),
        ("abc", "ab", True),
        ("ab", "abc", True),
        ("abc", "acb", True),
        ("abcd", "abdc", True),
        ("abc", "abc", False),
        ("abc", "cba", False),
        ("abcd", "ab", False),
        ("abcd", "badc", False),
        ("", "a", True),
    ],
)
def test_one_edit(one: str, other: str, near: bool) -> None:
    assert look_alikes.is_one_edit(one, other) is near
