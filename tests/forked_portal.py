"""`python portal.py ...` and `python -c ...` in children that are forked from a process with all
modules loaded.

A start costs 0.05 s of processor time then instead of 0.3 s, and the tests make some hundred.
Arguments, environment, folder, output, signals and exit codes are those of a start of its own; what
differs is memory, and that keys of backups are derived at the least cost. Tests of the start itself
ask for `real_start`.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mosis
from mosis.operations.backup import encryption

HERE = Path(__file__).parent.parent
SCRIPT = str(HERE / "portal.py")
# What the portal imports when it first needs it, and nearly every portal of a test does.
LATER = (
    "cerberus cryptography.hazmat.primitives.asymmetric.ed25519 email.generator email.policy"
    " cryptography.hazmat.primitives.ciphers.aead nacl.pwhash"
    " encodings.idna jwt obstore.store orjson stringprep urllib.request websockets.asyncio.server"
)
_parents: list[socket.socket] = []


class ForkedProcess:
    """What tests use of subprocess.Popen; outputs are open files."""

    def __init__(
        self, command: list[str], *, env: Mapping[str, str], cwd: Path, stdout: Any, stderr: Any
    ) -> None:
        self.returncode: int | None = None
        self._reading = threading.Lock()  # a test may kill it while a thread waits for its start
        status, of_parent = os.pipe()
        self._status = open(status, "rb", 0)
        request = json.dumps([command, dict(env), str(cwd)]).encode()
        try:
            files = [stdout.fileno(), stderr.fileno(), of_parent]
            socket.send_fds(_parent(), [request], files)
        finally:
            os.close(of_parent)
        self.pid = int.from_bytes(self._status.read(4))
        assert self.pid, "the process that forks has ended"

    def poll(self) -> int | None:
        return self._end(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._end(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("portal.py", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _end(self, timeout: float | None) -> int | None:
        """The exit code, once the parent has written it: subprocess's, negative for a signal."""
        poll = select.poll()
        with self._reading:
            if self.returncode is not None:
                return self.returncode
            poll.register(self._status, select.POLLIN)
        if poll.poll(None if timeout is None else timeout * 1000):
            with self._reading:
                if self.returncode is None:
                    self.returncode = int.from_bytes(self._status.read(4), signed=True)
                    self._status.close()
        return self.returncode


def _parent() -> socket.socket:
    """The connection to the process that forks, started when a test first needs it."""
    if not _parents:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=HERE,
            stdin=theirs,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        _parents.append(ours)
        atexit.register(lambda: (ours.close(), process.wait(60)))
    return _parents[0]


def main() -> None:
    """Fork a child for each request, and write its exit code when it has ended. Returns at the end
    of the connection, and in children after their command."""
    control = socket.socket(fileno=os.dup(0))
    for module in pkgutil.walk_packages(mosis.__path__, "mosis."):
        if not module.name.startswith("mosis.client") and not module.name.endswith(".child"):
            importlib.import_module(module.name)
    for name in LATER.split():
        importlib.import_module(name)
    encryption.LOG2_N = encryption.R = encryption.P = 1
    gc.freeze()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest
    children: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            for pid, status in [*children.items()]:
                found, code = os.waitpid(pid, os.WNOHANG)
                if found:
                    _write(status, os.waitstatus_to_exitcode(code))
                    os.close(children.pop(pid))
        if control in ready:
            request, files, _, _ = socket.recv_fds(control, 1 << 20, 3)
            if not request:
                return
            pid = os.fork()
            if pid == 0:
                _run(*json.loads(request), files[:2])
                return
            os.close(files[0])
            os.close(files[1])
            children[pid] = files[2]
            _write(files[2], pid)


def _write(status: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test did not wait
        os.write(status, number.to_bytes(4, signed=True))


def _run(command: list[str], environment: dict[str, str], folder: str, outputs: list[int]) -> None:
    """In the child: the command, as Python would have run it."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, *outputs)):
        os.dup2(file, number)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.orig_argv[:] = command
    sys.argv[:] = command[1:]
    sys.path[0] = str(HERE)
    if command[1] == "-c":
        del sys.argv[1]
        exec(command[2], {"__name__": "__main__"})
    else:
        runpy.run_path(SCRIPT, run_name="__main__")


if __name__ == "__main__":
    main()
