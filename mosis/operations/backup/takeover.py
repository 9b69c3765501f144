"""Taking over from another portal: its database, secrets and telemetry come from the bucket before this
portal starts. What this data folder had is renamed, once for each generation."""

import logging
import time
from pathlib import Path

from mosis.config import Config, ConfigError
from mosis.context import Context
from mosis.disk import flush
from mosis.litestream import BackupError, Litestream
from mosis.litestream.program import beside, discard
from mosis.operations.backup import bucket_copies
from mosis.operations.backup.recovery import SECRETS, open_recovery
from mosis.operations.backup.restoring import restore_lost
from mosis.outbound.lease import Lease, find, open_lease
from mosis.outbound.objects import ObjectError, open_bucket

log = logging.getLogger("mosis.operations.lease")

KEPT_SECONDS = 7 * 24 * 3600  # of an earlier generation: as long as the replica goes back


def prepare(config: Config, lease: Lease) -> bool:
    """After the lease was acquired: whether the database was restored. Interrupted anywhere, it is
    done again at the next start. Raises BackupError; then the portal must not start."""
    if not lease.needs_restore:
        return restore_lost(config, Litestream(config))
    source = Litestream(config, max(0, lease.generation - 1)).with_files()
    _restore_secrets(config, lease.generation)
    _rename(config.telemetry_path, lease.generation)
    bucket_copies.restore_telemetry(config)
    if source is not None:  # else the former holder ended before it had replicated anything
        fresh = config.database_path.with_name(f"{config.database_path.name}.restored")
        discard(fresh)
        source.restore(fresh)
        _rename(config.database_path, lease.generation)
        Litestream(config).reset()
        fresh.rename(config.database_path)
        flush(config.data_dir)
    for old in config.data_dir.glob("*.before-generation-*"):
        if not old.name.partition(".before-generation-")[2].startswith(str(lease.generation)):
            old.unlink()
    lease.restored()
    return source is not None


def check_key(config: Config) -> None:
    """Raises BackupError if the secrets in the bucket cannot be read: such a portal could not take
    over, and must not take the lease."""
    bucket = open_recovery(config)
    if bucket is not None:
        bucket.newest_secrets()


def check_without_lease(config: Config) -> None:
    """For a start with LEASE_SECONDS=0 on a data folder that had a lease, or without a database:
    raises BackupError while another portal has the lease. Sets the generation, so that the newest
    replica is restored and continued."""
    had = (config.data_dir / "lease").exists()
    if not config.backup_in_bucket or (not had and config.database_path.exists()):
        return
    try:
        lease = open_lease(config)
        found = find(lease.bucket)
    except (ConfigError, ObjectError) as error:
        if not had:  # such as without the extra, or with credentials that only Litestream finds
            log.warning("lease cannot be read", extra={"reason": str(error)})
            return
        raise BackupError(f"it is not known which portal has the lease: {error}") from error
    if found is None:
        return
    entry = found[0]
    if not entry.released and entry.holder != lease.holder:
        raise BackupError(
            f"{entry.host} has the lease in the bucket: start with LEASE_SECONDS={entry.seconds:.0f}; or, if"
            " that portal has stopped for good, run `portal.py lease release` first"
        )
    lease.generation = entry.generation
    if lease.needs_restore:
        if config.database_path.exists():
            raise BackupError(
                f"the database here is older than the one in the bucket, which {entry.host} wrote: move"
                f" {config.database_path} away, and start again to restore that one"
            )
        lease.restored()


def report(config: Config) -> tuple[str, str] | None:
    """For `doctor`: the level and what to do; None without a lease."""
    if not config.lease_seconds:
        return None
    lease = open_lease(config)
    try:
        lease.probe()
        found = find(lease.bucket)
    except (BackupError, ObjectError) as error:
        return "bad", str(error)
    if config.packages_url is None:
        return (
            "warn",
            "packages are in a folder of this machine: set PACKAGES_URL, or the portal that takes over"
            " needs PACKAGES_DIR on a disk that both machines have.",
        )
    if found is None or found[0].released:
        return "ok", "the store honours If-Match; no portal has the lease now"
    here = ", this machine" if found[0].holder == lease.holder else ""
    return "ok", f"the store honours If-Match; {found[0].host}{here} has the lease"


def sweep_generations(env: Context) -> None:
    """Remove the replicas of earlier generations to which nothing was written for seven days."""
    current = Litestream(env.config).generation
    if not current or env.config.backup_url is None:
        return
    bucket, newest = open_bucket(env.config.backup_url), dict[int, float]()
    stored: dict[int, list[str]] = {}
    for prefix in ("ltx", "generations"):
        for each in bucket.list(prefix):
            generation = 0 if prefix == "ltx" else int(each.name.split("/")[1])
            stored.setdefault(generation, []).append(each.name)
            newest[generation] = max(newest.get(generation, 0.0), each.changed_at)
    for generation in sorted(stored):
        if generation < current and newest[generation] < time.time() - KEPT_SECONDS:
            for name in stored[generation]:
                bucket.delete(name)
            log.info("replica of an earlier generation removed", extra={"generation": generation})


def _restore_secrets(config: Config, generation: int) -> None:
    """The secrets of the former holder. Those here that differ are renamed."""
    bucket = open_recovery(config)
    newest = (bucket.newest_secrets() if bucket is not None else None) or {}
    for name in SECRETS:
        path = config.data_dir / name
        if name in newest and path.exists() and path.read_bytes() != newest[name]:
            _rename(path, generation)
    bucket_copies.restore_secrets(config, newest)


def _rename(path: Path, generation: int) -> None:
    """Rename a file, with the sidecar files of a database. What was renamed by an earlier attempt at
    the same generation stays; then the file is what that attempt restored, and is removed."""
    stored = path.with_name(f"{path.name}.before-generation-{generation}")
    if stored.exists():
        discard(path)
        return
    for each in reversed(beside(path)):  # the file itself last: it marks that all are renamed
        suffix = each.name.removeprefix(path.name)
        each.rename(f"{stored}{suffix}")
