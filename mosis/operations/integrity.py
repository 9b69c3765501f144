"""Whether portal.db is whole: looked at quickly at start and as a whole every day. A database that is damaged is only read from
then on, and everybody who can do something about it is told by mail: nobody reads logs.

Every statement that meets damage says so too (`Connection`); this finds what no statement has met.
"""

import contextlib
import logging
import threading
import time

from mosis.context import Environment
from mosis.database import faults, new_id

log = logging.getLogger("mosis.operations.integrity")
WHOLE_SECONDS = 24 * 3600.0  # between two looks at the whole
FIRST_LOOK_SECONDS = 0.1  # that a start waits for: 50 MB of database
LOOK_SECONDS = 5.0  # how soon damage that a statement has met is told of
SUBJECT = "The portal's database is damaged"
TEXT = """The database of {url} is damaged:

    {damage}

Nothing is written to it any more; reading goes on as far as it can. Stop the portal and run `portal.py restore`, which puts back
the newest state of the replica once that has proved to be whole, or `portal.py restore --from COPY`. docs/OPERATIONS.md says more
under Restore. The disk may be broken: look at it before you go on.
"""


def check(env: Environment, *, quick: bool = False) -> None:
    """Look at the database file; damage stops everything that writes. A file that is gone is /readyz's matter."""
    begun = time.monotonic()
    found = faults(env.db.path, quick=quick) if env.db.path.exists() else []
    if found:
        env.db.found_damage(found[0])
    log.info(
        "database checked",
        extra={
            "quick": quick,
            "seconds": round(time.monotonic() - begun, 2),
            "findings": found[:3],
        },
    )


def tell(env: Environment) -> None:
    """Mail the administrators what is wrong."""
    addresses = {env.config.admin_email} if env.config.admin_email else set()
    with contextlib.suppress(Exception):  # just these rows may be what is damaged
        rows = env.db.connection().all(
            "SELECT email FROM developers WHERE role = 'admin' AND suspended = 0 AND email IS NOT NULL"
        )
        addresses |= {email for (email,) in rows}
    text = TEXT.format(url=env.config.base_url, damage=env.db.damage)
    for address in sorted(addresses):
        try:
            env.mailer.send(address, SUBJECT, text, new_id())
        except Exception as error:  # whatever a mail server has to say
            log.error("an administrator cannot be told by mail", extra={"reason": str(error)})


class Watch:
    """The thread that looks."""

    def __init__(
        self,
        env: Environment,
        whole_seconds: float = WHOLE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.env = env
        self.whole_seconds = whole_seconds
        self.look_seconds = look_seconds
        self._stopping, self._looked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="soundness", daemon=True)

    def start(self) -> None:
        """Begin, and wait a little for the first look: what is small is known to be damaged before anything is written."""
        self._thread.start()
        self._looked.wait(FIRST_LOOK_SECONDS)

    def quit(self) -> None:
        """Begin no other look. Does not wait: a look only reads."""
        self._stopping.set()

    def _run(self) -> None:
        whole_at, told = time.monotonic() + self.whole_seconds, False
        self._look(quick=True)
        self._looked.set()
        while True:
            if self.env.db.damage is not None and not told:
                told = True
                tell(self.env)
            if self._stopping.wait(self.look_seconds):
                return
            if time.monotonic() >= whole_at:
                whole_at, told = whole_at + self.whole_seconds, False
                self._look()

    def _look(self, *, quick: bool = False) -> None:
        try:
            check(self.env, quick=quick)
        except Exception:  # no more descriptors: tomorrow is another day
            log.exception("the database cannot be checked")
