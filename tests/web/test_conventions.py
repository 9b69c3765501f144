"""The conventions of the contract, held on every address of the URL table and not on a sample of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import pytest

from mosis import events
from mosis.credentials import tokens
from mosis.people import device_login
from mosis.web.routing import limit_of
from mosis.web.schemas import is_page
from tests import described
from tests.client import Account, Answer, Client
from tests.package_builder import files_of

ROUTES = sorted(described.calls(), key=lambda route: (route.rule, route.method))
GETS = [route for route in ROUTES if route.method == "GET"]
LISTS = [
    route
    for route in GETS
    if any(is_page(answer) for answer in route.callback.operation.answers.values())
]
DEVICE = "0" * 63 + "1"

# A page that is rendered for each request, figures of the moment, what is refused here, and what only leads elsewhere.
NO_TAG = {
    "/docs",
    "/docs/account",
    "/metrics",
    "/auth/oauth/<provider>/callback",
    "/store/apps/<package_id>/download",
}
# The POSTs without Idempotency-Key, and why they make nothing twice.
NEEDS_NO_KEY = {
    "/auth/login": "one session more is harmless", "/auth/refresh": "has ten seconds of grace", "/auth/logout": "ends",
    "/auth/device": "starts again",
    "/auth/token": "asks", "/auth/password": "sets", "/auth/password/forgot": "has a bucket for each address",
    "/auth/password/reset": "sets",
    "/auth/login/second-factor": "uses up a code", "/auth/totp": "starts again", "/auth/totp/confirm": "uses up a code",
    "/auth/totp/recovery-codes": "uses up a code", "/auth/email/change": "asks",
    "/auth/email/undo": "sets", "/auth/email/verify": "sets", "/auth/oauth/<provider>": "starts again",
    "/auth/oauth/<provider>/collect": "collects", "/keys/report": "ends", "/notifications/<event>/read": "sets",
    "/notifications/read-all": "sets", "/store/updates": "asks", "/telemetry/events": "has its batch_id",
    "/telemetry/crashes": "knows doubles", "/front-ends/downloads": "has its batch",
}  # fmt: skip


@dataclass
class World:
    """A portal in which there is one of everything, and an administrator whose it is."""

    client: Client
    root: Account
    names: dict[str, str]

    def call(self, route: Any, query: str = "", **more: Any) -> Answer:
        """A request to where this route leads to something, of the administrator or, of what is the administrator's, a reviewer."""
        names = self.names | (
            {"key": self.names["signing_key"]} if route.rule.startswith("/signing-keys") else {}
        )
        if "decisions" in route.rule:
            names["name"] = "0001-problems-below-the-web"
        path = self.path(route, names)
        asked = ["version=1.0.0&app=com.acme.notes"] * path.endswith("/verify") + [query] * bool(
            query
        )
        body = None if route.method in ("GET", "DELETE") else BODIES.get(route.rule, {})
        more = {
            "as_": self.client.desk
            if route.rule.startswith(("/reviews/", "/listing-changes/", "/reports/"))
            else self.root
        } | more
        return self.client.call(
            more.pop("method", route.method),
            "?".join([path, "&".join(asked)]).rstrip("?"),
            body,
            **more,
        )

    def path(self, route: Any, names: dict[str, str] | None = None) -> str:
        """An address under this line of the URL table."""
        known = names or self.names
        return re.sub(r"<(\w+)(?::\w+)?>", lambda found: quote(known[found[1]]), route.rule)

    def options(self, route: Any) -> Answer:
        """The answer to OPTIONS."""
        return self.client.call("OPTIONS", self.path(route))


BODIES: dict[str, Any] = {
    "/apps/<app>/members/<member>": {"role": "publisher"},
    "/admin/developers/<developer>": {"role": "developer"}, "/admin/apps/<app>": {"suspended": False, "reason": "x"},
    "/apps/<app>/crashes/<group>": {"state": "resolved"}, "/reviews/<review>": {"security": False},
    "/apps/<app>/versions/<version>/rollout-plan": {"steps": [{"percent": 1, "after_hours": 0}]},
}  # fmt: skip


