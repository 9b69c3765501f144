"""`status`, `halt`, `rollback`, `yank`, `crashes`, `events`: released apps and their state."""

import contextlib
import json
import sys
import time
from argparse import Namespace
from typing import Any

from mosis.client.api import Portal, Problem, segment
from mosis.client.output import DONE, USAGE, Output, Stop, printable, table
from mosis.client.publish import PAUSE_SECONDS, show_outcome, watch

MOVING = ("checking", "ready", "in_review")


def status(portal: Portal, output: Output, args: Namespace) -> int:
    """All apps, or the versions of one with its queue position, crashes and downloads."""
    if not args.app:
        if args.watch:
            raise Stop("--watch needs the APP.", USAGE)
        rows = list(portal.pages("/apps", "apps", limit=100))
        of_app = ("package_id", "name", "status", "latest_version")
        shown = [tuple(each[name] for name in of_app) for each in rows]
        output.result({"apps": rows}, *table(shown, "APP", "NAME", "STATUS", "PUBLISHED"))
        return DONE
    at = f"/apps/{segment(args.app)}"
    app, versions = portal.get(at), portal.get(f"{at}/versions", limit=20)["versions"]
    if args.watch and versions:
        row = next((each for each in versions if each["state"] in MOVING), versions[0])
        address = f"{at}/versions/{row['id']}"
        return show_outcome(
            output, watch(portal, output, address, MOVING, "{version}: {state} ...")
        )
    figures = _figures(portal, at, args.app)
    names = ("version", "channel", "state", "rollout_percent", "next_step")
    listed = [(*(each[name] for name in names), _queue(each)) for each in versions]
    lines = [f"{app['package_id']}: {printable(app['name'])}, {app['status']}"]
    if app["pending"]:
        lines.append(f"waits for a reviewer: {', '.join(sorted(app['pending']['fields']))}")
    if figures["crash_free_share"] is not None:
        lines.append(f"sessions without a crash, last 30 days: {figures['crash_free_share']:.2%}")
    if figures["downloads"] is not None:
        lines.append(f"downloads: {figures['downloads']}")
    lines += table(listed, "VERSION", "CHANNEL", "STATE", "SHARE", "NEXT", "QUEUE")
    output.result({"app": app, "versions": versions} | figures, *lines)
    return DONE


def halt(portal: Portal, output: Output, args: Namespace) -> int:
    """Offer a version to no further device."""
    output.confirm(f"Halt {args.app} {args.version}? Devices that have installed it keep it.")
    return show_version(output, portal.post(f"{version_path(args)}/halt"))


def rollback(portal: Portal, output: Output, args: Namespace) -> int:
    """Offer an older version again, and halt all newer ones of its channel."""
    output.confirm(f"Go back to {args.app} {args.version}, and halt all newer versions?")
    return show_version(
        output, portal.post(f"{version_path(args)}/rollback", {"reason": args.reason})
    )


def yank(portal: Portal, output: Output, args: Namespace) -> int:
    """Take a version out of the store."""
    output.confirm(f"Yank {args.app} {args.version}? It can no longer be downloaded.")
    return show_version(output, portal.post(f"{version_path(args)}/yank", {"reason": args.reason}))


def crashes(portal: Portal, output: Output, args: Namespace) -> int:
    """The groups of crashes of an app, or one group with a sample."""
    at = f"/apps/{segment(args.app)}/crashes"
    if args.group:
        group = portal.get(f"{at}/{segment(args.group)}")
        sample = (group.get("samples") or [{}])[-1]
        lines = [
            f"{group['type']}: {group['message']}",
            f"{group['count']} reports, {group['state']}",
        ]
        lines += [str(sample.get("stack_trace") or "")]
        output.result(group, *map(printable, lines))
        return DONE
    rows = list(portal.pages(at, "crashes", limit=100, state=args.state))
    names = ("id", "count", "devices", "last_seen")
    shown = [
        (*(each[name] for name in names), f"{each['type']}: {each['message']}"[:100])
        for each in rows
    ]
    output.result({"crashes": rows}, *table(shown, "ID", "REPORTS", "DEVICES", "LAST", "CRASH"))
    return DONE


def events(portal: Portal, output: Output, args: Namespace) -> int:
    """The account's events, oldest first; with `--follow` as they happen, behind the last one."""
    names = ("events", portal.url, portal.get("/auth/me")["id"])
    after = args.after or (portal.config.read_state(*names).get("after") if args.follow else None)
    while True:
        asked = time.monotonic()
        try:
            answer = portal.get("/events", after=after, limit=100, wait=20 if args.follow else None)
        except Problem as problem:
            if problem.problem != "bad_cursor" or args.after:
                raise
            output.note("the last event shown no longer exists; starting with the oldest")
            after = None
            continue
        for each in answer["events"]:
            _show_event(output, each)
            after = each["id"]
            if args.follow:
                portal.config.write_state({"after": after}, *names)
        if not answer["events"] and not args.follow:
            return DONE
        if time.monotonic() - asked < PAUSE_SECONDS and args.follow:
            time.sleep(PAUSE_SECONDS)


def _show_event(output: Output, event: dict[str, Any]) -> None:
    if output.as_json:
        print(json.dumps(event, ensure_ascii=False), flush=True)
    else:
        app = (event.get("app") or {}).get("package_id") or ""
        output.result(
            event, printable(f"{event['created_at']}  {event['kind']}  {app}  {event['text']}")
        )
    sys.stdout.flush()


def _figures(portal: Portal, at: str, package_id: str) -> dict[str, Any]:
    """Figures of an app from telemetry and store; None if there are none."""
    found: dict[str, Any] = {"crash_free_share": None, "downloads": None}
    with contextlib.suppress(Problem):
        found["crash_free_share"] = portal.get(f"{at}/analytics")["totals"]["crash_free_share"]
    with contextlib.suppress(Problem):
        found["downloads"] = portal.get(f"/store/apps/{segment(package_id)}", public=True)[
            "downloads"
        ]
    return found


def _queue(version: dict[str, Any]) -> Any:
    return (version.get("review") or {}).get("position")


def version_path(args: Namespace) -> str:
    """The address of the version that the command names."""
    return f"/apps/{segment(args.app)}/versions/{segment(args.version)}"


def show_version(output: Output, version: dict[str, Any]) -> int:
    """Print the state of a version and what happens next; the exit code."""
    title = f"{version['package_id']} {version['version']}"
    output.result(version, printable(f"{title}: {version['state']}. {version['next_step']}"))
    return DONE
