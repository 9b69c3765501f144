"""Leaving: everything stored about somebody as one document, and an account erased."""

import json
from typing import Any

from mosis import audit
from mosis.caller import Caller
from mosis.clock import text
from mosis.context import Context
from mosis.credentials import passwords
from mosis.database import Connection
from mosis.errors import Denied
from mosis.people import accounts
from mosis.publishing import apps, reviews, versions
from mosis.publishing.versions import MOVES

# What an export holds: name of the list -> the query, with the account's id as ?1. Secrets and hashes stay out.
EXPORTED = {
    "account": "SELECT id, email, email_verified, name, role, suspended, created_at, mail_choices FROM developers WHERE id = ?1",
    "sessions": "SELECT id, client, address, created_at, last_used_at, expires_at, ended_at, end_reason, scopes"
    " FROM sessions WHERE developer_id = ?1",
    "api_keys": "SELECT id, name, prefix, scopes, apps, role, expires_at, last_used_at, created_at, revoked_at"
    " FROM api_keys WHERE developer_id = ?1",
    "signing_keys": "SELECT id, name, fingerprint, state, created_at, revoked_at FROM signing_keys WHERE developer_id = ?1",
    "identities": "SELECT id, provider, issuer, subject, created_at, last_used_at FROM identities WHERE developer_id = ?1",
    "sign_ins_begun": "SELECT provider, stage, return_to, expires_at FROM oauth_states WHERE developer_id = ?1 OR session_id IN"
    " (SELECT id FROM sessions WHERE developer_id = ?1)",
    "tickets": "SELECT purpose, email, created_at, expires_at, used_at FROM tickets WHERE developer_id = ?1"
    " OR email = (SELECT email FROM developers WHERE id = ?1)",
    "device_logins": "SELECT id, client_name, scopes, state, created_at FROM device_logins WHERE developer_id = ?1",
    "apps": "SELECT id, package_id, name, summary, description, category, tags, homepage, published, suspended, created_at,"
    " updated_at FROM apps WHERE developer_id = ?1",
    "versions": "SELECT v.id, a.package_id, v.version, v.version_code, v.channel, v.state, v.release_notes, v.manifest,"
    " v.size_bytes, v.sha256, v.yank_reason, v.created_at, v.submitted_at, v.decided_at, v.published_at FROM versions v"
    " JOIN apps a ON a.id = v.app_id WHERE a.developer_id = ?1",
    "reviews": "SELECT r.id, r.version_id, r.state, r.reasons, r.comment, r.submitted_at, r.decided_at FROM reviews r"
    " JOIN versions v ON v.id = r.version_id JOIN apps a ON a.id = v.app_id WHERE a.developer_id = ?1",
    "reviews_done": "SELECT id, version_id, state, reasons, comment, claimed_until, decided_at FROM reviews"
    " WHERE decided_by = ?1 OR claimed_by = ?1",
    "messages": "SELECT id, version_id, sender, internal, text, created_at FROM messages WHERE author_id = ?1",
    "events": "SELECT id, kind, package_id, version, data, created_at, read_at FROM events WHERE developer_id = ?1 ORDER BY number",
    "webhooks": "SELECT id, url, kinds, enabled, created_at FROM webhooks WHERE developer_id = ?1",
    "webhook_deliveries": "SELECT d.id, d.webhook_id, d.event_id, d.state, d.attempts, d.status, d.error, d.created_at FROM"
    " webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.developer_id = ?1",
    "idempotency": "SELECT id, expires_at FROM idempotency WHERE developer_id = ?1",
    "jobs": "SELECT kind, state, created_at, last_error FROM jobs WHERE owner_id = ?1 OR arguments ->> 'email' ="
    " (SELECT email FROM developers WHERE id = ?1) COLLATE NOCASE",
    "job_turns": "SELECT lane, turn, rests_until FROM job_turns WHERE owner_id = ?1",
    "audit": "SELECT number, at, action, subject_id, iif(coalesce(actor_id, ?1) = ?1, address, '') AS address, details FROM audit"
    " WHERE actor_id = ?1 OR owner_id = ?1 ORDER BY number",  # not from where the staff has acted
}

