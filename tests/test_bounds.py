"""Everything an account can store has a bound: what is swept, what mails are sent, and that no table is forgotten."""

import re
import smtplib
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis import events, jobs
from mosis.context import Context
from mosis.database import Connection, new_id
from mosis.notifications import feed, webhooks
from mosis.outbound import mail
from mosis.people import revocation
from mosis.worker import Worker
from tests.client import Account, Client
from tests.conftest import FakeClock
from tests.server import free_port

DAY = 24 * 3600


def account(db: Connection, id: str) -> None:
    db.insert("developers", id=id, email=f"{id}@example.net", name=id, created_at=db.now)


def count(env: Context, table: str, where: str = "1") -> int:
    return int(env.db.connection().value(f"SELECT count(*) FROM {table} WHERE {where}"))


def test_every_table_has_a_row_in_the_table_of_bounds() -> None:
    chapter = (portal.HERE / "docs/OPERATIONS.md").read_text().partition("## Bounds")[2]
    rows = re.findall(r"^\| (`.*?`) \|", chapter.partition("\n## ")[0], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    tables = set(re.findall(r"CREATE TABLE (\w+)", (portal.HERE / "schema.sql").read_text()))
    assert tables - {"listing_tags", "store_state"} <= named


def test_events_go_after_ninety_days_and_beyond_a_number(env: Context, clock: FakeClock) -> None:
    db = env.db.connection()
    with db.write():
        for owner in ("greedy", "modest"):
            account(db, owner)
        old = events.add(db, "modest", "version.published")
        for _ in range(1200):
            events.add(db, "greedy", "version.published")
    clock.advance(events.RETENTION_SECONDS + 1)
    with db.write():
        recent = events.add(db, "modest", "version.published")
    events.sweep(env)
    assert (events.find(db, old), count(env, "events")) == (None, 1)
    with db.write():
        for number in range(events.MOST_STORED + 1500):
            db.insert("events", id=f"e{number:05}", developer_id="greedy", kind="version.published",
                      created_at=db.now)  # fmt: skip
    events.sweep(env)
    assert count(env, "events", "developer_id = 'greedy'") == events.MOST_STORED
    assert db.value("SELECT min(id) FROM events WHERE developer_id = 'greedy'") == "e01500"
    assert events.find(db, recent) is not None


def test_the_log_of_a_webhook_is_bounded(env: Context) -> None:
    db = env.db.connection()
    with db.write():
        account(db, "a")
        for name, many in (("busy", webhooks.MOST_LOGGED + events.MOST_WAITING + 5), ("quiet", 3)):
            db.insert("webhooks", id=name, developer_id="a", url="u", secret="whsec_x",
                      enabled=0, created_at=db.now)  # fmt: skip
            event = events.add(db, "a", "version.published")
            for _ in range(many):
                db.insert("webhook_deliveries", id=new_id(), webhook_id=name, event_id=event, state="delivered",
                          due_at=db.now, begun_at=db.now, created_at=db.now, finished_at=db.now)  # fmt: skip
    webhooks.sweep(env)
    assert count(env, "webhook_deliveries", "webhook_id = 'busy'") == webhooks.MOST_LOGGED
    assert count(env, "webhook_deliveries", "webhook_id = 'quiet'") == 3


def row(db: Connection, table: str, owner: str, number: int, live: bool) -> dict[str, Any]:
    """A row of an account that ended, or lives."""
    of: dict[str, dict[str, Any]] = {
        "sessions": {"seed": b"x", "last_used_at": db.now, "expires_at": "2099-01-01T00:00:00Z",
                     "ended_at": None if live else db.now},
        "api_keys": {"name": "k", "prefix": "p", "hash": f"{owner}{number}", "scopes": "[]",
                     "revoked_at": None if live else db.now},
        "signing_keys": {"name": "k", "public_key": f"{owner:>16}{number:016}".encode(), "fingerprint": "f",
                         "state": "active" if live else "revoked", "revoked_at": None if live else db.now},
        "idempotency": {"body_mac": "m", "answer": b"a", "expires_at": "2099-01-01T00:00:00Z"},
    }  # fmt: skip
    made = {} if table == "idempotency" else {"created_at": db.now}
    return {"id": f"{owner}-{number:05}", "developer_id": owner} | made | of[table]


@pytest.mark.parametrize("table", revocation.ROWS_PER_ACCOUNT)
def test_of_what_ended_each_account_keeps_the_newest(env: Context, table: str) -> None:
    most, db = revocation.ROWS_PER_ACCOUNT[table][2], env.db.connection()
    with db.write():
        for owner, ended in (("greedy", most + 7), ("modest", 3)):
            account(db, owner)
            for number in range(ended):
                db.insert(table, **row(db, table, owner, number, live=False))
        if table != "idempotency":
            db.insert(table, **row(db, table, "greedy", 99_999, live=True))
    revocation.sweep_rows(env)
    live = table != "idempotency"
    counted = most + (
        1 if live and table != "sessions" else 0
    )  # live keys have limits of their own
    assert count(env, table, "developer_id = 'greedy'") == counted
    assert count(env, table, "developer_id = 'modest'") == 3
    assert count(env, table, "id = 'greedy-00000'") == 0
    assert count(env, table, "id = 'greedy-99999'") == int(live)


def test_a_revoked_signing_key_that_a_version_names_stays(client: Client) -> None:
    alice = client.register()
    client.app_of(alice)
    client.upload("com.acme.notes", client.package(alice), as_=alice).expect(201)
    db = client.env.db.connection()
    with db.write():
        db.change("UPDATE signing_keys SET state = 'revoked', revoked_at = '2000-01-01T00:00:00Z'")
        for number in range(revocation.ROWS_PER_ACCOUNT["signing_keys"][2] + 1):
            db.insert(
                "signing_keys",
                **row(db, "signing_keys", alice.id, number, live=False)
                | {"public_key": b"%032d" % number},
            )
    revocation.sweep_rows(client.env)
    assert count(client.env, "signing_keys", "revoked_at = '2000-01-01T00:00:00Z'") == 1
    assert count(client.env, "signing_keys") == revocation.ROWS_PER_ACCOUNT["signing_keys"][2] + 1


# Mails


def mails(env: Context) -> list[str]:
    return [each.subject for each in env.mailer._folder()]


def happen(env: Context, owner: str, many: int, kind: str = "version.approved") -> None:
    db = env.db.connection()
    with db.write():
        for _ in range(many):
            events.add(db, owner, kind, package_id="com.acme.notes", version="1.0.0")


@pytest.mark.parametrize("kind", ["version.approved", "security.password_changed"])
def test_mails_of_an_account_are_bounded_and_the_rest_is_summed_up(
    env: Context, clock: FakeClock, kind: str
) -> None:
    db, sent = env.db.connection(), []
    with db.write():
        account(db, "a")
    for _ in range(3):  # three hours
        for _ in range(40):
            happen(env, "a", 3, kind)
            Worker(env).run_due()
            clock.advance(90)
        sent.append(len(mails(env)))
    assert sent[0] == feed.MAILS_AN_HOUR
    assert all(later - before <= feed.MAILS_AN_HOUR + 1 for before, later in pairwise(sent))
    assert any("notifications" in each for each in mails(env))
    clock.advance(2 * 3600)
    Worker(env).run_due()
    assert count(env, "events", "mail_due = 1") == 0  # nothing is lost
    text = "".join(path.read_text() for path in env.mailer.folder.iterdir())
    assert text.count("1.0.0 was approved") + text.count("password was changed") >= (
        360 if kind == "version.approved" else 1
    )


def test_security_notices_do_not_wait_behind_others(env: Context) -> None:
    db = env.db.connection()
    with db.write():
        account(db, "a")
    happen(env, "a", feed.MAILS_AN_HOUR * 3)
    Worker(env).run_due()
    happen(env, "a", feed.MAILS_AN_HOUR * 3)
    happen(env, "a", 1, "security.password_changed")
    Worker(env).run_due()
    assert any("password was changed" in each for each in mails(env))


class Mailbox:
    """A real SMTP server on 127.0.0.1 that counts its connections."""

    def __init__(self) -> None:
        from aiosmtpd.controller import Controller
        from aiosmtpd.smtp import SMTP

        self.taken: list[bytes] = []
        self.connections = 0
        self.protocols: list[Any] = []
        outer = self

        class Counting(Controller):
            def factory(self) -> Any:
                outer.connections += 1
                outer.protocols.append(SMTP(outer))
                return outer.protocols[-1]

        self.port = free_port()
        self.controller = Counting(self, hostname="127.0.0.1", port=self.port, ready_timeout=60)
        self.controller.start()
        self.connections = 0  # the controller tries its own port

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append(envelope.content)
        return "250 taken"

    def drop(self) -> None:
        """End every connection, as servers do that have waited long enough."""
        done = threading.Event()

        def close() -> None:
            for each in self.protocols:
                if each.transport is not None:
                    each.transport.abort()
            done.set()

        self.controller.loop.call_soon_threadsafe(close)
        assert done.wait(60)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.controller.stop()


@pytest.fixture
def mailer(mailbox: Mailbox, tmp_path: Path) -> Iterator[mail.Mailer]:
    made = mail.Mailer(f"smtp://127.0.0.1:{mailbox.port}", "portal@example.net", tmp_path)
    yield made
    made.close_idle(0)


def test_many_messages_share_one_connection(mailbox: Mailbox, mailer: mail.Mailer) -> None:
    for number in range(20):
        mailer.send(f"a{number}@example.net", "Hello", "text", f"id-{number}")
    assert (len(mailbox.taken), mailbox.connections) == (20, 1)


def test_a_connection_that_the_server_ended_is_replaced_and_nothing_is_sent_twice(
    mailbox: Mailbox, mailer: mail.Mailer
) -> None:
    for number in range(4):
        mailer.send("a@example.net", "Hello", "text", f"id-{number}")
        mailbox.drop()
    assert (len(mailbox.taken), mailbox.connections) == (4, 4)


def test_a_connection_is_not_kept_for_ever(
    mailbox: Mailbox, mailer: mail.Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "MESSAGES_OF_ONE", 3)
    for number in range(7):
        mailer.send("a@example.net", "Hello", "text", f"id-{number}")
    assert mailbox.connections == 3
    assert len(mailer._open) == 1
    mailer.close_idle(60)
    assert len(mailer._open) == 1
    mailer.close_idle(0)
    assert mailer._open == []


def test_a_refused_message_leaves_no_connection_behind(
    mailbox: Mailbox, mailer: mail.Mailer
) -> None:
    async def refuse(*_: Any) -> str:
        return "550 no such user"

    mailbox.handle_RCPT = refuse  # type: ignore[attr-defined]
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        mailer.send("a@example.net", "Hello", "text", "id")
    assert mailer._open == []


def test_mails_of_one_account_do_not_hold_up_another_or_a_new_password(
    client: Client, mailbox: Mailbox
) -> None:
    """The whole way, with a greedy account first: every account's mail is out after one more message of the greedy one."""
    client.env.mailer.url = f"smtp://127.0.0.1:{mailbox.port}"
    greedy, modest = client.register("greedy"), client.register("modest")
    client.work()
    happen(client.env, greedy.id, 15)
    happen(client.env, modest.id, 1, "version.rejected")
    client.post("/v1/auth/password/forgot", {"email": modest.email}).expect(202)
    db, order = client.env.db.connection(), []
    while job := jobs.claim(db, "mail"):
        order.append(job.owner_id)
        jobs.finish(db, job, 1.0, feed.mail(client.env, **job.named_arguments))
    assert order == [greedy.id, modest.id]
    assert jobs.claim(db, "urgent_mail") is not None


def test_a_persons_mail_says_how_to_end_it(client: Client, env: Context) -> None:
    alice: Account = client.register()
    happen(env, alice.id, feed.MAILS_AN_HOUR + 5)
    happen(env, alice.id, 1, "version.rejected")
    client.work()
    (summary,) = [each for each in env.mailer._folder() if "notifications" in each.subject]
    text = summary.path.read_text().replace("=\n", "")  # quoted-printable
    assert f"{env.config.base_url}/console/account#mail" in text
