"""Lanes of the server shared among accounts, and what of one account may be at the server at once."""

import random
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

import portal
from mosis.context import Context
from mosis.errors import Denied
from mosis.fair_queue import FairQueue
from mosis.rate_limits import POLICIES
from mosis.server import Admission
from mosis.server.lanes import OF_ONE, THREADS, Shares
from mosis.server.request import BODIES_OF_ONE, LaneName
from mosis.web.admission import Admissions
from tests import described
from tests.client import PASSWORD, Client
from tests.test_serving import App, Start, Wire, app, eventually, spool, start

__all__ = ["app", "spool", "start"]  # fixtures
NOTES = "com.acme.notes"
LIMIT = 1024 * 1024


@pytest.mark.parametrize("seed", range(20))
def test_the_queue_hands_everything_out_once_and_in_turn(seed: int) -> None:
    """Any order of adding, taking and finishing: no key has more than its share, and nobody waits for more than that of each."""
    chance = random.Random(seed)
    of_one = chance.randint(1, 3)
    queue, left, running = FairQueue(of_one), [], Counter[str]()
    given: list[Any] = []
    added: list[Any] = []

    def take() -> None:
        taken = queue.take() if chance.random() < 0.5 else queue.take_waiting()
        assert taken is not None
        given.append(taken[1])
        left.append(taken[0])
        running[taken[0]] += 1
        assert running[taken[0]] <= of_one

    for number in range(200):
        key = chance.choice("aaaaaabc")
        queue.put(key, (key, number))
        added.append((key, number))
        while left and chance.random() < 0.5:
            key = left.pop(chance.randrange(len(left)))
            running[key] -= 1
            queue.done(key)
        if queue._ready.qsize() and chance.random() < 0.5:
            take()
    while len(given) < len(added):
        while queue._ready.qsize():
            take()
        while left:
            queue.done(left[0])
            running[left.pop(0)] -= 1
    assert sorted(given) == sorted(added)
    for key in "abc":  # each key in its own order
        assert [each for each in given if each[0] == key] == [
            each for each in added if each[0] == key
        ]
    assert len(queue) == 0
    assert queue.take_waiting() is None
    queue.end()
    assert queue.take_waiting() is None  # the end is for the thread that waits
    assert queue.take() is None


def test_a_newcomer_waits_for_the_share_of_each_other_and_no_more() -> None:
    queue = FairQueue(2)
    for number in range(60):
        queue.put("greedy", number)
    for key in ("modest", "other"):
        queue.put(key, 0)
    order = []
    for _ in range(6):
        key, _ = queue.take() or ("", None)
        order.append(key)
        queue.done(key)
    assert order == ["greedy", "greedy", "modest", "other", "greedy", "greedy"]


def uploads(method: str, path: str, headers: Any) -> Admission:
    """As the portal's admission, with the account in a header."""
    if path == "/refused":
        raise Denied("unauthenticated", "Sign in first.")
    return Admission(LIMIT, "uploads", headers.get("X_ACCOUNT", ""), holds_share=True)


def sending(account: str, path: str = "/slow", body: str = "hello") -> str:
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nX-Account: {account}\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def test_one_account_has_some_uploads_at_the_server_and_others_are_not_kept_waiting(
    start: Start, app: App
) -> None:
    server = start(admit=uploads)
    greedy = [Wire(server).send(sending("greedy")) for _ in range(BODIES_OF_ONE)]
    assert eventually(lambda: len(app.calls) == OF_ONE["uploads"])
    problem = Wire(server).send(sending("greedy")).refused(429, "too_many_uploads")
    assert problem["retry_after_seconds"] == 5
    assert Wire(server).send(sending("modest", "/small")).answer()[0] == 200  # a thread is free
    assert app.calls.count("/slow") == OF_ONE["uploads"]
    app.gate.set()
    assert [each.answer()[0] for each in greedy] == [200] * BODIES_OF_ONE
    assert Wire(server).send(sending("greedy")).answer()[0] == 200
    assert server.bounds.shares._taken == {}


@pytest.mark.parametrize("lane", sorted(OF_ONE))
def test_one_address_leaves_a_thread_of_each_lane_to_others(
    start: Start, app: App, lane: LaneName
) -> None:
    server = start(admit=lambda *request: Admission(LIMIT, lane))
    request = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    greedy = [Wire(server).send(request) for _ in range(THREADS[lane] + 2)]
    assert eventually(lambda: len(app.calls) == OF_ONE[lane])
    modest = Wire(server, source="127.0.0.2").send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert modest.answer()[0] == 200
    assert app.calls.count("/slow") == OF_ONE[lane]
    app.gate.set()
    assert [each.answer()[0] for each in greedy] == [200] * len(greedy)


