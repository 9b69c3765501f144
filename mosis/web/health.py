"""Liveness and readiness."""

from dataclasses import asdict

import bottle

from mosis.context import Context
from mosis.database import Connection
from mosis.operations import readiness
from mosis.operations.front_end import State
from mosis.validation import Json
from mosis.web.schemas import operation, shape, shown

ALIVE = shape("Alive", "status", status={"const": "ok"})
READY = shape(
    "Ready",
    "status sqlite_version disk_free_bytes:int queue_age_seconds:int replica:dict? store:dict?",
    status={"const": "ready"},
)


def routes(app: bottle.Bottle) -> None:
    probe = {"scope": "public", "limit": "none", "cache_control": "no-store"}
    app.get("/healthz", callback=healthz, cache="always", **probe)
    app.get("/livez", callback=livez, **probe)
    app.get("/readyz", callback=readyz, **probe)


@operation(ALIVE)
def healthz() -> Json:
    """Whether the process runs. The event loop answers; threads and the database are not checked."""
    return {"status": "ok"}


@operation(ALIVE, refuses="database_unavailable")
def livez(db: Connection) -> Json:
    """Whether a thread answers and the database can be read; used by the HEALTHCHECK of the image."""
    readiness.read_database(db)
    return {"status": "ok"}


@operation(READY, refuses="not_ready")
def readyz(env: Context) -> Json:
    """Whether the portal can do its work; 503 with every reason if not."""
    found = readiness.require(env)
    replica = asdict(found.replica) if found.replica else None
    if replica:
        del replica["trouble"]  # none, or it would not be ready; paths are not for everybody
    store = _of_front_end(found.store)
    return shown(READY, found, status="ready", replica=replica, store=store)


def _of_front_end(state: State | None) -> Json | None:
    """The state of a store front end, without addresses of the operator."""
    if state is None:
        return None
    return {
        "following": state.following,
        "behind_seconds": state.behind_seconds,
        "copies": state.copies,
        "restores": state.restores,
    }
