"""Reports of abuse: from strangers, in floods, and at the desk."""

from collections.abc import Callable
from typing import Any

import pytest

from mosis.context import Context
from mosis.publishing import abuse_reports
from tests.client import PASSWORD, Account, Answer, Client
from tests.conftest import FakeClock

NOTES = "com.acme.notes"
AT = f"/v1/store/apps/{NOTES}/reports"
REPORT = {"reason": "malware", "text": "It sends my notes to x.example."}


def owner_of_a_published_app(client: Client) -> Account:
    account = client.register("alice")
    client.app_of(account)
    client.published(account, NOTES)
    return account


@pytest.fixture
def prepare() -> Callable[[Client], Account]:
    return owner_of_a_published_app


def report(client: Client, number: int = 1, at: str = AT, **more: Any) -> Answer:
    """A report from the network of this number."""
    address = f"203.0.{number // 250}.{number % 250 + 1}"
    return client.post(at, REPORT, address=address, **more)


def groups(client: Client, rita: Account) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/reports?limit=100", as_=rita).expect(200)["apps"]
    return found


def close(client: Client, rita: Account, newest: int, outcome: str = "dismissed") -> Answer:
    body = {"outcome": outcome, "comment": "Seen.", "newest": newest}
    return client.post(f"/v1/reports/{NOTES}/close", body, as_=rita)


def test_reports_of_one_app_are_read_and_dismissed_together(
    client: Client, alice: Account, rita: Account
) -> None:
    report(client, 1).expect(202)
    client.post(AT, REPORT | {"reason": "spam", "email": "eve@example.net"}).expect(202)
    (group,) = groups(client, rita)
    assert (group["package_id"], group["reports"], group["sources"]) == (NOTES, 2, 2)
    assert group["reasons"] == {"malware": 1, "spam": 1}
    rows = client.get(f"/v1/reports/{NOTES}", as_=rita).expect(200)["reports"]
    assert [row["email"] for row in rows] == ["eve@example.net", None]
    report(client, 3).expect(202)  # nobody has read this one
    assert close(client, rita, rows[0]["number"]).expect(200)["closed"] == 2
    assert groups(client, rita)[0]["reports"] == 1
    close(client, rita, rows[0]["number"]).expect(409, "already_decided")
    closed = client.get(f"/v1/reports/{NOTES}?state=closed", as_=rita)["reports"]
    assert {row["outcome"] for row in closed} == {"dismissed"}
    assert client.get(f"/v1/store/apps/{NOTES}").status == 200
    actions = [row["action"] for row in client.get("/v1/auth/me/audit", as_=rita)["entries"]]
    assert "reports.closed" in actions


def test_an_app_is_suspended_from_its_reports(
    client: Client, alice: Account, rita: Account
) -> None:
    report(client).expect(202)
    newest = groups(client, rita)[0]["newest"]
    answer = close(client, rita, newest, "suspended").expect(200)
    assert (answer["closed"], answer["app_status"]) == (1, "suspended")
    client.get(f"/v1/store/apps/{NOTES}").expect(404)
    (event,) = [each for each in client.notifications(alice) if each["kind"] == "app.suspended"]
    assert event["data"] == {"comment": "Seen."}
    report(client, 2).expect(404)  # it is not in the store any more
    body = {"suspended": False, "reason": "It was a mistake."}
    client.patch(f"/v1/admin/apps/{NOTES}", body, as_=client.admin()).expect(200)
    assert "app.unsuspended" in [each["kind"] for each in client.notifications(alice)]


def test_only_what_the_store_shows_can_be_reported(client: Client, alice: Account) -> None:
    client.app_of(alice, "com.acme.draft")
    for name in ("com.acme.draft", "com.acme.nothing", "x"):
        client.post(f"/v1/store/apps/{name}/reports", REPORT).expect(404)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reason": "dislike"}, {"reason": None}, {"text": ""}, {"text": " "}, {"text": "a" * 2001}, {"text": "\u0000"},
        {"email": "none"}, {"more": 1},
    ],
)  # fmt: skip
def test_a_report_that_is_none_is_refused(
    client: Client, alice: Account, wrong: dict[str, Any]
) -> None:
    client.post(AT, REPORT | wrong).expect(422)


def test_a_report_is_stored_once_however_often_it_is_sent(
    client: Client, alice: Account, rita: Account
) -> None:
    for _ in range(3):
        client.post(AT, REPORT, headers={"Idempotency-Key": "one"}).expect(202)
    assert groups(client, rita)[0]["reports"] == 1


class TestWho:
    def test_reviewers_do_not_see_or_decide_on_reports_of_their_own_apps(
        self, client: Client, alice: Account, rita: Account
    ) -> None:
        report(client).expect(202)
        newest = groups(client, rita)[0]["newest"]
        client.joins(rita, NOTES, "viewer")
        assert groups(client, rita) == []
        client.get(f"/v1/reports/{NOTES}", as_=rita).expect(403)
        close(client, rita, newest, "suspended").expect(403)
        close(client, alice, newest).expect(403)

    def test_the_developer_learns_nothing_of_reports(
        self, client: Client, alice: Account, rita: Account
    ) -> None:
        report(client).expect(202)
        close(client, rita, groups(client, rita)[0]["newest"]).expect(200)
        whole = client.get("/v1/auth/me/export", as_=alice).body.decode()
        assert "x.example" not in whole
        assert "report" not in str([each["kind"] for each in client.notifications(alice)])
        lines = client.get("/v1/auth/me/audit", as_=alice)["entries"]
        assert "reports.closed" not in [line["action"] for line in lines]

    def test_reviewers_are_notified_of_the_first_report_and_not_of_the_text(
        self, client: Client, alice: Account, rita: Account
    ) -> None:
        member = client.reviewer("member")
        client.joins(member, NOTES, "viewer")
        for number in range(5):
            report(client, number).expect(202)
        (event,) = client.notifications(rita)
        assert (event["kind"], event["data"]) == ("report.waiting", {"reason": "malware"})
        assert client.notifications(member) == []
        for number in range(8):
            name = f"com.acme.a{number}"
            client.out(alice, name)
            report(client, 100 + number, f"/v1/store/apps/{name}/reports").expect(202)
        assert len(client.notifications(rita)) == abuse_reports.NOTICES_AN_HOUR


