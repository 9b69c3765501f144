"""A damaged portal.db: found at start, every day, and by the statement that meets it; then it is only read, loudly."""

import json
import logging
import sqlite3
import time
from pathlib import Path

import pytest

import portal
from mosis import jobs
from mosis.config import Config
from mosis.context import Context
from mosis.database import Database
from mosis.errors import Unavailable
from mosis.operations import integrity, readiness
from mosis.worker import Worker
from tests.client import Client
from tests.server import Backed, command, wait_until


def spoil(database: Path, table: str) -> None:
    """Overwrite the first page of a table with rubbish, in a file that nobody has open."""
    raw = sqlite3.connect(database)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
    size = raw.execute("PRAGMA page_size").fetchone()[0]
    raw.close()
    with open(database, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.slow
def test_a_portal_on_a_damaged_database_reads_refuses_to_write_and_tells_everybody(
    server: Backed,
) -> None:
    settings = {"BACKUPS_DIR": str(server.backups)}
    server.register("alice")
    command(server.folder, "admin", "create", "root@example.net", settings=settings)
    server.replicated()
    assert server.stop() == 0
    spoil(server.data / "portal.db", "reviews")
    before = (server.data / "portal.db").read_bytes()
    server.start()
    refused = server.wait_for(
        lambda ready: ready["status"] == 503 and ready["errors"][0]["code"] == "database_damaged"
    )
    assert refused["errors"][0]["pointer"] == "/database"
    assert server.ask("/v1/store/apps")[0] == 200
    status, answer = server.ask(
        "/v1/auth/register",
        {"email": "b@example.net", "password": "three random words", "name": "B"},
    )
    assert (status, answer["code"]) == (503, "database_unavailable")

    def written() -> list[str]:
        texts = [path.read_text() for path in (server.data / "mail").glob("*.eml")]
        return [text for text in texts if "is damaged" in text]

    wait_until(written, "the administrator is notified")
    mails = written()
    assert ["To: root@example.net" in mail for mail in mails] == [True]
    assert server.stop() == 0
    lines = [
        json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")
    ]
    assert [line["level"] for line in lines if "read-only from now on" in line["message"]] == [
        "critical"
    ]
    assert "trace" not in json.dumps(lines)  # loud is not the same as full
    assert (server.data / "portal.db").read_bytes() == before
    restored = command(server.folder, "restore", settings=settings)
    assert restored.returncode == 0, restored.stderr
    server.start()
    server.replicated()
    assert server.names == ["alice", "root"]


def test_damage_that_a_statement_meets_stops_every_write(tmp_path: Path, env: Context) -> None:
    portal.migrate_databases(
        Config.read(
            {
                "DATABASE_PATH": str(tmp_path / "other/portal.db"),
                "PACKAGES_DIR": str(tmp_path / "p"),
            }
        )
    )
    spoil(tmp_path / "other/portal.db", "audit")
    database = Database(tmp_path / "other/portal.db")
    db = database.connection()
    assert (db.value("SELECT count(*) FROM developers"), database.damage) == (0, None)
    with pytest.raises(Unavailable) as refusal:
        db.all("SELECT details FROM audit")
    assert refusal.value.code == "database_unavailable"
    assert database.damage == "database disk image is malformed"
    with pytest.raises(Unavailable), db.write():
        pass
    assert db.value("SELECT count(*) FROM developers") == 0
    database.close()


def test_the_look_of_every_day_finds_what_no_statement_has_met(
    client: Client, env: Context
) -> None:
    integrity.check(env)
    assert env.db.damage is None
    alice = client.register()
    raw = sqlite3.connect(
        env.config.database_path
    )  # does not hold up foreign keys unless it is asked to
    raw.execute(
        "DELETE FROM developers WHERE id = ?", (alice.id,)
    )  # the quick look does not see rows that refer to nothing
    raw.commit()
    raw.close()
    integrity.check(env, quick=True)
    assert env.db.damage is None
    integrity.check(env)
    assert "refers to nothing" in str(env.db.damage)
    client.post(
        "/v1/auth/register",
        {"email": "b@example.net", "password": "three random words", "name": "B"},
    ).expect(503, code="database_unavailable")
    client.get("/v1/store/apps").expect(200)


def test_the_watch_looks_again_every_day_and_the_worker_rests(
    env: Context, caplog: pytest.LogCaptureFixture
) -> None:
    db = env.db.connection()
    caplog.set_level(logging.DEBUG)

    def looks() -> list[bool]:
        lines = list(caplog.records)
        return [line.__dict__["quick"] for line in lines if line.message == "database checked"]

    with db.write():
        jobs.add(db, "sweep_jobs")
    watch = integrity.IntegrityMonitor(env, whole_seconds=0.2, look_seconds=0.02)
    watch.start()
    wait_until(lambda: len(looks()) >= 3, "it has looked three times")
    watch.quit()
    assert looks()[:3] == [True, False, False]
    env.db.found_damage("tried")
    worker = Worker(env, longest_sleep_seconds=0.02)
    worker.start()
    time.sleep(0.1)  # what does not happen has no state: it would have looked five times
    worker.stop()
    assert db.value("SELECT state FROM jobs WHERE kind = 'sweep_jobs'") == "waiting"


def test_damaged_telemetry_is_not_the_portals_end(
    client: Client, env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "KEEP_SECONDS", 0.0)
    env.telemetry.found_damage("tried")
    refused = client.get("/readyz").expect(503, code="not_ready")
    assert [(each["pointer"], each["code"]) for each in refused["errors"]] == [
        ("/telemetry", "database_damaged")
    ]
    client.register()


def test_a_damaged_database_is_not_migrated(tmp_path: Path) -> None:
    from mosis.database import MigrationError, migrate

    (tmp_path / "steps").mkdir()
    (tmp_path / "schema.sql").write_text("CREATE TABLE a (b INTEGER) STRICT;\n")
    (tmp_path / "steps/0001_initial.sql").write_text("CREATE TABLE a (b INTEGER) STRICT;\n")
    database = tmp_path / "x.db"
    migrate(database, tmp_path / "schema.sql", tmp_path / "steps")
    spoil(database, "a")
    before = database.read_bytes()
    (tmp_path / "steps/0002_more.sql").write_text("CREATE TABLE c (d INTEGER) STRICT;\n")
    with pytest.raises(MigrationError, match="is damaged"):
        migrate(database, tmp_path / "schema.sql", tmp_path / "steps")
    assert database.read_bytes() == before
