"""Members of apps: which account may do what with which app.

A viewer reads. A publisher also uploads, submits and publishes versions. An owner also changes the
app, its members and its ownership. The account in `apps.developer_id` is always an owner: the store
shows its name, and its quotas count.
"""

from typing import Any

from mosis import audit, events
from mosis.caller import Caller
from mosis.database import Connection
from mosis.database.pagination import Page, PageRequest, page
from mosis.errors import Conflict, Denied, NotFound
from mosis.publishing import look_alikes
from mosis.records import dataclass

ROLES = ("viewer", "publisher", "owner")  # each includes the one before
MOST_REVIEWERS = 100  # number of reviewers that are notified
MOST = 20  # members of one app; each may have ten signing keys, which an upload is compared with


@dataclass(frozen=True)
class Member:
    """One account that works on an app."""

    app_id: str
    developer_id: str
    role: str
    created_at: str
    name: str
    email: str
    suspended: int


_SELECT = (
    "SELECT m.app_id, m.developer_id, m.role, m.created_at, d.name, d.email, d.suspended"
    " FROM app_members m JOIN developers d ON d.id = m.developer_id"
)


def own_app() -> Denied:
    """The error for a reviewer who would decide on an app of their own."""
    return Denied("forbidden", "This is an app of your own; another reviewer has to decide on it.")


def role_of(db: Connection, app_id: str, account: str) -> str | None:
    """The role of an account in an app; None if it is not a member."""
    sql = "SELECT role FROM app_members WHERE app_id = ? AND developer_id = ?"
    found: str | None = db.value(sql, app_id, account)
    return found


def require_role(db: Connection, app_id: str, account: str, role: str) -> None:
    """Raises NotFound for an account that is no member, Denied `forbidden` for a lower role."""
    require(role_of(db, app_id, account), role)


def require(has: str | None, role: str) -> None:
    """As `require_role`, for the role that the account has."""
    if has is None:
        raise NotFound("app")
    if ROLES.index(has) < ROLES.index(role):
        raise Denied(
            "forbidden",
            f"You are {has} of this app; this needs the role {role}. Its owners can give it to you.",
        )


def accounts_of(db: Connection, app_id: str, role: str) -> list[str]:
    """The accounts with at least this role in an app that are not suspended, oldest first."""
    rows = db.all(
        "SELECT m.developer_id, m.role FROM app_members m JOIN developers d ON d.id = m.developer_id"
        " WHERE m.app_id = ? AND d.suspended = 0 ORDER BY m.created_at, m.developer_id",
        app_id,
    )
    return [account for account, has in rows if ROLES.index(has) >= ROLES.index(role)]


def may_sign(db: Connection, app_id: str, signing_key_id: str) -> bool:
    """Whether a package of the app may be signed with this key: it is active, and its holder is a
    publisher or an owner of the app and not suspended."""
    sql = (
        "SELECT 1 FROM signing_keys k JOIN developers d ON d.id = k.developer_id"
        " JOIN app_members m ON m.developer_id = k.developer_id AND m.app_id = ?"
        " WHERE k.id = ? AND k.state = 'active' AND m.role <> 'viewer' AND d.suspended = 0"
    )
    return db.has(sql, app_id, signing_key_id)


def add_events(
    db: Connection,
    app_id: str,
    least_role: str,
    kind: str,
    /,
    *,
    but: str | None = None,
    version: str | None = None,
    **data: Any,
) -> None:
    """Record an event for members of `least_role` or more but `but`, in the running transaction."""
    package_id = db.value("SELECT package_id FROM apps WHERE id = ?", app_id)
    for account in accounts_of(db, app_id, least_role):
        if account != but:
            events.add(db, account, kind, package_id=package_id, version=version, **data)


def notify(db: Connection, app_id: str) -> None:
    """Call the subscribers of every member after the running transaction is committed."""
    for (account,) in db.all("SELECT developer_id FROM app_members WHERE app_id = ?", app_id):
        db.notify(account)


def note(
    db: Connection, caller: Caller, app_id: str, action: str, subject_id: str, **details: Any
) -> None:
    """Add a line to the audit trail of the app's account; it names another member who acted."""
    owner = str(db.value("SELECT developer_id FROM apps WHERE id = ?", app_id))
    if caller.developer_id not in (None, owner) and role_of(db, app_id, caller.account):
        details["member_id"] = caller.account
    audit.add(db, caller, action, subject_id, owner_id=owner, **details)


