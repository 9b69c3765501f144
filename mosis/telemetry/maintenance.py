"""The maintenance thread of telemetry: rollups and retention. It is separate from the worker, so
that the portal's jobs do not wait for it, and its failures do not affect them."""

import logging
import threading
import time
from collections.abc import Callable

from mosis.context import Context
from mosis.telemetry import crash_notices, retention, rollups

log = logging.getLogger("mosis.telemetry")
PAUSE_SECONDS = 2.0
WORK_SECONDS = 1.0  # per step
PRUNE_SECONDS = 60.0  # interval of retention
YIELD_SECONDS = 0.005  # pause between slices, in which requests get the write lock


def turn(
    env: Context, seconds: float = float("inf"), pause: Callable[[], object] = lambda: None
) -> None:
    """One round of all tasks, each for at most about this many seconds."""
    add_up(env, seconds, pause)
    retention.prune(env, seconds, pause)


def add_up(
    env: Context, seconds: float = float("inf"), pause: Callable[[], object] = lambda: None
) -> None:
    """Tasks that should follow soon after new telemetry."""
    rollups.catch_up(env.telemetry.connection(), seconds, pause)
    retention.make_room(env, seconds, pause)
    crash_notices.announce(env)
    crash_notices.queue_digests(env)


class Maintenance:
    """Runs rounds until stopped."""

    def __init__(self, env: Context) -> None:
        self.env = env
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="telemetry-upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def quit(self) -> None:
        """Start no further slice. Does not wait."""
        self._stopping.set()

    def stop(self, timeout_seconds: float = 5) -> None:
        """Stop after the current slice; the next process continues from there."""
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
            # for example a full disk or a damaged file; the next round tries again
            except Exception:
                log.exception("telemetry maintenance failed")
            self.env.release_connections()
