"""The results as a table: in Markdown for the README, and on a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from e2e.bench.results import Measurement, Results, Summary

_HEAD = ("", "n", "min", "median", "p95", "× floor", "p95", "goal")


def markdown(results: Results, groups: Sequence[str] = ()) -> str:
    """One table with a heading line for each group; `groups` names those that are wanted, none all of them."""
    lines = [_line(_HEAD), _line(("---", *["--:"] * (len(_HEAD) - 2), "---"))]
    for name, measurements in results.groups():
        if groups and name not in groups:
            continue
        lines.append(_line((f"**{name}**", *[""] * (len(_HEAD) - 1))))
        lines += [_line(_cells(results, one)) for one in measurements]
    return "\n".join(lines) + "\n"


def show(results: Results, console: Console) -> None:
    """The same on a terminal, with the notes below."""
    for name, measurements in results.groups():
        table = Table(*_HEAD, title=name, title_justify="left", box=None)
        for one in measurements:
            table.add_row(*_cells(results, one))
        console.print(table)
    for note in results.notes:
        console.print(f"· {note}", markup=False)


def missed(results: Results) -> Iterator[str]:
    """A line for each goal that is missed: by how much."""
    for one in results.measurements:
        if results.met(one) is False and one.goal is not None:
            values = results.ratios(one) if one.floor else one.values
            got, unit = Summary.of(values).median, " times the floor" if one.floor else f" {one.unit}"
            held = f"; what holds it: {one.held_by}" if one.held_by else ""
            yield f"{one.says}: {got:.2f}{unit}, the goal is {one.goal:g}{unit} ({got / one.goal - 1:.0%} more){held}"


def _cells(results: Results, one: Measurement) -> tuple[str, ...]:
    found, ratios = Summary.of(one.values), results.ratios(one)
    against = Summary.of(ratios) if ratios else None
    met = results.met(one)
    goal = (
        ""
        if met is None
        else f"≤ {one.goal:g}{'×' if one.floor else f' {one.unit}'}: {'met' if met else 'missed'}"
    )
    return (
        one.says,
        str(found.count),
        *(_number(value, one.unit) for value in (found.minimum, found.median, found.p95)),
        f"{against.median:.2f}" if against else "",
        f"{against.p95:.2f}" if against else "",
        goal,
    )


def _number(value: float, unit: str) -> str:
    """In milliseconds where seconds would hide it."""
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:.3g} {unit}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
