"""Proof belongs to who presents it: links, keys that made keys, limited keys, repeated requests, and addresses that nobody has
verified."""

import os
import re
from dataclasses import replace
from typing import Any

import pytest

from mosis.caller import SCOPES
from mosis.clock import for_people
from mosis.people import account_recovery, email_tokens, revocation
from tests import described
from tests.client import PASSWORD, Account, Client
from tests.conftest import FakeClock
from tests.package_builder import signing_key
from tests.web.test_recovery import NEW, mailed, mails

NOTES, TODO = "com.acme.notes", "com.acme.todo"


def device_login(client: Client, account: Account, scopes: list[str]) -> dict[str, Any]:
    """A machine that somebody has let in: the answer with its tokens."""
    begun = client.post("/v1/auth/device", {"client_name": "box", "scopes": scopes}).expect(200)
    body = {"user_code": begun["user_code"], "approve": True}
    client.post("/v1/auth/device/approve", body, as_=account).expect(200)
    grant = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": begun["device_code"],
    }
    answer: dict[str, Any] = client.post("/v1/auth/token", grant).expect(200).json
    return answer


def key_of(client: Client, maker: Account | str, scopes: list[str], **more: Any) -> dict[str, Any]:
    """A new API key made with a credential."""
    body = {"name": "k", "scopes": scopes, **more}
    answer: dict[str, Any] = client.post("/v1/keys", body, as_=maker).expect(201).json
    return answer


def signing_key_of(client: Client, maker: Account | str) -> str:
    """The id of a new signing key registered with a credential."""
    body = {"name": "s", "public_key": signing_key().public_base64}
    return str(client.post("/v1/signing-keys", body, as_=maker).expect(201)["id"])


