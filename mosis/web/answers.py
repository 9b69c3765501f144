"""Answers that are ready: what a route with `keep` has answered before is given by the server's loop itself, because to wake a
thread and go through Bottle costs several times as much as all the rest of such a request."""

import time

from mosis.caller import client_address, household
from mosis.context import Context
from mosis.errors import Denied, LimitReached, Unavailable
from mosis.rate_limits import Taken
from mosis.server.request import Answer, Request
from mosis.web.compression import cached_form, takes_part
from mosis.web.content_coding import least_bytes
from mosis.web.kept import Place, of_account, of_all_time, of_store
from mosis.web.plugins import (
    METHODS,
    Finished,
    Portal,
    accepts_html,
    access_token,
    common_headers,
    final_headers,
    header_lines,
    limit_of,
    own_path,
    request_id_of,
)
from mosis.web.request import names_tag

STORE = ("/store/", "/v1/store/", "/app/")
PAGES = ("/", "/feed.atom")


class CachedResponses:
    """Called by the server's loop for each request without body; None sends it to the application, which also says the refusals."""

    def __init__(self, app: Portal, env: Context) -> None:
        self.app = app
        self.env = env

    def __call__(self, request: Request) -> Answer | None:
        """The answer to a GET, if it is kept for everybody or for who has this access token."""
        started = time.perf_counter()
        if request.command == "OPTIONS" and request.path == "*":  # about the server itself
            return "204 No Content", f"Allow: {', '.join(sorted(METHODS))}\r\n".encode(), b""
        if request.command != "GET" or "IF_MATCH" in request.headers:
            return None
        if request.path == "/" and not accepts_html(request.headers.get("ACCEPT", "")):
            return None  # the application tells programs where the API is
        authorization, api_key = (
            request.headers.get("AUTHORIZATION"),
            request.headers.get("X_API_KEY"),
        )
        token = (
            None
            if authorization is None and api_key is None
            else access_token(authorization, api_key)
        )
        try:
            place = self._place(own_path(self.app.prefix, request.path), request.query, token)
            if place is None:
                return None
            kept: Finished | None = self.env.kept.get(
                place.key, place.revision, again=True, room=place.room
            )
            if kept is None:
                return None
            if self.env.config.compression and takes_part(kept.route):
                least = least_bytes(request.headers.get("ACCEPT_ENCODING", ""))
                if least is not None and len(kept.body) >= least:
                    kept = cached_form(self.env, kept)
                    if kept is None:
                        return None  # the application compresses it, which would hold up the loop
            developer_id = (
                self.env.access_tokens.read(token, self.env.clock.time()).developer_id
                if token
                else None
            )
            taken = self._count(request, limit_of(kept.route), developer_id)
        except (Denied, LimitReached, Unavailable):
            return None
        request_id = request_id_of(request.headers.get("X_REQUEST_ID", ""))
        common = common_headers(request_id, (taken,) if taken else (), kept.route)
        path = own_path(self.app.prefix, request.path).removeprefix("/v1")
        lines = header_lines(final_headers("GET", path, kept.headers, common)[len(kept.headers) :])
        if "IF_NONE_MATCH" in request.headers and names_tag(
            request.headers["IF_NONE_MATCH"], kept.tag
        ):
            self.app.record(
                request_id, "GET", kept.route, 304, 0, time.perf_counter() - started, developer_id
            )
            return "304 Not Modified", kept.lines_unchanged + lines, b""
        self.app.record(
            request_id,
            "GET",
            kept.route,
            200,
            len(kept.body),
            time.perf_counter() - started,
            developer_id,
        )
        return "200 OK", kept.lines + lines, kept.body

    def _place(self, path: str, query: str, token: str | None) -> Place | None:
        """Where the answer is kept. One to an account is right until anything changes, its session and its rights too; there is
        none for a credential that is no access token."""
        if token is None:
            if path in PAGES or path.startswith(STORE):
                return of_store(self.env, path, query)
            return of_all_time(path, query)
        return of_account(path, query, token, self.env.db.data_version()) if token else None

    def _count(self, request: Request, limit: str, developer_id: str | None) -> Taken | None:
        if developer_id:
            return self.env.limits.take("account", developer_id)
        if limit == "none":
            return None
        address = client_address(
            self.env.config.trusted_proxy, request.peer, request.headers.get("X_FORWARDED_FOR", "")
        )
        return self.env.limits.take(limit, household(address))
