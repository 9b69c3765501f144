"""The settings: read from the environment once; all errors are reported together; immutable
afterwards.

docs/OPERATIONS.md explains each setting, .env.example lists them.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mosis.records import dataclass

# Of S3-compatible stores; read by Litestream and by the client of the bucket, not by Config.
BUCKET_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LITESTREAM_ACCESS_KEY_ID",
    "LITESTREAM_SECRET_ACCESS_KEY",
)  # fmt: skip


class ConfigError(Exception):
    """The settings cannot be used; `complaints` lists everything that is wrong, one sentence each."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = complaints


def is_utf_8(value: str) -> bool:
    """Whether a setting or argument is text: Python has lone surrogates for other bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value).absolute()


def _switch(value: str) -> bool:
    choices = {
        "on": True,
        "1": True,
        "true": True,
        "yes": True,
        "off": False,
        "0": False,
        "false": False,
        "no": False,
    }
    if value.lower() not in choices:
        raise ValueError("must be on or off")
    return choices[value.lower()]


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in choices:
            raise ValueError("must be one of " + ", ".join(choices))
        return value

    return read


def _secret(value: str) -> str:
    if len(value.encode()) < 32:
        raise ValueError("must be at least 32 bytes; `openssl rand -base64 32` makes one")
    return value


def _address(value: str) -> str:
    found = re.fullmatch(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s\[\]:/]*):([0-9]{1,5})", value)
    if not found or int(found[1]) > 65535:
        detail = "must be HOST:PORT or :PORT; write an IPv6 address in brackets, [::1]:8080"
        raise ValueError(detail)
    return value


def _default_url(listen_addr: str) -> str:
    """The address of a portal that listens here, where BASE_URL is not set."""
    host, _, port = listen_addr.rpartition(":")
    everywhere = host in ("", "0.0.0.0", "[::]")  # noqa: S104  (compared only)
    shown = "" if port == "80" else f":{port}"
    return f"http://{'localhost' if everywhere else host.lower()}{shown}"


_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


def _url(value: str) -> str:
    """A web address without user name, query and fragment: lower-case host, no slash at the end."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", value):
        raise ValueError("must not contain spaces, control characters or backslashes")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            name = host.encode("idna").decode()
            raise ValueError(f"write the host in ASCII, {name}")
        if ":" in host:
            ipaddress.IPv6Address(host)
    except UnicodeError:
        raise ValueError("has a host that is not a valid DNS name") from None
    if parts.scheme not in ("http", "https") or not (":" in host or _HOST.fullmatch(host)):
        raise ValueError("must be an http or https address, such as https://apps.example.net")
    if port == 0 or "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError("must not contain a user name, query, fragment or port 0")
    if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)*/*", parts.path) or "/." in parts.path:
        raise ValueError("may have a path of letters, digits and . _ ~ - only")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _issuer(value: str) -> str:
    _url(value)
    return value  # issuers are compared as plain text, so a slash at the end matters


def _provider_name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", value) or value in (
        "password",
        "github",
        "google",
    ):
        raise ValueError(
            "must be lower-case letters, digits and hyphens, and not password, github or google"
        )
    return value


def _smtp(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("smtp", "smtps") and parts.port != 0
        usable = usable and bool((parts.hostname or "").encode("idna"))
    except ValueError:  # a port or a host that cannot be
        usable = False
    if not usable:
        detail = "must be smtp://USER:PASSWORD@HOST:PORT?starttls=1 or smtps://USER:PASSWORD@HOST"
        raise ValueError(detail)
    return value


def _replica(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("s3", "sftp", "gs", "abs", "webdav", "webdavs") or not parts.netloc:
        raise ValueError(
            "must be an address that Litestream supports, such as s3://BUCKET/PATH or "
            "sftp://USER:PASSWORD@HOST/PATH"
        )
    return value


def _bucket(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc:
        raise ValueError(
            "must be s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION, without credentials"
        )
    return value


def _mailbox(value: str) -> str:
    if "@" not in value or any(character in value for character in "\r\n"):
        raise ValueError("must be an e-mail address, such as portal@example.net")
    return value


def _passphrase(value: str) -> str:
    if len(value.strip()) < 20:
        raise ValueError("must have at least 20 characters; `openssl rand -base64 32` makes one")
    return value.strip()


def _store_name(value: str) -> str:
    if not value.isprintable() or len(value.strip()) > 50:
        raise ValueError("must be a name of at most 50 printable characters")
    return value.strip()


def _contact(value: str) -> str:
    if not re.fullmatch(r"(?:https://|mailto:|tel:)[!-~]+", value):
        raise ValueError(
            "must be an address such as mailto:security@example.net or https://example.net/security"
        )
    return value


def _networks(value: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(
            ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip()
        )
    except ValueError:
        raise ValueError(
            "must be addresses or networks, separated by commas, such as 172.16.0.1 or 10.0.0.0/8"
        ) from None


def _prefixes(value: str) -> tuple[str, ...]:
    found = tuple(part.strip().rstrip(".") for part in value.split(",") if part.strip())
    if not all(re.fullmatch(r"[a-z0-9]+(\.[a-z0-9]+)*", each) for each in found):
        raise ValueError(
            "must be prefixes of package ids, separated by commas, such as org.example,com.acme"
        )
    return found


def _readers(value: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return () if value.lower() == "off" else _networks(value)


def _setting(default: Any, read: Callable[[str], Any] = _text, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"read": read, "secret": secret})


_TOGETHER = (
    ("GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET"),
    ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"),
    ("OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"),
)


def _halves(given: Mapping[str, str]) -> list[str]:
    """An error for each provider of which only some settings are set: it would silently be off."""
    complaints = [
        f"{name}: needs PACKAGES_URL, the bucket with the packages."
        for name in ("PACKAGES_CDN", "PACKAGES_SERVE")
        if given.get(name) and not given.get("PACKAGES_URL") and given[name] != "proxy"
    ]
    if given.get("PACKAGES_URL") and given.get("PACKAGES_MOVED_FROM"):
        complaints.append(
            "PACKAGES_MOVED_FROM: is for packages that move from a bucket to the disk; unset it, or PACKAGES_URL."
        )
    return complaints + [
        f"{', '.join(names)}: set all of them, or none"
        for names in _TOGETHER
        if len({bool(given.get(name)) for name in names}) == 2
    ]


@dataclass(frozen=True)
class Config:
    """Each field is the setting of the same name in capitals."""

    listen_addr: str = _setting(":8080", _address)
    events_addr: str | None = _setting(None, _address)
    base_url: str = _setting("http://localhost:8080", _url)
    database_path: Path = _setting(Path("data/portal.db").absolute(), _path)
    telemetry_database_path: Path | None = _setting(None, _path)
    packages_dir: Path = _setting(Path("packages").absolute(), _path)
    packages_url: str | None = _setting(None, _bucket)
    packages_moved_from: str | None = _setting(None, _bucket)
    packages_serve: str = _setting("proxy", _one_of("proxy", "redirect"))
    packages_cdn: str | None = _setting(None, _url)
    packages_cache_bytes: int = _setting(1 << 30, _number(64 << 20, 1 << 50))
    assets_dir: Path = _setting(Path("assets").absolute(), _path)
    backups_dir: Path | None = _setting(None, _path)
    backup_url: str | None = _setting(None, _replica, secret=True)
    backup_key: str | None = _setting(None, _passphrase, secret=True)
    lease_seconds: int = _setting(0, _number(0, 300))
    primary_url: str | None = _setting(None, _url)
    follow_seconds: int = _setting(2, _number(1, 60))
    front_end_secret: str | None = _setting(None, _secret, secret=True)
    jwt_secret: str | None = _setting(None, _secret, secret=True)
    admin_email: str | None = _setting(None, _mailbox)
    github_client_id: str | None = _setting(None)
    github_client_secret: str | None = _setting(None, secret=True)
    github_url: str = _setting("https://github.com", _url)
    github_api_url: str | None = _setting(None, _url)
    google_client_id: str | None = _setting(None)
    google_client_secret: str | None = _setting(None, secret=True)
    oidc_issuer: str | None = _setting(None, _issuer)
    oidc_client_id: str | None = _setting(None)
    oidc_client_secret: str | None = _setting(None, secret=True)
    oidc_name: str = _setting("oidc", _provider_name)
    smtp_url: str | None = _setting(None, _smtp, secret=True)
    mail_from: str = _setting("mosis-portal@localhost", _mailbox)
    store_name: str = _setting("Mosis apps", _store_name)
    trusted_proxy: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = _setting(
        (), _networks
    )
    review_policy: str = _setting("all", _one_of("all", "changes"))
    review_sample_percent: int = _setting(5, _number(0, 100))
    review_proven_releases: int = _setting(0, _number(0, 1000))
    registration: str = _setting("open", _one_of("open", "invite", "closed"))
    require_second_factor: str = _setting("off", _one_of("off", "staff", "publishers"))
    require_verified_email: str = _setting("auto", _one_of("auto", "on", "off"))
    security_contact: str | None = _setting(None, _contact)
    secret_scanning_keys: str | None = _setting(None, _url)
    rate_limits: bool = _setting(True, _switch)
    compression: bool = _setting(True, _switch)
    webhooks_private: str = _setting("deny", _one_of("deny", "allow"))
    package_limit_bytes: int = _setting(52_428_800, _number(1024, 1 << 30))
    account_apps: int = _setting(100, _number(1, 1_000_000))
    account_bytes: int = _setting(4 << 30, _number(1 << 20, 1 << 50))
    account_unpublished_versions: int = _setting(50, _number(1, 1_000_000))
    reserved_prefixes: tuple[str, ...] = _setting((), _prefixes)
    disk_reserve_bytes: int = _setting(268_435_456, _number(0, 1 << 40))
    telemetry: bool = _setting(True, _switch)
    telemetry_events_per_app: int = _setting(1_000_000, _number(1, 1 << 40))
    telemetry_max_bytes: int | None = _setting(None, _number(1 << 20, 1 << 50))
    check_processes: int = _setting(1, _number(1, 16))
    check_memory_bytes: int = _setting(536_870_912, _number(134_217_728, 1 << 34))
    check_seconds: int = _setting(20, _number(1, 600))
    threads: int = _setting(4, _number(1, 64))
    connections_per_address: int = _setting(100, _number(1, 100_000))
    unsent_limit_bytes: int = _setting(16_777_216, _number(1_048_576, 1 << 34))
    server: str = _setting("portal", _one_of("portal", "waitress"))
    metrics: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = _setting(
        _networks("127.0.0.0/8,::1"), _readers
    )
    network_disk: str = _setting("deny", _one_of("deny", "allow"))
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all settings, in capitals."""
        return tuple(setting.name.upper() for setting in fields(cls))

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> "Config":
        """Read the settings from this environment. Raises ConfigError with every error."""
        given = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        complaints: list[str] = []
        for setting in fields(cls):
            raw = given.get(setting.name.upper(), "")
            if raw.strip() == "":
                continue
            try:
                if setting.metadata["read"] is not _path and not is_utf_8(raw):
                    raise ValueError("must be UTF-8")
                values[setting.name] = setting.metadata["read"](raw)
            except ValueError as complaint:
                shown = "" if setting.metadata["secret"] else f"={raw!r}"
                complaints.append(f"{setting.name.upper()}{shown}: {complaint}.")
        complaints += _halves(given)
        if complaints:
            raise ConfigError(complaints)
        if "base_url" not in values and not values.get("listen_addr", ":0").endswith(":0"):
            values["base_url"] = _default_url(values["listen_addr"])
        config = cls(**values)
        if config.telemetry_path == config.database_path:
            raise ConfigError(["TELEMETRY_DATABASE_PATH: must be another file than DATABASE_PATH."])
        if complaints := config._missing_for_recovery():
            raise ConfigError(complaints)
        return config

    def _missing_for_recovery(self) -> list[str]:
        """An error for each setting without which another one would have no effect."""
        in_bucket = self.backup_in_bucket
        complaints = []
        if self.backup_key is not None and not in_bucket:
            complaints.append("BACKUP_KEY: needs BACKUP_URL=s3://BUCKET/PATH, where it is used.")
        if self.lease_seconds and (not in_bucket or self.backup_key is None):
            complaints.append(
                "LEASE_SECONDS: needs BACKUP_URL=s3://BUCKET/PATH and BACKUP_KEY: the lease, the "
                "replica and the secrets are in that bucket."
            )
        if 0 < self.lease_seconds < 5:
            complaints.append("LEASE_SECONDS: must be 0 (off) or from 5 to 300.")
        return complaints

    @property
    def backup_in_bucket(self) -> bool:
        """Whether BACKUP_URL is a bucket of an S3-compatible store."""
        return (self.backup_url or "").startswith("s3://")

    @property
    def packages_bucket(self) -> str | None:
        """The address of the bucket with packages, written or only read."""
        return self.packages_url or self.packages_moved_from

    @property
    def verified_email_required(self) -> bool:
        """Whether an app is published only while its account has verified its address."""
        wanted = self.require_verified_email
        return wanted == "on" or (wanted == "auto" and self.smtp_url is not None)

    @property
    def base_path(self) -> str:
        """The path in BASE_URL, or empty. The portal accepts requests with and without it."""
        return urlsplit(self.base_url).path

    @property
    def github_api(self) -> str:
        """The address of GitHub's API: its own host for github.com, a path for Enterprise."""
        public = self.github_url == "https://github.com"
        return self.github_api_url or (
            "https://api.github.com" if public else self.github_url + "/api/v3"
        )

    @property
    def data_dir(self) -> Path:
        """The directory of the databases, the secrets and the temporary files; one volume."""
        return self.database_path.parent

    @property
    def telemetry_path(self) -> Path:
        """The telemetry database; by default beside the portal's."""
        return self.telemetry_database_path or self.data_dir / "telemetry.db"


def read_env_file(path: Path) -> dict[str, str]:
    """The settings in a file like .env.example: `NAME=VALUE` lines as Docker reads them, a value in quotes
    without these. Raises ConfigError for other lines, and for names that are no settings."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} cannot be read: {error}"]) from None
    found: dict[str, str] = {}
    complaints = []
    known = {*Config.names(), "PUID", "PGID", *BUCKET_CREDENTIALS}  # PUID and PGID: compose.yaml
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = line.strip().partition("=")
        name, value = name.strip().removeprefix("export "), value.strip()
        if not name or name.startswith("#"):
            continue
        if not equals or name not in known:
            complaints.append(f"{path}:{number}: {name!r} is not a setting; see .env.example.")
        elif "\0" in value:
            complaints.append(f"{path}:{number}: {name} has a zero byte in its value.")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        found[name] = value[1:-1] if quoted else value
    if complaints:
        raise ConfigError(complaints)
    return found
