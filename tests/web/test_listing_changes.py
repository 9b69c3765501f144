"""Changes of what the store shows wait for a reviewer, whatever is tried around that."""

from collections.abc import Callable
from typing import Any

import pytest

from mosis.people import accounts
from mosis.publishing import look_alikes, review_notices
from mosis.publishing.listing_changes import FIELDS, MOST_DECIDED
from tests.browser import Browser, text_of
from tests.client import Account, Answer, Client
from tests.conftest import FakeClock

NOTES = "com.acme.notes"
AT = f"/v1/apps/{NOTES}"
NEW: dict[str, Any] = {
    "name": "Bank of Everything",
    "summary": "All your money",
    "description": "Long\n\ntext",
    "category": "finance",
    "tags": ["bank", "money"],
    "homepage": "https://bank.example/",
}


def owner_of_a_published_app(client: Client) -> Account:
    account = client.register("alice")
    client.app_of(account)
    client.published(account, NOTES)
    return account


@pytest.fixture
def prepare() -> Callable[[Client], Account]:
    return owner_of_a_published_app


@pytest.fixture
def alice(prepared: Account) -> Account:
    return prepared


def in_store(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/store/apps/{NOTES}").expect(200).json
    return {name: found[name] for name in FIELDS}


def pending(client: Client, account: Account) -> Any:
    return client.get(AT, as_=account).expect(200)["pending"]


def decide(client: Client, change: dict[str, Any], how: str = "approve", **more: Any) -> Answer:
    reasons = {"reasons": ["metadata"], "comment": "no"} if how == "reject" else {}
    body = {"revision": change["revision"]} | reasons
    return client.post(
        f"/v1/listing-changes/{change['id']}/{how}", body, **{"as_": client.desk} | more
    )


@pytest.mark.parametrize("field", FIELDS)
def test_the_store_shows_a_change_once_a_reviewer_has_approved_it(
    client: Client, alice: Account, field: str
) -> None:
    before, index = in_store(client), client.get("/v1/store/index.json")
    answer = client.patch(AT, {field: NEW[field]}, as_=alice).expect(200)
    assert answer[field] == before[field]
    assert answer["pending"]["fields"] == {field: NEW[field]}
    assert answer["pending"]["because"] == ["policy"]
    assert in_store(client) == before
    assert client.get("/v1/store/index.json")["sequence"] == index["sequence"]
    (waiting,) = client.get("/v1/listing-changes", as_=client.desk)["listing_changes"]
    assert waiting["changes"] == [{"field": field, "before": before[field], "after": NEW[field]}]
    approved = decide(client, waiting).expect(200)
    assert (approved["state"], approved["changes"]) == ("approved", waiting["changes"])
    assert in_store(client) == before | {field: NEW[field]}
    assert pending(client, alice) is None
    (shown,) = client.get(f"{AT}/listing-changes", as_=alice)["listing_changes"]
    assert shown == approved.json
    client.work()
    assert any(each["kind"] == "listing.approved" for each in client.notifications(alice))


def test_a_rejected_change_changes_nothing_and_its_owners_see_why(
    client: Client, alice: Account
) -> None:
    before = in_store(client)
    change = client.patch(AT, NEW, as_=alice)["pending"]
    assert decide(client, change, "reject").expect(200)["reasons"] == ["metadata"]
    assert in_store(client) == before
    (event,) = [each for each in client.notifications(alice) if each["kind"] == "listing.rejected"]
    assert (event["data"]["comment"], event["data"]["reasons"]) == ("no", ["metadata"])
    decide(client, change).expect(409, "already_decided")
    client.delete(f"{AT}/listing-changes/{change['id']}", as_=alice).expect(409, "already_decided")


def test_what_is_not_shown_in_the_store_changes_at_once(client: Client, alice: Account) -> None:
    plan = {"steps": [{"percent": 5, "after_hours": 0}]}
    body = {"rollout_plan": plan, "publish_by": "trusted", "summary": "x"}
    answer = client.patch(AT, body, as_=alice).expect(200)
    assert (answer["rollout_plan"]["steps"], answer["publish_by"]) == (plan["steps"], "trusted")
    assert answer["pending"]["fields"] == {"summary": "x"}


def test_a_decision_is_about_the_revision_that_was_read(client: Client, alice: Account) -> None:
    first = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
    second = client.patch(AT, {"name": "Bank of Everything"}, as_=alice)["pending"]
    assert (second["id"], first["revision"], second["revision"]) == (first["id"], 1, 2)
    for how in ("approve", "reject"):
        refused = decide(client, first, how).expect(409, "listing_edited")
        assert refused["revision"] == 2
    assert in_store(client)["name"] == "Notes"
    same = client.patch(AT, {"name": "Bank of Everything"}, as_=alice)["pending"]
    assert same["revision"] == 2  # nothing was edited
    for wrong in ({}, {"revision": 0}, {"revision": True}, {"revision": "2"}):
        at = f"/v1/listing-changes/{first['id']}/approve"
        client.post(at, wrong, as_=client.desk).expect(422)
    decide(client, second).expect(200)
    assert in_store(client)["name"] == "Bank of Everything"


def test_edits_join_the_change_and_what_is_set_back_leaves_it(
    client: Client, alice: Account
) -> None:
    client.patch(AT, {"name": "Pads", "tags": ["a"]}, as_=alice)
    change = client.patch(AT, {"summary": "s", "tags": []}, as_=alice)["pending"]
    assert change["fields"] == {"name": "Pads", "summary": "s"}
    gone = client.patch(AT, {"name": "Notes", "summary": ""}, as_=alice).expect(200)
    assert gone["pending"] is None
    decide(client, change).expect(404)
    assert client.get("/v1/listing-changes", as_=client.desk)["listing_changes"] == []


def test_a_withdrawn_change_is_gone(client: Client, alice: Account) -> None:
    change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
    at = f"{AT}/listing-changes/{change['id']}"
    old = client.get(at, as_=alice).headers["etag"]
    client.patch(AT, {"name": "Pads 2"}, as_=alice)
    client.delete(at, as_=alice, headers={"If-Match": old}).expect(412)
    client.delete(at, as_=alice).expect(204)
    client.delete(at, as_=alice).expect(404)
    decide(client, change).expect(404)
    actions = [each["action"] for each in client.get("/v1/auth/me/audit", as_=alice)["entries"]]
    assert {"listing.submitted", "listing.edited", "listing.withdrawn"} <= set(actions)


@pytest.mark.parametrize("state", ["in_review", "approved", "scheduled"])
def test_an_app_that_a_reviewer_has_seen_is_not_renamed_before_its_first_publication(
    client: Client, state: str
) -> None:
    alice = client.register("alice")
    client.app_of(alice)
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    client.work()
    client.patch(AT, {"name": "My notes"}, as_=alice).expect(200)
    assert client.get(AT, as_=alice)["name"] == "My notes"  # nobody has seen it yet
    review = client.post(f"{AT}/versions/1.0.0/submit", as_=alice).expect(200)["review"]["id"]
    if state != "in_review":
        client.post(f"/v1/reviews/{review}/approve", as_=client.desk).expect(200)
    if state == "scheduled":
        body = {"publish_at": client.env.clock.now(3600)}
        client.post(f"{AT}/versions/1.0.0/publish", body, as_=alice).expect(200)
    answer = client.patch(AT, NEW, as_=alice).expect(200)
    assert (answer["name"], answer["pending"]["fields"]) == ("My notes", NEW)
    if state == "in_review":
        client.post(f"/v1/reviews/{review}/approve", as_=client.desk).expect(200)
    if state != "scheduled":
        client.post(f"{AT}/versions/1.0.0/publish", as_=alice).expect(200)
        assert in_store(client)["name"] == "My notes"
        assert pending(client, alice) == answer["pending"]


def test_an_app_that_was_rejected_changes_at_once_unless_a_change_waits(client: Client) -> None:
    alice = client.register("alice")
    client.app_of(alice)
    client.upload(NOTES, client.package(alice), as_=alice, query="?submit=true").expect(201)
    client.work()
    change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
    review = client.get(f"{AT}/versions/1.0.0", as_=alice)["review"]["id"]
    body = {"reasons": ["spam"], "comment": "no"}
    client.post(f"/v1/reviews/{review}/reject", body, as_=client.desk).expect(200)
    assert client.patch(AT, {"summary": "s"}, as_=alice)["pending"]["revision"] == 2
    client.delete(f"{AT}/listing-changes/{change['id']}", as_=alice).expect(204)
    assert client.patch(AT, {"name": "Pads"}, as_=alice)["name"] == "Pads"


class TestWho:
    def test_only_owners_change_and_withdraw_and_only_strangers_decide(
        self, client: Client, alice: Account
    ) -> None:
        change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
        bob, rita = client.register("bob"), client.reviewer("rita")
        client.joins(bob, NOTES, "publisher")
        client.joins(rita, NOTES, "viewer")
        client.patch(AT, {"name": "X"}, as_=bob).expect(403)
        client.delete(f"{AT}/listing-changes/{change['id']}", as_=bob).expect(403)
        for how in ("approve", "reject"):
            decide(client, change, how, as_=rita).expect(403, "forbidden")
            decide(client, change, how, as_=bob).expect(403, "forbidden")
        client.get(f"/v1/listing-changes/{change['id']}", as_=rita).expect(403)
        assert client.get("/v1/listing-changes", as_=rita)["listing_changes"] == []

    def test_a_reviewer_who_left_the_app_does_not_decide_on_a_change_of_their_own(
        self, client: Client, alice: Account
    ) -> None:
        rita = client.reviewer("rita")
        client.joins(rita, NOTES, "owner")
        change = client.patch(AT, {"name": "Pads"}, as_=rita)["pending"]
        client.delete(f"{AT}/members/{rita.id}", as_=rita).expect(204)
        decide(client, change, as_=rita).expect(404)  # it went with the member

    @pytest.mark.parametrize("how", ["removed", "lowered", "transferred"])
    def test_the_change_of_a_former_owner_ends(
        self, client: Client, alice: Account, how: str
    ) -> None:
        bob = client.register("bob")
        client.joins(bob, NOTES, "owner")
        change = client.patch(AT, {"name": "Bank"}, as_=bob)["pending"]
        if how == "removed":
            client.delete(f"{AT}/members/{bob.id}", as_=alice).expect(204)
        elif how == "lowered":
            client.patch(f"{AT}/members/{bob.id}", {"role": "viewer"}, as_=alice).expect(200)
        else:
            carol = client.register("carol")
            sent = client.post(f"{AT}/transfer", {"email": carol.email}, as_=alice).expect(201)
            from mosis.credentials import tokens

            token = tokens.make_ticket(client.env.secret, sent["id"])
            client.post(f"/v1/invitations/{token}/accept", as_=carol).expect(200)
        decide(client, change).expect(404)
        assert in_store(client)["name"] == "Notes"

    def test_a_change_outlives_a_member_who_did_not_edit_it(
        self, client: Client, alice: Account
    ) -> None:
        bob = client.register("bob")
        client.joins(bob, NOTES, "owner")
        change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
        client.delete(f"{AT}/members/{bob.id}", as_=alice).expect(204)
        decide(client, change).expect(200)

    def test_a_suspended_account_takes_its_change_along(
        self, client: Client, alice: Account
    ) -> None:
        change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
        root = client.admin()
        client.patch(f"/v1/admin/developers/{alice.id}", {"suspended": True}, as_=root).expect(200)
        decide(client, change).expect(404)
        client.patch(f"/v1/admin/developers/{alice.id}", {"suspended": False}, as_=root).expect(200)
        assert in_store(client)["name"] == "Notes"

    def test_an_erased_account_takes_its_change_along(self, client: Client, alice: Account) -> None:
        from tests.client import PASSWORD

        change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
        assert client.get("/v1/auth/me/export", as_=alice)["listing_changes"][0]["fields"] == {
            "name": "Pads"
        }
        client.delete("/v1/auth/me", {"password": PASSWORD, "apps": "keep"}, as_=alice).expect(204)
        decide(client, change).expect(404)
        assert in_store(client)["name"] == "Notes"

    def test_the_change_of_a_suspended_app_can_be_decided_but_does_not_bring_it_back(
        self, client: Client, alice: Account
    ) -> None:
        change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
        root = client.admin()
        body = {"suspended": True, "reason": "x"}
        client.patch(f"/v1/admin/apps/{NOTES}", body, as_=root).expect(200)
        shown = client.get(f"/v1/listing-changes/{change['id']}", as_=client.desk).expect(200)
        assert shown["app_status"] == "suspended"
        decide(client, change).expect(200)
        client.get(f"/v1/store/apps/{NOTES}").expect(404)


class TestPolicy:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"REVIEW_POLICY": "changes", "REVIEW_SAMPLE_PERCENT": "0"}

    @pytest.mark.parametrize("field", FIELDS)
    def test_names_and_homepages_need_a_person(
        self, client: Client, alice: Account, field: str
    ) -> None:
        answer = client.patch(AT, {field: NEW[field]}, as_=alice).expect(200)
        if field in ("name", "homepage"):
            assert answer["pending"]["because"] == [f"new_{field}"]
            assert in_store(client)[field] != NEW[field]
        else:
            assert (answer["pending"], answer[field]) == (None, NEW[field])
            assert in_store(client)[field] == NEW[field]
            (shown,) = client.get(f"{AT}/listing-changes", as_=alice)["listing_changes"]
            assert (shown["state"], shown["comment"][:22]) == ("approved", "Approved by the policy")

    def test_what_joins_a_waiting_change_waits_too(self, client: Client, alice: Account) -> None:
        client.patch(AT, {"name": "Pads"}, as_=alice)
        answer = client.patch(AT, {"summary": "s"}, as_=alice)
        assert (answer["summary"], answer["pending"]["fields"]) == (
            "",
            {"name": "Pads", "summary": "s"},
        )
        left = client.patch(AT, {"name": "Notes"}, as_=alice)  # only what needs nobody is left
        assert (left["summary"], left["pending"]) == ("s", None)

    def test_after_a_rejection_a_person_looks(self, client: Client, alice: Account) -> None:
        decide(client, client.patch(AT, {"name": "Bank"}, as_=alice)["pending"], "reject")
        answer = client.patch(AT, {"summary": "s"}, as_=alice)
        assert answer["pending"]["because"] == ["rejected_before"]
        decide(client, answer["pending"]).expect(200)
        assert client.patch(AT, {"summary": "t"}, as_=alice)["pending"] is None

    def test_after_a_transfer_a_person_looks(
        self, client: Client, alice: Account, clock: FakeClock
    ) -> None:
        db = client.env.db.connection()
        clock.advance(60)
        with db.write():
            db.change("UPDATE apps SET transferred_at = ?", db.now)
        answer = client.patch(AT, {"summary": "s"}, as_=alice)
        assert answer["pending"]["because"] == ["new_owner"]

    def test_nothing_of_a_suspended_app_is_approved_by_the_policy(
        self, client: Client, alice: Account
    ) -> None:
        body = {"suspended": True, "reason": "x"}
        client.patch(f"/v1/admin/apps/{NOTES}", body, as_=client.admin()).expect(200)
        answer = client.patch(AT, {"summary": "s"}, as_=alice)
        assert answer["pending"]["because"] == ["app_suspended"]

    def test_decided_changes_have_a_bound(self, client: Client, alice: Account) -> None:
        for number in range(MOST_DECIDED + 3):
            client.patch(AT, {"summary": str(number)}, as_=alice).expect(200)
        count = client.env.db.connection().value("SELECT count(*) FROM listing_changes")
        assert count == MOST_DECIDED