ENDS: dict[str, Callable[[Any], Wire]] = {
    "answered": lambda server: Wire(server).send(sending("a", "/small")),
    "crashed": lambda server: Wire(server).send(sending("a", "/crash")),
    "too large": lambda server: Wire(server).send(sending("a", "/small", "x" * (LIMIT + 1))),
    "bad chunk": lambda server: Wire(server).send(
        "POST /small HTTP/1.1\r\nHost: a\r\nX-Account: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
    "too large in chunks": lambda server: Wire(server).send(
        "POST /small HTTP/1.1\r\nHost: a\r\nX-Account: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "10000\r\n"
        + "x" * 0x10000
        + "\r\n"
        + ("20000\r\n" + "x" * 0x20000 + "\r\n") * 8
    ),
    "closed in the head": lambda server: _cut(Wire(server), "POST /small HTTP/1.1\r\nHost: a\r\n"),
    "closed in the body": lambda server: _cut(Wire(server), sending("a", "/small")[:-2]),
    "closed while it runs": lambda server: _cut(Wire(server), sending("a", "/small")),
}


def _cut(wire: Wire, data: str) -> Wire:
    wire.send(data)
    wire.socket.shutdown(socket.SHUT_RDWR)
    return wire


@pytest.mark.parametrize("how", ENDS)
def test_an_upload_gives_its_place_back_however_it_ends(start: Start, how: str) -> None:
    server = start(admit=uploads)
    for _ in range(BODIES_OF_ONE):
        ENDS[how](server).socket.close()
    assert eventually(lambda: server.bounds.shares._taken == {})
    assert eventually(
        lambda: Wire(server).send(sending("a", "/small")).answer()[0] == 200
    )  # what was closed so early may come after


def test_a_body_that_is_too_slow_gives_its_place_back(start: Start) -> None:
    server = start(admit=uploads, body_timeout_seconds=0.2)
    wire = Wire(server).send(sending("a", "/small")[:-2])
    assert eventually(lambda: server.bounds.shares._taken == {"a": 1})
    wire.refused(408, "request_timeout")
    assert eventually(lambda: server.bounds.shares._taken == {})


def test_a_place_is_given_back_once() -> None:
    shares = Shares()
    first, second = shares.take("a", 2), shares.take("a", 2)
    assert first is not None
    assert second is not None
    assert shares.take("a", 2) is None
    first.release()
    first.release()
    assert shares._taken == {"a": 1}
    del second
    assert shares._taken == {}


def test_every_credential_of_an_account_counts_for_the_account(
    client: Client, env: Context
) -> None:
    alice, admit = client.register(), Admissions(portal.build(env), env)
    key = client.post("/v1/keys", {"name": "ci", "scopes": ["versions:upload"]}, as_=alice)["key"]
    again = client.post("/v1/auth/login", {"email": alice.email, "password": PASSWORD})
    bearers = [alice.token, key, again["access_token"]]
    headers = [{"AUTHORIZATION": f"Bearer {each}"} for each in bearers] + [{"X_API_KEY": key}]
    for path, holds in (
        (f"/v1/apps/{NOTES}/versions", True),
        (f"/apps/{NOTES}/versions/1/publish", False),
    ):
        found = [admit("POST", path, each) for each in headers]
        assert {(each.account, each.holds_share) for each in found} == {(alice.id, holds)}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"AUTHORIZATION": "Bearer short"},
        {"AUTHORIZATION": "Bearer " + "x" * 30 + "." + "y" * 30 + "." + "z" * 30},
        {"X_API_KEY": "mk_live_" + "a" * 42},
        {"AUTHORIZATION": "Basic " + "x" * 60},
    ],
)
def test_a_body_is_not_let_in_with_a_bad_credential(
    client: Client, env: Context, headers: dict[str, str]
) -> None:
    admit = Admissions(portal.build(env), env)
    with pytest.raises(Denied):
        admit("POST", f"/v1/apps/{NOTES}/versions", headers)
    assert admit("POST", f"/v1/apps/{NOTES}/versions/1/publish", headers).account == ""


