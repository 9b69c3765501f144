"""The kinds of events: who gets each, its data, and its text in the portal and in mails."""

from typing import Any

from mosis.records import dataclass

ACCOUNT = "the account"
PUBLISHERS = "publishers and owners of the app"
OWNERS = "owners of the app"
REVIEWERS = "reviewers and administrators"

_KEYS = "/console/account#keys"
_MEMBERS = "/console/apps/{package_id}/members"
_ABOUT_MEMBERS = "/docs/API#members"  # for those who may not see that page any more
_VERSION = "/console/apps/{package_id}/versions/{version}"
_CRASHES = "/console/apps/{package_id}/quality#crashes"
_RESET = "/console/reset"


@dataclass(frozen=True)
class Failure:
    """The bad outcome of a kind: the fact `name` has this `value`. Only that is mailed then."""

    name: str
    value: Any
    text: str


@dataclass(frozen=True)
class Kind:
    """`text` is one sentence; `next` and `page` are the next step in a mail. Names in braces are
    fields or facts of the event; `{hours_s}` is the ending of a plural. The text up to the first
    semicolon or full stop is the subject of a mail. `data` are the names of its facts; an older
    event may lack some. `mailed`: unless the account has chosen otherwise."""

    recipients: str
    data: str
    text: str
    next: str
    page: str
    mailed: bool = True
    failure: Failure | None = None


