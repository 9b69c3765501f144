"""What the portal refuses: one family of errors, each with a stable code.

A code is part of the contract and never changes; the sentence beside it tells the reader what to do and may get better.
Which HTTP status a code has stands in mosis/problems.py, not here: a job or a command can fail for the same reason.
"""

from collections.abc import Iterable
from typing import Any


class PortalError(Exception):
    """A refusal with a stable `code`, a `detail` for people, `errors` (findings) and `facts` that go into the answer."""

    def __init__(
        self, code: str, detail: str, *, errors: Iterable[dict[str, Any]] = (), **facts: Any
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.facts = facts


class Malformed(PortalError):
    """The request cannot be read at all."""


class Invalid(PortalError):
    """The request was read, and its content is wrong; `errors` holds every finding as {pointer, code, detail}."""

    def __init__(
        self, errors: Iterable[dict[str, Any]], code: str = "invalid", detail: str = ""
    ) -> None:
        found = list(errors)
        super().__init__(code, detail or f"{len(found)} finding(s); see errors.", errors=found)


class Denied(PortalError):
    """Nobody is signed in, or whoever is may not do this. Existence is not given away: that is NotFound."""


class NotFound(PortalError):
    """There is no such thing, or the caller may not know that there is."""

    def __init__(self, what: str) -> None:
        super().__init__("not_found", f"There is no such {what}, or you have no access to it.")


class Conflict(PortalError):
    """The request is fine, but the state of things does not allow it."""


class LimitReached(PortalError):
    """Too large, too many or too often. `retry_after_seconds` in the facts says when it is worth trying again."""


class Unavailable(PortalError):
    """The portal cannot do it now (busy, disk full, damaged file); nothing was changed and trying again may help."""
