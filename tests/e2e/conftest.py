"""Chromium for the tests, or a visible warning that there is none."""

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chromium import Chromium
from tests.server import Running, free_port


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One Chromium for all tests of this process. Skips, and warns, where it cannot be had."""
    folder = tmp_path_factory.mktemp("chromium")
    programs = (
        shutil.which("chromium") or shutil.which("google-chrome"),
        shutil.which("chromedriver"),
    )
    if None in programs:
        _go_without(
            "chromium and chromedriver are not installed (Debian: chromium chromium-driver)"
        )
    try:
        import selenium  # noqa: F401
    except ImportError:
        _go_without("selenium is not installed: pip install -e '.[browser]'")
    found = Chromium(*programs, folder)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def browser(chromium: Chromium, tmp_path: Path) -> Iterator[Chromium]:
    """Chromium without cookies, in the light theme, at the size of a desktop."""
    chromium.reset()
    yield chromium
    with contextlib.suppress(Exception):
        chromium.reset()


@pytest.fixture
def portal_settings() -> dict[str, str]:
    """Settings of the portal that the browser uses; a test module overrides the fixture to have others."""
    return {}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(
    tmp_path: Path, port: int, portal_settings: dict[str, str], browser: Chromium
) -> Iterator[Running]:
    """A portal of its own, whose pages the browser opens."""
    found = Running(tmp_path, portal_settings, port)
    found.start()
    browser.base_url = found.url
    try:
        yield found
    finally:
        found.stop()


def _go_without(why: str) -> None:
    reason = f"PAGES ARE NOT TESTED IN A BROWSER: {why}"
    warnings.warn(reason, stacklevel=2)
    pytest.skip(reason)
