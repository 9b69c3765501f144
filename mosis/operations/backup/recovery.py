"""What a bucket has beside the replica: the secrets and the daily copies of telemetry.db, encrypted
with BACKUP_KEY. With them and the replica an empty machine becomes the portal that was lost.

Objects are numbered, created and never replaced: `recovery/secrets/NUMBER`, `recovery/telemetry/NUMBER`.
The highest number is the newest, whatever the clock was. So new secrets never take the place of
older ones, and an upload that is interrupted leaves what was there before.
"""

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from mosis.config import Config, ConfigError
from mosis.disk import write_new
from mosis.litestream import BackupError
from mosis.litestream.program import NoAnswer
from mosis.operations.backup.encryption import DamagedObject, decrypt, encrypt
from mosis.outbound.objects import Bucket, ObjectError, ObjectExists, Stored, open_bucket

log = logging.getLogger("mosis.operations.backup")

SECRETS = ("jwt_secret", "telemetry_secret", "store_key.json")  # in the data folder
SECRETS_KEPT, TELEMETRY_KEPT = 50, 3
LARGEST_SECRETS_BYTES = 1 << 20
PIECE = 1 << 20  # bytes of a file that are read at a time


class RecoveryBucket:
    """The encrypted objects of a portal. Methods raise BackupError, WrongKey or DamagedObject."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket = bucket
        self._key = key

    def index(self, series: str) -> list[Stored]:
        """The objects of `secrets` or `telemetry`, newest first."""
        with _reported():
            found = list(self.bucket.list(f"recovery/{series}"))
        numbered = [each for each in found if each.name.rpartition("/")[2].isdigit()]
        return sorted(numbered, key=_number, reverse=True)

    def newest_secrets(self) -> dict[str, bytes] | None:
        """The newest readable secrets by name, or None; damaged objects are logged."""
        damage: BackupError | None = None
        for stored in self.index("secrets"):
            try:
                return self._secrets(stored)
            except DamagedObject as error:
                log.error("backup is damaged", extra={"object": stored.name, "reason": str(error)})
                damage = damage or error
        if damage is not None:
            raise damage
        return None

    def add_secrets(self, secrets: dict[str, bytes]) -> None:
        """Store these secrets as the newest ones. Returns when the bucket has them."""
        content = json.dumps(
            {name: base64.b64encode(secret).decode() for name, secret in secrets.items()}
        ).encode()
        encrypted = b"".join(encrypt(self._key, "secrets", [content]))
        with _reported():
            while True:
                name = self._next("secrets")
                try:
                    self.bucket.create(name, encrypted, hashlib.sha256(encrypted).hexdigest())
                    break
                except ObjectExists:  # the same number at the same time, or a repeated request
                    continue
        self._forget("secrets", SECRETS_KEPT)

    def add_telemetry(self, path: Path) -> None:
        """Store a copy of this closed database as the newest. Memory does not grow with it."""
        with _reported(), open(path, "rb") as file:
            pieces = iter(lambda: file.read(PIECE), b"")
            self.bucket.upload(self._next("telemetry"), encrypt(self._key, "telemetry", pieces))
        self._forget("telemetry", TELEMETRY_KEPT)

    def restore_telemetry(self, target: Path, sound: Callable[[Path], list[str]]) -> Stored | None:
        """Write the newest copy that can be read and that `sound` finds no fault in into a new file,
        flushed; what was restored, or None if there is none."""
        damage: BackupError | None = None
        for stored in self.index("telemetry"):
            try:
                self._write(stored, target, sound)
                return stored
            except DamagedObject as error:
                log.error("backup is damaged", extra={"object": stored.name, "reason": str(error)})
                damage = damage or error
        if damage is not None:
            raise damage
        return None

    def _write(self, stored: Stored, target: Path, sound: Callable[[Path], list[str]]) -> None:
        part = target.with_name(target.name + ".part")
        try:
            write_new(part, self._read(stored, "telemetry"))
            if faults := sound(part):
                raise DamagedObject(f"the database in it is damaged: {faults[0]}")
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)

    def _secrets(self, stored: Stored) -> dict[str, bytes]:
        if stored.size_bytes > LARGEST_SECRETS_BYTES:
            raise DamagedObject("it is larger than any secrets are")
        content = b"".join(self._read(stored, "secrets"))
        try:
            document = json.loads(content)
            return {
                name: base64.b64decode(document[name], validate=True)
                for name in SECRETS
                if name in document
            }
        except (ValueError, TypeError) as error:
            raise DamagedObject("it does not contain secrets") from error

    def _read(self, stored: Stored, purpose: str) -> Iterator[bytes]:
        with _reported():
            yield from decrypt(
                self._key, purpose, self.bucket.stream(stored.name, stored.size_bytes)
            )

    def _next(self, series: str) -> str:
        newest = self.index(series)
        return f"recovery/{series}/{_number(newest[0]) + 1 if newest else 1:08d}"

    def _forget(self, series: str, newest: int) -> None:
        with _reported():
            for old in self.index(series)[newest:]:
                self.bucket.delete(old.name)


def open_recovery(config: Config) -> RecoveryBucket | None:
    """The encrypted objects in BACKUP_URL; None without BACKUP_URL or BACKUP_KEY. Raises ConfigError
    if the extra is missing."""
    if config.backup_url is None or config.backup_key is None:
        return None
    return RecoveryBucket(open_bucket(config.backup_url), config.backup_key)


def missing_secrets(config: Config) -> list[str]:
    """The names of the secrets that the data folder lacks."""
    given = {"jwt_secret"} if config.jwt_secret else set()
    return [each for each in SECRETS if each not in given and not (config.data_dir / each).exists()]


def is_locked(config: Config) -> bool:
    """Whether BACKUP_URL has encrypted secrets although BACKUP_KEY is not set. False where it cannot be
    asked, such as without the extra: nothing is uploaded without the key, so they stay there."""
    if config.backup_key is not None or not config.backup_in_bucket:
        return False
    try:
        return bool(RecoveryBucket(open_bucket(config.backup_url or ""), "").index("secrets"))
    except (ConfigError, NoAnswer) as error:
        log.warning("bucket cannot be asked for secrets", extra={"reason": str(error)})
        return False


def _number(stored: Stored) -> int:
    return int(stored.name.rpartition("/")[2])


class _reported:
    """Turns errors of the bucket into NoAnswer."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ObjectError):
            raise NoAnswer(str(error)) from error
