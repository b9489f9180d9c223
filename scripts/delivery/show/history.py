"""What people and programs read of the history: lines of 80 columns, JSON with a stable schema, CSV for a table."""

import csv
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.text import Text

from delivery.errors import Unknown
from delivery.parts.emergency import Emergency
from delivery.parts.windows import Lift
from delivery.show.out import console, say
from delivery.signed.trail import Line, State
from delivery.verbs.history import History, Metrics

_COLUMNS = (
    *(
        "time",
        "kind",
        "environment",
        "build_before",
        "build",
        "digest_before",
        "digest",
        "commit",
        "revision",
    ),
    *("evidence", "approved_by", "requested_by", "lead_time_seconds", "state", "reason"),
)
_STYLE = {State.BROKEN: "red", State.UNKNOWN: "yellow"}
_APPROVER = 12  # columns that the approvers have at least
_WIDTH = 80


def document(history: History) -> dict[str, Any]:
    """The lines, the emergencies and the lifted freezes: schema delivery/history/v2.

    v2: what a commit claims that no gate signed is a line, too, and every line says what holds of it.
    """
    return {
        "schema": "delivery/history/v2",
        "changes": [_change(one) for one in history.trail.lines],
        "missing": [_missing(one) for one in history.trail.missing],
        "clusters_asked": history.asked,
        "emergencies": [
            one for name, told in history.emergencies.items() for one in _emergencies(name, told)
        ],
        "lifted_freezes": [one for name, told in history.lifts.items() for one in _lifts(name, told)],
        "keys": dict(history.keys),
    }


def metrics_document(metrics: Metrics) -> dict[str, Any]:
    """The four figures of DORA: schema delivery/metrics/v1. Seconds, and null where there is nothing to measure."""
    found = metrics.figures
    [told] = metrics.emergencies.values() or [()]
    return {
        "schema": "delivery/metrics/v1",
        "environment": found.environment,
        "since": found.since.isoformat(timespec="seconds"),
        "until": found.until.isoformat(timespec="seconds"),
        "promotions": found.promotions,
        "failed": found.failed,
        "deployment_frequency_per_day": found.per_day,
        "lead_time_seconds": _seconds(found.lead),
        "change_failure_rate": found.failure_rate,
        "time_to_restore_seconds": _seconds(found.recovery),
        "left_out": [_change(one) for one in metrics.left_out.lines],
        "missing": [_missing(one) for one in metrics.left_out.missing],
        "clusters_asked": metrics.asked,
        "error": told.reason if isinstance(told, Unknown) else None,
    }