JSON_COLUMNS = (
    "scopes",
    "apps",
    "kinds",
    "tags",
    "data",
    "details",
    "reasons",
    "mail_choices",
    "manifest",
)


def export(env: Context, db: Connection, caller: Caller) -> dict[str, Any]:
    """Everything stored about the caller, a list of rows for each kind of thing."""
    mails = env.mailer.written_to(accounts.get(db, caller.account).email)
    return {
        name: [_unpacked(row) for row in db.dicts(sql, caller.account)]
        for name, sql in EXPORTED.items()
    } | {
        "mails": [
            {"subject": mail.subject, "written_at": text(mail.written_at)}
            for mail in mails  # what is in them opens accounts
        ]
    }


def erase(
    env: Context, db: Connection, caller: Caller, password: str | None, *, withdraw_apps: bool
) -> None:
    """Erase the caller's account: what is personal goes, the id stays as a pseudonym in the audit trail.

    Published apps stay under that pseudonym, or are yanked with `withdraw_apps`; what was never published is deleted.
    Raises Denied `invalid_credentials` when the account has a password and this is not it.
    """
    developer = accounts.get(db, caller.account)
    if developer.password_hash and not passwords.verify(
        password or "", developer.password_hash, env.password_cost
    ):
        raise Denied("invalid_credentials", "The password is another one.")
    with db.write():
        accounts.unchanged(db, developer)
        for app in db.all("SELECT id FROM apps WHERE developer_id = ?", developer.id):
            _leave(db, caller, apps.get(db, app[0]), withdraw_apps)
        accounts.end_all(db, developer.id, "erased")
        for table in (
            "sessions",
            "identities",
            "oauth_states",
            "api_keys",
            "device_logins",
            "events",
            "tickets",
            "idempotency",
            "webhooks",
        ):
            db.change(f"DELETE FROM {table} WHERE developer_id = ?", developer.id)
        db.change("DELETE FROM tickets WHERE email = ?", developer.email)  # invitations
        db.change(
            "DELETE FROM jobs WHERE arguments ->> 'email' = ? COLLATE NOCASE", developer.email
        )
        db.change(
            "UPDATE jobs SET last_error = '(erased)' WHERE instr(lower(last_error), lower(?))",
            developer.email,
        )
        db.change("DELETE FROM job_turns WHERE owner_id = ?", developer.id)
        db.change("UPDATE messages SET text = '(erased)' WHERE author_id = ?", developer.id)
        db.change(
            "UPDATE versions SET manifest = json_remove(manifest, '$.author') WHERE app_id IN"
            " (SELECT id FROM apps WHERE developer_id = ?)",
            developer.id,
        )
        db.change(
            "UPDATE signing_keys SET name = 'erased', state = 'revoked', revoked_at = ?"
            " WHERE developer_id = ? AND state = 'active'",
            db.now,
            developer.id,
        )
        db.change(
            "UPDATE developers SET email = ?, name = ?, email_verified = 0, role = 'developer', password_hash = NULL, erased_at = ?"
            " WHERE id = ?",
            f"erased-{developer.id}@invalid",
            "A former developer",
            db.now,
            developer.id,
        )
        audit.add(
            db,
            caller,
            "account.erased",
            developer.id,
            apps="withdrawn" if withdraw_apps else "kept",
        )
    for mail in env.mailer.written_to(developer.email):
        mail.path.unlink(missing_ok=True)


def _leave(db: Connection, caller: Caller, app: apps.App, withdraw: bool) -> None:
    if not app.published:
        apps.delete(db, caller, app)
        return
    for (version_id,) in db.all("SELECT id FROM versions WHERE app_id = ?", app.id):
        version = versions.by_id(db, version_id)
        if version is None:
            continue
        if withdraw and version.state in MOVES["yank"][0]:
            versions.move(db, caller, version, "yank", yank_reason="Its developer has left.")
        elif version.state in MOVES["withdraw"][0] and version.state != "withdrawn":
            reviews.take_back(db, caller, version)


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its JSON columns as what they are."""
    return {
        name: json.loads(value) if name in JSON_COLUMNS and value else value
        for name, value in row.items()
    }
