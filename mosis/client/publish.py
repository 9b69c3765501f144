"""`mosis publish`: build, check, upload, wait, submit. Every step may be interrupted and run again:
the portal recognizes a package by its bytes, and this program stores each action before it starts.
"""

import contextlib
import hashlib
import json
import sys
import time
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mosis.client import check as checks
from mosis.client import develop, project, signing, trusted
from mosis.client.api import Body, Portal, Problem, content_digest, segment
from mosis.client.output import DONE, REFUSED, REJECTED, USAGE, Output, Stop, printable, unreadable
from mosis.records import dataclass

LIVING = ("checking", "ready", "in_review", "approved", "published", "halted", "yanked")
PAUSE_SECONDS = 0.5  # between two polls that were answered at once


@dataclass(frozen=True)
class Work:
    """A package that is to be published."""

    content: bytes
    package_id: str
    version: str
    manifest: dict[str, Any]
    sha256: str

    @property
    def at(self) -> str:
        return f"/apps/{segment(self.package_id)}/versions"

    @property
    def title(self) -> str:
        return f"{self.package_id} {self.version}"


def publish(portal: Portal, output: Output, args: Namespace) -> int:
    """Hand a folder or package to the reviewers, and then release it."""
    if args.rollout and args.when_approved and args.no_wait:
        raise Stop(
            "--rollout with --when-approved needs to wait for the approval; leave out --no-wait.",
            USAGE,
        )
    notes = _notes(args.notes)
    if not trusted.is_available():
        portal.credential()  # before anything is built or changed
    work = _prepare(portal, output, args)
    if work is None:
        return REFUSED
    version = _known(portal, work, again=args.again)
    if version is None:
        _ensure_app(portal, output, work)
        version = _upload(portal, output, work, args, notes)
    else:
        output.note(f"{work.title} is there already, {version['state']}")
    version = _onwards(portal, output, work, version, args)
    return show_outcome(output, version)


def show_outcome(output: Output, version: dict[str, Any]) -> int:
    """The version as a result, and its exit code: 3 if rejected, 1 if a check failed, else 0."""
    title = printable(f"{version['package_id']} {version['version']}")
    lines = []
    for each in version["findings"]:
        lines.append(checks.finding_line(output, each, title))
    lines.append(
        f"{title}: {output.colour(version['state'], 'bold')}. {printable(version['next_step'])}"
    )
    review = version.get("review") or {}
    if version["state"] == "rejected":
        lines.append(f"reasons: {', '.join(review.get('reasons') or [])}")
        lines.append(printable(review.get("comment") or ""))
    output.result(version, *lines)
    return {"rejected": REJECTED, "failed": REFUSED, "withdrawn": REFUSED}.get(
        version["state"], DONE
    )


def watch(
    portal: Portal, output: Output, at: str, states: tuple[str, ...], what: str
) -> dict[str, Any]:
    """Wait until a version is in none of these states. Ctrl-C stops waiting only."""
    tag, version = "", None
    while True:
        query = {"wait": 20} if tag else {}
        asked = time.monotonic()
        response = portal.send(
            "GET", at, query=query, headers={"If-None-Match": tag} if tag else None
        )
        if response.status == 200:
            version, tag = response.document, response.headers.get("ETag") or ""
        assert version is not None
        if version["state"] not in states:
            output.end_progress()
            return dict(version)
        output.waiting(what.format(**version) + _queue(version))
        if time.monotonic() - asked < PAUSE_SECONDS:
            time.sleep(PAUSE_SECONDS)


def _queue(version: dict[str, Any]) -> str:
    position = (version.get("review") or {}).get("position")
    return f" (number {position} in the queue)" if position else ""


def _prepare(portal: Portal, output: Output, args: Namespace) -> Work | None:
    """The checked package; None if the checks found errors, which are printed."""
    place = Path(args.path)
    if place.is_file():
        if args.bump:
            raise Stop("--bump is for a folder; a package has its version already.", USAGE)
        return _from_file(portal, output, place)
    project.require_project(place)
    key = signing.load(portal.config, args.key)
    if key is None:
        key = signing.create(portal.config)
        output.note(f"made a signing key, {key.fingerprint}; keep a backup: mosis keys export")
    if args.bump:
        _bump_once(portal, output, place, args)
    tree = project.read_tree(place)
    built = project.build(tree, key)
    report = develop.report_of(tree, built, key.public)
    if report.blocking:
        checks.show(output, report, str(place), place)
        return None
    _note_report(output, report, str(place), place)
    if trusted.is_available():
        trusted.sign_in(portal, built.manifest["id"])
    signing.ensure_registered(portal, key)
    return _work(built.content, built.manifest)


