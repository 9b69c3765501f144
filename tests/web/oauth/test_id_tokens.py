"""ID tokens and userinfo: what is not signed for this portal opens nothing."""

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from tests.client import Client
from tests.conftest import FakeClock
from tests.providers import (
    Browser,
    Issuer,
    public_jwk,
    rsa_key,
    signed,
)
from tests.web.oauth.conftest import ALICE, accounts_of


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
    "expired": lambda claims: signed(claims | {"exp": claims["iat"] - 301}),
    "without an end": lambda claims: signed(
        {name: value for name, value in claims.items() if name != "exp"}
    ),
    "an end that is no number": lambda claims: signed(claims | {"exp": None}),
    "an end that is not a number": lambda claims: signed(claims | {"exp": float("nan")}),
    "made in the future": lambda claims: signed(claims | {"iat": claims["iat"] + 302}),
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


def test_forged_id_tokens_are_refused(client: Client, issuer: Issuer) -> None:
    for forgery, sign in FORGERIES.items():
        issuer.sign = sign
        refused = Browser(client).sign_in("company")
        assert (refused.status, refused["code"]) == (403, "provider_answer_invalid"), forgery
    assert accounts_of(client.env) == 0


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
            "iat": claims["iat"] + 299,
            "exp": claims["iat"] - 298,
        }
    )
    browser.sign_in("company").expect(200)


def test_a_new_key_of_the_issuer_is_found_and_an_old_one_dies(
    browser: Browser, issuer: Issuer, clock: FakeClock
) -> None:
    browser.sign_in("company").expect(200)
    issuer.keys = [public_jwk(rsa_key("next"), kid="next")]
    issuer.sign = lambda claims: signed(claims, rsa_key("next"), kid="next")
    browser.sign_in("company").expect(
        403, "provider_answer_invalid"
    )  # asked a moment ago: nobody makes us ask at every try
    clock.advance(30)
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
    issuer.user = {"sub": "7f"}
    issuer.userinfo = {
        "sub": "7f",
        "email": ALICE,
        "email_verified": "true",
        "preferred_username": "ali\u200bce",
    }
    answer = browser.sign_in("company").expect(200)
    assert (answer["developer"]["email"], answer["developer"]["name"]) == (ALICE, "alice")


def test_userinfo_about_somebody_else_is_not_believed(browser: Browser, issuer: Issuer) -> None:
    issuer.user = {"sub": "7f"}
    issuer.userinfo = {"sub": "80", "email": ALICE, "email_verified": True}
    browser.sign_in("company").expect(403, "provider_answer_invalid")
