"""Has glibc's malloc give memory back to the system, and Python collect no garbage while the portal
starts. Other C libraries than glibc have none of these calls."""

import contextlib
import gc

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h


def tune() -> None:
    """Two arenas instead of eight per core, and blocks from 1 MiB on mapped by themselves, always
    (mallopt(3)). glibc would raise that threshold to the size of the first block it frees, 19 MiB
    of a password hash, and keep such blocks for good. No garbage is collected until `started`."""
    import ctypes

    gc.disable()

    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def started() -> None:
    """Collect garbage again, but look no more at what is there now: modules and the URL table."""
    gc.freeze()
    gc.enable()


def trim() -> None:
    """Give back the free pages between blocks in use (malloc_trim(3)): a new index of the store
    leaves some megabytes of them. Takes a few milliseconds."""
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