def _from_file(portal: Portal, output: Output, path: Path) -> Work | None:
    keys = {key.fingerprint: key for key in signing.load_all(portal.config)}
    report = checks.check_package(path, None, {name: key.public for name, key in keys.items()})
    foreign = {"no_signing_key", "signature_invalid", "certificate_mismatch"}
    if not {each["code"] for each in report.findings if each["severity"] == "error"} <= foreign:
        checks.show(output, report, str(path), None)
        return None  # a key that only the portal knows may have signed it
    _note_report(output, report, str(path), None)
    content = path.read_bytes()
    manifest = checks.manifest_in(path)
    if trusted.is_available():
        trusted.sign_in(portal, manifest["id"])
    for key in keys.values():
        if checks.is_signed_by(path, key.public):
            signing.ensure_registered(portal, key)
    return _work(content, manifest)


def _work(content: bytes, manifest: dict[str, Any]) -> Work:
    digest = hashlib.sha256(content).hexdigest()
    return Work(content, manifest["id"], manifest["version"], manifest, digest)


def _note_report(output: Output, report: checks.Report, where: str, place: Path | None) -> None:
    for each in report.findings:
        output.note(checks.finding_line(Output(as_json=True), each, where, place))
    for name, what in report.skipped.items():
        output.note(f"checked by the portal only: {what}; needs the Python package {name}")


def _bump_once(portal: Portal, output: Output, folder: Path, args: Namespace) -> None:
    """Raise the version, unless an interrupted run has raised it for the same files already."""
    tree = project.read_tree(folder)
    manifest = project.manifest_of(tree)
    package_id = str(manifest.get("id"))
    content, version = _content_of(tree), manifest.get("version")
    state = portal.config.read_state("publish", portal.url, package_id)
    if not args.again and state.get("content") == content and state.get("to") == version:
        output.note(
            f"nothing has changed since {version}: continuing with it (--again raises it anyway)"
        )
        return
    if not isinstance(version, str):
        raise Stop(f"The manifest in {folder} has no version; add it first.")
    after = project.next_version(version, args.bump)
    state = {"content": content, "from": version, "to": after}
    portal.config.write_state(state, "publish", portal.url, package_id)
    project.bump(folder, args.bump)
    output.note(f"{version} becomes {after}")


