"""The whole catalogue as one signed file, which can be verified without the portal: neither a
mirror nor an old copy can pass for the newest.

Each index has its own address, named in its signatures, and remains there for ten minutes after it
is replaced: a client that fetched the signatures gets the bytes they were made for, despite changes
and caches in between.

`sequence` only grows: it is larger than the number in the database, than that of every index file,
and than the time in milliseconds, so it does not go back when an older database is restored. For
the same reason each process makes a new index when it starts.
"""

import base64
import hashlib
import json
import logging
import mmap
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from mosis import disk
from mosis.clock import seconds, text
from mosis.context import Context
from mosis.database import Connection
from mosis.errors import NotFound, Unavailable
from mosis.records import dataclass
from mosis.store import published_index
from mosis.store.index_keys import IndexKey, index_keys, public_keys
from mosis.store.listings import OLD_ENOUGH
from mosis.store.published_index import NotHere, SignedIndex
from mosis.store.revisions import revision

log = logging.getLogger("mosis.store")

EXPIRES_AFTER_SECONDS = 7 * 86400
RENEWED_AFTER_SECONDS = 86400
AGES = (1, 3, 7, 14, 30)  # days: cooldowns for which there is an index
AGED_SECONDS = 3600  # until a version that has become old enough is in the index of a cooldown
SLOW_SECONDS, REST = 0.2, 10  # a slow generation takes at most one tenth of the time
FAILED_SECONDS = 5  # until the next attempt after a failure
SECONDS_BETWEEN = 5.0  # minimum age of an index before it is replaced
# bound for replaced indexes that are still served; large ones are made less often
KEEP_SECONDS, KEEP_BYTES = (600, 256 << 20)
ROWS = 1000
GZIP_LEVEL = 5  # as of every other response, see mosis/web/content_coding.py
_NAME = re.compile(r"(\d{1,19})\.json\Z")


