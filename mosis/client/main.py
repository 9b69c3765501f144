"""The commands of `mosis`, their arguments and exit codes."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from mosis import VERSION
from mosis.client import account, completion, develop, install, publish, review, rollouts, status
from mosis.client.api import Portal, Problem
from mosis.client.config import Config
from mosis.client.output import DONE, FAILED, INTERRUPTED, REFUSED, USAGE, Output, Stop
from mosis.client.project import PARTS
from mosis.client.templates import WORKFLOWS

MANUAL = """\
The way of an app:
  mosis login https://apps.example.net    sign in once
  mosis init notes                        make a new app in the folder notes
  mosis check notes                       the portal's checks, offline
  mosis publish notes                     build, upload, hand to the reviewers
  mosis publish notes --bump patch        the next version

Exit codes:
  0   done
  1   the checks have found errors, or the portal has refused
  2   the command was not understood
  3   the version was rejected by review
  4   the network or the portal failed; run the same command again
  130 interrupted

Environment:
  MOSIS_URL           the portal, instead of the one of the last login
  MOSIS_TOKEN         an API key, instead of the stored session
  MOSIS_ID_TOKEN      the ID token of a build, which `publish` exchanges (trusted publishers)
  MOSIS_SIGNING_KEY   a private key as PEM, instead of a stored one
  MOSIS_CONFIG_DIR    the folder of the configuration (~/.config/mosis)
  CI, NO_COLOR        no colours, no progress, no questions (CI)
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE

Files:
  ~/.config/mosis/config.toml     portals and credentials, mode 0600
  ~/.config/mosis/keys/NAME.pem   signing keys, mode 0600; make a backup
  .mosisignore                    what does not belong into a package
"""
Command = Callable[[Config, Output, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    args = parser().parse_args(arguments)
    output = Output(args.json, args.yes, args.quiet)
    if arguments is None and sys.platform != "win32":  # started as a program
        signal.signal(signal.SIGTERM, _terminated)
    try:
        command: Command = args.command
        return command(Config(), output, args)
    except Stop as stop:
        for each in stop.errors if isinstance(stop, Problem) else ():
            where = f"{each['pointer']}: " if each.get("pointer") else ""
            output.note(f"{where}{each.get('code')}: {each.get('detail')}")
        output.error(stop.message, stop.facts, stop.code)
        return stop.code
    except KeyboardInterrupt:
        output.error(
            "interrupted. The portal continues with what it has received; run the "
            "same command again.",
            {},
            INTERRUPTED,
        )
        return INTERRUPTED
    except BrokenPipeError:  # `mosis status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        output.error(f"{error.filename or 'the system'}: {error.strerror or error}", {}, REFUSED)
        return REFUSED
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        facts = f"{type(error).__name__}: {error}"
        output.error(
            f"unexpected response of the portal, or an error in mosis: {facts}", {}, FAILED
        )
        return FAILED


def _terminated(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _at_portal(run: Callable[[Portal, Output, argparse.Namespace], int]) -> Command:
    """A command that connects to a portal."""

    def command(config: Config, output: Output, args: argparse.Namespace) -> int:
        return run(Portal(config, config.url(args.url), output), output, args)

    return command


def _portal_or_none(config: Config, output: Output, args: argparse.Namespace) -> Portal | None:
    try:
        return Portal(config, config.url(args.url), output)
    except Stop:
        return None


def _init(config: Config, output: Output, args: argparse.Namespace) -> int:
    return develop.init(_portal_or_none(config, output, args), config, output, args)


def _verify(config: Config, output: Output, args: argparse.Namespace) -> int:
    portal = Portal(config, config.url(args.url), output) if args.store else None
    return install.verify(config, portal, output, args)


def _completion(config: Config, output: Output, args: argparse.Namespace) -> int:
    sys.stdout.write(completion.script(args.shell, parser()))
    return DONE


class _Parser(argparse.ArgumentParser):
    """A parser that exits with the code for usage errors."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    common = _Parser(add_help=False)
    _flag(common, "--json", "print one JSON document instead of text")
    common.add_argument(
        "--yes", "-y", action="store_true", help="do not ask before actions that cannot be undone"
    )
    common.add_argument("--quiet", "-q", action="store_true", help="no notes and no progress")
    common.add_argument("--url", help="the portal, instead of the one of the last login")
    whole = _Parser(
        prog="mosis",
        description="Build, check, publish and install apps of a Mosis portal.",
        epilog=MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"mosis {VERSION}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True, title="commands")

    def add(name: str, about: str, command: Command, more: str = "") -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}. {more}".strip(),
            parents=[common],
        )
        made.set_defaults(command=command)
        return made

    _add_account(add)
    _add_development(add)
    _add_releases(add)
    _add_review_and_devices(add)
    made = add("completion", "print the completion script of a shell", _completion)
    made.add_argument("shell", choices=["bash", "zsh", "fish"])
    return whole


