"""Backups beside the replica, putting a database back, and the drill that proves it.

    copies.py     consistent copies while the portal runs; telemetry and the secrets      restoring.py   putting it back
    drills.py     the newest replica restored and looked at, every week

Copies lie in BACKUPS_DIR/copies/TIME/ (without BACKUPS_DIR in data/copies/): portal.db, packages.sha256 (for `sha256sum -c` in
PACKAGES_DIR) and the secrets. BACKUPS_DIR also holds secrets/ as they are now and telemetry.db of the last day.
"""

from mosis.operations.backup.copies import (
    Copy,
    ask_for_copy,
    daily,
    index,
    keep_secrets,
    make,
    make_by_job,
)
from mosis.operations.backup.drills import Drill, drill, drill_by_schedule, last_drill
from mosis.operations.backup.restoring import Restored, give_back_lost, restore

__all__ = [
    "Copy",
    "Drill",
    "Restored",
    "ask_for_copy",
    "daily",
    "drill",
    "drill_by_schedule",
    "give_back_lost",
    "index",
    "keep_secrets",
    "last_drill",
    "make",
    "make_by_job",
    "restore",
]
