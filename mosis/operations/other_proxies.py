"""X-Forwarded-For from a machine that TRUSTED_PROXY does not name: usually a proxy stands in front and all its clients count as one
address. The last such machine is shown by `portal.py doctor`."""

import logging
from collections.abc import Mapping
from typing import Any

from mosis.caller import is_in, parse_address
from mosis.config import Config
from mosis.operations.last_seen import LastSeen

log = logging.getLogger("mosis.operations")
FILE = "other-proxy.json"


def warning(address: str) -> str:
    """What it means and what to do."""
    return (
        f"requests with X-Forwarded-For arrive from {address}, which TRUSTED_PROXY does not name: the header is not read,"
        f" and all clients behind {address} share the limits of one address. If it is your proxy, add it to TRUSTED_PROXY."
    )


class ProxyWatch:
    """Looks at where each request comes from. Any thread may call it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._last = _last(config)

    def see(self, environ: Mapping[str, Any]) -> None:
        """Note a machine of a private network that sends X-Forwarded-For untrusted. Public addresses are not noted: they are
        clients that invent the header, and where clients come from is not stored."""
        if "HTTP_X_FORWARDED_FOR" not in environ or not self._last.is_due:
            return
        address: str = environ.get("REMOTE_ADDR", "")
        parsed = parse_address(address)
        if parsed is None or not parsed.is_private or is_in(address, self._config.trusted_proxy):
            return
        if self._last.store(str(parsed)):
            log.warning(warning(str(parsed)))


def last_seen(config: Config) -> str | None:
    """The last such address of the last seven days, unless TRUSTED_PROXY names it by now."""
    address = _last(config).value()
    if not address or parse_address(address) is None or is_in(address, config.trusted_proxy):
        return None
    return address


def _last(config: Config) -> LastSeen:
    return LastSeen(config.data_dir / FILE, "address")
