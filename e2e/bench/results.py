"""What a run of the bench measured, and what it comes to: minimum, median, p95, and ratios to a floor by round."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from e2e.bench.machine import Machine

SCHEMA = "delivery/bench/v1"


@dataclass(frozen=True)
class Summary:
    """Some values of one thing: how many there are, the smallest, the median and the 95th percentile."""

    count: int
    minimum: float
    median: float
    p95: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """The summary of at least one value. Of few values the 95th percentile lies between the two largest."""
        tail = statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
        return cls(len(values), min(values), statistics.median(values), tail)


@dataclass(frozen=True)
class Measurement:
    """One thing that was measured, once a round; `says` is how people read it.

    `floor` names the measurement that it is held against, round by round. `goal` is the most that it may be: times the
    floor where there is one, else in its unit; `held_by` says what stands in its way where it is missed.
    """

    group: str
    name: str
    says: str
    values: tuple[float, ...]
    unit: str = "s"
    floor: str = ""
    goal: float | None = None
    held_by: str = ""
    paired: bool = True  # measured in the same rounds as its floor, the two in turns
    size: int | None = None  # of a measurement that is taken at several sizes: which one


@dataclass(frozen=True)
class Results:
    """All that one run measured, on one machine; `notes` say what is missing, and what a number does not show."""

    machine: Machine
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def _by_name(self) -> dict[str, Measurement]:
        return {one.name: one for one in self.measurements}

    def groups(self) -> Iterator[tuple[str, list[Measurement]]]:
        """The measurements by their groups, in the order in which they were taken."""
        for name in dict.fromkeys(one.group for one in self.measurements):
            yield name, [one for one in self.measurements if one.group == name]

    def ratios(self, one: Measurement) -> tuple[float, ...]:
        """A measurement divided by its floor: round by round, or by the floor's median where it had other rounds."""
        floor = self._by_name.get(one.floor)
        if floor is None:
            return ()
        if one.paired and len(floor.values) == len(one.values):
            return tuple(value / base for value, base in zip(one.values, floor.values, strict=True))
        base = statistics.median(floor.values)
        return tuple(value / base for value in one.values)

    def met(self, one: Measurement) -> bool | None:
        """Whether the median keeps to the goal; None where there is no goal, or its floor was not measured."""
        values = self.ratios(one) if one.floor else one.values
        return None if one.goal is None or not values else statistics.median(values) <= one.goal

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Results":
        """What was measured, read back from its JSON: a plot is drawn anew without measuring anew."""
        known = [one.name for one in fields(Measurement)]
        measurements = [
            Measurement(**({key: one[key] for key in known if key in one} | {"values": tuple(one["values"])}))
            for one in document["measurements"]
        ]
        return cls(Machine(**document["machine"]), tuple(measurements), tuple(document["notes"]))

    def as_json(self) -> dict[str, Any]:
        """All of it as data: schema delivery/bench/v1."""
        return {
            "schema": SCHEMA,
            "machine": asdict(self.machine),
            "measurements": [self._as_json(one) for one in self.measurements],
            "notes": list(self.notes),
        }

    def _as_json(self, one: Measurement) -> dict[str, Any]:
        data = {key: value for key, value in asdict(one).items() if value not in ("", None)}
        data["values"] = [round(value, 4) for value in one.values]
        data |= _rounded(Summary.of(one.values))
        if ratios := self.ratios(one):
            data["ratio"] = {"values": [round(value, 3) for value in ratios], **_rounded(Summary.of(ratios))}
        if (met := self.met(one)) is not None:
            data["met"] = met
        return data


def _rounded(summary: Summary) -> dict[str, float]:
    return {key: round(value, 4) for key, value in asdict(summary).items()}


def sums(*series: Iterable[float]) -> tuple[float, ...]:
    """Round by round, what several measurements come to together."""
    return tuple(sum(values) for values in zip(*series, strict=True))
