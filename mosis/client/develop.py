"""The commands that do not contact a portal: `init`, `check`, `build`."""

import hashlib
import os
import tempfile
import time
from argparse import Namespace
from pathlib import Path

from mosis.client import check as checks
from mosis.client import project, signing, templates
from mosis.client.api import Portal, Problem
from mosis.client.config import Config
from mosis.client.output import DONE, REFUSED, USAGE, Output, Stop, printable, size
from mosis.packages import ed25519
from mosis.packages.manifest import is_package_id

WATCH_SECONDS = 0.5


def init(portal: Portal | None, config: Config, output: Output, args: Namespace) -> int:
    """Write a new app, or with `--ci` a workflow for an existing one."""
    folder = Path(args.path)
    fresh = not folder.joinpath(project.MANIFEST).exists()
    written = []
    if fresh:
        document = _new_manifest(portal, output, args, folder)
        files = templates.app(document)
        written = _write(folder, files)
    elif not args.ci:
        raise Stop(f"{folder / project.MANIFEST} exists already; choose another folder.", REFUSED)
    if args.ci:
        package_id = project.manifest_of(project.read_tree(folder)).get("id")
        if not isinstance(package_id, str) or not is_package_id(package_id):
            raise Stop(
                f"{folder / project.MANIFEST} has no package id; `mosis check {folder}` says why.",
                REFUSED,
            )
        url = portal.url if portal else "https://apps.example.net"
        top = _top_of_repository(folder)
        shown = Path(os.path.relpath(folder.resolve(), top)).as_posix()
        name, content = templates.workflow(args.ci, url, package_id, shown)
        written += [str(top / each) for each in _write(top, {name: content})]
    key = signing.load(config) or signing.create(config)
    registered = _register(portal, config, output, key)
    lines = [f"wrote {printable(each)}" for each in written]
    lines.append(f"signing key {key.name}: {key.fingerprint}{', registered' if registered else ''}")
    if fresh:
        lines.append(f"Next: mosis check {folder}, then mosis publish {folder}")
    result = {"files": written, "signing_key": key.fingerprint, "registered": registered}
    output.result(result, *lines)
    return DONE


def check(config: Config, output: Output, args: Namespace) -> int:
    """Run the checks on a folder or a package; with `--watch` again after each change."""
    place = Path(args.path)
    keys = _keys(config, args.key)
    if not args.watch:
        return _check_once(config, output, args, place, keys)
    if not place.is_dir():
        raise Stop("--watch is for a folder.", USAGE)
    before = None
    while True:
        now = _stamps(place)
        if now != before:
            output.note(f"--- {time.strftime('%H:%M:%S')}")
            _check_once(config, output, args, place, keys)
        before = now
        time.sleep(WATCH_SECONDS)


def build(config: Config, output: Output, args: Namespace) -> int:
    """Make the signed package of a folder."""
    folder = Path(args.path)
    project.require_project(folder)
    if args.bump:
        before, after = project.bump(folder, args.bump)
        output.note(f"{before} becomes {after}")
    key = signing.load(config, args.key) or _new_key(config, output)
    tree = project.read_tree(folder)
    built = project.build(tree, key)
    report = report_of(tree, built, key.public)
    if report.blocking:
        return checks.show(output, report, str(folder), folder)
    target = Path(args.output) if args.output else Path(built.file_name)
    target = target / built.file_name if target.is_dir() else target
    project.replace_file(target, built.content)
    digest = hashlib.sha256(built.content).hexdigest()
    output.result(
        {
            "file": str(target),
            "sha256": digest,
            "size_bytes": len(built.content),
            "signing_key": key.fingerprint,
        }
        | {name: built.manifest[name] for name in ("id", "version", "version_code")},
        f"{target}: {size(len(built.content))}, sha256 {digest}",
    )
    return DONE


