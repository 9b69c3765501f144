"""A portal of release 0.1.0 comes up with every row it had.

`tests/schemas/` holds both databases as 0.1.0 wrote them: accounts, versions in several states, reviews, events, webhooks,
jobs, the audit trail, telemetry. Migrations are tested from there, never from the schema of today.
"""

import gzip
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

import portal
from mosis import audit
from mosis.config import Config
from mosis.context import make_context
from mosis.database import faults
from tests.client import Client
from tests.conftest import CHEAP
from tests.test_db import shape

DUMPS = Path(__file__).parent / "schemas"
# (table, column) whose values a migration changes on purpose, and why.
CHANGED: Mapping[tuple[str, str], str] = {
    ("jobs", "lane"): "mails that somebody waits for have a lane of their own (0002)",
    ("jobs", "unique_key"): "one job for each webhook, not for each event (0002)",
}


def restored(dump: str, path: Path) -> None:
    """Put a database of the release there."""
    path.write_bytes(gzip.decompress((DUMPS / f"{dump}.db.gz").read_bytes()))


def rows_by_table(path: Path) -> dict[str, list[dict[str, object]]]:
    """Every row of every ordinary table, in the order of the rowid."""
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        tables = raw.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
            " AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
        ).fetchall()
        return {
            name: [dict(row) for row in raw.execute(f"SELECT * FROM {name} ORDER BY 1, 2")]
            for (name,) in tables
        }


@pytest.fixture
def of_release(tmp_path: Path) -> Config:
    """The settings of a portal whose databases are those of 0.1.0, before any migration."""
    (tmp_path / "data").mkdir()
    for dump, name in (("portal-0001", "portal.db"), ("telemetry-0001", "telemetry.db")):
        restored(dump, tmp_path / "data" / name)
    return Config.read(
        {
            "DATABASE_PATH": str(tmp_path / "data/portal.db"),
            "PACKAGES_DIR": str(tmp_path / "packages"),
            "ASSETS_DIR": str(tmp_path / "assets"),
            "BACKUPS_DIR": "",
            "DISK_RESERVE_BYTES": "0",
        }
    )


def test_every_row_of_the_release_survives_the_migrations(of_release: Config) -> None:
    paths = (of_release.database_path, of_release.telemetry_path)
    before = [rows_by_table(path) for path in paths]
    portal.migrate_databases(of_release)
    for path, old in zip(paths, before, strict=True):
        assert faults(path) == []
        new = rows_by_table(path)
        for table, rows in old.items():
            assert len(new[table]) == len(rows), table
            for was, now in zip(rows, new[table], strict=True):
                for column, value in was.items():
                    if (table, column) not in CHANGED:
                        assert now[column] == value, (table, column)


def test_a_migrated_database_has_the_schema_of_a_new_one(
    of_release: Config, tmp_path: Path
) -> None:
    portal.migrate_databases(of_release)
    fresh = Config.read(
        {
            "DATABASE_PATH": str(tmp_path / "new/portal.db"),
            "PACKAGES_DIR": str(tmp_path / "new/packages"),
        }
    )
    portal.migrate_databases(fresh)
    assert shape(of_release.database_path) == shape(fresh.database_path)
    assert shape(of_release.telemetry_path) == shape(fresh.telemetry_path)


def test_a_migrated_portal_serves(of_release: Config) -> None:
    portal.migrate_databases(of_release)
    env = make_context(of_release, password_cost=CHEAP)
    try:
        client = Client(portal.build(env), env)
        (app,) = client.get("/store/apps?q=notes").expect(200)["apps"]
        assert (app["package_id"], app["version"]) == ("com.acme.notes", "1.0.0")
        assert audit.verify(env.db.connection()) > 0
        assert env.telemetry.connection().value("SELECT count(*) FROM crash_groups") == 1
    finally:
        env.close()
