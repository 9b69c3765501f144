"""Raised by a long-poll handler to suspend its request."""

from collections.abc import Callable


class Suspended(BaseException):
    """The request is dispatched again when the subscription that `arm` makes fires, or after `seconds`. Not an Exception,
    so that no handler on the way turns it into a response."""

    def __init__(
        self, seconds: float, arm: Callable[[Callable[[], None]], Callable[[], None]]
    ) -> None:
        super().__init__()
        self.seconds = seconds
        self.arm = arm
        self.until = 0.0  # monotonic
        self.end: Callable[[], None] | None = None  # ends the subscription