class TestSample:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"REVIEW_POLICY": "changes", "REVIEW_SAMPLE_PERCENT": "50"}

    def test_editing_and_withdrawing_does_not_draw_again(
        self, client: Client, alice: Account
    ) -> None:
        for number in range(20):  # until one is drawn; the secret of tests is random
            if client.patch(AT, {"summary": str(number)}, as_=alice)["pending"]:
                break
        else:
            pytest.fail("none of 20 was drawn")
        for text in "abc":
            change = client.patch(AT, {"summary": text}, as_=alice)["pending"]
            assert change["because"] == ["sample"]
            client.delete(f"{AT}/listing-changes/{change['id']}", as_=alice).expect(204)


class TestNotices:
    def test_reviewers_are_notified_once_an_hour_and_by_the_digest(
        self, client: Client, alice: Account, clock: FakeClock
    ) -> None:
        rita, root = client.reviewer("rita"), client.admin()
        client.joins(root, NOTES, "viewer")
        for number in range(3):
            change = client.patch(AT, {"name": f"Pads {number}"}, as_=alice)["pending"]
            client.delete(f"{AT}/listing-changes/{change['id']}", as_=alice).expect(204)
        change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
        assert [each["kind"] for each in client.notifications(rita)] == ["listing.waiting"]
        assert client.notifications(root) == []  # an app of their own
        clock.advance(review_notices.DIGEST_AFTER_SECONDS + 60)
        client.work()
        rita = client.sign_in(rita)
        (digest,) = [each for each in client.notifications(rita) if each["kind"] == "review.digest"]
        (named,) = digest["data"]["reviews"]
        assert (named["listing_change"], named["package_id"]) == (change["id"], NOTES)
        review_notices.send_digests(client.env)
        assert len(client.notifications(rita)) == 2

    def test_the_mails_name_what_happened(self, client: Client, alice: Account) -> None:
        change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
        decide(client, change, "reject").expect(200)
        client.work()
        (mail,) = [
            each
            for each in client.env.mailer.written_to(alice.email)
            if "was rejected" in each.subject
        ]
        text = mail.path.read_text()
        assert "/console/apps/com.acme.notes" in text


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "My Bank", "my bank", "MyBank", "My-Bank", "My B\u00e4nk", "My B\u0430nk", "\u041cy Bank", "My 8ank",
            "\uff2d\uff59 \uff22\uff41\uff4e\uff4b", "My\u00a0Bank", "My Bank.", "\u039cy B\u03b1nk",
        ],
    )  # fmt: skip
    def test_a_name_that_looks_like_anothers_is_shown_to_the_reviewer(
        self, client: Client, alice: Account, name: str
    ) -> None:
        bank = client.register("bank")
        client.out(bank, "com.mybank.wallet")
        db = client.env.db.connection()
        with db.write():
            db.change("UPDATE apps SET name = 'My Bank' WHERE package_id = 'com.mybank.wallet'")
        change = client.patch(AT, {"name": name}, as_=alice).expect(200)["pending"]
        shown = client.get(f"/v1/listing-changes/{change['id']}", as_=client.desk)
        assert shown["name_look_alike"] == "com.mybank.wallet"

    @pytest.mark.parametrize("name", ["My Banks", "Bank", "Your Bank", "!", "\u94f6\u884c"])
    def test_another_name_is_none(self, client: Client, alice: Account, name: str) -> None:
        client.out(client.register("bank"), "com.mybank.wallet")
        db = client.env.db.connection()
        with db.write():
            db.change("UPDATE apps SET name = 'My Bank' WHERE package_id = 'com.mybank.wallet'")
        assert look_alikes.find_name(db, name, alice.id) is None


