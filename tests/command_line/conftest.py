"""A portal that runs in this process, and `mosis` signed in at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mosis.context import Context
from tests.client import Account, Client
from tests.command_line.driver import Mosis
from tests.server import free_port, serving

PORT = free_port()


@pytest.fixture
def settings() -> dict[str, str]:
    return {
        "LISTEN_ADDR": f"127.0.0.1:{PORT}",
        "BASE_URL": f"http://127.0.0.1:{PORT}",
        "WEBHOOKS_PRIVATE": "allow",
    }


@pytest.fixture
def url(env: Context) -> Iterator[str]:
    """The address of a portal that runs."""
    with serving(env):
        yield env.config.base_url


@pytest.fixture
def alice(client: Client) -> Account:
    return client.register("alice")


@pytest.fixture
def mosis(tmp_path: Path, url: str, alice: Account) -> Mosis:
    """`mosis` of somebody who is signed in."""
    made = Mosis(tmp_path / "home", url)
    made.sign_in(alice)
    return made


@pytest.fixture
def offline(tmp_path: Path) -> Mosis:
    """`mosis` of somebody who knows no portal."""
    return Mosis(tmp_path / "home")
