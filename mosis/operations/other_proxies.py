"""X-Forwarded-For from a machine that TRUSTED_PROXY does not name: usually a proxy stands in front and all its clients count as one
address. The last such machine is stored in the data directory, for `portal.py doctor`."""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from mosis.caller import is_in, parse_address
from mosis.config import Config

log = logging.getLogger("mosis.operations")
FILE = "other-proxy.json"
SECONDS_BETWEEN = 3600
COUNTS_SECONDS = 7 * 86400


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
        self._lock = threading.Lock()
        self._next = 0.0  # monotonic

    def see(self, environ: Mapping[str, Any]) -> None:
        """Note a machine of a private network that sends X-Forwarded-For untrusted. Public addresses are not noted: they are
        clients that invent the header, and where clients come from is not stored."""
        if "HTTP_X_FORWARDED_FOR" not in environ or time.monotonic() < self._next:
            return
        address: str = environ.get("REMOTE_ADDR", "")
        parsed = parse_address(address)
        if parsed is None or not parsed.is_private or is_in(address, self._config.trusted_proxy):
            return
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + SECONDS_BETWEEN
        log.warning(warning(str(parsed)))
        path = self._config.data_dir / FILE
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        with contextlib.suppress(OSError):
            unfinished.write_text(json.dumps({"address": str(parsed), "at": time.time()}))
            os.replace(unfinished, path)


def last_seen(config: Config) -> str | None:
    """The last such address of the last seven days, unless TRUSTED_PROXY names it by now."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((config.data_dir / FILE).read_bytes())
        address, at = str(found["address"]), float(found["at"])
        recent = abs(time.time() - at) < COUNTS_SECONDS
        if recent and parse_address(address) and not is_in(address, config.trusted_proxy):
            return address
    return None