def report_of(tree: project.Tree, built: project.Built, key: bytes) -> checks.Report:
    """The findings for a built package that is not a file."""
    with tempfile.TemporaryDirectory(prefix="mosis-") as temporary:
        path = Path(temporary, "package.mosis")
        path.write_bytes(built.content)
        return checks.check_tree(tree, built, path, key)


def _check_once(
    config: Config, output: Output, args: Namespace, place: Path, keys: dict[str, bytes]
) -> int:
    if place.is_file():
        return checks.show(output, checks.check_package(place, args.app, keys), str(place), None)
    project.require_project(place)
    key = signing.load(config) if not args.key else None
    # A folder is checked as it would be signed; without a signing key, with a temporary one.
    key = key or signing.Key("temporary", bytes(32), ed25519.public_key(bytes(32)))
    tree = project.read_tree(place)
    return checks.show(
        output, report_of(tree, project.build(tree, key), key.public), str(place), place
    )


def _keys(config: Config, args: list[str] | None) -> dict[str, bytes]:
    """The public keys that may have signed a package: the named ones, else this machine's."""
    if not args:
        return {key.name: key.public for key in signing.load_all(config)}
    return {each: signing.read_public(each) for each in args}


def _new_key(config: Config, output: Output) -> signing.Key:
    key = signing.create(config)
    output.note(f"made a signing key, {key.fingerprint}; keep a backup: mosis keys export")
    return key


def _register(portal: Portal | None, config: Config, output: Output, key: signing.Key) -> bool:
    """Register a key if signed in; otherwise `mosis publish` does it later."""
    if portal is None or not any(vars(config.credentials(portal.url)).values()):
        output.note("You are not signed in: `mosis publish` registers the signing key.")
        return False
    try:
        signing.ensure_registered(portal, key)
    except Stop as error:
        output.note(f"warning: the signing key is not registered: {error.message}")
        return False
    return True


def _new_manifest(
    portal: Portal | None, output: Output, args: Namespace, folder: Path
) -> dict[str, object]:
    """The manifest of a new app: from arguments, account, and answers at the terminal."""
    me = {"name": "", "email": ""}
    if portal is not None and any(vars(portal.config.credentials(portal.url)).values()):
        try:
            me |= portal.get("/auth/me")
        except Problem as problem:
            output.note(f"warning: {problem.message}")
    base = folder.resolve().name
    title = base.replace("-", " ").replace("_", " ").strip().title()[:50] or "App"
    owner = templates.slug(me["name"] or me["email"].partition("@")[0]) or "example"
    package_id = args.id or output.ask("Package id", f"app.{owner}.{templates.slug(base) or 'app'}")
    if not is_package_id(package_id):
        raise Stop(
            f"{package_id!r} is not a package id: use two or more segments of a-z and "
            "0-9 joined by dots.",
            USAGE,
        )
    name = args.name or output.ask("Name of the app", title)
    author = args.author or output.ask("Author", me["name"] or "Somebody")
    email = args.email or output.ask(
        "E-mail address of the author", me["email"] or "somebody@example.net"
    )
    return templates.manifest(package_id, name, author, email)


def _write(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Write new files and return their paths; existing files are never replaced."""
    taken = [name for name in files if folder.joinpath(name).exists()]
    if taken:
        raise Stop(f"{folder / taken[0]} exists already; nothing was written.", REFUSED)
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise Stop(f"{error.filename} cannot be written: {error.strerror}", REFUSED) from None
    return list(files)


def _top_of_repository(folder: Path) -> Path:
    """The folder with .git at or above this one; otherwise this one."""
    here = folder.resolve()
    return next((each for each in (here, *here.parents) if (each / ".git").exists()), here)


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """A value that changes when a file changes."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in names:
            try:
                stat = os.stat(os.path.join(above, name))
            except OSError:
                continue
            found.append((os.path.join(above, name), stat.st_mtime_ns, stat.st_size))
    return sorted(found)
