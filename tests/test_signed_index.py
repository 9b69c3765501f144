"""The signed index: what it says, that it cannot be forged or replayed, and how its key changes."""

import base64
import errno
import json
import re
import runpy
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis import packages
from mosis.clock import Clock
from mosis.config import ConfigError
from mosis.context import Context, make_context
from mosis.store import index_keys
from mosis.store.index_keys import IndexKey
from tests.catalogue import add_app, add_developer, add_listed, add_version
from tests.client import Client
from tests.conftest import FakeClock
from tests.server import running, serving

EXAMPLE = portal.HERE / "examples/verify_index.py"
example = runpy.run_path(str(EXAMPLE))
verify, Refused = example["verify"], example["Refused"]


@pytest.fixture
def acme(env: Context) -> str:
    db = env.db.connection()
    with db.write():
        developer = add_developer(db)
        add_listed(db, developer, "a.b", "Über 天气")
    return developer


def fetched(client: Client) -> tuple[bytes, bytes]:
    return client.get("/v1/store/index.json").expect(200).body, client.get(
        "/v1/store/index.json.sig"
    ).expect(200).body


def pinned(client: Client, sequence: int = 0) -> dict[str, Any]:
    return {
        "keys": [client.get("/.well-known/mosis-store-key").expect(200)["keys"][0]["public_key"]],
        "sequence": sequence,
    }


def now(client: Client) -> datetime:
    return datetime.fromtimestamp(client.env.clock.time(), UTC)


def sequence(client: Client) -> int:
    return int(client.get("/v1/store/index.json").expect(200)["sequence"])


def test_the_index_holds_what_everybody_is_offered(client: Client, acme: str) -> None:
    db = client.env.db.connection()
    with db.write():
        app = add_app(db, acme, "a.c", "Beta only")
        add_version(db, acme, app, channel="beta")
    document, state = verify(*fetched(client), pinned(client), now(client))
    assert [set(each) for each in document["apps"]] == [{
        "package_id", "name", "developer_id", "version", "version_code", "min_mosis_version", "size_bytes", "sha256",
        "signing_key_fingerprint", "app_id",
    }]  # fmt: skip
    assert (document["apps"][0]["package_id"], document["apps"][0]["name"]) == ("a.b", "Über 天气")
    assert document["expires_at"] == client.env.clock.now(7 * 86400)
    assert state["sequence"] == document["sequence"]


