"""Idempotency-Key on routes with the option `idempotent`: the change and its response are committed
together, and a retry gets the same response."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import bottle

from mosis import idempotency
from mosis.context import Context
from mosis.errors import MalformedRequest
from mosis.idempotency import KeyedRequest, StoredResponse
from mosis.web.request import JSON_LIMIT_BYTES, read_body

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[!-~][ -~]{0,253}[!-~]\Z|[!-~]\Z")


class Retries:
    """Plugin that stores responses and sends them again. Only successful responses (2xx) are
    stored: an error has changed nothing and may end differently the next time. It is between the
    plugin that finds the caller and the one that makes the response."""

    api = 2

    def __init__(self, env: Context) -> None:
        self.env = env
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        how = route.config.get("idempotent")
        if how is None:
            return callback

        def answered(**arguments: Any) -> Any:
            environ = bottle.request.environ
            key = environ.get("HTTP_IDEMPOTENCY_KEY")  # raw: what is not ASCII is refused here
            if key is not None and not _KEY.match(key):
                detail = f"{HEADER} must be 1 to 255 printable ASCII characters, such as a UUID."
                raise MalformedRequest(detail)
            with ExitStack() as until_answered:
                retry = Retry(self, key, until_answered)
                if how == "deferred":
                    arguments["retry"] = retry
                elif key is not None:
                    body = read_body(JSON_LIMIT_BYTES)
                    environ["wsgi.input"] = io.BytesIO(body)
                    earlier = retry.earlier_response(body)
                    if earlier is not None:
                        return earlier
                if key is None:
                    return callback(**arguments)
                return self._stored(retry, lambda: callback(**arguments))

        return answered

    def _stored(self, retry: "Retry", run: Callable[[], Any]) -> Any:
        """Run the handler and store its response, in one transaction."""
        db = self.env.db.connection()
        with db.held():
            body = run()
            response = bottle.response
            if retry.keyed and isinstance(body, bytes) and 200 <= response.status_code < 300:
                answer = StoredResponse(response.status_code, list(response.headers.items()), body)
                with db.write():
                    idempotency.keep(db, retry.keyed, answer)
            return body

    @contextmanager
    def alone(self, keyed: KeyedRequest) -> Iterator[None]:
        """Prevents concurrent requests with one key. Raises Conflict `idempotency_in_progress`."""
        with self._lock:
            if keyed.id in self._running:
                raise idempotency.in_progress()
            self._running.add(keyed.id)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(keyed.id)


class Retry:
    """The Idempotency-Key of one request, if it has one. A route with idempotent="deferred" gets it as `retry`."""

    def __init__(self, retries: Retries, key: str | None, until_answered: ExitStack) -> None:
        self.keyed: KeyedRequest | None = None
        self._retries, self._key, self._until_answered = retries, key, until_answered

    def earlier_response(self, content: bytes) -> bottle.HTTPResponse | None:
        """Called before anything is changed, with everything that identifies the request. Returns
        the stored response to send again; None for the first request. Raises Conflict
        `idempotency_in_progress`, Invalid `idempotency_key_reused`."""
        if self._key is None:
            return None
        request, env = bottle.request, self._retries.env
        caller, path = request.environ["mosis.caller"], f"{request.path}?{request.query_string}"
        keyed = idempotency.request(env.secret, caller, request.method, path, self._key, content)
        self._until_answered.enter_context(self._retries.alone(keyed))
        before = idempotency.find(env.db.connection(), keyed)
        if before is None:
            self.keyed = keyed
            return None
        headers = [*before.headers, ("Idempotency-Replayed", "true")]
        return bottle.HTTPResponse(before.body, before.status, headers)
