"""The first lines of Litestream's process: arranges that the kernel kills it when the portal dies, and becomes Litestream.

    python child.py PARENT LOCK PROGRAM ARGUMENT...

A Litestream that outlived a portal killed in mid-commit could replicate a transaction that the database then drops. Killed
together, the next to open the database recovers the whole WAL, with that transaction.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Never returns."""
    parent, lock, program, *arguments = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the line above
        os._exit(1)
    os.ftruncate(int(lock), 0)
    os.pwrite(int(lock), str(os.getpid()).encode(), 0)
    os.execv(program, [program, *arguments])  # noqa: S606  (no shell, on purpose)


if __name__ == "__main__":
    main()
