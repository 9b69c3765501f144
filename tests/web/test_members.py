"""Members of apps and transfers of apps: who may do what, and how somebody could try to get more."""

import re
from typing import Any

import pytest

from mosis.publishing import invitations, members
from tests.browser import Browser, text_of
from tests.client import PASSWORD, Account, Answer, Client
from tests.conftest import FakeClock

NOTES = "com.acme.notes"


@pytest.fixture
def alice(client: Client) -> Account:
    account = client.register("alice")
    client.app_of(account)
    return account


def invite(client: Client, owner: Account, email: str, role: str = "publisher") -> str:
    """Invite somebody; the token that is mailed to them."""
    body = {"email": email, "role": role}
    client.post(f"/v1/apps/{NOTES}/members", body, as_=owner).expect(201)
    return mailed(client, email)


def offer(client: Client, owner: Account, email: str) -> str:
    """Offer the app to somebody; the token that is mailed to them."""
    client.post(f"/v1/apps/{NOTES}/transfer", {"email": email}, as_=owner).expect(201)
    return mailed(client, email)


def mailed(client: Client, email: str) -> str:
    """The token in the newest invitation to an address."""
    client.work()
    found = sorted(client.env.mailer.written_to(email), key=lambda mail: mail.path.stem)
    text = next(
        body for mail in reversed(found) if "/console/join" in (body := mail.path.read_text())
    )
    match = re.search(r"mt_[\w-]{59}", text.replace("=\n", ""))
    assert match
    return match[0]


def accept(client: Client, account: Account, token: str) -> Answer:
    return client.post(f"/v1/invitations/{token}/accept", as_=account)


def roles(client: Client, account: Account) -> dict[str, str]:
    found = client.get(f"/v1/apps/{NOTES}/members", as_=account).expect(200)["members"]
    return {each["name"]: each["role"] for each in found}


def kinds(client: Client, account: Account) -> list[str]:
    return [each["kind"] for each in client.notifications(account)]


def with_key(client: Client, account: Account) -> Account:
    body = {"name": "laptop", "public_key": account.key.public_base64}
    client.post("/v1/signing-keys", body, as_=account).expect(201)
    return account


