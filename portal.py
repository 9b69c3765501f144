#!/usr/bin/env python3
"""mosis-portal: the front door. `python portal.py --help` lists the commands; `application()` is for other WSGI servers."""

import argparse
import contextlib
import errno
import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mosis import VERSION, disk
from mosis.config import Config, ConfigError
from mosis.context import Environment, environment
from mosis.database import MigrationError, has_tables, migrate
from mosis.errors import PortalError
from mosis.litestream import BackupError, Litestream

HERE = Path(__file__).resolve().parent
STOP_SECONDS = 4.0  # for requests and jobs at hand together; what is left of ten seconds is Litestream's last synchronisation
CONFIG, FAILED = 78, 1  # exit codes; 78 is EX_CONFIG of sysexits.h


def build(env: Environment) -> Any:
    """The WSGI application over an environment: every URL of the portal."""
    from mosis.web import (
        account_recovery,
        accounts,
        admin,
        apps,
        auth,
        backups,
        docs,
        events,
        health,
        jobs,
        keys,
        metrics,
        notifications,
        oauth,
        review_messages,
        reviews,
        store,
        telemetry,
        versions,
        webhooks,
    )
    from mosis.web import device_login as devices
    from mosis.web.idempotency import Retries
    from mosis.web.plugins import Answers, Callers, Errors, Portal

    app = Portal(env.measures if env else None)
    for plugin in (Errors(), Callers(env), Retries(env), Answers(env)):
        app.install(plugin)
    for face in (
        health,
        metrics,
        docs,
        auth,
        oauth,
        account_recovery,
        devices,
        accounts,
        keys,
        apps,
        versions,
        reviews,
        review_messages,
        notifications,
        events,
        webhooks,
        admin,
        store,
        telemetry,
        jobs,
        backups,
    ):
        face.routes(app)
    return app


def application(settings: Mapping[str, str] | None = None) -> Any:
    """The migrated portal with its worker, for another WSGI server of one process: `waitress-serve --call portal:application`."""
    from mosis.operations.integrity import Watch
    from mosis.telemetry.maintenance import Upkeep
    from mosis.worker import Worker

    config = Config.read(settings)
    lock = given_back(config)
    env = opened(config)
    Watch(env).start()
    Worker(env).start()
    Upkeep(env).start()
    if env.replication is not None and lock is not None:
        env.replication.start(lock)
    return build(env)


