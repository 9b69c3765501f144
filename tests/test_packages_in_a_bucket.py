"""Packages, icons and screenshots in a real bucket: uploads, downloads, and what happens when it fails."""

import hashlib
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mosis.context import Context
from mosis.operations.doctor import examine
from mosis.outbound.objects import Bucket
from mosis.packages.bucket_storage import BucketFiles, parse_name
from mosis.publishing import package_files
from mosis.store import downloads
from tests.client import Account, Client
from tests.server import serving

pytestmark = pytest.mark.slow
NOTES = "com.acme.notes"
AT = f"/v1/apps/{NOTES}/versions"


@pytest.fixture
def settings(bucket_url: str) -> dict[str, str]:
    return {
        "PACKAGES_URL": bucket_url,
        "LISTEN_ADDR": "127.0.0.1:0",
        "BASE_URL": "http://localhost",
    }


@pytest.fixture
def files(env: Context) -> BucketFiles:
    assert isinstance(env.files, BucketFiles)
    return env.files


def url_of(client: Client, account: Account, version: str = "1.0.0") -> str:
    """The path of a published package."""
    shown = client.published(account, NOTES, version)
    return str(shown["download_url"]).removeprefix(client.env.config.base_url)


def forget(files: BucketFiles) -> None:
    """Remove everything that is on this machine."""
    shutil.rmtree(files.cache_dir)
    files.cache_dir.mkdir()
    files.gate.reason = None


def test_a_package_is_stored_under_its_hash_and_served_from_the_bucket(
    client: Client, alice: Account, bucket: Bucket, files: BucketFiles
) -> None:
    url = url_of(client, alice)
    (row,) = client.env.db.connection().all("SELECT id, app_id, sha256, size_bytes FROM versions")
    names = [parse_name(each.name) for each in bucket.list()]
    assert {(each.kind, each.app_id, each.version_id) for each in names if each} == {
        ("packages", row[1], row[0]),
        ("pictures", row[1], row[0]),
    }
    assert len(names) == 4  # three icons
    (package,) = bucket.list("packages")
    assert hashlib.sha256(bucket.get(package.name)[0]).hexdigest() == row[2]
    assert list(files.root.glob("*/*/*/package.mosis")) == []
    for _ in range(2):  # from the bucket, then from the cache
        answer = client.get(url).expect(200)
        assert hashlib.sha256(answer.body).hexdigest() == row[2]
        part = client.get(url, headers={"Range": "bytes=10-19"}).expect(206)
        assert part.body == answer.body[10:20]
        assert part.headers["content-range"] == f"bytes 10-19/{row[3]}"
        forget(files)


def test_pictures_are_served_without_their_package(
    client: Client, alice: Account, bucket: Bucket, files: BucketFiles
) -> None:
    url_of(client, alice)
    app_id = client.get(f"/v1/store/apps/{NOTES}")["icon_url"].split("/assets/")[1].split("/")[0]
    forget(files)
    (package,) = bucket.list("packages")
    content, _ = bucket.get(package.name)
    bucket.delete(package.name)
    assert client.get(f"/assets/{app_id}/icon-64.png").expect(200).body.startswith(b"\x89PNG")
    # one that is not in the bucket, as of a version from before a move, comes out of the package
    bucket.put(package.name, content)
    for each in bucket.list("pictures"):
        bucket.delete(each.name)
    forget(files)
    assert client.get(f"/assets/{app_id}/icon-32.png").expect(200).body.startswith(b"\x89PNG")


def test_a_head_and_a_known_package_ask_for_nothing(
    client: Client, alice: Account, bucket: Bucket, files: BucketFiles
) -> None:
    url = url_of(client, alice)
    tag = client.get(url).expect(200).headers["etag"]
    forget(files)
    for each in bucket.list("packages"):
        bucket.delete(each.name)
    client.call("HEAD", url).expect(200)
    client.get(url, headers={"If-None-Match": tag}).expect(304)
    client.get(url, headers={"Range": "bytes=999999999-"}).expect(416)
    client.get(url).expect(503, code="package_unavailable")


