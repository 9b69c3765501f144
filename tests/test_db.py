"""The database: who may write, what a failure leaves, and how older files get to today's schema."""

import contextlib
import errno
import os
import re
import sqlite3
import threading
from pathlib import Path

import pytest

import portal
from mosis.context import Context
from mosis.database import Connection, Database, MigrationError, migrate, new_id, statements
from mosis.database.database import MOST_IDLE
from mosis.errors import Unavailable
from tests.server import wait_until

SCHEMA, MIGRATIONS = portal.HERE / "schema.sql", portal.HERE / "migrations"
ROW = {"email": "a@example.net", "name": "A", "created_at": "2027-01-15T08:00:00Z"}


def test_a_connection_is_read_only_outside_a_write_transaction(env: Context) -> None:
    db = env.db.connection()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.insert("developers", id="1", **ROW)
    with db.write():
        db.insert("developers", id="1", **ROW)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.change("DELETE FROM developers")
    assert db.value("SELECT count(*) FROM developers") == 1


def test_an_error_undoes_everything_and_runs_no_follow_up(env: Context) -> None:
    db, followed = env.db.connection(), []

    def broken() -> None:
        with db.write():
            db.insert("developers", id="1", **ROW)
            db.after_commit(lambda: followed.append(1))
            raise ValueError

    with pytest.raises(ValueError):
        broken()
    assert (db.value("SELECT count(*) FROM developers"), followed) == (0, [])
    with db.write():
        db.after_commit(lambda: followed.append(2))
    assert followed == [2]


def test_only_the_use_case_opens_a_transaction(env: Context) -> None:
    db = env.db.connection()
    with db.write(), pytest.raises(RuntimeError, match="open already"), db.write():
        pass


