"""Where the marks of the page's charts stand: what is longer is further right, and no value is left out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from delivery.show import charts
from scripts.tests.test_page import lead, measured

NAMES = ("dev", "stage", "prod")


def buckets(**counts: int) -> list[dict[str, Any]]:
    """Buckets by the bound in their name; `rest` has none."""
    return [
        {"upper": None if name == "rest" else float(name[1:]), "count": count}
        for name, count in counts.items()
    ]


@pytest.mark.parametrize("most", [0, 1, 59, 60, 3599, 3600, 86_399, 90_000, 10**6, 10**8])
def test_lead_times_fit(most: float) -> None:
    """Seconds or years: every build is inside the chart, in proportion, and the axis has few round ticks."""
    drawn = charts.lead_times([lead("dev", most / 2), lead("prod", most)], NAMES)
    [row] = drawn.rows
    assert [one.environment for one in row.marks] == ["dev", "prod"]
    assert row.marks[0].x == pytest.approx(row.marks[1].x / 2)
    assert 0 <= row.marks[1].x <= 100
    assert most < 10 or row.marks[1].x >= 20, "it is not lost in a corner"
    assert 2 <= len(drawn.ticks) <= 5
    assert (drawn.ticks[0].x, drawn.ticks[-1].x) == (0, 100)


def test_each_environment_has_a_shape_of_its_own() -> None:
    """Who sees no colours tells environments apart all the same, also where a build skipped none of them."""
    [row] = charts.lead_times([lead(name, 60) for name in reversed(NAMES)], NAMES).rows
    assert [(one.environment, one.shape) for one in row.marks] == [("dev", 0), ("stage", 1), ("prod", 2)]


def test_what_is_not_known_has_no_mark() -> None:
    """No lead time, no mark: it is not drawn as zero. An environment that is gone is not drawn either."""
    drawn = charts.lead_times([lead("dev", None), lead("qa", 60)], NAMES)
    assert drawn.rows == ()


def test_the_newest_builds_are_shown() -> None:
    """The page stays short however long the history is."""
    said = [lead("dev", 60, build=str(number)) | {"digest": str(number)} for number in range(30, 0, -1)]
    assert [row.build for row in charts.lead_times(said, NAMES).rows] == [str(n) for n in range(30, 22, -1)]


def test_a_histogram_has_every_value() -> None:
    """Bars stand side by side, as high as their share; no value is cut off, only empty ends are."""
    said = measured(at_most=None, buckets=buckets(_1=0, _2=0, _5=4, _10=0, _20=2, _50=0, rest=0))
    drawn = charts.histogram(said)
    assert drawn
    assert [(bar.said, bar.count) for bar in drawn.bars] == [
        ("over 1 to 2 ms", 0),
        ("over 2 to 5 ms", 4),
        ("over 5 to 10 ms", 0),
        ("over 10 to 20 ms", 2),
    ]
    assert drawn.total == 6
    assert [bar.height for bar in drawn.bars] == [0, charts.HEIGHT, 0, charts.HEIGHT / 2]
    for one, following in pairwise(drawn.bars):
        assert one.x + one.width == pytest.approx(following.x)
    assert drawn.threshold is None


@pytest.mark.parametrize(
    ("limit", "x"),
    [
        (10, 50),  # where a bar ends
        (1000, 100),
        (100, 75),  # between 10 and 1000, by its logarithm
        (5, 25),  # the first bar begins at nothing
        (5000, 125),  # somewhere in the last bar, which has no end, and which is shown for it
    ],
)
def test_the_threshold_stands_where_it_belongs(limit: float, x: float) -> None:
    """A bar is left of the threshold when its values keep it; one far away is on the picture, too."""
    drawn = charts.histogram(measured(at_most=float(limit), buckets=buckets(_10=1, _1000=1, rest=0)))
    assert drawn
    assert drawn.threshold
    place = drawn.threshold.x * len(drawn.bars) / 2  # in percent of the two bars
    assert place == pytest.approx(x)


def test_no_values_no_histogram() -> None:
    """Nothing was counted: there is no picture of nothing."""
    assert charts.histogram(measured(buckets=buckets(_1=0, rest=0))) is None
    assert charts.histogram(measured(buckets=[])) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3900, "1 h 5 min"),
        (86_400, "1 d"),
        (100_000, "1 d 3 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    """Two units at most, none of them zero."""
    assert charts.duration(seconds) == said
