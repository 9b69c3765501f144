"""`rollout` and `downloads`: the share of the devices that are offered a version, by hand or by a plan,
and how often an app was downloaded."""

import argparse
import json
from argparse import Namespace
from typing import Any

from mosis.client.api import Body, Portal, segment
from mosis.client.output import DONE, USAGE, Output, Stop, printable, table
from mosis.client.status import show_version, version_path


def percent(text: str) -> float:
    """A share of the devices on the command line."""
    try:
        value = float(text.rstrip("%"))
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 100:
        raise argparse.ArgumentTypeError("this must be a share in percent, from 0.1 to 100")
    return value


def crash_free(text: str) -> float:
    """A share of the sessions in percent on the command line, as a number from 0 to 1."""
    try:
        value = float(text.rstrip("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(
            "this must be a share of the sessions in percent, such as 99.5"
        )
    return round(value / 100, 9)


def steps(text: str) -> list[dict[str, float]]:
    """The steps of a plan on the command line: `1,5@24,20@72,100@120h`."""
    found = []
    for number, part in enumerate(text.split(",")):
        share, given, hours = part.strip().partition("@")
        try:
            after = float(hours.rstrip("h")) if given or number else 0.0
        except ValueError:
            after = -1.0
        if not 0 <= after <= 8760:
            raise argparse.ArgumentTypeError(
                "this must be steps of a percentage and hours since the publication, such as 1,5@24,100@72"
            )
        found.append({"percent": percent(share), "after_hours": after})
    return found


def rollout(portal: Portal, output: Output, args: Namespace) -> int:
    """Offer a version to a larger share, by hand or by a plan; without either, show its plan."""
    chosen = [args.percent is not None, args.plan is not None, args.no_plan]
    if sum(chosen) > 1:
        raise Stop("PERCENT, --plan and --no-plan exclude each other.", USAGE)
    if args.halt_below is None and (args.sessions is not None or args.compare is not None):
        raise Stop("--sessions and --compare belong to --halt-below.", USAGE)
    if args.halt_below is not None and args.plan is None:
        raise Stop("--halt-below belongs to --plan.", USAGE)
    if args.version is None:
        return _default_plan(portal, output, args)
    if args.percent is not None:
        return _by_hand(portal, output, args)
    address = f"{version_path(args)}/rollout-plan"
    if args.no_plan:
        output.confirm(f"Remove the rollout plan of {args.app} {args.version}?")
        portal.delete(address)
        return show_version(output, portal.get(version_path(args)))
    if args.plan is None:
        plan = portal.get(address)
        output.result(plan, *map(printable, _lines(plan)))
        return DONE
    return _by_plan(portal, output, args, address)


def downloads(portal: Portal, output: Output, args: Namespace) -> int:
    """How often an app was downloaded."""
    by = args.by or "day"
    query = {"from": getattr(args, "from"), "to": args.to, "by": by}
    found = portal.get(f"/apps/{segment(args.app)}/downloads", **query)
    names = found["by"]
    rows = [(*(row[name] for name in names), row["count"]) for row in found["downloads"]]
    lines = [f"{args.app}: {found['total']} downloads, {found['from']} to {found['to']}"]
    lines += table(rows, *(name.upper() for name in names), "DOWNLOADS") if rows else []
    output.result(found, *lines)
    return DONE


def _by_hand(portal: Portal, output: Output, args: Namespace) -> int:
    at = version_path(args)
    if portal.get(at)["state"] in ("approved", "halted"):
        output.confirm(f"Publish {args.app} {args.version} for {args.percent:g} % of the devices?")
        return show_version(output, portal.post(f"{at}/publish", {"rollout_percent": args.percent}))
    output.confirm(
        f"Offer {args.app} {args.version} to {args.percent:g} % of the devices? The share only grows."
    )
    return show_version(output, portal.post(f"{at}/rollout", {"percent": args.percent}))


def _by_plan(portal: Portal, output: Output, args: Namespace, address: str) -> int:
    """Set the plan; an approved or halted version is published with it."""
    plan, at = _plan(args), version_path(args)
    publishes = portal.get(at)["state"] in ("approved", "halted")
    what = "Publish" if publishes else "Offer"
    output.confirm(f"{what} {args.app} {args.version} by this plan: {_words(plan['steps'])}?")
    body = Body(json.dumps(plan).encode(), "application/json")
    portal.send("PUT", address, body)
    if publishes:
        portal.post(f"{at}/publish")
    return show_version(output, portal.get(at))


def _default_plan(portal: Portal, output: Output, args: Namespace) -> int:
    """Show, set or remove the plan of versions that have none of their own."""
    at = f"/apps/{segment(args.app)}"
    if args.plan is not None or args.no_plan:
        plan = None if args.no_plan else _plan(args)
        output.confirm(f"Change the rollout plan of all new versions of {args.app}?")
        body = Body(json.dumps({"rollout_plan": plan}).encode(), "application/json")
        portal.send("PATCH", at, body)
    elif args.percent is not None:
        raise Stop("PERCENT needs the VERSION.", USAGE)
    found = portal.get(at)["rollout_plan"]
    lines = ["no rollout plan"] if found is None else _lines(found)
    output.result({"rollout_plan": found}, *map(printable, lines))
    return DONE


def _plan(args: Namespace) -> dict[str, Any]:
    plan: dict[str, Any] = {"steps": args.plan}
    if args.halt_below is not None:
        plan["halt_when"] = {"crash_free_below": args.halt_below}
        if args.sessions is not None:
            plan["halt_when"]["sessions_at_least"] = args.sessions
        if args.compare is not None:
            compared = "previous" if args.compare == "previous" else None
            plan["halt_when"]["compared_with"] = compared
    return plan


def _lines(plan: dict[str, Any]) -> list[str]:
    """A plan as text."""
    lines = [_words(plan["steps"])]
    if "state" in plan:
        taken = f"{plan['steps_taken']} of {len(plan['steps'])} steps"
        following = f", next at {plan['next_step_at']}" if plan["next_step_at"] else ""
        lines.append(f"{plan['state']}: {taken}{following}")
    if plan.get("halt_when"):
        wanted = plan["halt_when"]
        lines.append(
            f"halts below {wanted['crash_free_below']:.4g} of the sessions without a crash"
        )
    figures = plan.get("figures")
    for name, found in (("this version", figures), ("before", (figures or {}).get("previous"))):
        if found:
            lines.append(f"{name}: {found['crashes']} crashes in {found['sessions']} sessions")
    if plan.get("halted"):
        halted = plan["halted"]
        lines.append(
            f"halted at {halted['at']}: {halted['crashes']} crashes in {halted['sessions']} sessions"
        )
    return lines


def _words(found: list[dict[str, Any]]) -> str:
    return ", ".join(f"{step['percent']:g} % after {step['after_hours']:g} h" for step in found)
