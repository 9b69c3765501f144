"""Downloads from the real portal that break off, and slow ones beside others."""

import hashlib
import random
import shutil
import socket
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosis.context import Context
from tests.catalogue import add_app, add_developer, add_version
from tests.server import Running, running, wait_until

NOTES = "com.acme.notes"


class Breaking:
    """A line to the portal that breaks after so many bytes, the given number of times; afterwards it holds."""

    def __init__(self, port: int, after_bytes: int, times: int) -> None:
        self.target, self.after_bytes, self.times = port, after_bytes, times
        self.broke = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        breaks = self.broke < self.times
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            server.sendall(client.recv(65536))
            left = self.after_bytes if breaks else 1 << 40
            while left and (block := server.recv(min(65536, left))):
                client.sendall(block)
                left -= len(block)
            self.broke += breaks

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def served(env: Context, tmp_path: Path) -> Iterator[tuple[Running, str, bytes]]:
    """The real portal with something of 8 MiB in the place of a package: (it, the address, the bytes)."""
    body = random.Random(1).randbytes(8 << 20)
    db = env.db.connection()
    with db.write():
        developer = add_developer(db)
        app = add_app(db, developer, NOTES, "Notes")
        add_version(
            db,
            developer,
            app,
            version="1.0.0",
            size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )
    path = env.files.path(developer, app, "1.0.0")
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    env.close()
    with running(tmp_path, {"TRUSTED_PROXY": "127.0.0.1"}) as server:
        yield server, f"/packages/{developer}/{app}/1.0.0/package.mosis", body


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_a_broken_download_goes_on_where_it_broke_off(
    served: tuple[Running, str, bytes], tool: str, tmp_path: Path
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool} here")
    server, path, body = served
    line = Breaking(server.port, 3_000_000, times=2)
    target, url = tmp_path / "fetched", f"http://127.0.0.1:{line.port}{path}"
    commands = {
        "curl": ["curl", "-sS", "--fail", "--max-time", "60", "-C", "-", "-o", str(target), url],
        "wget": ["wget", "-q", "--tries=1", "--timeout=60", "-c", "-O", str(target), url],
    }
    sizes, codes = [], []
    for _ in range(3):
        codes.append(subprocess.run(commands[tool], timeout=280).returncode)
        sizes.append(target.stat().st_size)
    line.close()
    assert line.broke == 2
    assert codes[2] == 0
    assert all(codes[:2]), "the breaks were noticed"
    assert 0 < sizes[0] < sizes[1] < sizes[2] == len(body)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == hashlib.sha256(body).hexdigest()


def test_readers_of_a_byte_a_second_do_not_disturb_others(
    served: tuple[Running, str, bytes],
) -> None:
    """There are more of them than threads, and all of their downloads go on meanwhile."""
    server, path, body = served
    readers = []
    for _ in range(90):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", server.port))
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert reader.recv(1) == b"H"
        readers.append(reader)
    for _ in range(20):
        with urllib.request.urlopen(server.url + "/v1/store/apps", timeout=60) as answer:
            assert answer.status == 200
    for reader in readers:
        assert reader.recv(1)
        reader.close()
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:
        assert answer.read() == body


def test_counts_are_written_within_seconds_and_when_the_portal_stops(
    served: tuple[Running, str, bytes],
) -> None:
    server, path, body = served

    def ask(home: int) -> None:
        asked = urllib.request.Request(
            server.url + path, headers={"X-Forwarded-For": f"192.0.2.{home}"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.read() == body

    def break_off(home: int) -> None:
        """Read the beginning, and end the connection."""
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.{home}\r\n\r\n".encode()
            )
            assert line.recv(1000).startswith(b"HTTP/1.1 200")

    def written() -> int:
        raw = sqlite3.connect(server.folder / "data/portal.db")
        try:
            return int(raw.execute("SELECT downloads FROM listings").fetchone()[0])
        finally:
            raw.close()

    break_off(9)
    ask(1)
    wait_until(lambda: written() == 1, "the first download is written")
    for home in (1, 2, 3, 2):
        ask(home)
    server.stop()
    assert written() == 3
