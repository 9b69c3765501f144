"""Sign-in, signing keys and API keys: `login`, `logout`, `whoami`, `keys`, `tokens`."""

import contextlib
import getpass
import os
import sys
import time
import webbrowser
from argparse import Namespace
from pathlib import Path
from typing import Any

from mosis.client import signing
from mosis.client.api import Portal, Problem, segment
from mosis.client.config import Credentials, is_plain_text
from mosis.client.output import DONE, USAGE, Output, Stop, can_ask, printable, table, unreadable
from mosis.packages import ed25519

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SCOPES = [
    "apps:read", "apps:write", "versions:upload", "versions:publish", "telemetry:read",
    "keys:manage",
]  # fmt: skip


def login(portal: Portal, output: Output, args: Namespace) -> int:
    """Sign in by a code, with a password, or with an API key, and remember it for this portal."""
    if is_plain_text(portal.url):
        output.note(
            f"warning: {portal.url} is not encrypted; others on the network can read "
            "your credentials"
        )
    if os.environ.get("MOSIS_TOKEN"):
        output.note("warning: MOSIS_TOKEN is set, and is used instead of these credentials")
    if args.with_token:
        credentials = Credentials(token=_read_token())
    elif args.email:
        credentials = _by_password(portal, args.email)
    else:
        credentials = _by_device(portal, output, open_browser=not args.no_browser)
    with portal.config.lock():
        before = portal.config.credentials(portal.url)
        portal.config.store(portal.url, credentials)
    try:
        me = portal.get("/auth/me")
    except Stop:
        with portal.config.lock():
            portal.config.store(portal.url, before if vars(before) != vars(Credentials()) else None)
        raise
    output.result(
        {"url": portal.url, "account": me}, f"Signed in at {portal.url} as {_person(me)}."
    )
    return DONE


def logout(portal: Portal, output: Output, args: Namespace) -> int:
    """End the session, and delete the credentials of this portal."""
    stored = portal.config.credentials(portal.url)
    if os.environ.get("MOSIS_TOKEN"):
        raise Stop("MOSIS_TOKEN is set; unset it to sign out.", USAGE)
    if stored.access_token:
        with contextlib.suppress(Problem):  # the session has ended already
            portal.post("/auth/logout")
    with portal.config.lock():
        portal.config.store(portal.url, None)
    note = "The API key stays valid; `mosis tokens revoke` ends it." if stored.token else ""
    output.result({"url": portal.url}, f"Signed out at {portal.url}. {note}".strip())
    return DONE


def whoami(portal: Portal, output: Output, args: Namespace) -> int:
    """Show the account, and the rights of the credential."""
    me = portal.get("/auth/me")
    lines = [f"{_person(me)} at {portal.url}, {me.get('role', 'developer')}"]
    if me.get("scopes"):
        lines.append(f"scopes: {', '.join(me['scopes'])}")
    if me.get("apps"):
        lines.append(f"apps: {', '.join(me['apps'])}")
    output.result({"url": portal.url, "account": me}, *map(printable, lines))
    return DONE


def keys(portal: Portal, output: Output, args: Namespace) -> int:
    """Signing keys: those of this machine, and those that the account has registered."""
    config = portal.config
    _require_name(args, "keys", "revoke")
    if args.action == "create":
        key = signing.create(config, args.name or signing.DEFAULT)
        output.note(
            f"made {config.folder / 'keys' / (key.name + '.pem')}; keep a backup: mosis keys export {key.name}"
        )
        row = signing.register(portal, key)
        output.result(row, f"{key.name}: {key.fingerprint}, registered at {portal.url}")
    elif args.action == "import":
        key = signing.parse(args.name or signing.DEFAULT, _read_text(args.file))
        signing.add(config, key)
        row = signing.register(portal, key)
        output.result(row, f"{key.name}: {key.fingerprint}, registered at {portal.url}")
    elif args.action == "export":
        found = signing.load(config, args.name)
        if found is None:
            raise Stop("There is no signing key on this machine: `mosis keys create` makes one.")
        sys.stdout.write(ed25519.private_pem(found.seed))
    elif args.action == "revoke":
        output.confirm(f"Revoke the signing key {args.name}? No new package may be signed with it.")
        portal.delete(f"/signing-keys/{segment(args.name)}")
        output.result({"revoked": args.name}, f"{args.name} is revoked.")
    else:
        return _list_keys(portal, output)
    return DONE


