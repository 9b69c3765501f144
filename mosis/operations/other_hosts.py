"""Requests for another host than that of BASE_URL: usually BASE_URL is not set yet, and links in mails and pages lead
nowhere. The last such host is stored in the data directory, for the start screen and `portal.py doctor`."""

import contextlib
import ipaddress
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mosis.config import Config

log = logging.getLogger("mosis.operations")
FILE = "other-host.json"
SECONDS_BETWEEN = 3600  # anybody can send any host: so often is one stored
COUNTS_SECONDS = 7 * 86400


@dataclass(frozen=True)
class OtherHost:
    """A host that was asked for, and when (seconds since 1970)."""

    name: str
    at: float

    def warning(self, config: Config) -> str:
        """What it means and what to do."""
        return (
            f"requests arrive for {self.name}, but BASE_URL is {config.base_url}: links in mails and"
            f" pages lead there. If {self.name} is the portal's address, set BASE_URL to it."
        )


class HostWatch:
    """Looks at the Host field of each request. Any thread may call it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._expected = urlsplit(config.base_url).hostname or ""
        self._lock = threading.Lock()
        self._next = 0.0  # monotonic

    def see(self, host: str) -> None:
        """Note a host that is not the portal's. Names without a dot and addresses of this machine are
        those of proxies and health checks."""
        name = urlsplit(f"//{host}").hostname or ""
        if name == self._expected or time.monotonic() < self._next or not _is_public(name):
            return
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + SECONDS_BETWEEN
        other = OtherHost(name, time.time())
        log.warning(other.warning(self._config))
        with contextlib.suppress(OSError):
            _store(self._config.data_dir / FILE, other)


def last_seen(config: Config) -> OtherHost | None:
    """The last host of the last seven days, unless it is that of BASE_URL by now."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((config.data_dir / FILE).read_bytes())
        other = OtherHost(str(found["host"]), float(found["at"]))
        recent = abs(time.time() - other.at) < COUNTS_SECONDS
        if recent and other.name != urlsplit(config.base_url).hostname:
            return other
    return None


def _is_public(name: str) -> bool:
    """Whether it may be an address that people use."""
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(name).is_loopback
    return "." in name and not name.endswith(".localhost")


def _store(path: Path, other: OtherHost) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    unfinished.write_text(json.dumps({"host": other.name, "at": other.at}))
    os.replace(unfinished, path)
