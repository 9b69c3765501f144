"""The command line: the commands, their options and their output."""

import argparse
import errno
import gc
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from mosis import VERSION
from mosis.commands import standby
from mosis.commands.process import (
    check_preconditions,
    configure_logging,
    migrate_databases,
    newest_schema,
    open_migrated,
    serve,
    work,
)
from mosis.config import Config, ConfigError, is_utf_8, read_env_file
from mosis.context import Context
from mosis.database import MigrationError
from mosis.errors import PortalError
from mosis.litestream import BackupError

CONFIG, FAILED = 78, 1  # exit codes; 78 is EX_CONFIG of sysexits.h
REMEDIES = {
    errno.EEXIST: ": a file is where a folder should be: move it away, or name another folder.",
    errno.ENOTDIR: ": a file is where a folder should be: move it away, or name another folder.",
    errno.EROFS: ": name a folder that can be written; in a container, one of a volume.",
    errno.ENOSPC: ": make room on this disk.",
}
Args = argparse.Namespace
Run = Callable[[Args, Config], int | None]


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    gc.freeze()  # what the modules made stays; looking through it would find nothing
    gc.enable()
    if not all(map(is_utf_8, sys.argv[1:] if arguments is None else arguments)):
        parser().error("the arguments must be UTF-8")
    args = parser().parse_args(arguments)
    os.umask(0o027)  # new files are readable by the portal's user and group only
    try:
        if args.env_file:
            for name, value in read_env_file(args.env_file).items():
                if not os.environ.get(name, "").strip():
                    os.environ[name] = value
        config = Config.read()
        configure_logging(config)
        if args.touches_data:
            check_preconditions(args.command, config)
        return int(args.run(args, config) or 0)
    except ConfigError as error:
        print("\n".join(f"portal: {complaint}" for complaint in error.complaints), file=sys.stderr)
        return CONFIG
    except PermissionError as error:
        owner = f"{os.getuid()}:{os.getgid()}"
        print(
            f"portal: {error.filename}: the portal runs as {owner} and may not write "
            f"here: `chown -R {owner}` the directory on the host, or run the portal as "
            "its owner (PUID and PGID of compose.yaml).",
            file=sys.stderr,
        )
        return CONFIG
    except OSError as error:  # such as a directory that cannot be made
        where = f": {error.filename}" if error.filename else ""
        remedy = REMEDIES.get(error.errno or 0, "")
        print(f"portal: {error.strerror or error}{where}{remedy}", file=sys.stderr)
        return CONFIG
    except (MigrationError, BackupError) as error:
        print(f"portal: {error}", file=sys.stderr)
        return FAILED
    except PortalError as error:
        details = (each["detail"] for each in error.errors)
        print(f"portal: {error.detail}", *details, file=sys.stderr)
        return FAILED


