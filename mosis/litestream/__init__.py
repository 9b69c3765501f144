"""Litestream (https://litestream.io), the program that copies every commit of portal.db to the
replica.

program.py finds the program, writes its settings and restores; child.py is the first code of its
process, which ties it to the portal; replication.py runs it beside the portal, checks that the
replica keeps up, and restarts it; follow.py follows a replica for a store front end. A commit is in
the replica within about a second; telemetry.db is not replicated.
"""

from mosis.litestream.follow import Follow, Refused
from mosis.litestream.program import BackupError, Litestream
from mosis.litestream.replication import Replication, State

__all__ = ["BackupError", "Follow", "Litestream", "Refused", "Replication", "State"]
