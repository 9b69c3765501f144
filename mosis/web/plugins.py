"""The plugins of all requests: request id, log line, errors, the caller, and validation of inputs.

A line of the URL table has these options:
    scope  who may call: "public", "any" (any credential), "account" (signed in), "session" (also a device login, which has
        only some scopes), a role, or a scope of API keys
    limited  what a credential limited to some apps may do if the path names no app: "filtered" (the handler shows and
        changes only what belongs to these apps or was made with the credential) or "refused"
    auth  "none" for sign-in and account recovery: credentials that the client still sends are ignored
    body  "package" (up to the package limit) or "telemetry" (up to 64 KiB); otherwise JSON of up to 1 MiB
    limit  "none" if requests are not counted, or the name of a rate limit; see limit_of
    cache  which responses are cached, see mosis/web/answers.py: "store" until the store changes, "always" without limit
    cache_control  Cache-Control of the response, if not the default
    idempotent  whether an Idempotency-Key makes retries safe, see mosis/web/idempotency.py: "yes", or "deferred" if the
        handler gets the key as `retry` and identifies the request itself, because the body is too large to be read before
    deprecated, sunset, successor  the date ("2027-01-31") from which the address should not be used, the date of its
        removal, and the address that replaces it; reported in headers and in the OpenAPI document
    lane  the threads that run it: "passwords" (hashing), "uploads", "publishing" (hashing of packages), "outside" (waiting
        for other servers), "telemetry" (devices), "writes" and "intake" (nothing but reads and writes of portal.db or
        telemetry.db, in a transaction with other requests); "quick" otherwise
"""

import inspect
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any
from urllib.parse import quote

import bottle

from mosis import problems, rate_limits
from mosis.caller import Network, client_address, network_of
from mosis.context import Context
from mosis.errors import LimitReached, PortalError
from mosis.ids import request_id_of
from mosis.metrics import MetricsRegistry
from mosis.server.request import readable
from mosis.web.answers import fields_of, final_headers, headers_of_caller
from mosis.web.request import check_lengths, check_query, read_declared, require_match
from mosis.web.routing import (
    API_PREFIX,
    KNOWN_METHODS,
    METHODS,
    Route,
    SegmentRouter,
    environ_path,
    own_path,
    split_version,
)
from mosis.web.schemas import Operation

log = logging.getLogger("mosis.requests")
_BOTTLES_CODES = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}


