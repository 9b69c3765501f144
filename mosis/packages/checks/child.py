"""The child process: `python -I mosis/packages/checks/child.py PARENT MEMORY_BYTES SECONDS [partial]
< package.mosis`.

With `partial` it also runs if a parser is not installed, and skips the checks that need it
(parsers.py); without, it refuses to start, because the portal must not skip a check.

Before it reads the package it sets its limits: memory, CPU time, no growing files, no core dump, and,
once everything is imported, no new file descriptors. It dies with the thread that started it. It
prints lines of JSON: {"ready": true}, {"file": name} before each file, and at the end
{"findings": [...]} or {"failed": why}.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

MOST_FINDINGS = 200
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h


def main() -> int:
    """Check the package on standard input. The exit code is 0 whenever a result was printed."""
    parent, memory_bytes, seconds = (int(each) for each in sys.argv[1:4])
    if not _die_with(parent):
        return 1
    limit(memory_bytes, seconds)
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from mosis.packages.checks.inspection import warm_up
    from mosis.packages.checks.parsers import missing_parsers

    if missing_parsers() and "partial" not in sys.argv[4:]:
        return 1
    warm_up()
    return check()


def limit(memory_bytes: int, seconds: int) -> None:
    """Set every limit of this process, but the number of open files."""
    os.nice(5)
    _yield_to_other_sessions()
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    # SIGXCPU is the reason reported; the hard limit would be SIGKILL
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))


def check() -> int:
    """Check the package on standard input, after everything is imported; the exit code."""
    from mosis.packages.checks.inspection import look_into

    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    _write({"ready": True})
    findings: list[Any] = []
    try:
        with os.fdopen(0, "rb", closefd=False) as package:
            for finding in look_into(package, lambda name: _write({"file": name})):
                findings.append(finding)
                if len(findings) > 50 * MOST_FINDINGS:
                    break
    except MemoryError:
        _write({"failed": "memory", "findings": _shown(findings)})
        return 0
    except Exception as trouble:  # an error in a parser becomes a finding with its own text
        _write(
            {
                "failed": f"{type(trouble).__name__}: {str(trouble)[:300]}",
                "findings": _shown(findings),
            }
        )
        return 0
    _write({"findings": _shown(findings)})
    return 0


def _die_with(parent: int) -> bool:
    """Have the kernel end this process with its parent; False if the parent has ended already."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return os.getppid() == parent


def _yield_to_other_sessions() -> None:
    """Yield to the portal where the kernel shares the processor among sessions: there a nice
    value counts within the session alone (sched(7), autogroup). This process leads its own."""
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text("19")


def _shown(findings: list[Any]) -> list[dict[str, Any]]:
    """Errors first, then warnings; each tier in order of discovery."""
    rank = {"error": 0, "warning": 1, "info": 2}
    return [
        each.as_dict()
        for each in sorted(findings, key=lambda each: rank[each.severity])[:MOST_FINDINGS]
    ]


def _write(document: dict[str, Any]) -> None:
    line = json.dumps(document).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


if __name__ == "__main__":
    sys.exit(main())