def index(db: Connection, app_id: str, paging: PageRequest) -> Page[Member]:
    """The members of an app, in the order of their ids."""
    sql = f"{_SELECT} WHERE m.app_id = ? AND m.developer_id > ? ORDER BY m.developer_id LIMIT ?"
    rows = db.all(sql, app_id, paging.position or "", paging.limit + 1, into=Member)
    return page(rows, paging, lambda member: (member.developer_id,))


def get(db: Connection, app_id: str, account: str) -> Member:
    """A member of an app. Raises NotFound."""
    where = "m.app_id = ? AND m.developer_id = ?"
    found = db.one(f"{_SELECT} WHERE {where}", app_id, account, into=Member)
    if found is None:
        raise NotFound("member")
    return found


def add(db: Connection, app_id: str, account: str, role: str) -> None:
    """Add a member, in the running transaction. Raises `already_member`, `limit_reached`."""
    check_room(db, app_id, account)
    db.insert("app_members", app_id=app_id, developer_id=account, role=role, created_at=db.now)


def check_room(db: Connection, app_id: str, account: str | None) -> None:
    """Raises Conflict: `already_member` for a member, `limit_reached` if there are MOST members."""
    if account is not None and role_of(db, app_id, account):
        detail = "This account is a member of the app already; change its role instead."
        raise Conflict("already_member", detail)
    if db.value("SELECT count(*) FROM app_members WHERE app_id = ?", app_id) >= MOST:
        raise Conflict("limit_reached", f"An app has at most {MOST} members; remove one first.")


def change(db: Connection, caller: Caller, member: Member, role: str) -> Member:
    """Change a member's role, in the running transaction. Raises `last_owner`, `suspended`."""
    check_open(db, member.app_id)
    if member.role == role:
        return member
    if member.role == "owner":
        _pass_on(db, member)
    sql = "UPDATE app_members SET role = ? WHERE app_id = ? AND developer_id = ?"
    db.change(sql, role, member.app_id, member.developer_id)
    if role != "owner":
        _withdraw_trust(db, member.app_id, member.developer_id)
    facts = {"account_id": member.developer_id, "role": role, "role_before": member.role}
    note(db, caller, member.app_id, "app.member_changed", member.app_id, **facts)
    add_events(
        db, member.app_id, "owner", "app.member_changed",
        name=member.name, account_id=member.developer_id, role=role,
    )  # fmt: skip
    if role != "owner":
        _notify_member(db, member, "app.member_changed", role=role)
    return get(db, member.app_id, member.developer_id)


def remove(db: Connection, caller: Caller, member: Member) -> None:
    """Remove a member, in the running transaction; the caller may be that member. Requests that are
    running with the member's rights or keys and was never published is refused from now on. Raises
    Conflict `last_owner`, Denied `suspended`."""
    check_open(db, member.app_id)
    if member.role == "owner":
        _pass_on(db, member)
    _end(db, member.app_id, member.developer_id)
    facts = {"account_id": member.developer_id, "role": member.role}
    note(db, caller, member.app_id, "app.member_removed", member.app_id, **facts)
    add_events(db, member.app_id, "owner", "app.member_removed", name=member.name, **facts)
    _notify_member(db, member, "app.member_removed", role=member.role)


def leave_all(db: Connection, account: str) -> None:
    """Remove an account that is erased from the apps of others, in the running transaction. Apps of
    its own that have another owner belong to that one from now on; the rest stay."""
    for (app_id,) in db.all("SELECT app_id FROM app_members WHERE developer_id = ?", account):
        owner = db.value("SELECT developer_id FROM apps WHERE id = ?", app_id)
        others = [each for each in accounts_of(db, app_id, "owner") if each != account]
        if owner == account and not others:
            continue
        if owner == account:
            belong_to(db, app_id, others[0])
        _end(db, app_id, account)


def remove_all(db: Connection, app_id: str) -> None:
    """Remove every member of an app, with the invitations, trusted publishers and the waiting listing
    change, in the running transaction."""
    db.change("DELETE FROM listing_changes WHERE app_id = ? AND state = 'waiting'", app_id)
    for table in ("app_invitations", "trusted_publishers", "app_members"):
        db.change(f"DELETE FROM {table} WHERE app_id = ?", app_id)


