"""Turns: many threads that may wait at the same time, of which only a few may compute at the same time.

Threads of one Python share the interpreter, so each competes with all others. Those that
mostly wait for the disk take turns, so that they are many while they wait and few while they compute.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_local = threading.local()


@contextmanager
def taken(turns: threading.Semaphore) -> Iterator[None]:
    """Hold a turn while the block runs."""
    with turns:
        _local.turns = turns
        try:
            yield
        finally:
            _local.turns = None


@contextmanager
def given_up() -> Iterator[None]:
    """Let another thread have this one's turn (if it holds one) while the block waits; then wait for a turn again."""
    turns: threading.Semaphore | None = getattr(_local, "turns", None)
    if turns is None:
        yield
        return
    turns.release()
    try:
        yield
    finally:
        turns.acquire()
