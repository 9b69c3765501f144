"""One request to another server, with bounds: one deadline for the whole exchange (name resolution,
connection, TLS, request and response), no redirects, and a limit for the response.

`post` is for addresses that accounts chose (webhooks), which must never lead into the operator's
own network. `ask` is for providers that the operator configured; it honours the proxy variables of
the environment.

A name is resolved once, every address found is checked, and the connection goes to a checked
address: a later change of the name (DNS rebinding) has no effect.
"""

import base64
import ipaddress
import queue
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from mosis.errors import Malformed
from mosis.records import dataclass
from mosis.validation.strict_json import load_json

WHOLE_SECONDS = 5.0  # for a webhook delivery
PROVIDER_SECONDS = 10.0
# read of a receiver's response, so that a small one is complete before the connection ends
ANSWER_BYTES = 64 * 1024
LIMIT_BYTES = 1 << 20  # limit for a provider's response

# A list of our own, because `ipaddress.is_global` allows multicast, NAT64 and 6to4
# (https://www.iana.org/assignments/ iana-ipv4-special-registry, iana-ipv6-special-registry). Of
# IPv6 only 2000::/3 is allowed, without tunnels and documentation ranges.
_REFUSED = tuple(map(ipaddress.ip_network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)))  # fmt: skip
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")


class Unreachable(Exception):
    """There was no usable response; the text gives the reason, for the log."""


@dataclass(frozen=True)
class Reply:
    """A response with any status; `document` is None unless the body is JSON (duplicate keys, NaN
    and more than 32 levels do not count as JSON)."""

    status: int
    document: Any
    content: bytes = b""


@dataclass(frozen=True)
class _Request:
    """A request, and the proxy it goes through."""

    method: str
    url: SplitResult
    body: bytes | None
    headers: Mapping[str, str]
    proxy: SplitResult | None = None

    @property
    def port(self) -> int:
        return self.url.port or (443 if self.url.scheme == "https" else 80)

    @property
    def target(self) -> str:
        path = (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")
        plain = self.proxy is not None and self.url.scheme == "http"
        return f"http://{self.url.netloc}{path}" if plain else path


def is_public(address: str) -> bool:
    """Whether this is an address of the public internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False  # an address with a zone, such as fe80::1%eth0, among others
    if parsed.version == 6 and parsed not in _GLOBAL_IPV6:
        return False
    return not any(parsed in network for network in _REFUSED if network.version == parsed.version)


def complaint(url: str, *, private: bool = False) -> str | None:
    """What is wrong with this address before it is resolved, or None."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
    except ValueError:
        return "This is not a web address; send one such as https://example.org/hook."
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or "@" in parts.netloc
        or parts.fragment
    ):
        return "This must be an http or https address without user name and fragment."
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "This must be ASCII without spaces; write other host names in their xn-- form."
    name = parts.hostname.rstrip(".")
    if not private and (name == "localhost" or name.endswith(".localhost")):  # RFC 6761, 6.3
        return "This must be an address of the public internet."
    address = _written_out(parts.hostname)
    if address and not private and not is_public(address):
        return "This must be an address of the public internet."
    return None


def _written_out(host: str) -> str | None:
    """The IP address, if the host is one, also as resolvers read 0177.0.0.1 or 2130706433."""
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    with suppress(ValueError):
        return str(ipaddress.ip_address(host))
    return None


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False) -> int:
    """POST the body; the response status. `private`: any address is allowed. Raises Unreachable."""
    if wrong := complaint(url, private=private):
        raise Unreachable(wrong)
    request = _Request("POST", urlsplit(url), body, headers)
    return _converse(request, WHOLE_SECONDS, private=private, whole=False)[0]


def ask(
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    private: bool = True,
) -> Reply:
    """GET the address, or POST the form to it. Without `private` only addresses of the public internet
    are asked, and no proxy. Raises Unreachable, also for redirects, 429 and 5xx."""
    if complaint(url, private=private):
        raise Unreachable("not an http or https address, or not one of the public internet")
    sent = {"Accept": "application/json", **(headers or {})}
    body = None
    if form is not None:
        body = urlencode(form).encode()
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    parts = urlsplit(url)
    proxy = _proxy_for(parts) if private else None  # behind a proxy no name can be looked at
    request = _Request("GET" if form is None else "POST", parts, body, sent, proxy)
    status, content = _converse(request, PROVIDER_SECONDS, private=private, whole=True)
    if 300 <= status < 400:
        raise Unreachable(f"answers {status}, and redirects are not followed")
    if status >= 500 or status == 429:
        raise Unreachable(f"answers {status}")
    try:
        return Reply(status, load_json(content), content)
    except Malformed:
        return Reply(status, None, content)


def basic(name: str, secret: str) -> str:
    """The Authorization header for a client's name and secret, each form-encoded first (RFC 6749, section 2.3.1)."""
    pair = f"{quote(name, safe='')}:{quote(secret, safe='')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _converse(
    request: _Request, seconds: float, *, private: bool, whole: bool
) -> tuple[int, bytes]:
    """Status and body of the response; without `whole` the body is ignored. Raises Unreachable."""
    import http.client

    late, deadline = threading.Event(), monotonic() + seconds
    try:
        raw = _connected(request, private, deadline)
        raw.settimeout(seconds)
        # A server that sends a byte now and then never reaches the time limit of a single read: a
        # timer shuts the socket down. It has a duplicate of the descriptor, because TLS takes the
        # first one over.
        with raw, raw.dup() as same:
            alarm = threading.Timer(deadline - monotonic(), _shut, (same, late))
            alarm.daemon = True
            alarm.start()
            try:
                found = _exchanged(request, raw, whole)
            finally:
                alarm.cancel()
        if whole and late.is_set():  # shut down while the body was read; it may look complete
            raise TimeoutError
        return found
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ValueError: a name that no resolver accepts
        slow = late.is_set() or isinstance(error, TimeoutError)
        reason = f"took longer than {seconds:g} seconds" if slow else _words(error)
        raise Unreachable(reason) from error