@dataclass
class IndexCache:
    """The index cache of this process."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    index: SignedIndex | None = None
    cooldown_until: float = 0.0  # monotonic
    failed: bool = False  # the last try
    hashes: dict[str, str] = field(default_factory=dict)  # SHA-256 by file name


@dataclass
class Indexes:
    """The indexes by the least age of their versions, in days."""

    by_age: dict[int, IndexCache] = field(default_factory=dict)


def current_index(env: Context, db: Connection, min_age_days: int = 0) -> SignedIndex:
    """The current index. It is at most SECONDS_BETWEEN behind the catalogue; more if it is large or
    slow to make, or cannot be made because the disk is full.

    With `min_age_days` (one of AGES), each app has its newest version that is so old or a security
    release; such an index may be AGED_SECONDS behind.

    Raises Unavailable `package_unavailable` if there is none, and on a store front end NotHere.
    """
    if env.read_only:
        return published_index.current(env, min_age_days)
    cache = _cache(env, min_age_days)
    keys = index_keys(env)
    if _is_current(env, cache.index, keys):
        return cache.index  # type: ignore[return-value]
    rests = env.clock.monotonic() < cache.cooldown_until
    if cache.index is not None and (
        cache.lock.locked() or (rests and (cache.failed or _is_servable(env, cache.index, keys)))
    ):
        return cache.index
    with cache.lock:
        if not _is_current(env, cache.index, keys):
            started = env.clock.monotonic()
            try:
                cache.index = _make(env, db, keys, min_age_days)
            except (OSError, Unavailable) as error:
                log.error("store index not made", extra={"reason": str(error)})
                if cache.index is None or not cache.index.path.exists():
                    raise Unavailable(
                        "package_unavailable",
                        "The index cannot be made at the moment; the operator finds "
                        "the reason in the log.",
                    ) from error
                cache.cooldown_until, cache.failed = env.clock.monotonic() + FAILED_SECONDS, True
                return cache.index
            _cache(env).hashes[cache.index.path.name] = cache.index.sha256
            cache.cooldown_until, cache.failed = (
                started + _cooldown(env, cache.index, started),
                False,
            )
        assert cache.index is not None
        return cache.index


def index_at(env: Context, sequence: int) -> tuple[BinaryIO, int, str]:
    """The index with this number: the open file, its size and its SHA-256. Raises NotFound for one that is gone, on a
    store front end NotHere."""
    try:
        return _opened(env, f"{sequence}.json")
    except OSError:
        raise (NotHere if env.read_only else NotFound)("index") from None


def gzip_index_at(env: Context, sequence: int) -> tuple[BinaryIO, int, str] | None:
    """The compressed form of the index with this number, as `index_at`; None where it was made without one."""
    try:
        return _opened(env, f"{sequence}.json.gz")
    except OSError:
        return None


def refresh(env: Context) -> None:
    """Make every index that store front ends are offered and that is no longer current; a tick of the
    worker. Elsewhere an index is made when it is asked for."""
    if not env.replicates or env.db.damage is not None:
        return
    db = env.db.connection()
    for age in {0, *published_index.ages(db)}:
        with suppress(Unavailable):  # logged
            current_index(env, db, age)


def _cache(env: Context, min_age_days: int = 0) -> IndexCache:
    found = env.state(Indexes).by_age.setdefault(min_age_days, IndexCache())
    return found


def _opened(env: Context, name: str) -> tuple[BinaryIO, int, str]:
    cache = _cache(env)
    paths = [index_folder(env, age) / name for age in (0, *AGES)]
    file = open(next((path for path in paths if path.exists()), paths[0]), "rb")
    if name not in cache.hashes:  # made by an earlier process, or never asked for
        cache.hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
    return file, os.fstat(file.fileno()).st_size, cache.hashes[name]


def index_folder(env: Context, min_age_days: int = 0) -> Path:
    """Where the indexes of a cooldown are."""
    folder = env.config.data_dir / "store-index"
    return folder / f"age-{min_age_days}" if min_age_days else folder


def _cooldown(env: Context, index: SignedIndex, started: float) -> float:
    """Seconds until the next index may be made: the indexes that are still served must fit, and
    making them must not occupy the machine."""
    took = env.clock.monotonic() - started
    slow = took * (REST + 1) if took > SLOW_SECONDS else 0.0
    packed = index.path.with_name(index.path.name + ".gz")
    stored_bytes = index.size_bytes + (packed.stat().st_size if packed.exists() else 0)
    return max(SECONDS_BETWEEN, slow, KEEP_SECONDS * stored_bytes / KEEP_BYTES)


def _is_current(env: Context, index: SignedIndex | None, keys: list[IndexKey]) -> bool:
    """Whether this is the index of the catalogue as it is now."""
    return (
        index is not None and index.catalogue == revision(env)[0] and _is_servable(env, index, keys)
    )


def _is_servable(env: Context, index: SignedIndex, keys: list[IndexKey]) -> bool:
    """Whether it may be served, even if the catalogue has changed."""
    return (
        index.path.exists()
        and index.fingerprints == tuple(key.fingerprint for key in keys)
        and 0 <= env.clock.time() - seconds(index.created_at) < index.renewed_after_seconds
    )


def _make(env: Context, db: Connection, keys: list[IndexKey], min_age_days: int) -> SignedIndex:
    folder = index_folder(env, min_age_days)
    folder.mkdir(parents=True, exist_ok=True)
    now = env.clock.now()
    with db.write():
        before = max(db.value("SELECT sequence FROM store_state"), *_sequences(folder), 0)
        sequence = max(before + 1, int(env.clock.time() * 1000))
        db.change("UPDATE store_state SET sequence = ?", sequence)
    announced = public_keys(keys)
    signatures = b""

    def sign(file: BinaryIO, sha256: str) -> None:
        nonlocal signatures
        address = f"{urlsplit(env.config.base_url).path}/v1/store/index/{sequence}.json"
        signatures = _signatures(file, sequence, sha256, address, keys)

    path = folder / f"{sequence}.json"
    with db.snapshot():
        catalogue = db.value("SELECT catalogue FROM store_state")
        parts = document(env, db, announced, sequence, now, min_age_days)
        size, sha256 = write_index(path, parts, env.config.compression, sign)
    sweep(env, folder, sequence)
    index = SignedIndex(
        sequence,
        catalogue,
        path,
        size,
        sha256,
        now,
        tuple(key.fingerprint for key in keys),
        signatures,
        AGED_SECONDS if min_age_days else RENEWED_AFTER_SECONDS,
    )
    if env.replicates:
        published_index.publish(db, index, min_age_days, announced)
    return index


def write_index(
    path: Path, parts: Iterable[bytes], compression: bool, check: Callable[[BinaryIO, str], None]
) -> tuple[int, str]:
    """Write an index, and its compressed form, to the disk; its size and SHA-256. `check` is called
    with the finished file and its SHA-256 before the file gets its name; what it raises leaves none."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31) if compression else None
    unfinished, packed = path.with_suffix(".part"), path.with_name(path.name + ".gz")
    size, digest = 0, hashlib.sha256()
    try:
        with open(unfinished, "w+b") as file, _gzip_file(packed, packer) as write:
            for part in parts:
                digest.update(part)
                size += file.write(part)
                write(part)
            file.flush()
            os.fsync(file.fileno())
            check(file, digest.hexdigest())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        packed.unlink(missing_ok=True)
        raise
    disk.flush(path.parent)
    return size, digest.hexdigest()


