"""Litestream (https://litestream.io): the program that copies every commit of portal.db to the replica as it happens.

    program.py    where it is, what it is told, restoring         child.py   the process as it begins: it dies with the portal
    replication.py   runs it beside the portal, watches that the replica keeps up, starts it again

What is written is in the replica within about a second; telemetry.db is not replicated.
"""

from mosis.litestream.program import BackupError, Litestream
from mosis.litestream.replication import Replication, State

__all__ = ["BackupError", "Litestream", "Replication", "State"]
