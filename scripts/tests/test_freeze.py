"""A freeze means the same to our gate and to Argo CD, which holds it as a sync window; what could not is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from delivery.freeze import Freeze

# What Argo CD's own parser (github.com/robfig/cron at the commit of Argo CD 3.5.7) and its arithmetic
# (SyncWindows.active of its types.go) made of each freeze: one bit for each of MOMENTS, the first one highest.
RECORDED = json.loads((Path(__file__).parent / "recorded" / "sync-windows.json").read_text())
SECOND = timedelta(seconds=1)


def after(start: str, every: timedelta, count: int) -> list[datetime]:
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC) + SECOND
    return [begin + number * every for number in range(count)]


MOMENTS = [
    *after("2026-03-28T20:00", timedelta(minutes=10), 84),  # the nights in which clocks are changed
    *after("2026-10-24T20:00", timedelta(minutes=10), 84),
    *after("2026-11-01T00:00", timedelta(minutes=10), 84),
    *after("2026-01-01T00:00", timedelta(hours=19, minutes=7), 1000),
]


def freeze(since: str = "0 16 * * FRI", hours: float = 64, zone: str = "UTC", reason: str = "r") -> Freeze:
    return Freeze.model_validate({"from": since, "hours": hours, "zone": zone, "reason": reason})


@pytest.mark.parametrize("one", RECORDED, ids=lambda one: f"{one['from']} {one['zone']}")
def test_our_gate_and_argo_cd_are_shut_at_the_same_time(one: dict[str, Any]) -> None:
    """At every moment either both hold a freeze or neither does, also in the nights in which the clocks are changed."""
    ours = freeze(one["from"], one["hours"], one["zone"])
    active = f"{int(one['active'], 16):0{len(MOMENTS)}b}"
    assert "01" in active, "it begins at some time"
    wrong = [at for at, bit in zip(MOMENTS, active, strict=True) if bool(ours.until(at)) != (bit == "1")]
    assert not wrong


@pytest.mark.parametrize(
    ("since", "hours", "zone", "now", "until"),
    [
        ("0 16 * * FRI", 64, "Europe/Berlin", "2026-11-27T14:59:59+00:00", None),
        ("0 16 * * FRI", 64, "Europe/Berlin", "2026-11-27T15:00:00+00:00", "2026-11-30T08:00:00+01:00"),
        ("0 16 * * FRI", 64, "Europe/Berlin", "2026-11-30T06:59:59+00:00", "2026-11-30T08:00:00+01:00"),
        ("0 16 * * FRI", 64, "Europe/Berlin", "2026-11-30T07:00:00+00:00", None),
        ("0 16 * * FRI", 64, "America/New_York", "2026-11-27T15:00:00+00:00", None),
        # Two nights in which the clocks are changed: it ends at eight by the clock on the wall.
        ("0 16 * * FRI", 64, "Europe/Berlin", "2026-10-25T12:00:00+00:00", "2026-10-26T08:00:00+01:00"),
        ("0 16 * * FRI", 64, "Europe/Berlin", "2026-03-29T12:00:00+00:00", "2026-03-30T08:00:00+02:00"),
        ("0 0 20 12 *", 400, "UTC", "2027-01-02T00:00:00+00:00", "2027-01-05T16:00:00+00:00"),
        ("0 0 20 12 *", 400, "UTC", "2027-01-10T00:00:00+00:00", None),
    ],
)
def test_when_it_ends(since: str, hours: float, zone: str, now: str, until: str | None) -> None:
    """A freeze begins at its moment in its time zone and says when it ends: after its hours, and not a second later."""
    found = freeze(since, hours, zone).until(datetime.fromisoformat(now))
    assert found == (until and datetime.fromisoformat(until))


@pytest.mark.parametrize(
    ("hours", "go"), [(64, "64h"), (1.5, "5400s"), (1 / 3, "1200s"), (8760, "8760h"), (1 / 60, "60s")]
)
def test_its_hours_are_a_duration_of_go(hours: float, go: str) -> None:
    """Whatever hours pipeline.yaml has, Argo CD is told a duration that it can read, to the second."""
    assert freeze(hours=hours).duration == go


@pytest.mark.parametrize(
    ("since", "says"),
    [
        ("0 16 * * 7", "Sunday is 0"),  # Argo CD's days end with 6
        ("0 16 * * 5-7", "Sunday is 0"),
        ("0 16 * * FRI#2", "Argo CD reads as we do"),
        ("0 16 * * 5L", "Argo CD reads as we do"),
        ("0 16 L * *", "'L' is no day of the month"),
        ("0 16 LW * *", "'LW' is no day of the month"),
        ("0 16 ? * *", "Argo CD reads as we do"),
        ("0 16 * * 1/3", "Argo CD reads as we do"),  # ours counts to 7, Argo CD to 6
        ("5-5/9 16 * * *", "Argo CD reads as we do"),  # ours goes on to 59, Argo CD stays at 5
        ("0 16 1,,2 * *", "Argo CD reads as we do"),
        ("0 16 */2 * FRI", "neither '\\*/2' nor 'FRI' may have"),  # both days, or either
        ("0 16 13 * *,FRI", "neither '13' nor '\\*,FRI' may have"),
        ("0 0 16 * * FRI", "five fields"),
        ("CRON_TZ=Asia/Tokyo 0 16 * * FRI", "five fields"),
        ("@weekly", "five fields"),
        ("0 16 31 2 *", "ever comes"),
        ("0 25 * * *", "ever comes"),
        ("Friday afternoon", "five fields"),
    ],
)
def test_what_the_two_would_read_differently(since: str, says: str) -> None:
    """An expression that only one of them knows, or that means another time to the other, is refused and named."""
    with pytest.raises(ValidationError, match=says):
        freeze(since)


@pytest.mark.parametrize(
    "zone", ["", "Local", "CET-1", "Berlin", "US/Eastern", "Asia/Calcutta", "../etc/passwd"]
)
def test_a_zone_that_argo_cd_may_not_have(zone: str) -> None:
    """Where Argo CD does not know a zone it takes UTC without a word: only the names that every system has will do."""
    with pytest.raises(ValidationError, match="is not a time zone"):
        freeze(zone=zone)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hours": 0.001}, "greater than or equal"),
        ({"hours": 9000}, "less than or equal"),
        ({"reason": ""}, "pattern"),
        ({"reason": 'a "quoted" one'}, "pattern"),
        ({"reason": "two\nlines"}, "pattern"),
        ({"reason": "x" * 201}, "pattern"),
    ],
)
def test_what_a_window_cannot_hold(wrong: dict[str, Any], says: str) -> None:
    """No time at all, more than a year, and a reason that Argo CD would not take: each is refused."""
    with pytest.raises(ValidationError, match=says):
        freeze(**wrong)
