"""The results as one SVG picture: commit to Ready, where its time goes, and what grows with the number of things."""

from pathlib import Path
from typing import Any

from e2e.bench.results import Measurement, Results, Summary

# What the README's picture shows, by the groups' names.
READY, PARTS, GROWTH = "Commit to Ready", "Where the time of one deployment goes", "Growth"


def write(results: Results, file: Path) -> None:
    """Draw it with matplotlib, as text that a browser can search; the same results make the same bytes."""
    import matplotlib

    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "delivery", "font.size": 9}
    from matplotlib.figure import Figure

    groups = dict(results.groups())
    wanted = [name for name in (READY, PARTS, GROWTH) if name in groups]
    heights = [_height(name, groups[name]) for name in wanted]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    axes = figure.subplots(len(wanted), 1, squeeze=False, height_ratios=heights)[:, 0]
    draw = {READY: _bars, PARTS: _steps, GROWTH: _lines}
    for name, axis in zip(wanted, axes, strict=True):
        axis.set_title(name, loc="left", fontweight="bold")
        axis.spines[["top", "right"]].set_visible(False)
        draw[name](results, groups[name], axis)
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _height(name: str, measurements: list[Measurement]) -> float:
    return 3.0 if name == GROWTH else 1.0 + 0.3 * len(measurements)


def _label(one: Measurement) -> str:
    """What a line of the table says, without Markdown and without what follows a colon."""
    return one.says.replace("`", "").partition(": ")[0]


def _beside(axis: Any, x: float, row: int, text: str) -> None:
    axis.annotate(text, (x, row), xytext=(6, 0), textcoords="offset points", va="center")


def _bars(results: Results, measurements: list[Measurement], axis: Any) -> None:
    """A bar to the median, a line from the minimum to the 95th percentile, and the ratio to the floor."""
    found = [Summary.of(one.values) for one in measurements]
    spread = [[one.median - one.minimum for one in found], [max(0.0, one.p95 - one.median) for one in found]]
    colors = ["#4c78a8" if one.floor else "#9aa5b1" for one in measurements]
    axis.barh(
        range(len(found)), [one.median for one in found], color=colors, xerr=spread, capsize=2, height=0.6
    )
    for row, (one, summary) in enumerate(zip(measurements, found, strict=True)):
        ratios = results.ratios(one)
        times = f"{summary.median:.1f} s" + (f", {Summary.of(ratios).median:.2f}×" if ratios else "")
        _beside(axis, max(summary.median, summary.p95), row, times)
    axis.set_yticks(range(len(found)), [_label(one) for one in measurements])
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlabel("seconds: median, minimum to p95")


def _steps(results: Results, measurements: list[Measurement], axis: Any) -> None:
    """A bar for each step, which begins where the one before ended: the medians."""
    left = 0.0
    for row, one in enumerate(measurements):
        width = Summary.of(one.values).median
        axis.barh([row], [width], left=left, color="#4c78a8", height=0.6)
        left += width
        _beside(axis, left, row, f"{width:.2f} s")
    axis.set_yticks(range(len(measurements)), [_label(one) for one in measurements])
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set_xlabel("seconds: medians, one after the other")


def _lines(results: Results, measurements: list[Measurement], axis: Any) -> None:
    """A line for each thing that was measured at several sizes; those of another size stand in the table alone."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for one in measurements:
        if one.size is not None and one.unit == "s":
            lines.setdefault(one.name.rpartition(".")[0], []).append(
                (one.size, Summary.of(one.values).median)
            )
    for name, points in lines.items():
        axis.plot(*zip(*sorted(points), strict=True), marker="o", label=name.replace("_", " "))
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("how many")
    axis.set_ylabel("seconds")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
