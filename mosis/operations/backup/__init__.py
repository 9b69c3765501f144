"""Backups beside the replica, putting a database back, and the drill that proves it.

    copies.py     consistent copies while the portal runs; telemetry and the secrets      restoring.py   putting it back
    drills.py     the newest replica restored and looked at, every week

Copies are in BACKUPS_DIR/copies/TIME/ (without BACKUPS_DIR in data/copies/): portal.db, packages.sha256 (for `sha256sum -c` in
PACKAGES_DIR) and the secrets. BACKUPS_DIR also holds secrets/ as they are now and telemetry.db of the last day.
"""

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
    drill_by_schedule,
    last_drill,
    request_drill,
)
from mosis.operations.backup.restoring import Restored, restore, restore_lost

__all__ = [
    "Copy",
    "Drill",
    "Restored",
    "copy_secrets",
    "daily",
    "drill",
    "drill_by_schedule",
    "index",
    "last_drill",
    "make",
    "make_by_job",
    "request_copy",
    "request_drill",
    "restore",
    "restore_lost",
]
