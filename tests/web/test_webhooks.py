"""Webhooks, delivered to real receivers on 127.0.0.1: good ones and bad ones."""

import base64
import hashlib
import hmac
import http.server
import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mosis import events
from mosis.context import Context
from mosis.notifications import webhooks
from mosis.outbound import http as outside
from tests.client import Account, Answer, Client
from tests.conftest import FakeClock


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery may take long: this machine may be busy."""
    monkeypatch.setattr(outside, "WHOLE_SECONDS", 60.0)


class Receiver:
    """A server that stores its requests and answers as configured."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.answer: Callable[[Any], None] | None = None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(
                    ({name.lower(): value for name, value in self.headers.items()}, body)
                )
                if outer.answer:
                    outer.answer(self)
                    return
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?a=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def settings() -> dict[str, str]:
    return {"WEBHOOKS_PRIVATE": "allow"}


@pytest.fixture
def alice(client: Client) -> Account:
    return client.register()


def hook(client: Client, account: Account, receiver: Receiver, **more: Any) -> Answer:
    return client.post("/v1/webhooks", {"url": receiver.url, **more}, as_=account).expect(201)


def happen(client: Client, account: Account, kind: str = "version.published") -> str:
    db = client.env.db.connection()
    with db.write():
        return events.add(db, account.id, kind, package_id="com.acme.notes", version="1.0.0")


