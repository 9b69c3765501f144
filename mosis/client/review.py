"""`review`, `approve`, `reject`: the review queue. They require the role reviewer: sign in with
`mosis login --email`, or use an API key with that role."""

import difflib
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mosis.client import check as checks
from mosis.client.api import Portal, segment
from mosis.client.install import fetch
from mosis.client.output import DONE, Output, printable, size, table
from mosis.packages.archive import EXTENSIONS

REASONS = [
    "malware", "privacy", "permissions", "metadata", "quality", "content", "copyright", "crashes",
    "spam", "other",
]  # fmt: skip
TEXTS = EXTENSIONS & {"rml", "rcss", "lua", "json", "txt", "md"}
DIFF_BYTES = 1 << 20  # larger files are listed by name only


def review(portal: Portal, output: Output, args: Namespace) -> int:
    """The queue, or one review with what a reviewer needs to decide."""
    if not args.id:
        rows = list(portal.pages("/reviews", "reviews", limit=100, state=args.state))
        shown = [
            (each["id"], each["package_id"], each["version"], each["state"], each["submitted_at"])
            for each in rows
        ]
        output.result(
            {"reviews": rows}, *table(shown, "ID", "APP", "VERSION", "STATE", "SUBMITTED")
        )
        return DONE
    found = portal.get(f"/reviews/{segment(args.id)}")
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
    if args.diff:
        found["diff"] = diff(portal, found)
        lines += [_coloured(output, printable(line)) for line in found["diff"]]
    output.result(found, *lines)
    return DONE


def approve(portal: Portal, output: Output, args: Namespace) -> int:
    """Approve a version."""
    output.confirm(f"Approve {args.id}?")
    document = {"comment": args.comment} if args.comment else {}
    return _decided(output, portal.post(f"/reviews/{segment(args.id)}/approve", document))


def reject(portal: Portal, output: Output, args: Namespace) -> int:
    """Reject a version, with reasons and a comment."""
    output.confirm(f"Reject {args.id}?")
    document = {"reasons": args.reason, "comment": args.comment}
    return _decided(output, portal.post(f"/reviews/{segment(args.id)}/reject", document))


def diff(portal: Portal, found: dict[str, Any]) -> list[str]:
    """The lines in which the texts differ from those of the version that was published last, and the
    names of what cannot be compared by lines."""
    at = f"/reviews/{segment(found['id'])}/files"
    since = found["changes"]["since"] or "nothing"
    lines: list[str] = []
    for each in portal.pages(at, "files", limit=100):
        if each["state"] == "same":
            continue
        name = str(each["path"])
        size_bytes = max(each["size_bytes"] or 0, each["size_bytes_before"] or 0)
        if name.rpartition(".")[2].lower() not in TEXTS or size_bytes > DIFF_BYTES:
            lines.append(f"{each['state']}: {name} ({size(size_bytes)})")
            continue
        before = [] if each["sha256_before"] is None else _text(portal, at, name, "before")
        after = [] if each["sha256"] is None else _text(portal, at, name, "after")
        lines += difflib.unified_diff(
            before, after, f"{since}/{name}", f"{found['version']}/{name}", lineterm=""
        )
    return lines


def _text(portal: Portal, at: str, name: str, side: str) -> list[str]:
    """The lines of a file of the version or of the one before."""
    address = f"{portal.url}/v1{at}/{quote(name)}?side={side}"
    with tempfile.TemporaryDirectory(prefix="mosis-") as folder:
        path = Path(folder, "text")
        fetch(portal, address, path, limit_bytes=DIFF_BYTES, credential=portal.credential())
        return path.read_bytes().decode("utf-8", "replace").splitlines()


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