class TestInvitations:
    def test_whoever_is_invited_accepts_once(self, client: Client, alice: Account) -> None:
        bob = client.register("bob")
        token = invite(client, alice, "BOB@example.net")
        shown = client.get(f"/v1/invitations/{token}", as_=bob).expect(200)
        assert (shown["package_id"], shown["role"], shown["invited_by"]) == (
            NOTES,
            "publisher",
            "Alice",
        )
        client.get(f"/v1/apps/{NOTES}", as_=bob).expect(404)
        assert accept(client, bob, token).expect(200)["package_id"] == NOTES
        accept(client, bob, token).expect(404)
        assert roles(client, bob) == {"Alice": "owner", "Bob": "publisher"}
        assert [each["package_id"] for each in client.get("/v1/apps", as_=bob)["apps"]] == [NOTES]
        assert kinds(client, alice)[:2] == ["app.member_added", "app.member_invited"]
        body = {"email": bob.email, "role": "owner"}
        client.post(f"/v1/apps/{NOTES}/members", body, as_=alice).expect(409, "already_member")

    def test_a_stranger_with_the_link_gets_nowhere(self, client: Client, alice: Account) -> None:
        bob, mallory = client.register("bob"), client.register("mallory")
        token = invite(client, alice, bob.email)
        for who in (mallory, alice):
            client.get(f"/v1/invitations/{token}", as_=who).expect(404)
            accept(client, who, token).expect(404)
        key = client.post("/v1/keys", {"name": "ci", "scopes": ["apps:write"]}, as_=bob)["key"]
        accept(client, key, token).expect(403, "forbidden")
        client.post(f"/v1/invitations/{token}/accept").expect(401)
        for other in (
            token[:-1] + ("A" if token[-1] != "A" else "B"),
            "mt_",
            "x" * 62,
            "mt_" + "é" * 9,
        ):
            accept(client, bob, other).expect(404)
        accept(client, bob, token).expect(200)

    @pytest.mark.parametrize(
        "end", ["cancelled", "expired", "removed", "lowered", "password", "suspended", "again"]
    )
    def test_an_invitation_ends(
        self, client: Client, alice: Account, clock: FakeClock, end: str
    ) -> None:
        """With what its sender may do, too: a rogue owner who is removed leaves no way back in."""
        bob, eve = client.register("bob"), client.register("eve")
        client.joins(eve, NOTES, "owner")
        token = invite(client, eve, bob.email, "owner")
        at = f"/v1/apps/{NOTES}"
        if end == "cancelled":
            (sent,) = client.get(f"{at}/invitations", as_=alice)["invitations"]
            client.delete(f"{at}/invitations/{sent['id']}", as_=alice).expect(204)
        elif end == "expired":
            clock.advance(invitations.LIFE_SECONDS)
            bob = client.sign_in(bob)
        elif end == "removed":
            client.delete(f"{at}/members/{eve.id}", as_=alice).expect(204)
        elif end == "lowered":
            client.patch(f"{at}/members/{eve.id}", {"role": "publisher"}, as_=alice).expect(200)
        elif end == "password":
            body = {"current_password": PASSWORD, "new_password": PASSWORD + " new"}
            client.post("/v1/auth/password", body, as_=eve).expect(204)
        elif end == "suspended":
            root = client.admin()
            client.patch(f"/v1/admin/developers/{eve.id}", {"suspended": True}, as_=root).expect(
                200
            )
        else:
            client.post(f"{at}/members", {"email": bob.email, "role": "viewer"}, as_=alice).expect(
                201
            )
        accept(client, bob, token).expect(404)
        client.get(f"/v1/invitations/{token}", as_=bob).expect(404)
        assert members.role_of(client.env.db.connection(), _id(client), bob.id) is None

    def test_members_and_invitations_have_a_bound(self, client: Client, alice: Account) -> None:
        at = f"/v1/apps/{NOTES}/members"
        for number in range(invitations.MOST):
            body = {"email": f"p{number}@example.net", "role": "viewer"}
            client.post(at, body, as_=alice).expect(201)
        one_more = {"email": "more@example.net", "role": "viewer"}
        client.post(at, one_more, as_=alice).expect(409, "limit_reached")
        client.post(f"/v1/apps/{NOTES}/transfer", {"email": "x@example.net"}, as_=alice).expect(
            409, "limit_reached"
        )
        for number in range(members.MOST - 1):
            client.joins(client.register(f"m{number}"), NOTES, "viewer")
        client.post(at, one_more, as_=alice).expect(409, "limit_reached")
        token = mailed(client, "p0@example.net")
        accept(client, client.register("p0"), token).expect(409, "limit_reached")

    def test_the_mail_of_an_ended_invitation_is_not_sent(
        self, client: Client, alice: Account
    ) -> None:
        sent = client.post(
            f"/v1/apps/{NOTES}/members", {"email": "bob@example.net", "role": "viewer"}, as_=alice
        )
        client.delete(f"/v1/apps/{NOTES}/invitations/{sent['id']}", as_=alice).expect(204)
        client.work()
        assert list(client.env.mailer.written_to("bob@example.net")) == []
        invitations.mail(client.env, sent["id"])
        invitations.sweep(client.env)
        invitations.sweep(client.env)

    @pytest.mark.parametrize("settings", [{"REQUIRE_VERIFIED_EMAIL": "on"}])
    def test_who_has_not_verified_an_address_has_no_mail_sent_to_others(
        self, client: Client, alice: Account
    ) -> None:
        at = f"/v1/apps/{NOTES}"
        bob = {"email": "bob@example.net"}
        for call, body in (("members", bob | {"role": "viewer"}), ("transfer", bob)):
            refused = client.post(f"{at}/{call}", body, as_=alice)
            assert refused.expect(409, "email_not_verified")["side"] == "account"
        browser = Browser(client)
        browser.sign_in(alice.email)
        page = browser.open(f"/console/apps/{NOTES}/members")
        page = browser.send(page, f"/console/apps/{NOTES}/members", **bob, role="viewer")
        assert "Verify your own e-mail address" in text_of(page)
        client.work()
        assert list(client.env.mailer.written_to("bob@example.net")) == []
        client.verified(alice)
        assert invite(client, alice, **bob)

    @pytest.mark.parametrize(("name", "verified", "shown"), [
        ("Alice J. Smith", True, "Alice J. Smith (alice@example.net)"), ("Alice", False, "Alice"),
        ("Locked! https://evil.example", True, "alice@example.net"), ("evil.example", False, "A developer"),
        ("WWW.evil", True, "alice@example.net"), ("Open b\u00fccher.example now", False, "A developer"),
    ])  # fmt: skip
    def test_the_mail_names_who_invites_and_has_no_link_of_theirs(
        self, client: Client, alice: Account, name: str, verified: bool, shown: str
    ) -> None:
        client.patch("/v1/auth/me", {"name": name}, as_=alice).expect(200)
        if verified:
            client.verified(alice)
        invite(client, alice, "bob@example.net")
        (text,) = [text for _, text in client.env.mailer.waiting() if "invites you" in text]
        body = " ".join(text.partition("\n\n")[2].split())
        assert body.startswith(f"{shown} invites you to work on")

    def test_it_is_accepted_with_a_browser(self, client: Client, alice: Account) -> None:
        token = invite(client, alice, "bob@example.net")
        browser = Browser(client)
        assert "Sign in to the account" in text_of(browser.open("/console/join"))
        client.register("bob")
        browser.sign_in("bob@example.net")
        page = browser.send(browser.open("/console/join"), "/console/join", token=token)
        page = browser.send(page, "/console/join")
        assert "You are a member of this app now." in text_of(page)
        assert NOTES in text_of(page)


