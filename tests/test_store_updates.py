"""Which version a device is offered."""

import random

import pytest

from mosis.context import Context
from mosis.database import Connection
from mosis.errors import NotFound
from mosis.store import updates
from mosis.store.updates import Device, in_rollout
from tests.campaign import seeded, short_and_full
from tests.catalogue import add_app, add_developer, add_version


@pytest.fixture
def db(env: Context) -> Connection:
    return env.db.connection()


@pytest.fixture
def acme(db: Connection) -> str:
    with db.write():
        return add_developer(db)


def offered(env: Context, code: int = 0, **device: str) -> int | None:
    """The version code that a device with this code of a.b is offered."""
    found = updates.updates(env, env.db.connection(), {"a.b": code}, Device(**device))
    return found[0].version_code if found else None


def test_a_device_is_offered_the_highest_of_its_channel(
    env: Context, db: Connection, acme: str
) -> None:
    with db.write():
        app = add_app(db, acme, "a.b", "App")
        for code, channel in ((1, "stable"), (2, "beta"), (3, "stable"), (4, "beta")):
            add_version(db, acme, app, code, channel=channel)
    assert (offered(env), offered(env, 2), offered(env, 3), offered(env, 9)) == (3, 3, None, None)
    assert (offered(env, channel="beta"), offered(env, 4, channel="beta")) == (4, None)


def test_many_betas_hide_no_stable_version(env: Context, db: Connection, acme: str) -> None:
    with db.write():
        app = add_app(db, acme, "a.b", "App")
        add_version(db, acme, app, 1)
        for code in range(2, 200):
            add_version(
                db, acme, app, code, channel="beta", rollout_percent=100 if code % 2 else 10
            )
    assert (offered(env), offered(env, channel="beta")) == (1, 199)


def test_a_device_is_offered_the_best_of_all_versions(
    env: Context, db: Connection, acme: str
) -> None:
    """What is left out beforehand is what nobody would be offered: random versions, against a look at every one of them."""
    rng, seed = seeded()
    with db.write():
        app = add_app(db, acme, "a.b", "App")
    needs = ["1.0.0", "1.2.0-rc.1", "1.2.0", "2.0.0"]
    for _ in range(30):
        made = [
            (rng.choice(["stable", "beta"]), rng.choice([1, 50, 100, 100]), rng.randrange(4))
            for _ in range(12)
        ]
        with db.write():
            db.change("DELETE FROM versions")
            ids = [
                add_version(
                    db,
                    acme,
                    app,
                    code,
                    channel=channel,
                    rollout_percent=percent,
                    min_mosis_version=needs[needed],
                )
                for code, (channel, percent, needed) in enumerate(made, 1)
            ]
        placing = db.value("SELECT placing FROM store_state")
        for number in range(30):
            channel, runs, device = rng.choice(["stable", "beta"]), rng.randrange(4), str(number)
            fitting = [
                code
                for code, (its, percent, needed) in enumerate(made, 1)
                if its in ("stable", channel)
                and needed <= runs
                and in_rollout(placing, ids[code - 1], device, percent)
            ]
            found = offered(env, channel=channel, id=device, mosis_version=needs[runs])
            assert found == max(fitting, default=None), f"seed {seed}"


def test_an_invalid_package_id_is_not_cached(env: Context, db: Connection) -> None:
    updates.updates(env, db, {f"{number}{'x' * 100_000}": 1 for number in range(5)}, Device())
    assert env.cache.size_bytes == 0


def test_a_device_is_offered_nothing_that_needs_a_newer_mosis(
    env: Context, db: Connection, acme: str
) -> None:
    with db.write():
        app = add_app(db, acme, "a.b", "App")
        for code, needs in ((1, "1.0.0"), (2, "1.10.0-rc.1"), (3, "2.0.0")):
            add_version(db, acme, app, code, min_mosis_version=needs)
    devices = ("", "2.0.0", "2.0.0-rc.1", "1.10.0", "1.10.0-beta", "1.9.0", "0.9.0")
    assert [offered(env, mosis_version=runs) for runs in devices] == [3, 3, 2, 2, 1, 1, None]


