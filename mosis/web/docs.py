"""The API's description for programs and people, and the page that links in mails and on devices' screens lead to."""

import hashlib
import json
import re
from base64 import b64encode
from functools import cache, lru_cache
from pathlib import Path

import bottle

from mosis import VERSION
from mosis.environment import Environment
from mosis.web.request import etag, names_tag
from mosis.web.shapes import File, says


def routes(app: bottle.Bottle) -> None:
    app.get("/openapi.json", callback=openapi, scope="public")
    app.get("/docs/account", callback=account_page, scope="public")


@says(File("application/json"))
def openapi(env: Environment) -> bottle.HTTPResponse:
    """This description, made from the portal's own tables.

    OpenAPI 3.1, for programs; people read /docs.
    """
    return _sent(*_openapi(bottle.request.app, env.config.base_url), "application/json", {})


@says(File("text/html"))
def account_page() -> bottle.HTTPResponse:
    """A page with a form for each kind of link. What the link carries stands behind its #, which browsers do not send:
    it never reaches a log."""
    page, policy = _account_page()
    return bottle.HTTPResponse(page, 200, {
        "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "Cache-Control": "public, max-age=300",
        "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
    })


@cache
def _account_page() -> tuple[bytes, str]:
    page = Path(__file__).with_name("account.html").read_bytes()
    parts = {
        name: b64encode(hashlib.sha256(re.search(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL)[1]).digest()).decode()  # type: ignore[index]
        for name, tag in (("script-src", b"script"), ("style-src", b"style"))
    }
    sources = "; ".join(f"{name} 'sha256-{digest}'" for name, digest in parts.items())
    return page, f"default-src 'none'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; {sources}"


@lru_cache(maxsize=1)
def _openapi(app: bottle.Bottle, base_url: str) -> tuple[bytes, str]:
    """The description as it is sent, and its tag; made once, when first asked for."""
    from mosis.web.description import description

    body = json.dumps(description(app, base_url, VERSION), ensure_ascii=False, separators=(",", ":")).encode()
    return body, etag(body)


def _sent(body: bytes, tag: str, content_type: str, headers: dict[str, str]) -> bottle.HTTPResponse:
    """Something that changes only with the program."""
    headers = {"Content-Type": content_type, "ETag": tag, "Cache-Control": "public, max-age=300"} | headers
    if names_tag(bottle.request.get_header("If-None-Match", ""), tag):
        return bottle.HTTPResponse(b"", 304, headers)
    return bottle.HTTPResponse(body, 200, headers)
