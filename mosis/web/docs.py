"""The one page for people: what links in mails and on devices' screens lead to."""

import hashlib
import re
from base64 import b64encode
from functools import cache
from pathlib import Path

import bottle


def routes(app: bottle.Bottle) -> None:
    app.get("/docs/account", callback=account_page, scope="public")


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