class TestRoles:
    def test_nobody_raises_their_own_role(self, client: Client, alice: Account) -> None:
        bob = client.register("bob")
        at = f"/v1/apps/{NOTES}/members"
        for role in ("viewer", "publisher"):
            client.joins(bob, NOTES, role)
            client.patch(f"{at}/{bob.id}", {"role": "owner"}, as_=bob).expect(403, "forbidden")
            client.patch(f"{at}/{alice.id}", {"role": "viewer"}, as_=bob).expect(403, "forbidden")
            client.delete(f"{at}/{alice.id}", as_=bob).expect(403, "forbidden")
            body = {"email": bob.email, "role": "owner"}
            client.post(at, body, as_=bob).expect(403, "forbidden")
            client.post(f"/v1/apps/{NOTES}/transfer", {"email": bob.email}, as_=bob).expect(403)
            client.delete(f"{at}/{bob.id}", as_=bob).expect(204)
            client.get(f"/v1/apps/{NOTES}", as_=bob).expect(404)

    def test_a_key_of_an_owner_changes_no_members(self, client: Client, alice: Account) -> None:
        scopes = ["apps:read", "apps:write", "keys:manage"]
        key = client.post("/v1/keys", {"name": "ci", "scopes": scopes}, as_=alice)["key"]
        at = f"/v1/apps/{NOTES}"
        body = {"email": "eve@example.net", "role": "owner"}
        client.post(f"{at}/members", body, as_=key).expect(403, "forbidden")
        client.post(f"{at}/transfer", {"email": "eve@example.net"}, as_=key).expect(
            403, "forbidden"
        )
        client.delete(f"{at}/members/{alice.id}", as_=key).expect(403, "forbidden")
        client.get(f"{at}/members", as_=key).expect(200)

    def test_the_last_owner_stays(self, client: Client, alice: Account) -> None:
        bob = client.register("bob")
        client.joins(bob, NOTES, "publisher")
        at = f"/v1/apps/{NOTES}/members"
        client.delete(f"{at}/{alice.id}", as_=alice).expect(409, "last_owner")
        client.patch(f"{at}/{alice.id}", {"role": "viewer"}, as_=alice).expect(409, "last_owner")
        client.patch(f"{at}/{bob.id}", {"role": "owner"}, as_=alice).expect(200)
        client.delete(f"{at}/{alice.id}", as_=alice).expect(204)
        client.delete(f"{at}/{bob.id}", as_=bob).expect(409, "last_owner")
        assert client.get(f"/v1/apps/{NOTES}", as_=bob)["developer_id"] == bob.id
        client.get(f"/v1/apps/{NOTES}", as_=alice).expect(404)

    def test_a_suspended_owner_is_no_second_owner(self, client: Client, alice: Account) -> None:
        bob, root = client.register("bob"), client.admin()
        client.joins(bob, NOTES, "owner")
        client.patch(f"/v1/admin/developers/{bob.id}", {"suspended": True}, as_=root).expect(200)
        at = f"/v1/apps/{NOTES}/members"
        client.delete(f"{at}/{alice.id}", as_=alice).expect(409, "last_owner")

    def test_partners_take_no_app_out_of_a_suspension(self, client: Client, alice: Account) -> None:
        bob, root = client.register("bob"), client.admin()
        client.published(alice, NOTES)
        client.joins(bob, NOTES, "owner")
        token = offer(client, bob, "eve@example.net")
        client.patch(f"/v1/admin/developers/{alice.id}", {"suspended": True}, as_=root).expect(200)
        at = f"/v1/apps/{NOTES}"
        for answer in (
            client.delete(f"{at}/members/{alice.id}", as_=bob),
            client.patch(f"{at}/members/{alice.id}", {"role": "viewer"}, as_=bob),
            client.post(f"{at}/members", {"email": "x@example.net", "role": "owner"}, as_=bob),
            client.post(f"{at}/transfer", {"email": bob.email}, as_=bob),
            accept(client, client.register("eve"), token),
        ):
            answer.expect(403, "suspended")
        client.get(f"/v1/store/apps/{NOTES}").expect(404)

    def test_reviewers_do_not_decide_on_what_they_work_on(
        self, client: Client, alice: Account
    ) -> None:
        rita = with_key(client, client.reviewer())
        client.joins(rita, NOTES, "publisher")
        package = client.package(rita, NOTES)
        client.upload(NOTES, package, as_=rita, query="?submit=true").expect(201)
        client.work()
        review = client.get(f"/v1/apps/{NOTES}/versions/1.0.0", as_=rita)["review"]["id"]
        client.post(f"/v1/reviews/{review}/approve", as_=rita).expect(403, "forbidden")
        client.delete(f"/v1/apps/{NOTES}/members/{rita.id}", as_=rita).expect(204)
        client.post(f"/v1/reviews/{review}/approve", as_=rita).expect(403, "forbidden")
        client.post(f"/v1/reviews/{review}/claim", as_=rita).expect(403, "forbidden")
        assert client.get("/v1/reviews", as_=rita)["reviews"] == []

    def test_the_key_of_a_publisher_counts_while_they_are_one(
        self, client: Client, alice: Account
    ) -> None:
        bob = with_key(client, client.register("bob"))
        package = client.package(bob, NOTES)
        client.upload(NOTES, package, as_=alice).expect(422, "package_rejected")
        client.joins(bob, NOTES, "viewer")
        client.upload(NOTES, package, as_=alice).expect(422, "package_rejected")
        at = f"/v1/apps/{NOTES}"
        client.patch(f"{at}/members/{bob.id}", {"role": "publisher"}, as_=alice).expect(200)
        client.upload(NOTES, package, as_=bob, query="?submit=true").expect(201)
        client.work()
        review = client.get(f"{at}/versions/1.0.0", as_=bob)["review"]["id"]
        client.post(f"/v1/reviews/{review}/approve", as_=client.reviewer()).expect(200)
        client.delete(f"{at}/members/{bob.id}", as_=alice).expect(204)
        client.post(f"{at}/versions/1.0.0/publish", as_=bob).expect(404)
        client.post(f"{at}/versions/1.0.0/publish", as_=alice).expect(409, "signing_key_revoked")
        assert "signing key" in client.get(f"{at}/versions/1.0.0", as_=alice)["next_step"]

    def test_every_owner_is_notified_of_every_release(self, client: Client, alice: Account) -> None:
        bob, carol = with_key(client, client.register("bob")), client.register("carol")
        client.joins(bob, NOTES, "publisher")
        client.joins(carol, NOTES, "owner")
        client.published(bob, NOTES)
        for owner in (alice, carol):
            (found,) = [
                each for each in client.notifications(owner) if each["kind"] == "app.released"
            ]
            assert (found["version"], found["data"]["by"], found["data"]["by_id"]) == (
                "1.0.0",
                "Bob",
                bob.id,
            )
            client.work()
            subjects = [mail.subject for mail in client.env.mailer.written_to(owner.email)]
            assert any(NOTES in each for each in subjects)
        assert "app.released" not in kinds(client, bob)
        assert "version.published" in kinds(client, bob)

    def test_the_audit_trail_names_each_change(self, client: Client, alice: Account) -> None:
        bob = with_key(client, client.register("bob"))
        accept(client, bob, invite(client, alice, bob.email)).expect(200)
        client.upload(NOTES, client.package(bob, NOTES), as_=bob).expect(201)
        at = f"/v1/apps/{NOTES}"
        client.patch(f"{at}/members/{bob.id}", {"role": "owner"}, as_=alice).expect(200)
        sent = client.post(f"{at}/members", {"email": "x@example.net", "role": "viewer"}, as_=bob)
        client.delete(f"{at}/invitations/{sent['id']}", as_=bob).expect(204)
        sent = client.post(f"{at}/transfer", {"email": "x@example.net"}, as_=alice)
        client.delete(f"{at}/invitations/{sent['id']}", as_=alice).expect(204)
        client.delete(f"{at}/members/{bob.id}", as_=alice).expect(204)
        entries: list[dict[str, Any]] = client.get("/v1/auth/me/audit?limit=100", as_=alice)[
            "entries"
        ]
        found = [
            (each["action"].removeprefix("app."), each["details"].get("member_id") == bob.id)
            for each in reversed(entries)
            if each["action"].startswith(("app.", "version."))
        ]
        assert found == [
            ("created", False), ("member_invited", False), ("member_added", True), ("version.uploaded", True),
            ("member_changed", False), ("member_invited", True), ("invitation_cancelled", True),
            ("transfer_offered", False), ("transfer_cancelled", False), ("member_removed", False),
        ]  # fmt: skip
        assert not any("@" in str(each["details"]) for each in entries)

    def test_an_erased_owner_leaves_the_app_to_the_next(
        self, client: Client, alice: Account
    ) -> None:
        bob = client.register("bob")
        client.joins(bob, NOTES, "owner")
        client.upload(NOTES, client.package(alice), as_=alice).expect(201)
        client.delete("/v1/auth/me", {"password": PASSWORD}, as_=alice).expect(204)
        client.work()
        shown = client.get(f"/v1/apps/{NOTES}", as_=bob).expect(200)
        assert shown["developer_id"] == bob.id
        assert roles(client, bob) == {"Bob": "owner"}
        client.delete(f"/v1/apps/{NOTES}", as_=bob).expect(204)
        client.work()
        assert list(client.env.config.packages_dir.glob("*/*/*/package.mosis")) == []