@pytest.mark.parametrize("change", [
    "UPDATE versions SET state = 'halted' WHERE version_code = 2", "UPDATE versions SET state = 'yanked' WHERE version_code = 2",
    "DELETE FROM versions WHERE version_code = 2", "UPDATE versions SET rollout_percent = 50 WHERE version_code = 2",
    "UPDATE apps SET suspended = 1", "UPDATE developers SET suspended = 1",
])  # fmt: skip
def test_what_is_taken_back_is_offered_no_more_at_once(
    env: Context, db: Connection, acme: str, change: str
) -> None:
    with db.write():
        app = add_app(db, acme, "a.b", "App")
        add_version(db, acme, app, 1)
        add_version(db, acme, app, 2)
    assert offered(env) == 2
    with db.write():
        db.change(change)
    assert offered(env) == (None if "suspended" in change else 1)


def test_without_a_version_that_fits_there_is_no_download(
    env: Context, db: Connection, acme: str
) -> None:
    with db.write():
        app = add_app(db, acme, "a.b", "App")
        add_version(db, acme, app, 1, channel="beta")
    assert updates.offered(env, db, "a.b", Device("beta")).version == "1.1.0"
    for package_id, device in (
        ("a.b", Device()),
        ("a.b", Device("beta", mosis_version="0.1.0")),
        ("a.c", Device("beta")),
    ):
        with pytest.raises(NotFound):
            updates.offered(env, db, package_id, device)


@pytest.mark.parametrize("percent", [0.1, 1, 5, 10, 33.3, 50, 90, 99])
def test_a_share_is_that_share_of_the_devices(percent: float) -> None:
    rng = random.Random(int(percent * 10))
    placing, version = rng.randbytes(32), str(rng.random())
    inside = sum(
        in_rollout(placing, version, f"device-{number}", percent) for number in range(20_000)
    )
    assert abs(inside / 200 - percent) < 1


def test_each_version_has_its_own_order_of_devices(env: Context) -> None:
    devices = [str(number) for number in range(10_000)]
    first, second = (
        {each for each in devices if in_rollout(bytes(32), version, each, 10)}
        for version in ("a", "b")
    )
    assert 50 < len(first & second) < 150  # 1 % of 10,000


@pytest.mark.parametrize("count", short_and_full(1_000, 10_000))
def test_no_device_ever_goes_back_while_shares_grow(
    env: Context, db: Connection, acme: str, count: int
) -> None:
    """So many devices with 20 apps each ask in random order while the shares of the new versions grow one by one."""
    rng, seed = seeded()
    with db.write():
        grown = []
        for number in range(20):
            app = add_app(db, acme, f"a.b{number}", f"App {number}")
            add_version(db, acme, app, 1)
            grown += [add_version(db, acme, app, code, rollout_percent=1) for code in (2, 3)]
    steps = [
        (version, share) for share in (10, 50, 100) for version in rng.sample(grown, len(grown))
    ]
    devices = [f"device-{number}" for number in range(count)]
    highest = {device: [1] * 20 for device in devices}
    asked = 0
    for start in range(0, len(steps) + 10, 10):
        for device in rng.sample(devices, count if start + 10 > len(steps) else count * 3 // 10):
            asked += 1
            had = highest[device]
            got = {
                offer.package_id: offer.version_code
                for offer in updates.updates(
                    env, db, {f"a.b{number}": 0 for number in range(20)}, Device(id=device)
                )
            }
            for number in range(20):
                assert got[f"a.b{number}"] >= had[number], f"{device} went back, seed {seed}"
                had[number] = got[f"a.b{number}"]
        with db.write():
            for version, share in steps[start : start + 10]:
                db.change("UPDATE versions SET rollout_percent = ? WHERE id = ?", share, version)
    assert asked > 4 * count
    assert all(codes == [3] * 20 for codes in highest.values())


def test_an_old_answer_is_never_given_while_many_read_and_one_writes(
    env: Context, db: Connection, acme: str
) -> None:
    """What is cached is never staler than a committed change, also when another connection, as of another process, made it."""
    import sqlite3
    from concurrent.futures import ThreadPoolExecutor

    with db.write():
        app = add_app(db, acme, "a.b", "App")
        version = add_version(db, acme, app, 1)
    committed = [1]

    def read(_: int) -> None:
        for _ in range(300):
            before = committed[0]
            assert (offered(env) or 0) >= before

    other = sqlite3.connect(env.db.path, isolation_level=None)
    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, number) for number in range(4)]
        for code in range(2, 200):
            other.execute("UPDATE versions SET version_code = ? WHERE id = ?", (code, version))
            committed[0] = code
        for reader in readers:
            reader.result(timeout=60)
    other.close()