class Portal(bottle.Bottle):
    """Bottle with the portal's paths (/v1), request ids, log lines, and errors."""

    def __init__(
        self,
        measures: MetricsRegistry | None = None,
        prefix: str = "",
        error_page: Callable[[str, str], bottle.HTTPResponse] | None = None,
        see_host: Callable[[str], None] | None = None,
        see_proxy: Callable[[Mapping[str, Any]], None] | None = None,
        limits: rate_limits.Limits | None = None,
        trusted_proxy: tuple[Network, ...] = (),
    ) -> None:
        super().__init__()
        self.__dict__["router"] = SegmentRouter()  # Bottle refuses a second assignment
        self.prefix = prefix  # the path in BASE_URL, where the portal has one
        self.plugins.clear()  # Bottle's own: our answers are bytes by the time they come to them
        self.measures = measures or MetricsRegistry()
        self.error_page = error_page  # of a code and a detail
        self.see_host = see_host  # called with each Host field
        self.see_proxy = see_proxy  # called with each environ
        self.limits = limits or rate_limits.Limits(on=False)
        self.trusted_proxy = trusted_proxy

    def route(
        self,
        path: str,
        method: str = "GET",
        *,
        callback: Callable[..., Any],
        skip: Sequence[type] = (),
        **options: Any,
    ) -> None:
        """Add a line to the URL table. `skip` lists classes of plugins."""
        self.add_route(Route(self, path, method, callback, skip, options))

    def wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Replaces Bottle.wsgi: also assigns the request id, splits the path, and records the response."""
        started = time.perf_counter()
        if "mosis.park" not in environ:  # from another server than the portal's
            for name in [*environ]:
                if name.startswith("HTTP_"):
                    environ[name] = readable(environ[name])
        request_id = request_id_of(environ.get("HTTP_X_REQUEST_ID", ""))
        environ["mosis.request_id"], environ["mosis.prefix"] = request_id, self.prefix
        if self.see_host is not None:
            self.see_host(environ.get("HTTP_HOST", ""))
        if self.see_proxy is not None:
            self.see_proxy(environ)
        whole = environ.get("PATH_INFO", "/")
        if not whole.isascii():
            # Bottle leaves out bytes that are not UTF-8: the address would be another one than that
            # for which the server admitted the request.
            whole = readable(whole)
        version, path = split_version(own_path(self.prefix, whole))
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = self.prefix + version, path
        status, size_bytes = 500, 0
        try:
            body = self._body(environ)
            response, route = bottle.response, environ.get("bottle.route")
            status, headers = response.status_code, _header_list(response)
            size_bytes = int(dict(headers).get("Content-Length", 0))
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            of_caller = headers_of_caller(request_id, environ.get("mosis.taken", ()))
            headers = final_headers(method, path, headers, route, of_caller)
            start_response(response.status_line, headers)
            environ.pop("mosis.parked", None)
            return body
        finally:
            if not environ.get("mosis.parked"):  # else it waits, and is run again
                # The response of a request that shares a transaction is sent after the commit.
                if after := environ.get("mosis.after"):
                    after(partial(self._record, environ, status, size_bytes, started))
                else:
                    self._record(environ, status, size_bytes, started)

    def _body(self, environ: dict[str, Any]) -> Iterable[bytes]:
        """The body of the response; its status and headers are then in bottle.response."""
        out, response = self._handle(environ), bottle.response
        if isinstance(out, bytes):
            body: Any = [out] if out else []
            fields_of(response).setdefault("Content-Length", [str(len(out))])
        else:
            body = self._cast(out)
        if response.status_code in (204, 304) or environ["REQUEST_METHOD"] == "HEAD":
            if hasattr(body, "close"):
                body.close()
            return []
        return body  # type: ignore[no-any-return]

    def _handle(self, environ: dict[str, Any]) -> Any:
        """Replaces Bottle._handle: finds the route and calls its plugins and handler."""
        path = environ["PATH_INFO"]
        if not path.isascii():
            environ["PATH_INFO"] = path.encode("latin-1").decode("utf-8", "ignore")
        environ["bottle.app"] = self
        bottle.request.bind(environ)
        bottle.response.bind()
        try:
            # A path that is not ASCII has been decoded since the server has asked for its route.
            match = environ.get("mosis.match") if path.isascii() else None
            route, arguments = match or self.router.match(environ)
            environ["route.handle"] = environ["bottle.route"] = route
            environ["route.url_args"] = arguments
            out = route.call(**arguments)
        except bottle.HTTPResponse as response:
            out = response
        except MemoryError:
            raise
        except Exception as error:
            trace = traceback.format_exc()
            out = bottle.HTTPError(500, exception=error, traceback=trace)
        if isinstance(out, bottle.HTTPResponse):
            out.apply(bottle.response)
        return out

    def _record(
        self, environ: Mapping[str, Any], status: int, size_bytes: int, started: float
    ) -> None:
        caller, method = environ.get("mosis.caller"), environ.get("REQUEST_METHOD", "")
        self.record(
            environ["mosis.request_id"],
            method,
            environ.get("bottle.route"),
            status,
            size_bytes,
            time.perf_counter() - started,
            caller.developer_id if caller else None,
        )

    def record(
        self,
        request_id: str,
        method: str,
        route: bottle.Route | None,
        status: int,
        size_bytes: int,
        took_seconds: float,
        developer_id: str | None = None,
    ) -> None:
        """Record metrics and log line of a request."""
        rule = route.rule if route is not None else None
        self.measures.request(
            method if method in METHODS else "other", rule or "none", status, took_seconds
        )
        if log.isEnabledFor(logging.INFO):
            log.info(
                "request",
                extra={
                    "request_id": request_id_of(request_id),
                    "method": method or None,
                    "route": rule,
                    "status": status,
                    "ms": round(took_seconds * 1000, 2),
                    "bytes": size_bytes,
                    "caller": developer_id,
                },
            )

    def default_error_handler(self, res: bottle.HTTPError) -> bytes:
        """Errors of Bottle itself, and unhandled exceptions, in the portal's error format."""
        environ = bottle.request.environ
        code = _BOTTLES_CODES.get(res.status_code, "internal")
        if code in ("not_found", "method_not_allowed"):
            if environ["REQUEST_METHOD"] not in KNOWN_METHODS:
                code, bottle.response.status = "not_implemented", 501
                bottle.response.headers.pop("Allow", None)
            elif self._is_answered_without_route(environ, code):
                return b""
            if refusal := self._over_limit(environ):
                return refusal
        if code == "internal":
            log.error(
                "unhandled exception",
                extra={
                    "request_id": environ["mosis.request_id"],
                    "trace": res.traceback or repr(res.exception),
                },
            )
        details = {
            "not_found": "There is nothing under this address; GET /docs lists what there is.",
            "method_not_allowed": "This address does not take this method; see Allow.",
            "not_implemented": "This method is not known here.",
            "malformed_request": "The request cannot be read: check its path, headers and body.",
            "too_large": "The body is too large for this address.",
            "internal": "Something went wrong here. The operator finds it in the log under this request_id.",
        }
        detail = details[code]
        if code == "method_not_allowed":
            bottle.response.set_header("Allow", _allowed())
        if self.error_page is not None and _is_for_people(environ):
            response = self.error_page(code, detail)
            for name, value in response.headerlist:
                if name != "Content-Length":
                    bottle.response.set_header(name, value)
            return bytes(response.body)
        bottle.response.content_type = problems.CONTENT_TYPE
        bottle.response.set_header("Cache-Control", "no-store")
        return problems.body(code, detail, environ["mosis.request_id"])

    def _over_limit(self, environ: Mapping[str, Any]) -> bytes | None:
        """Count a request that no route counts, for its address; the body of a 429 when that is over its limit."""
        forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
        address = client_address(self.trusted_proxy, environ.get("REMOTE_ADDR", ""), forwarded_for)
        try:
            taken = self.limits.take("address", network_of(address))
            bottle.request.environ["mosis.taken"] = [taken] if taken else []
        except LimitReached as error:
            response = problem(error, environ["mosis.request_id"])
            response.apply(bottle.response)
            return bytes(response.body)
        return None

    def _is_answered_without_route(self, environ: Mapping[str, Any], code: str) -> bool:
        """OPTIONS of an address (RFC 9110, 9.3.7), and redirects that remove a slash at the end."""
        response, method, path = bottle.response, environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method == "OPTIONS" and code == "method_not_allowed":
            response.status = 204
            response.set_header("Allow", _allowed())
            return True
        shorter = path.rstrip("/")
        if code == "not_found" and method in ("GET", "HEAD") and shorter not in ("", path):
            try:
                self.router.match({"REQUEST_METHOD": method, "PATH_INFO": shorter})
            except bottle.HTTPError:
                return False
            query = environ.get("QUERY_STRING", "")
            location = quote(environ.get("SCRIPT_NAME", "") + shorter)
            response.status = 308
            response.set_header("Location", location + (f"?{query}" if query else ""))
            response.set_header("Cache-Control", "no-store")
            return True
        return False