@pytest.fixture
def settings() -> dict[str, str]:
    return {
        "RATE_LIMITS": "on",
        "METRICS": "198.51.100.0/24",
        "OIDC_ISSUER": "http://127.0.0.1:9",
        "OIDC_CLIENT_ID": "x",
        "OIDC_CLIENT_SECRET": "x",
        "WEBHOOKS_PRIVATE": "allow",
        "SECURITY_CONTACT": "mailto:security@example.net",
    }


def invited(client: Client, account: Account) -> str:
    """The token of an invitation to work on somebody else's app."""
    carol = client.register("carol")
    app = client.app_of(carol, "com.carol.app")
    body = {"email": account.email, "role": "viewer"}
    sent = client.post(f"/v1/apps/{app}/members", body, as_=carol).expect(201)
    return tokens.make_ticket(client.env.secret, sent["id"])


def one_of_everything(client: Client) -> tuple[Account, dict[str, str]]:
    """The administrator, and the names of what there is."""
    root = client.admin()
    app = client.app_of(root)
    picture = files_of({})["icons/icon-64.png"]
    version = client.published(
        root, app, manifest={"screenshots": ["screens/1.png"]}, files={"screens/1.png": picture}
    )
    client.upload(
        app, client.package(root, app, "2.0.0", 2), as_=root, query="?submit=true"
    ).expect(201)
    client.work()
    plan = {"steps": [{"percent": 1, "after_hours": 0}]}
    client.call("PUT", f"/v1/apps/{app}/versions/1.0.0/rollout-plan", plan, as_=root).expect(200)
    webhook = client.post("/v1/webhooks", {"url": "http://127.0.0.1:9/"}, as_=root).expect(201)[
        "id"
    ]
    client.post(
        "/v1/telemetry/crashes",
        {
            "app_id": app,
            "app_version": "1.0.0",
            "mosis_version": "1.4.0",
            "device_id": DEVICE,
            "timestamp": version["created_at"],
            "crash": {"type": "LuaError", "message": "no", "stack_trace": "main.lua:1: no"},
        },
    ).expect(202)
    client.sign_in(root)
    db = client.env.db.connection()
    with db.write():
        event = events.add(db, root.id, "version.published", package_id=app, version="1.0.0")
    (api_key, *_) = [
        client.post("/v1/keys", {"name": f"ci {number}", "scopes": ["apps:read"]}, as_=root)["id"]
        for number in "12"
    ]
    bob, token = client.register("bob"), invited(client, root)
    invitation = client.post(
        f"/v1/apps/{app}/members", {"email": "eve@example.net", "role": "viewer"}, as_=root
    ).expect(201)["id"]
    client.joins(bob, app, "publisher")
    trusted = {
        "issuer": "https://ci.example.org",
        "claims": {"repository_id": "1"},
        "scopes": ["apps:read"],
    }
    publisher = client.post(f"/v1/apps/{app}/publishers", trusted, as_=root).expect(201)["id"]
    complaint = {"reason": "spam", "text": "Look."}
    client.post(f"/v1/store/apps/{app}/reports", complaint).expect(202)
    listing = client.patch(f"/v1/apps/{app}", {"name": "Pads"}, as_=root).expect(200)["pending"]
    names = {
        "change": listing["id"],
        "app": app, "app_id": version["app_id"], "package_id": app, "version": "1.0.0", "developer_id": root.id, "event": event,
        "developer": bob.id,
        "member": bob.id, "invitation": invitation, "token": token, "publisher": publisher,
        "provider": "oidc", "size": "64", "number": "0", "file": "start.js", "name": "API",
        "sequence": str(client.get("/v1/store/index.json")["sequence"]), "path": "assets/main.lua",
        "review": client.get(f"/v1/apps/{app}/versions/2.0.0", as_=root)["review"]["id"], "device_id": DEVICE, "webhook": webhook,
        "delivery": client.get(f"/v1/webhooks/{webhook}/deliveries", as_=root)["deliveries"][0]["id"], "key": api_key,
        "signing_key": client.get("/v1/signing-keys", as_=root)["signing_keys"][0]["id"],
        "session": client.get("/v1/auth/sessions", as_=root)["sessions"][0]["id"],
        "group": client.get(f"/v1/apps/{app}/crashes", as_=root)["crashes"][0]["id"],
        "user_code": device_login.begin(db, "build machine", ["apps:read"])[1].user_code,
        "job": client.post("/v1/admin/backups", as_=root).expect(202)["job"],
    }  # fmt: skip
    return root, names