Add = Callable[..., argparse.ArgumentParser]


def _flag(command: argparse.ArgumentParser, name: str, help: str) -> None:
    command.add_argument(name, action="store_true", help=help)


def _add_account(add: Add) -> None:
    made = add(
        "login",
        "sign in at a portal",
        _login,
        "Shows a code that is approved in a browser (RFC 8628).",
    )
    made.add_argument(
        "address",
        nargs="?",
        metavar="URL",
        help="the portal, for instance https://apps.example.net",
    )
    _flag(made, "--with-token", "read an API key from standard input instead")
    made.add_argument(
        "--email", help="sign in with a password, and with the account's role: what reviewers need"
    )
    _flag(made, "--no-browser", "only show the address")
    add("logout", "end the session and delete its credentials", _at_portal(account.logout))
    add("whoami", "show who is signed in", _at_portal(account.whoami))
    made = add(
        "keys", "list, create, import, export and revoke signing keys", _at_portal(account.keys)
    )
    made.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=["list", "create", "import", "export", "revoke"],
    )
    made.add_argument(
        "name", nargs="?", help="its name on this machine; for revoke the id of the portal"
    )
    made.add_argument(
        "--file", default="-", help="for import: the PEM file (default: standard input)"
    )
    made = add("tokens", "list, create and revoke API keys", _at_portal(account.tokens))
    made.add_argument("action", nargs="?", default="list", choices=["list", "create", "revoke"])
    made.add_argument("name", nargs="?", help="a name for the new one; for revoke its id")
    made.add_argument(
        "--scopes",
        default="apps:read,versions:upload",
        help="what it may do (default: %(default)s)",
    )
    made.add_argument("--apps", help="only for these apps, separated by commas")
    made.add_argument("--expires", metavar="TIME", help="expiry: 2027-01-31T00:00:00Z")
    made.add_argument("--role", choices=["reviewer", "admin"], help="for a key of the review desk")


def _login(config: Config, output: Output, args: argparse.Namespace) -> int:
    return account.login(Portal(config, config.url(args.address or args.url), output), output, args)


def _add_development(add: Add) -> None:
    made = add(
        "init", "make a new app", _init, "Makes a signing key too, and registers it if signed in."
    )
    made.add_argument("path", nargs="?", default=".", metavar="DIR")
    made.add_argument(
        "--ci", choices=sorted(WORKFLOWS), help="also write a workflow for a build server"
    )
    made.add_argument("--id", help="the package id: com.acme.notes")
    made.add_argument("--name", help="the name of the app")
    made.add_argument("--author")
    made.add_argument("--email", help="the author's e-mail address")
    made = add("check", "run the portal's checks, offline", develop.check)
    made.add_argument("path", nargs="?", default=".", metavar="DIR|FILE")
    _flag(made, "--watch", "check again after each change, until Ctrl-C")
    made.add_argument("--app", metavar="ID", help="the package id that the package must have")
    made.add_argument(
        "--key",
        action="append",
        metavar="PUBLIC",
        help="a public key that may have signed the package (file or base64)",
    )
    made = add("build", "make the signed package of a folder", develop.build)
    made.add_argument("path", nargs="?", default=".", metavar="DIR")
    made.add_argument("-o", "--output", metavar="FILE", help="where to write it (a file or folder)")
    made.add_argument("--bump", choices=PARTS, help="raise the version first")
    made.add_argument("--key", metavar="NAME", help="the signing key")


def _add_releases(add: Add) -> None:
    made = add("publish", "build, upload and hand to the reviewers", _at_portal(publish.publish))
    made.add_argument("path", nargs="?", default=".", metavar="DIR|FILE")
    made.add_argument("--bump", choices=PARTS, help="raise the version first")
    _flag(made, "--when-approved", "publish as soon as it is approved, and wait for that")
    made.add_argument(
        "--channel",
        choices=["stable", "beta"],
        help="default: beta for a pre-release, otherwise stable",
    )
    made.add_argument(
        "--rollout",
        type=rollouts.percent,
        metavar="PERCENT",
        help="offer it to this share of the devices",
    )
    made.add_argument("--notes", metavar="FILE", help="what is new; - for standard input")
    _flag(made, "--no-wait", "wait neither for the checks nor for the review")
    _flag(
        made,
        "--again",
        "send a rejected package again; with --bump, raise the version of unchanged files",
    )
    made.add_argument("--key", metavar="NAME", help="the signing key")
    made = add("status", "show apps and versions", _at_portal(status.status))
    made.add_argument("app", nargs="?", metavar="APP")
    _flag(made, "--watch", "wait until the newest version is decided; 3 when it is rejected")
    _add_rollout(add)
    _version(add("halt", "offer a version to no further device", _at_portal(status.halt)))
    for name, about, run in (
        ("rollback", "offer an older version again and halt the newer ones", status.rollback),
        ("yank", "take a version out of the store", status.yank),
    ):
        made = add(name, about, _at_portal(run))
        _version(made)
        made.add_argument("--reason", required=True)
    made = add("crashes", "show the groups of crashes of an app", _at_portal(status.crashes))
    made.add_argument("app", metavar="APP")
    made.add_argument("group", nargs="?", metavar="GROUP", help="one group with a stack trace")
    made.add_argument("--state", choices=["open", "resolved"])
    made = add("events", "show the account's events", _at_portal(status.events))
    _flag(made, "--follow", "keep showing events, from where the last run stopped")
    made.add_argument("--after", metavar="ID", help="only events after this one")


