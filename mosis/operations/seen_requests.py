"""What requests show about BASE_URL and TRUSTED_PROXY, for the start screen and `portal.py doctor`:
these are other processes, so the last finding is in a file of the data directory.

A request for another host than that of BASE_URL usually means that BASE_URL is not set yet, so that
links in mails and pages lead nowhere. X-Forwarded-For from a machine that TRUSTED_PROXY does not
name usually means that a proxy stands in front, and that all its clients count as one address.
"""

import contextlib
import ipaddress
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mosis.caller import is_in, parse_address
from mosis.config import Config

log = logging.getLogger("mosis.operations")
HOST_FILE, PROXY_FILE = "other-host.json", "other-proxy.json"
SECONDS_BETWEEN = 3600  # clients can show anything: so often is one stored
COUNTS_SECONDS = 7 * 86400


class LastSeen:
    """One value under a name in a file, and when it was seen. Any thread may call it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._lock = threading.Lock()
        self._next = 0.0  # monotonic

    @property
    def is_due(self) -> bool:
        """Whether `store` would store: cheap, for every request."""
        return time.monotonic() >= self._next

    def store(self, value: str, warning: str) -> None:
        """Replace the value, and log the warning, once an hour. Lost on a full disk."""
        with self._lock:
            if not self.is_due:
                return
            self._next = time.monotonic() + SECONDS_BETWEEN
        unfinished = self._path.with_suffix(f".{os.getpid()}.part")
        with contextlib.suppress(OSError):
            unfinished.write_text(json.dumps({self._name: value, "at": time.time()}))
            os.replace(unfinished, self._path)
        log.warning(warning)

    def value(self) -> str:
        """The value of the last seven days. Empty without one, or if the file cannot be read."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self._path.read_bytes())
            value, at = str(found[self._name]), float(found["at"])
            if abs(time.time() - at) < COUNTS_SECONDS:
                return value
        return ""


class HostWatch:
    """Looks at the Host field of each request. Any thread may call it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._expected = urlsplit(config.base_url).hostname or ""
        self._last = _last_host(config)
        self._usual = ""  # the last field that named the portal's host

    def see(self, host: str) -> None:
        """Note a host that is not the portal's. Names without a dot and addresses of this machine are
        those of proxies and health checks."""
        if host == self._usual:
            return
        name = urlsplit(f"//{host}").hostname or ""
        if name == self._expected:
            self._usual = host
        elif self._last.is_due and _is_public(name):
            self._last.store(name, _host_warning(self._config, name))


class ProxyWatch:
    """Looks at where each request comes from. Any thread may call it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._last = _last_proxy(config)

    def see(self, environ: Mapping[str, Any]) -> None:
        """Note a machine of a private network that sends X-Forwarded-For untrusted. Public addresses are
        not noted: they are clients that invent the header, and where clients come from is not
        stored."""
        if "HTTP_X_FORWARDED_FOR" not in environ or not self._last.is_due:
            return
        address: str = environ.get("REMOTE_ADDR", "")
        parsed = parse_address(address)
        if parsed and parsed.is_private and not is_in(address, self._config.trusted_proxy):
            self._last.store(str(parsed), _proxy_warning(str(parsed)))


def host_warning(config: Config) -> str:
    """What the last other host of the last seven days means, and what to do; or empty."""
    name = _last_host(config).value()
    expected = urlsplit(config.base_url).hostname
    return _host_warning(config, name) if name and name != expected else ""


def proxy_warning(config: Config) -> str:
    """As `host_warning`, for a machine that TRUSTED_PROXY does not name."""
    address = _last_proxy(config).value()
    known = parse_address(address) is None or is_in(address, config.trusted_proxy)
    return "" if known else _proxy_warning(address)


def _last_host(config: Config) -> LastSeen:
    return LastSeen(config.data_dir / HOST_FILE, "host")


def _last_proxy(config: Config) -> LastSeen:
    return LastSeen(config.data_dir / PROXY_FILE, "address")


def _host_warning(config: Config, name: str) -> str:
    return (
        f"requests arrive for {name}, but BASE_URL is {config.base_url}: links in mails and"
        f" pages lead there. If {name} is the portal's address, set BASE_URL to it."
    )


def _proxy_warning(address: str) -> str:
    return (
        f"requests with X-Forwarded-For arrive from {address}, which TRUSTED_PROXY does not name: the header is not read,"
        f" and all clients behind {address} share the limits of one address. If it is your proxy, add it to TRUSTED_PROXY."
    )


def _is_public(name: str) -> bool:
    """Whether it may be an address that people use."""
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(name).is_loopback
    return "." in name and not name.endswith(".localhost")
