"""The forms in which issuers write their claims and metadata: those that are accepted, and the errors for others."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from mosis.credentials.oauth.signed_claims import LEEWAY_SECONDS
from tests.client import Client
from tests.conftest import FakeClock
from tests.providers import Browser, Issuer, public_jwk, rsa_key, signed
from tests.web.oauth.conftest import ALICE, accounts_of


def written(payload: str, header: str = '{"alg":"RS256","kid":"first"}') -> str:
    """A well-signed token of texts that no JSON writer would write."""
    parts = [base64.urlsafe_b64encode(each.encode()).rstrip(b"=") for each in (header, payload)]
    text = b".".join(parts)
    key = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(key.sign(text, rsa_key())).rstrip(b"=")
    return (text + b"." + signature).decode()


def twice(name: str, other: Any) -> Callable[[dict[str, Any]], str]:
    """A token with a claim twice."""
    return lambda claims: written(
        json.dumps(claims)[:-1] + f", {json.dumps(name)}: {json.dumps(other)}}}"
    )


def with_claims(**changes: Any) -> Callable[[dict[str, Any]], str]:
    return lambda claims: signed(claims | changes)


def with_text(text: str) -> Callable[[dict[str, Any]], str]:
    return lambda claims: written(text)


def moved(name: str, seconds: float, kind: Callable[[Any], Any] = float) -> Callable[..., str]:
    """A token with a time so many seconds from when it was made."""
    return lambda claims: written(json.dumps(claims | {name: kind(claims["iat"] + seconds)}))


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    **{
        f"{name} twice": (twice(name, "x"), "not acceptable JSON")
        for name in ("sub", "aud", "iss", "nonce", "email", "exp")
    },
    "alg twice": (
        lambda claims: written(json.dumps(claims), '{"alg":"none","alg":"RS256","kid":"first"}'),
        "has header that",
    ),
    "NaN": (with_text('{"exp": NaN}'), "not acceptable JSON"),
    "a list": (with_text("[]"), "not a JSON object"),
    "a text": (with_text('"x"'), "not a JSON object"),
    "no JSON": (with_text("x"), "not acceptable JSON"),
    "five parts": (lambda claims: "a.b.c.d.e", "not a signed JWT"),
    "two parts": (lambda claims: "a.b", "not a signed JWT"),
    "alg that is no text": (
        lambda claims: written(json.dumps(claims), '{"alg":["RS256"]}'),
        "one of the algorithms",
    ),
    "alg null": (
        lambda claims: written(json.dumps(claims), '{"alg":null}'),
        "one of the algorithms",
    ),
    "alg in small letters": (
        lambda claims: written(json.dumps(claims), '{"alg":"rs256"}'),
        "one of the algorithms",
    ),
    **{
        f"sub {sub!r}": (lambda claims, sub=sub: written(json.dumps(claims | {"sub": sub})), reason)
        for sub, reason in (
            (7, "sub that is not a text"),
            (7.5, "sub that is not a text"),
            (True, "sub that is not a text"),
            (["7f"], "sub that is not a text"),
            ({"a": 1}, "sub that is not a text"),
            ("", "has no sub"),
            (None, "has no sub"),
            ("ü", "sub that is not a text"),
        )
    },
    **{
        f"no {name}": (
            lambda claims, name=name: written(
                json.dumps({k: v for k, v in claims.items() if k != name})
            ),
            f"has no {name}",
        )
        for name in ("iss", "aud", "sub", "exp", "iat", "nonce")
    },
    **{
        f"{name} null": (with_claims(**{name: None}), f"has no {name}")
        for name in ("aud", "exp", "iat", "nonce")
    },
    **{
        f"{name} a text": (
            moved(name, 0, lambda at: str(int(at))),
            f"has an {name} that is not a number",
        )
        for name in ("exp", "iat", "nbf")
    },
    **{
        f"{name} true": (with_claims(**{name: True}), f"has an {name} that is not a number")
        for name in ("exp", "iat", "nbf")
    },
    "expired": (moved("exp", -LEEWAY_SECONDS), "has expired"),
    "expired by a fraction": (moved("exp", -LEEWAY_SECONDS - 0.5), "has expired"),
    "made in the future": (moved("iat", LEEWAY_SECONDS + 1), "future (iat)"),
    "not yet good": (moved("nbf", LEEWAY_SECONDS + 1), "future (nbf)"),
    "aud empty": (with_claims(aud=[]), "has no aud"),
    "aud of others": (with_claims(aud=["a", "b"]), "another audience"),
    "aud a number": (with_claims(aud=7), "another audience"),
    "aud an object": (with_claims(aud={"portal": 1}), "another audience"),
    "aud a part": (with_claims(aud="portals"), "another audience"),
    "aud a list in a list": (with_claims(aud=[["portal"]]), "another audience"),
    "azp missing": (with_claims(aud=["portal", "b"]), "does not say in azp"),
    "azp null": (with_claims(aud=["portal", "b"], azp=None), "does not say in azp"),
    "azp of another": (with_claims(azp="b"), "another client in azp"),
    "azp empty": (with_claims(azp=""), "another client in azp"),
    "azp a list": (with_claims(azp=["portal"]), "another client in azp"),
    "iss with a slash": (
        lambda claims: signed(claims | {"iss": claims["iss"] + "/"}),
        "another slash at its end",
    ),
    "iss in capitals": (
        lambda claims: signed(claims | {"iss": claims["iss"].upper()}),
        "another issuer",
    ),
    "iss a list": (
        lambda claims: written(json.dumps(claims | {"iss": [claims["iss"]]})),
        "another issuer",
    ),
}


def test_a_token_that_is_not_believed_says_why(client: Client, issuer: Issuer) -> None:
    for form, (sign, reason) in REFUSED.items():
        issuer.sign = sign
        refused = Browser(client).sign_in("company")
        assert (refused.status, refused["code"]) == (403, "provider_answer_invalid"), form
        assert reason in refused["detail"], form
    assert accounts_of(client.env) == 0


TAKEN: dict[str, Callable[[dict[str, Any]], str]] = {
    "one audience in a list": with_claims(aud=["portal"]),
    "several with azp": with_claims(aud=["b", "portal"], azp="portal"),
    "azp null": with_claims(azp=None),
    "nbf null": with_claims(nbf=None),
    "fractions": lambda claims: signed(
        claims | {name: claims[name] + 0.75 for name in ("iat", "exp")} | {"nbf": claims["iat"]}
    ),
    "floats": lambda claims: written(
        json.dumps(claims | {"exp": float(claims["exp"]), "iat": 1e9})
    ),
    "a clock that is ahead": moved("iat", LEEWAY_SECONDS),
    "a clock that is behind": moved("exp", 1 - LEEWAY_SECONDS),
    "good soon": moved("nbf", LEEWAY_SECONDS),
    "names that are null": with_claims(name=None, preferred_username=None),
    "names that are empty": with_claims(name="", preferred_username=""),
    "names that are no texts": with_claims(name=7, preferred_username=["x"]),
    "names that are invisible": with_claims(name="\u200b", preferred_username="\u202e"),
    "claims of other kinds": with_claims(
        groups=[None, {"a": 1}], address=None, updated_at="x", auth_time="1"
    ),
}


@pytest.mark.parametrize("form", TAKEN)
def test_a_token_in_another_form_is_read(browser: Browser, issuer: Issuer, form: str) -> None:
    issuer.sign = TAKEN[form]
    signed_in = browser.sign_in("company").expect(200)
    assert signed_in["developer"]["email"] == ALICE
    assert signed_in["developer"]["name"]


@pytest.mark.parametrize(
    ("value", "verified"),
    [
        (True, True),
        ("true", True),
        (False, False),
        ("false", False),
        (1, False),
        (0, False),
        ("1", False),
        ("True", False),
        ("yes", False),
        ("", False),
        (None, False),
        ([True], False),
        ({}, False),
    ],
)
def test_an_address_counts_as_verified_only_where_the_provider_says_true(
    browser: Browser, issuer: Issuer, value: Any, verified: bool
) -> None:
    issuer.user["email_verified"] = value
    answer = browser.sign_in("company")
    if value in (None, "") and not isinstance(value, (bool, int)):  # it does not say
        assert answer.expect(200)["developer"]["email_verified"] is False
    elif verified:
        assert answer.expect(200)["developer"]["email_verified"] is True
    else:
        assert answer.expect(409, "email_not_verified")["side"] == "provider"


MORE = {"sub": "7f", "email": ALICE, "email_verified": True, "name": "Alice"}


def as_token(claims: dict[str, Any], key: Any = None) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/jwt"}, signed(claims, key).encode()


@pytest.mark.parametrize("account", [{"sub": "7f"}, {"sub": "7f", "email": ALICE}])
@pytest.mark.parametrize("sub", ["80", "7F", "7f ", 7, True, ["7f"], {"7f": 1}])
def test_userinfo_about_another_subject_refuses_the_sign_in(
    browser: Browser, issuer: Issuer, account: dict[str, Any], sub: Any
) -> None:
    issuer.user, issuer.userinfo = account, MORE | {"sub": sub}
    refused = browser.sign_in("company").expect(403, "provider_answer_invalid")
    assert "another subject" in refused["detail"]
    assert accounts_of(browser.client.env) == 0


UNUSABLE: dict[str, tuple[int, dict[str, str], Any]] = {
    "401": (401, {"WWW-Authenticate": "Bearer"}, {"error": "invalid_token"}),
    "404": (404, {}, b"<html>"),
    "a page": (200, {"Content-Type": "text/html"}, b"<html>a.b.c</html>"[:6]),
    "an empty body": (200, {}, b""),
    "a list": (200, {}, [MORE]),
    "keys twice": (200, {}, b'{"sub": "7f", "sub": "7f", "email": "x@example.net"}'),
    "no sub": (200, {}, {"email": "mallory@example.net", "email_verified": True}),
    "an empty sub": (200, {}, MORE | {"sub": "", "email": "mallory@example.net"}),
}


@pytest.mark.parametrize("form", UNUSABLE)
def test_userinfo_that_cannot_be_used_adds_nothing(
    browser: Browser, issuer: Issuer, form: str
) -> None:
    issuer.instead["/userinfo"] = UNUSABLE[form]
    issuer.user = {"sub": "7f", "email": ALICE}
    developer = browser.sign_in("company").expect(200)["developer"]
    assert (developer["email"], developer["email_verified"]) == (ALICE, False)
    issuer.user = {"sub": "80"}
    browser.sign_in("company").expect(409, "email_not_verified")


def test_userinfo_may_be_signed(browser: Browser, issuer: Issuer) -> None:
    issuer.user = {"sub": "7f"}
    issuer.instead["/userinfo"] = as_token(MORE | {"iss": issuer.url, "aud": ["portal"]})
    assert browser.sign_in("company").expect(200)["developer"]["email_verified"] is True
    issuer.instead["/userinfo"] = as_token(MORE)
    browser.sign_in("company").expect(200)


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({}, "foreign", "none of the issuer's keys fits"),
        ({"iss": "https://evil.test"}, "", "another issuer"),
        ({"aud": "b"}, "", "another audience"),
        ({"sub": "80"}, "", "another subject"),
    ],
)
def test_signed_userinfo_of_somebody_else_refuses_the_sign_in(
    browser: Browser, issuer: Issuer, changes: dict[str, Any], key: str, message: str
) -> None:
    issuer.user = {"sub": "7f", "email": ALICE}
    issuer.instead["/userinfo"] = as_token(MORE | changes, rsa_key(key) if key else None)
    assert message in browser.sign_in("company").expect(403, "provider_answer_invalid")["detail"]


@pytest.mark.parametrize(
    "changes",
    [
        {"token_endpoint_auth_methods_supported": None},
        {"token_endpoint_auth_methods_supported": []},
        {"userinfo_endpoint": None},
        {"userinfo_endpoint": ""},
        {"token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_post", 7]},
        {"scopes_supported": None, "claims_supported": "x", "": 1},
        {"authorization_response_iss_parameter_supported": "true"},
        {"id_token_signing_alg_values_supported": ["RS256", None]},
    ],
)
def test_metadata_in_other_forms_is_read(
    browser: Browser, issuer: Issuer, changes: dict[str, Any]
) -> None:
    issuer.metadata = changes
    browser.sign_in("company").expect(200)


def test_metadata_that_leads_nowhere_is_503(
    client: Client, issuer: Issuer, clock: FakeClock
) -> None:
    for changes in (
        {"issuer": None},
        {"issuer": ""},
        {"issuer": 7},
        {"token_endpoint": None},
        {"token_endpoint": "/token"},
        {"jwks_uri": ["http://127.0.0.1/keys"]},
        {"jwks_uri": "http://127.0.0.1:1/a b"},
        {"token_endpoint": "http://127.0.0.1:99999/"},
        {"token_endpoint": "http://[::1/"},
        {"token_endpoint": "http:///x"},
        {"token_endpoint": "http://127.0.0.1/\r\nX: 1"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"userinfo_endpoint": 7},
        {"authorization_endpoint": "http://127.0.0.1/#x"},
        {"token_endpoint_auth_methods_supported": ["private_key_jwt"]},
        {"token_endpoint_auth_methods_supported": "client_secret_basic"},
        {"token_endpoint_auth_methods_supported": {"client_secret_basic": 1}},
        {"userinfo_endpoint": "ftp://127.0.0.1/"},
        {"token_endpoint": "http://ü.test/"},
    ):
        issuer.metadata = changes
        refused = client.post("/v1/auth/oauth/company")
        assert (refused.status, refused["code"]) == (503, "provider_unavailable"), changes
        assert "try again" in refused["detail"]
        clock.advance(5)
    assert issuer.asked == ["/.well-known/openid-configuration"] * 19


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
def test_documents_that_are_none_are_refused(
    client: Client, issuer: Issuer, clock: FakeClock, path: str
) -> None:
    bodies = (b"", b"[]", b"{", b"\xff", b'{"issuer": 1, "issuer": 2}', b"<html>", b"null", b"NaN")
    for body in bodies:
        issuer.instead[path] = 200, {}, body
        if path.startswith("/.well"):
            answer = client.post("/v1/auth/oauth/company")
        else:
            answer = Browser(client).sign_in("company")
        status, code = (
            (403, "provider_answer_invalid") if path == "/token" else (503, "provider_unavailable")
        )
        assert (answer.status, answer["code"]) == (status, code), body
        clock.advance(5)
    assert issuer.asked.count(path) == len(bodies)
    assert accounts_of(client.env) == 0


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [None],
        ["x"],
        [7, {}],
        [{"kty": "RSA"}],
        [{"kty": "RSA", "kid": "first", "n": None, "e": "AQAB"}],
        [{"kty": "EC", "kid": "first", "crv": "P-256"}],
        [{"kty": "RSA", "kid": "first", "n": "!", "e": "!"}],
        [{"kty": ["RSA"], "kid": {"a": 1}}],
        [{"kty": "RSA", "kid": "first", "n": "AA", "e": "AA", "use": None}],
    ],
)
def test_keys_that_are_none_are_refused(browser: Browser, issuer: Issuer, keys: list[Any]) -> None:
    issuer.keys = keys
    browser.sign_in("company").expect(403, "provider_answer_invalid")
    issuer.keys = [*keys, public_jwk(rsa_key("other"), kid="other")]
    browser.sign_in("company").expect(403, "provider_answer_invalid")