@pytest.mark.parametrize("damage", ["changed", "shorter", "longer", "empty", "missing"])
def test_wrong_bytes_in_the_bucket_are_never_served(
    client: Client, alice: Account, bucket: Bucket, files: BucketFiles, damage: str
) -> None:
    url = url_of(client, alice)
    (package,) = bucket.list("packages")
    good, _ = bucket.get(package.name)
    changed = good[:100] + bytes([good[100] ^ 1]) + good[101:]
    wrong = {"changed": changed, "shorter": good[:-1], "longer": good + b"x", "empty": b""}
    if damage in wrong:
        bucket.put(package.name, wrong[damage])
    else:
        bucket.delete(package.name)
    forget(files)
    for headers in ({}, {"Range": "bytes=0-9"}):
        client.get(url, headers=headers).expect(503, code="package_unavailable")
    assert list(files.cache_dir.iterdir()) == []
    client.post(AT + "/1.0.0/halt", as_=alice).expect(200)
    client.post(AT + "/1.0.0/publish", as_=alice).expect(503, code="package_unavailable")
    bucket.put(package.name, good)
    files._fetches._failures.clear()
    client.post(AT + "/1.0.0/publish", as_=alice).expect(200)
    assert client.get(url).expect(200).body == good


def test_the_bucket_is_measured_and_looked_at(client: Client, env: Context) -> None:
    client.get("/readyz").expect(200)
    assert b"\nportal_bucket_up 1\n" in client.get("/metrics", address="127.0.0.1").body
    lines = [line for line in examine(env.config, 1) if line.subject == "bucket"]
    assert [line.level for line in lines] in (["ok"], ["warn"])  # slow is a warning


def test_a_damaged_copy_in_the_cache_is_fetched_again(
    client: Client, alice: Account, files: BucketFiles
) -> None:
    url = url_of(client, alice)
    good = client.get(url).expect(200).body
    (cached,) = files.cache_dir.iterdir()
    cached.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert client.get(url).expect(200).body == good


def test_a_yanked_package_is_gone_at_once(client: Client, alice: Account) -> None:
    url = url_of(client, alice)
    client.get(url).expect(200)
    client.post(AT + "/1.0.0/yank", {"reason": "It crashes."}, as_=alice).expect(200)
    client.get(url).expect(410, code="gone")


def test_a_refused_upload_leaves_no_object(client: Client, alice: Account, bucket: Bucket) -> None:
    url_of(client, alice)
    before = [each.name for each in bucket.list()]
    again = client.package(alice, manifest={"description": "Another one."})
    client.upload(NOTES, again, as_=alice).expect(409, code="version_exists")
    assert [each.name for each in bucket.list()] == before


def test_the_same_upload_again_stores_nothing(
    client: Client, alice: Account, bucket: Bucket
) -> None:
    package = client.package(alice)
    client.upload(NOTES, package, as_=alice).expect(201)
    before = [each.name for each in bucket.list()]
    client.upload(NOTES, package, as_=alice).expect(200)
    assert [each.name for each in bucket.list()] == before


def test_redirects_are_to_a_signed_address_and_count(
    client: Client, alice: Account, files: BucketFiles
) -> None:
    import urllib.request

    url = url_of(client, alice)
    files.redirects = True
    answer = client.get(url).expect(302)
    assert answer.headers["cache-control"] == "no-store"
    with urllib.request.urlopen(answer.headers["location"], timeout=60) as sent:
        (sha256,) = client.env.db.connection().one("SELECT sha256 FROM versions")
        assert hashlib.sha256(sent.read()).hexdigest() == sha256
    client.get(url, headers={"Range": "bytes=5-"}).expect(302)
    downloads.flush_downloads(client.env)
    assert client.get(f"/v1/store/apps/{NOTES}")["downloads"] == 1
    client.call("HEAD", url).expect(200)
    files.cdn = "https://cdn.example.net/apps"
    address = client.get(url).expect(302).headers["location"]
    assert address.startswith("https://cdn.example.net/apps/packages/")
    client.post(AT + "/1.0.0/yank", {"reason": "It crashes."}, as_=alice).expect(200)
    client.get(url).expect(410, code="gone")