def migrated(config: Config) -> list[tuple[Path, int, int]]:
    """Bring both databases up to date: (path, schema before, schema now) of each.

    Raises MigrationError, PermissionError, and ConfigError for a disk that is none of this machine.
    """
    main, telemetry = config.database_path, config.telemetry_path
    for folder in (main.parent, telemetry.parent, config.packages_dir):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable", str(folder))
    for database in (main, telemetry):
        if (
            config.network_disk == "deny"
            and (kind := disk.file_system(database.parent)) in disk.NETWORK
        ):
            raise ConfigError(
                [
                    f"{database}: this is on {kind}, a file system of the network, where SQLite can lose data: use a disk of this"
                    " machine, or set NETWORK_DISK=allow."
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


def opened(config: Config) -> Environment:
    """The environment over a database that has been brought up to date."""
    from mosis import store

    migrated(config)
    env = environment(config)
    store.index_keys(env)  # made at first start
    return env


def given_back(config: Config) -> int | None:
    """Where a replica is wanted: restore a database that is lost, and the lock with which to replicate it. Raises BackupError."""
    from mosis.operations import backup

    litestream = Litestream(config)
    if not litestream.wanted:
        return None
    lock = litestream.hold()
    if backup.give_back_lost(config, litestream):
        print(
            f"portal: {config.database_path} was not there; it was restored from the replica.",
            file=sys.stderr,
            flush=True,
        )
    return lock


def be_careful(command: str, config: Config) -> None:
    """Refuse what would harm the portal at its next start: files of root in its folder, or an empty database in the place of one
    that is lost, which would be replicated over the good one. Raises ConfigError, BackupError."""
    folder = config.data_dir.stat() if config.data_dir.exists() else None
    if folder and folder.st_uid and not os.geteuid():
        complaint = f"{config.data_dir} belongs to {folder.st_uid}:{folder.st_gid}, who could not write what root makes there"
        raise ConfigError(
            [f"{complaint}: run this as `sudo -u '#{folder.st_uid}' -g '#{folder.st_gid}' ...`."]
        )
    if command != "restore" and Litestream(config).lost():
        raise BackupError(
            f"{config.database_path} is not there, but its replica is: start the portal, which restores it, then try again"
        )
    if command in ("backup", "drill", "audit") and not has_tables(config.database_path):
        raise BackupError(
            f"there is no database at {config.database_path}: does DATABASE_PATH say where it is?"
        )


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the second one ends the process at once."""
    from mosis.operations.integrity import Watch
    from mosis.people import account_recovery
    from mosis.telemetry.maintenance import Upkeep
    from mosis.worker import Worker

    lock = given_back(config)
    keep_memory_together()
    sys.setswitchinterval(
        0.001
    )  # seconds that a read of the store waits for a thread that computes (default: 5 ms)
    env = opened(config)
    env.files.sweep_incoming()
    app, worker, upkeep, watch = build(env), Worker(env), Upkeep(env), Watch(env)
    server = bound(env, app)
    live = listening(env)
    watch.start()
    account_recovery.appoint(env)
    worker.start()
    upkeep.start()
    if (
        env.replication is not None and lock is not None and env.db.damage is None
    ):  # Litestream writes, too
        env.replication.start(lock)
    asked: list[float] = []

    def stop(number: int, _frame: Any) -> None:
        if asked:
            raise SystemExit(128 + number)
        asked.append(time.monotonic())
        threading.Thread(
            target=end, name="stopping"
        ).start()  # not here: what this interrupts may hold a lock

    def end() -> None:
        server.stop(STOP_SECONDS)
        if live is not None:
            live.stop(0)
        watch.quit()
        worker.quit()
        upkeep.quit()

    def left() -> float:
        return max(0.1, asked[0] + STOP_SECONDS - time.monotonic()) if asked else STOP_SECONDS

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    print(welcome(config, server.port), file=sys.stderr, flush=True)
    server.run()
    if live is not None:
        live.stop(left())
    worker.stop(left())
    upkeep.stop(left())
    env.close()
    if env.replication is not None:
        env.replication.stop()
    return 0


def bound(env: Environment, app: Any) -> Any:
    """The server that the settings ask for, on its port. Raises OSError."""
    from mosis.server import Server, StockServer
    from mosis.web.admission import Admissions, limit_bytes
    from mosis.web.answers import ReadyAnswers

    config = env.config
    spool = config.packages_dir / "spool"
    if config.server == "waitress":
        return StockServer(app, config.listen_addr, config.threads, limit_bytes(config), spool)
    ready = ReadyAnswers(app, env)
    return Server(
        app,
        config.listen_addr,
        config.threads,
        Admissions(app, env),
        spool,
        ready=ready,
        measures=env.measures,
        connections_per_address=config.connections_per_address,
        proxies=config.trusted_proxy,
        unsent_limit_bytes=config.unsent_limit_bytes,
    )


def listening(env: Environment) -> Any:
    """The started WebSocket listener, None where it is off. Raises ConfigError without its library."""
    if env.config.events_addr is None:
        return None
    from mosis.notifications.websocket import Listener

    try:
        live = Listener(env, env.config.events_addr)
    except ImportError:
        raise ConfigError(
            ['EVENTS_ADDR: needs the library websockets: pip install "mosis-portal[live]".']
        ) from None
    live.start()
    return live


def work(config: Config) -> int:
    """Do background jobs alone, beside a serving process with the same database, until SIGTERM or SIGINT."""
    from mosis.worker import Worker

    env = opened(config)
    worker = Worker(env, longest_sleep_seconds=0.5)
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    worker.start()
    asked.wait()
    worker.stop()
    env.close()
    return 0


def keep_memory_together() -> None:
    """Have glibc's malloc use two arenas instead of eight for each core (mallopt(3), M_ARENA_MAX): many threads that each keep
    a little would otherwise double the memory after load. Other C libraries have no such call and no such need."""
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(-8, 2)


def welcome(config: Config, port: int) -> str:
    """One screen that says where the portal is, what is on and what is off, and where to go next."""
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
            "" if config.rate_limits else "SWITCHED OFF: for benchmarks and tests only",
        ),
        (
            config.server == "portal",
            "own server",
            "" if config.server == "portal" else "waitress as it comes: fewer bounds",
        ),
        (config.registration == "open", "registration", config.registration),
        (bool(names), "sign-in with", ", ".join(names) or "only passwords; no provider is set"),
        (litestream.wanted and litestream.program is not None, "backup", _backup_row(litestream)),
        (
            bool(config.trusted_proxy),
            "proxy",
            ", ".join(map(str, config.trusted_proxy)) or "X-Forwarded-For is not believed",
        ),
    ]
    lines = [
        f"mosis-portal {VERSION} listens on port {port}; its public address is {config.base_url}",
        "",
    ]
    lines += [f"  {marks[on]} {name:<14} {text}".rstrip() for on, name, text in rows]
    lines += [
        "",
        f"  data in {config.data_dir}, packages in {config.packages_dir}",
        "",
        f"  Try:  curl -s {config.base_url}/healthz",
        "  Next: docs/COOKBOOK.md goes from an account to a published app with curl.",
        f"        {_ourselves()} admin create you@example.net   makes the first administrator.",
        f"        {_ourselves()} demo   (in a portal without apps) makes a catalogue to look around in.",
        "",
    ]
    return "\n".join(lines)


def _ourselves() -> str:
    """How the commands are called from where this process was started."""
    program, script = Path(sys.executable), HERE / "portal.py"
    if Path.cwd() == HERE:
        script = Path("portal.py")
        program = program.relative_to(HERE) if program.is_relative_to(HERE) else program
    return f"{program} {script}"


def _backup_row(litestream: Litestream) -> str:
    if not litestream.wanted:
        return "NONE: set BACKUPS_DIR to a folder on another disk"
    if litestream.program is None:
        return "NOT RUNNING: there is no program `litestream`; pip install 'mosis-portal[backup]'"
    return f"every commit goes to {litestream.replica_dir or 'BACKUP_URL'}"


def routes() -> None:
    """Print the URL table: method, path, who may call."""
    from mosis.web.plugins import UNVERSIONED

    app = build(None)  # type: ignore[arg-type]  # the table alone touches nothing
    for route in sorted(app.routes, key=lambda route: (route.rule, route.method)):
        prefix = "" if route.rule.startswith(UNVERSIONED) else "/v1"
        print(f"{route.method:<7}{prefix + route.rule:<60}{route.config['scope']}")


def simulate(url: str, names: list[str] | None, devices: int, days: int, seed: int) -> int:
    """Send telemetry as devices would, and say what became of it; the exit code."""
    from mosis.demo import telemetry as simulation

    begun = time.monotonic()
    apps = [(name, ["1.0.0"]) for name in names] if names else simulation.published_apps(url)
    if not apps:
        print(
            f"portal: {url} has no published app; `portal.py demo` makes some, --app names a draft.",
            file=sys.stderr,
        )
        return FAILED
    sent = simulation.simulate(url, apps, devices, days, seed)
    seconds = time.monotonic() - begun
    what = f"{sent.events} events in {sent.batches} batches and {sent.crashes} crash reports"
    print(f"{what} for {len(apps)} app(s) in {seconds:.1f} s")
    print(
        "answers:",
        ", ".join(
            f"{count} x {status or 'none'}" for status, count in sorted(sent.answers.items())
        ),
    )
    return 0 if set(sent.answers) <= {202, 429, 503, 0} and sent.batches else FAILED


def admin_create(env: Environment, email: str) -> None:
    """Make an administrator and print the password, once."""
    from mosis.caller import PORTAL
    from mosis.credentials import passwords
    from mosis.people import accounts

    password = secrets.token_urlsafe(18)
    db = env.db.connection()
    password_hash = passwords.make_hash(password)
    with db.write():
        accounts.create(
            db,
            PORTAL,
            email,
            email.partition("@")[0] or email,
            password_hash,
            role="admin",
            verified=True,
        )
    print(f"Administrator {email}, password {password}\nChange it after the first sign-in.")


def verify_audit(config: Config) -> int:
    """Prove the chain of the audit trail."""
    from mosis import audit
    from mosis.database.pagination import Wanted

    env = opened(config)
    try:
        count, newest = audit.verify(db := env.db.connection()), audit.index(db, Wanted(1)).rows
        print(f"{count} lines, unbroken" + (f"; the last is {newest[0].hash}" if newest else ""))
    except ValueError as error:
        print(f"portal: {error}: somebody has changed the database by hand", file=sys.stderr)
        return FAILED
    finally:
        env.close()
    return 0


def store_key(env: Environment, action: str) -> None:
    """Print the keys that sign the store's index; with `rotate` after making a new one."""
    from mosis import audit, store
    from mosis.caller import PORTAL

    if action == "rotate":
        key, db = store.rotate(env), env.db.connection()
        with db.write():
            audit.add(db, PORTAL, "store_key.rotated", fingerprint=key.fingerprint)
    for key in store.index_keys(env):
        told = (
            f"announced until {key.announced_until}" if key.announced_until else "signs the index"
        )
        print(f"{key.fingerprint}  {told}")


def restore(config: Config, at: str | None, to: Path | None, source: Path | None) -> None:
    """Put the database back, or somewhere else."""
    from mosis.operations import backup

    print(backup.restore(config, at, to, source).text)
    if to is None:
        print("Start the portal. The files that were put aside can be deleted once all is well.")


def drill(env: Environment, whole: bool) -> int:
    """Try whether the replica is good; the exit code."""
    from mosis.operations import backup

    found = backup.drill(env, whole)
    print(found.text)
    return 0 if found.passed else FAILED


def doctor(config: Config) -> int:
    """Look at everything that can be wrong, and say what to do; the exit code."""
    from mosis.operations.doctor import examine

    worst = 0
    for line in examine(
        config, len(list((HERE / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql")))
    ):
        print(line, flush=True)
        worst = max(worst, FAILED if line.level == "bad" else 0)
    return worst


def copy_now(env: Environment) -> None:
    """Make a copy and say where it is."""
    from mosis.operations import backup

    copy = backup.make(env)
    print(
        f"{copy.path}: {copy.size_bytes} bytes of database, {copy.packages} packages in packages.sha256, and the secrets"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    given = parser().parse_args(arguments)
    os.umask(0o027)  # what the portal writes is for its user, and for a group that may read it
    try:
        config = Config.read()
        configure_logging(config)
        return run(given, config)
    except ConfigError as error:
        print("\n".join(f"portal: {complaint}" for complaint in error.complaints), file=sys.stderr)
        return CONFIG
    except PermissionError as error:
        owner = f"{os.getuid()}:{os.getgid()}"
        print(
            f"portal: {error.filename}: the portal runs as {owner} and may not write here: `chown -R {owner}` the folder on the"
            " host, or run the portal as its owner (PUID and PGID of compose.yaml).",
            file=sys.stderr,
        )
        return CONFIG
    except OSError as error:  # a port that is taken, a folder that cannot be made
        print(
            f"portal: {error.strerror or error}"
            + (f": {error.filename}" if error.filename else ""),
            file=sys.stderr,
        )
        return CONFIG
    except (MigrationError, BackupError) as error:
        print(f"portal: {error}", file=sys.stderr)
        return FAILED
    except PortalError as error:
        print(
            f"portal: {error.detail}", *(each["detail"] for each in error.errors), file=sys.stderr
        )
        return FAILED


def run(given: argparse.Namespace, config: Config) -> int:
    """Do what the command line asks for."""
    if given.command == "serve":
        return serve(config)
    if (
        given.command not in ("version", "routes", "doctor")
        and getattr(given, "action", None) != "simulate"
    ):
        be_careful(given.command, config)
    if given.command == "worker":
        return work(config)
    if given.command == "routes":
        routes()
    elif given.command == "version":
        print(VERSION)
    elif given.command == "audit":
        return verify_audit(config)
    elif given.command == "doctor":
        return doctor(config)
    elif given.command == "restore":
        restore(config, given.at, given.to, given.source)
    elif given.command == "telemetry" and given.action == "simulate":
        return simulate(
            given.url or config.base_url, given.app, given.devices, given.days, given.seed
        )
    elif given.command == "migrate":
        for path, before, now in migrated(config):
            print(
                f"{path}: schema {now}"
                + (f", was {before}" if before != now else ", nothing to do")
            )
    else:
        env = opened(config)
        try:
            if given.command == "backup":
                copy_now(env)
            elif given.command == "drill":
                return drill(env, given.whole)
            elif given.command == "demo":
                from mosis.demo.catalogue import APPS, fill

                print(
                    f"Making {APPS} apps; this takes about a minute.", file=sys.stderr, flush=True
                )
                logging.getLogger().setLevel(
                    logging.WARNING
                )  # not a line for each of the hundreds of jobs
                print(fill(env))
            elif given.command == "telemetry":
                from mosis.telemetry import rollups

                print(f"{rollups.recount(env.telemetry.connection())} hours and days put right.")
            elif given.command == "store-key":
                store_key(env, given.action)
            elif given.action == "create":
                admin_create(env, given.email)
            else:
                from mosis.people import accounts

                developer = accounts.promote(env.db.connection(), given.email, given.role)
                print(f"{developer.email} is {developer.role} now.")
        finally:
            env.close()
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands."""
    top = argparse.ArgumentParser(
        prog="portal.py",
        description="A self-hosted app store backend for Mosis.",
        epilog="Settings come from the environment; docs/OPERATIONS.md lists them.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="migrate and serve until SIGTERM")
    commands.add_parser("worker", help="do background jobs beside a serving process, until SIGTERM")
    commands.add_parser("migrate", help="bring the database to this program's schema and stop")
    commands.add_parser(
        "doctor", help="look at disks, clock, proxy, mail, database and replica, and say what to do"
    )
    commands.add_parser(
        "backup",
        help="make a copy of the database, a list of packages and the secrets, also while it runs",
    )
    restoring = commands.add_parser(
        "restore",
        help="put the database back from the replica or a copy; the portal must be stopped",
    )
    which = restoring.add_mutually_exclusive_group()
    which.add_argument(
        "--at", metavar="TIME", help="as it was at this moment, such as 2026-01-31T12:00:00Z"
    )
    which.add_argument(
        "--from",
        dest="source",
        metavar="COPY",
        type=folder,
        help="a folder that `backup` made, or a database file",
    )
    restoring.add_argument(
        "--to",
        metavar="FOLDER",
        type=folder,
        help="into this folder instead, also while the portal runs",
    )
    trying = commands.add_parser(
        "drill", help="restore the replica into a temporary folder and look whether it is good"
    )
    trying.add_argument("--whole", action="store_true", help="hash every package, not a sample")
    commands.add_parser("routes", help="print every address, and who may call it")
    commands.add_parser("demo", help="fill a portal without apps with a plausible catalogue")
    audit = commands.add_parser("audit", help="prove that the audit trail is unbroken")
    audit.add_argument("action", choices=("verify",))
    commands.add_parser("version", help="print the version")
    telemetry = commands.add_parser(
        "telemetry", help="send as many devices would; count the raw events again"
    ).add_subparsers(dest="action", required=True, metavar="ACTION")
    devices = telemetry.add_parser(
        "simulate", help="send what devices do in some days to a running portal"
    )
    devices.add_argument("--devices", type=int, default=100)
    devices.add_argument(
        "--days",
        type=int,
        default=7,
        choices=range(1, 30),
        metavar="1-29",
        help="whole days before today",
    )
    devices.add_argument("--url", help="the portal's address, BASE_URL unless said otherwise")
    devices.add_argument(
        "--app", action="append", metavar="PACKAGE_ID", help="for this app (again for more)"
    )
    devices.add_argument(
        "--seed", type=int, default=1, help="the same seed sends the same, which counts once"
    )
    telemetry.add_parser(
        "recount",
        help="count the raw events again and put the sums right, while the portal does not run",
    )
    key = commands.add_parser(
        "store-key", help="the key that signs the store's index: show it, or rotate to a new one"
    )
    key.add_argument("action", choices=("show", "rotate"))
    admin = commands.add_parser("admin", help="make administrators").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    create = admin.add_parser("create", help="make a new account with the role admin")
    promote = admin.add_parser("promote", help="give an account a role")
    for each in (create, promote):
        each.add_argument("email", metavar="EMAIL")
    promote.add_argument("--role", choices=("developer", "reviewer", "admin"), default="admin")
    return top


def folder(text: str) -> Path:
    """A place on disk. Raises ArgumentTypeError for an empty one, which a shell variable that is not set leaves."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text).absolute()


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what the call added with `extra`."""

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
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(config: Config) -> None:
    """Log to standard output, one JSON object a line."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)


if __name__ == "__main__":
    sys.exit(main())
