"""Providers in trouble, providers that lie, and their settings."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from mosis.config import Config, ConfigError
from mosis.context import Context
from mosis.credentials.oauth import providers
from mosis.outbound import http
from tests.client import PASSWORD, Client
from tests.conftest import FakeClock
from tests.providers import (
    Browser,
    GitHubShape,
    Issuer,
    certificate_for_loopback,
    changed,
)
from tests.server import free_port, running, serving, wait_until
from tests.web.oauth.conftest import ALICE, BASE_URL


@pytest.mark.parametrize(("error", "status", "code", "word"), [
    ("access_denied", 403, "provider_refused", "access_denied"),
    ("login_required", 403, "provider_refused", "login_required"),
    ("<script>alert(1)</script>", 403, "provider_refused", "other"),
    ("temporarily_unavailable", 503, "provider_unavailable", None),
    ("server_error", 503, "provider_unavailable", None),
])  # fmt: skip
def test_the_providers_errors_are_shown_as_ours(
    browser: Browser, error: str, status: int, code: str, word: str | None
) -> None:
    for provider in ("company", "github"):
        way_back = changed(
            browser.walk(browser.begin(provider)),
            code=None,
            error=error,
            error_description="Call+me",
        )
        answer = browser.call("GET", way_back).expect(status, code)
        assert answer.json.get("provider_error") == word
        assert b"script" not in answer.body
        assert b"Call" not in answer.body


def test_a_page_gets_the_code_of_what_went_wrong(browser: Browser) -> None:
    way_back = changed(
        browser.walk(browser.begin("company", "/console")), code=None, error="access_denied"
    )
    answer = browser.call("GET", way_back).expect(303)
    assert answer.headers["location"] == BASE_URL + "/console#sign_in_error=provider_refused"
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(400, "oauth_state_invalid")


def _drip(request: Any) -> None:
    request.send_response(200)
    request.end_headers()
    for _ in range(40):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


def _drip_head(request: Any) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
    for _ in range(40):
        request.wfile.write(b"a")
        request.wfile.flush()
        time.sleep(0.05)


def _drip_chunks(request: Any) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(40):
        request.wfile.write(b"1\r\n \r\n")
        request.wfile.flush()
        time.sleep(0.05)


TROUBLE: dict[str, Any] = {
    "moved": (302, {"Location": "/elsewhere"}, b""),
    "moved for good": (301, {"Location": "http://127.0.0.1:1/"}, b""),
    "too large": (200, {}, b" " * (http.LIMIT_BYTES + 1)),
    "broken": (500, {}, b"<html>"),
    "too many": (429, {}, {"error": "slow"}),
    "gateway": (502, {}, b""),
    "cut off": (200, {"Content-Length": "100"}, b"{"),
    "silent": lambda request: time.sleep(1),
    "dripping": _drip,
    "dripping its head": _drip_head,
    "dripping chunks": _drip_chunks,
    "no HTTP": lambda request: request.wfile.write(b"SSH-2.0\r\n\r\n"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("path", ["/token", "/.well-known/openid-configuration", "/keys"])
def test_a_provider_in_trouble_is_503_and_rests_a_while(
    browser: Browser,
    issuer: Issuer,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    trouble: str,
) -> None:
    issuer.instead[path] = TROUBLE[trouble]
    with monkeypatch.context() as impatient:
        impatient.setattr(http, "PROVIDER_SECONDS", 0.5)
        if path == "/.well-known/openid-configuration":
            answer = browser.call("POST", "/v1/auth/oauth/company")
        else:
            answer = browser.sign_in("company")
    assert answer.expect(503, "provider_unavailable").headers["retry-after"] == "5"
    asked = issuer.asked.count(path)
    browser.call("POST", "/v1/auth/oauth/company")
    assert issuer.asked.count(path) == asked
    assert "/elsewhere" not in issuer.asked
    issuer.instead.clear()
    clock.advance(5)
    browser.sign_in("company").expect(200)


def test_a_description_of_somebody_else_is_not_used(client: Client, issuer: Issuer) -> None:
    issuer.metadata["issuer"] = issuer.url + "/"
    client.post("/v1/auth/oauth/company").expect(503, "provider_unavailable")


@pytest.mark.parametrize("document", [b"not JSON", [], {}, b'{"issuer": 1, "issuer": 2}'])
def test_what_is_no_description_is_not_used(client: Client, issuer: Issuer, document: Any) -> None:
    issuer.instead["/.well-known/openid-configuration"] = (200, {}, document)
    client.post("/v1/auth/oauth/company").expect(503, "provider_unavailable")


@pytest.mark.parametrize("endpoint", ["file:///etc/passwd", "/token", "ftp://127.0.0.1/", 7, None])
def test_endpoints_must_be_http(client: Client, issuer: Issuer, endpoint: Any) -> None:
    issuer.metadata["token_endpoint"] = endpoint
    client.post("/v1/auth/oauth/company").expect(503, "provider_unavailable")


def test_an_address_that_is_no_http_is_not_opened() -> None:
    for address in ("file:///etc/passwd", "ftp://127.0.0.1/", "data:,{}", "http://"):
        with pytest.raises(http.Unreachable):
            http.ask(address)


@pytest.mark.parametrize("tokens", [
    b"", [], {}, {"access_token": 7, "token_type": "Bearer"}, {"access_token": "a", "token_type": "mac"},
    {"access_token": "a\nX-Evil: 1", "token_type": "Bearer"}, {"access_token": "a b", "token_type": "bearer"},
])  # fmt: skip
def test_odd_answers_of_the_token_endpoint_are_not_used(
    browser: Browser, issuer: Issuer, hub: GitHubShape, tokens: Any
) -> None:
    issuer.instead["/token"] = hub.instead["/login/oauth/access_token"] = (200, {}, tokens)
    browser.sign_in("company").expect(403, "provider_answer_invalid")
    browser.sign_in("github").expect(403, "provider_answer_invalid")


@pytest.mark.parametrize(("path", "reply"), [
    ("/api/v3/user", (401, {}, {"message": "Bad credentials"})), ("/api/v3/user", (200, {}, {"id": True})),
    ("/api/v3/user", (200, {}, {"id": "583231"})), ("/api/v3/user", (200, {}, [])), ("/api/v3/user/emails", (404, {}, {})),
    ("/api/v3/user/emails", (200, {}, {"email": "a@example.net"})),
])  # fmt: skip
def test_odd_answers_of_github_are_not_used(
    browser: Browser, hub: GitHubShape, path: str, reply: Any
) -> None:
    hub.instead[path] = reply
    browser.sign_in("github").expect(403, "provider_answer_invalid")


class TestEncrypted:
    """An issuer behind TLS, whose certificate is trusted only where a test says so."""

    @pytest.fixture
    def issuer(self, clock: FakeClock, tmp_path: Path) -> Iterator[Issuer]:
        with Issuer(lambda: clock.at, certificate_for_loopback(tmp_path / "tls.pem")) as server:
            yield server

    @pytest.fixture
    def trusted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))

    def test_a_certificate_that_nobody_vouches_for_is_503(
        self, client: Client, issuer: Issuer
    ) -> None:
        client.post("/v1/auth/oauth/company").expect(503, "provider_unavailable")
        assert issuer.asked == []

    def test_a_certificate_that_somebody_vouches_for_is_fine(
        self, trusted: None, browser: Browser
    ) -> None:
        browser.sign_in("company").expect(200)

    @pytest.mark.parametrize(
        "endpoint", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"]
    )
    def test_what_begins_encrypted_stays_so(
        self, trusted: None, client: Client, issuer: Issuer, endpoint: str
    ) -> None:
        issuer.metadata[endpoint] = issuer.url.replace("https:", "http:") + "/token"
        client.post("/v1/auth/oauth/company").expect(503, "provider_unavailable")


class TestUnreachable:
    @pytest.fixture
    def settings(self, settings: dict[str, str]) -> dict[str, str]:
        return settings | {
            "OIDC_ISSUER": f"http://127.0.0.1:{free_port()}",
            "GITHUB_URL": f"http://127.0.0.1:{free_port()}",
        }

    def test_nobody_there_is_503(self, browser: Browser) -> None:
        browser.call("POST", "/v1/auth/oauth/company").expect(503, "provider_unavailable")
        address = browser.begin(
            "github"
        )  # GitHub's addresses are known: it is asked when the browser comes back
        state = dict(pair.split("=") for pair in address.partition("?")[2].split("&"))["state"]
        browser.call("GET", f"/v1/auth/oauth/github/callback?code=a&state={state}").expect(
            503, "provider_unavailable"
        )


@pytest.mark.slow
def test_a_provider_that_hangs_holds_up_nobody_else(
    tmp_path: Path, issuer: Issuer, settings: dict[str, str]
) -> None:
    issuer.now = time.time
    with running(tmp_path, settings) as server:
        ask = partial(asked, server.url)
        assert (
            ask("/v1/auth/register", {"email": ALICE, "password": PASSWORD, "name": "Alice"})[0]
            == 201
        )
        issuer.user["email"] = "bob@example.net"
        jars = [CookieJar() for _ in range(12)]
        begun = [
            json.loads(ask("/v1/auth/oauth/company", {}, jar)[1])["redirect_url"] for jar in jars
        ]
        status, body = asked(
            "", begun[0], None, jars[0]
        )  # follows the redirect to the provider and the one back
        assert (status, json.loads(body)["developer"]["email"]) == (200, "bob@example.net")

        gate = threading.Event()
        issuer.instead["/token"] = lambda request: gate.wait(60)
        with ThreadPoolExecutor(12) as pool:
            waiting = [
                pool.submit(asked, "", address, None, jar)
                for address, jar in zip(begun[1:], jars[1:], strict=True)
            ]
            wait_until(lambda: "/token" in issuer.asked[-len(jars) :], "the provider is asked")
            assert [ask("/healthz")[0] for _ in range(20)] == [200] * 20
            assert ask("/v1/auth/login", {"email": ALICE, "password": PASSWORD})[0] == 200
            assert not all(each.done() for each in waiting)  # they still hang
            issuer.instead.clear()
            gate.set()
            assert all(future.result()[0] in (200, 503) for future in waiting)


def asked(
    base: str, path: str, body: Any = None, jar: CookieJar | None = None
) -> tuple[int, bytes]:
    """Status and body of a request over a socket, with the browser's cookies; redirects are followed."""
    opener = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(jar if jar is not None else CookieJar())
    )
    data = None if body is None else json.dumps(body).encode()
    try:
        with opener.open(
            urllib.request.Request(base + path, data, {"Content-Type": "application/json"}),
            timeout=60,
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


# -- settings


def test_a_provider_of_which_a_part_is_missing_is_reported() -> None:
    with pytest.raises(ConfigError) as error:
        Config.read(
            {
                "GITHUB_CLIENT_ID": "a",
                "OIDC_ISSUER": "https://id.example.net",
                "GOOGLE_CLIENT_SECRET": "b",
            }
        )
    assert [complaint.partition(":")[0] for complaint in error.value.complaints] == [
        "GITHUB_CLIENT_ID, GITHUB_CLIENT_SECRET",
        "GOOGLE_CLIENT_ID, GOOGLE_CLIENT_SECRET",
        "OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET",
    ]


@pytest.mark.parametrize("settings", [
    {"OIDC_NAME": "github"}, {"OIDC_NAME": "Company"}, {"OIDC_NAME": "a/b"}, {"OIDC_NAME": "password"},
    {"OIDC_ISSUER": "id.example.net", "OIDC_CLIENT_ID": "a", "OIDC_CLIENT_SECRET": "b"}, {"GITHUB_URL": "file:///"},
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Config.read(settings)


def test_addresses_of_the_providers(env: Context) -> None:
    assert Config.read({}).github_api == "https://api.github.com"
    assert (
        Config.read({"GITHUB_URL": "https://git.example.net/"}).github_api
        == "https://git.example.net/api/v3"
    )
    gitea = Config.read(
        {
            "GITHUB_URL": "https://git.example.net",
            "GITHUB_API_URL": "https://git.example.net/api/v1",
        }
    )
    assert gitea.github_api == "https://git.example.net/api/v1"
    everything = Config.read(
        {
            "GOOGLE_CLIENT_ID": "a",
            "GOOGLE_CLIENT_SECRET": "b",
            "OIDC_CLIENT_ID": "a",
            "OIDC_CLIENT_SECRET": "b",
            "OIDC_ISSUER": "https://tenant.example.net/",
        }
    )
    found = providers(everything, env.clock)
    assert {name: provider.issuer for name, provider in found.items()} == {
        "google": "https://accounts.google.com",
        "oidc": "https://tenant.example.net/",  # the slash is a part of the name
    }


def test_no_socket_is_opened_at_start(
    settings: dict[str, str], env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        socket, "create_connection", lambda *_, **__: pytest.fail("a provider was asked")
    )
    assert set(providers(Config.read(settings), env.clock)) == {"github", "company"}


class TestSlowProvider:
    """A provider that answers slowly, or never, takes two threads and nothing from the other one."""

    @pytest.fixture
    def settings(self, issuer: Issuer, hub: GitHubShape) -> dict[str, str]:
        return {
            "LISTEN_ADDR": "127.0.0.1:0",
            "OIDC_ISSUER": issuer.url,
            "OIDC_CLIENT_ID": "portal",
            "OIDC_CLIENT_SECRET": "secret",
            "GITHUB_CLIENT_ID": "Iv1.portal",
            "GITHUB_CLIENT_SECRET": "hub secret",
            "GITHUB_URL": hub.url,
        }

    @staticmethod
    def call(port: int, method: str, path: str, source: str = "127.0.0.1") -> int:
        connection = HTTPConnection("127.0.0.1", port, timeout=60, source_address=(source, 0))
        try:
            connection.request(method, path)
            return connection.getresponse().status
        finally:
            connection.close()

    def test_others_sign_in_and_read_metrics_meanwhile(self, env: Context, issuer: Issuer) -> None:
        gate = threading.Event()
        issuer.instead["/.well-known/openid-configuration"] = lambda _: gate.wait(60)
        with serving(env) as server, ThreadPoolExecutor(8) as pool:
            begin = ("POST", "/v1/auth/oauth/oidc")
            other = "127.0.0.9"
            waiting = [
                pool.submit(self.call, server.port, *begin, f"127.0.0.{number}")
                for number in range(1, 9)
            ]
            wait_until(lambda: len(issuer.asked) == 2, "two ask the issuer")
            for _ in range(3):
                assert self.call(server.port, "POST", "/v1/auth/oauth/github", other) == 200
                assert self.call(server.port, "GET", "/metrics", other) == 200
                # come back without a sign-in: in the same lane as the slow ones
                assert self.call(server.port, "GET", "/v1/auth/oauth/github/callback", other) == 400
            wait_until(lambda: server.lanes["outside"].state[1] == 2, "two threads are taken")
            assert len(issuer.asked) == 2
            assert [each.result() for each in waiting if each.done()] == []
            gate.set()
            assert {each.result(60) for each in waiting} == {503}

    def test_all_get_their_turn_at_a_provider_that_is_only_slow(
        self, env: Context, issuer: Issuer
    ) -> None:
        lock, running, most = threading.Lock(), [0], [0]
        path = "/.well-known/openid-configuration"
        document = json.dumps(issuer.answer(path, {}, {}, {})[2]).encode()

        def slow(request: Any) -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.05)
            with lock:
                running[0] -= 1
            request.send_response(200)
            request.send_header("Content-Length", str(len(document)))
            request.end_headers()
            request.wfile.write(document)

        issuer.instead[path] = slow
        with serving(env) as server, ThreadPoolExecutor(6) as pool:
            begin = ("POST", "/v1/auth/oauth/oidc")
            asked = [pool.submit(self.call, server.port, *begin) for _ in range(6)]
            assert [each.result(60) for each in asked] == [200] * 6
        assert most[0] <= 2


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def proxy() -> None:
            for answer in (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            ):
                connection, _ = listener.accept()
                with connection:
                    seen.append(connection.recv(4096))
                    connection.sendall(answer)

        thread = threading.Thread(target=proxy)
        thread.start()
        monkeypatch.setenv("HTTP_PROXY", f"http://user:pa%20ss@127.0.0.1:{port}")
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.delenv("no_proxy", raising=False)
        assert http.ask("http://issuer.example/keys?a=1").document == {}
        with pytest.raises(http.Unreachable, match="the proxy answers 407"):
            http.ask("https://issuer.example/keys")
        thread.join(60)
    assert seen[0].startswith(b"GET http://issuer.example/keys?a=1 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYSBzcw==\r\n" in seen[0]
    assert seen[1].startswith(b"CONNECT issuer.example:443 HTTP/1.1\r\n")
