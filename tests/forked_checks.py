"""The checks of packages in children that are forked from a process with all parsers loaded.

The portal starts a new Python for each package, which takes 0.1 s of processor time, and the tests
check more than a thousand packages. Limits, checks and output are the portal's.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
from functools import cache
from multiprocessing import forkserver
from multiprocessing.reduction import DupFd
from typing import Any, BinaryIO

import portal
from mosis.packages.checks import Checks, child
from mosis.packages.checks.inspection import warm_up

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([__name__])


@cache
def start() -> None:
    """Start that process; multiprocessing starts it again where it has ended. It imports this module by the name that it has in the
    project's folder, and a test may have changed the current one."""
    with contextlib.chdir(portal.HERE):
        forkserver.ensure_running()


class _Descriptor:
    """An open file, handed to the child."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getstate__(self) -> Any:
        return DupFd(self.number)

    def __setstate__(self, sent: Any) -> None:
        self.number = sent.detach()


def _run(package: _Descriptor, output: _Descriptor, memory_bytes: int, seconds: int) -> None:
    """The child: as `child.main`, with everything imported already."""
    os.setsid()
    os.dup2(package.number, 0)
    os.dup2(output.number, 1)
    os.closerange(2, max(package.number, output.number) + 1)
    child.limit(memory_bytes, seconds)
    os._exit(child.check())


class _Process:
    """What `Checks` uses of subprocess.Popen."""

    def __init__(self, package: BinaryIO, memory_bytes: int, seconds: int) -> None:
        read, write = os.pipe()
        self.stdout = os.fdopen(read, "rb", 0)
        self._process = _server.Process(
            target=_run,
            args=(_Descriptor(package.fileno()), _Descriptor(write), memory_bytes, seconds),
        )
        try:
            self._process.start()
        finally:
            os.close(write)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout_seconds: float | None = None) -> int:
        self._process.join(timeout_seconds)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("the child", timeout_seconds or 0)
        return code


class ForkedChecks(Checks):
    """As `Checks`. Tests of how the portal starts its child use `Checks`."""

    def _start(self, package: BinaryIO) -> Any:
        return _Process(package, self.memory_bytes, self.cpu_seconds)


if "multiprocessing.forkserver" in sys.modules and not multiprocessing.parent_process():
    warm_up()
