"""The plugin that finds the caller of a request and checks the scope of the route, and who that is."""

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import bottle

from mosis.caller import ROLES, SCOPES, Caller, client_address, is_in
from mosis.context import Context
from mosis.credentials import tokens
from mosis.errors import Denied
from mosis.people import authentication
from mosis.records import dataclass
from mosis.validation.names import one_line
from mosis.web.request import read_header
from mosis.web.routing import limit_of

log = logging.getLogger("mosis.requests")


class Callers:
    """Finds the caller, checks the route's scope, and passes `caller`, `db`, `env` by name."""

    api = 2

    def __init__(self, env: Context) -> None:
        self.env = env

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        scope, limit = route.config["scope"], limit_of(route)
        looks, limited = route.config.get("auth") != "none", route.config.get("limited", "")
        wanted = {"db", "caller", "env"} & inspect.signature(route.callback).parameters.keys()

        def called(**arguments: Any) -> Any:
            environ, db = bottle.request.environ, self.env.db.connection()
            caller = self._caller(environ, db, limit, looks, scope == "public")
            environ["mosis.caller"] = caller
            require(caller, scope, limited)
            if "db" in wanted:
                arguments["db"] = db
            if "caller" in wanted:
                arguments["caller"] = caller
            if "env" in wanted:
                arguments["env"] = self.env
            if caller.developer_id is None:
                return callback(**arguments)
            with db.guarded(lambda db: authentication.confirm(self.env, db, caller)):
                return callback(**arguments)

        return called

    def _caller(
        self, environ: dict[str, Any], db: Any, limit: str, looks: bool, public: bool
    ) -> Caller:
        """The caller (nobody, unless it `looks`). The request is counted, for the account or,
        without one, for the address.

        On public addresses, credentials of another scheme are ignored (a proxy with its own
        passwords forwards them), and for reads so are invalid credentials.
        """
        caller = nobody = somebody(self.env, environ)
        try:
            if looks and (credential := _credential(environ)) is not None:
                address, client = nobody.address, nobody.client
                caller = authentication.caller_of(self.env, db, credential, address, client)
        except Denied:
            reads = environ["REQUEST_METHOD"] in ("GET", "HEAD")
            if not public or (_is_bearer(environ) and not reads):
                self.count(limit, nobody)
                raise
        self.count(limit, caller)
        return caller

    def count(self, limit: str, caller: Caller) -> None:
        """Count the request, for the account or, without one, for the address. Raises LimitReached
        `rate_limited`."""
        environ = bottle.request.environ
        memory = environ.get("mosis.memory", {})
        if limit == "none" or "until" in memory:  # it has been counted before it waited
            environ["mosis.taken"] = memory.get("taken", [])
            return
        names = (
            [("account", caller.developer_id)]
            if caller.developer_id
            else [(limit, caller.client_network)]
        )
        if caller.developer_id and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            names.append(("changes", caller.developer_id))
        taken = [each for name, key in names if (each := self.env.limits.take(name, key))]
        environ["mosis.taken"] = memory["taken"] = taken


@dataclass
class _Logged:
    """What is logged once in a process."""

    real_ip: bool = False


def address_of(env: Context, environ: Mapping[str, Any]) -> str:
    """The client's address; of a proxy's headers only X-Forwarded-For, others are logged once."""
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


def somebody(env: Context, environ: Mapping[str, Any]) -> Caller:
    """Who sends the request, before anything is known but address and program. User-Agent is shown to
    the owners of accounts, also in subjects of mails."""
    client = one_line(read_header(environ, "HTTP_USER_AGENT"))[:200]
    return Caller(address=address_of(env, environ), client=client)


def require(caller: Caller, scope: str, limited: str = "") -> None:
    """Raises Denied for a caller without the route's scope, or for other apps than its own."""
    if scope == "public":
        return
    caller.account  # noqa: B018  (raises when nobody is signed in)
    if scope == "any":
        return
    if caller.apps is not None and (limited == "refused" or scope in ROLES):
        detail = "This API key is limited to some apps; use one for the whole account, or sign in."
        raise Denied("limited_to_apps", detail)
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
        detail = f"This API key or device login lacks the scope {scope}."
        raise Denied("insufficient_scope", detail, scope=scope)


def _is_bearer(environ: Mapping[str, Any]) -> bool:
    """Whether the request has a credential in the form of this portal."""
    kind = read_header(environ, "HTTP_AUTHORIZATION").strip().partition(" ")[0]
    key = read_header(environ, "HTTP_X_API_KEY").strip()
    return key.startswith(tokens.KEY_PREFIX) or kind.lower() == "bearer"


def _credential(environ: Mapping[str, Any]) -> str | None:
    """The credential of the request: a bearer token or an API key. Raises Denied if it is neither."""
    if "HTTP_X_API_KEY" in environ:
        return read_header(environ, "HTTP_X_API_KEY").strip()
    if "HTTP_AUTHORIZATION" not in environ:
        return None
    kind, _, credential = read_header(environ, "HTTP_AUTHORIZATION").partition(" ")
    if kind.lower() != "bearer" or not credential.strip():
        raise Denied("invalid_token", "Send `Authorization: Bearer TOKEN`.")
    return credential.strip()
