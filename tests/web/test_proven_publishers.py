"""REVIEW_PROVEN_RELEASES: who has a record of approved releases needs a reviewer less often."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.package_builder import signing_key

NOTES, TODO = "com.acme.notes", "com.acme.todo"
DAY = 86_400


@pytest.fixture
def settings() -> dict[str, str]:
    return {
        "REVIEW_POLICY": "changes",
        "REVIEW_SAMPLE_PERCENT": "0",
        "REVIEW_PROVEN_RELEASES": "3",
    }


@pytest.fixture
def rita(client: Client) -> Account:
    return client.desk


def later(client: Client, clock: FakeClock, days: float, *people: Account) -> None:
    clock.advance(days * DAY)
    for account in people:
        account.token = client.sign_in(account).token


@pytest.fixture
def proven(client: Client, rita: Account, clock: FakeClock) -> Account:
    """Alice, of whom a reviewer has approved three releases, the first 100 days ago."""
    alice = client.register("alice")
    client.app_of(alice, NOTES)
    db = client.env.db.connection()
    object.__setattr__(client.env.config, "review_policy", "all")
    for number in (1, 2, 3):
        client.published(alice, NOTES, f"1.{number}.0", number)
    object.__setattr__(client.env.config, "review_policy", "changes")
    assert db.value("SELECT count(*) FROM reviews WHERE decided_by IS NOT NULL") == 3
    later(client, clock, 100, alice, rita)
    return alice


def because(
    client: Client, account: Account, rita: Account, app: str, version: str, code: int, **more: Any
) -> list[str]:
    """Why a version needs a reviewer; nothing if the policy has approved it."""
    package = client.package(account, app, version, code, **more)
    client.upload(app, package, as_=account, query="?submit=true").expect(201)
    client.work()
    shown = client.get(f"/v1/apps/{app}/versions/{quote(version)}", as_=account).expect(200)
    if shown["state"] == "approved":
        return []
    reasons: list[str] = client.get(f"/v1/reviews/{shown['review']['id']}", as_=rita)["because"]
    return reasons


def network(account: Account) -> dict[str, Any]:
    return {
        "manifest": {"permissions": ["storage", "network"]},
        "files": {"a.lua": b"mosis.http.get()"},
    }


def test_a_further_app_and_a_harmless_permission_need_no_reviewer(
    client: Client, proven: Account, rita: Account
) -> None:
    client.app_of(proven, TODO)
    assert because(client, proven, rita, TODO, "1.0.0", 1) == []
    assert because(client, proven, rita, NOTES, "2.0.0", 10, **network(proven)) == []


def test_what_is_dangerous_does(client: Client, proven: Account, rita: Account) -> None:
    client.app_of(proven, TODO)
    camera = {"manifest": {"permissions": ["camera"]}, "files": {"a.lua": b"mosis.camera.take()"}}
    assert because(client, proven, rita, TODO, "1.0.0", 1, **camera) == ["first_version"]
    assert "new_permissions" in because(client, proven, rita, NOTES, "2.0.0", 10, **camera)
    warned = {"files": {"assets/a.lua": b"os.exit()"}}
    assert because(client, proven, rita, NOTES, "2.1.0", 11, **warned) == ["new_findings"]


def test_the_sample_is_drawn_all_the_same(client: Client, proven: Account, rita: Account) -> None:
    object.__setattr__(client.env.config, "review_sample_percent", 100)
    client.app_of(proven, TODO)
    assert because(client, proven, rita, TODO, "1.0.0", 1) == ["sample"]
    client.post(f"/v1/apps/{TODO}/versions/1.0.0/withdraw", as_=proven).expect(200)
    object.__setattr__(client.env.config, "review_sample_percent", 0)
    assert because(client, proven, rita, TODO, "1.0.1", 2) == ["first_version"], "not escaped"


@pytest.mark.parametrize("what", ["off", "young", "few", "new key", "rejected", "suspended"])
def test_without_a_good_record_nothing_is_spared(
    client: Client, proven: Account, rita: Account, clock: FakeClock, what: str
) -> None:
    client.app_of(proven, TODO)
    db = client.env.db.connection()
    if what in ("off", "few"):
        least = 0 if what == "off" else 4
        object.__setattr__(client.env.config, "review_proven_releases", least)
    elif what == "young":
        later(client, clock, -20, proven, rita)
    elif what == "new key":
        proven.key = signing_key()
        key = {"name": "other", "public_key": proven.key.public_base64}
        client.post("/v1/signing-keys", key, as_=proven).expect(201)
    elif what == "rejected":
        warned = {"files": {"assets/a.lua": b"os.exit()"}}
        assert because(client, proven, rita, NOTES, "2.0.0", 10, **warned)
        at = f"/v1/apps/{NOTES}/versions/2.0.0"
        review = client.get(at, as_=proven)["review"]["id"]
        body = {"reasons": ["malware"], "comment": "no"}
        client.post(f"/v1/reviews/{review}/reject", body, as_=rita).expect(200)
        later(client, clock, 170, proven, rita)
    else:
        with db.write():
            db.change("UPDATE apps SET suspended = 1 WHERE package_id = ?", NOTES)
    assert because(client, proven, rita, TODO, "1.0.0", 1) == ["first_version"]


def test_a_rejection_is_over_after_half_a_year(
    client: Client, proven: Account, rita: Account, clock: FakeClock
) -> None:
    warned = {"files": {"assets/a.lua": b"os.exit()"}}
    assert because(client, proven, rita, NOTES, "2.0.0", 10, **warned)
    review = client.get(f"/v1/apps/{NOTES}/versions/2.0.0", as_=proven)["review"]["id"]
    body = {"reasons": ["quality"], "comment": "no"}
    client.post(f"/v1/reviews/{review}/reject", body, as_=rita).expect(200)
    later(client, clock, 181, proven, rita)
    client.app_of(proven, TODO)
    assert because(client, proven, rita, TODO, "1.0.0", 1) == []


def test_the_record_is_of_who_signed_and_not_of_who_owns(
    client: Client, proven: Account, rita: Account
) -> None:
    mallory = client.register("mallory")
    client.app_of(mallory, TODO)
    db = client.env.db.connection()
    with db.write():
        db.change("UPDATE apps SET developer_id = ? WHERE package_id = ?", mallory.id, NOTES)
    assert because(client, mallory, rita, TODO, "1.0.0", 1) == ["first_version"]


def test_what_the_policy_approved_is_no_record(
    client: Client, rita: Account, clock: FakeClock
) -> None:
    alice = client.register("alice")
    client.app_of(alice, NOTES)
    client.published(alice, NOTES)
    for number in (2, 3, 4):
        assert because(client, alice, rita, NOTES, f"1.{number}.0", number) == []
        client.post(f"/v1/apps/{NOTES}/versions/1.{number}.0/publish", as_=alice).expect(200)
    later(client, clock, 100, alice, rita)
    client.app_of(alice, TODO)
    assert because(client, alice, rita, TODO, "1.0.0", 1) == ["first_version"]
