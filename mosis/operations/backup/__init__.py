"""Backups beside the replica, putting a database back, and the drill that proves it.

    copies.py     consistent copies while the portal runs; telemetry and the secrets      restoring.py   putting it back
    drills.py     the newest replica restored and looked at, every week
    recovery.py   the secrets and the telemetry in the bucket, encrypted (encryption.py);
                  bucket_copies.py says when they go there and come back

Copies are in BACKUPS_DIR/copies/TIME/ (without BACKUPS_DIR in data/copies/): portal.db, packages.sha256 (for `sha256sum -c` in
PACKAGES_DIR) and the secrets. BACKUPS_DIR also holds secrets/ as they are now and telemetry.db of the last day.
"""
