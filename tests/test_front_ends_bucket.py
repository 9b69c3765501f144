"""A store front end whose replica and packages are in a bucket."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.front_ends import SECRET, FrontEndProcess, ask, paired
from tests.server import Backed, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(bucket_url: str) -> dict[str, str]:
    address, _, query = bucket_url.partition("?")
    return {
        "LISTEN_ADDR": "127.0.0.1:0",
        "FRONT_END_SECRET": SECRET,
        "BACKUP_URL": f"{address}/replica?{query}",
        "PACKAGES_URL": f"{address}/packages?{query}",
    }


def test_replica_and_packages_come_from_the_bucket(
    client: Client,
    alice: Account,
    tmp_path: Path,
    clock: FakeClock,
    settings: dict[str, str],
) -> None:
    client.published(alice, "com.acme.notes")
    more = {name: settings[name] for name in ("BACKUP_URL", "PACKAGES_URL")}
    packages = str(tmp_path / "front/packages")
    with paired(
        client.env, tmp_path / "front", clock, BACKUPS_DIR="", PACKAGES_DIR=packages, **more
    ) as pair:
        pair.taken_over()
        app, owner = pair.primary.db.connection().one("SELECT id, developer_id FROM apps")
        for path in (
            "/v1/store/apps",
            "/v1/store/index.json",
            f"/packages/{owner}/{app}/1.0.0/package.mosis",
            f"/assets/{app}/icon-64.png",
        ):
            of_primary, of_front = pair.both(path)
            assert of_front == of_primary
            assert of_front[0] == 200, path
        stored = [path for path in Path(packages).rglob("*") if path.is_file()]
        assert stored, "the front end has a cache of its own"
        with pair.primary.db.connection().write() as db:
            db.change("UPDATE apps SET name = 'Renamed'")
        pair.taken_over()
        assert b"Renamed" in ask(pair.port, "/v1/store/apps/com.acme.notes")[2]


def developer_shown(port: int) -> str:
    status, _, body = ask(port, "/v1/store/apps?limit=1")
    return str(json.loads(body)["apps"][0]["developer"]["name"]) if status == 200 else ""


@pytest.mark.campaign
def test_it_follows_the_portal_that_takes_the_lease(tmp_path: Path, bucket_url: str) -> None:
    settings = {
        "BACKUP_URL": bucket_url,
        "BACKUP_KEY": "a passphrase of this test alone",
        "LEASE_SECONDS": "10",
        "BASE_URL": "https://apps.example.net",
        "FRONT_END_SECRET": SECRET,
    }
    for name in ("one", "two", "front"):
        (tmp_path / name).mkdir()
    one, two = (Backed(tmp_path / name, settings) for name in ("one", "two"))
    own = {"BACKUP_URL": bucket_url, "BACKUPS_DIR": ""}
    front = FrontEndProcess(tmp_path / "front", one, tmp_path, **own)
    try:
        one.start()
        with closing(sqlite3.connect(one.data / "portal.db", timeout=60)) as raw:
            fill(raw)
        front.start()
        wait_until(lambda: developer_shown(front.port) == "First", "it follows the first")
        one.kill()
        two.start(120)
        with closing(sqlite3.connect(two.data / "portal.db", timeout=60)) as raw, raw:
            raw.execute("UPDATE developers SET name = 'Second'")
        wait_until(lambda: developer_shown(front.port) == "Second", "it follows the second", 120)
    finally:
        for each in (front, two, one):
            if each.process is not None and each.process.poll() is None:
                each.kill()


def fill(raw: sqlite3.Connection) -> None:
    """One published app of one developer."""
    at = "2027-01-01T00:00:00Z"
    with raw:
        raw.execute(
            "INSERT INTO developers (id, email, name, created_at) VALUES ('d', 'd@x.net', 'First', ?)",
            (at,),
        )
        raw.execute(
            "INSERT INTO signing_keys (id, developer_id, name, public_key, fingerprint, created_at)"
            " VALUES ('k', 'd', 'k', zeroblob(32), 'SHA256:x', ?)",
            (at,),
        )
        raw.execute(
            "INSERT INTO apps (id, package_id, developer_id, name, published, created_at, updated_at)"
            " VALUES ('a', 'com.acme.a', 'd', 'A', 1, ?1, ?1)",
            (at,),
        )
        raw.execute(
            "INSERT INTO versions (id, app_id, version, version_code, channel, state, released,"
            " min_mosis_version, manifest, files, size_bytes, sha256, signing_key_id, created_at,"
            " published_at) VALUES ('v', 'a', '1.0.0', 1, 'stable', 'published', 1, '1.0.0', '{}', '{}',"
            " 1, ?2, 'k', ?1, ?1)",
            (at, "a" * 64),
        )
