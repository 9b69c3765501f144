"""Many threads, few commits; nobody is answered before the commit, and nobody pays for another's mistake."""

import threading
from pathlib import Path

import pytest

from mosis.database import Connection, Database
from mosis.database.group_commit import GroupCommit
from mosis.errors import Conflict
from tests.server import wait_until


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "x.db")
    database.path.touch()  # an empty file is an empty database
    with database.connection().write() as db:
        db.change("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT")
    return database


def test_threads_share_commits_and_read_what_they_wrote(database: Database) -> None:
    commits = GroupCommit(database)
    counted = database.commits
    failures: list[BaseException] = []

    def add(number: int) -> int:
        def work(db: Connection) -> int:
            if number % 10 == 9:
                raise Conflict("invalid_state", "one of ten fails")
            return db.insert("t", n=number)

        return commits.run(work)

    def thread(first: int) -> None:
        for number in range(first, first + 100):
            try:
                assert add(number) == number
                assert database.connection().value("SELECT 1 FROM t WHERE n = ?", number)
            except Conflict:
                assert number % 10 == 9
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=thread, args=(first,)) for first in range(0, 1600, 100)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not failures
    rows = [row[0] for row in database.connection().all("SELECT n FROM t ORDER BY n")]
    assert rows == [number for number in range(1600) if number % 10 != 9]
    assert database.commits - counted < 1440  # fewer commits than rows


def test_a_group_that_waits_for_the_lock_is_one_commit(database: Database) -> None:
    commits = GroupCommit(database)
    database.writers.acquire()
    threads = [
        threading.Thread(target=lambda n=n: commits.run(lambda db: db.insert("t", n=n)))
        for n in range(20)
    ]
    for each in threads:
        each.start()
    wait_until(lambda: commits.waiting == 19, "all but the leader wait")
    counted = database.commits
    database.writers.release()
    for each in threads:
        each.join(60)
    assert database.commits - counted == 2  # the leader's own, then all others at once
    assert database.connection().value("SELECT count(*) FROM t") == 20
