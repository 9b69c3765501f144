"""Charts as SVG, drawn by the server: bars for counts, lines for values that may be absent on some days.

A chart has a fixed drawing area and is scaled by the style sheet; colours come from classes. The same numbers stand in a table
beside it, which is what a screen reader reads.
"""

from collections.abc import Sequence
from math import floor, log10

from mosis.records import dataclass

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 24  # room for the labels
GRID_LINES = 4


@dataclass(frozen=True)
class Series:
    """Values in the order of the labels; None where there is none."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Bar:
    """A bar: its upper left corner and its size, in the chart's units."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Chart:
    """What the template draws. `lines` are SVG points of the unbroken parts of each series; `dots` are single values."""

    title: str
    unit: str
    labels: Sequence[str]
    series: Sequence[Series]
    grid: list[tuple[float, str]]
    ticks: list[tuple[float, str, str]]
    bars: list[Bar]
    lines: list[list[str]]
    dots: list[list[tuple[float, float]]]

    @property
    def is_empty(self) -> bool:
        return not any(value for each in self.series for value in each.values)


def bars(title: str, unit: str, labels: Sequence[str], series: Series) -> Chart:
    """A bar for each label."""
    top = nice_top(max((value or 0 for value in series.values), default=0))
    step = (WIDTH - LEFT - RIGHT) / max(1, len(labels))
    drawn = [
        Bar(
            round(LEFT + step * at + step * 0.12, 1),
            round(_y(value, 0, top), 1),
            round(step * 0.76, 1),
            round(_y(0, 0, top) - _y(value, 0, top), 1),
            f"{label}: {written(value)} {unit}".strip(),
        )
        for at, (label, value) in enumerate(zip(labels, series.values, strict=True))
        if value
    ]
    return Chart(title, unit, labels, [series], _grid(0, top), _ticks(labels, step), drawn, [], [])


def lines(
    title: str, unit: str, labels: Sequence[str], series: Sequence[Series], *, share: bool = False
) -> Chart:
    """A line for each series; with `share`, percentages on a scale from where they begin to 100."""
    known = [value for each in series for value in each.values if value is not None]
    top, bottom = nice_top(max(known, default=0)), 0.0
    if share:
        top = 100.0
        lowest = min(known, default=0)
        bottom = next(each for each in (99.0, 98.0, 95.0, 90.0, 80.0, 50.0, 0.0) if each <= lowest)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(labels))
    parts, dots = [], []
    for each in series:
        runs: list[list[tuple[float, float]]] = [[]]
        for at, value in enumerate(each.values):
            if value is None:
                runs.append([])
            else:
                runs[-1].append(
                    (round(LEFT + step * (at + 0.5), 1), round(_y(value, bottom, top), 1))
                )
        parts.append([" ".join(f"{x},{y}" for x, y in run) for run in runs if len(run) > 1])
        dots.append([run[0] for run in runs if len(run) == 1])
    return Chart(
        title, unit, labels, series, _grid(bottom, top), _ticks(labels, step), [], parts, dots
    )


def nice_top(largest: float) -> float:
    """The end of a scale that `largest` fits: 1, 2, 2.5, 4, 5 or 8 times a power of ten, so that its quarters are round."""
    if largest <= 0:
        return 4.0
    power = 10.0 ** floor(log10(largest))
    return next(
        each * power for each in (1, 2, 2.5, 4, 5, 8, 10) if each * power >= largest * 0.9999
    )


def written(value: float | None) -> str:
    """A number as it is shown: no more digits than say something."""
    if value is None:
        return "\u2013"
    if value == int(value):
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.2f}".rstrip("0").rstrip(".") if value < 100 else f"{value:.0f}"


def _y(value: float | None, bottom: float, top: float) -> float:
    span = HEIGHT - TOP - BOTTOM
    return TOP + span * (1 - ((value or 0) - bottom) / (top - bottom))


def _grid(bottom: float, top: float) -> list[tuple[float, str]]:
    values = [bottom + (top - bottom) * part / GRID_LINES for part in range(GRID_LINES + 1)]
    return [(round(_y(value, bottom, top), 1), written(value)) for value in values]


def _ticks(labels: Sequence[str], step: float) -> list[tuple[float, str, str]]:
    """First, middle and last label: where, how aligned, and the text."""
    if not labels:
        return []
    places = sorted({0, len(labels) // 2, len(labels) - 1})
    anchors = {0: "start", len(labels) - 1: "end"} if len(labels) > 1 else {}
    return [
        (round(LEFT + step * (at + 0.5), 1), anchors.get(at, "middle"), labels[at]) for at in places
    ]
