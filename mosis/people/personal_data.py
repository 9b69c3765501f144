"""Data export and account erasure."""

import json
from typing import Any

from mosis import audit
from mosis.caller import Caller
from mosis.clock import text
from mosis.context import Context
from mosis.credentials import passwords
from mosis.database import Connection
from mosis.outbound.mail import Written
from mosis.people import accounts, revocation
from mosis.people.accounts import Developer
from mosis.publishing import abuse_reports, apps, listing_changes, members, quotas, versions
from mosis.publishing.versions import MOVES

# The account's address, if it has been verified. Until then it may be somebody else's: invitations and
# password resets sent to it are neither exported nor deleted.
VERIFIED = "(SELECT email FROM developers WHERE id = ?1 AND email_verified = 1)"
OF_MAILS = (  # the jobs that mail its email tokens and events
    "(arguments ->> 'ticket_id' IN (SELECT id FROM tickets WHERE developer_id = ?1)"
    " OR arguments ->> 'event_id' IN (SELECT id FROM events WHERE developer_id = ?1))"
)

FORMER = "A former developer"  # the name of an erased account
# Where the events of other accounts name an account (?1); `kind` first, because it is quick to compare.
MENTIONS = (
    "UPDATE events SET data = json_set(data, '$.name', ?2) WHERE kind LIKE 'app.member_%' AND data ->> 'account_id' = ?1",
    "UPDATE events SET data = json_set(data, '$.name', ?2) WHERE kind = 'listing.developer_changed'"
    " AND data ->> 'account_id' = ?1",
    "UPDATE events SET data = json_set(data, '$.before', ?2) WHERE kind = 'listing.developer_changed'"
    " AND data ->> 'before_id' = ?1",
    "UPDATE events SET data = json_set(data, '$.by', ?2) WHERE kind = 'app.released' AND data ->> 'by_id' = ?1",
    "UPDATE events SET data = json_set(data, '$.email', ?2) WHERE kind IN ('app.member_invited', 'app.transfer_offered')"
    f" AND data ->> 'email' = {VERIFIED} COLLATE NOCASE",
    "UPDATE events SET data = json_set(data, '$.text', '(erased)') WHERE kind = 'review.message' AND ?2 <> ''"
    " AND data ->> 'message' IN (SELECT id FROM messages WHERE author_id = ?1)",
)

