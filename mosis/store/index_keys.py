"""The portal's Ed25519 keys (RFC 8032) that sign the store index: the current one, and older ones
that are still announced.

They are stored in `store_key.json` beside the database, mode 0600, created at first start. While an
older key is announced, the index is signed with it too and names the new key, so that a device that
trusts only the old key can verify the new one.
"""

import base64
import json
import logging
import os
import secrets
import stat
from functools import cached_property
from pathlib import Path
from typing import Any

from mosis import disk, packages
from mosis.clock import seconds, text
from mosis.config import ConfigError
from mosis.context import Context
from mosis.records import dataclass

log = logging.getLogger("mosis.store")

ANNOUNCED_DAYS = 30


@dataclass(frozen=True)
class IndexKey:
    """A key pair; `announced_until` is None for the current key."""

    private: bytes
    created_at: str
    announced_until: str | None = None

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return bytes(self._pair().public_key().public_bytes_raw())

    @property
    def fingerprint(self) -> str:
        return packages.fingerprint(self.public)

    def sign(self, message: Any) -> bytes:
        """The signature of a message (bytes or a mapped file), 64 bytes."""
        return bytes(self._pair().sign(message))

    def _pair(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.private)


@dataclass
class _Cached:
    """The keys as last read, and the state of the file then (inode, time, size)."""

    keys: tuple[tuple[int, int, int], list[IndexKey]] | None = None


def index_keys(env: Context) -> list[IndexKey]:
    """The keys that sign now, the current one first; created if there are none. Keys whose
    announcement has ended are dropped. Raises ConfigError if the file is damaged."""
    path, now = _path(env), env.clock.now()
    try:
        state = path.stat()
    except FileNotFoundError:
        _write(path, [_new(env)])
        state = path.stat()
        if env.db.connection().value("SELECT sequence FROM store_state"):
            log.error(
                "store_key.json was missing and a new key was made: devices reject "
                "the index until they get the new public key"
            )
    if stat.S_IMODE(state.st_mode) & 0o077:
        path.chmod(0o600)
    seen = (state.st_ino, state.st_mtime_ns, state.st_size)
    cached = env.state(_Cached)
    if cached.keys is None or cached.keys[0] != seen:
        cached.keys = (seen, _read(path))
    keys = cached.keys[1]
    return [key for key in keys if key.announced_until is None or key.announced_until > now]


def public_keys(keys: list[IndexKey]) -> list[dict[str, Any]]:
    """The keys as devices and store front ends are shown them, without the private part."""
    return [
        {
            "fingerprint": key.fingerprint,
            "algorithm": "Ed25519",
            "public_key": base64.b64encode(key.public).decode(),
            "created_at": key.created_at,
            "announced_until": key.announced_until,
        }
        for key in keys
    ]


def rotate(env: Context, announced_days: int = ANNOUNCED_DAYS) -> IndexKey:
    """Sign with a new key; the old one stays announced. Portals reload the file."""
    until = text(seconds(env.clock.now()) + announced_days * 86400)
    older = [
        IndexKey(key.private, key.created_at, key.announced_until or until)
        for key in index_keys(env)
    ]
    key = _new(env)
    _write(_path(env), [key, *older])
    return key


def _path(env: Context) -> Path:
    return env.config.data_dir / "store_key.json"


def _new(env: Context) -> IndexKey:
    # every 32-byte string is a valid private key (RFC 8032, section 5.1.5)
    return IndexKey(secrets.token_bytes(32), env.clock.now())


def _read(path: Path) -> list[IndexKey]:
    try:
        keys = [
            IndexKey(
                base64.b64decode(each["private_key"], validate=True),
                each["created_at"],
                each["announced_until"],
            )
            for each in json.loads(path.read_bytes())["keys"]
        ]
        if (
            not keys
            or any(len(key.private) != 32 for key in keys)
            or keys[0].announced_until is not None
        ):
            raise ValueError("no current key")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            [
                f"{path.name} is damaged. Restore it from a backup; or remove it, and "
                "give the new public key to all devices."
            ]
        ) from error
    return keys


def _write(path: Path, keys: list[IndexKey]) -> None:
    """Replace the file atomically and flush it: after a crash the old or the new keys are there."""
    document = {"keys": [
        {
            "private_key": base64.b64encode(key.private).decode(), "created_at": key.created_at,
            "announced_until": key.announced_until,
        }
        for key in keys
    ]}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    with open(
        os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii"
    ) as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    disk.flush(path.parent)