def test_many_apps_are_written_in_parts(
    client: Client, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosis.store.signed_index.ROWS", 3)
    db = client.env.db.connection()
    with db.write():
        for number in range(10):
            add_listed(db, acme, f"z.b{number}", "App")
    document, _ = verify(*fetched(client), pinned(client), now(client))
    assert [each["package_id"] for each in document["apps"]] == [
        "a.b",
        *(f"z.b{number}" for number in range(10)),
    ]


def test_an_empty_store_has_an_index_too(client: Client) -> None:
    document, _ = verify(*fetched(client), pinned(client), now(client))
    assert document["apps"] == []


def test_what_is_forged_replayed_or_expired_is_refused(
    client: Client, acme: str, clock: FakeClock
) -> None:
    old, state = fetched(client), pinned(client)
    with pytest.raises(Refused, match="no key"):
        verify(old[0].replace(b"a.b", b"a.x"), old[1], state, now(client))
    other = IndexKey(bytes(range(32)), "")
    forged = {"key": other.fingerprint, "signature": base64.b64encode(other.sign(old[0])).decode()}
    with pytest.raises(Refused, match="no key"):
        verify(old[0], json.dumps({"signatures": [forged]}).encode(), state, now(client))
    for rubbish in (
        b"",
        b"[]",
        b"\xff",
        b'{"signatures": [{"key": 1}]}',
        b'{"signatures": [{"key": "x", "signature": "="}]}',
    ):
        with pytest.raises(Refused):
            verify(old[0], rubbish, state, now(client))
    with client.env.db.connection().write() as db:
        db.change("UPDATE apps SET name = 'New'")
    clock.advance(5)
    new = fetched(client)
    _, state = verify(*new, state, now(client))
    with pytest.raises(Refused, match="old one"):
        verify(*old, state, now(client))
    verify(*new, state, now(client))
    clock.advance(7 * 86400)
    with pytest.raises(Refused, match="expired"):
        verify(*new, state, now(client))
    verify(*fetched(client), state, now(client))


def test_the_index_is_made_anew_only_when_something_changed_or_a_day_has_passed(
    client: Client, acme: str, clock: FakeClock
) -> None:
    first = client.get("/v1/store/index.json").expect(200)
    clock.advance(3600)
    same = client.get(
        "/v1/store/index.json", headers={"If-None-Match": first.headers["etag"]}
    ).expect(304)
    assert same.headers["cache-control"] == "public, no-cache"
    client.register("somebody")
    assert sequence(client) == first["sequence"]
    clock.advance(86400)
    assert sequence(client) > first["sequence"]


def test_the_sequence_never_goes_back(
    client: Client, acme: str, clock: FakeClock, tmp_path: Path
) -> None:
    """Not at a restart, not when an older database is put back, not when the made files are lost with it."""
    env = client.env
    env.db.connection().copy_to(tmp_path / "older.db")
    seen = [sequence(client)]

    def restarted() -> None:
        reopened = make_context(env.config, Clock(lambda: clock.at))
        other = Client(portal.build(reopened), reopened)
        assert seen[-1] < sequence(other), "a restart makes a new one"
        seen.append(sequence(other))
        assert sequence(other) == seen[-1]
        reopened.close()

    for number in range(5):
        with env.db.connection().write() as db:
            db.change("UPDATE apps SET name = ?", f"Name {number}")
        clock.advance(5)
        seen.append(sequence(client))
    env.close()
    restarted()
    for suffix in ("", "-wal", "-shm"):
        env.config.database_path.with_name(env.config.database_path.name + suffix).unlink(
            missing_ok=True
        )
    (tmp_path / "older.db").rename(env.config.database_path)
    restarted()  # at the same moment as before: the files know
    for made in (env.config.data_dir / "store-index").iterdir():
        made.unlink()
    clock.advance(1)
    with env.db.connection().write() as db:
        db.change("UPDATE store_state SET sequence = 0")
    restarted()  # the time knows
    assert seen == sorted(set(seen))


def test_an_index_that_was_lost_is_made_anew(client: Client, acme: str) -> None:
    first = sequence(client)
    for made in (client.env.config.data_dir / "store-index").iterdir():
        made.unlink()
    assert sequence(client) > first
    verify(*fetched(client), pinned(client), now(client))


def test_an_index_that_cannot_be_made_is_the_one_before(
    client: Client,
    acme: str,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = client.env.config.data_dir / "store-index"
    folder.touch()
    for name in ("index.json", "index.json.sig"):
        client.get(f"/v1/store/{name}").expect(503, code="package_unavailable")
    folder.unlink()
    first, state = fetched(client), pinned(client)
    with client.env.db.connection().write() as db:
        db.change("UPDATE apps SET name = 'Other'")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    clock.advance(5)
    monkeypatch.setattr("mosis.store.signed_index.os.fsync", full)
    caplog.clear()
    for _ in range(3):
        assert fetched(client) == first
    assert [
        "not made" in output.message for output in caplog.records if output.levelname == "ERROR"
    ] == [True], "not for each"
    made = sorted(each.suffix for each in folder.iterdir())
    assert made == [".gz", ".json"], "nothing half-made stays"
    monkeypatch.undo()
    clock.advance(5)
    document, _ = verify(*fetched(client), state, now(client))
    assert document["apps"][0]["name"] == "Other"


def change(client: Client, name: object) -> None:
    with client.env.db.connection().write() as db:
        db.change("UPDATE apps SET name = ?", f"Name {name}")


def test_signatures_name_their_own_index_which_stays_for_ten_minutes(
    client: Client, acme: str, clock: FakeClock
) -> None:
    state, held = pinned(client), []
    for number in range(8):
        change(client, number)
        held.append((clock.at, client.get("/v1/store/index.json.sig").expect(200)))
        clock.advance(100)
    change(client, "last")
    client.get("/v1/store/index.json.sig").expect(200)
    for at, signatures in held:
        answer = client.get(signatures["index_url"])
        if clock.at - at - 100 <= 600:
            document, _ = verify(answer.expect(200).body, signatures.body, state, now(client))
            assert document["sequence"] == signatures["sequence"]
            assert answer.headers["etag"] == f'"{signatures["sha256"]}"'
            assert "immutable" in answer.headers["cache-control"]
        else:
            answer.expect(404, code="not_found")
    for odd in ("0", "-1", "99999999999999999999999", "store_key", "../store_key"):
        client.get(f"/v1/store/index/{odd}.json").expect(404)


def test_the_index_of_before_stays_after_a_restart(
    client: Client, acme: str, clock: FakeClock
) -> None:
    signatures = client.get("/v1/store/index.json.sig").expect(200)
    clock.advance(30 * 86400)
    client.env.states.clear()  # as a new process has it
    assert sequence(client) > signatures["sequence"]
    answer = client.get(signatures["index_url"]).expect(200)
    assert answer.headers["etag"] == f'"{signatures["sha256"]}"'


def test_a_new_one_is_made_every_few_seconds_at_most(
    client: Client, acme: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for number in range(100):
        change(client, number)
        seen.add(sequence(client))
        clock.advance(0.5)
    assert 9 <= len(seen) <= 11
    clock.advance(5)
    assert "Name 99" in client.get("/v1/store/index.json").body.decode()
    monkeypatch.setattr("mosis.store.signed_index.KEEP_BYTES", 1)
    clock.advance(5)
    change(client, "large")
    first = sequence(client)
    clock.advance(100_000)
    change(client, "larger")
    clock.advance(-90_000)
    assert sequence(client) == first, "all that are stored for ten minutes must fit on the disk"


def test_an_index_that_is_slow_to_make_is_not_made_for_every_change(
    client: Client, acme: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosis.store.signed_index.SLOW_SECONDS", -1.0)
    monkeypatch.setattr("mosis.store.signed_index.disk.flush", lambda _: clock.advance(2))
    first = sequence(client)
    change(client, 1)
    for _ in range(10):
        assert sequence(client) == first
        clock.advance(1.9)
    clock.advance(3)
    assert sequence(client) > first


class Cache:
    """An HTTP cache between devices and the portal that stores what Cache-Control allows (RFC 9111), each address for itself."""

    def __init__(self, upstream: str, delay_seconds: float = 0.0) -> None:
        stored: dict[str, tuple[float, int, bytes, str | None]] = {}
        cache = self
        self.hits = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(delay_seconds)
                found = stored.get(self.path)
                if found is not None and found[0] > time.monotonic():
                    cache.hits += 1
                else:
                    found = stored[self.path] = self.fetched(found)
                _, status, body, _ = found
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def fetched(
                self, old: tuple[float, int, bytes, str | None] | None
            ) -> tuple[float, int, bytes, str | None]:
                headers = {"If-None-Match": old[3]} if old is not None and old[3] else {}
                asked = urllib.request.Request(upstream + self.path, headers=headers)
                try:
                    with urllib.request.urlopen(asked, timeout=60) as answer:
                        status, body, headers_sent = answer.status, answer.read(), answer.headers
                except urllib.error.HTTPError as error:
                    status, body, headers_sent = error.code, error.read(), error.headers
                if status == 304 and old is not None:
                    status, body = old[1], old[2]
                control = headers_sent["Cache-Control"]
                age = re.search(r"max-age=(\d+)", control)
                fresh = "no-" not in control and age
                until = time.monotonic() + int(age[1]) if fresh and age else 0.0
                return until, status, body, headers_sent["ETag"]

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("settings", [{"LISTEN_ADDR": "127.0.0.1:0"}])
@pytest.mark.parametrize("delay_seconds", [0.0, 0.03])
def test_a_device_behind_a_cache_verifies_while_the_store_changes(
    env: Context,
    acme: str,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    delay_seconds: float,
) -> None:
    """Every change of the store makes a new index here, which is worse than it can be; old devices still ask for both."""
    monkeypatch.setattr("mosis.store.signed_index.SECONDS_BETWEEN", 0.0)
    fetch = example["fetch"]
    with serving(env) as server, Cache(f"http://127.0.0.1:{server.port}", delay_seconds) as cache:
        client = Client(portal.build(env), env)
        state, done = pinned(client), threading.Event()

        def churn() -> None:
            number = 0
            while not done.wait(0.005):
                number += 1
                clock.advance(0.01)
                change(client, number)

        changing = threading.Thread(target=churn)
        changing.start()
        try:
            for _ in range(10):
                document, state = verify(*fetch(cache.url), state, now(client))
        finally:
            done.set()
            changing.join()
        assert document["apps"][0]["name"].startswith("Name ")
        # As devices did before: two addresses, both asked for again each time by the cache.
        for _ in range(3):
            change(client, "quiet")
            signatures, index = (
                urllib.request.urlopen(f"{cache.url}/v1/store/index.json{end}").read()
                for end in (".sig", "")
            )
            document, state = verify(index, signatures, state, now(client))
        again = [json.loads(signatures)["index_url"]] * 3
        assert len({urllib.request.urlopen(cache.url + each).read() for each in again}) == 1
        assert cache.hits >= 2, "what never changes is stored"


def test_a_rotated_key_is_learnt_from_what_the_old_one_signs(
    client: Client, acme: str, clock: FakeClock
) -> None:
    state = pinned(client)
    never_asked = dict(state)
    verify(*fetched(client), state, now(client))
    new = index_keys.rotate(client.env)
    shown = client.get("/.well-known/mosis-store-key")["keys"]
    assert shown[0]["fingerprint"] == new.fingerprint
    assert [key["announced_until"] for key in shown] == [None, client.env.clock.now(30 * 86400)]
    _, state = verify(*fetched(client), state, now(client))
    clock.advance(31 * 86400)
    assert len(client.get("/.well-known/mosis-store-key")["keys"]) == 1
    verify(*fetched(client), state, now(client))
    with pytest.raises(Refused, match="no key"):
        verify(*fetched(client), never_asked, now(client))


def test_the_file_of_keys_is_readable_by_its_owner_alone(env: Context) -> None:
    first = index_keys.index_keys(env)[0]
    path = env.config.data_dir / "store_key.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert index_keys.index_keys(env)[0].private == first.private
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert packages.parse_public_key(base64.b64encode(first.public).decode()) == first.public
    for damage in (
        b"",
        b"{}",
        b'{"keys": []}',
        path.read_bytes().replace(b'"created_at": "', b'"created_ot": "'),
    ):
        path.write_bytes(damage)
        with pytest.raises(ConfigError, match=r"store_key\.json"):
            index_keys.index_keys(env)


def test_a_key_that_was_lost_is_reported(
    client: Client, acme: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = index_keys.index_keys(client.env)
    sequence(client)
    assert not [record for record in caplog.records if record.levelname == "ERROR"], (
        "the first key is no loss"
    )
    (client.env.config.data_dir / "store_key.json").unlink()
    assert index_keys.index_keys(client.env) != first
    assert [
        "was missing" in record.message for record in caplog.records if record.levelname == "ERROR"
    ] == [True]


@pytest.mark.slow
def test_the_real_portal_makes_its_key_rotates_it_and_satisfies_the_example(tmp_path: Path) -> None:
    with running(tmp_path) as server:

        def command(*words: str) -> str:
            ran = subprocess.run(
                [sys.executable, *words],
                env=server.environment,
                cwd=tmp_path,
                timeout=60,
                capture_output=True,
            )
            assert ran.returncode == 0, ran.stderr
            return ran.stdout.decode()

        key = json.loads((tmp_path / "data/store_key.json").read_bytes())["keys"][0]
        public = base64.b64encode(
            IndexKey(base64.b64decode(key["private_key"]), "").public
        ).decode()
        example = [str(EXAMPLE), server.url, "--key", public, "--state", "state.json"]
        assert command(*example).startswith("good: sequence ")
        rotated = command(str(portal.HERE / "portal.py"), "store-key", "rotate").splitlines()
        assert [line.partition("  ")[2].split()[0] for line in rotated] == ["signs", "announced"]
        assert command(*example).startswith("good: sequence ")
        assert len(json.loads((tmp_path / "state.json").read_text())["keys"]) == 2
        state = json.loads((tmp_path / "state.json").read_text())
        (tmp_path / "state.json").write_text(
            json.dumps(state | {"sequence": state["sequence"] + 10**9})
        )
        refused = subprocess.run(
            [sys.executable, *example], cwd=tmp_path, timeout=60, capture_output=True, text=True
        )
        assert (refused.returncode, "it is an old one" in refused.stderr) == (1, True)
        server.stop()
        missed = subprocess.run(
            [sys.executable, *example], cwd=tmp_path, timeout=60, capture_output=True, text=True
        )
        assert (missed.returncode, missed.stderr.startswith("not fetched: ")) == (1, True)
