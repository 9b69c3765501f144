"""`review`, `approve`, `reject`: the reviewers' queue. It needs an account with the role of a reviewer, signed in
with `mosis login --email`, or an API key with that role."""

import difflib
import io
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mosis.client import check as checks
from mosis.client.api import Portal, segment
from mosis.client.install import fetch
from mosis.client.output import DONE, FAILED, Output, Stop, printable, size, table
from mosis.packages.archive import EXTENSIONS, Archive, Unreadable

REASONS = [
    "malware",
    "privacy",
    "permissions",
    "metadata",
    "quality",
    "content",
    "copyright",
    "crashes",
    "spam",
    "other",
]
TEXTS = EXTENSIONS & {"rml", "rcss", "lua", "json", "txt", "md"}
PACKAGE_BYTES = 1 << 30


def review(portal: Portal, output: Output, said: Namespace) -> int:
    """The queue, or one review with what a reviewer needs to decide."""
    if not said.id:
        rows = list(portal.pages("/reviews", "reviews", limit=100, state=said.state))
        shown = [
            (each["id"], each["package_id"], each["version"], each["state"], each["submitted_at"])
            for each in rows
        ]
        output.result(
            {"reviews": rows}, *table(shown, "ID", "APP", "VERSION", "STATE", "SUBMITTED")
        )
        return DONE
    found = portal.get(f"/reviews/{segment(said.id)}")
    title = f"{found['package_id']} {found['version']}"
    changes = found["changes"]
    lines = [
        f"{title}: {found['state']}, submitted {found['submitted_at']}, {size(found['size_bytes'])}"
    ]
    lines.append(f"in the queue because of: {', '.join(found['because']) or 'nothing'}")
    lines.append(f"permissions: {', '.join(found['permissions']) or 'none'}")
    lines += [checks.finding_line(output, each, title) for each in found["findings"]]
    lines += [f"since {changes['since'] or 'nothing: the first version'}:"] + [
        f"  {word} {printable(_name(each))}"
        for word in ("added", "removed", "changed")
        for each in changes["files"][word]
    ]
    if found["release_notes"]:
        lines += ["release notes:", printable(found["release_notes"])]
    if said.diff:
        found["diff"] = diff(portal, found)
        lines += [_coloured(output, printable(line)) for line in found["diff"]]
    output.result(found, *lines)
    return DONE


def approve(portal: Portal, output: Output, said: Namespace) -> int:
    """Approve a version."""
    output.confirm(f"Approve {said.id}?")
    document = {"comment": said.comment} if said.comment else {}
    return _decided(output, portal.post(f"/reviews/{segment(said.id)}/approve", document))


def reject(portal: Portal, output: Output, said: Namespace) -> int:
    """Reject a version, with reasons and a comment."""
    output.confirm(f"Reject {said.id}?")
    document = {"reasons": said.reason, "comment": said.comment}
    return _decided(output, portal.post(f"/reviews/{segment(said.id)}/reject", document))


def diff(portal: Portal, found: dict[str, Any]) -> list[str]:
    """The lines in which the texts differ from those of the version that was published last."""
    after = _texts(
        portal, f"{portal.url}/v1/reviews/{segment(found['id'])}/package", portal.credential()
    )
    before: dict[str, list[str]] = {}
    if since := found["changes"]["since"]:
        owner, app = segment(found["developer_id"]), segment(found["app_id"])
        address = f"{portal.url}/packages/{owner}/{app}/{quote(since)}/package.mosis"
        try:
            before = _texts(portal, address, None)
        except Stop:
            raise Stop(
                f"The package of version {since} cannot be fetched, so there is nothing to compare with."
            ) from None
    lines: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name, []), after.get(name, [])
        lines += difflib.unified_diff(
            one, other, f"{since or 'nothing'}/{name}", f"{found['version']}/{name}", lineterm=""
        )
    return lines


def _texts(portal: Portal, address: str, credential: str | None) -> dict[str, list[str]]:
    """The lines of every text in a package."""
    with tempfile.TemporaryDirectory(prefix="mosis-") as folder:
        path = Path(folder, "package.mosis")
        fetch(portal, address, path, limit_bytes=PACKAGE_BYTES, credential=credential)
        with open(path, "rb") as file:
            return _lines(file)


def _lines(file: io.BufferedReader) -> dict[str, list[str]]:
    try:
        archive = Archive(file)
        return {
            name: archive.read(name).decode("utf-8", "replace").splitlines()
            for name in archive.members
            if name.rpartition(".")[2].lower() in TEXTS
        }
    except Unreadable as error:
        raise Stop(f"The package cannot be read: {error}", FAILED) from None


def _name(change: Any) -> str:
    return (
        str(change.get("path") or change.get("name") or change)
        if isinstance(change, dict)
        else str(change)
    )


def _coloured(output: Output, line: str) -> str:
    if line.startswith("+") and not line.startswith("+++"):
        return output.colour(line, "green")
    if line.startswith("-") and not line.startswith("---"):
        return output.colour(line, "red")
    return line


def _decided(output: Output, found: dict[str, Any]) -> int:
    output.result(found, printable(f"{found['package_id']} {found['version']}: {found['state']}"))
    return DONE
