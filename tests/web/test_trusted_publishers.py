"""Trusted publishers: builds with ID tokens shaped as the documents of GitHub, GitLab and Forgejo show, and every
way in which a token could be somebody else's, for somebody else, or from another time.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mosis.people import trusted_publishers
from tests.client import Account, Answer, Client
from tests.conftest import FakeClock
from tests.providers import Issuer, rsa_key, signed
from tests.web.test_members import accept, offer, with_key

NOTES = "com.acme.notes"
HERE = "http://localhost:8080"
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"

# https://docs.github.com/en/actions/reference/security/oidc
GITHUB = {
    "sub": "repo:octo-org/octo-repo:ref:refs/heads/main", "ref": "refs/heads/main", "ref_type": "branch",
    "repository": "octo-org/octo-repo", "repository_id": "74", "repository_owner": "octo-org", "repository_owner_id": "65",
    "repository_visibility": "private", "run_id": "1080", "run_number": "10", "run_attempt": "2",
    "runner_environment": "github-hosted",
    "actor": "octocat", "actor_id": "12", "workflow": "release", "event_name": "workflow_dispatch", "head_ref": "", "base_ref": "",
    "sha": "f0a1b2c3", "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
}  # fmt: skip
# https://docs.gitlab.com/ci/secrets/id_token_authentication
GITLAB = {
    "sub": "project_path:my-group/my-project:ref_type:branch:ref:main", "namespace_id": "72", "namespace_path": "my-group",
    "project_id": "20", "project_path": "my-group/my-project", "user_id": "1", "user_login": "sample-user",
    "user_email": "sample-user@example.com", "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main",
    "ref_type": "branch", "ref_protected": "true", "runner_id": 1, "runner_environment": "self-hosted",
    "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
}  # fmt: skip
# Forgejo, https://codeberg.org/forgejo/forgejo/pulls/12355: the shape of GitHub's, with ids in the subject
# of new repositories; an id as a number and a missing jti are taken too
FORGEJO = {
    "sub": "repo:acme-3/notes-7:ref:refs/heads/main", "ref": "refs/heads/main", "repository": "acme/notes", "repository_id": 7,
    "repository_owner": "acme", "repository_owner_id": 3, "actor": "ada", "actor_id": 4, "event_name": "push", "run_id": "12",
}  # fmt: skip
SHAPES = {
    "github": (GITHUB, {"repository_id": "74", "ref": "refs/heads/main"}, True),
    "gitlab": (GITLAB, {"project_id": "20", "ref_protected": "true", "ref": "main"}, True),
    "forgejo": (FORGEJO, {"repository_id": "7", "ref": "refs/heads/main"}, False),
}


@pytest.fixture
def settings() -> dict[str, str]:
    return {"WEBHOOKS_PRIVATE": "allow"}


@pytest.fixture
def issuer(clock: FakeClock) -> Iterator[Issuer]:
    with Issuer(lambda: clock.at) as server:
        yield server


@pytest.fixture
def alice(client: Client) -> Account:
    account = client.register("alice")
    client.app_of(account)
    return account


def trust(
    client: Client,
    owner: Account,
    issuer: str,
    claims: dict[str, str],
    app: str = NOTES,
    **more: Any,
) -> Answer:
    body = {"issuer": issuer, "claims": claims, "scopes": ["versions:upload", "apps:read"]} | more
    return client.post(f"/v1/apps/{app}/publishers", body, as_=owner)


class Build:
    """A build at an issuer, which makes ID tokens for it."""

    def __init__(
        self, client: Client, clock: FakeClock, issuer: Issuer, claims: dict[str, Any]
    ) -> None:
        self.client = client
        self.clock = clock
        self.issuer = issuer
        self.claims = claims

    def token(
        self, key: Any = None, algorithm: str = "RS256", kid: str = "first", **changes: Any
    ) -> str:
        now = int(self.clock.at)
        claims = {
            "iss": self.issuer.url, "aud": HERE, "iat": now, "nbf": now, "exp": now + 300,
            "jti": secrets.token_hex(8), **self.claims, **changes,
        }  # fmt: skip
        return signed(
            {name: value for name, value in claims.items() if value is not None},
            key,
            algorithm,
            kid=kid,
        )

    def exchange(self, token: str, app: str = NOTES, **more: Any) -> Answer:
        body = {
            "grant_type": GRANT,
            "subject_token_type": ID_TOKEN,
            "audience": app,
            "subject_token": token,
        }
        return self.client.post("/v1/auth/token", body | more)

    def access(self) -> str:
        return str(self.exchange(self.token()).expect(200)["access_token"])


@pytest.fixture
def build(client: Client, clock: FakeClock, issuer: Issuer, alice: Account) -> Build:
    trust(client, alice, issuer.url, {"repository_id": "74", "ref": "refs/heads/main"}).expect(201)
    return Build(client, clock, issuer, GITHUB)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_build_publishes_without_a_stored_secret(
    client: Client, clock: FakeClock, issuer: Issuer, alice: Account, shape: str
) -> None:
    claims, wanted, has_jti = SHAPES[shape]
    trust(client, alice, issuer.url, wanted).expect(201)
    build = Build(client, clock, issuer, claims | ({} if has_jti else {"jti": None}))
    token = build.token()
    form = urlencode(
        {
            "grant_type": GRANT,
            "subject_token_type": ID_TOKEN,
            "audience": NOTES,
            "subject_token": token,
        }
    )
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/v1/auth/token", form.encode(), headers=kind).expect(200)
    assert answer["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 900)
    assert answer["scope"] == "apps:read versions:upload"
    build.exchange(token).expect(400, "invalid_grant")
    me = client.get("/v1/auth/me", as_=answer["access_token"]).expect(200)
    assert (me["id"], me["scopes"], len(me["apps"])) == (
        alice.id,
        ["apps:read", "versions:upload"],
        1,
    )
    package = client.package(alice, NOTES)
    client.upload(NOTES, package, as_=answer["access_token"]).expect(201)  # type: ignore[arg-type]
    trail = client.get("/v1/auth/me/audit", as_=alice)["entries"]
    (issued,) = [each for each in trail if each["action"] == "publisher_token.issued"]
    assert issued["details"]["build"]["ref"] == claims["ref"]
    (uploaded,) = [each for each in trail if each["action"] == "version.uploaded"]
    assert uploaded["details"]["publisher_token_id"] == issued["subject_id"]


OTHERS: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "https://other.example"},
    "no audience": {"aud": None},
    "several audiences": {"aud": [HERE, "https://other.example"]},
    "an audience with a slash": {"aud": HERE + "/"},
    "another repository": {"repository_id": "75"},
    "the same name after it was given up": {"repository_id": "99"},
    "no id": {"repository_id": None},
    "another branch": {"ref": "refs/heads/evil"},
    "a list as a claim": {"repository_id": ["74"]},
    "expired": {"exp": 1_799_999_000},
    "no expiry": {"exp": None},
    "exp as text": {"exp": "9999999999"},
    "from the future": {"iat": 1_800_009_000},
    "not yet": {"nbf": 1_800_009_000},
    "too long": {"exp": 1_800_100_000},
    "no subject": {"sub": None},
    "an empty jti": {"jti": ""},
    "a jti of another type": {"jti": 7},
    "another issuer": {"iss": "https://other.example"},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_token_that_is_not_this_builds_is_not_taken(build: Build, what: str) -> None:
    refused = build.exchange(build.token(**OTHERS[what])).expect(400, "invalid_grant")
    assert refused["error"] == "invalid_grant"
    build.exchange(build.token()).expect(200)


FORGERIES: dict[str, Callable[[Build], str]] = {
    "another key": lambda build: build.token(ec_key(), "ES256"),
    "the public key as a secret": lambda build: jwt.encode(
        {"iss": build.issuer.url}, "x" * 32, "HS256"
    ),
    "no signature": lambda build: jwt.encode({"iss": build.issuer.url, "aud": HERE}, "", "none"),
    "a changed payload": lambda build: rewritten(build.token(), x=1),
    "no token": lambda build: "x.y.z",
    "one part": lambda build: "x" * 40,
    "an empty one": lambda build: "..",
    "not ASCII": lambda build: build.token() + "é",
    "an issuer that is no text": lambda build: rewritten(build.token(), iss=["x"]),
}


def ec_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def rewritten(token: str, **changes: Any) -> str:
    """A token with other claims under the same signature."""
    head, payload, signature = token.split(".")
    claims = json.loads(jwt.utils.base64url_decode(payload)) | changes
    made = jwt.utils.base64url_encode(json.dumps(claims).encode()).decode()
    return f"{head}.{made}.{signature}"


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_token_is_not_taken(build: Build, what: str) -> None:
    build.exchange(FORGERIES[what](build)).expect(400, "invalid_grant")
    assert build.client.env.db.connection().value("SELECT count(*) FROM publisher_tokens") == 0


class TestReplay:
    def test_a_token_is_exchanged_once_also_when_its_text_differs(self, build: Build) -> None:
        token = build.token()
        build.exchange(token).expect(200)
        again = [
            token,
            token + "=",
            build.token(jti=json.loads(jwt.utils.base64url_decode(token.split(".")[1]))["jti"]),
        ]
        for each in again:
            build.exchange(each).expect(400, "invalid_grant")

    def test_it_stays_used_until_it_has_expired(self, build: Build, clock: FakeClock) -> None:
        token = build.token()
        build.exchange(token).expect(200)
        for _ in range(6):
            clock.advance(90)
            trusted_publishers.sweep(build.client.env)
            build.exchange(token).expect(400, "invalid_grant")
        clock.advance(3600)
        trusted_publishers.sweep(build.client.env)
        db = build.client.env.db.connection()
        assert db.value("SELECT count(*) FROM exchanged_tokens") == 0
        assert db.value("SELECT count(*) FROM publisher_tokens") == 0

    def test_it_is_used_for_one_app(self, client: Client, build: Build, alice: Account) -> None:
        client.app_of(alice, "com.acme.todo")
        body = {
            "issuer": build.issuer.url,
            "claims": {"repository_id": "74"},
            "scopes": ["versions:upload"],
        }
        client.post("/v1/apps/com.acme.todo/publishers", body, as_=alice).expect(201)
        token = build.token()
        build.exchange(token, "com.acme.todo").expect(200)
        build.exchange(token).expect(400, "invalid_grant")


class TestWhatATokenMayDo:
    def test_it_is_narrow_and_short(
        self, client: Client, build: Build, alice: Account, clock: FakeClock
    ) -> None:
        client.app_of(alice, "com.acme.todo")
        access = build.access()
        at = f"/v1/apps/{NOTES}"
        client.get("/v1/apps/com.acme.todo", as_=access).expect(404)
        client.patch(at, {"name": "X"}, as_=access).expect(403, "insufficient_scope")
        client.post(f"{at}/versions/1.0.0/publish", as_=access).expect(403, "insufficient_scope")
        client.get("/v1/keys", as_=access).expect(403)
        client.post(
            f"{at}/members", {"email": "x@example.net", "role": "owner"}, as_=access
        ).expect(403)
        trusted = {
            "issuer": "https://x.example",
            "claims": {"repository_id": "1"},
            "scopes": ["apps:read"],
        }
        client.post(f"{at}/publishers", trusted, as_=access).expect(403, "forbidden")
        client.get("/v1/auth/me/export", as_=access).expect(403)
        client.get("/v1/reviews", as_=access).expect(403)
        clock.advance(trusted_publishers.LIFE_SECONDS)
        client.get(at, as_=access).expect(401, "invalid_token")

    def test_it_ends_with_its_publisher(self, client: Client, build: Build, alice: Account) -> None:
        access, at = build.access(), f"/v1/apps/{NOTES}/publishers"
        (publisher,) = client.get(at, as_=alice)["publishers"]
        assert publisher["last_used_at"] is not None
        client.delete(f"{at}/{publisher['id']}", as_=alice).expect(204)
        client.get(f"/v1/apps/{NOTES}", as_=access).expect(401, "invalid_token")
        build.exchange(build.token()).expect(400, "invalid_grant")

    def test_a_package_needs_a_signature_of_a_member(self, client: Client, build: Build) -> None:
        mallory = with_key(client, client.register("mallory"))
        package = client.package(mallory, NOTES)
        client.upload(NOTES, package, as_=build.access()).expect(422, "package_rejected")  # type: ignore[arg-type]

    def test_it_ends_with_the_owner_who_has_added_it(
        self, client: Client, build: Build, alice: Account
    ) -> None:
        eve = client.register("eve")
        client.joins(eve, NOTES, "owner")
        trust(client, eve, build.issuer.url, {"repository_id": "666"}).expect(201)
        assert client.notifications(alice)[0]["kind"] == "app.publisher_added"
        access = build.exchange(build.token(repository_id="666")).expect(200)["access_token"]
        client.delete(f"/v1/apps/{NOTES}/members/{eve.id}", as_=alice).expect(204)
        client.get(f"/v1/apps/{NOTES}", as_=access).expect(401)
        build.exchange(build.token(repository_id="666")).expect(400, "invalid_grant")
        build.exchange(build.token()).expect(200)

    def test_it_does_not_go_along_with_the_app(
        self, client: Client, build: Build, alice: Account
    ) -> None:
        access = build.access()
        bob = client.register("bob")
        accept(client, bob, offer(client, alice, bob.email)).expect(200)
        client.get(f"/v1/apps/{NOTES}", as_=access).expect(401)
        build.exchange(build.token()).expect(400, "invalid_grant")

    def test_it_ends_with_a_suspension(self, client: Client, build: Build, alice: Account) -> None:
        access, root = build.access(), client.admin()
        client.patch(f"/v1/admin/developers/{alice.id}", {"suspended": True}, as_=root).expect(200)
        client.get(f"/v1/apps/{NOTES}", as_=access).expect(401)
        build.exchange(build.token()).expect(400, "invalid_grant")

    @pytest.mark.parametrize(
        "settings", [{"WEBHOOKS_PRIVATE": "allow", "REQUIRE_SECOND_FACTOR": "publishers"}]
    )
    def test_builds_have_no_second_factor(
        self, client: Client, clock: FakeClock, issuer: Issuer
    ) -> None:
        from tests.web.test_second_factor import turned_on

        alice = client.register("alice")
        turned_on(client, clock, alice)
        client.app_of(alice)
        trust(client, alice, issuer.url, {"repository_id": "74"}).expect(201)
        access = Build(client, clock, issuer, GITHUB).access()
        client.upload(NOTES, client.package(alice), as_=access).expect(201)  # type: ignore[arg-type]


class TestOnlyTrusted:
    def test_every_other_upload_is_refused(
        self, client: Client, build: Build, alice: Account
    ) -> None:
        at = f"/v1/apps/{NOTES}"
        scopes = ["apps:read", "apps:write", "versions:upload"]
        key = client.post("/v1/keys", {"name": "ci", "scopes": scopes}, as_=alice)["key"]
        only = {"publish_by": "trusted"}
        assert client.patch(at, only, as_=alice).expect(200)["publish_by"] == "trusted"
        package = client.package(alice, NOTES)
        for credential in (alice, key):
            client.upload(NOTES, package, as_=credential).expect(403, "trusted_only")  # type: ignore[arg-type]
        client.patch(at, {"publish_by": "anyone"}, as_=key).expect(403, "forbidden")
        client.upload(NOTES, package, as_=build.access()).expect(201)  # type: ignore[arg-type]
        client.patch(at, {"publish_by": "anyone"}, as_=alice).expect(200)
        client.upload(NOTES, package, as_=key).expect(200)  # type: ignore[arg-type]


class TestIssuers:
    @pytest.mark.parametrize("settings", [{}])
    @pytest.mark.parametrize(
        "address",
        ["http://ci.example.org", "https://127.0.0.1", "https://169.254.169.254/latest", "https://[::1]", "https://10.0.0.1",
         "https://2130706433", "ftp://ci.example.org", "https://u:p@ci.example.org", "https://ci.example.org/#x", "no address"],
    )  # fmt: skip
    def test_no_issuer_leads_into_the_operators_network(
        self, client: Client, alice: Account, address: str
    ) -> None:
        refused = trust(client, alice, address, {"repository_id": "1"}).expect(422)
        assert refused.finding("/issuer") == "wrong_format"

    @pytest.mark.parametrize("settings", [{}])
    def test_a_name_that_leads_there_is_not_asked(
        self, client: Client, clock: FakeClock, alice: Account, issuer: Issuer
    ) -> None:
        """It resolves to 127.0.0.1, which shows only when it is asked."""
        local = issuer.url.replace("http://127.0.0.1", "https://localhost")
        trust(client, alice, "https://ci.example.org", {"repository_id": "74"}).expect(201)
        with client.env.db.connection().write() as db:
            db.change("UPDATE trusted_publishers SET issuer = ?", local)
        token = signed({"iss": local, "aud": HERE})
        Build(client, clock, issuer, GITHUB).exchange(token).expect(503, "provider_unavailable")

    @pytest.mark.parametrize(
        "claims",
        [
            {"repository": "octo-org/octo-repo"},
            {"sub": "repo:octo-org/octo-repo"},
            {"ref": "main"},
            {"repository_owner_id": "65"},
        ],
    )
    def test_a_name_alone_is_not_trusted(
        self, client: Client, alice: Account, claims: dict[str, str]
    ) -> None:
        refused = trust(client, alice, "https://token.actions.githubusercontent.com", claims)
        assert refused.expect(422).finding("/claims") == "required"

    def test_there_are_a_few_of_an_app(self, client: Client, alice: Account) -> None:
        for number in range(trusted_publishers.MOST):
            trust(client, alice, "https://ci.example.org", {"project_id": str(number)}).expect(201)
        trust(client, alice, "https://ci.example.org", {"project_id": "x"}).expect(
            409, "limit_reached"
        )

    def test_an_issuer_that_no_owner_has_named_is_not_asked(
        self, client: Client, build: Build, clock: FakeClock
    ) -> None:
        with Issuer(lambda: clock.at) as stranger:
            token = Build(client, clock, stranger, GITHUB).token()
            build.exchange(token).expect(400, "invalid_grant")
            build.exchange(token, "com.no.such").expect(400, "invalid_grant")
            assert stranger.asked == []

    def test_an_issuer_that_is_away_is_reported(
        self, client: Client, build: Build, clock: FakeClock
    ) -> None:
        token = build.token()
        build.issuer.metadata["issuer"] = "https://other.example"
        build.exchange(token).expect(503, "provider_unavailable")
        build.issuer.metadata["issuer"] = build.issuer.url
        build.exchange(token).expect(200)

    @pytest.mark.parametrize("why", ["no keys yet", "keys too old", "another key"])
    def test_an_account_whose_issuer_is_slow_pauses(
        self, client: Client, build: Build, clock: FakeClock, why: str
    ) -> None:
        """Whatever an issuer is asked for, its time counts; other accounts do not wait for it."""
        bob, app = client.register("bob"), "com.example.other"
        client.app_of(bob, app)
        with Issuer(lambda: clock.at) as slow:

            def keys(request: BaseHTTPRequestHandler) -> None:
                clock.advance(4)
                del slow.instead["/keys"]
                slow._answer(request, {})

            client.env.clock.monotonic = lambda: clock.at
            trust(client, bob, slow.url, {"repository_id": "74"}, app=app).expect(201)
            his = Build(client, clock, slow, GITHUB)
            if why != "no keys yet":
                his.exchange(his.token(), app).expect(200)
                clock.advance(3601 if why == "keys too old" else 31)
            slow.instead["/keys"] = keys
            kid = "second" if why == "another key" else "first"
            his.exchange(his.token(kid=kid), app).expect(400 if kid == "second" else 200)
            clock.advance(31)
            asked = len(slow.asked)
            refused = his.exchange(his.token(kid="third"), app).expect(503, "provider_unavailable")
            assert refused["retry_after_seconds"] == 4 * 20 - 31
            his.exchange(his.token(), app).expect(200)  # by the cached key
            build.access()
            assert len(slow.asked) == asked
            clock.advance(50)
            his.exchange(his.token(kid="third"), app).expect(400, "invalid_grant")
            assert len(slow.asked) > asked

    def test_keys_are_rolled_over(self, client: Client, build: Build, clock: FakeClock) -> None:
        build.access()
        new = ed25519.Ed25519PrivateKey.generate()
        build.issuer.keys = [
            json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(new.public_key())) | {"kid": "first"}
        ]
        clock.advance(3601)
        build.exchange(build.token(new, "EdDSA")).expect(200)
        build.exchange(build.token(rsa_key())).expect(400, "invalid_grant")

    @pytest.mark.parametrize(
        "missing", ["subject_token", "subject_token_type", "audience", "grant_type"]
    )
    def test_a_request_that_lacks_something_is_refused_with_its_name(
        self, build: Build, missing: str
    ) -> None:
        body = {
            "grant_type": GRANT,
            "subject_token_type": ID_TOKEN,
            "audience": NOTES,
            "subject_token": "x",
        }
        del body[missing]
        refused = build.client.post("/v1/auth/token", body).expect(422, "invalid")
        assert refused.finding(f"/{missing}") == "required"
