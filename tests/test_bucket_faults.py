"""The bucket fails, or the portal does while it uses it: nothing is lost, and nobody waits who does not need it."""

import errno
import hashlib
import json
import os
import random
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mosis.context import Context
from mosis.operations.doctor import examine
from mosis.outbound.objects import Bucket, BucketUnavailable, open_bucket
from mosis.packages.bucket_storage import BucketFiles, package_name
from tests.catalogue import add_app, add_developer, add_version
from tests.client import Account, Client
from tests.package_builder import build_package, signing_key
from tests.seaweed import Line, SeaweedFS
from tests.server import Running, serving, wait_until
from tests.test_fault_injection import faults, tried

pytestmark = pytest.mark.slow
NOTES = "com.acme.notes"


@pytest.fixture(scope="module")
def running_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A store of this module, which its tests stop and start."""
    store = SeaweedFS(tmp_path_factory.mktemp("weed"))
    try:
        store.start()
        yield store
    finally:
        store.remove()


@pytest.fixture
def own(running_store: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> SeaweedFS:
    """The store, running."""
    if running_store.process is None or running_store.process.poll() is not None:
        running_store.start()
    for name, value in running_store.environment.items():
        monkeypatch.setenv(name, value)
    return running_store


@pytest.fixture
def line(own: SeaweedFS) -> Iterator[Line]:
    """A line to the store."""
    made = Line(own.ports["s3"])
    yield made
    made.close()


@pytest.fixture
def prefix() -> str:
    return os.urandom(8).hex()


@pytest.fixture
def settings(own: SeaweedFS, line: Line, prefix: str) -> dict[str, str]:
    return {
        "PACKAGES_URL": own.url("tests", prefix, line.endpoint),
        "LISTEN_ADDR": "127.0.0.1:0",
        "BASE_URL": "http://localhost",
    }


@pytest.fixture
def bucket(own: SeaweedFS, prefix: str) -> Bucket:
    """The bucket of the portal, without the line."""
    return open_bucket(own.url("tests", prefix))


def add_packages(env: Context, bucket: Bucket, count: int, size: int = 50_000) -> dict[str, bytes]:
    """Published packages that are in the bucket alone: {path: content}."""
    db, made = env.db.connection(), {}
    with db.write():
        developer = add_developer(db)
        app = add_app(db, developer, NOTES, "Notes")
        for number in range(count):
            content = random.Random(number).randbytes(size)
            sha256 = hashlib.sha256(content).hexdigest()
            version = add_version(db, developer, app, number + 1, size_bytes=size, sha256=sha256)
            bucket.create(package_name(app, sha256, version), content, sha256)
            made[f"/packages/{developer}/{app}/1.{number + 1}.0/package.mosis"] = content
    return made


def ask(port: int, path: str, timeout: float = 60) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of a GET."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Host": "localhost"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


@contextmanager
def asking(port: int, paths: list[str]) -> Iterator[list[tuple[int, bytes, dict[str, str]]]]:
    """Ask for all of these at the same time, each on a connection of its own; the answers come into
    the list."""
    answers: list[tuple[int, bytes, dict[str, str]]] = []
    threads = [
        threading.Thread(target=lambda path=path: answers.append(ask(port, path)), daemon=True)  # type: ignore[misc]
        for path in paths
    ]
    for thread in threads:
        thread.start()
    yield answers
    for thread in threads:
        thread.join(60)


def test_downloads_wait_for_a_silent_bucket_without_a_thread_and_fail_when_it_dies(
    env: Context, own: SeaweedFS, bucket: Bucket
) -> None:
    made = add_packages(env, bucket, 20)  # more than the portal has threads
    assert isinstance(env.files, BucketFiles)
    with serving(env) as server:
        own.pause()
        try:
            with asking(server.port, [*made]) as answers:
                fetches = env.files._fetches._by_name
                wait_until(lambda: len(fetches) + len(answers) >= 20)
                for path in ("/healthz", "/v1/store/apps", f"/v1/store/apps/{NOTES}", "/livez"):
                    assert ask(server.port, path)[0] == 200
                own.kill()
        finally:
            own.go_on()
        assert len(answers) == 20
        for status, body, headers in answers:
            assert (status, json.loads(body)["code"]) == (503, "package_unavailable")
            assert int(headers["Retry-After"]) > 0
        wait_until(lambda: b"bucket_unavailable" in ask(server.port, "/readyz")[1])
        own.start()
        for path, content in made.items():
            wait_until(lambda path=path: ask(server.port, path)[0] == 200)  # type: ignore[misc]
            assert ask(server.port, path)[1] == content
        wait_until(lambda: b"bucket_unavailable" not in ask(server.port, "/readyz")[1])


def test_one_client_with_many_packages_lets_another_through(
    env: Context, own: SeaweedFS, bucket: Bucket
) -> None:
    files = env.files
    assert isinstance(files, BucketFiles)
    made = [*add_packages(env, bucket, 12).items()]
    assert [*bucket.list("packages")]
    own.pause()
    try:
        fetches = []
        for number, (path, content) in enumerate(made):
            client = "greedy" if number < 11 else "modest"
            version = path.split("/")[-2]
            row = env.db.connection().one(
                "SELECT app_id, sha256, id, size_bytes FROM versions WHERE version = ?", version
            )
            name = package_name(*row[:3])
            fetches.append(files._begin(name, len(content), row[1], client))
        wait_until(lambda: files._fetches._queue._held.get("modest") == 1)
        assert files._fetches._queue._held == {"greedy": 2, "modest": 1}
    finally:
        own.go_on()
    for fetch in fetches:
        fetch.wait(60)


class Http:
    """A developer who speaks HTTP with a portal."""

    def __init__(self, server: Running) -> None:
        self.server, self.key, self.token = server, signing_key(), ""

    def post(self, path: str, body: Any, timeout: float = 60) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if not isinstance(body, bytes) else {}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(self.server.url + path, raw, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def begin(self) -> None:
        """Make an account, a key and an app."""
        who = {"email": "alice@example.net", "password": "correct horse battery", "name": "Alice"}
        self.token = self.post("/v1/auth/register", who)[1]["access_token"]
        public = {"name": "laptop", "public_key": self.key.public_base64}
        assert self.post("/v1/signing-keys", public)[0] == 201
        assert self.post("/v1/apps", {"package_id": NOTES, "name": "Notes"})[0] == 201

    def upload(self, version: str, code: int) -> tuple[int, Any]:
        package = build_package(package_id=NOTES, version=version, version_code=code, key=self.key)
        return self.post(f"/v1/apps/{NOTES}/versions", package)


def test_a_portal_killed_during_a_put_has_no_row_without_its_object(
    own: SeaweedFS, tmp_path: Path, line: Line, bucket: Bucket, prefix: str
) -> None:
    import sqlite3

    url = own.url("tests", prefix, line.endpoint)
    server = Running(tmp_path, {"PACKAGES_URL": url})
    server.start()
    try:
        alice = Http(server)
        alice.begin()
        assert alice.upload("1.0.0", 1)[0] == 201
        line.hold(1500)  # in the body of the PUT
        thread = threading.Thread(target=lambda: _interrupted(alice), daemon=True)
        thread.start()
        assert line.reached.wait(60)
        server.kill()
        line.release.set()
        thread.join(60)
        server.start()
        with sqlite3.connect(tmp_path / "data/portal.db") as db:
            rows = db.execute("SELECT app_id, sha256, id FROM versions").fetchall()
        objects = {each.name for each in bucket.list("packages")}
        assert {package_name(*row) for row in rows} <= objects
        assert alice.upload("3.0.0", 300)[0] == 201
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()


def _interrupted(alice: Http) -> None:
    with pytest.raises((OSError, ValueError)):
        alice.upload("2.0.0", 2)


def test_a_clock_that_is_twenty_minutes_off_is_named(
    client: Client, alice: Account, env: Context, line: Line
) -> None:
    client.published(alice, NOTES)

    def late(data: bytes) -> bytes:
        then = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 1200)).encode()
        return re.sub(rb"x-amz-date: \d{8}T\d{6}Z", b"x-amz-date: " + then, data)

    line.rewrite = late
    refused = client.upload(NOTES, client.package(alice, version="2.0.0", code=9), as_=alice)
    refused.expect(503, code="package_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert isinstance(env.files, BucketFiles)
    assert "clock of this machine" in str(env.files.trouble())
    lines = [each for each in examine(env.config, 1) if each.subject == "bucket"]
    assert [(each.level, "clock of this machine" in each.text) for each in lines] == [("bad", True)]
    client.get("/v1/store/apps").expect(200)


def test_an_upload_meets_a_fault_at_every_step_with_a_bucket(
    client: Client, alice: Account, env: Context, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.upload(NOTES, client.package(alice, version="0.1.0"), as_=alice).expect(201)
    met = 0
    for number, fault in enumerate(faults(errno.EIO), 1):
        package = client.package(alice, version=f"1.0.{number}", code=number)
        answer = tried(monkeypatch, fault, partial(client.upload, NOTES, package, as_=alice))
        rows = env.db.connection().all("SELECT app_id, sha256, id FROM versions")
        objects = {each.name for each in bucket.list("packages")}
        assert {package_name(*row) for row in rows} == objects, fault.where
        if not fault.where:
            answer.expect(201)
            continue
        met += 1
        assert answer.status in (201, 503), (fault.where, answer.body)
    assert met >= 5


def test_a_portal_starts_without_its_bucket_and_does_everything_else(
    client: Client, alice: Account, env: Context, line: Line
) -> None:
    line.down()
    package = client.package(alice)
    for _ in range(2):  # asked, then known
        answer = client.upload(NOTES, package, as_=alice)
        answer.expect(503, code="package_unavailable")
        assert int(answer.headers["retry-after"]) > 0
    ready = client.get("/readyz").expect(503, code="not_ready")
    assert ready.finding("/packages") == "bucket_unavailable"
    client.get("/v1/store/apps").expect(200)
    client.patch(f"/v1/apps/{NOTES}", {"summary": "Notes"}, as_=alice).expect(200)
    assert env.db.connection().value("SELECT count(*) FROM versions") == 0
    line.up()
    files = env.files
    assert isinstance(files, BucketFiles)
    files.gate._until = 0.0
    client.upload(NOTES, package, as_=alice).expect(201)


def test_a_release_needs_no_bucket_while_its_package_is_here(
    client: Client, alice: Account, line: Line
) -> None:
    client.upload(NOTES, client.package(alice), as_=alice, query="?submit=true").expect(201)
    client.work()
    at = f"/v1/apps/{NOTES}/versions/1.0.0"
    review = client.get(at, as_=alice)["review"]["id"]
    client.post(f"/v1/reviews/{review}/approve", as_=client.reviewer()).expect(200)
    line.down()
    published = client.post(at + "/publish", as_=alice).expect(200)
    path = published["download_url"].removeprefix(client.env.config.base_url)
    client.get(path).expect(200)


def test_an_upload_is_refused_before_its_body_while_the_bucket_is_down(
    client: Client, alice: Account, env: Context, line: Line
) -> None:
    line.down()
    client.upload(NOTES, client.package(alice), as_=alice).expect(503, code="package_unavailable")
    assert isinstance(env.files, BucketFiles)
    env.files.gate._until = time.monotonic() + 600  # however slow this machine is
    head = (
        f"POST /v1/apps/{NOTES}/versions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {alice.token}\r\nContent-Length: 1000000\r\n\r\n"
    )
    with (
        serving(env) as server,
        socket.create_connection(("127.0.0.1", server.port), 60) as connection,
    ):
        connection.sendall(head.encode())
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: " in answer.lower()


def test_a_full_bucket_refuses_uploads_and_still_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SeaweedFS(tmp_path / "full", "-volume.max=24", "-master.volumeSizeLimitMB=1")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    server = None
    try:
        store.start()
        url = store.url("tests", "full")
        server = Running(tmp_path, {"PACKAGES_URL": url})
        server.start()
        alice = Http(server)
        alice.begin()
        assert alice.upload("1.0.0", 1)[0] == 201
        bucket = open_bucket(url)
        with pytest.raises(BucketUnavailable, match="or is full"):
            for number in range(400):
                bucket.put(f"filler/{number}", os.urandom(500_000))
        status, answer = alice.upload("2.0.0", 2)
        assert (status, answer["code"]) == (503, "package_unavailable")
        (stored,) = bucket.list("packages")
        assert hashlib.sha256(bucket.get(stored.name)[0]).hexdigest() in stored.name
        with socket.create_connection(("127.0.0.1", server.port), 60):
            assert urllib.request.urlopen(server.url + "/v1/store/apps", timeout=60).status == 200
    finally:
        if server is not None and server.process is not None and server.process.poll() is None:
            server.kill()
        store.remove()


def test_a_fetch_whose_connection_breaks_is_continued_or_made_again(
    env: Context, bucket: Bucket, line: Line
) -> None:
    ((path, content),) = add_packages(env, bucket, 1, 4 << 20).items()
    line.hold(2 << 20, answers=True)
    with serving(env) as server:
        with asking(server.port, [path]) as answers:
            assert line.reached.wait(60)
            line.down()
            line.up()
            line.release.set()
        assert answers[0][:2] == (200, content) or answers[0][0] == 503
        wait_until(lambda: ask(server.port, path)[:2] == (200, content))


def test_a_store_killed_during_a_fetch_has_nothing_served(
    env: Context, own: SeaweedFS, bucket: Bucket, line: Line
) -> None:
    ((path, _),) = add_packages(env, bucket, 1, 32 << 20).items()
    line.hold(2 << 20, answers=True)
    assert isinstance(env.files, BucketFiles)
    with serving(env) as server:
        with asking(server.port, [path]) as answers:
            assert line.reached.wait(60)
            own.kill()
            line.release.set()
        assert (answers[0][0], json.loads(answers[0][1])["code"]) == (503, "package_unavailable")
        assert list(env.files.cache_dir.iterdir()) == []
        assert ask(server.port, "/v1/store/apps")[0] == 200
