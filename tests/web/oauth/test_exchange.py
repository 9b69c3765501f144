"""An ID token of a certified provider is exchanged for a token of one app."""

import base64
import hashlib
import json
import time
import urllib.request
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from tests.client import Client
from tests.conftest import FakeClock
from tests.providers import Browser
from tests.web.oauth.conftest import BASE_URL
from tests.web.test_trusted_publishers import NOTES, Build, trust

pytestmark = pytest.mark.slow
SECRET = "a secret: with / signs & spaces"
BACK = f"{BASE_URL}/v1/auth/oauth/company/callback"


class TestACertifiedIssuer:
    @pytest.fixture
    def settings(self, clock: FakeClock) -> dict[str, str]:
        clock.at = time.time()  # the provider has a clock of its own
        return {"WEBHOOKS_PRIVATE": "allow"}

    def test_its_id_token_is_exchanged_once(
        self, client: Client, provider: str, clock: FakeClock
    ) -> None:
        alice = client.register("alice")
        client.app_of(alice)
        token = id_token(client, provider)
        claims = jwt.decode(token, options={"verify_signature": False})
        assert (claims["aud"], claims["repository_id"]) == (BASE_URL, "74")
        build = Build(client, clock, None, {})  # type: ignore[arg-type]
        build.exchange(token).expect(400, "invalid_grant")
        trust(client, alice, provider, {"repository_id": "75"}).expect(201)
        build.exchange(token).expect(400, "invalid_grant")
        trust(client, alice, provider, {"repository_id": "74", "sub": "alice"}).expect(201)
        access = build.exchange(token).expect(200)["access_token"]
        build.exchange(token).expect(400, "invalid_grant")
        package = client.package(alice, NOTES)
        client.upload(NOTES, package, as_=access).expect(201)


def id_token(client: Client, provider: str) -> str:
    """Walk through the provider's pages as a build server would, with the portal's address as client id."""
    verifier = "v" * 64
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "client_id": BASE_URL, "redirect_uri": BACK, "response_type": "code", "scope": "openid", "state": "s",
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="), "code_challenge_method": "S256",
    }  # fmt: skip
    way_back = Browser(client).walk(f"{provider}/auth?{urlencode(asked)}")
    code = parse_qs(urlsplit(way_back).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": BACK,
        "code_verifier": verifier,
    }
    pair = ":".join(urlencode({"": each})[1:] for each in (BASE_URL, SECRET))
    basic = base64.b64encode(pair.encode()).decode()
    request = urllib.request.Request(
        f"{provider}/token", urlencode(form).encode(), {"Authorization": f"Basic {basic}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["id_token"])