def belong_to(db: Connection, app_id: str, account: str) -> None:
    """Make another owner the account that the app belongs to, in the running transaction. Its
    packages stay where they are: the path keeps the id of the first owner."""
    before = db.one(
        "SELECT d.id, d.name FROM apps a JOIN developers d ON d.id = a.developer_id WHERE a.id = ?",
        app_id,
    )
    sql = (
        "UPDATE apps SET first_owner_id = coalesce(first_owner_id, developer_id), developer_id = ?,"
        " transferred_at = ?, updated_at = ? WHERE id = ?"
    )
    db.change(sql, account, db.now, db.now, app_id)
    announce_name(db, account, before, app_id)


def announce_name(
    db: Connection, account: str, before: tuple[str, str], app_id: str | None = None
) -> None:
    """Notify the reviewers that the store shows published apps of an account under another name than
    `before` (id and name of an account), in the running transaction: names are shown at once, and one
    that reviewers have never seen could imitate another developer's. `app_id`: only that app."""
    name = db.value("SELECT name FROM developers WHERE id = ?", account)
    sql = (
        "SELECT count(*), package_id, max(id) FROM apps"
        " WHERE developer_id = ?1 AND published = 1 AND (?2 IS NULL OR id = ?2)"
    )
    shown, package_id, newest_id = db.one(sql, account, app_id)
    if not shown or name == before[1]:
        return
    facts = {"name": name, "account_id": account, "before": before[1], "before_id": before[0]}
    like = look_alikes.find_developer(db, name, account) or "none"
    for reviewer in reviewers_of(db, newest_id):
        kind = "listing.developer_changed"
        events.add(db, reviewer, kind, package_id=package_id, apps=shown, look_alike=like, **facts)


def reviewers_of(db: Connection, app_id: str) -> list[str]:
    """The reviewers that are notified about an app: all but its members."""
    return [each for each in reviewers(db) if role_of(db, app_id, each) is None]


def reviewers(db: Connection) -> list[str]:
    """The accounts that are notified as reviewers."""
    rows = db.all(
        "SELECT id FROM developers WHERE role IN ('reviewer', 'admin') AND suspended = 0"
        " AND erased_at IS NULL ORDER BY id LIMIT ?",
        MOST_REVIEWERS,
    )
    return [reviewer for (reviewer,) in rows]


def check_open(db: Connection, app_id: str) -> None:
    """Raises Denied `suspended` while the account that the app belongs to is suspended: otherwise
    its members could circumvent the suspension."""
    sql = "SELECT d.suspended FROM apps a JOIN developers d ON d.id = a.developer_id WHERE a.id = ?"
    if db.value(sql, app_id):
        detail = "The account that this app belongs to is suspended: its members cannot be changed."
        raise Denied("suspended", detail)


def _withdraw_trust(db: Connection, app_id: str, account: str) -> None:
    """Delete a former owner's open invitations, trusted publishers and waiting listing change."""
    db.change(
        "DELETE FROM trusted_publishers WHERE app_id = ? AND developer_id = ?", app_id, account
    )
    db.change("DELETE FROM app_invitations WHERE app_id = ? AND developer_id = ?", app_id, account)
    sql = "DELETE FROM listing_changes WHERE app_id = ? AND author_id = ? AND state = 'waiting'"
    db.change(sql, app_id, account)


def _end(db: Connection, app_id: str, account: str) -> None:
    _withdraw_trust(db, app_id, account)
    db.change("DELETE FROM app_members WHERE app_id = ? AND developer_id = ?", app_id, account)
    db.notify(account)


def _pass_on(db: Connection, member: Member) -> None:
    """Before an owner is removed: if the app belongs to that account, it now belongs to the owner
    who joined next. Raises Conflict `last_owner`."""
    others = [
        each for each in accounts_of(db, member.app_id, "owner") if each != member.developer_id
    ]
    if not others:
        detail = "This is the only owner of the app: make another member owner first, or transfer the app."
        raise Conflict("last_owner", detail)
    owner = db.value("SELECT developer_id FROM apps WHERE id = ?", member.app_id)
    if owner == member.developer_id:
        belong_to(db, member.app_id, others[0])


def _notify_member(db: Connection, member: Member, kind: str, **data: Any) -> None:
    """Notify a member of a change of their own membership."""
    package_id = db.value("SELECT package_id FROM apps WHERE id = ?", member.app_id)
    events.add(
        db,
        member.developer_id,
        kind,
        package_id=package_id,
        name=member.name,
        account_id=member.developer_id,
        **data,
    )
