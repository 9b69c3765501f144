"""How often: what is counted for whom, and that nobody can lock out somebody else."""

import pytest

from mosis.rate_limits import POLICIES, Limits
from tests.client import PASSWORD, Client


@pytest.fixture
def settings() -> dict[str, str]:
    return {"RATE_LIMITS": "on"}


def wrong(client: Client, email: str, address: str = "203.0.113.9") -> int:
    return client.post(
        "/v1/auth/login", {"email": email, "password": "not this one"}, address=address
    ).status


def test_every_answer_says_what_is_left(client: Client) -> None:
    alice = client.register()
    first, second = client.get("/v1/apps", as_=alice), client.get("/v1/apps", as_=alice)
    assert first.headers["ratelimit-policy"] == '"account";q=1200;w=60'
    assert (first.headers["ratelimit"], second.headers["ratelimit"]) == (
        '"account";r=1199;t=1',
        '"account";r=1198;t=1',
    )
    assert client.get("/v1/store/apps/nothing").headers["ratelimit"].startswith('"store"')
    assert client.get("/v1/nowhere").headers["ratelimit"].startswith('"address";r=59')
    assert "ratelimit" not in client.get("/healthz").headers


def test_an_answer_speaks_of_every_limit_that_it_counted_for(client: Client) -> None:
    body = {"email": "a@example.net", "password": "not this one"}
    first = client.post("/v1/auth/login", body).expect(401)
    assert first.headers["ratelimit-policy"] == (
        '"address";q=600;w=60, "sign_in";q=10;w=300, "sign_in_network";q=100;w=300, "sign_in_all";q=1200;w=60'
    )
    assert first.headers["ratelimit"].startswith(
        '"address";r=599;t=1, "sign_in";r=9;t=30, "sign_in_network";r=99;t=3, '
    )
    for _ in range(9):
        client.post("/v1/auth/login", body).expect(401)
    refused = client.post("/v1/auth/login", body).expect(429, "rate_limited")
    assert refused.headers["ratelimit-policy"] == '"address";q=600;w=60, "sign_in";q=10;w=300'
    assert (
        refused.headers["ratelimit"]
        == f'"address";r=589;t=2, "sign_in";r=0;t={refused.headers["retry-after"]}'
    )
    registered = client.post(
        "/v1/auth/register", {"email": "a@example.net", "password": PASSWORD, "name": "A"}
    ).expect(201)
    assert '"registration";r=19;t=180' in registered.headers["ratelimit"]


def test_a_refusal_speaks_of_the_limit_that_refuses(client: Client) -> None:
    for _ in range(POLICIES["address"].quota):
        client.get("/v1/auth/me").expect(401)
    refused = client.get("/v1/auth/me").expect(429, "rate_limited")
    assert (refused.headers["ratelimit-policy"], refused.headers["ratelimit"]) == (
        '"address";q=600;w=60',
        '"address";r=0;t=1',
    )


def test_a_thousand_wrong_passwords_meet_a_wall_and_the_owner_does_not(client: Client) -> None:
    alice = client.register()
    statuses = [wrong(client, alice.email) for _ in range(1000)]
    assert statuses.count(401) == POLICIES["sign_in"].quota
    assert statuses.count(429) == 1000 - POLICIES["sign_in"].quota
    client.post("/v1/auth/login", {"email": alice.email, "password": PASSWORD}).expect(
        200
    )  # from her own network
    refused = client.post(
        "/v1/auth/login",
        {"email": alice.email.upper(), "password": PASSWORD},
        address="203.0.113.200",
    )
    assert 1 <= int(refused.expect(429, "rate_limited").headers["retry-after"]) <= 30


def test_behind_one_address_one_user_does_not_lock_out_the_others(client: Client) -> None:
    alice, bob = client.register("alice"), client.register("bob")
    for _ in range(20):
        wrong(client, alice.email, "198.51.100.7")
    client.post("/v1/auth/login", {"email": bob.email, "password": PASSWORD}).expect(200)


def test_a_network_that_tries_many_accounts_is_stopped(client: Client) -> None:
    statuses = [
        wrong(client, f"{number}@example.net")
        for number in range(POLICIES["sign_in_network"].quota + 5)
    ]
    assert statuses[-5:] == [429] * 5
    assert set(statuses[:-5]) == {401}


