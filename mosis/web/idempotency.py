"""Idempotency-Key on the routes that say idempotent="yes": the change and its answer are committed together, and the same request
again is answered the same."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bottle

from mosis import idempotency
from mosis.environment import Environment
from mosis.errors import Malformed
from mosis.idempotency import Answer, Request
from mosis.web.request import JSON_LIMIT_BYTES, read_body

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[!-~][ -~]{0,253}[!-~]\Z|[!-~]\Z")


class Retries:
    """Replays what was answered before. Only what was done (2xx) is kept: a refusal has changed nothing and may end otherwise
    the next time. Stands between the plugin that knows the caller and the one that makes the answer."""

    api = 2

    def __init__(self, env: Environment) -> None:
        self.env = env
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def apply(self, callback: Callable[..., Any], route: bottle.Route) -> Callable[..., Any]:
        if route.config.get("idempotent") != "yes":
            return callback

        def answered(**arguments: Any) -> Any:
            key = bottle.request.environ.get("HTTP_IDEMPOTENCY_KEY")  # raw: what is not ASCII is refused below
            if key is None:
                return callback(**arguments)
            asked = self._asked(key)
            with self._alone(asked):
                return self._once(asked, lambda: callback(**arguments))

        return answered

    def _once(self, asked: Request, run: Callable[[], Any]) -> Any:
        db = self.env.db.connection()
        if before := idempotency.find(db, asked):
            return bottle.HTTPResponse(before.body, before.status, [*before.headers, ("Idempotency-Replayed", "true")])
        with db.held():
            body = run()
            response = bottle.response
            if isinstance(body, bytes) and 200 <= response.status_code < 300:
                with db.write():
                    idempotency.keep(db, asked, Answer(response.status_code, list(response.headers.items()), body))
            return body

    def _asked(self, key: str) -> Request:
        request = bottle.request
        if not _KEY.match(key):
            raise Malformed("malformed_request", f"{HEADER} must be 1 to 255 printable ASCII characters, such as a UUID.")
        body = read_body(JSON_LIMIT_BYTES)
        request.environ["wsgi.input"] = io.BytesIO(body)
        return idempotency.request(
            self.env.secret, request.environ["mosis.caller"], request.method, f"{request.path}?{request.query_string}", key, body,
        )

    @contextmanager
    def _alone(self, asked: Request) -> Iterator[None]:
        with self._lock:
            if asked.id in self._running:
                raise idempotency.in_progress()
            self._running.add(asked.id)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(asked.id)
