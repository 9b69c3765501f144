"""Sign-in at a provider: the whole dance with real servers, and the attacks on it."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from mosis import audit
from mosis.caller import Caller
from mosis.config import Config, ConfigError
from mosis.context import Environment
from mosis.credentials import tokens
from mosis.credentials.oauth import providers
from mosis.outbound import http
from mosis.people import accounts
from tests.client import PASSWORD, Client, Person
from tests.conftest import Hands
from tests.providers import (
    Browser,
    GitHubShape,
    Issuer,
    certificate_for_loopback,
    changed,
    public_jwk,
    real_provider,
    rsa_key,
    signed,
)
from tests.server import free_port, running, serving, wait_until

BASE_URL = "http://localhost:8080"
ALICE = "alice@example.net"


@pytest.fixture
def issuer(hands: Hands) -> Iterator[Issuer]:
    with Issuer(lambda: hands.at) as server:
        yield server


@pytest.fixture
def hub() -> Iterator[GitHubShape]:
    with GitHubShape() as server:
        yield server


@pytest.fixture
def settings(issuer: Issuer, hub: GitHubShape) -> dict[str, str]:
    return {
        "OIDC_ISSUER": issuer.url,
        "OIDC_CLIENT_ID": "portal",
        "OIDC_CLIENT_SECRET": "se:cret",
        "OIDC_NAME": "company",
        "GITHUB_CLIENT_ID": "Iv1.portal",
        "GITHUB_CLIENT_SECRET": "hub secret",
        "GITHUB_URL": hub.url,
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    yield from real_provider(f"{BASE_URL}/v1/auth/oauth/company/callback")


@pytest.fixture
def browser(client: Client) -> Browser:
    return Browser(client)


def verify_address(env: Environment, email: str) -> None:
    """What the link in the mail does."""
    db = env.db.connection()
    with db.write():
        assert db.change("UPDATE developers SET email_verified = 1 WHERE email = ?", email) == 1


def suspend(env: Environment, email: str) -> None:
    db = env.db.connection()
    with db.write():
        assert db.change("UPDATE developers SET suspended = 1 WHERE email = ?", email) == 1


def accounts_of(env: Environment) -> int:
    return int(env.db.connection().value("SELECT count(*) FROM developers"))


class TestRealProvider:
    """Against a certified provider, which checks PKCE, redirect address and client, and has forms and cookies of its own."""

    @pytest.fixture(params=["RS256", "ES256", "EdDSA"])
    def algorithm(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def settings(self, provider: str, algorithm: str, hands: Hands) -> dict[str, str]:
        hands.at = time.time()
        return {
            "OIDC_ISSUER": provider,
            "OIDC_CLIENT_ID": f"portal-{algorithm}",
            "OIDC_NAME": "company",
            "OIDC_CLIENT_SECRET": "a secret: with / signs & spaces",
        }

    def test_the_whole_dance_makes_an_account_and_finds_it_again(self, browser: Browser) -> None:
        first = browser.sign_in("company").expect(200)
        assert first["developer"]["email"] == ALICE
        assert first["developer"]["name"] == "alice at the provider"
        assert first["developer"]["providers"] == ["company"]
        assert (
            sum("/interaction/" in address for address in browser.visited) >= 2
        )  # it has asked who, and whether
        again = Browser(browser.client).sign_in("company").expect(200)
        assert again["developer"]["id"] == first["developer"]["id"]
        browser.client.get("/v1/auth/me", as_=again["access_token"]).expect(200)

    @pytest.mark.parametrize("algorithm", ["RS256"], indirect=True)
    def test_a_code_of_another_browser_fails_for_its_verifier(self, client: Client) -> None:
        alice, mallory = Browser(client, "alice"), Browser(client, "mallory")
        stolen = alice.walk(alice.begin("company"))
        own = mallory.walk(mallory.begin("company"))
        code = dict(pair.split("=") for pair in stolen.partition("?")[2].split("&"))["code"]
        answer = mallory.call("GET", changed(own, code=code)).expect(403, "provider_refused")
        assert answer["provider_error"] == "invalid_grant"
        assert accounts_of(client.env) == 0

    @pytest.mark.parametrize("algorithm", ["RS256"], indirect=True)
    def test_an_answer_without_iss_or_with_another_is_not_used(self, client: Client) -> None:
        for iss in (None, "http://127.0.0.1:1"):
            browser = Browser(client)
            way_back = browser.walk(browser.begin("company"))
            browser.call("GET", changed(way_back, iss=iss)).expect(403, "provider_answer_invalid")

    @pytest.mark.parametrize("algorithm", ["RS256"], indirect=True)
    def test_an_address_that_the_provider_has_not_verified_opens_nothing(
        self, client: Client
    ) -> None:
        Browser(client, "unverified.eve").sign_in("company").expect(409, "email_not_verified")
        assert accounts_of(client.env) == 0


def test_the_dance_with_a_page_that_collects(browser: Browser, hub: GitHubShape) -> None:
    back = browser.sign_in("github", "/console?tab=apps").expect(303)
    assert back.headers["location"] == BASE_URL + "/console?tab=apps#sign_in=github"
    assert back.headers["cache-control"] == "no-store"
    answer = browser.call("POST", "/v1/auth/oauth/github/collect").expect(200)
    assert set(answer.json) == {
        "developer",
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "refresh_expires_in",
    }
    assert answer["developer"]["email"] == "octocat@example.net"
    assert answer["developer"]["email_verified"] is True
    assert answer["developer"]["name"] == "The Octocat"
    assert browser.client.get("/v1/auth/me", as_=answer["access_token"])["providers"] == ["github"]
    assert browser.cookies == {}


def test_github_is_asked_as_its_documents_say(browser: Browser, hub: GitHubShape) -> None:
    browser.sign_in("github").expect(200)
    assert hub.asked == [
        "/login/oauth/authorize",
        "/login/oauth/access_token",
        "/api/v3/user",
        "/api/v3/user/emails",
    ]


class TestGitea:
    @pytest.fixture
    def settings(self, settings: dict[str, str], hub: GitHubShape) -> dict[str, str]:
        hub.api, hub.scopes, hub.iss = "/api/v1", {"read:user"}, hub.url + "/"
        return settings | {"GITHUB_API_URL": hub.url + "/api/v1"}

    def test_gitea_is_asked_at_its_own_api_and_for_no_more_than_it_knows(
        self, browser: Browser, hub: GitHubShape
    ) -> None:
        browser.sign_in("github").expect(200)
        assert hub.asked[-1] == "/api/v1/user/emails"


def test_what_is_kept_ready_is_for_one_browser_once_and_for_a_minute(
    client: Client, browser: Browser, hands: Hands
) -> None:
    browser.sign_in("company", "/console").expect(303)
    other = Browser(client)
    other.begin("company")
    other.call("POST", "/v1/auth/oauth/company/collect").expect(400, "oauth_state_invalid")
    browser.call("POST", "/v1/auth/oauth/github/collect").expect(400, "oauth_state_invalid")
    kept = dict(browser.cookies)
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(200)
    browser.cookies = kept
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(400, "oauth_state_invalid")
    browser.sign_in("company", "/console").expect(303)
    hands.turn(60)
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(400, "oauth_state_invalid")


def test_what_is_kept_ready_ends_with_the_sessions(browser: Browser) -> None:
    alice = browser.client.register("alice")
    verify_address(browser.client.env, alice.email)
    browser.call("GET", browser.walk(browser.begin("company", return_to="/docs/account"))).expect(
        303
    )
    said = {"current_password": PASSWORD, "new_password": "another long password"}
    browser.client.post("/v1/auth/password", said, as_=alice).expect(204)
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(400, "oauth_state_invalid")


def test_beginning_sets_a_cookie_that_only_the_way_back_sees(client: Client) -> None:
    answer = client.post("/v1/auth/oauth/company").expect(200)
    assert set(answer.json) == {"redirect_url"}
    name, *attributes = answer.headers["set-cookie"].lower().split("; ")
    assert name.startswith("mosis_sign_in=")
    assert set(attributes) == {"httponly", "max-age=600", "path=/", "samesite=lax"}


class TestLimits:
    @pytest.fixture
    def settings(self, settings: dict[str, str]) -> dict[str, str]:
        return settings | {"RATE_LIMITS": "on"}

    def test_a_network_begins_only_so_many(self, client: Client) -> None:
        statuses = [client.post("/v1/auth/oauth/company").status for _ in range(102)]
        assert statuses.count(200) in (100, 101)
        client.post("/v1/auth/oauth/company").expect(429, "rate_limited")
        client.post("/v1/auth/oauth/company", address="203.0.113.9").expect(200)


class TestHttps:
    @pytest.fixture
    def settings(self, settings: dict[str, str]) -> dict[str, str]:
        return settings | {"BASE_URL": "https://apps.example.net"}

    def test_with_https_nobody_else_can_have_set_the_cookie(self, browser: Browser) -> None:
        answer = browser.call("POST", "/v1/auth/oauth/company").expect(200)
        assert answer.headers["set-cookie"].startswith("__Host-mosis_sign_in=")
        assert "secure" in answer.headers["set-cookie"].lower().split("; ")
        assert (
            browser.sign_in("company", "/console").headers["location"]
            == "https://apps.example.net/console#sign_in=company"
        )


def test_every_sign_in_has_a_state_a_nonce_and_a_challenge_of_its_own(browser: Browser) -> None:
    begun = [
        dict(pair.split("=") for pair in browser.begin("company").partition("?")[2].split("&"))
        for _ in range(2)
    ]
    for name in ("state", "nonce", "code_challenge"):
        assert len({each[name] for each in begun}) == 2
    assert len({begun[0][name] for name in ("state", "nonce", "code_challenge")}) == 3


def test_nothing_in_the_database_can_be_presented(browser: Browser) -> None:
    address = browser.begin("company")
    browser.walk(address)
    path = browser.client.env.config.database_path
    content = path.read_bytes() + path.with_name("portal.db-wal").read_bytes()
    sent = dict(pair.split("=") for pair in address.partition("?")[2].split("&"))
    for secret in (browser.cookies["mosis_sign_in"], sent["state"], sent["nonce"]):
        assert secret.encode() not in content


# -- the browser: state, replay, time


def test_a_state_of_another_browser_is_refused_and_not_spent_by_that(client: Client) -> None:
    alice, mallory = Browser(client), Browser(client)
    hers, his = alice.walk(alice.begin("company")), mallory.walk(mallory.begin("company"))
    alice.call("GET", his).expect(
        400, "oauth_state_invalid"
    )  # login CSRF: his answer in her browser
    mallory.call("GET", hers).expect(400, "oauth_state_invalid")  # her answer in his browser
    client.get(hers).expect(400, "oauth_state_invalid")  # a browser without cookie
    assert accounts_of(client.env) == 0
    alice.call("GET", hers).expect(200)


def test_a_code_of_another_browser_fails_for_its_verifier(client: Client) -> None:
    alice, mallory = Browser(client), Browser(client)
    for provider, error in (("company", "invalid_grant"), ("github", "bad_verification_code")):
        hers, his = alice.walk(alice.begin(provider)), mallory.walk(mallory.begin(provider))
        code = dict(pair.split("=") for pair in hers.partition("?")[2].split("&"))["code"]
        answer = mallory.call("GET", changed(his, code=code)).expect(403, "provider_refused")
        assert answer["provider_error"] == error
        assert b"secret words" not in answer.body
    assert accounts_of(client.env) == 0


def test_an_answer_is_good_once(browser: Browser) -> None:
    way_back = browser.walk(browser.begin("company"))
    kept = dict(browser.cookies)
    browser.call("GET", way_back).expect(200)
    browser.call("GET", way_back).expect(400, "oauth_state_invalid")
    browser.cookies = kept
    browser.call("GET", way_back).expect(400, "oauth_state_invalid")


def test_of_the_same_answer_twice_at_once_one_wins(browser: Browser) -> None:
    way_back = browser.walk(browser.begin("company"))
    headers = {"Cookie": f"mosis_sign_in={browser.cookies['mosis_sign_in']}"}
    with ThreadPoolExecutor(4) as pool:
        statuses = list(
            pool.map(lambda _: browser.client.get(way_back, headers=headers).status, range(4))
        )
    assert sorted(statuses) == [200, 400, 400, 400]


def test_a_code_that_was_used_is_refused_by_the_provider_too(client: Client) -> None:
    browser = Browser(client)
    first = browser.walk(browser.begin("company"))
    browser.call("GET", first).expect(200)
    second = browser.walk(browser.begin("company"))
    code = dict(pair.split("=") for pair in first.partition("?")[2].split("&"))["code"]
    browser.call("GET", changed(second, code=code)).expect(403, "provider_refused")


def test_a_sign_in_waits_ten_minutes(browser: Browser, hands: Hands) -> None:
    way_back = browser.walk(browser.begin("company"))
    hands.turn(600)
    browser.call("GET", way_back).expect(400, "oauth_state_invalid")
    Browser(browser.client).begin("company")
    assert (
        browser.client.env.db.connection().value("SELECT count(*) FROM oauth_states") == 1
    )  # what has expired is gone


def test_an_answer_belongs_to_the_provider_that_was_asked(browser: Browser) -> None:
    way_back = browser.walk(browser.begin("company"))
    browser.call("GET", way_back.replace("/company/", "/github/")).expect(
        400, "oauth_state_invalid"
    )
    browser.call("GET", way_back).expect(200)


@pytest.mark.parametrize("query", [
    "", "code=a", "state=", "state=a&state=b&code=c", "code=a&code=b&state=c", "code=a%0d%0ab&state=c", "code=%C3%A9&state=c",
    "iss=a&iss=b&state=c", "code=" + "a" * 9000 + "&state=c",
])  # fmt: skip
def test_strange_ways_back_are_refused(browser: Browser, issuer: Issuer, query: str) -> None:
    browser.begin("company")
    browser.call("GET", f"/v1/auth/oauth/company/callback?{query}").expect(400)
    assert "/token" not in issuer.asked


@pytest.mark.parametrize("twice", ["code", "state", "iss"])
def test_a_parameter_that_stands_twice_is_refused(browser: Browser, twice: str) -> None:
    way_back = browser.walk(browser.begin("company"))
    browser.call("GET", f"{way_back}&{twice}=another").expect(400, "malformed_request")
    browser.call("GET", way_back).expect(200)  # and nothing was spent


def test_neither_code_nor_error_is_refused(browser: Browser) -> None:
    way_back = browser.walk(browser.begin("company"))
    browser.call("GET", changed(way_back, code=None)).expect(403, "provider_refused")


@pytest.mark.parametrize("return_to", [
    "//evil.test", "https://evil.test", "/\\evil.test", "\\\\evil.test", "/a//b", "javascript:alert(1)", "evil.test", "",
    "/a\r\nSet-Cookie: a=b", "/a\n", "/a\tb", "/a b", "/a#sign_in=github", "/é", "/\x00", "/a\x7f", "/" + "a" * 2000, 7,
])  # fmt: skip
def test_nobody_is_sent_elsewhere(client: Client, return_to: Any) -> None:
    answer = client.post("/v1/auth/oauth/company", {"return_to": return_to}).expect(422, "invalid")
    assert answer.finding("/return_to")


@pytest.mark.parametrize(
    "return_to",
    ["/", "/console", "/a/b?c=d&e=%0d%0af", "/@evil.test", "/%2f%2fevil.test", "/..;/x"],
)
def test_paths_of_our_own_stay_ours(browser: Browser, return_to: str) -> None:
    answer = browser.sign_in("company", return_to).expect(303)
    assert answer.headers["location"] == f"{BASE_URL}{return_to}#sign_in=company"


def test_unknown_fields_and_providers_are_refused(client: Client) -> None:
    client.post("/v1/auth/oauth/company", {"redirect_uri": "https://evil.test"}).expect(422)
    for name in ("google", "elsewhere", "password"):
        client.post(f"/v1/auth/oauth/{name}").expect(404, "not_found")
        client.get(f"/v1/auth/oauth/{name}/callback?state=a&code=b").expect(404, "not_found")
        client.post(f"/v1/auth/oauth/{name}/collect").expect(404, "not_found")


# -- the provider: iss, ID token, errors, reach


@pytest.mark.parametrize("iss", [None, "https://evil.test", "{url}/", "{url}.evil.test"])
def test_an_answer_without_iss_or_with_another_is_not_used(
    browser: Browser, issuer: Issuer, iss: str | None
) -> None:
    way_back = browser.walk(browser.begin("company"))
    browser.call("GET", changed(way_back, iss=iss and iss.format(url=issuer.url))).expect(
        403, "provider_answer_invalid"
    )
    assert "/token" not in issuer.asked  # mix-up: the code must not go anywhere


def test_an_issuer_that_does_not_promise_iss_may_leave_it_out_but_not_lie(
    browser: Browser, issuer: Issuer
) -> None:
    issuer.metadata.clear()
    browser.call("GET", changed(browser.walk(browser.begin("company")), iss=None)).expect(200)
    lie = changed(browser.walk(browser.begin("company")), iss="https://evil.test")
    browser.call("GET", lie).expect(403, "provider_answer_invalid")


def test_github_may_leave_iss_out_but_not_name_another_host(
    browser: Browser, hub: GitHubShape
) -> None:
    browser.call("GET", changed(browser.walk(browser.begin("github")), iss=None)).expect(200)
    hub.iss = "https://evil.test/login/oauth"
    browser.sign_in("github").expect(403, "provider_answer_invalid")


def _public_pem() -> bytes:
    return (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _hs256_with(key: bytes) -> Callable[[dict[str, Any]], str]:
    """HS256 over a key that PyJWT refuses to sign with, as an attacker would."""

    def forge(claims: dict[str, Any]) -> str:
        import base64
        import hashlib
        import hmac

        def text(raw: bytes) -> str:
            return base64.urlsafe_b64encode(raw).decode().rstrip("=")

        head = (
            text(json.dumps({"alg": "HS256", "kid": "first", "typ": "JWT"}).encode())
            + "."
            + text(json.dumps(claims).encode())
        )
        return head + "." + text(hmac.new(key, head.encode(), hashlib.sha256).digest())

    return forge


FORGERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "alg none": lambda claims: jwt.encode(claims, None, algorithm="none"),
    "alg none with the key's name": lambda claims: jwt.encode(
        claims, None, algorithm="none", headers={"kid": "first"}
    ),
    "HS256 with the public key": lambda claims: _hs256_with(_public_pem())(claims),
    "HS256 with the client's secret": _hs256_with(b"se:cret"),
    "another algorithm of the same key": lambda claims: signed(claims, algorithm="RS512"),
    "PSS": lambda claims: signed(claims, algorithm="PS256"),
    "a foreign key under our key's name": lambda claims: signed(claims, rsa_key("foreign")),
    "a foreign key sent along": lambda claims: signed(
        claims, rsa_key("foreign"), jwk=public_jwk(rsa_key("foreign"), kid="first")
    ),
    "an unknown key": lambda claims: signed(claims, rsa_key("foreign"), kid="second"),
    "an unknown critical header": lambda claims: signed(claims, crit=["exp"]),
    "another nonce": lambda claims: signed(claims | {"nonce": "A" * 43}),
    "no nonce": lambda claims: signed(
        {name: value for name, value in claims.items() if name != "nonce"}
    ),
    "a nonce that is no text": lambda claims: signed(claims | {"nonce": 7}),
    "another audience": lambda claims: signed(claims | {"aud": "another client"}),
    "no audience": lambda claims: signed(
        {name: value for name, value in claims.items() if name != "aud"}
    ),
    "several audiences without azp": lambda claims: signed(
        claims | {"aud": ["portal", "another client"]}
    ),
    "made for another client": lambda claims: signed(claims | {"azp": "another client"}),
    "another issuer": lambda claims: signed(claims | {"iss": "https://evil.test"}),
    "the issuer with a slash": lambda claims: signed(claims | {"iss": claims["iss"] + "/"}),
    "expired": lambda claims: signed(claims | {"exp": claims["iat"] - 61}),
    "without an end": lambda claims: signed(
        {name: value for name, value in claims.items() if name != "exp"}
    ),
    "an end that is no number": lambda claims: signed(claims | {"exp": None}),
    "an end that is not a number": lambda claims: signed(claims | {"exp": float("nan")}),
    "made in the future": lambda claims: signed(claims | {"iat": claims["iat"] + 120}),
    "no subject": lambda claims: signed(
        {name: value for name, value in claims.items() if name != "sub"}
    ),
    "an empty subject": lambda claims: signed(claims | {"sub": ""}),
    "a long subject": lambda claims: signed(claims | {"sub": "a" * 256}),
    "half a character": lambda claims: signed(claims | {"sub": "\ud800"}),
    "a spoiled signature": lambda claims: signed(claims)[:-6] + "AAAAAA",
    "no token": lambda claims: None,
    "a number": lambda claims: 7,
    "no JWT": lambda claims: "no.jwt.atall",
    "a deep one": lambda claims: (
        jwt.utils.base64url_encode(b'{"alg":' + b"[" * 100_000).decode() + ".e30.e30"
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_id_tokens_are_refused(browser: Browser, issuer: Issuer, forgery: str) -> None:
    issuer.sign = FORGERIES[forgery]
    browser.sign_in("company").expect(403, "provider_answer_invalid")
    assert accounts_of(browser.client.env) == 0


@pytest.mark.parametrize(
    "change",
    [{"use": "enc"}, {"alg": "RS512"}, {"kty": "oct", "k": "c2VjcmV0"}, {"n": "AQAB"}, {"n": 7}],
)
def test_keys_that_are_not_for_this_are_not_used(
    browser: Browser, issuer: Issuer, change: dict[str, Any]
) -> None:
    issuer.keys = [issuer.keys[0] | change]
    browser.sign_in("company").expect(403, "provider_answer_invalid")


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits long")
def test_short_keys_are_refused(browser: Browser, issuer: Issuer) -> None:
    issuer.keys = [public_jwk(rsa_key("short", 1024), kid="first")]
    issuer.sign = lambda claims: signed(claims, rsa_key("short", 1024))
    browser.sign_in("company").expect(403, "provider_answer_invalid")


def test_of_two_keys_with_one_name_none_is_guessed(browser: Browser, issuer: Issuer) -> None:
    issuer.keys = [public_jwk(key, kid="first") for key in (rsa_key(), rsa_key("foreign"))]
    browser.sign_in("company").expect(403, "provider_answer_invalid")


def test_several_audiences_with_azp_and_some_seconds_of_difference_are_fine(
    browser: Browser, issuer: Issuer
) -> None:
    issuer.sign = lambda claims: signed(
        claims
        | {
            "aud": ["portal", "an API"],
            "azp": "portal",
            "iat": claims["iat"] + 59,
            "exp": claims["iat"] - 59,
        }
    )
    browser.sign_in("company").expect(200)


def test_a_new_key_of_the_issuer_is_found_and_an_old_one_dies(
    browser: Browser, issuer: Issuer, hands: Hands
) -> None:
    browser.sign_in("company").expect(200)
    issuer.keys = [public_jwk(rsa_key("next"), kid="next")]
    issuer.sign = lambda claims: signed(claims, rsa_key("next"), kid="next")
    browser.sign_in("company").expect(
        403, "provider_answer_invalid"
    )  # asked a moment ago: nobody makes us ask at every try
    hands.turn(30)
    browser.sign_in("company").expect(200)
    issuer.sign = lambda claims: signed(claims)
    browser.sign_in("company").expect(403, "provider_answer_invalid")
    assert issuer.asked.count("/.well-known/openid-configuration") == 1
    assert issuer.asked.count("/keys") == 2


def test_an_issuer_that_takes_the_secret_in_the_form_gets_it_there(
    browser: Browser, issuer: Issuer
) -> None:
    issuer.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    browser.sign_in("company").expect(200)


def test_what_the_id_token_leaves_out_is_asked_of_userinfo(
    browser: Browser, issuer: Issuer
) -> None:
    issuer.person = {"sub": "7f"}
    issuer.told_by_userinfo = {
        "sub": "7f",
        "email": ALICE,
        "email_verified": "true",
        "preferred_username": "ali\u200bce",
    }
    answer = browser.sign_in("company").expect(200)
    assert (answer["developer"]["email"], answer["developer"]["name"]) == (ALICE, "alice")


def test_userinfo_about_somebody_else_is_not_believed(browser: Browser, issuer: Issuer) -> None:
    issuer.person = {"sub": "7f"}
    issuer.told_by_userinfo = {"sub": "80", "email": ALICE, "email_verified": True}
    browser.sign_in("company").expect(403, "provider_answer_invalid")


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
    hands: Hands,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    trouble: str,
) -> None:
    monkeypatch.setattr(http, "PROVIDER_SECONDS", 0.5)
    issuer.instead[path] = TROUBLE[trouble]
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
    hands.turn(5)
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
    def issuer(self, hands: Hands, tmp_path: Path) -> Iterator[Issuer]:
        with Issuer(lambda: hands.at, certificate_for_loopback(tmp_path / "tls.pem")) as server:
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


# -- whose account


def register(client: Client, *, verified: bool) -> Person:
    alice = client.register("alice")
    if verified:
        verify_address(client.env, alice.email)
    return alice


def test_an_account_is_linked_when_both_sides_have_verified_the_address(
    browser: Browser, issuer: Issuer
) -> None:
    alice = register(browser.client, verified=True)
    issuer.person["email"] = "Alice@Example.net"
    answer = browser.sign_in("company").expect(200)
    assert answer["developer"]["id"] == alice.id
    assert answer["developer"]["providers"] == ["password", "company"]
    issuer.person["email"] = "another@example.net"  # the subject counts, not the address
    assert browser.sign_in("company").expect(200)["developer"]["id"] == alice.id


def test_an_account_that_has_not_verified_its_address_is_not_given_away(browser: Browser) -> None:
    register(browser.client, verified=False)
    assert browser.sign_in("company").expect(409, "email_not_verified")["side"] == "account"
    assert accounts_of(browser.client.env) == 1


@pytest.mark.parametrize("claims", [
    {"email_verified": False}, {"email_verified": None}, {"email_verified": 1}, {"email_verified": "yes"}, {"email": None},
    {"email": "no address"}, {"email": "alice@example.net\n"}, {"email": ["alice@example.net"]}, {"email": "a@" + "b" * 300},
    {"email": "x,alice@example.net"},
])  # fmt: skip
def test_an_address_that_the_provider_has_not_verified_opens_nothing(
    browser: Browser, issuer: Issuer, claims: dict[str, Any]
) -> None:
    register(browser.client, verified=True)
    issuer.person |= claims
    assert browser.sign_in("company").expect(409, "email_not_verified")["side"] == "provider"
    issuer.person |= {"email": "new@example.net", "email_verified": False}
    browser.sign_in("company").expect(409, "email_not_verified")
    assert accounts_of(browser.client.env) == 1


@pytest.mark.parametrize(("emails", "expected"), [
    ([("a@example.net", True, False), ("b@example.net", True, True)], "b@example.net"),
    ([("a@example.net", True, False), ("b@example.net", False, True)], "a@example.net"),
    ([("a@example.net", False, True)], None),
    ([("a@example.net", "true", True)], None),
    ([], None),
])  # fmt: skip
def test_of_githubs_addresses_a_verified_one_counts(
    browser: Browser, hub: GitHubShape, emails: list[tuple[str, Any, bool]], expected: str | None
) -> None:
    hub.emails = [
        {"email": email, "verified": verified, "primary": primary}
        for email, verified, primary in emails
    ]
    answer = browser.sign_in("github")
    if expected is None:
        answer.expect(409, "email_not_verified")
    else:
        assert answer.expect(200)["developer"]["email"] == expected


def test_somebody_signed_in_links_a_provider(browser: Browser, issuer: Issuer) -> None:
    alice = register(browser.client, verified=False)
    issuer.person |= {"email": "work@example.org", "email_verified": False}
    assert browser.sign_in("company", as_=alice).expect(200)["developer"]["id"] == alice.id
    assert browser.sign_in("github", as_=alice).expect(200)["developer"]["providers"] == [
        "password",
        "company",
        "github",
    ]
    assert Browser(browser.client).sign_in("company").expect(200)["developer"]["id"] == alice.id
    bob = browser.client.register("bob")
    browser.sign_in("company", as_=bob).expect(409, "identity_taken")
    assert browser.client.get("/v1/auth/me", as_=bob)["providers"] == ["password"]


def test_what_has_only_some_scopes_links_nothing(client: Client) -> None:
    alice = register(client, verified=True)
    key = client.post("/v1/keys", {"name": "CI", "scopes": ["apps:read"]}, as_=alice).expect(201)[
        "key"
    ]
    db = client.env.db.connection()
    with db.write():
        limited = accounts.sign_in(
            client.env, db, Caller(), accounts.get(db, alice.id), '["apps:read"]'
        ).access_token
    for credential in (key, limited):
        client.post("/v1/auth/oauth/company", as_=credential).expect(403, "forbidden")
        client.delete("/v1/auth/oauth/company", as_=credential).expect(403, "forbidden")


def test_the_owner_is_told_of_a_new_way_in(browser: Browser) -> None:
    browser.sign_in("company").expect(200)
    bob = browser.client.register("bob")
    browser.sign_in("github", as_=bob).expect(200)
    told = browser.client.get("/v1/notifications", as_=bob).expect(200)["notifications"]
    assert [each["kind"] for each in told] == ["security.provider_linked"]
    assert "github was linked" in told[0]["text"]
    alice = browser.sign_in("company").expect(200)["access_token"]
    assert browser.client.get("/v1/notifications", as_=alice)["notifications"] == []


def test_whoever_made_an_account_with_somebody_elses_address_is_out_when_its_owner_comes(
    browser: Browser, issuer: Issuer
) -> None:
    client = browser.client
    mallory = register(client, verified=False)  # as alice@example.net
    issuer.person["email"] = "mallory@example.net"
    browser.sign_in("company", as_=mallory).expect(200)
    key = client.post(
        "/v1/keys", {"name": "way back", "scopes": ["apps:read"]}, as_=mallory
    ).expect(201)["key"]
    client.post("/v1/webhooks", {"url": "https://mallory.example/"}, as_=mallory).expect(201)
    reset_password(client, ALICE)
    client.get("/v1/auth/me", as_=mallory).expect(401)
    client.get("/v1/apps", as_=key).expect(401)
    assert client.env.db.connection().value("SELECT count(*) FROM webhooks") == 0
    assert browser.sign_in("company").expect(200)["developer"]["id"] != mallory.id


def reset_password(client: Client, email: str) -> None:
    """As the owner of the mailbox does it, with the link in the mail."""
    assert client.post("/v1/auth/password/forgot", {"email": email}).status < 300
    client.work()
    db = client.env.db.connection()
    ticket = db.value("SELECT id FROM tickets WHERE purpose = 'reset' ORDER BY id DESC LIMIT 1")
    token = tokens.make_ticket(client.env.secret, ticket)
    client.post(
        "/v1/auth/password/reset", {"token": token, "new_password": "another long password"}
    ).expect(204)


def test_a_session_that_has_ended_links_nothing(browser: Browser) -> None:
    alice = register(browser.client, verified=False)
    way_back = browser.walk(browser.begin("company", as_=alice))
    browser.client.post("/v1/auth/logout", as_=alice).expect(204)
    browser.call("GET", way_back).expect(400, "oauth_state_invalid")
    assert accounts_of(browser.client.env) == 1


def test_the_same_subject_at_another_issuer_is_somebody_else(
    browser: Browser, hub: GitHubShape, issuer: Issuer
) -> None:
    issuer.person |= {"sub": str(hub.user["id"]), "email": "carol@example.net"}
    ids = {browser.sign_in(name).expect(200)["developer"]["id"] for name in ("company", "github")}
    assert len(ids) == 2


def test_a_suspended_account_stays_out(browser: Browser) -> None:
    browser.sign_in("company").expect(200)
    browser.sign_in("company", "/console").expect(303)
    suspend(browser.client.env, ALICE)
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(403, "suspended")
    browser.sign_in("company").expect(403, "suspended")


def test_a_suspended_account_is_not_linked(browser: Browser) -> None:
    alice = register(browser.client, verified=True)
    suspend(browser.client.env, alice.email)
    browser.sign_in("company").expect(403, "suspended")
    assert (
        browser.sign_in("company", "/console")
        .headers["location"]
        .endswith("/console#sign_in_error=suspended")
    )
    assert browser.client.env.db.connection().value("SELECT count(*) FROM identities") == 0


class TestClosed:
    @pytest.fixture(params=["closed", "invite"])
    def settings(self, settings: dict[str, str], request: pytest.FixtureRequest) -> dict[str, str]:
        return settings | {"REGISTRATION": request.param}

    def test_strangers_stay_out_and_others_come_in(self, client: Client, browser: Browser) -> None:
        browser.sign_in("company").expect(403, "registration_closed")
        db = client.env.db.connection()
        with db.write():
            accounts.create(db, Caller(), ALICE, "Alice", None, verified=True)
        assert browser.sign_in("company").expect(200)["developer"]["providers"] == ["company"]


def test_the_trail_says_what_happened(browser: Browser) -> None:
    answer = browser.sign_in("company").expect(200)
    db = browser.client.env.db.connection()
    rows = db.all("SELECT action, owner_id, address FROM audit ORDER BY number")
    assert [row[0] for row in rows] == ["account.created", "identity.linked", "session.started"]
    assert {row[1:] for row in rows} == {(answer["developer"]["id"], "198.51.100.0/24")}
    assert audit.verify(db) == 3


def test_an_account_without_password_has_none_to_guess(browser: Browser) -> None:
    browser.sign_in("company").expect(200)
    browser.client.post("/v1/auth/login", {"email": ALICE, "password": PASSWORD}).expect(
        401, "invalid_credentials"
    )


def test_a_provider_is_unlinked_but_not_the_last_way_in(browser: Browser) -> None:
    alice = register(browser.client, verified=True)
    browser.sign_in("company").expect(200)
    browser.client.delete("/v1/auth/oauth/github", as_=alice).expect(404)
    browser.client.delete("/v1/auth/oauth/company").expect(401)
    browser.client.delete("/v1/auth/oauth/company", as_=alice).expect(204)
    assert browser.client.get("/v1/auth/me", as_=alice)["providers"] == ["password"]
    octocat = browser.sign_in("github").expect(200)["access_token"]
    browser.client.delete("/v1/auth/oauth/github", as_=octocat).expect(409, "last_way_in")
    browser.client.delete("/v1/auth/oauth/elsewhere", as_=octocat).expect(404)


class TestAdministrator:
    @pytest.fixture
    def settings(self, settings: dict[str, str]) -> dict[str, str]:
        return settings | {"ADMIN_EMAIL": "Alice@example.net"}

    def test_the_verified_address_of_the_administrator_is_admin(self, browser: Browser) -> None:
        assert browser.sign_in("company").expect(200)["developer"]["role"] == "admin"
        assert browser.sign_in("github").expect(200)["developer"]["role"] == "developer"


# -- the whole server


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
        issuer.person["email"] = "bob@example.net"
        jars = [CookieJar() for _ in range(12)]
        begun = [
            json.loads(ask("/v1/auth/oauth/company", {}, jar)[1])["redirect_url"] for jar in jars
        ]
        status, body = asked(
            "", begun[0], None, jars[0]
        )  # follows the redirect to the provider and the one back
        assert (status, json.loads(body)["developer"]["email"]) == (200, "bob@example.net")

        issuer.instead["/token"] = lambda request: time.sleep(4)
        with ThreadPoolExecutor(12) as pool:
            waiting = [
                pool.submit(asked, "", address, None, jar)
                for address, jar in zip(begun[1:], jars[1:], strict=True)
            ]
            while "/token" not in issuer.asked[-len(jars) :]:
                time.sleep(0.01)
            since = time.perf_counter()
            assert [ask("/healthz")[0] for _ in range(20)] == [200] * 20
            assert ask("/v1/auth/login", {"email": ALICE, "password": PASSWORD})[0] == 200
            assert time.perf_counter() - since < 2
            issuer.instead.clear()
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
            timeout=20,
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


# -- settings


def test_a_provider_of_which_a_part_is_missing_is_said() -> None:
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


def test_addresses_of_the_providers(env: Environment) -> None:
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
    settings: dict[str, str], env: Environment, monkeypatch: pytest.MonkeyPatch
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
    def call(port: int, method: str, path: str) -> int:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        finally:
            connection.close()

    def test_others_sign_in_and_read_metrics_meanwhile(
        self, env: Environment, issuer: Issuer
    ) -> None:
        gate = threading.Event()
        issuer.instead["/.well-known/openid-configuration"] = lambda _: gate.wait(20)
        with serving(env) as server, ThreadPoolExecutor(8) as pool:
            begin = ("POST", "/v1/auth/oauth/oidc")
            waiting = [pool.submit(self.call, server.port, *begin) for _ in range(8)]
            wait_until(lambda: len(issuer.asked) == 2, "two ask the issuer")
            for _ in range(3):
                assert self.call(server.port, "POST", "/v1/auth/oauth/github") == 200
                assert self.call(server.port, "GET", "/metrics") == 200
                # come back without a sign-in: in the same lane as the slow ones
                assert self.call(server.port, "GET", "/v1/auth/oauth/github/callback") == 400
            assert server.lanes["outside"].state[1] == 2
            assert len(issuer.asked) == 2
            assert not any(each.done() for each in waiting)
            gate.set()
            assert {each.result(20) for each in waiting} == {503}

    def test_all_get_their_turn_at_a_provider_that_is_only_slow(
        self, env: Environment, issuer: Issuer
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
            assert [each.result(20) for each in asked] == [200] * 6
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
        thread.join(10)
    assert seen[0].startswith(b"GET http://issuer.example/keys?a=1 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYSBzcw==\r\n" in seen[0]
    assert seen[1].startswith(b"CONNECT issuer.example:443 HTTP/1.1\r\n")