def test_registrations_mails_and_codes_have_buckets_of_their_own(client: Client) -> None:
    for _ in range(POLICIES["mail"].quota):
        client.post("/v1/auth/password/forgot", {"email": "a@example.net"}).expect(202)
    client.post(
        "/v1/auth/password/forgot", {"email": "A@example.net"}, address="203.0.113.9"
    ).expect(429, "rate_limited")
    client.post("/v1/auth/password/forgot", {"email": "b@example.net"}).expect(202)
    alice = client.register()
    for _ in range(POLICIES["guess"].quota):
        client.get("/v1/auth/device/BBBB-CCCC", as_=alice).expect(404)
    client.get("/v1/auth/device/BBBB-CCCC", as_=alice).expect(429)
    client.get("/v1/apps", as_=alice).expect(200)


def test_rubbish_credentials_count_for_the_address(client: Client) -> None:
    statuses = [
        client.get("/v1/apps", as_="rubbish").status for _ in range(POLICIES["address"].quota + 3)
    ]
    assert (statuses[0], statuses[-1]) == (401, 429)
    client.get("/v1/store/apps").expect(200)
    client.get("/v1/auth/me", address="203.0.113.9").expect(401)


def test_addresses_that_do_not_exist_count_too(client: Client) -> None:
    quota = POLICIES["address"].quota
    asked = (("GET", "/v1/nowhere"), ("POST", "/healthz"), ("HEAD", "/nothing"), ("DELETE", "/"))
    limits = client.env.limits
    for number in range(20):
        client.call(*asked[number % len(asked)], address="203.0.113.9")
    taken = limits.take("address", "203.0.113.9")
    assert taken is not None
    assert taken.left <= quota - 20
    limits.take("address", "203.0.113.9", taken.left)
    refused = client.get("/nowhere", address="203.0.113.9").expect(429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["ratelimit"].startswith('"address";r=0;')
    client.call("PUT", "/v1/apps", address="203.0.113.9").expect(429, "rate_limited")
    client.get("/nowhere", address="203.0.113.10").expect(404)
    client.get("/v1/store/apps", address="203.0.113.9").expect(200)


def test_an_ipv6_network_is_one_address(client: Client) -> None:
    quota = POLICIES["address"].quota
    for number in range(quota):
        client.get("/v1/auth/me", address=f"2001:db8:1:1::{number:x}").expect(401)
    client.get("/v1/auth/me", address="2001:db8:1:1:ffff::1").expect(429)
    client.get("/v1/auth/me", address="2001:db8:1:2::1").expect(401)


class TestBehindAProxy:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"RATE_LIMITS": "on", "TRUSTED_PROXY": "10.0.0.0/8,192.0.2.1"}

    @pytest.mark.parametrize(("peer", "forwarded", "network"), [
        ("10.0.0.1", "203.0.113.9", "203.0.113.0/24"),
        ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.0/24"),
        ("10.0.0.1", "[2001:db8:1:2::3]", "2001:db8:1::/48"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9, 192.0.2.1, 10.9.9.9", "203.0.113.0/24"),
        ("10.0.0.1", "203.0.113.9, rubbish", "10.0.0.0/24"),
        ("10.0.0.1", "203.0.113.9, evil, 192.0.2.1", "192.0.2.0/24"),
        ("10.0.0.1", "", "10.0.0.0/24"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.0/24"),
    ])  # fmt: skip
    def test_the_address_is_the_last_that_no_trusted_proxy_has(
        self, client: Client, peer: str, forwarded: str, network: str
    ) -> None:
        body = {"email": "a@example.net", "password": PASSWORD, "name": "A"}
        client.post(
            "/v1/auth/register", body, address=peer, headers={"X-Forwarded-For": forwarded}
        ).expect(201)
        assert client.env.db.connection().value("SELECT address FROM sessions") == network

    def test_each_address_has_its_own_limit(self, client: Client) -> None:
        for number in range(POLICIES["sign_in_network"].quota):
            body = {"email": f"{number}@example.net", "password": "not this one"}
            client.post(
                "/v1/auth/login",
                body,
                address="10.0.0.1",
                headers={"X-Forwarded-For": "::ffff:203.0.113.9"},
            ).expect(401)
        client.post(
            "/v1/auth/login",
            body,
            address="10.0.0.1",
            headers={"X-Forwarded-For": "::ffff:203.0.113.8"},
        ).expect(429)
        client.post(
            "/v1/auth/login",
            body,
            address="10.0.0.1",
            headers={"X-Forwarded-For": "::ffff:198.51.100.8"},
        ).expect(401)


def test_a_bucket_fills_again_evenly() -> None:
    now = [0.0]
    limits = Limits(clock=lambda: now[0])
    for _ in range(10):
        assert limits.take("sign_in", "x") is not None
    now[0] += 30  # 10 in 300 seconds: one each 30
    assert limits.take("sign_in", "x") is not None
    assert Limits(on=False).take("sign_in", "x") is None
