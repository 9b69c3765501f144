"""What strangers can do to telemetry: nothing that others lose by."""

import itertools
import json
import os
import sqlite3
import string
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mosis.clock import text
from mosis.telemetry import (
    crash_groups,
    devices,
    intake,
    maintenance,
    pseudonyms,
    rollups,
    shares,
    space,
)
from tests.client import Account, Answer, Client
from tests.conftest import START, FakeClock
from tests.test_telemetry_retention import everything
from tests.web.test_crashes import report
from tests.web.test_telemetry import DAY, DEVICE, NOTES, analytics, batch, event, send, stored

DRAFT, UNKNOWN = "com.acme.draft", "com.acme.unknown"


@pytest.fixture
def alice(client: Client) -> Account:
    account = client.register()
    client.out(account)
    return account


def crash(app_id: str = NOTES, device: int = 1, kind: str = "Error", **more: Any) -> dict[str, Any]:
    return {
        "app_id": app_id,
        "app_version": "1.0.0",
        "mosis_version": "2.1.0",
        "device_id": f"{device:064x}",
        "timestamp": text(START - 60),
        "crash": {"type": kind, "message": "m", "stack_trace": "main.lua:1: in function 'f'"}
        | more,
    }


def crashed(client: Client, *, address: str = "198.51.100.7", **what: Any) -> Answer:
    return client.post("/v1/telemetry/crashes", crash(**what), address=address).expect(202)


def words() -> Any:
    return map("".join, itertools.product(string.ascii_lowercase, repeat=3))


class TestDrafts:
    def sent(self, client: Client, app_id: str, **more: Any) -> list[bytes]:
        return [
            client.post(path, body, **more).expect(202).body
            for path, body in (
                ("/v1/telemetry/events", batch(event(), event(), app_id=app_id)),
                ("/v1/telemetry/events", batch({"type": "x"}, app_id=app_id, app_version="9")),
                ("/v1/telemetry/crashes", crash(app_id)),
            )
        ]

    def test_nobody_learns_which_there_are(self, client: Client, alice: Account) -> None:
        client.app_of(alice, DRAFT)
        client.upload(DRAFT, client.package(alice, DRAFT), as_=alice).expect(201)
        with client.env.db.connection().write() as db:
            db.change("UPDATE apps SET suspended = 1 WHERE package_id = ?", NOTES)
        bob = client.register("bob")
        expected = self.sent(client, UNKNOWN)
        for app_id, caller in itertools.product((DRAFT, NOTES, UNKNOWN), (None, bob)):
            assert self.sent(client, app_id, as_=caller) == expected
        assert stored(client, "SELECT 1 FROM batches UNION ALL SELECT 1 FROM crash_groups") == []
        answer = json.loads(expected[0])
        assert (answer["accepted"], answer["rejected"], answer["sample_rate"]) == (0, 2, 0)
        assert answer["errors"][0]["pointer"] == "/app_id"

    def test_their_developers_try_them(self, client: Client, alice: Account) -> None:
        number = client.get(f"/v1/apps/{client.app_of(alice, DRAFT)}", as_=alice)["id"]
        keys = [
            client.post(
                "/v1/keys", {"name": "k", "scopes": ["telemetry:read"], "apps": apps}, as_=alice
            ).expect(201)["key"]
            for apps in ([number], [NOTES])
        ]
        for caller, accepted in ((alice, 2), (keys[0], 2), (keys[1], 0)):
            answer = client.post(
                "/v1/telemetry/events", batch(event(), event(), app_id=DRAFT), as_=caller
            ).expect(202)
            assert answer["accepted"] == accepted
        client.post("/v1/telemetry/crashes", crash(DRAFT), as_=alice).expect(202)
        maintenance.turn(client.env)
        assert client.get(f"/v1/apps/{DRAFT}/analytics", as_=alice)["totals"]["starts"] == 4
        assert client.get(f"/v1/apps/{DRAFT}/crashes", as_=alice)["crashes"][0]["count"] == 1
        client.post("/v1/telemetry/events", batch(event()), as_="nonsense").expect(401)


