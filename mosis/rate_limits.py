"""Rate limits: token buckets in memory, one per policy and key. A restart fills them.

Sign-in attempts are counted per account and network together, so that nobody can lock somebody else
out.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic

from mosis.errors import LimitReached
from mosis.records import dataclass

MOST_KEYS = 5000  # of one policy, about 1.6 MiB; who has more addresses has as many limits anyway


class TokenBuckets:
    """Token buckets by key: each holds up to `burst` tokens and gains `per_second`. Full ones, and the
    least recently used beyond MOST_KEYS, are dropped."""

    def __init__(
        self, per_second: float, burst: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self.per_second = per_second
        self.burst = burst
        self.clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key: (tokens, when)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, key: str, tokens: float = 1) -> float:
        """Take tokens: 0 if there were enough, else the seconds until there are; then none is taken."""
        now = self.clock()
        with self._lock:
            left, since = self._levels.pop(key, (self.burst, now))
            left = min(self.burst, left + (now - since) * self.per_second)
            fits = left >= tokens
            self._levels[key] = (left - tokens if fits else left, now)
            for _ in range(min(2, len(self._levels))):  # more than are added
                _, since = next(iter(self._levels.values()))
                is_full = (now - since) * self.per_second >= self.burst
                if is_full or len(self._levels) > MOST_KEYS:
                    self._levels.popitem(last=False)
        return 0.0 if fits else (tokens - left) / self.per_second

    def left(self, key: str) -> float:
        """The tokens left after the last `take`."""
        with self._lock:
            return self._levels.get(key, (self.burst, 0.0))[0]


@dataclass(frozen=True)
class Policy:
    """`quota` requests in `window_seconds`, spent at once or evenly."""

    quota: int
    window_seconds: int


POLICIES = {
    "account": Policy(1200, 60),  # all requests of an account
    "address": Policy(600, 60),  # requests from an address without an account
    "store": Policy(3000, 60),  # reads of the store from an address; many clients may share one
    "telemetry": Policy(600, 60),  # batches and crash reports from an address
    "replay": Policy(10_000, 60),  # past events sent to an account over WebSockets
    "device_data": Policy(10, 60),  # exports and erasures of a device's telemetry from an address
    "listing": Policy(
        20, 60
    ),  # changes of published listings by an account; each invalidates cached responses
    "names": Policy(10, 86_400),  # changes of an account's name; the store and reviewers see each
    "sign_in": Policy(10, 300),  # for an account from one network
    "sign_in_network": Policy(100, 300),  # from one network
    "sign_in_all": Policy(1200, 60),  # on the whole portal: the number that two cores can hash
    "code": Policy(10, 900),  # codes of a second factor tried for one account from one network
    "code_all": Policy(30, 3600),  # from all networks together: 1 in 460 guesses right in a day
    "registration": Policy(20, 3600),  # from one network
    "mail": Policy(5, 3600),  # to one address
    "invitations": Policy(30, 3600),  # sent by one account, to work on its apps or take them over
    # to one address; separate from `mail`, which resets passwords
    "invitations_to": Policy(5, 3600),
    "mail_network": Policy(30, 3600),  # requested from one network
    "device": Policy(30, 900),  # device logins started from one network
    "exchange": Policy(120, 900),  # ID tokens of build servers exchanged from one network
    "guess": Policy(10, 900),  # user codes tried by one account
    "changes": Policy(
        1000, 3600
    ),  # all changes by an account; each writes a line to the audit trail
    "upload": Policy(120, 3600),  # packages of an account
    "version_moves": Policy(30, 3600),  # of one version; halting and yanking are never refused
    "abuse_reports": Policy(10, 3600),  # by one account, or from one network
    "report": Policy(30, 60),  # leaked keys reported from one network
}


@dataclass(frozen=True)
class Taken:
    """What is left of a bucket, and the seconds until it is full, or, if empty, has one token."""

    name: str
    left: int
    reset_seconds: int


def headers(taken: Sequence[Taken]) -> list[tuple[str, str]]:
    """RateLimit-Policy and RateLimit of a request (draft-ietf-httpapi-ratelimit-headers)."""
    if not taken:
        return []
    policies = [(each.name, POLICIES[each.name]) for each in taken]
    return [
        (
            "RateLimit-Policy",
            ", ".join(
                f'"{name}";q={policy.quota};w={policy.window_seconds}' for name, policy in policies
            ),
        ),
        (
            "RateLimit",
            ", ".join(f'"{each.name}";r={each.left};t={each.reset_seconds}' for each in taken),
        ),
    ]


class Limits:
    """All buckets; thread-safe."""

    def __init__(self, on: bool = True, clock: Callable[[], float] = monotonic) -> None:
        self.on = on
        self._buckets = {
            name: TokenBuckets(policy.quota / policy.window_seconds, policy.quota, clock)
            for name, policy in POLICIES.items()
        }

    def take(self, name: str, key: str, tokens: int = 1) -> Taken | None:
        """Take tokens; None if limits are off. Raises LimitReached with `retry_after_seconds`."""
        if not self.on:
            return None
        policy, bucket = POLICIES[name], self._buckets[name]
        wait = math.ceil(bucket.take(key, tokens))
        if wait:
            detail = f"Too many requests ({policy.quota} in {policy.window_seconds} s); try again in {wait} s."
            raise LimitReached("rate_limited", detail, retry_after_seconds=wait, policy=name)
        left = bucket.left(key)
        return Taken(name, int(left), math.ceil((policy.quota - left) / bucket.per_second))
