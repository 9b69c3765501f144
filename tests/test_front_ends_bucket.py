"""A store front end whose replica and packages are in a bucket."""

from pathlib import Path

import pytest

from tests.client import Client, Person
from tests.conftest import FakeClock
from tests.front_ends import SECRET, ask, paired

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
    alice: Person,
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