class TestMails:
    """One mail a day and app with what is new, of what was published."""

    def published(self, client: Client) -> Account:
        account = client.register("bob")
        client.published(account, client.app_of(account, "com.bob.x"))
        client.work()
        return account

    def look(self, client: Client, account: Account) -> list[dict[str, Any]]:
        maintenance.turn(client.env)
        client.work()
        return [each for each in client.notifications(account) if each["kind"].startswith("crash.")]

    def mails(self, client: Client) -> int:
        folder = client.env.config.data_dir / "mail"
        texts = [" ".join(path.read_text().split()) for path in folder.glob("*.eml")]
        return sum("new or returning kind" in text for text in texts)

    def test_one_a_day(self, client: Client, clock: FakeClock) -> None:
        bob = self.published(client)
        for number, word in zip(range(60), words(), strict=False):
            crashed(client, app_id="com.bob.x", device=number, kind="E" + word)
        answer = self.look(client, bob)
        assert [each["kind"] for each in answer] == ["crash.new_group"] * 20
        assert self.mails(client) == 0, "the digest is not due yet"
        for hour in range(30):
            clock.advance(3600)
            crashed(client, app_id="com.bob.x", device=hour, kind=f"Later{chr(97 + hour % 26)}x")
            maintenance.turn(client.env)
            client.work()
        bob = client.sign_in(bob)
        digests = [each for each in self.look(client, bob) if each["kind"] == "crash.digest"]
        assert (len(digests), self.mails(client)) == (2, 2)
        first = digests[-1]["data"]
        assert (first["new"], len(first["groups"])) == (61, 20)
        assert "com.bob.x has 61 new or returning kinds of crash: " in digests[-1]["text"]

    @pytest.mark.parametrize("version", ["7.7.7", "1.1.0"])
    def test_none_of_versions_that_were_never_published(
        self, client: Client, clock: FakeClock, version: str
    ) -> None:
        bob = self.published(client)
        client.upload("com.bob.x", client.package(bob, "com.bob.x", "1.1.0", 2), as_=bob).expect(
            201
        )
        client.app_of(bob, "com.bob.draft")
        document = crash("com.bob.x") | {"app_version": version}
        client.post("/v1/telemetry/crashes", document).expect(202)
        client.post("/v1/telemetry/crashes", crash("com.bob.draft"), as_=bob).expect(202)
        self.look(client, bob)
        clock.advance(2 * DAY)
        bob = client.sign_in(bob)
        kinds = [each["kind"] for each in self.look(client, bob)]
        assert (kinds, self.mails(client)) == (["crash.new_group"] * 2, 0)

    def test_a_group_that_comes_back_is_new(self, client: Client, clock: FakeClock) -> None:
        bob = self.published(client)
        crashed(client, app_id="com.bob.x")
        clock.advance(3600)
        bob = client.sign_in(bob)
        self.look(client, bob)
        group = client.get("/v1/apps/com.bob.x/crashes", as_=bob)["crashes"]
        at = f"/v1/apps/com.bob.x/crashes/{group[0]['id']}"
        client.patch(at, {"state": "resolved"}, as_=bob).expect(200)
        clock.advance(2 * DAY)
        document = crash("com.bob.x", 2) | {"timestamp": text(clock.at)}
        client.post("/v1/telemetry/crashes", document).expect(202)
        self.look(client, client.sign_in(bob))
        clock.advance(3600)
        bob = client.sign_in(bob)
        self.look(client, bob)
        digests = [each for each in self.look(client, bob) if each["kind"] == "crash.digest"]
        assert [each["data"]["groups"][0]["reopened_at"] is None for each in digests] == [
            False,
            True,
        ]


