"""Who is calling: the account behind a request (or the portal itself), what it may do and from where."""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from mosis.errors import Denied

SCOPES = (
    "apps:read",
    "apps:write",
    "versions:upload",
    "versions:publish",
    "telemetry:read",
    "keys:manage",
)
ROLES = ("developer", "reviewer", "admin")  # each includes the one before


@dataclass(frozen=True)
class Caller:
    """`scopes` None: everything (signed in by session). `apps` None: all apps of the account."""

    developer_id: str | None = None
    role: str = "developer"
    address: str = ""
    client: str = ""
    session_id: str | None = None
    key_id: str | None = None
    scopes: frozenset[str] | None = None
    apps: frozenset[str] | None = None

    @property
    def account(self) -> str:
        """The id of the signed-in account. Raises Denied when nobody is."""
        if self.developer_id is None:
            raise Denied(
                "unauthenticated",
                "Sign in first: send `Authorization: Bearer` with an access token or an API key.",
            )
        return self.developer_id

    def has_role(self, role: str) -> bool:
        return self.developer_id is not None and ROLES.index(self.role) >= ROLES.index(role)

    @property
    def household(self) -> str:
        """Whom a limit counts for where nobody is signed in."""
        return household(self.address)

    @property
    def network(self) -> str:
        """The address as it may be kept: the /24 or /48 it is in, never the whole."""
        return truncated(self.address)


@lru_cache(maxsize=4096)
def household(address: str) -> str:
    """The address itself, for IPv6 the /64 that a household has; what is not an address becomes the empty text."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


@lru_cache(maxsize=4096)
def truncated(address: str) -> str:
    """`198.51.100.7` as `198.51.100.0/24`, IPv6 as its /48; what is not an address becomes the empty text."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def client_address(
    trusted: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
    address: str,
    forwarded_for: str,
) -> str:
    """The address that a request comes from, which came by a connection from `address`. X-Forwarded-For counts only when that is
    a trusted proxy: then its last entry that is not a trusted proxy itself; entries that are not addresses end the search.
    `::ffff:192.0.2.1`, as proxies write that listen for both kinds, is 192.0.2.1: as IPv6 all of them were one household."""
    if not trusted or not is_in(address, trusted):
        return address
    for entry in reversed(forwarded_for.split(",")):
        try:
            parsed = ipaddress.ip_address(entry.strip().strip("[]"))
        except ValueError:
            break
        address = str(getattr(parsed, "ipv4_mapped", None) or parsed)
        if not is_in(address, trusted):
            break
    return address


def is_in(
    address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
) -> bool:
    """Whether the address is in one of the networks; what is no address is not."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


PORTAL = Caller()
