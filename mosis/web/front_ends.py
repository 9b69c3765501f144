"""What store front ends send to the primary. Not for accounts: a secret that both share."""

import hmac

import bottle

from mosis.context import Context
from mosis.database import Connection
from mosis.errors import Denied, NotFound
from mosis.store import download_batches
from mosis.validation import Json, Schema
from mosis.web.schemas import operation, shape

COUNTED = shape("CountedDownloads", "added:bool")
DOWNLOADS: Schema = {
    "batch": {"type": "string", "required": True, "regex": "[0-9a-f-]{36}"},
    "day": {"type": "string", "required": True, "regex": "[0-9]{4}-[0-9]{2}-[0-9]{2}"},
    "counts": {
        "type": "dict",
        "required": True,
        "maxlength": download_batches.MOST_VERSIONS,
        "valuesrules": {"type": "integer", "min": 1, "max": 1_000_000_000},
    },
}


def routes(app: bottle.Bottle) -> None:
    app.post("/front-ends/downloads", callback=downloads, scope="public", auth="none")


@operation(COUNTED, body=DOWNLOADS, refuses="not_found")
def downloads(env: Context, db: Connection, body: Json) -> Json:
    """Add the downloads that a store front end has counted, once for each `batch`. For front ends
    only: with FRONT_END_SECRET as the bearer token."""
    require_secret(env)
    added = download_batches.add_batch(db, body["batch"], body["day"], body["counts"])
    return {"added": added}


def require_secret(env: Context) -> None:
    """Raises NotFound if no secret is set, Denied if the request does not have it."""
    secret = env.config.front_end_secret
    if secret is None:
        raise NotFound("address")
    kind, _, given = bottle.request.get_header("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), secret.encode()):
        raise Denied("invalid_token", "Send FRONT_END_SECRET: `Authorization: Bearer SECRET`.")
