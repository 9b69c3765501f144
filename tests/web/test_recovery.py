"""Passwords and addresses: changed, forgotten, verified, and what travels by mail."""

import email
import email.policy
import os
import re
from email.message import EmailMessage

import pytest

from mosis.caller import PORTAL
from mosis.context import Context
from mosis.credentials import passwords
from mosis.people import account_recovery, accounts
from tests.client import PASSWORD, Account, Client
from tests.conftest import FakeClock

NEW = "another good passphrase"


def mails(env: Context) -> list[EmailMessage]:
    """What was written to the mail folder, the oldest first."""
    found = sorted(env.mailer.folder.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
    return [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found
    ]  # type: ignore[misc]


def token_in(message: EmailMessage) -> str:
    """The token that a mail carries; the link has the same one."""
    text = message.get_content()
    found = re.findall(r"^(mt_\S+)$", text, re.MULTILINE)
    assert len(found) == 1
    assert f"#{found[0]}" in text
    return str(found[0])


def mailed(client: Client, subject: str) -> str:
    """Do the jobs, and give the token of the newest mail about this."""
    client.work()
    return token_in([each for each in mails(client.env) if subject in each["Subject"]][-1])


@pytest.fixture
def alice(client: Client) -> Account:
    return client.register()


def test_an_address_is_verified_once_with_the_link_that_registration_sends(
    client: Client, alice: Account
) -> None:
    token = mailed(client, "Verify")
    assert mails(client.env)[0]["To"] == alice.email
    client.post("/v1/auth/email/verify", {"token": token}, as_=alice).expect(204)
    assert client.get("/v1/auth/me", as_=alice)["email_verified"] is True
    client.post("/v1/auth/email/verify", {"token": token}, as_=alice).expect(401, "invalid_token")
    client.post("/v1/auth/email/resend", as_=alice).expect(202)
    client.work()
    assert len(mails(client.env)) == 1


@pytest.mark.parametrize("token", ["", "mt_", "mt_" + "A" * 59, "mt_é", "x" * 100])
def test_a_made_up_link_is_refused(client: Client, alice: Account, token: str) -> None:
    client.post("/v1/auth/email/verify", {"token": token}).expect(401, "invalid_token")
    client.post("/v1/auth/password/reset", {"token": token, "new_password": NEW}).expect(
        401, "invalid_token"
    )


def test_links_are_for_one_purpose_and_for_a_while(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    verify = mailed(client, "Verify")
    client.post("/v1/auth/password/reset", {"token": verify, "new_password": NEW}).expect(
        401, "invalid_token"
    )
    client.post("/v1/auth/password/forgot", {"email": alice.email}).expect(202)
    reset = mailed(client, "new password")
    clock.advance(30 * 60)
    client.post("/v1/auth/password/reset", {"token": reset, "new_password": NEW}).expect(
        401, "invalid_token"
    )
    clock.advance(9 * 24 * 3600)
    account_recovery.sweep(client.env)
    assert client.env.db.connection().value("SELECT count(*) FROM tickets") == 0


def test_mails_in_the_folder_are_removed_after_thirty_days(
    client: Client, alice: Account, clock: FakeClock
) -> None:
    client.work()
    (written,) = client.env.mailer.folder.iterdir()
    os.utime(written, (clock.at, clock.at))
    clock.advance(30 * 24 * 3600)
    account_recovery.sweep(client.env)
    assert written.exists()
    clock.advance(1)
    account_recovery.sweep(client.env)
    assert not written.exists()


def test_a_forgotten_password_is_set_anew_and_every_session_ends(
    client: Client, alice: Account
) -> None:
    client.post("/v1/auth/password/forgot", {"email": alice.email.upper()}).expect(202)
    first = mailed(client, "new password")
    client.post("/v1/auth/password/forgot", {"email": alice.email}).expect(202)
    second = mailed(client, "new password")
    client.post("/v1/auth/password/reset", {"token": first, "new_password": NEW}).expect(
        401, "invalid_token"
    )
    weak = client.post(
        "/v1/auth/password/reset", {"token": second, "new_password": "1234567890"}
    ).expect(422)
    assert weak.finding("/new_password") == "weak_password"
    client.post(
        "/v1/auth/password/reset", {"token": second, "new_password": NEW}, as_=alice
    ).expect(204)  # her own session too
    client.get("/v1/auth/me", as_=alice).expect(401)
    client.post("/v1/auth/login", {"email": alice.email, "password": PASSWORD}).expect(
        401, "invalid_credentials"
    )
    again = client.sign_in(alice, NEW)
    assert client.get("/v1/auth/me", as_=again)["email_verified"] is True
    client.post("/v1/auth/password/reset", {"token": second, "new_password": PASSWORD}).expect(
        401, "invalid_token"
    )


def test_nobody_can_tell_from_outside_whether_there_is_an_account(
    client: Client, alice: Account
) -> None:
    client.work()
    known = client.post("/v1/auth/password/forgot", {"email": alice.email}).expect(202)
    unknown = client.post("/v1/auth/password/forgot", {"email": "nobody@example.net"}).expect(202)
    assert (known.body, known.status) == (unknown.body, unknown.status)
    assert client.work() >= 2
    assert [each["To"] for each in mails(client.env)] == [alice.email] * 2


def test_a_changed_password_ends_the_other_sessions_only(client: Client, alice: Account) -> None:
    elsewhere = client.sign_in(alice)
    wrong = {"current_password": "not this one", "new_password": NEW}
    client.post("/v1/auth/password", wrong, as_=alice).expect(401, "invalid_credentials")
    client.post(
        "/v1/auth/password", {"current_password": PASSWORD, "new_password": NEW}, as_=alice
    ).expect(204)
    client.get("/v1/auth/me", as_=alice).expect(200)
    client.get("/v1/auth/me", as_=elsewhere).expect(401)
    client.sign_in(alice, NEW)
    assert "security.password_changed" in [each["kind"] for each in client.notifications(alice)]


def test_nothing_in_the_database_can_be_presented(client: Client, alice: Account) -> None:
    client.post("/v1/auth/password/forgot", {"email": alice.email}).expect(202)
    reset = mailed(client, "new password")
    dump = "\n".join(client.env.db.connection()._raw.iterdump())
    assert reset not in dump
    assert reset[25:] not in dump
    assert alice.refresh_token not in dump


class TestTheAdministratorBySetting:
    """ADMIN_EMAIL."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"ADMIN_EMAIL": "Root@example.net"}

    @pytest.mark.parametrize("proof", ["session", "password", "another password"])
    def test_does_not_become_one_by_a_link_but_at_the_next_start(
        self, client: Client, proof: str
    ) -> None:
        root = client.register("root")
        body = {"token": mailed(client, "Verify")}
        if proof == "session":
            client.post("/v1/auth/email/verify", body, as_=root).expect(204)
        else:
            password = PASSWORD if proof == "password" else NEW
            client.post("/v1/auth/email/verify", body | {"password": password}).expect(204)
            root = client.sign_in(root, password)
        client.get("/v1/admin/developers", as_=root).expect(403, "forbidden")
        account_recovery.appoint(client.env)
        client.get("/v1/admin/developers", as_=root).expect(200)

    def test_becomes_one_by_a_new_password_also_when_the_address_was_verified_before(
        self, client: Client
    ) -> None:
        root = client.register("root")
        client.post("/v1/auth/email/verify", {"token": mailed(client, "Verify")}, as_=root)
        client.post("/v1/auth/password/forgot", {"email": root.email}).expect(202)
        body = {"token": mailed(client, "new password"), "new_password": NEW}
        client.post("/v1/auth/password/reset", body).expect(204)
        client.get("/v1/admin/developers", as_=client.sign_in(root, NEW)).expect(200)

    def test_becomes_one_by_a_new_password_too_because_that_proves_the_address(
        self, client: Client
    ) -> None:
        squatter = client.register("root")
        client.post("/v1/auth/password/forgot", {"email": squatter.email}).expect(202)
        client.post(
            "/v1/auth/password/reset",
            {"token": mailed(client, "new password"), "new_password": NEW},
        ).expect(204)
        client.get("/v1/admin/developers", as_=squatter).expect(401)
        client.get("/v1/admin/developers", as_=client.sign_in(squatter, NEW)).expect(200)

    def test_becomes_one_at_start_when_the_setting_came_after_the_address_was_verified(
        self, client: Client
    ) -> None:
        client.register("root")
        account_recovery.appoint(client.env)
        db = client.env.db.connection()
        assert db.value("SELECT role FROM developers") == "developer"
        with db.write():
            db.change("UPDATE developers SET email_verified = 1")
        account_recovery.appoint(client.env)
        account_recovery.appoint(client.env)
        assert db.value("SELECT role FROM developers") == "admin"
        assert db.value("SELECT count(*) FROM audit WHERE action = 'account.role_changed'") == 1


@pytest.mark.parametrize(
    ("setting", "other"),
    [("root@fu\xdfball.example", "root@fussball.example"), ("\u212a@a", "k@a")],
)
def test_addresses_that_only_look_alike_are_different_peoples(setting: str, other: str) -> None:
    assert setting.casefold() == other  # what a careless comparison says
    assert accounts.folded(setting) != accounts.folded(other)
    assert accounts.folded(other.upper()) == accounts.folded(other)


class TestByInvitation:
    """REGISTRATION=invite."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"REGISTRATION": "invite"}

    def test_only_who_is_invited_registers_and_once(self, client: Client, env: Context) -> None:
        with env.db.connection().write() as db:
            accounts.create(
                db, PORTAL, "root@example.net", "Root", passwords.make_hash(PASSWORD), role="admin"
            )
        root = client.sign_in(Account("root@example.net", "", "", ""))
        body = {"email": "bob@example.net", "password": PASSWORD, "name": "Bob"}
        client.post("/v1/auth/register", body).expect(403, "registration_closed")
        invitation = client.post(
            "/v1/admin/invitations", {"email": "bob@example.net"}, as_=root
        ).expect(201)["invitation"]
        assert mailed(client, "invited") == invitation
        mallory = body | {"email": "mallory@example.net", "invitation": invitation}
        client.post("/v1/auth/register", mallory).expect(401, "invalid_token")
        client.post("/v1/auth/register", body | {"invitation": invitation}).expect(201)
        client.post("/v1/auth/register", body | {"invitation": invitation}).expect(
            401, "invalid_token"
        )
        client.post("/v1/admin/invitations", {"email": "Bob@example.net"}, as_=root).expect(
            409, "email_taken"
        )