class TestShares:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"RATE_LIMITS": "on", "TELEMETRY_EVENTS_PER_APP": "200"}

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("LEAST_OF_NETWORK", 20), ("LEAST_OF_DEVICE", 10)):
            monkeypatch.setattr(intake, name, value)

    def test_of_a_network_and_a_device(
        self, client: Client, alice: Account, clock: FakeClock
    ) -> None:
        def taken(device: int, address: str, number: int = 5) -> int:
            body = batch(*[event(at=clock.at)] * number, device_id=f"{device:064x}")
            return client.post("/v1/telemetry/events", body, address=address).status

        assert [taken(1, "192.0.2.1") for _ in range(3)] == [202, 202, 429]
        assert taken(1, "192.0.2.9") == 429, "the device, wherever it is"
        assert [taken(2, "192.0.2.1"), taken(2, "192.0.2.1"), taken(3, "192.0.2.1")] == [
            202,
            202,
            429,
        ]
        homes = ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1")
        used = [taken(10 + number, homes[0]) for number in range(5)]
        assert used == [202] * 4 + [429]
        assert (taken(20, homes[1]), taken(20, homes[2])) == (429, 202)
        client.out(alice, "com.acme.todo")
        other = batch(event(), app_id="com.acme.todo", device_id=f"{1:064x}")
        client.post("/v1/telemetry/events", other, address="192.0.2.1").expect(202)
        clock.advance(DAY)
        assert taken(1, "192.0.2.1") == 202

    def test_counted_as_it_is_unpacked(self, client: Client, alice: Account) -> None:
        large = batch(*[event("lua_error", message="x" * 400)] * 4)
        assert [client.post("/v1/telemetry/events", large).status for _ in range(3)] == [
            202,
            429,
            429,
        ], "1,700 bytes are nine events, however well they compress"

    def test_of_all_the_room(
        self, client: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake, "NETWORKS", space.limit_bytes(client.env) // 3000)
        answers = []
        for number in range(40):
            app = client.out(alice, f"com.acme.app{number}")
            answers.append(send(client, *[event()] * 5, app_id=app).status)
        assert 202 in answers[:10]
        assert set(answers[20:]) == {429}


def test_shares_are_bounded_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MOST_KEYS", 100)
    ours = shares.Shares()
    for number in range(1000):
        assert ours.take(0, (f"k{number}", 1, 1))
    assert len(ours._used) == 100
    assert not ours.take(0, ("k999", 1, 1), ("new", 1, 1))
    assert ours.take(0, ("new", 1, 1)), "what was refused was not counted"
    assert ours.take(DAY, ("k999", 1, 1))


class TestRoom:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"TELEMETRY_MAX_BYTES": str(1 << 20)}

    def test_the_oldest_go_when_there_is_no_more(self, client: Client, alice: Account) -> None:
        db = client.env.telemetry.connection()
        noise = [event("lua_error", message=os.urandom(200).hex()) for _ in range(100)]
        for number in range(60):
            answer = send(client, *noise, device_id=f"{number:064x}")
            assert answer.status in (202, 507)
            if answer.status == 507:
                answer.expect(507, code="no_space")
                break
        else:
            pytest.fail("it is never full")
        assert space.used_bytes(db) < 1.2 * (1 << 20)
        sent = number * 100
        maintenance.add_up(client.env)
        assert space.used_bytes(db) <= 1 << 20
        assert 0 < stored(client, "SELECT count(*) FROM batches")[0][0] < number
        assert everything(client, f"{0:064x}") == ([], []), "the oldest went"
        assert len(everything(client, f"{number - 1:064x}")[0]) == 1
        assert analytics(client, alice)["totals"]["events"] == sent, "their sums stay"
        assert rollups.recount(db) == 0
        send(client, event()).expect(202)

    def test_samples_of_crashes_go_after_the_events(self, client: Client, alice: Account) -> None:
        for number, word in zip(range(90), words(), strict=False):
            trace = f"a{word}.lua:1: in function 'f'\n" + os.urandom(8000).hex()
            answer = report(client, device=number, kind="E" + word, stack_trace=trace)
            if answer.status == 507:
                break
        maintenance.turn(client.env)
        assert space.used_bytes(client.env.telemetry.connection()) <= 1 << 20
        found = client.get(f"/v1/apps/{NOTES}/crashes?limit=100", as_=alice)["crashes"]
        assert len(found) == number
        report(client).expect(202)