def _words(error: Exception) -> str:
    """Why there was no response, in words that accounts are shown."""
    import http.client
    import ssl

    known: tuple[tuple[type[Exception], str], ...] = (
        (socket.gaierror, "the host name cannot be resolved"),
        (ssl.SSLCertVerificationError, "its certificate is not trusted"),
        (ssl.SSLError, "TLS cannot be agreed on"),
        (ConnectionRefusedError, "the connection was refused"),
        (ConnectionError, "the connection was closed before the response had come"),
        (http.client.HTTPException, "what came is not a response of HTTP"),
        (ValueError, "the host name cannot be resolved"),
    )
    for kind, words in known:
        if isinstance(error, kind):
            return words
    return (error.strerror if isinstance(error, OSError) else "") or "the connection failed"


def _connected(request: _Request, private: bool, deadline: float) -> socket.socket:
    """A connection to the name's first address that accepts one. Raises Unreachable, OSError."""
    host, port = str(request.url.hostname), request.port
    if request.proxy is not None:
        host, port = str(request.proxy.hostname), request.proxy.port or 80
    addresses = _resolved(host, port, deadline)
    if not private and not all(map(is_public, addresses)):
        raise Unreachable("its name resolves to an address that is not of the public internet")
    *others, last = addresses[:4]
    for address in others:  # an unresponsive one takes half of the time that is left
        with suppress(OSError):
            return socket.create_connection((address, port), timeout=(deadline - monotonic()) / 2)
    return socket.create_connection((last, port), timeout=deadline - monotonic())


def _resolved(host: str, port: int, deadline: float) -> list[str]:
    """The addresses of a name. A resolver may block for half a minute and cannot be cancelled, so
    it runs in a thread of its own, which is abandoned at the deadline."""
    found: queue.SimpleQueue[list[str] | OSError | ValueError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            found.put(
                [
                    str(each[4][0])
                    for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                ]
            )
        except (OSError, ValueError) as error:
            found.put(error)

    threading.Thread(target=resolve, name="resolver", daemon=True).start()
    try:
        answer = found.get(timeout=deadline - monotonic())
    except queue.Empty:
        raise TimeoutError("its name could not be resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _exchanged(request: _Request, raw: socket.socket, whole: bool) -> tuple[int, bytes]:
    """Send the request over a connection and read the response."""
    import http.client
    import ssl

    connection = http.client.HTTPConnection(str(request.url.hostname), request.port)
    connection.sock = raw
    sent = {"Host": request.url.netloc, "User-Agent": "mosis-portal", **request.headers}
    try:
        if request.url.scheme == "https":
            if request.proxy is not None:
                _tunnel(request, raw)
            connection.sock = ssl.create_default_context().wrap_socket(
                raw, server_hostname=request.url.hostname
            )
        elif request.proxy is not None:
            sent |= _proxy_credentials(request.proxy)
        connection.request(request.method, request.target, request.body, sent)
        answer = connection.getresponse()
        return answer.status, _read_whole(answer) if whole else _read_some(answer)
    finally:
        connection.close()


def _tunnel(request: _Request, raw: socket.socket) -> None:
    """Ask the proxy to connect to the server (RFC 9110, section 9.3.6). Raises Unreachable."""
    import http.client

    assert request.proxy is not None
    authority = f"{request.url.hostname}:{request.port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in _proxy_credentials(request.proxy).items()]
    raw.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    answer = http.client.HTTPResponse(raw, method="CONNECT")
    answer.begin()
    if answer.status != 200:
        raise Unreachable(f"the proxy answers {answer.status}")


def _proxy_for(url: SplitResult) -> SplitResult | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for this address."""
    import urllib.request

    named = urllib.request.getproxies().get(url.scheme)
    if not named or urllib.request.proxy_bypass(url.netloc):
        return None
    return urlsplit(named if "://" in named else f"http://{named}")


def _proxy_credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _read_some(answer: Any) -> bytes:
    """Read a part of the body and ignore it; errors do not matter."""
    import http.client

    left = ANSWER_BYTES
    with suppress(OSError, http.client.HTTPException):
        while left > 0 and (part := answer.read1(min(left, 16_384))):
            left -= len(part)
    return b""


def _read_whole(answer: Any) -> bytes:
    """The body. Raises Unreachable if it is too long or cut off."""
    content = b""
    while part := answer.read1(65_536):
        content += part
        if len(content) > LIMIT_BYTES:
            raise Unreachable(f"answers with more than {LIMIT_BYTES} bytes")
    if answer.length:  # the rest that Content-Length promises; read1 does not report it
        raise Unreachable("ends before its Content-Length")
    return content


def _shut(raw: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        raw.shutdown(socket.SHUT_RDWR)
