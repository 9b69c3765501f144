"""Copies, the replica and the last drill over HTTP (role admin)."""

from dataclasses import asdict
from typing import Any

import bottle

from mosis import backup
from mosis.callers import Caller
from mosis.db import Connection
from mosis.environment import Environment
from mosis.web.request import read_json
from mosis.web.shapes import COUNT, FREE, ID, TEXT, many, maybe, says, shape

NOTHING: dict[str, dict[str, Any]] = {}
BACKUPS = shape(
    "Backups", backups=many(shape("", name=TEXT, size_bytes=COUNT, packages=COUNT)), next_cursor={"type": "null"},
    replica=maybe(FREE), drill=maybe(FREE),
)
ASKED = shape("BackupAsked", job=ID)


def routes(app: bottle.Bottle) -> None:
    app.get("/admin/backups", callback=index, scope="admin")
    app.post("/admin/backups", callback=make, scope="admin", idempotent="yes")


@says(BACKUPS)
def index(env: Environment, db: Connection) -> dict[str, Any]:
    """The copies there are, the replica and the last drill."""
    copies = [{"name": each.name, "size_bytes": each.size_bytes, "packages": each.packages} for each in backup.index(env.config)]
    replica = asdict(env.replication.state) if env.replication else None
    return {"backups": copies, "next_cursor": None, "replica": replica, "drill": backup.last_drill(db)}


@says({202: ASKED}, body=NOTHING, optional=True)
def make(db: Connection, caller: Caller) -> dict[str, Any]:
    """Ask for a copy of everything; it is made as a job."""
    read_json(NOTHING, optional=True)
    actor = caller.account
    bottle.response.status = 202
    return {"job": backup.ask_for_copy(db, actor)}
