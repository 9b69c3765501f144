"""What mails say: every kind as text, with what happened, why, and a link to what comes next."""

import email.policy
import re
import smtplib
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

import portal
from mosis import events
from mosis.commands.application import build
from mosis.context import Context
from mosis.events import Event
from mosis.notifications import mails
from mosis.outbound import mail as outbound_mail
from mosis.outbound.mail import Mailer
from mosis.ui.rendering import TEMPLATES
from tests.client import PASSWORD, Client

LINK = re.compile(r"https?://\S+")
CRASH = {
    "type": "LuaError",
    "message": "attempt to index nil",
    "frame": "scripts/notes.lua:41 in save",
}
FACTS: dict[str, dict[str, Any]] = {
    "version.checked": {
        "state": "failed",
        "errors": [
            {"code": "lua_syntax", "path": "assets/main.lua", "line": 7, "detail": "Lua does not compile: '=' expected."},
            {"code": "check_timeout", "path": None, "line": None, "detail": "The checks took too long."},
        ],
    },
    "version.approved": {"comment": "Nice and small."},
    "version.rejected": {"reasons": ["privacy", "quality"], "comment": "Say what the camera is for.\nThanks – Rita"},
    "review.message": {"sender": "reviewer", "text": "Is the camera needed?"},
    "review.waiting": {"review": "0198c0de-0000-7000-8000-000000000000"},
    "version.rollout": {"percent": 25, "step": 2, "steps": 4},
    "review.digest": {
        "waiting": 1, "hours": 3,
        "reviews": [{"package_id": "com.acme.notes", "version": "1.1.0", "submitted_at": "2026-01-31T09:00:00Z"}],
    },
    "listing.rejected": {"fields": ["name"], "reasons": ["metadata"], "comment": "Not your bank."},
    "listing.developer_changed": {
        "name": "Acme", "account_id": "a", "before": "Alice", "before_id": "a", "apps": 2, "look_alike": "none",
    },
    "report.waiting": {"reason": "spam"},
    "app.suspended": {"comment": "It sends contacts away."},
    "app.released": {"by": "Bob"},
    "app.publisher_added": {"host": "token.actions.githubusercontent.com"},
    "app.member_invited": {"email": "bob@example.net", "role": "publisher"},
    "app.member_added": {"name": "Bob", "role": "publisher"},
    "app.member_changed": {"name": "Bob", "role": "owner"},
    "app.member_removed": {"name": "Bob", "role": "owner"},
    "app.transfer_offered": {"email": "bob@example.net"},
    "crash.new_group": CRASH,
    "crash.digest": {
        "new": 2, "summary": "LuaError: attempt to index nil; OOM: memory.",
        "groups": [CRASH | {"count": 12, "versions": ["1.0.0", "1.1.0"]},
            {"type": "OOM", "message": "memory", "count": 1, "versions": []}],
    },
    "security.signed_in_elsewhere": {"network": "192.0.2.0/24", "client": "curl/8"},
    "security.email_changed": {"network": "192.0.2.0/24"},
    "security.second_factor_on": {"network": "192.0.2.0/24"},
    "security.recovery_code_used": {"network": "192.0.2.0/24", "left": 9},
    "security.second_factor_failed": {"network": "192.0.2.0/24", "client": "curl/8"},
    "security.key_reported": {"name": "CI", "prefix": "mk_abc"},
    "security.provider_linked": {"network": "192.0.2.0/24", "provider": "github"},
    "key.expiring": {"name": "CI", "prefix": "mk_abc", "expires_at": "2026-12-01T00:00:00Z"},
    "operator.drill": {"passed": False, "findings": ["the replica is empty"]},
    "webhook.switched_off": {"host": "hooks.example", "why": "it answered 500 for three days"},
}  # fmt: skip
TOLD = {
    "version.checked": ("assets/main.lua:7: Lua does not compile", "lua_syntax", "package: The checks took"),
    "version.approved": ("Nice and small.",),
    "version.rejected": ("Reasons: privacy, quality.", "  Say what the camera is for.\n  Thanks – Rita"),
    "listing.rejected": ("Reasons: metadata.", "  Not your bank."),
    "review.message": ("  Is the camera needed?",),
    "review.digest": ("has\nwaited for about 3 hours.", "com.acme.notes 1.1.0, since 31 January 2026, 09:00 UTC"),
    "crash.new_group": ("LuaError: attempt to index nil", "at scripts/notes.lua:41 in save"),
    "crash.digest": ("2 new or returning kinds of crash.", "12 reports, versions 1.0.0", "1 report\n",
        "at scripts/notes.lua:41 in save"),
}  # fmt: skip


