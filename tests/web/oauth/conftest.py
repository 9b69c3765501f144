"""Providers and a browser for the tests of sign-in at a provider."""

from collections.abc import Iterator

import pytest

from mosis.context import Context
from tests.client import Client
from tests.conftest import FakeClock
from tests.providers import (
    Browser,
    GitHubShape,
    Issuer,
    real_provider,
)

BASE_URL = "http://localhost:8080"
ALICE = "alice@example.net"


@pytest.fixture
def issuer(clock: FakeClock) -> Iterator[Issuer]:
    with Issuer(lambda: clock.at) as server:
        yield server


@pytest.fixture
def hub() -> Iterator[GitHubShape]:
    with GitHubShape() as server:
        yield server


@pytest.fixture
def settings(issuer: Issuer, hub: GitHubShape) -> dict[str, str]:
    return {
        "OIDC_ISSUER": issuer.url,
        "OIDC_CLIENT_ID": "portal",
        "OIDC_CLIENT_SECRET": "se:cret",
        "OIDC_NAME": "company",
        "GITHUB_CLIENT_ID": "Iv1.portal",
        "GITHUB_CLIENT_SECRET": "hub secret",
        "GITHUB_URL": hub.url,
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    yield from real_provider(f"{BASE_URL}/v1/auth/oauth/company/callback")


@pytest.fixture
def browser(client: Client) -> Browser:
    return Browser(client)


def verify_address(env: Context, email: str) -> None:
    """What the link in the mail does."""
    db = env.db.connection()
    with db.write():
        assert db.change("UPDATE developers SET email_verified = 1 WHERE email = ?", email) == 1


def suspend(env: Context, email: str) -> None:
    db = env.db.connection()
    with db.write():
        assert db.change("UPDATE developers SET suspended = 1 WHERE email = ?", email) == 1


def accounts_of(env: Context) -> int:
    return int(env.db.connection().value("SELECT count(*) FROM developers"))
