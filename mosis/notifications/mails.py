"""Texts of notifications: one sentence in the portal; in a mail also the reasons and the next step."""

import re
from string import Formatter
from typing import Any
from urllib.parse import quote

from mosis.clock import for_people, is_time
from mosis.context import Context
from mosis.events import KINDS, Event
from mosis.events.kinds import Failure
from mosis.outbound.mail import paragraph
from mosis.validation.names import one_line

SETTINGS = "/console/account#mail"  # where readers of mails choose which they get
SUBJECT_CHARACTERS = 150


class _Facts(dict[str, Any]):
    """Facts for a text; those that an older event does not have become empty."""

    def __missing__(self, name: str) -> str:
        return "?"


def text(event: Event) -> str:
    """The event as a sentence in one line: whatever others have written stays in it."""
    sentence = (_failure(event) or KINDS[event.kind]).text
    known = _Facts(package_id=event.package_id, version=event.version)
    for name, value in event.facts.items():
        known[name] = _words(value)
        if isinstance(value, int):
            known[f"{name}_s"] = _plural(value)
    return one_line(sentence.format_map(known))


def _words(value: Any) -> Any:
    """A fact as a reader expects it."""
    if isinstance(value, str) and is_time(value):
        return for_people(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _headline(event: Event) -> str:
    """The sentence, without what the rest of the mail lists in detail."""
    whole = text(event)
    return whole.partition(":")[0] + "." if event.kind == "crash.digest" else whole


def _subject(event: Event) -> str:
    """The first part of the sentence."""
    return re.split(r"; |\. ", _headline(event))[0].rstrip(".")[:SUBJECT_CHARACTERS]


def compose(env: Context, events: list[Event]) -> tuple[str, str]:
    """Subject and text of one mail about one or several events."""
    store = env.config.store_name
    if len(events) == 1:
        event = events[0]
        subject = _subject(event)
        body = [paragraph(_headline(event)), *_why(event), _next(env, event)]
        body.append(paragraph(f"This happened on {for_people(event.created_at)}."))
    else:
        subject = f"{len(events)} notifications"
        body = [
            paragraph(
                "So much happened within an hour that this mail has all of it, the oldest first."
            )
        ]
        for each in events:
            body.append(paragraph(f"{for_people(each.created_at)}\n{text(each)}"))
        body.append(f"The same in the portal:\n{env.url('/console/notifications')}")
    return f"{subject} - {store}", "\n\n".join([*body, _footer(env)]) + "\n"


def _why(event: Event) -> list[str]:
    """Details that the sentence leaves out: reasons, comment, findings, crash message and frame."""
    facts, parts = event.facts, []
    if facts.get("reasons"):
        parts.append(paragraph(one_line(f"Reasons: {', '.join(facts['reasons'])}.")))
    for name, title in (("comment", "The reviewer's comment:"), ("text", "The message:")):
        if facts.get(name):
            parts.append(f"{title}\n{paragraph(_lines(facts[name]), '  ')}")
    for each in facts.get("errors", ()):
        at = ":".join(str(each[name]) for name in ("path", "line") if each[name] is not None)
        parts.append(paragraph(f"{at or 'package'}: {each['detail']} ({each['code']})", "  "))
    if event.kind == "version.halted" and _failure(event):
        parts += [paragraph(line, "  ") for line in _health(facts)]
    for each in facts.get("reviews", ()):
        since = for_people(each["submitted_at"])
        what = each.get("version") or "(what the store shows)"
        parts.append(paragraph(f"{each['package_id']} {what}, since {since}", "  "))
    if event.kind == "crash.new_group":
        parts.append(_crash(facts))
    if event.kind == "crash.digest":
        parts += [_crash(each) for each in facts.get("groups", ())[:5]]
    return parts


def _health(facts: dict[str, Any]) -> list[str]:
    """The figures of an automatic halt."""

    def line(name: str, found: dict[str, Any]) -> str:
        share = found["crash_free_share"]
        shown = "no session" if share is None else f"{share:.2%} of the sessions without a crash"
        return (
            f"{name}: {shown} ({found['crashes']} crashes in {found['sessions']} sessions,"
            f" {found['crashed_devices']} of {found['devices']} devices)"
        )

    lines = [line("This version", facts)]
    if facts.get("previous"):
        lines.append(line(f"Version {facts['previous']['version']}", facts["previous"]))
    wanted = f"The plan asks for {facts['crash_free_below']:.2%}."
    chance = f"Probability of so many crashes by chance: {facts['p_value']:.2g}."
    return [*lines, f"{wanted} {chance} It was offered to {facts['rollout_percent']:g} %."]


def _crash(group: dict[str, Any]) -> str:
    lines = [f"{group.get('type', '?')}: {group.get('message', '?')}"]
    if group.get("frame"):
        lines.append(f"at {group['frame']}")
    if group.get("count"):
        versions = ", ".join(group.get("versions", ())[:5])
        reports = f"{group['count']} report{_plural(group['count'])}"
        lines.append(reports + (f", versions {versions}" if versions else ""))
    return paragraph("\n".join(_lines(line[:300]) for line in lines), "  ")


def _next(env: Context, event: Event) -> str:
    kind = KINDS[event.kind]
    known = _Facts(event.facts, package_id=event.package_id, version=event.version)
    page = kind.page
    if event.kind == "review.message" and event.facts.get("sender") == "developer":
        page = "/console/reviews"  # it goes to the reviewer
    named = [name for _, name, _, _ in Formatter().parse(page) if name]
    address = page.format_map({name: quote(str(known[name]), safe="") for name in named})
    return f"{paragraph(one_line(kind.next.format_map(known)))}\n{env.url(address)}"


def _footer(env: Context) -> str:
    return (
        f"-- \n{env.config.store_name}, {env.config.base_url}\n"
        f"Choose which mails you get:\n{env.url(SETTINGS)}"
    )


def _lines(value: str) -> str:
    """Text of others without control characters, so that it cannot imitate other parts of the mail."""
    return "".join(each for each in value if each.isprintable() or each == "\n")


def is_success(event: Event) -> bool:
    """Whether the event is a success of a kind that is only mailed on failure."""
    return KINDS[event.kind].failure is not None and _failure(event) is None


def _failure(event: Event) -> Failure | None:
    """The bad outcome of the event's kind, if it has two and the event is that one."""
    failure = KINDS[event.kind].failure
    return failure if failure and event.facts.get(failure.name) == failure.value else None
