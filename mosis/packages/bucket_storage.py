"""Package files in a bucket. An upload is received, hashed and inspected on the local disk, then
stored as an object before its row is committed: a row without its object never exists, and an
object is never overwritten.

An object is named by its app, its SHA-256 and the version that it belongs to. Two uploads therefore
never share an object, and removing that of one cannot take that of another.

Reading looks in PACKAGES_DIR/cache first, then where packages lie without a bucket (they are there
until `portal.py move-packages --prune`), then in the bucket. What comes from the bucket is hashed
before any byte of it is used.
"""

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from mosis.database import new_id
from mosis.errors import Unavailable
from mosis.outbound.objects import (
    Bucket,
    BucketUnavailable,
    ObjectError,
    ObjectExists,
    ObjectMissing,
    Stored,
)
from mosis.packages.fetches import JOBS, Fetch, Fetches, Turn, unavailable
from mosis.packages.storage import ORPHAN_AGE_SECONDS, Files, Received, lost
from mosis.records import dataclass

log = logging.getLogger("mosis.packages.storage")

PACKAGES, PICTURES = "packages", "pictures"  # the folders of the bucket
SIGNED_SECONDS = 900  # how long an address of `redirect` can be used
DOWN_SECONDS = 5  # after a failure the bucket is not asked again for so long
PROBE_SECONDS = 10  # readiness asks the bucket when its last answer is older
PUT_BYTES = 128 << 20  # objects in memory at a time, because a PUT needs its content there
PUT_WAIT_SECONDS = 30  # how long an upload waits for its share of them
ORPHANS_ALWAYS = 50  # a sweep that would remove more, and more than half, removes nothing
_OBJECT = (
    rf"(?P<kind>{PACKAGES}|{PICTURES})/(?P<app>[0-9a-f-]{{32,36}})/"
    r"(?P<sha256>[0-9a-f]{64})-(?P<version>[0-9a-f-]{32,36})(?:\.[a-z]{3,5})"
)
Result = TypeVar("Result")


def package_name(app_id: str, sha256: str, version_id: str) -> str:
    """The name of the object with a version's package."""
    return f"{PACKAGES}/{app_id}/{sha256}-{version_id}.mosis"


def picture_name(app_id: str, sha256: str, version_id: str, suffix: str) -> str:
    """The name of the object with a picture of a version; `suffix` is such as `.png`."""
    return f"{PICTURES}/{app_id}/{sha256}-{version_id}{suffix}"


@dataclass(frozen=True)
class Named:
    """What an object's name says."""

    kind: str
    app_id: str
    sha256: str
    version_id: str


def parse_name(name: str) -> Named | None:
    """What the name of a package or picture says; None for other objects, which are not ours."""
    found = re.fullmatch(_OBJECT, name)
    return Named(found["kind"], found["app"], found["sha256"], found["version"]) if found else None


