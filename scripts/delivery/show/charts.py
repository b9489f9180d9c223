"""Where the marks of the page's charts stand. The markup is the templates', which escape what they are given.

Across, a chart is as wide as the page lets it be: places are percent of that. Up and down they are pixels.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

HEIGHT = 96  # pixels of the highest bar
_ROWS = 8  # builds
_TICKS = 5


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and what is written there."""

    x: float
    label: str

    @property
    def anchor(self) -> str:
        """Which end of the text stands there, so that none leaves the chart."""
        return "start" if self.x < 5 else "end" if self.x > 90 else "middle"


@dataclass(frozen=True)
class Mark:
    """A build came into an environment."""

    x: float
    environment: str
    shape: int  # the environment's number: each has a shape of its own
    seconds: float


@dataclass(frozen=True)
class Row:
    """One build, and how long it took into each environment that it came to."""

    build: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class LeadTimes:
    """The newest builds, one below the other, on one axis of time."""

    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Bar:
    """How many values fell between two bounds."""

    x: float
    width: float
    height: float
    said: str
    count: int


@dataclass(frozen=True)
class Histogram:
    """How the values of one measurement are distributed, and where its threshold is."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    threshold: Tick | None
    total: int


def lead_times(documents: Iterable[Mapping[str, Any]], environments: Iterable[str]) -> LeadTimes:
    """The chart of `lead_times` of a report; without rows where no lead time is known."""
    names = list(environments)
    builds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in documents:
        if one["seconds"] is not None and one["environment"] in names:
            builds.setdefault((one["build"], one["digest"]), []).append(one)
    newest = list(builds.items())[:_ROWS]
    most = max((one["seconds"] for _, said in newest for one in said), default=0.0)
    step = _step(most)
    end = max(math.ceil(most / step), 1) * step
    rows = tuple(Row(build, tuple(_marks(said, names, end))) for (build, _), said in newest)
    places = (step * number for number in range(round(end / step) + 1))
    return LeadTimes(rows, tuple(Tick(at / end * 100, duration(at)) for at in places))


def histogram(measurement: Mapping[str, Any]) -> Histogram | None:
    """The chart of a measurement's buckets, without the empty ones at both ends; None where nothing is in them."""
    buckets = measurement["buckets"]
    filled = [number for number, one in enumerate(buckets) if one["count"]]
    if not filled:
        return None
    limit = next(
        (measurement[name] for name in ("at_most", "at_least") if measurement[name] is not None), None
    )
    ends = [0.0, *(math.inf if one["upper"] is None else one["upper"] for one in buckets)]
    first, last = max(filled[0] - 1, 0), filled[-1]
    if limit is not None:  # the threshold is on the picture, whichever side of it the values are
        holder = next((number for number, (_, end) in enumerate(pairwise(ends)) if limit <= end), last)
        first, last = min(first, holder), max(last, holder)
    shown = range(first, last + 1)
    width, highest = 100 / len(shown), max(one["count"] for one in buckets)
    bars = tuple(
        Bar(
            x=(number - first) * width,
            width=width,
            height=buckets[number]["count"] / highest * HEIGHT,
            said=_between(ends[number], ends[number + 1], measurement["unit"]),
            count=buckets[number]["count"],
        )
        for number in shown
    )
    every = math.ceil((len(shown) + 1) / _TICKS)
    ticks = [
        Tick((number - first) * width, _number(ends[number]))
        for number in range(first, last + 2)
        if (number - first) % every == 0 and math.isfinite(ends[number])
    ]
    return Histogram(
        bars,
        tuple(ticks),
        None if limit is None else Tick(_place(limit, ends, first, last) * width, _number(limit)),
        sum(one["count"] for one in buckets),
    )


def duration(seconds: float) -> str:
    """Seconds for people: 45 s, 12 min, 3 h 5 min, 2 d 4 h."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    large, small, names = (*divmod(minutes, 60), ("h", "min"))
    if large >= 24:
        large, small, names = (*divmod(large, 24), ("d", "h"))
    return f"{large} {names[0]}" + (f" {small} {names[1]}" if small else "")


def _marks(said: Iterable[Mapping[str, Any]], names: list[str], end: float) -> Iterable[Mark]:
    for one in sorted(said, key=lambda lead: names.index(lead["environment"])):
        yield Mark(
            one["seconds"] / end * 100, one["environment"], names.index(one["environment"]), one["seconds"]
        )


def _step(most: float) -> float:
    """The smallest round step of time that needs no more ticks than there is room for."""
    small = (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200)
    days = (86400 * one * 10**power for power in range(12) for one in (1, 2, 5))
    return float(next(step for step in chain(small, days) if most <= step * (_TICKS - 1)))


def _place(limit: float, ends: list[float], first: int, last: int) -> float:
    """How many bars from the left a value is: inside a bar by its logarithm, as the bounds grow."""
    for number in range(first, last + 1):
        start, end = ends[number], ends[number + 1]
        if limit <= start:
            return float(number - first)
        if limit <= end:
            inside = limit / end if start <= 0 else math.log(limit / start) / math.log(end / start)
            return number - first + (inside if math.isfinite(end) else 0.5)
    return float(last - first + 1)


def _between(start: float, end: float, unit: str) -> str:
    return (
        f"over {_number(start)} to {_number(end)} {unit}"
        if math.isfinite(end)
        else f"over {_number(start)} {unit}"
    )


def _number(value: float) -> str:
    return f"{value:g}"
