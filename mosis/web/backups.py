"""Copies, the replica and the last drill over HTTP (role admin)."""

from dataclasses import asdict
from typing import Any

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.operations.backup import copies as backup_copies
from mosis.operations.backup import drills
from mosis.web.request import listed, read_page
from mosis.web.schemas import EMPTY, ID, list_of, nullable, operation, shape

COPY = shape("Copy", name=str, size_bytes=int, packages=int)
ASKED = shape("BackupAsked", job=ID)


def routes(app: bottle.Bottle) -> None:
    app.get("/admin/backups", callback=index, scope="admin")
    app.post("/admin/backups", callback=make, scope="admin", idempotent="yes")


@operation(list_of("backups", COPY, replica=nullable(dict), drill=nullable(dict)))
def index(env: Context, db: Connection) -> dict[str, Any]:
    """The existing copies, the replica and the last drill."""
    page = backup_copies.index(env.config, read_page(str))
    copies = [
        {"name": each.name, "size_bytes": each.size_bytes, "packages": each.packages}
        for each in page.rows
    ]
    replica = asdict(env.replication.state) if env.replication else None
    return listed("backups", page, copies, replica=replica, drill=drills.last_drill(db))


@operation({202: ASKED}, body=EMPTY)
def make(db: Connection, caller: Caller) -> dict[str, Any]:
    """Request a copy of the database, the package list and the secrets; it is made by a job."""
    actor = caller.account
    bottle.response.status = 202
    return {"job": backup_copies.request_copy(db, actor)}
