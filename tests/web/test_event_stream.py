"""Server-Sent Events on a real server: many streams that wait hold no thread, and all end with the event."""

import http.client
import json

import pytest

from mosis import events
from mosis.context import Context
from tests.client import Client
from tests.server import serving, wait_until

STREAMS = 12  # more than the server has threads for quick requests


@pytest.fixture
def settings() -> dict[str, str]:
    return {"LISTEN_ADDR": "127.0.0.1:0", "THREADS": "4"}


def test_streams_hold_no_thread_and_end_with_the_event(env: Context, client: Client) -> None:
    alice = client.register()
    db = env.db.connection()
    head = {
        "Accept": "text/event-stream",
        "Authorization": f"Bearer {alice.token}",
        "Last-Event-ID": "0",
    }
    with serving(env) as server:
        streams = [
            http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(STREAMS)
        ]
        for stream in streams:
            stream.request("GET", "/v1/events", headers=head)
        wait_until(lambda: env.news.waiting(alice.id) == STREAMS, "every stream waits")
        other = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        other.request("GET", "/livez")  # needs a thread
        assert other.getresponse().status == 200
        with db.write():
            event = events.add(db, alice.id, "version.published", package_id="com.acme.notes")
        for stream in streams:
            answer = stream.getresponse()
            assert answer.getheader("Content-Type") == "text/event-stream"
            lines = answer.read().decode().splitlines()
            assert f"id: {event}" in lines
            data = next(line for line in lines if line.startswith("data: "))
            assert json.loads(data.removeprefix("data: "))["kind"] == "version.published"
            stream.close()
        other.close()
