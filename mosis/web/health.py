"""Whether the process lives."""

from typing import Any

import bottle


def routes(app: bottle.Bottle) -> None:
    app.get("/healthz", callback=healthz, scope="public", limit="none")


def healthz() -> dict[str, Any]:
    return {"status": "ok"}
