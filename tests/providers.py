"""Providers of sign-in for the tests, on 127.0.0.1: a real one (certified, on node), a small issuer whose answers can be spoiled,
a server of GitHub's published shape; and a browser that goes there and back."""

import base64
import contextlib
import hashlib
import json
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urljoin, urlsplit

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import portal
from tests.client import Account, Answer, Client
from tests.server import free_port

ISSUED_SECONDS = 300
GITHUB_TOKEN = "gho_16C7e42F292c6912E7710c838347Ae178B4a"


@cache
def rsa_key(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A private key, made once a run for each name."""
    return rsa.generate_private_key(65537, bits)


def public_jwk(key: rsa.RSAPrivateKey, **more: str) -> dict[str, Any]:
    """The public half as the issuer publishes it."""
    found: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return found | {"use": "sig", "alg": "RS256"} | more


def certificate_for_loopback(path: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key, in one PEM file."""
    name, now, key = x509.Name([]), datetime.now(UTC), rsa_key("tls")
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


class Server:
    """A small HTTP server that runs while `with` holds it. `instead[path]` answers in place of what it would: (status, headers,
    body), or a function that takes the handler."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.asked: list[str] = []
        self.instead: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer._answer(self, dict(parse_qsl(body, strict_parsing=True)))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")

    def __enter__(self) -> Any:
        threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        path, _, query = request.path.partition("?")
        self.asked.append(path)
        instead = self.instead.get(path)
        if callable(instead):
            with contextlib.suppress(OSError):  # the server has ended
                instead(request)
            return
        status, headers, content = instead or self.answer(
            path, dict(parse_qsl(query)), form, request.headers
        )
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            request.send_header(name, value)
        request.end_headers()
        with contextlib.suppress(OSError):
            request.wfile.write(body)

    def answer(
        self, path: str, query: dict[str, str], form: dict[str, str], headers: Any
    ) -> tuple[int, dict[str, str], Any]:
        raise NotImplementedError

    def _authorize(self, query: dict[str, str], **more: str) -> tuple[int, dict[str, str], Any]:
        """Everybody says yes at once: back with a code (RFC 6749, 4.1.2)."""
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        code = secrets.token_urlsafe(12)
        self.codes[code] = query
        return (
            302,
            {
                "Location": query["redirect_uri"]
                + "?"
                + urlencode({"code": code, "state": query["state"], **more})
            },
            b"",
        )

    def _redeemed(self, form: dict[str, str]) -> dict[str, str] | None:
        """The request that a code was given for, once, when redirect address and verifier fit (RFC 7636, 4.6)."""
        query = self.codes.pop(form["code"], None)
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
            .decode()
            .rstrip("=")
        )
        fits = (
            query
            and query["redirect_uri"] == form["redirect_uri"]
            and query["code_challenge"] == challenge
        )
        return query if fits else None


class Issuer(Server):
    """A small OpenID Connect provider. `user` holds the claims about who signs in; `sign` makes the ID
    token; `metadata` adds to discovery."""

    def __init__(self, now: Callable[[], float], certificate: Path | None = None) -> None:
        super().__init__(certificate)
        self.now = now
        self.user: dict[str, Any] = {
            "sub": "7f",
            "email": "alice@example.net",
            "email_verified": True,
            "name": "Alice",
        }
        self.userinfo: dict[str, Any] = {}
        self.keys = [public_jwk(rsa_key(), kid="first")]
        self.sign: Callable[[dict[str, Any]], str] = lambda claims: signed(claims)
        self.metadata: dict[str, Any] = {"authorization_response_iss_parameter_supported": True}

    def answer(
        self, path: str, query: dict[str, str], form: dict[str, str], headers: Any
    ) -> tuple[int, dict[str, str], Any]:
        if path == "/.well-known/openid-configuration":
            return (
                200,
                {},
                {
                    "issuer": self.url,
                    "authorization_endpoint": self.url + "/authorize?tenant=1",
                    "token_endpoint": self.url + "/token",
                    "jwks_uri": self.url + "/keys",
                    "userinfo_endpoint": self.url + "/userinfo",
                    **self.metadata,
                },
            )
        if path == "/authorize":
            assert (query["tenant"], query["scope"].split()[0]) == ("1", "openid")
            return self._authorize(query, iss=self.url)
        if path == "/keys":
            return 200, {}, {"keys": self.keys}
        if path == "/userinfo":
            assert headers["Authorization"] == "Bearer for-the-API"
            return 200, {}, self.userinfo
        return self._token(form, headers)

    def _token(self, form: dict[str, str], headers: Any) -> tuple[int, dict[str, str], Any]:
        given = (form.get("client_id"), form.get("client_secret"))
        if "Authorization" in headers:
            pair = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
            given = tuple(map(unquote, pair.split(":")))  # type: ignore[assignment]
        if given != ("portal", "se:cret"):
            return 401, {}, {"error": "invalid_client"}
        query = self._redeemed(form)
        if query is None:
            return 400, {}, {"error": "invalid_grant", "error_description": "<b>secret words</b>"}
        now = int(self.now())
        claims = {
            "iss": self.url,
            "aud": "portal",
            "iat": now,
            "exp": now + ISSUED_SECONDS,
            "nonce": query["nonce"],
            **self.user,
        }
        return (
            200,
            {},
            {"access_token": "for-the-API", "token_type": "Bearer", "id_token": self.sign(claims)},
        )


def signed(
    claims: dict[str, Any], key: Any = None, algorithm: str = "RS256", **headers: Any
) -> str:
    """An ID token."""
    return jwt.encode(
        claims, key or rsa_key(), algorithm=algorithm, headers={"kid": "first"} | headers
    )


class GitHubShape(Server):
    """GitHub Enterprise as docs.github.com describes it: the API under /api/v3, errors of the token endpoint with status 200."""

    def __init__(self) -> None:
        super().__init__()
        self.user: dict[str, Any] = {
            "id": 583231,
            "login": "octocat",
            "name": "The Octocat",
            "email": None,
        }
        self.emails: list[dict[str, Any]] = [
            {
                "email": "octocat@users.noreply.github.com",
                "verified": True,
                "primary": False,
                "visibility": None,
            },
            {
                "email": "octocat@example.net",
                "verified": True,
                "primary": True,
                "visibility": "private",
            },
        ]
        self.iss = self.url + "/login/oauth"
        self.api = "/api/v3"
        self.scopes = {"read:user", "user:email"}

    def answer(
        self, path: str, query: dict[str, str], form: dict[str, str], headers: Any
    ) -> tuple[int, dict[str, str], Any]:
        if path == "/login/oauth/authorize":
            assert set(query["scope"].split()) == self.scopes
            return self._authorize(query, iss=self.iss)
        if path == "/login/oauth/access_token":
            assert headers["Accept"] == "application/json"
            if (form["client_id"], form["client_secret"]) != ("Iv1.portal", "hub secret"):
                return 200, {}, {"error": "incorrect_client_credentials"}
            if self._redeemed(form) is None:
                return (
                    200,
                    {},
                    {
                        "error": "bad_verification_code",
                        "error_description": "The code is incorrect or expired.",
                    },
                )
            return (
                200,
                {},
                {"access_token": GITHUB_TOKEN, "scope": "user:email", "token_type": "bearer"},
            )
        if headers["Authorization"] != f"Bearer {GITHUB_TOKEN}" or not headers["User-Agent"]:
            return 401, {}, {"message": "Bad credentials", "status": "401"}
        return (
            200,
            {},
            {self.api + "/user": self.user, self.api + "/user/emails": self.emails}[path],
        )


class Form(HTMLParser):
    """The first form of a page: where it goes and what is filled in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "form" and self.action is None:
            self.action = known["action"]
        if tag == "input" and known.get("name"):
            self.fields[str(known["name"])] = known.get("value") or ""


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Browser:
    """Follows redirects, keeps cookies for each host, fills in a provider's form as `login`. The portal is reached without a
    socket, whatever BASE_URL is; every other address is really asked."""

    def __init__(self, client: Client, login: str = "alice") -> None:
        self.client = client
        self.login = login
        self.cookies: dict[str, str] = {}
        self.visited: list[str] = []
        self.home = client.env.config.base_url
        self._web = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(CookieJar()), Stay
        )

    def call(self, method: str, path: str, body: Any = None, as_: Account | None = None) -> Answer:
        """A request to the portal, with the browser's cookies."""
        headers = (
            {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
            if self.cookies
            else {}
        )
        answer = self.client.call(method, path, body, as_=as_, headers=headers)
        for name, morsel in SimpleCookie(answer.headers.get("set-cookie", "")).items():
            self.cookies[name] = morsel.value
            if morsel["max-age"] == "0":
                del self.cookies[name]
        return answer

    def begin(self, provider: str, return_to: str | None = None, as_: Account | None = None) -> str:
        """Begin a sign-in; where the provider is."""
        answer = self.call(
            "POST", f"/v1/auth/oauth/{provider}", {"return_to": return_to} if return_to else {}, as_
        )
        return str(answer.expect(200)["redirect_url"])

    def walk(self, address: str) -> str:
        """From the provider's page to the address in the portal that it sends back to, without going there; as a path."""
        form = None
        for _ in range(20):
            self.visited.append(address)
            data = urlencode(form).encode() if form is not None else None
            try:
                answer = self._web.open(address, data, timeout=60)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                page = answer.read().decode()
                location = answer.headers.get("Location")
            if location:
                address, form = urljoin(address, location), None
                if address.startswith(self.home):
                    return address.removeprefix(self.home)
                continue
            found = Form(page)
            assert answer.status == 200, (answer.status, page[:2000])
            assert found.action, page[:2000]
            address, form = urljoin(address, found.action), found.fields
            form |= {"login": self.login, "password": "any"} if "login" in form else {}
        raise AssertionError(f"no way back: {self.visited}")

    def sign_in(
        self, provider: str, return_to: str | None = None, as_: Account | None = None
    ) -> Answer:
        """The whole dance; what the portal answers at its end."""
        return self.call("GET", self.walk(self.begin(provider, return_to, as_)))


def changed(path: str, **changes: str | None) -> str:
    """The callback's path with parameters replaced, or left out (None)."""
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | changes
    return (
        parts.path
        + "?"
        + urlencode({name: value for name, value in query.items() if value is not None})
    )


def real_provider(redirect_uri: str) -> Iterator[str]:
    """The certified `oidc-provider` on node; its address. Skips, and warns, only where node or its packages are not to be had."""
    folder = _installed()
    port = free_port()
    process = subprocess.Popen(
        ["node", "provider.js", str(port), redirect_uri],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=1),
            ):
                break
            assert process.poll() is None, "the provider did not start"
            assert time.monotonic() < deadline, "the provider does not listen"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(timeout=60)


