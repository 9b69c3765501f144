"""Idempotency-Key on the routes that say `idempotent`: the change and its answer are committed together, and the same request
again is answered the same."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import bottle

from mosis import idempotency
from mosis.context import Context
from mosis.errors import Malformed
from mosis.idempotency import Answer, Request
from mosis.web.request import JSON_LIMIT_BYTES, body_is, read_body

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[!-~][ -~]{0,253}[!-~]\Z|[!-~]\Z")


class Retries:
    """Replays what was answered before. Only what was done (2xx) is kept: a refusal has changed nothing and may end otherwise
    the next time. Stands between the plugin that knows the caller and the one that makes the answer."""

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
            if key is None:
                return callback(**arguments)
            if not _KEY.match(key):
                raise Malformed(
                    "malformed_request",
                    f"{HEADER} must be 1 to 255 printable ASCII characters, such as a UUID.",
                )
            with ExitStack() as alone:
                known: list[Request] = []
                environ["mosis.body_is"] = lambda content: known.append(
                    self._new(key, content, alone)
                )
                if how == "yes":
                    body = read_body(JSON_LIMIT_BYTES)
                    environ["wsgi.input"] = io.BytesIO(body)
                    body_is(body)
                return self._once(known, lambda: callback(**arguments))

        return answered

    def _new(self, key: str, content: bytes, alone: ExitStack) -> Request:
        """What is asked for, which nobody else does meanwhile. Raises the answer that was given before."""
        request = bottle.request
        caller, path = request.environ["mosis.caller"], f"{request.path}?{request.query_string}"
        asked = idempotency.request(self.env.secret, caller, request.method, path, key, content)
        alone.enter_context(self._alone(asked))
        if before := idempotency.find(self.env.db.connection(), asked):
            raise bottle.HTTPResponse(
                before.body, before.status, [*before.headers, ("Idempotency-Replayed", "true")]
            )
        return asked

    def _once(self, known: list[Request], run: Callable[[], Any]) -> Any:
        db = self.env.db.connection()
        with db.held():
            body = run()
            response = bottle.response
            if isinstance(body, bytes) and 200 <= response.status_code < 300:
                with db.write():
                    idempotency.keep(
                        db,
                        known[0],
                        Answer(response.status_code, list(response.headers.items()), body),
                    )
            return body

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
