"""What one account may store: every quota at its edge, also with two requests at once, and the packages that go."""

import base64
import json
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mosis import jobs
from mosis.context import Context
from mosis.errors import Conflict
from mosis.packages.storage import Files
from mosis.publishing import package_files, quotas, versions
from mosis.worker import Worker
from tests.client import Account, Answer, Client
from tests.conftest import FakeClock

NOTES = "com.acme.notes"
DAY = 24 * 3600


@pytest.fixture
def settings() -> dict[str, str]:
    return {
        "ACCOUNT_APPS": "3",
        "ACCOUNT_UNPUBLISHED_VERSIONS": "4",
        "ACCOUNT_BYTES": str(1 << 20),
        "RESERVED_PREFIXES": "org.mosis, com.acme.internal",
    }


@pytest.fixture
def alice(client: Client) -> Account:
    return client.register()


def upload(client: Client, account: Account, code: int, size: int = 100, **more: Any) -> Answer:
    """A version 1.0.CODE whose package has about `size` bytes that cannot be compressed."""
    noise = json.dumps(base64.b64encode(random.Random(code).randbytes(size)).decode()).encode()
    package = client.package(
        account, NOTES, f"1.0.{code}", code, files={"assets/noise.json": noise}, **more
    )
    return client.upload(NOTES, package, as_=account)


def fail(env: Context, version: str) -> None:
    """The version has failed its checks."""
    with env.db.connection().write() as db:
        db.change("UPDATE versions SET state = 'failed' WHERE version = ?", version)


def files(env: Context) -> set[str]:
    """The version strings of which there is a package."""
    return {path.parent.name for path in env.config.packages_dir.glob("*/*/*/package.mosis")}


def exceeded(answer: Answer, quota: str, limit: int, used: int) -> None:
    answer.expect(409, "quota_exceeded")
    assert (answer["quota"], answer["limit"], answer["used"]) == (quota, limit, used)


def test_apps_have_a_quota_and_deleting_a_draft_gives_one_back(
    client: Client, alice: Account
) -> None:
    for number in range(3):
        client.app_of(alice, f"com.acme.app{number}")
    one_more = {"package_id": "com.acme.more", "name": "More"}
    exceeded(client.post("/v1/apps", one_more, as_=alice), "apps", 3, 3)
    client.app_of(client.register("bob"), "com.bob.app")  # the quota is each account's own
    client.delete("/v1/apps/com.acme.app0", as_=alice).expect(204)
    client.post("/v1/apps", one_more, as_=alice).expect(201)


def test_unpublished_versions_have_a_quota_and_withdrawing_gives_one_back(
    client: Client, alice: Account
) -> None:
    client.app_of(alice, NOTES)
    for code in range(1, 5):
        upload(client, alice, code).expect(201)
        client.work()
    exceeded(upload(client, alice, 5), "unpublished_versions", 4, 4)
    assert "5" not in {each.rpartition(".")[2] for each in files(client.env)}
    client.post(f"/v1/apps/{NOTES}/versions/1.0.1/withdraw", as_=alice).expect(200)
    upload(client, alice, 5).expect(201)


def test_the_same_bytes_again_need_no_room(client: Client, alice: Account) -> None:
    client.app_of(alice, NOTES)
    for code in range(1, 5):
        upload(client, alice, code).expect(201)
    upload(client, alice, 4).expect(200)


def test_bytes_have_a_quota_at_its_very_edge(client: Client, alice: Account) -> None:
    client.app_of(alice, NOTES)
    first = upload(client, alice, 1, 500_000).expect(201)["size_bytes"]
    second = upload(client, alice, 2, 400_000).expect(201)["size_bytes"]
    client.work()
    limit = (1 << 20) - first - second
    package = client.package(alice, NOTES, "1.0.3", 3)
    exceeded(upload(client, alice, 3, limit), "bytes", 1 << 20, first + second)
    with client.env.db.connection().write() as db:  # exactly what is left
        db.change(
            "UPDATE versions SET size_bytes = size_bytes + ? WHERE version = '1.0.1'",
            limit - len(package),
        )
    client.upload(NOTES, package, as_=alice).expect(201)
    exceeded(upload(client, alice, 4), "bytes", 1 << 20, 1 << 20)


def test_dead_packages_make_room_the_oldest_first(client: Client, alice: Account) -> None:
    client.app_of(alice, NOTES)
    for code in range(1, 4):
        upload(client, alice, code, 300_000).expect(201)
        client.work()
        fail(client.env, f"1.0.{code}")
    upload(client, alice, 4, 300_000).expect(201)
    client.work()
    assert files(client.env) == {"1.0.2", "1.0.3", "1.0.4"}
    gone = client.get(f"/v1/apps/{NOTES}/versions/1.0.1", as_=alice).expect(200)
    assert gone["package_removed_at"] == client.env.clock.now()
    assert client.get(f"/v1/apps/{NOTES}/versions/1.0.2", as_=alice)["package_removed_at"] is None
    version = versions.by_id(client.env.db.connection(), gone["id"])
    assert version is not None
    with pytest.raises(Exception, match="gone"):
        package_files.open_file(client.env, client.env.db.connection(), version)


