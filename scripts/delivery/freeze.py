"""Freezes: when nothing may enter an environment, read by us as Argo CD reads its sync windows.

Argo CD counts by the clock on the wall of the zone: a window of 64 hours from Friday 16:00 ends on Monday at 8:00, also
where the clocks were changed meanwhile. Its cron expressions and ours differ at the edges; what they would read
differently is refused.
"""

import re
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from delivery.fields import Hours, Model

_DAYS, _MONTHS = "SUN|MON|TUE|WED|THU|FRI|SAT", "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_FIELDS = {
    "minute": r"\d+",
    "hour": r"\d+",
    "day of the month": r"\d+",
    "month": rf"\d+|{_MONTHS}",
    "day of the week": rf"[0-6]|{_DAYS}",
}


class Freeze(Model):
    """A time when nothing may enter an environment: from each moment of `from`, for so many hours."""

    since: str = Field(alias="from")
    zone: str
    hours: Annotated[Hours, Field(ge=1 / 60)]
    reason: Annotated[str, Field(pattern=r"^\S[^\n\"\\]{0,199}$")]  # it stands between quotes in YAML

    @field_validator("since")
    @classmethod
    def _is_cron(cls, text: str) -> str:
        from cronsim import CronSim, CronSimError

        fields = text.split()
        if len(fields) != len(_FIELDS):
            raise ValueError(
                f"{text!r} is not a cron expression of five fields (minute hour day month day-of-week)"
            )
        for (name, value), field in zip(_FIELDS.items(), fields, strict=True):
            one = rf"(\*(/\d+)?|({value})(-({value}))?)"
            if not re.fullmatch(rf"{one}(,{one})*", field, re.IGNORECASE):
                raise ValueError(
                    f"{text!r}: {field!r} is no {name} that Argo CD reads as we do: numbers, names, ranges, "
                    "lists of them, * and */n; Sunday is 0"
                )
        _, _, day, _, weekday = fields
        if "*" not in (day, weekday) and "*" in day + weekday:
            raise ValueError(
                f"{text!r}: where both days are limited, neither {day!r} nor {weekday!r} may have a *: cron "
                "means both in one program and either in another"
            )
        try:
            next(CronSim(text, datetime(2026, 1, 1), reverse=True))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"{text!r} is not a cron expression that ever comes ({error})") from None
        return text

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        # Under other names, the old ones among them, Argo CD may have none, and then takes UTC without a word.
        if name != "UTC" and name not in _zones():
            raise ValueError(f"{name!r} is not a time zone such as Europe/Berlin, or UTC")
        return name

    @property
    def duration(self) -> str:
        """How long it is, as Go reads a duration."""
        return f"{self.hours:.0f}h" if self.hours.is_integer() else f"{self._seconds}s"

    @property
    def _seconds(self) -> int:
        return round(self.hours * 3600)

    def until(self, now: datetime) -> datetime | None:
        """When it ends, if it holds now; else None. `now` has a zone, and so has the answer."""
        from cronsim import CronSim

        zone = ZoneInfo(self.zone)
        wall = now.astimezone(zone).replace(tzinfo=None)
        # One second on: a freeze that begins this very moment holds.
        end = next(CronSim(self.since, wall + timedelta(seconds=1), reverse=True)) + timedelta(
            seconds=self._seconds
        )
        return end.replace(tzinfo=zone) if end > wall else None


@cache
def _zones() -> frozenset[str]:
    """The zones that every system has: those of tzdata's own table, by region and city."""
    table = files("tzdata").joinpath("zoneinfo/zone.tab").read_text(encoding="utf-8")
    return frozenset(line.split("\t")[2] for line in table.splitlines() if not line.startswith("#"))
