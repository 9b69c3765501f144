"""Requests for another host than that of BASE_URL: usually BASE_URL is not set yet, and links in mails and pages lead
nowhere. The last such host is shown at the start and by `portal.py doctor`."""

import contextlib
import ipaddress
import logging
from dataclasses import dataclass
from urllib.parse import urlsplit

from mosis.config import Config
from mosis.operations.last_seen import LastSeen

log = logging.getLogger("mosis.operations")
FILE = "other-host.json"


@dataclass(frozen=True)
class OtherHost:
    """A host that was asked for."""

    name: str

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
        self._last = _last(config)
        self._usual = ""  # the last field that named the portal's host

    def see(self, host: str) -> None:
        """Note a host that is not the portal's. Names without a dot and addresses of this machine are
        those of proxies and health checks."""
        if host == self._usual:
            return
        name = urlsplit(f"//{host}").hostname or ""
        if name == self._expected:
            self._usual = host
            return
        if not self._last.is_due or not _is_public(name):
            return
        if self._last.store(name):
            log.warning(OtherHost(name).warning(self._config))


def last_seen(config: Config) -> OtherHost | None:
    """The last host of the last seven days, unless it is that of BASE_URL by now."""
    name = _last(config).value()
    return OtherHost(name) if name and name != urlsplit(config.base_url).hostname else None


def _last(config: Config) -> LastSeen:
    return LastSeen(config.data_dir / FILE, "host")


def _is_public(name: str) -> bool:
    """Whether it may be an address that people use."""
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(name).is_loopback
    return "." in name and not name.endswith(".localhost")
