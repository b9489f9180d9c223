"""What one part of the proof found against PROVEN."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

_LINES = 4  # fields that are named for one object


@dataclass(frozen=True)
class Findings:
    """What contradicts Git, and what is not known; one line each."""

    mismatches: tuple[str, ...] = ()
    unknowns: tuple[str, ...] = ()


def told(where: str, lines: Collection[str], other: str) -> Iterator[str]:
    """The first lines about one object, and how many more of its fields differ from `other`."""
    yield from (f"{where}: {line}" for line in islice(lines, _LINES))
    if len(lines) > _LINES:
        yield f"{where}: {len(lines) - _LINES} more fields differ from {other}"
