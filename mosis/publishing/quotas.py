"""Quotas of an account: apps, versions and bytes. Usage is counted under the write lock, so
concurrent requests cannot both take the last place.

Packages of versions that failed, were rejected or withdrawn are removed after DEAD_PACKAGE_SECONDS,
or earlier when their account needs the space; their rows stay.
"""

from mosis import jobs
from mosis.caller import Caller
from mosis.config import Config
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Conflict, Denied
from mosis.publishing import package_files
from mosis.publishing.package_files import HOME

MOST_CHECKING = 20  # versions of one account that are being checked
# of an account that has not verified its address, where the portal can send mail
UNVERIFIED_APPS = 2
DEAD_PACKAGE_SECONDS = 14 * 24 * 3600
# without checks after one that took too long; doubled by each further one within a day
FIRST_REST_SECONDS = 30
_UNPUBLISHED = "v.released = 0 AND v.state IN ('checking', 'ready', 'in_review', 'approved')"
_DEAD = "v.released = 0 AND v.state IN ('failed', 'rejected', 'withdrawn')"


def check_new_app(db: Connection, config: Config, caller: Caller, package_id: str) -> None:
    """Check whether the caller may have the new app with this package_id, which was inserted in the
    running transaction. Raises Denied `prefix_reserved`, Conflict `quota_exceeded`. Administrators may use reserved
    prefixes."""
    for prefix in config.reserved_prefixes:
        if (package_id + ".").startswith(prefix + ".") and not caller.has_role("admin"):
            detail = f"Names under {prefix} are reserved on this portal; ask the operator, or choose a domain of yours."
            raise Denied("prefix_reserved", detail, prefix=prefix)
    count = "SELECT count(*) - 1 FROM apps WHERE developer_id = ?"
    used = db.value(count, caller.account)
    if used >= config.account_apps:
        raise exceeded("apps", config.account_apps, used, "delete drafts that you do not need")
    if used >= UNVERIFIED_APPS and config.smtp_url is not None:
        unpublished = db.value(count + " AND published = 0", caller.account)
        verified = db.value("SELECT email_verified FROM developers WHERE id = ?", caller.account)
        if unpublished >= UNVERIFIED_APPS and not verified:
            raise exceeded("draft_apps", UNVERIFIED_APPS, unpublished, "verify your e-mail address")


def make_room(db: Connection, config: Config, developer_id: str, size_bytes: int) -> None:
    """Check whether an account may upload another package of this size, in the running transaction.
    If space is short, packages of failed, rejected and withdrawn versions are removed, oldest
    first. Raises Conflict `quota_exceeded`."""
    checking, unpublished, used_bytes = db.one(
        f"SELECT count(*) FILTER (WHERE v.state = 'checking'), count(*) FILTER (WHERE {_UNPUBLISHED}),"
        " coalesce(sum(v.size_bytes) FILTER (WHERE v.package_removed_at IS NULL), 0)"
        " FROM apps a JOIN versions v ON v.app_id = a.id WHERE a.developer_id = ?",
        developer_id,
    )
    if checking >= MOST_CHECKING:
        raise exceeded(
            "checking_versions", MOST_CHECKING, checking, "wait until some of them are checked"
        )
    most = config.account_unpublished_versions
    if unpublished >= most:
        raise exceeded(
            "unpublished_versions", most, unpublished, "withdraw versions that you do not need"
        )
    dead = db.all(
        f"SELECT {HOME}, v.id, v.app_id, v.version, v.size_bytes FROM apps a JOIN versions v ON v.app_id = a.id"
        f" WHERE a.developer_id = ? AND {_DEAD} AND v.package_removed_at IS NULL ORDER BY v.id",
        developer_id,
    )
    left = len(dead)
    for home, version_id, app_id, version, freed_bytes in dead:
        if unpublished + left < most and used_bytes + size_bytes <= config.account_bytes:
            break
        _take_away(db, home, version_id, app_id, version)
        left -= 1
        used_bytes -= freed_bytes
    if used_bytes + size_bytes > config.account_bytes:
        detail = f"this package has {size_bytes} bytes; withdraw versions that you do not need, or ask the operator"
        raise exceeded("bytes", config.account_bytes, used_bytes, detail)


def exceeded(quota: str, limit: int, used: int, advice: str) -> Conflict:
    """The error `quota_exceeded`, with limit and usage."""
    detail = f"Your account has {used} of {limit} {quota.replace('_', ' ')}: {advice}."
    return Conflict("quota_exceeded", detail, quota=quota, limit=limit, used=used)


