"""A portal under a path of its host: every address that it gives out has the path, with and without a proxy that takes it off."""

import re
from urllib.parse import urljoin

import pytest

import portal
from mosis import problems
from mosis.config import Config, ConfigError
from mosis.context import Context
from tests.client import Client

BASE = "https://apps.example.org/sub/store-1"
PREFIX = "/sub/store-1"


@pytest.fixture
def settings() -> dict[str, str]:
    return {"BASE_URL": BASE + "/"}


@pytest.fixture(autouse=True)
def _documents_as_before():
    yield
    problems.document_errors_under("")


@pytest.mark.parametrize("sent", ["", PREFIX], ids=["taken off", "passed on"])
def test_addresses_have_the_path_of_the_portal(client: Client, sent: str) -> None:
    alice = client.register()
    for number in range(3):
        body = {"package_id": f"com.acme.n{number}", "name": "Notes"}
        made = client.post(f"{sent}/v1/apps", body, as_=alice).expect(201)
        assert made.headers["location"] == f"{PREFIX}/v1/apps/com.acme.n{number}"
    for version in ("/v1", ""):
        listed = client.get(f"{sent}{version}/apps?limit=1", as_=alice).expect(200)
        assert listed.headers["link"].startswith(f"<{PREFIX}{version}/apps?limit=1&cursor=")
    missing = client.get(f"{sent}/v1/apps/none", as_=alice).expect(404)
    assert missing["type"] == f"{PREFIX}/docs/errors#not_found"
    assert client.get(f"{sent}/none").expect(404)["type"] == missing["type"]
    begun = client.post(f"{sent}/v1/auth/device", {"client_name": "x", "scopes": ["apps:read"]})
    assert begun["verification_uri"].startswith(f"{BASE}/console/device")
    assert client.get(f"{sent}/openapi.json")["servers"] == [{"url": BASE}]


@pytest.mark.parametrize("sent", ["", PREFIX], ids=["taken off", "passed on"])
def test_pages_lead_to_pages_of_the_portal(client: Client, sent: str) -> None:
    for page in ("/docs", "/docs/errors", "/docs/API", "/", "/console/sign-in"):
        shown = client.get(sent + page).expect(200).body.decode()
        links = re.findall(r'(?:href|src)="([^"#]+)', shown)
        for link in links:
            if not link.startswith("http"):
                address = urljoin(BASE + page, link)
                assert address.startswith(BASE + "/"), (page, link)
                led_to = client.get(address.removeprefix("https://apps.example.org"))
                assert led_to.status in (200, 303), (page, link)  # the console asks for a sign-in
    decision = client.get(f"{sent}/docs/decisions/README").expect(200).body.decode()
    assert 'href="../../docs/errors"' in decision


def test_kept_answers_are_the_same_on_all_addresses(client: Client) -> None:
    bodies = {
        client.get(f"{prefix}{version}/store/apps").expect(200).body
        for prefix in ("", PREFIX)
        for version in ("", "/v1")
    }
    assert len(bodies) == 1
    client.get("/sub/store-12/store/apps").expect(404)
    client.get(f"{PREFIX}{PREFIX}/store/apps").expect(404)
    client.get(PREFIX).expect(200)


@pytest.mark.parametrize("path", ["/v1", "/store", "/apps/x", "/docs", "/healthz"])
def test_a_path_that_hides_an_address_of_the_portal_is_refused(
    env: Context, path: str, tmp_path: object
) -> None:
    from dataclasses import replace

    config = replace(env.config, base_url="https://apps.example.org" + path)
    with pytest.raises(ConfigError, match="BASE_URL"):
        portal.build(replace(env, config=config))


@pytest.mark.parametrize(("value", "expected"), [
    ("https://Apps.Example.ORG/", "https://apps.example.org"), ("HTTPS://a.b", "https://a.b"), ("http://localhost:8080", "http://localhost:8080"),
    ("http://[2001:DB8::1]:80", "http://[2001:db8::1]:80"), ("https://xn--r8jz45g.example", "https://xn--r8jz45g.example"),
    ("https://a.b/Sub//", "https://a.b/Sub"), (" ", "http://localhost:8080"), ("", "http://localhost:8080"),
])  # fmt: skip
def test_forms_of_base_url(value: str, expected: str) -> None:
    assert Config.read({"BASE_URL": value}).base_url == expected


@pytest.mark.parametrize("value", [
    "https://例え.example", "https://user@a.b", "https://user:pw@a.b", "https://a.b?", "https://a.b?x=1", "https://a.b#x", "https://a.b/#",
    "ftp://a.b", "a.b", "//a.b", "https://", "https:///x", "https://a.b:0", "https://a.b:99999", "https://a.b:x", "https://a b", " https://a.b",
    "https://a.b ", "https://a.b/x y", "https://a.b\\x", "https://a.b/../x", "https://a.b/%2e", "https://a..b", "https://-a.b", "https://[::1",
    "https://[x]", "https://a.b\n", "https://a.b/ä", "https://a.b/x/./y",
])  # fmt: skip
def test_a_base_url_that_clients_would_read_in_two_ways_is_refused(value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.read({"BASE_URL": value})
    assert "BASE_URL" in refused.value.complaints[0]
    if "例" in value:
        assert "xn--r8jz45g.example" in refused.value.complaints[0]