class Errors:
    """Turns PortalError into a problem (RFC 9457)."""

    api = 2

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        def answered(**arguments: Any) -> Any:
            try:
                return callback(**arguments)
            except PortalError as error:
                request_id = bottle.request.environ["mosis.request_id"]
                # a disk or the database
                if error.__cause__ is not None and problems.status(error.code) >= 500:
                    log.error(
                        "failed",
                        extra={
                            "request_id": request_id,
                            "code": error.code,
                            "reason": str(error.__cause__),
                        },
                    )
                return problem(error, request_id)
            except (bottle.HTTPResponse, MemoryError):
                raise
            except Exception as error:
                raise bottle.HTTPError(
                    500, exception=error, traceback=traceback.format_exc()
                ) from error

        return answered


class Inputs:
    """Reads and validates what the operation declares (mosis/web/schemas.py): the query,
    If-Match, and the body, which is passed as `body`. Packages are left to the handler, which reads
    them as a stream."""

    api = 2

    def __init__(self, env: Context) -> None:
        self.env = env

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        operation: Operation = route.callback.operation
        # Nobody can know the tag of what has none.
        tagless = route.method in ("PUT", "PATCH", "DELETE") and not operation.matches
        asked = operation.query.items() if route.method == "GET" else ()
        bounded = {name: rules["maxlength"] for name, rules in asked if "maxlength" in rules}
        reads = operation.body is not None and route.config.get("body") != "package"
        further = partial(operation.further, self.env) if operation.further else None
        hands_over = "body" in inspect.signature(route.callback).parameters

        def checked(**arguments: Any) -> Any:
            if tagless:
                require_match(None)
            if bottle.request.environ.get("QUERY_STRING"):
                check_query(operation.query)
                if bounded:
                    check_lengths(bounded)
            if reads:
                body = read_declared(operation, further)
                if hands_over:
                    arguments["body"] = body
            return callback(**arguments)

        return checked