def test_a_refused_upload_takes_nothing_away(client: Client, alice: Account) -> None:
    client.app_of(alice, NOTES)
    upload(client, alice, 1, 600_000).expect(201)
    upload(client, alice, 2, 300_000).expect(201)
    client.work()
    fail(client.env, "1.0.2")
    upload(client, alice, 3, 500_000).expect(409, "quota_exceeded")
    client.work()
    assert files(client.env) == {"1.0.1", "1.0.2"}


@pytest.mark.parametrize("state", ["failed", "rejected", "withdrawn"])
def test_packages_of_dead_versions_go_after_two_weeks_and_the_rows_stay(
    client: Client, alice: Account, clock: FakeClock, state: str
) -> None:
    client.app_of(alice, NOTES)
    upload(client, alice, 1).expect(201)
    upload(client, alice, 2).expect(201)
    client.work()
    with client.env.db.connection().write() as db:
        db.change("UPDATE versions SET state = ? WHERE version = '1.0.1'", state)
    clock.advance(quotas.DEAD_PACKAGE_SECONDS - 60)
    quotas.expire_packages(client.env)
    client.work()
    assert files(client.env) == {"1.0.1", "1.0.2"}
    clock.advance(120)
    quotas.expire_packages(client.env)
    client.work()
    assert files(client.env) == {"1.0.2"}
    quotas.expire_packages(client.env)
    alice = client.sign_in(alice)
    shown = client.get(f"/v1/apps/{NOTES}/versions/1.0.1", as_=alice).expect(200)
    assert (shown["state"], bool(shown["package_removed_at"])) == (state, True)


@pytest.mark.parametrize("released", [0, 1])
def test_what_devices_were_offered_never_goes(
    client: Client, alice: Account, clock: FakeClock, released: int
) -> None:
    client.app_of(alice, NOTES)
    client.published(alice, NOTES)
    client.post(f"/v1/apps/{NOTES}/versions/1.0.0/yank", {"reason": "x"}, as_=alice).expect(200)
    if released:
        upload(client, alice, 2).expect(201)
        client.work()
    clock.advance(100 * DAY)
    quotas.expire_packages(client.env)
    client.work()
    assert "1.0.0" in files(client.env)


@pytest.mark.parametrize("use", [package_files.verify_file, package_files.open_file])
def test_a_package_that_is_replaced_while_it_is_read_is_gone_and_not_damaged(
    client: Client, alice: Account, use: Any
) -> None:
    class Replaced(Files):
        """Another package of the same version string comes before the file is opened."""

        def open(self, *arguments: Any, **more: Any) -> Any:
            upload(client, alice, 1, 200).expect(201)
            return super().open(*arguments, **more)

    client.app_of(alice, NOTES)
    first = upload(client, alice, 1).expect(201)
    client.work()
    fail(client.env, "1.0.1")
    db = client.env.db.connection()
    version = versions.by_id(db, first["id"])
    assert version is not None
    env = replace(client.env, files=Replaced(client.env.config.packages_dir))
    with pytest.raises(Conflict) as refused:
        use(env, db, version)
    assert refused.value.code == "gone"