def tokens(portal: Portal, output: Output, args: Namespace) -> int:
    """API keys: list, create, revoke."""
    _require_name(args, "tokens", "create", "revoke")
    if args.action == "create":
        document: dict[str, Any] = {"name": args.name, "scopes": _words(args.scopes)}
        if args.apps:
            document["apps"] = _words(args.apps)
        if args.expires:
            document["expires_at"] = args.expires
        if args.role:
            document["role"] = args.role
        made = portal.post("/keys", document)
        output.note("This key is shown once; anybody who has it can use its scopes.")
        output.result(made, made["key"])
    elif args.action == "revoke":
        output.confirm(f"Revoke the API key {args.name}? Programs that use it stop working.")
        portal.delete(f"/keys/{segment(args.name)}")
        output.result({"revoked": args.name}, f"{args.name} is revoked.")
    else:
        rows = list(portal.pages("/keys", "keys", limit=100))
        names = _package_ids(portal) if any(each["apps"] for each in rows) else {}
        shown = [
            (
                *(each[name] for name in ("id", "prefix", "name", "expires_at")),
                _list(each["scopes"]),
                _list(each["apps"] and [names.get(app, app) for app in each["apps"]]),
            )
            for each in rows
        ]
        output.result(
            {"keys": rows}, *table(shown, "ID", "PREFIX", "NAME", "EXPIRES", "SCOPES", "APPS")
        )
    return DONE


def _require_name(args: Namespace, command: str, *actions: str) -> None:
    if args.action in actions and not args.name:
        what = "the ID from the list" if args.action == "revoke" else "a NAME"
        raise Stop(f"`mosis {command} {args.action}` needs {what}.", USAGE)


def _package_ids(portal: Portal) -> dict[str, str]:
    """{id: package id} of the account's apps, as far as the credential may see them."""
    with contextlib.suppress(Problem):
        return {each["id"]: each["package_id"] for each in portal.pages("/apps", "apps", limit=100)}
    return {}


def _list_keys(portal: Portal, output: Output) -> int:
    local = {key.fingerprint: key.name for key in signing.load_all(portal.config)}
    rows = list(portal.pages("/signing-keys", "signing_keys", limit=100))
    known = {row["fingerprint"] for row in rows}
    names = ("id", "fingerprint", "state", "name")
    shown = [(*(row[name] for name in names), local.get(row["fingerprint"], "-")) for row in rows]
    shown += [
        ("-", each, "not registered", "-", name)
        for each, name in local.items()
        if each not in known
    ]
    document = {
        "signing_keys": rows,
        "local": [{"name": name, "fingerprint": each} for each, name in local.items()],
    }
    output.result(document, *table(shown, "ID", "FINGERPRINT", "STATE", "NAME", "HERE"))
    return DONE


def _by_device(portal: Portal, output: Output, *, open_browser: bool) -> Credentials:
    """Device login (RFC 8628): the code is approved in a browser, on this machine or another."""
    machine = signing.machine()
    begun = portal.post(
        "/auth/device", {"client_name": f"mosis on {machine}", "scopes": SCOPES}, public=True
    )
    output.note(
        f"Open {begun['verification_uri_complete']}\nand approve the code {begun['user_code']}."
    )
    if (
        open_browser
        and can_ask()
        and (os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32"))
    ):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(begun["verification_uri_complete"])
    interval, until = float(begun["interval"]), time.monotonic() + begun["expires_in"]
    document = {"grant_type": GRANT, "device_code": begun["device_code"]}
    while time.monotonic() < until:
        output.waiting("Waiting for the approval (Ctrl-C to stop) ...")
        time.sleep(interval)
        try:
            answer = portal.post("/auth/token", document, public=True)
        except Problem as problem:
            if problem.problem == "slow_down":
                interval += 5
            elif problem.problem == "access_denied":
                raise Stop("The sign-in was denied.") from None
            elif problem.problem == "expired_token":
                break
            elif problem.problem != "authorization_pending":
                raise
        else:
            return Credentials(answer["access_token"], answer["refresh_token"])
    raise Stop("The code has expired; run `mosis login` again.")


def _by_password(portal: Portal, email: str) -> Credentials:
    """A session with every right of the account, its role included: what reviewers need."""
    password = getpass.getpass("Password: ") if can_ask() else sys.stdin.readline().rstrip("\n")
    answer = portal.post("/auth/login", {"email": email, "password": password}, public=True)
    return Credentials(answer["access_token"], answer["refresh_token"])


def _read_token() -> str:
    token = getpass.getpass("API key: ") if can_ask() else sys.stdin.readline()
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        detail = "Standard input holds no API key; pipe it in: mosis login --with-token < FILE"
        raise Stop(detail, USAGE)
    return token


def _read_text(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(name, error) from None


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _person(me: dict[str, Any]) -> str:
    return printable(f"{me['name']} <{me['email']}>")


def _list(names: list[str] | None) -> str:
    return "all" if names is None else ",".join(names)