def _allowed() -> str:
    """The methods of the address, from the URL table."""
    allowed = set(bottle.response.get_header("Allow").split(",")) | {"OPTIONS"}
    return ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))


def _is_for_people(environ: Mapping[str, Any]) -> bool:
    """Whether an error is a page: of pages, and of unknown addresses that a browser requests."""
    route = environ.get("bottle.route")
    if route is not None:
        return bool(route.config.get("page"))
    path = environ_path(environ)
    return not path.startswith(f"{API_PREFIX}/") and "text/html" in environ.get("HTTP_ACCEPT", "")


def problem(error: PortalError, request_id: str) -> bottle.HTTPResponse:
    """The response to an error, with the headers that its code requires."""
    facts = dict(error.facts)
    headers = {"Content-Type": problems.CONTENT_TYPE, "Cache-Control": "no-store"}
    status = problems.status(error.code)
    if status == 401:
        challenge = 'error="invalid_token"' if error.code == "invalid_token" else ""
        headers["WWW-Authenticate"] = " ".join(
            filter(None, ['Bearer realm="mosis"' + ("," if challenge else ""), challenge])
        )
    if error.code == "insufficient_scope":
        headers["WWW-Authenticate"] = (
            f'Bearer realm="mosis", error="insufficient_scope", scope="{facts["scope"]}"'
        )
    if error.code == "range_not_satisfiable":
        headers["Content-Range"] = f"bytes */{facts['size_bytes']}"
    if facts.get("policy") in rate_limits.POLICIES:
        empty = rate_limits.Taken(facts["policy"], 0, facts["retry_after_seconds"])
        bottle.request.environ["mosis.taken"] = [
            *bottle.request.environ.get("mosis.taken", ()),
            empty,
        ]
    for name in ("Accept", "Accept-Encoding"):  # of a 415 (RFC 9110, section 15.5.16)
        if value := facts.pop(name.lower().replace("-", "_"), None):
            headers[name] = value
    if "retry_after_seconds" in facts:
        headers["Retry-After"] = str(facts["retry_after_seconds"])
    body = problems.body(error.code, error.detail, request_id, errors=error.errors or None, **facts)
    return bottle.HTTPResponse(body, status, headers)


def _header_list(response: Any) -> list[tuple[str, str]]:
    """The headers of Bottle's response, in the form of PEP 3333."""
    found = fields_of(response)
    plain = response.status_code == 200 and "Content-Type" in found and not response._cookies
    if plain and all(found.values()):
        values = list(chain.from_iterable(found.values()))
        if len(values) == len(found) and "".join(values).isascii():
            return list(zip(found, values, strict=True))
    return response.headerlist  # type: ignore[no-any-return]
