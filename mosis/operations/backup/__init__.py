"""Backups beside the replica, putting a database back, and the drill that proves it.

    copies.py     consistent copies while the portal runs; telemetry and the secrets      restoring.py   putting it back
    drills.py     the newest replica restored and looked at, every week
    recovery.py   the secrets and the telemetry in the bucket, encrypted (encryption.py);
                  bucket_copies.py says when they go there and come back

Copies are in BACKUPS_DIR/copies/TIME/ (without BACKUPS_DIR in data/copies/): portal.db, packages.sha256 (for `sha256sum -c` in
PACKAGES_DIR) and the secrets. BACKUPS_DIR also holds secrets/ as they are now and telemetry.db of the last day.
"""

from mosis.operations.backup.bucket_copies import lacks_secrets, upload_secrets
from mosis.operations.backup.bucket_copies import report as bucket_report
from mosis.operations.backup.copies import (
    Copy,
    copy_secrets,
    daily,
    index,
    make,
    make_by_job,
    request_copy,
)
from mosis.operations.backup.drills import (
    Drill,
    drill,
    drill_by_command,
    drill_by_schedule,
    last_drill,
    request_drill,
)
from mosis.operations.backup.restoring import Restored, restore, restore_lost

__all__ = [
    "Copy",
    "Drill",
    "Restored",
    "bucket_report",
    "copy_secrets",
    "daily",
    "drill",
    "drill_by_command",
    "drill_by_schedule",
    "index",
    "lacks_secrets",
    "last_drill",
    "make",
    "make_by_job",
    "request_copy",
    "request_drill",
    "restore",
    "restore_lost",
    "upload_secrets",
]
