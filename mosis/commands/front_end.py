"""`portal.py serve --store`: a read-only store front end, until a signal."""

import logging
import sys
import threading
import time
from typing import Any

from mosis import VERSION
from mosis.commands.process import STOP_SECONDS, end_on_signal, make_server, newest_schema
from mosis.config import Config, ConfigError
from mosis.context import Context, make_reading_context
from mosis.litestream import Litestream
from mosis.operations import allocator, front_end
from mosis.operations.front_end import FrontEnd
from mosis.store import download_batches, front_index

log = logging.getLogger("mosis.commands.front_end")
INDEX_SECONDS = 0.5  # between two looks for a newer signed index


def check(config: Config) -> None:
    """Raises ConfigError for unusable settings, and for a data folder of a portal that writes."""
    complaints = []
    if config.primary_url is None:
        complaints.append("PRIMARY_URL: a store front end needs the address of the primary.")
    if config.front_end_secret is None:
        complaints.append("FRONT_END_SECRET: must be the same as on the primary.")
    if not Litestream(config).wanted:
        complaints.append("BACKUP_URL or BACKUPS_DIR: must be that of the primary, to read from.")
    if config.primary_url == config.base_url:
        complaints.append(
            "PRIMARY_URL: must be another address than BASE_URL, or redirects never end."
        )
    if config.server != "portal":
        complaints.append("SERVER: a store front end runs with the portal's own server only.")
    if complaints:
        raise ConfigError(complaints)
    front_end.check_folder(config.data_dir, config.database_path)


class Upkeep:
    """What a front end does beside following: signed indexes, and reports of downloads. In a thread of
    its own, because both may wait for the primary."""

    def __init__(self, env: Context) -> None:
        self.env = env
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Stop, and write the counts of the last seconds to their file."""
        self._stopping.set()
        self._thread.join(timeout_seconds)
        if not self._thread.is_alive():
            self._try(download_batches.keep_counts)

    def _run(self) -> None:
        report_at = 0.0
        while not self._stopping.is_set():
            now = time.monotonic()
            if self.env.db.data_version() > 0:
                self._try(front_index.refresh)
                if now >= report_at:
                    self._try(download_batches.report)
                    report_at = now + download_batches.EVERY_SECONDS
            self._stopping.wait(INDEX_SECONDS)

    def _try(self, work: Any) -> None:
        try:
            work(self.env)
        except Exception:  # such as a full disk; the next round tries again
            log.exception("upkeep of the front end failed")


def serve_store(config: Config) -> int:
    """Serve the store from copies of the primary's database until SIGTERM or SIGINT; the second signal
    ends the process at once. Raises ConfigError, BackupError, OSError."""
    from mosis.commands.application import build_store

    check(config)
    allocator.tune()
    config.data_dir.mkdir(parents=True, exist_ok=True)
    env = make_reading_context(config)
    following, upkeep = FrontEnd(env, newest_schema()), Upkeep(env)
    server = make_server(env, build_store(env), config.data_dir / "spool")
    following.start()
    upkeep.start()
    end_on_signal(lambda: server.stop(STOP_SECONDS))
    print(welcome(config, server.port), file=sys.stderr, flush=True)
    allocator.started()
    server.run()
    upkeep.stop(2)
    following.stop()
    env.close()
    return 0


def welcome(config: Config, port: int) -> str:
    """The start screen."""
    source = "BACKUP_URL" if config.backup_url else f"{config.backups_dir}"
    return (
        f"mosis-portal {VERSION}, a read-only store front end, listens on port {port}\n\n"
        f"  public address  {config.base_url}\n"
        f"  follows         {source}\n"
        f"  everything else goes to {config.primary_url}\n\n"
        f"  Try:  curl -s http://localhost:{port}/readyz\n"
    )
