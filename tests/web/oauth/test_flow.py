"""Sign-in at a provider: the whole flow with real servers, and the attacks on it."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client import PASSWORD, Client
from tests.conftest import FakeClock
from tests.providers import (
    Browser,
    GitHubShape,
    Issuer,
    changed,
)
from tests.web.oauth.conftest import ALICE, BASE_URL, accounts_of, verify_address


@pytest.mark.slow
class TestRealProvider:
    """Against a certified provider, which checks PKCE, redirect address and client, and has forms and cookies of its own."""

    @pytest.fixture(params=["RS256", "ES256", "EdDSA"])
    def algorithm(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def settings(self, provider: str, algorithm: str, clock: FakeClock) -> dict[str, str]:
        clock.at = time.time()
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


def test_a_stored_result_is_for_one_browser_once_and_for_a_minute(
    client: Client, browser: Browser, clock: FakeClock
) -> None:
    browser.sign_in("company", "/console").expect(303)
    other = Browser(client)
    other.begin("company")
    other.call("POST", "/v1/auth/oauth/company/collect").expect(400, "oauth_state_invalid")
    browser.call("POST", "/v1/auth/oauth/github/collect").expect(400, "oauth_state_invalid")
    stored = dict(browser.cookies)
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(200)
    browser.cookies = stored
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(400, "oauth_state_invalid")
    browser.sign_in("company", "/console").expect(303)
    clock.advance(60)
    browser.call("POST", "/v1/auth/oauth/company/collect").expect(400, "oauth_state_invalid")


def test_a_stored_result_ends_with_the_sessions(browser: Browser) -> None:
    alice = browser.client.register("alice")
    verify_address(browser.client.env, alice.email)
    browser.call("GET", browser.walk(browser.begin("company", return_to="/docs/errors"))).expect(
        303
    )
    body = {"current_password": PASSWORD, "new_password": "another long password"}
    browser.client.post("/v1/auth/password", body, as_=alice).expect(204)
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
    stored = dict(browser.cookies)
    browser.call("GET", way_back).expect(200)
    browser.call("GET", way_back).expect(400, "oauth_state_invalid")
    browser.cookies = stored
    browser.call("GET", way_back).expect(400, "oauth_state_invalid")


def test_of_the_same_answer_twice_at_once_one_wins(browser: Browser) -> None:
    way_back = browser.walk(browser.begin("company"))
    headers = {"Cookie": f"mosis_sign_in={browser.cookies['mosis_sign_in']}"}
    with ThreadPoolExecutor(4) as pool:
        statuses = list(
            pool.map(lambda _: browser.client.get(way_back, headers=headers).status, range(4))
        )
    assert statuses.count(200) == 1
    assert statuses.count(400) == 3


def test_an_answer_that_found_no_place_can_be_brought_again(browser: Browser) -> None:
    way_back = browser.walk(browser.begin("company"))
    company = browser.client.env.providers["company"]
    assert company.enter()
    assert company.enter()
    browser.call("GET", way_back).expect(503, "provider_unavailable")
    company.leave()
    browser.call("GET", way_back).expect(200)
    company.leave()


def test_a_code_that_was_used_is_refused_by_the_provider_too(client: Client) -> None:
    browser = Browser(client)
    first = browser.walk(browser.begin("company"))
    browser.call("GET", first).expect(200)
    second = browser.walk(browser.begin("company"))
    code = dict(pair.split("=") for pair in first.partition("?")[2].split("&"))["code"]
    browser.call("GET", changed(second, code=code)).expect(403, "provider_refused")


def test_a_sign_in_waits_ten_minutes(browser: Browser, clock: FakeClock) -> None:
    way_back = browser.walk(browser.begin("company"))
    clock.advance(600)
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


STRANGE = [
    "", "code=a", "state=", "state=a&state=b&code=c", "code=a&code=b&state=c", "code=a%0d%0ab&state=c", "code=%C3%A9&state=c",
    "iss=a&iss=b&state=c", "code=" + "a" * 9000 + "&state=c",
]  # fmt: skip


def test_strange_ways_back_are_refused(client: Client, issuer: Issuer) -> None:
    for query in STRANGE:
        browser = Browser(client)
        browser.begin("company")
        answer = browser.call("GET", f"/v1/auth/oauth/company/callback?{query}")
        assert answer.status == 400, query
    assert "/token" not in issuer.asked


@pytest.mark.parametrize("twice", ["code", "state", "iss"])
def test_a_parameter_that_stands_twice_is_refused(browser: Browser, twice: str) -> None:
    way_back = browser.walk(browser.begin("company"))
    browser.call("GET", f"{way_back}&{twice}=another").expect(400, "malformed_request")
    browser.call("GET", way_back).expect(200)  # and nothing was spent


def test_neither_code_nor_error_is_refused(browser: Browser) -> None:
    way_back = browser.walk(browser.begin("company"))
    browser.call("GET", changed(way_back, code=None)).expect(403, "provider_refused")


ELSEWHERE = [
    "//evil.test", "https://evil.test", "/\\evil.test", "\\\\evil.test", "/a//b", "javascript:alert(1)", "evil.test", "",
    "/a\r\nSet-Cookie: a=b", "/a\n", "/a\tb", "/a b", "/a#sign_in=github", "/é", "/\x00", "/a\x7f", "/" + "a" * 2000, 7,
]  # fmt: skip


def test_nobody_is_sent_elsewhere(client: Client) -> None:
    for return_to in ELSEWHERE:
        answer = client.post("/v1/auth/oauth/company", {"return_to": return_to})
        assert (answer.status, answer["code"]) == (422, "invalid"), return_to
        assert answer.finding("/return_to"), return_to


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