def test_the_name_of_a_new_app_is_compared_when_the_reviewer_looks(client: Client) -> None:
    client.out(client.register("bank"), "com.mybank.wallet")
    alice = client.register("alice")
    client.app_of(alice)
    client.upload(NOTES, client.package(alice), as_=alice).expect(201)
    client.work()
    client.patch(AT, {"name": "W\u0430llet"}, as_=alice).expect(200)  # after the checks
    review = client.post(f"{AT}/versions/1.0.0/submit", as_=alice).expect(200)["review"]["id"]
    shown = client.get(f"/v1/reviews/{review}", as_=client.desk).expect(200)
    assert shown["name_look_alike"] == "com.mybank.wallet"
    browser = Browser(client)
    browser.sign_in(client.desk.email)
    assert "easily taken for" in text_of(browser.open(f"/console/reviews/{review}"))
    client.post(f"/v1/reviews/{review}/approve", as_=client.desk).expect(200)
    client.post(f"{AT}/versions/1.0.0/publish", as_=alice).expect(200)
    shown = client.get(f"/v1/reviews/{review}", as_=client.desk).expect(200)
    assert shown["name_look_alike"] is None


def test_a_reviewer_loses_the_role_while_deciding(client: Client, alice: Account) -> None:
    change = client.patch(AT, {"name": "Pads"}, as_=alice)["pending"]
    desk = client.desk
    accounts.promote(client.env.db.connection(), desk.email, "developer")
    decide(client, change).expect(403)
    assert in_store(client)["name"] == "Notes"


def test_a_draft_changes_at_once(client: Client) -> None:
    alice = client.register("alice")
    client.app_of(alice)
    answer = client.patch(AT, NEW, as_=alice).expect(200)
    assert (answer["name"], answer["pending"]) == (NEW["name"], None)