def replaced(db: Connection, app_id: str, version: str) -> None:
    """Mark the packages of failed, rejected and withdrawn versions with this version string as
    removed, because a new package overwrites the file; in the running transaction."""
    sql = (
        "UPDATE versions AS v SET package_removed_at = ?, files = '{}'"
        f" WHERE app_id = ? AND version = ? AND package_removed_at IS NULL AND {_DEAD}"
    )
    db.change(sql, db.now, app_id, version)


def check_takeover(db: Connection, config: Config, account: str, app_id: str) -> None:
    """Whether an account may take over this app, in the transaction. Raises `quota_exceeded`."""
    used = db.value("SELECT count(*) FROM apps WHERE developer_id = ?", account)
    if used >= config.account_apps:
        raise exceeded("apps", config.account_apps, used, "delete drafts that you do not need")
    sql = (
        "SELECT coalesce(sum(v.size_bytes) FILTER (WHERE a.developer_id = ?1), 0),"
        " coalesce(sum(v.size_bytes) FILTER (WHERE a.id = ?2), 0)"
        " FROM apps a JOIN versions v ON v.app_id = a.id"
        " WHERE v.package_removed_at IS NULL AND (a.developer_id = ?1 OR a.id = ?2)"
    )
    used_bytes, app_bytes = db.one(sql, account, app_id)
    if used_bytes + app_bytes > config.account_bytes:
        advice = f"this app has {app_bytes} bytes; ask the operator"
        raise exceeded("bytes", config.account_bytes, used_bytes, advice)


def _take_away(db: Connection, home: str, version_id: str, app_id: str, version: str) -> None:
    """Mark the package of a version as removed; a job removes the file."""
    db.update("versions", "id = ?", version_id, package_removed_at=db.now, files="{}")
    remove_later(db, home, app_id, version)


def remove_later(db: Connection, home: str, app_id: str, version: str) -> None:
    """Queue the removal of a file that no row refers to any more, in the running transaction.
    `home` is the account id in its path."""
    jobs.add(
        db,
        "remove_package",
        owner=home,
        unique_key=f"remove:{app_id}:{version}",
        again=True,
        developer_id=home,
        app_id=app_id,
        version=version,
    )


def is_named(db: Connection, app_id: str, version: str) -> bool:
    """Whether a row refers to a package file with this version string."""
    sql = "SELECT 1 FROM versions WHERE app_id = ? AND version = ? AND package_removed_at IS NULL LIMIT 1"
    return db.has(sql, app_id, version)


def remove_package(env: Context, developer_id: str, app_id: str, version: str) -> None:
    """Job: remove a package file, unless a newer version with the same version string uses it, and
    the objects of the app that no row names. The file is removed under the write lock, which also
    guards the creation of package files. Safe to run twice."""
    with env.db.write() as db:
        if not is_named(db, app_id, version):
            env.files.remove(env.files.path(developer_id, app_id, version))
    package_files.sweep(env, app_id)


def expire_packages(env: Context) -> None:
    """Job, hourly: remove packages of dead versions after DEAD_PACKAGE_SECONDS."""
    with env.db.write() as db:
        rows = db.all(
            f"SELECT {HOME}, v.id, v.app_id, v.version FROM versions v JOIN apps a ON a.id = v.app_id WHERE {_DEAD}"
            " AND v.package_removed_at IS NULL AND coalesce(v.decided_at, v.submitted_at, v.created_at) < ?",
            db.clock.now(-DEAD_PACKAGE_SECONDS),
        )
        for row in rows:
            _take_away(db, *row)


def rest_after_timeout(db: Connection, developer_id: str) -> None:
    """Delay further checks of this account, longer after each check within a day that timed out; in
    the running transaction, after the version has failed."""
    sql = (
        "SELECT count(*) FROM apps a JOIN versions v ON v.app_id = a.id, json_each(v.findings) f WHERE a.developer_id = ?"
        " AND v.state = 'failed' AND v.created_at > ? AND f.value ->> '$.code' = 'check_timeout'"
    )
    times = db.value(sql, developer_id, db.clock.now(-24 * 3600))
    jobs.rest(db, "checks", developer_id, FIRST_REST_SECONDS * 2 ** min(times - 1, 10))


def timed_out(findings: list[dict[str, object]]) -> bool:
    """Whether these findings include `check_timeout`."""
    return any(each["code"] == "check_timeout" for each in findings)
