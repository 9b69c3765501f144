"""Decides which downloads count: one per network, app and day, once every byte of the package has
been sent.

A network is an IPv4 address or an IPv6 /64. It is held in memory as a keyed hash whose key is made
at start; no network address is stored. The least recently used entries are evicted; all are dropped
at midnight UTC and at exit.
"""

import hashlib
import secrets
import threading
from collections import OrderedDict

DAY = 86_400
MOST_KEYS = 20_000


class Fetched:
    """The downloads of each network today; thread-safe."""

    def __init__(self) -> None:
        # (bytes sent, whether the last byte was among them)
        self._parts: OrderedDict[bytes, tuple[int, bool]] = OrderedDict()
        self._counted: OrderedDict[bytes, None] = OrderedDict()
        self._day = 0
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()

    def sent(
        self,
        now: int,
        network: str,
        app_id: str,
        version_id: str,
        sent_bytes: int,
        size_bytes: int,
        *,
        ended: bool,
    ) -> bool:
        """Record bytes of a package sent to a network. Returns whether this completes a download
        that counts: all bytes were sent, in one response or several, and no other version of the
        app was counted for this network today."""
        app, version = self._key(network, app_id), self._key(network, version_id)
        with self._lock:
            if now // DAY != self._day:
                self._parts.clear()
                self._counted.clear()
                self._day = now // DAY
            if app in self._counted:
                self._counted.move_to_end(app)
                return False
            before, had_end = self._parts.pop(version, (0, False))
            if before + sent_bytes < size_bytes or not (ended or had_end):
                self._parts[version] = (before + sent_bytes, ended or had_end)
                while len(self._parts) > MOST_KEYS:
                    self._parts.popitem(last=False)
                return False
            self._counted[app] = None
            while len(self._counted) > MOST_KEYS:
                self._counted.popitem(last=False)
        return True

    def _key(self, network: str, what: str) -> bytes:
        return hashlib.blake2b(
            f"{network} {what}".encode(), digest_size=8, key=self._secret
        ).digest()