KINDS: dict[str, Kind] = {
    "version.checked": Kind(
        PUBLISHERS,
        "state errors",
        "{package_id} {version} passed the checks.",
        "The findings, and how to fix each of them:",
        _VERSION + "#findings",
        failure=Failure(
            "state", "failed", "{package_id} {version} did not pass the checks; see its findings."
        ),
    ),
    "version.submitted": Kind(
        PUBLISHERS,
        "state",
        "{package_id} {version} waits for a reviewer.",
        "Its place in the queue, and a talk with the reviewers:",
        _VERSION,
        mailed=False,
    ),
    "version.approved": Kind(
        PUBLISHERS,
        "state comment",
        "{package_id} {version} was approved; publish it at any time, "
        "unless it is set to be published automatically.",
        "Publish it, to every device or to a share of them first:",
        _VERSION,
    ),
    "version.rejected": Kind(
        PUBLISHERS,
        "state reasons comment",
        "{package_id} {version} was rejected; the review says why.",
        "Change what the reviewer asks for and upload a new package. If something is unclear, ask:",
        _VERSION + "#conversation",
    ),
    "version.published": Kind(
        PUBLISHERS,
        "state",
        "{package_id} {version} is published.",
        "Its downloads and crashes:",
        "/console/apps/{package_id}/quality",
        mailed=False,
    ),
    "version.halted": Kind(
        PUBLISHERS,
        "state automatic sessions crashes devices crashed_devices crash_free_share crash_free_below"
        " previous p_value p_value_bound rollout_percent",
        "{package_id} {version} is halted: no further device is offered it.",
        "Publish it to go on, withdraw it, or upload the next version:",
        _VERSION,
        failure=Failure(
            "automatic",
            True,
            "{package_id} {version} was halted by its rollout plan: it crashes too often.",
        ),
    ),
    "version.rollout": Kind(
        PUBLISHERS,
        "percent step steps next_step_at",
        "{package_id} {version} is offered to {percent} % of the devices: step {step} of {steps} of its rollout plan.",
        "The plan, and how to stop it:",
        _VERSION,
        mailed=False,
    ),
    "version.yanked": Kind(
        PUBLISHERS,
        "state",
        "{package_id} {version} was withdrawn.",
        "Devices that have this version keep it. Bring it back, or upload the next version:",
        _VERSION,
        mailed=False,
    ),
    "review.message": Kind(
        PUBLISHERS + ", or the reviewer",
        "message sender text",
        "The {sender} wrote about {package_id} {version}.",
        "Read and answer it:",
        _VERSION + "#conversation",
    ),
    "review.waiting": Kind(
        REVIEWERS + " who are not members of the app",
        "review because",
        "{package_id} {version} waits for a review.",
        "Its permissions, findings and changes:",
        "/console/reviews/{review}",
        mailed=False,
    ),
    "review.digest": Kind(
        REVIEWERS,
        "waiting hours reviews",
        "Versions and listing changes that wait for a review: {waiting}; the oldest has waited for about {hours} hour{hours_s}.",
        "The review desk:",
        "/console/reviews",
    ),
    "listing.waiting": Kind(
        REVIEWERS + " who are not members of the app",
        "listing_change because",
        "A change of what the store shows of {package_id} waits for a review.",
        "The review desk:",
        "/console/reviews",
        mailed=False,
    ),
    "listing.approved": Kind(
        OWNERS,
        "fields comment",
        "The store shows your change of {package_id} now.",
        "The page of the app:",
        "/app/{package_id}",
    ),
    "listing.rejected": Kind(
        OWNERS,
        "fields reasons comment",
        "Your change of what the store shows of {package_id} was rejected.",
        "Change it and save it again:",
        "/console/apps/{package_id}",
    ),
    "listing.developer_changed": Kind(
        REVIEWERS + " who are not members of the app",
        "name account_id before before_id apps look_alike",
        "The store shows {package_id} under the developer {name} now, before under {before}.",
        "Published apps of that account: {apps}; a similar name in the store: {look_alike}. The page of the app:",
        "/app/{package_id}",
    ),
    "report.waiting": Kind(
        REVIEWERS + " who are not members of the app",
        "reason",
        "{package_id} was reported: {reason}.",
        "The reports:",
        "/console/reports",
    ),
    "app.suspended": Kind(
        OWNERS,
        "comment",
        "{package_id} was suspended: the store does not show it any more.",
        "What that means:",
        "/docs/API#abuse-reports",
    ),
    "app.unsuspended": Kind(
        OWNERS,
        "comment",
        "The suspension of {package_id} was lifted.",
        "The page of the app:",
        "/console/apps/{package_id}",
    ),
    "app.released": Kind(
        OWNERS,
        "sha256 by by_id with_api_key",
        "{by} released {package_id} {version}; it is offered to devices now.",
        "If nobody of you did that, halt it here, and revoke the credential that was used:",
        _VERSION,
    ),
    "app.member_invited": Kind(
        OWNERS,
        "email role",
        "{email} was invited to work on {package_id} as {role}.",
        "If that is not right, cancel the invitation:",
        _MEMBERS,
    ),
    "app.member_added": Kind(
        OWNERS,
        "name account_id role",
        "{name} works on {package_id} now, as {role}.",
        "If that is not right, remove this member:",
        _MEMBERS,
    ),
    "app.member_changed": Kind(
        OWNERS + ", and the member",
        "name account_id role",
        "{name} is {role} of {package_id} now.",
        "Who may do what:",
        _MEMBERS,
    ),
    "app.member_removed": Kind(
        OWNERS + ", and the member",
        "name account_id role",
        "{name} does not work on {package_id} any more.",
        "Who may do what:",
        _ABOUT_MEMBERS,
    ),
    "app.transfer_offered": Kind(
        OWNERS,
        "email",
        "The transfer of {package_id} was offered to {email}.",
        "If that is not right, cancel the offer:",
        _MEMBERS,
    ),
    "app.transferred": Kind(
        "all members of the app",
        "",
        "{package_id} belongs to another account now.",
        "What that means:",
        _ABOUT_MEMBERS,
    ),
    "app.publisher_added": Kind(
        OWNERS,
        "host issuer claims",
        "Builds at {host} may publish {package_id} now.",
        "If that is not right, remove it:",
        "/console/apps/{package_id}/trusted-publishers",
    ),
    "crash.new_group": Kind(
        PUBLISHERS,
        "group type message frame reopened_at",
        "{package_id} has a new kind of crash.",
        "Where it happened, how often, and in which versions:",
        _CRASHES,
        mailed=False,
    ),
    "crash.digest": Kind(
        PUBLISHERS,
        "new groups summary",
        "{package_id} has {new} new or returning kind{new_s} of crash: {summary}",
        "Where they happened, how often, and in which versions:",
        _CRASHES,
    ),
    "security.signed_in_elsewhere": Kind(
        ACCOUNT,
        "client network",
        "Somebody signed in to your account from the network {network} ({client}), which was not used for it before.",
        "If that was not you, set a new password. It ends every session:",
        _RESET,
    ),
    "security.token_reused": Kind(
        ACCOUNT,
        "client network",
        "A session of your account was ended; its refresh token was used twice, so somebody may have copied it.",
        "If you cannot explain that, set a new password. It ends every session:",
        _RESET,
    ),
    "security.key_reported": Kind(
        ACCOUNT,
        "name prefix",
        "The API key {name!r} ({prefix}...) was found in a public place and has been revoked.",
        "Make a new one, and keep it out of repositories:",
        _KEYS,
    ),
    "security.password_changed": Kind(
        ACCOUNT,
        "network",
        "Your password was changed and your other sessions were ended.",
        "If that was not you, set a new one with a link to this mailbox:",
        _RESET,
    ),
    "security.provider_linked": Kind(
        ACCOUNT,
        "provider network",
        "Sign-in with {provider} was added to your account, from the network {network}.",
        "If that was not you, set a new password, then unlink it (DELETE /v1/auth/oauth/{provider}):",
        _RESET,
    ),
    "security.second_factor_on": Kind(
        ACCOUNT,
        "network",
        "A second factor was turned on for your account, from the network {network}.",
        "If that was not you, set a new password, and ask the operator to turn it off:",
        _RESET,
    ),
    "security.second_factor_off": Kind(
        ACCOUNT,
        "network",
        "The second factor of your account was turned off.",
        "If that was not you, set a new password. It ends every session:",
        _RESET,
    ),
    "security.recovery_code_used": Kind(
        ACCOUNT,
        "network left",
        "A recovery code was used to sign in, from the network {network}; codes left: {left}.",
        "When few are left, make new ones:",
        "/console/second-factor",
    ),
    "security.second_factor_failed": Kind(
        ACCOUNT,
        "network client",
        "Somebody who knows your password gave a wrong code of your second factor, from the network {network} ({client}).",
        "If that was not you, set a new password:",
        _RESET,
    ),
    "security.email_changed": Kind(
        ACCOUNT,
        "network",
        "Your account has a new e-mail address, set from the network {network}.",
        "If that was not you, open the link in the mail that the old address got. Your account:",
        "/console/account",
    ),
    "security.email_change_undone": Kind(
        ACCOUNT,
        "network",
        "Your account has its old e-mail address again; all its sessions and keys were revoked.",
        "Set a new password to sign in:",
        _RESET,
    ),
    "key.expiring": Kind(
        ACCOUNT,
        "name prefix expires_at",
        "The API key {name!r} ({prefix}...) expires at {expires_at}.",
        "Make a new one before that, and put it where the old one is used:",
        _KEYS,
    ),
    "operator.drill": Kind(
        "administrators",
        "passed seconds size_bytes newest_change lost_rows packages_checked packages findings",
        "The restore drill passed in {seconds} s: {lost_rows} rows behind, {packages_checked} packages hashed.",
        "What to do:",
        "/docs/OPERATIONS#drill",
        failure=Failure(
            "passed",
            False,
            "The restore drill failed; the backup could not be restored: {findings}.",
        ),
    ),
    "webhook.switched_off": Kind(
        ACCOUNT,
        "webhook_id host why",
        "The webhook to {host} was switched off: {why}.",
        "When the receiver works, switch it on again:",
        "/console/account#webhooks",
    ),
}