def test_a_new_upload_of_the_same_version_string_keeps_its_package(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    client.app_of(alice, NOTES)
    first = upload(client, alice, 1).expect(201)
    client.work()
    fail(client.env, "1.0.1")
    second = upload(client, alice, 1, 200).expect(201)
    client.work()
    db = client.env.db.connection()
    assert db.value("SELECT package_removed_at FROM versions WHERE id = ?", first["id"])
    clock.advance(20 * DAY)
    quotas.expire_packages(client.env)
    quotas.remove_package(client.env, alice.id, first["app_id"], "1.0.1")
    client.work()
    version = versions.by_id(db, second["id"])
    assert version is not None
    package_files.verify_file(client.env, db, version)


def test_a_deleted_draft_leaves_no_package(client: Client, alice: Account) -> None:
    client.app_of(alice, NOTES)
    upload(client, alice, 1).expect(201)
    client.work()
    client.delete(f"/v1/apps/{NOTES}", as_=alice).expect(204)
    client.work()
    assert files(client.env) == set()


def test_versions_in_the_checks_are_bounded(client: Client, alice: Account) -> None:
    client.app_of(alice, NOTES)
    upload(client, alice, 1).expect(201)
    with client.env.db.connection().write() as db:
        row = dict(db.dicts("SELECT * FROM versions")[0])
        for number in range(quotas.MOST_CHECKING - 1):
            more = {"id": f"v{number}", "version": f"0.{number}.0"}
            db.insert("versions", **row | more)
    exceeded(
        upload(client, alice, 2), "checking_versions", quotas.MOST_CHECKING, quotas.MOST_CHECKING
    )


def at_once(*calls: Any) -> list[int]:
    """What these requests are answered, sent by as many threads at the same time."""
    barrier, statuses = threading.Barrier(len(calls)), []

    def run(call: Any) -> None:
        barrier.wait()
        statuses.append(call().status)

    threads = [threading.Thread(target=run, args=(each,)) for each in calls]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sorted(statuses)


def test_two_requests_at_once_cannot_both_take_the_last_app(client: Client, alice: Account) -> None:
    for number in range(2):
        client.app_of(alice, f"com.acme.app{number}")
    body = [{"package_id": f"com.acme.last{number}", "name": "Last"} for number in range(2)]
    assert at_once(
        *[lambda each=each: client.post("/v1/apps", each, as_=alice) for each in body]
    ) == [201, 409]


@pytest.mark.parametrize(("size", "before"), [(100, 3), (400_000, 1)])
def test_two_uploads_at_once_cannot_both_take_the_last_place(
    client: Client, alice: Account, size: int, before: int
) -> None:
    """The last version, and the last bytes."""
    client.app_of(alice, NOTES)
    for code in range(1, before + 1):
        upload(client, alice, code, size).expect(201)
    last = [lambda code=code: upload(client, alice, code, size) for code in (8, 9)]
    assert at_once(*last) == [201, 409]


@pytest.mark.parametrize(
    ("package_id", "status"),
    [
        ("org.mosis", 403),
        ("org.mosis.files", 403),
        ("com.acme.internal.a.b", 403),
        ("org.mosisx", 201),
        ("org.mosis2.files", 201),
        ("com.acme.inter", 201),
    ],
)
def test_reserved_prefixes_are_for_administrators(
    client: Client, alice: Account, package_id: str, status: int
) -> None:
    answer = client.post("/v1/apps", {"package_id": package_id, "name": "x"}, as_=alice)
    answer.expect(status, "prefix_reserved" if status == 403 else None)
    if status == 403:
        client.post("/v1/apps", {"package_id": package_id, "name": "x"}, as_=client.admin()).expect(
            201
        )


class TestWithMail:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"SMTP_URL": "smtp://127.0.0.1:1"}

    def test_who_has_not_verified_the_address_has_two_drafts(
        self, client: Client, alice: Account
    ) -> None:
        for number in range(quotas.UNVERIFIED_APPS):
            client.app_of(alice, f"com.acme.app{number}")
        more = {"package_id": "com.acme.more", "name": "More"}
        exceeded(client.post("/v1/apps", more, as_=alice), "draft_apps", 2, 2)
        with client.env.db.connection().write() as db:
            db.change("UPDATE developers SET email_verified = 1")
        client.post("/v1/apps", more, as_=alice).expect(201)


def test_an_account_rests_longer_after_each_check_that_takes_too_long(
    client: Client, alice: Account, env: Context
) -> None:
    client.app_of(alice, NOTES)
    db, rests = env.db.connection(), []
    finding = json.dumps([{"code": "check_timeout", "severity": "error", "detail": "x", "tier": 2}])
    upload(client, alice, 1).expect(201)
    row = dict(db.dicts("SELECT * FROM versions")[0])
    for number in range(10):
        with db.write():
            more = {"id": f"v{number}", "version": f"0.{number}.0", "state": "failed"}
            db.insert("versions", **row | more | {"findings": finding, "created_at": db.now})
            quotas.rest_after_timeout(db, alice.id)
        until = db.value("SELECT rests_until FROM job_turns WHERE owner_id = ?", alice.id)
        rests.append(next(s for s in range(0, 4000, 30) if env.clock.now(s) == until))
    assert rests == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


class TestSlowChecks:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"CHECK_SECONDS": "1"}

    def test_a_check_that_takes_too_long_holds_its_account_and_nobody_else(
        self, client: Client, alice: Account, env: Context, clock: FakeClock
    ) -> None:
        client.app_of(alice, NOTES)
        sheet = b"a{b:c}\n" * 149_000
        slow = {f"assets/s{number}.rcss": sheet for number in range(60)}
        for code in (1, 2):
            client.upload(
                NOTES, client.package(alice, NOTES, f"1.0.{code}", code, files=slow), as_=alice
            ).expect(201)
        bob = client.register("bob")
        client.app_of(bob, "com.bob.app")
        client.upload("com.bob.app", client.package(bob, "com.bob.app"), as_=bob).expect(201)
        client.work()

        def states() -> list[str]:
            return [
                row[0] for row in env.db.connection().all("SELECT state FROM versions ORDER BY id")
            ]

        assert states() == ["failed", "checking", "ready"]
        clock.advance(quotas.FIRST_REST_SECONDS + 1)
        client.work()
        assert states() == ["failed", "failed", "ready"]


def test_removing_a_package_leaves_no_folder_behind(
    tmp_path: Path, client: Client, alice: Account
) -> None:
    client.app_of(alice, NOTES)
    version = upload(client, alice, 1).expect(201)
    with client.env.db.connection().write() as db:
        jobs.add(
            db, "remove_package", developer_id=alice.id, app_id=version["app_id"], version="1.0.1"
        )
        db.change("UPDATE versions SET state = 'withdrawn', package_removed_at = ?", db.now)
    Worker(client.env).run_due()
    assert list(client.env.config.packages_dir.glob("*/*")) == []