def event(kind: str, facts: dict[str, Any] | None = None) -> Event:
    import json

    data = json.dumps(FACTS.get(kind, {}) if facts is None else facts)
    stamp = "2026-01-31T12:05:00Z"
    return Event(1, f"id-{kind}", "dev", kind, "com.acme.notes", "1.0.0", data, stamp, None)


@pytest.mark.parametrize("kind", sorted(events.KINDS))
def test_every_kind_says_what_happened_why_and_what_to_do_next(client: Client, kind: str) -> None:
    subject, text = mails.compose(client.env, [event(kind)])
    base = client.env.config.base_url
    print(f"Subject: {subject}\n\n{text}")
    assert subject.endswith(" - Mosis apps")
    assert "31 January 2026, 12:05 UTC" in text
    assert "?" not in re.sub(r"camera needed\?", "", subject + text), "a fact is missing"
    for expected in TOLD.get(kind, ()):
        assert expected in text
    for line in text.splitlines():
        assert len(line) <= 72 or " " not in line.strip()
    link = LINK.findall(text)[0]
    assert link.startswith(base)
    assert f"\n{link}\n" in text, "a link stands on a line of its own"
    path, _, anchor = link.removeprefix(base).partition("#")
    if path.startswith("/docs/"):
        assert f'id="{anchor}"' in client.get(path).expect(200).body.decode()
    else:
        build(client.env).match({"REQUEST_METHOD": "GET", "PATH_INFO": path})
        pages = "".join(each.read_text() for each in TEMPLATES.glob("*.tpl"))
        assert not anchor or f'id="{anchor}"' in pages


def test_what_happens_to_a_version_is_mailed_with_the_page_of_that_version(
    client: Client,
) -> None:
    """The link is opened as its reader would; the version needs escaping in an address."""
    from tests.browser import Browser

    browser = Browser(client)
    alice = client.register()
    browser.sign_in(alice.email, PASSWORD)
    app = client.app_of(alice)
    client.upload(app, client.package(alice, app, "1.0.0+a", 1), as_=alice).expect(201)
    client.work()
    client.post(f"/v1/apps/{app}/versions/1.0.0+a/submit", {}, as_=alice).expect(200)
    for kind in (
        "version.checked",
        "version.rejected",
        "version.halted",
        "app.released",
        "crash.digest",
    ):
        occurred = replace(event(kind), version="1.0.0+a")
        link = LINK.findall(mails.compose(client.env, [occurred])[1])[0]
        path, _, anchor = link.removeprefix(client.env.config.base_url).partition("#")
        assert "1.0.0" in path or kind == "crash.digest"
        page = browser.open(path).body.decode()
        assert "com.acme.notes" in page
        assert not anchor or f'id="{anchor}"' in page, link


def test_a_message_leads_to_the_side_that_reads_it(client: Client) -> None:
    for sender, page in (
        ("reviewer", "/console/apps/com.acme.notes/versions/1.0.0#conversation"),
        ("developer", "/console/reviews"),
    ):
        _, text = mails.compose(
            client.env, [event("review.message", {"sender": sender, "text": "Why"})]
        )
        assert f"\n{client.env.url(page)}\n" in text


def test_several_come_in_one_mail_with_a_date_each(client: Client) -> None:
    subject, text = mails.compose(client.env, [event("version.checked"), event("crash.digest")])
    assert subject == "2 notifications - Mosis apps"
    assert text.count("31 January 2026, 12:05 UTC") == 2
    assert "Choose which mails you get:\n" in text


def test_text_of_others_cannot_imitate_the_mail(client: Client) -> None:
    facts = {"reasons": ["other"], "comment": "a\r\n-- \n\x1b[2Jhttps://evil.example/\u202e"}
    _, text = mails.compose(client.env, [event("version.rejected", facts)])
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\n  https://" in text or "  [2Jhttps://evil.example/" in text
    assert text.count("\n-- \n") == 1


def test_events_from_before_have_a_mail_too(client: Client) -> None:
    for kind in events.KINDS:
        assert mails.compose(client.env, [event(kind, {})])[1]


def written(folder: Path) -> EmailMessage:
    (path,) = folder.glob("*.eml")
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_the_head_has_date_sender_name_and_where_to_unsubscribe(tmp_path: Path) -> None:
    mailer = Mailer(None, "portal@example.net", tmp_path, "Läden, Inc.")
    link = "https://portal.example.net/console/link?x=" + "a" * 200
    mailer.send(
        "a@example.net", "Grüße", f"Grüße\n{link}\n", "id", settings_url="https://x.example/n"
    )
    message = written(tmp_path)
    assert message["From"].addresses[0].display_name == "Läden, Inc."
    assert message["From"].addresses[0].addr_spec == "portal@example.net"
    assert message["Date"].datetime.tzinfo is not None
    assert message["List-Unsubscribe"] == "<https://x.example/n>"
    assert message["Content-Transfer-Encoding"] == "8bit"
    (path,) = tmp_path.glob("*.eml")
    assert link.encode() in path.read_bytes(), "a link in the file can be copied"