def _installed() -> Path:
    """The provider and its packages as the lock file has them, installed once into .cache/."""
    source = Path(__file__).parent / "oidc_provider"
    content = b"".join(
        (source / name).read_bytes()
        for name in ("package.json", "package-lock.json", "provider.js")
    )
    folder = portal.HERE / ".cache" / ("oidc_provider-" + hashlib.sha256(content).hexdigest()[:12])
    if folder.exists():
        return folder
    if shutil.which("node") is None or shutil.which("npm") is None:
        _go_without("node and npm are not installed")
    making = folder.with_name(folder.name + "-" + secrets.token_hex(4))
    shutil.copytree(source, making, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command,
            cwd=making,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
        )
        output, failed = done.stderr.strip(), done.returncode != 0
    except subprocess.TimeoutExpired:
        output, failed = "it took longer than two minutes", True
    if failed:
        shutil.rmtree(making, ignore_errors=True)
        _go_without(f"npm could not install oidc-provider: {output[-300:]}")
    with contextlib.suppress(OSError):  # another run was faster
        making.rename(folder)
    return folder


def _go_without(why: str) -> None:
    reason = f"SIGN-IN IS NOT TESTED AGAINST A REAL OPENID PROVIDER: {why}"
    warnings.warn(reason, stacklevel=2)
    pytest.skip(reason)
