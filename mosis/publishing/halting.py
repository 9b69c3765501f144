"""The decision to halt a rollout, from numbers of sessions and crashes, without a database.

docs/decisions/0080-halting-by-exact-tests.md has the reasons and the sources.
"""

from math import exp, inf, lgamma, log, log1p
from typing import Any

from mosis.records import dataclass

ERROR_RATE = 0.01  # of all tests of a round together, for a version that is no worse
LOOK_GROWTH = 1.4  # factor between the sessions of consecutive tests
LEAST_CRASHED_DEVICES = 3  # fewer are dominated by the individual devices
CRASHES_A_DAY = 3  # of a device that count in a test; its sessions count up to the last of them
SESSIONS_AT_LEAST = 200  # unless the plan says otherwise


@dataclass(frozen=True)
class Condition:
    """When to halt: the crash-free share of the sessions is below this, with at least this many
    sessions; `compared` with the previous version."""

    crash_free_below: float
    sessions_at_least: int = SESSIONS_AT_LEAST
    compared: bool = True

    @classmethod
    def of(cls, halt_when: dict[str, Any]) -> "Condition":
        """From the field `halt_when` of a plan."""
        return cls(
            halt_when["crash_free_below"],
            halt_when.get("sessions_at_least", SESSIONS_AT_LEAST),
            halt_when.get("compared_with", "previous") == "previous",
        )


@dataclass(frozen=True)
class Counts:
    """Sessions of one version. In the `bounded` numbers a device counts at most CRASHES_A_DAY
    crashes a day; `design_effect` is the number of sessions that carry as much information as one
    independent session."""

    version: str | None = None
    sessions: int = 0
    crashes: int = 0
    devices: int = 0
    crashed_devices: int = 0
    bounded_sessions: float = 0
    bounded_crashes: int = 0
    design_effect: float = 1.0

    @property
    def effective(self) -> tuple[int, int]:
        """Crashes and sessions as numbers of independent ones, for a test: (rounded down, rounded)."""
        crashes = int(self.bounded_crashes / self.design_effect)
        return crashes, max(crashes, round(self.bounded_sessions / self.design_effect))

    @property
    def crash_free_share(self) -> float | None:
        """The share of sessions without a crash; None without sessions."""
        return max(0.0, 1 - self.crashes / self.sessions) if self.sessions else None

    def public(self) -> dict[str, Any]:
        """In the form of events, mails and responses."""
        share = self.crash_free_share
        return {
            "version": self.version,
            "sessions": self.sessions,
            "crashes": self.crashes,
            "devices": self.devices,
            "crashed_devices": self.crashed_devices,
            "crash_free_share": None if share is None else round(share, 6),
        }


@dataclass(frozen=True)
class Verdict:
    """The result of a test. `next_look` is the number of sessions at which the next one is due."""

    halt: bool
    p_value: float
    bound: float  # what the p-value is compared with
    compared: bool  # with the previous version; otherwise with the bound of the plan
    next_look: int


def bounded_sessions(sessions: float, crashes: int) -> float:
    """The sessions of a device and day up to its crash number CRASHES_A_DAY, on average over all
    orders of its sessions. To stop counting at a crash leaves the rate of crashes as it is."""
    if crashes <= CRASHES_A_DAY:
        return sessions
    return CRASHES_A_DAY * (sessions + 1) / (crashes + 1)


def design_effect(
    sessions: float, crashes: int, crashes_squared: int, both: float, sessions_squared: float
) -> float:
    """How many times larger the variance of the crashes is than that of independent sessions, from
    the sums over devices of: sessions, crashes, crashes^2, crashes * sessions, sessions^2. At least 1.

    Devices differ, and a broken one crashes at every start. To divide both numbers by this factor and
    then test as usual is the method of Rao and Scott ("A simple method for the analysis of clustered
    binary data", Biometrics 48, 1992).
    """
    if not 0 < crashes < sessions:
        return 1.0
    rate = crashes / sessions
    between = crashes_squared - 2 * rate * both + rate * rate * sessions_squared
    return max(1.0, between / (sessions * rate * (1 - rate)))


def is_due(
    condition: Condition, counts: Counts, next_look: int, *, before_step: bool = False
) -> bool:
    """Whether there are enough sessions for the next test. Before a step that grows the share, any
    session since the last test is enough."""
    due = next_look / LOOK_GROWTH if before_step else next_look
    return counts.sessions >= condition.sessions_at_least and counts.sessions > due


def judge(condition: Condition, looks: int, counts: Counts, previous: Counts) -> Verdict:
    """Test whether a version crashes too often, after `looks` earlier tests of this round.

    The k-th test may err with 5 ERROR_RATE / ((k + 4) (k + 5)). These add up to ERROR_RATE, so all
    tests together err with that at most, however often one looks and however the data depend on each
    other over time (Bonferroni).
    """
    bound = 5 * ERROR_RATE / ((looks + 5) * (looks + 6))
    compared = condition.compared and previous.sessions >= condition.sessions_at_least
    crashes, sessions = counts.effective
    others = previous.effective
    p_value, rate = 1.0, 1 - condition.crash_free_below
    # Where it does not crash more often, the sum would be long and its result plain.
    if compared and crashes * others[1] > others[0] * sessions:
        p_value = fisher(crashes, sessions, *others)
    elif not compared and crashes > sessions * rate:
        p_value = binomial(crashes, sessions, rate)
    share = counts.crash_free_share
    halt = (
        share is not None
        and share < condition.crash_free_below
        and counts.crashed_devices >= LEAST_CRASHED_DEVICES
        and p_value <= bound
    )
    return Verdict(halt, p_value, bound, compared, int(counts.sessions * LOOK_GROWTH))


def fisher(crashes: int, sessions: int, other_crashes: int, other_sessions: int) -> float:
    """Fisher's exact test, one-sided: the probability of at least this many crashes among
    `sessions` if all crashes were distributed over all sessions by chance (R. A. Fisher, 1935)."""
    total, crashed = sessions + other_sessions, crashes + other_crashes
    whole = _choose(total, sessions)

    def term(number: int) -> float:
        return _choose(crashed, number) + _choose(total - crashed, sessions - number) - whole

    return _tail(crashes, min(crashed, sessions), term)


def binomial(crashes: int, sessions: int, rate: float) -> float:
    """The probability of at least this many crashes among `sessions` at this rate of crashes."""
    if rate <= 0:
        return 1.0 if crashes == 0 else 0.0
    if rate >= 1:
        return 1.0
    logs = log(rate), log1p(-rate)

    def term(number: int) -> float:
        return _choose(sessions, number) + number * logs[0] + (sessions - number) * logs[1]

    return _tail(crashes, sessions, term)


def _tail(first: int, last: int, term: Any) -> float:
    """The sum of exp(term) from `first` to `last`, without small terms behind the largest."""
    found, largest = 0.0, -inf
    for number in range(first, last + 1):
        each = term(number)
        found += exp(each)
        if each < largest and exp(each) < found * 1e-12:
            break
        largest = max(largest, each)
    return min(1.0, found)


def _choose(of: int, number: int) -> float:
    """The logarithm of the binomial coefficient; -inf where there is none."""
    if not 0 <= number <= of:
        return -inf
    return lgamma(of + 1) - lgamma(number + 1) - lgamma(of - number + 1)
