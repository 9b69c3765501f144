"""Output of commands: text or JSON to standard output, all else to standard error."""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

DONE, REFUSED, USAGE, REJECTED, FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


class Stop(Exception):
    """A command ends without success: message and exit code."""

    def __init__(self, message: str, code: int = REFUSED, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.facts = facts  # members of the JSON document


def printable(text: object) -> str:
    """Text from others, safe on a terminal: control and escape characters are replaced."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for letter in str(text)
    )


class Output:
    """Where a command writes. `as_json`: standard output holds one JSON document per result."""

    def __init__(self, as_json: bool = False, yes: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.yes = yes
        self.quiet = quiet
        plain = "NO_COLOR" in os.environ or "CI" in os.environ
        self.progress_shown = _is_terminal(sys.stderr) and not plain and not as_json and not quiet
        self.colours = _is_terminal(sys.stdout) and not plain and os.environ.get("TERM") != "dumb"
        self._line_open = False
        self._drawn = 0.0

    def result(self, document: Any, *lines: str) -> None:
        """The result of a command: the document with `--json`, else the lines."""
        self.end_progress()
        if self.as_json:
            print(json.dumps(document, ensure_ascii=False), flush=True)
        else:
            for line in lines:
                _write(sys.stdout, line)

    def note(self, message: str) -> None:
        """A remark, on standard error."""
        self.end_progress()
        if not self.quiet:
            _write(sys.stderr, printable(message))

    def error(self, message: str, facts: Mapping[str, Any], code: int) -> None:
        """The error that ended a command."""
        self.end_progress()
        if self.as_json:
            document = {"error": message, "exit_code": code} | dict(facts)
            print(json.dumps(document, ensure_ascii=False), flush=True)
        _write(sys.stderr, printable(f"mosis: {message}"))

    def progress(self, what: str, done: int, total: int) -> None:
        """A progress bar in bytes, drawn ten times a second at most, and only on a terminal."""
        now = time.monotonic()
        if not self.progress_shown or (done < total and now - self._drawn < 0.1):
            return
        self._drawn = now
        share = done / total if total else 1.0
        filled = int(share * 30)
        bar = "#" * filled + "-" * (30 - filled)
        sys.stderr.write(f"\r{what} [{bar}] {share:4.0%} of {size(total)} ")
        sys.stderr.flush()
        self._line_open = True

    def waiting(self, what: str) -> None:
        """A line that the next one replaces, on a terminal only."""
        if self.progress_shown:
            sys.stderr.write(f"\r\x1b[K{printable(what)}")
            sys.stderr.flush()
            self._line_open = True

    def end_progress(self) -> None:
        """Go to a new line where a progress bar stands."""
        if self._line_open:
            sys.stderr.write("\n")
            sys.stderr.flush()
            self._line_open = False

    def colour(self, text: str, name: str) -> str:
        """The text in a colour, where standard output shows colours."""
        return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if self.colours else text

    def confirm(self, question: str) -> None:
        """Ask before an action that cannot be undone. Raises Stop unless the answer is yes."""
        if self.yes:
            return
        if not can_ask():
            raise Stop(f"{question} There is no terminal to ask at; confirm with --yes.", USAGE)
        if self.ask(f"{question} [y/N]", "n").lower() not in ("y", "yes"):
            raise Stop("Nothing was changed.", REFUSED)

    def ask(self, question: str, default: str = "") -> str:
        """A line from the terminal; the default if it is empty or if there is no terminal."""
        if not can_ask():
            return default
        self.end_progress()
        shown = f" ({default})" if default and not question.endswith("]") else ""
        sys.stderr.write(printable(f"{question}{shown} "))
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise Stop("Nothing was changed, because the input ended.", USAGE)
        return line.strip() or default


def unreadable(name: object, error: OSError | UnicodeDecodeError) -> Stop:
    """The error for a file that cannot be read, or that is not text in the expected encoding."""
    if isinstance(error, UnicodeDecodeError):
        why = f"it is not text in {error.encoding.upper()}"
    else:
        why = error.strerror or str(error)
    return Stop(f"{name} cannot be read: {why}", USAGE)


def can_ask() -> bool:
    """Whether questions can be asked."""
    return _is_terminal(sys.stdin) and "CI" not in os.environ


def size(number: int) -> str:
    """A size as text."""
    if number < 1024:
        return f"{number} B"
    value = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024 or unit == "GiB":
            return f"{value:.1f} {unit}"
    raise AssertionError


def table(rows: Iterable[Iterable[Any]], *head: str) -> list[str]:
    """The lines of a table with aligned columns."""
    texts = [list(head)] + [
        ["-" if each is None else printable(each) for each in row] for row in rows
    ]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]


def _is_terminal(stream: TextIO) -> bool:
    return bool(stream and stream.isatty())


def _write(stream: TextIO, line: str) -> None:
    """Write a line; characters that the terminal's encoding does not know are escaped."""
    encoding = stream.encoding or "utf-8"
    text = line.encode(encoding, "backslashreplace").decode(encoding)
    print(text, file=stream, flush=True)
