"""Members of an app, invitations and transfers, over HTTP."""

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Conflict
from mosis.people import accounts
from mosis.publishing import apps, invitations, members
from mosis.publishing.invitations import Invitation
from mosis.publishing.members import ROLES, Member
from mosis.validation import Json, Schema, choice
from mosis.web import apps as shown_apps
from mosis.web.apps import APP
from mosis.web.auth import EMAIL
from mosis.web.request import created, listed, read_page, require_match, spend
from mosis.web.schemas import list_of, one_of, operation, shape, shown

ROLE = choice(ROLES, required=True)
INVITE: Schema = {"email": EMAIL, "role": ROLE}
CHANGE: Schema = {"role": ROLE}
OFFER: Schema = {"email": EMAIL}

MEMBER = shape("Member", "id name email role suspended:bool created_at", role=one_of(*ROLES))
INVITATION = shape(
    "AppInvitation",
    "id email role transfer:bool invited_by:id created_at expires_at",
    role=one_of(*ROLES),
)
RECEIVED = shape(
    "ReceivedInvitation",
    "package_id app_name role transfer:bool invited_by expires_at",
    role=one_of(*ROLES),
)
REFUSED = "suspended already_member limit_reached email_not_verified"


def routes(app: bottle.Bottle) -> None:
    app.get("/apps/<app>/members", callback=index, scope="apps:read")
    app.post("/apps/<app>/members", callback=invite, scope="account", idempotent="yes")
    app.get("/apps/<app>/members/<member>", callback=show, scope="apps:read")
    app.route("/apps/<app>/members/<member>", method="PATCH", callback=change, scope="account")
    app.delete("/apps/<app>/members/<member>", callback=remove, scope="account")
    app.get("/apps/<app>/invitations", callback=invited, scope="apps:read")
    app.get("/apps/<app>/invitations/<invitation>", callback=show_invitation, scope="apps:read")
    app.delete("/apps/<app>/invitations/<invitation>", callback=cancel, scope="account")
    app.post("/apps/<app>/transfer", callback=offer, scope="account", idempotent="yes")
    app.get("/invitations/<token>", callback=received, scope="account")
    app.post("/invitations/<token>/accept", callback=accept, scope="account", idempotent="yes")


@operation(list_of("members", MEMBER))
def index(db: Connection, caller: Caller, app: str) -> Json:
    """The members of an app, in the order of their ids."""
    found = apps.with_role(db, caller, app, "viewer")
    page = members.index(db, found.id, read_page(str))
    return listed("members", page, [public(member) for member in page.rows])


@operation({201: INVITATION}, body=INVITE, refuses=REFUSED)
def invite(env: Context, db: Connection, caller: Caller, app: str, body: Json) -> Json:
    """Invite the owner of this mailbox to work on the app; a link to accept is mailed."""
    apps.with_role(db, caller, app, "owner")
    check_mail(env, db, caller, body["email"])
    with apps.changing(db, caller, app, "owner") as found:
        sent = invitations.send(db, caller, found, body["email"], body["role"])
        return created(
            public_invitation(sent), f"/v1/apps/{found.package_id}/invitations/{sent.id}"
        )


@operation(MEMBER)
def show(db: Connection, caller: Caller, app: str, member: str) -> Json:
    """One member."""
    found = apps.with_role(db, caller, app, "viewer")
    return public(members.get(db, found.id, member))


@operation(MEMBER, body=CHANGE, matches=True, refuses="last_owner suspended")
def change(db: Connection, caller: Caller, app: str, member: str, body: Json) -> Json:
    """Give a member another role."""
    role = body["role"]
    with apps.changing(db, caller, app, "owner") as found:
        one = members.get(db, found.id, member)
        require_match(lambda: public(one))
        return public(members.change(db, caller, one, role))


@operation(matches=True, refuses="last_owner suspended")
def remove(db: Connection, caller: Caller, app: str, member: str) -> None:
    """Remove a member from the app; members can remove themselves."""
    with db.write():
        leaves = member == caller.account
        found = apps.with_role(db, caller, app, "viewer" if leaves else "owner")
        one = members.get(db, found.id, member)
        require_match(lambda: public(one))
        members.remove(db, caller, one)


@operation(list_of("invitations", INVITATION))
def invited(db: Connection, caller: Caller, app: str) -> Json:
    """The open invitations and transfer offers of an app, newest first."""
    found = apps.with_role(db, caller, app, "owner")
    page = invitations.index(db, found, read_page(str))
    return listed("invitations", page, [public_invitation(each) for each in page.rows])


@operation(INVITATION)
def show_invitation(db: Connection, caller: Caller, app: str, invitation: str) -> Json:
    """One open invitation or transfer offer."""
    found = apps.with_role(db, caller, app, "owner")
    return public_invitation(invitations.get(db, found, invitation))


@operation(matches=True)
def cancel(db: Connection, caller: Caller, app: str, invitation: str) -> None:
    """Cancel an open invitation or transfer offer; its link becomes invalid."""
    with apps.changing(db, caller, app, "owner") as found:
        one = invitations.get(db, found, invitation)
        require_match(lambda: public_invitation(one))
        invitations.cancel(db, caller, one)


@operation(
    {201: INVITATION},
    body=OFFER,
    refuses="suspended invalid_state limit_reached email_not_verified",
)
def offer(env: Context, db: Connection, caller: Caller, app: str, body: Json) -> Json:
    """Offer the app to the owner of this mailbox; it is transferred when that account accepts."""
    email = body["email"]
    apps.with_role(db, caller, app, "owner")
    check_mail(env, db, caller, email)
    with apps.changing(db, caller, app, "owner") as found:
        sent = invitations.offer(db, caller, found, email)
        return created(
            public_invitation(sent), f"/v1/apps/{found.package_id}/invitations/{sent.id}"
        )


@operation(RECEIVED)
def received(env: Context, db: Connection, caller: Caller, token: str) -> Json:
    """The invitation with this token; only for the account with its address."""
    invitation, app = invitations.read(env, db, caller, token)
    return {
        "package_id": app.package_id,
        "app_name": app.name,
        "role": invitation.role,
        "transfer": bool(invitation.transfer),
        "invited_by": accounts.get(db, invitation.developer_id).name,
        "expires_at": invitation.expires_at,
    }


@operation(APP, refuses="suspended already_member limit_reached quota_exceeded")
def accept(env: Context, db: Connection, caller: Caller, token: str) -> Json:
    """Accept an invitation or a transfer. Returns the app."""
    return shown_apps.public(env, db, invitations.accept(env, db, caller, token))


def check_mail(env: Context, db: Connection, caller: Caller, email: str) -> None:
    """Check that an account may have a mail sent to another address, and count it. Raises Conflict
    `email_not_verified`, LimitReached `rate_limited`."""
    verified = accounts.get(db, caller.account).email_verified
    if env.config.verified_email_required and not verified:
        detail = (
            "Verify your own e-mail address before you invite others; POST /v1/auth/email/resend"
            " sends the link again."
        )
        raise Conflict("email_not_verified", detail, side="account")
    spend(env, "invitations", caller.account)
    spend(env, "invitations_to", accounts.folded(email))


def public(member: Member) -> Json:
    return shown(MEMBER, member, id=member.developer_id)


def public_invitation(invitation: Invitation) -> Json:
    return shown(INVITATION, invitation, invited_by=invitation.developer_id)
