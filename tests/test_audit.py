"""The audit chain."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mosis import audit
from mosis.caller import Caller, truncated
from mosis.context import Context
from mosis.database import Database
from tests.client import Client


def entries(env: Context, count: int) -> None:
    db = env.db.connection()
    with db.write():
        for number in range(count):
            audit.add(db, Caller(address="198.51.100.7"), "test.happened", number=number)


@pytest.mark.parametrize("change", [
    "UPDATE audit SET action = 'test.other' WHERE number = 2", "DELETE FROM audit WHERE number = 2",
    "UPDATE audit SET details = '{}' WHERE number = 1", "UPDATE audit SET previous_hash = hash WHERE number = 3",
])  # fmt: skip
def test_a_change_in_the_past_shows(env: Context, change: str) -> None:
    entries(env, 3)
    db = env.db.connection()
    assert audit.verify(db) == 3
    with db.write():
        db.change(change)
    with pytest.raises(ValueError, match="broken at line"):
        audit.verify(db)


@pytest.mark.parametrize("more", [0, 1])
def test_lines_that_are_missing_at_the_end_show(env: Context, more: int) -> None:
    """Also when others have come since."""
    entries(env, 3)
    db = env.db.connection()
    with db.write():
        db.change("DELETE FROM audit WHERE number = 3")
    entries(env, more)
    with pytest.raises(ValueError, match="broken"):
        audit.verify(db)


def test_many_that_append_at_once_make_one_chain(env: Context) -> None:
    """Threads of one process, who queue on its lock, beside another process, which has a lock of its own."""
    other = Database(env.config.database_path, env.clock)

    def append(database: Database) -> None:
        db = database.connection()
        for number in range(25):
            with db.write():
                audit.add(db, Caller(), "test.happened", number=number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(append, [env.db, other] * 3))
    other.close()
    assert audit.verify(env.db.connection()) == 150


def test_what_an_api_key_did_is_distinguished(env: Context) -> None:
    db = env.db.connection()
    with db.write():
        audit.add(db, Caller("alice", key_id="key-1"), "test.happened", number=1)
    assert json.loads(db.value("SELECT details FROM audit")) == {"api_key_id": "key-1", "number": 1}


def test_the_trail_keeps_networks_and_not_addresses(env: Context, client: Client) -> None:
    client.register()
    addresses = {row[0] for row in env.db.connection().all("SELECT DISTINCT address FROM audit")}
    assert addresses == {"198.51.100.0/24"}
    assert truncated("2001:db8:1:2::3") == "2001:db8:1::/48"
    assert truncated("rubbish") == ""
