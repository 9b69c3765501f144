"""Sending mail by SMTP (RFC 5321), or writing it into a folder if no server is configured."""

import os
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from mosis.records import dataclass
from mosis.validation.names import one_line

if TYPE_CHECKING:
    from email.message import EmailMessage
    from smtplib import SMTP

TIMEOUT_SECONDS = 15  # for every wait
WHOLE_SECONDS = 60.0  # for a connection or a message
IDLE_SECONDS = 10.0  # idle connections are closed after this
LINE_BYTES = 998  # of a line (RFC 5321, section 4.5.3.1.6); servers refuse longer ones
MESSAGES_OF_ONE = 100  # messages per connection; servers close longer ones


@dataclass(frozen=True)
class Written:
    """A message in the mail folder; `written_at` in seconds since 1970."""

    path: Path
    to: str
    subject: str
    written_at: float


def paragraph(text: str, indent: str = "") -> str:
    """Text in lines of at most 72 characters; links and other long words are not broken."""
    lines = (
        textwrap.fill(
            line,
            72,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.splitlines()
    )
    return "\n".join(lines)


class Mailer:
    """Sends plain text with the sender name `name`.

    `url` is smtp://user:password@host:port?starttls=1 or smtps://...; None writes into `folder`.

    Thread-safe. Connections stay open for IDLE_SECONDS and are reused; call `close_idle`
    periodically.
    """

    def __init__(self, url: str | None, sender: str, folder: Path, name: str = "") -> None:
        self.url = url
        self.name = name
        self.sender = sender
        self.folder = folder
        self._open: list[_Idle] = []
        self._lock = threading.Lock()

    def close_idle(self, idle_seconds: float = IDLE_SECONDS) -> None:
        """Close connections that were idle for IDLE_SECONDS."""
        before = time.monotonic() - idle_seconds
        with self._lock:
            ended = [each for each in self._open if each.since <= before]
            self._open = [each for each in self._open if each.since > before]
        for each in ended:
            _quit(each.server)

    def send(
        self,
        to: str,
        subject: str,
        text: str,
        message_id: str,
        *,
        settings_url: str | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Send the message if `is_wanted` returns true. It is called immediately before sending,
        and for the folder also afterwards, so that an account erased meanwhile leaves no mail. The
        same message must have the same `message_id`, so that a mailbox can recognize a repetition.
        Raises OSError or smtplib.SMTPException if the server does not accept it."""
        if not is_wanted():
            return
        from email.headerregistry import Address
        from email.message import EmailMessage

        message = EmailMessage()
        sender = Address(self.name, addr_spec=self.sender)
        message["From"], message["To"] = sender, to
        message["Subject"] = one_line(subject)  # the library refuses line separators in a header
        message["Date"] = datetime.now(UTC)
        message["Message-ID"] = (
            f"<{message_id}@{self.sender.rpartition('@')[2].rstrip('>') or 'localhost'}>"
        )
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: suppresses automatic replies
        if settings_url is not None:
            message["List-Unsubscribe"] = f"<{settings_url}>"  # RFC 2369
        # Quoted-printable only where it must be: its soft line breaks would break links, which are
        # copied from mail files.
        longest = max(map(len, text.encode().splitlines()), default=0)
        plain = "7bit" if text.isascii() else "8bit"
        message.set_content(text, cte=plain if longest <= LINE_BYTES else "quoted-printable")
        if self.url is None:
            written = self._write(message, message_id)
            if not is_wanted():
                written.unlink(missing_ok=True)
        else:
            self._hand_over(self.url, message)

    def _write(self, message: "EmailMessage", message_id: str) -> Path:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.folder / f"{message_id}.part"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(bytes(message))
        return fresh.replace(self.folder / f"{message_id}.eml")

    def waiting(self) -> Iterator[tuple[Path, str]]:
        """The messages in the folder, oldest first: the file, and the message as a reader sees it."""
        from email import message_from_bytes, policy

        for path in sorted(self.folder.glob("*.eml"), key=lambda path: path.stat().st_mtime):
            message = message_from_bytes(path.read_bytes(), policy=policy.default)
            head = (f"{name}: {message[name]}" for name in ("From", "To", "Date", "Subject"))
            body = message.get_body(("plain",))
            yield path, "\n".join([*head, "", body.get_content() if body else ""])

    def written_to(self, address: str) -> list[Written]:
        """The messages in the folder that are addressed to this address."""
        return [each for each in self._folder() if each.to.lower() == address.lower()]

    def sweep(self, before: float, latest: float, is_known: Callable[[str], bool]) -> None:
        """Remove messages from the folder that were written before this time (seconds since 1970),
        are dated after `latest`, or whose recipient is unknown."""
        for each in self._folder():
            if not before <= each.written_at <= latest or not is_known(each.to):
                each.path.unlink(missing_ok=True)

    def _folder(self) -> Iterator[Written]:
        from email import message_from_bytes, policy

        for path in sorted(self.folder.glob("*.eml")):
            with suppress(FileNotFoundError):  # removed by another sweep
                message = message_from_bytes(path.read_bytes(), policy=policy.default)
                yield Written(
                    path, str(message["To"]), str(message["Subject"]), path.stat().st_mtime
                )

    def try_out(self, to: str) -> str | None:
        """Why the server would refuse a message to this address, or None; nothing is sent."""
        import smtplib

        try:
            with self._session(self.url or "") as server, _bounded(server):
                server.ehlo_or_helo_if_needed()
                for step in (partial(server.mail, self.sender), partial(server.rcpt, to)):
                    code, answer = step()
                    if code >= 400:
                        return f"{code} {answer.decode('utf-8', 'replace')}"
                server.rset()
        except (OSError, smtplib.SMTPException) as error:
            return reason(error)
        return None

    def _hand_over(self, url: str, message: "EmailMessage") -> None:
        connection = self._reused(url) or _Idle(url, _connect(url))
        try:
            with _bounded(connection.server):
                if connection.server.has_extn("8bitmime"):
                    connection.server.send_message(message, mail_options=("BODY=8BITMIME",))
                else:
                    if message["Content-Transfer-Encoding"] == "8bit":
                        message.set_content(message.get_content(), cte="quoted-printable")
                    connection.server.send_message(message)
        except BaseException:
            connection.server.close()
            raise
        connection.messages += 1
        connection.since = time.monotonic()
        if connection.messages < MESSAGES_OF_ONE:
            with self._lock:
                self._open.append(connection)
        else:
            _quit(connection.server)

    def _reused(self, url: str) -> "_Idle | None":
        """An idle connection on which the server still answers. This is checked before a message is
        begun, because a message must not be sent twice when a connection has ended."""
        import smtplib

        while True:
            with self._lock:
                if not self._open:
                    return None
                found = self._open.pop()
            with suppress(OSError, smtplib.SMTPException), _bounded(found.server):
                if found.url == url and found.server.noop()[0] == 250:
                    return found
            found.server.close()

    @contextmanager
    def _session(self, url: str) -> Iterator["SMTP"]:
        server = _connect(url)
        try:
            yield server
        finally:
            _quit(server)


@dataclass
class _Idle:
    """A connection that is not in use; `since` is when it was last used (monotonic)."""

    url: str
    server: "SMTP"
    messages: int = 0
    since: float = 0.0


def _connect(url: str) -> "SMTP":
    """A connection to the server, with encryption and sign-in as `url` says."""
    import smtplib
    import ssl

    parts = urlsplit(url)
    secure = parts.scheme == "smtps"
    starttls = parse_qs(parts.query).get("starttls", ["0"])[0] in ("1", "true", "on")
    context = ssl.create_default_context()
    host, port = (
        parts.hostname or "localhost",
        parts.port or (465 if secure else 587 if starttls else 25),
    )
    server = (
        smtplib.SMTP_SSL(timeout=TIMEOUT_SECONDS, context=context)
        if secure
        else smtplib.SMTP(timeout=TIMEOUT_SECONDS)
    )
    server._host = host  # type: ignore[attr-defined]  # of the certificate; `connect` does not set it
    try:
        with _bounded(server):
            code, banner = server.connect(host, port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, banner)
            if starttls:
                server.starttls(context=context)
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
    except BaseException:
        server.close()
        raise
    return server


@contextmanager
def _bounded(server: "SMTP") -> Iterator[None]:
    """Shut the connection down when this takes longer than WHOLE_SECONDS: a server that sends a line
    now and then never reaches the time limit of a single wait."""
    alarm = threading.Timer(WHOLE_SECONDS, _shut, [server])
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _shut(server: "SMTP") -> None:
    with suppress(OSError, AttributeError):  # it has no socket before it is connected
        server.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def _quit(server: "SMTP") -> None:
    """End the session with QUIT, ignoring errors."""
    import smtplib

    with suppress(OSError, smtplib.SMTPException), _bounded(server):
        server.quit()
    server.close()


def reason(error: Exception) -> str:
    """Why a message was not sent, in the words of the mail server or the operating system."""
    import smtplib

    code: Any = getattr(error, "smtp_code", None)
    text: Any = getattr(error, "smtp_error", b"")
    if isinstance(error, smtplib.SMTPRecipientsRefused) and error.recipients:
        code, text = next(iter(error.recipients.values()))
    if code is not None:
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        return f"The mail server answers {code} {shown}"[:500]
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "The mail server has closed the connection."
    if isinstance(error, smtplib.SMTPException):
        return "The mail server does not support what the settings ask for."
    found = error.strerror if isinstance(error, OSError) else None
    return f"The connection to the mail server failed: {found or 'it took too long'}."
