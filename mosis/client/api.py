"""HTTP to the portal: refreshes credentials, retries safely, reports problems (RFC 9457)."""

import base64
import contextlib
import hashlib
import http.client
import json
import random
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from mosis import VERSION
from mosis.client.config import Config, Credentials
from mosis.client.output import FAILED, REFUSED, USAGE, Output, Stop
from mosis.records import dataclass
from mosis.validation.strict_json import load_json

TIMEOUT_SECONDS = 60
RETRY_SECONDS = 120  # how long a request is retried while the portal cannot be reached
# the same, before any request of this run has succeeded: the address may be wrong
FIRST_SECONDS = 10
ANSWER_BYTES = 64 << 20
BLOCK = 64 * 1024
AGENT = f"mosis/{VERSION}"


class Problem(Stop):
    """The portal refused a request: its problem document."""

    def __init__(self, status: int, document: dict[str, Any], request_id: str) -> None:
        self.status = status
        self.problem = str(document.get("code") or f"http_{status}")
        self.errors = [each for each in document.get("errors") or [] if isinstance(each, dict)]
        detail = document.get("detail") or document.get("title") or f"The portal answered {status}."
        message = f"{detail} ({self.problem}, request {request_id or 'without id'})"
        code = FAILED if status >= 500 or status == 429 else REFUSED
        super().__init__(message, code, problem=document, request_id=request_id)


@dataclass
class Response:
    """A response; `document` is its content if it is JSON."""

    status: int
    headers: http.client.HTTPMessage
    document: Any


class Body:
    """A request body: bytes, or a file that is read again for each attempt."""

    def __init__(
        self, content: bytes, content_type: str, sent: Callable[[int, int], None] | None = None
    ) -> None:
        self.content = content
        self.content_type = content_type
        self.sent = sent

    def blocks(self) -> Iterator[bytes]:
        """The content in small blocks; `sent` is called after each."""
        for start in range(0, len(self.content), BLOCK):
            yield self.content[start : start + BLOCK]
            if self.sent:
                self.sent(min(start + BLOCK, len(self.content)), len(self.content))


