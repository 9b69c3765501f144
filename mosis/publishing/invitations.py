"""Invitations to work on an app, and offers to take one over.

Both go to a mailbox as a link with a token, work once, within a week, and count for the account
that has this address. They end when they are cancelled, and when the account that sent them is no
owner any more.
"""

from mosis import jobs
from mosis.caller import Caller
from mosis.clock import for_people
from mosis.config import Config
from mosis.context import Context
from mosis.credentials import tokens
from mosis.database import Connection, Record, columns, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import Conflict, Denied, InvalidState, NotFound
from mosis.outbound.mail import paragraph
from mosis.publishing import apps, members, quotas
from mosis.publishing.apps import App
from mosis.records import dataclass
from mosis.validation import names

LIFE_SECONDS = 7 * 24 * 3600
MOST = 20  # open invitations of one app
PAGE = "/console/join"


@dataclass(frozen=True)
class Invitation(Record, table="app_invitations"):
    """A row of `app_invitations`; `developer_id` is the owner who has sent it."""

    id: str
    app_id: str
    developer_id: str
    email: str
    role: str
    transfer: int
    created_at: str
    expires_at: str


def send(db: Connection, caller: Caller, app: App, email: str, role: str) -> Invitation:
    """Invite the owner of this mailbox to work on an app, in the running transaction. An earlier
    invitation of the same address is void. Raises Conflict `already_member` or `limit_reached`,
    Denied `suspended`. Whether there is an account with this address is not disclosed."""
    members.check_open(db, app.id)
    members.check_room(db, app.id, _member_with(db, app, email))
    sql = "DELETE FROM app_invitations WHERE app_id = ? AND email = ? AND transfer = 0"
    db.change(sql, app.id, email)
    invitation = _add(db, caller, app, email, role, transfer=False)
    members.note(db, caller, app.id, "app.member_invited", invitation.id, role=role)
    members.add_events(db, app.id, "owner", "app.member_invited", email=email, role=role)
    return invitation


def offer(db: Connection, caller: Caller, app: App, email: str) -> Invitation:
    """Offer an app to the owner of this mailbox, in the running transaction. Nothing changes until
    that account accepts; an earlier offer is void. Raises Conflict `invalid_state` if the app
    belongs to that account, Conflict `limit_reached`, Denied `suspended`."""
    members.check_open(db, app.id)
    if _member_with(db, app, email) == app.developer_id:
        raise InvalidState("The app belongs to this account already.", app.status)
    db.change("DELETE FROM app_invitations WHERE app_id = ? AND transfer = 1", app.id)
    invitation = _add(db, caller, app, email, "owner", transfer=True)
    members.note(db, caller, app.id, "app.transfer_offered", invitation.id)
    members.add_events(db, app.id, "owner", "app.transfer_offered", email=email)
    return invitation


def index(db: Connection, app: App, paging: PageRequest) -> Page[Invitation]:
    """The open invitations and offers of an app, the newest first."""
    return newest_first(
        db, Invitation, "app_id = ?1 AND expires_at > ?2", app.id, db.clock.now(), paging=paging
    )


def get(db: Connection, app: App, invitation_id: str) -> Invitation:
    """An open invitation of an app. Raises NotFound."""
    where = "id = ? AND app_id = ? AND expires_at > ?"
    return db.get(Invitation, where, invitation_id, app.id, db.clock.now())


def cancel(db: Connection, caller: Caller, invitation: Invitation) -> None:
    """Cancel an open invitation or offer, in the running transaction."""
    db.change("DELETE FROM app_invitations WHERE id = ?", invitation.id)
    members.note(
        db,
        caller,
        invitation.app_id,
        "app.transfer_cancelled" if invitation.transfer else "app.invitation_cancelled",
        invitation.id,
    )


def read(env: Context, db: Connection, caller: Caller, token: str) -> tuple[Invitation, App]:
    """The open invitation with this token, and its app, for the account with its address. Raises
    NotFound for any other account too: who finds a token learns nothing from it."""
    try:
        invitation_id = tokens.read_ticket(env.secret, token)
    except Denied:
        raise _unknown() from None
    found = _find(env, db, invitation_id)
    sql = "SELECT 1 FROM developers WHERE id = ? AND email = ?"
    if found is None or not db.value(sql, caller.account, found.email):
        raise _unknown()
    return found, apps.get(db, found.app_id)


def accept(env: Context, db: Connection, caller: Caller, token: str) -> App:
    """Become a member of an app, or take it over.

    With a transfer the app belongs to the caller, and everybody who worked on it before leaves it:
    their keys count only for what is published.
    Raises NotFound, Conflict `already_member`, `limit_reached` or `quota_exceeded`, Denied `suspended`.
    """
    with db.write():
        invitation, app = read(env, db, caller, token)
        members.check_open(db, app.id)
        db.change("DELETE FROM app_invitations WHERE id = ?", invitation.id)
        if invitation.transfer:
            _take_over(db, env.config, caller, app)
        else:
            members.add(db, app.id, caller.account, invitation.role)
            members.note(
                db, caller, app.id, "app.member_added", app.id,
                account_id=caller.account, role=invitation.role, invited_by=invitation.developer_id,
            )  # fmt: skip
            name = db.value("SELECT name FROM developers WHERE id = ?", caller.account)
            details = {"name": name, "account_id": caller.account, "role": invitation.role}
            members.add_events(db, app.id, "owner", "app.member_added", **details)
        return apps.get(db, app.id)