class TestFloods:
    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(abuse_reports, "MOST_OF_APP", 6)
        monkeypatch.setattr(abuse_reports, "MOST", 10)

    def test_one_network_fills_nothing(self, client: Client, alice: Account, rita: Account) -> None:
        for _ in range(abuse_reports.MOST_OF_SOURCE_AND_APP):
            report(client).expect(202)
        report(client).expect(409, "limit_reached")
        report(client, 2).expect(202)
        done = abuse_reports.MOST_OF_SOURCE_AND_APP
        for number in range(9):
            name = f"com.acme.a{number}"
            client.out(alice, name)
            answers = [report(client, at=f"/v1/store/apps/{name}/reports").status for _ in "123"]
            done += answers.count(202)
        assert done == abuse_reports.MOST_OF_SOURCE

    def test_addresses_of_one_network_are_one_source(self, client: Client, alice: Account) -> None:
        answers = [
            client.post(AT, REPORT, address=f"2001:db8:1:2::{number}").status for number in range(5)
        ]
        assert answers == [202, 202, 202, 409, 409]

    def test_a_flood_about_one_app_refuses_no_verified_account(
        self, client: Client, alice: Account, rita: Account, small: None
    ) -> None:
        answers = [report(client, number).status for number in range(8)]
        assert answers == [202] * 6 + [409] * 2
        bob = client.register("bob")
        report(client, 50, as_=bob).expect(409)  # an account is quickly made
        report(client, 50, as_=client.verified(bob)).expect(202)
        (group,) = groups(client, rita)
        assert (group["reports"], group["verified"]) == (7, 1)

    def test_a_flood_about_many_apps_does_not_hide_real_reports(
        self, client: Client, alice: Account, rita: Account, small: None
    ) -> None:
        names = [f"com.acme.a{number}" for number in range(12)]
        for name in names:
            client.out(alice, name)
        answers = [
            report(client, number, f"/v1/store/apps/{name}/reports").status
            for number, name in enumerate(names)
        ]
        assert answers == [202] * 10 + [409] * 2
        report(client, 50, as_=client.verified(client.register("bob"))).expect(202)
        assert groups(client, rita)[0]["package_id"] == NOTES
        first = client.get("/v1/reports?limit=1", as_=rita)
        found, cursor = [first["apps"][0]["package_id"]], first["next_cursor"]
        while cursor:
            page = client.get(f"/v1/reports?limit=4&cursor={cursor}", as_=rita).expect(200)
            found += [each["package_id"] for each in page["apps"]]
            cursor = page["next_cursor"]
        assert found == [NOTES, *names[:10]]

    def test_closing_makes_room(
        self, client: Client, alice: Account, rita: Account, small: None
    ) -> None:
        for number in range(6):
            report(client, number).expect(202)
        report(client, 7).expect(409)
        close(client, rita, groups(client, rita)[0]["newest"]).expect(200)
        report(client, 7).expect(202)


class TestLimits:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"RATE_LIMITS": "on"}

    def test_reports_are_counted_for_each_network(self, client: Client, alice: Account) -> None:
        name = "/v1/store/apps/com.acme.none/reports"
        assert [report(client, 1, name).status for _ in range(11)] == [404] * 10 + [429]
        report(client, 2, name).expect(404)


class TestRetention:
    def test_closed_reports_go_after_90_days_and_open_ones_after_a_year(
        self, client: Client, env: Context, alice: Account, rita: Account, clock: FakeClock
    ) -> None:
        report(client, 1).expect(202)
        close(client, rita, groups(client, rita)[0]["newest"]).expect(200)
        report(client, 2).expect(202)
        db = env.db.connection()

        def left() -> int:
            for _ in range(2):
                abuse_reports.sweep(env)
            return int(db.value("SELECT count(*) FROM abuse_reports"))

        clock.advance(89 * 86_400)
        assert left() == 2
        clock.advance(2 * 86_400)
        assert left() == 1
        clock.advance(366 * 86_400)
        assert left() == 0

    def test_the_author_has_them_in_the_export_and_is_forgotten(
        self, client: Client, env: Context, alice: Account, rita: Account
    ) -> None:
        bob = client.verified(client.register("bob"))
        report(client, as_=bob).expect(202)
        client.post(AT, REPORT | {"email": "BOB@example.net"}).expect(202)
        exported = client.get("/v1/auth/me/export", as_=bob)["abuse_reports"]
        assert [row["text"] for row in exported] == [REPORT["text"]] * 2
        client.delete("/v1/auth/me", {"password": PASSWORD}, as_=bob).expect(204)
        rows = env.db.connection().all("SELECT author_id, email, text, reason FROM abuse_reports")
        assert rows == [(None, None, "(erased)", "malware")] * 2

    def test_no_address_is_stored(self, client: Client, env: Context, alice: Account) -> None:
        client.post(AT, REPORT, address="203.0.113.77").expect(202)
        row = env.db.connection().one("SELECT * FROM abuse_reports")
        assert "203.0.113" not in str(row)
