"""Files at well-known addresses for browsers and crawlers."""

import json
import struct
import zlib
from datetime import UTC, datetime, timedelta
from functools import cache

import bottle

from mosis.caller import SCOPES
from mosis.context import Context
from mosis.errors import NotFound
from mosis.web.file_response import send_bytes
from mosis.web.schemas import File, operation

SECURITY_DAYS = 180  # RFC 9116, section 2.5.5: less than a year ahead
OAUTH = "/.well-known/oauth-authorization-server"
ROBOTS = b"User-agent: *\nDisallow: /v1/\nDisallow: /packages/\n"
DAY = "public, max-age=86400"


def routes(app: bottle.Bottle) -> None:
    app.get("/favicon.ico", callback=favicon, scope="public")
    app.get("/robots.txt", callback=robots, scope="public")
    app.get(OAUTH, callback=oauth_metadata, scope="public")
    app.get("/.well-known/security.txt", callback=security, scope="public")


@operation(File("image/png"))
def favicon() -> bottle.HTTPResponse:
    """The icon of the site."""
    return _file(_icon(), "image/png")


@operation(File("text/plain"))
def robots() -> bottle.HTTPResponse:
    """Rules for crawlers (RFC 9309)."""
    return _file(ROBOTS, "text/plain; charset=utf-8")


@operation(File("text/plain"), refuses="not_found")
def security(env: Context) -> bottle.HTTPResponse:
    """Where to report a vulnerability (RFC 9116); not found unless SECURITY_CONTACT is set."""
    contact = env.config.security_contact
    if contact is None:
        raise NotFound("file")
    today = datetime.fromtimestamp(env.clock.time(), UTC).replace(hour=0, minute=0, second=0)
    expires = (today + timedelta(days=SECURITY_DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = (
        f"Contact: {contact}",
        f"Expires: {expires}",
        f"Canonical: {env.url('/.well-known/security.txt')}",
    )
    return _file(("\n".join(lines) + "\n").encode(), "text/plain; charset=utf-8")


@operation(File("application/json"))
def oauth_metadata(env: Context) -> bottle.HTTPResponse:
    """Metadata for clients of the device login (RFC 8414)."""
    metadata = {
        "issuer": env.config.base_url,
        "token_endpoint": env.url("/v1/auth/token"),
        "device_authorization_endpoint": env.url("/v1/auth/device"),
        "grant_types_supported": [
            "urn:ietf:params:oauth:grant-type:device_code",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": list(SCOPES),
        "service_documentation": env.url("/docs/API#accounts-and-sign-in"),
    }
    return _file(json.dumps(metadata, separators=(",", ":")).encode(), "application/json")


def _file(body: bytes, content_type: str) -> bottle.HTTPResponse:
    return send_bytes(body, {"Content-Type": content_type, "Cache-Control": DAY})


@cache
def _icon() -> bytes:
    """A PNG of 32 by 32 pixels: four squares (https://www.w3.org/TR/png-3/, sections 5 and 11)."""
    dark, light = b"\x1f\x4e\x79", b"\x8a\xb4\xf8"
    rows = []
    for y in range(32):
        pixels = (light if (x // 16 + y // 16) % 2 else dark for x in range(32))
        rows.append(b"\0" + b"".join(pixels))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(rows), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
