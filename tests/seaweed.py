"""A real S3-compatible store for tests: SeaweedFS on loopback, with credentials, in a folder of its own."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from tests.server import free_port

ACCESS_KEY = "portal"
SECRET_KEY = "the secret key of a bucket of tests"
PROGRAM = Path(sys.executable).with_name("weed")
PARTS = ("master", "volume", "filer", "s3")


class SeaweedFS:
    """A store that runs in `folder`; it takes about 3 s to start and 140 MiB. Its bucket
    `tests` exists; others do once something is put into them."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.ports: dict[str, int] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> Mapping[str, str]:
        """The credentials, as variables of a process."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def url(self, bucket: str, prefix: str = "", endpoint: str | None = None) -> str:
        """The address of a bucket, as settings and `open_bucket` take it."""
        at = quote(endpoint or self.endpoint, safe="")
        return f"s3://{bucket}/{prefix}?endpoint={at}&region=us-east-1&force-path-style=true"

    def start(self, timeout_seconds: float = 60) -> None:
        """Start it, and wait until it answers. After `kill` it has the same ports and objects."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = [part + suffix for part in PARTS for suffix in ("", "_grpc")]
        self.ports = self.ports or {name: free_port() for name in names}
        identity = {
            "name": "portal",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        settings = self.folder / "s3.json"
        settings.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
        ports = [f"-{name}.port={port}" for name, port in self.ports.items() if "_" not in name]
        ports += [
            f"-{name.removesuffix('_grpc')}.port.grpc={port}"
            for name, port in self.ports.items()
            if "_" in name
        ]
        command = [str(PROGRAM), "-logtostderr=true", "server", f"-dir={self.folder}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *ports]
        command += [f"-s3.config={settings}", "-master.telemetry=false"]
        command += [
            "-master.volumeSizeLimitMB=64",
            "-volume.max=30",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *self.options,
        ]
        with open(self.folder / "weed.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._writes():
                return
            time.sleep(0.05)
        self.kill()
        log_text = (self.folder / "weed.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"SeaweedFS did not start:\n{log_text[-3000:]}")

    def _writes(self) -> bool:
        """Whether it takes an object: S3 answers before there is a volume to write to."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(self.endpoint + "/status", timeout=2) as answer,
        ):
            from mosis.outbound.objects import BucketUnavailable, open_bucket

            with contextlib.suppress(BucketUnavailable):
                open_bucket(self.url("tests", "started"), self.environment, 5, 0).put("1", b"1")
                return int(answer.status) == 200
        return False

    def pause(self) -> None:
        """Let it accept connections and answer nothing, until `go_on`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL. What was acknowledged is still there after the next `start`."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=60)

    def remove(self) -> None:
        """End it and remove its objects."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Line:
    """A line to a port on which a test can interfere: `rewrite` changes what clients send; `hold`
    stops it."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self.reached, self.release = threading.Event(), threading.Event()
        self._left: int | None = None
        self._of_answers = False
        self._is_down = False
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, after_bytes: int, *, answers: bool = False) -> None:
        """Stop once after this many further bytes of clients, or of answers: `reached` is set, and
        it goes on when `release` is set."""
        self.reached.clear()
        self.release.clear()
        self._of_answers, self._left = answers, after_bytes

    def down(self) -> None:
        """Cut every connection, and further ones at once, until `up`."""
        self._is_down = True
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def up(self) -> None:
        self._is_down = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_down:
                    client.close()
                    continue
                self._open.append(client)
                with contextlib.suppress(OSError):
                    server = socket.create_connection(("127.0.0.1", self.target))
                    for pair in ((client, server, False), (server, client, True)):
                        threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                data = data if answers else self.rewrite(data)
                left = self._left if answers == self._of_answers else None
                if left is not None and len(data) > left:
                    self._left = None
                    target.sendall(data[:left])
                    self.reached.set()
                    self.release.wait(280)
                    data = data[left:]
                elif left is not None:
                    self._left = left - len(data)
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.release.set()
        self._listener.close()
