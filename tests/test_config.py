"""Settings, and the secrets that are made at the first start."""

import stat
from contextlib import suppress
from pathlib import Path

import pytest

import portal
from mosis.config import Config, ConfigError, read_env_file
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


@pytest.mark.parametrize("value", [
    "\udcff", "9" * 5000, "http://[", "https://a\udcff.example.net", "smtp://a:b", "smtp://a:0", "smtp://a..b", "smtp://[::1",
    "s3://bucket?endpoint=[", "s3://bucket?endpoint=http://[", "\x00", "\u00e9", "\u0663", "-1", "1e999", "nan", "%ff", "a" * 70000,
])  # fmt: skip
def test_any_text_is_a_setting_or_a_complaint(value: str) -> None:
    for name in Config.names():
        with suppress(ConfigError):
            Config.read({name: value})


@pytest.mark.parametrize("value", ["smtp://a:b", "smtp://a:99999", "smtp://a..b", "smtp://[::1"])
def test_a_mail_server_that_cannot_be_is_reported(value: str) -> None:
    with pytest.raises(ConfigError, match="SMTP_URL"):
        Config.read({"SMTP_URL": value})


def test_bytes_that_are_no_text_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="JWT_SECRET: must be UTF-8"):
        Config.read({"JWT_SECRET": "x" * 32 + "\udcff"})
    (tmp_path / "env").write_text("JWT_SECRET=" + "x" * 32 + "\0\n")
    with pytest.raises(ConfigError, match="zero byte"):
        read_env_file(tmp_path / "env")
    with pytest.raises(SystemExit) as left:
        portal.main(["admin", "password", "\udcff"])
    assert left.value.code == 2
    assert "must be UTF-8" in capsys.readouterr().err


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
