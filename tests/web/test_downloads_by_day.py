"""Downloads by day, version and channel: what was fetched, what the store says and what developers see agree."""

import random
from collections import Counter

import pytest

from mosis.store import downloads as store_downloads
from mosis.telemetry import downloads, retention
from mosis.worker import HANDLERS
from tests.catalogue import add_app, add_version
from tests.client import Account, Client
from tests.conftest import FakeClock

NOTES = "com.acme.notes"
AT = f"/v1/apps/{NOTES}/downloads"
DAY = 86_400


@pytest.fixture
def alice(client: Client) -> Account:
    return client.register()


@pytest.fixture
def ids(client: Client, alice: Account) -> dict[str, str]:
    """The ids of three published versions, one of them a beta."""
    db = client.env.db.connection()
    with db.write():
        db.insert(
            "signing_keys",
            id=alice.id,
            developer_id=alice.id,
            name="k",
            public_key=bytes(32),
            fingerprint="SHA256:x",
            created_at=db.now,
        )
        app = add_app(db, alice.id, NOTES, "Notes")
        return {
            version: add_version(db, alice.id, app, code, version=version, channel=channel)
            for code, (version, channel) in enumerate(
                [("1.0.0", "stable"), ("1.1.0", "stable"), ("2.0.0-beta.1", "beta")], 1
            )
        }


def again(client: Client, alice: Account) -> Account:
    alice.token = client.sign_in(alice).token
    return alice


def test_all_numbers_agree_with_what_was_counted(
    client: Client, alice: Account, ids: dict[str, str], clock: FakeClock
) -> None:
    rng, ledger = random.Random(3), Counter[tuple[str, str, str]]()
    env, db = client.env, client.env.db.connection()
    for number in range(30):
        for version, version_id in ids.items():
            count = rng.randrange(4)
            channel = "beta" if "beta" in version else "stable"
            if count:
                ledger[env.clock.now()[:10], version, channel] += count
                for _ in range(count):
                    env.downloads.add(version_id)
        if number % 3:
            downloads.flush(env)
        else:
            store_downloads.flush_downloads(env)  # killed before the days were copied
        if number % 7 == 0:
            HANDLERS["add_up_downloads"](env)
            HANDLERS["add_up_downloads"](env)
        clock.advance(DAY)
    HANDLERS["add_up_downloads"](env)
    again(client, alice)
    shown = client.get(AT + "?by=day,version,channel", as_=alice).expect(200)
    assert shown["by"] == ["day", "version", "channel"]
    rows = {
        (row["day"], row["version"], row["channel"]): row["count"] for row in shown["downloads"]
    }
    first = min(rows)[0]
    assert rows == {key: count for key, count in ledger.items() if key[0] >= first}
    whole = client.get(AT + "?from=2027-01-01&by=version", as_=alice).expect(200)
    assert {row["version"]: row["count"] for row in whole["downloads"]} == {
        version: sum(count for key, count in ledger.items() if key[1] == version) for version in ids
    }
    channels = client.get(AT + "?from=2027-01-01&by=channel", as_=alice).expect(200)
    assert [row["channel"] for row in channels["downloads"]] == ["beta", "stable"]
    total = sum(ledger.values())
    assert whole["total"] == channels["total"] == total
    assert client.get(f"/v1/store/apps/{NOTES}")["downloads"] == total
    assert db.value("SELECT sum(count) FROM downloads") == total
    assert db.value("SELECT count(*) FROM downloads") <= 3 * (downloads.DAYS_IN_PORTAL + 2)


def test_the_days_go_after_two_years(
    client: Client, alice: Account, ids: dict[str, str], clock: FakeClock
) -> None:
    client.env.downloads.add(ids["1.0.0"])
    downloads.flush(client.env)
    clock.advance((downloads.RETENTION_DAYS + 1) * DAY)
    HANDLERS["add_up_downloads"](client.env)
    retention.prune(client.env)
    again(client, alice)
    assert client.env.telemetry.connection().value("SELECT count(*) FROM downloads") == 0
    assert client.get(f"/v1/store/apps/{NOTES}")["downloads"] == 1


def test_days_of_a_clock_that_was_ahead_count_in_all(
    client: Client, alice: Account, ids: dict[str, str], clock: FakeClock
) -> None:
    clock.advance(100 * DAY)
    client.env.downloads.add(ids["1.0.0"])
    downloads.flush(client.env)
    clock.advance(-100 * DAY)
    HANDLERS["add_up_downloads"](client.env)
    db = client.env.db.connection()
    assert db.all("SELECT day, count FROM downloads") == [("", 1)]
    assert client.get(f"/v1/store/apps/{NOTES}")["downloads"] == 1


def test_what_cannot_be_asked_is_refused(
    client: Client, alice: Account, ids: dict[str, str]
) -> None:
    for wrong in (
        "by=week",
        "by=day,day",
        "by=day,",
        "from=2027-02-01&to=2027-01-01",
        "from=2020-01-01",
    ):
        client.get(f"{AT}?{wrong}", as_=alice).expect(400, code="malformed_request")
    assert client.get(AT, as_=alice).expect(200)["downloads"] == []
    client.get(AT, as_=client.register("bob")).expect(404)