def write_csv(history: History) -> None:
    """One row for each change, emergency and lifted freeze, newest first, with the names of the columns above.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    out = csv.DictWriter(sys.stdout, _COLUMNS, restval="")
    out.writeheader()
    for _, row in sorted(_rows(history), key=lambda one: one[0], reverse=True):
        out.writerow({name: _cell(value) for name, value in row.items()})


def print_history(history: History) -> None:
    """The lines, newest first, with emergencies and lifted freezes where they were; below them what is not known."""
    out = console()
    for text, style in _lines(history):
        out.print(Text(text, style), soft_wrap=True)
    for environment, commit in history.trail.missing:
        say(
            f"BROKEN: {environment} was changed by {commit}, says the ledger, and no change in Git is that",
            "red",
        )
    for what, told in (("emergencies", history.emergencies), ("lifted freezes", history.lifts)):
        for name, one in told.items():
            if isinstance(one, Unknown):
                say(f"{name}: {what} are not known: {_plain(one.reason)}", "yellow")
    if not history.asked:
        say("emergencies and lifted freezes are not shown: the clusters were not asked")
    if history.keys:
        by = ", ".join(f"{name} by {key}" for name, key in history.keys.items())
        say(f"told by the keys of this checkout ({by}); delivery verify holds them against the cluster's")


def print_metrics(metrics: Metrics) -> None:
    """The figures, one a line, and why they leave something out."""
    found = metrics.figures
    days = (found.until - found.since) / timedelta(days=1)
    rate = (
        "-"
        if found.failure_rate is None
        else f"{found.failure_rate:.0%} ({found.failed} of {found.promotions})"
    )
    say(f"{found.environment}, the last {days:g} days")
    say(f"deployment frequency   {found.per_day:.2f} a day ({found.promotions} promotions)")
    say(f"lead time for changes  {span(found.lead)}")
    say(f"change failure rate    {rate}")
    say(f"time to restore        {span(found.recovery)}")
    for one in metrics.left_out.lines:
        for text in one.held.reasons:
            say(
                f"left out: {one.state}: {_short(one.record.commit)}: {_plain(text)}",
                _STYLE.get(one.state, ""),
            )
    for environment, commit in metrics.left_out.missing:
        say(f"left out: BROKEN: {environment} was changed by {commit}, which is not in Git", "red")
    for told in metrics.emergencies.values():
        if isinstance(told, Unknown):
            say(f"emergencies are not known: {_plain(told.reason)}", "yellow")
    if not metrics.asked:
        say("emergencies are not counted: the cluster was not asked")


def span(time: timedelta | None) -> str:
    """How long something took, in the two units that say most; a dash where nobody knows."""
    if time is None:
        return "-"
    if time < timedelta():
        return f"-{span(-time)}"
    minutes, seconds = divmod(round(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {seconds:02}s"


def _lines(history: History) -> Iterator[tuple[str, str]]:
    """Each line with its style. The columns are as wide as what is in them; what does not fit goes below."""
    head = ("time (UTC)", "where", "build", "digest", "lead time", "approved by")
    rows = [(one.at, _row(one), [*_below(one)]) for one in history.trail.lines]
    widths = [max(map(len, column)) for column in zip(head, *(row for _, row, _ in rows), strict=True)]
    left = shutil.get_terminal_size((_WIDTH, 24)).columns if sys.stdout.isatty() else 0
    room = (
        max(_APPROVER, left - sum(widths[:-1]) - 2 * len(widths[:-1])) if left else max(widths[-1], _APPROVER)
    )

    def written(row: tuple[str, ...]) -> str:
        *fixed, last = row
        start = "  ".join(cell.ljust(width) for cell, width in zip(fixed, widths, strict=False)) + "  "
        if len(last) <= room:
            return start + (last or "-")
        return textwrap.fill(
            last, len(start) + room, initial_indent=start, subsequent_indent=" " * len(start)
        )

    yield written(head), "bold"
    told: list[tuple[datetime, list[tuple[str, str]]]] = []
    for at, row, below in rows:
        told.append((at, [(written(row), ""), *((f"  {text}", style) for text, style in below)]))
    for name, emergencies in history.emergencies.items():
        for one in () if isinstance(emergencies, Unknown) else emergencies:
            until = f"until {_time(one.until)}" if one.until else "is on"
            text = f"{_time(one.since)}  {name}  EMERGENCY of {one.person}, {until}: {one.reason}"
            told.append((one.since, [(_plain(text), "red")]))
    for name, lifts in history.lifts.items():
        for lift in () if isinstance(lifts, Unknown) else lifts:
            told.append(
                (lift.at, [(_plain(f"{_time(lift.at)}  {name}  FREEZE LIFTED: {lift.reason}"), "yellow")])
            )
    # What was made in the same second stays in Git's order.
    for _, texts in sorted(told, key=lambda one: one[0], reverse=True):
        yield from texts


def _row(line: Line) -> tuple[str, ...]:
    record = line.record
    build = (
        record.build if line.build_before in ("", record.build) else f"{line.build_before} → {record.build}"
    )
    approved = ", ".join(line.held.approvers) if line.state is not State.UNVERIFIED else "unverified"
    return (
        *(_time(line.at), record.environment, _plain(build), _plain(_short(record.after)), span(line.lead)),
        _plain(approved),
    )


def _below(line: Line) -> Iterator[tuple[str, str]]:
    record = line.record
    if line.kind == "rollback":
        back = f"rollback to {record.release[:12]}" if record.restores else "rollback"
        yield _plain(f"{back}: {record.reason}" if record.reason else back), ""
    if line.kind == "configuration":
        yield f"chart, values or rules, with the digest that was there: {record.commit[:12]}", ""
    for reason in line.held.reasons:
        yield _plain(f"{line.state}: {record.commit[:12]}: {reason}"), _STYLE.get(line.state, "")


def _change(line: Line) -> dict[str, Any]:
    record = asdict(line.record)
    inner = ("follows", "judged")  # how a tag is told from another; its entry says the same
    return {
        **{name: said for name, said in record.items() if name not in inner},
        "tag": line.record.tag or None,
        "kind": line.kind,
        "state": str(line.state),
        "reasons": list(line.held.reasons),
        "at": line.at.isoformat(timespec="seconds"),
        "build_before": line.build_before or None,
        "entry": line.held.entry or None,
        "tests": list(line.held.tests),
        "approvers": list(line.held.approvers),
        "lead_time_seconds": _seconds(line.lead),
    }


def _missing(change: tuple[str, str]) -> dict[str, str]:
    return {"environment": change[0], "commit": change[1]}


def _rows(history: History) -> Iterator[tuple[datetime, dict[str, Any]]]:
    for line in history.trail.lines:
        one = line.record
        row = {
            name: getattr(one, name)
            for name in ("environment", "build", "commit", "revision", "requested_by")
        }
        row |= {"time": line.at.isoformat(timespec="seconds"), "kind": line.kind, "state": str(line.state)}
        row |= {"build_before": line.build_before, "digest_before": one.before, "digest": one.after}
        row |= {"evidence": one.evidence, "approved_by": ", ".join(line.held.approvers)}
        row |= {
            "lead_time_seconds": _seconds(line.lead),
            "reason": "; ".join([*line.held.reasons, *_said(line)]),
        }
        yield line.at, row
    for environment, commit in history.trail.missing:
        reason = "the ledger tells of it, and no change in Git is that"
        told = {"kind": "missing", "environment": environment, "commit": commit, "reason": reason}
        yield datetime.min.replace(tzinfo=UTC), told | {"state": str(State.BROKEN)}
    for name, emergencies in history.emergencies.items():
        for each in _emergencies(name, emergencies):
            yield _row_of("emergency", each, each["since"], each["person"])
    for name, lifts in history.lifts.items():
        for each in _lifts(name, lifts):
            yield _row_of("lifted freeze", each, each["at"], None)


def _row_of(
    kind: str, told: Mapping[str, Any], at: str | None, by: str | None
) -> tuple[datetime, dict[str, Any]]:
    row = {"time": at or "", "kind": kind, "environment": told["environment"], "requested_by": by or ""}
    row |= {"reason": told["error"] or told["reason"], "state": str(State.UNKNOWN) if told["error"] else ""}
    return datetime.fromisoformat(at) if at else datetime.min.replace(tzinfo=UTC), row


def _said(line: Line) -> list[str]:
    return [line.record.reason] if line.record.reason else []


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _lifts(environment: str, told: tuple[Lift, ...] | Unknown) -> list[dict[str, Any]]:
    """One object for each lifted freeze, or one that says why they are not known."""
    if isinstance(told, Unknown):
        return [{"environment": environment, "at": None, "reason": None, "error": told.reason}]
    return [
        {"environment": environment, "at": one.at.isoformat(), "reason": one.reason, "error": None}
        for one in told
    ]


def _emergencies(environment: str, told: tuple[Emergency, ...] | Unknown) -> list[dict[str, Any]]:
    """One object for each emergency, or one that says why they are not known."""
    if isinstance(told, Unknown):
        nothing = dict.fromkeys(("person", "since", "until", "reason"))
        return [{"environment": environment, **nothing, "error": told.reason}]
    return [
        {
            "environment": environment,
            "person": one.person,
            "since": one.since.isoformat(),
            "until": one.until.isoformat() if one.until else None,
            "reason": one.reason,
            "error": None,
        }
        for one in told
    ]


def _seconds(time: timedelta | None) -> float | None:
    return None if time is None else round(time.total_seconds(), 3)


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _short(name: str) -> str:
    return name.removeprefix("sha256:")[:12]


def _plain(text: str) -> str:
    """A text that others wrote, without what a terminal would obey."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
