"""Copies, the replica and the last drill over HTTP (role admin)."""

from dataclasses import asdict

import bottle

from mosis.caller import Caller
from mosis.context import Context
from mosis.database import Connection
from mosis.operations.backup import copies, drills
from mosis.validation import Json
from mosis.web.request import listed, read_page
from mosis.web.schemas import EMPTY, list_of, operation, shape, shown

COPY = shape("Copy", "name size_bytes:int packages:int")
ASKED = shape("BackupAsked", "job:id")


def routes(app: bottle.Bottle) -> None:
    app.get("/admin/backups", callback=index, scope="admin")
    app.post("/admin/backups", callback=make, scope="admin", idempotent="yes")


@operation(list_of("backups", COPY, "replica:dict? drill:dict?"))
def index(env: Context, db: Connection) -> Json:
    """The existing copies, the replica and the last drill."""
    page = copies.index(env.config, read_page(str))
    rows = [shown(COPY, each) for each in page.rows]
    replica = asdict(env.replication.state) if env.replication else None
    return listed("backups", page, rows, replica=replica, drill=drills.last_drill(db))


@operation({202: ASKED}, body=EMPTY)
def make(db: Connection, caller: Caller) -> Json:
    """Request a copy of the database, the package list and the secrets; it is made by a job."""
    bottle.response.status = 202
    return {"job": copies.request_copy(db, caller.account)}