class TestShownName:
    """The store shows the name of the account that an app belongs to; reviewers hear of each other one."""

    @pytest.fixture
    def bob(self, client: Client) -> Account:
        return client.register("bob")

    def heard(self, client: Client) -> list[tuple[str, ...]]:
        """What the reviewer has heard, the oldest first."""
        found = reversed(client.notifications(client.desk))
        events = [each for each in found if each["kind"] == "listing.developer_changed"]
        names = ("before", "name", "look_alike")
        return [tuple(each["data"][name] for name in names) for each in events]

    def renamed(self, client: Client, account: Account, name: str) -> None:
        client.patch("/v1/auth/me", {"name": name}, as_=account).expect(200)

    def test_of_an_account_that_the_store_does_not_show_they_hear_nothing(
        self, client: Client, alice: Account, bob: Account
    ) -> None:
        client.joins(bob, NOTES, "owner")
        self.renamed(client, alice, "Somebody")
        client.delete(f"/v1/apps/{NOTES}/members/{alice.id}", as_=alice).expect(204)
        assert self.heard(client) == []

    def test_it_changes_by_a_new_name_a_transfer_and_when_an_owner_goes(
        self, client: Client, alice: Account, bob: Account
    ) -> None:
        client.published(alice, NOTES)
        acme = client.register("acme")
        self.renamed(client, acme, "Acme Corp")
        client.out(acme, "com.acmecorp.app")
        self.renamed(client, alice, "Alice")  # as it was
        self.renamed(client, alice, "\u0410cme-Corp")
        client.joins(bob, NOTES, "owner")
        client.delete(f"/v1/apps/{NOTES}/members/{alice.id}", as_=alice).expect(204)
        carol = client.register("carol")
        accept(client, carol, offer(client, bob, carol.email)).expect(200)
        changes = [("Alice", "\u0410cme-Corp", "Acme Corp"), ("\u0410cme-Corp", "Bob", "none")]
        assert self.heard(client) == [*changes, ("Bob", "Carol", "none")]
        client.work()
        (mail,) = [text for _, text in client.env.mailer.waiting() if "before under Alice" in text]
        assert "a similar name in the store: Acme Corp." in " ".join(mail.split())

    def test_an_erased_account_is_named_in_none(
        self, client: Client, alice: Account, bob: Account
    ) -> None:
        client.published(alice, NOTES)
        self.renamed(client, alice, "Alicia")
        client.joins(bob, NOTES, "owner")
        client.delete("/v1/auth/me", {"password": PASSWORD}, as_=alice).expect(204)
        former = "A former developer"
        assert self.heard(client) == [(former, former, "none"), (former, "Bob", "none")]