# The export: name of the list -> its query, with the account's id as ?1. Secrets and hashes are left out.
EXPORTED = {
    "account": "SELECT id, email, email_verified, name, role, suspended, created_at, mail_choices FROM developers WHERE id = ?1",
    "sessions": "SELECT id, client, address, created_at, last_used_at, expires_at, ended_at, end_reason, scopes, made_by"
    " FROM sessions WHERE developer_id = ?1",
    "api_keys": "SELECT id, name, prefix, scopes, apps, role, expires_at, last_used_at, created_at, revoked_at, made_by"
    " FROM api_keys WHERE developer_id = ?1",
    "signing_keys": "SELECT id, name, fingerprint, state, created_at, revoked_at, made_by"
    " FROM signing_keys WHERE developer_id = ?1",
    "identities": "SELECT id, provider, issuer, subject, created_at, last_used_at FROM identities WHERE developer_id = ?1",
    "sign_ins_begun": "SELECT provider, stage, return_to, expires_at FROM oauth_states WHERE developer_id = ?1 OR session_id IN"
    " (SELECT id FROM sessions WHERE developer_id = ?1)",
    "tickets": "SELECT purpose, email, created_at, expires_at, used_at FROM tickets WHERE developer_id = ?1"
    f" OR email = {VERIFIED}",
    "device_logins": "SELECT id, client_name, scopes, state, created_at FROM device_logins WHERE developer_id = ?1",
    "second_factor": "SELECT created_at, confirmed_at FROM second_factors WHERE developer_id = ?1",
    "apps": "SELECT id, package_id, name, summary, description, category, tags, homepage, published, suspended, created_at,"
    " updated_at, rollout_plan FROM apps WHERE developer_id = ?1",
    "memberships": "SELECT a.package_id, m.role, m.created_at FROM app_members m JOIN apps a ON a.id = m.app_id"
    " WHERE m.developer_id = ?1",
    "trusted_publishers": "SELECT p.id, a.package_id, p.issuer, p.claims, p.scopes, p.created_at, p.last_used_at FROM"
    " trusted_publishers p JOIN apps a ON a.id = p.app_id WHERE p.developer_id = ?1",
    "publisher_tokens": "SELECT t.id, t.publisher_id, t.created_at, t.expires_at FROM publisher_tokens t JOIN"
    " trusted_publishers p ON p.id = t.publisher_id WHERE p.developer_id = ?1",
    "app_invitations": "SELECT a.package_id, i.email, i.role, i.transfer, i.created_at, i.expires_at FROM app_invitations i"
    f" JOIN apps a ON a.id = i.app_id WHERE i.developer_id = ?1 OR i.email = {VERIFIED}",
    "versions": "SELECT v.id, a.package_id, v.version, v.version_code, v.channel, v.state, v.release_notes, v.manifest,"
    " v.size_bytes, v.sha256, v.yank_reason, v.created_at, v.submitted_at, v.decided_at, v.published_at FROM versions v"
    " JOIN apps a ON a.id = v.app_id WHERE a.developer_id = ?1",
    "rollout_plans": "SELECT p.version_id, p.steps, p.halt_when, p.state, p.steps_taken, p.next_step_at, p.halted"
    " FROM rollout_plans p JOIN versions v ON v.id = p.version_id JOIN apps a ON a.id = v.app_id WHERE a.developer_id = ?1",
    "reviews": "SELECT r.id, r.version_id, r.state, r.reasons, r.comment, r.submitted_at, r.decided_at FROM reviews r"
    " JOIN versions v ON v.id = r.version_id JOIN apps a ON a.id = v.app_id WHERE a.developer_id = ?1",
    "reviews_done": "SELECT id, version_id, state, reasons, comment, claimed_until, decided_at FROM reviews"
    " WHERE decided_by = ?1 OR claimed_by = ?1",
    "listing_changes": "SELECT c.id, c.app_id, c.state, c.revision, c.fields, c.before, c.reasons, c.comment, c.submitted_at,"
    " c.updated_at, c.decided_at FROM listing_changes c JOIN apps a ON a.id = c.app_id"
    " WHERE a.developer_id = ?1 OR c.author_id = ?1",
    "listing_changes_decided": "SELECT id, state, reasons, comment, decided_at FROM listing_changes WHERE decided_by = ?1",
    "abuse_reports": "SELECT r.id, a.package_id, r.verified, r.reason, r.text, r.email, r.created_at, r.closed_at, r.outcome"
    " FROM abuse_reports r JOIN apps a ON a.id = r.app_id WHERE r.author_id = ?1"
    f" OR r.email = {VERIFIED} COLLATE NOCASE",
    "abuse_reports_closed": "SELECT id, reason, closed_at, outcome FROM abuse_reports WHERE closed_by = ?1",
    "messages": "SELECT id, version_id, sender, internal, text, created_at FROM messages WHERE author_id = ?1",
    "events": "SELECT id, kind, package_id, version, data, created_at, read_at FROM events WHERE developer_id = ?1 ORDER BY number",
    "webhooks": "SELECT id, url, kinds, enabled, created_at FROM webhooks WHERE developer_id = ?1",
    "webhook_deliveries": "SELECT d.id, d.webhook_id, d.event_id, d.state, d.attempts, d.status, d.error, d.created_at FROM"
    " webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.developer_id = ?1",
    "idempotency": "SELECT id, expires_at FROM idempotency WHERE developer_id = ?1",
    "jobs": "SELECT kind, state, created_at, last_error FROM jobs"
    f" WHERE owner_id = ?1 OR arguments ->> 'email' = {VERIFIED} COLLATE NOCASE OR {OF_MAILS}",
    "job_turns": "SELECT lane, turn, rests_until FROM job_turns WHERE owner_id = ?1",
    "audit": "SELECT number, at, action, subject_id, iif(coalesce(actor_id, ?1) = ?1, address, '') AS address, details FROM audit"
    # network addresses of staff are left out
    " WHERE actor_id = ?1 OR owner_id = ?1 ORDER BY number",
}

JSON_COLUMNS = (
    "claims", "fields", "before", "scopes", "apps", "kinds", "tags", "data", "details", "reasons",
    "mail_choices", "manifest", "rollout_plan", "steps", "halt_when", "halted",
)  # fmt: skip


def export(env: Context, db: Connection, caller: Caller) -> dict[str, Any]:
    """All data about the caller: lists of rows by name."""
    developer = accounts.get(db, caller.account)
    mails = _in_folder(env, developer.email, _own_mails(db, developer))
    return {
        name: [_unpacked(row) for row in db.dicts(sql, caller.account)]
        for name, sql in EXPORTED.items()
    } | {
        "mails": [
            {"subject": mail.subject, "written_at": text(mail.written_at)}
            for mail in mails  # bodies contain tokens, so they are left out
        ]
    }


