"""The thread that keeps telemetry in order, apart from the worker: however much there is to add up, the portal's jobs do
not wait, and whatever goes wrong here stays here."""

import logging
import threading
import time
from collections.abc import Callable

from mosis.context import Context
from mosis.telemetry import crash_notices, retention, rollups

log = logging.getLogger("mosis.telemetry")
PAUSE_SECONDS = 2.0
WORK_SECONDS = 1.0  # at a stretch
PRUNE_SECONDS = 60.0  # how often it forgets
YIELD_SECONDS = 0.005  # between two slices, so that requests get the lock


def turn(
    env: Context, seconds: float = float("inf"), pause: Callable[[], object] = lambda: None
) -> None:
    """One round of everything, at most about so many seconds of each."""
    add_up(env, seconds, pause)
    retention.prune(env, seconds, pause)


def add_up(
    env: Context, seconds: float = float("inf"), pause: Callable[[], object] = lambda: None
) -> None:
    """What should be done soon after something came in."""
    rollups.catch_up(env.telemetry.connection(), seconds, pause)
    retention.make_room(env, seconds, pause)
    crash_notices.announce(env)
    crash_notices.queue_digests(env)


class Maintenance:
    """Runs rounds until told to stop."""

    def __init__(self, env: Context) -> None:
        self.env = env
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="telemetry-upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def quit(self) -> None:
        """Begin no other slice. Does not wait."""
        self._stopping.set()

    def stop(self, timeout_seconds: float = 5) -> None:
        """End after the slice at hand; the next process goes on where this one was."""
        self.quit()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _breathe(self) -> None:
        self._stopping.wait(YIELD_SECONDS)

    def _loop(self) -> None:
        pruned = -PRUNE_SECONDS
        while not self._stopping.wait(PAUSE_SECONDS):
            try:
                add_up(self.env, WORK_SECONDS, self._breathe)
                if time.monotonic() > pruned + PRUNE_SECONDS:
                    pruned = time.monotonic()
                    longest = retention.prune(self.env, PRUNE_SECONDS / 2, self._breathe)
                    log.debug(
                        "telemetry pruned", extra={"longest_lock_ms": round(longest * 1000, 1)}
                    )
            except Exception:  # a full disk or a broken file: the next round tries again
                log.exception("telemetry upkeep failed")