class TestVerifying:
    """A mailbox and an account that may be different people's."""

    @pytest.fixture
    def mallory(self, client: Client) -> Account:
        """Somebody who has registered another's address and settled in."""
        mallory = client.register("victim")
        client.app_of(mallory)
        client.post("/v1/webhooks", {"url": "https://mallory.example/"}, as_=mallory).expect(201)
        return mallory

    def living(self, client: Client, mallory: Account) -> dict[str, int]:
        """How many rows of each kind still open the account."""
        alive = {
            "sessions": "ended_at IS NULL",
            "api_keys": "revoked_at IS NULL",
            "signing_keys": "state = 'active'",
            "tickets": "used_at IS NULL",
        }
        db = client.env.db.connection()
        return {
            table: db.value(
                f"SELECT count(*) FROM {table} WHERE developer_id = ? AND {alive.get(table, '1')}",
                mallory.id,
            )
            for table in revocation.ENDINGS
        }

    @pytest.mark.parametrize("way", ["verify", "reset"])
    def test_whoever_owns_the_mailbox_has_the_account_alone(
        self, client: Client, mallory: Account, way: str
    ) -> None:
        key = key_of(client, mallory, list(SCOPES))["key"]
        machine = device_login(client, mallory, ["apps:read"])["access_token"]
        uncollected = client.post(
            "/v1/auth/device", {"client_name": "later", "scopes": ["keys:manage"]}
        ).expect(200)
        body = {"user_code": uncollected["user_code"], "approve": True}
        client.post(
            "/v1/auth/device/approve", body, as_=mallory, headers={"Idempotency-Key": "x"}
        ).expect(200)
        db = client.env.db.connection()
        with db.write():
            db.insert(
                "identities",
                id="i",
                developer_id=mallory.id,
                provider="github",
                issuer="https://github.com",
                subject="666",
                created_at=db.now,
                last_used_at=db.now,
            )
        assert all(self.living(client, mallory)[each] for each in ("idempotency", "device_logins"))
        if way == "verify":
            body = {"token": mailed(client, "Verify"), "password": NEW}
            client.post("/v1/auth/email/verify", body).expect(204)
        else:
            client.post("/v1/auth/password/forgot", {"email": mallory.email}).expect(202)
            body = {"token": mailed(client, "new password"), "new_password": NEW}
            client.post("/v1/auth/password/reset", body).expect(204)
        left = self.living(client, mallory)
        spent = db.value("SELECT count(*) FROM device_logins WHERE state = 'spent'")
        assert left == dict.fromkeys(revocation.ENDINGS, 0) | {
            "device_logins": spent,
            "app_members": 1,
        }
        for credential in (mallory, key, machine):
            client.get("/v1/auth/me", as_=credential).expect(401, "invalid_token")
        client.post("/v1/auth/refresh", {"refresh_token": mallory.refresh_token}).expect(401)
        body = {"email": mallory.email, "password": PASSWORD}
        client.post("/v1/auth/login", body).expect(401, "invalid_credentials")
        owner = client.sign_in(mallory, NEW)
        assert client.get("/v1/auth/me", as_=owner)["email_verified"] is True

    @pytest.mark.parametrize("proof", ["session", "password"])
    def test_whoever_has_made_the_account_keeps_everything(
        self, client: Client, mallory: Account, proof: str
    ) -> None:
        body = {"token": mailed(client, "Verify")}
        before = self.living(client, mallory) | {"tickets": 0}
        if proof == "session":
            client.post("/v1/auth/email/verify", body, as_=mallory).expect(204)
        else:
            client.post("/v1/auth/email/verify", body | {"password": PASSWORD}).expect(204)
        assert self.living(client, mallory) == before
        client.post("/v1/auth/email/verify", body | {"password": NEW}).expect(401, "invalid_token")

    def test_a_link_alone_and_other_credentials_prove_nothing(
        self, client: Client, mallory: Account
    ) -> None:
        body = {"token": mailed(client, "Verify")}
        key = key_of(client, mallory, list(SCOPES))["key"]
        machine = device_login(client, mallory, list(SCOPES))["access_token"]
        bob = client.register("bob")
        before = self.living(client, mallory)
        client.post("/v1/auth/email/verify", body).expect(401, "unauthenticated")
        for credential in (key, machine, bob):
            client.post("/v1/auth/email/verify", body | {"password": NEW}, as_=credential).expect(
                403, "forbidden"
            )
        weak = client.post("/v1/auth/email/verify", body | {"password": "1234567890"})
        assert weak.expect(422).finding("/password") == "weak_password"
        assert self.living(client, mallory) == before
        assert client.get("/v1/auth/me", as_=mallory)["email_verified"] is False

    def test_a_link_to_verify_is_no_link_to_a_verified_account(
        self, client: Client, mallory: Account
    ) -> None:
        body = {"token": mailed(client, "Verify"), "password": NEW}
        client.verified(mallory)
        client.post("/v1/auth/email/verify", body).expect(401, "invalid_token")
        client.sign_in(mallory)

    def test_the_mail_says_when_and_from_where_the_account_was_made(
        self, client: Client, mallory: Account
    ) -> None:
        client.work()
        text = " ".join(mails(client.env)[0].get_content().split())
        made = client.get("/v1/auth/me", as_=mallory)["created_at"]
        assert f"registered on {for_people(made)}, from the network 198.51.100.0/24" in text