def log(client: Client, account: Account, webhook: Answer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(
        f"/v1/webhooks/{webhook['id']}/deliveries", as_=account
    ).expect(200)["deliveries"]
    return found


def signature(secret: str, headers: dict[str, str], body: bytes) -> str:
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def test_an_event_is_sent_and_signed(
    client: Client, alice: Account, receiver: Receiver, clock: FakeClock
) -> None:
    made = hook(client, alice, receiver)
    event = happen(client, alice)
    happen(client, client.register("bob"))
    client.work()
    [(headers, body)] = receiver.got
    assert headers["webhook-id"] == event
    assert int(headers["webhook-timestamp"]) == int(clock.at)
    assert headers["webhook-signature"] == signature(made["secret"], headers, body)
    assert headers["host"] == receiver.url.split("/")[2]
    sent = json.loads(body)
    assert (sent["type"], sent["data"]["id"], sent["data"]["version"]) == (
        "version.published",
        event,
        "1.0.0",
    )
    [delivery] = log(client, alice, made)
    assert (delivery["state"], delivery["status"], delivery["attempts"]) == ("delivered", 204, 1)


def test_only_wanted_kinds_are_sent_and_the_secret_is_shown_once(
    client: Client, alice: Account, receiver: Receiver
) -> None:
    made = hook(client, alice, receiver, kinds=["version.published"])
    happen(client, alice, "version.halted")
    happen(client, alice)
    client.work()
    assert len(receiver.got) == 1
    assert "secret" not in client.get(f"/v1/webhooks/{made['id']}", as_=alice).expect(200).json
    assert "secret" not in client.get("/v1/webhooks", as_=alice)["webhooks"][0]
    client.post("/v1/webhooks", {"url": receiver.url, "kinds": ["nonsense"]}, as_=alice).expect(
        422, "invalid"
    )


def test_nobody_sees_the_webhooks_of_others(
    client: Client, alice: Account, receiver: Receiver
) -> None:
    made, bob = hook(client, alice, receiver), client.register("bob")
    at = f"/v1/webhooks/{made['id']}"
    for method, path in (
        ("GET", at),
        ("DELETE", at),
        ("GET", at + "/deliveries"),
        ("POST", at + "/rotate"),
    ):
        client.call(method, path, as_=bob).expect(404)
    key = client.post("/v1/keys", {"name": "ci", "scopes": ["apps:read"]}, as_=alice)["key"]
    client.get("/v1/webhooks", as_=key).expect(403)
    assert client.get("/v1/webhooks", as_=bob)["webhooks"] == []


def test_after_a_rotation_both_secrets_sign_for_a_day(
    client: Client, alice: Account, receiver: Receiver, clock: FakeClock
) -> None:
    made = hook(client, alice, receiver)
    rotated = client.post(f"/v1/webhooks/{made['id']}/rotate", as_=alice).expect(200)
    happen(client, alice)
    client.work()
    headers, body = receiver.got[0]
    assert headers["webhook-signature"].split(" ") == [
        signature(each["secret"], headers, body) for each in (rotated, made)
    ]
    clock.advance(24 * 3600)
    happen(client, alice)
    client.work()
    headers, body = receiver.got[1]
    assert headers["webhook-signature"] == signature(rotated["secret"], headers, body)


def test_what_fails_is_tried_again_with_growing_delays_and_the_same_id(
    client: Client, alice: Account, receiver: Receiver, clock: FakeClock
) -> None:
    made = hook(client, alice, receiver)
    receiver.status = 500
    happen(client, alice)
    client.work()
    client.work()
    assert len(receiver.got) == 1
    for delay in webhooks.DELAYS:
        clock.advance(delay + 1)
        client.work()
    assert len(receiver.got) == 1 + len(webhooks.DELAYS)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    alice = client.sign_in(alice)
    [delivery] = log(client, alice, made)
    assert (delivery["state"], delivery["status"], delivery["error"]) == (
        "failed",
        500,
        "answered 500",
    )
    receiver.status = 204
    clock.advance(400)
    again = f"/v1/webhooks/{made['id']}/deliveries/{delivery['id']}/redeliver"
    client.post(again, as_=alice).expect(200)
    client.post(again, as_=alice).expect(409, "invalid_state")
    client.work()
    assert log(client, alice, made)[0]["state"] == "delivered"
    assert receiver.got[-1][0]["webhook-id"] == receiver.got[0][0]["webhook-id"]


def test_one_that_fails_costs_one_attempt_however_much_is_to_be_sent(
    client: Client, alice: Account, receiver: Receiver, clock: FakeClock
) -> None:
    hook(client, alice, receiver)
    receiver.status = 503
    for _ in range(50):
        happen(client, alice)
    client.work()
    assert len(receiver.got) == 1
    receiver.status = 204
    clock.advance(6)
    client.work()
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 50
    assert (
        client.env.db.connection().value(
            "SELECT count(*) FROM jobs WHERE state IN ('waiting', 'running')"
            " AND kind = 'deliver_webhook'"
        )
        == 0
    )


def test_a_day_is_the_end(
    client: Client, alice: Account, receiver: Receiver, clock: FakeClock
) -> None:
    made = hook(client, alice, receiver)
    receiver.status = 500
    happen(client, alice)
    client.work()
    clock.advance(25 * 3600)
    client.work()
    assert len(receiver.got) == 1
    assert log(client, client.sign_in(alice), made)[0]["state"] == "failed"


def test_after_a_week_of_failures_it_is_switched_off_and_its_owner_is_notified(
    client: Client, alice: Account, receiver: Receiver, clock: FakeClock
) -> None:
    made = hook(client, alice, receiver)
    receiver.status = 500
    for _ in range(8):
        happen(client, alice)
        client.work()
        clock.advance(24 * 3600)
    alice = client.sign_in(alice)
    assert client.get(f"/v1/webhooks/{made['id']}", as_=alice)["enabled"] is False
    assert [each["kind"] for each in client.notifications(alice)].count("webhook.switched_off") == 1
    before = len(receiver.got)
    happen(client, alice)
    client.work()
    assert len(receiver.got) == before
    receiver.status = 204
    client.patch(f"/v1/webhooks/{made['id']}", {"enabled": True}, as_=alice).expect(200)
    happen(client, alice)
    client.work()
    assert len(receiver.got) == before + 1


def test_gone_switches_it_off_at_once(client: Client, alice: Account, receiver: Receiver) -> None:
    made = hook(client, alice, receiver)
    receiver.status = 410
    happen(client, alice)
    client.work()
    assert client.get(f"/v1/webhooks/{made['id']}", as_=alice)["enabled"] is False


def test_a_redirect_is_not_followed(client: Client, alice: Account, receiver: Receiver) -> None:
    other = Receiver()

    def redirect(handler: Any) -> None:
        handler.send_response(307)
        handler.send_header("Location", other.url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    receiver.answer = redirect
    made = hook(client, alice, receiver)
    happen(client, alice)
    client.work()
    assert other.got == []
    assert "redirects are not followed" in log(client, alice, made)[0]["error"]
    other.server.shutdown()
    other.server.server_close()


@pytest.mark.parametrize("bad", ["silent", "drip in the head", "drip in the body"])
def test_a_receiver_that_hangs_is_left(
    client: Client,
    alice: Account,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    bad: str,
) -> None:
    left = threading.Event()
    monkeypatch.setattr(outside, "WHOLE_SECONDS", 5.0 if bad == "drip in the body" else 0.5)

    def hang(handler: Any) -> None:
        if bad == "drip in the body":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while not left.wait(0.1):
                if bad != "silent":
                    handler.wfile.write(b"H" if bad == "drip in the head" else b"x")
                    handler.wfile.flush()
        except OSError:
            pass

    receiver.answer = hang
    made = hook(client, alice, receiver)
    happen(client, alice)
    client.work()
    left.set()
    [delivery] = log(client, alice, made)
    if bad == "drip in the body":
        assert (delivery["state"], delivery["status"]) == (
            "delivered",
            200,
        )  # the receiver has answered
    else:
        assert delivery["error"] == "took longer than 0.5 seconds"


def test_an_answer_of_100_mb_is_not_read(
    client: Client, alice: Account, receiver: Receiver
) -> None:
    sent = []

    def flood(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        try:
            for _ in range(1600):
                handler.wfile.write(bytes(65_536))
                sent.append(65_536)
        except OSError:
            pass

    receiver.answer = flood
    made = hook(client, alice, receiver)
    happen(client, alice)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    client.work()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    assert sum(sent) < 50_000_000
    assert log(client, alice, made)[0]["state"] == "delivered"


def test_headers_without_end_are_refused(
    client: Client, alice: Account, receiver: Receiver
) -> None:
    def flood(handler: Any) -> None:
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Y: " + b"z" * 1000 + b"\r\n")
            for _ in range(100_000):
                handler.wfile.write(b"X-Y: " + b"z" * 1000 + b"\r\n")
        except OSError:
            pass

    receiver.answer = flood
    made = hook(client, alice, receiver)
    happen(client, alice)
    client.work()
    assert log(client, alice, made)[0]["state"] == "waiting"
    assert log(client, alice, made)[0]["error"]


def test_a_killed_delivery_is_made_again(
    client: Client, env: Context, alice: Account, receiver: Receiver, clock: FakeClock
) -> None:
    """What a process had claimed when it was killed is due again a minute later."""
    hook(client, alice, receiver)
    happen(client, alice)
    db = env.db.connection()
    assert webhooks._claim(db, db.value("SELECT id FROM webhooks"))
    client.work()
    assert receiver.got == []
    clock.advance(webhooks.LEASE_SECONDS + 1)
    client.work()
    assert len(receiver.got) == 1


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.1.2.3", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "nonsense",
])  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not outside.is_public(address)


def test_public_addresses_are_allowed() -> None:
    assert outside.is_public("8.8.8.8")
    assert outside.is_public("2606:4700:4700::1111")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0177.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"],
)
def test_this_machine_is_not_reached_however_it_is_written(receiver: Receiver, host: str) -> None:
    port = receiver.server.server_address[1]
    with pytest.raises(outside.Unreachable):
        outside.post(f"http://{host}:{port}/", b"{}", {})
    assert receiver.got == []


