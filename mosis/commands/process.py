"""The process: migrate and open the databases, serve until a signal, stop in order; its log."""

import errno
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mosis import VERSION, disk
from mosis.commands import standby
from mosis.config import Config, ConfigError
from mosis.context import Context, make_context
from mosis.database import has_tables, migrate
from mosis.litestream import BackupError, Litestream
from mosis.operations import allocator, front_end, heartbeat, seen_requests
from mosis.outbound.lease import Lease, SharedFence
from mosis.validation.strict_json import dump_json

HERE = Path(__file__).resolve().parents[2]  # the directory of portal.py, schema.sql and migrations/
# Seconds for running requests and jobs to finish; the rest of ten seconds is for Litestream's last
# synchronization.
STOP_SECONDS = 4.0
# Commands that write, and so need the lease where there is one: that of the running portal.
LEASED = ("admin", "demo", "migrate", "store-key", "telemetry", "worker")
SETUP = """\
  Try:  curl -s {base_url}/healthz
        {portal} demo   creates a catalogue to explore.
  Next: docs/COOKBOOK.md shows the way from an account to a published app, with curl.

  There is no administrator yet. `{portal} admin create you@example.net` creates
  one; or open this address in a browser, which works once, for one hour:

      {link}
"""


def migrate_databases(
    config: Config, file_system: Callable[[Path], str] = disk.file_system
) -> list[tuple[Path, int, int]]:
    """Migrate both databases: (path, schema before, schema now) of each. Raises MigrationError,
    PermissionError, and ConfigError for a network file system."""
    main, telemetry = config.database_path, config.telemetry_path
    for folder in (main.parent, telemetry.parent, config.packages_dir, config.assets_dir):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable", str(folder))
    for database in (main, telemetry):
        if config.network_disk == "deny" and (kind := file_system(database.parent)) in disk.NETWORK:
            raise ConfigError(
                [
                    f"{database} is on {kind}, a network file system, where SQLite can "
                    "lose data: use a local disk, or set NETWORK_DISK=allow."
                ]
            )
    return [
        (main, *migrate(main, HERE / "schema.sql", HERE / "migrations")),
        (
            telemetry,
            *migrate(
                telemetry,
                HERE / "schema-telemetry.sql",
                HERE / "migrations" / "telemetry",
                shrinks=True,
            ),
        ),
    ]