def test_what_ended_lets_no_body_in(client: Client, env: Context) -> None:
    alice, admit = client.register(), Admissions(portal.build(env), env)
    key = client.post("/v1/keys", {"name": "ci", "scopes": ["versions:upload"]}, as_=alice)
    client.delete(f"/v1/keys/{key['id']}", as_=alice).expect(204)
    client.post("/v1/auth/logout", as_=alice).expect(204)
    for credential in (key["key"], alice.token):
        with pytest.raises(Denied):
            admit("POST", f"/v1/apps/{NOTES}/versions", {"AUTHORIZATION": f"Bearer {credential}"})


def test_behind_a_trusted_proxy_the_lane_is_shared_out_by_client(start: Start, app: App) -> None:
    """All come from one address here; the first client may not take all threads that wait for other servers."""
    server = start(
        admit=lambda *_: Admission(LIMIT, "outside"), proxies=(ip_network("127.0.0.0/8"),)
    )
    request = "GET {} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {}\r\n\r\n"
    crowd = [Wire(server).send(request.format("/wait", "192.0.2.1")) for _ in range(10)]
    assert eventually(lambda: len(app.calls) == OF_ONE["outside"])
    assert Wire(server).send(request.format("/small", "192.0.2.2")).answer()[0] == 200
    app.gate.set()
    assert [each.answer()[0] for each in crowd] == [200] * 10


def test_a_header_of_a_stranger_does_not_choose_whose_turn_it_is(start: Start, app: App) -> None:
    server = start(admit=lambda *_: Admission(LIMIT, "outside"))
    request = "GET /wait HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.{}\r\n\r\n"
    crowd = [Wire(server).send(request.format(number)) for number in range(10)]
    full = (4, OF_ONE["outside"], 10 - OF_ONE["outside"])
    assert eventually(lambda: server.lanes["outside"].state == full)
    assert len(app.calls) == OF_ONE["outside"]
    app.gate.set()
    assert [each.answer()[0] for each in crowd] == [200] * 10


def test_what_takes_a_password_runs_in_the_lane_for_passwords(env: Context) -> None:
    """Also routes that come later: a hash takes 30 ms of a core."""
    for route in described.calls():
        if any("password" in name for name in route.callback.operation.body or ()):
            assert route.config.get("lane") == "passwords", route.rule
    for route in portal.build(env).routes:  # pages that read such a form
        names = getattr(route.callback, "__globals__", {})
        forms = [names.get(name, ()) for name in route.callback.__code__.co_names]
        if any(isinstance(form, dict) and "password" in " ".join(form) for form in forms):
            assert route.config.get("lane") == "passwords", route.rule


class TestLimits:
    """With the rate limits on."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"RATE_LIMITS": "on"}

    def test_uploads_are_counted_for_the_account(self, client: Client) -> None:
        alice, bob = client.register(), client.register("bob")
        client.app_of(alice, NOTES)
        client.app_of(bob, "com.bob.x")
        for _ in range(POLICIES["upload"].quota):
            client.env.limits.take("upload", alice.id)
        refused = client.upload(NOTES, client.package(alice), as_=alice).expect(429, "rate_limited")
        assert refused["policy"] == "upload"
        client.upload("com.bob.x", client.package(bob, "com.bob.x"), as_=bob).expect(201)

    def test_moves_of_a_version_are_counted_and_halting_never_refused(self, client: Client) -> None:
        alice = client.register()
        client.app_of(alice, NOTES)
        client.published(alice, NOTES)
        at = f"/v1/apps/{NOTES}/versions/1.0.0"
        statuses = []
        for _ in range(POLICIES["version_moves"].quota + 1):
            client.post(at + "/halt", as_=alice).expect(200)
            statuses.append(client.post(at + "/publish", as_=alice).status)
            if statuses[-1] == 429:
                break
        assert statuses.count(200) >= POLICIES["version_moves"].quota - 3
        assert statuses[-1] == 429
        client.post(at + "/yank", {"reason": "broken"}, as_=alice).expect(200)  # also while refused
        client.post(at + "/unyank", as_=alice).expect(429, "rate_limited")

    def test_changes_are_counted_for_the_account_and_reads_are_not(self, client: Client) -> None:
        alice, bob = client.register(), client.register("bob")
        for _ in range(POLICIES["changes"].quota):
            client.env.limits.take("changes", alice.id)
        name = {"name": "Alice"}
        refused = client.patch("/v1/auth/me", name, as_=alice).expect(429, "rate_limited")
        assert refused["policy"] == "changes"
        client.get("/v1/auth/me", as_=alice).expect(200)
        client.patch("/v1/auth/me", name, as_=bob).expect(200)