class Portal:
    """A portal, with the credentials of the signed-in account."""

    def __init__(self, config: Config, url: str, output: Output) -> None:
        self.config = config
        self.url = url
        self.output = output
        self.retry_seconds = RETRY_SECONDS
        self.reached = False
        self._exchange: Callable[[], str] | None = None
        self._trusted = ""

    def get(
        self,
        path: str,
        *,
        public: bool = False,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Any:
        """The document at an address."""
        return self.send("GET", path, query=query, public=public, headers=headers).document

    def post(
        self, path: str, document: Any = None, *, key: str | None = None, public: bool = False
    ) -> Any:
        """Send a document. `key` is the idempotency key; without one, a key is made for the retries of
        this call alone."""
        body = Body(
            json.dumps(document if document is not None else {}).encode(), "application/json"
        )
        headers = {} if public else {"Idempotency-Key": key or str(uuid.uuid4())}
        return self.send("POST", path, body, headers=headers, public=public).document

    def delete(self, path: str) -> None:
        """Remove what is at an address."""
        self.send("DELETE", path)

    def pages(self, path: str, name: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every row of a list."""
        while True:
            document = self.get(path, **query)
            yield from document[name]
            if not document.get("next_cursor"):
                return
            query["cursor"] = document["next_cursor"]

    def send(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        public: bool = False,
    ) -> Response:
        """Send one request, and retry it while the portal cannot be reached or is busy; every
        request is safe to repeat. Raises Problem and Stop."""
        given = {name: each for name, each in (query or {}).items() if each is not None}
        address = f"{self.url}{path if path.startswith('/.') else '/v1' + path}"
        address += f"?{urlencode(given, errors='surrogateescape')}" if given else ""
        refreshed = False
        seconds = self.retry_seconds if self.reached else min(self.retry_seconds, FIRST_SECONDS)
        attempts = _Attempts(seconds, self.output)
        while True:
            credential = None if public else self.credential()
            sent = dict(headers or {}) | (
                {"Authorization": f"Bearer {credential}"} if credential else {}
            )
            try:
                with request(method, address, body, sent) as answer:
                    response = _read(answer)
            except ssl.SSLCertVerificationError as error:
                detail = f"{self.url} cannot be trusted: {error.verify_message}"
                raise Stop(detail, FAILED) from None
            except OSError as error:
                attempts.failed(f"{self.url} cannot be reached ({reason(error)})")
                continue
            self.reached = True
            if response.status < 400:
                return response
            problem = _problem(response)
            if (
                response.status == 401
                and credential
                and not refreshed
                and self._refresh(credential)
            ):
                refreshed = True
            elif (
                response.status in (429, 502, 503, 504)
                or problem.problem == "idempotency_in_progress"
            ):
                attempts.failed(problem.message, _retry_after(response), problem)
            else:
                raise problem if public else _explained(problem, self.url)

    def trust(self, exchange: Callable[[], str]) -> None:
        """Use the token that `exchange` gets, now and whenever it has expired."""
        self._exchange = exchange
        self._trusted = exchange()

    def credential(self) -> str:
        """The access token or API key to send. Raises Stop if not signed in."""
        if self._trusted:
            return self._trusted
        stored = self.config.credentials(self.url)
        found = stored.token or stored.access_token
        if not found:
            detail = f"You are not signed in at {self.url}: run `mosis login {self.url}`, or set MOSIS_TOKEN."
            raise Stop(detail)
        if not re.fullmatch("[!-~]+", found):  # an error of the library would print it
            raise Stop("The token has spaces, line ends or letters beyond ASCII in it.", USAGE)
        return found

    def _refresh(self, refused: str) -> bool:
        """Get a new access token; False if that is not possible. A refresh token is valid once, so
        one process at a time refreshes, and the others use its result."""
        if self._exchange is not None:
            self._trusted = self._exchange()
            return True
        with self.config.lock():
            stored = self.config.credentials(self.url)
            if stored.token or not stored.refresh_token:
                return False
            if stored.access_token != refused:
                return True
            try:
                answer = self.post(
                    "/auth/refresh", {"refresh_token": stored.refresh_token}, public=True
                )
            except Problem as problem:
                if problem.status not in (400, 401):
                    raise
                return False
            self.config.store(
                self.url, Credentials(answer["access_token"], answer["refresh_token"])
            )
            return True


class _Attempts:
    """Delays between attempts: 0.5, 1, 2, 4 ... seconds, randomized, for a bounded time."""

    def __init__(self, seconds: float, output: Output) -> None:
        self.until = time.monotonic() + seconds
        self.output = output
        self.number = 0

    def failed(self, what: str, after: float | None = None, problem: Stop | None = None) -> None:
        """Wait for the next attempt. Raises Stop if the time is over."""
        wait = min(0.5 * 2**self.number, 15.0) * random.uniform(0.5, 1.0)  # noqa: S311  (spreads retries)
        wait = max(wait, after or 0.0)
        if time.monotonic() + wait > self.until:
            if problem is not None:
                raise problem
            raise Stop(f"{what}. Nothing is lost: run the same command again.", FAILED)
        self.number += 1
        if self.number > 1 or wait > 2:
            self.output.note(f"{what}; trying again in {wait:.0f} s")
        time.sleep(wait)


@contextlib.contextmanager
def request(
    method: str,
    address: str,
    body: Body | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Iterator[http.client.HTTPResponse]:
    """One request over a new connection, through a proxy if the environment names one. Redirects
    are not followed. Raises OSError for every failure of the connection."""
    connection, target, for_proxy = _connection(address, timeout)
    sent = {"User-Agent": AGENT, "Accept": "application/json", "Connection": "close"}
    sent |= (headers or {}) | for_proxy
    if body is not None:
        sent |= {"Content-Type": body.content_type, "Content-Length": str(len(body.content))}
    elif method in ("POST", "PUT", "PATCH"):
        sent["Content-Length"] = "0"
    try:
        try:
            connection.request(method, target, body.blocks() if body else None, sent)
        except (BrokenPipeError, ConnectionResetError):
            # The portal may refuse the request before everything is sent, and has then responded.
            if connection.sock is None:
                raise
        yield connection.getresponse()
    except http.client.HTTPException as error:
        raise ConnectionError(f"not a complete answer: {type(error).__name__} {error}") from None
    finally:
        connection.close()


def _connection(
    address: str, timeout: float
) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """A connection for an address, what to ask for on it, and the headers for a proxy."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Stop(f"{address} is not a web address.", FAILED)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    if proxy:
        host, port, headers = _proxy(proxy)
        if context is None:
            return http.client.HTTPConnection(host, port, timeout=timeout), address, headers
        tunnel = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        tunnel.set_tunnel(parts.hostname, parts.port or 443, headers)
        return tunnel, target, {}
    if context is None:
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), target, {}
    return (
        http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context),
        target,
        {},
    )