def test_the_command_prints_waiting_mails_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_PATH", str(tmp_path / "portal.db"))
    assert portal.main(["mail"]) == 0
    assert "No mail to show" in capsys.readouterr().out
    Mailer(None, "p@example.net", tmp_path / "mail", "Store").send(
        "a@example.net", "Grüße", "ä", "id"
    )
    assert portal.main(["mail"]) == 0
    out = capsys.readouterr().out
    assert "Subject: Grüße" in out
    assert "\n\nä\n" in out


def test_a_new_password_from_the_command_line_opens_the_account(
    env: Context,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = {"email": "alice@example.net", "password": "three random words here", "name": "Alice"}
    client.post("/v1/auth/register", body).expect(201)
    for name in ("database_path", "packages_dir", "assets_dir"):
        monkeypatch.setenv(name.upper(), str(getattr(env.config, name)))
    assert portal.main(["admin", "password", "nobody@example.net"]) == 1
    assert portal.main(["admin", "password", "alice@example.net"]) == 0
    found = re.search(r"has the new password (\S+)", capsys.readouterr().out)
    assert found
    signed_in = {"email": "alice@example.net", "password": found[1]}
    client.post("/v1/auth/login", signed_in).expect(200)
    client.post("/v1/auth/login", {name: body[name] for name in ("email", "password")}).expect(401)


def test_every_mail_leads_to_the_choice_of_mails(client: Client) -> None:
    from tests.browser import Browser

    browser = Browser(client)
    browser.register()
    path, _, anchor = mails.SETTINGS.partition("#")
    assert f'id="{anchor}"' in browser.open(path).body.decode()
    for kind in events.KINDS:
        _, text = mails.compose(client.env, [event(kind)])
        assert text.endswith(f"Choose which mails you get:\n{client.env.url(mails.SETTINGS)}\n")


@pytest.mark.parametrize("kind", sorted(events.KINDS))
def test_no_text_of_others_changes_the_form_of_a_mail(
    client: Client, tmp_path: Path, kind: str
) -> None:
    """Headers of one line, and lines of at most 998 bytes (RFC 5322, section 2.1.1), in scripts that
    have no spaces too."""

    def hostile(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: hostile(each) for name, each in value.items()}
        if isinstance(value, list):
            return [hostile(each) for each in value]
        is_free = isinstance(value, str) and not value.startswith("2026")
        return "漢" * 700 + "\u2028\x85\r\nBcc: eve@example.net" if is_free else value

    facts = hostile(FACTS.get(kind, {"comment": "x"}))
    for several in ([event(kind, facts)], [event(kind, facts)] * 2):
        subject, text = mails.compose(client.env, several)
        assert not re.search(r"^Bcc:", text, re.MULTILINE), (
            "what others write is within a line or indented"
        )
    Mailer(None, "portal@example.net", tmp_path).send("a@example.net", subject, text, "id")
    message = written(tmp_path)
    assert message["Bcc"] is None
    assert message["Subject"].isprintable()
    assert message.get_content().count("漢") == text.count("漢")
    (path,) = tmp_path.glob("*.eml")
    assert max(map(len, path.read_bytes().splitlines())) <= 998


class Dripping:
    """A mail server that answers as it should up to a step, and from then on sends a line now and then."""

    def __init__(self, step: str) -> None:
        self.step, self.ended = step, threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            self._answer(connection, "banner", b"220 here\r\n")
            for line in lines:
                word = line.strip().lower()
                code = 354 if word == b"data" else 250
                step = "end" if word == b"." else word[:4].decode("latin-1")
                if step in ("ehlo", "mail", "rcpt", "data", "end", "noop"):
                    self._answer(connection, step, b"%d well\r\n" % code)

    def _answer(self, connection: socket.socket, step: str, answer: bytes) -> None:
        while step == self.step:
            connection.sendall(answer[:3] + b"-and\r\n")
            if self.ended.wait(0.02):
                return
        connection.sendall(answer)

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()
        self.socket.close()


@pytest.mark.parametrize("step", ["banner", "ehlo", "mail", "rcpt", "data", "end", "noop"])
def test_a_mail_server_that_drips_holds_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(outbound_mail, "WHOLE_SECONDS", 0.3)
    server = Dripping(step)
    mailer = Mailer(server.url, "portal@example.net", tmp_path)
    try:
        with pytest.raises((OSError, smtplib.SMTPException)):
            for number in range(2):  # the second one asks whether the connection is alive
                mailer.send("a@example.net", "x", "y", f"id-{number}")
                server.socket.close()  # another connection is refused
    finally:
        server.stop()
