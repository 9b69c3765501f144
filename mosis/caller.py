"""The caller: the account behind a request, or the portal itself, its rights and its network."""

import ipaddress
import re
from functools import lru_cache

from mosis.errors import Denied
from mosis.records import dataclass

SCOPES = (
    "apps:read", "apps:write", "versions:upload", "versions:publish", "telemetry:read",
    "keys:manage",
)  # fmt: skip
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PORT = r"(?::[0-9]{1,5})?"
_ENTRY = re.compile(
    rf'"?(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[^\]"]*)?)\]{_PORT}|(?P<v4>[0-9.]+){_PORT}|(?P<bare>[0-9A-Fa-f:.]+(?:%[^"]*)?))"?'
)
ROLES = ("developer", "reviewer", "admin")  # each includes the rights of the one before


@dataclass
class Caller:
    """`scopes` None: all rights of a session. `apps` None: all apps of the account.
    `token_id`: the token of a trusted publisher that it presents.
    `lacks`: the value of REQUIRE_SECOND_FACTOR, if the account has no second factor."""

    developer_id: str | None = None
    role: str = "developer"
    address: str = ""
    client: str = ""
    session_id: str | None = None
    key_id: str | None = None
    scopes: frozenset[str] | None = None
    apps: frozenset[str] | None = None
    lacks: str = ""
    token_id: str | None = None

    @property
    def account(self) -> str:
        """The id of the signed-in account. Raises Denied if the caller is not signed in."""
        if self.developer_id is None:
            raise Denied(
                "unauthenticated",
                "Sign in first: send `Authorization: Bearer` with an access token or an API key.",
            )
        return self.developer_id

    def require_second_factor(self, action: str) -> None:
        """Raises Denied `second_factor_missing` if the operator wants a second factor for this, and the
        account has none. `action` is "staff" (what a role allows) or "publishers"."""
        if self.lacks == "publishers" or (self.lacks and action == "staff"):
            raise Denied(
                "second_factor_missing",
                "The operator wants a second factor for this: set one up with POST /v1/auth/totp, or"
                " at /console/second-factor.",
            )

    def has_role(self, role: str) -> bool:
        return self.developer_id is not None and ROLES.index(self.role) >= ROLES.index(role)

    @property
    def client_network(self) -> str:
        """Key of rate limits for callers who are not signed in."""
        return network_of(self.address)

    @property
    def network(self) -> str:
        """The address in the form that may be stored: its /24 or /48, never the whole address."""
        return truncated(self.address)


@lru_cache(maxsize=256)
def parse_address(text: str) -> IPAddress | None:
    """The address in one entry of X-Forwarded-For, or of a socket, in every form that proxies
    write: `192.0.2.1`, `192.0.2.1:51234`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:51234`,
    each also in quotes (RFC 7239, section 6).

    A zone (`fe80::1%eth0`) is removed. `::ffff:192.0.2.1`, which dual-stack sockets report, is
    192.0.2.1; otherwise all IPv4 clients would share one /64. None for anything else, such as
    `unknown` and `_hidden`.
    """
    match = _ENTRY.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    try:
        parsed = ipaddress.ip_address(
            (match["v6"] or match["v4"] or match["bare"]).partition("%")[0]
        )
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


@lru_cache(maxsize=256)
def network_of(address: str) -> str:
    """The network of one customer: the IPv4 address or IPv6 /64; empty if it is not an address."""
    parsed = parse_address(address)
    if parsed is None:
        return ""
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


@lru_cache(maxsize=256)
def truncated(address: str) -> str:
    """`198.51.100.7` as `198.51.100.0/24`, IPv6 as its /48; empty if the text is not an address."""
    parsed = parse_address(address)
    if parsed is None:
        return ""
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def client_address(trusted: tuple[Network, ...], address: str, forwarded_for: str) -> str:
    """The address of the client whose request arrived by a connection from `address`.
    X-Forwarded-For counts only if that is a trusted proxy: then its last entry that is not a
    trusted proxy. An entry that is not an address (see `parse_address`) ends the search; empty
    entries (RFC 9110, section 5.6.1) are skipped."""
    if not trusted or not forwarded_for:
        return canonical(address)
    found = parse_address(address)
    if found is None:
        return address
    for entry in reversed(forwarded_for.split(",")):
        if not any(found in network for network in trusted):
            break
        if not entry.strip():
            continue
        before = parse_address(entry)
        if before is None:
            break
        found = before
    return str(found)


@lru_cache(maxsize=1024)
def canonical(address: str) -> str:
    """The usual form of an address; other texts as they are."""
    return str(parse_address(address) or address)


def is_in(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether the address is in one of the networks; False if it is not an address."""
    parsed = parse_address(address)
    return parsed is not None and any(parsed in network for network in networks)


PORTAL = Caller()
