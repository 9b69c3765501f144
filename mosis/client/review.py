"""`review`, `listings`, `reports`, `approve`, `reject`: what waits for reviewers. They require the
role reviewer: sign in with `mosis login --email`, or use an API key with that role."""

import difflib
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mosis.client import check as checks
from mosis.client.api import Portal, segment
from mosis.client.install import fetch
from mosis.client.output import DONE, USAGE, Output, Stop, printable, size, table
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


def listings(portal: Portal, output: Output, args: Namespace) -> int:
    """The changes of what the store shows that wait for a reviewer, or one of them."""
    if not args.id:
        rows = list(
            portal.pages("/listing-changes", "listing_changes", limit=100, state=args.state)
        )
        names = ("id", "package_id", "state", "submitted_at")
        shown = [
            (*(each[name] for name in names), ", ".join(one["field"] for one in each["changes"]))
            for each in rows
        ]
        output.result(
            {"listing_changes": rows}, *table(shown, "ID", "APP", "STATE", "SUBMITTED", "FIELDS")
        )
        return DONE
    found = portal.get(f"/listing-changes/{segment(args.id)}")
    lines = [f"{found['package_id']}: {found['state']}, submitted {found['submitted_at']}"]
    lines.append(f"in the queue because of: {', '.join(found['because']) or 'nothing'}")
    if found["name_look_alike"]:
        lines.append(f"the name is easily taken for that of {found['name_look_alike']}")
    for each in found["changes"]:
        lines += [f"{each['field']}:"]
        lines += _coloured_lines(output, "-", each["before"])
        lines += _coloured_lines(output, "+", each["after"])
    if found["state"] == "waiting":
        decided = f"{found['id']} --revision {found['revision']}"
        lines.append(f"decide: mosis approve {decided}, or mosis reject {decided}")
    output.result(found, *lines)
    return DONE


def reports(portal: Portal, output: Output, args: Namespace) -> int:
    """The apps with open reports of abuse, the reports of one, or a decision on them."""
    if args.close:
        return _close(portal, output, args)
    if not args.app:
        rows = list(portal.pages("/reports", "apps", limit=100))
        names = ("package_id", "reports", "verified", "first_at", "app_status")
        shown = [(*(each[name] for name in names), ", ".join(each["reasons"])) for each in rows]
        head = ("APP", "REPORTS", "VERIFIED", "SINCE", "STATUS", "REASONS")
        output.result({"apps": rows}, *table(shown, *head))
        return DONE
    at = f"/reports/{segment(args.app)}"
    rows = list(portal.pages(at, "reports", limit=100, state=args.state))
    lines = []
    for each in rows:
        by = each["email"] or "without address"
        how = " (verified account)" if each["verified"] else ""
        lines += [f"{each['created_at']} {each['reason']}, {by}{how}"]
        lines += [f"  {line}" for line in each["text"].splitlines()]
    if rows and args.state != "closed":
        newest = f"--newest {rows[0]['number']}"
        lines.append(f"decide: mosis reports {args.app} {newest} --close dismissed --comment TEXT")
    output.result({"reports": rows}, *map(printable, lines))
    return DONE


def _close(portal: Portal, output: Output, args: Namespace) -> int:
    """Close the reports up to the one that was read last."""
    if not (args.app and args.newest and args.comment):
        raise Stop("--close needs the APP, --newest and --comment.", USAGE)
    effect = "suspend it" if args.close == "suspended" else "change nothing at the app"
    output.confirm(f"Close the reports of {args.app} up to number {args.newest}, and {effect}?")
    document = {"outcome": args.close, "comment": args.comment, "newest": args.newest}
    found = portal.post(f"/reports/{segment(args.app)}/close", document)
    done = f"{args.app}: {found['closed']} closed, the app is {found['app_status']}"
    output.result(found, printable(done))
    return DONE


def approve(portal: Portal, output: Output, args: Namespace) -> int:
    """Approve a version, or a listing change."""
    output.confirm(f"Approve {args.id}?")
    document = {"comment": args.comment} if args.comment else {}
    return _decide(portal, output, args, "approve", document)


def reject(portal: Portal, output: Output, args: Namespace) -> int:
    """Reject a version or a listing change, with reasons and a comment."""
    output.confirm(f"Reject {args.id}?")
    document = {"reasons": args.reason, "comment": args.comment}
    return _decide(portal, output, args, "reject", document)


def diff(portal: Portal, found: dict[str, Any]) -> list[str]:
    """The lines that differ from the version published last, and what has no lines to compare."""
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


def _coloured_lines(output: Output, sign: str, value: Any) -> list[str]:
    """The lines of a field's value, a list as one line, each with its sign."""
    text = ", ".join(value) if isinstance(value, list) else value or ""
    return [_coloured(output, printable(f"{sign}{line}")) for line in text.splitlines()]


def _decide(
    portal: Portal, output: Output, args: Namespace, what: str, document: dict[str, Any]
) -> int:
    """Send a decision on a version or, where a revision is given, on a listing change."""
    if args.revision is None:
        found = portal.post(f"/reviews/{segment(args.id)}/{what}", document)
        subject = f"{found['package_id']} {found['version']}"
    else:
        document["revision"] = args.revision
        found = portal.post(f"/listing-changes/{segment(args.id)}/{what}", document)
        subject = f"the listing of {found['package_id']}"
    output.result(found, printable(f"{subject}: {found['state']}"))
    return DONE
