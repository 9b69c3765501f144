"""Answers that the server's loop gives by itself. That they are what the application would say is held by tests/client.py, at every
GET of every test; here is when there is one."""

import pytest

from mosis.server.request import Answer
from tests.client import Client, Person, parsed, told_by
from tests.conftest import Hands

NOTES = "com.acme.notes"
ACCOUNT = ("/v1/apps", "/apps", "/v1/apps?limit=1", f"/v1/apps/{NOTES}")


def ready(
    client: Client, path: str, as_: Person | str | None = None, **headers: str
) -> Answer | None:
    """What the loop would answer."""
    name, _, query = path.partition("?")
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": name,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "198.51.100.7",
    }
    if as_ is not None:
        environ["HTTP_AUTHORIZATION"] = "Bearer " + (as_.token if isinstance(as_, Person) else as_)
    return client.ready(
        parsed(environ | {f"HTTP_{name}": value for name, value in headers.items()})
    )


def status(answer: Answer | None) -> str | None:
    return None if answer is None else answer[0]


@pytest.fixture
def alice(client: Client) -> Person:
    return client.register()


@pytest.fixture
def app(client: Client, alice: Person) -> Person:
    """Alice, with an app, and all answers of hers asked for once."""
    client.app_of(alice)
    for path in ACCOUNT:
        client.get(path, as_=alice).expect(200)
    return alice


def test_what_was_asked_before_is_ready_until_the_store_changes(
    client: Client, alice: Person
) -> None:
    for path in (
        "/healthz",
        "/store/apps",
        "/v1/store/apps",
        "/v1/store/apps?limit=1",
        "/v1/store/categories",
    ):
        assert ready(client, path) is None, path
        client.get(path).expect(200)
        answer = ready(client, path)
        assert status(answer) == "200 OK", path
        assert answer is not None
        assert (
            status(ready(client, path, IF_NONE_MATCH=told_by(answer)["etag"])) == "304 Not Modified"
        )
    client.published(alice, client.app_of(alice))
    assert ready(client, "/v1/store/apps") is None
    assert status(ready(client, "/healthz")) == "200 OK"
    assert ready(client, "/healthz", IF_NONE_MATCH="*", X_API_KEY="x") is None


def test_an_account_has_its_own_ready_answers_until_anything_changes(
    client: Client, app: Person
) -> None:
    for path in ACCOUNT:
        answer = ready(client, path, app)
        assert status(answer) == "200 OK", path
        assert answer is not None
        assert told_by(answer)["cache-control"] == "no-store"
        assert ready(client, path) is None
        assert ready(client, path, X_API_KEY=app.token) is None
        assert ready(client, path, app, X_API_KEY="x") is None
        assert ready(client, path, app.token + "=") is None
    bob = client.register("bob")
    for path in ACCOUNT:
        assert ready(client, path, app) is None, "Bob's registration was a change"
        client.get(path, as_=app).expect(200)
        assert status(ready(client, path, app)) == "200 OK"
        assert ready(client, path, bob) is None


def test_the_end_of_a_session_or_a_token_ends_its_ready_answers(
    client: Client, app: Person, hands: Hands
) -> None:
    hands.turn(15 * 60)
    assert [ready(client, path, app) for path in ACCOUNT] == [None] * 4
    hands.turn(-1)
    assert status(ready(client, ACCOUNT[0], app)) == "200 OK"
    client.post("/v1/auth/logout", {}, as_=app).expect(204)
    assert [ready(client, path, app) for path in ACCOUNT] == [None] * 4
    client.get(ACCOUNT[0], as_=app).expect(401)
    assert ready(client, ACCOUNT[0], app) is None


def test_uses_of_an_api_key_are_counted_and_so_nothing_is_ready_for_it(
    client: Client, app: Person
) -> None:
    key = client.post("/v1/keys", {"name": "ci", "scopes": ["apps:read"]}, as_=app).expect(201)[
        "key"
    ]
    client.get(ACCOUNT[0], as_=key).expect(200)
    assert ready(client, ACCOUNT[0], key) is None
    assert ready(client, ACCOUNT[0], " " + key) is None


@pytest.mark.parametrize("settings", [{"RATE_LIMITS": "on"}])
def test_ready_answers_count_for_the_limits(client: Client, alice: Person) -> None:
    client.get("/v1/apps", as_=alice).expect(200)
    left = [told_by(ready(client, "/v1/apps", alice))["ratelimit"] for _ in range(2)]  # type: ignore[arg-type]
    assert [each.partition(";t")[0] for each in left] == ['"account";r=1198', '"account";r=1197']
    client.get("/v1/store/categories").expect(200)
    for _ in range(2999):
        assert status(ready(client, "/v1/store/categories")) == "200 OK"
    assert ready(client, "/v1/store/categories") is None
    client.get("/v1/store/categories").expect(429)
