"""A registry of counters and request durations, and the Prometheus text format 0.0.4
(https://prometheus.io/docs/instrumenting/exposition_formats/)."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field

from mosis.records import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """A metric family: name, type, help text, and a value per label set."""

    name: str
    help: str
    kind: str = "gauge"  # or counter, histogram
    # (suffix of the name, labels, value)
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)

    def add(self, value: float, suffix: str = "", **labels: object) -> "Family":
        """Add a sample."""
        self.samples.append(
            (suffix, tuple((name, str(label)) for name, label in labels.items()), value)
        )
        return self


@dataclass
class _Times:
    """The durations of one route's requests with one status."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    sum_seconds: float = 0.0

    def add(self, other: "_Times") -> None:
        self.buckets = [one + two for one, two in zip(self.buckets, other.buckets, strict=True)]
        self.sum_seconds += other.sum_seconds


class MetricsRegistry:
    """Counters and durations of this process; `readings` are called on each scrape."""

    def __init__(self) -> None:
        self.readings: list[Callable[[], Iterable[Family]]] = []
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Labels], float] = {}
        self._times: dict[tuple[str, str, int], _Times] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter. Its name and labels come from the code, never from a request."""
        key = (name, tuple(labels.items()))
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + amount

    def counted(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """The value of a counter for each label set."""
        with self._lock:
            found = [
                (dict(labels), value)
                for (each, labels), value in self._counts.items()
                if each == name
            ]
        return iter(found)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a response; `route` is a rule of the URL table, which bounds the label sets."""
        bucket = bisect_left(BUCKETS, seconds)
        with self._lock:
            times = self._times.get((method, route, status))
            if times is None:
                times = self._times[method, route, status] = _Times()
            times.buckets[bucket] += 1
            times.sum_seconds += seconds

    def requests(self) -> Iterator[Family]:
        """The number of requests and their durations."""
        answered = Family(
            "portal_http_requests_total", "Requests answered by the application.", "counter"
        )
        took = Family(
            "portal_http_request_duration_seconds",
            "Time in the application until the answer began.",
            "histogram",
        )
        times: dict[tuple[str, str], _Times] = {}
        with self._lock:
            for (method, route, status), each in self._times.items():
                answered.add(sum(each.buckets), method=method, route=route, status=status)
                times.setdefault((method, route), _Times()).add(each)
        for (method, route), each in times.items():
            total = 0
            for bound, count in zip((*map(_number, BUCKETS), "+Inf"), each.buckets, strict=True):
                total += count
                took.add(total, "_bucket", method=method, route=route, le=bound)
            took.add(each.sum_seconds, "_sum", method=method, route=route).add(
                total, "_count", method=method, route=route
            )
        yield answered
        yield took


class WriteBehindCounters:
    """Increments per key since the last `take`, shared by all threads: collected in memory and written in one
    batch. A kill loses what has not been taken."""

    def __init__(self) -> None:
        self._counter: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, key: str) -> None:
        """Increment by one."""
        with self._lock:
            self._counter[key] += 1

    def take(self) -> dict[str, int]:
        """The collected increments; counting starts again at zero."""
        with self._lock:
            taken, self._counter = self._counter, Counter()
        return dict(taken)

    def put_back(self, counts: Mapping[str, int]) -> None:
        """Return a batch that could not be written."""
        with self._lock:
            self._counter.update(counts)


def exposition(families: Iterable[Family]) -> bytes:
    """The families in Prometheus's text format; families without samples are left out."""
    lines = []
    for family in families:
        if family.samples:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            lines += [
                f"{family.name}{suffix}{_shown(labels)} {_number(value)}"
                for suffix, labels, value in family.samples
            ]
    return ("\n".join(lines) + "\n").encode()


def _shown(labels: Labels) -> str:
    return (
        "{" + ",".join(f'{name}="{_escaped(label)}"' for name, label in labels) + "}"
        if labels
        else ""
    )


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
