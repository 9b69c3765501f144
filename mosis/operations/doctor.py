"""`portal.py doctor`: checks everything that an operator can misconfigure, and says what to do. A
line is "bad" (the portal will not work, or will lose data) or "warn" (it works; something should
be looked at)."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from mosis import database as db
from mosis import disk
from mosis.config import Config, ConfigError
from mosis.ids import new_id
from mosis.litestream import BackupError, Litestream
from mosis.operations import clock_steps, seen_requests
from mosis.operations.backup import bucket_copies, takeover
from mosis.outbound.mail import Mailer
from mosis.outbound.objects import Bucket, BucketUnavailable, ObjectError, open_bucket
from mosis.packages.storage import NAME
from mosis.records import dataclass

FAR_SECONDS = 30
SLOW_SECONDS = 1.0  # for an object of a few bytes
EARLIEST = 1_767_225_600  # 2026-01-01: a clock that shows an earlier time is wrong
# Before it a checkpoint that races with a writer can damage the database; here none races.
SAFE_SQLITE = (3, 51, 3)


@dataclass(frozen=True)
class Line:
    """A check, its result ("ok", "warn" or "bad"), and what to do."""

    level: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<5}{self.subject:<13}{self.text}"


@dataclass(frozen=True)
class Subject:
    """What a check is about."""

    name: str

    def ok(self, text: str) -> Line:
        return Line("ok", self.name, text)

    def warn(self, text: str) -> Line:
        return Line("warn", self.name, text)

    def bad(self, text: str) -> Line:
        return Line("bad", self.name, text)


def has_locks(folder: Path) -> bool:
    """Whether fcntl locks, which SQLite uses, keep a second process out."""
    import fcntl
    import subprocess

    path = folder / f".doctor-{os.getpid()}"
    program = (
        "import fcntl, sys\n"
        "try: fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(9)\n"
    )
    try:
        with open(path, "xb") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            command = [sys.executable, "-I", "-S", "-c", program, str(path)]
            return subprocess.run(command, timeout=20, check=False).returncode == 9  # noqa: S603  (a fixed program)
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Machine:
    """What is asked of the machine; tests pass answers of their own."""

    file_system: Callable[[Path], str] = disk.file_system
    has_locks: Callable[[Path], bool] = has_locks
    has_full_text_search: Callable[[], bool] = db.has_full_text_search


def examine(config: Config, newest_schema: int, machine: Machine | None = None) -> Iterator[Line]:
    """The lines of all checks, most important first."""
    machine = machine or Machine()
    yield from _sqlite(machine)
    yield from _folders(config, machine)
    yield from _clock(config)
    yield from _secret(config)
    yield from _database(config, newest_schema)
    yield from _backup(config)
    yield from _bucket(config)
    if found := bucket_copies.report(config):
        yield Line(found[0], "secrets", found[1])
    if found := takeover.report(config):
        yield Line(found[0], "lease", found[1])
    yield from _address(config)
    yield from _proxy(config)
    yield from _mail(config)


def _sqlite(machine: Machine) -> Iterator[Line]:
    about = Subject("SQLite")
    version = tuple(int(part) for part in db.SQLITE_VERSION.split("."))
    if not machine.has_full_text_search():
        yield about.bad(
            f"{db.SQLITE_VERSION} has no FTS5 for the search: use the image, or another Python."
        )
    elif version < (3, 38, 0):
        yield about.bad(
            f"{db.SQLITE_VERSION} is too old, 3.38 is needed: use the image, or another Python."
        )
    else:
        fine = (
            ""
            if version >= SAFE_SQLITE
            else "; older than 3.51.3, which is fine here: nothing else may open portal.db to write"
        )
        yield about.ok(f"{db.SQLITE_VERSION} with FTS5{fine}")


def _folders(config: Config, machine: Machine) -> Iterator[Line]:
    folders = {"data": config.data_dir, "packages": config.packages_dir}
    folders["assets"] = config.assets_dir
    if config.backups_dir:
        folders["backups"] = config.backups_dir
    for name, folder in folders.items():
        yield from _folder(
            name, folder, config.disk_reserve_bytes, machine, database=name == "data"
        )
    data = _existing(config.data_dir)
    if config.backups_dir and os.stat(data).st_dev == os.stat(_existing(config.backups_dir)).st_dev:
        yield Subject("backups").warn(
            "they are on the same disk as the data, which one failure would take. Set BACKUPS_DIR to a folder on another disk."
        )


def _folder(
    name: str, folder: Path, reserve_bytes: int, machine: Machine, *, database: bool
) -> Iterator[Line]:
    about = Subject(name)
    place = _existing(folder)
    if trouble := _unwritable(place):
        owner = f"{os.getuid()}:{os.getgid()}"
        yield about.bad(
            f"{place} cannot be written ({trouble}): chown -R {owner} {place}, and look how it is mounted."
        )
        return
    kind = machine.file_system(place)
    if kind in disk.NETWORK:
        what = f"{folder} is on {kind}, a file system of the network"
        if database:
            yield about.bad(f"{what}: SQLite needs a disk of this machine.")
        else:
            yield about.warn(f"{what}: it may be slow or gone.")
    if database and not machine.has_locks(place):
        yield about.bad(
            f"{folder} ({kind}) has no locks, two writers would damage the database: use a local disk."
        )
    free = disk.free_bytes(place)
    if free < reserve_bytes:
        yield about.bad(
            f"{free >> 20} MiB are free, below DISK_RESERVE_BYTES, so uploads are refused: make room."
        )
    elif free < 2 * reserve_bytes:
        yield about.warn(
            f"{free >> 20} MiB are free, below {reserve_bytes >> 20} uploads are refused: make room soon."
        )
    else:
        yield about.ok(f"{folder} can be written ({kind}), {free >> 20} MiB free")
    if database and folder.exists() and folder.stat().st_mode & 0o007:
        yield about.warn(
            f"everybody on this machine may look into {folder}, where the secrets are: chmod o-rwx {folder}"
        )


def _clock(config: Config) -> Iterator[Line]:
    about = Subject("clock")
    now = time.time()
    if now < EARLIEST:
        yield about.bad(
            f"it is {time.strftime('%Y-%m-%d', time.gmtime(now))} here, which cannot be: switch on NTP."
        )
        return
    written = [
        path.stat().st_mtime
        for path in (config.database_path, Path(f"{config.database_path}-wal"))
        if path.exists()
    ]
    if written and max(written) > now + FAR_SECONDS:
        ahead = max(written) - now
        yield about.bad(
            f"it went back: the database was written {ahead:.0f} s in the future. Switch on NTP."
        )
        return
    if (ahead := _newest_ahead(config)) > clock_steps.AHEAD_SECONDS:
        yield about.bad(
            f"it was ahead, or is behind now: the newest row of the database is dated {ahead} s in the future. Compare it with"
            " another clock and switch on NTP; what waited for a date goes on by itself."
        )
        return
    yield about.ok(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)))


def _newest_ahead(config: Config) -> int:
    """How many seconds in the future the newest row is dated; 0 when the database cannot be read, which _database says."""
    if not db.has_tables(config.database_path):
        return 0
    database = db.Database(config.database_path)
    try:
        return clock_steps.ahead_seconds(database.connection())
    except Exception:
        return 0
    finally:
        database.close()


def _secret(config: Config) -> Iterator[Line]:
    about = Subject("JWT_SECRET")
    path = config.data_dir / "jwt_secret"
    if config.jwt_secret and len(set(config.jwt_secret)) < 12:
        yield about.bad("it can be guessed: use the output of `openssl rand -base64 32`.")
    elif config.jwt_secret:
        yield about.ok("is set")
    elif path.exists() and path.stat().st_mode & 0o077:
        yield about.warn(f"others may read {path}: chmod 600 {path}")
    elif path.exists() and len(path.read_bytes().strip()) < 32:
        yield about.bad(
            f"{path} is damaged: remove it. The next start takes it from the backup, or everybody signs in again."
        )
    else:
        yield about.ok(f"{'stored' if path.exists() else 'will be created'} in {path}")


def _database(config: Config, newest: int) -> Iterator[Line]:
    about = Subject("database")
    path = config.database_path
    if not db.has_tables(path):
        yield about.ok(
            f"{path} is not there yet; the first start makes it"
            + (", or restores it from the replica" if Litestream(config).wanted else "")
        )
        return
    if found := db.faults(path):
        yield about.bad(
            f"{path} is damaged ({found[0]}): stop the portal and see docs/OPERATIONS.md, Restore."
        )
        return
    schema = db.schema_number(path)
    if schema > newest:
        yield about.bad(
            f"it has schema {schema}, this program knows {newest}: start the newer program."
        )
    elif schema < newest:
        yield about.warn(
            f"it has schema {schema}; the next start brings it to {newest}, after a copy."
        )
    else:
        yield about.ok(f"whole, schema {schema}, {path.stat().st_size >> 10} KiB")


def _backup(config: Config) -> Iterator[Line]:
    about = Subject("replica")
    litestream = Litestream(config)
    if not litestream.wanted:
        yield about.warn(
            "there is none, so a broken disk takes everything: set BACKUPS_DIR to a folder on another disk."
        )
        return
    if litestream.program is None:
        yield about.bad(
            "there is no program `litestream`: pip install 'mosis-portal[backup]', or another image."
        )
        return
    try:
        files = litestream.files()
    except (BackupError, OSError) as error:
        yield about.bad(
            f"it cannot be read ({error}): look at BACKUP_URL, its keys, and the network."
        )
        return
    where = litestream.replica_dir or "BACKUP_URL"
    if not files:
        fresh = not db.has_tables(config.database_path)
        detail = f"nothing is in {where} yet; the portal makes it when it runs"
        yield Line("ok" if fresh else "warn", "replica", detail)
        return
    newest = max(str(each["timestamp"]) for each in files)
    yield about.ok(
        f"{where}, its newest change {newest}; `portal.py drill` proves that it can be restored"
    )


def _bucket(config: Config) -> Iterator[Line]:
    """The bucket with the packages, if they are in one: an object of a few bytes is written, read and
    removed."""
    about, url = Subject("bucket"), config.packages_bucket
    if url is None:
        return
    try:
        bucket = open_bucket(url)
    except ConfigError as error:
        yield about.bad(f"{error.complaints[0]} Look at PACKAGES_URL.")
        return
    begun = time.monotonic()
    try:
        _try_out(bucket, writes=config.packages_url is not None)
    except BucketUnavailable as error:
        yield about.bad(
            f"{error}: no package can be stored or fetched. Look at PACKAGES_URL, its keys, the network and the clock."
        )
        return
    except ObjectError as error:
        yield about.bad(f"{error}: this is not an S3-compatible store that can be used.")
        return
    took = time.monotonic() - begun
    answers = f"{bucket.address} answers ({took * 1000:.0f} ms)"
    yield about.warn(answers) if took > SLOW_SECONDS else about.ok(answers)
    left = sum(1 for _ in config.packages_dir.glob(f"*/*/*/{NAME}"))
    if config.packages_url and left:
        yield about.warn(
            f"{left} packages are still in PACKAGES_DIR: `portal.py move-packages --to PACKAGES_URL`, then with --prune."
        )


def _try_out(bucket: Bucket, *, writes: bool) -> None:
    """Raises ObjectError."""
    bucket.check()
    if not writes:
        return
    content = b"written by portal.py doctor"
    name = f"doctor/{new_id()}"
    bucket.create(name, content, hashlib.sha256(content).hexdigest())
    try:
        if bucket.get(name)[0] != content:
            raise ObjectError(f"{bucket.address}: an object is not what was stored")
    finally:
        bucket.delete(name)


def _address(config: Config) -> Iterator[Line]:
    """BASE_URL as clients use it, if the portal runs."""
    about = Subject("BASE_URL")
    host, _, port = config.listen_addr.rpartition(":")
    here = f"http://{host if host not in ('', '0.0.0.0', '[::]') else '127.0.0.1'}:{port}"  # noqa: S104  (compared only)
    trouble, _ = _healthy(here)
    if trouble:
        yield about.warn(
            f"the portal does not run here ({here}: {trouble}): start it, then look again."
        )
        return
    trouble, date = _healthy(config.base_url)
    if trouble:
        yield about.bad(
            f"{config.base_url} does not answer ({trouble}) although the portal runs: name its public address,"
            " and look at the proxy, the name in DNS and the certificate."
        )
        return
    away = abs(date - time.time()) if date else 0
    if away > FAR_SECONDS:
        yield Subject("clock").bad(
            f"{config.base_url} is {away:.0f} s away from the clock here: switch on NTP on both."
        )
    if warning := seen_requests.host_warning(config):
        yield about.warn(warning)
    if warning := seen_requests.proxy_warning(config):
        yield Subject("proxy").warn(warning)
    yield about.ok(f"{config.base_url} answers")


def _healthy(url: str) -> tuple[str, float]:
    """What is wrong with the portal's /healthz at this URL (empty if nothing), and its Date."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        request = Request(f"{url}/healthz", headers={"User-Agent": "mosis-portal doctor"})  # noqa: S310
        with urlopen(request, timeout=5) as answer:  # noqa: S310
            date = answer.headers.get("Date")
            if answer.read(1000).strip() != b'{"status":"ok"}':
                return "something else answers there", 0.0
    except HTTPError as error:
        error.close()
        return f"status {error.code}", 0.0
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)), 0.0
    return "", parsedate_to_datetime(date).timestamp() if date else 0.0


