"""Unmodified waitress, behind the setting SERVER=waitress: for comparison, and for operators who
prefer it.

It has only the bounds that its settings provide; docs/OPERATIONS.md lists the missing ones.
"""

import logging
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments

from mosis.server.loop import SETTINGS, TICK_SECONDS, Listening, sweep


class StockServer(Listening):
    """waitress's own loop, channels, parser and threads. No body may be larger than `limit_bytes`;
    bodies over half a MiB are stored in `temporary_dir`, which is emptied now and becomes the
    process's temporary directory, because waitress has no setting for it."""

    def __init__(
        self, app: Any, listen: str, threads: int, limit_bytes: int, temporary_dir: Path
    ) -> None:
        sweep(temporary_dir)
        tempfile.tempdir = str(temporary_dir)
        settings = SETTINGS | {
            "threads": threads,
            "asyncore_use_poll": True,
            "cleanup_interval": 10,
            "log_socket_errors": False,
            "max_request_body_size": limit_bytes + 1,  # the first size that waitress refuses
        }
        # a line for each request that waits for a thread
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        super().__init__(app, self.open(listen), Adjustments(**settings))

    def run(self) -> None:
        """Serve until `stop` is called, then let running requests finish."""
        while not self.stopping:
            self._turn(TICK_SECONDS)
        deadline = monotonic() + self._stop_seconds
        # accepts no new connections; the trigger still wakes the loop
        wasyncore.dispatcher.close(self)
        while monotonic() < deadline and any(
            each.requests or each.total_outbufs_len for each in self.active_channels.values()
        ):
            self._turn(0.05)
        self.task_dispatcher.shutdown(timeout=max(0.0, deadline - monotonic()))
        self._end()

    def _turn(self, timeout_seconds: float) -> None:
        wasyncore.loop(timeout_seconds, use_poll=True, map=self._map, count=1)
