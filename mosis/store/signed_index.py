"""The whole catalogue as one signed file, for checking without the portal: no mirror and no old copy can pass for the newest.

`sequence` only grows: past the number in the database, past every file that was made, and past the time in milliseconds, so that it
does not go back when an older database is put back either. Each process makes one anew when it starts, for the same reason.
"""

import base64
import hashlib
import json
import logging
import mmap
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

from mosis.clock import seconds, text
from mosis.context import Environment
from mosis.database import Connection
from mosis.errors import Unavailable
from mosis.store.index_keys import IndexKey, flush_folder, index_keys
from mosis.store.revisions import revision

log = logging.getLogger("mosis.store")

EXPIRES_AFTER_SECONDS = 7 * 86400
RENEWED_AFTER_SECONDS = 86400
SLOW_SECONDS, REST = 0.2, 10  # what takes longer to make is made at most a tenth of the time
FAILED_SECONDS = 5  # until the next try where one could not be made
FILES_KEPT = 3
ROWS = 1000
_NAME = re.compile(r"(\d{1,19})\.json\Z")


@dataclass(frozen=True)
class SignedIndex:
    """An index that lies on the disk, with its signatures."""

    sequence: int
    catalogue: int
    path: Path
    size_bytes: int
    sha256: str
    created_at: str
    fingerprints: tuple[str, ...]
    signatures: bytes  # the finished index.json.sig


@dataclass
class Shelf:
    """The index of this process."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    index: SignedIndex | None = None
    rests_until: float = 0.0  # monotonic


def current_index(env: Environment, db: Connection) -> SignedIndex:
    """The index of the catalogue as it is. One that takes long to make may be behind, by ten times as long at most, and so may one
    that cannot be made because the disk is full. Raises Unavailable `package_unavailable` when there is none."""
    shelf: Shelf = env.remembered.setdefault("index", Shelf())
    keys = index_keys(env)
    if _is_right(env, shelf.index, keys):
        return shelf.index  # type: ignore[return-value]
    if shelf.index is not None and (monotonic() < shelf.rests_until or shelf.lock.locked()):
        return shelf.index
    with shelf.lock:
        if not _is_right(env, shelf.index, keys):
            started = monotonic()
            try:
                shelf.index = _make(env, db, keys)
            except (OSError, Unavailable) as error:
                log.error("the store's index cannot be made", extra={"reason": str(error)})
                if shelf.index is None or not shelf.index.path.exists():
                    raise Unavailable(
                        "package_unavailable",
                        "The index cannot be made at the moment; see the log.",
                    ) from error
                shelf.rests_until = monotonic() + FAILED_SECONDS
                return shelf.index
            took = monotonic() - started
            shelf.rests_until = started + took * (REST + 1) if took > SLOW_SECONDS else 0.0
        assert shelf.index is not None
        return shelf.index


def _is_right(env: Environment, index: SignedIndex | None, keys: list[IndexKey]) -> bool:
    return (
        index is not None
        and index.catalogue == revision(env)[0]
        and index.path.exists()
        and index.fingerprints == tuple(key.fingerprint for key in keys)
        and 0 <= env.clock.time() - seconds(index.created_at) < RENEWED_AFTER_SECONDS
    )


def _make(env: Environment, db: Connection, keys: list[IndexKey]) -> SignedIndex:
    folder = env.config.data_dir / "store-index"
    folder.mkdir(parents=True, exist_ok=True)
    catalogue, now = revision(env)[0], env.clock.now()
    with db.write():
        before = max(db.value("SELECT sequence FROM store_state"), *_sequences(folder), 0)
        sequence = max(before + 1, int(env.clock.time() * 1000))
        db.change("UPDATE store_state SET sequence = ?", sequence)
    path, digest = folder / f"{sequence}.json", hashlib.sha256()
    unfinished = path.with_suffix(".part")
    try:
        with open(unfinished, "w+b") as file:
            size = 0
            for part in _document(env, db, keys, sequence, now):
                digest.update(part)
                size += file.write(part)
            file.flush()
            os.fsync(file.fileno())
            signatures = _signatures(file, sequence, digest.hexdigest(), keys)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    flush_folder(folder)
    for older in sorted(_sequences(folder))[:-FILES_KEPT]:
        with suppress(FileNotFoundError):
            (folder / f"{older}.json").unlink()
    return SignedIndex(
        sequence,
        catalogue,
        path,
        size,
        digest.hexdigest(),
        now,
        tuple(key.fingerprint for key in keys),
        signatures,
    )


def _document(
    env: Environment, db: Connection, keys: list[IndexKey], sequence: int, now: str
) -> Any:
    """The parts of index.json: a head, then an app a line."""
    head = {
        "sequence": sequence,
        "created_at": now,
        "expires_at": text(seconds(now) + EXPIRES_AFTER_SECONDS),
        "store": env.config.base_url,
        "keys": [
            {"fingerprint": key.fingerprint, "public_key": base64.b64encode(key.public).decode()}
            for key in keys
        ],
    }
    yield (_dump(head)[:-1] + ',"apps":[\n').encode()
    after, separator = "", ""
    while rows := db.all(
        "SELECT l.package_id, l.name, l.developer_id, l.version, l.version_code, l.min_mosis_version, l.size_bytes, l.sha256,"
        " k.fingerprint, l.app_id FROM listings l JOIN versions v ON v.id = l.version_id JOIN signing_keys k ON"
        " k.id = v.signing_key_id WHERE l.package_id > ? ORDER BY l.package_id LIMIT ?",
        after,
        ROWS,
    ):
        lines = [
            _dump({
                "package_id": package_id, "name": name, "developer_id": developer_id, "version": version, "version_code": code,
                "min_mosis_version": needs, "size_bytes": size, "sha256": sha256, "signing_key_fingerprint": fingerprint,
                "app_id": app_id,
            })
            for package_id, name, developer_id, version, code, needs, size, sha256, fingerprint, app_id in rows
        ]  # fmt: skip
        yield (separator + ",\n".join(lines)).encode()
        after, separator = rows[-1][0], ",\n"
    yield b"\n]}\n"


def _signatures(file: BinaryIO, sequence: int, sha256: str, keys: list[IndexKey]) -> bytes:
    """index.json.sig: each key's Ed25519 signature over the exact bytes, read from the disk and not copied into memory."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        signed = [
            {"key": key.fingerprint, "signature": base64.b64encode(key.sign(content)).decode()}
            for key in keys
        ]
    return (_dump({"sequence": sequence, "sha256": sha256, "signatures": signed}) + "\n").encode()


def _sequences(folder: Path) -> list[int]:
    return [int(found[1]) for found in map(_NAME.match, os.listdir(folder)) if found]


def _dump(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