def _proxy(config: Config) -> Iterator[Line]:
    about = Subject("proxy")
    secure = config.base_url.startswith("https://")
    local = urlsplit(config.base_url).hostname in ("localhost", "127.0.0.1", "::1")
    if secure and not config.trusted_proxy:
        yield about.bad(
            "BASE_URL is https, so a proxy stands in front, and TRUSTED_PROXY is not set: all clients count as one"
            " address, limits hit everybody at once. Set it to the proxy's address as the portal sees it."
        )
    elif any(network.prefixlen == 0 for network in config.trusted_proxy):
        yield about.bad(
            "TRUSTED_PROXY is everybody: any client can claim any address. Name the proxy's address."
        )
    elif not secure and not local:
        yield about.warn(
            "BASE_URL is http, so passwords travel unencrypted: put a proxy with TLS in front."
        )
    else:
        named = ", ".join(map(str, config.trusted_proxy))
        hint = "it must send X-Forwarded-For; X-Real-IP and Forwarded are not read"
        yield about.ok(f"{named} ({hint})" if named else "none")


def _mail(config: Config) -> Iterator[Line]:
    about = Subject("mail")
    if config.smtp_url is None:
        yield about.warn(
            f"none is sent, it is written to {config.data_dir / 'mail'}: set SMTP_URL."
        )
        return
    host = urlsplit(config.smtp_url).hostname
    trouble = Mailer(config.smtp_url, config.mail_from, config.data_dir / "mail").try_out(
        config.admin_email or config.mail_from
    )
    if trouble:
        yield about.bad(
            f"{host} does not take mail from {config.mail_from} ({trouble}): look at SMTP_URL and MAIL_FROM."
        )
    else:
        yield about.ok(f"{host} takes mail from {config.mail_from}")


def _existing(folder: Path) -> Path:
    """The folder, or its nearest existing ancestor."""
    return folder if folder.exists() or folder == folder.parent else _existing(folder.parent)


def _unwritable(folder: Path) -> str | None:
    """Why no file can be created here, or None."""
    path = folder / f".doctor-{os.getpid()}"
    try:
        path.write_bytes(b"x")
        path.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None
