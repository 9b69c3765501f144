"""Texts of notifications: one sentence in the portal; in a mail also the reasons and the next step."""

from typing import Any

from mosis.clock import for_people, is_time
from mosis.context import Context
from mosis.events import Event
from mosis.outbound.mail import paragraph

SETTINGS = "/console/account#mail"  # where readers of mails choose which they get
SUBJECT_CHARACTERS = 150

# One sentence per kind. Names in braces are fields or facts of the event.
TEXTS = {
    "version.checked": "{package_id} {version} passed the checks.",
    "version.submitted": "{package_id} {version} waits for a reviewer.",
    "version.approved": (
        "{package_id} {version} was approved; publish it at any time, "
        "unless it is set to be published automatically."
    ),
    "version.rejected": "{package_id} {version} was rejected; the review says why.",
    "version.published": "{package_id} {version} is published.",
    "version.halted": "{package_id} {version} is halted: no further device is offered it.",
    "version.rollout": "{package_id} {version} is offered to {percent} % of the devices: step {step} of {steps} of its rollout"
    " plan.",
    "version.yanked": "{package_id} {version} was withdrawn.",
    "review.message": "The {sender} wrote about {package_id} {version}.",
    "review.waiting": "{package_id} {version} waits for a review.",
    "review.digest": "{waiting} version(s) or listing change(s) wait for a review, the oldest for about {hours} hour(s).",
    "listing.waiting": "A change of what the store shows of {package_id} waits for a review.",
    "listing.approved": "The store shows your change of {package_id} now.",
    "listing.rejected": "Your change of what the store shows of {package_id} was rejected.",
    "app.released": "{package_id} {version} is offered to devices. It was released by {by}.",
    "app.member_invited": "{email} was invited to work on {package_id} as {role}.",
    "app.member_added": "{name} works on {package_id} now, as {role}.",
    "app.member_changed": "{name} is {role} of {package_id} now.",
    "app.member_removed": "{name} does not work on {package_id} any more.",
    "app.transfer_offered": "The transfer of {package_id} was offered to {email}.",
    "app.publisher_added": "Builds at {host} may publish {package_id} now.",
    "app.transferred": "{package_id} belongs to another account now.",
    "crash.new_group": "{package_id} has a new kind of crash.",
    "crash.digest": "{package_id} has {new} new or returning kind(s) of crashes: {summary}",
    "security.signed_in_elsewhere": "A sign-in to your account from {network} ({client}), which was never used for it before.",
    "security.token_reused": "A refresh token was used twice, so the session was ended. If it was not you, change your password.",
    "security.key_reported": (
        "The API key {name!r} ({prefix}...) was found in a public place and has been revoked."
    ),
    "security.password_changed": "Your password was changed and your other sessions were ended.",
    "security.provider_linked": "{provider} was linked to your account from {network}. If it was not you, unlink it.",
    "security.email_changed": "Your account has a new e-mail address, set from {network}.",
    "security.email_change_undone": "Your account has its old e-mail address again; all its sessions and keys were revoked.",
    "security.second_factor_on": "A second factor was turned on for your account, from {network}.",
    "security.second_factor_off": "The second factor of your account was turned off.",
    "security.recovery_code_used": "A recovery code was used to sign in from {network}; {left} are left.",
    "security.second_factor_failed": "Somebody who knows your password gave a wrong second-factor code, from {network} ({client}).",
    "key.expiring": "The API key {name!r} ({prefix}...) expires at {expires_at}.",
    "operator.drill": "The restore drill passed in {seconds} s: {lost_rows} rows behind, {packages_checked} packages hashed.",
    "webhook.switched_off": (
        "The webhook to {host} was switched off: {why}. Switch it on again when the receiver works."
    ),
}

FAILED = {
    "version.halted": "{package_id} {version} was halted by its rollout plan: it crashes too often.",
    "version.checked": "The checks of {package_id} {version} found errors; see its findings.",
    "operator.drill": "The restore drill FAILED; the backup could not be restored: {findings}.",
}


class _Facts(dict[str, Any]):
    """Facts for a text; those that an older event does not have become empty."""

    def __missing__(self, name: str) -> str:
        return "?"


def text(event: Event) -> str:
    """The event as a sentence."""
    sentence = (FAILED if _failed(event) else TEXTS)[event.kind]
    facts = {
        name: for_people(value) if isinstance(value, str) and is_time(value) else value
        for name, value in event.facts.items()
    }
    known = _Facts(facts, package_id=event.package_id, version=event.version)
    return sentence.format_map(known)


def _headline(event: Event) -> str:
    """The sentence, without what the rest of the mail lists in detail."""
    whole = text(event)
    return whole.partition(":")[0] + "." if event.kind == "crash.digest" else whole


