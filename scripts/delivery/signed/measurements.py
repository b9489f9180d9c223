"""What a run measured, beside how its tests ended: a load test's latencies, for people to look at.

The gate never asks about it: a threshold that must hold is a test. Sizes are bounded, since whoever looks at the
report has to load all of it.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

MOST = 64  # measurements of one run, and buckets of one measurement

_Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15, strict=True)]
_Name = Annotated[str, Field(min_length=1, max_length=80)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Bucket(_Model):
    """How many values were over the bucket before and not over `upper`; None is the last one, which has no end."""

    upper: _Number | None
    count: Annotated[int, Field(ge=0, le=10**12, strict=True)]


class Measurement(_Model):
    """One number with its unit and the threshold that it was held against, and how all values were distributed."""

    suite: _Name
    name: _Name  # what was measured, such as "GET /items"
    statistic: Annotated[str, Field(max_length=40)] = ""  # what `value` is of the values, such as "p95"
    unit: Annotated[str, Field(max_length=16)]  # as in UCUM: ms, 1/s, or 1 for a ratio
    value: _Number
    at_most: _Number | None = None
    at_least: _Number | None = None
    buckets: Annotated[tuple[Bucket, ...], Field(max_length=MOST)] = ()

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        uppers = [one.upper for one in self.buckets]
        ends = [float("inf") if one is None else one for one in uppers]
        if ends != sorted(set(ends)):
            raise ValueError("buckets: each one must end after the one before")
        return self

    @property
    def holds(self) -> bool:
        """Whether the value keeps every threshold that it has."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


_ALL = TypeAdapter(Annotated[tuple[Measurement, ...], Field(max_length=MOST)])


def read(data: Any) -> tuple[Measurement, ...]:
    """A run's measurements out of JSON; ValueError says what is wrong with them."""
    try:
        return _ALL.validate_python(data)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in wrong["loc"])
        raise ValueError(f"measurements: {where}: {wrong['msg']}"[:200]) from None
