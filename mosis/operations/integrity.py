"""Integrity checks of portal.db: quick_check at start, integrity_check daily.

A damaged database is read-only from then on, and all administrators are notified by mail, because
nobody reads logs. Every statement that meets corruption reports it too (`Connection`); this finds
what no statement has met.
"""

import contextlib
import logging
import threading
import time

from mosis.context import Context
from mosis.database import faults, new_id

log = logging.getLogger("mosis.operations.integrity")
WHOLE_SECONDS = 24 * 3600.0  # between two full checks
START_WAIT_SECONDS = 0.1  # for the first check of a small database
SMALL_BYTES = 4 << 20  # quick_check reads about 100 MB a second: a larger one is not waited for
LOOK_SECONDS = 5.0  # how soon damage found by a statement is mailed
SUBJECT = "The portal's database is damaged"
TEXT = """The database of {url} is damaged:

    {damage}

Nothing is written to it any more; reading goes on as far as it can. Stop the portal and run `portal.py restore`, which puts back
the newest state of the replica once that has proved to be whole, or `portal.py restore --from COPY`. docs/OPERATIONS.md says more
under Restore. The disk may be broken: look at it before you go on.
"""


def check(env: Context, *, quick: bool = False) -> None:
    """Check the database file; damage stops all writes. A missing file is reported by /readyz
    instead."""
    begun = time.monotonic()
    found = faults(env.db.path, quick=quick) if env.db.path.exists() else []
    if found:
        env.db.found_damage(found[0])
    log.log(
        logging.DEBUG if quick and not found else logging.INFO,
        "database checked",
        extra={
            "quick": quick,
            "seconds": round(time.monotonic() - begun, 2),
            "findings": found[:3],
        },
    )


def notify_administrators(env: Context) -> None:
    """Mail the administrators what is wrong."""
    addresses = {env.config.admin_email} if env.config.admin_email else set()
    with contextlib.suppress(Exception):  # these rows themselves may be damaged
        sql = "SELECT email FROM developers WHERE role = 'admin' AND suspended = 0 AND email IS NOT NULL"
        rows = env.db.connection().all(sql)
        addresses |= {email for (email,) in rows}
    text = TEXT.format(url=env.config.base_url, damage=env.db.damage)
    for address in sorted(addresses):
        try:
            env.mailer.send(address, SUBJECT, text, new_id())
        except Exception as error:  # any error of the mail server
            log.error("mail to an administrator failed", extra={"reason": str(error)})


class IntegrityMonitor:
    """The thread that runs the checks."""

    def __init__(
        self, env: Context, whole_seconds: float = WHOLE_SECONDS, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self.env = env
        self.whole_seconds = whole_seconds
        self.look_seconds = look_seconds
        self._stopping, self._looked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="soundness", daemon=True)

    def start(self) -> None:
        """Start, and wait briefly for the first check: damage of a small database is known before
        anything is written."""
        self._thread.start()
        with contextlib.suppress(FileNotFoundError):
            if self.env.db.path.stat().st_size <= SMALL_BYTES:
                self._looked.wait(START_WAIT_SECONDS)

    def quit(self) -> None:
        """Start no further check. Does not wait: a check only reads."""
        self._stopping.set()

    def _run(self) -> None:
        whole_at, notified = time.monotonic() + self.whole_seconds, False
        self._look(quick=True)
        self._looked.set()
        while True:
            if self.env.db.damage is not None and not notified:
                notified = True
                notify_administrators(self.env)
            if self._stopping.wait(self.look_seconds):
                return
            if time.monotonic() >= whole_at:
                whole_at, notified = whole_at + self.whole_seconds, False
                self._look()

    def _look(self, *, quick: bool = False) -> None:
        try:
            check(self.env, quick=quick)
        except Exception:  # such as no file descriptors left; tried again tomorrow
            log.exception("integrity check failed")
