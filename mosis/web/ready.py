"""Answers that are ready: what a route with `keep` has answered before is given by the server's loop itself, because to wake a
thread and go through Bottle costs several times as much as all the rest of such a request."""

import time

from mosis import store
from mosis.callers import client_address, household
from mosis.environment import Environment
from mosis.errors import LimitReached, Unavailable
from mosis.serving.request import Answer, Request
from mosis.web.plugins import Portal, common_headers, kept_under, limit_of, request_id_of
from mosis.web.request import names_tag

STORE = ("/store/", "/v1/store/")


class ReadyAnswers:
    """Called by the server's loop for each request without body; None sends it to the application, which also refuses."""

    def __init__(self, app: Portal, env: Environment) -> None:
        self.app = app
        self.env = env

    def __call__(self, request: Request) -> Answer | None:
        """The answer to a GET of nobody in particular, if it is kept."""
        started, env, headers = time.perf_counter(), self.env, request.headers
        if request.command != "GET" or "AUTHORIZATION" in headers or "X_API_KEY" in headers:
            return None
        try:
            revision = store.revision(env) if request.path.startswith(STORE) else None
            kept = env.kept.get(kept_under(request.path, request.query), revision, again=True)
            if kept is None:
                return None
            body, shown, route = kept
            limit = limit_of(route)
            taken = None if limit == "none" else env.limits.take(limit, household(client_address(
                env.config.trusted_proxy, request.peer, headers.get("X_FORWARDED_FOR", "")
            )))
        except (LimitReached, Unavailable):
            return None
        request_id = request_id_of(headers.get("X_REQUEST_ID", ""))
        status, common = "200 OK", common_headers(request_id, (taken,) if taken else (), route)
        if names_tag(headers.get("IF_NONE_MATCH", ""), shown[0][1]):  # the first header is the tag
            status, body, shown = "304 Not Modified", b"", [each for each in shown if each[0] != "Content-Type"]
        self.app.record(request_id, "GET", route, int(status[:3]), len(body), time.perf_counter() - started)
        return status, [*shown, *common], body
