"""A primary with a replica and a store front end, in the test's own process or as processes."""

import contextlib
import http.client
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mosis.clock import Clock
from mosis.commands.application import build_store
from mosis.commands.process import make_server, newest_schema
from mosis.config import Config
from mosis.context import Context, make_reading_context
from mosis.operations import heartbeat
from mosis.operations.front_end import FrontEnd
from mosis.store import front_index, index_keys, signed_index
from mosis.store.published_index import Held
from tests.conftest import START, FakeClock
from tests.server import Backed, Running, free_port, serving, wait_until

SECRET = "the secret that the primary and its front ends share"
OWN = frozenset({"date", "x-request-id", "connection"})  # headers that differ by nature


def ask(
    port: int,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()


def compared(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, dict[str, str], bytes]:
    """A response without what differs from request to request."""
    status, headers, body = answer
    left = {name: value for name, value in headers.items() if name not in OWN}
    if status >= 400:
        body = body[: body.find(b'"request_id"')]
        left.pop("content-length", None)
    return status, left, body


class Pair:
    """Both in this process: `primary` and `front` are contexts, `front_end` follows in a thread."""

    def __init__(self, env: Context, folder: Path, clock: FakeClock, **settings: str) -> None:
        self.primary, self.clock = env, clock
        self.stack = contextlib.ExitStack()
        assert env.replication is not None
        index_keys.index_keys(env)  # made at the start of a portal
        env.replication.start(env.replication.litestream.hold())
        self.stack.callback(env.replication.stop)
        self.primary_port = self.stack.enter_context(serving(env)).port
        heartbeat.beat(env)
        self.folder = folder
        self.settings = {
            "LISTEN_ADDR": "127.0.0.1:0",
            "BASE_URL": env.config.base_url,
            "PRIMARY_URL": f"http://127.0.0.1:{self.primary_port}",
            "FRONT_END_SECRET": SECRET,
            "DATABASE_PATH": str(folder / "data/portal.db"),
            "PACKAGES_DIR": str(env.config.packages_dir),
            "ASSETS_DIR": str(folder / "assets"),
            "BACKUPS_DIR": str(env.config.backups_dir),
            "FOLLOW_SECONDS": "1",
            "TRUSTED_PROXY": "127.0.0.1",
            "RATE_LIMITS": "off",
            "DISK_RESERVE_BYTES": "0",
        } | settings
        self.open()

    def open(self, schema: int | None = None) -> None:
        """Start the front end."""
        # the clock of the test and, between its turns, real time
        clock = Clock(lambda: self.clock.at, lambda: time.monotonic() + self.clock.at - START)
        config = Config.read(self.settings)
        config.data_dir.mkdir(parents=True, exist_ok=True)
        self.front = make_reading_context(config, clock)
        self.front_end = FrontEnd(self.front, schema or newest_schema())
        self.server = make_server(self.front, build_store(self.front), self.folder / "spool")
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        self.port = self.server.port
        self.front_end.start()

    def close(self) -> None:
        """Stop the front end alone."""
        self.server.stop(5)
        self.thread.join(60)
        self.front_end.stop()
        self.front.close()

    def taken_over(self) -> None:
        """Wait until the front end reads what the primary has committed by now."""
        db = self.primary.db.connection()
        signed_index.refresh(self.primary)
        wanted = db.value("SELECT catalogue FROM store_state")
        signed = db.value("SELECT max(sequence) FROM signed_indexes")

        def has_it() -> bool:
            front, held = self.front.db, self.front.state(Held)
            return bool(
                front.data_version()
                and front.connection().value("SELECT catalogue FROM store_state") == wanted
                and max((row.sequence for row in held.offered), default=None) == signed
            )

        wait_until(has_it, "the front end has the newest data")
        front_index.refresh(self.front)

    def both(self, path: str, **more: Any) -> tuple[Any, Any]:
        """The responses of primary and front end, which may redirect to the primary."""
        of_front = ask(self.port, path, **more)
        if of_front[0] == 307:
            there = of_front[1]["location"].removeprefix(self.settings["PRIMARY_URL"])
            of_front = ask(self.primary_port, there, **more)
        return compared(ask(self.primary_port, path, **more)), compared(of_front)


@contextlib.contextmanager
def paired(env: Context, folder: Path, clock: FakeClock, **settings: str) -> Iterator[Pair]:
    """Both, and everything ended afterwards."""
    pair = Pair(env, folder, clock, **settings)
    try:
        yield pair
    finally:
        pair.close()
        pair.stack.close()


class FrontEndProcess(Running):
    """A store front end as a process of its own, of this primary."""

    def __init__(self, folder: Path, primary: Running, replica: Path, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            folder,
            {
                "BASE_URL": primary.environment["BASE_URL"],
                "PRIMARY_URL": f"http://localhost:{primary.port}",
                "FRONT_END_SECRET": SECRET,
                "BACKUPS_DIR": str(replica),
                "PACKAGES_DIR": primary.environment["PACKAGES_DIR"],
                "FOLLOW_SECONDS": "1",
            }
            | settings,
        )
        self.command.append("--store")

    @property
    def follower(self) -> int:
        """The process id of its Litestream."""
        return int((self.folder / "data/front-end/lock").read_text())

    def ready(self) -> None:
        """Wait until it has data."""
        wait_until(lambda: ask(self.port, "/readyz")[0] == 200, "the front end is ready")


def primary_process(folder: Path) -> Backed:
    """A primary with a replica and the shared secret, not started; its port stays."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Backed(folder)
    made.environment["FRONT_END_SECRET"] = SECRET
    made.environment["BASE_URL"] = f"http://127.0.0.1:{free_port()}"
    return made


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