def newest_schema() -> int:
    """The number of this program's schema."""
    return len(list((HERE / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql")))


def open_migrated(config: Config) -> Context:
    """The context over migrated databases."""
    from mosis.store import index_keys

    migrate_databases(config)
    env = make_context(config)
    index_keys.index_keys(env)  # created at the first start
    return env


def restore_if_lost(config: Config) -> int | None:
    """With a replica: restore a missing database and lock it. Raises BackupError."""
    from mosis.operations.backup import restoring

    litestream = Litestream(config)
    if not litestream.wanted:
        return None
    lock = litestream.hold()
    if restoring.restore_lost(config, litestream):
        print(
            f"portal: {config.database_path} was missing and has been restored from the replica.",
            file=sys.stderr,
            flush=True,
        )
    return lock


def refuse_folder_of_front_end(config: Config) -> None:
    """Raises ConfigError where a store front end runs or ran: a portal that restored the database
    there would be a second primary, and replicate over the replica of the first."""
    if config.primary_url is not None:
        raise ConfigError(
            ["PRIMARY_URL is set, so this is a store front end: start it with `serve --store`."]
        )
    if front_end.belongs_to_front_end(config.data_dir):
        raise ConfigError(
            [
                f"{config.data_dir} belongs to a store front end: start it with `serve --store`; or"
                f" remove {config.data_dir / front_end.FOLDER} if it is to be a portal of its own."
            ]
        )


def check_preconditions(command: str, config: Config) -> None:
    """Refuse a command that would harm the next start: one that creates files of root in the
    portal's directory, or an empty database in place of a lost one, which would be replicated over
    the good replica. Raises ConfigError, BackupError."""
    from mosis.operations.backup import bucket_copies

    folder = config.data_dir.stat() if config.data_dir.exists() else None
    if folder and folder.st_uid and not os.geteuid():
        complaint = (
            f"{config.data_dir} belongs to {folder.st_uid}:{folder.st_gid}, "
            "which could not write files that root creates there"
        )
        raise ConfigError(
            [f"{complaint}: run this as `sudo -u '#{folder.st_uid}' -g '#{folder.st_gid}' ...`."]
        )
    refuse_folder_of_front_end(config)
    if command != "restore" and Litestream(config).source_if_lost():
        raise BackupError(
            f"{config.database_path} is missing, but its replica exists: start the "
            "portal, which restores it, then try again"
        )
    if command != "restore" and bucket_copies.lacks_secrets(config):
        raise BackupError(
            "secrets are missing in the data folder, but the bucket has them: start the portal, "
            "which restores them, then try again"
        )
    if config.lease_seconds and command in LEASED:
        SharedFence(config.data_dir).check()
    if command in ("backup", "drill", "audit") and not has_tables(config.database_path):
        raise BackupError(
            f"there is no database at {config.database_path}: does DATABASE_PATH say where it is?"
        )


def acquired(config: Config) -> tuple[int | None, Lease | None]:
    """The lock for replication and the lease, as far as they are wanted, when the data folder has
    everything that a backup has. Raises BackupError."""
    from mosis.operations.backup import takeover

    if config.lease_seconds:
        return standby.acquire(config)
    takeover.check_without_lease(config)
    return restore_if_lost(config), None


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the second signal ends the process at once."""
    from mosis.commands.application import build
    from mosis.operations.integrity import IntegrityMonitor
    from mosis.people import account_recovery, first_administrator
    from mosis.telemetry.maintenance import Maintenance
    from mosis.worker import Worker

    refuse_folder_of_front_end(config)
    lock, lease = acquired(config)
    allocator.tune()
    env = open_migrated(config)
    if lease is not None:
        standby.hand_over(env, lease)
    env.files.sweep_incoming()
    app, worker, upkeep, watch = build(env), Worker(env), Maintenance(env), IntegrityMonitor(env)
    server = make_server(env, app)
    live = start_websocket(env)
    watch.start()
    account_recovery.appoint(env)
    worker.start()
    upkeep.start()
    start_replication(env, lock)

    def end() -> None:
        server.stop(STOP_SECONDS)
        if live is not None:
            live.stop(0)
        watch.quit()
        worker.quit()
        upkeep.quit()

    def left() -> float:
        return max(0.1, asked[0] + STOP_SECONDS - time.monotonic()) if asked else STOP_SECONDS

    asked = end_on_signal(end)
    print(welcome(config, server.port), file=sys.stderr, flush=True)
    if (link := first_administrator.make_link(env)) is not None:
        steps = SETUP.format(link=link, base_url=config.base_url, portal=_ourselves())
        print(steps, file=sys.stderr, flush=True)
    allocator.started()
    server.run()
    if live is not None:
        live.stop(left())
    worker.stop(left())
    upkeep.stop(left())
    env.close()
    if env.replication is not None:
        env.replication.stop()
    if lease is not None:
        standby.finish(lease)
    return 0


def end_on_signal(end: Callable[[], None]) -> list[float]:
    """Have the first SIGTERM or SIGINT call `end`, and the second end the process at once. The list
    gets the time of the first (monotonic)."""
    asked: list[float] = []

    def stop(number: int, _frame: Any) -> None:
        if asked:
            raise SystemExit(128 + number)
        asked.append(time.monotonic())
        # not in the signal handler: the interrupted code may hold a lock
        threading.Thread(target=end, name="stopping").start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return asked


def start_replication(env: Context, lock: int | None) -> None:
    """Start Litestream, if there is to be a replica, after the secrets were uploaded."""
    from mosis.operations.backup import bucket_copies

    # Litestream writes to the database, too
    if env.replication is not None and lock is not None and env.db.damage is None:
        env.replication.start(lock, partial(bucket_copies.upload_secrets, env))
        heartbeat.beat(env)


def make_server(env: Context, app: Any, spool: Path | None = None) -> Any:
    """The configured server, bound to its port; bodies wait in `spool`. Raises ConfigError if it
    cannot be bound, OSError."""
    from mosis.server import Server, StockServer
    from mosis.web.admission import Admissions, limit_bytes
    from mosis.web.answers import CachedResponses

    config = env.config
    spool = spool or config.packages_dir / "spool"
    with binding("LISTEN_ADDR", config.listen_addr):
        if config.server == "waitress":
            return StockServer(app, config.listen_addr, config.threads, limit_bytes(config), spool)
        return Server(
            app,
            config.listen_addr,
            config.threads,
            Admissions(app, env),
            spool,
            ready=CachedResponses(app, env),
            transactions={
                "writes": lambda: env.db.connection().held(),
                "intake": lambda: env.telemetry.connection().held(),
            },
            rests=env.release_connections,
            measures=env.measures,
            connections_per_address=config.connections_per_address,
            proxies=config.trusted_proxy,
            unsent_limit_bytes=config.unsent_limit_bytes,
        )


@contextmanager
def binding(setting: str, address: str) -> Iterator[None]:
    """Raises ConfigError, which says what to do, if the address of a setting cannot be bound."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:  # of a folder
            raise
        reason = "this machine has no such address: name one of its own, or only the port, as :8080"
        if error.errno == errno.EADDRINUSE:
            other = ":8081" if setting == "LISTEN_ADDR" else ":8082"
            reason = f"another program listens on {address} already: stop it, or choose another port, such as {setting}={other}"
        elif error.errno == errno.EACCES:
            reason = "the system reserves this port: choose one from 1024 on, such as :8080; docs/PROXIES.md has proxies for 443"
        elif error.errno not in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
            reason = f"it cannot be listened on: {error.strerror or error}"
        raise ConfigError([f"{setting}={address}: {reason}."]) from None


def start_websocket(env: Context) -> Any:
    """The started WebSocket listener, None if it is off. Raises ConfigError without its library, or
    if its address cannot be bound."""
    if env.config.events_addr is None:
        return None
    from mosis.notifications.websocket import Listener

    try:
        with binding("EVENTS_ADDR", env.config.events_addr):
            live = Listener(env, env.config.events_addr)
    except ImportError:
        raise ConfigError(
            ['EVENTS_ADDR: needs the library websockets: pip install "mosis-portal[live]".']
        ) from None
    live.start()
    return live


def work(config: Config) -> int:
    """Run background jobs beside a serving process with the same database, until SIGTERM or SIGINT."""
    from mosis.worker import Worker

    env = open_migrated(config)
    worker = Worker(env, longest_sleep_seconds=0.5)
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    worker.start()
    asked.wait()
    worker.stop()
    env.close()
    return 0


def welcome(config: Config, port: int) -> str:
    """The start screen: addresses, and what is on and off."""
    from mosis.clock import Clock
    from mosis.credentials.oauth import providers

    names, litestream = list(providers(config, Clock())), Litestream(config)
    marks = {True: "on ", False: "off"}
    rows = [
        (config.telemetry, "telemetry", "raw events stay 7 days, see docs/TELEMETRY.md"),
        (
            config.smtp_url is not None,
            "mail",
            "by SMTP" if config.smtp_url else f"written to {config.data_dir / 'mail'}",
        ),
        (
            config.events_addr is not None,
            "websockets",
            f"events on {config.events_addr}" if config.events_addr else "",
        ),
        (
            config.rate_limits,
            "rate limits",
            "" if config.rate_limits else "OFF: for benchmarks and tests only",
        ),
        (
            config.server == "portal",
            "own server",
            "" if config.server == "portal" else "unmodified waitress, with fewer bounds",
        ),
        (config.registration == "open", "registration", config.registration),
        (
            bool(names),
            "sign-in with",
            ", ".join(names) or "passwords only; no provider is configured",
        ),
        (litestream.wanted and litestream.program is not None, "backup", _backup_row(litestream)),
        (
            bool(config.trusted_proxy),
            "proxy",
            ", ".join(map(str, config.trusted_proxy)) or "X-Forwarded-For is ignored",
        ),
    ]
    lines = [
        f"mosis-portal {VERSION} listens on port {port}; its public address is {config.base_url}",
        "",
    ]
    lines += [f"  {marks[on]} {name:<14} {text}".rstrip() for on, name, text in rows]
    lines += [
        "",
        f"  data in {config.data_dir}, packages in {_packages_place(config)}",
        "",
        *_notes(config),
    ]
    return "\n".join(lines)


def _notes(config: Config) -> list[str]:
    """What the operator may not expect: requests for another address, and settings that are not read."""
    notes = []
    if warning := seen_requests.host_warning(config):
        notes.append(f"  Look: {warning}")
    if Path(".env").is_file() and "--env-file" not in " ".join(sys.argv):
        notes.append(
            "  Look: .env is not read; `portal.py --env-file .env serve` and `make run` do."
        )
    return [*notes, ""] if notes else []


def _packages_place(config: Config) -> str:
    """Where packages are, without the parameters of a bucket."""
    return (config.packages_url or "").partition("?")[0] or str(config.packages_dir)


def _ourselves() -> str:
    """The command line with which this program was started."""
    program, script = Path(sys.executable), HERE / "portal.py"
    if Path.cwd() == HERE:
        script = Path("portal.py")
        program = program.relative_to(HERE) if program.is_relative_to(HERE) else program
    return f"{program} {script}"


def _backup_row(litestream: Litestream) -> str:
    if not litestream.wanted:
        return "NONE: set BACKUPS_DIR to a folder on another disk"
    if litestream.program is None:
        return (
            "NOT RUNNING: the program `litestream` is missing; pip install 'mosis-portal[backup]'"
        )
    return f"every commit goes to {litestream.replica_dir or 'BACKUP_URL'}"


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the fields passed as `extra`."""

    _plain = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        moment = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z"
        )
        line: dict[str, Any] = {
            "time": moment,
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line["message"] = record.getMessage()
        line |= {name: value for name, value in vars(record).items() if name not in self._plain}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        try:
            return dump_json(line).decode()
        except (TypeError, UnicodeEncodeError):  # a value without a form in JSON or UTF-8
            return json.dumps(line, default=str)


def configure_logging(config: Config) -> None:
    """Log to standard output, one JSON object per line."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)
