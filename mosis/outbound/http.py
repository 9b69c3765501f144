"""One POST to an address that somebody gave us, under bounds: never into the operator's own network, five seconds for
everything (the name and the connection too), no redirect followed, and hardly anything of the answer read.

The name is resolved once, every address that comes out is checked, and the connection goes to the address that was checked: a
name that points elsewhere a moment later (DNS rebinding) changes nothing.
"""

import ipaddress
import queue
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, urlsplit

WHOLE_SECONDS = 5.0
ANSWER_BYTES = 64 * 1024

# Written out, because `ipaddress.is_global` lets multicast, NAT64 and 6to4 through (https://www.iana.org/assignments/
# iana-ipv4-special-registry, iana-ipv6-special-registry). Of IPv6 only 2000::/3 is allowed, less what tunnels and documents.
_REFUSED = tuple(map(ipaddress.ip_network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)))  # fmt: skip
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")


class Unreachable(Exception):
    """There was no answer; the text says why, for the delivery log."""


def is_public(address: str) -> bool:
    """Whether this is an address of the public internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False  # with a zone, as fe80::1%eth0, among others
    if parsed.version == 6 and parsed not in _GLOBAL_IPV6:
        return False
    return not any(parsed in network for network in _REFUSED if network.version == parsed.version)


def complaint(url: str, *, private: bool = False) -> str | None:
    """What is wrong with this address before anything is resolved, or None."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
    except ValueError:
        return "This is not an address."
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or "@" in parts.netloc
        or parts.fragment
    ):
        return "This must be an http or https address without user name and fragment."
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "This must be ASCII without blanks; write other host names as xn--..."
    address = _written_out(parts.hostname)
    if address and not private and not is_public(address):
        return "This address is not of the public internet."
    return None


def _written_out(host: str) -> str | None:
    """The address, where the host is one and no name: also in the forms that resolvers take, as 0177.0.0.1 and 2130706433."""
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    with suppress(ValueError):
        return str(ipaddress.ip_address(host))
    return None


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False) -> int:
    """POST the body; the status of the answer. With `private` any address will do. Raises Unreachable."""
    import http.client

    if wrong := complaint(url, private=private):
        raise Unreachable(wrong)
    parts, late, deadline = urlsplit(url), threading.Event(), monotonic() + WHOLE_SECONDS
    try:
        raw = _connected(parts, private, deadline)
        # A receiver that sends a byte now and then would never run into the timeout of a single wait. The descriptor is a
        # second one of the same connection, because TLS takes the first over.
        raw.settimeout(WHOLE_SECONDS)
        with raw, raw.dup() as same:
            alarm = threading.Timer(deadline - monotonic(), _shut, (same, late))
            alarm.daemon = True
            alarm.start()
            try:
                return _asked(parts, raw, body, headers)
            finally:
                alarm.cancel()
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
    ) as error:  # ValueError: names that no resolver takes
        slow = late.is_set() or isinstance(error, TimeoutError)
        reason = (
            f"took longer than {WHOLE_SECONDS:g} seconds"
            if slow
            else f"{type(error).__name__}: {error}"[:300]
        )
        raise Unreachable(reason) from error


def _connected(parts: SplitResult, private: bool, deadline: float) -> socket.socket:
    """A connection to the first of the name's addresses that takes one. Raises Unreachable, OSError."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = _resolved(str(parts.hostname), port, deadline)
    if not private and not all(map(is_public, addresses)):
        raise Unreachable("its name leads to an address that is not of the public internet")
    *others, last = addresses[:4]
    for address in (
        others
    ):  # one that is dead has half of the time that is left, and leaves the rest to the next
        with suppress(OSError):
            return socket.create_connection((address, port), timeout=(deadline - monotonic()) / 2)
    return socket.create_connection((last, port), timeout=deadline - monotonic())


def _resolved(host: str, port: int, deadline: float) -> list[str]:
    """The addresses of a name. The resolver takes as long as it likes (half a minute, when a name server is silent) and cannot be
    stopped: it has a thread of its own, which is left alone when the time is over."""
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
        raise TimeoutError("its name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _asked(parts: SplitResult, raw: socket.socket, body: bytes, headers: Mapping[str, str]) -> int:
    import http.client
    import ssl

    connection = http.client.HTTPConnection(
        str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    )
    connection.sock = raw
    if parts.scheme == "https":
        connection.sock = ssl.create_default_context().wrap_socket(
            raw, server_hostname=parts.hostname
        )
        connection.default_port = 443
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(
            "POST", target, body, {"Host": parts.netloc, "User-Agent": "mosis-portal", **headers}
        )
        answer = connection.getresponse()
        with suppress(OSError, http.client.HTTPException):
            _read_some(answer)  # so that a small answer is taken before the connection ends
        return answer.status
    finally:
        connection.close()


def _read_some(answer: Any) -> None:
    left = ANSWER_BYTES
    while left > 0 and (part := answer.read1(min(left, 16_384))):
        left -= len(part)


def _shut(raw: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        raw.shutdown(socket.SHUT_RDWR)
