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
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import call
from typing import Any
from urllib.parse import quote

import bottle

from mosis import problems, rate_limits
from mosis.caller import ROLES, SCOPES, Caller, Network, client_address, is_in, network_of
from mosis.context import Context
from mosis.credentials import tokens
from mosis.errors import Denied, LimitReached, PortalError
from mosis.ids import request_id_of
from mosis.metrics import MetricsRegistry
from mosis.people import authentication
from mosis.records import dataclass
from mosis.web.answers import common_headers, final_headers
from mosis.web.request import check_lengths, check_query, read_declared, require_match
from mosis.web.routing import (
    API_PREFIX,
    KNOWN_METHODS,
    METHODS,
    Route,
    SegmentRouter,
    environ_path,
    limit_of,
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
    """Bottle with the portal's paths: /v1, request ids, one log line per request, and its own error
    format."""

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
        callback: Callable[..., Any] | None = None,
        skip: list[type] | None = None,
        **options: Any,
    ) -> Any:
        """Add a line to the URL table; without `callback` a decorator that does. `skip` lists
        classes of plugins."""

        def add(handler: Callable[..., Any]) -> Callable[..., Any]:
            self.add_route(Route(self, path, method, handler, skip or [], options))
            return handler

        return add(callback) if callback else add

    def wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        started = time.perf_counter()
        for name, value in environ.items():
            if name.startswith("HTTP_") and not value.isascii():
                environ[name] = _readable(value)
        request_id = environ["mosis.request_id"] = request_id_of(
            environ.get("HTTP_X_REQUEST_ID", "")
        )
        environ["mosis.prefix"] = self.prefix
        if self.see_host is not None:
            self.see_host(environ.get("HTTP_HOST", ""))
        if self.see_proxy is not None:
            self.see_proxy(environ)
        whole = environ.get("PATH_INFO", "/")
        if not whole.isascii():
            # Bottle leaves out bytes that are not UTF-8: the address would be another one than that
            # for which the server admitted the request.
            whole = _readable(whole)
        version, path = split_version(own_path(self.prefix, whole))
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = self.prefix + version, path
        shown: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            shown["status"] = int(status[:3])
            shown["bytes"] = next(
                (int(value) for name, value in headers if name.lower() == "content-length"), 0
            )
            headers = final_headers(
                environ["REQUEST_METHOD"],
                environ["PATH_INFO"],
                headers,
                common_headers(
                    request_id, environ.get("mosis.taken", ()), environ.get("bottle.route")
                ),
            )
            return start_response(status, headers, exc_info)

        try:
            answer: Iterable[bytes] = super().wsgi(environ, start)
            return answer
        finally:
            if shown or not environ.get("mosis.parked"):  # else it waits, and is run again
                # The response of a request that shares a transaction is sent after the commit.
                environ.get("mosis.after", call)(partial(self._record, environ, shown, started))

    def _record(self, environ: Mapping[str, Any], shown: Mapping[str, int], started: float) -> None:
        caller = environ.get("mosis.caller")
        self.record(
            environ["mosis.request_id"],
            environ.get("REQUEST_METHOD", ""),
            environ.get("bottle.route"),
            shown.get("status", 500),
            shown.get("bytes", 0),
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
                    "request_id": request_id,
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
        """OPTIONS of an address (RFC 9110, section 9.3.7), and redirects of addresses with a
        surplus slash at the end."""
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
                if (
                    error.__cause__ is not None and problems.status(error.code) >= 500
                ):  # a disk or the database
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


class Callers:
    """Finds the caller, checks the scope of the route, and passes `caller`, `db` and `env` to the
    handler by name."""

    api = 2

    def __init__(self, env: Context) -> None:
        self.env = env

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        scope, limit, looks = (
            route.config["scope"],
            limit_of(route),
            route.config.get("auth") != "none",
        )
        limited = route.config.get("limited", "")
        wanted = inspect.signature(route.callback).parameters

        def called(**arguments: Any) -> Any:
            db = self.env.db.connection()
            caller = self._caller(db, limit, looks, scope == "public")
            bottle.request.environ["mosis.caller"] = caller
            require(caller, scope, limited)
            known = {"db": db, "caller": caller, "env": self.env}
            arguments |= {name: value for name, value in known.items() if name in wanted}
            if caller.developer_id is None:
                return callback(**arguments)
            with db.guarded(lambda db: authentication.confirm(self.env, db, caller)):
                return callback(**arguments)

        return called

    def _caller(self, db: Any, limit: str, looks: bool, public: bool) -> Caller:
        """The caller (nobody, unless it `looks`). The request is counted, for the account or,
        without one, for the address.

        On public addresses, credentials of another scheme are ignored (a proxy with its own
        passwords forwards them), and for reads so are invalid credentials.
        """
        nobody = somebody(self.env)
        try:
            caller = self._credential_holder(db, nobody) if looks else nobody
        except Denied:
            if not public or (_is_bearer() and bottle.request.method not in ("GET", "HEAD")):
                self.count(limit, nobody)
                raise
            caller = nobody
        self.count(limit, caller)
        return caller

    def _credential_holder(self, db: Any, nobody: Caller) -> Caller:
        credential = _credential()
        if credential is None:
            return nobody
        return authentication.caller_of(self.env, db, credential, nobody.address, nobody.client)

    def count(self, limit: str, caller: Caller) -> None:
        """Count the request, for the account or, without one, for the address.

        Raises LimitReached `rate_limited`.
        """
        memory = bottle.request.environ.get("mosis.memory", {})
        if limit == "none" or "until" in memory:  # it has been counted before it waited
            bottle.request.environ["mosis.taken"] = memory.get("taken", [])
            return
        names = (
            [("account", caller.developer_id)]
            if caller.developer_id
            else [(limit, caller.client_network)]
        )
        if caller.developer_id and bottle.request.method not in ("GET", "HEAD"):
            names.append(("changes", caller.developer_id))
        taken = [each for name, key in names if (each := self.env.limits.take(name, key))]
        bottle.request.environ["mosis.taken"] = memory["taken"] = taken


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
    """Whether an error is shown as a page: errors of pages, and of unknown addresses outside /v1/
    if a browser requests them."""
    route = environ.get("bottle.route")
    if route is not None:
        return bool(route.config.get("page"))
    path = environ_path(environ)
    return not path.startswith(f"{API_PREFIX}/") and "text/html" in environ.get("HTTP_ACCEPT", "")


@dataclass
class _Logged:
    """What is logged once in a process."""

    real_ip: bool = False


def address_of(env: Context, environ: Mapping[str, Any]) -> str:
    """The client's address. Of a proxy's headers only X-Forwarded-For is read; if a request has
    another one, that is logged once."""
    if "HTTP_X_REAL_IP" in environ and "HTTP_X_FORWARDED_FOR" not in environ:
        peer = environ.get("REMOTE_ADDR", "")
        if is_in(peer, env.config.trusted_proxy) and not env.state(_Logged).real_ip:
            env.state(_Logged).real_ip = True
            log.warning(
                "X-Real-IP is not read: have the proxy send X-Forwarded-For, or all clients count as one address",
                extra={"proxy": peer},
            )
    return client_address(
        env.config.trusted_proxy,
        environ.get("REMOTE_ADDR", ""),
        environ.get("HTTP_X_FORWARDED_FOR", ""),
    )


def somebody(env: Context) -> Caller:
    """Who sends the request, before anything is known but address and program. User-Agent is shown to
    the owners of accounts, also in subjects of mails: as one line of printable characters."""
    agent: str = bottle.request.get_header("User-Agent", "")
    client = "".join(filter(str.isprintable, agent))[:200]
    return Caller(address=address_of(env, bottle.request.environ), client=client)


def _readable(value: str) -> str:
    """A header's value or a path (PEP 3333: bytes as Latin-1) as valid UTF-8, which is what Bottle
    takes it for: other bytes become U+FFFD, and are refused or not found later."""
    return value.encode("latin-1").decode("utf-8", "replace").encode().decode("latin-1")


def require(caller: Caller, scope: str, limited: str = "") -> None:
    """Raises Denied if the caller does not have the scope of the route, or is limited to some apps
    and the route does not allow that."""
    if scope == "public":
        return
    caller.account  # noqa: B018  (raises when nobody is signed in)
    if scope == "any":
        return
    if caller.apps is not None and (limited == "refused" or scope in ROLES):
        raise Denied(
            "limited_to_apps",
            "This API key is limited to some apps; use one for the whole account, or sign in.",
        )
    if scope in ROLES:
        if not caller.has_role(scope):
            raise Denied("forbidden", f"This needs the role {scope}.")
        caller.require_second_factor("staff")
        return  # of keys only those have a role that were made with one
    if caller.scopes is None or (scope == "session" and caller.session_id is not None):
        return
    if scope not in SCOPES:
        raise Denied("forbidden", "This cannot be done with an API key or a device login; sign in.")
    if scope not in caller.scopes:
        raise Denied(
            "insufficient_scope",
            f"This API key or device login lacks the scope {scope}.",
            scope=scope,
        )


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


def _is_bearer() -> bool:
    """Whether the request has a credential in the form of this portal."""
    kind: str = bottle.request.get_header("Authorization", "").strip().partition(" ")[0]
    key: str = bottle.request.get_header("X-API-Key", "").strip()
    return key.startswith(tokens.KEY_PREFIX) or kind.lower() == "bearer"


def _credential() -> str | None:
    """The credential of the request: a bearer token or an API key. Raises Denied if it is neither."""
    key: str | None = bottle.request.get_header("X-API-Key")
    header: str | None = bottle.request.get_header("Authorization")
    if key is not None:
        return key.strip()
    if header is None:
        return None
    kind, _, credential = header.partition(" ")
    if kind.lower() != "bearer" or not credential.strip():
        raise Denied("invalid_token", "Send `Authorization: Bearer TOKEN`.")
    return credential.strip()