def parser() -> argparse.ArgumentParser:
    """The commands. Each sets `run`, a function of arguments and settings; its exit code."""
    top = argparse.ArgumentParser(
        prog="portal.py",
        description="A self-hosted app store backend for Mosis.",
        epilog="Settings come from the environment; docs/OPERATIONS.md lists them.",
    )
    top.add_argument(
        "--env-file",
        type=Path,
        metavar="FILE",
        help="settings from a file too, such as .env; the environment comes first",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = Commands(commands)
    serving = command("serve", "migrate and serve until SIGTERM", run_serve, False)
    _flag(serving, "--store", "only the store, read-only, from the replica of another portal")
    about = "run background jobs beside a serving process, until SIGTERM"
    command("worker", about, lambda args, config: work(config))
    command("migrate", "bring the databases to this program's schema and stop", run_migrate)
    about = "check disks, clock, proxy, mail, database and replica, and say what to do"
    command("doctor", about, run_doctor, False)
    about = "copy the database, a list of packages and the secrets, also while the portal runs"
    command("backup", about, run_backup)
    _restore_commands(command)
    _move_packages_command(command)
    command(
        "mail", "print the mails in the mail folder, which is used if SMTP_URL is not set", run_mail
    )
    command("routes", "print every address, and the scope it requires", run_routes, False)
    command("demo", "fill a portal without apps with an example catalogue", run_demo)
    audit = command("audit", "verify the hash chain of the audit trail", run_audit)
    audit.add_argument("action", choices=("verify",))
    command("version", "print the version", lambda args, config: print(VERSION), False)
    _telemetry_commands(commands)
    key = command(
        "store-key", "the key that signs the store's index: show it, or rotate it", run_store_key
    )
    key.add_argument("action", choices=("show", "rotate"))
    about = "which portal may write: show it, or release it for a portal that is gone for good"
    lease = command(
        "lease", about, lambda args, config: standby.run_lease(args.action, config), False
    )
    lease.add_argument("action", choices=("show", "release"))
    _admin_commands(commands)
    return top


def _restore_commands(command: "Commands") -> None:
    about = "restore the database from the replica or a copy; the portal must be stopped"
    restore = command("restore", about, run_restore)
    which = restore.add_mutually_exclusive_group()
    which.add_argument("--at", metavar="TIME", help="as of this time, such as 2026-01-31T12:00:00Z")
    which.add_argument(
        "--from",
        dest="source",
        metavar="COPY",
        type=folder,
        help="a directory made by `backup`, or a database file",
    )
    restore.add_argument(
        "--to",
        metavar="FOLDER",
        type=folder,
        help="into this directory instead, also while the portal runs",
    )
    drill = command(
        "drill", "restore the replica into a temporary folder and check the result", run_drill
    )
    _flag(drill, "--whole", "hash every package instead of a sample")


def _move_packages_command(command: "Commands") -> None:
    about = "copy the packages to a bucket, or back to the disk, while the portal serves"
    moving = command("move-packages", about, run_move_packages)
    moving.add_argument(
        "--to", required=True, metavar="URL", help="s3://BUCKET/PREFIX?..., or file: for the disk"
    )
    moving.add_argument(
        "--parallel",
        type=int,
        default=4,
        choices=range(1, 33),
        metavar="1-32",
        help="packages at a time",
    )
    _flag(moving, "--dry-run", "only count what would be copied")
    _flag(moving, "--verify", "then read everything at the target")
    about = "remove at the source what was read at the target; needs a drill that passed"
    _flag(moving, "--prune", about)


def _flag(command: argparse.ArgumentParser, name: str, help: str) -> None:
    command.add_argument(name, action="store_true", help=help)


class Commands:
    """Adds commands to one level of the parser."""

    def __init__(self, level: Any) -> None:
        self._level = level

    def __call__(
        self, name: str, help: str, run: Run, touches_data: bool = True
    ) -> argparse.ArgumentParser:
        """Add a command; `touches_data` runs `check_preconditions` before it."""
        made: argparse.ArgumentParser = self._level.add_parser(name, help=help)
        made.set_defaults(run=run, touches_data=touches_data)
        return made


def _telemetry_commands(commands: Any) -> None:
    actions = commands.add_parser(
        "telemetry", help="simulate devices; recount the raw events"
    ).add_subparsers(dest="action", required=True, metavar="ACTION")
    command = Commands(actions)
    about = "send the telemetry of simulated devices to a running portal"
    devices = command("simulate", about, run_simulate, False)
    devices.add_argument("--devices", type=int, default=100)
    devices.add_argument(
        "--days",
        type=int,
        default=7,
        choices=range(1, 30),
        metavar="1-29",
        help="days before today",
    )
    devices.add_argument("--url", help="the portal's address (default: BASE_URL)")
    devices.add_argument(
        "--app", action="append", metavar="PACKAGE_ID", help="for this app (may be repeated)"
    )
    devices.add_argument(
        "--seed",
        type=int,
        default=1,
        help=("random seed; the same seed sends the same events, which count once"),
    )
    about = "count the raw events again and correct the sums, while the portal does not run"
    command("recount", about, run_recount)


def _admin_commands(commands: Any) -> None:
    actions = commands.add_parser("admin", help="make administrators").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    command = Commands(actions)
    create = command("create", "create an account with the role admin", run_admin_create)
    promote = command("promote", "give an account a role", run_admin_promote)
    password = command("password", "set a new password and end every session", run_admin_password)
    about = "turn the second factor of an account off, for somebody who has lost it"
    factor = command("second-factor-off", about, run_admin_second_factor_off)
    for each in (create, promote, password, factor):
        each.add_argument("email", metavar="EMAIL")
    promote.add_argument("--role", choices=("developer", "reviewer", "admin"), default="admin")


def folder(text: str) -> Path:
    """A path. Raises ArgumentTypeError for an empty one, which an unset shell variable produces."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text).absolute()


def run_serve(args: Args, config: Config) -> int:
    """Serve the whole portal, or the store alone."""
    if args.store:
        from mosis.commands.front_end import serve_store

        return serve_store(config)
    return serve(config)


def run_migrate(args: Args, config: Config) -> None:
    """Migrate both databases."""
    for path, before, now in migrate_databases(config):
        change = f", was {before}" if before != now else ", nothing to do"
        print(f"{path}: schema {now}{change}")


def run_mail(args: Args, config: Config) -> None:
    """Print the mails in the folder, oldest first."""
    from mosis.outbound.mail import Mailer

    found = list(Mailer(None, config.mail_from, config.data_dir / "mail").waiting())
    for path, text in found:
        print(f"{path}\n\n{text.rstrip()}\n\n{'=' * 72}")
    if not found:
        where = "mails are sent to SMTP_URL" if config.smtp_url else "the folder is empty"
        print(f"No mail to show: {where}.")


def run_routes(args: Args, config: Config) -> None:
    """Print the URL table: method, path, scope."""
    from mosis.commands.application import build
    from mosis.web.routing import API_PREFIX, UNVERSIONED

    app = build(None)  # type: ignore[arg-type]  # the table alone touches nothing
    for route in sorted(app.routes, key=lambda route: (route.rule, route.method)):
        prefix = "" if route.rule.startswith(UNVERSIONED) else API_PREFIX
        print(f"{route.method:<7}{prefix + route.rule:<60}{route.config['scope']}")


def run_simulate(args: Args, config: Config) -> int:
    """Send simulated telemetry, and print how it was answered."""
    from mosis.commands.demo import telemetry

    begun = time.monotonic()
    url = args.url or config.base_url
    apps = [(name, ["1.0.0"]) for name in args.app or ()] or telemetry.published_apps(url)
    if not apps:
        print(
            f"portal: {url} has no published app; create some with `portal.py demo`, "
            "or name a draft with --app.",
            file=sys.stderr,
        )
        return FAILED
    sent = telemetry.simulate(url, apps, args.devices, args.days, args.seed)
    seconds = time.monotonic() - begun
    what = f"{sent.events} events in {sent.batches} batches and {sent.crashes} crash reports"
    print(f"{what} for {len(apps)} app(s) in {seconds:.1f} s")
    answers = (f"{count} x {status or 'none'}" for status, count in sorted(sent.answers.items()))
    print("answers:", ", ".join(answers))
    return 0 if set(sent.answers) <= {202, 429, 503, 0} and sent.batches else FAILED


def run_recount(args: Args, config: Config) -> None:
    """Count the raw events again."""
    from mosis.telemetry import rollups

    with closing(open_migrated(config)) as env:
        print(f"{rollups.recount(env.telemetry.connection())} hours and days corrected.")


def run_admin_create(args: Args, config: Config) -> None:
    """Create an administrator and print the password, once."""
    from mosis.caller import PORTAL
    from mosis.people import accounts

    email = args.email
    with closing(open_migrated(config)) as env:
        password, password_hash = _new_password(env)
        with env.db.write() as db:
            name = email.partition("@")[0] or email
            accounts.create(db, PORTAL, email, name, password_hash, role="admin", verified=True)
    print(f"Administrator {email}, password {password}\nChange it after the first sign-in.")


def run_admin_password(args: Args, config: Config) -> None:
    """Give an account a new password and print it, once."""
    from mosis.caller import PORTAL
    from mosis.people import accounts

    with closing(open_migrated(config)) as env:
        password, password_hash = _new_password(env)
        with env.db.write() as db:
            developer = accounts.get_by_email(db, args.email)
            accounts.set_password(db, PORTAL, developer.id, password_hash)
    print(f"{developer.email} has the new password {password}\nChange it after the next sign-in.")


def _new_password(env: Context) -> tuple[str, str]:
    """A password and its hash."""
    from mosis.credentials import passwords

    password = secrets.token_urlsafe(18)
    return password, passwords.make_hash(password, env.password_cost)


def run_admin_second_factor_off(args: Args, config: Config) -> None:
    """Turn the second factor of an account off; its owner is notified."""
    from mosis.caller import PORTAL
    from mosis.errors import NotFound
    from mosis.people import accounts, second_factor

    with closing(open_migrated(config)) as env, env.db.write() as db:
        developer = accounts.get_by_email(db, args.email)
        if second_factor.find(db, developer.id) is None:
            raise NotFound("second factor of this account")
        second_factor.remove(db, PORTAL, developer.id)
    print(f"{developer.email} signs in without a second factor now.")


def run_admin_promote(args: Args, config: Config) -> None:
    """Give an account a role."""
    from mosis.people import accounts

    with closing(open_migrated(config)) as env:
        developer = accounts.promote(env.db.connection(), args.email, args.role)
    print(f"{developer.email} is {developer.role} now.")


def run_audit(args: Args, config: Config) -> int:
    """Verify the hash chain of the audit trail."""
    from mosis import audit
    from mosis.database.pagination import PageRequest

    with closing(open_migrated(config)) as env:
        db = env.db.connection()
        try:
            count, newest = audit.verify(db), audit.index(db, PageRequest(1)).rows
        except ValueError as error:
            print(
                f"portal: {error}: the database was changed by other means than the portal",
                file=sys.stderr,
            )
            return FAILED
    print(f"{count} lines, unbroken" + (f"; the last is {newest[0].hash}" if newest else ""))
    return 0


def run_store_key(args: Args, config: Config) -> None:
    """Print the keys that sign the store's index; with `rotate`, after making a new one."""
    from mosis import audit
    from mosis.caller import PORTAL
    from mosis.operations.backup import bucket_copies
    from mosis.store import index_keys

    with closing(open_migrated(config)) as env:
        if args.action == "rotate":
            key, db = index_keys.rotate(env), env.db.connection()
            with db.write():
                audit.add(db, PORTAL, "store_key.rotated", fingerprint=key.fingerprint)
            bucket_copies.upload_secrets(env)
        for key in index_keys.index_keys(env):
            until = key.announced_until
            print(
                f"{key.fingerprint}  "
                + (f"announced until {until}" if until else "signs the index")
            )


def run_restore(args: Args, config: Config) -> None:
    """Restore the database, in place or elsewhere."""

    from mosis.operations.backup import restoring

    print(restoring.restore(config, args.at, args.to, args.source).text)
    if args.to is None:
        print("Start the portal. When everything works, delete the old files that were renamed.")


def run_drill(args: Args, config: Config) -> int:
    """Restore the replica into a temporary folder and check it."""

    from mosis.operations.backup import drills

    with closing(open_migrated(config)) as env:
        found = drills.drill_by_command(env, args.whole)
    print(found.text)
    return 0 if found.passed else FAILED


def run_doctor(args: Args, config: Config) -> int:
    """Print what is wrong, and how to fix it."""
    from mosis.operations.doctor import examine

    worst = 0
    for line in examine(config, newest_schema()):
        print(line, flush=True)
        worst = max(worst, FAILED if line.level == "bad" else 0)
    return worst


def run_backup(args: Args, config: Config) -> None:
    """Make a copy and print where it is."""

    from mosis.operations.backup import copies

    with closing(open_migrated(config)) as env:
        copy = copies.make(env)
    print(
        f"{copy.path}: {copy.size_bytes} bytes of database, {copy.packages} packages in"
        " packages.sha256, and the secrets"
    )


def run_move_packages(args: Args, config: Config) -> int:
    """Copy the packages to the other place, or remove them at the source."""
    from mosis.operations import moving

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    options = {"dry_run": args.dry_run, "verify": args.verify, "prune": args.prune}
    with closing(open_migrated(config)) as env:
        try:
            found = moving.move(env, args.to, parallel=args.parallel, report=report, **options)
        except moving.MoveError as error:
            print(f"portal: {error}.", file=sys.stderr)
            return FAILED
    print(("would be done: " if args.dry_run else "") + found.text)
    return FAILED if found.findings else 0


def run_demo(args: Args, config: Config) -> None:
    """Fill the portal with an example catalogue."""
    from mosis.commands.demo.catalogue import APPS, fill

    with closing(open_migrated(config)) as env:
        print(f"Making {APPS} apps; this takes about a minute.", file=sys.stderr, flush=True)
        logging.getLogger().setLevel(logging.WARNING)  # no log line for each of hundreds of jobs
        print(fill(env))
