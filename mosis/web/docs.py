"""Documents for programs and people: the OpenAPI document, its viewer, and the pages of docs/."""

import hashlib
import json
import secrets
from email.utils import formatdate
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import bottle

from mosis import VERSION
from mosis.context import Context
from mosis.errors import NotFound
from mosis.packages import manifest_schema
from mosis.validation import text
from mosis.web import docs_pages, docs_search
from mosis.web.content_coding import compressed
from mosis.web.file_response import send_bytes, send_file
from mosis.web.request import etag
from mosis.web.schemas import File, operation

HERE = Path(__file__).parent
SCRIPTS = ("redoc.standalone.js", "start.js")
PAGE = File("text/html")
SEARCH = {"q": text(docs_search.QUERY_CHARACTERS, meta="Words.")}
# Styles that Redoc inserts before it knows the nonce: an empty one, and that of its scrollbars
EARLY_STYLES = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
SAFE = {"Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}


def routes(app: bottle.Bottle) -> None:
    app.get("/openapi.json", callback=openapi, scope="public")
    app.get("/docs", callback=reference, scope="public")
    app.get("/docs/account", callback=account_page, scope="public")
    app.get("/docs/errors", callback=errors, scope="public")
    app.get("/docs/search", callback=search, scope="public")
    app.get("/docs/assets/<file>", callback=asset, scope="public")
    app.get("/docs/decisions/<name>", callback=decision, scope="public")
    app.get(manifest_schema.PATH, callback=schema_of_manifest, scope="public")
    app.get("/docs/<name>", callback=document, scope="public")


@operation(File("application/json"))
def openapi(env: Context) -> bottle.HTTPResponse:
    """This OpenAPI 3.1 document, generated from the portal's own tables.

    For programs; /docs shows it in the browser.
    """
    document = _openapi(bottle.request.app, env.config.base_url)
    return _sent(*document, {"Content-Type": "application/json"})


@operation(File("application/schema+json"))
def schema_of_manifest(env: Context) -> bottle.HTTPResponse:
    """The JSON Schema of a package's manifest.json, for editors: use this address as `$schema`."""
    schema = manifest_schema.schema(env.url(manifest_schema.PATH))
    body = json.dumps(schema, ensure_ascii=False, indent=2).encode()
    return _sent(body, etag(body), {"Content-Type": "application/schema+json"})


@operation(PAGE)
def reference() -> bottle.HTTPResponse:
    """A page that shows the OpenAPI document."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}' {EARLY_STYLES}; connect-src 'self';"
        " img-src 'self' data:; font-src 'self'; worker-src blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    )
    page = (HERE / "reference.html").read_text(encoding="utf-8").replace("NONCE", nonce)
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
    }
    return bottle.HTTPResponse(page.encode(), 200, headers | SAFE)


@operation(PAGE)
def errors(env: Context) -> bottle.HTTPResponse:
    """The meaning of every error code; `type` of a problem leads here."""
    return _page(docs_pages.errors(env.config.store_name))


@operation(PAGE, query=SEARCH)
def search(env: Context) -> bottle.HTTPResponse:
    """The sections of the documents that contain every word of `q`, as a page."""
    query = bottle.request.query.getunicode("q", "")
    return _page(docs_search.page(query, env.config.store_name))


@operation(PAGE)
def document(env: Context, name: str) -> bottle.HTTPResponse:
    """One of the portal's documents as a page."""
    return _page(docs_pages.page(name, env.config.store_name))


@operation(PAGE)
def decision(env: Context, name: str) -> bottle.HTTPResponse:
    """A decision about the design of the portal, as a page."""
    return _page(docs_pages.page(f"decisions/{name}", env.config.store_name))


@operation(File("text/javascript", ranges=True))
def asset(env: Context, file: str) -> bottle.HTTPResponse:
    """The scripts of /docs."""
    if file not in SCRIPTS:
        raise NotFound("file")
    path = HERE / "assets" / file
    content_type = "text/javascript; charset=utf-8"
    size = path.stat().st_size
    return send_file(
        open(path, "rb"),
        size,
        content_type=content_type,
        cache_control="public, max-age=3600",
        sha256=_sha256(path),
        changed_at=path.stat().st_mtime,
        gzipped=(lambda: _gzipped(path)) if env.config.compression else None,
    )


@operation({302: None})
def account_page(env: Context) -> bottle.HTTPResponse:
    """Redirect for links of older mails. The token is in the fragment, which browsers keep."""
    location = env.config.base_path + "/console/link"
    headers = {"Location": location, "Cache-Control": "public, max-age=300"}
    return bottle.HTTPResponse(b"", 302, headers | SAFE)


@lru_cache(maxsize=1)
def _openapi(app: bottle.Bottle, base_url: str) -> tuple[bytes, str]:
    """The OpenAPI document and its tag, built at first use."""
    from mosis.web.openapi import description

    made = description(app, base_url, VERSION)
    body = json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()
    return body, etag(body)


def _page(page: bytes, policy: str = docs_pages.POLICY) -> bottle.HTTPResponse:
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
    return _sent(page, etag(page), headers | SAFE)


def _sent(body: bytes, tag: str, headers: dict[str, str]) -> bottle.HTTPResponse:
    """A response that only changes with the program."""
    changed = formatdate(_changed_at(), usegmt=True)
    return send_bytes(body, headers | {"Last-Modified": changed}, tag)


@cache
def _changed_at() -> float:
    """When the newest of these files was written (seconds since the epoch)."""
    files = [*docs_pages.DOCS.rglob("*.md"), *HERE.rglob("*.py"), *HERE.glob("*.html")]
    return max(path.stat().st_mtime for path in files)


def _gzipped(path: Path) -> tuple[BinaryIO, int, str]:
    """The compressed form of a script: the file, its size and its SHA-256."""
    packed, sha256 = _packed(path)
    return BytesIO(packed), len(packed), sha256


@cache
def _packed(path: Path) -> tuple[bytes, str]:
    packed = compressed(path.read_bytes())
    return packed, hashlib.sha256(packed).hexdigest()


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