class TestWhatAKeyHasMade:
    """A tree of credentials, ended at its root."""

    @pytest.mark.parametrize("how", ["revoke", "report"])
    def test_ends_with_it_at_any_depth(self, client: Client, how: str) -> None:
        alice = client.register()
        other, other_signing = key_of(client, alice, ["apps:read"]), signing_key_of(client, alice)
        root = key_of(client, alice, ["keys:manage", "apps:read"])
        made = [root]
        for _ in range(3):
            made.append(key_of(client, made[-1]["key"], ["keys:manage", "apps:read"]))
            assert made[-1]["made_by"] == made[-2]["id"]
        registered = [signing_key_of(client, each["key"]) for each in made]
        if how == "revoke":
            client.delete(f"/v1/keys/{root['id']}", as_=alice).expect(204)
        else:
            body = {"key": root["key"]}
            assert client.post("/v1/keys/report", body).expect(200).json == {"revoked": True}
            assert client.post("/v1/keys/report", body).expect(200).json == {"revoked": False}
        for each in made:
            client.get("/v1/apps", as_=each["key"]).expect(401, "invalid_token")
        for each in registered:
            shown = client.get(f"/v1/signing-keys/{each}", as_=alice).expect(200)
            assert shown["state"] == "revoked"
        client.get("/v1/apps", as_=other["key"]).expect(200)
        assert client.get(f"/v1/signing-keys/{other_signing}", as_=alice)["state"] == "active"
        found = client.get("/v1/auth/me/audit?limit=100", as_=alice)["entries"]
        ended = [each for each in found if each["details"].get("made_by_revoked") == root["id"]]
        assert len(ended) == len(made) - 1 + len(registered)

    def test_ends_with_it_also_when_a_key_in_between_was_removed(
        self, client: Client, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Keys that have ended are removed some time; one can make as many as it takes."""
        monkeypatch.setitem(
            revocation.ROWS_PER_ACCOUNT,
            "api_keys",
            (*revocation.ROWS_PER_ACCOUNT["api_keys"][:2], 0),
        )
        alice = client.register()
        root = key_of(client, alice, ["keys:manage"])
        ends = client.env.clock.now(60)
        middle = key_of(client, root["key"], ["keys:manage"], expires_at=ends)
        last = key_of(client, middle["key"], ["keys:manage"])
        registered = signing_key_of(client, last["key"])
        clock.advance(61)
        revocation.sweep_rows(client.env)
        alice = client.sign_in(alice)
        assert [each["id"] for each in client.get("/v1/keys", as_=alice)["keys"]] == [root["id"]]
        client.post("/v1/keys/report", {"key": root["key"]}).expect(200)
        assert client.get(f"/v1/signing-keys/{registered}", as_=alice)["state"] == "revoked"

    @pytest.mark.parametrize("how", ["revoke", "reuse"])
    def test_of_a_session_its_machines_end_and_what_those_have_made(
        self, client: Client, how: str
    ) -> None:
        alice = client.register()
        lost = client.sign_in(alice)
        own = key_of(client, lost, ["apps:read"])
        machine = device_login(client, lost, ["keys:manage", "apps:read"])
        theirs = key_of(client, machine["access_token"], ["apps:read"])
        if how == "revoke":
            sessions = client.get("/v1/auth/sessions", as_=lost)["sessions"]
            session = next(each["id"] for each in sessions if each["current"])
            client.delete(f"/v1/auth/sessions/{session}", as_=alice).expect(204)
        else:
            spent = {"refresh_token": lost.refresh_token}
            client.post("/v1/auth/refresh", spent).expect(200)
            client.post("/v1/auth/refresh", spent, address="203.0.113.9").expect(401)
        client.get("/v1/apps", as_=machine["access_token"]).expect(401)
        client.get("/v1/apps", as_=theirs["key"]).expect(401)
        client.get("/v1/apps", as_=own["key"]).expect(200)  # listed with made_by, for its owner
        client.get("/v1/auth/me", as_=alice).expect(200)

    def test_stays_when_its_maker_only_signs_out(self, client: Client) -> None:
        alice = client.register()
        page = client.sign_in(alice)
        machine = device_login(client, page, ["keys:manage", "apps:read"])["access_token"]
        key = key_of(client, machine, ["apps:read"])["key"]
        client.post("/v1/auth/logout", as_=page).expect(204)
        client.get("/v1/apps", as_=machine).expect(200)
        client.post("/v1/auth/logout", as_=machine).expect(204)
        client.get("/v1/apps", as_=key).expect(200)


class TestAKeyLimitedToApps:
    """It manages what it has made, and nothing of the account."""

    @pytest.fixture
    def alice(self, client: Client) -> Account:
        alice = client.register()
        client.app_of(alice)
        client.app_of(alice, TODO)
        return alice

    def test_says_on_every_route_without_an_app_what_it_may(self) -> None:
        for route in described.calls():
            named = "<app>" in route.rule
            says = route.config.get("limited")
            if route.config["scope"] in SCOPES and not named:
                assert says in ("filtered", "refused"), f"{route.method} {route.rule}"
            else:
                assert says is None, f"{route.method} {route.rule}"

    def test_is_let_into_no_route_of_the_account(self, client: Client, alice: Account) -> None:
        key = key_of(client, alice, list(SCOPES), apps=[NOTES])["key"]
        for route in described.calls():
            scope, says = route.config["scope"], route.config.get("limited")
            if scope in ("public", "any") or says == "filtered" or "<app>" in route.rule:
                continue
            path = "/v1" + re.sub(r"<\w+(:\w+)?>", "x", route.rule)
            body = None if route.method in ("GET", "DELETE") else {}
            refused = client.call(route.method, path, body, as_=key).expect(403)
            wanted = "forbidden" if scope in ("account", "session") else "limited_to_apps"
            assert refused["code"] == wanted, route

    def test_touches_no_other_app_on_any_route(self, client: Client, alice: Account) -> None:
        key = key_of(client, alice, list(SCOPES), apps=[NOTES])["key"]
        before = list(client.env.db.connection()._raw.iterdump())
        for route in described.calls():
            if "<app>" not in route.rule or route.config["scope"] not in SCOPES:
                continue
            path = "/v1" + re.sub(r"<\w+(:\w+)?>", "x", route.rule.replace("<app>", TODO))
            body = b"PK" if route.config.get("body") == "package" else {}
            sent = None if route.method in ("GET", "DELETE") else body
            assert client.call(route.method, path, sent, as_=key).status in (404, 422), route
        assert list(client.env.db.connection()._raw.iterdump()) == before

    def test_sees_and_ends_only_the_keys_that_it_has_made(
        self, client: Client, alice: Account
    ) -> None:
        other = key_of(client, alice, ["apps:read"])
        limited = key_of(client, alice, ["keys:manage", "apps:read"], apps=[NOTES])
        assert client.get("/v1/keys", as_=limited["key"]).expect(200)["keys"] == []
        child = key_of(client, limited["key"], ["keys:manage", "apps:read"])
        grandchild = key_of(client, child["key"], ["apps:read"])
        seen = client.get("/v1/keys", as_=limited["key"]).expect(200)["keys"]
        assert {each["id"] for each in seen} == {child["id"], grandchild["id"]}
        assert child["apps"] == limited["apps"]
        for foreign in (other, limited):
            at = f"/v1/keys/{foreign['id']}"
            client.get(at, as_=child["key"]).expect(404, "not_found")
            client.delete(at, as_=child["key"]).expect(404, "not_found")
        client.delete(f"/v1/keys/{other['id']}", as_=limited["key"]).expect(404, "not_found")
        client.delete(f"/v1/keys/{child['id']}", as_=limited["key"]).expect(204)
        client.get("/v1/apps", as_=grandchild["key"]).expect(401)
        client.get("/v1/apps", as_=other["key"]).expect(200)

    def test_has_no_role(self, client: Client) -> None:
        root = client.admin()
        client.app_of(root)
        body = {"name": "x", "scopes": ["apps:read"], "apps": [NOTES], "role": "admin"}
        refused = client.post("/v1/keys", body, as_=root).expect(422)
        assert refused.finding("/apps") == "not_allowed"

    def test_knows_who_it_is(self, client: Client, alice: Account) -> None:
        made = key_of(client, alice, ["apps:read"], apps=[NOTES])
        me = client.get("/v1/auth/me", as_=made["key"]).expect(200)
        assert (me["email"], me["scopes"], me["apps"]) == (
            alice.email,
            ["apps:read"],
            made["apps"],
        )


def test_no_answer_is_repeated_to_another_credential(client: Client) -> None:
    """Nor to the same one once it may do less: every credential of an account sends the same request."""
    root = client.admin()
    client.app_of(root)
    elsewhere = client.sign_in(root)
    machines = [
        device_login(client, root, scopes)["access_token"]
        for scopes in (["keys:manage"], ["keys:manage", "apps:read"])
    ]
    keys = [
        key_of(client, root, ["keys:manage", "apps:read"])["key"],
        key_of(client, root, ["keys:manage", "apps:read"], apps=[NOTES])["key"],
        key_of(client, root, ["keys:manage", "apps:read"], role="admin")["key"],
    ]
    body = {"name": "deploy", "scopes": ["keys:manage"]}
    once = {"Idempotency-Key": "deploy-1"}
    shown = set()
    for credential in (root, elsewhere, *machines, *keys):
        first = client.post("/v1/keys", body, as_=credential, headers=once).expect(201)
        assert "idempotency-replayed" not in first.headers
        again = client.post("/v1/keys", body, as_=credential, headers=once).expect(201)
        assert (again.body, again.headers["idempotency-replayed"]) == (first.body, "true")
        assert first["key"] not in shown
        shown.add(first["key"])
    fresh = client.post("/v1/auth/refresh", {"refresh_token": root.refresh_token}).expect(200)
    same = replace(root, token=fresh["access_token"])
    again = client.post("/v1/keys", body, as_=same, headers=once).expect(201)
    assert again.headers["idempotency-replayed"] == "true"
    client.role_of(root, "developer")
    less = client.post("/v1/keys", body, as_=same, headers=once).expect(201)
    assert less["key"] not in shown


class TestAnAddressThatIsNotVerified:
    """It may be somebody else's."""

    @pytest.mark.parametrize("is_verified", [False, True])
    def test_what_went_there_is_its_owners(self, client: Client, is_verified: bool) -> None:
        db = client.env.db.connection()
        with db.write():
            email_tokens.issue(db, "invite", "victim@example.net")
        client.work()
        mallory = client.register("victim")
        client.work()
        client.post("/v1/auth/password/forgot", {"email": mallory.email}).expect(202)
        if is_verified:
            client.verified(mallory)
        answer = client.get("/v1/auth/me/export", as_=mallory).expect(200)
        purposes = {each["purpose"] for each in answer["tickets"]}
        subjects = " ".join(each["subject"] for each in answer["mails"])
        assert ("invite" in purposes) is is_verified
        assert ("invited" in subjects) is is_verified
        assert "Verify" in subjects
        assert ("mail_reset" in {each["kind"] for each in answer["jobs"]}) is is_verified
        client.delete("/v1/auth/me", {"password": PASSWORD}, as_=mallory).expect(204)
        left = [str(each["Subject"]) for each in mails(client.env)]
        assert any("invited" in each for each in left) is not is_verified
        assert not any("Verify" in each for each in left)
        invitations = db.value("SELECT count(*) FROM tickets WHERE purpose = 'invite'")
        assert invitations == int(not is_verified)

    def test_a_mail_that_is_written_during_an_erasure_does_not_stay(self, client: Client) -> None:
        """The erasure commits and clears the folder between the job's look and its mail."""
        alice = client.register()
        asked = []

        def erased_meanwhile() -> bool:
            asked.append(client.get("/v1/auth/me", as_=alice).status)
            if len(asked) == 1:
                client.delete("/v1/auth/me", {"password": PASSWORD}, as_=alice).expect(204)
                return True
            return asked[-1] == 200

        client.env.mailer.send(alice.email, "x", "y", "z", is_wanted=erased_meanwhile)
        assert asked == [200, 401]
        assert mails(client.env) == []

    def test_the_sweep_removes_mails_to_nobody(self, client: Client, clock: FakeClock) -> None:
        alice = client.register()
        client.work()
        client.env.mailer.send("gone@example.net", "x", "y", "of-nobody")
        for written in client.env.mailer.folder.iterdir():
            os.utime(written, (clock.at, clock.at))
        account_recovery.sweep(client.env)
        assert {each["To"] for each in mails(client.env)} == {alice.email}