@contextmanager
def _gzip_file(path: Path, packer: Any) -> Iterator[Callable[[bytes], Any]]:
    """A function that writes compressed to this file; one that does nothing where there is no packer."""
    if packer is None:
        yield lambda part: None
        return
    with open(path, "wb") as file:
        yield lambda part: file.write(packer.compress(part))
        file.write(packer.flush())
        file.flush()
        os.fsync(file.fileno())


def sweep(env: Context, folder: Path, current: int) -> None:
    """Remove indexes replaced more than KEEP_SECONDS ago: a file's time is that of replacement."""
    now, older = env.clock.time(), [each for each in _sequences(folder) if each != current]
    for sequence in {current, max(older, default=current)}:
        os.utime(folder / f"{sequence}.json", (now, now))
    for sequence in older:
        path = folder / f"{sequence}.json"
        with suppress(FileNotFoundError):
            if abs(now - path.stat().st_mtime) > KEEP_SECONDS:
                path.unlink()
    for packed in folder.glob("*.json.gz"):
        if not packed.with_suffix("").exists():
            packed.unlink(missing_ok=True)
    hashes = _cache(env).hashes
    for name in list(hashes):
        if not any((index_folder(env, age) / name).exists() for age in (0, *AGES)):
            hashes.pop(name, None)


def document(
    env: Context,
    db: Connection,
    keys: list[dict[str, Any]],
    sequence: int,
    now: str,
    min_age_days: int,
) -> Iterator[bytes]:
    """The parts of index.json: the head, then one app per line. They follow from the rows and the
    arguments alone, so that a store front end makes the same bytes from its copy."""
    head = {
        "sequence": sequence,
        "created_at": now,
        "expires_at": text(seconds(now) + EXPIRES_AFTER_SECONDS),
        "store": env.config.base_url,
        "keys": [
            {"fingerprint": key["fingerprint"], "public_key": key["public_key"]} for key in keys
        ],
    }
    version_of, before = "l.version_id", []
    if min_age_days:
        head["min_age_days"] = min_age_days
        before = [text(seconds(now) - min_age_days * 86400)]
        version_of = (
            "(SELECT n.id FROM versions n WHERE n.app_id = l.app_id AND"
            f" {OLD_ENOUGH} ORDER BY n.version_code DESC LIMIT 1)"
        )
    yield (_dump(head)[:-1] + ',"apps":[\n').encode()
    after, separator = "", ""
    while rows := db.all(
        "SELECT l.package_id, l.name, l.developer_id, v.version, v.version_code, v.min_mosis_version, v.size_bytes, v.sha256,"
        f" k.fingerprint, l.app_id FROM listings l JOIN versions v ON v.id = {version_of} JOIN signing_keys k ON"
        " k.id = v.signing_key_id WHERE l.package_id > ? ORDER BY l.package_id LIMIT ?",
        *before,
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


def _signatures(
    file: BinaryIO, sequence: int, sha256: str, address: str, keys: list[IndexKey]
) -> bytes:
    """index.json.sig: the address of the index, and each key's Ed25519 signature of the exact
    bytes, which are mapped from the disk and not copied."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        signed = [
            {"key": key.fingerprint, "signature": base64.b64encode(key.sign(content)).decode()}
            for key in keys
        ]
    document = {"sequence": sequence, "sha256": sha256, "index_url": address, "signatures": signed}
    return (_dump(document) + "\n").encode()


def _sequences(folder: Path) -> list[int]:
    return [int(found[1]) for found in map(_NAME.match, os.listdir(folder)) if found]


def _dump(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
