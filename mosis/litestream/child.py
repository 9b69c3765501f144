"""The start of Litestream's process: have the kernel kill it when the portal dies, then exec
Litestream. `python child.py PARENT LOCK PROGRAM ARGUMENT...`

A Litestream that outlived a portal killed in mid-commit could replicate a transaction that the
database then rolls back. If both are killed, the next process to open the database recovers the
whole WAL, including that transaction.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Does not return."""
    parent, lock, program, *arguments = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # the parent died before the call above
        os._exit(1)
    os.ftruncate(int(lock), 0)
    os.pwrite(int(lock), str(os.getpid()).encode(), 0)
    os.execv(program, [program, *arguments])  # noqa: S606  (no shell, on purpose)


if __name__ == "__main__":
    main()