# The next step, and the page for it. Braces as above.
_KEYS = "/docs/COOKBOOK#an-api-key-for-a-build-server"
_MEMBERS = "/docs/API#members"
NEXT = {
    "version.checked": ("What each finding means, and how to fix it:", "/docs/PACKAGES#findings"),
    "version.submitted": ("Your apps:", "/console/"),
    "version.approved": ("How to publish it:", "/docs/COOKBOOK#publish"),
    "version.rejected": (
        "Change what the reviewer asks for and upload a package again. Questions can be asked in the review:",
        "/docs/API#review-desk",
    ),
    "version.published": ("The page of the app:", "/app/{package_id}"),
    "version.halted": (
        "Publish it to go on, yank it, or publish the next version:",
        "/docs/API#versions",
    ),
    "version.rollout": ("The rollout plan:", "/docs/API#versions"),
    "version.yanked": (
        "Devices that have this version keep it. Unyank it or publish the next version:",
        "/docs/API#versions",
    ),
    "review.message": ("How to answer in the review:", "/docs/API#review-desk"),
    "review.waiting": ("The review desk:", "/console/reviews"),
    "review.digest": ("The review desk:", "/console/reviews"),
    "listing.waiting": ("The review desk:", "/console/reviews"),
    "listing.approved": ("The page of the app:", "/app/{package_id}"),
    "listing.rejected": ("Change it and save it again:", "/console/apps/{package_id}"),
    "app.released": (
        "If it was not you or a colleague, halt it, and revoke the credential that was used:",
        "/docs/API#versions",
    ),
    "app.member_invited": ("If that is not right, cancel the invitation:", _MEMBERS),
    "app.member_added": ("If that is not right, remove this member:", _MEMBERS),
    "app.member_changed": ("Who may do what:", _MEMBERS),
    "app.member_removed": ("Who may do what:", _MEMBERS),
    "app.transfer_offered": ("If that is not right, cancel the offer:", _MEMBERS),
    "app.publisher_added": ("If that is not right, remove it:", "/docs/API#trusted-publishers"),
    "app.transferred": ("What that means:", _MEMBERS),
    "crash.new_group": (
        "GET /v1/apps/{package_id}/crashes has the reports:",
        "/docs/API#telemetry",
    ),
    "crash.digest": ("GET /v1/apps/{package_id}/crashes has the reports:", "/docs/API#telemetry"),
    "security.signed_in_elsewhere": (
        "If it was not you, set a new password, which ends every session:",
        "/console/reset",
    ),
    "security.token_reused": ("Set a new password:", "/console/reset"),
    "security.key_reported": ("Make a new key, and keep it out of repositories:", _KEYS),
    "security.password_changed": ("If it was not you, set a new password:", "/console/reset"),
    "security.provider_linked": ("Set a new password:", "/console/reset"),
    "security.email_changed": (
        "If it was not you, use the link in the mail that the old address got:",
        "/console/reset",
    ),
    "security.email_change_undone": ("Set a new password:", "/console/reset"),
    "security.second_factor_on": (
        "If it was not you, set a new password and ask the operator:",
        "/console/reset",
    ),
    "security.second_factor_off": ("If it was not you, set a new password:", "/console/reset"),
    "security.recovery_code_used": ("Make new ones when few are left:", "/console/second-factor"),
    "security.second_factor_failed": ("If it was not you, set a new password:", "/console/reset"),
    "key.expiring": ("Make a new key before that:", _KEYS),
    "operator.drill": ("What to do:", "/docs/OPERATIONS#drill"),
    "webhook.switched_off": ("How webhooks are delivered:", "/docs/API#webhooks"),
}


def compose(env: Context, events: list[Event]) -> tuple[str, str]:
    """Subject and text of one mail about one or several events."""
    store = env.config.store_name
    if len(events) == 1:
        event = events[0]
        subject = _headline(event).rstrip(".")[:SUBJECT_CHARACTERS]
        body = [paragraph(_headline(event)), *_why(event), paragraph(for_people(event.created_at))]
        body.append(_next(env, event))
    else:
        subject = f"{len(events)} notifications"
        body = [
            paragraph(
                "There were many notifications within an hour; this message contains all of them."
            )
        ]
        for each in events:
            body.append(paragraph(f"{for_people(each.created_at)}\n{text(each)}"))
        body.append(f"All of them:\n{env.url(SETTINGS)}")
    return f"{subject} - {store}", "\n\n".join([*body, _footer(env)]) + "\n"


def _why(event: Event) -> list[str]:
    """Details that the sentence leaves out: reasons, comment, findings, crash message and first
    frame."""
    facts, parts = event.facts, []
    if facts.get("reasons"):
        parts.append(paragraph(f"Reasons: {', '.join(facts['reasons'])}."))
    for name, title in (("comment", "The reviewer's comment:"), ("text", "The message:")):
        if facts.get(name):
            parts.append(f"{title}\n{paragraph(_lines(facts[name]), '  ')}")
    for each in facts.get("errors", ()):
        at = ":".join(str(each[name]) for name in ("path", "line") if each[name] is not None)
        parts.append(paragraph(f"{at or 'package'}: {each['detail']} ({each['code']})", "  "))
    if event.kind == "version.halted" and _failed(event):
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
        lines.append(f"{group['count']} report(s)" + (f", versions {versions}" if versions else ""))
    return paragraph("\n".join(_lines(line[:300]) for line in lines), "  ")


def _next(env: Context, event: Event) -> str:
    sentence, path = NEXT[event.kind]
    known = _Facts(event.facts, package_id=event.package_id, version=event.version)
    return paragraph(sentence.format_map(known)) + f"\n{env.url(path.format_map(known))}"


def _footer(env: Context) -> str:
    return (
        f"-- \n{env.config.store_name}\n{env.config.base_url}\n\n"
        f"Choose which mails you get:\n{env.url(SETTINGS)}"
    )


def _lines(value: str) -> str:
    """Text of others without control characters, so that it cannot imitate other parts of the mail."""
    return "".join(each for each in value if each.isprintable() or each == "\n")


def is_good_news(event: Event) -> bool:
    """Whether the event is a success of a kind that is only mailed on failure."""
    return event.kind in FAILED and not _failed(event)


def _failed(event: Event) -> bool:
    facts = event.facts
    return (
        (event.kind == "version.checked" and facts.get("state") == "failed")
        or (event.kind == "version.halted" and bool(facts.get("automatic")))
        or (event.kind == "operator.drill" and not facts.get("passed"))
    )
