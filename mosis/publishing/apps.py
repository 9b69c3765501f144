"""Apps and access to them. An app is addressed by its package_id or its id; for an account that is
no member of it, an app looks like one that does not exist."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mosis import audit, packages
from mosis.caller import Caller
from mosis.config import Config
from mosis.database import Connection, Record, columns, new_id
from mosis.database.pagination import Page, PageRequest, newest_first
from mosis.errors import Conflict, Denied, Invalid, InvalidState, NotFound
from mosis.publishing import members, quotas
from mosis.records import dataclass

STATUSES = ("draft", "published", "suspended")
STATUS = "CASE WHEN apps.suspended THEN 'suspended' WHEN apps.published THEN 'published' ELSE 'draft' END"
PACKAGE_ID_FORM = "Two or more segments of lower-case letters and digits joined by dots, up to 255 characters: com.acme.notes."
JSON_FIELDS = ("tags", "rollout_plan")
# what the store shows of an app, and its developer can change
LISTED = ("name", "summary", "description", "category", "tags", "homepage")
_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass
class App(Record, table="apps"):
    """A row of `apps`."""

    id: str
    package_id: str
    developer_id: str
    name: str
    summary: str
    description: str
    category: str
    tags: str
    homepage: str | None
    published: int
    suspended: int
    created_at: str
    updated_at: str
    rollout_plan: str | None
    first_owner_id: str | None
    transferred_at: str | None
    publish_by: str

    @property
    def home(self) -> str:
        """The account id in the path of its packages; it stays when the app changes hands."""
        return self.first_owner_id or self.developer_id

    @property
    def status(self) -> str:
        return "suspended" if self.suspended else "published" if self.published else "draft"


def create(db: Connection, config: Config, caller: Caller, fields: dict[str, Any]) -> App:
    """Create an app for the caller. Raises Invalid (package_id), Conflict `package_id_taken` or
    `quota_exceeded`, Denied `prefix_reserved`."""
    account = caller.account
    if not packages.is_package_id(fields["package_id"]):
        raise Invalid(
            [{"pointer": "/package_id", "code": "wrong_format", "detail": PACKAGE_ID_FORM}]
        )
    with db.write():
        row = {
            "id": new_id(),
            "developer_id": account,
            **_columns_of(fields),
            "created_at": db.now,
            "updated_at": db.now,
        }
        sql = (
            f"INSERT INTO apps ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
            f" ON CONFLICT (package_id) DO NOTHING RETURNING {columns(App)}"
        )
        app = db.one(sql, *row.values(), into=App)
        if app is None:
            detail = "This package_id is taken; choose another, under a domain of yours."
            raise Conflict("package_id_taken", detail)
        quotas.check_new_app(db, config, caller, app.package_id)
        audit.add(db, caller, "app.created", app.id, package_id=app.package_id)
        return app


def get(db: Connection, app: str) -> App:
    """The app with this id or package_id, of any account. Raises NotFound."""
    return db.get(App, f"{_name_column(app)} = ?", app)


def _name_column(app: str) -> str:
    """The column that this name of an app stands in: package ids have a dot, ids have none."""
    return "package_id" if "." in app else "id"


def with_role(db: Connection, caller: Caller, app: str, role: str) -> App:
    """The app, if the caller is a member with at least this role and the caller's credential is not
    limited to other apps. This is the only place that decides what a developer may do with an app.
    It is asked again at the beginning of every transaction that follows in the request, so that
    who is removed in the meantime changes nothing.

    Raises NotFound for anybody who is no member, Denied `forbidden` for a lower role,
    `second_factor_missing`.
    """
    sql = (
        f"SELECT m.role, {columns(App, 'a')} FROM apps a LEFT JOIN app_members m"
        f" ON m.app_id = a.id AND m.developer_id = ? WHERE a.{_name_column(app)} = ?"
    )
    row = db.one(sql, caller.account, app)
    if row is None or (caller.apps is not None and row[1] not in caller.apps):
        raise NotFound("app")
    members.require(row[0], role)
    found = App(*row[1:])
    if role != "viewer":
        caller.require_second_factor("publishers")
    db.check_again(
        ("role", found.id, role),
        lambda db: members.require_role(db, found.id, caller.account, role),
    )
    return found


@contextmanager
def changing(db: Connection, caller: Caller, app: str, role: str) -> Iterator[App]:
    """A transaction in which a member with at least this role changes the app. Raises as `with_role`."""
    with db.write():
        yield with_role(db, caller, app, role)


def check_uploader(caller: Caller, app: App) -> None:
    """Raises Denied `trusted_only` if only trusted publishers may upload, and this is none."""
    if app.publish_by == "trusted" and caller.token_id is None:
        raise Denied(
            "trusted_only",
            "Only trusted publishers upload to this app: publish from the build server, or have an"
            " owner set publish_by to `anyone`.",
        )


def index(
    db: Connection, caller: Caller, paging: PageRequest, status: str | None = None
) -> tuple[Page[App], int]:
    """The apps that the caller is a member of, newest first, and their total number."""
    where = (
        "id IN (SELECT app_id FROM app_members WHERE developer_id = ?1)"
        f" AND (?2 IS NULL OR {STATUS} = ?2) AND (?3 IS NULL OR id IN (SELECT value FROM json_each(?3)))"
    )
    values = (
        caller.account,
        status,
        None if caller.apps is None else json.dumps(sorted(caller.apps)),
    )
    if status is None and caller.apps is None:
        # by its index: an account may have thousands
        mine = "SELECT count(*) FROM app_members WHERE developer_id = ?"
        total = db.value(mine, caller.account)
    else:
        total = db.value(f"SELECT count(*) FROM apps WHERE {where}", *values)
    return newest_first(db, App, where, *values, paging=paging), total


def all_apps(db: Connection, paging: PageRequest, query: str = "") -> Page[App]:
    """All apps, newest first, for operators; `query` is a part of package_id or name."""
    where = "(?1 = '' OR instr(lower(package_id || ' ' || name), lower(?1)))"
    return newest_first(db, App, where, query, paging=paging)


def set_suspended(db: Connection, caller: Caller, app: App, suspended: bool, reason: str) -> App:
    """Suspend an app or lift its suspension, in the running transaction. A suspended app is not
    listed and its packages cannot be downloaded. Its owners are notified, with the reason."""
    touch(db, app.id, suspended=int(suspended))
    if bool(app.suspended) != suspended:
        kind = "app.suspended" if suspended else "app.unsuspended"
        members.add_events(db, app.id, "owner", kind, comment=reason)
    audit.add(
        db,
        caller,
        "app.suspended" if suspended else "app.unsuspended",
        app.id,
        owner_id=app.developer_id,
        reason=reason,
    )
    return get(db, app.id)


def change(db: Connection, caller: Caller, app: App, fields: dict[str, Any]) -> App:
    """Change fields of an app, in the running transaction. Its package_id never changes. Raises Denied
    `forbidden` if an API key or a device login changes `publish_by`: that is what a stolen one must
    not do."""
    if "publish_by" in fields and (caller.session_id is None or caller.scopes is not None):
        raise Denied(
            "forbidden",
            "Who may upload (publish_by) is changed by somebody who is signed in, not with an API key"
            " or a device login.",
        )
    if fields:
        set_fields(db, app, fields)
        members.note(db, caller, app.id, "app.changed", app.id, fields=sorted(fields))
    return get(db, app.id)


def set_fields(db: Connection, app: App, fields: dict[str, Any]) -> None:
    """Write fields of an app, in the running transaction."""
    touch(db, app.id, **_columns_of(fields))


def touch(db: Connection, app_id: str, **values: Any) -> None:
    """Set the time of the last change of an app, and further columns, in the running transaction."""
    db.update("apps", "id = ?", app_id, **{"updated_at": db.now} | values)


def delete(db: Connection, caller: Caller, app: App) -> None:
    """Delete an app of which no version was ever published, in the running transaction; jobs remove
    its package files. Raises Conflict `invalid_state`."""
    if app.published:
        detail = "Versions of this app were published: yank them instead. You keep its package_id."
        raise InvalidState(detail, app.status)
    for (version,) in db.all("SELECT DISTINCT version FROM versions WHERE app_id = ?", app.id):
        quotas.remove_later(db, app.home, app.id, version)
    members.note(db, caller, app.id, "app.deleted", app.id, package_id=app.package_id)
    db.change("DELETE FROM apps WHERE id = ?", app.id)


def _columns_of(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _encode(value) if name in JSON_FIELDS and value is not None else value
        for name, value in fields.items()
    }
