"""Settings, and the secrets that are made at the first start."""

import stat
from pathlib import Path

import pytest

from mosis.config import Config, ConfigError
from mosis.context import read_or_create_secret


def test_all_complaints_come_at_once_and_never_show_a_secret() -> None:
    with pytest.raises(ConfigError) as wrong:
        Config.read(
            {
                "LISTEN_ADDR": "nowhere",
                "THREADS": "0",
                "JWT_SECRET": "hunter2",
                "BASE_URL": "ftp://x",
                "TRUSTED_PROXY": "a",
            }
        )
    assert len(wrong.value.complaints) == 5
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(("name", "value"), [
    ("LISTEN_ADDR", "[::1]:80"), ("LISTEN_ADDR", "127.0.0.1:0"), ("BASE_URL", "https://apps.example.net/"), ("RATE_LIMITS", "off"),
    ("TRUSTED_PROXY", "10.0.0.0/8, ::1"), ("THREADS", "64"), ("REGISTRATION", "closed"), ("JWT_SECRET", "x" * 32), ("THREADS", ""),
])  # fmt: skip
def test_good_settings_are_taken(name: str, value: str) -> None:
    Config.read({name: value})


@pytest.mark.parametrize(("name", "value"), [
    ("LISTEN_ADDR", ":"), ("LISTEN_ADDR", "80"), ("LISTEN_ADDR", "localhost"), ("LISTEN_ADDR", ":65536"), ("LISTEN_ADDR", "::1:80"),
    ("LISTEN_ADDR", "[::1]"), ("LISTEN_ADDR", "http://localhost:80"), ("LISTEN_ADDR", ":\u0663"), ("LISTEN_ADDR", " :80"),
    ("BASE_URL", "http://x:99999"), ("BASE_URL", "http://"), ("ADMIN_EMAIL", "nobody"), ("SERVER", "apache"), ("THREADS", "\u0663"),
    ("TELEMETRY_DATABASE_PATH", "data/portal.db"), ("DATABASE_PATH", "data/telemetry.db"),
])  # fmt: skip
def test_bad_settings_are_reported(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        Config.read({name: value})
    assert len(wrong.value.complaints) == 1


def test_a_secret_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "data/jwt_secret"
    secret = read_or_create_secret(path)
    assert len(secret) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert read_or_create_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(ConfigError):
        read_or_create_secret(path)