def test_the_command_line_follows_redirects_and_shows_the_bucket_no_credential(
    client: Client, alice: Account, env: Context, files: BucketFiles, tmp_path: Path
) -> None:
    from mosis.client import install
    from mosis.client.output import Output

    url = url_of(client, alice)
    (sha256,) = client.env.db.connection().one("SELECT sha256 FROM versions")
    files.redirects = True
    portal = SimpleNamespace(output=Output())
    with serving(env) as server:
        address, path = f"http://localhost:{server.port}{url}", tmp_path / "package"
        for begun in (b"", client_content(files, sha256)[:100]):  # new, and resumed
            path.with_suffix(".part").write_bytes(begun)
            install.fetch(
                portal,  # type: ignore[arg-type]
                address,
                path,
                limit_bytes=1 << 20,
                tag=sha256,
                credential=alice.token,  # a bucket refuses a request with two credentials
            )
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def client_content(files: BucketFiles, sha256: str) -> bytes:
    """The cached copy of a package."""
    return (files.cache_dir / sha256).read_bytes()


def test_orphans_go_after_a_day_and_nothing_else_does(
    client: Client,
    alice: Account,
    bucket: Bucket,
    files: BucketFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = url_of(client, alice)
    (package,) = bucket.list("packages")
    named = [each.name for each in bucket.list()]
    name = parse_name(package.name)
    assert name is not None
    orphans = [
        package.name.replace(name.version_id, name.version_id[::-1]),
        package.name.replace(name.app_id, name.app_id[::-1]),
        package.name.replace(name.sha256, name.sha256[::-1]),
    ]
    for orphan in [*orphans, "packages/readme.txt", "lease"]:
        bucket.put(orphan, b"x")
    downloads.sweep_packages(client.env)
    assert set(orphans) <= {each.name for each in bucket.list("packages")}
    a_day_passes(monkeypatch)
    downloads.sweep_packages(client.env)
    left = {each.name for each in bucket.list()}
    assert left == {*named, "packages/readme.txt", "lease"}
    client.get(url).expect(200)


def a_day_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour more than a day, for the sweep."""
    later = time.time() + 25 * 3600
    monkeypatch.setattr("mosis.packages.bucket_storage.time.time", lambda: later)


def test_another_database_removes_nothing(
    env: Context, bucket: Bucket, files: BucketFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = "0" * 32
    for number in range(60):
        bucket.put(f"packages/{app}/{'a' * 64}-{number:032d}.mosis", b"x")
    a_day_passes(monkeypatch)
    assert package_files.sweep(env) == 0
    assert len(list(bucket.list("packages"))) == 60


def test_the_objects_of_a_deleted_app_go_with_its_job(
    client: Client, alice: Account, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    a_day_passes(monkeypatch)
    client.delete(f"/v1/apps/{NOTES}", as_=alice).expect(204)
    client.work()
    assert list(bucket.list()) == []


def test_the_cache_is_bounded_and_loses_what_was_not_used_for_longest(
    files: BucketFiles, bucket: Bucket
) -> None:
    files.cache_bytes = 100_000
    contents = [bytes([number]) * 30_000 for number in range(6)]
    for content in contents:
        sha256 = hashlib.sha256(content).hexdigest()
        bucket.put(f"packages/{sha256}", content)
        file = files.find(Path("/none"), 30_000, sha256, name=f"packages/{sha256}")
        assert file is not None
        with file:
            assert file.read() == content
        first = files.find_here(Path("/none"), 30_000, hashlib.sha256(contents[0]).hexdigest())
        assert first is not None  # in use, so it stays
        first.close()
    sizes = [each.stat().st_size for each in files.cache_dir.iterdir()]
    assert sum(sizes) <= 100_000
    assert len(sizes) == 3
