"""Waiting for the lease, and starting with it: what `portal.py serve` does where LEASE_SECONDS is set."""

import logging
import os
import signal
import sys
import time
from typing import Any

from mosis.config import Config
from mosis.context import Context
from mosis.litestream import BackupError, Litestream
from mosis.litestream.program import NoAnswer
from mosis.operations.backup import takeover
from mosis.outbound.lease import Lease, find, open_lease
from mosis.outbound.objects import ObjectError

log = logging.getLogger("mosis.operations.lease")


def acquire(config: Config) -> tuple[int, Lease]:
    """Wait for the lease; then restore what another portal has written meanwhile. The lock of the
    data folder, and the lease, which is being renewed. A signal ends the waiting with exit code 0.

    Raises BackupError if the store or BACKUP_KEY cannot be used, or if the restore fails."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    lock = Litestream(config).hold()
    lease = open_lease(config)
    _check(config, lease)
    lease.acquire(time.sleep, _say_that_it_waits)
    lease.start()
    begun = time.monotonic()
    try:
        if takeover.prepare(config, lease):
            took = round(time.monotonic() - begun, 2)
            print(
                f"portal: {config.database_path} has been restored from the bucket in {took} s.",
                file=sys.stderr,
                flush=True,
            )
    except BaseException:
        lease.release()  # another portal may succeed
        raise
    return lock, lease


def hand_over(env: Context, lease: Lease) -> None:
    """Have this process write only with the lease, and stop when another portal has it."""
    env.db.fence = env.telemetry.fence = lease.check
    lease.on_lost = lambda: os.kill(os.getpid(), signal.SIGTERM)
    if lease.lost:  # before `on_lost` was set
        finish(lease)


def finish(lease: Lease) -> None:
    """At the end, after the last replication: release the lease. A portal that has lost it starts
    again, in place of this process, and waits. Does not return then."""
    lease.release()
    if lease.lost:
        log.warning("starting again, to wait for the lease")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (this program)


def run_lease(action: str, config: Config) -> int:
    """`portal.py lease show` and `release`. Raises BackupError."""
    if not config.backup_in_bucket:
        raise BackupError("there is no lease without BACKUP_URL=s3://BUCKET/PATH")
    lease = open_lease(config)
    try:
        found = find(lease.bucket)
        if found is None:
            print("There is no lease in the bucket.")
            return 0
        entry, etag = found
        if action == "release" and not entry.released:
            lease.set_released(entry, etag)
            print(f"Released: any portal may take it now. {entry.host} must not run any more.")
            return 0
    except ObjectError as error:
        raise BackupError(str(error)) from error
    state = "released" if entry.released else "held"
    here = " (this data folder)" if entry.holder == lease.holder else ""
    print(
        f"{state}, last by {entry.host}{here}, generation {entry.generation}, {entry.seconds:.0f} seconds"
    )
    return 0


def _check(config: Config, lease: Lease) -> None:
    """Wait until the store answers. Raises BackupError if it or BACKUP_KEY cannot be used."""
    reported = False
    while True:
        try:
            lease.probe()
            takeover.check_key(config)
            return
        except NoAnswer as error:
            if not reported:
                _say_that_it_waits(str(error))
            reported = True
        time.sleep(2)


def _end(number: int, _frame: Any) -> None:
    raise SystemExit(0)


def _say_that_it_waits(reason: str) -> None:
    log.warning("waiting for the lease", extra={"reason": reason})
    print(f"portal: waiting for the lease: {reason}.", file=sys.stderr, flush=True)