def _content_of(tree: project.Tree) -> str:
    """A digest of everything but the version."""
    manifest = project.manifest_of(tree)
    same = {
        name: each for name, each in manifest.items() if name not in ("version", "version_code")
    }
    digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode())
    for name, content in tree.files.items():
        if name != project.MANIFEST:
            digest.update(f"\0{name}\0".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _known(portal: Portal, work: Work, *, again: bool) -> dict[str, Any] | None:
    """The version with exactly these bytes, or None. Raises Stop for one rejected before."""
    try:
        rows = portal.get(work.at, limit=100)["versions"]
    except Problem as problem:
        if problem.status == 404:
            return None  # no such app yet
        raise
    same = [row for row in rows if row["sha256"] == work.sha256]
    living = next((row for row in same if row["state"] in LIVING), None)
    if living is None and same and same[0]["state"] == "rejected" and not again:
        comment = (same[0].get("review") or {}).get("comment") or ""
        detail = (
            f"{work.title} was rejected: {comment} Change it, or send the same package --again."
        )
        raise Stop(detail, REJECTED, version=same[0])
    return living


def _ensure_app(portal: Portal, output: Output, work: Work) -> None:
    try:
        portal.get(f"/apps/{segment(work.package_id)}")
        return
    except Problem as problem:
        if problem.status != 404:
            raise
    document = {"package_id": work.package_id, "name": work.manifest["name"]}
    for name in ("description", "category"):
        if isinstance(work.manifest.get(name), str):
            document[name] = work.manifest[name]
    try:
        portal.post("/apps", document)
    except Problem as problem:
        if problem.problem == "package_id_taken":
            problem.message += (
                ". It belongs to another account: choose another `id` in the manifest."
            )
        raise
    output.note(f"created the app {work.package_id}")


def _upload(
    portal: Portal, output: Output, work: Work, args: Namespace, notes: str
) -> dict[str, Any]:
    fields = {"submit": "true"}
    if args.when_approved and not args.rollout:
        fields["publish"] = "true"
    if args.channel:
        fields["channel"] = args.channel
    if notes:
        fields["release_notes"] = notes
    body = _form(
        fields,
        work.content,
        lambda done, total: output.progress(f"Uploading {work.title}", done, total),
    )
    headers = {"Content-Digest": content_digest(body.content)}
    with _attempt(portal, work, fields) as key:
        headers["Idempotency-Key"] = key
        try:
            response = portal.send("POST", work.at, body, headers=headers)
        except Problem as problem:
            raise _uploaded_wrong(output, problem, work) from None
    output.end_progress()
    return dict(response.document)


@contextlib.contextmanager
def _attempt(portal: Portal, work: Work, fields: dict[str, str]) -> Iterator[str]:
    """The idempotency key of this upload: the same after an interruption, a new one once the
    portal's response has arrived (the version may be withdrawn and the same bytes uploaded again).
    """
    names = ("upload", portal.url, work.sha256, json.dumps(fields, sort_keys=True))
    attempt = portal.config.read_state(*names).get("attempt") or uuid.uuid4().hex
    portal.config.write_state({"attempt": attempt}, *names)
    yield "upload-" + hashlib.sha256("\0".join((*names, attempt)).encode()).hexdigest()
    portal.config.write_state({}, *names)


def _uploaded_wrong(output: Output, problem: Problem, work: Work) -> Problem:
    output.end_progress()
    for each in problem.errors:
        output.note(
            checks.finding_line(
                Output(as_json=True), {"code": "invalid", "detail": ""} | each, work.title
            )
        )
    problem.errors = []  # they are printed
    if problem.problem in ("version_exists", "version_code_not_higher"):
        problem.message += ". Give it a new version: mosis publish --bump patch"
    return problem


def _onwards(
    portal: Portal, output: Output, work: Work, version: dict[str, Any], args: Namespace
) -> dict[str, Any]:
    """Wait for the portal's steps, and take the developer's steps."""
    at = f"{work.at}/{version['id']}"
    if version["state"] == "checking" and not args.no_wait:
        version = watch(portal, output, at, ("checking",), "The portal checks {version} ...")
    if version["state"] == "ready":
        wish = {"publish": True} if args.when_approved and not args.rollout else {}
        version = _move(portal, at, "submit", wish, version)
    if version["state"] == "in_review" and args.when_approved and not args.no_wait:
        output.note("waiting for the review; Ctrl-C stops the waiting, not the release")
        version = watch(portal, output, at, ("in_review",), "{version} is in review ...")
    # The portal is about to publish it, unless publication is planned for a later time.
    if version["state"] == "approved" and args.when_approved and not args.no_wait:
        planned, decided = version["publish_at"], version["decided_at"]
        if planned is not None and decided is not None and planned <= decided:
            version = watch(portal, output, at, ("approved",), "{version} is approved ...")
    if version["state"] == "approved" and version["publish_at"] is None:
        wish = {"rollout_percent": args.rollout} if args.rollout else {}
        version = _move(portal, at, "publish", wish, version)
    return version


def _move(
    portal: Portal, at: str, name: str, document: dict[str, Any], version: dict[str, Any]
) -> dict[str, Any]:
    """Submit or publish; it is not an error if the portal has done it already."""
    try:
        return dict(
            portal.post(f"{at}/{name}", document, key=f"{name}-{version['id']}-{version['state']}")
        )
    except Problem as problem:
        if problem.problem != "invalid_state":
            raise
        now: dict[str, Any] = portal.get(at)
        if now["state"] == version["state"]:
            raise
        return now


def _form(fields: dict[str, str], content: bytes, sent: Callable[[int, int], None]) -> Body:
    """A multipart form (RFC 7578) with the package as its last part."""
    boundary = "mosis-" + hashlib.sha256(content).hexdigest()[:40]
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="package"; filename="package.mosis"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    whole = "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return Body(whole, f"multipart/form-data; boundary={boundary}", sent)


def _notes(name: str | None) -> str:
    if name is None:
        return ""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(name, error) from None
    return text.strip().replace("\r\n", "\n")