def test_a_lock_that_is_held_for_too_long_is_busy(
    env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosis.database.connection.BUSY_SECONDS", 0.05)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with env.db.connection().write():
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    with pytest.raises(Unavailable, match="busy"), env.db.connection().write():
        pass
    done.set()
    holder.join()


def test_another_process_that_writes_is_busy_and_nothing_is_lost(env: Context) -> None:
    other = sqlite3.connect(env.config.database_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database = Database(env.config.database_path)
    db = database.connection()
    database.writer().execute("PRAGMA busy_timeout = 50")
    with pytest.raises(Unavailable, match="busy"), db.write():
        pass
    other.execute("COMMIT")
    other.close()
    with db.write():
        db.insert("developers", id="1", **ROW)
    database.close()


def test_a_full_disk_is_reported_and_heals(env: Context) -> None:
    db = env.db.connection()
    pages = db.value("PRAGMA page_count")
    env.db.writer().execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable) as refused, db.write():
        for number in range(1000):
            db.insert("developers", id=str(number), **ROW | {"email": f"{number}@example.net"})
    assert refused.value.code == "no_space"
    assert db.value("SELECT count(*) FROM developers") == 0
    env.db.writer().execute("PRAGMA max_page_count = 1000000")
    with db.write():
        db.insert("developers", id="1", **ROW)


def test_a_database_that_was_deleted_is_not_made_anew(env: Context, tmp_path: Path) -> None:
    gone = Database(tmp_path / "100% gone?#.db")
    with pytest.raises(Unavailable, match="database_unavailable"):
        gone.connection()
    assert not gone.path.exists()
    migrate(gone.path, SCHEMA, MIGRATIONS)
    assert gone.connection().value("SELECT count(*) FROM jobs") == 0
    gone.close()


def test_threads_that_wait_share_their_connections(env: Context) -> None:
    """One after the other they have the same; more than MOST_IDLE at once are closed afterwards."""
    used: list[Connection] = []
    together = threading.Barrier(MOST_IDLE + 3)

    def work(wait: bool) -> None:
        used.append(env.db.connection())
        assert used[-1].value("SELECT 1") == 1
        if wait:
            together.wait(60)
        env.db.release()

    def run(count: int, wait: bool) -> None:
        threads = [threading.Thread(target=work, args=(wait,)) for _ in range(count)]
        for thread in threads:
            thread.start()
            if not wait:
                thread.join(60)
        for thread in threads:
            thread.join(60)

    run(5, wait=False)
    assert len(used) == 5
    assert len(set(map(id, used))) == 1
    used.clear()
    run(together.parties, wait=True)
    assert len(set(map(id, used))) == together.parties
    for connection in used[:]:
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed
            connection.value("SELECT 1")
            used.remove(connection)
    assert len(used) == together.parties - MOST_IDLE
    env.db.close()
    assert env.db.connection().value("SELECT 1") == 1


def test_a_connection_in_a_transaction_stays_with_its_thread(env: Context) -> None:
    db = env.db.connection()
    with db.write():
        env.db.release()
        assert env.db.connection() is db
    env.db.release()
    env.db.release()  # nothing to release
    assert env.db.connection() is db


def test_closing_lets_threads_that_are_still_at_work_go_on(env: Context) -> None:
    database = Database(env.config.database_path)
    done, trouble = threading.Event(), []

    def work() -> None:
        db = database.connection()
        while not done.is_set():
            try:
                with db.write():
                    db.all("SELECT * FROM jobs")
            except Exception as error:
                trouble.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for _ in range(20):
        database.connection()
        database.close()
    done.set()
    for each in workers:
        each.join()
    assert trouble == []


def test_an_answer_means_that_the_change_is_on_disk(
    env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, flushed = env.db.connection(), []
    assert (
        db.value("PRAGMA synchronous"),
        db.value("PRAGMA journal_mode"),
        db.value("PRAGMA foreign_keys"),
    ) == (1, "wal", 1)
    flush = os.fdatasync

    def watched(handle: int) -> None:
        flushed.append((os.readlink(f"/proc/self/fd/{handle}"), os.fstat(handle).st_size))
        flush(handle)

    monkeypatch.setattr("os.fdatasync", watched)
    with db.write():
        db.insert("developers", id="1", **ROW)
        assert flushed == []
    wal = str(env.config.database_path) + "-wal"
    assert flushed == [
        (wal, os.stat(wal).st_size)
    ]  # after the commit, with all that it has written


def test_a_disk_that_does_not_take_the_change_is_reported(
    env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    followed: list[int] = []
    db = env.db.connection()
    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", broken)
        with pytest.raises(Unavailable, match="database_unavailable"), db.write():
            db.insert("developers", id="1", **ROW)
            db.after_commit(lambda: followed.append(1))
    assert followed == [1]  # the job that was queued with it is there, and somebody has to look
    with db.write():
        db.insert("developers", id="2", **ROW | {"email": "b@example.net"})


def test_one_flush_serves_all_who_have_committed(
    env: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes: list[int] = []
    flush, before = os.fdatasync, env.db.commits

    def slow(handle: int) -> None:
        flushes.append(env.db.commits - before)
        if len(flushes) == 1:  # while the first one flushes, the other seven commit
            wait_until(lambda: env.db.commits == before + 8, "all have committed")
        flush(handle)

    monkeypatch.setattr("os.fdatasync", slow)

    def write(number: int) -> None:
        with env.db.connection().write() as db:
            db.insert("developers", id=str(number), **ROW | {"email": f"{number}@example.net"})

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert env.db.connection().value("SELECT count(*) FROM developers") == 8
    assert len(flushes) == 2
    assert flushes[1] == 8


def test_time_stands_still_in_a_transaction(env: Context, clock: object) -> None:
    db = env.db.connection()
    with db.write():
        before = db.now
        clock.advance(60)  # type: ignore[attr-defined]
        assert db.now == before
    with db.write():
        assert db.now > before


def test_ids_are_uuidv7_and_sort_by_age() -> None:
    ids = [new_id(1_800_000_000_000_000_000 + number * 250) for number in range(1000)]
    assert ids == sorted(ids)
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", each)
        for each in ids
    )
    assert len({new_id(0) for _ in range(10_000)}) == 10_000


def shape(path: Path) -> list[tuple[str, str, str]]:
    """Tables, indexes and triggers with their text, without comments, spaces and the quotes of renamed tables; Litestream's own
    tables apart."""
    raw = sqlite3.connect(path)
    rows = raw.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
        " AND name NOT LIKE '_litestream%' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    raw.close()
    return sorted(
        (kind, name, re.sub(r"[\s\"]+", "", re.sub(r"--[^\n]*", "", sql)))
        for kind, name, sql in rows
    )


@pytest.mark.parametrize(("schema", "diary"), [
    (SCHEMA, MIGRATIONS), (portal.HERE / "schema-telemetry.sql", MIGRATIONS / "telemetry"),
])  # fmt: skip
def test_book_and_diary_tell_the_same_story(tmp_path: Path, schema: Path, diary: Path) -> None:
    migrate(tmp_path / "new.db", schema, diary)
    raw = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    steps = sorted(diary.glob("*.sql"))
    for statement in statements(steps[0].read_text(encoding="utf-8")):
        raw.execute(statement)
    raw.execute("PRAGMA user_version = 1")
    raw.close()
    assert migrate(tmp_path / "old.db", schema, diary) == (1, len(steps))
    assert shape(tmp_path / "old.db") == shape(tmp_path / "new.db")
    assert all(
        "STRICT" in sql
        for kind, name, sql in shape(tmp_path / "new.db")
        if kind == "table" and "VIRTUALTABLE" not in sql and not name.startswith("listing_words")
    )


def migrations(folder: Path, *scripts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, script in enumerate(scripts, 1):
        (folder / f"{number:04d}_step.sql").write_text(script, encoding="utf-8")
    return folder


FIRST = "CREATE TABLE a (id INTEGER PRIMARY KEY) STRICT;\nCREATE TABLE b (a INTEGER REFERENCES a (id)) STRICT;\n"


def test_a_migration_keeps_the_rows_and_a_copy_of_before(tmp_path: Path) -> None:
    path, schema = tmp_path / "x.db", tmp_path / "schema.sql"
    schema.write_text(FIRST)
    assert migrate(path, schema, migrations(tmp_path / "m", FIRST)) == (0, 1)
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO a VALUES (7)")
    steps = migrations(
        tmp_path / "m", FIRST, "ALTER TABLE a ADD COLUMN name TEXT NOT NULL DEFAULT '';\n"
    )
    assert migrate(path, schema, steps) == (1, 2)
    assert migrate(path, schema, steps) == (2, 2)
    assert sqlite3.connect(path).execute("SELECT id, name FROM a").fetchall() == [(7, "")]
    assert sqlite3.connect(tmp_path / "x.db.before-2").execute("SELECT * FROM a").fetchall() == [
        (7,)
    ]


@pytest.mark.parametrize("step", [
    "CREATE TABLE c (id INTEGER) STRICT;\nNOT SQL AT ALL;\n",
    "INSERT INTO b VALUES (99);\n",
    "CREATE TABLE c (id INTEGER) STRICT;\nCREATE TABLE d (",
])  # fmt: skip
def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path, step: str) -> None:
    path, schema = tmp_path / "x.db", tmp_path / "schema.sql"
    schema.write_text(FIRST)
    migrate(path, schema, migrations(tmp_path / "m", FIRST))
    before = shape(path)
    with pytest.raises(MigrationError):
        migrate(path, schema, migrations(tmp_path / "m", FIRST, step))
    raw = sqlite3.connect(path)
    assert (shape(path), raw.execute("PRAGMA user_version").fetchone()) == (before, (1,))
    assert raw.execute("SELECT * FROM b").fetchall() == []


def test_an_upgrade_without_room_for_its_copy_is_refused_before_anything_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, schema = tmp_path / "x.db", tmp_path / "schema.sql"
    schema.write_text(FIRST)
    migrate(path, schema, migrations(tmp_path / "m", FIRST))
    steps = migrations(tmp_path / "m", FIRST, "CREATE TABLE c (id INTEGER) STRICT;\n")
    before, disk = shape(path), os.statvfs(tmp_path)
    full = os.statvfs_result((disk.f_bsize, 4096, disk.f_blocks, 1, 1, *tuple(disk)[5:]))
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", lambda _: full)
        with pytest.raises(MigrationError, match="free bytes beside"):
            migrate(path, schema, steps)
    assert (shape(path), list(tmp_path.glob("*.before-*"))) == (before, [])
    assert migrate(path, schema, steps) == (1, 2)


def test_the_copy_of_before_brings_the_old_program_back(tmp_path: Path) -> None:
    path, schema = tmp_path / "x.db", tmp_path / "schema.sql"
    schema.write_text(FIRST)
    old = migrations(tmp_path / "old", FIRST)
    migrate(path, schema, old)
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO a VALUES (7)")
    raw.close()
    migrate(path, schema, migrations(tmp_path / "new", FIRST, "DROP TABLE b;\n"))
    with pytest.raises(MigrationError, match=r"put back the copy x\.db\.before-2"):
        migrate(path, schema, old)
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    path.with_name("x.db.before-2").replace(path)
    assert migrate(path, schema, old) == (1, 1)
    assert sqlite3.connect(path).execute("SELECT id FROM a").fetchall() == [(7,)]


def test_a_newer_database_and_what_is_no_database_are_refused(tmp_path: Path) -> None:
    newer, rubbish = tmp_path / "newer.db", tmp_path / "rubbish.db"
    with sqlite3.connect(newer) as raw:
        raw.execute("PRAGMA user_version = 999")
    with pytest.raises(MigrationError, match="start the newer program"):
        migrate(newer, SCHEMA, MIGRATIONS)
    rubbish.write_bytes(b"this is no database" * 500)
    with pytest.raises(MigrationError, match="cannot be used"):
        migrate(rubbish, SCHEMA, MIGRATIONS)
    assert rubbish.read_bytes() == b"this is no database" * 500


def test_two_processes_that_start_at_once_make_one_database(tmp_path: Path) -> None:
    results: list[object] = []

    def start() -> None:
        try:
            results.append(migrate(tmp_path / "x.db", SCHEMA, MIGRATIONS)[1])
        except Exception as error:
            results.append(error)

    starters = [threading.Thread(target=start) for _ in range(8)]
    for each in starters:
        each.start()
    for each in starters:
        each.join()
    assert results == [len(list(MIGRATIONS.glob("*.sql")))] * 8
