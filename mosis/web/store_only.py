"""A store front end: store, files, health and metrics; all else is redirected to the primary."""

import bottle

from mosis.web.plugins import Portal
from mosis.web.routing import elsewhere

READ = ("/store/", "/packages/", "/assets/")
ALSO = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/.well-known/mosis-store-key"})


def serves(route: bottle.Route) -> bool:
    """Whether a front end has this line of the URL table: what is read, and update checks."""
    if route.method == "POST":
        return bool(route.rule == "/store/updates")
    return route.method == "GET" and (route.rule.startswith(READ) or route.rule in ALSO)


class StorePortal(Portal):
    """A front end's lines of the URL table, without credentials: everybody gets the same answer."""

    primary_url = ""

    def add_route(self, route: bottle.Route) -> None:
        """Add a line, if a front end has it."""
        if serves(route):
            route.config["auth"] = "none"
            super().add_route(route)

    def default_error_handler(self, res: bottle.HTTPError) -> bytes:
        body = super().default_error_handler(res)
        if (
            bottle.response.status_code in (404, 405)
            and "bottle.route" not in bottle.request.environ
        ):
            environ = bottle.request.environ
            bottle.response.status = 307
            for name in ("Allow", "Content-Type"):
                bottle.response.headers.pop(name, None)
            bottle.response.set_header("Location", elsewhere(self.primary_url, environ))
            bottle.response.set_header("Cache-Control", "no-store")
            return b""
        return body
