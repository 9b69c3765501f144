"""Cached responses that the event loop sends by itself. tests/client.py compares each with the application's own response, at
every GET of every test; here is when there is one."""

import pytest

from mosis.server.request import Answer
from mosis.web.answers import MOST_HEADS, CachedResponse
from tests.client import Account, Client, headers_of, parsed

NOTES = "com.acme.notes"


def ready(
    client: Client, path: str, as_: Account | str | None = None, **headers: str
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
        environ["HTTP_AUTHORIZATION"] = "Bearer " + (as_.token if isinstance(as_, Account) else as_)
    return client.ready(
        parsed(environ | {f"HTTP_{name}": value for name, value in headers.items()})
    )


def status(answer: Answer | None) -> str | None:
    return None if answer is None else answer[0]


@pytest.fixture
def alice(client: Client) -> Account:
    return client.register()


def test_what_was_asked_before_is_ready_until_the_store_changes(
    client: Client, alice: Account
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
            status(ready(client, path, IF_NONE_MATCH=headers_of(answer)["etag"]))
            == "304 Not Modified"
        )
    client.published(alice, client.app_of(alice))
    assert ready(client, "/v1/store/apps") is None
    assert status(ready(client, "/healthz")) == "200 OK"
    assert ready(client, "/healthz", IF_NONE_MATCH="*", X_API_KEY="x") is None


def test_nothing_is_answered_from_the_cache_to_a_request_with_a_credential(
    client: Client, alice: Account
) -> None:
    for path in ("/v1/apps", "/v1/store/apps", "/healthz"):
        client.get(path, as_=alice).expect(200)
        assert ready(client, path, alice) is None, path
        assert ready(client, path, X_API_KEY=alice.token) is None, path
    assert ready(client, "/v1/apps") is None
    assert status(ready(client, "/v1/store/apps")) == "200 OK"


def test_the_common_head_of_responses_is_in_memory_once_and_few_are(client: Client) -> None:
    route, _ = client.ready.app.router.match(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/store/categories"}
    )
    headers = [("Cache-Control", "public"), ("Content-Type", "application/json")]
    one, other = (
        CachedResponse.of(b"{}", [*headers, ("Etag", tag)], tag, route) for tag in ('"a"', '"b"')
    )
    assert one.head is other.head
    assert (one.headers, one.lines) == ([*headers, ("Etag", '"a"')], b'Etag: "a"\r\n')
    for number in range(10 * MOST_HEADS):
        CachedResponse.of(b"{}", [("X-Number", str(number))], '"a"', route)
    assert len(route.heads) <= MOST_HEADS


@pytest.mark.parametrize("settings", [{"RATE_LIMITS": "on"}])
def test_ready_answers_count_for_the_limits(client: Client) -> None:
    client.get("/v1/store/categories").expect(200)
    for _ in range(2999):
        assert status(ready(client, "/v1/store/categories")) == "200 OK"
    assert ready(client, "/v1/store/categories") is None
    client.get("/v1/store/categories").expect(429)