def test_uploads_have_room_that_telemetry_has_not(
    client: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops at twice the reserve, and gives back what it has."""
    for _ in range(30):
        send(client, *[event("lua_error", message=os.urandom(200).hex())] * 100)
    disk = os.statvfs(client.env.telemetry.path.parent)
    reserve = disk.f_bavail * disk.f_frsize * 2 // 3
    object.__setattr__(client.env.config, "disk_reserve_bytes", reserve)
    client.env.files.reserve_bytes = reserve
    large = [event("lua_error", message="x" * 450)] * 100
    assert 507 in [send(client, *large).status for _ in range(5)], "looked at every 128 KiB"
    send(client, event()).expect(507, code="no_space")
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    before = client.env.telemetry.connection().value("PRAGMA page_count")
    maintenance.add_up(client.env)
    assert stored(client, "SELECT count(*) FROM batches") == [(0,)]
    assert client.env.telemetry.connection().value("PRAGMA page_count") < before
    assert 3000 <= analytics(client, alice)["totals"]["events"] <= 3400


def test_events_are_packed_and_older_rows_are_read(client: Client, alice: Account) -> None:
    sent = [event("perf_frame", frame_ms=16.5)] * 100
    send(client, *sent)
    packed, size = stored(client, "SELECT length(packed), size_bytes FROM batches")[0]
    assert packed < size / 10
    db = client.env.telemetry.connection()
    old = {
        "events": json.dumps([[5, int(START), {"frame_ms": 16.5}]] * 7),
        "received_at": int(START),
    }
    row = db.one("SELECT source, device, session FROM batches")
    with db.write():
        db.insert("batches", **dict(zip(("source", "device", "session"), row, strict=True)), **old)
    totals = analytics(client, alice)["totals"]
    assert totals["events"] == 107
    assert totals["frame_ms_p50"] == pytest.approx(16.5, rel=0.046)
    assert [len(each["events"]) for each in everything(client, DEVICE)[0]] == [100, 7]
    assert len(stored(client, "SELECT at FROM events")) == 107
    command = Path("/usr/bin/sqlite3")
    if command.exists():
        ran = subprocess.run(
            [command, client.env.telemetry.path, "SELECT count(*), sum(json_extract(data, '$.frame_ms')) FROM events"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert ran.stdout.strip() == f"107|{107 * 16.5}", ran.stderr


class TestDevices:
    def work_of(self, client: Client, ask: Callable[[], Answer]) -> tuple[int, int, int]:
        """(statements, rows of `apps` that a query walks, hashes) of a request."""
        found: list[str] = []
        hashes = 0
        keyed = pseudonyms.keyed

        def counted(*given: Any) -> bytes:
            nonlocal hashes
            hashes += 1
            return keyed(*given)

        connections = [client.env.telemetry.connection()._raw, client.env.db.connection()._raw]
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        for raw in connections:
            raw.set_trace_callback(found.append)
            raw.set_progress_handler(step, 100)
        pseudonyms.keyed = counted
        try:
            ask().expect(200)
        finally:
            pseudonyms.keyed = keyed
            for raw in connections:
                raw.set_trace_callback(None)
                raw.set_progress_handler(None, 0)
        return len(found), steps, hashes

    def test_the_cost_goes_by_what_is_found(self, client: Client, alice: Account) -> None:
        send(client, event())
        paths = [f"/v1/telemetry/devices/{device}" for device in ("e" * 64, DEVICE)]
        before = [self.work_of(client, lambda path=path: client.get(path)) for path in paths]
        with client.env.telemetry.connection().write() as db:
            for number in range(20_000):
                db.change("INSERT INTO apps (app_id) VALUES (?)", f"app-{number}")
            source = db.value("SELECT id FROM sources")
            for number in range(5_000):
                device = number.to_bytes(8, "big")
                db.insert(
                    "batches",
                    source=source,
                    device=device,
                    session=b"s",
                    received_at=1,
                    events="[]",
                )
                db.insert("devices", key=device, device=device, app=1, day=1)
        after = [self.work_of(client, lambda path=path: client.get(path)) for path in paths]
        for (statements, steps, hashes), (more, more_steps, more_hashes) in zip(
            before, after, strict=True
        ):
            assert (more, more_hashes) == (statements, hashes)
            assert more_steps <= steps + 5

    def test_rows_from_before_devices_were_listed_are_found(
        self, client: Client, alice: Account, clock: FakeClock
    ) -> None:
        send(client, event())
        report(client, device=int(DEVICE, 16))
        with client.env.telemetry.connection().write() as db:
            db.change("DELETE FROM devices")
        assert everything(client, DEVICE) == ([], [])
        with client.env.telemetry.connection().write() as db:
            db.change("UPDATE apps SET unlisted = ?", int(START))
        assert [len(each) for each in everything(client, DEVICE)] == [1, 1]
        maintenance.turn(client.env)
        assert stored(client, "SELECT unlisted FROM apps") == [(int(START),)]
        clock.advance(92 * DAY)
        maintenance.turn(client.env)
        assert stored(client, "SELECT unlisted FROM apps") == [(0,)]

    def test_devices_are_struck_once_nothing_of_them_is_left(
        self, client: Client, alice: Account, clock: FakeClock
    ) -> None:
        send(client, event())
        report(client, device=2)
        clock.advance(9 * DAY)
        maintenance.turn(client.env)
        assert stored(client, "SELECT day FROM devices") == [(int(clock.at) // DAY,)]
        clock.advance(100 * DAY)
        maintenance.turn(client.env)
        assert stored(client, "SELECT 1 FROM devices") == []

    def test_their_lists_do_not_say_who_uses_two_apps(self, client: Client, alice: Account) -> None:
        for name in ("a", "b", "c"):
            send(client, event(), app_id=client.out(alice, f"com.acme.{name}"))
        assert len(set(stored(client, "SELECT key FROM devices"))) == 3
        assert len(everything(client, DEVICE)[0]) == 3
        client.delete(f"/v1/telemetry/devices/{DEVICE}").expect(204)
        assert stored(client, "SELECT 1 FROM devices UNION ALL SELECT 1 FROM batches") == []

    def test_beyond_one_that_runs_and_one_that_waits_all_are_refused_at_once(
        self, client: Client
    ) -> None:
        path = f"/v1/telemetry/devices/{DEVICE}"
        client.get(path).expect(200)
        waiting = client.env.state(devices.Search).waiting
        with waiting, waiting:
            for method in ("GET", "DELETE"):
                refused = client.call(method, path).expect(503, code="busy")
                assert refused.headers["retry-after"] == "5"
        client.get(path).expect(200)
        assert devices.AT_ONCE == 2


class TestGroups:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"RATE_LIMITS": "on"}

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (
            ("NEW_SINGLES_A_DAY", 30),
            ("SINGLE_GROUPS", 50),
            ("GROUPS_OF_HOUSEHOLD", 8),
            ("GROUPS_OF_DEVICE", 4),
        ):
            monkeypatch.setattr(crash_groups, name, value)

    def kinds(self, client: Client, alice: Account) -> list[str]:
        found = client.get(f"/v1/apps/{NOTES}/crashes?limit=100", as_=alice).expect(200)["crashes"]
        return [each["type"] for each in found]

    @pytest.mark.parametrize("networks", [1, 3, 40])
    @pytest.mark.parametrize("in_a_row", [1, 2])
    def test_a_flood_hides_no_real_crash(
        self, client: Client, alice: Account, networks: int, in_a_row: int
    ) -> None:
        """Made up crashes of many networks and devices, then a real one from the same network: it is there."""
        crashed(client, kind="Shared", device=1, address="203.0.113.1")
        crashed(client, kind="Shared", device=2, address="203.0.113.2")
        for number, word in zip(range(80), words(), strict=False):
            for again in range(in_a_row):
                crashed(
                    client,
                    kind="E" + word,
                    device=1000 * number + 7,
                    address=f"192.0.2.{number % networks}",
                    message=str(again),
                )
        crashed(client, kind="Real", device=5, address="192.0.2.250")
        kinds = self.kinds(client, alice)
        assert "Real" in kinds
        assert "Shared" in kinds
        assert len(kinds) <= 30 + 2
        if networks == 1:
            assert len([each for each in kinds if each.startswith("E")]) <= 8

    def test_the_same_network_displaces_its_own(self, client: Client, alice: Account) -> None:
        crashed(client, kind="First", device=1, address="203.0.113.1")
        for number, word in zip(range(60), words(), strict=False):
            crashed(client, kind="E" + word, device=number + 100)
        crashed(client, kind="Real", device=5)
        kinds = self.kinds(client, alice)
        assert {"First", "Real"} <= set(kinds)
        assert len(kinds) == 1 + 8

    def test_a_device_has_fewer_than_its_network(self, client: Client, alice: Account) -> None:
        for word in ("a", "b", "c"):
            crashed(client, kind="Mine" + word, device=1)
        for number, word in zip(range(20), words(), strict=False):
            crashed(client, kind="E" + word, device=2, message=str(number))
        kinds = self.kinds(client, alice)
        assert {"Minea", "Mineb", "Minec"} <= set(kinds)
        assert len([each for each in kinds if each.startswith("E")]) == 4

    def test_the_days_before_are_not_displaced_by_a_flood_of_today(
        self, client: Client, alice: Account, clock: FakeClock
    ) -> None:
        crashed(client, kind="Old", device=1, address="203.0.113.1")
        clock.advance(DAY)
        for number, word in zip(range(80), words(), strict=False):
            crashed(client, kind="E" + word, device=number, address=f"192.0.2.{number}")
        assert "Old" in self.kinds(client, client.sign_in(alice))

    def test_what_several_devices_met_is_bounded_too(
        self, client: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(crash_groups, "SHARED_GROUPS", 5)
        for number, word in zip(range(12), words(), strict=False):
            for device in (1, 2):
                crashed(
                    client,
                    kind="E" + word,
                    device=100 * number + device,
                    address=f"192.0.2.{number}",
                )
        kinds = self.kinds(client, alice)
        assert sorted(kinds)[-1] == "other"
        assert len(kinds) == 6

    def test_counts_of_reports_stay_when_a_group_goes(self, client: Client, alice: Account) -> None:
        for number, word in zip(range(40), words(), strict=False):
            crashed(client, kind="E" + word, device=number)
        assert analytics(client, alice)["totals"]["crashes"] == 40
        orphans = stored(
            client,
            "SELECT 1 FROM crash_reports WHERE crash_group NOT IN (SELECT id FROM crash_groups)"
            " UNION ALL SELECT 1 FROM crash_counts WHERE crash_group NOT IN (SELECT id FROM crash_groups)",
        )
        assert orphans == []


def test_the_migration_keeps_what_was_stored(tmp_path: Path) -> None:
    """Rows of the first schema, taken through the migrations, are read and found as new ones are."""
    import portal
    from mosis.config import Config
    from mosis.context import make_context
    from mosis.database.migrations import statements

    config = Config.read(
        {
            "DATABASE_PATH": str(tmp_path / "portal.db"),
            "PACKAGES_DIR": str(tmp_path / "p"),
            "DISK_RESERVE_BYTES": "0",
        }
    )
    (tmp_path / "telemetry_secret").write_text("s" * 43)
    device = pseudonyms.pseudonym("s" * 43, 1, DEVICE)
    raw = sqlite3.connect(config.telemetry_path, isolation_level=None)
    script = (portal.HERE / "migrations/telemetry/0001_initial.sql").read_text(encoding="utf-8")
    for statement in statements(script):
        raw.execute(statement)
    raw.execute("PRAGMA user_version = 1")
    raw.execute("INSERT INTO apps (app_id) VALUES ('a')")
    raw.execute("INSERT INTO sources (app, version, mosis_version) VALUES (1, '1', '2')")
    raw.execute(
        "INSERT INTO batches (source, device, session, received_at, events) VALUES (1, ?, ?, 5, ?)",
        (device, device, '[[5,1800000000,{"frame_ms":20}],[1,1800000000]]'),
    )
    raw.execute(
        "INSERT INTO rollups (app, span, version, start, frames) VALUES (1, 'day', '*', 0, '{\"3\":4}')"
    )
    raw.close()
    portal.migrate_databases(config)
    env = make_context(config)
    try:
        found = devices.export(env, DEVICE)
        assert [len(each["events"]) for each in found.batches] == [2]
        assert rollups.catch_up(env.telemetry.connection())
        assert (
            env.telemetry.connection().value(
                "SELECT sum(events) FROM rollups WHERE span = 'hour' AND version = '*'"
            )
            == 2
        )
        assert env.telemetry.connection().value("SELECT count(*) FROM events") == 2
        devices.erase(env, DEVICE)
        assert env.telemetry.connection().value("SELECT count(*) FROM batches") == 0
    finally:
        env.close()
