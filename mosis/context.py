"""The context of handlers and jobs: settings, clock, databases, package files, secret and services."""

import os
import secrets
import stat
import threading
from dataclasses import field, replace
from pathlib import Path
from typing import Any, TypeVar

from mosis.cache import RevisionCache
from mosis.clock import Clock
from mosis.config import Config, ConfigError
from mosis.credentials import passwords
from mosis.credentials.oauth import Provider, TrustedIssuers, providers
from mosis.credentials.tokens import AccessTokens
from mosis.database import Database
from mosis.database.snapshots import SnapshotDatabase
from mosis.events.subscriptions import Subscriptions
from mosis.litestream import Replication
from mosis.metrics import MetricsRegistry, WriteBehindCounters
from mosis.outbound.lease import SharedFence
from mosis.outbound.mail import Mailer
from mosis.outbound.objects import open_bucket
from mosis.packages.bucket_storage import BucketFiles
from mosis.packages.checks import Checks
from mosis.packages.storage import Files
from mosis.rate_limits import Limits
from mosis.records import dataclass

State = TypeVar("State")
# Shares of the cache: responses about single apps, lists, update offers, responses that never change, compressed forms of
# responses, senders of telemetry.
ROOMS = {"apps": 0.25, "lists": 0.3, "offers": 0.25, "always": 0.05, "gzip": 0.1, "senders": 0.05}


@dataclass(frozen=True)
class Context:
    """Everything a use case depends on, made once at start and passed on: no other global state."""

    config: Config
    clock: Clock
    db: Database
    files: Files
    secret: str
    access_tokens: AccessTokens
    password_cost: passwords.Cost
    telemetry: Database
    # key of the pseudonyms of devices; without it a pseudonym cannot be computed
    telemetry_secret: str
    checks: Checks
    mailer: Mailer
    limits: Limits
    news: Subscriptions
    # of portal.db, if configured; started by `portal.py serve`
    replication: Replication | None = None
    providers: dict[str, Provider] = field(default_factory=dict)  # of sign-in, by name
    issuers: TrustedIssuers | None = None  # of trusted publishers
    downloads: WriteBehindCounters = field(default_factory=WriteBehindCounters)
    # cached responses, and parts of them
    cache: RevisionCache = field(default_factory=lambda: RevisionCache(rooms=ROOMS))
    read_only: bool = False  # a store front end: nothing is written
    states: dict[type, Any] = field(default_factory=dict)  # see `state`
    measures: MetricsRegistry = field(default_factory=MetricsRegistry)  # counters for /metrics
    # one scan of all raw events at a time
    telemetry_search: threading.Lock = field(default_factory=threading.Lock)
    # "key id|time to the minute"
    key_uses: WriteBehindCounters = field(default_factory=WriteBehindCounters)

    def state(self, kind: type[State]) -> State:
        """What a module keeps between requests: one object of its class, made at first use."""
        found = self.states.get(kind)
        if found is None:
            found = self.states.setdefault(kind, kind())
        return found  # type: ignore[no-any-return]

    @property
    def replicates(self) -> bool:
        """Whether this process runs Litestream, so that store front ends may follow."""
        return self.replication is not None and self.replication.started

    def url(self, path: str) -> str:
        """An absolute address of this portal."""
        return self.config.base_url + path

    def release_connections(self) -> None:
        """Let other threads have this thread's connections to the databases, until it asks again."""
        self.db.release()
        self.telemetry.release()

    def close(self) -> None:
        self.news.close()
        self.files.close()
        self.mailer.close_idle(0)
        self.db.close()
        self.telemetry.close()


def make_context(
    config: Config, clock: Clock | None = None, password_cost: passwords.Cost = passwords.OWASP
) -> Context:
    """Open databases, files and services. The databases must have been migrated."""
    clock = clock or Clock()
    db, telemetry = Database(config.database_path, clock), Database(config.telemetry_path, clock)
    replicated = config.backups_dir is not None or config.backup_url is not None
    # in every process: if Litestream is configured, only it makes checkpoints
    db.checkpoints = not replicated
    if config.lease_seconds:  # `portal.py serve` has the lease itself; others ask it
        db.fence = telemetry.fence = SharedFence(config.data_dir).check
    measures = MetricsRegistry()
    db.on_count = measures.count
    secret = config.jwt_secret or read_or_create_secret(config.data_dir / "jwt_secret")
    return Context(
        config=config,
        clock=clock,
        db=db,
        news=Subscriptions(db),
        measures=measures,
        files=open_files(config),
        secret=secret,
        access_tokens=AccessTokens(secret, config.base_url),
        password_cost=password_cost,
        mailer=Mailer(
            config.smtp_url, config.mail_from, config.data_dir / "mail", config.store_name
        ),
        limits=Limits(config.rate_limits, clock.monotonic),
        telemetry=telemetry,
        telemetry_secret=read_or_create_secret(
            config.data_dir / "telemetry_secret", "telemetry counts every device as a new one"
        ),
        checks=Checks(config.check_memory_bytes, config.check_seconds, config.check_processes),
        providers=providers(config, clock),
        issuers=TrustedIssuers(clock, private=config.webhooks_private == "allow"),
        replication=Replication(config, db) if replicated else None,
    )


def make_reading_context(config: Config, clock: Clock | None = None) -> Context:
    """The context of a store front end: a database of copies, no secret of the primary, and nothing
    that writes. What needs a missing part is not served there."""
    clock = clock or Clock()
    config = replace(config, telemetry=False)
    db = SnapshotDatabase(clock)
    unused = secrets.token_urlsafe(32)
    telemetry = Database(config.telemetry_path, clock)  # never opened
    return Context(
        config=config,
        clock=clock,
        db=db,
        news=Subscriptions(db),
        files=open_files(config),
        secret=unused,
        access_tokens=AccessTokens(unused, config.base_url),
        password_cost=passwords.OWASP,
        mailer=Mailer(None, config.mail_from, config.data_dir / "mail", config.store_name),
        limits=Limits(config.rate_limits, clock.monotonic),
        telemetry=telemetry,
        telemetry_secret=unused,
        checks=Checks(config.check_memory_bytes, config.check_seconds, config.check_processes),
        read_only=True,
    )


def open_files(config: Config) -> Files:
    """The packages on the disk, or in the bucket that the settings name. Raises ConfigError."""
    url = config.packages_bucket
    if url is None:
        return Files(config.packages_dir, config.disk_reserve_bytes)
    return BucketFiles(
        config.packages_dir,
        config.disk_reserve_bytes,
        open_bucket(url),
        writes=config.packages_url is not None,
        cache_bytes=config.packages_cache_bytes,
        cdn=config.packages_cdn,
        redirects=config.packages_serve == "redirect",
    )


def read_or_create_secret(path: Path, loss: str = "everybody has to sign in again") -> str:
    """The secret in this file, created at first use: 32 random bytes as text, mode 0600, flushed
    before it is used. Raises ConfigError if the file is damaged; `loss` is the consequence of
    removing it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = path.read_text(encoding="ascii").strip()
        if len(secret) < 32:
            raise ConfigError(
                [f"{path.name} is damaged. Restore it from a backup; or remove it, and {loss}."]
            ) from None
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
        return secret
    with os.fdopen(handle, "w", encoding="ascii") as file:
        secret = secrets.token_urlsafe(32)
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    return secret
