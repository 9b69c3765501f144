"""When the secrets go to the bucket, and how an empty data folder gets them and the telemetry back."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mosis import jobs
from mosis.clock import DAY
from mosis.config import Config, ConfigError
from mosis.context import Context
from mosis.database import faults
from mosis.disk import flush, replace
from mosis.litestream import BackupError
from mosis.operations.backup.encryption import DamagedObject, WrongKey
from mosis.operations.backup.recovery import (
    SECRETS,
    RecoveryBucket,
    is_locked,
    missing_secrets,
    open_recovery,
)
from mosis.records import dataclass

log = logging.getLogger("mosis.operations.backup")

Result = TypeVar("Result")
TRIES = 3  # of a restore that is interrupted by the network


@dataclass
class _Uploaded:
    """SHA-256 of the secrets that are known to be in the bucket."""

    digest: bytes | None = None


def report(config: Config) -> tuple[str, str] | None:
    """For `doctor`: the level (ok, warn, bad) and what to do; None without BACKUP_URL."""
    if config.backup_url is None:
        return None
    if config.backup_key is None:
        return (
            "warn",
            "the secrets and the telemetry are not in BACKUP_URL: set BACKUP_KEY (for s3:// only), or copy"
            " jwt_secret, telemetry_secret and store_key.json yourself. Without them everybody is signed out.",
        )
    try:
        bucket = open_recovery(config)
        assert bucket is not None
        secrets, telemetry = bucket.newest_secrets(), bucket.index("telemetry")
    except WrongKey as error:
        return (
            "warn",
            f"{error}. The portal uploads the secrets with the present key when it starts.",
        )
    except (BackupError, ConfigError) as error:
        return "bad", f"what is in the bucket beside the replica cannot be read: {error}"
    if secrets is None:
        return "warn", "the bucket has no secrets: start the portal, which uploads them."
    if secrets != live_secrets(config):
        return (
            "warn",
            "the bucket has other secrets than this folder: the portal uploads them when it runs.",
        )
    age = time.time() - telemetry[0].changed_at if telemetry else None
    if age is None or age > 2 * DAY:
        days = (
            "no copy of telemetry.db"
            if age is None
            else f"no newer copy of telemetry.db than {age / DAY:.0f} days"
        )
        return (
            "warn",
            f"the secrets are in the bucket, but {days}: does the portal run, and the job copy_telemetry?",
        )
    return (
        "ok",
        f"the secrets and {len(telemetry)} copies of telemetry.db are in the bucket, encrypted",
    )


def live_secrets(config: Config) -> dict[str, bytes]:
    """The secrets as they are now, by name; JWT_SECRET is among them."""
    found = {
        name: (config.data_dir / name).read_bytes()
        for name in SECRETS
        if (config.data_dir / name).exists()
    }
    return found | ({"jwt_secret": config.jwt_secret.encode()} if config.jwt_secret else {})


def request_upload(env: Context) -> None:
    """Queue the upload of the secrets if this process does not know that they are in the bucket."""
    if env.config.backup_key is None:
        return
    if env.state(_Uploaded).digest != _digest(live_secrets(env.config)):
        with env.db.write() as db:
            jobs.add(db, "upload_secrets", unique_key="upload_secrets")


def upload_secrets(env: Context) -> None:
    """Store the secrets in the bucket, beside older ones, if they are new. Raises BackupError."""
    bucket = open_recovery(env.config)
    if bucket is None:
        return
    secrets = live_secrets(env.config)
    try:
        newest = bucket.newest_secrets()
    except (WrongKey, DamagedObject) as error:  # with a new BACKUP_KEY all is encrypted again
        log.warning("secrets in the bucket cannot be read", extra={"reason": str(error)})
        newest, db = None, env.db.connection()
        with db.write():
            jobs.add(db, "copy_telemetry", unique_key="copy_telemetry:now")
    if newest != secrets:
        bucket.add_secrets(secrets)
        log.info("secrets uploaded", extra={"names": sorted(secrets)})
    env.state(_Uploaded).digest = _digest(secrets)


def restore_secrets(config: Config, newest: dict[str, bytes] | None = None) -> list[str]:
    """Restore the secrets that the data folder lacks from the bucket; their names. One that exists
    is never changed. Without a request if none is missing, or if the caller has the `newest`.

    Raises BackupError if the bucket does not answer or cannot be read: new secrets must not be made
    then."""
    missing = missing_secrets(config)
    if not missing:
        return []
    bucket = open_recovery(config)
    if bucket is None:
        if is_locked(config):
            raise BackupError(
                "the bucket has this portal's secrets, encrypted, and BACKUP_KEY is not set: set it,"
                " or everybody would be signed out and devices would not trust the index"
            )
        return []
    if newest is None:
        newest = _tried(bucket.newest_secrets) or {}
    config.data_dir.mkdir(parents=True, exist_ok=True)
    restored = [name for name in missing if name in newest]
    for name in restored:
        replace(config.data_dir / name, [newest[name]])
    flush(config.data_dir)
    if restored:
        log.warning("secrets restored from the bucket", extra={"names": restored})
    return restored


def lacks_secrets(config: Config) -> bool:
    """Whether secrets are missing here that the bucket has: a command must not make new ones. Without
    a request if none is missing. Raises BackupError if the bucket does not answer."""
    bucket = open_recovery(config) if missing_secrets(config) else None
    return bucket is not None and bool(bucket.index("secrets"))


def restore_telemetry(config: Config) -> bool:
    """Restore the newest sound copy of telemetry.db from the bucket if there is no such file here;
    whether it was restored. Copies that cannot be read are reported, and the portal starts without
    telemetry: devices and accounts do not depend on telemetry. Raises BackupError if the bucket does not answer."""
    path, bucket = config.telemetry_path, open_recovery(config)
    if bucket is None or path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        stored = _tried(lambda: bucket.restore_telemetry(path, faults))
    except (WrongKey, DamagedObject) as error:
        log.error("no copy of the telemetry can be read", extra={"reason": str(error)})
        return False
    if stored is None:
        return False
    flush(path.parent)
    log.warning(
        "telemetry restored from the bucket",
        extra={"object": stored.name, "bytes": path.stat().st_size},
    )
    return True


def drill(env: Context, folder: Path) -> tuple[str, list[str]]:
    """Restore the secrets and the telemetry of the bucket into a temporary folder, and compare the
    secrets with those in use: a line that says what was found, without a secret, and findings."""
    findings: list[str] = []
    try:
        bucket = open_recovery(env.config)
        if bucket is None:
            return "", []
        secrets, live = bucket.newest_secrets(), live_secrets(env.config)
        same = [name for name in live if secrets is not None and secrets.get(name) == live[name]]
        if secrets is None:
            findings.append("the bucket has no secrets: the portal uploads them when it runs")
        findings += [
            f"the bucket does not have the {name} that is in use"
            for name in live
            if secrets is not None and name not in same
        ]
        env.files.check_room(_telemetry_bytes(bucket), folder)
        stored = bucket.restore_telemetry(folder / "telemetry.db", faults)
    except (BackupError, ConfigError) as error:
        return "", [f"what the bucket has beside the replica cannot be restored: {error}"]
    if stored is None:
        findings.append("the bucket has no copy of telemetry.db: the portal makes one every day")
    size_bytes = 0 if stored is None else (folder / "telemetry.db").stat().st_size
    return (
        f"secrets in the bucket: {len(same)} of {len(live)} as in use; telemetry: {size_bytes} bytes restored",
        findings,
    )


def _telemetry_bytes(bucket: RecoveryBucket) -> int:
    """The size of the newest copy; it is about that of the database in it."""
    stored = bucket.index("telemetry")
    return stored[0].size_bytes if stored else 0


def _tried(action: Callable[[], Result]) -> Result:
    """The result of an action that is repeated when the bucket does not answer."""
    for attempt in range(1, TRIES):
        try:
            return action()
        except (WrongKey, DamagedObject):
            raise
        except BackupError as error:
            log.warning("restore from the bucket is repeated", extra={"reason": str(error)})
            time.sleep(0.5 * attempt)
    return action()


def _digest(secrets: dict[str, bytes]) -> bytes:
    made = hashlib.sha256()
    for name, secret in sorted(secrets.items()):
        made.update(f"{name} {len(secret)} ".encode() + secret)
    return made.digest()