@pytest.fixture
def prepare() -> Callable[[Client], tuple[Account, dict[str, str]]]:
    return one_of_everything


@pytest.fixture
def world(client: Client, prepared: tuple[Account, dict[str, str]]) -> World:
    root, names = prepared
    return World(client, replace(root), {**names})


def test_every_get_has_a_strong_tag_by_which_it_is_known_again(world: World) -> None:
    for route in GETS:
        first = world.call(route)
        if route.rule in NO_TAG:
            assert "etag" not in first.headers, route
            continue
        assert first.status == 200, (route, first.body)
        assert re.fullmatch(r'"[^"]+"', first.headers["etag"]), route
        again = world.call(route, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
        if (
            first.body == world.call(route).body
        ):  # what uses up a limit or shows the moment may differ
            assert (again.status, again.body, again.headers["etag"]) == (
                304,
                b"",
                first.headers["etag"],
            ), route
        policies = {
            "/store/": "public, ",
            "/.well-known/mosis": "public, max-age=60",
            "/.well-known/security": "public, max-age=86400",
            "/.well-known/oauth-authorization-server": "public, max-age=86400",
            "/favicon.ico": "public, max-age=86400",
            "/robots.txt": "public, max-age=86400",
            "/cli/": "public, max-age=300",
            "/docs": "public, max-age=3",
            "/openapi.json": "public, max-age=300",
            "/packages/": "public, max-age=31536000",
            "/assets/": "public, max-age=",
        }
        wanted = next(
            (output for start, output in policies.items() if route.rule.startswith(start)),
            "no-store",
        )
        assert first.headers["cache-control"].startswith(wanted), route


def test_every_list_is_read_in_pages(world: World) -> None:
    assert len(LISTS) > 15
    several = 0
    for route in LISTS:
        for wrong in ("limit=0", "limit=101", "limit=x", "limit=1.5"):
            world.call(route, wrong).expect(400, "malformed_request")
        for wrong in ("cursor=nonsense", "cursor=W10", "cursor=bnVsbA", "cursor=%00"):
            world.call(route, wrong).expect(400, "bad_cursor")
        if limit_of(route) == "device_data":
            continue  # ten a minute
        [name] = [
            name
            for name, what in route.callback.operation.answers[200]["properties"].items()
            if what.get("type") == "array"
        ][:1]
        whole, found, cursor = world.call(route, "limit=100").expect(200), [], ""
        while True:
            page = world.call(route, "limit=1" + cursor).expect(200)
            found += page[name]
            assert len(page[name]) <= 1, route
            if page["next_cursor"] is None:
                assert "link" not in page.headers, route
                break
            assert page.headers["link"].startswith("<" + route.rule.partition("<")[0]), (
                route
            )  # without /v1, as it was asked
            assert page.headers["link"].endswith(
                f'cursor={quote(page["next_cursor"])}>; rel="next"'
            ), route
            cursor = f"&cursor={page['next_cursor']}"
        assert found == whole[name], route
        several += len(found) > 1
    assert several >= 8


def test_every_change_and_deletion_honours_if_match(world: World) -> None:
    before = list(world.client.env.db.connection()._raw.iterdump())
    for route in ROUTES:
        if route.method in ("PUT", "PATCH", "DELETE"):
            world.call(route, headers={"If-Match": '"another state"'}).expect(
                412, "precondition_failed"
            )
    assert list(world.client.env.db.connection()._raw.iterdump()) == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_what_is_as_it_was_read_can_be_changed(world: World, method: str) -> None:
    for route in [
        each for each in ROUTES if each.method == method and each.callback.operation.matches
    ]:
        if route.rule in ("/auth/me", "/apps/<app>") and method == "DELETE":
            continue  # what is published is not deleted; erasing the account is tested elsewhere
        get = next(each for each in GETS if each.rule == route.rule)
        tag = world.call(get).expect(200).headers["etag"]
        assert world.call(route, headers={"If-Match": f'"other", {tag}'}).status in (200, 204), (
            route
        )


def test_every_post_that_makes_something_can_be_retried(world: World) -> None:
    plain = {
        route.rule
        for route in ROUTES
        if route.method == "POST" and "idempotent" not in route.config
    }
    assert plain == set(NEEDS_NO_KEY)
    for route in ROUTES:
        if "idempotent" in route.config:
            assert route.method == "POST"
            world.call(route, headers={"Idempotency-Key": "a\tb"}).expect(400, "malformed_request")


def test_every_counted_answer_says_what_is_left_and_every_answer_its_id(world: World) -> None:
    for route in ROUTES:
        answer = world.call(
            route, headers={"X-Request-Id": "mine.1", "If-Match": '"x"', "Idempotency-Key": "\t"}
        )
        if "public" in answer.headers.get("cache-control", ""):
            continue  # for shared caches, which would give it to others
        assert answer.headers["x-request-id"] == "mine.1", route
        if limit_of(route) == "none":
            assert "ratelimit" not in answer.headers or route.config["scope"] != "public", route
        else:
            assert re.fullmatch(r'("\w+";r=\d+;t=\d+(, |$))+', answer.headers["ratelimit"]), route
            assert re.fullmatch(
                r'("\w+";q=\d+;w=\d+(, |$))+', answer.headers["ratelimit-policy"]
            ), route
        if answer.status >= 400:
            assert answer["request_id"] == "mine.1", route


def test_a_refusal_for_too_many_says_the_limit_too(client: Client) -> None:
    for _ in range(1000):
        refused = client.post("/v1/keys/report", {"key": "mk_live_x"})
        if refused.status == 429:
            break
    assert "report" in refused["policy"]
    assert int(refused.expect(429, "rate_limited").headers["retry-after"]) > 0


@pytest.mark.parametrize(("body", "kind", "code"), [
    (b"{", "application/json", "malformed_json"), (b'{"a": 1, "a": 2}', "application/json", "malformed_json"),
    (b"[]", "application/json", "malformed_json"), (b'{"a": NaN}', "application/json", "malformed_json"),
    (b"\xff", "application/json", "malformed_json"), (b"[" * 40 + b"]" * 40, "application/json", "malformed_json"),
    (b"{}", "text/plain", "unsupported_media_type"),
])  # fmt: skip
def test_every_body_is_read_alike(world: World, body: bytes, kind: str, code: str) -> None:
    tried = 0
    for route in ROUTES:
        if route.callback.operation.body is None or route.config.get("body") == "package":
            continue
        if body == b"[]" and route.callback.operation.array is not None:
            continue  # read, and refused for having no object
        path = re.sub(r"<(\w+)(?::\w+)?>", lambda found: quote(world.names[found[1]]), route.rule)
        answer = world.client.call(
            route.method, path, body, as_=world.root, headers={"Content-Type": kind}
        )
        assert (answer.status, answer["code"]) == ((415 if kind == "text/plain" else 400), code), (
            route,
            answer.body,
        )
        tried += 1
    assert tried > 30