def _proxy(address: str) -> tuple[str, int, dict[str, str]]:
    """Host and port of a proxy, and the header with the user and password of its address (RFC 9110,
    section 11.7.1). Raises Stop, whose text does not repeat what may be a password."""
    try:
        via = urlsplit(address if "://" in address else f"http://{address}")
        host, port = str(via.hostname or "").encode("idna").decode(), via.port or 8080
    except ValueError:
        host = ""
    if not host or via.scheme != "http":
        raise Stop(
            "The proxy that the environment names has no usable address: write http://HOST:PORT.",
            USAGE,
        )
    if via.username is None:
        return host, port, {}
    pair = unquote_to_bytes(via.username) + b":" + unquote_to_bytes(via.password or "")
    return host, port, {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def segment(text: str) -> str:
    """A text as one segment of a path; an argument that is not UTF-8 with its bytes."""
    return quote(text, safe="", errors="surrogateescape")


def content_digest(content: bytes) -> str:
    """Content-Digest of RFC 9530."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def reason(error: OSError) -> str:
    """The reason why a connection failed, as text."""
    return str(error.strerror or error) or type(error).__name__


def _read(answer: http.client.HTTPResponse) -> Response:
    content = answer.read(ANSWER_BYTES + 1)
    if len(content) > ANSWER_BYTES:
        raise ConnectionError("the response is too long")
    document: Any = None
    if content and "json" in (answer.headers.get("Content-Type") or ""):
        with contextlib.suppress(Exception):
            document = load_json(content)
    if answer.status < 300 and content and document is None:
        raise Stop("The server at this address is not a portal; is the address right?", FAILED)
    if 300 <= answer.status < 400 and answer.status != 304:
        place = answer.headers.get("Location") or ""
        detail = f"The portal is at another address: {place}. Run `mosis login` with that address."
        raise Stop(detail, FAILED)
    return Response(answer.status, answer.headers, document)


def problem_of(answer: http.client.HTTPResponse) -> Problem:
    """The problem document of an error response."""
    return _problem(_read(answer))


def _problem(response: Response) -> Problem:
    document = response.document if isinstance(response.document, dict) else {}
    return Problem(response.status, document, response.headers.get("X-Request-Id") or "")


def _explained(problem: Problem, url: str) -> Problem:
    """The error with advice that the portal cannot give."""
    if problem.status == 401:
        problem.message += f". Sign in again: mosis login {url}"
    elif problem.problem == "insufficient_scope":
        problem.message += (
            ". The token needs that scope: sign in with `mosis login`, or make another token."
        )
    return problem


def _retry_after(response: Response) -> float | None:
    with contextlib.suppress(ValueError):
        return min(float(response.headers.get("Retry-After") or ""), 3600.0)
    return None


def absolute(url: str, path: str) -> str:
    """An address that may be relative to the portal's."""
    return urljoin(url + "/", path)
