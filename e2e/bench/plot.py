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
    draw = {READY: _bars, PARTS: _stack, GROWTH: _lines}
    for name, axis in zip(wanted, axes, strict=True):
        axis.set_title(name, loc="left", fontweight="bold")
        axis.spines[["top", "right"]].set_visible(False)
        draw[name](results, groups[name], axis)
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _height(name: str, measurements: list[Measurement]) -> float:
    return {READY: 0.9 + 0.4 * len(measurements), PARTS: 1.9}.get(name, 3.0)


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
        times = f"  {summary.median:.1f} s" + (f", {Summary.of(ratios).median:.2f}×" if ratios else "")
        axis.text(max(summary.median, summary.p95), row, times, va="center")
    axis.set_yticks(range(len(found)), [one.says for one in measurements])
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_xlabel("seconds: median, minimum to p95")


def _stack(results: Results, measurements: list[Measurement], axis: Any) -> None:
    """One bar of the medians, one after the other."""
    left = 0.0
    for one in measurements:
        width = Summary.of(one.values).median
        axis.barh([0], [width], left=left, label=f"{one.says} {width:.2f} s", height=0.6)
        left += width
    axis.set_yticks([])
    axis.set_xlabel("seconds: medians")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.45), ncols=3, frameon=False)


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
    axis.set_xlabel("how many")
    axis.set_ylabel("seconds")
    axis.legend(frameon=False)
