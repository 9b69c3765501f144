"""The deep checks of a package (tiers 2 and 3), each in a child process with limits on memory and time.

    child.py       the process and its limits        inspection.py   the pass over the package
    rml.py rcss.py lua.py images.py fonts.py sounds.py texts.py      one type of file each

A child that hangs, exceeds a limit or dies results in a finding, not in a failed job; the memory of
the portal itself is not affected.
"""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mosis.packages.findings import Finding
from mosis.records import dataclass

log = logging.getLogger("mosis.packages.checks")

ANSWER_BYTES = 2 << 20  # 200 findings and 1000 names stay far below
ENDING_SECONDS = 5.0  # from its last output to its end
LEAST_SHARE = 0.02  # of a processor; a child that gets less for half a minute or more hangs
_CHILD = Path(__file__).with_name("child.py")
_FAILURES = {
    "check_timeout": "The checks of {file} took more than {seconds} seconds of computing time; make the file smaller or simpler.",
    "check_memory": "The checks of {file} took more than {mebibytes} MiB of memory; make the file smaller or simpler.",
    "check_crashed": "The checks of {file} ended unexpectedly; upload the package again, or tell the administrator.",
}


class ChecksUnavailable(Exception):
    """The child process cannot start: an error of the portal, not of the package."""


@dataclass(frozen=True)
class _Answer:
    """The output of a child, and how it ended."""

    lines: list[dict[str, Any]]
    code: int
    hung: bool

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1] if self.lines else {}


class Checks:
    """Runs the deep checks, at most `processes` at a time; one object per portal process.

    `partial` is for the command line: checks whose parser is not installed are skipped.
    """

    def __init__(
        self, memory_bytes: int, cpu_seconds: int, processes: int = 1, *, partial: bool = False
    ) -> None:
        self.memory_bytes = memory_bytes
        self.cpu_seconds = cpu_seconds
        self.partial = partial
        self._free = threading.BoundedSemaphore(processes)

    def run(self, package: BinaryIO) -> list[dict[str, Any]]:
        """Every finding about this package (up to 200), errors first. Raises ChecksUnavailable.

        A child that was killed by another process is started a second time, so that a package does
        not fail because of the machine.
        """
        with self._free:
            answer = self._answer(package)
            if answer.code == -signal.SIGKILL and not answer.hung:
                answer = self._answer(package)
        if not answer.lines:
            raise ChecksUnavailable(
                f"the child that checks packages did not start (exit code {answer.code})"
            )
        findings: list[dict[str, Any]] = list(answer.last.get("findings", []))
        if failure := self._failure(answer):
            reason = answer.last.get("failed") or f"exit code {answer.code}"
            log.warning(
                "check ended early",
                extra={"code": failure.code, "file": failure.path, "reason": reason},
            )
            findings.insert(0, failure.as_dict())
        return findings

    def _answer(self, package: BinaryIO) -> _Answer:
        """Run one child."""
        process = self._start(package)
        assert process.stdout is not None
        lines: list[dict[str, Any]] = []
        hung = False
        try:
            with process.stdout as output:
                for line in _lines(output, process.pid, 2 * self.cpu_seconds + 5):
                    lines.append(line)
            process.wait(ENDING_SECONDS)
        except (TimeoutError, subprocess.TimeoutExpired):
            hung = not (lines and "findings" in lines[-1])
        except ValueError as trouble:  # not the child's output format
            log.error("unreadable output of the check process", extra={"why": str(trouble)})
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        return _Answer(lines, code, hung)

    def _start(self, package: BinaryIO) -> "subprocess.Popen[bytes]":
        """Start a child that reads the package from its standard input."""
        return subprocess.Popen(  # noqa: S603  (our own program and three numbers)
            [
                sys.executable,
                "-I",
                "-B",
                *self._program(),
                str(os.getpid()),
                str(self.memory_bytes),
                str(self.cpu_seconds),
                *(["partial"] if self.partial else []),
            ],
            stdin=package,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )

    def _program(self) -> list[str]:
        """The arguments for Python. The child cannot be run as a file out of a zipapp, and `-I` may
        hide the packages of the command line."""
        if not self.partial:
            return [str(_CHILD)]
        paths = [os.path.abspath(each) for each in sys.path if each]
        return [
            "-c",
            f"import sys; sys.path[:] = {paths!r}; from mosis.packages.checks import child; sys.exit(child.main())",
        ]

    def _failure(self, answer: _Answer) -> Finding | None:
        failed = answer.last.get("failed")
        if "findings" in answer.last and failed is None:
            return None
        if answer.hung or answer.code == -signal.SIGXCPU:
            code = "check_timeout"
        elif failed == "memory" or answer.code == -signal.SIGABRT:
            # Lua and C++ abort if memory allocation fails
            code = "check_memory"
        else:
            code = "check_crashed"
        file: str | None = next(
            (each["file"] for each in reversed(answer.lines) if "file" in each), None
        )
        detail = _FAILURES[code].format(
            file=repr(file) if file else "the package",
            seconds=self.cpu_seconds,
            mebibytes=self.memory_bytes >> 20,
        )
        return Finding(code, detail, file, tier=2)


def _lines(output: Any, pid: int, window_seconds: float) -> Iterator[dict[str, Any]]:
    """The lines of a child's pipe as they arrive, up to a number of bytes. Raises ValueError, and
    TimeoutError if the child hangs: its computing time is limited by the kernel, and how long that
    takes depends on what else the machine does."""
    pending, total = b"", 0
    deadline, before = time.monotonic() + window_seconds, _computing_seconds(pid)
    while True:
        if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            now = _computing_seconds(pid)
            if now - before < LEAST_SHARE * window_seconds:
                raise TimeoutError
            deadline, before = time.monotonic() + window_seconds, now
            continue
        block = os.read(output.fileno(), 1 << 16)
        if not block:
            return
        total += len(block)
        if total > ANSWER_BYTES:
            raise ValueError("the output is too long")
        *lines, pending = (pending + block).split(b"\n")
        yield from (json.loads(line) for line in lines)


def _computing_seconds(pid: int) -> float:
    """The processor time of a child: its clock_getcpuclockid(3). 0 where Linux's numbers of such
    clocks are not known."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0