class Gate:
    """Remembers that the bucket is down, so that nobody waits for it again at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._asked_at: float | None = None
        self._probing = False
        self.reason: str | None = None

    @property
    def is_down(self) -> bool:
        """Whether a request would be refused without asking."""
        return self.reason is not None and time.monotonic() < self._until

    def ask(self, request: Callable[[], Result]) -> Result:
        """The result of a request. Raises BucketUnavailable, at once if it is known to be down."""
        if self.is_down:
            raise BucketUnavailable(str(self.reason))
        try:
            result = request()
        except BucketUnavailable as error:
            self._note(str(error))
            raise
        except ObjectError:
            self._note(None)
            raise
        self._note(None)
        return result

    def _note(self, reason: str | None) -> None:
        with self._lock:
            before, self.reason = self.reason, reason
            now = self._asked_at = time.monotonic()
            self._until = now + DOWN_SECONDS if reason is not None else 0.0
        if reason is not None and before is None:
            log.error("bucket unavailable", extra={"reason": reason})
        elif reason is None and before is not None:
            log.warning("bucket available again")

    def probe(self, check: Callable[[], None], wait_seconds: float = 2.0) -> str | None:
        """Why the bucket is down, None if it is up; asked in the background when the last answer is
        old. The first call waits for it briefly."""
        with self._lock:
            first = self._asked_at is None
            old = first or time.monotonic() > (self._asked_at or 0.0) + PROBE_SECONDS
            start, self._probing = old and not self._probing, self._probing or old
        if start:
            thread = threading.Thread(target=self._probe, args=(check,), name="probe", daemon=True)
            thread.start()
            if first:
                thread.join(wait_seconds)
        if self._asked_at is None:
            return "the bucket has not answered yet"
        return self.reason

    def _probe(self, check: Callable[[], None]) -> None:
        try:
            with suppress(BucketUnavailable):
                self._until = 0.0
                self.ask(check)
        finally:
            self._probing = False


class BucketFiles(Files):
    """The packages directory and a bucket. With `writes`, new packages go into the bucket; otherwise
    it is only read, for packages that are not yet back on the disk."""

    def __init__(
        self,
        packages_dir: Path,
        reserve_bytes: int,
        bucket: Bucket,
        *,
        writes: bool = True,
        cache_bytes: int = 1 << 30,
        cdn: str | None = None,
        redirects: bool = False,
    ) -> None:
        super().__init__(packages_dir, reserve_bytes)
        self.bucket, self.writes, self.cache_bytes = bucket, writes, cache_bytes
        self.cdn, self.redirects = cdn, redirects
        self.cache_dir = packages_dir / "cache"
        self.cache_dir.mkdir(exist_ok=True)
        self.gate = Gate()
        self._fetches = Fetches()
        self._putting = threading.Condition()
        self._put_bytes = 0

    # Storing

    def check_upload(self, size_bytes: int) -> None:
        """As `Files.check_upload`; refused at once while the bucket is known to be down."""
        super().check_upload(size_bytes)
        if self.writes and self.gate.is_down:
            raise self._down()

    def create(self, name: str, source: Path | bytes, sha256: str) -> None:
        """Store a new object. Raises Unavailable `package_unavailable` (nothing was stored, or what
        was stored is an orphan that is removed later)."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        self._evict(size)  # the uploaded file becomes its cached copy
        with _Share(self, size):
            try:
                self._ask(lambda: self.bucket.create(name, source, sha256))
            except ObjectExists:  # ours, of an attempt whose answer was lost: the name has our id
                self._ask(lambda: self._check_size(name, size))
            except ObjectError as error:
                raise self._lost(name, error) from error

    def _check_size(self, name: str, size_bytes: int) -> None:
        if (found := self.bucket.head(name).size_bytes) != size_bytes:
            raise self._lost(name, ObjectError(f"it has {found} bytes, not {size_bytes}"))

    def keep(self, received: Received, target: Path) -> None:
        """After `create`: let the file be the cached copy of its object."""
        if not self.writes:
            return super().keep(received, target)
        with suppress(OSError):
            os.replace(received.path, self.cache_dir / received.sha256)

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove objects whose row was not committed; what cannot be removed now is an orphan."""
        for name in names:
            with suppress(ObjectError):
                self.gate.ask(partial(self.bucket.delete, name))

    # Reading

    @property
    def gives_addresses(self) -> bool:
        """Whether PACKAGES_SERVE or PACKAGES_CDN has clients fetch packages by themselves."""
        return self.writes and (self.redirects or bool(self.cdn))

    def address(self, path: Path, name: str) -> str | None:
        """Where a client finds this object by itself, if PACKAGES_SERVE or PACKAGES_CDN says so and
        it is in the bucket. Raises Unavailable while the bucket is known to be down."""
        if not self.gives_addresses or path.exists():
            return None
        if self.cdn:
            return f"{self.cdn}/{name}"
        if self.gate.is_down:
            raise self._down()
        return self._ask(lambda: self.bucket.signed_url(name, SIGNED_SECONDS))

    def find(
        self,
        path: Path,
        size_bytes: int,
        sha256: str,
        *,
        anew: bool = False,
        name: str = "",
        turn: Turn = JOBS,
    ) -> BinaryIO | None:
        """As `Files.find`; waits for the bucket if the file is not here. Raises Unavailable."""
        file = self.find_here(path, size_bytes, sha256, anew=anew)
        if file is None and name:
            for _ in range(3):  # it can be evicted before it is opened
                turn.wait(self._begin(name, size_bytes, sha256, turn.client))
                if file := self.find_here(path, size_bytes, sha256):
                    break
        return file

    def find_here(
        self, path: Path, size_bytes: int, sha256: str, *, anew: bool = False
    ) -> BinaryIO | None:
        """The file with this hash if it is on this machine, without asking the bucket."""
        cached = self.cache_dir / sha256
        if file := super().find(cached, size_bytes, sha256, anew=anew):
            now, state = time.time_ns(), os.fstat(file.fileno())
            with suppress(OSError):  # the time of use, by which the cache is evicted
                os.utime(cached, ns=(now, state.st_mtime_ns))
            return file
        return super().find(path, size_bytes, sha256, anew=anew)

    def verify(self, path: Path, size_bytes: int, sha256: str, name: str = "") -> None:
        """Read the object, whole, or the local file while it is not moved. Raises Unavailable."""
        if not name or (not self.writes and path.exists()):
            return super().verify(path, size_bytes, sha256)
        try:
            self._ask(lambda: self._hash(name, size_bytes, sha256))
        except Unavailable as error:
            is_down = "retry_after_seconds" in error.facts
            # a bucket that is down holds up no release whose package is here, and good
            file = self.find_here(path, size_bytes, sha256, anew=True) if is_down else None
            if file is None and not path.exists():
                raise
            if file is None:
                super().verify(path, size_bytes, sha256)
            else:
                file.close()

    def read_object(self, name: str, size_bytes: int, sha256: str, into: BinaryIO) -> None:
        """Copy an object into a file. Raises ObjectError if it is not what was stored."""
        digest = hashlib.sha256()
        for piece in self.bucket.stream(name, size_bytes):
            digest.update(piece)
            into.write(piece)
        if digest.hexdigest() != sha256:
            raise ObjectError(f"{name} has another SHA-256")

    def check_object(self, name: str, size_bytes: int, sha256: str) -> None:
        """Read an object whole. Raises ObjectError if it is not what was stored."""
        with open(os.devnull, "wb") as nowhere:
            self.read_object(name, size_bytes, sha256, nowhere)

    def _hash(self, name: str, size_bytes: int, sha256: str) -> None:
        try:
            self.check_object(name, size_bytes, sha256)
        except BucketUnavailable:
            raise
        except ObjectError as error:
            raise self._lost(name, error) from error

    def _begin(self, name: str, size_bytes: int, sha256: str, client: str) -> Fetch:
        if self.gate.is_down:
            raise self._down()
        return self._fetches.begin(name, client, lambda: self._fetch(name, size_bytes, sha256))

    def _fetch(self, name: str, size_bytes: int, sha256: str) -> None:
        """Copy an object into the cache. Raises Unavailable."""
        self._evict(size_bytes)
        try:
            self.check_room(size_bytes)
        except Unavailable as error:
            raise unavailable("The portal's disk is full; try again later.", 30) from error
        part = self.cache_dir / f"{new_id()}.part"
        try:
            with open(part, "xb") as file:
                self._ask(lambda: self.read_object(name, size_bytes, sha256, file))
            self._note_good(os.stat(part), sha256)
            os.replace(part, self.cache_dir / sha256)
        except OSError as error:
            log.error("packages folder not writable", extra={"reason": str(error)})
            raise unavailable("The portal's disk is full; try again later.", 30) from error
        except ObjectError as error:
            raise self._lost(name, error) from error
        finally:
            part.unlink(missing_ok=True)

    def _evict(self, size_bytes: int) -> None:
        """Make room in the cache for a file of this size: what was not used for longest goes."""
        found = []
        with os.scandir(self.cache_dir) as entries:
            for entry in entries:
                with suppress(OSError):
                    state = entry.stat()
                    found.append((state.st_atime_ns, state.st_size, entry.path))
        left = sum(size for _, size, _ in found) + size_bytes - self.cache_bytes
        for _, size, path in sorted(found):
            if left <= 0:
                break
            if not path.endswith(".part"):
                with suppress(OSError):
                    os.unlink(path)
                left -= size

    # Removing

    def sweep_incoming(self) -> int:
        """As `Files.sweep_incoming`, and unfinished fetches."""
        for path in self.cache_dir.glob("*.part"):
            path.unlink(missing_ok=True)
        return super().sweep_incoming()

    def sweep_objects(
        self, named: Callable[[str], set[tuple[str, str]]], app_id: str | None = None
    ) -> int:
        """Remove the objects that no row names and that are a day old, of one app or of all; their
        number. `named` returns the (version id, SHA-256) of an app's rows, pictures without hash.

        Removes nothing if it would be more than half of all: then this is not the database of this
        bucket. The bucket refuses requests of a clock that is wrong, so its dates can be compared.
        Raises BucketUnavailable.
        """
        orphans, total = self.gate.ask(lambda: self._find_orphans(named, app_id))
        if app_id is None and len(orphans) > max(ORPHANS_ALWAYS, total // 2):
            log.error(
                "bucket has more orphans than objects with a row; nothing was removed: does "
                "another portal use this bucket, or was an old database restored?",
                extra={"orphans": len(orphans), "objects": total},
            )
            return 0
        for name in orphans:
            self.gate.ask(partial(self.bucket.delete, name))
        return len(orphans)

    def _find_orphans(
        self, named: Callable[[str], set[tuple[str, str]]], app_id: str | None
    ) -> tuple[list[str], int]:
        orphans, total, before = [], 0, time.time() - ORPHAN_AGE_SECONDS
        for kind in (PACKAGES, PICTURES):
            folder = kind if app_id is None else f"{kind}/{app_id}"
            ours = ((each, parse_name(each.name)) for each in self.bucket.list(folder))
            found = ((each, name) for each, name in ours if name is not None)
            for app, group in groupby(found, key=lambda pair: pair[1].app_id):
                rows = named(app)
                ids = {version_id for version_id, _ in rows}
                for each, name in group:
                    total += 1
                    known = name.version_id in ids and (
                        name.kind == PICTURES or (name.version_id, name.sha256) in rows
                    )
                    if not known and each.changed_at < before:
                        orphans.append(each.name)
        return orphans, total

    def objects(self) -> Iterator[Stored]:
        """Every package and picture in the bucket. Raises BucketUnavailable."""
        for kind in (PACKAGES, PICTURES):
            yield from self.bucket.list(kind)

    # State

    def trouble(self) -> str | None:
        """Why the bucket cannot be used; None if it can. Does not wait for it."""
        return self.gate.probe(self.bucket.check)

    def close(self) -> None:
        self._fetches.close()

    def _ask(self, request: Callable[[], Result]) -> Result:
        """The result of a request. Raises Unavailable if the bucket is down, ObjectError."""
        try:
            return self.gate.ask(request)
        except BucketUnavailable as error:
            raise self._down() from error

    def _down(self) -> Unavailable:
        return unavailable(
            "Packages cannot be read or stored at the moment, because the portal's bucket does not "
            "answer or refuses it; the operator finds the reason in the log. Try again later.",
            2 * DOWN_SECONDS,
        )

    def _lost(self, name: str, error: ObjectError) -> Unavailable:
        missing = isinstance(error, ObjectMissing)
        log.error(
            "package missing" if missing else "package damaged",
            extra={"object": name, "reason": str(error)},
        )
        return lost()


class _Share:
    """Waits until this many bytes may be in memory; a larger object waits until it is alone."""

    def __init__(self, files: BucketFiles, size_bytes: int) -> None:
        self.files, self.size_bytes = files, min(size_bytes, PUT_BYTES)

    def __enter__(self) -> None:
        with self.files._putting:
            free = self.files._putting.wait_for(
                lambda: self.files._put_bytes + self.size_bytes <= PUT_BYTES,
                timeout=PUT_WAIT_SECONDS,
            )
            if not free:
                raise unavailable("Too many packages are being stored; try again later.", 10)
            self.files._put_bytes += self.size_bytes

    def __exit__(self, *_: Any) -> None:
        with self.files._putting:
            self.files._put_bytes -= self.size_bytes
            self.files._putting.notify_all()