def erase(
    env: Context, db: Connection, caller: Caller, password: str | None, *, withdraw_apps: bool
) -> None:
    """Erase the caller's account: personal data is deleted; the id remains as a pseudonym in the
    audit trail.

    Published apps stay under that pseudonym, or are yanked with `withdraw_apps`; unpublished ones
    are deleted. Raises Denied `invalid_credentials` if the account has a password and this is not
    it.
    """
    developer = accounts.get(db, caller.account)
    passwords.require(password, developer.password_hash, env.password_cost)
    with db.write():
        developer = accounts.unchanged(db, developer)
        own = _own_mails(db, developer)
        members.leave_all(db, developer.id)
        listing_changes.end_waiting(db, caller, developer.id)
        abuse_reports.forget(db, developer.id)
        _erase_work(db, caller, developer.id, withdraw_apps)
        _erase_traces(db, developer.id)
        revocation.erase(db, developer.id)
        db.change("DELETE FROM events WHERE developer_id = ?", developer.id)
        db.change("DELETE FROM job_turns WHERE owner_id = ?", developer.id)
        sql = (
            "UPDATE developers SET email = ?, name = ?, email_verified = 0, role = 'developer', password_hash = NULL,"
            " mail_choices = '{}', erased_at = ? WHERE id = ?"
        )
        db.change(sql, f"erased-{developer.id}@invalid", FORMER, db.now, developer.id)
        audit.add(
            db,
            caller,
            "account.erased",
            developer.id,
            apps="withdrawn" if withdraw_apps else "kept",
        )
    # after the commit, when no further mail is written
    for mail in _in_folder(env, developer.email, own):
        mail.path.unlink(missing_ok=True)


def _own_mails(db: Connection, developer: Developer) -> set[str] | None:
    """The ids of the mails sent for an account's email tokens and events; None stands for every
    mail to its address, if that is verified."""
    if developer.email_verified:
        return None
    rows = db.all(
        "SELECT id FROM tickets WHERE developer_id = ?1"
        " UNION ALL SELECT id FROM events WHERE developer_id = ?1",
        developer.id,
    )
    return {message_id for (message_id,) in rows}


def _in_folder(env: Context, email: str, own: set[str] | None) -> list[Written]:
    """Those mails that are in the mail folder."""
    found = env.mailer.written_to(email)
    return [mail for mail in found if own is None or mail.path.stem in own]


def _erase_traces(db: Connection, developer_id: str) -> None:
    """Delete data about the account in other tables; by address only if that is verified."""
    db.change(
        f"UPDATE jobs SET last_error = '(erased)' WHERE last_error IS NOT NULL AND (owner_id = ?1 OR {OF_MAILS} OR"
        f" instr(lower(last_error), lower({VERIFIED})))",
        developer_id,
    )
    sql = f"DELETE FROM jobs WHERE arguments ->> 'email' = {VERIFIED} COLLATE NOCASE"
    db.change(sql, developer_id)
    db.change(f"DELETE FROM tickets WHERE email = {VERIFIED}", developer_id)  # invitations
    db.change(f"DELETE FROM app_invitations WHERE email = {VERIFIED}", developer_id)
    for mentioned in MENTIONS:
        db.change(mentioned, developer_id, FORMER)
    db.update("messages", "author_id = ?", developer_id, text="(erased)")
    db.change(
        "UPDATE versions SET manifest = json_remove(manifest, '$.author') WHERE app_id IN"
        " (SELECT id FROM apps WHERE developer_id = ?)",
        developer_id,
    )


def _erase_work(db: Connection, caller: Caller, developer_id: str, withdraw: bool) -> None:
    """Delete apps and versions that were never published, and yank the others if `withdraw` is set."""
    for (app_id,) in db.all("SELECT id FROM apps WHERE developer_id = ?", developer_id):
        app = apps.get(db, app_id)
        if not app.published:
            apps.delete(db, caller, app)
            continue
        sql = "SELECT DISTINCT version FROM versions WHERE app_id = ? AND released = 0"
        for (version_string,) in db.all(sql, app.id):
            quotas.remove_later(db, app.home, app.id, version_string)
        db.change("DELETE FROM versions WHERE app_id = ? AND released = 0", app.id)
        for (version_id,) in db.all("SELECT id FROM versions WHERE app_id = ?", app.id):
            version = versions.by_id(db, version_id)
            if withdraw and version is not None and version.state in MOVES["yank"][0]:
                versions.move(
                    db, caller, version, "yank", yank_reason="The developer has left the store."
                )


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its JSON columns parsed."""
    return {
        name: json.loads(value) if name in JSON_COLUMNS and value else value
        for name, value in row.items()
    }