def _add_rollout(add: Add) -> None:
    made = add(
        "rollout",
        "offer a version to a larger share of the devices, by hand or by a plan; or show its plan",
        _at_portal(rollouts.rollout),
    )
    made.add_argument("app", metavar="APP")
    made.add_argument(
        "version", metavar="VERSION", nargs="?", help="without: the plan of new versions"
    )
    made.add_argument("percent", nargs="?", type=rollouts.percent, metavar="PERCENT")
    made.add_argument(
        "--plan",
        type=rollouts.steps,
        metavar="STEPS",
        help="percent and hours since the publication: 1,5@24,20@120,100@168",
    )
    _flag(made, "--no-plan", "remove the plan")
    made.add_argument(
        "--halt-below",
        type=rollouts.crash_free,
        metavar="PERCENT",
        help="with --plan: halt when fewer sessions end without a crash",
    )
    made.add_argument(
        "--sessions", type=int, metavar="N", help="but not before so many (default 200)"
    )
    made.add_argument(
        "--compare",
        choices=["previous", "bound"],
        help="with the version before (default), or only with --halt-below",
    )
    made = add("downloads", "show how often an app was downloaded", _at_portal(rollouts.downloads))
    made.add_argument("app", metavar="APP")
    made.add_argument("--from", metavar="DAY", help="the first day (default: 29 days ago)")
    made.add_argument("--to", metavar="DAY", help="the last day (default: today)")
    made.add_argument(
        "--by", metavar="NAMES", help="day (default), version, channel, or several with commas"
    )


def _add_review_and_devices(add: Add) -> None:
    made = add("review", "show the reviewers' queue, or one review", _at_portal(review.review))
    made.add_argument("id", nargs="?", metavar="ID")
    _flag(made, "--diff", "the lines that have changed since the published version")
    made.add_argument("--state", choices=["waiting", "claimed", "decided"])
    made = add(
        "listings", "show the changes of what the store shows, or one", _at_portal(review.listings)
    )
    made.add_argument("id", nargs="?", metavar="ID")
    made.add_argument("--state", choices=["waiting", "decided"])
    _add_reports(add)
    made = add("approve", "approve a version or a listing change", _at_portal(review.approve))
    _decided(made)
    made.add_argument("--comment", default="")
    made = add("reject", "reject a version or a listing change", _at_portal(review.reject))
    _decided(made)
    made.add_argument("--reason", action="append", required=True, choices=review.REASONS)
    made.add_argument("--comment", required=True)
    made = add(
        "install", "fetch, verify and unpack an app, as a device does", _at_portal(install.install)
    )
    made.add_argument("package", metavar="PACKAGE")
    made.add_argument(
        "--to", metavar="DIR", help="where to (default: a folder named as the package)"
    )
    _store_key(made)
    made.add_argument(
        "--accept-key",
        metavar="FINGERPRINT",
        help="a new signing key of the app that you have compared",
    )
    made = add("verify", "check a package's archive and signature", _verify)
    made.add_argument("file", metavar="FILE")
    made.add_argument(
        "--key", action="append", metavar="PUBLIC", help="who must have signed it (file or base64)"
    )
    _flag(made, "--store", "compare it with the store's signed index")
    _store_key(made)


def _add_reports(add: Add) -> None:
    made = add("reports", "show or close the reports of abuse", _at_portal(review.reports))
    made.add_argument("app", nargs="?", metavar="APP")
    made.add_argument("--state", choices=["open", "closed"])
    made.add_argument(
        "--close",
        choices=["dismissed", "suspended"],
        help="close them; suspended takes the app out",
    )
    made.add_argument("--newest", type=int, metavar="N", help="the last report that was read")
    made.add_argument("--comment", help="with --close: why; the owners see it if it is suspended")


def _decided(made: argparse.ArgumentParser) -> None:
    made.add_argument("id", metavar="ID")
    made.add_argument(
        "--revision", type=int, metavar="N", help="of a listing change: the revision that was read"
    )


def _store_key(made: argparse.ArgumentParser) -> None:
    text = "the store's public key, where it was not seen before"
    made.add_argument("--store-key", metavar="KEY", help=text)


def _version(made: argparse.ArgumentParser) -> None:
    made.add_argument("app", metavar="APP")
    made.add_argument("version", metavar="VERSION")


if __name__ == "__main__":
    sys.exit(main())
