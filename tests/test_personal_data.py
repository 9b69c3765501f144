"""The export by column: of every table with personal data, each column is exported or stands here with its reason."""

import re

from mosis.context import Context
from mosis.people.personal_data import EXPORTED

# reason -> columns, as "table.column", or "column" in every table
LEFT_OUT = {
    "the account itself, or an id that another list of the export has": "developer_id owner_id actor_id author_id app_id"
    " app_members.app_id app_invitations.id tickets.id jobs.id oauth_states.session_id reviews.claimed_by reviews.decided_by"
    " listing_changes.decided_by abuse_reports.closed_by"
    " versions.signing_key_id apps.first_owner_id",
    "a secret, or a hash of one: who reads the export must not be able to use it": "developers.password_hash api_keys.hash"
    " sessions.seed sessions.generation sessions.browser_hash oauth_states.browser_hash second_factors.seed"
    " second_factors.last_step second_factors.recovery_hashes publisher_tokens.token_hash webhooks.secret webhooks.old_secret"
    " webhooks.old_until device_logins.device_code_hash device_logins.user_code idempotency.body_mac idempotency.answer"
    " jobs.arguments jobs.lease_token abuse_reports.source_hash",
    "the account's public key: the list has its fingerprint": "signing_keys.public_key",
    "hashes that tie the lines of the audit trail together": "audit.previous_hash audit.hash",
    "a state of the portal's work, about no account": "api_keys.notified_at events.number events.mailed_at events.mail_due"
    " abuse_reports.number"
    " sessions.rotated_at device_logins.interval_seconds device_logins.polled_at device_logins.expires_at device_logins.made_by"
    " jobs.lane jobs.unique_key jobs.attempts jobs.again jobs.run_at jobs.lease_until jobs.finished_at"
    " webhook_deliveries.due_at webhook_deliveries.attempted_at webhook_deliveries.begun_at webhook_deliveries.finished_at"
    " webhooks.failures webhooks.failing_since webhooks.rests_until rollout_plans.watched_until rollout_plans.round"
    " rollout_plans.looks rollout_plans.next_look",
    "about an app or a package, and in the API for as long as the account has it": "apps.transferred_at apps.publish_by"
    " versions.released versions.submit_when_ready versions.publish_when_approved versions.permissions"
    " versions.min_mosis_version versions.rollout_percent versions.publish_at versions.findings versions.files"
    " versions.package_removed_at versions.security versions.offered_at reviews.because listing_changes.because",
    "empty as long as there is an account to export": "developers.erased_at",
}


def test_every_column_about_a_person_is_exported_or_left_out_for_a_reason(env: Context) -> None:
    db = env.db.connection()
    exported: dict[str, set[str]] = {}
    for sql in EXPORTED.values():
        table = re.search(r"\bFROM\s+(\w+)", sql)
        assert table
        row = db._raw.execute(sql, ("x",))
        exported.setdefault(table[1], set()).update(column[0] for column in row.description)
    listed = [name for names in LEFT_OUT.values() for name in names.split()]
    assert len(listed) == len(set(listed)), "a column is left out for one reason"
    unused = set(listed)
    for table, selected in exported.items():
        for _, column, *_ in db.all(f"PRAGMA table_info({table})"):
            reasons = {column, f"{table}.{column}"} & set(listed)
            unused -= reasons
            assert column in selected or reasons, (
                f"{table}.{column}: add it to EXPORTED, or to LEFT_OUT with its reason"
            )
            assert not (column in selected and f"{table}.{column}" in reasons), (
                f"{table}.{column} is exported and left out"
            )
    assert not unused, f"no such columns: {unused}"