def test_a_name_is_resolved_once_and_what_was_checked_is_called(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that points to a public address first and to this machine afterwards (DNS rebinding) does not get there."""
    answers = [
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.114.1", 80))],
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", receiver.server.server_address)],
    ]
    called = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers.pop(0))
    monkeypatch.setattr(
        socket, "create_connection", lambda address, timeout: called.append(address) or _refuse()
    )
    with pytest.raises(outside.Unreachable):
        outside.post("http://rebinds.example/", b"{}", {})
    assert called == [("203.0.114.1", 80)]
    assert len(answers) == 1


def test_a_name_that_is_not_resolved_takes_no_longer_than_all_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A silent name server holds the resolver for half a minute, and nobody who waits for it longer than they want to."""
    asked, released = threading.Event(), threading.Event()

    def resolve(*_: object, **__: object) -> None:
        asked.set()
        released.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(outside, "WHOLE_SECONDS", 0.3)
    with pytest.raises(outside.Unreachable, match="took longer than"):
        outside.post("http://silent.example/", b"{}", {})
    assert asked.is_set()
    released.set()


def test_the_next_address_is_tried_when_one_is_dead(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = receiver.server.server_address[1]
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in ("127.0.0.2", "127.0.0.3", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(outside.Unreachable, match="not of the public internet"):
        outside.post(f"http://several.example:{port}/", b"{}", {})
    assert outside.post(f"http://several.example:{port}/", b"{}", {}, private=True) == 204


def test_one_address_that_is_not_public_among_others_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
        for address in ("8.8.8.8", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(outside.Unreachable, match="not of the public internet"):
        outside.post("http://mixed.example/", b"{}", {})


def _refuse() -> socket.socket:
    raise ConnectionRefusedError


@pytest.mark.parametrize("url", [
    "ftp://example.net/", "http:///x", "https://user:pw@example.net/", "https://example.net/#x", "nonsense", "http://example.net:0/",
    "http://exa mple.net/", "http://example.net:99999/", "http://[::1/", "http://bücher.example/",
])  # fmt: skip
def test_an_address_has_to_be_one(client: Client, alice: Account, url: str) -> None:
    client.post("/v1/webhooks", {"url": url}, as_=alice).expect(422, "invalid")


@pytest.mark.parametrize("host", [
    "127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0", "017700000001", "10.1", "[::1]", "[::ffff:10.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1", "[fe80::1%25eth0]",
])  # fmt: skip
def test_a_private_address_is_refused_when_it_is_written_down(host: str) -> None:
    assert outside.complaint(f"http://{host}/") is not None
    if "%" not in host:
        assert outside.complaint(f"http://{host}/", private=True) is None


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "134744072", "[2606:4700:4700::1111]", "ci.acme.example", "1password.example"],
)
def test_public_addresses_and_names_may_be_written_down(host: str) -> None:
    assert outside.complaint(f"http://{host}/") is None


def test_ten_are_the_most(client: Client, alice: Account, receiver: Receiver) -> None:
    for _ in range(10):
        hook(client, alice, receiver)
    client.post("/v1/webhooks", {"url": receiver.url}, as_=alice).expect(409, "limit_reached")


def test_the_log_goes_after_a_week(
    client: Client, alice: Account, receiver: Receiver, clock: FakeClock
) -> None:
    made = hook(client, alice, receiver)
    happen(client, alice)
    client.work()
    clock.advance(7 * 24 * 3600 + 1)
    webhooks.sweep(client.env)
    assert log(client, client.sign_in(alice), made) == []


def test_the_database_is_for_its_owner_alone(env: Context) -> None:
    assert env.config.database_path.stat().st_mode & 0o077 == 0