class TestTransfer:
    def test_an_app_changes_hands_with_its_addresses_and_history(
        self, client: Client, alice: Account
    ) -> None:
        bob, carol = with_key(client, client.register("bob")), client.register("carol")
        client.joins(carol, NOTES, "owner")
        address = client.published(alice, NOTES)["download_url"].removeprefix(
            "http://localhost:8080"
        )
        client.upload(NOTES, client.package(alice, NOTES, "2.0.0", 2), as_=alice).expect(201)
        client.work()
        token = offer(client, alice, bob.email)
        at = f"/v1/apps/{NOTES}"
        assert client.get(at, as_=alice)["developer_id"] == alice.id
        accept(client, carol, token).expect(404)
        assert accept(client, bob, token).expect(200)["developer_id"] == bob.id
        for who in (alice, carol):
            client.get(at, as_=who).expect(404)
            assert kinds(client, who)[0] == "app.transferred"
        assert roles(client, bob) == {"Bob": "owner"}
        listed = client.get(f"/v1/store/apps/{NOTES}").expect(200)
        assert listed["developer"] == {"id": bob.id, "name": "Bob"}
        new = listed["download_url"].removeprefix("http://localhost:8080")
        assert new != address
        bytes_of = [client.get(each).expect(200).body for each in (address, new)]
        assert bytes_of[0] == bytes_of[1]
        client.get(
            f"/packages/{carol.id}/{listed['icon_url'].split('/')[4]}/1.0.0/package.mosis"
        ).expect(404)
        client.get(listed["icon_url"].removeprefix("http://localhost:8080")).expect(200)
        client.post(f"{at}/versions/2.0.0/submit", as_=bob).expect(409, "signing_key_revoked")
        client.post(f"{at}/versions/2.0.0/withdraw", as_=bob).expect(200)
        package = client.package(alice, NOTES, "3.0.0", 3)
        client.upload(NOTES, package, as_=bob).expect(422, "package_rejected")
        client.published(bob, NOTES, "4.0.0", 4)
        assert client.get(f"/v1/store/apps/{NOTES}")["version"] == "4.0.0"

    @pytest.mark.parametrize(
        "settings", [{"REVIEW_POLICY": "changes", "REVIEW_SAMPLE_PERCENT": "0"}]
    )
    def test_the_policy_lets_a_person_look_at_a_new_owner(
        self, client: Client, alice: Account
    ) -> None:
        bob = with_key(client, client.register("bob"))
        client.published(alice, NOTES)
        accept(client, bob, offer(client, alice, bob.email)).expect(200)
        package = client.package(bob, NOTES, "2.0.0", 2)
        client.upload(NOTES, package, as_=bob, query="?submit=true").expect(201)
        client.work()
        (review,) = client.get("/v1/reviews", as_=client.desk)["reviews"]
        shown = client.get(f"/v1/reviews/{review['id']}", as_=client.desk)
        assert shown["because"] == ["new_owner"]

    @pytest.mark.parametrize("settings", [{"ACCOUNT_APPS": "1"}])
    def test_nobody_takes_over_more_than_their_quota(self, client: Client, alice: Account) -> None:
        bob = client.register("bob")
        client.app_of(bob, "com.bob.app")
        token = offer(client, alice, bob.email)
        accept(client, bob, token).expect(409, "quota_exceeded")
        client.delete("/v1/apps/com.bob.app", as_=bob).expect(204)
        accept(client, bob, token).expect(200)

    def test_an_offer_is_one_and_goes_to_somebody_else(
        self, client: Client, alice: Account
    ) -> None:
        at = f"/v1/apps/{NOTES}/transfer"
        client.post(at, {"email": alice.email}, as_=alice).expect(409, "invalid_state")
        bob, eve = client.register("bob"), client.register("eve")
        first = offer(client, alice, bob.email)
        second = offer(client, alice, eve.email)
        accept(client, bob, first).expect(404)
        accept(client, eve, second).expect(200)


def _id(client: Client) -> str:
    return str(client.env.db.connection().value("SELECT id FROM apps WHERE package_id = ?", NOTES))
