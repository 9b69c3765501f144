"""The errors of the portal: one family, each with a stable code. A code is part of the contract and
never changes; the detail tells the reader what to do and may be improved. The HTTP status of a
code is in mosis/problems.py, not here: a job or a command can fail for the same reason."""

from collections.abc import Iterable, Sequence
from typing import Any


class PortalError(Exception):
    """An error with a stable `code`, a `detail` for people, `errors` (findings), and `facts`,
    members that are added to the problem document."""

    def __init__(
        self, code: str, detail: str, *, errors: Iterable[dict[str, Any]] = (), **facts: Any
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.facts = facts


class Malformed(PortalError):
    """The request cannot be parsed."""


class MalformedRequest(Malformed):
    """Malformed `malformed_request`: what no more specific code says."""

    def __init__(self, detail: str) -> None:
        super().__init__("malformed_request", detail)


class Internal(PortalError):
    """What nobody has thought of; the log has it."""

    def __init__(self) -> None:
        super().__init__(
            "internal",
            "An unexpected error occurred; the operator finds it in the log under this request id.",
        )


class Invalid(PortalError):
    """The content of the request is invalid; `errors` are all findings {pointer, code, detail}."""

    def __init__(
        self, errors: Iterable[dict[str, Any]], code: str = "invalid", detail: str = ""
    ) -> None:
        found = list(errors)
        super().__init__(code, detail or f"{len(found)} finding(s); see errors.", errors=found)


class Denied(PortalError):
    """Nobody is signed in, or the caller may not do this. Where existence must not be disclosed,
    NotFound is raised instead."""


class NotFound(PortalError):
    """There is no such object, or the caller may not know that there is."""

    def __init__(self, what: str) -> None:
        super().__init__("not_found", f"There is no such {what}, or you have no access to it.")


class Conflict(PortalError):
    """The request is valid, but the state of the object does not allow it."""


class InvalidState(Conflict):
    """Conflict `invalid_state`: names the state and the transitions that it allows."""

    def __init__(self, detail: str, state: str, allowed: Sequence[str] = ()) -> None:
        super().__init__("invalid_state", detail, state=state, allowed=[*allowed])


class LimitReached(PortalError):
    """Too large, too many or too often; `retry_after_seconds` says when a retry may succeed."""


class Unavailable(PortalError):
    """Not possible now (busy, disk full, damaged file). Nothing has changed; try again."""
