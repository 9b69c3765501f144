"""Metrics for Prometheus, for the networks in METRICS."""

import bottle

from mosis.caller import Caller, parse_address
from mosis.context import Context
from mosis.errors import NotFound
from mosis.metrics import CONTENT_TYPE
from mosis.operations import metrics_collectors
from mosis.web.schemas import File, operation


def routes(app: bottle.Bottle) -> None:
    app.get("/metrics", callback=read, scope="public", limit="none")


@operation(File("text/plain"), refuses="not_found")
def read(env: Context, caller: Caller) -> bottle.HTTPResponse:
    """The metrics of the process for Prometheus; 404 outside the networks in METRICS."""
    if not may_read(env, caller.address):
        raise NotFound("address")
    return bottle.HTTPResponse(
        metrics_collectors.read(env),
        200,
        {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"},
    )


def may_read(env: Context, address: str) -> bool:
    """Whether the caller is in one of the networks. Clients behind an untrusted proxy are not,
    because a proxy on this machine would give all of them its own address."""
    peer, request = bottle.request.environ.get("REMOTE_ADDR", ""), bottle.request
    if parse_address(address) == parse_address(peer) and (
        request.get_header("X-Forwarded-For") or request.get_header("X-Real-IP")
    ):
        return False
    parsed = parse_address(address)
    return parsed is not None and any(parsed in network for network in env.config.metrics)