def mail(env: Context, invitation_id: str) -> None:
    """Job: mail an invitation's link, unless it has ended; running twice sends the same message."""
    db = env.db.connection()
    found = _find(env, db, invitation_id)
    if found is None:
        return
    package_id = db.value("SELECT package_id FROM apps WHERE id = ?", found.app_id)
    what = (
        f"take over the app {package_id}: it would belong to your account"
        if found.transfer
        else f"work on the app {package_id} as {found.role}"
    )
    token = tokens.make_ticket(env.secret, found.id)
    inviter = _inviter(db, found.developer_id)
    request = f"{inviter} invites you to {what}. Open this link to accept:"
    conditions = (
        "You need an account with this e-mail address; if you have none yet, register first. The"
        f" link works once, until {for_people(found.expires_at)}."
    )
    text = (
        f"{paragraph(request)}\n\n{env.url(PAGE)}#{token}\n\n{paragraph(conditions)}\n\n"
        "If you do not know who this is, ignore this mail: nothing happens then.\n\n"
        f"A program sends this token to POST /v1/invitations/TOKEN/accept:\n\n{token}\n"
    )
    subject = f"{'Take over' if found.transfer else 'Work on'} {package_id}"
    env.mailer.send(
        found.email,
        f"{subject} - {env.config.store_name}",
        text,
        found.id,
        is_wanted=lambda: _find(env, db, invitation_id) is not None,
    )


def _inviter(db: Connection, account: str) -> str:
    """Who invites, for a reader who may not know the account: its name, unless mail programs would
    make a link of it, and its address, if that is verified."""
    sql = "SELECT name, iif(email_verified, email, '') FROM developers WHERE id = ?"
    name, email = db.one(sql, account)
    shown = "" if names.has_link(name) else name
    return f"{shown} ({email})" if shown and email else shown or email or "A developer"


def sweep(env: Context) -> None:
    """Job, hourly: delete invitations that have expired."""
    with env.db.write() as db:
        db.change("DELETE FROM app_invitations WHERE expires_at <= ?", db.now)


def _take_over(db: Connection, config: Config, caller: Caller, app: App) -> None:
    quotas.check_takeover(db, config, caller.account, app.id)
    facts = {"to_id": caller.account, "from_id": app.developer_id}
    members.note(db, caller, app.id, "app.transferred", app.id, **facts)
    members.add_events(db, app.id, "viewer", "app.transferred", but=caller.account)
    members.remove_all(db, app.id)
    members.add(db, app.id, caller.account, "owner")
    members.belong_to(db, app.id, caller.account)
    members.note(db, caller, app.id, "app.received", app.id, from_id=app.developer_id)
    members.add_events(db, app.id, "owner", "app.transferred")


def _add(
    db: Connection, caller: Caller, app: App, email: str, role: str, *, transfer: bool
) -> Invitation:
    sql = "SELECT count(*) FROM app_invitations WHERE app_id = ? AND expires_at > ?"
    open_now = db.value(sql, app.id, db.now)
    if open_now >= MOST:
        detail = f"An app has at most {MOST} open invitations; cancel one first."
        raise Conflict("limit_reached", detail)
    expires_at = db.clock.now(LIFE_SECONDS)
    invitation = Invitation(
        new_id(), app.id, caller.account, email, role, int(transfer), db.now, expires_at
    )
    db.insert("app_invitations", **vars(invitation))
    jobs.add(db, "mail_invitation", owner=caller.account, invitation_id=invitation.id)
    return invitation


def _find(env: Context, db: Connection, invitation_id: str) -> Invitation | None:
    """The open invitation with this id, if its sender is still an owner of the app and not
    suspended. One that ends later than any can was made by a clock that was ahead."""
    sql = (
        f"SELECT {columns(Invitation, 'i')} FROM app_invitations i"
        " JOIN app_members m ON m.app_id = i.app_id AND m.developer_id = i.developer_id"
        " JOIN developers d ON d.id = i.developer_id"
        " WHERE i.id = ? AND i.expires_at > ? AND i.expires_at <= ?"
        " AND m.role = 'owner' AND d.suspended = 0"
    )
    return db.one(
        sql, invitation_id, env.clock.now(), env.clock.latest(LIFE_SECONDS), into=Invitation
    )


def _member_with(db: Connection, app: App, email: str) -> str | None:
    sql = (
        "SELECT d.id FROM developers d JOIN app_members m ON m.developer_id = d.id"
        " WHERE d.email = ? AND m.app_id = ?"
    )
    found: str | None = db.value(sql, email, app.id)
    return found


def _unknown() -> NotFound:
    return NotFound("invitation (ended, used, or for another e-mail address)")
