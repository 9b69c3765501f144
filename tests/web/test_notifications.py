"""Notifications: each final state has one, in the portal and, by choice, by mail; and erasing an account."""

import json
import re
import smtplib
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from mosis import audit, events
from mosis.context import Context
from mosis.credentials import tokens
from mosis.notifications import feed
from mosis.outbound.mail import Mailer
from mosis.people import email_tokens
from mosis.people.personal_data import EXPORTED
from tests.client import PASSWORD, Account, Client
from tests.server import free_port

NOTES = "com.acme.notes"


def kinds(client: Client, account: Account) -> list[str]:
    return [each["kind"] for each in client.notifications(account)]


def mail_about(env: Context, text: str) -> list[Path]:
    return [path for path in env.mailer.folder.glob("*.eml") if text in path.read_text()]


def test_the_history_of_a_version_is_shown(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    client.post(f"/v1/apps/{NOTES}/versions/1.0.0/halt", as_=alice).expect(200)
    client.post(f"/v1/apps/{NOTES}/versions/1.0.0/yank", {"reason": "broken"}, as_=alice).expect(
        200
    )
    found = client.notifications(alice)
    assert [each["kind"] for each in found] == [
        "version.yanked", "version.halted", "app.released",
        "version.published", "version.approved", "version.submitted", "version.checked",
    ]  # fmt: skip
    assert set(found[0]) == {
        "id",
        "kind",
        "created_at",
        "app",
        "version",
        "data",
        "text",
        "read_at",
    }
    assert (found[0]["app"], found[0]["version"]) == ({"package_id": NOTES}, "1.0.0")
    assert found[0]["text"] == "com.acme.notes 1.0.0 was withdrawn."


def test_they_are_read_one_by_one_or_all_and_only_by_their_owner(
    client: Client, alice: Account
) -> None:
    client.published(alice, NOTES)
    first = client.notifications(alice)[0]
    client.post(f"/v1/notifications/{first['id']}/read", as_=client.register("bob")).expect(404)
    read = client.post(f"/v1/notifications/{first['id']}/read", as_=alice).expect(200)
    assert read["read_at"]
    unread = client.get("/v1/notifications?unread=true", as_=alice).expect(200)
    assert len(unread["notifications"]) == unread["unread"] == len(client.notifications(alice)) - 1
    client.post("/v1/notifications/read-all", as_=alice).expect(200)
    assert client.get("/v1/notifications", as_=alice)["unread"] == 0


def test_mail_goes_out_once_for_the_kinds_that_are_wanted(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    client.work()
    assert len(mail_about(client.env, "was approved")) == 1
    assert not mail_about(client.env, "passed the checks")
    mail_about(client.env, "was approved")[0].unlink()
    assert feed.mail(client.env, alice.id) is None  # the job again: it was marked
    assert not mail_about(client.env, "was approved")
    client.patch("/v1/auth/me", {"mail": {"version.approved": False}}, as_=alice).expect(200)
    client.published(alice, NOTES, "1.1.0", 2)
    client.work()
    assert not mail_about(client.env, "was approved")
    assert client.get("/v1/auth/me", as_=alice)["mail"]["version.approved"] is False
    client.patch("/v1/auth/me", {"mail": {"version.nothing": False}}, as_=alice).expect(422)


def test_mail_can_be_switched_on_for_what_comes_without(client: Client, alice: Account) -> None:
    mail = client.get("/v1/auth/me", as_=alice)["mail"]
    assert (set(mail), mail["version.published"]) == (set(events.KINDS), False)
    client.patch("/v1/auth/me", {"mail": {"version.published": True}}, as_=alice).expect(200)
    client.published(alice, NOTES)
    client.work()
    assert len(mail_about(client.env, "is published.")) == 1


def test_a_mail_that_nobody_takes_is_tried_again_and_blocks_nothing(
    client: Client, alice: Account
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        client.env.mailer.url = f"smtp://127.0.0.1:{closed.getsockname()[1]}"
        client.published(alice, NOTES)
        client.work()
    db = client.env.db.connection()
    states = dict(
        db.all("SELECT state, count(*) FROM jobs WHERE kind = 'mail_event' GROUP BY state")
    )
    assert states["waiting"] >= 1
    assert "Connection refused" in db.value(
        "SELECT last_error FROM jobs WHERE kind = 'mail_event' AND state = 'waiting'"
    )
    assert "version.published" in kinds(client, alice)


class Mailbox:
    """A real SMTP server on 127.0.0.1 that keeps what it is given."""

    def __init__(self) -> None:
        from aiosmtpd.controller import Controller

        self.taken: list[Any] = []
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port(), ready_timeout=60)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append(envelope)
        return "250 taken"


def test_a_real_server_takes_it(tmp_path: Path) -> None:
    mailbox = Mailbox()
    mailbox.controller.start()
    try:
        mailer = Mailer(
            f"smtp://127.0.0.1:{mailbox.controller.port}", "portal@example.net", tmp_path
        )
        mailer.send("alice@example.net", "Grüße", "Hello\n.\nwith a dot", "id-1")
        with pytest.raises((smtplib.SMTPException, OSError)):
            Mailer(
                f"smtps://127.0.0.1:{mailbox.controller.port}", "portal@example.net", tmp_path
            ).send("a@b", "x", "y", "z")
        mailer.send("alice@example.net", "one\r\nBcc: mallory@example.net", "x", "id-2")
    finally:
        mailbox.controller.stop()
    envelope, another = mailbox.taken
    assert another.rcpt_tos == ["alice@example.net"]
    assert b"\nBcc" not in another.content
    assert envelope.rcpt_tos == ["alice@example.net"]
    assert b"Message-ID: <id-1@example.net>" in envelope.content
    assert b"\n.\r\n" not in envelope.content or b"with a dot" in envelope.content


def test_a_sign_in_from_a_new_network_is_notified(client: Client, alice: Account) -> None:
    client.sign_in(alice)
    assert kinds(client, alice) == []
    client.sign_in(alice, address="203.0.113.9")
    assert kinds(client, alice) == ["security.signed_in_elsewhere"]
    assert "203.0.113.0/24" in client.notifications(alice)[0]["text"]


def test_a_stolen_refresh_token_ends_the_session_and_is_notified(
    client: Client, alice: Account
) -> None:
    elsewhere = client.sign_in(alice)
    client.post("/v1/auth/refresh", {"refresh_token": alice.refresh_token}).expect(200)
    client.post(
        "/v1/auth/refresh", {"refresh_token": alice.refresh_token}, address="203.0.113.9"
    ).expect(401)
    assert kinds(client, elsewhere) == ["security.token_reused"]


def test_two_clients_that_use_a_refresh_token_at_once_never_both_win(
    client: Client, alice: Account
) -> None:
    answers: list[int] = []
    together = threading.Barrier(2)

    def use(address: str) -> None:
        together.wait()
        answers.append(
            client.post(
                "/v1/auth/refresh", {"refresh_token": alice.refresh_token}, address=address
            ).status
        )

    threads = [
        threading.Thread(target=use, args=(address,)) for address in ("198.51.100.7", "203.0.113.9")
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(answers) == [200, 401]


# sessions


def test_sessions_are_listed_and_ended_one_by_one(client: Client, alice: Account) -> None:
    phone = client.sign_in(alice)
    listed = client.get("/v1/auth/sessions", as_=alice).expect(200)["sessions"]
    assert [each["current"] for each in listed] == [False, True]
    assert set(listed[0]) == {
        "id",
        "client",
        "network",
        "current",
        "created_at",
        "last_used_at",
        "expires_at",
    }
    client.delete(f"/v1/auth/sessions/{listed[0]['id']}", as_=client.register("bob")).expect(404)
    client.delete(f"/v1/auth/sessions/{listed[0]['id']}", as_=alice).expect(204)
    client.get("/v1/auth/me", as_=phone).expect(401, "invalid_token")
    client.post("/v1/auth/refresh", {"refresh_token": phone.refresh_token}).expect(
        401, "invalid_token"
    )
    assert len(client.get("/v1/auth/sessions", as_=alice)["sessions"]) == 1


# leaving


def test_an_export_holds_everything_and_no_secret(client: Client, alice: Account) -> None:
    client.published(alice, NOTES)
    key = client.post("/v1/keys", {"name": "ci", "scopes": ["apps:read"]}, as_=alice).expect(201)[
        "key"
    ]
    client.work()
    exported = client.get("/v1/auth/me/export", as_=alice).expect(200).json
    assert exported["account"][0]["email"] == alice.email
    assert [
        len(exported[name]) for name in ("apps", "versions", "api_keys", "signing_keys", "sessions")
    ] == [1] * 5
    assert len(exported["events"]) == len(client.notifications(alice))
    assert exported["versions"][0]["manifest"]["id"] == NOTES
    assert [each["state"] for each in exported["reviews"]] == ["approved"]
    assert [(each["purpose"], each["email"]) for each in exported["tickets"]] == [
        ("verify", alice.email)
    ]
    subjects = [each["subject"].partition(" - ")[0] for each in exported["mails"]]
    assert subjects == [  # none of the reviewer's
        "Verify your address",
        f"{NOTES} 1.0.0 was approved",
        f"Alice released {NOTES} 1.0.0",
    ]
    text = json.dumps(exported)
    assert not any(secret in text for secret in (key[14:], "argon2", alice.refresh_token[10:]))


def test_the_export_knows_every_table_that_speaks_of_a_person(env: Context) -> None:
    """Each table is in the export, or here with the reason why it is not."""
    apart = {
        "listings": "made from apps, versions and the name",
        "listing_tags": "the same",
        "downloads": "numbers of nobody",
        "store_state": "a row of the store's own",
        "setup_links": "of nobody yet",
        "app_revisions": "counters of changes of listings",
        "exchanged_tokens": "hashes of what others have issued",
        "store_changes": "the same",
        "heartbeat": "of the portal itself",
        "signed_indexes": "documents about public listings",
        "download_batches": "numbers of nobody",
    }
    db = env.db.connection()
    queries = " ".join(EXPORTED.values())
    for (table,) in db.all("SELECT name FROM sqlite_schema WHERE type = 'table'"):
        if not table.startswith(("sqlite_", "_litestream", "listing_words")):
            assert (table in apart) != (
                re.search(rf"(FROM|JOIN) {table}\b", queries) is not None
            ), table


@pytest.mark.parametrize("choice", ["keep", "withdraw"])
def test_an_erased_account_leaves_nothing_personal(
    client: Client, alice: Account, choice: str
) -> None:
    client.published(alice, NOTES)
    client.verified(alice)
    client.app_of(alice, "com.acme.draft")
    client.post("/v1/keys", {"name": "ci", "scopes": ["apps:read"]}, as_=alice).expect(201)
    name = "Alicia Of-All-Places"
    client.patch("/v1/auth/me", {"name": name}, as_=alice).expect(200)
    client.post("/v1/webhooks", {"url": f"https://hooks.example/{alice.email}"}, as_=alice).expect(
        201
    )
    client.admin()
    client.work()
    client.post("/v1/auth/password/forgot", {"email": alice.email.upper()}).expect(
        202
    )  # still in the queue
    db = client.env.db.connection()
    with db.write():
        email_tokens.issue(db, "invite", alice.email)  # from before she had an account
        db.change(
            "UPDATE jobs SET last_error = ? WHERE kind = 'mail_event'",
            f"SMTPRecipientsRefused: {alice.email}: no such user",
        )
    client.delete("/v1/auth/me", {"password": "wrong"}, as_=alice).expect(
        401, "invalid_credentials"
    )
    client.delete("/v1/auth/me", {"password": PASSWORD, "apps": choice}, as_=alice).expect(204)
    client.get("/v1/auth/me", as_=alice).expect(401)
    client.post("/v1/auth/login", {"email": alice.email, "password": PASSWORD}).expect(
        401, "invalid_credentials"
    )
    dump = "\n".join(client.env.db.connection()._raw.iterdump())
    assert alice.email.casefold() not in dump.casefold()
    assert name not in dump
    left = "".join(path.read_text() for path in client.env.mailer.folder.iterdir())
    assert alice.email not in left
    assert "root@example.net" in left
    assert "com.acme.draft'" not in [
        row[0] for row in client.env.db.connection().all("SELECT package_id FROM apps")
    ]
    shown = client.get(f"/v1/store/apps/{NOTES}")
    if choice == "keep":
        assert shown.expect(200)["developer"]["name"] == "A former developer"
    else:
        shown.expect(404)
    assert audit.verify(client.env.db.connection()) > 0
    client.register()  # the address is free again


def test_an_erased_account_is_not_named_in_what_others_were_notified_of(
    client: Client, alice: Account, rita: Account
) -> None:
    """Every event that names an account, to other owners and to reviewers."""
    bob = client.verified(client.register("bob"))
    name = "Zebulon Quux"
    client.patch("/v1/auth/me", {"name": name}, as_=bob).expect(200)

    def accept(invitation: str) -> None:
        token = tokens.make_ticket(client.env.secret, invitation)
        client.post(f"/v1/invitations/{token}/accept", as_=bob).expect(200)

    invite = {"email": bob.email, "role": "publisher"}
    for role in ("owner", "publisher", "owner"):
        sent = client.post(f"/v1/apps/{NOTES}/members", invite, as_=alice)
        if sent.status == 201:
            accept(sent["id"])
        client.patch(f"/v1/apps/{NOTES}/members/{bob.id}", {"role": role}, as_=alice).expect(200)
    client.upload(NOTES, client.package(alice), as_=bob, query="?submit=true").expect(201)
    client.work()
    at = f"/v1/apps/{NOTES}/versions/1.0.0"
    review = client.get(at, as_=bob)["review"]["id"]
    client.post(f"/v1/reviews/{review}/claim", as_=rita).expect(200)
    client.post(f"{at}/messages", {"text": f"I am {name}, {bob.email}"}, as_=bob).expect(201)
    client.post(f"/v1/reviews/{review}/approve", as_=rita).expect(200)
    client.post(f"{at}/publish", as_=bob).expect(200)
    client.delete(f"/v1/apps/{NOTES}/members/{bob.id}", as_=bob).expect(204)
    client.post(f"/v1/apps/{NOTES}/transfer", {"email": bob.email.upper()}, as_=alice).expect(201)
    about = {"app.member_invited", "app.member_added", "app.member_changed", "app.member_removed"}
    assert about | {"app.released", "app.transfer_offered"} <= set(kinds(client, alice))
    assert "review.message" in kinds(client, rita)
    client.delete("/v1/auth/me", {"password": PASSWORD}, as_=bob).expect(204)
    client.work()
    dump = "\n".join(client.env.db.connection()._raw.iterdump())
    for word in (name, bob.email):
        assert word.casefold() not in dump.casefold()
    named = [each for each in client.notifications(alice) if "A former developer" in each["text"]]
    assert len(named) >= 6
